//! What a request passes on its way: limits, identity, edits, in one order.

use std::sync::Arc;

use corelane::config::plan::ClientField;
use corelane::policy::ClusterId;
use corelane::policy::filter::Filter;
use corelane::policy::filter::compress::Coding;
use corelane::policy::filter::request_id::Accept;
use corelane::policy::limit::{Action, Fields, KeyPart, Mode, WhenFull};

use super::plan;

/// One of the top level with a list, and routes that have their own, or none.
const LIMITS: &str = r#"
[rate_limit]
rps = 10.0
burst = 20
status = 503
[[rate_limits]]
requests_per_minute = 90
key = "all"
[[clusters]]
name = "a"
backends = ["http://a"]
[[routes]]
cluster = "a"
[[routes]]
cluster = "a"
path_prefix = "/login"
name = "login"
[routes.rate_limit]
requests_per_hour = 7200.5
key = ["path", "header:X-Key", "cookie:Sid"]
mode = "leased"
lease = 4
action = "delay"
fields = "both"
when_full = "allow"
[[routes.rate_limits]]
name = "mine"
rps = 0.5
key = "route"
shadow = true
keys = 1024
[[routes]]
cluster = "a"
path_prefix = "/free"
rate_limits = []
rate_limit = { requests_per_minute = "off" }
[[routes]]
cluster = "a"
path_prefix = "/too"
"#;

#[test]
fn limits_of_the_top_level_are_shared_and_a_routes_own_are_its_own() {
    let plan = plan(LIMITS);
    let ids = |route: usize| -> Vec<usize> {
        let limit = |filter: &Filter| match filter {
            Filter::Limit(id) => id.0 as usize,
            other => panic!("{other:?}"),
        };
        plan.routes[route].filters.iter().map(limit).collect()
    };
    assert_eq!([ids(0), ids(3)], [[0, 1], [0, 1]]);
    assert_eq!((ids(1), ids(2)), (vec![2, 3], vec![]));
    let names: Vec<&str> = plan.rate_limits.iter().map(|limit| &*limit.name).collect();
    assert_eq!(
        names,
        ["rate_limit", "rate_limits[0]", "login.rate_limit", "mine"]
    );
    let own = &plan.rate_limits[2];
    assert_eq!(
        (own.quota.interval_ns, own.quota.burst, own.status),
        (499_965_281, 20, 503)
    );
    let key = [
        KeyPart::Path,
        KeyPart::Header("x-key".into()),
        KeyPart::Cookie("Sid".into()),
    ];
    assert_eq!(*own.key, key);
    assert_eq!(
        (own.mode, own.action, own.fields, own.when_full),
        (
            Mode::Leased { lease: 4 },
            Action::Delay,
            Fields::Both,
            WhenFull::Allow
        )
    );
    let mine = &plan.rate_limits[3];
    assert_eq!(
        (mine.quota.burst, mine.shadow, mine.keys_max, mine.status),
        (1, true, 1024, 429)
    );
    let all = &plan.rate_limits[1];
    assert_eq!((&*all.key, all.quota.burst), (&[][..], 90));
}

/// Something of every section.
const SHORT: &str = r#"
backends = ["http://a"]
[headers]
request_set = ["X-Route: {route}"]
request_add = ["X-Via: corelane"]
request_remove = ["Cookie"]
hsts = "8760h"
hsts_subdomains = true
hsts_preload = true
[rate_limit]
rps = 10
[cors]
origins = ["https://A.example", "https://*.b.example", "*.c.example"]
exposed_headers = ["X-One", "X-Two"]
credentials = true
max_age = "1h"
[request_id]
header = "X-Request-Id"
accept = "always"
[limits]
connections_per_ip = 1
accepts_per_ip = 2
requests_per_ip = 3
response_rate = "4KiB"
request_rate = "5KiB"
[buffering]
request = "6KiB"
[forwarding]
forwarded = true
client_field = "forwarded"
"#;

/// Whatever the order in the file: docs/TRAFFIC.md tells it, and why.
#[test]
fn every_chain_has_one_order() {
    let plan = plan(
        r#"
backends = ["http://127.0.0.1:3001"]
[compression]
enabled = true
[headers]
security = true
[[rate_limits]]
requests_per_minute = 5
key = "user"
[access]
deny = ["192.0.2.0/24"]
forward_cluster = "default"
jwt_secret = "0123456789abcdef0123456789abcdef"
api_keys = ["ci:0123456789abcdef0123"]
basic_users = ["u:$$2a$$05$$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"]
[rate_limit]
rps = 10.0
[cors]
origins = ["https://example.org"]
[request_id]
header = "X-Request-Id"
"#,
    );
    let names = plan.routes[0].filters.iter().map(|filter| {
        let text = format!("{filter:?}");
        text.split('(').next().unwrap().to_owned()
    });
    let names: Vec<String> = names.collect();
    let expected =
        "RequestId Address Cors Limit Basic ApiKey Jwt ForwardAuth UserLimit Headers Compress";
    assert_eq!(names.join(" "), expected);
}

#[test]
fn the_short_form_has_the_filters_of_the_top_level_in_the_order_of_their_ranks() {
    let plan = plan(SHORT);
    let route = &plan.routes[0];
    let [
        Filter::RequestId(id),
        Filter::Cors(cors),
        Filter::Limit(_),
        Filter::Headers(headers),
    ] = &*route.filters
    else {
        panic!("{:?}", route.filters);
    };
    assert_eq!(
        (id.header.as_deref(), id.accept, id.respond, id.traceparent),
        (Some("X-Request-Id"), Accept::Always, true, false)
    );
    assert_eq!(cors.origins.len(), 3);
    assert_eq!(
        (&*cors.methods, &cors.headers, &*cors.exposed),
        ("GET, HEAD, POST", &None, "X-One, X-Two")
    );
    assert_eq!((cors.credentials, cors.max_age_s), (true, Some(3600)));
    assert_eq!(*headers.request.drop, ["cookie".into(), "x-route".into()]);
    let written = headers.request.write.iter();
    let written: Vec<_> = written
        .map(|(name, value)| (&**name, value.show()))
        .collect();
    assert_eq!(
        written,
        [
            ("X-Route", "{route}".to_owned()),
            ("X-Via", "corelane".to_owned())
        ]
    );
    assert_eq!(
        headers.hsts.as_deref(),
        Some("max-age=31536000; includeSubDomains; preload")
    );
    assert_eq!(
        (plan.connections_per_ip_max, plan.accepts_per_ip_max),
        (1, 2)
    );
    assert_eq!(
        (
            route.requests_per_ip_max,
            route.response_rate_max,
            route.request_rate_max
        ),
        (3, 4 << 10, 5 << 10)
    );
    assert_eq!(route.buffer_bytes_max, Some(6 << 10));
    assert_eq!(
        (plan.forwarding.forwarded, plan.forwarding.client_field),
        (true, ClientField::Forwarded)
    );
}

/// Every kind of access; routes that have less.
const ACCESS: &str = r#"
[access]
realm = "my site"
basic_users = ["file:/users"]
api_keys = ["ci:0123456789abcdef", "cd:sha256:000102030405060708090a0b0c0d0e0f000102030405060708090a0b0c0d0e0f"]
jwt_secret = "file:/secret"
jwt_algorithm = "HS256"
jwt_issuers = ["https://a.example/"]
jwt_leeway = "5s"
forward_cluster = "auth"
forward_path = "/check?x"
forward_copy = ["X-User"]
deny = ["10.0.0.0/8"]
[rate_limit]
rps = 3
key = "user"
[compression]
enabled = true
codings = ["br", "gzip"]
gzip_level = 9
types = ["Text/*"]
[[clusters]]
name = "a"
backends = ["http://a"]
[[clusters]]
name = "auth"
backends = ["http://auth"]
[[routes]]
cluster = "a"
[[routes]]
cluster = "a"
path_prefix = "/open"
rate_limit = { rps = "off" }
compression = { enabled = false }
[routes.access]
deny = []
basic_users = []
api_keys = []
jwt_secret = ""
forward_cluster = ""
[[routes]]
cluster = "a"
path_prefix = "/keys"
access = { jwt_key = "file:/public.pem", jwt_algorithm = "" }
[[routes]]
cluster = "a"
path_prefix = "/other"
"#;

#[test]
fn access_is_in_the_chain_and_shared_by_routes() {
    let plan = plan(ACCESS);
    let [
        Filter::Address(_),
        Filter::Basic(basic),
        Filter::ApiKey(key),
        Filter::Jwt(jwt),
        Filter::ForwardAuth(auth),
        Filter::UserLimit(_),
        Filter::Compress(compress),
    ] = &*plan.routes[0].filters
    else {
        panic!("{:?}", plan.routes[0].filters);
    };
    let users: Vec<&str> = basic.users.iter().map(|user| &*user.name).collect();
    assert_eq!((&*basic.realm, users), ("my site", vec!["ann", "ben"]));
    assert_eq!((&*key.header, key.keys.len()), ("x-api-key", 2));
    assert_eq!((jwt.leeway_s, &*jwt.user_claim), (5, "sub"));
    assert_eq!(*jwt.issuers, ["https://a.example/".into()]);
    assert_eq!((auth.cluster, &*auth.path), (ClusterId(1), "/check?x"));
    assert_eq!(*auth.copy, ["x-user".into()]);
    let codings = [(Coding::Brotli, 4), (Coding::Gzip, 9)];
    assert_eq!(*compress.codings, codings);
    assert_eq!(*compress.types, ["text/*".into()]);
    assert_eq!(plan.routes[1].filters.len(), 0);
    let Filter::Jwt(own) = &plan.routes[2].filters[3] else {
        panic!("{:?}", plan.routes[2].filters);
    };
    assert!(format!("{:?}", own.keys).contains("EdDsa"));
    let Filter::Basic(other) = &plan.routes[3].filters[1] else {
        panic!("{:?}", plan.routes[3].filters);
    };
    assert!(Arc::ptr_eq(basic, other));
}
