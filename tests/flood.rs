//! What a rate limit's table costs when more keys come than it has room for. By itself, since it weighs the process.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of a test may fail as the test itself may"
)]

use std::fs;

use corelane::policy::Nanos;
use corelane::policy::limit::{Decision, Quota, Table};

const MS: Nanos = 1_000_000;
const S: Nanos = 1_000 * MS;

fn quota(interval_ns: Nanos, burst: u32) -> Quota {
    Quota {
        interval_ns,
        burst,
        period_ns: S,
        requests: 1,
    }
}

/// Ten million of them are a lot to hash for a test that is not optimised; these are spread well enough.
fn key(number: u64) -> u64 {
    number.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(32)
}

/// Resident, of this process.
fn memory_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let size = line.unwrap().split_whitespace().nth(1).unwrap();
    size.parse::<u64>().unwrap() * 1024
}

#[test]
fn a_flood_of_keys_takes_no_memory_and_frees_nobody() {
    const KEYS: u64 = 10_000_000;
    let quota = quota(100 * MS, 5);
    let table = Table::new(&quota, 65_536, 1);
    let (mut now, mut admitted, mut refused) = (S, 0, 0);
    let before = memory_bytes();
    for number in 1..=KEYS {
        refused += u64::from(table.take(key(number), now) == Decision::Full);
        // A million a second: more than there is room for.
        now += 1_000;
        if number % 1_000 == 0 {
            let should = 5 + (now - S) / quota.interval_ns;
            match table.take(key(0), now) {
                Decision::Admitted { .. } => admitted += 1,
                Decision::Limited { .. } => {}
                Decision::Full => panic!("it was there when the flood came"),
            }
            assert!(admitted <= should, "{admitted} of {should}");
        }
        if number % 20_000 == 0 {
            table.sweep(now);
        }
    }
    let grown = memory_bytes().saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} bytes more");
    let should = 5 + (now - S) / quota.interval_ns;
    assert!(admitted * 100 >= should * 98, "{admitted} of {should}");
    assert!((KEYS / 20..KEYS).contains(&refused), "{refused} refused");
}

#[test]
fn memory_is_taken_by_keys_and_not_by_the_room_for_them() {
    let before = memory_bytes();
    let table = Table::new(&quota(S, 1), 1 << 24, 1);
    for number in 0..1_000 {
        let _ = table.take(key(number), 0);
    }
    let grown = memory_bytes().saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} of 268,435,456 bytes");
}
