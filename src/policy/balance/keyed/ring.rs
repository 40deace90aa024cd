//! Consistent hashing: every member owns points on a ring of hashes, and a key belongs to the next point.
//!
//! Decides: whose a key is, and who comes next. May not know: keys before they were hashed, who is usable.
//! Invariant: where a member's points lie follows from its name, and how many they are from its weight and a scale that
//! others have a say in only if weights are large or members many. So a key moves only if its own member goes, or to a new one.

use std::collections::BTreeMap;

use crate::policy::balance::hash::{STEP, hash, mix};

/// Points for each unit of weight. The parts of equal members differ by 6 % then (standard deviation), and the largest
/// of 100 is below 1.3 times the average.
const POINTS_PER_WEIGHT: u64 = 256;
/// If the heaviest has more bits than these, there are half as many points for each bit more. Below, weights can
/// change without moving the keys of others.
const WEIGHT_BITS_WHOLE: u32 = 4;
/// Most points of all, as 8 MiB and 4 MiB of index. If there would be more, half as many, and so on.
const POINTS_MAX: u64 = 1 << 20;

#[derive(Debug, Clone, Copy)]
struct Point {
    at: u32,
    member: u32,
}

#[derive(Debug, Clone)]
pub(super) struct Ring {
    /// In the order of the ring.
    points: Box<[Point]>,
    /// For every value of a hash's top bits, the first point that is not before it. There are as many as points or
    /// more, so that finding a key's point looks at one or two, whatever the number of members.
    index: Box<[u32]>,
    /// How far a hash is shifted to leave its top bits.
    shift: u32,
}

impl Ring {
    /// The ring of members by name and weight.
    pub(super) fn new<'a>(members: impl Iterator<Item = (&'a str, u32)> + Clone) -> Ring {
        let points = points(members);
        let bits = points.len().next_power_of_two().trailing_zeros().max(1);
        let shift = 32 - bits;
        let mut index = Vec::with_capacity(1 << bits);
        for (at, point) in points.iter().enumerate() {
            let top = (point.at >> shift) as usize;
            if index.len() <= top {
                index.resize(top + 1, at as u32);
            }
        }
        index.resize(1 << bits, points.len() as u32);
        Ring {
            points,
            index: index.into(),
            shift,
        }
    }

    /// The members of all points in the order of the ring, from the one to which the hash belongs.
    pub(super) fn from(&self, hash: u64) -> impl Iterator<Item = u32> {
        let place = (hash >> 32) as u32;
        let first = self.index[(place >> self.shift) as usize] as usize;
        let (before, behind) = self.points.split_at(first);
        let skipped = behind.iter().take_while(|point| point.at < place).count();
        let (near, behind) = behind.split_at(skipped);
        let order = behind.iter().chain(before).chain(near);
        order.map(|point| point.member)
    }
}

fn points<'a>(members: impl Iterator<Item = (&'a str, u32)> + Clone) -> Box<[Point]> {
    let halvings = halvings(members.clone().map(|(_, weight)| u64::from(weight)));
    // The same name twice is two members, which must not lie on the same points.
    let mut seen: BTreeMap<u64, u64> = BTreeMap::new();
    let mut points = Vec::new();
    for (member, (name, weight)) in members.enumerate() {
        let name = hash(name.as_bytes());
        let times = seen.entry(name).or_default();
        let seed = mix(name.wrapping_add(*times));
        *times += 1;
        points.extend(
            (1..=count(u64::from(weight), halvings)).map(|number| Point {
                at: (mix(seed.wrapping_add(STEP.wrapping_mul(number))) >> 32) as u32,
                member: member as u32,
            }),
        );
    }
    points.sort_unstable_by_key(|point| (point.at, point.member));
    points.into()
}

/// Points for a weight, halved as often as `halvings` says.
fn count(weight: u64, halvings: u32) -> u64 {
    ((weight * POINTS_PER_WEIGHT) >> halvings).max(1)
}

fn halvings(weights: impl Iterator<Item = u64> + Clone) -> u32 {
    let total: u64 = weights.clone().sum();
    let heaviest_bits = u64::BITS - weights.max().unwrap_or(0).leading_zeros();
    let mut halvings = heaviest_bits.saturating_sub(WEIGHT_BITS_WHOLE);
    while count(total, halvings) > POINTS_MAX {
        halvings += 1;
    }
    halvings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize) -> Vec<String> {
        (0..count)
            .map(|number| format!("http://10.1.{}.{}:8080", number / 256, number % 256))
            .collect()
    }

    fn ring(names: &[String], weight: impl Fn(usize) -> u32 + Clone) -> Ring {
        let members = names.iter().enumerate();
        Ring::new(members.map(|(at, name)| (name.as_str(), weight(at))))
    }

    /// The part of the ring that each member owns, exactly.
    fn parts(ring: &Ring, members: usize) -> Vec<f64> {
        let mut parts = vec![0.0; members];
        let mut last = ring.points[ring.points.len() - 1].at;
        for point in &ring.points {
            let gap = point.at.wrapping_sub(last);
            parts[point.member as usize] += f64::from(gap) / 2_f64.powi(32);
            last = point.at;
        }
        parts
    }

    #[test]
    fn the_largest_part_is_at_most_1_3_times_the_average() {
        for count in 3..=100 {
            let ring = ring(&names(count), |_| 1);
            for part in parts(&ring, count) {
                assert!(part * count as f64 <= 1.3, "{part} of {count}");
            }
        }
    }

    #[test]
    fn parts_follow_weights() {
        let weights: [&[u32]; 6] = [
            &[5, 1, 1],
            &[100, 50, 50, 50],
            &[65_535; 4],
            &[1_000, 1, 1_000],
            &[3, 2, 4, 6, 1],
            &[99, 98, 97],
        ];
        for weights in weights {
            let ring = ring(&names(weights.len()), |at| weights[at]);
            let total: u32 = weights.iter().sum();
            for (part, weight) in parts(&ring, weights.len()).iter().zip(weights) {
                let wanted = f64::from(*weight) / f64::from(total);
                let off = (part - wanted).abs();
                assert!(off <= 0.25 * wanted.max(0.01), "{weights:?}: {part}");
            }
        }
    }

    #[test]
    fn points_are_bounded() {
        for (count, weight, most) in [
            (1, 1, 256),
            (1, 65_535, 4_096),
            (100, 15, 384_000),
            (10_000, 1, 1 << 20),
            (20_000, 65_535, 1 << 20),
        ] {
            let ring = ring(&names(count), |_| weight);
            let found = ring.points.len();
            assert!((count..=most).contains(&found), "{count}: {found}");
        }
        let uneven = ring(&names(3), |at| [65_535, 65_535, 1][at]);
        assert!(uneven.points.len() as u64 <= POINTS_MAX);
    }

    #[test]
    fn every_hash_finds_the_next_point() {
        for count in [1, 2, 3, 100] {
            let ring = ring(&names(count), |_| 1);
            let places = ring.points.iter().step_by(count).map(|point| point.at);
            let near = places.flat_map(|at| [at.wrapping_sub(1), at, at.wrapping_add(1)]);
            for place in near.chain([0, 1, u32::MAX]) {
                let next = ring.points.iter().find(|point| point.at >= place);
                let expected = next.unwrap_or(&ring.points[0]).member;
                let mut found = ring.from(u64::from(place) << 32);
                assert_eq!(found.next(), Some(expected), "{place} of {count}");
                if count <= 3 {
                    assert_eq!(found.count() + 1, ring.points.len());
                }
            }
        }
    }
}
