//! A shard's own place in a cluster's order, and its random numbers.
//!
//! Decides: which entry is next, what chance says. May not know: backends, algorithms. Invariant: the same seed gives
//! the same turns.

use super::SHARE_WHOLE;
use super::hash::{STEP, mix};

/// A shard's place in a cluster's order, with its random state.
#[derive(Debug, Clone, Copy)]
pub struct Turn {
    /// The next entry of the order.
    place: u32,
    /// The member behind the one that a scan found last: whoever ties with it comes first now.
    pub(super) after: u32,
    /// The state of splitmix64: eight bytes, a nanosecond a number, good enough for choosing backends.
    random: u64,
}

impl Turn {
    pub(super) fn new(place: u32, after: u32, seed: u64) -> Self {
        Turn {
            place,
            after,
            random: mix(seed),
        }
    }

    /// The entry at this place, and one place on.
    pub(super) fn advance(&mut self, order: &[u32]) -> u32 {
        // A turn may come from before the weights changed, and the order may be shorter now.
        let at = if (self.place as usize) < order.len() {
            self.place
        } else {
            0
        };
        self.place = at + 1;
        order[at as usize]
    }

    /// Evenly from 0 to `bound` - 1; 0 for a bound of 0.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_add(STEP);
        ((u128::from(mix(self.random)) * u128::from(bound)) >> 64) as u64
    }

    /// Any entry of the order.
    pub(super) fn draw(&mut self, order: &[u32]) -> u32 {
        order[self.below(order.len() as u64) as usize]
    }

    /// True always for a whole share, else as often as the share says.
    pub(super) fn accepts(&mut self, share: u32) -> bool {
        share >= SHARE_WHOLE || self.below(u64::from(SHARE_WHOLE)) < u64::from(share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_below_a_bound_are_even() {
        let mut turn = Turn::new(0, 0, 1);
        let mut seen = [0_u32; 7];
        for _ in 0..70_000 {
            seen[turn.below(7) as usize] += 1;
        }
        let even = seen.iter().all(|count| (9_600..=10_400).contains(count));
        assert!(even, "{seen:?}");
        assert_eq!(turn.below(0), 0);
    }

    #[test]
    fn a_share_is_accepted_as_often_as_it_says() {
        let mut turn = Turn::new(0, 0, 1);
        for (share, least, most) in [
            (0, 0, 0),
            (26, 900, 1_130),
            (128, 4_850, 5_150),
            (SHARE_WHOLE, 10_000, 10_000),
            (u32::MAX, 10_000, 10_000),
        ] {
            let accepted = (0..10_000).filter(|_| turn.accepts(share)).count();
            assert!((least..=most).contains(&accepted), "{share}: {accepted}");
        }
    }
}
