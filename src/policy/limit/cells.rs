//! Words for keys: a table of fixed size that all shards share.
//!
//! Decides: which word is a key's. May not know: what a word's value means, time. Invariant: a key has at most one cell,
//! and a cell changes keys only when `is_free` says so of its value.
//!
//! A cell is one atomic word: 24 bits of tag and 40 of value; a word of 0 has no key. Eight cells, a line of the
//! processor's cache, are a set. A key has two sets, and its cell stays where it was put. The second follows from the
//! first and the tag, and the first from the second in the same way: so keys of one tag with one set in common have both
//! in common, and are one key to everybody. Two given keys are one with a probability of 2^-23 / sets, and then share
//! what is counted.
//!
//! Why a key never has two cells: only who has shut the gate of the lower of its two sets inserts it, and looks at both
//! sets once more before. Gates are shut for the first request of a key and for no other. Who finds one shut tries for a
//! short while, and looks meanwhile whether the key has come; a shard that is suspended behind a gate may so make others
//! refuse new keys of that set, and nothing else. All else is a compare-and-swap of one word: if it succeeds, nobody has
//! changed the cell, its key included, since it was read.

use std::hint::spin_loop;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU8, AtomicU64};

const VALUE_BITS: u32 = 40;
pub(super) const VALUE_MASK: u64 = (1 << VALUE_BITS) - 1;

const SET_CELLS: usize = 8;
/// Keys that a set is meant for, on average.
const SET_KEYS: usize = 5;

const OPEN: u8 = 0;
const SHUT: u8 = 1;

/// Looks at a shut gate, each about 10 ns: some times what an insertion takes.
const TRIES_MAX: u32 = 256;

/// As many free cells in its first set, and a key goes there without a look at the second. With 3, of
/// `keys_max` keys nine of ten are in their first set, and all but two in a million find room.
const ROOMY: usize = 3;

pub(super) struct Cells {
    words: Box<[AtomicU64]>,
    /// The first word that begins a line of the cache.
    first: usize,
    /// One for each set. Apart, since they are for insertions only.
    gates: Box<[AtomicU8]>,
}

/// Where a key may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// In its place in a word. Never 0.
    tag: u64,
    sets: [usize; 2],
}

/// The cell of a key, as it was when it was read.
pub(super) struct Cell<'a> {
    word: &'a AtomicU64,
    seen: u64,
}

pub(super) enum Insertion<'a> {
    Done,
    /// Somebody was faster.
    Present(Cell<'a>),
    /// No free cell in either set, or a gate that stayed shut.
    Full,
}

impl Cells {
    /// 13 bytes for each of `keys_max` keys, and about half as many more find room. Pages that no key has come to take no
    /// memory.
    pub(super) fn new(keys_max: usize) -> Cells {
        let sets = keys_max.div_ceil(SET_KEYS).max(2);
        let words: Box<[AtomicU64]> = bytemuck::zeroed_slice_box((sets + 1) * SET_CELLS);
        let first = words
            .as_ptr()
            .align_offset(SET_CELLS * size_of::<AtomicU64>());
        debug_assert!(first <= SET_CELLS);
        Cells {
            words,
            first,
            gates: bytemuck::zeroed_slice_box(sets),
        }
    }

    pub(super) fn sets(&self) -> usize {
        self.gates.len()
    }

    pub(super) fn place(&self, key: u64) -> Place {
        let tag = (key >> VALUE_BITS).max(1);
        let first = self.scale(key);
        let sum = self.scale(tag.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32);
        let second = if sum >= first {
            sum - first
        } else {
            sum + self.sets() - first
        };
        Place {
            tag: tag << VALUE_BITS,
            sets: [first, second],
        }
    }

    /// The low half of `number`, a fraction, as one of our sets.
    fn scale(&self, number: u64) -> usize {
        (((number & 0xFFFF_FFFF) * self.sets() as u64) >> 32) as usize
    }

    fn set(&self, set: usize) -> &[AtomicU64; SET_CELLS] {
        let words = &self.words[self.first + set * SET_CELLS..];
        words.first_chunk().expect("every set is whole")
    }

    pub(super) fn find(&self, place: Place) -> Option<Cell<'_>> {
        let [first, second] = place.sets;
        let found = find(self.set(first), place.tag);
        found.or_else(|| find(self.set(second), place.tag))
    }

    /// Gives a key that was not found a cell with this value.
    pub(super) fn insert(
        &self,
        place: Place,
        value: u64,
        is_free: impl Fn(u64) -> bool,
    ) -> Insertion<'_> {
        let [one, other] = place.sets;
        let gate = &self.gates[one.min(other)];
        for _ in 0..TRIES_MAX {
            if self.free(place, &is_free).is_none() {
                break;
            }
            // Acquire and release: who shuts it sees what was inserted behind it before.
            let shut = gate.compare_exchange(OPEN, SHUT, Acquire, Relaxed);
            if shut.is_ok() {
                let insertion = self.insert_alone(place, value, &is_free);
                gate.store(OPEN, Release);
                return insertion;
            }
            if let Some(cell) = self.find(place) {
                return Insertion::Present(cell);
            }
            spin_loop();
        }
        // Perhaps it was this key that took the last one.
        let found = self.find(place);
        found.map_or(Insertion::Full, Insertion::Present)
    }

    /// Behind the gate.
    fn insert_alone(
        &self,
        place: Place,
        value: u64,
        is_free: &impl Fn(u64) -> bool,
    ) -> Insertion<'_> {
        if let Some(cell) = self.find(place) {
            return Insertion::Present(cell);
        }
        // Keys with other gates may be faster, once for each cell.
        for _ in 0..2 * SET_CELLS {
            let Some(free) = self.free(place, is_free) else {
                break;
            };
            let word = place.tag | value & VALUE_MASK;
            let put = free
                .word
                .compare_exchange(free.seen, word, Relaxed, Relaxed);
            if put.is_ok() {
                return Insertion::Done;
            }
        }
        Insertion::Full
    }

    /// The cell that a new key takes.
    fn free(&self, place: Place, is_free: &impl Fn(u64) -> bool) -> Option<Cell<'_>> {
        let [first, second] = place.sets;
        let (in_first, cell) = free(self.set(first), is_free);
        if in_first >= ROOMY {
            return cell;
        }
        let (in_second, other) = free(self.set(second), is_free);
        if in_first >= in_second { cell } else { other }
    }

    /// Empties the free cells of a set.
    pub(super) fn clear(&self, set: usize, is_free: impl Fn(u64) -> bool) {
        for word in self.set(set) {
            let seen = word.load(Relaxed);
            if seen != 0 && is_free(seen & VALUE_MASK) {
                // Changed meanwhile: then it is in use.
                let _ = word.compare_exchange(seen, 0, Relaxed, Relaxed);
            }
        }
    }
}

/// All cells are compared before one is chosen: where a key is cannot be foretold, and the processor, which waits for the
/// line of the cache here, would go astray seven times of eight. Benchmark limit/admitted/1048576: 86 to 71 ns.
fn find(set: &[AtomicU64; SET_CELLS], tag: u64) -> Option<Cell<'_>> {
    let cells = set.iter().enumerate();
    let found = cells.fold(0_u32, |found, (at, word)| {
        let is_tag = word.load(Relaxed) & !VALUE_MASK == tag;
        found | u32::from(is_tag) << at
    });
    if found == 0 {
        return None;
    }
    let word = &set[found.trailing_zeros() as usize % SET_CELLS];
    let seen = word.load(Relaxed);
    // Else it has just been given to another key.
    (seen & !VALUE_MASK == tag).then_some(Cell { word, seen })
}

/// How many cells are free, and the last of them.
fn free<'a>(
    set: &'a [AtomicU64; SET_CELLS],
    is_free: &impl Fn(u64) -> bool,
) -> (usize, Option<Cell<'a>>) {
    let (mut count, mut last) = (0, None);
    for word in set {
        let seen = word.load(Relaxed);
        if seen == 0 || is_free(seen & VALUE_MASK) {
            count += 1;
            last = Some(Cell { word, seen });
        }
    }
    (count, last)
}

impl Cell<'_> {
    pub(super) fn value(&self) -> u64 {
        self.seen & VALUE_MASK
    }

    /// False if it has changed since it was read, its key perhaps too.
    pub(super) fn replace(&self, value: u64) -> bool {
        let word = self.seen & !VALUE_MASK | value & VALUE_MASK;
        let put = self
            .word
            .compare_exchange(self.seen, word, Relaxed, Relaxed);
        put.is_ok()
    }

    /// The same, for a key that leaves.
    pub(super) fn empty(&self) -> bool {
        let put = self.word.compare_exchange(self.seen, 0, Relaxed, Relaxed);
        put.is_ok()
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

    fn put(cells: &Cells, key: u64, value: u64) -> bool {
        let put = cells.insert(cells.place(key), value, |_| false);
        matches!(put, Insertion::Done)
    }

    fn value(cells: &Cells, key: u64) -> Option<u64> {
        cells.find(cells.place(key)).map(|cell| cell.value())
    }

    #[test]
    fn keys_that_are_promised_room_find_it() {
        for keys_max in [1, 7, 1_024, 65_536, 500_000] {
            let cells = Cells::new(keys_max);
            let numbers = 0..keys_max as u64;
            let refused = numbers.filter(|number| !put(&cells, key(*number), *number));
            let refused = refused.count();
            assert!(refused <= keys_max / 100_000, "{refused} of {keys_max}");
            let found = |number: &u64| value(&cells, key(*number)) == Some(*number);
            let found = (0..keys_max as u64).filter(found).count();
            assert_eq!(found + refused, keys_max);
        }
    }

    #[test]
    fn a_full_table_refuses_and_keeps_what_it_has() {
        let cells = Cells::new(1_024);
        let (kept, refused): (Vec<u64>, Vec<u64>) =
            (0..10_000).partition(|number| put(&cells, key(*number), *number));
        assert_eq!(kept.len() + refused.len(), 10_000);
        assert!((1_500..=1_640).contains(&kept.len()), "{}", kept.len());
        for number in kept {
            assert_eq!(value(&cells, key(number)), Some(number));
        }
        for number in refused {
            assert_eq!(value(&cells, key(number)), None);
        }
    }

    #[test]
    fn only_free_cells_change_keys() {
        let cells = Cells::new(1);
        let count = (0..100).filter(|number| put(&cells, key(*number), *number % 2));
        let count = count.count();
        let taken = (100..200).filter(|number| {
            let put = cells.insert(cells.place(key(*number)), 2, |value| value == 1);
            matches!(put, Insertion::Done)
        });
        let taken = taken.count();
        assert!((1..count).contains(&taken), "{taken} of {count}");
        let left = (0..100).filter_map(|number| value(&cells, key(number)));
        assert_eq!(left.collect::<Vec<_>>(), vec![0; count - taken]);
    }

    #[test]
    fn keys_that_look_alike_in_one_set_are_one_key() {
        for sets in [2, 3, 1_000, 16_384] {
            let cells = Cells::new(sets * SET_KEYS);
            assert_eq!(cells.sets(), sets);
            for number in 0..1_000 {
                let one = cells.place(key(number));
                // The same tag, and a first set that is the other's second.
                let low = ((one.sets[1] as u64) << 32).div_ceil(sets as u64);
                let other = cells.place(key(number) >> VALUE_BITS << VALUE_BITS | low);
                assert_eq!(one.tag, other.tag);
                assert_eq!(
                    one.sets,
                    [other.sets[1], other.sets[0]],
                    "{number} of {sets}"
                );
            }
        }
    }

    #[test]
    fn a_key_without_a_tag_has_a_cell_nevertheless() {
        let cells = Cells::new(16);
        assert!(put(&cells, 5, 0));
        assert_eq!(value(&cells, 5), Some(0));
    }

    #[test]
    fn a_set_is_a_line_of_the_cache() {
        for keys_max in [1, 100, 65_536] {
            let cells = Cells::new(keys_max);
            for set in [0, cells.sets() - 1] {
                assert_eq!(cells.set(set).as_ptr().addr() % 64, 0);
            }
        }
    }

    #[test]
    fn who_has_changed_a_cell_first_wins() {
        let cells = Cells::new(16);
        assert!(put(&cells, key(1), 1));
        let find = || cells.find(cells.place(key(1))).expect("it was put there");
        let (first, second) = (find(), find());
        assert!(first.replace(2));
        assert!(!second.replace(3) && !second.empty());
        assert_eq!(value(&cells, key(1)), Some(2));
        assert!(find().empty());
        assert_eq!(value(&cells, key(1)), None);
    }

    #[test]
    fn a_gate_that_stays_shut_refuses_new_keys_only() {
        let cells = Cells::new(1);
        assert!(put(&cells, key(1), 1));
        for set in 0..cells.sets() {
            cells.gates[set].store(SHUT, Relaxed);
        }
        assert!(!put(&cells, key(2), 2));
        assert_eq!(value(&cells, key(1)), Some(1));
        let again = cells.insert(cells.place(key(1)), 5, |_| false);
        assert!(matches!(again, Insertion::Present(cell) if cell.value() == 1));
    }

    #[test]
    fn clearing_empties_what_is_free() {
        let cells = Cells::new(1_024);
        for number in 0..1_024 {
            assert!(put(&cells, key(number), number % 2));
        }
        for set in 0..cells.sets() {
            cells.clear(set, |value| value == 1);
        }
        for number in 0..1_024 {
            let expected = (number % 2 == 0).then_some(0);
            assert_eq!(value(&cells, key(number)), expected);
        }
    }
}
