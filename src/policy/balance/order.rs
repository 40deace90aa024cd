//! One whole round of a cluster's members, each as often as its weight says and spread as evenly as can be.
//!
//! Decides: the round. May not know: who is healthy, who walks it. Invariant: every member stands in it, and its
//! length is at most `ROUND_MAX` or the number of members, plus one for each member that rounding up has kept in.

/// Longest precomputed round. 64 Ki entries of 4 bytes; larger sums of weights are scaled down to fit.
pub(super) const ROUND_MAX: u64 = 65_536;

/// Most steps of the smooth round, which are sum × members: some 5 ms. Beyond that the round is spread by sorting.
const SMOOTH_STEPS_MAX: u64 = 4 << 20;

/// Indexes of members in the order of one round; `weights` are all above 0.
pub fn round(weights: impl Iterator<Item = u32>) -> Box<[u32]> {
    let weights = reduced(weights.map(u64::from).collect());
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

/// A member of weight w stands in each of w equal parts of the round, at the same place in each. The golden ratio
/// gives members places that lie apart, so that those of one weight do not follow each other. In sum × log(sum).
fn spread(weights: &[u64], total: u64) -> Box<[u32]> {
    let mut places = Vec::with_capacity(total as usize);
    for (member, weight) in (0_u32..).zip(weights) {
        let place = u64::from(member.wrapping_mul(0x9E37_79B9));
        places.extend((0..*weight).map(|part| (((part << 32) + place) / weight, member)));
    }
    places.sort_unstable();
    places.into_iter().map(|(_, member)| member).collect()
}

/// Weights divided by their common divisor and, if their sum is still too large, scaled to `ROUND_MAX`.
fn reduced(mut weights: Vec<u64>) -> Vec<u64> {
    let divisor = weights.iter().fold(0, |a, weight| gcd(a, *weight)).max(1);
    weights.iter_mut().for_each(|weight| *weight /= divisor);
    let total: u64 = weights.iter().sum();
    let most = ROUND_MAX.max(weights.len() as u64);
    if total > most {
        let scaled = |weight: u64| ((weight * most + total / 2) / total).max(1);
        weights
            .iter_mut()
            .for_each(|weight| *weight = scaled(*weight));
    }
    weights
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(order: &[u32], members: usize) -> Vec<u64> {
        let mut counts = vec![0; members];
        order.iter().for_each(|at| counts[*at as usize] += 1);
        counts
    }

    #[test]
    fn every_member_stands_as_often_as_it_weighs() {
        let cases: [(&[u32], &[u64]); 5] = [
            (&[10, 20, 30], &[1, 2, 3]),
            (&[65_535, 65_535], &[1, 1]),
            (&[65_535, 1], &[65_535, 1]),
            (&[65_535, 65_535, 1], &[32_768, 32_768, 1]),
            (&[], &[]),
        ];
        for (weights, expected) in cases {
            let order = round(weights.iter().copied());
            assert_eq!(counts(&order, weights.len()), expected, "{weights:?}");
        }
    }

    #[test]
    fn large_clusters_keep_their_weights_and_are_spread() {
        let weights: Vec<u64> = (0..10_000).map(|at| 1 + at % 3).collect();
        let total: u64 = weights.iter().sum();
        assert!(total * weights.len() as u64 > SMOOTH_STEPS_MAX);
        let order = round(weights.iter().map(|weight| *weight as u32));
        assert_eq!(counts(&order, weights.len()), weights);
        // Every quarter of the round has a quarter of each weight's entries, within 1 %.
        for quarter in order.chunks(order.len().div_ceil(4)) {
            for weight in 1..=3 {
                let of_weight = |at: &&u32| weights[**at as usize] == weight;
                let found = quarter.iter().filter(of_weight).count() as f64;
                let all = order.iter().filter(of_weight).count() as f64;
                assert!((found / all - 0.25).abs() < 0.01, "{weight}: {found}");
            }
        }
    }

    #[test]
    fn sorting_spreads_as_smoothly_as_counting() {
        let weights = [7, 5, 3, 1];
        for order in [smooth(&weights, 16), spread(&weights, 16)] {
            assert_eq!(counts(&order, 4), weights);
            for (member, weight) in weights.iter().enumerate() {
                let places = (0..32).filter(|at| order[at % 16] == member as u32);
                let places: Vec<usize> = places.collect();
                let gaps = places.windows(2).map(|pair| pair[1] - pair[0]);
                let widest = gaps.max().unwrap_or(0) as u64;
                assert!(widest <= 16_u64.div_ceil(*weight) + 2, "{order:?}");
            }
        }
    }

    #[test]
    fn the_length_is_bounded_and_nobody_is_left_out() {
        for count in [2_u32, 1_000, 10_000, 100_000] {
            let order = round((0..count).map(|at| 1 + at.wrapping_mul(7_919) % 65_535));
            let most = ROUND_MAX + 2 * u64::from(count);
            assert!(order.len() as u64 <= most, "{count}: {}", order.len());
            let counts = counts(&order, count as usize);
            assert!(counts.iter().all(|times| *times > 0), "{count}");
        }
    }
}
