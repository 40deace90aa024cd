//! The one list of configuration keys.
//!
//! Decides: which keys exist, where each may stand, its default, its bounds and its one line of meaning. The
//! reader, its did-you-mean, `config show` and the test of `config.toml` all walk this list. May not know:
//! files, plans. Invariant: every default is a valid value of its key (a test reads each of them).

use super::plan::{Engine, Format, Level};
use super::units::{show_duration, show_size};

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

/// What a key takes.
#[derive(Debug)]
pub enum Kind {
    Flag,
    /// A whole number, or a word in its place.
    Whole {
        min: u64,
        max: u64,
        word: Option<&'static str>,
    },
    Duration {
        min: u64,
        max: u64,
        off: bool,
    },
    Size {
        min: u64,
        max: u64,
        unlimited: bool,
    },
    Choice(&'static [&'static str]),
    Listens,
    Admin,
    Congestion,
    Token,
    Cidrs,
    Host,
    /// The tree itself: clusters, routes, backends and their names. Read by `file`, no generic value.
    Structure,
}

pub const LEVELS: [Level; 4] = [Level::Error, Level::Warn, Level::Info, Level::Debug];
pub const LEVEL_NAMES: [&str; 4] = ["error", "warn", "info", "debug"];
pub const FORMATS: [Format; 2] = [Format::Json, Format::Combined];
pub const FORMAT_NAMES: [&str; 2] = ["json", "combined"];
pub const ENGINES: [Engine; 3] = [Engine::Auto, Engine::IoUring, Engine::Epoll];
pub const ENGINE_NAMES: [&str; 3] = ["auto", "io_uring", "epoll"];
/// Both names are one algorithm: smooth weighted round robin, which is plain where weights are equal.
pub const ALGORITHM_NAMES: [&str; 2] = ["round_robin", "weighted_round_robin"];

pub const LISTENS_MAX: usize = 64;
pub const CIDRS_MAX: usize = 4096;
pub const BACKENDS_MAX: usize = 10_000;
pub const CLUSTERS_MAX: usize = 10_000;
pub const ROUTES_MAX: usize = 50_000;
pub const HOSTS_MAX: usize = 1000;
pub const METHODS_MAX: usize = 64;
pub const WEIGHT_MAX: u64 = 65_535;

const MS: u64 = 1_000_000;
const DAY: u64 = 24 * 3_600 * 1_000 * MS;
const KIB: u64 = 1024;

const fn duration(max: u64, off: bool) -> Kind {
    Kind::Duration { min: MS, max, off }
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
        "", "short form: one cluster named default with one route for everything; URLs or { url, weight }";

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

    AdminListen "admin.listen" TOP Kind::Admin,
        "\"127.0.0.1:2112\"", "where /healthz, /readyz and /metrics answer";

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

    PoolIdlePerShard "pool.idle_per_shard" CLUSTERS Kind::Whole { min: 0, max: 65_536, word: None },
        "64", "idle connections that each shard keeps per backend";
    PoolIdleTotal "pool.idle_total" CLUSTERS Kind::Whole { min: 0, max: 1_000_000, word: None },
        "1024", "idle connections kept per backend over all shards";
    PoolIdleTimeout "pool.idle_timeout" CLUSTERS duration(DAY, false),
        "\"30s\"", "an idle backend connection is closed after this";
    PoolTcpCongestion "pool.tcp_congestion" CLUSTERS Kind::Congestion,
        "\"\"", "congestion control towards backends; empty leaves the system's";

    Algorithm "load_balancer.algorithm" CLUSTERS Kind::Choice(&ALGORITHM_NAMES),
        "\"round_robin\"", "who gets the next request; both names weigh smoothly by weight";

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
        "", "URLs or { url, weight }, up to 10000 over all clusters";
    BackendUrl "clusters[].backends[].url" TOP Kind::Structure,
        "", "http://host, http://host:port, http://[v6]:port or unix:/path";
    BackendWeight "clusters[].backends[].weight" TOP Kind::Structure,
        "", "share of the traffic, 0 to 65535, default 1; 0 takes none";

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
        "", "the cluster that serves it; required";
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

impl Kind {
    /// What the key takes, with its bounds, as reports and `config.toml` say it.
    pub fn bounds(&self) -> String {
        match self {
            Kind::Flag => "true or false".to_owned(),
            Kind::Whole {
                min,
                max,
                word: None,
            } => format!("{min} to {max}"),
            Kind::Whole {
                min,
                max,
                word: Some(word),
            } => format!("\"{word}\" or {min} to {max}"),
            Kind::Duration { min, max, off } => {
                let off = if *off { "\"off\" or " } else { "" };
                format!("{off}{} to {}", show_duration(*min), show_duration(*max))
            }
            Kind::Size {
                min,
                max,
                unlimited: false,
            } => format!("{} to {}", show_size(*min), show_size(*max)),
            Kind::Size {
                min,
                max: _,
                unlimited: true,
            } => format!("\"unlimited\" or {} and more", show_size(*min)),
            Kind::Choice(names) => quoted(names),
            Kind::Listens => format!(
                "\"ip:port\", \"[v6]:port\", \"unix:/path\" or a list of up to {LISTENS_MAX}"
            ),
            Kind::Admin => "\"ip:port\" or \"off\"".to_owned(),
            Kind::Congestion => "a name such as \"cubic\", up to 15 characters".to_owned(),
            Kind::Token => "a token of 1 to 64 characters".to_owned(),
            Kind::Cidrs => {
                format!("a list of addresses and blocks such as \"10.0.0.0/8\", up to {CIDRS_MAX}")
            }
            Kind::Host => "\"pass\", \"backend\" or { fixed = \"example.org\" }".to_owned(),
            Kind::Structure => String::new(),
        }
    }
}

/// `"a", "b" or "c"`.
fn quoted(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    match names.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        Some((last, _)) => last.clone(),
        None => String::new(),
    }
}
