//! Heads as they are sent on, byte for byte.

use std::net::IpAddr;

use crate::h1::forward::{self, Forward, Reply, client_ip, reply_framing};
use crate::h1::head::{Slots, parse_request, parse_response};
use crate::h1::{Framing, Limits, Method, Version};

const PLAIN: Forward<'static> = Forward {
    client_ip: "192.0.2.1",
    trusted: false,
    proto: "http",
    port: "8080",
    host: None,
    via: "corelane",
    keep_expect: false,
    target: None,
    edit: None,
};

fn forwarded(text: &str, with: &Forward<'_>) -> String {
    let mut slots = Slots::new();
    let parsed = parse_request(text.as_bytes(), &Limits::DEFAULT, &mut slots);
    let mut out = Vec::new();
    forward::request(&mut out, &parsed.ok().flatten().unwrap(), with);
    let mut again = Slots::new();
    let parsed = parse_request(&out, &Limits::DEFAULT, &mut again);
    assert_eq!(
        parsed.ok().flatten().unwrap().head_len,
        out.len(),
        "{text:?}"
    );
    String::from_utf8_lossy(&out).into_owned()
}

/// What is sent on for a request with these fields, without the lines that are always there.
fn fields_of(start: &str, fields: &str, with: &Forward<'_>) -> String {
    let out = forwarded(&format!("{start}\r\nHost: h:1\r\n{fields}\r\n"), with);
    let always = [
        "Host: h:1",
        "X-Forwarded-For: 192.0.2.1",
        "X-Forwarded-Host: h:1",
        "X-Forwarded-Proto: http",
        "X-Forwarded-Port: 8080",
        "X-Real-IP: 192.0.2.1",
        "Via: 1.1 corelane",
        "",
    ];
    let lines: Vec<&str> = out
        .split("\r\n")
        .skip(1)
        .filter(|line| !always.contains(line))
        .collect();
    lines.join("|")
}

#[test]
fn a_whole_request() {
    let text = "GET /a?b HTTP/1.1\r\nUser-Agent: x\r\nHost: h:1\r\nAccept: */*\r\nCookie:  c \r\n\
                Connection: keep-alive\r\nX-Y:z\r\n\r\n";
    let expected = "GET /a?b HTTP/1.1\r\nHost: h:1\r\nUser-Agent: x\r\nAccept: */*\r\nCookie:  c \r\n\
                    X-Y:z\r\nX-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Host: h:1\r\n\
                    X-Forwarded-Proto: http\r\nX-Forwarded-Port: 8080\r\nX-Real-IP: 192.0.2.1\r\n\
                    Via: 1.1 corelane\r\n\r\n";
    assert_eq!(forwarded(text, &PLAIN), expected);
    // Empty lines before the request move all offsets, and are not sent on.
    assert_eq!(forwarded(&format!("\r\n\r\n{text}"), &PLAIN), expected);
}

#[test]
fn start_lines() {
    let cases = [
        ("GET / HTTP/1.0", "GET / HTTP/1.1"),
        ("GET http://b/c?d HTTP/1.1", "GET /c?d HTTP/1.1"),
        ("GET http://b HTTP/1.1", "GET / HTTP/1.1"),
        ("GET http://b?c/d HTTP/1.1", "GET /?c/d HTTP/1.1"),
        ("GET http://b/http://c HTTP/1.1", "GET /http://c HTTP/1.1"),
        ("OPTIONS * HTTP/1.1", "OPTIONS * HTTP/1.1"),
        ("OPTIONS http://b HTTP/1.1", "OPTIONS * HTTP/1.1"),
        ("OPTIONS http://b/ HTTP/1.1", "OPTIONS / HTTP/1.1"),
        ("PURGE /a/../%2e/b HTTP/1.1", "PURGE /a/../%2e/b HTTP/1.1"),
    ];
    for (start, expected) in cases {
        let out = forwarded(&format!("{start}\r\nHost: h\r\n\r\n"), &PLAIN);
        assert_eq!(out.split("\r\n").next(), Some(expected), "{start}");
    }
}

#[test]
fn hosts_and_versions() {
    let with = Forward {
        host: Some("backend:9"),
        ..PLAIN
    };
    let out = forwarded("GET http://b:2/ HTTP/1.0\r\nHost: h\r\n\r\n", &with);
    assert!(
        out.starts_with("GET / HTTP/1.1\r\nHost: backend:9\r\n"),
        "{out}"
    );
    assert!(
        out.contains("\r\nX-Forwarded-Host: b:2\r\n") && out.contains("\r\nVia: 1.0 corelane\r\n")
    );
    let out = forwarded("GET / HTTP/1.0\r\n\r\n", &with);
    assert!(
        out.starts_with("GET / HTTP/1.1\r\nHost: backend:9\r\nX-Forwarded-For:"),
        "{out}"
    );
    assert!(!out.contains("X-Forwarded-Host"), "{out}");
}

/// Fields, and what reaches the backend of them.
const FIELDS: &[(&str, &str)] = &[
    ("", ""),
    (
        "Keep-Alive: 5\r\nTE: trailers\r\nTrailer: A\r\nUpgrade: x\r\nProxy-Connection: a\r\n",
        "",
    ),
    (
        "Proxy-Authorization: a\r\nProxy: b\r\nHTTP2-Settings: c\r\nProxy-Authenticate: d\r\n",
        "",
    ),
    (
        "Connection: x-a, X-B\r\nX-A: 1\r\nX-C: 2\r\nx-b: 3\r\n",
        "X-C: 2",
    ),
    ("X-A: 1\r\nConnection: X-A\r\nX-A: 2\r\nB: 3\r\n", "B: 3"),
    // Hop-by-hop abuse: what the backend decides by cannot be nominated away.
    (
        "Connection: cookie, Authorization, cache-control, via, x-forwarded-foo, Host\r\n\
             Cookie: 1\r\nAuthorization: 2\r\nCache-Control: 3\r\nVia: 1.1 x\r\nX-Forwarded-Foo: 4\r\n",
        "Cookie: 1|Authorization: 2|Cache-Control: 3|Via: 1.1 x|X-Forwarded-Foo: 4",
    ),
    (
        "Connection: content-length\r\nContent-Length: 3\r\n",
        "Content-Length: 3",
    ),
    (
        "Connection: transfer-encoding\r\nTransfer-Encoding: Chunked\r\n",
        "Transfer-Encoding: chunked",
    ),
    ("Content-Length: 0\r\n", "Content-Length: 0"),
    ("Content-Length: 007\r\n", "Content-Length: 7"),
    (
        "Content_Length: 7\r\ntransfer_Encoding: chunked\r\nX_Under: 1\r\n",
        "X_Under: 1",
    ),
    (
        "X_Forwarded-For: 1\r\nX-Forwarded_Proto: 1\r\nX_Real_IP: 1\r\n",
        "",
    ),
    (
        "X-Forwarded-For: 9.9.9.9\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Proto: https\r\n",
        "",
    ),
    (
        "X-Forwarded-Port: 1\r\nX-Real-IP: 9.9.9.9\r\nForwarded: for=9.9.9.9\r\n",
        "",
    ),
    (
        "Expect: 100-continue\r\nContent-Length: 1\r\n",
        "Content-Length: 1",
    ),
    ("Max-Forwards: 7\r\n", "Max-Forwards: 7"),
    ("Date: x\r\nVia: 1.0 a\r\n", "Date: x|Via: 1.0 a"),
    (
        "Connection: Upgrade, x-a\r\nX-A: 1\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n",
        "Sec-WebSocket-Key: k|Connection: Upgrade|Upgrade: websocket",
    ),
    (
        "Connection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n",
        "",
    ),
];

#[test]
fn fields_that_pass_and_fields_that_do_not() {
    for (fields, expected) in FIELDS {
        assert_eq!(
            fields_of("POST / HTTP/1.1", fields, &PLAIN),
            *expected,
            "{fields:?}"
        );
    }
    let with = Forward {
        keep_expect: true,
        target: None,
        edit: None,
        ..PLAIN
    };
    let fields = "Expect: 100-CONTINUE\r\nContent-Length: 1\r\n";
    let expected = "Content-Length: 1|Expect: 100-continue";
    assert_eq!(fields_of("POST / HTTP/1.1", fields, &with), expected);
    assert_eq!(
        fields_of("POST / HTTP/1.1", "Expect: 100-continue\r\n", &with),
        ""
    );
    let hops = [
        ("7", "Max-Forwards: 6"),
        ("0", "Max-Forwards: 0"),
        ("x", ""),
    ];
    for (value, expected) in hops {
        let fields = format!("Max-Forwards: {value}\r\nMax-Forwards: 99\r\n");
        let expected = if value == "x" {
            "Max-Forwards: 98"
        } else {
            expected
        };
        assert_eq!(fields_of("OPTIONS / HTTP/1.1", &fields, &PLAIN), expected);
    }
}

#[test]
fn a_trusted_peer_is_believed() {
    let with = Forward {
        trusted: true,
        ..PLAIN
    };
    let fields = "X-Forwarded-For: 9.9.9.9\r\nX-Forwarded-Proto: https\r\nX-Forwarded-For: 8.8.8.8\r\n\
                  X-Real-IP: 9.9.9.9\r\nForwarded: for=9.9.9.9\r\nX-Forwarded-For:\r\n";
    let out = forwarded(
        &format!("GET / HTTP/1.1\r\nHost: h:1\r\n{fields}\r\n"),
        &with,
    );
    let expected = "GET / HTTP/1.1\r\nHost: h:1\r\nX-Forwarded-Proto: https\r\nX-Real-IP: 9.9.9.9\r\n\
                    Forwarded: for=9.9.9.9\r\nX-Forwarded-For: 9.9.9.9, 8.8.8.8, 192.0.2.1\r\n\
                    X-Forwarded-Host: h:1\r\nX-Forwarded-Port: 8080\r\nVia: 1.1 corelane\r\n\r\n";
    assert_eq!(out, expected);
}

#[test]
fn the_clients_address() {
    let trusts = |ip: IpAddr| ip.to_string().starts_with("10.");
    let cases = [
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "9.9.9.9", "9.9.9.9"),
        ("10.0.0.1", "8.8.8.8, 9.9.9.9, 10.0.0.2", "9.9.9.9"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("10.0.0.1", "9.9.9.9:123", "9.9.9.9"),
        ("10.0.0.1", "[2001:db8::1]:5", "2001:db8::1"),
        ("10.0.0.1", "2001:db8::1", "2001:db8::1"),
        ("10.0.0.1", "8.8.8.8, unknown, 10.0.0.2", "10.0.0.2"),
        ("::ffff:10.0.0.1", "::ffff:9.9.9.9", "9.9.9.9"),
        ("192.0.2.1", "9.9.9.9", "192.0.2.1"),
        (
            "10.0.0.1",
            "8.8.8.8\r\nX-Forwarded-For: 10.0.0.2",
            "8.8.8.8",
        ),
        ("10.0.0.1", "8.8.8.8\r\nX-Forwarded-For: 7.7.7.7", "7.7.7.7"),
    ];
    for (peer, list, expected) in cases {
        let text = format!("GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: {list}\r\n\r\n");
        let mut slots = Slots::new();
        let parsed = parse_request(text.as_bytes(), &Limits::DEFAULT, &mut slots);
        let found = client_ip(
            &parsed.ok().flatten().unwrap(),
            peer.parse().unwrap(),
            trusts,
        );
        assert_eq!(found.to_string(), expected, "{peer} {list}");
    }
}

const REPLY: Reply<'static> = Reply {
    client_version: Version::Http11,
    keep_alive: true,
    framing: Framing::None,
    head_request: false,
    via: "corelane",
    date: "Thu, 01 Jan 1970 00:00:00 GMT",
    set_cookie: None,
    lines: b"",
    edit: None,
};

fn replied(text: &str, with: &Reply<'_>) -> String {
    let method = if with.head_request {
        Method::Head
    } else {
        Method::Get
    };
    let mut slots = Slots::new();
    let parsed = parse_response(text.as_bytes(), &Limits::DEFAULT, method, &mut slots);
    let response = parsed.ok().flatten().unwrap();
    let framing = reply_framing(response.framing, with.client_version, with.keep_alive);
    let mut out = Vec::new();
    forward::response(&mut out, &response, &Reply { framing, ..*with });
    let mut again = Slots::new();
    let parsed = parse_response(&out, &Limits::DEFAULT, method, &mut again);
    let parsed = parsed.ok().flatten().unwrap();
    assert_eq!(
        (parsed.head_len, parsed.framing),
        (out.len(), framing),
        "{text:?}"
    );
    String::from_utf8_lossy(&out).into_owned()
}

const CLOSE: Reply<'static> = Reply {
    keep_alive: false,
    ..REPLY
};
const OLD: Reply<'static> = Reply {
    client_version: Version::Http10,
    ..REPLY
};
const OLD_CLOSE: Reply<'static> = Reply {
    keep_alive: false,
    ..OLD
};
const HEAD: Reply<'static> = Reply {
    head_request: true,
    ..REPLY
};

/// Response (lines divided by bars), and what the client gets without Via and the added Date.
const RESPONSES: &[(Reply<'static>, &str, &str)] = &[
    (
        REPLY,
        "200 OK|Content-Length: 05",
        "200 OK|Content-Length: 5",
    ),
    (
        REPLY,
        "200 OK|Content-Length: 0",
        "200 OK|Content-Length: 0",
    ),
    (
        REPLY,
        "200|A: b|Transfer-Encoding: chunked",
        "200 |A: b|Transfer-Encoding: chunked",
    ),
    (
        CLOSE,
        "200 OK|A: b",
        "200 OK|A: b|Transfer-Encoding: chunked|Connection: close",
    ),
    (
        OLD,
        "200 OK|Content-Length: 5",
        "200 OK|Content-Length: 5|Connection: keep-alive",
    ),
    (
        OLD_CLOSE,
        "200 OK|Transfer-Encoding: chunked",
        "200 OK|Connection: close",
    ),
    (HEAD, "200 OK|Content-Length: 5", "200 OK|Content-Length: 5"),
    (HEAD, "200 OK|Transfer-Encoding: chunked", "200 OK"),
    (
        REPLY,
        "304 Not Modified|Content-Length: 5|ETag: x",
        "304 Not Modified|ETag: x|Content-Length: 5",
    ),
    (REPLY, "204 No Content|Content-Length: 5", "204 No Content"),
    (
        REPLY,
        "200 OK|Connection: x-a, set-cookie|X-A: 1|Set-Cookie: a|Keep-Alive: 5|Trailer: T|Content-Length: 1",
        "200 OK|Set-Cookie: a|Content-Length: 1",
    ),
    (
        REPLY,
        "200 OK|Upgrade: h2c|Connection: upgrade|Proxy-Authenticate: x|Proxy-Status: y|Content-Length: 1",
        "200 OK|Proxy-Status: y|Content-Length: 1",
    ),
    (
        REPLY,
        "101 Switching Protocols|Connection: Upgrade|Upgrade: websocket|Sec-A: b",
        "101 Switching Protocols|Sec-A: b|Connection: Upgrade|Upgrade: websocket",
    ),
    (
        REPLY,
        "200 \u{e9}|X: \u{e9}|Content_Length: 9|Content-Length: 1",
        "200 |X: \u{e9}|Content-Length: 1",
    ),
];

#[test]
fn responses() {
    for (with, text, expected) in RESPONSES {
        let out = replied(
            &format!("HTTP/1.1 {}\r\n\r\n", text.replace('|', "\r\n")),
            with,
        );
        let out = out.replace("Via: 1.1 corelane\r\n", "");
        let out = out.replace("Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n", "");
        assert_eq!(
            out,
            format!("HTTP/1.1 {}\r\n\r\n", expected.replace('|', "\r\n")),
            "{text}"
        );
    }
}

#[test]
fn date_and_via() {
    let out = replied(
        "HTTP/1.0 200 OK\r\nVia: 1.1 x\r\nContent-Length: 1\r\n\r\n",
        &REPLY,
    );
    let expected = "HTTP/1.1 200 OK\r\nVia: 1.1 x\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
                    Via: 1.0 corelane\r\nContent-Length: 1\r\n\r\n";
    assert_eq!(out, expected);
    let out = replied(
        "HTTP/1.1 200 OK\r\ndate: then\r\nContent-Length: 1\r\n\r\n",
        &REPLY,
    );
    assert_eq!(
        out.to_ascii_lowercase().matches("date:").count(),
        1,
        "{out}"
    );
    let out = replied(
        "HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        &REPLY,
    );
    assert!(!out.contains("Date:"), "{out}");
}

#[test]
fn interim_responses() {
    let text =
        "HTTP/1.1 103 Early Hints\r\nLink: a\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    let mut slots = Slots::new();
    let parsed = parse_response(text.as_bytes(), &Limits::DEFAULT, Method::Get, &mut slots);
    let mut out = Vec::new();
    forward::interim(&mut out, &parsed.ok().flatten().unwrap(), "corelane");
    assert_eq!(
        out,
        b"HTTP/1.1 103 Early Hints\r\nLink: a\r\nVia: 1.1 corelane\r\n\r\n"
    );
}

#[test]
fn framings_for_clients() {
    use Framing::{Chunked, Length, None, UntilClose};
    use Version::{Http10, Http11};
    let cases = [
        (None, Http10, None),
        (None, Http11, None),
        (Length(3), Http10, Length(3)),
        (Length(3), Http11, Length(3)),
        (Chunked, Http10, UntilClose),
        (Chunked, Http11, Chunked),
        (UntilClose, Http10, UntilClose),
        (UntilClose, Http11, Chunked),
    ];
    for (framing, version, expected) in cases {
        for keep_alive in [true, false] {
            assert_eq!(
                reply_framing(framing, version, keep_alive),
                expected,
                "{framing:?} {version:?}"
            );
        }
    }
}
