//! Request heads: what is refused and why, what is accepted and how it is read.

use std::collections::HashSet;

use crate::h1::body::{Decoder, Sink};
use crate::h1::head::{Request, Scan, Slots, parse_request, parse_response};
use crate::h1::{Framing, Limits, Method, Reject, Version};

const SMALL: Limits = Limits {
    header_bytes: 512,
    header_count: 8,
    request_line: 256,
};

/// What parsing said, reduced to something comparable.
fn outcome(bytes: &[u8]) -> Result<Option<usize>, Reject> {
    let mut slots = Slots::new();
    let parsed = parse_request(bytes, &SMALL, &mut slots)?;
    Ok(parsed.map(|request| request.head_len))
}

fn read(text: &str, check: impl FnOnce(&Request<'_, '_>)) {
    let mut slots = Slots::new();
    match parse_request(text.as_bytes(), &SMALL, &mut slots) {
        Ok(Some(request)) => check(&request),
        Ok(None) => panic!("incomplete: {text:?}"),
        Err(reject) => panic!("{reject:?}: {text:?}"),
    }
}

/// A request with these lines after the request line and Host.
fn post(fields: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
}

/// Refusals: name, reason, the whole head.
const HEADS: &[(&str, Reject, &str)] = &[
    ("http 0.9", Reject::BadStartLine, "GET /\r\n\r\n"),
    (
        "no http at all",
        Reject::BadStartLine,
        "\x16\x03\x01\x02\r\n\r\n",
    ),
    (
        "two spaces",
        Reject::BadStartLine,
        "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    (
        "space at the end",
        Reject::BadStartLine,
        "GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
    ),
    (
        "space before method",
        Reject::BadStartLine,
        " GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    (
        "space in target",
        Reject::BadStartLine,
        "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    (
        "method no token",
        Reject::BadStartLine,
        "GE(T / HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    (
        "lower-case http",
        Reject::BadStartLine,
        "GET / http/1.1\r\nHost: a\r\n\r\n",
    ),
    (
        "bare cr after version",
        Reject::BadStartLine,
        "GET / HTTP/1.1\rHost: a\r\n\r\n",
    ),
    (
        "cr before start line",
        Reject::BadStartLine,
        "\rGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    (
        "http 2 preface",
        Reject::BadVersion,
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ),
    (
        "http 1.2",
        Reject::BadVersion,
        "GET / HTTP/1.2\r\nHost: a\r\n\r\n",
    ),
    (
        "http 3",
        Reject::BadVersion,
        "GET / HTTP/3\r\nHost: a\r\n\r\n",
    ),
    ("lf for crlf", Reject::BareLf, "GET / HTTP/1.1\nHost: a\n\n"),
    (
        "lf in field",
        Reject::BareLf,
        "GET / HTTP/1.1\r\nHost: a\nB: c\r\n\r\n",
    ),
    (
        "lf at the last field",
        Reject::BareLf,
        "GET / HTTP/1.1\r\nHost: a\n\r\n",
    ),
    (
        "lf as empty line",
        Reject::BareLf,
        "GET / HTTP/1.1\r\nHost: a\r\n\n",
    ),
    (
        "lf after request line",
        Reject::BareLf,
        "GET / HTTP/1.1\nHost: a\r\n\r\n",
    ),
    (
        "lf before start line",
        Reject::BareLf,
        "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    ("lf, no fields", Reject::BareLf, "GET / HTTP/1.0\n\r\n"),
    (
        "absolute without host",
        Reject::MissingHost,
        "GET http://a/ HTTP/1.1\r\n\r\n",
    ),
    (
        "two hosts in 1.0",
        Reject::DuplicateHost,
        "GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n",
    ),
    (
        "te in 1.0",
        Reject::ChunkedInHttp10,
        "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
    ),
    (
        "connect",
        Reject::ConnectRefused,
        "CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    (
        "trace",
        Reject::TraceRefused,
        "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    (
        "space before first field",
        Reject::ObsFold,
        "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
    ),
    ("no host", Reject::MissingHost, "GET / HTTP/1.1\r\n\r\n"),
    (
        "two hosts",
        Reject::DuplicateHost,
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    ),
    (
        "same host twice",
        Reject::DuplicateHost,
        "GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n",
    ),
];

/// Refusals by the target alone.
const TARGETS: &[(&str, Reject, &str)] = &[
    ("fragment", Reject::BadTarget, "/a#b"),
    ("del", Reject::BadTarget, "/a\x7fb"),
    ("utf-8", Reject::BadTarget, "/ä"),
    ("tab", Reject::BadTarget, "/a\tb"),
    ("nul", Reject::BadTarget, "/a\0b"),
    ("relative", Reject::BadTarget, "a/b"),
    ("query alone", Reject::BadTarget, "?q"),
    ("authority-form with get", Reject::BadTarget, "a:80"),
    ("asterisk with get", Reject::BadTarget, "*"),
    ("asterisk with path", Reject::BadTarget, "*/a"),
    ("scheme ftp", Reject::BadTarget, "ftp://a/"),
    ("no authority", Reject::BadTarget, "http:///a"),
    ("no slashes", Reject::BadTarget, "http:/a"),
    ("user information", Reject::BadTarget, "http://u@a/"),
    ("bad port", Reject::BadTarget, "http://a:x/"),
    ("backslash for slash", Reject::BadTarget, "http:\\\\a/"),
];

/// Refusals by the fields after Host.
const FIELDS: &[(&str, Reject, &str)] = &[
    ("space before colon", Reject::BadHeaderName, "A : b\r\n"),
    ("tab before colon", Reject::BadHeaderName, "A\t: b\r\n"),
    (
        "te, space before colon",
        Reject::BadHeaderName,
        "Transfer-Encoding : chunked\r\n",
    ),
    ("empty name", Reject::BadHeaderName, ": b\r\n"),
    ("no colon", Reject::BadHeaderName, "Abc\r\n"),
    ("name with bracket", Reject::BadHeaderName, "A[]: b\r\n"),
    ("name with nul", Reject::BadHeaderName, "A\0: b\r\n"),
    ("name with utf-8", Reject::BadHeaderName, "Ä: b\r\n"),
    (
        "cr alone at line start",
        Reject::BadHeaderName,
        "\rA: b\r\n",
    ),
    (
        "vertical tab before te",
        Reject::BadHeaderName,
        "\x0bTransfer-Encoding: chunked\r\n",
    ),
    ("nul in value", Reject::BadHeaderValue, "A: b\0c\r\n"),
    ("bare cr in value", Reject::BadHeaderValue, "A: b\rc\r\n"),
    (
        "bare cr hides a field",
        Reject::BadHeaderValue,
        "A: b\rContent-Length: 5\r\n",
    ),
    ("del in value", Reject::BadHeaderValue, "A: b\x7f\r\n"),
    ("escape in value", Reject::BadHeaderValue, "A: \x1b[0m\r\n"),
    ("cr cr lf", Reject::BadHeaderValue, "A: b\r\r\n"),
    (
        "vertical tab in te",
        Reject::BadHeaderValue,
        "Transfer-Encoding: \x0bchunked\r\n",
    ),
    (
        "form feed in te",
        Reject::BadHeaderValue,
        "Transfer-Encoding: chunked\x0c\r\n",
    ),
    ("lf after empty value", Reject::BareLf, "A:\nB: c\r\n"),
    (
        "lf hides te",
        Reject::BareLf,
        "A: b\nTransfer-Encoding: chunked\r\n",
    ),
    ("continuation line", Reject::ObsFold, "A: b\r\n c\r\n"),
    (
        "te folded",
        Reject::ObsFold,
        "Transfer-Encoding:\r\n chunked\r\n",
    ),
    (
        "te folded with tab",
        Reject::ObsFold,
        "Transfer-Encoding: chun\r\n\tked\r\n",
    ),
    (
        "space before te",
        Reject::ObsFold,
        " Transfer-Encoding: chunked\r\n",
    ),
    (
        "cl with te",
        Reject::LengthAndChunked,
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    ),
    (
        "te with cl",
        Reject::LengthAndChunked,
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    ),
    (
        "te with cl 0",
        Reject::LengthAndChunked,
        "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
    ),
    (
        "unknown te with cl",
        Reject::LengthAndChunked,
        "Content-Length: 5\r\nTransfer-Encoding: xchunked\r\n",
    ),
    (
        "cl twice",
        Reject::BadContentLength,
        "Content-Length: 5\r\nContent-Length: 6\r\n",
    ),
    (
        "same cl twice",
        Reject::BadContentLength,
        "Content-Length: 5\r\nContent-Length: 5\r\n",
    ),
    (
        "te twice",
        Reject::BadTransferEncoding,
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    ),
    (
        "te twice, other case",
        Reject::BadTransferEncoding,
        "Transfer-Encoding: chunked\r\ntransfer-encoding: identity\r\n",
    ),
    ("expectation", Reject::BadExpect, "Expect: 200-ok\r\n"),
    ("expectation, empty", Reject::BadExpect, "Expect:\r\n"),
    (
        "two expectations",
        Reject::BadExpect,
        "Expect: x\r\nExpect: 100-continue\r\n",
    ),
];

const HOSTS: &[&str] = &[
    "", "a b", "a,b", "u@a", "a/b", "http://a", "a:b", "a:99999", "[::1", "::1", "a\t b",
    "a\u{e4}", ":80",
];
const LENGTHS: &[&str] = &[
    "",
    "+5",
    "-5",
    "5 5",
    "5,5",
    "5, 5",
    "0x5",
    "5;",
    "five",
    "1e1",
    "\"5\"",
    "18446744073709551616",
];
const BAD_CODINGS: &[&str] = &[
    "",
    ",chunked",
    "chunked,",
    "chunked, chunked",
    "chunked, identity",
    "chunked;x",
    "\"chunked\"",
    "'chunked',",
    "chunked gzip",
    "gzip,, chunked",
    "chunked\u{e9}",
    "gzip, chunked, chunked",
    "[chunked]",
];
const UNKNOWN_CODINGS: &[&str] = &[
    "xchunked",
    "identity",
    "gzip, chunked",
    "gzip",
    "'chunked'",
    "chunke",
    "chunkedd",
];

fn refusals() -> Vec<(&'static str, Reject, String)> {
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut all: Vec<(&'static str, Reject, String)> = vec![
        (
            "many empty lines",
            Reject::BadStartLine,
            format!("{}{}", "\r\n".repeat(5), get("/")),
        ),
        (
            "hundred connection options",
            Reject::BadHeaderValue,
            post(&format!("Connection: {}\r\n", "x,".repeat(100))),
        ),
        (
            "long head",
            Reject::HeadTooLarge,
            post(&format!("A: {}\r\n", "b".repeat(512))),
        ),
        (
            "many fields",
            Reject::TooManyHeaders,
            post(&"A: b\r\n".repeat(8)),
        ),
        (
            "long target",
            Reject::RequestLineTooLong,
            get(&format!("/{}", "a".repeat(243))),
        ),
        (
            "long method",
            Reject::RequestLineTooLong,
            format!("{} / HTTP/1.1\r\n", "A".repeat(250)),
        ),
    ];
    all.extend(
        HEADS
            .iter()
            .map(|(name, reject, text)| (*name, *reject, text.to_string())),
    );
    all.extend(
        TARGETS
            .iter()
            .map(|(name, reject, target)| (*name, *reject, get(target))),
    );
    all.extend(
        FIELDS
            .iter()
            .map(|(name, reject, fields)| (*name, *reject, post(fields))),
    );
    for value in HOSTS {
        let text = format!("GET / HTTP/1.1\r\nHost: {value}\r\n\r\n");
        all.push(("bad host", Reject::BadHost, text));
    }
    for value in LENGTHS {
        let text = post(&format!("Content-Length: {value}\r\n"));
        all.push(("bad length", Reject::BadContentLength, text));
    }
    let bad = BAD_CODINGS
        .iter()
        .map(|value| (value, Reject::BadTransferEncoding));
    for (value, reject) in bad.chain(
        UNKNOWN_CODINGS
            .iter()
            .map(|value| (value, Reject::UnknownCoding)),
    ) {
        all.push((
            "coding",
            reject,
            post(&format!("Transfer-Encoding: {value}\r\n")),
        ));
    }
    all
}

#[test]
fn refused_for_the_stated_reason() {
    for (name, reject, text) in refusals() {
        assert_eq!(outcome(text.as_bytes()), Err(reject), "{name}: {text:?}");
    }
}

/// A refusal is final: more bytes never turn it into an acceptance. And nothing is accepted before
/// its end.
#[test]
fn cut_at_every_byte() {
    let accepted = accepted().into_iter().map(|text| (text, true));
    let refused = refusals().into_iter().map(|(_, _, text)| (text, false));
    for (text, whole_is_good) in accepted.chain(refused) {
        let bytes = text.as_bytes();
        let mut refused_at = None;
        for cut in 0..bytes.len() {
            match outcome(&bytes[..cut]) {
                Ok(None) => assert_eq!(refused_at, None, "taken back at {cut}: {text:?}"),
                Ok(Some(_)) => panic!("accepted at {cut}: {text:?}"),
                Err(_) => refused_at = refused_at.or(Some(cut)),
            }
        }
        assert_eq!(outcome(bytes).is_ok(), whole_is_good, "{text:?}");
        assert!(!whole_is_good || refused_at.is_none(), "{text:?}");
        if whole_is_good {
            let followed = [bytes, b"GET \0\n"].concat();
            assert_eq!(outcome(&followed), Ok(Some(bytes.len())), "{text:?}");
        }
    }
}

/// Byte by byte, the scan asks for a parse exactly where it matters, and seldom otherwise.
#[test]
fn scan_finds_the_end_and_bare_lf() {
    for text in accepted() {
        let mut scan = Scan::new();
        let asked: Vec<usize> = (1..=text.len())
            .filter(|length| scan.might_be_complete(&text.as_bytes()[..*length]))
            .collect();
        assert_eq!(asked.last(), Some(&text.len()), "{text:?}");
        assert!(asked.len() <= 4, "{asked:?}: {text:?}");
    }
    for (_, reject, text) in refusals() {
        if reject != Reject::BareLf {
            continue;
        }
        let mut scan = Scan::new();
        let bytes = text.as_bytes();
        let first = (1..=bytes.len()).find(|length| {
            scan.might_be_complete(&bytes[..*length]) && outcome(&bytes[..*length]).is_err()
        });
        assert!(first.is_some(), "{text:?}");
    }
    let long = "A".repeat(100_000);
    let mut scan = Scan::new();
    let parses = (1..long.len())
        .filter(|n| scan.might_be_complete(&long.as_bytes()[..*n]))
        .count();
    assert_eq!(parses, 7);
}

/// Each refusal that a parser or the decoder can give is given by some case of these tables.
#[test]
fn every_refusal_has_a_case() {
    let mut seen: HashSet<Reject> = refusals()
        .into_iter()
        .map(|(_, reject, _)| reject)
        .collect();
    let mut slots = Slots::new();
    seen.extend(parse_response(b"HTTP/1.1 999 x\r\n\r\n", &SMALL, Method::Get, &mut slots).err());
    let extension = [b"1;".as_slice(), &[b'x'; 300]].concat();
    for body in [&b"x"[..], b"0\r\n:\r\n\r\n", &extension] {
        seen.extend(Decoder::new(Framing::Chunked).step(body, Sink::Check).err());
    }
    for reject in Reject::ALL {
        assert!(seen.contains(reject), "{reject:?}");
    }
    let labels: HashSet<&str> = Reject::ALL.iter().map(|reject| reject.label()).collect();
    assert_eq!(labels.len(), Reject::ALL.len());
}

fn accepted() -> Vec<String> {
    let mut all: Vec<String> = [
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /?a|b[]{}^`\"<>\\ HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        "M-SEARCH http://a?q HTTP/1.1\r\nHost:\ta \r\n\r\n",
    ]
    .map(String::from)
    .into();
    for fields in [
        "A:\r\n",
        "A: \t \r\nB: \u{e4}\r\n",
        "Content-Length: 0\r\n",
        "Content-Length: 0005\r\n",
        "Transfer-Encoding: Chunked\r\n",
        "Transfer-Encoding:chunked \t\r\n",
        "Content_Length: 5\r\nContent-Length: 6\r\n",
        "X!#$%&'*+-.^_`|~: 1\r\n",
        "Expect: 100-Continue\r\nContent-Length: 3\r\n",
        "Connection: ,close, , keep-alive\r\n",
    ] {
        all.push(post(fields));
    }
    all
}

#[test]
fn limits_are_exact() {
    let line = format!("GET /{} HTTP/1.1", "a".repeat(242));
    assert_eq!(line.len(), SMALL.request_line);
    let head = format!(
        "{line}\r\nHost: a\r\nA: {}\r\n\r\n",
        "b".repeat(512 - 256 - 18)
    );
    assert_eq!(head.len(), SMALL.header_bytes);
    assert_eq!(outcome(head.as_bytes()), Ok(Some(512)));
    assert_eq!(
        outcome(format!("\r\n{head}").as_bytes()),
        Err(Reject::HeadTooLarge)
    );
    let fields = post(&"A: b\r\n".repeat(7));
    assert_eq!(outcome(fields.as_bytes()), Ok(Some(fields.len())));
}

#[test]
fn targets_are_split() {
    let cases = [
        ("GET", "/", "/", "", "h"),
        ("GET", "/a/b?c?d", "/a/b", "c?d", "h"),
        ("GET", "//x/y", "//x/y", "", "h"),
        ("GET", "/http://b/", "/http://b/", "", "h"),
        ("GET", "/?", "/", "", "h"),
        ("OPTIONS", "*", "/", "", "h"),
        ("GET", "http://B:8080", "/", "", "B:8080"),
        ("GET", "HTTPS://b/c?d=/e", "/c", "d=/e", "b"),
        ("GET", "http://b?d/e", "/", "d/e", "b"),
        ("GET", "http://[::2]/", "/", "", "[::2]"),
    ];
    for (method, target, path, query, host) in cases {
        read(
            &format!("{method} {target} HTTP/1.1\r\nHost: h\r\n\r\n"),
            |request| {
                assert_eq!(
                    (request.path, request.query, request.host),
                    (path, query, host),
                    "{target}"
                );
                assert_eq!(request.target, target);
            },
        );
    }
}

#[test]
fn methods_are_case_sensitive() {
    let cases = [
        ("GET", Method::Get),
        ("HEAD", Method::Head),
        ("POST", Method::Post),
        ("PUT", Method::Put),
        ("DELETE", Method::Delete),
        ("OPTIONS", Method::Options),
        ("PATCH", Method::Patch),
        ("get", Method::Other),
        ("Trace", Method::Other),
        ("PROPFIND", Method::Other),
    ];
    for (text, method) in cases {
        read(
            &format!("{text} / HTTP/1.1\r\nHost: h\r\n\r\n"),
            |request| {
                assert_eq!((request.method, request.method_text), (method, text));
            },
        );
    }
}

#[test]
fn framing_of_requests() {
    let cases = [
        ("", Framing::None),
        ("Content-Length: 0\r\n", Framing::None),
        (
            "Content-Length: 9223372036854775807\r\n",
            Framing::Length(9_223_372_036_854_775_807),
        ),
        ("Content-Length:\t 0007 \r\n", Framing::Length(7)),
        ("TRANSFER-ENCODING: CHUNKED\r\n", Framing::Chunked),
        // Dropped when forwarded, so that the length is read in one way everywhere.
        (
            "Transfer_Encoding: chunked\r\nContent-Length: 7\r\n",
            Framing::Length(7),
        ),
    ];
    for (fields, framing) in cases {
        read(&post(fields), |request| {
            assert_eq!(request.framing, framing, "{fields:?}")
        });
    }
}

#[test]
fn persistence() {
    let cases = [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: x, CLOSE\r\n", false),
        (
            "1.1",
            "Connection: keep-alive\r\nConnection: close\r\n",
            false,
        ),
        ("1.1", "Connection: closed\r\n", true),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
        ("1.0", "Connection: keep-alive, close\r\n", false),
        ("1.0", "Keep-Alive: 5\r\n", false),
    ];
    for (version, fields, keep_alive) in cases {
        read(
            &format!("GET / HTTP/{version}\r\nHost: a\r\n{fields}\r\n"),
            |request| {
                assert_eq!(request.keep_alive, keep_alive, "{version} {fields:?}");
                assert_eq!(request.version == Version::Http10, version == "1.0");
            },
        );
    }
}

#[test]
fn upgrades_and_expectations() {
    let upgrade = [
        (
            "1.1",
            "Connection: Upgrade\r\nUpgrade: websocket\r\n",
            Some("websocket"),
        ),
        (
            "1.1",
            "Upgrade: a/1, b\r\nConnection: keep-alive, upgrade\r\n",
            Some("a/1, b"),
        ),
        ("1.1", "Upgrade: websocket\r\n", None),
        ("1.1", "Connection: Upgrade\r\n", None),
        ("1.1", "Connection: Upgrade\r\nUpgrade: h2c\r\n", None),
        (
            "1.1",
            "Connection: Upgrade\r\nUpgrade: websocket, H2C\r\n",
            None,
        ),
        (
            "1.1",
            "Connection: Upgrade\r\nUpgrade: a\r\nUpgrade: b\r\n",
            None,
        ),
        ("1.1", "Connection: Upgrade\r\nUpgrade: a b\r\n", None),
        (
            "1.1",
            "Connection: Upgrade\r\nUpgrade: a\r\nContent-Length: 1\r\n",
            None,
        ),
        ("1.0", "Connection: Upgrade\r\nUpgrade: websocket\r\n", None),
    ];
    for (version, fields, expected) in upgrade {
        read(
            &format!("GET / HTTP/{version}\r\nHost: a\r\n{fields}\r\n"),
            |request| {
                assert_eq!(request.upgrade, expected, "{fields:?}");
            },
        );
    }
    let expect = [
        ("1.1", "Expect: 100-CONTINUE\r\nContent-Length: 1\r\n", true),
        (
            "1.1",
            "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n",
            true,
        ),
        ("1.1", "Expect: 100-continue\r\n", false),
        (
            "1.0",
            "Expect: 100-continue\r\nContent-Length: 1\r\n",
            false,
        ),
        ("1.0", "Expect: anything\r\nContent-Length: 1\r\n", false),
    ];
    for (version, fields, expected) in expect {
        read(
            &format!("POST / HTTP/{version}\r\nHost: a\r\n{fields}\r\n"),
            |request| {
                assert_eq!(request.expect_continue, expected, "{fields:?}");
            },
        );
    }
}

#[test]
fn max_forwards_counts_for_options_only() {
    let cases = [
        ("OPTIONS", "0", Some(0)),
        ("OPTIONS", "7", Some(7)),
        ("OPTIONS", "99999999999", Some(u32::MAX)),
        ("OPTIONS", "x", None),
        ("GET", "0", None),
    ];
    for (method, value, expected) in cases {
        read(
            &format!("{method} / HTTP/1.1\r\nHost: a\r\nMax-Forwards: {value}\r\n\r\n"),
            |request| {
                assert_eq!(request.max_forwards, expected, "{method} {value}");
            },
        );
    }
}
