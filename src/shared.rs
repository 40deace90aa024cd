//! What more than one core can see.
//!
//! Decides nothing. Invariant: every field says who writes it and who reads it; none is written on the
//! request path unless the configuration asks for a count of the process there.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::Receiver;

use crate::backends::{Backends, Change};
use crate::cache::Cache;
use crate::config::plan::{Nanos, Plan};
use crate::metrics::{Gauge, ShardMetrics};
use crate::password::Passwords;
use crate::policy::filter::verified::Verified;
use crate::policy::{BackendId, RouteId};
use crate::tables::Tables;

/// Shared by all threads of a process.
#[derive(Debug)]
pub struct Shared {
    /// Written once before the shards start; read by all.
    pub plan: Arc<Plan>,
    /// What each shard counts: written by that shard, read by all. Set once.
    pub metrics: Vec<Arc<ShardMetrics>>,
    /// The standing of all backends; see there.
    pub backends: Arc<Backends>,
    /// Attempts that repeat another: written when one begins or ends.
    retrying: AtomicU32,
    /// Requests in flight by `RouteId`: written by shards for routes with `limits.requests`.
    requests: Box<[AtomicU32]>,
    /// When each shard last showed a sign of life: written by it once a tick, read by the watchdog.
    beats: Box<[AtomicU64]>,
    /// Written by the control thread, read by every shard once a tick.
    stop: AtomicU8,
    /// Client connections of the process: written by a shard per connection (not per request), read with it.
    connections: AtomicU32,
    /// Client connections that the file descriptors carry. Written once.
    room: u32,
    /// What is counted per client or other key; see there.
    pub tables: Tables,
    /// The way to the thread that compares passwords. Set once, where a route needs it.
    pub passwords: Option<Passwords>,
    /// Passwords that were right lately; see there.
    pub verified: Verified,
    /// What is stored of responses, if a route stores any; see there.
    pub cache: Option<Arc<Cache>>,
    /// Entries of it that operators have purged: written and read by the admin thread.
    pub purged: AtomicU64,
    /// Nobody outside knows it. Written once.
    pub secret: [u8; 32],
}

/// How far the process has come in stopping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    No,
    /// No new connections, no keep-alive; what is under way is finished.
    Drain,
    /// Everything ends at once.
    Now,
}

impl Shared {
    /// With the end at which the control thread hears of backends' changes.
    pub fn new(
        plan: Arc<Plan>,
        metrics: Vec<Arc<ShardMetrics>>,
        room: u32,
        secret: [u8; 32],
    ) -> (Self, Receiver<Change>) {
        let shards = metrics.len();
        let (backends, changes) = Backends::new(Arc::clone(&plan));
        let shared = Shared {
            backends: Arc::new(backends),
            retrying: AtomicU32::new(0),
            requests: plan.routes.iter().map(|_| AtomicU32::new(0)).collect(),
            beats: metrics.iter().map(|_| AtomicU64::new(0)).collect(),
            metrics,
            stop: AtomicU8::new(0),
            connections: AtomicU32::new(0),
            room,
            tables: Tables::new(&plan, shards, &secret),
            passwords: None,
            verified: Verified::new(&secret),
            cache: plan
                .cache
                .map(|budget| Arc::new(Cache::new(budget, shards, &secret))),
            purged: AtomicU64::new(0),
            secret,
            plan,
        };
        (shared, changes)
    }

    pub fn shards(&self) -> usize {
        self.metrics.len()
    }

    /// Attempts at a backend, and those of them that count against its breaker, over all shards.
    pub fn sums(&self, id: BackendId) -> (u64, u64) {
        let each = self.metrics.iter().map(|shard| {
            let metrics = shard.backend(id);
            (metrics.attempts(), metrics.counted_failures())
        });
        each.fold((0, 0), |(attempts, failures), shard| {
            (attempts + shard.0, failures + shard.1)
        })
    }

    /// One more attempt repeats another, if the process's budget allows it.
    pub fn retry_begins(&self) -> bool {
        let active = self
            .metrics
            .iter()
            .map(|shard| shard.gauge(Gauge::ActiveRequests))
            .sum();
        let budget = &self.plan.budget;
        let more = |retrying: u32| {
            budget
                .allows(u64::from(retrying), active)
                .then_some(retrying + 1)
        };
        self.retrying
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .is_ok()
    }

    pub fn retry_ends(&self) {
        self.retrying.fetch_sub(1, Ordering::Relaxed);
    }

    /// One more request of a route, unless it has its most.
    pub fn request_enters(&self, route: RouteId, most: u32) -> bool {
        let more = |requests: u32| (requests < most).then_some(requests + 1);
        let requests = &self.requests[route.0 as usize];
        requests
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .is_ok()
    }

    pub fn request_leaves(&self, route: RouteId) {
        self.requests[route.0 as usize].fetch_sub(1, Ordering::Relaxed);
    }

    /// A shard shows that it is not stuck.
    pub fn beat(&self, shard: usize, now: Nanos) {
        self.beats[shard].store(now, Ordering::Relaxed);
    }

    /// When it last did; 0 before the first time.
    pub fn last_beat(&self, shard: usize) -> Nanos {
        self.beats[shard].load(Ordering::Relaxed)
    }

    pub fn stop(&self) -> Stop {
        // Relaxed: nothing is published through this word, and a tick of delay does no harm.
        match self.stop.load(Ordering::Relaxed) {
            0 => Stop::No,
            1 => Stop::Drain,
            _ => Stop::Now,
        }
    }

    pub fn set_stop(&self, stop: Stop) {
        self.stop.store(stop as u8, Ordering::Relaxed);
    }

    /// Counts one more connection unless the limit is reached.
    pub fn connection_opened(&self) -> bool {
        let most = match self.plan.connections_max {
            0 => u32::MAX,
            most => most,
        };
        // Relaxed: a count, not a lock.
        if self.connections.fetch_add(1, Ordering::Relaxed) >= most {
            self.connections.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        true
    }

    pub fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Client connections beyond which accepting waits: each may need one to a backend.
    pub fn room(&self) -> u32 {
        self.room
    }

    pub fn connection_closed(&self) {
        let before = self.connections.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "closed more connections than were opened");
    }
}
