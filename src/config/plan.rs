//! What shards run: resolved, bounded, immutable.
//!
//! Decides nothing by itself. No string is left to parse, no option is left open, names are indexes and
//! durations are nanoseconds. Invariant: every id in here is in range, every cluster has a backend and an order.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use crate::h1::Limits;
use crate::policy::balance::{Algorithm, Balance};
use crate::policy::filter::Filter;
use crate::policy::limit::RateLimit;
use crate::policy::retry::{Budget, Causes, Retry, Statuses};
use crate::policy::rewrite::{ErrorPage, Own, Rewrite};
use crate::policy::route::Router;
use crate::policy::{BackendId, ClusterId};
use crate::policy::{adaptive, cache, health};

pub use crate::policy::Nanos;
pub use crate::policy::cidr::Cidr;

/// One configuration, ready to run. Shared by all shards and never changed.
#[derive(Debug)]
pub struct Plan {
    pub server: Server,
    /// `None` when `[admin] listen = "off"`.
    pub admin: Option<SocketAddr>,
    pub log: Log,
    pub limits: Limits,
    /// Most client connections in the process; 0 means as many as file descriptors allow.
    pub connections_max: u32,
    /// Requests on one client connection before we close it (± 10 % jitter).
    pub connection_requests_max: u32,
    /// A whole head must arrive within this time of its first byte.
    pub client_header_ns: Nanos,
    /// An idle client connection is closed after this time.
    pub keepalive_ns: Nanos,
    pub forwarding: Forwarding,
    pub router: Router,
    /// Client connections of one address in the process; 0 is no limit. Trusted proxies have none.
    pub connections_per_ip_max: u32,
    /// New connections of one address in a second; 0 is no limit. Trusted proxies have none.
    pub accepts_per_ip_max: u32,
    /// Indexed by `LimitId`.
    pub rate_limits: Vec<RateLimit>,
    /// Indexed by `RouteId`.
    pub routes: Vec<Route>,
    /// For what no route answers. The first with the status counts.
    pub error_pages: Box<[ErrorPage]>,
    /// Indexed by `ClusterId`.
    pub clusters: Vec<Cluster>,
    /// Indexed by `BackendId`: all backends of all clusters.
    pub backends: Vec<Backend>,
    /// Bounds the retries and hedges of the process.
    pub budget: Budget,
    /// Where changes of health are posted.
    pub webhook: Option<Webhook>,
    /// A shard without a sign of life for this long is reported.
    pub stuck_ns: Nanos,
    /// What all caching routes share; `None`: there is none.
    pub cache: Option<cache::Budget>,
}

impl Plan {
    /// A cluster and those that stand in for it, one after the other. No circle leads back: a check refuses it.
    pub fn chain(&self, entry: ClusterId) -> impl Iterator<Item = ClusterId> {
        std::iter::successors(Some(entry), |id| self.clusters[id.0 as usize].failover)
    }

    /// Some route compares passwords.
    pub fn needs_passwords(&self) -> bool {
        let mut filters = self.routes.iter().flat_map(|route| &route.filters);
        filters.any(|filter| matches!(filter, Filter::Basic(_)))
    }

    /// One line for people: `fine: 3 backends in 1 cluster, 1 route`.
    pub fn summary(&self) -> String {
        let count = |count: usize, noun: &str| match count {
            1 => format!("1 {noun}"),
            _ => format!("{count} {noun}s"),
        };
        format!(
            "fine: {} in {}, {}",
            count(self.backends.len(), "backend"),
            count(self.clusters.len(), "cluster"),
            count(self.routes.len(), "route")
        )
    }
}

#[derive(Debug, Clone)]
pub struct Server {
    pub listen: Vec<Listen>,
    /// `None` is "auto": min(CPU affinity mask, ceil(cgroup quota)).
    pub shards: Option<u16>,
    pub pin: bool,
    pub engine: Engine,
    pub drain_timeout_ns: Nanos,
    /// `TCP_CONGESTION` for accepted connections; `None` leaves the system's choice.
    pub tcp_congestion: Option<Box<str>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    Auto,
    IoUring,
    Epoll,
}

#[derive(Debug, Clone)]
pub struct Log {
    pub level: Level,
    pub access: bool,
    pub format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Error,
    Warn,
    Info,
    Debug,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Json,
    Combined,
}

#[derive(Debug, Clone)]
pub struct Forwarding {
    /// Peers whose X-Forwarded-* we believe.
    pub trusted_proxies: Vec<Cidr>,
    /// Our name in Via; a token.
    pub via: Box<str>,
    /// Backends get `Forwarded` (RFC 7239) too.
    pub forwarded: bool,
    /// Which field of trusted proxies tells the client.
    pub client_field: ClientField,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientField {
    XForwardedFor,
    Forwarded,
}

impl Forwarding {
    pub fn trusts(&self, ip: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|cidr| cidr.contains(ip))
    }
}

#[derive(Debug)]
pub struct Route {
    /// As in the configuration, or `routes[3]`.
    pub name: Box<str>,
    pub destination: Destination,
    /// Requests in flight in the process, beyond which more are refused; 0 is no limit.
    pub requests_max: u32,
    pub retry: Retry,
    /// Largest request body in bytes; `None` is unlimited.
    pub body_bytes_max: Option<u64>,
    /// Slowest request body in bytes per second, averaged over `client_body_ns`; 0 is off.
    pub body_rate_min: u64,
    pub host: HostPolicy,
    pub timeouts: Timeouts,
    /// In the order of their ranks.
    pub filters: Box<[Filter]>,
    pub rewrite: Option<Rewrite>,
    /// The first with the status counts.
    pub error_pages: Box<[ErrorPage]>,
    /// Gets a copy of the requests.
    pub mirror: Option<Mirror>,
    /// Requests in flight of one client in the process; 0 is no limit.
    pub requests_per_ip_max: u32,
    /// A request's body is read whole before a backend sees anything, if it has at most so many bytes; else 413.
    pub buffer_bytes_max: Option<u64>,
    /// Most bytes per second of one response, of one request body; 0 is no limit.
    pub response_rate_max: u64,
    pub request_rate_max: u64,
    /// `None`: nothing is stored.
    pub cache: Option<Arc<cache::Rules>>,
}

impl Route {
    /// Some of its filters wants to know who asks.
    pub fn knows_users(&self) -> bool {
        self.filters.iter().any(Filter::is_access)
    }
}

/// A cluster that gets copies of requests. Its answers reach nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mirror {
    pub cluster: ClusterId,
    /// Of a hundred requests.
    pub percent: u32,
}

/// The cluster that serves a route's requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    One(ClusterId),
    Split(Split),
    /// No cluster: the proxy answers.
    Own(Own),
}

/// Requests shared out between clusters by weight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// A whole smooth round, walked in a circle by each shard. Never empty.
    pub order: Box<[ClusterId]>,
    /// All of them: the field leads to those of weight 0 too, which the round leaves out.
    pub clusters: Box<[ClusterId]>,
    /// A request field whose value, the name of one of the clusters, goes before the weights. Lower case.
    pub header: Option<Box<str>>,
}

/// Which Host a backend sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostPolicy {
    /// What the client sent.
    Pass,
    /// The backend's own authority.
    Backend,
    /// Always this one.
    Fixed(Box<str>),
}

/// Deadlines of one request, after its route is known. A value of 0 is "off" where the key allows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Longest silence while the client sends its body.
    pub client_body_ns: Nanos,
    /// Longest stall while the client does not take its response.
    pub client_write_ns: Nanos,
    pub connect_ns: Nanos,
    /// From the request sent to the first byte of the response.
    pub first_byte_ns: Nanos,
    /// Longest silence of a backend within a response (or while it does not take a request).
    pub backend_idle_ns: Nanos,
    /// The whole request; 0 is off.
    pub request_ns: Nanos,
    /// Longest silence of both sides of a tunnel.
    pub tunnel_ns: Nanos,
}

#[derive(Debug)]
pub struct Cluster {
    pub name: Box<str>,
    /// Its backends, backups last: neighbours in `Plan::backends`.
    pub backends: Vec<BackendId>,
    pub algorithm: Algorithm,
    pub balance: Balance,
    /// Used while no other backend can be.
    pub backup: Option<Balance>,
    /// Serves what this cluster cannot. No circle leads back.
    pub failover: Option<ClusterId>,
    pub hash_key: HashKey,
    pub sticky: Option<Sticky>,
    /// Use what is down when everything is.
    pub fail_open: bool,
    pub pool: Pool,
    pub rules: health::Rules,
    pub passive: Passive,
    pub breaker: Option<Breaking>,
    pub check: Option<Check>,
    /// Refuse to start unless one of its backends is healthy.
    pub require_healthy: bool,
    /// A second attempt after this percentile of the latency; `None` is off.
    pub hedge_percentile: Option<u32>,
    /// The adaptive limit of requests in flight; `None` is off.
    pub adaptive: Option<adaptive::Bounds>,
    /// Connections to one backend in the process, idle ones included; 0 is no limit.
    pub connections_max: u32,
    /// Requests that may wait for a connection in the process, and for how long.
    pub queue_max: u32,
    pub queue_ns: Nanos,
}

/// What a consistent hash is taken of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashKey {
    /// The client's address, as trusted proxies tell it.
    Ip,
    /// The path without the query.
    Path,
    /// A field's value; lower-case name. Requests without it share one key.
    Header(Box<str>),
    Cookie(Box<str>),
}

/// Clients come back to the backend that served them, by a cookie of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sticky {
    pub cookie: Box<str>,
    /// Max-Age in seconds; `None` lasts as long as the browser.
    pub max_age_s: Option<u64>,
}

impl Sticky {
    /// The field's value that ties a client to the backend with this tag.
    pub fn set_cookie(&self, tag: u64) -> Box<str> {
        let age = self.max_age_s.map(|seconds| format!("; Max-Age={seconds}"));
        let age = age.unwrap_or_default();
        format!(
            "{}={tag:016x}; Path=/; HttpOnly; SameSite=Lax{age}",
            self.cookie
        )
        .into()
    }

    /// The tag in a cookie's value, if it is one of ours.
    pub fn tag(value: &[u8]) -> Option<u64> {
        let text = std::str::from_utf8(value)
            .ok()
            .filter(|text| text.len() == 16)?;
        u64::from_str_radix(text, 16).ok()
    }
}

/// Which failures of requests eject a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passive {
    pub on: Causes,
    /// Most backends of a hundred that may be out by ejection.
    pub share_percent: u32,
}

/// A circuit breaker for each backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breaking {
    pub on: Causes,
    pub breaker: health::Breaker,
}

/// An active check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    pub kind: CheckKind,
    /// From one check to the next: 80 to 100 % of it, so that checks do not come all at once.
    pub interval_ns: Nanos,
    pub timeout_ns: Nanos,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckKind {
    /// A connection is enough.
    Tcp,
    Http {
        method: Box<str>,
        path: Box<str>,
        /// `None` is the backend's own authority.
        host: Option<Box<str>>,
        /// Further fields, as `Name: value`.
        fields: Vec<Box<str>>,
        statuses: Statuses,
        /// What the body must contain; empty for any.
        body: Box<str>,
    },
}

/// Where changes of health are posted, as JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    pub url: Box<str>,
    pub address: Address,
    pub authority: Box<str>,
    pub path: Box<str>,
}

#[derive(Debug, Clone)]
pub struct Pool {
    /// Idle connections kept per backend and shard.
    pub idle_max: usize,
    /// Idle connections kept per backend in the process.
    pub idle_process_max: usize,
    /// An idle connection is closed after this time.
    pub idle_ns: Nanos,
    /// `TCP_CONGESTION` for connections to backends.
    pub tcp_congestion: Option<Box<str>>,
}

#[derive(Debug)]
pub struct Backend {
    pub cluster: ClusterId,
    /// The URL as configured, for logs and metrics.
    pub url: Box<str>,
    pub address: Address,
    /// `host[:port]` as it stands in a Host field (`localhost` for a unix socket).
    pub authority: Box<str>,
    pub weight: u32,
    /// Used only while no other backend of the cluster can be.
    pub backup: bool,
    /// Names the backend in a sticky cookie without telling its address.
    pub tag: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// A host and port; `resolved` is filled before the shards start (IP literals at once), in order of preference.
    Tcp {
        host: Box<str>,
        port: u16,
        resolved: Vec<SocketAddr>,
    },
    Unix(PathBuf),
}
