//! Flags, environment, file, default: which counts, and how each spells a value.

use corelane::config::keys::Key;
use corelane::config::plan::{CheckKind, Engine, HashKey, HostPolicy, Level};
use corelane::policy::balance::Algorithm;

use super::load;

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
        ("CORELANE_CACHE__ENABLED", "true"),
        ("CORELANE_CACHE__KEY", "host,path"),
        ("CORELANE_CACHE__TTL_BY_STATUS", "404: 10s, 301: 1h"),
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
    let cache = plan.routes[0].cache.as_ref().unwrap();
    assert_eq!((cache.key.scheme, cache.key.host), (false, true));
    assert_eq!(*cache.status_ttls, [(404, 10), (301, 3600)]);
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
