use super::super::key::{write, write_query};
use super::super::{KeyRule, QueryRule};
use super::{with_request, with_request_head};

fn names(names: &[&str]) -> Box<[Box<str>]> {
    names.iter().map(|name| Box::from(*name)).collect()
}

fn key(rule: &KeyRule, head: &str, https: bool) -> String {
    let mut out = Vec::new();
    with_request_head(head.as_bytes(), |request| {
        write(rule, request, https, &mut out)
    });
    String::from_utf8(out).unwrap()
}

#[test]
fn keys_begin_like_urls() {
    let all = KeyRule::default();
    let no_scheme = KeyRule {
        scheme: false,
        ..all.clone()
    };
    let no_host = KeyRule {
        host: false,
        ..all.clone()
    };
    let path = KeyRule {
        scheme: false,
        host: false,
        query: QueryRule::None,
        ..all.clone()
    };
    let sorted = KeyRule {
        sorts_query: true,
        ..all.clone()
    };
    let cases: &[(&KeyRule, &str, &str, bool, &str)] = &[
        (
            &all,
            "/a/B?c=D",
            "Ex.Ample",
            false,
            "http://ex.ample/a/B?c=D",
        ),
        (&all, "/", "ex:80", false, "http://ex/"),
        (&all, "/", "ex:80", true, "https://ex:80/"),
        (&all, "/", "ex:443", true, "https://ex/"),
        (&all, "/", "ex:443", false, "http://ex:443/"),
        (&all, "/", "ex:", false, "http://ex/"),
        (&all, "/", "[::1]:80", false, "http://[::1]/"),
        (&all, "/", "[::1]", false, "http://[::1]/"),
        (&all, "http://Other:80?q", "ex", false, "http://other/?q"),
        (&all, "/%41/../b//", "ex", false, "http://ex/%41/../b//"),
        (&all, "/a?", "ex", false, "http://ex/a?"),
        (&all, "/a??", "ex", false, "http://ex/a??"),
        (&all, "/a", "*", false, "http://*/a"),
        (&no_scheme, "/a?b", "ex:443", true, "*://ex/a?b"),
        (&no_host, "/a?b", "ex", true, "https://[*]/a?b"),
        (&path, "/a?b", "ex", false, "*://[*]/a"),
        (&path, "/a?", "ex", false, "*://[*]/a"),
        (
            &sorted,
            "/a?b=2&a=1&b=1&&A",
            "ex",
            false,
            "http://ex/a?&A&a=1&b=2&b=1",
        ),
        (&sorted, "/a?", "ex", false, "http://ex/a?"),
    ];
    for (rule, target, host, https, expected) in cases {
        let head = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_eq!(key(rule, &head, *https), *expected, "{target} {host}");
    }
    let bare = key(&all, "GET /a HTTP/1.0\r\n\r\n", false);
    assert_eq!(bare, "http:///a", "HTTP/1.0 has no Host");
}

#[test]
fn parameters_that_count_stay_as_they_came() {
    let only = QueryRule::Only(names(&["id", "p*"]));
    let except = QueryRule::Except(names(&["utm_*", "fbclid"]));
    let everything = QueryRule::Except(names(&["*"]));
    let cases: &[(&QueryRule, &str, &str)] = &[
        (&QueryRule::All, "", ""),
        (&QueryRule::All, "b=2&&a=%20&a", "?b=2&&a=%20&a"),
        (&QueryRule::None, "a=1", ""),
        (&only, "x=1&id=2&page=3&p&id=%31", "?id=2&page=3&p&id=%31"),
        (&only, "x=1&ID=2&%69d=3&idx=4", ""),
        (&only, "id", "?id"),
        (&only, "", ""),
        (&except, "utm_source=x&a=1&fbclid=y&utm_&b", "?a=1&b"),
        (
            &except,
            "%75tm_x=1&xutm_=2&fbclids",
            "?%75tm_x=1&xutm_=2&fbclids",
        ),
        (&except, "utm_a", ""),
        (&except, "utm_a&", "?"),
        (&everything, "a=1&b", ""),
    ];
    for (rule, query, expected) in cases {
        let mut out = Vec::new();
        write_query(rule, query, &mut out);
        assert_eq!(String::from_utf8_lossy(&out), *expected, "{rule:?} {query}");
    }
}

#[test]
fn fields_and_cookies_are_parts() {
    let rule = KeyRule {
        fields: names(&["x-a", "host"]),
        cookies: names(&["s"]),
        ..KeyRule::default()
    };
    let cases: &[(&[&str], &str)] = &[
        (&[], " x-a host=9:a.example cookie:s"),
        (&["X-A: 1"], " x-a=1:1 host=9:a.example cookie:s"),
        (&["X-A:"], " x-a=0: host=9:a.example cookie:s"),
        (
            &["X-A: 1, 2", "x-a:3"],
            " x-a=6:1, 2,3 host=9:a.example cookie:s",
        ),
        (
            &["Cookie: a=b; s=c=d; S=x"],
            " x-a host=9:a.example cookie:s=3:c=d",
        ),
        (
            &["Cookie: s=1;s = 2", "Cookie: s="],
            " x-a host=9:a.example cookie:s=5:1; 2;",
        ),
        (
            &["Cookie: s; ss=1; t=s=1"],
            " x-a host=9:a.example cookie:s",
        ),
        // A value cannot pass for what follows it.
        (
            &["X-A: 1 host=1:x cookie:s=1:y"],
            " x-a=23:1 host=1:x cookie:s=1:y host=9:a.example cookie:s",
        ),
        // RFC 9110 section 7.6.1: the backend does not see it.
        (
            &["Connection: x-a", "X-A: 1"],
            " x-a host=9:a.example cookie:s",
        ),
        (&["X_A: 1"], " x-a host=9:a.example cookie:s"),
    ];
    for (fields, expected) in cases {
        let mut out = Vec::new();
        with_request("/p", fields, |request| {
            write(&rule, request, false, &mut out)
        });
        let expected = format!("http://a.example/p{expected}");
        assert_eq!(String::from_utf8_lossy(&out), expected, "{fields:?}");
    }
}
