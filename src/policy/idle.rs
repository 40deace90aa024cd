//! At which age a backend closes idle connections, concluded from those that it closed.
//!
//! Decides: when what was seen says an age. May not know: clocks, connections. Invariant: a backend that ends or restarts
//! closes everything at once, whatever its age; one such event teaches nothing.

use crate::policy::Nanos;

/// Closings within this time are one event.
const EVENT_NS: Nanos = 150_000_000;

/// How far two ages may differ and still be one timeout: what the looks are apart, and a fifth.
const SLACK_NS: Nanos = 100_000_000;

/// The last time that all of a backend's idle connections were found closed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Suspicion {
    at: Nanos,
    age_ns: Nanos,
}

impl Suspicion {
    /// One more connection was found closed at this age. The second event at a similar age is told as an age.
    pub fn add(&mut self, age_ns: Nanos, now: Nanos) -> Option<Nanos> {
        if *self != Suspicion::default() && now.saturating_sub(self.at) < EVENT_NS {
            self.age_ns = self.age_ns.min(age_ns);
            return None;
        }
        let before = std::mem::replace(self, Suspicion { at: now, age_ns });
        let (less, more) = (before.age_ns.min(age_ns), before.age_ns.max(age_ns));
        (before.at > 0 && more - less <= SLACK_NS + more / 5).then_some(less)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Nanos = 1_000_000;

    #[test]
    fn two_events_of_one_age_teach_it() {
        for (events, learned) in [
            (&[(1_000, 250)][..], None),
            (&[(1_000, 250), (1_010, 240), (1_100, 230)], None),
            (&[(1_000, 250), (2_000, 230)], Some(230)),
            (&[(1_000, 250), (1_050, 210), (2_000, 230)], Some(210)),
            (&[(1_000, 250), (2_000, 9_000)], None),
            (&[(1_000, 9_000), (2_000, 250), (3_000, 260)], Some(250)),
        ] {
            let mut suspicion = Suspicion::default();
            let mut told = None;
            for (at_ms, age_ms) in events {
                told = suspicion.add(age_ms * MS, at_ms * MS);
            }
            assert_eq!(told.map(|age_ns| age_ns / MS), learned, "{events:?}");
        }
    }
}
