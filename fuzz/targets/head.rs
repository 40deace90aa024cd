//! Heads: what we accept has one reading, wherever it is cut, and what we send on is read the same way again.
//!
//! The last two bytes of an input choose where it is cut and what is asked of the forwarder; all before is the
//! wire, so that a seed can be read.

#![no_main]

use corelane::h1::forward::{self, Forward, Reply, reply_framing};
use corelane::h1::head::{Request, Response, Slots, parse_request, parse_response};
use corelane::h1::{Limits, Method, Reject, Version};
use libfuzzer_sys::fuzz_target;

/// What we add must not make a head too long for the second reading.
const LARGEST: Limits = Limits {
    header_bytes: 1024 * 1024,
    header_count: 256,
    request_line: 512 * 1024,
};

fuzz_target!(|data: &[u8]| {
    let Some((wire, [cut, choice])) = data.split_last_chunk::<2>() else {
        return;
    };
    let cut = wire.len() * usize::from(*cut) / 256;
    let limits = Limits {
        header_count: 64,
        ..Limits::DEFAULT
    };
    cut_request(wire, cut, &limits);
    let mut slots = Slots::new();
    if let Ok(Some(request)) = parse_request(wire, &limits, &mut slots) {
        forward_request(&request, *choice);
    }
    let method = if choice & 1 == 0 {
        Method::Get
    } else {
        Method::Head
    };
    cut_response(wire, cut, &limits, method);
    let mut slots = Slots::new();
    if let Ok(Some(response)) = parse_response(wire, &limits, method, &mut slots) {
        forward_response(&response, *choice, method);
    }
});

fn cut_request(wire: &[u8], cut: usize, limits: &Limits) {
    let outcome = |bytes| {
        let mut slots = Slots::new();
        parse_request(bytes, limits, &mut slots).map(|head| head.map(|head| head.head_len))
    };
    compare(outcome(wire), outcome(&wire[..cut]), cut);
}

fn cut_response(wire: &[u8], cut: usize, limits: &Limits, method: Method) {
    let outcome = |bytes| {
        let mut slots = Slots::new();
        parse_response(bytes, limits, method, &mut slots).map(|head| head.map(|head| head.head_len))
    };
    compare(outcome(wire), outcome(&wire[..cut]), cut);
}

/// A prefix is undecided until the head is whole or wrong, and then as decided as the whole. What is refused stays
/// refused; of two faults the prefix may name the other one, since it is refused as soon as it shows one.
fn compare(whole: Result<Option<usize>, Reject>, part: Result<Option<usize>, Reject>, cut: usize) {
    match (whole, part) {
        (Ok(Some(length)), part) if cut >= length => assert_eq!(part, Ok(Some(length))),
        (Ok(_), part) => assert_eq!(part, Ok(None)),
        (Err(_), part) => assert!(!matches!(part, Ok(Some(_))), "{part:?} of the part"),
    }
}

fn forward_request(request: &Request<'_, '_>, choice: u8) {
    let with = Forward {
        client_ip: "192.0.2.1",
        trusted: choice & 2 != 0,
        proto: "http",
        port: "8080",
        // Without any Host (HTTP/1.0) we send an empty one, as RFC 9112 section 3.2 has it, but take none ourselves.
        host: (choice & 4 != 0 || request.host.is_empty()).then_some("fixed.example:81"),
        via: "corelane",
        keep_expect: choice & 8 != 0,
        target: None,
        edit: None,
    };
    let mut sent = Vec::new();
    forward::request(&mut sent, request, &with);
    let lines = strict_lines(&sent);
    assert_eq!(count(&lines, "host"), 1);
    assert!(count(&lines, "content-length") + count(&lines, "transfer-encoding") <= 1);
    for name in ["x-real-ip", "x-forwarded-for"] {
        assert!(with.trusted || count(&lines, name) == 1, "{name}");
    }
    let mut slots = Slots::new();
    let again = parse_request(&sent, &LARGEST, &mut slots)
        .expect("what we send is well formed")
        .expect("what we send is complete");
    assert_eq!(again.head_len, sent.len());
    assert_eq!(again.version, Version::Http11);
    assert_eq!(again.method_text, request.method_text);
    assert_eq!(
        (again.path, again.query),
        (request.path, request.query),
        "{:?}",
        request.target
    );
    assert_eq!(again.host, with.host.unwrap_or(request.host));
    assert_eq!(again.framing, request.framing);
    assert_eq!(again.content_length, request.content_length);
    assert_eq!(again.upgrade, request.upgrade);
    assert_eq!(
        again.expect_continue,
        request.expect_continue && with.keep_expect
    );
}

fn forward_response(response: &Response<'_, '_>, choice: u8, method: Method) {
    let client_version = if choice & 2 == 0 {
        Version::Http11
    } else {
        Version::Http10
    };
    let keep_alive = choice & 4 != 0;
    let framing = reply_framing(response.framing, client_version, keep_alive);
    let mut sent = Vec::new();
    let interim = response.status < 200 && response.status != 101;
    if interim {
        forward::interim(&mut sent, response, "corelane");
    } else {
        let with = Reply {
            client_version,
            keep_alive,
            framing,
            head_request: method == Method::Head,
            via: "corelane",
            date: "Sun, 06 Nov 1994 08:49:37 GMT",
        };
        forward::response(&mut sent, response, &with);
    }
    let lines = strict_lines(&sent);
    assert!(count(&lines, "content-length") + count(&lines, "transfer-encoding") <= 1);
    assert!(response.status < 200 || count(&lines, "date") >= 1);
    let mut slots = Slots::new();
    let again = parse_response(&sent, &LARGEST, method, &mut slots)
        .expect("what we send is well formed")
        .expect("what we send is complete");
    assert_eq!(again.head_len, sent.len());
    assert_eq!(again.status, response.status);
    assert_eq!(again.framing, framing);
    if !interim && response.status != 101 {
        assert!(keep_alive || !again.keep_alive, "a close is announced");
    }
    assert_eq!(again.upgrade, response.upgrade);
}

/// A second opinion, as simple as can be: lines end in CRLF and hold no other CR, LF or NUL; fields have a name of
/// token characters right before the colon. Names in lower case, with `_` read as `-`, as CGI does.
fn strict_lines(head: &[u8]) -> Vec<String> {
    let head = head.strip_suffix(b"\r\n\r\n").expect("ends once");
    let text: String = head.iter().map(|byte| char::from(*byte)).collect();
    let mut lines = text.split("\r\n");
    let start = lines.next().expect("a start line");
    assert!(!start.contains(['\r', '\n', '\0']), "{start:?}");
    lines
        .map(|line| {
            assert!(!line.contains(['\r', '\n', '\0']), "{line:?}");
            let (name, _) = line.split_once(':').expect("a colon");
            assert!(!name.is_empty(), "{line:?}");
            assert!(
                name.bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)),
                "{line:?}"
            );
            name.to_ascii_lowercase().replace('_', "-")
        })
        .collect()
}

fn count(names: &[String], wanted: &str) -> usize {
    names.iter().filter(|name| *name == wanted).count()
}
