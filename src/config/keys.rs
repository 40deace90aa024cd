//! The one list of configuration keys.
//!
//! Decides: which keys exist, where each may stand, its default, its bounds and its one line of meaning. The
//! reader, its did-you-mean, `config show` and the test of `config.toml` all walk this list. May not know:
//! files, plans. Invariant: every default is a valid value of its key (a test reads each of them).

use super::kinds::{
    ALL_DOWN_NAMES, CHECK_TYPE_NAMES, CHOOSING_NAMES, ENGINE_NAMES, FORMAT_NAMES, Kind, LEVEL_NAMES,
};
use crate::policy::health::{STREAK_MAX, TRIALS_MAX};
use crate::policy::retry::BACKOFF_MAX_NS;

/// Where a key may stand. A route's value goes before its cluster's, that before the top level's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    Top,
    Cluster,
    Route,
}

const TOP: &[Scope] = &[Scope::Top];
const CLUSTERS: &[Scope] = &[Scope::Top, Scope::Cluster];
const ROUTES: &[Scope] = &[Scope::Top, Scope::Cluster, Scope::Route];

#[derive(Debug)]
pub struct Spec {
    /// `section.key`; for `Kind::Structure` the place in the tree, `clusters[].name`.
    pub path: &'static str,
    pub scopes: &'static [Scope],
    pub kind: Kind,
    /// As it is written in TOML; empty for `Kind::Structure`.
    pub default: &'static str,
    pub meaning: &'static str,
}

const MS: u64 = 1_000_000;
const HOUR: u64 = 3_600 * 1_000 * MS;
const DAY: u64 = 24 * HOUR;
const KIB: u64 = 1024;

const fn duration(max: u64, off: bool) -> Kind {
    Kind::Duration { min: MS, max, off }
}

const fn whole(min: u64, max: u64) -> Kind {
    Kind::Whole {
        min,
        max,
        word: None,
    }
}

const fn or_off(min: u64, max: u64) -> Kind {
    Kind::Whole {
        min,
        max,
        word: Some("off"),
    }
}

macro_rules! keys {
    ($($key:ident $path:literal $scopes:ident $kind:expr, $default:literal, $meaning:literal;)*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Key { $($key),* }

        impl Key {
            pub const ALL: &'static [Key] = &[$(Key::$key),*];

            pub fn spec(self) -> &'static Spec {
                match self {
                    $(Key::$key => const {
                        &Spec { path: $path, scopes: $scopes, kind: $kind, default: $default, meaning: $meaning }
                    },)*
                }
            }
        }
    };
}

keys! {
    Backends "backends" TOP Kind::Structure,
        "", "short form: one cluster named default with one route for everything; URLs or { url, weight, backup }";

    ServerListen "server.listen" TOP Kind::Listens,
        "\"0.0.0.0:8080\"", "where clients connect";
    ServerShards "server.shards" TOP Kind::Whole { min: 1, max: 1024, word: Some("auto") },
        "\"auto\"", "threads that serve; auto is one per core, within affinity and quota";
    ServerPin "server.pin" TOP Kind::Flag,
        "true", "tie each shard to its core";
    ServerEngine "server.engine" TOP Kind::Choice(&ENGINE_NAMES),
        "\"auto\"", "how shards wait for the kernel; auto takes io_uring where it is allowed";
    ServerDrainTimeout "server.drain_timeout" TOP duration(DAY, false),
        "\"25s\"", "how long requests in flight may go on after SIGTERM";
    ServerTcpCongestion "server.tcp_congestion" TOP Kind::Congestion,
        "\"\"", "congestion control towards clients; empty leaves the system's";

    Stuck "watchdog.stuck" TOP Kind::Duration { min: 100 * MS, max: HOUR, off: false },
        "\"1s\"", "a shard without a sign of life for this long is reported";

    AdminListen "admin.listen" TOP Kind::Admin,
        "\"127.0.0.1:2112\"", "where /healthz, /readyz and /metrics answer";

    Webhook "events.webhook" TOP Kind::Webhook,
        "\"\"", "where each change of a backend's health is posted, as JSON; empty is off";

    LogLevel "log.level" TOP Kind::Choice(&LEVEL_NAMES),
        "\"info\"", "least severe message that is written to stderr";
    LogAccess "log.access" TOP Kind::Flag,
        "true", "write one line per request to stdout";
    LogFormat "log.format" TOP Kind::Choice(&FORMAT_NAMES),
        "\"json\"", "form of the access line";

    ClientHeader "timeouts.client_header" TOP duration(DAY, false),
        "\"10s\"", "from a request's first byte to its whole head, else 408; top level only";
    ClientBody "timeouts.client_body" ROUTES duration(DAY, false),
        "\"30s\"", "longest silence while the client sends a body, else 408";
    Keepalive "timeouts.keepalive" TOP duration(DAY, false),
        "\"1m\"", "an idle client connection is closed after this; top level only";
    ClientWrite "timeouts.client_write" ROUTES duration(DAY, false),
        "\"30s\"", "longest stall while the client does not take its response";
    Connect "timeouts.connect" ROUTES duration(DAY, false),
        "\"2s\"", "to open a connection to a backend, else 504";
    FirstByte "timeouts.first_byte" ROUTES duration(DAY, false),
        "\"30s\"", "from the request sent to the response's first byte, else 504";
    BackendIdle "timeouts.backend_idle" ROUTES duration(DAY, false),
        "\"1m\"", "longest silence of a backend within a response";
    Request "timeouts.request" ROUTES duration(DAY, true),
        "\"off\"", "the whole request; it cuts streams, so it is off";
    Tunnel "timeouts.tunnel" ROUTES duration(30 * DAY, false),
        "\"1h\"", "longest silence of both sides of a WebSocket or other upgrade";

    HeaderBytes "limits.header_bytes" TOP Kind::Size { min: KIB, max: 256 * KIB, unlimited: false },
        "\"32KiB\"", "longest head of a request, else 431";
    HeaderCount "limits.header_count" TOP Kind::Whole { min: 1, max: crate::h1::HEADER_COUNT_MAX as u64, word: None },
        "100", "most header fields in a request, else 431";
    RequestLine "limits.request_line" TOP Kind::Size { min: 256, max: 64 * KIB, unlimited: false },
        "\"8KiB\"", "longest request line, else 414";
    Body "limits.body" ROUTES Kind::Size { min: 0, max: 1 << 60, unlimited: true },
        "\"unlimited\"", "largest request body, else 413";
    BodyRate "limits.body_rate" ROUTES Kind::Size { min: 0, max: 1 << 40, unlimited: false },
        "\"0B\"", "slowest request body per second, averaged over timeouts.client_body, else 408; 0B is off";
    Connections "limits.connections" TOP Kind::Whole { min: 0, max: 10_000_000, word: None },
        "0", "most client connections; 0 is as many as file descriptors allow";
    ConnectionRequests "limits.connection_requests" TOP Kind::Whole { min: 1, max: 1_000_000_000, word: None },
        "10000", "requests on one client connection before it is closed, ± 10 %";
    Requests "limits.requests" ROUTES whole(0, 10_000_000),
        "0", "requests of one route in flight over all shards, else 503; 0 is no limit";
    BackendConnections "limits.backend_connections" CLUSTERS whole(0, 1_000_000),
        "0", "connections to one backend over all shards, idle ones included; 0 is no limit";

    PoolIdlePerShard "pool.idle_per_shard" CLUSTERS Kind::Whole { min: 0, max: 65_536, word: None },
        "64", "idle connections that each shard keeps per backend";
    PoolIdleTotal "pool.idle_total" CLUSTERS Kind::Whole { min: 0, max: 1_000_000, word: None },
        "1024", "idle connections kept per backend over all shards";
    PoolIdleTimeout "pool.idle_timeout" CLUSTERS duration(DAY, false),
        "\"30s\"", "an idle backend connection is closed after this";
    PoolTcpCongestion "pool.tcp_congestion" CLUSTERS Kind::Congestion,
        "\"\"", "congestion control towards backends; empty leaves the system's";

    QueueLength "queue.length" CLUSTERS whole(0, 1_000_000),
        "1024", "requests of all shards that may wait while every backend has limits.backend_connections, else 503";
    QueueTimeout "queue.timeout" CLUSTERS duration(DAY, false),
        "\"5s\"", "longest wait in the queue, else 503";

    Algorithm "load_balancer.algorithm" CLUSTERS Kind::Choice(&CHOOSING_NAMES),
        "\"round_robin\"", "who gets the next request; each algorithm goes by weight";
    HashKey "load_balancer.hash_key" CLUSTERS Kind::HashKey,
        "\"\"", "what consistent_hash goes by; required there, empty elsewhere";
    HashBound "load_balancer.hash_bound" CLUSTERS or_off(101, 1000),
        "125", "most requests in flight of a backend, in percent of the average, before consistent_hash takes the next";
    AllDown "load_balancer.all_down" CLUSTERS Kind::Choice(&ALL_DOWN_NAMES),
        "\"fail\"", "when no backend is healthy: fail answers 503, open uses them all the same";

    CheckType "health_check.type" CLUSTERS Kind::Choice(&CHECK_TYPE_NAMES),
        "\"off\"", "tcp opens a connection to each backend, http sends a request too";
    CheckMethod "health_check.method" CLUSTERS Kind::Method,
        "\"GET\"", "how a backend is asked";
    CheckPath "health_check.path" CLUSTERS Kind::Target,
        "\"/\"", "what it is asked for; a query may follow";
    CheckHost "health_check.host" CLUSTERS Kind::Authority,
        "\"\"", "the Host that it is asked with; empty is its own";
    CheckHeaders "health_check.headers" CLUSTERS Kind::Headers,
        "[]", "further header fields that are sent";
    CheckStatus "health_check.status" CLUSTERS Kind::Statuses,
        "[\"2xx\", \"3xx\"]", "statuses that pass";
    CheckBody "health_check.body" CLUSTERS Kind::Text { max: 256 },
        "\"\"", "what the response's body must contain; empty is anything";
    CheckInterval "health_check.interval" CLUSTERS duration(DAY, false),
        "\"5s\"", "from one check to the next; 80 to 100 % of it, by chance";
    CheckTimeout "health_check.timeout" CLUSTERS duration(DAY, false),
        "\"2s\"", "a check that takes longer fails";
    CheckRise "health_check.rise" CLUSTERS whole(1, STREAK_MAX),
        "2", "checks in succession that must pass before a backend is up again";
    CheckFall "health_check.fall" CLUSTERS whole(1, STREAK_MAX),
        "3", "checks in succession that must fail before a backend is down";
    CheckRequired "health_check.require_healthy_on_start" CLUSTERS Kind::Flag,
        "false", "refuse to start while no backend of the cluster is healthy";

    PassiveErrors "passive_health.errors" CLUSTERS whole(0, STREAK_MAX),
        "5", "failed requests in succession that eject a backend; 0 is off";
    PassiveOn "passive_health.on" CLUSTERS Kind::Causes { invalid: true },
        "[\"connect\", \"closed\", \"timeout\", \"invalid\", \"502\", \"503\", \"504\"]", "what counts as a failed request";
    PassiveEjection "passive_health.ejection" CLUSTERS duration(DAY, false),
        "\"10s\"", "how long the first time; each further one lasts twice as long";
    PassiveEjectionMax "passive_health.ejection_max" CLUSTERS duration(DAY, false),
        "\"5m\"", "how long at most";
    PassiveShare "passive_health.share" CLUSTERS whole(0, 100),
        "50", "most backends of a cluster that may be ejected at one time, in percent";

    BreakerEnabled "circuit_breaker.enabled" CLUSTERS Kind::Flag,
        "false", "open the circuit to a backend when too large a share of its requests fails";
    BreakerOn "circuit_breaker.on" CLUSTERS Kind::Causes { invalid: true },
        "[\"connect\", \"closed\", \"timeout\", \"invalid\", \"5xx\"]", "what counts as a failed request";
    BreakerRatio "circuit_breaker.ratio" CLUSTERS whole(1, 100),
        "50", "failed requests of a hundred that open it";
    BreakerVolume "circuit_breaker.volume" CLUSTERS whole(1, 1_000_000),
        "20", "requests in the window below which it stays closed";
    BreakerWindow "circuit_breaker.window" CLUSTERS Kind::Duration { min: 100 * MS, max: HOUR, off: false },
        "\"10s\"", "the time over which requests are counted";
    BreakerOpen "circuit_breaker.open" CLUSTERS duration(DAY, false),
        "\"5s\"", "how long it is open the first time; each further one lasts twice as long";
    BreakerOpenMax "circuit_breaker.open_max" CLUSTERS duration(DAY, false),
        "\"1m\"", "how long it is open at most";
    BreakerTrials "circuit_breaker.trials" CLUSTERS whole(1, TRIALS_MAX),
        "5", "requests that are let through then, over all shards; it closes when all succeed";

    RetryOn "retry.on" ROUTES Kind::Causes { invalid: false },
        "[\"connect\", \"closed\"]", "what is tried again, at another backend; what may have been executed only if it is idempotent";
    RetryAttempts "retry.attempts" ROUTES whole(0, 7),
        "1", "most further attempts of one request; refused connections do not count";
    RetryBackoff "retry.backoff" ROUTES duration(BACKOFF_MAX_NS, true),
        "\"25ms\"", "longest pause before the first of them, random; up to twice as long before each further one, at most 1s";
    RetryBudget "retry.budget" TOP whole(0, 100),
        "20", "most hedges, and retries for slowness or a status, at one time, in percent of the requests in flight; top level only";
    RetryBudgetLeast "retry.budget_least" TOP whole(0, 1_000_000),
        "3", "and so many more; top level only";

    HedgePercentile "hedge.percentile" CLUSTERS or_off(50, 99),
        "\"off\"", "an idempotent request that takes longer than this percentile gets a second attempt beside the first";

    Adaptive "concurrency.adaptive" CLUSTERS Kind::Flag,
        "false", "limit the requests in flight of a cluster to what its latency shows that it carries, else 503";
    AdaptiveLeast "concurrency.least" CLUSTERS Kind::Whole { min: 1, max: 1_000_000, word: None },
        "20", "where the adaptive limit begins, and the least that it is";
    AdaptiveMost "concurrency.most" CLUSTERS Kind::Whole { min: 1, max: 1_000_000, word: None },
        "2000", "the most that the adaptive limit is";

    SlowStart "slow_start.duration" CLUSTERS duration(DAY, true),
        "\"10s\"", "time in which a backend that comes back grows into its share of the traffic";

    StickyCookie "sticky.cookie" CLUSTERS Kind::Cookie,
        "\"\"", "cookie by which clients come back to the backend that served them; empty is off";
    StickyMaxAge "sticky.max_age" CLUSTERS Kind::Seconds { max: 400 * DAY },
        "\"off\"", "how long the browser keeps that cookie, in whole seconds; off is until it is closed";

    TrustedProxies "forwarding.trusted_proxies" TOP Kind::Cidrs,
        "[]", "peers whose X-Forwarded-* is believed";
    Via "forwarding.via" TOP Kind::Token,
        "\"corelane\"", "our name in the Via field";
    Host "forwarding.host" ROUTES Kind::Host,
        "\"pass\"", "the Host a backend sees: the client's, the backend's own, or a fixed one";

    Clusters "clusters" TOP Kind::Structure,
        "", "long form: named groups of equal backends, up to 10000";
    ClusterName "clusters[].name" TOP Kind::Structure,
        "", "unique; letters, digits, dot, dash and underscore, up to 64";
    ClusterBackends "clusters[].backends" TOP Kind::Structure,
        "", "URLs or { url, weight, backup }, up to 10000 over all clusters";
    BackendUrl "clusters[].backends[].url" TOP Kind::Structure,
        "", "http://host, http://host:port, http://[v6]:port or unix:/path";
    BackendWeight "clusters[].backends[].weight" TOP Kind::Structure,
        "", "share of the traffic, 0 to 65535, default 1; 0 takes none";

    BackendBackup "clusters[].backends[].backup" TOP Kind::Structure,
        "", "true: used only while no other backend of the cluster can be; default false";
    ClusterFailover "clusters[].failover" TOP Kind::Structure,
        "", "another cluster that serves what this one cannot; default none";

    Routes "routes" TOP Kind::Structure,
        "", "long form: which requests go to which cluster, up to 50000";
    RouteName "routes[].name" TOP Kind::Structure,
        "", "unique, for logs and metrics; default routes[N]";
    RouteHosts "routes[].hosts" TOP Kind::Structure,
        "", "exact or *.suffix, up to 1000; default any host";
    RoutePathPrefix "routes[].path_prefix" TOP Kind::Structure,
        "", "the longest prefix that matches wins; default /";
    RoutePath "routes[].path" TOP Kind::Structure,
        "", "the whole path, in place of path_prefix; goes before every prefix";
    RouteMethods "routes[].methods" TOP Kind::Structure,
        "", "up to 64; default any method";
    RouteCluster "routes[].cluster" TOP Kind::Structure,
        "", "the cluster that serves it; this or split is required";
    RouteSplit "routes[].split" TOP Kind::Structure,
        "", "clusters that share its requests, as { cluster, weight }, up to 64; default weight 1, 0 takes none";
    RouteSplitHeader "routes[].split_header" TOP Kind::Structure,
        "", "a request's field that names one of them, which goes before the weights; default none";
}

impl Key {
    /// All keys with a generic value.
    pub fn settings() -> impl Iterator<Item = Key> {
        Key::ALL
            .iter()
            .copied()
            .filter(|key| !matches!(key.spec().kind, Kind::Structure))
    }

    pub fn section(self) -> &'static str {
        self.spec()
            .path
            .split_once('.')
            .map_or("", |(section, _)| section)
    }

    pub fn leaf(self) -> &'static str {
        self.spec()
            .path
            .rsplit_once('.')
            .map_or(self.spec().path, |(_, leaf)| leaf)
    }

    /// The words of a `Kind::Choice`, in the order of its `Value::Choice`.
    pub fn choices(self) -> &'static [&'static str] {
        if let Kind::Choice(names) = self.spec().kind {
            names
        } else {
            &[]
        }
    }

    /// The variable that overrides this key at the top level.
    pub fn variable(self) -> String {
        format!(
            "CORELANE_{}",
            self.spec().path.replace('.', "__").to_ascii_uppercase()
        )
    }

    pub fn allows(self, scope: Scope) -> bool {
        self.spec().scopes.contains(&scope)
    }
}
