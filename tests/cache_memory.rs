//! What a stored response costs beside its key, head and body.
//!
//! Decides nothing. All that the table allocates is counted, and what the C library's allocator rounds up added.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of a test may fail as the test itself may"
)]

#[path = "support/allocations.rs"]
mod allocations;

use std::cell::RefCell;

use bytes::Bytes;
use corelane::cache::entry::{Entry, Kind, Parts};
use corelane::cache::table::Table;
use corelane::policy::cache::{Budget, Terms};

#[global_allocator]
static ALLOCATOR: allocations::Counting = allocations::Counting;

const ENTRIES: u32 = 100_000;
const OVERHEAD_BYTES_MAX: usize = 200;

/// What glibc adds to so many bytes: 8 of its own, and then it rounds up to 16.
fn added_bytes(bytes: usize) -> usize {
    (bytes + 8).next_multiple_of(16).max(32) - bytes
}

fn put(table: &Table, number: usize) {
    let key = format!("http://www.example.org/articles/{number}");
    let head = vec![b'h'; 150 + number % 100];
    let body = vec![b'b'; 500 + number % 1_000];
    let cost_bytes = Entry::cost_bytes(key.len(), head.len(), body.len());
    let parts = Parts {
        hash: table.hash(key.as_bytes()),
        key: key.as_bytes(),
        head: &head,
        body: Bytes::from(body),
        kind: Kind::Response,
        status: 200,
        terms: Terms {
            at: 0,
            age_s: 0,
            lifetime_s: 0,
            stale_while_revalidate_s: 0,
            stale_if_error_s: 0,
            must_revalidate: false,
            no_cache: false,
        },
    };
    let charge = table.reserve(cost_bytes).unwrap();
    table.put(Entry::new(parts, charge));
}

/// Sums over all entries.
#[derive(Default)]
struct Sums {
    entries: usize,
    content_bytes: usize,
    /// What the allocator adds to entries and their texts, and to bodies.
    added_bytes: usize,
    added_to_bodies_bytes: usize,
}

fn sums(table: &Table) -> Sums {
    let sums = RefCell::new(Sums::default());
    let removed = table.sweep(|entry| {
        let mut sums = sums.borrow_mut();
        let text_bytes = entry.key().len() + entry.head().len();
        let counts_bytes = 2 * size_of::<usize>();
        sums.entries += 1;
        sums.content_bytes += text_bytes + entry.body.len();
        sums.added_bytes += added_bytes(size_of::<Entry>() + counts_bytes);
        sums.added_bytes += added_bytes(text_bytes);
        sums.added_to_bodies_bytes += added_bytes(entry.body.len());
        false
    });
    assert_eq!(removed, 0);
    sums.into_inner()
}

#[test]
fn an_entry_costs_less_than_it_is_charged_for() {
    let budget = Budget {
        bytes_max: 1 << 30,
        entries_max: ENTRIES,
    };
    let (mut found, mut charged_bytes) = (Sums::default(), 0);
    let held_bytes = allocations::peak_of(|| {
        let table = Table::new(budget, &[7; 32]);
        (0..ENTRIES as usize).for_each(|number| put(&table, number));
        found = sums(&table);
        charged_bytes = table.figures().bytes as usize;
    });
    let requested_bytes = (held_bytes - found.content_bytes) / found.entries;
    let overhead_bytes = requested_bytes + found.added_bytes / found.entries;
    println!("{requested_bytes} bytes requested, {overhead_bytes} taken for each entry");
    assert!(overhead_bytes <= OVERHEAD_BYTES_MAX, "{overhead_bytes}");
    // Even if every body has been cloned, which is one more block.
    let all_bytes = held_bytes + found.added_bytes + found.added_to_bodies_bytes;
    let all_bytes = all_bytes + 32 * found.entries;
    assert!(charged_bytes >= all_bytes, "{charged_bytes} {all_bytes}");
    // One in fifty finds its bucket or its partition full.
    assert!(
        found.entries >= ENTRIES as usize / 100 * 97,
        "{}",
        found.entries
    );
}
