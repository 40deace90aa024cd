use crate::h1::Limits;
use crate::h1::head::{Slots, parse_request};

use super::*;

const TABLE: &[&str] = &[
    /* 0 */ "a.example.org /",
    /* 1 */ "a.example.org /api",
    /* 2 */ "a.example.org =/api/exact",
    /* 3 */ "a.example.org /api/deep/",
    /* 4 */ "*.example.org /",
    /* 5 */ "*.b.example.org /only",
    /* 6 */ "* /any",
    /* 7 */ "* /posts POST",
    /* 8 */ "* /posts GET PURGE",
    /* 9 */ "C.Example.ORG. /",
    /* 10 */ "[::1] /",
    /* 11 */ "* =/%7euser",
    /* 12 */ "* =/a//./b",
];

#[test]
fn lookups() {
    let router = Router::build(rules(TABLE));
    let cases: &[(&str, &str, Result<u32, Miss>)] = &[
        ("a.example.org", "/", Ok(0)),
        ("A.EXAMPLE.org:8080", "/x", Ok(0)),
        ("a.example.org.", "/api", Ok(1)),
        ("a.example.org.:80", "/api/", Ok(1)),
        ("a.example.org", "/api/x/y", Ok(1)),
        ("a.example.org", "/apix", Ok(0)),
        ("a.example.org", "/api/exact", Ok(2)),
        ("a.example.org", "/api/exact/", Ok(1)),
        ("a.example.org", "/api/deep", Ok(1)),
        ("a.example.org", "/api/deep/", Ok(3)),
        ("a.example.org", "/api/deep/x", Ok(3)),
        ("b.example.org", "/", Ok(4)),
        ("x.b.example.org", "/only/x", Ok(5)),
        ("x.b.example.org", "/other", Ok(4)),
        ("b.example.org", "/only", Ok(4)),
        ("example.org", "/", Err(Miss::NoRoute)),
        (".example.org", "/", Err(Miss::NoRoute)),
        ("badexample.org", "/", Err(Miss::NoRoute)),
        ("example.org", "/any/x", Ok(6)),
        ("", "/any", Ok(6)),
        ("c.example.org", "/", Ok(9)),
        ("[::1]:80", "/", Ok(10)),
        ("[::1]", "/", Ok(10)),
        ("h", "/posts", Ok(8)),
        ("h", "/~user", Ok(11)),
        ("h", "/%7Euser", Ok(11)),
        ("h", "/public/../any", Ok(6)),
        ("h", "/public/%2e%2E/any/x", Ok(6)),
        ("h", "/./any", Ok(6)),
        ("h", "/%61ny", Ok(6)),
        ("h", "/any/..", Err(Miss::NoRoute)),
        ("h", "/public/..%2fany", Ok(6)),
        ("h", "//any", Ok(6)),
        ("h", "/x/..//any/x", Ok(6)),
        ("h", "/any%2Fx", Ok(6)),
        ("h", "/any%2f..%2fother", Err(Miss::NoRoute)),
        ("h", "/any%5cx", Err(Miss::NoRoute)),
        ("h", "/any\\x", Err(Miss::NoRoute)),
        ("h", "/a/b", Ok(12)),
        ("h", "/a%2fb", Ok(12)),
    ];
    for (host, path, expected) in cases {
        let found = find(&router, "GET", host, path);
        assert_eq!(found, expected.map(RouteId), "{host} {path}");
    }
}

#[test]
fn methods_are_tried_in_order_and_miss_as_405() {
    let router = Router::build(rules(TABLE));
    let lookup = |method| find(&router, method, "h", "/posts/1");
    assert_eq!(lookup("POST"), Ok(RouteId(7)));
    assert_eq!(lookup("GET"), Ok(RouteId(8)));
    assert_eq!(lookup("PURGE"), Ok(RouteId(8)));
    assert_eq!(lookup("purge"), Err(Miss::Method));
    assert_eq!(lookup("PUT"), Err(Miss::Method));
    let mut allow = String::new();
    router.allow(&request("PUT", "h", "/posts/1", &[]), CLIENT, &mut allow);
    assert_eq!(allow, "POST, GET, PURGE");
}

#[test]
fn a_method_that_misses_falls_through_to_less_specific_paths_and_hosts() {
    let table = [
        "a =/x POST",
        "a /x POST",
        "a / POST",
        "*.a / POST",
        "* /x PURGE",
        "* /",
    ];
    let router = Router::build(rules(&table));
    assert_eq!(find(&router, "GET", "a", "/x"), Ok(RouteId(5)));
    assert_eq!(find(&router, "PURGE", "a", "/x"), Ok(RouteId(4)));
}

#[test]
fn one_catch_all_takes_everything() {
    for path in ["/", ""] {
        let router = Router::build(rules(&[format!("* {path}")]));
        assert!(router.catch_all.is_some());
        assert_eq!(find(&router, "X", "", "*"), Ok(RouteId(0)));
    }
    for table in [
        &["* / GET"][..],
        &["a /"],
        &["* =/"],
        &["* /a"],
        &["* /", "* /"],
        &[],
    ] {
        assert_eq!(Router::build(rules(table)).catch_all, None, "{table:?}");
    }
    for table in ["* / ?debug", "* / x-beta:", "* / @10"] {
        assert_eq!(Router::build(rules(&[table])).catch_all, None, "{table}");
    }
    assert!(Router::build(rules(&["* / !-5"])).catch_all.is_some());
    let empty = Router::default();
    assert_eq!(find(&empty, "GET", "a", "/"), Err(Miss::NoRoute));
}

#[test]
fn long_hosts_and_paths_are_bounded() {
    let long = "a".repeat(256);
    let router = Router::build(rules(&["*.a /", &*format!("{long} /"), "* /end"]));
    assert_eq!(find(&router, "GET", &long, "/x"), Err(Miss::NoRoute));
    let path = format!("{}/../../end", "/%61".repeat(5000));
    let path = format!("{}{}", path, "/..".repeat(5000));
    assert_eq!(
        find(&router, "GET", "h", &format!("{path}/end")),
        Ok(RouteId(2))
    );
}

/// One rule with a condition before one without, and what a head brings.
#[test]
fn conditions() {
    let cases: &[(&str, &str, bool)] = &[
        ("x-beta:", "GET / HTTP/1.1\r\nX-Beta: 1", true),
        ("x-beta:", "GET / HTTP/1.1\r\nX-BETA:", true),
        ("x-beta:", "GET / HTTP/1.1\r\nX-Bet: 1", false),
        ("x-beta:", "GET / HTTP/1.1", false),
        ("x-beta:1", "GET / HTTP/1.1\r\nX-Beta: \t 1 \t", true),
        ("x-beta:1", "GET / HTTP/1.1\r\nX-Beta: 2\r\nx-beta: 1", true),
        ("x-beta:1", "GET / HTTP/1.1\r\nX-Beta: 2, 1", false),
        ("x-beta:a", "GET / HTTP/1.1\r\nX-Beta: A", false),
        ("x-beta:1", "GET / HTTP/1.1\r\nX-Beta:", false),
        ("host:h", "GET / HTTP/1.1", true),
        ("?debug", "GET /?debug HTTP/1.1", true),
        ("?debug", "GET /?a=1&debug=&c HTTP/1.1", true),
        ("?debug", "GET /?debug=1 HTTP/1.1", true),
        ("?debug", "GET http://h?debug HTTP/1.1", true),
        ("?debug", "GET /debug HTTP/1.1", false),
        ("?debug", "GET /?debugs HTTP/1.1", false),
        ("?debug", "GET /?Debug HTTP/1.1", false),
        ("?debug", "GET /?%64ebug HTTP/1.1", false),
        ("?debug", "GET /?a;debug HTTP/1.1", false),
        ("?debug", "GET /?a=debug HTTP/1.1", false),
        ("?debug", "GET /??debug HTTP/1.1", false),
        ("?v=2", "GET /?v=1&v=2 HTTP/1.1", true),
        ("?v=2", "GET /?v=2=2 HTTP/1.1", false),
        ("?v=2", "GET /?v=%32 HTTP/1.1", false),
        ("?v=2", "GET /?v HTTP/1.1", false),
        ("?v=2=2", "GET /?v=2=2 HTTP/1.1", true),
        ("?v=", "GET /?v HTTP/1.1", true),
        ("?v=", "GET /?v=1 HTTP/1.1", false),
        ("@10", "GET / HTTP/1.1", true),
        ("@11", "GET / HTTP/1.1", false),
        ("@11 @10", "GET / HTTP/1.1", true),
        ("?a ?b", "GET /?b&a HTTP/1.1", true),
        ("?a ?b", "GET /?b HTTP/1.1", false),
        ("x-beta: ?a @10", "GET /?a HTTP/1.1\r\nX-Beta: 1", true),
        ("x-beta: ?a @11", "GET /?a HTTP/1.1\r\nX-Beta: 1", false),
    ];
    for (conditions, head, expected) in cases {
        let router = Router::build(rules(&[&*format!("h / {conditions}"), "* /"]));
        let head = format!("{head}\r\nHost: h\r\n\r\n");
        let mut slots = Slots::new();
        let request = parse_request(head.as_bytes(), &Limits::DEFAULT, &mut slots);
        let request = request.unwrap().unwrap();
        let found = router.lookup(&request, CLIENT);
        assert_eq!(found == Ok(RouteId(0)), *expected, "{conditions}: {head}");
        let mapped = Ipv4Addr::new(10, 1, 2, 3).to_ipv6_mapped();
        assert_eq!(router.lookup(&request, mapped.into()), found, "{head}");
    }
}

#[test]
fn a_rule_whose_conditions_fail_allows_no_method() {
    let table = ["* /x GET ?a", "* /x POST @11", "* /x PURGE", "* /y GET ?a"];
    let router = Router::build(rules(&table));
    let cases: &[(&str, &str, Result<u32, Miss>, &str)] = &[
        ("GET", "/x?a", Ok(0), "GET, PURGE"),
        ("GET", "/x", Err(Miss::Method), "PURGE"),
        ("POST", "/x", Err(Miss::Method), "PURGE"),
        ("POST", "/y?a", Err(Miss::Method), "GET"),
        ("POST", "/y", Err(Miss::NoRoute), ""),
        ("GET", "/y", Err(Miss::NoRoute), ""),
    ];
    for (method, target, expected, expected_allow) in cases {
        let found = find(&router, method, "h", target);
        assert_eq!(found, expected.map(RouteId), "{method} {target}");
        let mut allow = String::new();
        router.allow(&request(method, "h", target, &[]), CLIENT, &mut allow);
        assert_eq!(allow, *expected_allow, "{method} {target}");
    }
}

#[test]
fn a_higher_priority_goes_before_what_is_more_specific() {
    let table = [
        /* 0 */ "a =/x",
        /* 1 */ "a /x",
        /* 2 */ "* / ?maintenance !10",
        /* 3 */ "*.a /x POST !5",
        /* 4 */ "* / POST !5",
        /* 5 */ "* / !-1",
        /* 6 */ "a /x/low GET !-2",
        /* 7 */ "a /y !-1",
    ];
    let router = Router::build(rules(&table));
    let cases = [
        ("GET", "a", "/x", 0),
        ("GET", "a", "/x/z", 1),
        ("GET", "a", "/x?maintenance", 2),
        ("POST", "a", "/x?maintenance", 2),
        ("POST", "a", "/x", 4),
        ("POST", "b.a", "/x", 3),
        ("POST", "b.a", "/", 4),
        ("GET", "b.a", "/x", 5),
        ("GET", "a", "/x/low", 1),
        ("GET", "a", "/y", 7),
        ("GET", "a", "/", 5),
    ];
    for (method, host, target, expected) in cases {
        let found = find(&router, method, host, target);
        assert_eq!(found, Ok(RouteId(expected)), "{method} {host}{target}");
    }
}
