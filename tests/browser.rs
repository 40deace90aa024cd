//! Pages in a real browser: what it lets them do, and what they get to see, given the proxy's responses.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

mod support;

use std::net::{IpAddr, Ipv4Addr};

use support::chromium::{seen, serve};
use support::compression::routes;
use support::load::Logged;
use support::site::Site;

/// Same site, which cookies go by; other origins, which CORS goes by.
const APP: &str = "app.example.test";
const API: &str = "api.example.test";
const STRANGER: &str = "stranger.test";

/// `{port}` of the pages; `{own}` is a backend with CORS fields of its own.
const CORS: &str = r#"
[[clusters]]
name = "main"
backends = ["http://{backend}"]
[[clusters]]
name = "own"
backends = ["http://{own}"]
[[clusters]]
name = "down"
backends = ["http://127.0.0.1:1"]

[[routes]]
path_prefix = "/none/"
cluster = "main"

[[routes]]
path_prefix = "/any/"
cluster = "main"
[routes.cors]
origins = ["*"]

[[routes]]
path_prefix = "/delay/"
cluster = "main"
[routes.cors]
origins = ["*"]

[[routes]]
path_prefix = "/listed/"
cluster = "main"
[routes.cors]
origins = ["https://elsewhere.test", "http://app.example.test:{pages}"]
methods = ["GET", "HEAD", "POST", "PUT"]
headers = ["X-Custom"]
exposed_headers = ["X-Seen"]
max_age = "1h"
[routes.headers]
response_set = ["X-Seen: seen", "X-Hidden: hidden"]

[[routes]]
path_prefix = "/brief/"
cluster = "main"
[routes.cors]
origins = ["http://app.example.test:{pages}"]
methods = ["PUT"]
max_age = "2s"

[[routes]]
path_prefix = "/suffix/"
cluster = "main"
[routes.cors]
origins = ["http://*.example.test:{pages}"]

[[routes]]
path_prefix = "/refused/"
cluster = "main"
[routes.cors]
origins = ["https://elsewhere.test"]

[[routes]]
path_prefix = "/credentials/"
cluster = "main"
[routes.cors]
origins = ["http://app.example.test:{pages}"]
methods = ["GET", "PUT"]
credentials = true

[[routes]]
path_prefix = "/own/"
cluster = "own"
[routes.cors]
origins = ["http://app.example.test:{pages}"]
exposed_headers = ["X-Own"]

[[routes]]
name = "limited"
path_prefix = "/limited/"
cluster = "main"
[routes.cors]
origins = ["http://app.example.test:{pages}"]
methods = ["GET", "PUT"]
exposed_headers = ["Retry-After", "RateLimit", "RateLimit-Policy"]
[routes.rate_limit]
requests_per_minute = 1

[[routes]]
path_prefix = "/down/"
cluster = "down"
[routes.cors]
origins = ["*"]
"#;

const FRIEND_SEES: &str = "
any origin: 200 GET /any/x HTTP/1.1
listed origin: 200 Origin: http://app.example.test:{pages}
suffix: 200 GET /suffix/x HTTP/1.1
refused origin: TypeError
no rules: TypeError
put: 200 PUT /listed/x HTTP/1.1
put's field: 200 X-Custom: 1
put's body: 200 body: 5 bytes
method that is not listed: TypeError
field that is not listed: TypeError
any field: 200 X-Other: 1
method that is not listed, any origin: TypeError
cookie: 200 Cookie: who=me
cookie, not asked for: 200 without
cookie and put: 200 Cookie: who=me
cookie, any origin: TypeError
cookie, without credentials: TypeError
exposed: 200 seen, null
backend's own: 200 own
within the limit: 200 null, \"limited.rate_limit\";r=0;t=60, \"limited.rate_limit\";q=1;w=60
beyond the limit: 429 true true
beyond the limit, with a preflight: 429
no backend: 502
asked again at once: 200
asked again at once: 200
asked again at once: 200
asked again at once: 200
longer than a brief answer is kept: 200
asked again later: 200
asked again later: 200
end: app.example.test
";

const STRANGER_SEES: &str = "
any origin: 200 GET /any/x HTTP/1.1
any field: 200 X-Other: 1
listed origin: TypeError
suffix: TypeError
credentials: TypeError
put: TypeError
end: stranger.test
";

/// The same lines, in any order: what goes on at one time may end in any.
fn check_seen(seen: &str, expected: &str) {
    let lines = |text: &str| {
        let mut lines: Vec<String> = text.trim().lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let (seen, expected) = (lines(seen), lines(expected));
    let lacks = |from: &[String], line: &&String| !from.contains(*line);
    let extra: Vec<_> = seen.iter().filter(|line| lacks(&expected, line)).collect();
    let missing: Vec<_> = expected.iter().filter(|line| lacks(&seen, line)).collect();
    assert!(seen == expected, "seen {extra:#?} instead of {missing:#?}");
}

#[test]
fn pages_of_other_origins_see_what_cors_lets_them() {
    let pages = serve(include_str!("browser/cors.html"), "").port();
    let own = serve(
        "own",
        "Access-Control-Allow-Origin: https://elsewhere.test\r\nX-Own: own\r\n\
         Access-Control-Allow-Credentials: true\r\n",
    );
    let config = CORS
        .replace("{pages}", &pages.to_string())
        .replace("{own}", &own.to_string());
    let mut site = Site::start(&config);
    let visit = |host: &str| {
        let hosts = [
            (API, site.proxy.address.ip()),
            (host, IpAddr::V4(Ipv4Addr::LOCALHOST)),
        ];
        let proxy = format!("http://{API}:{}", site.proxy.address.port());
        seen(&format!("http://{host}:{pages}/?{proxy}"), &hosts)
    };
    for (host, sees) in [(APP, FRIEND_SEES), (STRANGER, STRANGER_SEES)] {
        let sees = sees.replace("{pages}", &pages.to_string());
        check_seen(&visit(host), &sees);
    }
    let came = site.mock.logged();
    let count = |method: &str, target: &str| {
        let same = |logged: &&Logged| logged.method == method && logged.target == target;
        came.iter().filter(same).count()
    };
    // Not sent, or refused before a backend.
    assert_eq!(count("DELETE", "/listed/x"), 0);
    assert_eq!(count("GET", "/refused/x"), 0);
    assert_eq!(count("PUT", "/any/x"), 0);
    assert!(came.iter().all(|logged| logged.method != "OPTIONS"));
    // What is sent without asking before: the answer alone is kept from the page.
    assert_eq!(count("GET", "/none/x"), 1);
    assert_eq!(count("PUT", "/listed/x"), 3);
    assert_eq!(count("PUT", "/listed/kept"), 3);
    check_preflights(&mut site);
    site.stop();
}

/// How often the browser asked whether it may, by path.
fn check_preflights(site: &mut Site) {
    let mut preflights = |path: &str| {
        site.proxy.wait_for_line(0, path).unwrap();
        let path = format!("\"{path}\"");
        let lines = site.proxy.logged().iter();
        lines
            .filter(|line| line.contains("\"OPTIONS\"") && line.contains(&path))
            .count()
    };
    assert_eq!(preflights("/brief/kept"), 2);
    assert_eq!(preflights("/listed/kept"), 1);
}

const COMPRESSED_SEES: &str = "
/any/bytes/200000: 200 zstd 200000 true
/any/chunked/3000000?size=1000: 200 zstd 3000000 true
/gzip/bytes/200000: 200 gzip 200000 true
/gzip/chunked/3000000?size=1000: 200 gzip 3000000 true
/br/bytes/200000: 200 br 200000 true
/br/chunked/3000000?size=1000: 200 br 3000000 true
/zstd/bytes/200000: 200 zstd 200000 true
/zstd/chunked/3000000?size=1000: 200 zstd 3000000 true
/off/bytes/200000: 200 null 200000 true
/off/chunked/3000000?size=1000: 200 null 3000000 true
/any/bytes/100: 200 null 100 true
/gzip/sse: event 1 from mock; event 2 from mock
/br/sse: event 1 from mock; event 2 from mock
/zstd/sse: event 1 from mock; event 2 from mock
end: localhost
";

#[test]
fn pages_read_what_was_compressed() {
    let pages = serve(include_str!("browser/compression.html"), "").port();
    let site = Site::start(&routes());
    // By its address: a browser takes br and zstd only over TLS, or from its own machine.
    let url = format!("http://localhost:{pages}/?http://{}", site.proxy.address);
    let sees = seen(&url, &[]);
    check_seen(&sees, COMPRESSED_SEES);
    site.stop();
}
