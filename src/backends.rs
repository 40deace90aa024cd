//! What all shards know of the backends: one word of standing each, and counts.
//!
//! Decides: nothing; `policy` does, and this carries its verdicts between threads. May not know: sockets, requests.
//! Invariant: a word changes only through `change`, which tells every change of standing to the control thread exactly
//! once. Nothing here is locked on the request path; the one lock guards weights that an operator changes.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

#[cfg(test)]
mod tests;
mod weights;

use crate::config::plan::{Nanos, Plan};

use crate::policy::health::{self, Event, Mode, Standing, Traffic, Trial, Window, Word};
use crate::policy::latency::Latency;
use crate::policy::retry::Cause;
use crate::policy::{BackendId, ClusterId};
pub use weights::Balances;

/// The state of all backends. Relaxed everywhere: nothing is published through these words but themselves.
#[derive(Debug)]
pub struct Backends {
    plan: Arc<Plan>,
    /// Written on checks, failures and trials; read on every choice. Side by side, for policies that look at all.
    words: Box<[AtomicU64]>,
    /// Requests in flight in the process; written by shards for clusters whose policy looks at it.
    loads: Box<[AtomicU32]>,
    cells: Box<[BackendCell]>,
    clusters: Box<[ClusterCell]>,
    /// Grows when weights change; read by every shard once a tick.
    weights_changed: AtomicU32,
    changes: Sender<Change>,
}

/// What is written more often than the words, on cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct BackendCell {
    /// The breaker's window. Written on failures.
    window: AtomicU64,
    /// Peak EWMA of the latency. Written per response where the policy looks at it.
    latency: AtomicU64,
    /// Connections open in the process, idle ones included. Written when one opens or closes.
    connections: AtomicU32,
    /// Age at which the backend closes idle connections, in ms; 0 while unknown. Written when it is learned.
    idle_ms: AtomicU32,
    /// The weight set at run time, plus one; 0 while it is that of the plan. Written by the operator.
    weight: AtomicU32,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct ClusterCell {
    /// Requests in flight in the process, where the policy looks at it.
    load: AtomicU32,
    /// Backends that are ejected now.
    ejected: AtomicU32,
    /// Requests that wait for a connection.
    waiting: AtomicU32,
    /// The adaptive limit of requests in flight; 0 is none. Written by the health thread, read per request.
    limit: AtomicU32,
    /// Answers and the sum of their latencies. Written per response where the limit is adaptive.
    answered: AtomicU64,
    latency_ns: AtomicU64,
    /// Set when an operator changes weights; taken over by shards at their tick.
    balances: Mutex<Option<Arc<Balances>>>,
}

/// A backend's standing has changed.
#[derive(Debug, Clone)]
pub struct Change {
    pub backend: BackendId,
    pub before: Word,
    pub after: Word,
    pub at: Nanos,
    pub why: Why,
}

/// Who changed a backend's standing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// A check, with what it met.
    Check(Box<str>),
    /// Requests failed, the last one for this cause.
    Request(Cause),
    /// All trials passed.
    Trials,
    /// Its time was over.
    Time,
    Operator,
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Why::Check(met) => write!(f, "check: {met}"),
            Why::Request(Cause::Status(status)) => write!(f, "requests: status {status}"),
            Why::Request(cause) => write!(f, "requests: {}", cause.name()),
            Why::Trials => f.write_str("trials passed"),
            Why::Time => f.write_str("its time was over"),
            Why::Operator => f.write_str("operator"),
        }
    }
}

impl Backends {
    /// All backends of the plan, with the end at which the control thread hears of changes.
    pub fn new(plan: Arc<Plan>) -> (Self, Receiver<Change>) {
        let (changes, heard) = channel();
        let backends = plan.backends.len();
        let new = Backends {
            words: (0..backends).map(|_| AtomicU64::default()).collect(),
            loads: (0..backends).map(|_| AtomicU32::default()).collect(),
            cells: (0..backends).map(|_| BackendCell::default()).collect(),
            clusters: plan
                .clusters
                .iter()
                .map(|_| ClusterCell::default())
                .collect(),
            weights_changed: AtomicU32::new(0),
            changes,
            plan,
        };
        (new, heard)
    }

    #[inline]
    pub fn word(&self, id: BackendId) -> Word {
        Word(self.words[id.0 as usize].load(Relaxed))
    }

    #[inline]
    pub fn load(&self, id: BackendId) -> u32 {
        self.loads[id.0 as usize].load(Relaxed)
    }

    #[inline]
    pub fn cluster_load(&self, id: ClusterId) -> u32 {
        self.clusters[id.0 as usize].load.load(Relaxed)
    }

    /// One more request at the backend, for policies that look at it.
    pub fn load_add(&self, id: BackendId) {
        self.loads[id.0 as usize].fetch_add(1, Relaxed);
        self.cluster(id).load.fetch_add(1, Relaxed);
    }

    pub fn load_sub(&self, id: BackendId) {
        let before = self.loads[id.0 as usize].fetch_sub(1, Relaxed);
        debug_assert!(before > 0, "a request leaves only where it came in");
        self.cluster(id).load.fetch_sub(1, Relaxed);
    }

    pub fn latency_ns(&self, id: BackendId, now: Nanos) -> Nanos {
        Latency(self.cell(id).latency.load(Relaxed)).ns(now)
    }

    /// A response's latency. Of two at once one may be lost: it is a moving average.
    pub fn observe_latency(&self, id: BackendId, sample_ns: Nanos, now: Nanos) {
        let cell = &self.cell(id).latency;
        let next = Latency(cell.load(Relaxed)).observe(sample_ns, now);
        cell.store(next.0, Relaxed);
    }

    /// Applies an event; what changed is told to the control thread. Gives the word before and after.
    pub fn apply(
        &self,
        id: BackendId,
        event: Event,
        now: Nanos,
        why: impl FnOnce() -> Why,
    ) -> (Word, Word) {
        let rules = &self.plan.clusters[self.cluster_of(id)].rules;
        self.change(id, now, why, |word| health::next(word, event, now, rules))
    }

    fn change(
        &self,
        id: BackendId,
        now: Nanos,
        why: impl FnOnce() -> Why,
        next: impl Fn(Word) -> Word,
    ) -> (Word, Word) {
        let cell = &self.words[id.0 as usize];
        let mut before = Word(cell.load(Relaxed));
        let after = loop {
            let after = next(before);
            if after == before {
                return (before, before);
            }
            match cell.compare_exchange_weak(before.0, after.0, Relaxed, Relaxed) {
                Ok(_) => break after,
                Err(found) => before = Word(found),
            }
        };
        if before.traffic() == Traffic::Ejected && after.traffic() != Traffic::Ejected {
            self.cluster(id).ejected.fetch_sub(1, Relaxed);
        }
        let timed = !before.is_timed() && after.is_timed();
        if before.standing() != after.standing() || before.checks() != after.checks() || timed {
            // The control thread is gone only at the process's end.
            let _ = self.changes.send(Change {
                backend: id,
                before,
                after,
                at: now,
                why: why(),
            });
        }
        (before, after)
    }

    /// A request got a good answer. `trial`: it was one of a half-open backend.
    #[inline]
    pub fn passed(&self, id: BackendId, trial: Option<Trial>, now: impl FnOnce() -> Nanos) {
        if trial.is_some() || self.word(id).wants_success() {
            self.succeeded(id, trial, now());
        }
    }

    #[cold]
    fn succeeded(&self, id: BackendId, trial: Option<Trial>, now: Nanos) {
        let rules = &self.plan.clusters[self.cluster_of(id)].rules;
        self.change(
            id,
            now,
            || Why::Trials,
            |word| match word.traffic() {
                // What was sent before it was half open is no trial.
                Traffic::HalfOpen if !word.is_trying(trial) => word,
                Traffic::HalfOpen | Traffic::In | Traffic::Ejected | Traffic::Open => {
                    health::next(word, Event::Passed, now, rules)
                }
            },
        );
    }

    /// A request failed for a cause that counts against its backend: in succession (`passive`), or against the
    /// breaker, whose window is then given the sums over all shards of the backend's requests and failures.
    pub fn failed(
        &self,
        id: BackendId,
        cause: Cause,
        trial: Option<Trial>,
        now: Nanos,
        sums: impl FnOnce() -> (u64, u64),
    ) {
        let cluster = &self.plan.clusters[self.cluster_of(id)];
        let rules = &cluster.rules;
        let passive = cluster.passive.on.has(cause);
        let breaking = cluster
            .breaker
            .as_ref()
            .filter(|breaking| breaking.on.has(cause));
        // A trial that fails is a trial that has failed, for whatever cause.
        if passive || trial.is_some() {
            let almost = rules.errors_max > 0 && self.word(id).errors() + 1 >= rules.errors_max;
            let may_eject = almost && self.reserve_ejection(id);
            let (before, after) = self.change(
                id,
                now,
                || Why::Request(cause),
                |word| match word.traffic() {
                    Traffic::HalfOpen if !word.is_trying(trial) => word,
                    Traffic::In if !passive => word,
                    Traffic::HalfOpen | Traffic::In | Traffic::Ejected | Traffic::Open => {
                        health::next(word, Event::Failed { may_eject }, now, rules)
                    }
                },
            );
            // The place is taken only by the change to ejected: who was ejected before has one of its own.
            let took = before.traffic() != Traffic::Ejected && after.traffic() == Traffic::Ejected;
            if may_eject && !took {
                self.cluster(id).ejected.fetch_sub(1, Relaxed);
            }
        }
        if let Some(breaking) = breaking
            && self.word(id).traffic() == Traffic::In
        {
            let (requests, failures) = sums();
            let window = &self.cell(id).window;
            let before = Window(window.load(Relaxed));
            let (after, trips) = before.failure(now, requests, failures, &breaking.breaker);
            // Lost against another shard's failure: that one began the window.
            let _ = window.compare_exchange(before.0, after.0, Relaxed, Relaxed);
            if trips {
                window.store(0, Relaxed);
                self.apply(id, Event::Trip, now, || Why::Request(cause));
            }
        }
    }

    /// A place among the backends that the cluster may have ejected.
    fn reserve_ejection(&self, id: BackendId) -> bool {
        let cluster = &self.plan.clusters[self.cluster_of(id)];
        let most = cluster.backends.len() as u64 * u64::from(cluster.passive.share_percent) / 100;
        let ejected = &self.cluster(id).ejected;
        let more = |ejected: u32| (u64::from(ejected) < most).then_some(ejected + 1);
        ejected.fetch_update(Relaxed, Relaxed, more).is_ok()
    }

    /// Takes one of a half-open backend's trials.
    pub fn admit(&self, id: BackendId, now: Nanos) -> Option<Trial> {
        let (before, after) = self.apply(id, Event::Admit, now, || Why::Trials);
        (before != after).then(|| after.trial())
    }

    /// A trial ended without a verdict.
    pub fn trial_ended(&self, id: BackendId, trial: Trial, now: Nanos) {
        let rules = &self.plan.clusters[self.cluster_of(id)].rules;
        self.change(
            id,
            now,
            || Why::Trials,
            |word| match word.is_trying(Some(trial)) {
                true => health::next(word, Event::Released, now, rules),
                false => word,
            },
        );
    }

    /// The adaptive limit of requests in flight, 0 for none.
    #[inline]
    pub fn limit(&self, id: ClusterId) -> u32 {
        self.clusters[id.0 as usize].limit.load(Relaxed)
    }

    pub fn set_limit(&self, id: ClusterId, limit: u32) {
        self.clusters[id.0 as usize].limit.store(limit, Relaxed);
    }

    /// One more answer, for the adaptive limit.
    pub fn count_latency(&self, id: ClusterId, latency_ns: Nanos) {
        let cell = &self.clusters[id.0 as usize];
        cell.answered.fetch_add(1, Relaxed);
        cell.latency_ns.fetch_add(latency_ns, Relaxed);
    }

    /// What was counted since the last call.
    pub fn take_latency(&self, id: ClusterId) -> (u64, Nanos) {
        let cell = &self.clusters[id.0 as usize];
        (
            cell.answered.swap(0, Relaxed),
            cell.latency_ns.swap(0, Relaxed),
        )
    }

    /// Counts a connection that is about to be opened, unless the backend has its most.
    pub fn connection_opens(&self, id: BackendId) -> bool {
        let cell = &self.cell(id).connections;
        match self.plan.clusters[self.cluster_of(id)].connections_max {
            0 => {
                cell.fetch_add(1, Relaxed);
                true
            }
            most => {
                let more = |open: u32| (open < most).then_some(open + 1);
                cell.fetch_update(Relaxed, Relaxed, more).is_ok()
            }
        }
    }

    pub fn connection_closed(&self, id: BackendId) {
        let before = self.cell(id).connections.fetch_sub(1, Relaxed);
        debug_assert!(before > 0, "a connection closes once");
    }

    pub fn connections(&self, id: BackendId) -> u32 {
        self.cell(id).connections.load(Relaxed)
    }

    /// One more request waits for a connection, unless the queue is full.
    pub fn waiting_add(&self, id: ClusterId) -> bool {
        let most = self.plan.clusters[id.0 as usize].queue_max;
        let more = |waiting: u32| (waiting < most).then_some(waiting + 1);
        let waiting = &self.clusters[id.0 as usize].waiting;
        waiting.fetch_update(Relaxed, Relaxed, more).is_ok()
    }

    pub fn waiting_sub(&self, id: ClusterId) {
        self.clusters[id.0 as usize].waiting.fetch_sub(1, Relaxed);
    }

    pub fn waiting(&self, id: ClusterId) -> u32 {
        self.clusters[id.0 as usize].waiting.load(Relaxed)
    }

    /// The age at which the backend closes idle connections, if it is known.
    pub fn idle_ns(&self, id: BackendId) -> Option<Nanos> {
        match self.cell(id).idle_ms.load(Relaxed) {
            0 => None,
            ms => Some(u64::from(ms) * 1_000_000),
        }
    }

    /// Learns that the backend closes idle connections at this age, or a smaller one that is known.
    pub fn learn_idle(&self, id: BackendId, idle_ns: Nanos) {
        let ms = u32::try_from(idle_ns / 1_000_000)
            .unwrap_or(u32::MAX)
            .max(1);
        let less = |known: u32| (known == 0 || ms < known).then_some(ms);
        // Unchanged when it is known already.
        let _ = self.cell(id).idle_ms.fetch_update(Relaxed, Relaxed, less);
    }

    /// Forgets it: another process may listen there now.
    pub fn forget_idle(&self, id: BackendId) {
        self.cell(id).idle_ms.store(0, Relaxed);
    }

    /// The operator's word on one backend.
    pub fn set_mode(&self, id: BackendId, mode: Mode, now: Nanos) {
        self.apply(id, Event::Mode(mode), now, || Why::Operator);
    }

    /// Seconds after which a client may ask again, when nothing of the cluster can serve it.
    pub fn retry_after_s(&self, id: ClusterId, now: Nanos) -> u64 {
        let cluster = &self.plan.clusters[id.0 as usize];
        let out = cluster.backends.iter().filter_map(|id| {
            let word = self.word(*id);
            match word.standing() {
                Standing::Down => cluster
                    .check
                    .as_ref()
                    .map(|check| check.interval_ns * u64::from(cluster.rules.rise)),
                Standing::Ejected | Standing::Open => word.left_ns(now),
                Standing::Available
                | Standing::HalfOpen
                | Standing::Draining
                | Standing::Maintenance => None,
            }
        });
        out.min()
            .unwrap_or(0)
            .div_ceil(1_000_000_000)
            .clamp(1, 3_600)
    }

    /// Gets requests of its cluster.
    pub fn serves(&self, id: BackendId) -> bool {
        self.weight(id) > 0 && self.word(id).is_available()
    }

    /// At least one backend of the cluster gets requests, or is not known to fail.
    pub fn has_healthy(&self, id: ClusterId) -> bool {
        let backends = &self.plan.clusters[id.0 as usize].backends;
        backends.iter().any(|id| self.serves(*id))
    }

    fn cluster_of(&self, id: BackendId) -> usize {
        self.plan.backends[id.0 as usize].cluster.0 as usize
    }

    fn cluster(&self, id: BackendId) -> &ClusterCell {
        &self.clusters[self.cluster_of(id)]
    }

    fn cell(&self, id: BackendId) -> &BackendCell {
        &self.cells[id.0 as usize]
    }
}
