use super::super::vary::{Anything, names, write};
use super::{with_request, with_response};

#[test]
fn names_are_one_list() {
    let many = (0..33).map(|at| format!("a{at}")).collect::<Vec<_>>();
    let (many, fewer) = (many.join(","), many[1..].join(","));
    let cases: &[(&str, &[&str], Result<&str, Anything>)] = &[
        ("4.1: none", &[], Ok("")),
        ("9110 12.5.5", &["Foo"], Ok("foo")),
        ("9110 12.5.5", &["Foo, Bar ,baz"], Ok("bar,baz,foo")),
        ("9110 12.5.5: once", &["b, A, B", "a"], Ok("a,b")),
        ("9110 5.6.1: empty members", &[", ,a,", ""], Ok("a")),
        ("4.1: any", &["*"], Err(Anything)),
        ("4.1: any", &["*, *"], Err(Anything)),
        ("4.1: any", &["", "*"], Err(Anything)),
        ("4.1: any", &[", *"], Err(Anything)),
        ("4.1: any", &["*, Foo"], Err(Anything)),
        ("4.1: any", &["Foo", "*"], Err(Anything)),
        ("unreadable", &["Foo Bar"], Err(Anything)),
        ("unreadable", &["Foo; Bar"], Err(Anything)),
        ("unreadable", &["\"Foo\""], Err(Anything)),
        ("unreadable", &["F\u{e9}"], Err(Anything)),
        (
            "not the client's",
            &["Accept, X-Forwarded-Proto"],
            Err(Anything),
        ),
        ("not the client's", &["forwarded"], Err(Anything)),
        ("too many", &[&many], Err(Anything)),
    ];
    for (section, values, expected) in cases {
        let fields: Vec<_> = values
            .iter()
            .map(|value| format!("Vary: {value}"))
            .collect();
        let found = with_response(200, &fields, names);
        assert_eq!(
            found.as_deref().map_err(|_| Anything),
            *expected,
            "{section}: {values:?}"
        );
    }
    let most = with_response(200, &[format!("Vary: {fewer}")], names);
    assert_eq!(most.unwrap().split(',').count(), 32);
}

fn values(names: &str, fields: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    with_request("/", fields, |request| write(names, request, &mut out));
    out
}

/// A section, the names, the fields of two requests, and whether they are the same.
type Pair = (
    &'static str,
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
    bool,
);

const PAIRS: &[Pair] = &[
    ("4.1: nothing counts", "", &["A: 1"], &["A: 2"], true),
    (
        "4.1: others",
        "a",
        &["A: 1", "B: 1"],
        &["A: 1", "B: 2"],
        true,
    ),
    ("4.1", "a", &["A: 1"], &["A: 2"], false),
    ("4.1", "a,b", &["A: 1", "B: 2"], &["B: 2", "A: 1"], true),
    ("4.1: case of values", "a", &["A: x"], &["A: X"], false),
    ("4.1: missing", "a", &[], &["B: 1"], true),
    ("4.1: missing", "a", &[], &["A: 1"], false),
    ("4.1: missing is not empty", "a", &[], &["A:"], false),
    ("4.1: lines", "a", &["A: 1, 2"], &["A: 1", "A: 2"], true),
    (
        "4.1: lines",
        "a",
        &["A: 1,2", "A: 3"],
        &["A: 1", "A: 2,3"],
        true,
    ),
    (
        "4.1: order",
        "a",
        &["A: 1", "A: 2"],
        &["A: 2", "A: 1"],
        false,
    ),
    ("4.1: white space", "a", &["A: 1,2"], &["A:  1 ,\t2 "], true),
    ("4.1: white space", "a", &["A: 1 2"], &["A: 12"], false),
    (
        "4.1: strings",
        "a",
        &["A: \"1, 2\""],
        &["A: \"1,2\""],
        false,
    ),
    (
        "4.1: strings",
        "a",
        &["A: \"\\\", 1\""],
        &["A: \"\\\",1\""],
        false,
    ),
    (
        "4.1: behind strings",
        "a",
        &["A: \"1\" , 2"],
        &["A: \"1\",2"],
        true,
    ),
    (
        "6265 4.2: no list",
        "cookie",
        &["Cookie: a=b, c"],
        &["Cookie: a=b,c"],
        false,
    ),
    ("borders", "a,b", &["A: x", "B:"], &["A:", "B: x"], false),
    ("borders", "a,b", &["A: x"], &["B: x"], false),
    (
        "9110 12.5.4: case",
        "accept-language",
        &["Accept-Language: en, de"],
        &["Accept-Language: eN,De"],
        true,
    ),
    (
        "9110 12.5.4: order",
        "accept-language",
        &["Accept-Language: en, de"],
        &["Accept-Language: de, en"],
        false,
    ),
    ("9110 7.6.1", "a", &["Connection: a", "A: 1"], &[], true),
    (
        "not forwarded",
        "x_real_ip",
        &["X_Real_IP: 1"],
        &["X_Real_IP: 2"],
        true,
    ),
];

#[test]
fn requests_that_mean_the_same_to_a_response() {
    for (section, names, one, other, same) in PAIRS {
        let found = values(names, one) == values(names, other);
        assert_eq!(found, *same, "{section}: {one:?} {other:?}");
    }
    let host = |host: &str| {
        let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let mut out = Vec::new();
        super::with_request_head(head.as_bytes(), |request| write("host", request, &mut out));
        out
    };
    assert_eq!(host("a"), host("A"), "9110 4.2.3");
    assert_ne!(host("a"), host("b"));
}

#[test]
fn codings_are_a_set() {
    let cases: &[(&str, &str, bool)] = &[
        ("gzip, br", "br,gzip", true),
        ("gzip, br", "GZIP , Br;q=0.5", true),
        ("gzip", "x-gzip", true),
        ("gzip", "gzip;q=1.000, br;q=0", true),
        ("gzip", "gzip, br;q=0.000", true),
        ("gzip", "gzip, br;q=0.001", false),
        ("gzip", "gzip, zstd", false),
        ("gzip", "gzip, deflate", false),
        ("", "identity", true),
        ("", "gzip;q=0", true),
        ("", "identity;q=0", false),
        ("gzip", "gzip, identity;q=0.5", true),
        ("gzip", "gzip, identity;q=0", false),
        ("gzip, identity;q=0", "gzip, *;q=0", true),
        ("*", "gzip, br, zstd, deflate, *", true),
        ("*", "gzip, br, zstd, deflate", false),
        ("*", "*, gzip;q=0", false),
        ("*;q=0", "identity;q=0", true),
        // What nobody knows might be what the response has.
        ("gzip, dcb", "gzip", false),
        ("gzip, dcb", "gzip,dcb", true),
        ("gzip, dcb", "dcb, gzip", false),
        ("gzip;q=2", "gzip", false),
        ("gzip;q=", "gzip", false),
        ("gzip;q=1.001", "gzip", false),
        ("gzip;q=0.1234", "gzip", false),
        ("gzip;x=1", "gzip", false),
        ("gzip, gzip;q=0", "gzip", false),
        ("gzip, gzip;q=0", "br", false),
    ];
    for (one, other, same) in cases {
        let field = |value: &str| format!("Accept-Encoding: {value}");
        let one = values("accept-encoding", &[&field(one)]);
        let other = values("accept-encoding", &[&field(other)]);
        assert_eq!(one == other, *same, "9110 12.5.3: {one:?} {other:?}");
    }
    let missing = values("accept-encoding", &[]);
    assert_ne!(missing, values("accept-encoding", &["Accept-Encoding:"]));
    let lines = ["Accept-Encoding: gzip", "Accept-Encoding: br"];
    assert_eq!(
        values("accept-encoding", &lines),
        values("accept-encoding", &["Accept-Encoding: br, gzip"])
    );
}
