use super::*;

const HASH: Algorithm = Algorithm::ConsistentHash {
    bound_percent: None,
};
const BOUNDED: Algorithm = Algorithm::ConsistentHash {
    bound_percent: Some(125),
};

const KEYS: usize = 20_000;

/// Who has each key.
fn owners(balance: &Balance, view: &Cluster) -> Vec<u32> {
    picks(balance, view, KEYS)
}

/// Checks that only keys of `gone` moved, and not too many of them.
fn assert_moved(before: &[u32], after: &[u32], gone: u32, members: usize, what: &str) {
    let moved = before.iter().zip(after).filter(|(a, b)| a != b);
    let owners: Vec<u32> = moved.map(|(owner, _)| *owner).collect();
    assert!(
        owners.iter().all(|owner| *owner == gone),
        "{what}: others' keys moved"
    );
    let most = 1.3 * before.len() as f64 / members as f64;
    let moved = owners.len();
    assert!(
        moved > 0 && moved as f64 <= most,
        "{what} of {members}: {moved}"
    );
}

#[test]
fn one_that_goes_or_comes_moves_its_own_keys_only() {
    // That no member has more than 1.3 times its part is tested exactly for all of 3 to 100, beside the ring.
    for members in (3..=12).chain([17, 30, 50, 77, 100]) {
        let mut weights = vec![1; members];
        let all = owners(&build(HASH, &weights).unwrap(), &Cluster::new(members));
        let gone = members * 7 / 10;
        let down = owners(
            &build(HASH, &weights).unwrap(),
            &Cluster::new(members).without(&[gone]),
        );
        weights[gone] = 0;
        let removed = owners(&build(HASH, &weights).unwrap(), &Cluster::new(members));
        assert_moved(&all, &removed, gone as u32, members, "removed");
        assert_moved(&all, &down, gone as u32, members, "down");
        assert_eq!(
            removed, down,
            "of {members}: who is down is passed as if removed"
        );
        weights.push(1);
        weights[gone] = 1;
        let added = owners(&build(HASH, &weights).unwrap(), &Cluster::new(members + 1));
        assert_moved(&added, &all, members as u32, members + 1, "added");
    }
}

#[test]
fn keys_stay_when_others_of_other_weights_go() {
    let before: [u32; 6] = [10, 20, 30, 40, 50, 5];
    for gone in 0..before.len() {
        let mut after = before;
        after[gone] = 0;
        let before = owners(&build(HASH, &before).unwrap(), &Cluster::new(6));
        let after = owners(&build(HASH, &after).unwrap(), &Cluster::new(6));
        let others = before.iter().zip(&after).filter(|(a, b)| a != b);
        assert!(
            others.into_iter().all(|(owner, _)| *owner == gone as u32),
            "{gone}"
        );
    }
}

#[test]
fn a_key_does_not_depend_on_the_order_of_backends_or_their_ids() {
    let one = [
        (BackendId(0), "http://a:1", 1),
        (BackendId(1), "http://b:1", 1),
        (BackendId(2), "http://c:1", 2),
    ];
    let other = [
        (BackendId(1), "http://c:1", 2),
        (BackendId(2), "http://a:1", 1),
        (BackendId(0), "http://b:1", 1),
    ];
    let (one_balance, other_balance) = (Balance::new(HASH, &one), Balance::new(HASH, &other));
    let ones = owners(&one_balance.unwrap(), &Cluster::new(3));
    let others = owners(&other_balance.unwrap(), &Cluster::new(3));
    let name = |list: &[(BackendId, &'static str, u32)], id: u32| {
        list.iter().find(|(of, _, _)| of.0 == id).unwrap().1
    };
    for (a, b) in ones.iter().zip(&others) {
        assert_eq!(name(&one, *a), name(&other, *b));
    }
}

#[test]
fn the_same_name_twice_is_two_backends() {
    let backends = [
        (BackendId(0), "http://a:1", 1),
        (BackendId(1), "http://a:1", 1),
    ];
    let balance = Balance::new(HASH, &backends).unwrap();
    let counts = counts(&owners(&balance, &Cluster::new(2)), 2);
    assert_parts(&counts, &[1, 1], 0.1, "twins");
}

#[test]
fn slow_start_takes_keys_once_and_keeps_them() {
    let balance = build(HASH, &[1; 5]).unwrap();
    let mut view = Cluster::new(5);
    let last = owners(&balance, &view);
    let mut before = owners(&balance, &view.clone().without(&[2]));
    for share in (0..=SHARE_WHOLE).step_by(32) {
        view.shares[2] = share;
        let now = owners(&balance, &view);
        for ((before, now), last) in before.iter().zip(&now).zip(&last) {
            assert!(now == before || (*now == 2 && *last == 2), "{share}");
        }
        before = now;
    }
    assert_eq!(before, last);
}

#[test]
fn a_bound_is_never_exceeded_while_others_are_free() {
    for weights in [&[1; 3][..], &[1; 40], &[5, 1, 1, 2]] {
        let balance = build(BOUNDED, weights).unwrap();
        let mut view = Cluster::new(weights.len());
        let mut turn = balance.start(0, 1, 1);
        let total_weight: u32 = weights.iter().sum();
        // Nine of ten requests have the same key, and none ends.
        for number in 0..2_000_u64 {
            let key = if number % 10 == 0 { number } else { 7 };
            let id = balance.pick(&mut turn, key, &view).unwrap().0 as usize;
            view.loads[id] += 1;
            let part = f64::from(weights[id]) / f64::from(total_weight);
            let bound = (1.25 * (number + 1) as f64 * part).ceil();
            let load = f64::from(view.loads[id]);
            assert!(load <= bound + 1e-9, "{weights:?}: {load} over {bound}");
        }
    }
}

#[test]
fn a_bound_moves_only_what_is_above_it() {
    let balance = build(BOUNDED, &[1; 5]).unwrap();
    let plain = build(HASH, &[1; 5]).unwrap();
    let mut view = Cluster::new(5);
    view.loads.fill(100);
    let home = owners(&plain, &view);
    assert_eq!(owners(&balance, &view), home, "nobody is above 125 %");
    view.loads = vec![100, 100, 200, 100, 100];
    let away = owners(&balance, &view);
    let down = owners(&plain, &view.clone().without(&[2]));
    assert_eq!(
        away, down,
        "the overloaded one is passed as if it were down"
    );
}

#[test]
fn with_everybody_above_the_bound_a_key_stays() {
    // Only two of ten are up, so each is far above its part of the whole cluster's load.
    let balance = build(BOUNDED, &[1; 10]).unwrap();
    let mut view = Cluster::new(10).without(&[0, 1, 2, 3, 4, 5, 6, 7]);
    view.loads[8] = 500;
    view.loads[9] = 500;
    let plain = build(HASH, &[1; 10]).unwrap();
    assert_eq!(owners(&balance, &view), owners(&plain, &view));
}
