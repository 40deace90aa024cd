//! The most bytes per second of one direction of a request.
//!
//! Decides: how long the next piece waits. May not know: what the bytes are. Invariant: since its beginning a direction
//! has moved at most `rate × time` and one piece.

use std::cell::Cell;

use crate::config::plan::Nanos;
use crate::io::Io;
use crate::shard::Shard;
use crate::wait::{Race, race};

const SECOND_NS: u128 = 1_000_000_000;

/// A shorter wait costs more than it keeps; what it would have kept is in the next one.
const WAIT_LEAST_NS: Nanos = 1_000_000;

#[derive(Debug)]
pub struct Throttle {
    /// Bytes per second; 0 is any rate.
    rate_max: u64,
    /// With the first piece: what somebody was silent before is not made up for.
    begun: Cell<Option<Nanos>>,
    bytes: Cell<u64>,
}

impl Throttle {
    pub fn new(rate_max: u64) -> Self {
        Throttle {
            rate_max,
            begun: Cell::new(None),
            bytes: Cell::new(0),
        }
    }

    pub fn is_on(&self) -> bool {
        self.rate_max > 0
    }

    pub fn count(&self, bytes: u64) {
        self.bytes.set(self.bytes.get().saturating_add(bytes));
    }

    /// How long the next piece waits, for what was moved to keep the rate.
    fn wait_ns(&self, now: Nanos) -> Nanos {
        let begun = self.begun.get().unwrap_or(now);
        self.begun.set(Some(begun));
        let due = u128::from(self.bytes.get()) * SECOND_NS / u128::from(self.rate_max.max(1));
        let due = u64::try_from(due).unwrap_or(u64::MAX);
        begun.saturating_add(due).saturating_sub(now)
    }

    /// Waits until the next piece may go; not beyond `until`. `gone` ends the wait before: `false`. The last piece has
    /// nothing behind it to wait for.
    pub async fn wait<I: Io>(
        &self,
        shard: &Shard<I>,
        until: Nanos,
        gone: impl Future<Output = ()>,
    ) -> bool {
        let now = shard.io.now();
        let wait_ns = self.wait_ns(now).min(until.saturating_sub(now));
        if wait_ns < WAIT_LEAST_NS {
            return true;
        }
        match race(shard.io.sleep(wait_ns), gone).await {
            Race::First(()) => true,
            Race::Second(()) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ahead_of_the_rate_waits() {
        let throttle = Throttle::new(1000);
        // What somebody was silent before the first piece is not made up for.
        assert_eq!(throttle.wait_ns(5), 0);
        throttle.count(500);
        assert_eq!(throttle.wait_ns(5), 500_000_000);
        throttle.count(500);
        assert_eq!(throttle.wait_ns(400_000_005), 600_000_000);
        assert_eq!(throttle.wait_ns(9_000_000_000), 0);
        assert!(throttle.is_on() && !Throttle::new(0).is_on());
        throttle.count(u64::MAX);
        assert!(throttle.wait_ns(5) > 1 << 60);
    }
}
