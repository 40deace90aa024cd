//! What is shown loads to the same plan, and says where it came from.

use corelane::config::keys::Key;
use corelane::config::{self, Source};

use super::{REFERENCE, file, long_reference, pair, plan};

/// Values that are shown in another way than they were written.
const ODD: &str = r#"
[server]
listen = ["127.0.0.1:80", "unix:/a$$b"]
[rate_limit]
requests_per_minute = 10.25
key = ["ip", "cookie:Sid"]
[[rate_limits]]
name = "a"
rps = 0.001
burst = 7
key = "all"
[[rate_limits]]
rps = 3
key = "path"
fields = "off"
[cors]
origins = ["https://A.example:443", "https://*.b.example:8443", "*.c.example"]
headers = ["X-A"]
[headers]
request_set = ["X-A:  {path}{{x}} $$"]
response_remove = ["Server"]
[forwarding]
trusted_proxies = ["10.0.0.0/8"]
[[clusters]]
name = "a"
backends = [{ url = "http://A:80/", weight = 3 }, { url = "http://b", backup = true }, "http://[::1]:9"]
failover = "b"
[clusters.load_balancer]
algorithm = "weighted-round-robin"
[[clusters]]
name = "b"
backends = [{ url = "http://c", weight = 0, backup = true }, { url = "http://d", weight = 2 }]
[clusters.load_balancer]
algorithm = "consistent_hash"
hash_key = "cookie:Sid"
hash_bound = "off"
all_down = "open"
[clusters.health_check]
type = "http"
method = "POST"
path = "/h?a=$b"
host = "Health.example:81"
headers = ["X-A:1", "X-B: \"q\" $$"]
status = ["200-299", "404"]
body = "a \"quoted\"\nline of ${NONE:-x}"
[clusters.passive_health]
on = ["5xx", "connect", "429"]
[clusters.circuit_breaker]
enabled = true
on = []
[clusters.sticky]
cookie = "__Host-sid"
max_age = "90s"
[clusters.slow_start]
duration = "off"
[clusters.hedge]
percentile = 95
[[clusters]]
name = "c"
backends = "http://e"
[[routes]]
path = "/old"
priority = 3
redirect = { to = "{scheme}://new.example{path}{query}", status = 302 }
[[routes]]
path = "/robots.txt"
query = ["debug", "v=2"]
clients = ["10.0.0.0/8", "::1"]
match_headers = ["X-Beta", "X-Version: 2"]
answer = { body = "{} {{path}} {path} $$", content_type = "Text/plain" }
[[error_pages]]
status = ["500-599", "404"]
body = "file:/page.html"
[[routes]]
name = "r"
cluster = "a"
mirror = "c"
mirror_percent = 7
strip_prefix = "/x/"
add_prefix = "/y"
hosts = ["*.Example.org", "example.org"]
path = "/x"
methods = ["GET", "PURGE"]
[routes.timeouts]
request = "1500ms"
[routes.forwarding]
host = { fixed = "x" }
[[routes]]
split = [{ cluster = "a", weight = 2 }, { cluster = "b" }]
split_header = "X-Cluster"
rate_limits = []
[routes.headers]
security = true
[[routes.error_pages]]
status = ["4xx"]
content_type = "text/plain"
body = "{reason} {request_id}"
[routes.access]
basic_users = ["file:/users"]
jwt_secret = "file:/secret"
allow = ["10.0.0.0/8"]
[routes.compression]
enabled = true
codings = ["gzip", "br"]
[routes.cache]
enabled = true
ttl_by_status = ["404  410:60s", "500-599: 1s"]
key = ["host", "path", "header:X-B", "cookie:Sid"]
stale_if_error = "86400s"
[routes.retry]
backoff = "off"
on = ["timeout"]
[routes.rate_limit]
rps = "off"
    "#;

#[test]
fn what_is_shown_loads_to_the_same_plan() {
    for toml in ["backends = \"http://a\"", REFERENCE, &long_reference(), ODD] {
        let source = Source {
            files: &file,
            ..Source::of("config.toml", toml)
        };
        let shown = config::show(source, false).unwrap();
        assert_eq!(
            format!("{:?}", plan(toml)),
            format!("{:?}", plan(&shown)),
            "{shown}"
        );
        let origins = config::show(source, true).unwrap();
        assert_eq!(
            format!("{:?}", plan(toml)),
            format!("{:?}", plan(&origins)),
            "{origins}"
        );
    }
}

#[test]
fn what_is_shown_says_where_it_came_from() {
    let environment = [pair(("CORELANE_TIMEOUTS__CONNECT", "3s"))];
    let flags = [(Key::ServerShards, "--shards", "4".to_owned())];
    let source = Source {
        environment: &environment,
        flags: &flags,
        ..Source::of(
            "a.toml",
            "backends = \"http://a\"\n[log]\nlevel = \"warn\"\n",
        )
    };
    let shown = config::show(source, true).unwrap();
    for line in [
        "backends = [\"http://a\"]  # from: a.toml:1",
        "level = \"warn\"  # from: a.toml:3",
        "connect = \"3s\"  # from: env CORELANE_TIMEOUTS__CONNECT",
        "shards = 4  # from: flag --shards",
        "access = true  # from: default",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line}\n{shown}");
    }
}
