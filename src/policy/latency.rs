//! A backend's latency as a peak-sensitive moving average.
//!
//! Decides: what a new sample does to it. May not know: clocks. Invariant: a slower response counts at once, faster
//! ones within a few times `DECAY_NS` ("peak EWMA", as in Finagle's balancer).

use crate::policy::Nanos;

/// A sample's weight falls to a third in this time.
const DECAY_NS: Nanos = 10_000_000_000;

/// Packed, so that one atomic holds it: the average in ns / 256 (up to 18 minutes), and when it was taken, in ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Latency(pub u64);

impl Latency {
    /// What counts now: it fades while nothing new comes, so that a slow backend is tried again. 0 while nothing is known.
    pub fn ns(self, now: Nanos) -> Nanos {
        let average = (self.0 >> 32) << 8;
        let halvings = self.age_ns(now) / DECAY_NS;
        average >> halvings.min(63)
    }

    fn age_ns(self, now: Nanos) -> Nanos {
        let now_ms = (now / 1_000_000) as u32;
        u64::from(now_ms.wrapping_sub(self.0 as u32)) * 1_000_000
    }

    #[must_use]
    pub fn observe(self, sample_ns: Nanos, now: Nanos) -> Latency {
        let now_ms = (now / 1_000_000) as u32;
        let age_ns = self.age_ns(now);
        let known = self.ns(now);
        let average = if known == 0 || sample_ns >= known || age_ns >= DECAY_NS {
            sample_ns
        } else {
            // Linear instead of exponential: close enough for the short times between responses.
            let step = u128::from(known - sample_ns) * u128::from(age_ns) / u128::from(DECAY_NS);
            known - step as u64
        };
        let packed = (average >> 8).clamp(1, u64::from(u32::MAX));
        Latency(packed << 32 | u64::from(now_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Nanos = 1_000_000;

    #[test]
    fn a_peak_counts_at_once_and_fades_with_time() {
        let slow = Latency::default().observe(MS, MS).observe(100 * MS, 2 * MS);
        assert_eq!(slow.ns(2 * MS) / MS, 100);
        let mut faded = slow;
        for second in 1..=9 {
            for part in 0..100 {
                faded = faded.observe(MS, second * 1_000 * MS + part * 10 * MS);
            }
        }
        let left = faded.ns(10_000 * MS) / MS;
        assert!((30..50).contains(&left), "{left}");
    }

    #[test]
    fn without_news_it_fades_too() {
        let slow = Latency::default().observe(100 * MS, MS);
        for (at_s, left) in [(9, 100), (11, 50), (21, 25), (700, 0)] {
            assert_eq!(slow.ns(at_s * 1_000 * MS + MS) / MS, left, "{at_s}");
        }
    }

    #[test]
    fn nothing_overflows() {
        let most = Latency::default().observe(u64::MAX, u64::MAX);
        assert!(most.ns(u64::MAX) > 1_000_000 * MS);
        let _ = most.observe(0, 0).ns(0);
    }
}
