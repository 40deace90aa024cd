//! How much of something each key has under way: a client's connections, its requests.
//!
//! Decides: whether there may be one more. May not know: what is counted. Invariant: a key's count is that of the calls
//! of `enter` that said `Yes`, less those of `leave`; a key whose count is 0 has no cell.

use super::cells::{Cells, Insertion};

pub struct Counts {
    cells: Cells,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entered {
    /// To be followed by one `leave`.
    Yes,
    /// The key has as many as it may have.
    TooMany,
    /// A new key, and no room for it.
    Full,
}

impl Counts {
    /// Room for `keys_max` keys with something under way, over all shards.
    pub fn new(keys_max: usize) -> Counts {
        Counts {
            cells: Cells::new(keys_max),
        }
    }

    pub fn enter(&self, key: u64, most: u32) -> Entered {
        if most == 0 {
            return Entered::TooMany;
        }
        let place = self.cells.place(key);
        let mut found = self.cells.find(place);
        // Each turn that is lost was won by another shard.
        loop {
            let Some(cell) = found else {
                match self.cells.insert(place, 1, |count| count == 0) {
                    Insertion::Done => return Entered::Yes,
                    Insertion::Present(cell) => found = Some(cell),
                    Insertion::Full => return Entered::Full,
                }
                continue;
            };
            if cell.value() >= u64::from(most) {
                return Entered::TooMany;
            }
            if cell.replace(cell.value() + 1) {
                return Entered::Yes;
            }
            found = self.cells.find(place);
        }
    }

    /// Of a key that has entered.
    pub fn leave(&self, key: u64) {
        let place = self.cells.place(key);
        while let Some(cell) = self.cells.find(place) {
            let left = match cell.value() {
                0 | 1 => cell.empty(),
                count => cell.replace(count - 1),
            };
            if left {
                return;
            }
        }
        debug_assert!(false, "who leaves has entered, and is counted until then");
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Hasher, Seed};
    use super::*;

    fn key(number: u64) -> u64 {
        let hasher = Hasher::new(Seed(1, 2));
        hasher.bytes(&number.to_le_bytes()).finish()
    }

    #[test]
    fn as_many_as_may_be_and_no_more() {
        let counts = Counts::new(1_024);
        for (number, most, expected) in [
            (1, 0, Entered::TooMany),
            (1, 2, Entered::Yes),
            (1, 2, Entered::Yes),
            (1, 2, Entered::TooMany),
            (1, 3, Entered::Yes),
            (2, 1, Entered::Yes),
            (2, 1, Entered::TooMany),
        ] {
            assert_eq!(counts.enter(key(number), most), expected, "{number} {most}");
        }
        counts.leave(key(1));
        assert_eq!(counts.enter(key(1), 3), Entered::Yes);
        assert_eq!(counts.enter(key(1), 3), Entered::TooMany);
    }

    #[test]
    fn who_has_left_makes_room_at_once() {
        let counts = Counts::new(1);
        let keys: Vec<u64> = (0..1_000).map(key).collect();
        let enter = || {
            let entered = keys
                .iter()
                .filter(|key| counts.enter(**key, 1) == Entered::Yes);
            entered.copied().collect::<Vec<u64>>()
        };
        let first = enter();
        assert!((1..=16).contains(&first.len()));
        assert_eq!(counts.enter(key(1_000), 1), Entered::Full);
        first.iter().for_each(|key| counts.leave(*key));
        assert_eq!(enter(), first);
    }

    #[test]
    #[should_panic(expected = "who leaves has entered")]
    #[cfg(debug_assertions)]
    fn nobody_leaves_who_is_not_there() {
        let counts = Counts::new(16);
        assert_eq!(counts.enter(key(1), 1), Entered::Yes);
        counts.leave(key(1));
        counts.leave(key(1));
    }
}
