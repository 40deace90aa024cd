//! The cache: whose rules count, and what the process has room for.

use std::sync::Arc;

use corelane::policy::cache::{Budget, KeyRule, QueryRule, Rules};

use super::plan;

/// One that caches for all, and routes that do so in another way, or not at all.
const CACHES: &str = r#"
[cache]
enabled = true
max_bytes = "8MiB"
max_object = "64KiB"
ttl = "1m"
collapse_timeout = "250ms"
ttl_by_status = ["404 301: 10s", "400-405: 20s"]
query_except = ["utm_*", "x"]
[[clusters]]
name = "a"
backends = ["http://a"]
[clusters.cache]
stale_if_error = "1h"
[[routes]]
cluster = "a"
[[routes]]
cluster = "a"
path_prefix = "/own"
[routes.cache]
max_object = "1KiB"
default_ttl = "off"
ttl_by_status = []
heuristics = true
stale_while_revalidate = "5s"
stale_if_error = "0s"
request_directives = false
store_set_cookie = true
cdn_cache_control = false
status_field = false
collapse_timeout = "off"
key = ["path", "query", "header:X-Tenant", "cookie:Sid"]
query_only = ["page"]
query_except = []
sort_query = true
[routes.forwarding]
host = "backend"
[[routes]]
cluster = "a"
path_prefix = "/path"
cache = { key = "path" }
forwarding = { host = { fixed = "example.org" } }
[[routes]]
cluster = "a"
path_prefix = "/off"
cache = { enabled = false }
[[routes]]
path = "/old"
redirect = "/new"
"#;

#[test]
fn a_route_stores_by_its_own_rules_before_those_of_the_top_level() {
    let plan = plan(CACHES);
    let rules = |route: usize| plan.routes[route].cache.as_deref();
    let inherited = Rules {
        object_bytes_max: 64 * 1024,
        default_ttl_s: Some(60),
        status_ttls: [
            (404, 10),
            (301, 10),
            (400, 20),
            (401, 20),
            (402, 20),
            (403, 20),
            (405, 20),
        ]
        .into(),
        stale_if_error_s: 3600,
        collapse_ns: 250_000_000,
        key: KeyRule {
            query: QueryRule::Except(["utm_*".into(), "x".into()].into()),
            ..KeyRule::default()
        },
        ..Rules::default()
    };
    assert_eq!(rules(0), Some(&inherited));
    let own = Rules {
        object_bytes_max: 1024,
        default_ttl_s: None,
        status_ttls: Box::default(),
        heuristics: true,
        stale_while_revalidate_s: 5,
        stale_if_error_s: 0,
        request_directives: false,
        set_cookie: true,
        cdn_cache_control: false,
        status_field: false,
        collapse_ns: 0,
        key: KeyRule {
            scheme: false,
            host: false,
            query: QueryRule::Only(["page".into()].into()),
            sorts_query: true,
            fields: ["x-tenant".into()].into(),
            cookies: ["Sid".into()].into(),
        },
    };
    assert_eq!(rules(1), Some(&own));
    assert_eq!(
        rules(2).map(|rules| &rules.key.query),
        Some(&QueryRule::None)
    );
    assert_eq!((rules(3), rules(4)), (None, None));
}

#[test]
fn routes_that_inherit_the_same_share_one_set_of_rules() {
    let plan = plan(
        r#"
[cache]
enabled = true
[[clusters]]
name = "a"
backends = ["http://a"]
[[routes]]
cluster = "a"
[[routes]]
cluster = "a"
path = "/b"
timeouts = { first_byte = "1s" }
[[routes]]
cluster = "a"
path = "/c"
cache = { heuristics = true }
"#,
    );
    let rules = |route: usize| plan.routes[route].cache.as_ref().unwrap();
    assert!(Arc::ptr_eq(rules(0), rules(1)));
    assert!(!Arc::ptr_eq(rules(0), rules(2)));
}

#[test]
fn nothing_is_stored_unless_it_is_turned_on_and_then_by_the_defaults_of_the_rules() {
    let of = |section: &str| plan(&format!("backends = \"http://a\"\n[cache]\n{section}"));
    let off = of("max_bytes = \"1MiB\"\nttl = \"5m\"\nquery_only = [\"a\"]");
    assert_eq!((&off.routes[0].cache, off.cache), (&None, None));
    let on = of("enabled = true");
    assert_eq!(on.routes[0].cache.as_deref(), Some(&Rules::default()));
    for (section, bytes_max, entries_max) in [
        ("", 64 << 20, 64 << 10),
        (
            "max_bytes = \"64KiB\"\nmax_object = \"32KiB\"",
            64 << 10,
            1024,
        ),
        ("max_bytes = \"1024GiB\"", 1 << 40, 1 << 28),
        ("max_size = 1000", 64 << 20, 1000),
        ("max_entries = 16", 64 << 20, 16),
    ] {
        let expected = Budget {
            bytes_max,
            entries_max,
        };
        let found = of(&format!("enabled = true\n{section}")).cache;
        assert_eq!(found, Some(expected), "{section}");
    }
}
