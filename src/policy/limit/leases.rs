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
