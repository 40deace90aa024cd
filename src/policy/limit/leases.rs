//! Requests that one shard has taken ahead.
//!
//! Decides: whether a request with this key may pass now, mostly without a look at what other shards see. May not know:
//! other shards. Invariant: at any time a shard holds at most `lease - 1` requests of a key. So in any window a key gets
//! at most `burst + rate × time + shards × lease`.
//!
//! Why: in a window, what is used and what is given back was either held when it began, `shards × (lease - 1)` at most,
//! or taken in it. `Pace` bounds what is taken: it is at most `burst + rate × time` and what was given back since. What
//! was given back is on both sides, and what is left is the sum above.

use super::table::{Answer, Table};
use super::{Decision, Nanos};

/// Keys at a time. The others take one by one.
const ENTRIES: usize = 1024;

/// Looked at by one call of `expire`.
const PART: usize = ENTRIES / 16;

/// After this, what is left goes back: other shards may want it.
const KEPT_NS: Nanos = 100_000_000;

/// Those of one shard and one limit.
pub struct Leases {
    entries: Box<[Lease]>,
    lease: u32,
    /// The next that `expire` looks at.
    next: usize,
}

#[derive(Clone, Copy, Default)]
struct Lease {
    key: u64,
    /// The bucket after this lease.
    tat: u64,
    /// Those not used yet; 0 makes the entry free.
    left: u32,
    taken_at: Nanos,
}

impl Leases {
    /// At most `lease` at a time, and never more than all shards together may hold of half a burst.
    pub fn new(table: &Table, lease: u32, shards: u32) -> Leases {
        let share = table.pace().burst() / shards.max(1).saturating_mul(2);
        Leases {
            entries: vec![Lease::default(); ENTRIES].into(),
            lease: lease.min(share).max(1),
            next: 0,
        }
    }

    pub fn take(&mut self, table: &Table, key: u64, now: Nanos) -> Decision {
        let entry = &mut self.entries[key as usize % ENTRIES];
        if entry.left == 0 {
            match table.take_most(key, now, self.lease) {
                Answer::Granted(grant, _) => {
                    *entry = Lease {
                        key,
                        tat: grant.tat,
                        left: grant.count,
                        taken_at: now,
                    };
                }
                Answer::Limited { retry_ns } => return Decision::Limited { retry_ns },
                Answer::Full => return Decision::Full,
            }
        } else if entry.key != key {
            return table.take(key, now);
        }
        let pace = table.pace();
        let moment = pace.at(now);
        let paced = pace.earlier(entry.tat, entry.left);
        entry.left -= 1;
        Decision::Admitted {
            remaining: pace.remaining(entry.tat, moment) + entry.left,
            full_ns: pace.until_ns(pace.earlier(entry.tat, entry.left), moment),
            wait_ns: pace.until_ns(paced, moment),
        }
    }

    /// Gives back what has been kept for long. To be called at each tick: it looks at a part of the keys.
    pub fn expire(&mut self, table: &Table, now: Nanos) {
        let part = &mut self.entries[self.next..self.next + PART];
        self.next = (self.next + PART) % ENTRIES;
        for entry in part {
            if entry.left > 0 && now.saturating_sub(entry.taken_at) >= KEPT_NS {
                table.give_back(entry.key, entry.left, now);
                entry.left = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Quota;
    use super::*;

    const MS: Nanos = 1_000_000;

    fn table(burst: u32) -> Table {
        let quota = Quota {
            interval_ns: 100 * MS,
            burst,
            period_ns: 1_000 * MS,
            requests: 10,
        };
        Table::new(&quota, 1_024, 2)
    }

    fn expire_all(leases: &mut Leases, table: &Table, now: Nanos) {
        (0..ENTRIES / PART).for_each(|_| leases.expire(table, now));
    }

    fn admitted(remaining: u32, full_ms: u64, wait_ms: u64) -> Decision {
        Decision::Admitted {
            remaining,
            full_ns: full_ms * MS,
            wait_ns: wait_ms * MS,
        }
    }

    #[test]
    fn a_lease_is_a_part_of_the_burst() {
        for (burst, lease, shards, expected) in [
            (100, 8, 1, 8),
            (100, 8, 8, 6),
            (100, 8, 64, 1),
            (1, 8, 1, 1),
            (1_000_000, 1_000, u32::MAX, 1),
        ] {
            let leases = Leases::new(&table(burst), lease, shards);
            assert_eq!(leases.lease, expected, "{burst} {shards}");
        }
    }

    #[test]
    fn requests_of_a_lease_stand_as_if_they_came_alone() {
        let (table, other) = (table(8), table(8));
        let mut leases = Leases::new(&table, 2, 2);
        for at_ms in [0, 0, 0, 50, 60, 100, 350, 350, 350, 400, 2_000] {
            let alone = other.take(7, at_ms * MS);
            assert_eq!(leases.take(&table, 7, at_ms * MS), alone, "{at_ms}");
        }
    }

    #[test]
    fn other_shards_see_a_lease_until_it_is_given_back() {
        let table = table(8);
        let mut leases = Leases::new(&table, 2, 2);
        assert_eq!(leases.take(&table, 7, 0), admitted(7, 100, 0));
        assert_eq!(table.take(7, 0), admitted(5, 300, 200));
        expire_all(&mut leases, &table, KEPT_NS - 1);
        assert_eq!(table.take(7, KEPT_NS), admitted(5, 300, 200));
        expire_all(&mut leases, &table, KEPT_NS);
        assert_eq!(table.take(7, KEPT_NS), admitted(5, 300, 200));
        // It holds nothing any more.
        assert_eq!(leases.entries[7].left, 0);
        expire_all(&mut leases, &table, 2 * KEPT_NS);
        assert_eq!(table.take(7, KEPT_NS), admitted(4, 400, 300));
    }

    #[test]
    fn two_keys_of_one_entry_do_not_take_it_from_each_other() {
        let table = table(16);
        let mut leases = Leases::new(&table, 4, 2);
        // Hashes with the same low bits.
        let (one, other) = (5, 1 << 63 | 1 << 31 | 5);
        assert_eq!(leases.take(&table, one, 0), admitted(15, 100, 0));
        assert_eq!(leases.take(&table, other, 0), admitted(15, 100, 0));
        assert_eq!(leases.take(&table, other, 0), admitted(14, 200, 100));
        assert_eq!((leases.entries[5].key, leases.entries[5].left), (one, 3));
        assert_eq!(table.take(other, 0), admitted(13, 300, 200));
    }

    #[test]
    fn what_is_left_of_a_bucket_is_leased_and_then_no_more() {
        let table = table(5);
        let mut leases = Leases::new(&table, 2, 1);
        for remaining in (0..5).rev() {
            let found = leases.take(&table, 7, 0);
            let is_expected =
                matches!(found, Decision::Admitted { remaining: r, .. } if r == remaining);
            assert!(is_expected, "{remaining}: {found:?}");
        }
        let retry_ns = 100 * MS;
        assert_eq!(leases.take(&table, 7, 0), Decision::Limited { retry_ns });
        assert_eq!(leases.take(&table, 7, retry_ns), admitted(0, 500, 400));
    }
}
