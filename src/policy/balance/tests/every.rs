//! What holds for every algorithm.

use proptest::prelude::*;

use super::*;

#[test]
fn nothing_with_a_weight_is_no_balance() {
    for algorithm in ALGORITHMS {
        for weights in [&[][..], &[0], &[0, 0]] {
            assert!(
                build(algorithm, weights).is_none(),
                "{algorithm:?}, {weights:?}"
            );
        }
    }
}

#[test]
fn weights_hold_in_an_idle_cluster() {
    for algorithm in ALGORITHMS {
        let slack = match algorithm {
            Algorithm::RoundRobin | Algorithm::LeastConnections => 0.000_2,
            Algorithm::PowerOfTwo | Algorithm::Random => 0.01,
            // A ring has its parts by chance.
            Algorithm::ConsistentHash { .. } => 0.06,
            // The heaviest of two has always the smaller cost for its weight.
            Algorithm::PeakEwma => continue,
        };
        for weights in [
            &[1, 1, 1][..],
            &[5, 1, 1],
            &[30, 30, 60],
            &[1, 2, 3, 4],
            &[9],
        ] {
            let balance = build(algorithm, weights).unwrap();
            // Without load a bound of 125 % lets every backend have one request.
            let picked = picks(&balance, &Cluster::new(weights.len()), 10_000);
            let counts = counts(&picked, weights.len());
            assert_parts(&counts, weights, slack, &format!("{algorithm:?}"));
        }
    }
}

#[test]
fn no_weight_is_no_request() {
    for algorithm in ALGORITHMS {
        let balance = build(algorithm, &[0, 1, 0]).unwrap();
        let picked = picks(&balance, &Cluster::new(3), 100);
        assert_eq!(counts(&picked, 3), [0, 100, 0], "{algorithm:?}");
        let view = Cluster::new(3).without(&[1]);
        assert_eq!(
            balance.pick(&mut balance.start(0, 1, 1), 0, &view),
            None,
            "{algorithm:?}"
        );
    }
}

#[test]
fn one_of_a_thousand_is_found() {
    for algorithm in ALGORITHMS {
        for weight in [1, 7] {
            let weights: Vec<u32> = (0..1_000).map(|at| 1 + at % weight).collect();
            let balance = build(algorithm, &weights).unwrap();
            for left in [0, 500, 999] {
                let mut view = Cluster::new(1_000);
                view.usable.fill(false);
                view.usable[left] = true;
                let picked = picks(&balance, &view, 5);
                assert_eq!(picked, [left as u32; 5], "{algorithm:?}");
            }
        }
    }
}

#[test]
fn slow_start_lets_requests_in_little_by_little() {
    for algorithm in ALGORITHMS {
        let balance = build(algorithm, &[1; 4]).unwrap();
        let mut view = Cluster::new(4);
        view.latencies.fill(1_000_000);
        let mut parts = Vec::new();
        for share in [0, 26, 64, 128, 192, SHARE_WHOLE] {
            view.shares[2] = share;
            let counts = counts(&picks(&balance, &view, 10_000), 4);
            parts.push(counts[2]);
        }
        assert!(parts.is_sorted(), "{algorithm:?}: {parts:?}");
        assert!(
            parts[0] <= 100 && (2_000..=3_200).contains(&parts[5]),
            "{algorithm:?}: {parts:?}"
        );
    }
}

#[test]
fn slow_start_holds_nobody_back_who_is_alone() {
    for algorithm in ALGORITHMS {
        let balance = build(algorithm, &[1; 4]).unwrap();
        let mut view = Cluster::new(4).without(&[0, 1, 3]);
        view.shares[2] = 0;
        let picked = picks(&balance, &view, 100);
        assert_eq!(counts(&picked, 4)[2], 100, "{algorithm:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_picks() {
    for algorithm in ALGORITHMS {
        let balance = build(algorithm, &[3, 2, 1, 1]).unwrap();
        let view = Cluster::new(4);
        let picked = |shard, seed| -> Vec<_> {
            let mut turn = balance.start(shard, 8, seed);
            let mut pick = |key| balance.pick(&mut turn, key, &view);
            (0..100).map(|key| pick(key).unwrap()).collect()
        };
        assert_eq!(picked(3, 17), picked(3, 17), "{algorithm:?}");
        if matches!(algorithm, Algorithm::Random) {
            assert_ne!(picked(3, 17), picked(3, 18));
            assert_ne!(picked(3, 17), picked(4, 17));
        }
    }
}

#[test]
fn what_is_needed_is_what_is_looked_at() {
    let needs = |algorithm| {
        let balance = build(algorithm, &[1, 1]).unwrap();
        (
            balance.needs_key(),
            balance.needs_load(),
            balance.needs_latency(),
        )
    };
    let expected = [
        (false, false, false),
        (false, true, false),
        (false, true, false),
        (false, false, false),
        (true, false, false),
        (true, true, false),
        (false, true, true),
    ];
    assert_eq!(ALGORITHMS.map(needs), expected);
}

#[test]
fn ten_thousand_backends_of_any_weight_are_built_and_used() {
    let weights: Vec<u32> = (0..10_000_u32)
        .map(|at| at.wrapping_mul(2_654_435_761) >> (at % 33).min(31))
        .collect();
    for algorithm in ALGORITHMS {
        let balance = build(algorithm, &weights).unwrap();
        assert_eq!(picks(&balance, &Cluster::new(10_000), 10).len(), 10);
    }
}

#[test]
fn a_turn_from_before_the_weights_changed_goes_on() {
    for algorithm in ALGORITHMS {
        let large = build(algorithm, &[65_535; 100]).unwrap();
        let small = build(algorithm, &[1, 2]).unwrap();
        let mut turn = large.start(99, 100, 1);
        for key in 0..10 {
            let picked = small.pick(&mut turn, key, &Cluster::new(2));
            assert!(picked.is_some_and(|id| id.0 < 2), "{algorithm:?}");
        }
    }
}

/// Weights, and what a view may say of each backend, however odd.
fn clusters() -> impl Strategy<Value = (Vec<u32>, Cluster)> {
    let weight = prop_oneof![20 => 0..4_u32, 1 => 0..=65_535_u32, 1 => any::<u32>()];
    let load = prop_oneof![Just(0), 0..10_u32, any::<u32>()];
    let share = prop_oneof![Just(SHARE_WHOLE), 0..=SHARE_WHOLE, any::<u32>()];
    let latency = prop_oneof![Just(0), 0..10_000_000_u64, any::<u64>()];
    let backend = (weight, any::<bool>(), load, share, latency);
    proptest::collection::vec(backend, 0..40).prop_map(|backends| {
        let mut cluster = Cluster::new(0);
        let mut weights = Vec::new();
        for (weight, usable, load, share, latency) in backends {
            weights.push(weight);
            cluster.usable.push(usable);
            cluster.loads.push(load);
            cluster.shares.push(share);
            cluster.latencies.push(latency);
        }
        (weights, cluster)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_pick_is_usable_and_there_is_one_if_anybody_is(
        (weights, cluster) in clusters(),
        (shard, shards) in (0..4_usize, 0..4_usize),
        keys in proptest::collection::vec(any::<u64>(), 1..20),
    ) {
        let is_usable = |at: usize| weights[at] > 0 && cluster.usable[at];
        let anybody = (0..weights.len()).any(is_usable);
        for algorithm in ALGORITHMS {
            let Some(balance) = build(algorithm, &weights) else {
                prop_assert!(weights.iter().all(|weight| *weight == 0));
                continue;
            };
            let mut turn = balance.start(shard, shards, keys[0]);
            for key in &keys {
                let picked = balance.pick(&mut turn, *key, &cluster);
                prop_assert_eq!(picked.is_some(), anybody, "{:?}", algorithm);
                prop_assert!(picked.is_none_or(|id| is_usable(id.0 as usize)), "{:?}", algorithm);
            }
        }
    }
}
