//! When a second attempt is sent beside the first ("The Tail at Scale", Dean and Barroso 2013).
//!
//! Decides: how long an answer is waited for before. May not know: clocks, requests. Invariant: bounded memory, whatever
//! the samples; no delay is told before there are enough of them.

use hdrhistogram::Histogram;

use crate::policy::Nanos;

/// Fewer samples say nothing of a high percentile.
const SAMPLES_MIN: u64 = 100;

/// After so many the histogram begins anew, so that it follows the backends' speed.
const SAMPLES_MAX: u64 = 10_000;

/// The longest latency that is told apart from longer ones.
const LATENCY_MAX_US: u64 = 60_000_000;

/// The percentile of a cluster's latencies, as one shard sees them.
#[derive(Debug)]
pub struct Delay {
    percentile: f64,
    latencies_us: Histogram<u32>,
    /// Of the last refresh.
    delay_ns: Option<Nanos>,
}

impl Delay {
    /// `percentile` is between 1 and 99.
    pub fn new(percentile: u32) -> Delay {
        Delay {
            percentile: f64::from(percentile),
            // Two digits: a delay need not be more exact.
            latencies_us: Histogram::new_with_bounds(1, LATENCY_MAX_US, 2)
                .expect("the bounds are constant"),
            delay_ns: None,
        }
    }

    pub fn observe(&mut self, latency_ns: Nanos) {
        self.latencies_us.saturating_record(latency_ns / 1_000);
    }

    /// Computes the delay anew; now and then, not per request.
    pub fn refresh(&mut self) {
        let samples = self.latencies_us.len();
        if samples >= SAMPLES_MIN {
            self.delay_ns = Some(self.latencies_us.value_at_percentile(self.percentile) * 1_000);
        }
        if samples >= SAMPLES_MAX {
            self.latencies_us.reset();
        }
    }

    /// How long to wait for an answer; `None` while too little is known.
    pub fn delay_ns(&self) -> Option<Nanos> {
        self.delay_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_is_the_percentile_once_there_are_samples() {
        let mut delay = Delay::new(95);
        for sample_ms in 1..100 {
            delay.observe(sample_ms * 1_000_000);
        }
        delay.refresh();
        assert_eq!(delay.delay_ns(), None);
        delay.observe(100_000_000);
        delay.refresh();
        let ms = delay.delay_ns().unwrap() / 1_000_000;
        assert!((94..=96).contains(&ms), "{ms}");
    }

    #[test]
    fn it_follows_the_backends() {
        let mut delay = Delay::new(95);
        for latency_ns in [1_000_000, 50_000_000] {
            for _ in 0..SAMPLES_MAX {
                delay.observe(latency_ns);
            }
            delay.refresh();
        }
        assert!(delay.delay_ns().unwrap() >= 50_000_000);
        delay.observe(u64::MAX);
        delay.refresh();
    }
}
