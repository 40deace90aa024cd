//! The buckets of one rate limit, for all shards.
//!
//! Decides: whether a request with this key may pass now. May not know: requests, clocks, how keys are made. Invariant:
//! whatever the shards do at once, the grants of a key are a sequence of changes of one word, each by `Pace`; so what
//! `Pace` promises of a bucket holds for the process (its `GRACE_NS` says how exact the shards' clocks must be). A bucket
//! that is not full is never given up: a new key without room is `Full`, and those that are limited stay limited.
//!
//! Time in a cell is told modulo 18 minutes at least. A bucket that nobody has asked for or swept in all that time seems
//! to be drawn on again, for its burst and 68 s at most: its client waits for that long, nobody gets more. Whichever
//! shard ticks sweeps the next sets, about all in `ROUND_NS`, so it takes a process that stood still.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use super::cells::{Cells, Insertion};
use super::pace::{Grant, Moment, Pace};
use super::{Decision, Quota};
use crate::policy::Nanos;

/// In which all buckets are looked at, and those forgotten that are full.
const ROUND_NS: Nanos = 10_000_000_000;

/// A large table takes longer: so much per set and shard, which is 1,000 sets in a tick of 20 ms.
const SET_NS: Nanos = 20_000;

/// At one call, about 20 µs: twice the above, so that half of the shards keep the pace.
const SETS_MAX: u64 = 2_000;

pub struct Table {
    pace: Pace,
    cells: Cells,
    round_ns: Nanos,
    /// Sets, over all rounds since time 0. Every shard writes it, at its tick.
    swept: AtomicU64,
}

/// What a bucket answers to a demand for several requests.
pub(super) enum Answer {
    Granted(Grant, Moment),
    Limited { retry_ns: Nanos },
    Full,
}

impl Table {
    /// Room for `keys_max` keys per shard.
    pub fn new(quota: &Quota, keys_max: usize, shards: u32) -> Table {
        let shards = shards.max(1);
        let cells = Cells::new(keys_max.saturating_mul(shards as usize));
        let large_ns = cells.sets() as u64 * SET_NS / u64::from(shards);
        Table {
            pace: Pace::new(quota),
            cells,
            round_ns: large_ns.max(ROUND_NS),
            swept: AtomicU64::new(0),
        }
    }

    pub(super) fn pace(&self) -> &Pace {
        &self.pace
    }

    /// One request.
    pub fn take(&self, key: u64, now: Nanos) -> Decision {
        match self.take_most(key, now, 1) {
            Answer::Granted(grant, moment) => {
                let paced = self.pace.earlier(grant.tat, 1);
                Decision::Admitted {
                    remaining: grant.remaining,
                    full_ns: self.pace.until_ns(grant.tat, moment),
                    wait_ns: self.pace.until_ns(paced, moment),
                }
            }
            Answer::Limited { retry_ns } => Decision::Limited { retry_ns },
            Answer::Full => Decision::Full,
        }
    }

    /// Up to `most` requests by one change of the bucket.
    pub(super) fn take_most(&self, key: u64, now: Nanos, most: u32) -> Answer {
        let place = self.cells.place(key);
        let moment = self.pace.at(now);
        let mut found = self.cells.find(place);
        // Each turn that is lost was won by another shard, and there is only so much to win.
        loop {
            let Some(cell) = found else {
                let grant = self.pace.first(moment, most);
                let is_free = |tat| self.pace.is_over(tat, moment);
                match self.cells.insert(place, grant.tat, is_free) {
                    Insertion::Done => return Answer::Granted(grant, moment),
                    Insertion::Present(cell) => found = Some(cell),
                    Insertion::Full => return Answer::Full,
                }
                continue;
            };
            match self.pace.charge(cell.value(), moment, most) {
                Ok(grant) if cell.replace(grant.tat) => return Answer::Granted(grant, moment),
                Ok(_) => found = self.cells.find(place),
                Err(retry_ns) => return Answer::Limited { retry_ns },
            }
        }
    }

    /// Takes back what was granted and not used.
    pub(super) fn give_back(&self, key: u64, count: u32, now: Nanos) {
        let place = self.cells.place(key);
        let moment = self.pace.at(now);
        // A key without a cell has a full bucket.
        while let Some(cell) = self.cells.find(place) {
            match self.pace.refund(cell.value(), moment, count) {
                Some(tat) if cell.replace(tat) => return,
                Some(_) => {}
                None => return,
            }
        }
    }

    /// Forgets some of the buckets that are full. To be called by every shard at its tick.
    pub fn sweep(&self, now: Nanos) {
        let sets = self.cells.sets() as u64;
        let due = u128::from(now) * u128::from(sets) / u128::from(self.round_ns);
        let due = u64::try_from(due).unwrap_or(u64::MAX);
        let done = self.swept.load(Relaxed);
        // After a standstill one round is enough.
        let from = done.max(due.saturating_sub(sets));
        let to = due.min(from.saturating_add(SETS_MAX));
        let is_ours = to > from && {
            let claimed = self.swept.compare_exchange(done, to, Relaxed, Relaxed);
            claimed.is_ok()
        };
        if is_ours {
            let moment = self.pace.at(now);
            for number in from..to {
                let set = (number % sets) as usize;
                self.cells.clear(set, |tat| self.pace.is_over(tat, moment));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::pace::GRACE_NS;
    use super::super::{Hasher, Seed};
    use super::*;

    const MS: Nanos = 1_000_000;
    const S: Nanos = 1_000 * MS;
    const TICK_NS: Nanos = 20 * MS;

    fn table(interval_ns: Nanos, burst: u32, keys_max: usize, shards: u32) -> Table {
        let quota = Quota {
            interval_ns,
            burst,
            period_ns: S,
            requests: 1,
        };
        Table::new(&quota, keys_max, shards)
    }

    fn key(number: u64) -> u64 {
        let hasher = Hasher::new(Seed(1, 2));
        hasher.bytes(&number.to_le_bytes()).finish()
    }

    fn has_room(decision: &Decision) -> bool {
        !matches!(decision, Decision::Full)
    }

    #[test]
    fn a_decision_says_how_the_client_stands() {
        let table = table(100 * MS, 3, 1_024, 1);
        let admitted = |remaining, full_ms, wait_ms| Decision::Admitted {
            remaining,
            full_ns: full_ms * MS,
            wait_ns: wait_ms * MS,
        };
        let limited = |retry_ms| Decision::Limited {
            retry_ns: retry_ms * MS,
        };
        for (number, at_ms, expected) in [
            (7, 1_000, admitted(2, 100, 0)),
            (7, 1_010, admitted(1, 190, 90)),
            (7, 1_010, admitted(0, 290, 190)),
            (7, 1_010, limited(90)),
            (8, 1_010, admitted(2, 100, 0)),
            (7, 1_100, admitted(0, 300, 200)),
            (7, 1_400, admitted(2, 100, 0)),
        ] {
            let found = table.take(key(number), at_ms * MS);
            assert_eq!(found, expected, "{number} {at_ms}");
        }
    }

    #[test]
    fn a_full_table_frees_nobody() {
        let table = table(S, 2, 1_024, 1);
        let client = key(1 << 40);
        while let Decision::Admitted { .. } = table.take(client, 0) {}
        let came = (0..100_000).filter(|number| has_room(&table.take(key(*number), MS)));
        let came = came.count();
        assert!((1_500..1_792).contains(&came), "{came}");
        assert_eq!(
            table.take(client, MS),
            Decision::Limited { retry_ns: S - MS }
        );
        // Their buckets are full again a second after their one request; then others have their room.
        let first = |now| (200_000..210_000).any(|number| has_room(&table.take(key(number), now)));
        assert!(!first(MS + S + GRACE_NS - 1));
        assert!(first(MS + S + GRACE_NS));
    }

    #[test]
    fn a_round_of_sweeps_forgets_all_that_are_full() {
        // Keys for a shard, shards, those of them that tick, and how long a round takes.
        for (keys_max, shards, ticking, round_s) in [
            (65_536, 1, 1, 10),
            (4_096, 8, 1, 10),
            (500_000, 4, 2, 10),
            (2_000_000, 1, 1, 10),
        ] {
            let table = table(MS, 1, keys_max, shards);
            let keys = 10_000;
            assert!((0..keys).all(|number| has_room(&table.take(key(number), 0))));
            let kept = || {
                let places = (0..keys).map(|number| table.cells.place(key(number)));
                places
                    .filter(|place| table.cells.find(*place).is_some())
                    .count()
            };
            let from = S;
            let halfway = from + round_s * S / 2;
            for tick in (from..=halfway).step_by(TICK_NS as usize) {
                (0..ticking).for_each(|_| table.sweep(tick));
            }
            assert!((1..keys as usize).contains(&kept()));
            for tick in (halfway..=from + round_s * S + TICK_NS).step_by(TICK_NS as usize) {
                (0..ticking).for_each(|_| table.sweep(tick));
            }
            assert_eq!(kept(), 0, "{keys_max} {shards}");
        }
    }

    #[test]
    fn a_sweep_keeps_those_that_are_not_full() {
        let table = table(100 * S, 1, 1_024, 1);
        let _ = table.take(1, 0);
        for tick in (0..90 * S).step_by(TICK_NS as usize) {
            table.sweep(tick);
        }
        let expected = Decision::Limited { retry_ns: 10 * S };
        assert_eq!(table.take(1, 90 * S), expected);
    }

    #[test]
    fn after_a_standstill_a_sweep_does_one_round() {
        let table = table(MS, 1, 65_536, 1);
        for after in [0, 1_000_000 * S] {
            table.sweep(u64::MAX / 2 + after);
            let sets = table.cells.sets() as u64;
            let due = u128::from(u64::MAX / 2 + after) * u128::from(sets) / u128::from(ROUND_NS);
            let swept = table.swept.load(Relaxed);
            assert_eq!(
                u128::from(swept),
                due - u128::from(sets) + u128::from(SETS_MAX)
            );
        }
    }
}
