//! One whole round of a cluster's members, each as often as its weight says and spread as evenly as can be.
//!
//! Decides: the round. May not know: who is healthy, who walks it. Invariant: every member stands in it, and its
//! length is at most `ROUND_MAX` or the number of members, plus one for each member that rounding up has kept in.

use std::cmp::Reverse;

/// Longest precomputed round. 64 Ki entries of 4 bytes; larger sums of weights are scaled down to fit.
pub(super) const ROUND_MAX: u64 = 65_536;

/// Most steps of the smooth round, which are sum × members: some 5 ms. Beyond that the round is spread by sorting.
const SMOOTH_STEPS_MAX: u64 = 4 << 20;

/// Indexes of members in the order of one round; `weights` are all above 0.
pub(super) fn round(weights: &[u32]) -> Box<[u32]> {
    let weights = reduced(weights);
    let total: u64 = weights.iter().sum();
    if total == weights.len() as u64 {
        (0..weights.len() as u32).collect()
    } else if total * weights.len() as u64 <= SMOOTH_STEPS_MAX {
        smooth(&weights, total)
    } else {
        spread(&weights, total)
    }
}

/// nginx's smooth weighted round robin: weights (5, 1, 1) give a a b a c a a.
fn smooth(weights: &[u64], total: u64) -> Box<[u32]> {
    let mut current = vec![0_i64; weights.len()];
    let step = |_| {
        let mut best = 0;
        for (i, weight) in weights.iter().enumerate() {
            current[i] += *weight as i64;
            if current[i] > current[best] {
                best = i;
            }
        }
        current[best] -= total as i64;
        best as u32
    };
    (0..total).map(step).collect()
}

/// A member of weight w stands in the middle of each of w equal parts of the round; of those that meet, the heavier
/// goes first. Nearly as smooth, and in sum × log(sum).
fn spread(weights: &[u64], total: u64) -> Box<[u32]> {
    let mut places = Vec::with_capacity(total as usize);
    for (i, weight) in weights.iter().enumerate() {
        let middle = |part: u64| ((2 * part + 1) << 40) / weight;
        places.extend((0..*weight).map(|part| (middle(part), Reverse(*weight), i as u32)));
    }
    places.sort_unstable();
    places.into_iter().map(|(_, _, member)| member).collect()
}

/// Weights divided by their common divisor and, if their sum is still too large, scaled to `ROUND_MAX`.
fn reduced(weights: &[u32]) -> Vec<u64> {
    let divisor = weights.iter().fold(0, |a, weight| gcd(a, *weight)).max(1);
    let weights = weights.iter().map(|weight| u64::from(weight / divisor));
    let total: u64 = weights.clone().sum();
    let most = ROUND_MAX.max(weights.len() as u64);
    let scaled = |weight: u64| match total > most {
        true => ((weight * most + total / 2) / total).max(1),
        false => weight,
    };
    weights.map(scaled).collect()
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}
