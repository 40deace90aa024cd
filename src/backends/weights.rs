//! Weights that an operator changes at run time.
//!
//! Decides: nothing; a cluster's choice is built anew with them. May not know: requests. Invariant: the lock is taken by the
//! operator, and by a shard at the tick after a change, never on the request path.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::{Arc, PoisonError};

use super::Backends;
use crate::policy::balance::Balance;
use crate::policy::{BackendId, ClusterId};

/// How a cluster chooses, with weights of run time.
#[derive(Debug)]
pub struct Balances {
    /// `None` when every weight is 0.
    pub main: Option<Balance>,
    pub backup: Option<Balance>,
}

impl Backends {
    pub fn weight(&self, id: BackendId) -> u32 {
        match self.cell(id).weight.load(Relaxed) {
            0 => self.plan.backends[id.0 as usize].weight,
            weight => weight - 1,
        }
    }

    /// Another weight, which shards take over within a tick.
    pub fn set_weight(&self, id: BackendId, weight: u32) {
        let cluster = &self.plan.clusters[self.cluster_of(id)];
        let mut slot = self
            .cluster(id)
            .balances
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        self.cell(id)
            .weight
            .store(weight.saturating_add(1), Relaxed);
        let balance = |backup: bool| {
            let of = |id: &BackendId| &self.plan.backends[id.0 as usize];
            let members: Vec<_> = cluster
                .backends
                .iter()
                .filter(|id| of(id).backup == backup)
                .map(|id| (*id, &*of(id).url, self.weight(*id)))
                .collect();
            Balance::new(cluster.algorithm, &members)
        };
        *slot = Some(Arc::new(Balances {
            main: balance(false),
            backup: balance(true),
        }));
        drop(slot);
        // Release: who sees the new number finds the new weights behind the lock.
        self.weights_changed.fetch_add(1, Release);
    }

    /// Grows with every change of weights.
    pub fn weights_changed(&self) -> u32 {
        self.weights_changed.load(Acquire)
    }

    /// The weights of run time, if an operator has set some. Takes a lock: not for the request path.
    pub fn balances(&self, id: ClusterId) -> Option<Arc<Balances>> {
        let slot = self.clusters[id.0 as usize].balances.lock();
        slot.unwrap_or_else(PoisonError::into_inner).clone()
    }
}
