//! Which backend a request goes to, now.
//!
//! Decides: in which order a cluster's backends, its backups and its failover cluster are asked. May not know: requests,
//! but for a key and a cookie's tag. Invariant: takes no lock and allocates nothing; what it gives was healthy a moment
//! ago, and a trial that it gives is counted.

use std::cell::Cell;

use crate::config::plan::{Cluster, Destination};
use crate::io::Io;
use crate::policy::balance::{Balance, Turn, View};
use crate::policy::health::{Mode, Trial};
use crate::policy::{BackendId, ClusterId, RouteId};
use crate::shard::Shard;

/// Most different backends that one request tries.
pub const TRIES_MAX: usize = 8;

/// Backends that a request has tried without success.
#[derive(Debug, Clone, Default)]
pub struct Tried {
    ids: [Option<BackendId>; TRIES_MAX],
}

impl Tried {
    /// Remembers one more; beyond `TRIES_MAX` there is no further try anyway.
    pub fn add(&mut self, id: BackendId) {
        if let Some(free) = self.ids.iter_mut().find(|slot| slot.is_none()) {
            *free = Some(id);
        }
    }

    pub fn has(&self, id: BackendId) -> bool {
        self.ids
            .iter()
            .map_while(|tried| *tried)
            .any(|tried| tried == id)
    }

    pub fn count(&self) -> usize {
        self.ids.iter().flatten().count()
    }
}

/// What of a request has a say in the choice.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wish {
    /// Hash of what the cluster's algorithm hashes.
    pub key: u64,
    /// The backend that a cookie asks for.
    pub tag: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Picked {
    pub backend: BackendId,
    /// One of the trials of a half-open backend: its outcome decides.
    pub trial: Option<Trial>,
}

/// Whether a backend will do whose connections are all in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Busy {
    /// If there is no other.
    Too,
    Not,
}

/// What the balancing policies may know.
struct Look<'s, I: Io> {
    shard: &'s Shard<I>,
    id: ClusterId,
    cluster: &'s Cluster,
    tried: &'s Tried,
    /// Those that are down are used too.
    open: bool,
    /// A backend whose connections are all in use is passed over.
    capped: bool,
}

impl<I: Io> View for Look<'_, I> {
    #[inline]
    fn usable(&self, id: BackendId) -> bool {
        let word = self.shard.shared.backends.word(id);
        let healthy = word.is_available()
            || word.has_trial(self.cluster.rules.trials)
            || self.open && word.mode() == Mode::Auto;
        healthy && !self.tried.has(id) && (!self.capped || self.shard.has_room(id))
    }

    #[inline]
    fn load(&self, id: BackendId) -> u32 {
        self.shard.shared.backends.load(id)
    }

    fn total_load(&self) -> u32 {
        self.shard.shared.backends.cluster_load(self.id)
    }

    #[inline]
    fn share(&self, id: BackendId) -> u32 {
        let word = self.shard.shared.backends.word(id);
        word.share(self.shard.timers.now(), self.cluster.rules.slow_start_ns)
    }

    fn latency_ns(&self, id: BackendId) -> u64 {
        let now = self.shard.timers.now();
        self.shard.shared.backends.latency_ns(id, now)
    }
}

impl<I: Io> Shard<I> {
    /// The cluster for a route's next request; `named` is what the route's header asks for. `None`: the route answers by
    /// itself.
    pub fn destination(&self, route: RouteId, named: Option<&[u8]>) -> Option<ClusterId> {
        match &self.plan.routes[route.0 as usize].destination {
            Destination::One(cluster) => Some(*cluster),
            Destination::Own(_) => None,
            Destination::Split(split) => {
                let name = |id: &ClusterId| self.plan.clusters[id.0 as usize].name.as_bytes();
                let asked =
                    named.and_then(|named| split.clusters.iter().find(|id| name(id) == named));
                if let Some(cluster) = asked {
                    return Some(*cluster);
                }
                let cursor = &self.splits[route.0 as usize];
                let at = cursor.get() as usize % split.order.len();
                cursor.set(at as u32 + 1);
                Some(split.order[at])
            }
        }
    }

    /// A backend of the cluster, or of the ones that stand in for it. `None` when nobody can serve.
    pub fn pick(&self, entry: ClusterId, wish: Wish, tried: &Tried) -> Option<Picked> {
        // Rather wait for the backend that the client is tied to than leave it.
        let tied = wish.tag.and_then(|tag| self.tied(entry, tag, tried));
        tied.or_else(|| self.pick_along(entry, wish, tried, Busy::Not))
            .or_else(|| self.pick_along(entry, wish, tried, Busy::Too))
            .or_else(|| {
                let fail_open = self.plan.clusters[entry.0 as usize].fail_open;
                let look = self.look(entry, tried, Busy::Too);
                let look = Look { open: true, ..look };
                fail_open.then(|| self.pick_seen(&look, wish.key)).flatten()
            })
    }

    /// The same, but only one that has a connection free or may open one.
    pub fn pick_free(&self, entry: ClusterId, wish: Wish, tried: &Tried) -> Option<Picked> {
        self.pick_along(entry, wish, tried, Busy::Not)
    }

    /// A request that this backend failed could go to another.
    pub fn has_other(&self, entry: ClusterId, not: BackendId, tried: &Tried) -> bool {
        let is_other =
            |id: &BackendId| *id != not && self.shared.backends.serves(*id) && !tried.has(*id);
        let mut chain = self.plan.chain(entry);
        chain.any(|id| {
            self.plan.clusters[id.0 as usize]
                .backends
                .iter()
                .any(is_other)
        })
    }

    fn pick_along(
        &self,
        entry: ClusterId,
        wish: Wish,
        tried: &Tried,
        busy: Busy,
    ) -> Option<Picked> {
        let mut chain = self.plan.chain(entry);
        chain.find_map(|id| self.pick_seen(&self.look(id, tried, busy), wish.key))
    }

    fn look<'s>(&'s self, id: ClusterId, tried: &'s Tried, busy: Busy) -> Look<'s, I> {
        let cluster = &self.plan.clusters[id.0 as usize];
        Look {
            shard: self,
            id,
            cluster,
            tried,
            open: false,
            capped: cluster.connections_max > 0 && busy == Busy::Not,
        }
    }

    fn pick_seen(&self, look: &Look<'_, I>, key: u64) -> Option<Picked> {
        let at = look.id.0 as usize;
        let overrides = self.balances.borrow();
        let (main, backup): (Option<&Balance>, Option<&Balance>) = match &overrides[at] {
            Some(set) => (set.main.as_ref(), set.backup.as_ref()),
            None => (Some(&look.cluster.balance), look.cluster.backup.as_ref()),
        };
        let picked = main.and_then(|main| self.pick_of(main, &self.turns[at][0], look, key));
        match backup {
            Some(backup) if picked.is_none() => self.pick_of(backup, &self.turns[at][1], look, key),
            Some(_) | None => picked,
        }
    }

    #[inline]
    fn pick_of(
        &self,
        balance: &Balance,
        cell: &Cell<Turn>,
        look: &Look<'_, I>,
        key: u64,
    ) -> Option<Picked> {
        let backends = &self.shared.backends;
        // Another shard may take the last trial of a half-open one between look and choice.
        for _ in 0..TRIES_MAX {
            let mut turn = cell.get();
            let picked = balance.pick(&mut turn, key, look);
            cell.set(turn);
            let backend = picked?;
            if backends.word(backend).is_available() || look.open {
                let trial = None;
                return Some(Picked { backend, trial });
            }
            let trial = backends.admit(backend, self.timers.now());
            if trial.is_some() {
                return Some(Picked { backend, trial });
            }
        }
        None
    }

    /// The backend that a cookie names, while it may serve those who know it: one that drains may.
    fn tied(&self, entry: ClusterId, tag: u64, tried: &Tried) -> Option<Picked> {
        let cluster = &self.plan.clusters[entry.0 as usize];
        cluster.sticky.as_ref()?;
        let of_tag = |id: &&BackendId| self.plan.backends[id.0 as usize].tag == tag;
        let backend = *cluster.backends.iter().find(of_tag)?;
        let word = self.shared.backends.word(backend);
        let serves = word.is_available() || word.serves_its_own();
        (serves && !tried.has(backend)).then_some(Picked {
            backend,
            trial: None,
        })
    }
}
