//! Who goes from a full cache: ours beside S3-FIFO as it is in the book, and beside LRU.
//!
//! Decides nothing. `cargo bench --bench pure -- cache/hit` has the same with a long trace.

#[path = "support/policies.rs"]
mod policies;

use policies::{Lru, Ours, Policy, Textbook, Zipf, hit_rate};

/// Points of a hundred between two rates.
fn points(one: f64, other: f64) -> f64 {
    (one - other).abs() * 100.0
}

#[test]
fn hit_rates_are_those_of_the_book() {
    for (objects, room, requests) in [(1_000_000, 10_000, 300_000), (1_000_000, 100_000, 500_000)] {
        let mut zipf = Zipf::new(objects, 0.9, 1);
        let trace: Vec<u32> = (0..requests).map(|_| zipf.next()).collect();
        let ours = hit_rate(&mut Ours::new(objects, room), trace.iter().copied());
        let book = hit_rate(&mut Textbook::new(objects, room), trace.iter().copied());
        assert!(points(ours, book) < 1.0, "{room}: {ours} {book}");
    }
}

/// What foyer publishes of its S3-FIFO with as many ghosts as entries (bench_hit_ratio.rs): 10,000 keys, Zipf 0.9.
#[test]
fn hit_rates_are_those_that_others_publish() {
    for (room, published) in [(100, 0.384), (500, 0.553), (1_000, 0.635), (2_500, 0.757)] {
        let mut zipf = Zipf::new(10_000, 0.9, 2);
        let mut ours = Ours::new(10_000, room);
        let _ = hit_rate(&mut ours, (0..50_000).map(|_| zipf.next()));
        let found = hit_rate(&mut ours, (0..200_000).map(|_| zipf.next()));
        assert!(points(found, published) < 1.0, "{room}: {found}");
    }
}

/// Somebody reads everything once, twice as fast as all others read what they like.
#[test]
fn a_scan_pushes_out_less_than_with_lru() {
    const OBJECTS: u32 = 10_000;
    let during_scan = |policy: &mut dyn Policy| {
        let mut zipf = Zipf::new(OBJECTS, 0.9, 3);
        for _ in 0..50_000 {
            policy.request(zipf.next());
        }
        let mut scanned = OBJECTS..;
        let mut hits = 0;
        for _ in 0..50_000 {
            hits += u32::from(policy.request(zipf.next()));
            for object in scanned.by_ref().take(2) {
                policy.request(object);
            }
        }
        f64::from(hits) / 50_000.0
    };
    let all = OBJECTS + 100_000;
    let ours = during_scan(&mut Ours::new(all, 1_000));
    let lru = during_scan(&mut Lru::new(all, 1_000));
    assert!(ours > 0.58 && ours > lru + 0.15, "{ours} {lru}");
}
