//! Clusters: whose value counts, balancing, health, backups, splits.

use std::collections::BTreeSet;

use corelane::config::plan::{Address, CheckKind, Destination, HashKey, HostPolicy};
use corelane::policy::ClusterId;
use corelane::policy::balance::Algorithm;
use corelane::policy::retry::{Cause, Statuses};

use super::plan;

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
