//! This shard's connections to backends: taken from the pool, kept for later, given up in time.
//!
//! Decides: how long an idle connection is trusted. A backend that closes idle connections at some age shows it, by
//! `Keep-Alive: timeout=N` or by doing so; from then on they are given up before. May not know: requests. Invariant: a
//! connection is in the pool or with a request, never both.

use crate::config::plan::Nanos;
use crate::io::{Io, Peek, Stream};
use crate::link::{Connection, Slot};
use crate::metrics::Gauge;
use crate::policy::{BackendId, ClusterId};
use crate::shard::Shard;
use crate::timer::TICK_NS;

/// Ticks between two looks at the pool: 100 ms, so a backend's idle timeout is learned to that precision.
const SWEEP_TICKS: u64 = 100_000_000 / TICK_NS;

/// The shortest idle timeout that is believed.
const IDLE_LEAST_NS: Nanos = 120_000_000;

/// Backends whose oldest connection is looked at in one sweep, by turns: a look is a system call.
const LOOKS_MAX: usize = 256;

impl<I: Io> Shard<I> {
    /// The connection used last that is young enough to be trusted, open and silent.
    pub fn take_idle(&self, backend: BackendId) -> Option<Connection<I::Stream>> {
        let idle_ns = self.idle_ns(backend);
        let now = self.timers.now();
        loop {
            let (taken, age_ns) = self.pool.borrow_mut().take(backend, now, idle_ns)?;
            self.metrics.gauge_sub(Gauge::PoolIdleConnections, 1);
            match taken.stream.peek() {
                Peek::Quiet => return Some(taken),
                // Bytes that nobody asked for would be taken for the next response.
                Peek::Bytes => {}
                Peek::Closed => self.suspect(backend, age_ns),
            }
        }
    }

    /// All idle connections to the backend that were looked at are closed, at this age.
    fn suspect(&self, backend: BackendId, age_ns: Nanos) {
        let suspicion = &self.suspicions[backend.0 as usize];
        let mut seen = suspicion.get();
        let learned = seen.add(age_ns, self.timers.now());
        suspicion.set(seen);
        if let Some(age_ns) = learned {
            self.learn_idle(backend, age_ns);
        }
    }

    /// A connection was found closed at this age; at the last look it was open.
    fn learn_idle(&self, backend: BackendId, age_ns: Nanos) {
        let sure_ns = age_ns.saturating_sub(SWEEP_TICKS * TICK_NS);
        // Nobody times out so soon, but somebody who ends leaves connections of any age.
        if age_ns >= IDLE_LEAST_NS {
            let idle_ns = sure_ns.max(IDLE_LEAST_NS);
            self.shared.backends.learn_idle(backend, idle_ns);
        }
    }

    /// The right to open one more connection, unless the backend has as many as it may have.
    pub fn connection_slot(&self, backend: BackendId) -> Option<Slot> {
        Slot::take(&self.shared.backends, backend)
    }

    /// A request for the backend would get a connection at once.
    pub fn has_room(&self, backend: BackendId) -> bool {
        self.has_slot(backend) || self.pool.borrow().has(backend)
    }

    /// The backend has fewer connections than it may have.
    pub fn has_slot(&self, backend: BackendId) -> bool {
        let most = self.plan.clusters[self.cluster_of(backend).0 as usize].connections_max;
        most == 0 || self.shared.backends.connections(backend) < most
    }

    /// Keeps a backend connection for the next request, or lets it go.
    pub fn keep(&self, backend: BackendId, connection: Connection<I::Stream>) {
        let cluster = self.cluster_of(backend);
        let most = self.idle_max[backend.0 as usize];
        let now = self.timers.now();
        // Another shard's requests wait for a connection, and only this one's end gives them room.
        if self.others_wait(cluster) && !self.goes_on(cluster) {
            return;
        }
        let kept = self.pool.borrow_mut().put(backend, connection, now, most);
        match kept {
            Ok(()) => self.metrics.gauge_add(Gauge::PoolIdleConnections, 1),
            Err(connection) => drop(connection),
        }
    }

    /// Requests of other shards wait for the cluster.
    fn others_wait(&self, cluster: ClusterId) -> bool {
        let at = cluster.0 as usize;
        self.plan.clusters[at].connections_max > 0
            && self.shared.backends.waiting(cluster) as usize > self.queues[at].len()
    }

    /// With others waiting, this shard's requests wait too, and it is their turn.
    fn goes_on(&self, cluster: ClusterId) -> bool {
        let queue = &self.queues[cluster.0 as usize];
        !queue.is_empty() && queue.has_turn(self.timers.now(), true)
    }

    /// This shard's next request may take what is free of the cluster's connections.
    pub fn may_take(&self, cluster: ClusterId) -> bool {
        let at = cluster.0 as usize;
        self.plan.clusters[at].connections_max == 0
            || self.queues[at].has_turn(self.timers.now(), self.others_wait(cluster))
    }

    /// A request has taken one of the cluster's connections.
    pub fn took(&self, cluster: ClusterId) {
        if self.others_wait(cluster) {
            self.queues[cluster.0 as usize].begin_turn(self.timers.now());
        }
    }

    /// The age at which idle connections to the backend are given up: a tenth before it closes them itself.
    fn idle_ns(&self, backend: BackendId) -> Nanos {
        let configured = self.plan.clusters[self.cluster_of(backend).0 as usize]
            .pool
            .idle_ns;
        match self.shared.backends.idle_ns(backend) {
            None => configured,
            Some(learned) => configured.min(learned - learned / 10),
        }
    }

    /// Gives up what is too old, closed, or wanted elsewhere. Called once a tick.
    pub fn sweep(&self, ticks: u64) {
        for (at, cluster) in self.plan.clusters.iter().enumerate() {
            let id = ClusterId(at as u32);
            if cluster.connections_max > 0 && self.others_wait(id) && !self.goes_on(id) {
                for backend in &cluster.backends {
                    let given_up = self.pool.borrow_mut().clear(*backend);
                    self.gave_up(given_up);
                }
            }
        }
        if !ticks.is_multiple_of(SWEEP_TICKS) {
            return;
        }
        self.learn();
        let expired = self
            .pool
            .borrow_mut()
            .expire(self.timers.now(), |backend| self.idle_ns(backend));
        self.gave_up(expired);
    }

    fn gave_up(&self, connections: Vec<Connection<I::Stream>>) {
        let count = connections.len() as u64;
        self.metrics.gauge_sub(Gauge::PoolIdleConnections, count);
    }

    /// Looks which of the oldest idle connections their backends have closed.
    fn learn(&self) {
        let now = self.timers.now();
        let is_closed =
            |connection: &Connection<I::Stream>| connection.stream.peek() != Peek::Quiet;
        let (closed, ages) = self.pool.borrow_mut().closed(now, LOOKS_MAX, is_closed);
        self.gave_up(closed);
        for closed in ages {
            if closed.all {
                self.suspect(closed.backend, closed.age_ns);
            } else {
                self.learn_idle(closed.backend, closed.age_ns);
            }
        }
    }
}
