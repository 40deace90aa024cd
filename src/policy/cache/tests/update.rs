use super::super::update::{has_tag, stands_in_not_modified, write};
use super::with_response;

fn updated(stored: &[&str], fresh: &[&str]) -> String {
    let mut out = Vec::new();
    with_response(200, stored, |stored| {
        with_response(304, fresh, |fresh| write(stored, fresh, &mut out));
    });
    String::from_utf8(out).unwrap()
}

/// A section, the stored fields, those of the 304, and the result.
type Update = (
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
    &'static [&'static str],
);

const UPDATES: &[Update] = &[
    ("3.2: kept", &["A: 1"], &[], &["A: 1"]),
    (
        "3.2: replaced",
        &["A: 1", "B: 1"],
        &["a: 2"],
        &["B: 1", "a: 2"],
    ),
    ("3.2: added", &["A: 1"], &["B: 2"], &["A: 1", "B: 2"]),
    (
        "3.2: all lines",
        &["A: 1", "A: 2"],
        &["A: 3", "A: 4", "A: 5"],
        &["A: 3", "A: 4", "A: 5"],
    ),
    (
        "3.2",
        &[
            "Cache-Control: max-age=1",
            "Content-Type: text/plain",
            "Content-Foo: 1",
        ],
        &[
            "Content-Type: text/html",
            "Content-Foo: 2",
            "Cache-Control: max-age=9",
        ],
        &[
            "Content-Type: text/html",
            "Content-Foo: 2",
            "Cache-Control: max-age=9",
        ],
    ),
    (
        "3.2: the body's",
        &["Content-Encoding: br"],
        &["Content-Encoding: gzip"],
        &["Content-Encoding: br"],
    ),
    (
        "3.2: the body's",
        &[],
        &["Content-Range: bytes 0-1/2", "Content-Length: 10"],
        &[],
    ),
    (
        "3.1: hop by hop",
        &["A: 1"],
        &["Connection: a, close", "A: 2", "Keep-Alive: x"],
        &["A: 1"],
    ),
    (
        "3.1: hop by hop",
        &[],
        &["Upgrade: x", "Proxy-Authenticate: y", "TE: z"],
        &[],
    ),
    ("9110 7.6.3", &["A: 1"], &["Via: 1.1 x"], &["A: 1"]),
    ("5.1: of the 304", &["Age: 9", "Date: x"], &[], &[]),
    (
        "5.1: of the 304",
        &["Age: 9", "Date: x"],
        &["Date: y", "Age: 1"],
        &["Date: y", "Age: 1"],
    ),
    (
        "4.3.4: the same tag",
        &["ETag: \"a\""],
        &["ETag: W/\"a\""],
        &["ETag: W/\"a\""],
    ),
    (
        "4.3.4: another tag",
        &["ETag: \"a\"", "B: 1"],
        &["ETag: \"b\"", "B: 2"],
        &["ETag: \"a\"", "B: 2"],
    ),
    (
        "4.3.4: its first tag",
        &["A: 1"],
        &["ETag: \"b\""],
        &["A: 1", "ETag: \"b\""],
    ),
];

#[test]
fn fields_of_a_304_replace_those_of_the_same_name() {
    for (section, stored, fresh, expected) in UPDATES {
        let expected: String = expected.iter().map(|line| format!("{line}\r\n")).collect();
        let expected = format!("HTTP/1.1 200 So\r\n{expected}\r\n");
        assert_eq!(
            updated(stored, fresh),
            expected,
            "{section}: {stored:?} {fresh:?}"
        );
    }
}

#[test]
fn what_stands_in_a_304() {
    for (name, expected) in [
        // RFC 9110 section 15.4.5.
        ("Content-Location", true),
        ("Date", true),
        ("ETag", true),
        ("Vary", true),
        ("Cache-Control", true),
        ("Expires", true),
        ("Last-Modified", true),
        ("Content-Security-Policy", true),
        ("Set-Cookie", true),
        ("content-type", false),
        ("Content-Length", false),
        ("Content-Encoding", false),
        ("Content-Language", false),
        ("Content-Range", false),
        ("Content-MD5", false),
    ] {
        assert_eq!(stands_in_not_modified(name), expected, "{name}");
    }
}

#[test]
fn tags_are_found_whole() {
    let cases: &[(&str, &str, bool)] = &[
        ("Cache-Tag: a, b,c", "a", true),
        ("Cache-Tag: a, b,c", "b", true),
        ("Cache-Tag: a, b,c", "c", true),
        ("cache-tag:a", "a", true),
        ("Surrogate-Key: a b\tc", "c", true),
        ("Cache-Tag: a\r\nX: y\r\nCache-Tag: b", "b", true),
        ("Cache-Tag: abc", "ab", false),
        ("Cache-Tag: abc", "bc", false),
        ("Cache-Tag: A", "a", false),
        ("Cache-Tag: a, b", "a, b", false),
        ("Cache-Tag: ,", "", false),
        ("X-Cache-Tag: a", "a", false),
        ("X: Cache-Tag: a", "a", false),
    ];
    for (fields, tag, expected) in cases {
        let head = format!("HTTP/1.1 200 Cache-Tag:a\r\n{fields}\r\n\r\n");
        assert_eq!(
            has_tag(head.as_bytes(), tag),
            *expected,
            "{fields:?} {tag:?}"
        );
    }
}
