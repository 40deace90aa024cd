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

use super::cells::{Cell, Cells, Insertion, Place};
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

    /// Up to `most` requests by one change of the bucket. Inlined for benchmark limit/admitted/1: 21 to 19 ns.
    #[inline]
    pub(super) fn take_most(&self, key: u64, now: Nanos, most: u32) -> Answer {
        let mut take = Take::begin(self, key, now, most);
        // Each step that is lost was won by another shard, and there is only so much to win.
        loop {
            if let Some(answer) = take.step() {
                return answer;
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

/// A bucket that has been looked at and will be changed, if nobody else does so first.
struct Take<'a> {
    table: &'a Table,
    place: Place,
    moment: Moment,
    most: u32,
    found: Option<Cell<'a>>,
}

impl<'a> Take<'a> {
    fn begin(table: &'a Table, key: u64, now: Nanos, most: u32) -> Take<'a> {
        let place = table.cells.place(key);
        Take {
            table,
            place,
            moment: table.pace.at(now),
            most,
            found: table.cells.find(place),
        }
    }

    /// Changes the bucket, or looks at it again.
    fn step(&mut self) -> Option<Answer> {
        let (pace, cells, moment) = (&self.table.pace, &self.table.cells, self.moment);
        let Some(cell) = &self.found else {
            let grant = pace.first(moment, self.most);
            let is_free = |tat| pace.is_over(tat, moment);
            return match cells.insert(self.place, grant.tat, is_free) {
                Insertion::Done => Some(Answer::Granted(grant, moment)),
                Insertion::Present(cell) => {
                    self.found = Some(cell);
                    None
                }
                Insertion::Full => Some(Answer::Full),
            };
        };
        match pace.charge(cell.value(), moment, self.most) {
            Ok(grant) if cell.replace(grant.tat) => Some(Answer::Granted(grant, moment)),
            Ok(_) => {
                self.found = cells.find(self.place);
                None
            }
            Err(retry_ns) => Some(Answer::Limited { retry_ns }),
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
        assert!((1_500..1_640).contains(&came), "{came}");
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

    /// Xorshift.
    struct Random(u64);

    impl Random {
        fn below(&mut self, n: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 % n
        }
    }

    const SEEDS: u64 = 10;
    const KEYS: u64 = 24;

    /// Shards whose steps come in an order made from a seed.
    struct Steps<'a> {
        table: &'a Table,
        random: Random,
        clock: Nanos,
        /// What each shard is about to do: the number of a key, and since when.
        takes: Vec<Option<(u64, Nanos, Take<'a>)>>,
        /// When, of each key.
        admitted: Vec<Vec<Nanos>>,
        full: u32,
        lost: u32,
    }

    impl Steps<'_> {
        fn step(&mut self, shard: usize) {
            let table = self.table;
            let (number, now, mut take) = self.takes[shard].take().unwrap_or_else(|| {
                let number = self.random.below(KEYS);
                (
                    number,
                    self.clock,
                    Take::begin(table, key(number), self.clock, 1),
                )
            });
            match take.step() {
                Some(Answer::Granted(..)) => self.admitted[number as usize].push(now),
                Some(Answer::Limited { .. }) => {}
                Some(Answer::Full) => self.full += 1,
                None => {
                    self.lost += 1;
                    self.takes[shard] = Some((number, now, take));
                }
            }
        }

        /// A shard looks at a bucket, and others come before it.
        fn begin(&mut self, shard: usize) {
            let number = self.random.below(KEYS);
            let take = Take::begin(self.table, key(number), self.clock, 1);
            self.takes[shard] = Some((number, self.clock, take));
        }

        /// So late that all are full, and nobody's clock is as late as that.
        fn pause(&mut self) {
            for shard in 0..self.takes.len() {
                while self.takes[shard].is_some() {
                    self.step(shard);
                }
            }
            self.clock += GRACE_NS + 10 * MS;
        }

        fn clear(&self) {
            let (pace, moment) = (&self.table.pace, self.table.pace.at(self.clock));
            for set in 0..self.table.cells.sets() {
                self.table.cells.clear(set, |tat| pace.is_over(tat, moment));
            }
        }
    }

    /// Between what one shard sees of a bucket and what it makes of it, others change the bucket, forget it, or give
    /// its cell to another key.
    #[test]
    fn whatever_the_order_of_steps_no_window_has_too_much() {
        const BURST: u32 = 4;
        for (shards, seed) in [1, 2, 8, 64]
            .into_iter()
            .flat_map(|shards| (1..=SEEDS).map(move |seed| (shards, seed)))
        {
            // Two sets for all keys: cells change keys all the time.
            let table = table(MS, BURST, 8, 1);
            let mut steps = Steps {
                table: &table,
                random: Random(seed),
                clock: 0,
                takes: (0..shards).map(|_| None).collect(),
                admitted: vec![Vec::new(); KEYS as usize],
                full: 0,
                lost: 0,
            };
            for _ in 0..20_000 {
                let shard = steps.random.below(shards as u64) as usize;
                match steps.random.below(64) {
                    0 => steps.pause(),
                    1 => steps.clear(),
                    2..8 => steps.clock += steps.random.below(16 * MS / shards as u64),
                    _ if steps.takes[shard].is_some() => steps.step(shard),
                    _ => steps.begin(shard),
                }
            }
            for times in &mut steps.admitted {
                times.sort_unstable();
                let level = |(count, at): (i64, &Nanos)| count * MS as i64 - *at as i64;
                (0..)
                    .zip(times.iter())
                    .map(level)
                    .fold(i64::MAX, |least, level| {
                        let least = least.min(level);
                        let burst = i64::from(BURST - 1) * MS as i64;
                        assert!(level - least <= burst, "{shards} shards, seed {seed}");
                        least
                    });
            }
            let count: usize = steps.admitted.iter().map(Vec::len).sum();
            assert!(count > 1_000 && steps.full > 0, "{count} {}", steps.full);
            assert!(steps.lost > 10, "{} lost by {shards} shards", steps.lost);
        }
    }
}
