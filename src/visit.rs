//! What a request holds while it is under way, given back however it ends.
//!
//! Decides nothing. Invariant: each count that goes up here goes down when its guard is dropped, by whatever way: also
//! when the future of a connection is dropped or panics.

use std::cell::Cell;
use std::net::IpAddr;

use crate::io::Io;
use crate::metrics::Gauge;
use crate::policy::health::Trial;
use crate::policy::retry::Cause;
use crate::policy::{BackendId, RouteId};
use crate::shard::Shard;

/// Bodies that a shard holds for `buffering.request`: six of its default size at once.
const BUFFERED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A request at a backend.
pub struct Visit<'s, I: Io> {
    shard: &'s Shard<I>,
    pub backend: BackendId,
    /// The cluster's policy looks at the load.
    counted: Cell<bool>,
    /// A trial of a half-open backend that has no verdict yet.
    trial: Cell<Option<Trial>>,
}

impl<'s, I: Io> Visit<'s, I> {
    pub fn begin(shard: &'s Shard<I>, backend: BackendId, trial: Option<Trial>) -> Self {
        let counted = shard.counts_load(backend);
        if counted {
            shard.shared.backends.load_add(backend);
        }
        Visit {
            shard,
            backend,
            counted: Cell::new(counted),
            trial: Cell::new(trial),
        }
    }

    /// The request goes elsewhere.
    pub fn leave(&self) {
        let backends = &self.shard.shared.backends;
        if self.counted.take() {
            backends.load_sub(self.backend);
        }
        if let Some(trial) = self.trial.take() {
            backends.trial_ended(self.backend, trial, self.shard.timers.now());
        }
    }

    /// With this request, its cluster has more than it carries.
    pub fn is_beyond_limit(&self) -> bool {
        let cluster = self.shard.cluster_of(self.backend);
        match self.shard.shared.backends.limit(cluster) {
            0 => false,
            limit => self.shard.shared.backends.cluster_load(cluster) > limit,
        }
    }

    /// The backend gave a good answer.
    pub fn passed(&self) {
        let backends = &self.shard.shared.backends;
        backends.passed(self.backend, self.trial.take(), || self.shard.timers.now());
    }

    /// The backend failed.
    pub fn failed(&self, cause: Cause) {
        let (shard, id) = (self.shard, self.backend);
        let cluster = &shard.plan.clusters[shard.cluster_of(id).0 as usize];
        let breaking = cluster.breaker.as_ref();
        if breaking.is_some_and(|breaking| breaking.on.has(cause)) {
            shard.metrics.backend(id).counted_failure();
        }
        let trial = self.trial.take();
        let sums = || shard.shared.sums(id);
        shard
            .shared
            .backends
            .failed(id, cause, trial, shard.timers.now(), sums);
    }

    /// An answer with this status: good or bad, as the cluster counts it.
    pub fn answered(&self, status: u16) {
        if status < 400 {
            return self.passed();
        }
        let cause = Cause::Status(status);
        let cluster = &self.shard.plan.clusters[self.shard.cluster_of(self.backend).0 as usize];
        let is_bad = cluster.passive.on.has(cause)
            || cluster
                .breaker
                .as_ref()
                .is_some_and(|breaking| breaking.on.has(cause));
        if is_bad {
            self.failed(cause);
        } else {
            self.passed();
        }
    }
}

impl<I: Io> Drop for Visit<'_, I> {
    fn drop(&mut self) {
        self.leave();
    }
}

/// A request of this shard that is being forwarded.
pub struct Active<'s, I: Io>(&'s Shard<I>);

impl<'s, I: Io> Active<'s, I> {
    pub fn begin(shard: &'s Shard<I>) -> Self {
        shard.metrics.gauge_add(Gauge::ActiveRequests, 1);
        Active(shard)
    }
}

impl<I: Io> Drop for Active<'_, I> {
    fn drop(&mut self) {
        self.0.metrics.gauge_sub(Gauge::ActiveRequests, 1);
    }
}

/// A request's place among those that its route may have in flight.
pub struct Seat<'s, I: Io>(Option<(&'s Shard<I>, RouteId)>);

impl<'s, I: Io> Seat<'s, I> {
    /// `None` when the route has as many as it may have.
    pub fn take(shard: &'s Shard<I>, route: RouteId) -> Option<Self> {
        match shard.plan.routes[route.0 as usize].requests_max {
            0 => Some(Seat(None)),
            most => shard
                .shared
                .request_enters(route, most)
                .then(|| Seat(Some((shard, route)))),
        }
    }
}

impl<I: Io> Drop for Seat<'_, I> {
    fn drop(&mut self) {
        if let Some((shard, route)) = self.0 {
            shard.shared.request_leaves(route);
        }
    }
}

/// A request's place among those that its client may have in flight.
pub struct Place<'s, I: Io>(Option<(&'s Shard<I>, RouteId, IpAddr)>);

impl<'s, I: Io> Place<'s, I> {
    /// `None` when the client has as many as it may have.
    pub fn take(shard: &'s Shard<I>, route: RouteId, client: IpAddr) -> Option<Self> {
        match shard.plan.routes[route.0 as usize].requests_per_ip_max {
            0 => Some(Place(None)),
            most => shard
                .shared
                .tables
                .request_enters(route, client, most)
                .then(|| Place(Some((shard, route, client)))),
        }
    }
}

impl<I: Io> Drop for Place<'_, I> {
    fn drop(&mut self) {
        if let Some((shard, route, client)) = self.0 {
            shard.shared.tables.request_leaves(route, client);
        }
    }
}

/// What a request's buffered body takes of its shard's memory.
pub struct Buffered<'s, I: Io> {
    shard: &'s Shard<I>,
    bytes: usize,
}

impl<'s, I: Io> Buffered<'s, I> {
    pub fn nothing(shard: &'s Shard<I>) -> Self {
        Buffered { shard, bytes: 0 }
    }

    /// It is so many bytes now, unless the shard has its most.
    pub fn grows(&mut self, bytes: usize) -> bool {
        let others = self.shard.buffered.get() - self.bytes;
        if others + bytes > BUFFERED_BYTES_MAX {
            return false;
        }
        self.shard.buffered.set(others + bytes);
        self.bytes = bytes;
        true
    }
}

impl<I: Io> Drop for Buffered<'_, I> {
    fn drop(&mut self) {
        let buffered = &self.shard.buffered;
        buffered.set(buffered.get() - self.bytes);
    }
}

/// The right to repeat attempts of one request, out of the process's budget.
pub struct Permit<'s, I: Io>(&'s Shard<I>);

impl<'s, I: Io> Permit<'s, I> {
    /// `None` when too large a part of what is in flight are repetitions.
    pub fn take(shard: &'s Shard<I>) -> Option<Self> {
        shard.shared.retry_begins().then(|| Permit(shard))
    }
}

impl<I: Io> Drop for Permit<'_, I> {
    fn drop(&mut self) {
        self.0.shared.retry_ends();
    }
}
