//! Which backend of a cluster gets the next request.
//!
//! Decides: who is chosen, by the cluster's algorithm. May not know: sockets, clocks, other shards; who is healthy
//! and how busy each backend is comes in through `View`. Invariant: picking takes no lock, allocates nothing, and
//! returns a backend that the view calls usable; `None` only if there is none.
//!
//! What an algorithm needs is computed when the plan is built: one weighted round (`order`) or a ring of points
//! (`ring`). A shard's `Turn` is all that changes from pick to pick.

mod draw;
mod hash;
mod keyed;
mod least;
mod order;
#[cfg(test)]
mod tests;
mod turn;

use super::BackendId;
pub use hash::hash;
use keyed::Keyed;
pub use order::round;
pub use turn::Turn;

/// The named algorithms, as configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// Plain where weights are equal, else smooth by weight.
    RoundRobin,
    LeastConnections,
    PowerOfTwo,
    Random,
    ConsistentHash {
        /// Most that a backend may have of its part of the cluster's load, in percent.
        bound_percent: Option<u32>,
    },
    PeakEwma,
}

/// A backend's whole share, which it has outside its slow start.
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

/// A backend that may be chosen.
#[derive(Debug, Clone, Copy)]
struct Member {
    id: BackendId,
    /// Above 0, of `WEIGHT_BITS` at most.
    weight: u32,
}

/// Larger weights are scaled down, so that a weight times a share stays below 2^24.
const WEIGHT_BITS: u32 = 16;

impl Member {
    /// Its weight times its share, never 0: who has no share yet is the last choice, not none.
    fn weight_of(self, share: u32) -> u64 {
        u64::from(self.weight * share.clamp(1, SHARE_WHOLE))
    }
}

/// The balancing algorithm of a cluster with what it needs precomputed.
#[derive(Debug, Clone)]
pub struct Balance {
    /// Never empty.
    members: Box<[Member]>,
    policy: Policy,
}

/// An algorithm with its own data. An order is one whole round, of indexes of members.
#[derive(Debug, Clone)]
enum Policy {
    RoundRobin { order: Box<[u32]> },
    LeastConnections { order: Box<[u32]>, heaviest: u32 },
    PowerOfTwo { order: Box<[u32]> },
    Random { order: Box<[u32]> },
    ConsistentHash(Keyed),
    PeakEwma { order: Box<[u32]> },
}

/// Entries of the order that one pick looks at, unless there are more members: a long order has long stretches of
/// one heavy backend, and walking all of it while that one is down would take a fifth of a millisecond.
const WALK_MAX: usize = 64;

impl Balance {
    /// Builds what the algorithm needs for backends with their stable names and weights. A weight of 0 takes a
    /// backend out. `None` when nothing is left.
    pub fn new(algorithm: Algorithm, backends: &[(BackendId, &str, u32)]) -> Option<Balance> {
        let live = backends.iter().filter(|(_, _, weight)| *weight > 0);
        let heaviest = live.clone().map(|(_, _, weight)| *weight).max()?;
        let excess_bits = (heaviest.ilog2() + 1).saturating_sub(WEIGHT_BITS);
        let heaviest = heaviest >> excess_bits;
        let (names, members): (Vec<&str>, Vec<Member>) = live
            .map(|&(id, name, weight)| {
                let weight = (weight >> excess_bits).max(1);
                (name, Member { id, weight })
            })
            .unzip();
        let order = || order::round(members.iter().map(|member| member.weight));
        let policy = match algorithm {
            Algorithm::RoundRobin => Policy::RoundRobin { order: order() },
            Algorithm::LeastConnections => Policy::LeastConnections {
                order: order(),
                heaviest,
            },
            Algorithm::PowerOfTwo => Policy::PowerOfTwo { order: order() },
            Algorithm::Random => Policy::Random { order: order() },
            Algorithm::ConsistentHash { bound_percent } => {
                Policy::ConsistentHash(Keyed::new(&members, &names, bound_percent))
            }
            Algorithm::PeakEwma => Policy::PeakEwma { order: order() },
        };
        Some(Balance {
            members: members.into(),
            policy,
        })
    }

    /// Where shard `shard` of `shards` starts: each at its part of the round, so that the sum over shards is as fair
    /// as one shard is.
    pub fn start(&self, shard: usize, shards: usize, seed: u64) -> Turn {
        let part_of = |length: usize| (length * shard / shards.max(1)) as u32;
        let order = match &self.policy {
            Policy::RoundRobin { order }
            | Policy::LeastConnections { order, .. }
            | Policy::PowerOfTwo { order }
            | Policy::Random { order }
            | Policy::PeakEwma { order } => order.len(),
            Policy::ConsistentHash(_) => 0,
        };
        let seed = seed ^ hash::mix(shard as u64);
        Turn::new(part_of(order), part_of(self.members.len()), seed)
    }

    /// The backend for the next request, and the turn moved on. `key` is what a consistent hash goes by.
    pub fn pick(&self, turn: &mut Turn, key: u64, view: &impl View) -> Option<BackendId> {
        let members = &self.members;
        match &self.policy {
            Policy::RoundRobin { order } => round_robin(members, order, turn, view),
            Policy::LeastConnections { order, heaviest } => {
                least::pick(members, order, *heaviest, turn, view)
            }
            Policy::PowerOfTwo { order } => draw::power_of_two(members, order, turn, view),
            Policy::Random { order } => draw::random(members, order, turn, view),
            Policy::ConsistentHash(keyed) => keyed.pick(members, key, view),
            Policy::PeakEwma { order } => draw::peak_ewma(members, order, turn, view),
        }
    }

    /// Whether `pick` looks at its key.
    pub fn needs_key(&self) -> bool {
        matches!(self.policy, Policy::ConsistentHash(_))
    }

    /// Whether `pick` looks at loads.
    pub fn needs_load(&self) -> bool {
        match &self.policy {
            Policy::LeastConnections { .. }
            | Policy::PowerOfTwo { .. }
            | Policy::PeakEwma { .. } => true,
            Policy::ConsistentHash(keyed) => keyed.is_bounded(),
            Policy::RoundRobin { .. } | Policy::Random { .. } => false,
        }
    }

    /// Whether `pick` looks at latencies.
    pub fn needs_latency(&self) -> bool {
        matches!(self.policy, Policy::PeakEwma { .. })
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
    passed.or_else(|| Some(draw::any(members, turn, view)?.id))
}
