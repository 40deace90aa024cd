//! The table of stored responses under real threads.
//!
//! Decides nothing. A few threads put, read, replace, remove and evict the same few keys for as fast as they can.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of a test may fail as the test itself may"
)]

#[path = "support/policies.rs"]
mod policies;

use std::sync::Barrier;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use corelane::cache::entry::{Entry, Kind, Parts};
use corelane::cache::table::Table;
use corelane::policy::cache::{Budget, Terms};
use policies::Random;

const THREADS: u64 = 4;
const STEPS: u32 = 40_000;
const KEYS: u64 = 64;
const BYTES_MAX: u64 = 65_536;

const TERMS: Terms = Terms {
    at: 0,
    age_s: 0,
    lifetime_s: 0,
    stale_while_revalidate_s: 0,
    stale_if_error_s: 0,
    must_revalidate: false,
    no_cache: false,
};

/// A body that tells of which key it is.
fn put(table: &Table, number: u64, body_bytes: usize) -> bool {
    let key = number.to_le_bytes();
    let Some(charge) = table.reserve(Entry::cost_bytes(8, 8, body_bytes)) else {
        return false;
    };
    let parts = Parts {
        hash: table.hash(&key),
        key: &key,
        head: &key,
        body: Bytes::from(vec![number as u8; body_bytes]),
        kind: Kind::Response,
        status: 200,
        terms: TERMS,
    };
    let entry = table.put(Entry::new(parts, charge));
    assert_eq!(entry.key(), key);
    true
}

fn check(entry: &Entry, number: u64) {
    assert_eq!(entry.key(), number.to_le_bytes());
    assert_eq!(entry.head(), number.to_le_bytes());
    assert!(entry.body.iter().all(|byte| *byte == number as u8));
}

fn together(work: impl Fn(&mut Random) + Sync) {
    let barrier = Barrier::new(THREADS as usize);
    std::thread::scope(|scope| {
        for number in 0..THREADS {
            let (barrier, work) = (&barrier, &work);
            scope.spawn(move || {
                let mut random = Random(number + 1);
                barrier.wait();
                work(&mut random);
            });
        }
    });
}

#[test]
fn a_reader_gets_its_key_and_the_budget_holds() {
    // Bytes are short, or entries are.
    for entries_max in [1_000, 32] {
        let budget = Budget {
            bytes_max: BYTES_MAX,
            entries_max,
        };
        let table = Table::new(budget, &[7; 32]);
        let (found, refused) = (AtomicU32::new(0), AtomicU32::new(0));
        together(|random| {
            let mut held = Vec::new();
            for _ in 0..STEPS {
                let number = random.below(KEYS);
                let hash = table.hash(&number.to_le_bytes());
                match random.below(16) {
                    0..3 => {
                        let body_bytes = random.below(4_000) as usize;
                        let is_put = put(&table, number, body_bytes);
                        refused.fetch_add(u32::from(!is_put), Relaxed);
                    }
                    3 => {
                        table.remove(hash);
                    }
                    4 => {
                        if let Some(entry) = table.get(hash) {
                            let removed = table.remove_if(hash, &entry);
                            assert!(!removed || !table.remove_if(hash, &entry));
                        }
                    }
                    5 if random.below(100) == 0 => {
                        table.sweep(|entry| entry.key()[0].is_multiple_of(2));
                    }
                    6 => {
                        let Some(entry) = table.get(hash) else {
                            continue;
                        };
                        held.push((number, entry));
                        if held.len() > 2 {
                            let (number, entry) = held.remove(0);
                            check(&entry, number);
                        }
                    }
                    _ => {
                        if let Some(entry) = table.get(hash) {
                            check(&entry, number);
                            entry.touch();
                            found.fetch_add(1, Relaxed);
                        }
                    }
                }
                assert!(table.figures().bytes <= BYTES_MAX);
            }
        });
        assert!(found.into_inner() > STEPS / 10);
        let refused = refused.into_inner();
        assert!(refused < STEPS / 20, "{refused}");
        let figures = table.figures();
        let kept = |number: &u64| table.get(table.hash(&number.to_le_bytes())).is_some();
        assert_eq!((0..KEYS).filter(kept).count() as u64, figures.entries);
        assert!(figures.evictions > 0 && figures.entries <= u64::from(entries_max));
        assert_eq!(table.sweep(|_| true), figures.entries);
        let figures = table.figures();
        assert_eq!((figures.entries, figures.bytes), (0, 0));
    }
}
