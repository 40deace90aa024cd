//! Our own responses.

use crate::h1::answer::{Answer, http_date, reason_phrase, refusal_body, wants_json, write};
use crate::h1::head::{Slots, parse_request, parse_response};
use crate::h1::{Framing, Limits, Method, Reject, Version};

const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

fn refused(status: u16, json: bool, head: bool, keep_alive: bool, version: Version) -> String {
    let (mut out, mut body) = (Vec::new(), Vec::new());
    let content_type = refusal_body(&mut body, status, "some_reason", json);
    let answer = Answer {
        status,
        content_type,
        body: &body,
        fields: b"Cache-Control: no-store\r\n",
        head_request: head,
        keep_alive,
        version,
        date: DATE,
    };
    let head_len = write(&mut out, &answer);
    assert!(out[..head_len].ends_with(b"\r\n\r\n"));
    String::from_utf8(out).unwrap()
}

#[test]
fn text_and_json() {
    let text = refused(400, false, false, false, Version::Http11);
    let expected = "HTTP/1.1 400 Bad Request\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
                    Content-Type: text/plain; charset=utf-8\r\nContent-Length: 29\r\n\
                    Cache-Control: no-store\r\nConnection: close\r\n\r\n400 Bad Request: some_reason\n";
    assert_eq!(text, expected);
    let json = refused(503, true, false, true, Version::Http11);
    let body = "{\"status\":503,\"error\":\"Service Unavailable\",\"reason\":\"some_reason\"}";
    assert!(json.ends_with(&format!("\r\n\r\n{body}")), "{json}");
    assert!(json.contains("Content-Type: application/json\r\n") && !json.contains("Connection"));
}

#[test]
fn head_and_old_clients() {
    let head = refused(404, false, true, true, Version::Http11);
    assert!(
        head.ends_with("\r\n\r\n") && head.contains("Content-Length: 27\r\n"),
        "{head}"
    );
    let old = refused(404, false, false, true, Version::Http10);
    assert!(old.contains("Connection: keep-alive\r\n"), "{old}");
}

#[test]
fn no_content_has_no_length() {
    let text = refused(204, false, false, true, Version::Http11);
    let expected = "HTTP/1.1 204 No Content\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
                    Cache-Control: no-store\r\n\r\n";
    assert_eq!(text, expected);
}

#[test]
fn every_refusal_is_a_whole_response() {
    for reject in Reject::ALL {
        let status = reject.status();
        let out = refused(status, true, false, false, Version::Http11).into_bytes();
        let mut slots = Slots::new();
        let parsed = parse_response(&out, &Limits::DEFAULT, Method::Get, &mut slots);
        let response = parsed.ok().flatten().unwrap();
        let body = (out.len() - response.head_len) as u64;
        assert_eq!(
            (response.status, response.framing),
            (status, Framing::Length(body))
        );
        assert_ne!(response.reason, "Unknown", "{status}");
    }
}

#[test]
fn json_by_accept() {
    let cases = [
        ("", false),
        ("Accept: */*\r\n", false),
        ("Accept: text/html, */*\r\n", false),
        ("Accept: application/json\r\n", true),
        ("Accept: APPLICATION/JSON; charset=utf-8\r\n", true),
        ("Accept: application/problem+json\r\n", true),
        ("Accept: application/json, text/plain, */*\r\n", true),
        ("Accept: text/html, application/json;q=0.9\r\n", false),
        ("Accept: text/html;q=0.8, application/json;q=0.85\r\n", true),
        ("Accept: application/json;q=0\r\n", false),
        ("Accept: application/json;q=x\r\n", false),
        ("Accept: application/jsonx\r\n", false),
        ("Accept: text/html\r\nAccept: application/json\r\n", true),
    ];
    for (field, expected) in cases {
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{field}\r\n");
        let mut slots = Slots::new();
        let parsed = parse_request(text.as_bytes(), &Limits::DEFAULT, &mut slots);
        assert_eq!(
            wants_json(&parsed.ok().flatten().unwrap()),
            expected,
            "{field:?}"
        );
    }
}

#[test]
fn dates() {
    let cases = [
        (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
        (784_111_777, DATE),
        (951_782_399, "Mon, 28 Feb 2000 23:59:59 GMT"),
        (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
        (951_868_800, "Wed, 01 Mar 2000 00:00:00 GMT"),
        (1_709_164_800, "Thu, 29 Feb 2024 00:00:00 GMT"),
        (1_735_689_599, "Tue, 31 Dec 2024 23:59:59 GMT"),
        (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
        (253_402_300_799, "Fri, 31 Dec 9999 23:59:59 GMT"),
        (u64::MAX, "Fri, 31 Dec 9999 23:59:59 GMT"),
    ];
    for (seconds, expected) in cases {
        let mut out = String::new();
        http_date(&mut out, seconds);
        assert_eq!(out, expected, "{seconds}");
    }
}

#[test]
fn phrases() {
    assert_eq!(reason_phrase(431), "Request Header Fields Too Large");
    assert_eq!(reason_phrase(799), "Unknown");
}
