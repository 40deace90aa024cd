use super::*;

fn round_robin(weights: &[u32]) -> Balance {
    build(Algorithm::RoundRobin, weights).unwrap()
}

#[test]
fn the_round_is_smooth() {
    let cases: [(&[u32], &[u32]); 5] = [
        (&[5, 1, 1], &[0, 0, 1, 0, 2, 0, 0]),
        (&[7, 7, 7], &[0, 1, 2, 0, 1, 2]),
        (&[4, 2], &[0, 1, 0, 0, 1, 0]),
        (&[1, 0, 1], &[0, 2, 0, 2]),
        (&[9], &[0, 0, 0]),
    ];
    for (weights, expected) in cases {
        let balance = round_robin(weights);
        let picked = picks(&balance, &Cluster::new(weights.len()), expected.len());
        assert_eq!(picked, expected, "{weights:?}");
    }
}

#[test]
fn sixty_four_shards_are_fair_in_the_aggregate() {
    for weights in [&[1, 1, 1][..], &[5, 1, 1], &[1, 2, 3, 4]] {
        for shards in [1, 2, 64] {
            let balance = round_robin(weights);
            let view = Cluster::new(weights.len());
            let mut turns: Vec<Turn> = (0..shards).map(|s| balance.start(s, shards, 1)).collect();
            let mut pick = |n: usize| balance.pick(&mut turns[n * 7 % shards], 0, &view);
            let picked: Vec<u32> = (0..10_000).map(|n| pick(n).unwrap().0).collect();
            let counts = counts(&picked, weights.len());
            assert_parts(&counts, weights, 0.01, &format!("{shards} shards"));
        }
    }
}

#[test]
fn shards_start_at_their_parts_of_the_round() {
    let balance = round_robin(&[1; 64]);
    let first = |shard| balance.pick(&mut balance.start(shard, 16, 1), 0, &Cluster::new(64));
    for shard in 0..16 {
        assert_eq!(first(shard), Some(BackendId(shard as u32 * 4)));
    }
}

#[test]
fn the_turns_of_one_that_is_down_are_shared_evenly() {
    let view = Cluster::new(4).without(&[1]);
    let picked = picks(&round_robin(&[1, 1, 1, 1]), &view, 9);
    assert_eq!(picked, [0, 2, 3, 0, 2, 3, 0, 2, 3]);
}

#[test]
fn a_pick_with_everything_down_looks_at_few() {
    let looks = std::cell::Cell::new(0);
    struct Down<'a>(&'a std::cell::Cell<usize>);
    impl View for Down<'_> {
        fn usable(&self, _: BackendId) -> bool {
            self.0.set(self.0.get() + 1);
            false
        }
        fn load(&self, _: BackendId) -> u32 {
            unreachable!("nobody is usable")
        }
        fn total_load(&self) -> u32 {
            unreachable!("nobody is usable")
        }
        fn share(&self, _: BackendId) -> u32 {
            unreachable!("nobody is usable")
        }
        fn latency_ns(&self, _: BackendId) -> u64 {
            unreachable!("nobody is usable")
        }
    }
    let balance = round_robin(&[65_535, 2, 1]);
    let picked = balance.pick(&mut balance.start(0, 1, 1), 0, &Down(&looks));
    assert_eq!((picked, looks.get()), (None, WALK_MAX + 3));
}

#[test]
fn behind_a_long_stretch_of_one_that_is_down_weights_still_count() {
    let view = Cluster::new(3).without(&[0]);
    let picked = picks(&round_robin(&[65_535, 3, 1]), &view, 10_000);
    assert_parts(
        &counts(&picked, 3),
        &[0, 3, 1],
        0.02,
        "the heavy one is down",
    );
}
