//! Algorithms that look at loads: tables, and clusters whose requests take time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::*;

/// Keeps `users` requests under way until `requests` were made, and counts those that each backend got. A request
/// takes as long as its backend's `times` says, give or take a third.
fn closed_loop(balance: &Balance, times: &[u64], users: usize, requests: usize) -> Vec<u32> {
    let mut view = Cluster::new(times.len());
    let mut turns: Vec<Turn> = (0..4).map(|shard| balance.start(shard, 4, 1)).collect();
    let mut ends = BinaryHeap::new();
    let mut counts = vec![0; times.len()];
    let mut now = 0;
    for number in 0..requests {
        if ends.len() >= users {
            let Reverse((at, id)) = ends.pop().unwrap();
            now = at;
            view.loads[id] -= 1;
            // The caller keeps a peak EWMA; here the times are known once one request has ended.
            view.latencies[id] = times[id];
        }
        let picked = balance.pick(&mut turns[number % 4], number as u64, &view);
        let id = picked.unwrap().0 as usize;
        view.loads[id] += 1;
        counts[id] += 1;
        let third = times[id] / 3;
        let jitter = hash(&(number as u64).to_le_bytes()) % (2 * third + 1);
        ends.push(Reverse((now + times[id] - third + jitter, id)));
    }
    counts
}

#[test]
fn least_connections_picks_the_smallest_load_for_its_weight() {
    // weights, loads, down, expected
    type Case<'a> = (&'a [u32], &'a [u32], &'a [usize], u32);
    let cases: [Case<'_>; 9] = [
        (&[1, 1, 1], &[3, 1, 2], &[], 1),
        (&[1, 1, 1], &[3, 1, 2], &[1], 2),
        (&[1, 1, 1], &[3, 0, 2], &[1], 2),
        (&[4, 1], &[2, 1], &[], 0),
        (&[4, 1], &[9, 1], &[], 1),
        (&[2, 1, 1], &[3, 2, 2], &[], 0),
        (&[65_535, 1], &[u32::MAX, u32::MAX], &[], 0),
        (&[65_535, 65_534], &[u32::MAX, u32::MAX], &[0], 1),
        (&[1, 65_535], &[1, 70_000], &[], 1),
    ];
    for (weights, loads, down, expected) in cases {
        let balance = build(Algorithm::LeastConnections, weights).unwrap();
        let mut view = Cluster::new(weights.len()).without(down);
        view.loads = loads.to_vec();
        for shard in 0..4 {
            let picked = balance.pick(&mut balance.start(shard, 4, 1), 0, &view);
            let expected = Some(BackendId(expected));
            assert_eq!(picked, expected, "{weights:?} {loads:?} {down:?}");
        }
    }
}

#[test]
fn least_connections_never_leaves_a_smaller_load_unused() {
    for weights in [&[1; 20][..], &[1, 2, 3, 5, 7, 11, 13], &[4, 4, 4, 9]] {
        let balance = build(Algorithm::LeastConnections, weights).unwrap();
        let mut view = Cluster::new(weights.len());
        let mut turn = balance.start(0, 1, 1);
        // With different weights an idle one may take a request that another would have the least for.
        let least_load = u32::from(weights.windows(2).any(|pair| pair[0] != pair[1]));
        view.loads.fill(least_load);
        for number in 0..10_000_u64 {
            let random = hash(&number.to_le_bytes());
            let changed = random as usize % weights.len();
            view.loads[changed] = least_load + (random >> 32) as u32 % 25;
            view.usable[changed] = random >> 16 & 3 != 0;
            // A common multiple of all weights makes whole numbers of their parts.
            let cost = |at: usize| (view.loads[at] + 1) * (180_180 / weights[at]);
            let usable = (0..weights.len()).filter(|at| view.usable[*at]);
            let least = usable.map(cost).min();
            let picked = balance.pick(&mut turn, 0, &view);
            assert_eq!(picked.map(|id| cost(id.0 as usize)), least, "{weights:?}");
        }
    }
}

#[test]
fn equals_take_turns_wherever_they_stand() {
    let balance = build(Algorithm::LeastConnections, &[1; 10]).unwrap();
    for ties in [&[0, 1][..], &[3, 9], &[2, 3, 4]] {
        for load in [0, 5] {
            let mut view = Cluster::new(10);
            view.loads.fill(7);
            ties.iter().for_each(|at| view.loads[*at] = load);
            let counts = counts(&picks(&balance, &view, 10_000), 10);
            let wanted = 10_000.0 / ties.len() as f64;
            for tie in ties {
                let off = f64::from(counts[*tie]) / wanted - 1.0;
                assert!(off.abs() <= 0.3, "{ties:?}, load {load}: {counts:?}");
            }
        }
    }
}

#[test]
fn a_slow_backend_gets_its_part_of_the_requests() {
    // The slow one takes ten times as long, so it shall get about a tenth of what the others get.
    let times = [1_000, 1_000, 10_000, 1_000, 1_000];
    for (algorithm, least, most) in [
        (Algorithm::LeastConnections, 0.07, 0.13),
        // Of two drawn, both may be fast or the slow one may be the less busy: not as exact.
        (Algorithm::PowerOfTwo, 0.07, 0.2),
        (Algorithm::PeakEwma, 0.0, 0.1),
    ] {
        let balance = build(algorithm, &[1; 5]).unwrap();
        let counts = closed_loop(&balance, &times, 100, 50_000);
        let others = (counts.iter().sum::<u32>() - counts[2]) / 4;
        let part = f64::from(counts[2]) / f64::from(others);
        assert!(
            (least..=most).contains(&part),
            "{algorithm:?}: {part}, {counts:?}"
        );
        for (at, count) in counts.iter().enumerate().filter(|(at, _)| *at != 2) {
            let off = f64::from(*count) / f64::from(others) - 1.0;
            assert!(off.abs() <= 0.02, "{algorithm:?}, {at}: {counts:?}");
        }
    }
}

#[test]
fn weights_hold_at_any_load() {
    for algorithm in [Algorithm::LeastConnections, Algorithm::PowerOfTwo] {
        let weights = [5, 1, 1];
        let balance = build(algorithm, &weights).unwrap();
        // One request at a time, as many as the sum of weights, and far more.
        for (users, slack) in [(1, 0.01), (7, 0.15), (700, 0.05)] {
            let counts = closed_loop(&balance, &[1_000; 3], users, 40_000);
            let what = format!("{algorithm:?}, {users} users");
            assert_parts(&counts, &weights, slack, &what);
        }
    }
}

#[test]
fn two_choices_spread_better_than_one() {
    // 10,000 requests that never end on 100 backends: the fullest has a few more than the average of 100.
    let fullest = |algorithm| {
        let balance = build(algorithm, &[1; 100]).unwrap();
        let mut view = Cluster::new(100);
        let mut turn = balance.start(0, 1, 1);
        for key in 0..10_000 {
            let id = balance.pick(&mut turn, key, &view).unwrap();
            view.loads[id.0 as usize] += 1;
        }
        *view.loads.iter().max().unwrap()
    };
    assert!(fullest(Algorithm::PowerOfTwo) <= 104);
    assert!(fullest(Algorithm::PeakEwma) <= 104);
    assert!((115..150).contains(&fullest(Algorithm::Random)));
    assert_eq!(fullest(Algorithm::LeastConnections), 100);
}

#[test]
fn two_choices_are_two() {
    // The busy one is picked only if it is drawn twice, which must not happen.
    for algorithm in [Algorithm::PowerOfTwo, Algorithm::PeakEwma] {
        let balance = build(algorithm, &[1, 1]).unwrap();
        let mut view = Cluster::new(2);
        view.loads = vec![9, 1];
        view.latencies = vec![1_000, 1_000];
        let counts = counts(&picks(&balance, &view, 1_000), 2);
        assert_eq!(counts, [0, 1_000], "{algorithm:?}");
    }
}

#[test]
fn peak_ewma_weighs_latency_against_load() {
    // latencies, loads, expected of two
    let cases: [([u64; 2], [u32; 2], u32); 8] = [
        ([1_000, 2_000], [0, 0], 0),
        ([1_000, 2_000], [1, 0], 0),
        ([1_000, 2_000], [2, 0], 1),
        ([1_000, 0], [0, 0], 1),
        ([1_000, 0], [0, 1], 0),
        ([1_000, 0], [5_000, 1], 0),
        ([0, 0], [4, 3], 1),
        ([u64::MAX, 1_000], [u32::MAX, 0], 1),
    ];
    let balance = build(Algorithm::PeakEwma, &[1, 1]).unwrap();
    for (latencies, loads, expected) in cases {
        let mut view = Cluster::new(2);
        view.latencies = latencies.to_vec();
        view.loads = loads.to_vec();
        // Of two that cost the same the one drawn first is taken, so the second case may have either.
        let picked = picks(&balance, &view, 50);
        if (latencies, loads) != ([1_000, 2_000], [1, 0]) {
            assert_eq!(picked, [expected; 50], "{latencies:?} {loads:?}");
        }
    }
}
