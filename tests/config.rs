//! The configuration, from text to report, and the binary's exit codes.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use corelane::config::file::File;
use corelane::config::files::FILE_BYTES_MAX;
use corelane::config::keys::{Key, Scope};
use corelane::config::kinds::Kind;
use corelane::config::plan::{
    Address, CheckKind, ClientField, Destination, Engine, HashKey, HostPolicy, Level, Mirror, Plan,
};
use corelane::config::{self, Source, defaults};
use corelane::policy::ClusterId;
use corelane::policy::balance::Algorithm;
use corelane::policy::filter::Filter;
use corelane::policy::filter::compress::Coding;
use corelane::policy::filter::request_id::Accept;
use corelane::policy::limit::{Action, Fields, KeyPart, Mode, WhenFull};
use corelane::policy::retry::{Cause, Statuses};
use corelane::policy::rewrite::{Own, Rewrite};

const REFERENCE: &str = include_str!("../config.toml");
const PROBLEMS: &str = "tests/config/problems.txt";

struct Case {
    name: String,
    environment: Vec<(String, String)>,
    toml: String,
    report: String,
}

fn cases(text: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    for part in text.split("\n=== ").skip(1) {
        let (head, rest) = part.split_once("--- toml\n").expect(part);
        let (toml, report) = rest.split_once("--- report").expect(part);
        let mut lines = head.lines();
        cases.push(Case {
            name: lines.next().unwrap().to_owned(),
            environment: lines
                .map(|line| pair(line.split_once('=').expect(line)))
                .collect(),
            toml: toml.to_owned(),
            report: report.trim().to_owned(),
        });
    }
    cases
}

fn pair((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

fn load(
    toml: &str,
    environment: &[(&str, &str)],
    flags: &[(Key, &'static str, &str)],
) -> Result<(File, Plan), String> {
    let environment: Vec<_> = environment.iter().copied().map(pair).collect();
    let flags: Vec<_> = flags
        .iter()
        .map(|(key, flag, value)| (*key, *flag, (*value).to_owned()))
        .collect();
    let source = Source {
        name: "config.toml",
        text: toml,
        environment: &environment,
        flags: &flags,
        files: &file,
    };
    config::load(source).map_err(|problems| problems.to_string())
}

/// The files that values name in these tests.
fn file(path: &Path) -> io::Result<Vec<u8>> {
    Ok(match path.to_str() {
        Some("/users") => format!("# who\n\nann:{ARGON2}\n  ben:{BCRYPT}\n").into(),
        Some("/wrong-users") => format!("ann:{ARGON2}\nben:hunter2-hunter2\ncat\n").into(),
        Some("/secret") => format!("{SECRET}\n").into(),
        Some("/page.html") => b"<h1>{status}</h1>\n".to_vec(),
        Some("/public.pem") => PUBLIC.as_bytes().to_vec(),
        Some("/large") => vec![b'x'; FILE_BYTES_MAX + 1],
        Some(_) | None => return Err(io::ErrorKind::NotFound.into()),
    })
}

const ARGON2: &str =
    "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";
const BCRYPT: &str = "$2y$05$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC";
const SECRET: &str = "0123456789abcdef0123456789abcdef";
const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAxRqnznF5buWtlHGLIry06eyCd+dHGzkUD6B7+k+00u0=
-----END PUBLIC KEY-----
";

fn plan(toml: &str) -> Plan {
    load(toml, &[], &[])
        .map_err(|report| panic!("{report}"))
        .unwrap()
        .1
}

#[test]
fn every_problem_has_its_report() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PROBLEMS);
    let text = std::fs::read_to_string(&path).unwrap();
    let bless = std::env::var_os("BLESS").is_some();
    let mut blessed = text.split("\n=== ").next().unwrap().to_owned();
    for case in cases(&text) {
        // A case named so has the line ends of another system.
        let toml = if case.name.starts_with("carriage returns") {
            case.toml.replace('\n', "\r\n")
        } else {
            case.toml.clone()
        };
        let source = Source {
            environment: &case.environment,
            files: &file,
            ..Source::of("config.toml", &toml)
        };
        let report = config::load(source)
            .map(|_| "no problem".to_owned())
            .unwrap_or_else(|problems| problems.to_string());
        // Trailing spaces do not survive editors.
        let report = report
            .lines()
            .map(str::trim_end)
            .collect::<Vec<_>>()
            .join("\n");
        if !bless {
            assert_eq!(report, case.report, "{}\n{report}", case.name);
        }
        let variables: String = case
            .environment
            .iter()
            .map(|(name, value)| format!("{name}={value}\n"))
            .collect();
        blessed += &format!(
            "\n=== {}\n{variables}--- toml\n{}--- report\n{report}\n",
            case.name, case.toml
        );
    }
    if bless {
        std::fs::write(&path, blessed).unwrap();
    }
}

#[test]
fn the_reference_loads_to_exactly_the_defaults() {
    let defaults = defaults();
    let (file, plan) = load(REFERENCE, &[], &[])
        .map_err(|report| panic!("{report}"))
        .unwrap();
    for key in Key::settings() {
        let found = file
            .settings
            .get(&key)
            .unwrap_or_else(|| panic!("config.toml lacks {}", key.spec().path));
        assert_eq!(found.value, defaults[&key].value, "{}", key.spec().path);
    }
    let urls: Vec<&str> = plan.backends.iter().map(|backend| &*backend.url).collect();
    assert_eq!(
        urls,
        [
            "http://127.0.0.1:3001",
            "http://127.0.0.1:3002",
            "http://127.0.0.1:3003"
        ]
    );
}

/// Uncommented and without the short form, so that every key is live.
fn long_reference() -> String {
    let line = |line: &str| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => {
            rest.to_owned()
        }
        Some(_) | None => line.to_owned(),
    };
    REFERENCE
        .lines()
        .filter(|line| !line.starts_with("backends ="))
        .map(|l| line(l) + "\n")
        .collect()
}

#[test]
fn the_reference_has_every_key_and_no_other() {
    let text = long_reference();
    // No other: an unknown key would be a problem.
    load(&text, &[], &[]).unwrap_or_else(|report| panic!("{report}"));
    let mut found = BTreeSet::from(["backends".to_owned()]);
    let table: toml::Table = toml::from_str(&text).unwrap();
    paths(&toml::Value::Table(table), "", &mut found);
    for key in Key::ALL {
        assert!(
            found.contains(key.spec().path),
            "config.toml lacks {}",
            key.spec().path
        );
    }
}

fn paths(value: &toml::Value, path: &str, found: &mut BTreeSet<String>) {
    found.insert(path.to_owned());
    match value {
        toml::Value::Table(table) => {
            for (name, value) in table {
                paths(
                    value,
                    &if path.is_empty() {
                        name.clone()
                    } else {
                        format!("{path}.{name}")
                    },
                    found,
                );
            }
        }
        toml::Value::Array(items) => items
            .iter()
            .for_each(|item| paths(item, &format!("{path}[]"), found)),
        _ => {}
    }
}

#[test]
fn the_reference_says_what_each_key_means_and_takes() {
    let lines: Vec<&str> = REFERENCE.lines().collect();
    for key in Key::ALL {
        let spec = key.spec();
        let remark = match &spec.kind {
            Kind::Structure => format!("# {}", spec.meaning),
            kind => format!("# {} ({})", spec.meaning, kind.bounds()),
        };
        let at = lines
            .iter()
            .position(|line| *line == remark)
            .unwrap_or_else(|| panic!("config.toml lacks: {remark}"));
        let next = lines[at + 1].trim_start_matches(['#', '[']);
        assert!(next.contains(key.leaf()), "{remark}\n{next}");
    }
}

#[test]
fn a_route_goes_before_its_cluster_before_the_top_level() {
    let plan = plan(
        r#"
        [timeouts]
        connect = "1s"
        first_byte = "1s"
        tunnel = "1s"
        [limits]
        body = "1KiB"
        [pool]
        idle_per_shard = 1
        [forwarding]
        host = "backend"
        [[clusters]]
        name = "a"
        backends = ["http://a"]
        timeouts = { connect = "2s", first_byte = "2s" }
        limits = { body = "2KiB" }
        pool = { idle_per_shard = 2 }
        [[clusters]]
        name = "b"
        backends = ["unix:/b"]
        forwarding = { host = { fixed = "B.example:81" } }
        [[routes]]
        cluster = "a"
        path_prefix = "/a"
        timeouts = { connect = "3s" }
        [[routes]]
        cluster = "b"
        limits = { body = "unlimited" }
        "#,
    );
    let seconds = |route: usize| {
        let timeouts = &plan.routes[route].timeouts;
        [
            timeouts.connect_ns,
            timeouts.first_byte_ns,
            timeouts.tunnel_ns,
            timeouts.client_body_ns,
        ]
        .map(|ns| ns / 1_000_000_000)
    };
    assert_eq!(seconds(0), [3, 2, 1, 30]);
    assert_eq!(seconds(1), [1, 1, 1, 30]);
    assert_eq!(
        [plan.routes[0].body_bytes_max, plan.routes[1].body_bytes_max],
        [Some(2048), None]
    );
    assert_eq!(
        [&plan.routes[0].host, &plan.routes[1].host],
        [
            &HostPolicy::Backend,
            &HostPolicy::Fixed("b.example:81".into())
        ]
    );
    assert_eq!(
        [
            plan.clusters[0].pool.idle_max,
            plan.clusters[1].pool.idle_max
        ],
        [2, 1]
    );
    assert_eq!(plan.backends[1].address, Address::Unix("/b".into()));
    assert_eq!(&*plan.routes[0].name, "routes[0]");
}

#[test]
fn balancing_and_health_are_quiet_by_default() {
    let plan = plan("backends = [\"http://a\"]");
    let cluster = &plan.clusters[0];
    assert_eq!(cluster.algorithm, Algorithm::RoundRobin);
    assert_eq!(
        (&cluster.sticky, &cluster.breaker, &cluster.check),
        (&None, &None, &None)
    );
    assert_eq!((cluster.fail_open, cluster.hedge_percentile), (false, None));
    assert_eq!((cluster.connections_max, cluster.queue_max), (0, 1024));
    assert_eq!((cluster.failover, cluster.backup.is_none()), (None, true));
    let passive = &cluster.passive;
    assert_eq!((cluster.rules.errors_max, passive.share_percent), (5, 50));
    assert!(passive.on.has(Cause::Status(502)) && !passive.on.has(Cause::Status(500)));
    let route = &plan.routes[0];
    assert_eq!((route.retry.attempts, route.requests_max), (1, 0));
    assert_eq!((plan.budget.percent, plan.budget.least), (20, 3));
    assert_eq!((&plan.webhook, plan.stuck_ns), (&None, 1_000_000_000));
}

#[test]
fn a_cluster_sets_what_the_top_level_sets_for_all() {
    let plan = plan(
        r#"
        [load_balancer]
        algorithm = "consistent_hash"
        hash_key = "path"
        [health_check]
        type = "tcp"
        interval = "3s"
        [circuit_breaker]
        enabled = true
        ratio = 20
        [[clusters]]
        name = "a"
        backends = ["http://a"]
        [clusters.health_check]
        type = "http"
        path = "/healthz"
        host = "a.example"
        body = "fine"
        [[clusters]]
        name = "b"
        backends = ["http://b"]
        load_balancer = { algorithm = "ip_hash" }
        health_check = { type = "off", rise = 7 }
        circuit_breaker = { enabled = false }
        passive_health = { errors = 0 }
        [[routes]]
        cluster = "a"
        "#,
    );
    let [a, b] = &plan.clusters[..] else {
        panic!("two clusters")
    };
    let hashed = |bound_percent| Algorithm::ConsistentHash { bound_percent };
    assert_eq!(
        (a.algorithm, &a.hash_key),
        (hashed(Some(125)), &HashKey::Path)
    );
    assert_eq!((b.algorithm, &b.hash_key), (hashed(None), &HashKey::Ip));
    let check = a.check.as_ref().unwrap();
    assert_eq!(
        (check.interval_ns, check.timeout_ns),
        (3_000_000_000, 2_000_000_000)
    );
    let expected = CheckKind::Http {
        method: "GET".into(),
        path: "/healthz".into(),
        host: Some("a.example".into()),
        fields: Vec::new(),
        statuses: Statuses([(200, 299), (300, 399)].into()),
        body: "fine".into(),
    };
    assert_eq!(check.kind, expected);
    assert_eq!(b.check, None);
    assert_eq!((a.rules.rise, b.rules.rise), (2, 7));
    assert_eq!(
        a.breaker.as_ref().map(|breaking| breaking.breaker.percent),
        Some(20)
    );
    assert_eq!(b.breaker, None);
    assert_eq!((a.rules.errors_max, b.rules.errors_max), (5, 0));
}

#[test]
fn backups_come_last_and_clusters_fail_over() {
    let plan = plan(
        r#"
        [[clusters]]
        name = "a"
        backends = [{ url = "http://a", backup = true }, "http://b", { url = "http://c", weight = 0, backup = true }, "http://d"]
        failover = "b"
        [[clusters]]
        name = "b"
        backends = ["http://e"]
        [[routes]]
        cluster = "a"
        "#,
    );
    let urls: Vec<&str> = plan.backends.iter().map(|backend| &*backend.url).collect();
    assert_eq!(
        urls,
        ["http://b", "http://d", "http://a", "http://c", "http://e"]
    );
    let backups: Vec<bool> = plan.backends.iter().map(|backend| backend.backup).collect();
    assert_eq!(backups, [false, false, true, true, false]);
    let ids: Vec<u32> = plan.clusters[0].backends.iter().map(|id| id.0).collect();
    assert_eq!(ids, [0, 1, 2, 3]);
    assert_eq!(plan.clusters[0].failover, Some(ClusterId(1)));
    assert!(plan.clusters[0].backup.is_some() && plan.clusters[1].backup.is_none());
    let tags: BTreeSet<u64> = plan.backends.iter().map(|backend| backend.tag).collect();
    assert_eq!(tags.len(), 5);
}

#[test]
fn a_split_shares_out_by_weight() {
    let plan = plan(
        r#"
        [[clusters]]
        name = "stable"
        backends = ["http://a"]
        timeouts = { connect = "1s" }
        [[clusters]]
        name = "canary"
        backends = ["http://b"]
        timeouts = { connect = "1s", request = "5s" }
        [[clusters]]
        name = "next"
        backends = ["http://c"]
        timeouts = { connect = "1s" }
        [[routes]]
        split = [{ cluster = "next", weight = 0 }, { cluster = "stable", weight = 20 }, { cluster = "canary", weight = 10 }]
        split_header = "X-Cluster"
        timeouts = { request = "9s" }
        "#,
    );
    let Destination::Split(split) = &plan.routes[0].destination else {
        panic!("{:?}", plan.routes[0])
    };
    assert_eq!(split.order[..], [0, 1, 0].map(ClusterId));
    assert_eq!(split.clusters[..], [2, 0, 1].map(ClusterId));
    assert_eq!(split.header.as_deref(), Some("x-cluster"));
    let timeouts = &plan.routes[0].timeouts;
    assert_eq!(
        (timeouts.connect_ns, timeouts.request_ns),
        (1_000_000_000, 9_000_000_000)
    );
}

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

/// No part of what must stay secret: passwords' hashes, keys, secrets, and what was meant to be one.
const SECRETS: [&str; 8] = [
    "hunter2", "argon2id", "0123456", "$2y$", "Z1Z1", "AbCd", "000102", "c4WoMPo",
];

/// All that can be seen of a configuration: page or report, and what debugging prints.
fn shown(toml: &str) -> String {
    let environment = [pair(("CORELANE_ACCESS__JWT_SECRET", "hunter2"))];
    let plain = Source {
        files: &file,
        ..Source::of("config.toml", toml)
    };
    let varied = Source {
        environment: &environment,
        ..plain
    };
    let mut all = String::new();
    for source in [plain, varied] {
        let page = config::show(source, true).unwrap_or_else(|problems| problems.to_string());
        all += &page;
        if let Ok((file, plan)) = config::load(source) {
            all += &format!("{file:?} {plan:?}");
        }
    }
    all
}

#[test]
fn no_page_and_no_report_shows_a_secret() {
    let users = format!("basic_users = [\"ann:{ARGON2}\", \"ben:{BCRYPT}\"]");
    let same = format!("basic_users = [\"ann:{ARGON2}\", \"ann:{ARGON2}\"]");
    let top = "backends = [\"http://a\"]\n";
    let good = [
        "jwt_secret = \"0123456789abcdef0123456789abcdef\"",
        "api_keys = [\"ci:0123456789abcdef\"]",
        &users,
    ];
    for line in good {
        let page = shown(&format!("{top}[access]\n{line}\n"));
        assert!(page.contains("\"***\""), "{page}");
    }
    let bad = [
        "jwt_secret = \"hunter2\"",
        "jwt_secret = \"hunter2",
        "jwt_secret = hunter2",
        "jwt_secret = \"hunter2\\q\"",
        "jwt_secret = [\"hunter2\"]",
        "jwt_secrt = \"hunter2\"",
        "jwt-secret = \"hunter2\"",
        "api_key = \"ci:0123456789abcdef\"",
        "api_keys = [\"hunter2\"]",
        "api_keys = [\"ci:hunter2\"]",
        "api_keys = [\"ci:0123456789abcdef\", \"ci:0123456789abcdef\"]",
        "api_keys = [\n\"ci:0123456789abcdef\",\n\"ci 0123456789abcdef\",\n]",
        "api_keys = [\n\"ci:0123456789abcdef\",\n\"ci:0123456789abcdef\n]",
        "api_keys = [\"a:sha256:0001020304\"]",
        "basic_users = [\"ann:hunter2\"]",
        "basic_users = [\"ann:$2y$05$hunter2\"]",
        "basic_users = [\"file:/wrong-users\"]",
        &same,
        "jwt_key = \"\"\"\n-----BEGIN PRIVATE KEY-----\nZ1Z1AbCd==\nAbCd=\n\"\"\"",
        "jwt_jwks = '{\"keys\":[{\"kty\":\"oct\",\"k\":\"hunter2\"}]}'",
        "jwt_jwks = '{\"keys\": hunter2'",
        "password = \"hunter2\"",
        "users.ann = \"hunter2\"",
        "oidc = { client = \"hunter2\" }",
        "level = \"hunter2\"",
    ];
    for line in bad {
        for toml in [
            format!("{top}[access]\n{line}\n[log]\nlevel = 5\n"),
            format!("{top}[acess]\n{line}\n"),
            format!("{top}access = {{ realm = 5, {line} }}\nlog = 5\n"),
        ] {
            let page = shown(&toml);
            assert!(page.contains(" in config.toml"), "{toml}\n{page}");
        }
    }
    for line in good.into_iter().chain(bad) {
        for toml in [
            format!("{top}[access]\n{line}\n[log]\nlevel = 5\n"),
            format!("{top}[acess]\n{line}\n"),
            format!("{top}access = {{ relm = 5, {line} }}\nlog = 5\n"),
            format!("{top}[access]\n{line}\n"),
        ] {
            let page = shown(&toml);
            for secret in SECRETS {
                assert!(!page.contains(secret), "{secret}\n{toml}\n{page}");
            }
        }
    }
}

#[test]
fn no_page_and_no_report_shows_the_value_of_a_secret_field() {
    let fields = [
        "Authorization: Bearer hunter2",
        "COOKIE:a=hunter2",
        "Set-Cookie: a=hunter2",
        "X-Api-Key: hunter2",
        "X_Api_Key: hunter2",
        "X-Auth-Token: hunter2",
        "Client-Secret: {user}hunter2",
        "X-Password: hunter2\\\"hunter2",
    ];
    let keys = ["request_set", "request_add", "response_set", "response_add"];
    for (field, key) in fields.into_iter().zip(keys.into_iter().cycle()) {
        let name = &field[..field.find(':').unwrap()];
        let edits =
            |list: &str| format!("backends = [\"http://a\"]\n[headers]\n{key} = [{list}]\n");
        let toml = edits(&format!("\"{field}\", \"X-Plain: seen\""));
        let page = config::show(Source::of("config.toml", &toml), true).unwrap();
        assert!(
            page.contains(&format!("\"{name}: ***\", \"X-Plain: seen\"")),
            "{page}"
        );
        assert!(!page.contains("hunter2"), "{page}");
        let (_, value) = field.split_once(':').unwrap();
        for list in [
            format!("\"{field}\", \"{field}\""),
            format!("\"{field}\", 5"),
            format!("\" {field}\""),
            format!("\"{name} hunter2\""),
            format!("\"{name} hunter2: 1\""),
            format!("\"{name}: {{hunter2}}\""),
            format!("\"{name}: hunter2 {{\""),
            format!("\"{name}:{value}"),
            format!("'{name}: hunter2', \"Host: a\""),
        ] {
            let toml = edits(&list);
            let report = config::show(Source::of("config.toml", &toml), true);
            let report = report.unwrap_err().to_string();
            assert!(!report.contains("hunter2"), "{toml}\n{report}");
        }
    }
    let toml = "[[clusters]]\nname = \"a\"\nbackends = \"http://a\"\n[clusters.health_check]\ntype = \"http\"\n\
                headers = [\"Authorization: hunter2\"]\n[[routes]]\ncluster = \"a\"\nheaders = [\"X-Key: hunter2\"]\n";
    let page = config::show(Source::of("config.toml", toml), false).unwrap();
    assert!(
        page.contains("\"Authorization: ***\"") && page.contains("\"x-key: ***\""),
        "{page}"
    );
    assert!(!page.contains("hunter2"), "{page}");
}

/// Conditions, rewriting, mirrors, and routes that need no backend.
const ROUTES: &str = r#"
[[error_pages]]
status = ["5xx"]
body = "file:/page.html"
[[clusters]]
name = "a"
backends = ["http://a"]
[[clusters]]
name = "b"
backends = ["http://b"]
[[routes]]
cluster = "a"
path_prefix = "/api/"
headers = ["X-Beta", "X-Version:2"]
query = ["debug", "v="]
clients = ["10.0.0.0/8"]
priority = 1000
strip_prefix = "/api"
add_prefix = "/v1"
mirror = "b"
mirror_percent = 5
[[routes.error_pages]]
status = ["404", "410-418"]
content_type = "text/plain"
body = "{route}: {reason}"
[[routes]]
hosts = ["a.example"]
redirect = "https://{host}{path}{query}"
[[routes]]
path = "/hello"
answer = { status = 404, body = "no {path}" }
[[routes]]
cluster = "a"
"#;

#[test]
fn routes_match_rewrite_redirect_answer_and_mirror() {
    let plan = plan(ROUTES);
    let route = &plan.routes[0];
    let rewrite = Rewrite {
        strip: Some("/api".into()),
        add: Some("/v1".into()),
        replace: None,
    };
    assert_eq!(route.rewrite, Some(rewrite));
    let mirror = Mirror {
        cluster: ClusterId(1),
        percent: 5,
    };
    assert_eq!(route.mirror, Some(mirror));
    let pages = route.error_pages.iter();
    let pages: Vec<_> = pages
        .map(|page| (&*page.statuses, &*page.content_type, page.body.show()))
        .collect();
    let own = "{route}: {reason}".to_owned();
    assert_eq!(
        pages,
        [
            (&[(404, 404), (410, 418)][..], "text/plain", own),
            (
                &[(500, 599)][..],
                "text/html; charset=utf-8",
                "<h1>{status}</h1>\n".to_owned()
            )
        ]
    );
    let top = plan.error_pages.iter().map(|page| &*page.statuses);
    assert_eq!(top.collect::<Vec<_>>(), [&[(500, 599)]]);
    let Destination::Own(Own::Redirect { status, location }) = &plan.routes[1].destination else {
        panic!("{:?}", plan.routes[1].destination);
    };
    let to = location.show();
    assert_eq!((*status, &*to), (308, "https://{host}{path}{query}"));
    let Destination::Own(Own::Answer {
        status,
        content_type,
        body,
    }) = &plan.routes[2].destination
    else {
        panic!("{:?}", plan.routes[2].destination);
    };
    assert_eq!(
        (*status, &**content_type, &*body.show()),
        (404, "text/plain; charset=utf-8", "no {path}")
    );
    let loaded = load("[[routes]]\nredirect = \"https://a.example/\"", &[], &[]);
    assert!(loaded.is_ok(), "a proxy that only redirects has no cluster");
}

#[test]
fn a_flag_goes_before_the_environment_before_the_file_before_the_default() {
    let toml = "backends = [\"http://a\"]\n[server]\nshards = 2\n";
    let variable = ("CORELANE_SERVER__SHARDS", "3");
    let flag = (Key::ServerShards, "--shards", "4");
    let shards = |toml, environment: &[_], flags: &[_]| {
        load(toml, environment, flags).unwrap().1.server.shards
    };
    assert_eq!(shards("backends = \"http://a\"", &[], &[]), None);
    assert_eq!(shards(toml, &[], &[]), Some(2));
    assert_eq!(shards(toml, &[variable], &[]), Some(3));
    assert_eq!(shards(toml, &[variable], &[flag]), Some(4));
}

#[test]
fn the_environment_sets_every_kind_of_key() {
    let environment = [
        ("CORELANE_BACKENDS", "http://a, http://b:81"),
        ("CORELANE_SERVER__LISTEN", "[::1]:80,unix:/s"),
        ("CORELANE_SERVER__PIN", "false"),
        ("CORELANE_SERVER__ENGINE", "epoll"),
        ("CORELANE_ADMIN__LISTEN", "off"),
        ("CORELANE_LOG__LEVEL", "debug"),
        ("CORELANE_TIMEOUTS__REQUEST", "5s"),
        ("CORELANE_LIMITS__BODY", "1MiB"),
        (
            "CORELANE_FORWARDING__TRUSTED_PROXIES",
            "[\"10.0.0.0/8\", \"::1\"]",
        ),
        ("CORELANE_FORWARDING__HOST", "{ fixed = \"x\" }"),
        ("HOME", "/root"),
    ];
    let (_, plan) = load("backends = [\"http://from.the.file\"]", &environment, &[]).unwrap();
    assert_eq!(
        plan.backends
            .iter()
            .map(|backend| &*backend.authority)
            .collect::<Vec<_>>(),
        ["a", "b:81"]
    );
    assert_eq!(
        (
            plan.server.listen.len(),
            plan.server.pin,
            plan.server.engine
        ),
        (2, false, Engine::Epoll)
    );
    assert_eq!((plan.admin, plan.log.level), (None, Level::Debug));
    assert_eq!(
        (
            plan.routes[0].timeouts.request_ns,
            plan.routes[0].body_bytes_max
        ),
        (5_000_000_000, Some(1 << 20))
    );
    assert_eq!(
        (plan.forwarding.trusted_proxies.len(), &plan.routes[0].host),
        (2, &HostPolicy::Fixed("x".into()))
    );
    let weighted = [(
        "CORELANE_BACKENDS",
        "[{ url = \"http://a\", weight = 3 }, \"http://b\"]",
    )];
    let weights: Vec<u32> = load("", &weighted, &[])
        .unwrap()
        .1
        .backends
        .iter()
        .map(|backend| backend.weight)
        .collect();
    assert_eq!(weights, [3, 1]);
}

#[test]
fn the_environment_sets_balancing_and_health() {
    let environment = [
        ("CORELANE_LOAD_BALANCER__ALGORITHM", "consistent-hash"),
        ("CORELANE_LOAD_BALANCER__HASH_KEY", "header:X-User"),
        ("CORELANE_LOAD_BALANCER__HASH_BOUND", "off"),
        ("CORELANE_HEALTH_CHECK__TYPE", "http"),
        ("CORELANE_HEALTH_CHECK__HEADERS", "X-A: 1, X-B: 2"),
        ("CORELANE_HEALTH_CHECK__STATUS", "2xx,404"),
        ("CORELANE_RETRY__ON", "connect,500-504"),
        ("CORELANE_STICKY__MAX_AGE", "1h"),
        ("CORELANE_STICKY__COOKIE", "sid"),
        ("CORELANE_EVENTS__WEBHOOK", "http://hooks.example:81/x?y"),
    ];
    let (_, plan) = load("backends = [\"http://a\"]", &environment, &[]).unwrap();
    let cluster = &plan.clusters[0];
    assert_eq!(
        (cluster.algorithm, &cluster.hash_key),
        (
            Algorithm::ConsistentHash {
                bound_percent: None
            },
            &HashKey::Header("x-user".into())
        )
    );
    let check = cluster.check.as_ref().unwrap();
    let CheckKind::Http {
        fields, statuses, ..
    } = &check.kind
    else {
        panic!("{check:?}");
    };
    assert_eq!(fields[..], ["X-A: 1".into(), "X-B: 2".into()]);
    assert_eq!(statuses.0[..], [(200, 299), (404, 404)]);
    let on = &plan.routes[0].retry.on;
    assert_eq!((on.connect, on.closed), (true, false));
    assert_eq!(on.statuses.0[..], [(500, 504)]);
    let sticky = cluster.sticky.as_ref().unwrap();
    assert_eq!((&*sticky.cookie, sticky.max_age_s), ("sid", Some(3600)));
    let webhook = plan.webhook.as_ref().unwrap();
    assert_eq!(
        (&*webhook.authority, &*webhook.path),
        ("hooks.example:81", "/x?y")
    );
}

#[test]
fn a_substituted_string_may_spell_a_number_or_a_list() {
    let toml = r#"
        backends = ["http://${HOST}:${PORT:-81}", { url = "http://b", weight = "${WEIGHT:-2}" }]
        [server]
        listen = "${LISTEN}"
        shards = "${SHARDS:-auto}"
        pin = "${PIN:-false}"
        [forwarding]
        via = "a$$b"
    "#;
    let environment = [
        ("HOST", "a"),
        ("LISTEN", "127.0.0.1:1,127.0.0.1:2"),
        ("SHARDS", "7"),
    ];
    let (_, plan) = load(toml, &environment, &[]).unwrap();
    assert_eq!(&*plan.backends[0].url, "http://a:81");
    assert_eq!(
        (
            plan.backends[1].weight,
            plan.server.listen.len(),
            plan.server.shards
        ),
        (2, 2, Some(7))
    );
    assert_eq!((plan.server.pin, &*plan.forwarding.via), (false, "a$b"));
}

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

#[test]
fn a_file_cut_or_spoiled_anywhere_gives_a_report_or_a_plan() {
    let text = long_reference();
    for at in (0..text.len())
        .filter(|at| text.is_char_boundary(*at))
        .step_by(29)
    {
        let _ = load(&text[..at], &[], &[]);
    }
    for at in (0..text.len())
        .filter(|at| text.is_char_boundary(*at) && text.is_char_boundary(at + 1))
        .step_by(97)
    {
        for spoil in ["\"", "[", "=", "\n", "${", "\u{0}", "é"] {
            let _ = load(
                &format!("{}{spoil}{}", &text[..at], &text[at + 1..]),
                &[],
                &[],
            );
        }
    }
    let deep = format!("a = {}1{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(load(&deep, &[], &[]).is_err());
}

#[test]
fn every_top_level_key_has_a_variable_and_scopes_nest() {
    for key in Key::settings() {
        assert!(key.allows(Scope::Top), "{key:?}");
        // Only limits of rates may be a route's without being a cluster's.
        assert!(
            !key.allows(Scope::Route)
                || key.allows(Scope::Cluster)
                || key.section() == "rate_limit",
            "{key:?}"
        );
        assert_eq!(key.spec().path, format!("{}.{}", key.section(), key.leaf()));
    }
}

/// A directory of this test's own, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.0.join(name), text).unwrap();
    }

    fn run(&self, arguments: &str, environment: &[(&str, &str)]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
        command
            .current_dir(&self.0)
            .args(arguments.split_whitespace());
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CORELANE_")) {
            command.env_remove(name);
        }
        command.envs(environment.iter().copied()).output().unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
#[expect(
    clippy::too_many_lines,
    clippy::type_complexity,
    reason = "one table of cases"
)]
fn exit_codes_and_streams_of_the_binary() {
    let folder = Folder::new("config_exit_codes");
    folder.write("good.toml", "backends = [\"http://127.0.0.1:3001\"]\n");
    folder.write("bad.toml", "bakends = []\n");
    folder.write("latin1.toml", b"# \xe4\n");
    // Arguments, variables, exit code, beginning of stdout, part of stderr.
    let version = concat!("corelane ", env!("CARGO_PKG_VERSION"), " (");
    let cases: &[(&str, &[(&str, &str)], i32, &str, &str)] = &[
        (
            "check good.toml",
            &[],
            0,
            "good.toml: fine: 1 backend in 1 cluster, 1 route\n",
            "",
        ),
        ("-t -c good.toml", &[], 0, "good.toml: fine", ""),
        (
            "check",
            &[("CORELANE_CONFIG", "good.toml")],
            0,
            "good.toml: fine",
            "",
        ),
        (
            "check",
            &[("CORELANE_BACKENDS", "http://a")],
            0,
            "(no file): fine",
            "",
        ),
        (
            "check bad.toml",
            &[],
            78,
            "",
            "bad.toml:1:1: bakends: unknown key",
        ),
        ("-c bad.toml", &[], 78, "", "did you mean \"backends\"?"),
        (
            "config show -config bad.toml",
            &[],
            78,
            "",
            "2 problems in bad.toml",
        ),
        ("check none.toml", &[], 78, "", "cannot read none.toml"),
        ("check .", &[], 78, "", "cannot read ."),
        ("check latin1.toml", &[], 78, "", "latin1.toml:1: not UTF-8"),
        (
            "check",
            &[],
            78,
            "",
            "there is no configuration: looked for config.toml and /etc/corelane/config.toml",
        ),
        (
            "config show -c good.toml --shards 2",
            &[],
            0,
            "backends = [\"http://127.0.0.1:3001\"]\n",
            "",
        ),
        (
            "check good.toml",
            &[("CORELANE_SERVR__PIN", "true")],
            78,
            "",
            "did you mean CORELANE_SERVER__PIN?",
        ),
        ("--shard 2", &[], 2, "", "did you mean --shards?"),
        ("version", &[], 0, version, ""),
        ("-V", &[], 0, version, ""),
        ("--help", &[], 0, "Corelane", ""),
    ];
    for (arguments, environment, code, stdout, stderr) in cases {
        let output = folder.run(arguments, environment);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(*code), "{arguments}\n{out}{err}");
        assert!(
            out.starts_with(stdout) && out.is_empty() == stdout.is_empty(),
            "{arguments}\n{out}"
        );
        assert!(
            err.contains(stderr) && err.is_empty() == stderr.is_empty(),
            "{arguments}\n{err}"
        );
        assert!(
            !out.contains('\u{1b}') && !err.contains('\u{1b}'),
            "{arguments}: colour without a terminal"
        );
    }
}
