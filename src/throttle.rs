//! The most bytes per second of one direction of a request.
//!
//! Decides: how long the next piece waits. May not know: what the bytes are. Invariant: since its beginning a direction
//! has moved at most `rate × time` and one piece.

use std::cell::Cell;

use crate::config::plan::Nanos;
use crate::io::Io;
use crate::shard::Shard;

const SECOND_NS: u128 = 1_000_000_000;

/// A shorter wait costs more than it keeps; what it would have kept is in the next one.
const WAIT_LEAST_NS: Nanos = 1_000_000;

#[derive(Debug)]
pub struct Throttle {
    /// Bytes per second; 0 is any rate.
    rate_max: u64,
    begun: Nanos,
    bytes: Cell<u64>,
}

impl Throttle {
    pub fn new(rate_max: u64, now: Nanos) -> Self {
        Throttle {
            rate_max,
            begun: now,
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
        self.begun.saturating_add(due).saturating_sub(now)
    }

    /// Counts what was moved, and waits until it keeps the rate; not beyond `until`.
    pub async fn keep<I: Io>(&self, shard: &Shard<I>, bytes: u64, until: Nanos) {
        let now = shard.io.now();
        let wait_ns = self.wait_ns(bytes, now).min(until.saturating_sub(now));
        if wait_ns >= WAIT_LEAST_NS {
            shard.io.sleep(wait_ns).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ahead_of_the_rate_waits() {
        let throttle = Throttle::new(1000, 5);
        assert_eq!(throttle.wait_ns(500, 5), 500_000_000);
        assert_eq!(throttle.wait_ns(500, 400_000_005), 600_000_000);
        // A pause of the sender is not made up for by a wait.
        assert_eq!(throttle.wait_ns(100, 9_000_000_000), 0);
        assert!(throttle.is_on() && !Throttle::new(0, 5).is_on());
        assert_eq!(Throttle::new(1, 0).wait_ns(u64::MAX, 0), u64::MAX);
    }
}
