//! The stored responses of the process, for all shards.
//!
//! Decides: which partition a key belongs to, and which one makes room. May not know: HTTP, clocks. Invariant: a lookup
//! takes no lock and writes nothing but the count of the entry's holders; what is charged never exceeds the budget.
//!
//! A key is 128 bits of a hash whose secret nobody outside knows, so that nobody can make two keys of one hash, or many
//! of one bucket.

use std::hash::Hasher as _;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};

use siphasher::sip128::{Hasher128, SipHasher13};

use super::entry::{Account, Charge, Entry};
use super::partition::{Partition, Place};
use crate::policy::cache::Budget;

/// More, and two shards seldom wait for each other.
const PARTITIONS_MAX: u32 = 64;

/// Entries for which a partition is worth it: with fewer its queues are too short to tell anything.
const PARTITION_ENTRIES_MIN: u32 = 1_024;

/// Entries that a bucket is meant for, on average. With seven ways for four, one entry in fifty finds its bucket full.
const BUCKET_ENTRIES: u32 = 4;

/// So much the smallest entries give back with [`EVICTIONS_MAX`] of them: what is longer is reserved in pieces, so that a
/// long body finds room among short ones.
const PIECE_BYTES: u64 = 16 * 1024;

/// Entries that one reservation removes at most.
const EVICTIONS_MAX: u32 = 64;

pub struct Table {
    account: Arc<Account>,
    /// A power of two. One that nothing was put into takes no memory.
    partitions: Box<[OnceLock<Partition>]>,
    /// Of each partition.
    buckets: usize,
    entries_max: u32,
    /// Whose turn it is to make room. Every shard moves it on.
    turn: AtomicUsize,
    primary: SipHasher13,
    variant: SipHasher13,
}

/// How full the table is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    pub entries: u64,
    /// Charged, for entries and all else.
    pub bytes: u64,
    pub bytes_max: u64,
    /// Entries that had to make room, so far.
    pub evictions: u64,
}

impl Table {
    pub fn new(budget: Budget, secret: &[u8; 32]) -> Table {
        let partitions = (budget.entries_max / PARTITION_ENTRIES_MIN).clamp(1, PARTITIONS_MAX);
        let partitions = 1 << partitions.ilog2();
        let entries_max = (budget.entries_max / partitions).max(1);
        let (primary, variant) = secret.split_at(16);
        let hasher = |key: &[u8]| {
            let key = key.first_chunk().expect("half a secret is a key");
            SipHasher13::new_with_key(key)
        };
        Table {
            account: Arc::new(Account::new(budget.bytes_max)),
            partitions: (0..partitions).map(|_| OnceLock::new()).collect(),
            buckets: entries_max.div_ceil(BUCKET_ENTRIES) as usize,
            entries_max,
            turn: AtomicUsize::new(0),
            primary: hasher(primary),
            variant: hasher(variant),
        }
    }

    /// Of the text of a key.
    pub fn hash(&self, key: &[u8]) -> u128 {
        self.primary.hash(key).into()
    }

    /// Of the text of a key that is one of its own in each zone.
    pub fn hash_within(&self, zone: &[u8], key: &[u8]) -> u128 {
        let mut hasher = self.primary;
        hasher.write(&(zone.len() as u64).to_le_bytes());
        hasher.write(zone);
        hasher.write(key);
        hasher.finish128().into()
    }

    /// Of a variant: the hash of its key, the epoch of its marker, and the values on which it depends.
    pub fn hash_variant(&self, primary: u128, epoch: u64, values: &[u8]) -> u128 {
        let mut hasher = self.variant;
        hasher.write(&primary.to_le_bytes());
        hasher.write(&epoch.to_le_bytes());
        hasher.write(values);
        hasher.finish128().into()
    }

    /// Does not count as a use: that is `Entry::touch`.
    #[inline]
    pub fn get(&self, hash: u128) -> Option<Arc<Entry>> {
        let (partition, place) = self.place(hash);
        partition.get()?.get(place)
    }

    /// In place of the one with the same hash, whose uses and place in the order it takes; else somebody may have to go
    /// for it.
    pub fn put(&self, entry: Entry) -> Arc<Entry> {
        let (partition, place) = self.place(entry.hash());
        let partition = partition.get_or_init(|| Partition::new(self.buckets, self.entries_max));
        partition.put(place, entry)
    }

    /// Whether it was there.
    pub fn remove(&self, hash: u128) -> bool {
        self.remove_that(hash, |_| true)
    }

    /// Removes this entry, and no other one with its hash.
    pub fn remove_if(&self, hash: u128, entry: &Arc<Entry>) -> bool {
        self.remove_that(hash, |found| Arc::ptr_eq(found, entry))
    }

    fn remove_that(&self, hash: u128, is_meant: impl Fn(&Arc<Entry>) -> bool) -> bool {
        let (partition, place) = self.place(hash);
        let partition = partition.get();
        partition.is_some_and(|partition| partition.remove(place, is_meant))
    }

    /// A part of the budget, for which others may have to go: as many as hold what is missing. What is still read counts
    /// until its readers have done.
    pub fn reserve(&self, bytes: u64) -> Option<Charge> {
        if bytes > self.account.bytes_max() {
            return None;
        }
        let mut charge = self.reserve_piece(bytes.min(PIECE_BYTES))?;
        let mut rest = bytes.saturating_sub(PIECE_BYTES);
        while rest > 0 {
            charge.add(self.reserve_piece(rest.min(PIECE_BYTES))?);
            rest = rest.saturating_sub(PIECE_BYTES);
        }
        Some(charge)
    }

    fn reserve_piece(&self, bytes: u64) -> Option<Charge> {
        let units = self.account.units_of(bytes)?;
        // Evicted, but still held by somebody.
        let mut held = 0;
        for _ in 0..EVICTIONS_MAX {
            let missing = match self.account.take(units) {
                Ok(charge) => return Some(charge),
                Err(missing) => missing,
            };
            if held >= missing {
                return None;
            }
            let gone = self.evict()?;
            if Arc::strong_count(&gone) > 1 {
                held += u64::from(gone.units());
            }
        }
        self.account.take(units).ok()
    }

    /// Removes all that are meant, and says how many. It looks without a lock, for as long as it takes; what is put
    /// meanwhile may stay.
    pub fn sweep(&self, is_meant: impl Fn(&Entry) -> bool) -> u64 {
        let mut count = 0;
        for partition in self.live() {
            for entry in partition.entries().filter(|entry| is_meant(entry)) {
                count += u64::from(self.remove_if(entry.hash(), &entry));
            }
        }
        count
    }

    pub fn figures(&self) -> Figures {
        Figures {
            entries: self.live().map(Partition::len).sum(),
            bytes: self.account.bytes(),
            bytes_max: self.account.bytes_max(),
            evictions: self.live().map(Partition::evictions).sum(),
        }
    }

    /// From the partitions in turn, but for those that hold less than others.
    fn evict(&self) -> Option<Arc<Entry>> {
        let count = self.partitions.len();
        let units: u64 = self.live().map(Partition::units).sum();
        let mean = units / count as u64;
        let turn = self.turn.fetch_add(1, Relaxed);
        let in_turn = (0..count).map(|number| &self.partitions[turn.wrapping_add(number) % count]);
        let full = in_turn.filter_map(OnceLock::get);
        let mut full = full.filter(|partition| partition.units() >= mean);
        full.find_map(Partition::evict)
    }

    fn live(&self) -> impl Iterator<Item = &Partition> {
        self.partitions.iter().filter_map(OnceLock::get)
    }

    /// The upper half of a hash has the partition and the tag, the lower half is the bucket as a fraction of all.
    #[inline]
    fn place(&self, hash: u128) -> (&OnceLock<Partition>, Place) {
        let (low, high) = (hash as u64, (hash >> 64) as u64);
        let partition = (high >> 32) as usize & (self.partitions.len() - 1);
        let bucket = (u128::from(low) * self.buckets as u128) >> 64;
        let place = Place {
            bucket: bucket as usize,
            tag: (high as u8).max(1),
            hash,
        };
        (&self.partitions[partition], place)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::entry::{Kind, Parts};
    use super::*;
    use crate::policy::cache::Terms;

    const TERMS: Terms = Terms {
        at: 7,
        age_s: 1,
        lifetime_s: 2,
        stale_while_revalidate_s: 3,
        stale_if_error_s: 4,
        must_revalidate: true,
        no_cache: false,
    };

    fn table(bytes_max: u64, entries_max: u32) -> Table {
        let budget = Budget {
            bytes_max,
            entries_max,
        };
        Table::new(budget, &[7; 32])
    }

    /// With a body of `body_bytes` and the number in its head.
    fn entry(table: &Table, number: u32, body_bytes: usize) -> Option<Entry> {
        let (key, head) = (number.to_le_bytes(), number.to_be_bytes());
        let charge = table.reserve(Entry::cost_bytes(4, 4, body_bytes))?;
        let parts = Parts {
            hash: table.hash(&key),
            key: &key,
            head: &head,
            body: Bytes::from(vec![number as u8; body_bytes]),
            kind: Kind::Response,
            status: 200,
            terms: TERMS,
        };
        Some(Entry::new(parts, charge))
    }

    fn put(table: &Table, number: u32, body_bytes: usize) -> Option<Arc<Entry>> {
        entry(table, number, body_bytes).map(|entry| table.put(entry))
    }

    fn get(table: &Table, number: u32) -> Option<Arc<Entry>> {
        table.get(table.hash(&number.to_le_bytes()))
    }

    #[test]
    fn what_was_put_is_found_until_it_is_removed() {
        let table = table(1 << 30, 100_000);
        for number in 0..10_000 {
            assert!(get(&table, number).is_none());
            put(&table, number, 10).unwrap();
        }
        let mut found = 0;
        for number in 0..10_000 {
            let Some(entry) = get(&table, number) else {
                continue;
            };
            found += 1;
            assert_eq!(entry.key(), number.to_le_bytes());
            assert_eq!(entry.head(), number.to_be_bytes());
            assert_eq!(entry.body, vec![number as u8; 10]);
            assert_eq!(entry.terms(), TERMS);
        }
        assert_eq!(found, 10_000);
        assert_eq!(table.figures().entries, 10_000);
        for number in 0..10_000_u32 {
            let hash = table.hash(&number.to_le_bytes());
            assert!(table.remove(hash));
            assert!(!table.remove(hash));
            assert!(get(&table, number).is_none());
        }
        let figures = table.figures();
        assert_eq!(
            (figures.entries, figures.bytes, figures.evictions),
            (0, 0, 0)
        );
    }

    #[test]
    fn a_variant_is_found_by_its_marker_s_epoch_and_its_values() {
        let table = table(1 << 20, 1_000);
        let primary = table.hash(b"key");
        let hashes = [
            primary,
            table.hash(b"kex"),
            table.hash_variant(primary, 1, b"en"),
            table.hash_variant(primary, 2, b"en"),
            table.hash_variant(primary, 1, b"fr"),
            table.hash_variant(primary + 1, 1, b"en"),
        ];
        for (at, hash) in hashes.iter().enumerate() {
            assert!(!hashes[..at].contains(hash));
        }
        let again = self::table(1 << 20, 1_000);
        assert_eq!(again.hash_variant(again.hash(b"key"), 1, b"en"), hashes[2]);
        let budget = Budget {
            bytes_max: 1 << 20,
            entries_max: 1_000,
        };
        assert_ne!(Table::new(budget, &[8; 32]).hash(b"key"), primary);
    }

    #[test]
    fn who_replaces_an_entry_takes_its_uses_and_its_charge_is_its_own() {
        let table = table(1 << 20, 1_000);
        let old = put(&table, 1, 10_000).unwrap();
        (0..5).for_each(|_| old.touch());
        let new = put(&table, 1, 100).unwrap();
        assert_eq!((old.uses(), new.uses()), (3, 3));
        assert!(Arc::ptr_eq(&get(&table, 1).unwrap(), &new));
        // The old one counts as long as somebody reads it.
        assert!(table.figures().bytes > 10_000);
        drop(old);
        let figures = table.figures();
        assert!(figures.bytes < 1_000);
        assert_eq!((figures.entries, figures.evictions), (1, 0));
    }

    #[test]
    fn an_entry_is_removed_only_if_it_is_that_one() {
        let table = table(1 << 20, 1_000);
        let old = put(&table, 1, 10).unwrap();
        let new = put(&table, 1, 10).unwrap();
        assert!(!table.remove_if(old.hash(), &old));
        assert!(table.remove_if(new.hash(), &new));
        assert!(!table.remove_if(new.hash(), &new));
        assert!(get(&table, 1).is_none());
    }

    #[test]
    fn a_sweep_removes_what_is_meant_and_nothing_else() {
        let table = table(1 << 30, 100_000);
        for number in 0..10_000 {
            put(&table, number, 10).unwrap();
        }
        let is_odd = |entry: &Entry| entry.key()[0] % 2 == 1;
        assert_eq!(table.sweep(is_odd), 5_000);
        assert_eq!(table.sweep(is_odd), 0);
        assert!((0..10_000).all(|number| get(&table, number).is_some() == (number % 2 == 0)));
        assert_eq!(table.sweep(|_| true), 5_000);
        assert_eq!(table.figures().bytes, 0);
    }

    #[test]
    fn there_are_never_more_entries_or_bytes_than_the_budget_allows() {
        for (bytes_max, entries_max) in [(1 << 20, 1_000_000), (1 << 30, 1_000), (65_536, 16)] {
            let table = table(bytes_max, entries_max);
            let mut refused = 0;
            for number in 0..20_000 {
                let body_bytes = (number as usize * 7_919) % 2_000;
                refused += u32::from(put(&table, number, body_bytes).is_none());
                let figures = table.figures();
                assert!(figures.bytes <= bytes_max);
                assert!(figures.entries <= u64::from(entries_max));
            }
            let figures = table.figures();
            let kept = (0..20_000).filter(|number| get(&table, *number).is_some());
            assert_eq!(kept.count() as u64, figures.entries);
            assert_eq!(figures.evictions, 20_000 - figures.entries);
            assert_eq!(refused, 0);
            // Full: of bytes, or of entries but for those of uneven partitions and buckets.
            let is_full = figures.bytes * 100 >= bytes_max * 99
                || figures.entries * 100 >= u64::from(entries_max) * 90;
            assert!(is_full, "{figures:?}");
            drop(table);
        }
    }

    #[test]
    fn a_reservation_empties_no_table_for_what_slow_readers_hold() {
        let table = table(1 << 20, 10_000);
        let mut held: Vec<_> = (0..100)
            .map(|number| put(&table, number, 10_000).unwrap())
            .collect();
        let figures = table.figures();
        let missing = figures.bytes_max - figures.bytes + 15_000;
        // Two are enough for it, but their readers still have them.
        assert!(table.reserve(missing).is_none());
        assert_eq!(table.figures().entries, 98);
        held.retain(|entry| table.get(entry.hash()).is_some());
        assert_eq!(table.figures().bytes, figures.bytes / 100 * 98);
        assert!(table.reserve(missing).is_some());
        assert_eq!(table.figures().entries, 98);
    }

    #[test]
    fn a_long_body_finds_room_among_short_ones() {
        let table = table(1 << 20, 10_000);
        (0..10_000).for_each(|number| drop(put(&table, number, 100)));
        let charge = table
            .reserve(512 * 1024)
            .expect("half of all may go for it");
        assert_eq!(charge.bytes(), 512 * 1024);
        assert!(table.figures().entries > 0);
    }

    #[test]
    fn what_can_never_fit_evicts_nobody() {
        let table = table(1 << 20, 1_000);
        (0..100).for_each(|number| drop(put(&table, number, 10_000)));
        let before = table.figures();
        for bytes in [(1 << 20) + 1, 1 << 40, u64::MAX] {
            assert!(table.reserve(bytes).is_none());
        }
        assert_eq!(table.figures(), before);
        // All of it may be had by somebody.
        assert!(table.reserve(1 << 20).is_some());
    }

    #[test]
    fn partitions_stay_about_even() {
        let table = table(64 << 20, 100_000);
        for number in 0..100_000 {
            put(&table, number, 700).unwrap();
        }
        let units: Vec<u64> = table.live().map(Partition::units).collect();
        let mean = units.iter().sum::<u64>() / units.len() as u64;
        assert_eq!(units.len(), 64);
        assert!(
            units.iter().all(|units| units.abs_diff(mean) < mean / 20),
            "{units:?}"
        );
    }
}
