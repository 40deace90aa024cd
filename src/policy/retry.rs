//! Whether a failed attempt is made again.
//!
//! Decides: which failures count for whom, whether another attempt is allowed, and after which pause. May not know:
//! clocks, sockets, what was sent. Invariant: an attempt that may have been executed is repeated only for an idempotent
//! request (RFC 9110 section 9.2.2), and none after the first byte of a response.

use crate::policy::Nanos;

/// What an attempt came to, as far as it was the backend's doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// No connection: nothing was sent.
    Connect,
    /// The connection ended before its response was complete.
    Closed,
    /// The backend took too long.
    Timeout,
    /// What came is no response.
    Invalid,
    /// A whole head, with this status.
    Status(u16),
}

impl Cause {
    /// The words for all but statuses.
    pub const NAMES: [&str; 4] = ["connect", "closed", "timeout", "invalid"];

    pub fn name(self) -> &'static str {
        match self {
            Cause::Connect => Cause::NAMES[0],
            Cause::Closed => Cause::NAMES[1],
            Cause::Timeout => Cause::NAMES[2],
            Cause::Invalid => Cause::NAMES[3],
            Cause::Status(_) => "status",
        }
    }
}

/// A set of causes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Causes {
    pub connect: bool,
    pub closed: bool,
    pub timeout: bool,
    pub invalid: bool,
    pub statuses: Statuses,
}

impl Causes {
    pub fn has(&self, cause: Cause) -> bool {
        match cause {
            Cause::Connect => self.connect,
            Cause::Closed => self.closed,
            Cause::Timeout => self.timeout,
            Cause::Invalid => self.invalid,
            Cause::Status(status) => self.statuses.has(status),
        }
    }
}

/// Inclusive ranges of statuses.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Statuses(pub Box<[(u16, u16)]>);

impl Statuses {
    pub fn has(&self, status: u16) -> bool {
        self.0
            .iter()
            .any(|(first, last)| (*first..=*last).contains(&status))
    }
}

/// When a route's requests are tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    pub on: Causes,
    /// Most attempts beyond the first that cost a backend something; refused connections cost nothing.
    pub attempts: u32,
    /// The first pause is random between none and this; each further one between none and twice the last. 0 is none.
    pub backoff_ns: Nanos,
}

/// Longest pause between two attempts.
pub const BACKOFF_MAX_NS: Nanos = 1_000_000_000;

impl Retry {
    /// The pause before attempt `number` (from 1), from a random number.
    pub fn pause_ns(&self, number: u32, random: u64) -> Nanos {
        let doubled = self
            .backoff_ns
            .saturating_mul(1 << number.saturating_sub(1).min(16));
        let most = doubled.min(BACKOFF_MAX_NS);
        // The high half, scaled: no division, and even enough.
        ((u128::from(random) * u128::from(most)) >> 64) as u64
    }
}

/// How many attempts of the process may be repetitions at one time, so that retries cannot multiply an overload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Of a hundred requests in flight.
    pub percent: u32,
    /// And so many beyond.
    pub least: u32,
}

impl Budget {
    /// One more retry is allowed while so many are under way.
    pub fn allows(&self, retrying: u64, active: u64) -> bool {
        retrying < active * u64::from(self.percent) / 100 + u64::from(self.least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_told_apart() {
        let causes = Causes {
            connect: true,
            statuses: Statuses([(500, 500), (502, 504)].into()),
            ..Causes::default()
        };
        for (cause, has) in [
            (Cause::Connect, true),
            (Cause::Closed, false),
            (Cause::Timeout, false),
            (Cause::Invalid, false),
            (Cause::Status(500), true),
            (Cause::Status(501), false),
            (Cause::Status(504), true),
            (Cause::Status(505), false),
        ] {
            assert_eq!(causes.has(cause), has, "{cause:?}");
        }
    }

    #[test]
    fn pauses_grow_and_stay_below_their_bound() {
        let retry = Retry {
            on: Causes::default(),
            attempts: 3,
            backoff_ns: 25_000_000,
        };
        for (number, most) in [
            (1, 25_000_000),
            (2, 50_000_000),
            (3, 100_000_000),
            (40, BACKOFF_MAX_NS),
        ] {
            assert_eq!(retry.pause_ns(number, 0), 0);
            assert!(retry.pause_ns(number, u64::MAX) < most);
            assert!(retry.pause_ns(number, u64::MAX) > most - most / 100);
        }
    }

    #[test]
    fn the_budget_is_a_share_and_a_few_more() {
        let budget = Budget {
            percent: 20,
            least: 3,
        };
        for (retrying, active, allowed) in [
            (2, 0, true),
            (3, 0, false),
            (22, 100, true),
            (23, 100, false),
        ] {
            assert_eq!(budget.allows(retrying, active), allowed);
        }
    }
}
