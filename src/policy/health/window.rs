//! The circuit breaker's window.
//!
//! Decides: when too large a share of a backend's requests has failed. May not know: how the sums are gathered.
//! Invariant: only differences of the sums are used.

use super::word::{UNIT_BITS, units};
use crate::policy::Nanos;

/// The breaker's window, packed: when it began, and what the sums over all shards were then. Only differences are
/// used, so the sums may be those of the process's whole life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Window(pub u64);

/// Half of 4 Mi requests make a window full, whatever its time: beyond the whole, counts begin at 0 again and the ratio
/// would be that of a remainder.
const COUNT_BITS: u32 = 22;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;
const BEGUN_MASK: u64 = (1 << (64 - 2 * COUNT_BITS)) - 1;

/// When the breaker trips.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Breaker {
    /// Failures of a hundred requests.
    pub percent: u32,
    /// Requests in the window below which nothing is concluded.
    pub volume: u32,
    pub window_ns: Nanos,
}

impl Window {
    /// The window after one more failure, when the backend's requests and its failures, this one included, have
    /// these sums; and whether it trips.
    pub fn failure(
        self,
        now: Nanos,
        requests: u64,
        failures: u64,
        rules: &Breaker,
    ) -> (Window, bool) {
        // 0 says that there is none.
        let now = (units(now) & BEGUN_MASK).max(1);
        let begun = self.0 >> (2 * COUNT_BITS);
        let age_ns = (now.wrapping_sub(begun) & BEGUN_MASK) << UNIT_BITS;
        let since = |sum: u64, at: u64| sum.wrapping_sub(at) & COUNT_MASK;
        let is_full = since(requests, self.0 >> COUNT_BITS) > COUNT_MASK / 2;
        let window = if self == Window::default() || age_ns > rules.window_ns || is_full {
            // This failure is the first in it.
            let requests = requests.wrapping_sub(1) & COUNT_MASK;
            let failures = failures.wrapping_sub(1) & COUNT_MASK;
            Window(now << (2 * COUNT_BITS) | requests << COUNT_BITS | failures)
        } else {
            self
        };
        let requests = since(requests, window.0 >> COUNT_BITS);
        let failures = since(failures, window.0);
        let trips = requests >= u64::from(rules.volume)
            && failures * 100 >= requests * u64::from(rules.percent);
        (window, trips)
    }
}
