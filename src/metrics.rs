//! Every metric in one list; one set of counters per shard.
//!
//! Decides: which metrics exist, their names, labels and buckets. May not know: sockets, clocks, the runtime.
//! Invariant: a `ShardMetrics` is written by its shard only and read by anyone, so the sum over shards is the
//! process's figure, each addend being at most one request old.

mod limits;
mod process;
mod reason;
mod render;
mod standing;

use std::sync::atomic::{AtomicU64, Ordering};

pub use limits::{LimitCount, LimitMetrics};
pub use reason::Reason;
pub use render::{CONTENT_TYPE, Info, render};

use crate::config::plan::Nanos;
use crate::policy::BackendId;
use crate::policy::limit::LimitId;

/// One line per metric that is a plain number: variant, name, label, help. The lines of one name stand together.
macro_rules! metric_list {
    ($(#[$meta:meta])* $list:ident { $($variant:ident $name:literal $label:expr, $help:literal;)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $list { $($variant),+ }

        impl $list {
            pub const ALL: &'static [$list] = &[$($list::$variant),+];
            pub const COUNT: usize = $list::ALL.len();

            fn described(self) -> Described {
                match self {
                    $($list::$variant => Described { name: $name, label: $label, help: $help },)+
                }
            }
        }
    };
}

metric_list! {
    /// What only ever grows.
    Counter {
        Requests1xx "corelane_requests_total" Some(("code", "1xx")), "Requests answered, by class of the final status.";
        Requests2xx "corelane_requests_total" Some(("code", "2xx")), "Requests answered, by class of the final status.";
        Requests3xx "corelane_requests_total" Some(("code", "3xx")), "Requests answered, by class of the final status.";
        Requests4xx "corelane_requests_total" Some(("code", "4xx")), "Requests answered, by class of the final status.";
        Requests5xx "corelane_requests_total" Some(("code", "5xx")), "Requests answered, by class of the final status.";
        ClientConnections "corelane_client_connections_total" None, "Client connections accepted.";
        ClientReceivedBytes "corelane_client_received_bytes_total" None, "Bytes read from clients.";
        ClientSentBytes "corelane_client_sent_bytes_total" None, "Bytes written to clients.";
        RetriesStale "corelane_retries_total" Some(("reason", "stale_connection")), "Attempts repeated, by what went wrong before.";
        RetriesConnect "corelane_retries_total" Some(("reason", "connect_failed")), "Attempts repeated, by what went wrong before.";
        RetriesClosed "corelane_retries_total" Some(("reason", "closed")), "Attempts repeated, by what went wrong before.";
        RetriesTimeout "corelane_retries_total" Some(("reason", "timeout")), "Attempts repeated, by what went wrong before.";
        RetriesStatus "corelane_retries_total" Some(("reason", "status")), "Attempts repeated, by what went wrong before.";
        RetriesOverBudget "corelane_retries_over_budget_total" None, "Attempts not repeated because too many of the process were.";
        Hedges "corelane_hedges_total" None, "Second attempts sent beside a slow first one.";
        HedgesWon "corelane_hedges_won_total" None, "Second attempts that answered first.";
        LogDropped "corelane_log_dropped_total" None, "Access log lines dropped because the writer was behind.";
        AcceptPaused "corelane_accept_paused_total" None, "Times that accepting stopped for want of file descriptors.";
        Tunnels "corelane_tunnels_total" None, "Connections that became tunnels (Upgrade).";
        Mirrored "corelane_mirrored_total" Some(("result", "answered")), "Copies of requests for a shadow cluster, by what became of them.";
        MirrorFailed "corelane_mirrored_total" Some(("result", "failed")), "Copies of requests for a shadow cluster, by what became of them.";
        MirrorDropped "corelane_mirrored_total" Some(("result", "dropped")), "Copies of requests for a shadow cluster, by what became of them.";
        CacheHit "corelane_cache_requests_total" Some(("result", "hit")), "Requests of routes that cache, by what the cache did.";
        CacheStale "corelane_cache_requests_total" Some(("result", "stale")), "Requests of routes that cache, by what the cache did.";
        CacheMiss "corelane_cache_requests_total" Some(("result", "miss")), "Requests of routes that cache, by what the cache did.";
        CacheExpired "corelane_cache_requests_total" Some(("result", "expired")), "Requests of routes that cache, by what the cache did.";
        CacheRevalidated "corelane_cache_requests_total" Some(("result", "revalidated")), "Requests of routes that cache, by what the cache did.";
        CacheCollapsed "corelane_cache_requests_total" Some(("result", "collapsed")), "Requests of routes that cache, by what the cache did.";
        CacheBypass "corelane_cache_requests_total" Some(("result", "bypass")), "Requests of routes that cache, by what the cache did.";
        CacheStored "corelane_cache_stored_total" None, "Responses stored.";
        CacheUnstorable "corelane_cache_unstorable_total" None, "Responses that could have been stored, had they allowed it.";
        CacheInvalidated "corelane_cache_invalidated_total" None, "Stored responses made invalid by requests.";
        Panics "corelane_panics_total" None, "Requests that ended in a panic of ours.";
    }
}

metric_list! {
    /// What grows and shrinks.
    Gauge {
        ClientConnections "corelane_client_connections" None, "Client connections open.";
        PoolIdleConnections "corelane_pool_idle_connections" None, "Backend connections idle in the pools.";
        Tunnels "corelane_tunnels" None, "Tunnels open.";
        ActiveRequests "corelane_requests_active" None, "Requests being forwarded.";
        QueuedRequests "corelane_queued_requests" None, "Requests that wait for a connection to a backend.";
    }
}

/// How one plain metric looks to a reader.
struct Described {
    name: &'static str,
    label: Option<(&'static str, &'static str)>,
    help: &'static str,
}

impl Counter {
    /// The request counter of a final status.
    pub fn of_status(status: u16) -> Counter {
        match Class::of(status) {
            Class::Informational => Counter::Requests1xx,
            Class::Success => Counter::Requests2xx,
            Class::Redirection => Counter::Requests3xx,
            Class::ClientError => Counter::Requests4xx,
            Class::ServerError => Counter::Requests5xx,
        }
    }
}

/// The class of a status; what is outside 1xx to 4xx counts as a server error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Informational,
    Success,
    Redirection,
    ClientError,
    ServerError,
}

impl Class {
    const LABELS: [&'static str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

    fn of(status: u16) -> Class {
        match status {
            100..=199 => Class::Informational,
            200..=299 => Class::Success,
            300..=399 => Class::Redirection,
            400..=499 => Class::ClientError,
            _ => Class::ServerError,
        }
    }
}

/// Upper bounds of the latency buckets. OpenTelemetry's begin at 5 ms, where a proxy's own share is long over;
/// hence the first four.
const BOUNDS_NS: [u64; 18] = [
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    75_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    750_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    7_500_000_000,
    10_000_000_000,
];

/// All counters of one shard. 128 bytes: two cache lines, since the hardware fetches lines in pairs.
#[derive(Debug)]
#[repr(align(128))]
pub struct ShardMetrics {
    counters: [AtomicU64; Counter::COUNT],
    gauges: [AtomicU64; Gauge::COUNT],
    reasons: [AtomicU64; Reason::COUNT],
    /// Not cumulative; the last one is +Inf.
    duration_buckets: [AtomicU64; BOUNDS_NS.len() + 1],
    duration_sum_ns: AtomicU64,
    /// Indexed by `BackendId`.
    backends: Box<[BackendMetrics]>,
    /// Indexed by `LimitId`.
    limits: Box<[LimitMetrics]>,
}

impl ShardMetrics {
    pub fn new(backend_count: usize) -> ShardMetrics {
        ShardMetrics {
            counters: zeros(),
            gauges: zeros(),
            reasons: zeros(),
            duration_buckets: zeros(),
            duration_sum_ns: AtomicU64::new(0),
            backends: (0..backend_count).map(|_| BackendMetrics::new()).collect(),
            limits: Box::default(),
        }
    }

    /// With counters for so many rate limits.
    pub fn with_limits(mut self, limit_count: usize) -> ShardMetrics {
        self.limits = (0..limit_count).map(|_| LimitMetrics::new()).collect();
        self
    }

    #[inline]
    pub fn add(&self, counter: Counter, count: u64) {
        increase(&self.counters[counter as usize], count);
    }

    #[inline]
    pub fn gauge_add(&self, gauge: Gauge, count: u64) {
        increase(&self.gauges[gauge as usize], count);
    }

    #[inline]
    pub fn gauge_sub(&self, gauge: Gauge, count: u64) {
        decrease(&self.gauges[gauge as usize], count);
    }

    pub fn gauge(&self, gauge: Gauge) -> u64 {
        self.gauges[gauge as usize].load(Ordering::Relaxed)
    }

    pub fn counter(&self, counter: Counter) -> u64 {
        self.counters[counter as usize].load(Ordering::Relaxed)
    }

    /// The whole time of one request.
    #[inline]
    pub fn observe(&self, duration_ns: Nanos) {
        let bucket = BOUNDS_NS.partition_point(|bound_ns| *bound_ns < duration_ns);
        increase(&self.duration_buckets[bucket], 1);
        increase(&self.duration_sum_ns, duration_ns);
    }

    /// A request or connection that we ended ourselves.
    #[inline]
    pub fn reject(&self, reason: Reason) {
        increase(&self.reasons[reason.index()], 1);
    }

    #[inline]
    pub fn backend(&self, id: BackendId) -> &BackendMetrics {
        &self.backends[id.0 as usize]
    }

    #[inline]
    pub fn limit(&self, id: LimitId) -> &LimitMetrics {
        &self.limits[id.0 as usize]
    }

    fn requests(&self) -> u64 {
        [
            Counter::Requests1xx,
            Counter::Requests2xx,
            Counter::Requests3xx,
            Counter::Requests4xx,
            Counter::Requests5xx,
        ]
        .iter()
        .map(|counter| self.counter(*counter))
        .sum()
    }
}

/// What one shard saw of one backend. Aligned as a shard's counters are: the slices of two shards may be
/// neighbours in memory.
#[derive(Debug)]
#[repr(align(128))]
pub struct BackendMetrics {
    answered: [AtomicU64; Class::LABELS.len()],
    failed: AtomicU64,
    counted_failures: AtomicU64,
    opened: AtomicU64,
    reused: AtomicU64,
    inflight: AtomicU64,
}

impl BackendMetrics {
    fn new() -> BackendMetrics {
        BackendMetrics {
            answered: zeros(),
            failed: AtomicU64::new(0),
            counted_failures: AtomicU64::new(0),
            opened: AtomicU64::new(0),
            reused: AtomicU64::new(0),
            inflight: AtomicU64::new(0),
        }
    }

    /// An attempt that got a response head.
    #[inline]
    pub fn answered(&self, status: u16) {
        increase(&self.answered[Class::of(status) as usize], 1);
    }

    /// An attempt that got none.
    #[inline]
    pub fn failed(&self) {
        increase(&self.failed, 1);
    }

    /// An attempt whose end counts against the backend's breaker.
    pub fn counted_failure(&self) {
        increase(&self.counted_failures, 1);
    }

    pub fn counted_failures(&self) -> u64 {
        self.counted_failures.load(Ordering::Relaxed)
    }

    pub fn attempts(&self) -> u64 {
        let answered = self
            .answered
            .iter()
            .map(|class| class.load(Ordering::Relaxed));
        answered.sum::<u64>() + self.failed.load(Ordering::Relaxed)
    }

    pub fn inflight(&self) -> u64 {
        self.inflight.load(Ordering::Relaxed)
    }

    #[inline]
    pub fn connection_opened(&self) {
        increase(&self.opened, 1);
    }

    #[inline]
    pub fn connection_reused(&self) {
        increase(&self.reused, 1);
    }

    #[inline]
    pub fn inflight_add(&self) {
        increase(&self.inflight, 1);
    }

    #[inline]
    pub fn inflight_sub(&self) {
        decrease(&self.inflight, 1);
    }
}

/// A load and a store, not `fetch_add`: with one writer nothing can come between them, and a locked instruction
/// costs about 5 ns where these cost less than one.
#[inline]
fn increase(cell: &AtomicU64, count: u64) {
    cell.store(
        cell.load(Ordering::Relaxed).wrapping_add(count),
        Ordering::Relaxed,
    );
}

#[inline]
fn decrease(cell: &AtomicU64, count: u64) {
    let before = cell.load(Ordering::Relaxed);
    debug_assert!(before >= count, "a gauge goes down only by what it went up");
    cell.store(before.saturating_sub(count), Ordering::Relaxed);
}

fn zeros<const N: usize>() -> [AtomicU64; N] {
    [const { AtomicU64::new(0) }; N]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_into_the_bucket_whose_bound_it_does_not_exceed() {
        for (duration_ns, bucket) in [
            (0, 0),
            (250_000, 0),
            (250_001, 1),
            (999_999, 2),
            (1_000_000, 2),
            (5_000_000, 4),
            (10_000_000_000, 17),
            (10_000_000_001, 18),
            (u64::MAX, 18),
        ] {
            let metrics = ShardMetrics::new(0);
            metrics.observe(duration_ns);
            let hit: Vec<usize> = (0..=BOUNDS_NS.len())
                .filter(|i| metrics.duration_buckets[*i].load(Ordering::Relaxed) == 1)
                .collect();
            assert_eq!(hit, [bucket], "{duration_ns}");
        }
    }

    #[test]
    fn every_status_has_a_class() {
        for (status, counter) in [
            (101, Counter::Requests1xx),
            (200, Counter::Requests2xx),
            (399, Counter::Requests3xx),
            (499, Counter::Requests4xx),
            (500, Counter::Requests5xx),
            (0, Counter::Requests5xx),
            (999, Counter::Requests5xx),
        ] {
            assert_eq!(Counter::of_status(status), counter, "{status}");
        }
    }

    #[test]
    fn gauges_return_to_zero() {
        let metrics = ShardMetrics::new(1);
        metrics.gauge_add(Gauge::Tunnels, 3);
        metrics.gauge_sub(Gauge::Tunnels, 2);
        assert_eq!(metrics.gauge(Gauge::Tunnels), 1);
        metrics.gauge_sub(Gauge::Tunnels, 1);
        assert_eq!(metrics.gauge(Gauge::Tunnels), 0);
    }

    #[test]
    fn two_shards_share_no_cache_line() {
        assert_eq!(align_of::<ShardMetrics>() % 128, 0);
        assert_eq!(size_of::<BackendMetrics>() % 128, 0);
    }
}
