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
