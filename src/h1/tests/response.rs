//! Response heads: what is refused, and which length rule governs what is accepted.

use crate::h1::head::{Slots, parse_response};
use crate::h1::{Framing, Limits, Method, Reject};

type Verdict = Result<Option<(u16, Framing, bool)>, Reject>;

const SMALL: Limits = Limits {
    header_bytes: 256,
    header_count: 4,
    request_line: 16,
};

fn verdict(text: &str, method: Method) -> Verdict {
    let mut slots = Slots::new();
    let parsed = parse_response(text.as_bytes(), &SMALL, method, &mut slots)?;
    Ok(parsed.map(|response| (response.status, response.framing, response.keep_alive)))
}

const REFUSED: &[(Reject, &str)] = &[
    (Reject::BadStartLine, "\r\nHTTP/1.1 200 OK\r\n\r\n"),
    (Reject::BadStartLine, "<html>\r\n\r\n"),
    (Reject::BadStartLine, "ICY 200 OK\r\n\r\n"),
    (Reject::BadVersion, "HTTP/2.0 200 OK\r\n\r\n"),
    (Reject::BadStatus, "HTTP/1.1 099 x\r\n\r\n"),
    (Reject::BadStatus, "HTTP/1.1 600 x\r\n\r\n"),
    (Reject::BadStatus, "HTTP/1.1 20 x\r\n\r\n"),
    (Reject::BadStatus, "HTTP/1.1 2000 x\r\n\r\n"),
    (Reject::BadStatus, "HTTP/1.1  200 x\r\n\r\n"),
    (Reject::BadStatus, "HTTP/1.1 200 a\rSet-Cookie: b\r\n\r\n"),
    (Reject::BadStatus, "HTTP/1.1 200 a\0b\r\n\r\n"),
    (Reject::BareLf, "HTTP/1.1 200 OK\nA: b\r\n\r\n"),
    (Reject::BareLf, "HTTP/1.1 200 OK\r\nA: b\n\r\n"),
    (Reject::BareLf, "HTTP/1.1 200\n\n"),
    (Reject::ObsFold, "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n"),
    (Reject::BadHeaderName, "HTTP/1.1 200 OK\r\nA : b\r\n\r\n"),
    (Reject::BadHeaderName, "HTTP/1.1 200 OK\r\n\rA: b\r\n\r\n"),
    (Reject::BadHeaderValue, "HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n"),
    (
        Reject::TooManyHeaders,
        "HTTP/1.1 200 OK\r\nA:1\r\nA:2\r\nA:3\r\nA:4\r\nA:5\r\n\r\n",
    ),
    (
        Reject::LengthAndChunked,
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    ),
    (
        Reject::BadContentLength,
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
    ),
    (
        Reject::BadContentLength,
        "HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\n",
    ),
    (
        Reject::BadContentLength,
        "HTTP/1.1 304 OK\r\nContent-Length: -1\r\n\r\n",
    ),
    (
        Reject::BadContentLength,
        "HTTP/1.1 100 Continue\r\nContent-Length: 1\r\n\r\n",
    ),
    (
        Reject::BadTransferEncoding,
        "HTTP/1.1 103 Early\r\nTransfer-Encoding: chunked\r\n\r\n",
    ),
    (
        Reject::BadTransferEncoding,
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n",
    ),
    (
        Reject::UnknownCoding,
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
    ),
    (
        Reject::UnknownCoding,
        "HTTP/1.1 204 OK\r\nTransfer-Encoding: xchunked\r\n\r\n",
    ),
    (
        Reject::ChunkedInHttp10,
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    ),
];

/// Status line and fields, method, and what is read from them.
const ACCEPTED: &[(&str, Method, (u16, Framing, bool))] = &[
    (
        "1.1 200 OK\r\n",
        Method::Get,
        (200, Framing::UntilClose, false),
    ),
    (
        "1.1 200\r\n",
        Method::Get,
        (200, Framing::UntilClose, false),
    ),
    (
        "1.1 200 \r\n",
        Method::Get,
        (200, Framing::UntilClose, false),
    ),
    (
        "1.1 200 \u{e9}\r\n",
        Method::Get,
        (200, Framing::UntilClose, false),
    ),
    (
        "1.1 200 OK\r\nContent-Length: 5\r\n",
        Method::Get,
        (200, Framing::Length(5), true),
    ),
    (
        "1.1 200 OK\r\nContent-Length: 0\r\n",
        Method::Get,
        (200, Framing::None, true),
    ),
    (
        "1.1 200 OK\r\nContent-Length: 5\r\n",
        Method::Head,
        (200, Framing::None, true),
    ),
    (
        "1.1 200 OK\r\nTransfer-Encoding: chunked\r\n",
        Method::Head,
        (200, Framing::None, true),
    ),
    (
        "1.1 200 OK\r\nTransfer-Encoding: chunked\r\n",
        Method::Get,
        (200, Framing::Chunked, true),
    ),
    (
        "1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n",
        Method::Get,
        (200, Framing::Length(5), false),
    ),
    (
        "1.0 200 OK\r\nContent-Length: 5\r\n",
        Method::Get,
        (200, Framing::Length(5), false),
    ),
    (
        "1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n",
        Method::Get,
        (200, Framing::Length(5), true),
    ),
    (
        "1.0 200 OK\r\nConnection: keep-alive\r\n",
        Method::Get,
        (200, Framing::UntilClose, false),
    ),
    (
        "1.1 304 Not Modified\r\nContent-Length: 5\r\n",
        Method::Get,
        (304, Framing::None, true),
    ),
    (
        "1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n",
        Method::Get,
        (304, Framing::None, true),
    ),
    (
        "1.1 204 No Content\r\n",
        Method::Get,
        (204, Framing::None, true),
    ),
    (
        "1.1 204 No Content\r\nContent-Length: 0\r\n",
        Method::Get,
        (204, Framing::None, true),
    ),
    (
        "1.1 204 No Content\r\nContent-Length: 5\r\n",
        Method::Get,
        (204, Framing::None, false),
    ),
    (
        "1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n",
        Method::Get,
        (204, Framing::None, false),
    ),
    (
        "1.1 205 Reset\r\nContent-Length: 0\r\n",
        Method::Get,
        (205, Framing::None, true),
    ),
    (
        "1.1 100 Continue\r\n",
        Method::Post,
        (100, Framing::None, true),
    ),
    (
        "1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n",
        Method::Get,
        (101, Framing::None, false),
    ),
    (
        "1.1 599 x\r\nHost: a\r\nHost: b\r\nExpect: y\r\n",
        Method::Get,
        (599, Framing::UntilClose, false),
    ),
];

#[test]
fn refused_for_the_stated_reason() {
    for (reject, text) in REFUSED {
        assert_eq!(verdict(text, Method::Get), Err(*reject), "{text:?}");
    }
    let long = format!("HTTP/1.1 200 OK\r\nA: {}\r\n\r\n", "b".repeat(256));
    assert_eq!(verdict(&long, Method::Get), Err(Reject::HeadTooLarge));
}

#[test]
fn framing_and_persistence() {
    for (text, method, expected) in ACCEPTED {
        let text = format!("HTTP/{text}\r\n");
        assert_eq!(verdict(&text, *method), Ok(Some(*expected)), "{text:?}");
    }
}

#[test]
fn cut_at_every_byte() {
    let accepted = ACCEPTED
        .iter()
        .map(|(text, method, _)| (format!("HTTP/{text}\r\n"), *method));
    let refused = REFUSED
        .iter()
        .map(|(_, text)| (text.to_string(), Method::Get));
    for (text, method) in accepted.chain(refused) {
        let whole = verdict(&text, method);
        let mut refused = false;
        for cut in (0..text.len()).filter(|cut| text.is_char_boundary(*cut)) {
            match verdict(&text[..cut], method) {
                Ok(None) => assert!(!refused, "taken back at {cut}: {text:?}"),
                Ok(Some(_)) => panic!("accepted at {cut}: {text:?}"),
                Err(_) => refused = true,
            }
        }
        assert!(!refused || whole.is_err(), "{text:?}");
    }
}

#[test]
fn only_a_101_upgrades() {
    let fields = "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    for (status, expected) in [(101, Some("websocket")), (426, None)] {
        let text = format!("HTTP/1.1 {status} x\r\n{fields}");
        let mut slots = Slots::new();
        let parsed = parse_response(text.as_bytes(), &SMALL, Method::Get, &mut slots);
        assert_eq!(parsed.ok().flatten().unwrap().upgrade, expected);
    }
}
