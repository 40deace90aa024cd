//! Which backend of a cluster gets the next request.
//!
//! Decides: the order in which backends are used. May not know: who is healthy (given as a filter), sockets,
//! other shards. Invariant: picking is O(1) while nothing is refused, takes no lock and allocates nothing.
//!
//! A cluster's order is fixed when the plan is built: one smooth weighted round (nginx's algorithm), which for
//! equal weights is the plain round robin. Each shard walks that order with a cursor of its own that starts at
//! its share of the round, so the sum over shards is as fair as one shard is.

use super::BackendId;

/// The balancing algorithm of a cluster with what it needs precomputed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Balance {
    /// Round robin, plain and weighted: one whole round, to be walked in a circle. Never empty.
    RoundRobin { order: Box<[BackendId]> },
}

/// Longest precomputed round. 64 Ki entries of 4 bytes; larger sums of weights are scaled down to fit.
pub const ROUND_MAX: u64 = 65_536;

/// A shard's place in a cluster's round.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cursor(u32);

impl Balance {
    /// Builds the round for backends with their weights. A weight of 0 takes the backend out of the round.
    /// `None` when nothing is left.
    pub fn round_robin(backends: &[(BackendId, u32)]) -> Option<Balance> {
        let order = smooth_round(backends);
        (!order.is_empty()).then(|| Balance::RoundRobin {
            order: order.into(),
        })
    }

    /// Where shard `shard` of `shards` starts.
    pub fn start(&self, shard: usize, shards: usize) -> Cursor {
        match self {
            Balance::RoundRobin { order } => {
                let at = order.len() * shard / shards.max(1);
                Cursor(u32::try_from(at).unwrap_or(0))
            }
        }
    }

    /// The next backend that `usable` accepts, and the cursor moved past it. At most one whole round is looked at.
    pub fn pick(
        &self,
        cursor: &mut Cursor,
        usable: impl Fn(BackendId) -> bool,
    ) -> Option<BackendId> {
        match self {
            Balance::RoundRobin { order } => {
                for _ in 0..order.len() {
                    let at = cursor.0 as usize % order.len();
                    cursor.0 = if at + 1 == order.len() {
                        0
                    } else {
                        at as u32 + 1
                    };
                    if usable(order[at]) {
                        return Some(order[at]);
                    }
                }
                None
            }
        }
    }
}

/// One round of smooth weighted round robin: weights (5, 1, 1) give a a b a c a a.
fn smooth_round(backends: &[(BackendId, u32)]) -> Vec<BackendId> {
    let weights = reduced(backends);
    let total: u64 = weights.iter().map(|(_, weight)| weight).sum();
    if weights.iter().all(|(_, weight)| *weight == 1) {
        return weights.into_iter().map(|(id, _)| id).collect();
    }
    let mut current = vec![0_i64; weights.len()];
    let mut order = Vec::with_capacity(total as usize);
    for _ in 0..total {
        let mut best = 0;
        for (i, (_, weight)) in weights.iter().enumerate() {
            current[i] += *weight as i64;
            if current[i] > current[best] {
                best = i;
            }
        }
        current[best] -= total as i64;
        order.push(weights[best].0);
    }
    order
}

/// Weights divided by their common divisor and, if their sum is still too large, scaled to `ROUND_MAX`.
/// The work of building a round is sum × backends, so the sum is bounded by the number of backends too.
fn reduced(backends: &[(BackendId, u32)]) -> Vec<(BackendId, u64)> {
    let live: Vec<(BackendId, u64)> = backends
        .iter()
        .filter(|(_, weight)| *weight > 0)
        .map(|(id, weight)| (*id, u64::from(*weight)))
        .collect();
    let divisor = live.iter().fold(0, |a, (_, weight)| gcd(a, *weight)).max(1);
    let total: u64 = live.iter().map(|(_, weight)| weight / divisor).sum();
    let most =
        (ROUND_MAX * 64 / live.len().max(1) as u64).clamp(live.len().max(1) as u64, ROUND_MAX);
    live.into_iter()
        .map(|(id, weight)| {
            let weight = weight / divisor;
            (
                id,
                if total > most {
                    (weight * most / total).max(1)
                } else {
                    weight
                },
            )
        })
        .collect()
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(weights: &[u32]) -> Vec<(BackendId, u32)> {
        weights
            .iter()
            .enumerate()
            .map(|(i, w)| (BackendId(i as u32), *w))
            .collect()
    }

    fn picks(balance: &Balance, n: usize) -> Vec<u32> {
        let mut cursor = balance.start(0, 1);
        (0..n)
            .map(|_| balance.pick(&mut cursor, |_| true).unwrap().0)
            .collect()
    }

    #[test]
    fn smooth_weights_spread_a_heavy_backend() {
        let balance = Balance::round_robin(&ids(&[5, 1, 1])).unwrap();
        assert_eq!(picks(&balance, 7), [0, 0, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn equal_weights_are_plain_round_robin() {
        let balance = Balance::round_robin(&ids(&[7, 7, 7])).unwrap();
        assert_eq!(picks(&balance, 6), [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn empty_and_all_zero_weights_give_nothing() {
        assert_eq!(Balance::round_robin(&[]), None);
        assert_eq!(Balance::round_robin(&ids(&[0, 0])), None);
    }

    #[test]
    fn none_usable_ends_after_one_round() {
        let balance = Balance::round_robin(&ids(&[1, 2, 3])).unwrap();
        let mut cursor = balance.start(0, 1);
        assert_eq!(balance.pick(&mut cursor, |_| false), None);
        assert_eq!(
            balance.pick(&mut cursor, |id| id.0 == 2),
            Some(BackendId(2))
        );
    }

    #[test]
    fn sixty_four_shards_are_fair_in_the_aggregate() {
        for weights in [&[1, 1, 1][..], &[5, 1, 1], &[1, 2, 3, 4]] {
            let balance = Balance::round_robin(&ids(weights)).unwrap();
            let mut cursors: Vec<Cursor> = (0..64).map(|s| balance.start(s, 64)).collect();
            let mut seen = vec![0_u32; weights.len()];
            for n in 0..10_000 {
                let id = balance.pick(&mut cursors[n * 7 % 64], |_| true).unwrap();
                seen[id.0 as usize] += 1;
            }
            let total: u32 = weights.iter().sum();
            for (count, weight) in seen.iter().zip(weights) {
                let ideal = 10_000.0 * f64::from(*weight) / f64::from(total);
                assert!(
                    (f64::from(*count) - ideal).abs() <= 100.0,
                    "{weights:?}: {seen:?}"
                );
            }
        }
    }

    #[test]
    fn huge_weights_stay_bounded_and_keep_their_ratio() {
        let balance = Balance::round_robin(&ids(&[u32::MAX, u32::MAX / 2 + 1, 1])).unwrap();
        let Balance::RoundRobin { order } = &balance;
        assert!(order.len() as u64 <= ROUND_MAX + 3, "{}", order.len());
        let first = order.iter().filter(|id| id.0 == 0).count() as f64;
        let second = order.iter().filter(|id| id.0 == 1).count() as f64;
        assert!((first / second - 2.0).abs() < 0.01);
    }
}
