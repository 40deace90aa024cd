//! The most bytes per second of one direction of a request.
//!
//! Decides: how long the next piece waits. May not know: what the bytes are. Invariant: since its beginning a direction
//! has moved at most `rate × time` and one piece.

use std::cell::Cell;

use crate::config::plan::Nanos;
use crate::io::{Io, Race, race};
use crate::shard::Shard;

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

    /// Counts what was moved and says how long to wait before more is.
    fn wait_ns(&self, bytes: u64, now: Nanos) -> Nanos {
        let bytes = self.bytes.get().saturating_add(bytes);
        self.bytes.set(bytes);
        let due = u128::from(bytes) * SECOND_NS / u128::from(self.rate_max.max(1));
        let due = u64::try_from(due).unwrap_or(u64::MAX);
        let begun = self.begun.get().unwrap_or(now);
        self.begun.set(Some(begun));
        begun.saturating_add(due).saturating_sub(now)
    }

    /// Counts what was moved, and waits until it keeps the rate; not beyond `until`. `gone` ends the wait before:
    /// `false`.
    pub async fn keep<I: Io>(
        &self,
        shard: &Shard<I>,
        bytes: u64,
        until: Nanos,
        gone: impl Future<Output = ()>,
    ) -> bool {
        let now = shard.io.now();
        let wait_ns = self.wait_ns(bytes, now).min(until.saturating_sub(now));
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
        assert_eq!(throttle.wait_ns(500, 5), 500_000_000);
        assert_eq!(throttle.wait_ns(500, 400_000_005), 600_000_000);
        // A pause of the sender is not made up for by a wait.
        assert_eq!(throttle.wait_ns(100, 9_000_000_000), 0);
        assert!(throttle.is_on() && !Throttle::new(0).is_on());
        assert_eq!(Throttle::new(1).wait_ns(u64::MAX, 0), u64::MAX);
    }
}
