//! Which backend of a cluster gets the next request.
//!
//! Decides: who is chosen, by the cluster's algorithm. May not know: sockets, clocks, other shards; who is healthy
//! and how busy each backend is comes in through `View`. Invariant: picking takes no lock, allocates nothing, and
//! returns a backend that the view calls usable; `None` only if there is none.
//!
//! What an algorithm needs is computed when the plan is built: one weighted round (`order`) or a ring of points
//! (`ring`). A shard's `Turn` is all that changes from pick to pick.

mod hash;
mod order;
#[cfg(test)]
mod tests;

use hash::{Random, mix};

use super::BackendId;
pub use hash::hash;

/// The named algorithms, as configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// Plain where weights are equal, else smooth by weight.
    RoundRobin,
    LeastConnections,
    PowerOfTwo,
    Random,
    ConsistentHash {
        /// Most that a backend may have of its share of the cluster's load, in percent.
        bound_percent: Option<u32>,
    },
    PeakEwma,
}

/// A backend's whole weight, which it has outside its slow start.
pub const SHARE_WHOLE: u32 = 256;

/// What a choice may know of a cluster's backends now.
pub trait View {
    /// Healthy, not tried by this request, below its cap.
    fn usable(&self, id: BackendId) -> bool;
    /// Requests in flight, of the whole process.
    fn load(&self, id: BackendId) -> u32;
    /// Requests in flight, of the whole process and cluster.
    fn total_load(&self) -> u32;
    /// Slow start: of `SHARE_WHOLE`, how much of its weight counts.
    fn share(&self, id: BackendId) -> u32;
    /// Peak EWMA of the latency; 0 while unknown.
    fn latency_ns(&self, id: BackendId) -> u64;
}

/// A shard's place in a cluster's order, with its random state.
#[derive(Debug, Clone, Copy)]
pub struct Turn {
    /// In the order.
    place: u32,
    random: Random,
}

/// A backend that may be chosen: its weight is above 0.
#[derive(Debug, Clone, Copy)]
struct Member {
    id: BackendId,
    weight: u32,
}

/// The balancing algorithm of a cluster with what it needs precomputed.
#[derive(Debug, Clone)]
pub struct Balance {
    algorithm: Algorithm,
    /// Never empty.
    members: Box<[Member]>,
    /// Indexes of members: one whole round, walked in a circle.
    order: Box<[u32]>,
}

/// Entries of the order that one pick looks at, unless there are more members: a long order has long stretches of
/// one heavy backend, and walking all of it while that one is down would take a fifth of a millisecond.
const WALK_MAX: usize = 64;

impl Balance {
    /// Builds what the algorithm needs for backends with their stable names and weights. A weight of 0 takes a
    /// backend out. `None` when nothing is left.
    pub fn new(algorithm: Algorithm, backends: &[(BackendId, &str, u32)]) -> Option<Balance> {
        let live = backends.iter().filter(|(_, _, weight)| *weight > 0);
        let members: Box<[Member]> = live.map(|&(id, _, weight)| Member { id, weight }).collect();
        let weights: Vec<u32> = members.iter().map(|member| member.weight).collect();
        (!members.is_empty()).then(|| Balance {
            algorithm,
            order: order::round(&weights),
            members,
        })
    }

    /// Where shard `shard` of `shards` starts: each at its part of the round, so that the sum over shards is as fair
    /// as one shard is.
    pub fn start(&self, shard: usize, shards: usize, seed: u64) -> Turn {
        let place = self.order.len() * shard / shards.max(1) % self.order.len();
        Turn {
            place: place as u32,
            random: Random::new(mix(seed ^ mix(shard as u64))),
        }
    }

    /// The backend for the next request, and the turn moved on. `key` is what a consistent hash goes by.
    pub fn pick(&self, turn: &mut Turn, _key: u64, view: &impl View) -> Option<BackendId> {
        match self.algorithm {
            Algorithm::RoundRobin
            | Algorithm::LeastConnections
            | Algorithm::PowerOfTwo
            | Algorithm::Random
            | Algorithm::ConsistentHash { .. }
            | Algorithm::PeakEwma => round_robin(&self.members, &self.order, turn, view),
        }
    }

    /// Whether `pick` looks at its key.
    pub fn needs_key(&self) -> bool {
        matches!(self.algorithm, Algorithm::ConsistentHash { .. })
    }

    /// Whether `pick` looks at loads.
    pub fn needs_load(&self) -> bool {
        match self.algorithm {
            Algorithm::LeastConnections | Algorithm::PowerOfTwo | Algorithm::PeakEwma => true,
            Algorithm::ConsistentHash { bound_percent } => bound_percent.is_some(),
            Algorithm::RoundRobin | Algorithm::Random => false,
        }
    }

    /// Whether `pick` looks at latencies.
    pub fn needs_latency(&self) -> bool {
        self.algorithm == Algorithm::PeakEwma
    }
}

/// The next in the order. Whoever is in slow start lets a part of its turns pass.
fn round_robin(
    members: &[Member],
    order: &[u32],
    turn: &mut Turn,
    view: &impl View,
) -> Option<BackendId> {
    let mut passed = None;
    for _ in 0..order.len().min(members.len().max(WALK_MAX)) {
        let id = members[turn.advance(order) as usize].id;
        if view.usable(id) {
            if turn.accepts(view.share(id)) {
                return Some(id);
            }
            passed = passed.or(Some(id));
        }
    }
    passed.or_else(|| any(members, turn, view))
}

/// One of all usable members, by weight. For when a look at a few has found nobody.
fn any(members: &[Member], turn: &mut Turn, view: &impl View) -> Option<BackendId> {
    let mut chosen = None;
    let mut total = 0;
    for member in members {
        if view.usable(member.id) {
            let weight = member.weight as usize;
            total += weight;
            if turn.random.below(total) < weight {
                chosen = Some(member.id);
            }
        }
    }
    chosen
}

impl Turn {
    /// The entry at this place, and one place on.
    fn advance(&mut self, order: &[u32]) -> u32 {
        // A turn may come from before the weights changed, and the order may be shorter now.
        let at = if (self.place as usize) < order.len() {
            self.place
        } else {
            0
        };
        self.place = at + 1;
        order[at as usize]
    }

    /// True always for a whole share, else as often as the share says.
    fn accepts(&mut self, share: u32) -> bool {
        share >= SHARE_WHOLE || self.random.below(SHARE_WHOLE as usize) < share as usize
    }
}
