//! Words for keys: a table of fixed size that all shards share.
//!
//! Decides: which word is a key's. May not know: what a word's value means, time. Invariant: a key has at most one cell,
//! and a cell changes keys only when `is_free` says so of its value.
//!
//! A cell is one atomic word: 24 bits of tag and 40 of value; a word of 0 has no key. Eight words, a line of the
//! processor's cache, are a set: seven cells, and the gate. A key has two sets, and its cell stays where it was put. The
//! second follows from the first and the tag, and the first from the second in the same way: so keys of one tag with one
//! set in common have both in common, and are one key to everybody. Two given keys are one with a probability of
//! 2^-23 / sets, and then share what is counted.
//!
//! Why a key never has two cells: only who has shut the gate of the lower of its two sets inserts it, and looks at both
//! sets once more before. Gates are shut for the first request of a key and for no other. Who finds one shut tries for a
//! short while, and looks meanwhile whether the key has come; a shard that is suspended behind a gate may so make others
//! refuse new keys of that set, and nothing else. All else is a compare-and-swap of one word: if it succeeds, nobody has
//! changed the cell, its key included, since it was read.

use std::hint::spin_loop;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

const VALUE_BITS: u32 = 40;
const VALUE_MASK: u64 = (1 << VALUE_BITS) - 1;

const SET_WORDS: usize = 8;
const SET_CELLS: usize = SET_WORDS - 1;
const GATE: usize = SET_CELLS;
const OPEN: u64 = 0;
const SHUT: u64 = 1;

/// Looks at a shut gate, each about 10 ns: some times what an insertion takes.
const TRIES_MAX: u32 = 256;

/// As many free cells in its first set, and a key goes there without a look at the second. With 3, nine keys of ten are
/// found in their first set, and a table with `keys_max` keys still has room for every new one.
const ROOMY: usize = 3;

pub(super) struct Cells {
    words: Box<[AtomicU64]>,
    /// The first word that begins a line of the cache.
    first: usize,
    sets: usize,
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
    /// Room for about 1.7 times `keys_max` keys, 16 bytes each. Pages that no key has come to take no memory.
    pub(super) fn new(keys_max: usize) -> Cells {
        let sets = keys_max.div_ceil(SET_WORDS / 2).max(2);
        let words: Box<[AtomicU64]> = bytemuck::zeroed_slice_box((sets + 1) * SET_WORDS);
        let first = words
            .as_ptr()
            .align_offset(SET_WORDS * size_of::<AtomicU64>());
        debug_assert!(first <= SET_WORDS);
        Cells { words, first, sets }
    }

    pub(super) fn sets(&self) -> usize {
        self.sets
    }

    pub(super) fn place(&self, key: u64) -> Place {
        let tag = (key >> VALUE_BITS).max(1);
        let first = self.scale(key);
        let sum = self.scale(tag.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32);
        let second = if sum >= first {
            sum - first
        } else {
            sum + self.sets - first
        };
        Place {
            tag: tag << VALUE_BITS,
            sets: [first, second],
        }
    }

    /// The low half of `number`, a fraction, as one of our sets.
    fn scale(&self, number: u64) -> usize {
        ((number & 0xFFFF_FFFF) * self.sets as u64 >> 32) as usize
    }

    fn set(&self, set: usize) -> &[AtomicU64; SET_WORDS] {
        let words = &self.words[self.first + set * SET_WORDS..];
        words.first_chunk().expect("every set is whole")
    }

    pub(super) fn find(&self, place: Place) -> Option<Cell<'_>> {
        let [first, second] = place.sets;
        let found = find(self.set(first), place.tag);
        found.or_else(|| find(self.set(second), place.tag))
    }

    /// Gives the key a cell with this value.
    pub(super) fn insert(
        &self,
        place: Place,
        value: u64,
        is_free: impl Fn(u64) -> bool,
    ) -> Insertion<'_> {
        let [one, other] = place.sets;
        let gate = &self.set(one.min(other))[GATE];
        for _ in 0..TRIES_MAX {
            if let Some(cell) = self.find(place) {
                return Insertion::Present(cell);
            }
            if self.free(place, &is_free).is_none() {
                return Insertion::Full;
            }
            // Acquire and release: who shuts it sees what was inserted behind it before.
            let shut = gate.compare_exchange(OPEN, SHUT, Acquire, Relaxed);
            if shut.is_ok() {
                let insertion = self.insert_alone(place, value, &is_free);
                gate.store(OPEN, Release);
                return insertion;
            }
            spin_loop();
        }
        Insertion::Full
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
        for word in &self.set(set)[..SET_CELLS] {
            let seen = word.load(Relaxed);
            if seen != 0 && is_free(seen & VALUE_MASK) {
                // Changed meanwhile: then it is in use.
                let _ = word.compare_exchange(seen, 0, Relaxed, Relaxed);
            }
        }
    }
}

fn find(set: &[AtomicU64; SET_WORDS], tag: u64) -> Option<Cell<'_>> {
    let cells = set[..SET_CELLS].iter();
    let mut cells = cells.map(|word| Cell {
        word,
        seen: word.load(Relaxed),
    });
    cells.find(|cell| cell.seen & !VALUE_MASK == tag)
}

/// How many cells are free, and the last of them.
fn free<'a>(
    set: &'a [AtomicU64; SET_WORDS],
    is_free: &impl Fn(u64) -> bool,
) -> (usize, Option<Cell<'a>>) {
    let (mut count, mut last) = (0, None);
    for word in &set[..SET_CELLS] {
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
