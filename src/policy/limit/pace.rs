//! The arithmetic of one bucket: the generic cell rate algorithm in whole numbers.
//!
//! Decides: how many of the requests that are asked for a bucket gives, and when it gives the next. May not know: keys,
//! where buckets are kept, who else takes from them. Invariant: in the order in which a bucket changes, any run of
//! grants that begins at time `i` and ends at time `j` holds at most `burst + (j - i) / interval` requests.
//!
//! A bucket is one number, the theoretical arrival time ("tat", ITU-T I.371): when it will be full again. Each request
//! moves it on by one interval, and it may be at most `burst` intervals ahead. Time is counted in units of
//! 2^`shift` ns, modulo 2^40. The shift is the smallest with which a burst lasts at most 2^38 units: 0 up to 274 s, so
//! that a unit is a nanosecond for nearly all limits. Beyond, an interval has 2^17 units at least, is rounded up to
//! whole units, and is one unit longer: that costs 16 millionths of the rate at most.
//!
//! Why the invariant holds: the first grant of a run leaves the tat at its time and its count of intervals, or later;
//! each other moves it on by its count. The last finds a tat that is past, and then gives `burst` at most, or leaves one
//! that is `burst` intervals ahead at most. Either way `(count - burst) × interval <= units from i to j`. With a shift,
//! these units may be one more than what has passed; that one is made up for by the first interval, since each is one
//! unit longer than it must be. A bucket that leaves its table has been full for `GRACE_NS` by the clock of whoever
//! takes it out, so the clocks of two shards may differ by that much, or a time be so old when it is used. Beyond, a key
//! whose bucket is looked for with an old time, and is no more, may get what it would have got in the difference.

use super::Quota;
use super::cells::VALUE_MASK;
use crate::policy::Nanos;

/// A tat is the value of a cell.
const TAT_MASK: u64 = VALUE_MASK;
const BURST_UNITS_MAX: u64 = 1 << 38;

/// How far a tat may lie beyond a whole burst and still be believed: a clock that is behind by so much (68 s at least)
/// sees buckets that were filled by one that is ahead. What lies beyond is the past.
const SKEW_UNITS: u64 = 1 << 36;

/// For how long a bucket has been full, at least, before its cell is given to another key.
pub(super) const GRACE_NS: Nanos = 1 << 27;

/// A quota in units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pace {
    shift: u32,
    burst: u32,
    interval: u64,
    /// `burst` intervals.
    depth: u64,
    grace: u64,
}

/// A point in time, in units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment {
    units: u64,
    /// Since then.
    rest_ns: Nanos,
}

/// Requests that a bucket gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grant {
    /// 1 at least.
    pub(super) count: u32,
    /// The bucket afterwards.
    pub(super) tat: u64,
    /// What could be taken after this.
    pub(super) remaining: u32,
}

impl Pace {
    pub(super) fn new(quota: &Quota) -> Pace {
        let burst = quota.burst.max(1);
        let units =
            |shift: u32| quota.interval_ns.max(1).div_ceil(1 << shift) + u64::from(shift > 0);
        let fits = |shift: &u32| units(*shift) <= BURST_UNITS_MAX / u64::from(burst);
        let shift = (0..63).find(fits).unwrap_or(63);
        Pace {
            shift,
            burst,
            interval: units(shift),
            depth: units(shift) * u64::from(burst),
            grace: GRACE_NS.div_ceil(1 << shift),
        }
    }

    pub(super) fn burst(&self) -> u32 {
        self.burst
    }

    pub(super) fn at(&self, now: Nanos) -> Moment {
        Moment {
            units: now >> self.shift & TAT_MASK,
            rest_ns: now & ((1 << self.shift) - 1),
        }
    }

    /// Units from `moment` to `tat`; 0 when it is past.
    fn ahead(&self, tat: u64, moment: Moment) -> u64 {
        let ahead = tat.wrapping_sub(moment.units) & TAT_MASK;
        if ahead <= self.depth + SKEW_UNITS {
            ahead
        } else {
            0
        }
    }

    /// Whether the bucket has been full for long enough to be forgotten.
    pub(super) fn is_over(&self, tat: u64, moment: Moment) -> bool {
        let ahead = tat.wrapping_add(self.grace).wrapping_sub(moment.units) & TAT_MASK;
        ahead == 0 || ahead > self.depth + SKEW_UNITS + self.grace
    }

    /// Up to `most` of a full bucket.
    pub(super) fn first(&self, moment: Moment, most: u32) -> Grant {
        let count = most.min(self.burst);
        Grant {
            count,
            tat: self.later(moment.units, count),
            remaining: self.burst - count,
        }
    }

    /// Up to `most` of a bucket; or how long until it has one.
    pub(super) fn charge(&self, tat: u64, moment: Moment, most: u32) -> Result<Grant, Nanos> {
        let ahead = self.ahead(tat, moment);
        if ahead == 0 {
            return Ok(self.first(moment, most));
        }
        let room = self.room(ahead);
        if room == 0 {
            let units = ahead - (self.depth - self.interval);
            return Err(self.ns(units, moment));
        }
        let count = most.min(room);
        Ok(Grant {
            count,
            tat: self.later(tat, count),
            remaining: room - count,
        })
    }

    /// The bucket after `count` have been given back; `None` if it is full already.
    pub(super) fn refund(&self, tat: u64, moment: Moment, count: u32) -> Option<u64> {
        let ahead = self.ahead(tat, moment);
        let back = ahead.min(self.interval * u64::from(count));
        (ahead > 0).then(|| tat.wrapping_sub(back) & TAT_MASK)
    }

    /// How many a bucket that is full in `ahead` units has.
    fn room(&self, ahead: u64) -> u32 {
        (self.depth.saturating_sub(ahead) / self.interval) as u32
    }

    pub(super) fn later(&self, tat: u64, count: u32) -> u64 {
        (tat + self.interval * u64::from(count)) & TAT_MASK
    }

    pub(super) fn earlier(&self, tat: u64, count: u32) -> u64 {
        tat.wrapping_sub(self.interval * u64::from(count)) & TAT_MASK
    }

    /// How many a bucket with this tat has.
    pub(super) fn remaining(&self, tat: u64, moment: Moment) -> u32 {
        self.room(self.ahead(tat, moment))
    }

    /// From `moment` to `tat`; 0 when it is past.
    pub(super) fn until_ns(&self, tat: u64, moment: Moment) -> Nanos {
        self.ns(self.ahead(tat, moment), moment)
    }

    fn ns(&self, units: u64, moment: Moment) -> Nanos {
        let whole_ns = units.saturating_mul(1 << self.shift);
        whole_ns.saturating_sub(moment.rest_ns)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Nanos = 1_000_000;
    const S: Nanos = 1_000 * MS;
    const DAY: Nanos = 86_400 * S;

    fn quota(interval_ns: Nanos, burst: u32) -> Quota {
        Quota {
            interval_ns,
            burst,
            period_ns: S,
            requests: 1,
        }
    }

    /// One bucket, asked for one at a time; how long to wait if there is none.
    struct Bucket {
        pace: Pace,
        tat: Option<u64>,
    }

    impl Bucket {
        fn new(interval_ns: Nanos, burst: u32) -> Bucket {
            Bucket {
                pace: Pace::new(&quota(interval_ns, burst)),
                tat: None,
            }
        }

        fn take(&mut self, now: Nanos, most: u32) -> Result<Grant, Nanos> {
            let moment = self.pace.at(now);
            let grant = match self.tat {
                Some(tat) => self.pace.charge(tat, moment, most)?,
                None => self.pace.first(moment, most),
            };
            self.tat = Some(grant.tat);
            Ok(grant)
        }
    }

    /// The same with numbers of any size.
    struct Model {
        interval_ns: u128,
        burst: u32,
        tat: u128,
    }

    impl Model {
        fn take(&mut self, now: Nanos) -> Result<(), Nanos> {
            let now = u128::from(now);
            let earliest = (self.tat + self.interval_ns)
                .saturating_sub(self.interval_ns * u128::from(self.burst));
            if now < earliest {
                return Err((earliest - now) as Nanos);
            }
            self.tat = self.tat.max(now) + self.interval_ns;
            Ok(())
        }
    }

    #[test]
    fn a_burst_then_the_rate() {
        let mut bucket = Bucket::new(100 * MS, 3);
        // When, and what remains or how long to wait.
        for (at_ms, expected) in [
            (1_000, Ok(2)),
            (1_000, Ok(1)),
            (1_000, Ok(0)),
            (1_000, Err(100)),
            (1_099, Err(1)),
            (1_100, Ok(0)),
            (1_250, Ok(0)),
            (1_250, Err(50)),
            (1_299, Err(1)),
            (1_300, Ok(0)),
            (1_600, Ok(2)),
            (9_000, Ok(2)),
        ] {
            let found = bucket.take(at_ms * MS, 1);
            let found = found.map(|grant| grant.remaining);
            assert_eq!(found, expected.map_err(|ms: u64| ms * MS), "{at_ms}");
        }
    }

    #[test]
    fn several_at_once_are_as_many_as_there_are() {
        let mut bucket = Bucket::new(100 * MS, 10);
        for (at_ms, most, expected) in [
            (0, 4, Ok(4)),
            (0, 8, Ok(6)),
            (0, 8, Err(100)),
            (350, 8, Ok(3)),
            (9_000, 100, Ok(10)),
        ] {
            let found = bucket.take(at_ms * MS, most).map(|grant| grant.count);
            assert_eq!(found, expected.map_err(|ms: u64| ms * MS), "{at_ms}");
        }
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let mut bucket = Bucket::new(100 * MS, 10);
        // Taken at 0; given back when, how many; how many can be taken then.
        for (at_ms, count, expected) in [(0, 3, 3), (100, 3, 4), (0, 10, 10), (950, 3, 10)] {
            bucket.tat = None;
            let _ = bucket.take(0, 10);
            let moment = bucket.pace.at(at_ms * MS);
            bucket.tat = bucket.tat.map(|tat| {
                let refunded = bucket.pace.refund(tat, moment, count);
                refunded.unwrap_or(tat)
            });
            let found = bucket.take(at_ms * MS, 100).map(|grant| grant.count);
            assert_eq!(found, Ok(expected), "{at_ms} {count}");
        }
        let full = bucket.pace.at(20 * S);
        assert_eq!(bucket.pace.refund(0, full, 3), None);
    }

    #[test]
    fn a_unit_is_a_nanosecond_unless_a_burst_is_long() {
        for (interval_ns, burst, shift, interval) in [
            (1_000, 1, 0, 1_000),
            (10 * MS, 100, 0, 10 * MS),
            (600 * MS, 100, 0, 600 * MS),
            (270 * S, 1, 0, 270 * S),
            (36 * S, 100, 4, 36 * S / 16 + 1),
            (DAY, 1, 9, DAY / 512 + 1),
            (DAY, 1_000_000, 29, 160_934),
        ] {
            let pace = Pace::new(&quota(interval_ns, burst));
            assert_eq!((pace.shift, pace.interval), (shift, interval));
            let lost = (interval << shift) - interval_ns;
            assert!(lost == 0 || interval_ns / lost > 62_500, "{interval_ns}");
        }
    }

    #[test]
    fn a_bucket_is_forgotten_when_it_has_been_full_for_a_while() {
        let pace = Pace::new(&quota(S, 1));
        for start in [0, 1 << 40, (1 << 40) - 1, (1 << 50) - S] {
            let tat = pace.first(pace.at(start), 1).tat;
            for (after, expected) in [
                (0, false),
                (S, false),
                (S + GRACE_NS - 1, false),
                (S + GRACE_NS, true),
                (1_000 * S, true),
                // Without a sweep for 2^40 ns it seems to be in use again, for 68 s and its burst.
                ((1 << 40) - 68 * S, false),
                ((1 << 40) + S + GRACE_NS, true),
            ] {
                assert_eq!(
                    pace.is_over(tat, pace.at(start + after)),
                    expected,
                    "{after}"
                );
            }
        }
    }

    #[test]
    fn a_clock_that_is_behind_gets_nothing_more() {
        let mut bucket = Bucket::new(100 * MS, 2);
        let behind = 60 * S;
        for (at, expected) in [
            (100 * S, Ok(1)),
            (100 * S - behind, Err(behind)),
            (100 * S, Ok(0)),
            (100 * S - behind, Err(behind + 100 * MS)),
        ] {
            let found = bucket.take(at, 1).map(|grant| grant.remaining);
            assert_eq!(found, expected);
        }
    }

    /// Numbers of all magnitudes.
    fn scaled(most: u64) -> impl Strategy<Value = u64> {
        (0..=most.ilog2(), any::<u64>())
            .prop_map(move |(bits, number)| (number & ((2 << bits) - 1)).min(most))
    }

    proptest! {
        /// Whatever the limit and whenever requests come, whole units give what exact numbers give.
        #[test]
        fn as_the_model(
            interval_ns in scaled(DAY).prop_map(|ns| ns.max(1_000)),
            burst in scaled(1_000_000).prop_map(|burst| burst.max(1) as u32),
            start in 0..1_u64 << 62,
            gaps in prop::collection::vec((0..6_u32, any::<u64>()), 1..300),
        ) {
            let mut bucket = Bucket::new(interval_ns, burst);
            let interval_ns = u128::from(interval_ns);
            let mut model = Model { interval_ns, burst, tat: 0 };
            let is_exact = bucket.pace.shift == 0;
            let (mut now, mut ours, mut models) = (start, 0_u64, 0_u64);
            // Of `admitted × interval - time`: no window may hold more than a burst and its time.
            let mut least = i128::MAX;
            for (kind, random) in gaps {
                let spread = match kind {
                    0..3 => 1,
                    3 | 4 => interval_ns.min(1 << 60) as u64,
                    _ => (2 * interval_ns * u128::from(burst)).min(1 << 55) as u64,
                };
                now += random % spread;
                let expected = model.take(now);
                let found = bucket.take(now, 1);
                if is_exact {
                    prop_assert_eq!(found.map(|_| ()), expected);
                }
                models += u64::from(expected.is_ok());
                if let Err(retry_ns) = found {
                    let mut again = Bucket { pace: bucket.pace, tat: bucket.tat };
                    prop_assert!(again.take(now + retry_ns - 1, 1).is_err());
                    prop_assert!(again.take(now + retry_ns, 1).is_ok());
                    continue;
                }
                let level = (u128::from(ours) * interval_ns) as i128 - i128::from(now);
                least = least.min(level);
                prop_assert!(level - least <= (u128::from(burst - 1) * interval_ns) as i128);
                ours += 1;
            }
            prop_assert!(ours <= models && ours + 1 >= models - models / 50);
        }
    }
}
