//! How many requests a cluster is given at one time, learned from how long they take.
//!
//! Decides: the limit after each period. May not know: clocks, requests. Invariant: the limit stays within its bounds;
//! it falls when latency grows beyond what it was at its best, and grows again by small steps (the gradient of latency,
//! as in Netflix's concurrency-limits and Envoy's adaptive concurrency filter).

use crate::policy::Nanos;

/// The bounds of the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    pub least: u32,
    pub most: u32,
}

/// What was measured in one period.
#[derive(Debug, Clone, Copy)]
pub struct Period {
    pub answered: u64,
    /// Sum of their latencies.
    pub latency_ns: Nanos,
    /// Requests in flight at its end.
    pub in_flight: u32,
}

/// A cluster's limit, with what it is computed from.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    limit: f64,
    /// The mean latency of a cluster that is not overloaded; 0 while it is not known.
    best_ns: f64,
    /// Until the best latency is measured anew.
    periods_left: u32,
}

/// With fewer answers the mean says nothing.
const ANSWERS_MIN: u64 = 10;

/// Latency may be so many times the best one without meaning that requests queue up.
const TOLERANCE: f64 = 2.0;

/// After so many periods the limit is its least for one, so that latency shows what it is without a queue: a cluster
/// may have become slower for good (Envoy measures its minimum round trip in the same way).
const PERIODS_MAX: u32 = 120;

impl Limit {
    pub fn new(bounds: Bounds) -> Limit {
        Limit {
            limit: f64::from(bounds.least),
            best_ns: 0.0,
            periods_left: 0,
        }
    }

    pub fn get(&self, bounds: Bounds) -> u32 {
        match self.periods_left {
            0 => bounds.least,
            _ => self.limit as u32,
        }
    }

    /// The limit for the next period.
    #[must_use]
    pub fn next(mut self, period: Period, bounds: Bounds) -> Limit {
        if period.answered < ANSWERS_MIN {
            return self;
        }
        let mean_ns = period.latency_ns as f64 / period.answered as f64;
        if self.periods_left == 0 {
            self.best_ns = mean_ns;
            self.periods_left = PERIODS_MAX;
            return self;
        }
        self.periods_left -= 1;
        self.best_ns = self.best_ns.min(mean_ns);
        let gradient = (TOLERANCE * self.best_ns / mean_ns.max(1.0)).clamp(0.5, 1.0);
        // What is not used must not grow: it would say yes to any burst.
        let used = f64::from(period.in_flight) * 2.0 >= self.limit;
        let step = if used { self.limit.sqrt() } else { 0.0 };
        let next = self.limit * gradient + step;
        self.limit = next.clamp(f64::from(bounds.least), f64::from(bounds.most));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        least: 10,
        most: 1_000,
    };

    /// A server with so many workers of one millisecond each: what goes beyond queues up.
    fn settle(workers: u32, demand: u32) -> u32 {
        let mut limit = Limit::new(BOUNDS);
        for _ in 0..500 {
            let in_flight = demand.min(limit.get(BOUNDS));
            let latency_ns = 1_000_000 * u64::from(in_flight.max(workers) / workers);
            let period = Period {
                answered: 1_000,
                latency_ns: latency_ns * 1_000,
                in_flight,
            };
            limit = limit.next(period, BOUNDS);
        }
        limit.limit as u32
    }

    #[test]
    fn it_finds_what_the_cluster_carries() {
        for workers in [20, 50, 100] {
            let limit = settle(workers, 10_000);
            assert!(
                (workers..=workers * 4).contains(&limit),
                "{workers}: {limit}"
            );
        }
    }

    #[test]
    fn it_stays_in_its_bounds_and_does_not_grow_unused() {
        assert_eq!(settle(10_000, 10_000), BOUNDS.most);
        assert!(settle(1, 10_000) >= BOUNDS.least);
        assert!(settle(10_000, 15) <= 40);
        let idle = Period {
            answered: 0,
            latency_ns: 0,
            in_flight: 0,
        };
        assert_eq!(
            Limit::new(BOUNDS).next(idle, BOUNDS).get(BOUNDS),
            BOUNDS.least
        );
    }
}
