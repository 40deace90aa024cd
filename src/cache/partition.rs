//! A part of the table: its buckets, and the order in which their entries go.
//!
//! Decides: where in its bucket an entry stands. May not know: budgets. Invariant: only who holds the lock changes a
//! bucket; who reads one takes no lock, and compares the whole hash of what it finds.
//!
//! A bucket is one line of the cache: a byte of tag for each of its seven ways, and their pointers. A lookup reads that
//! line and, but for one tag in 256 that is somebody else's, the line of the one entry that it returns.

use std::array;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::{ArcSwapOption, Guard};

use super::entry::Entry;
use crate::policy::cache::evict::{Change, Queues, Seen};

pub(super) const WAYS: usize = 7;

/// The lowest bit of each way's byte.
const ONES: u64 = 0x0001_0101_0101_0101;
const HIGH_BITS: u64 = ONES << 7;

pub(super) struct Partition {
    buckets: Box<[Bucket]>,
    entries_max: u32,
    writers: Writers,
}

/// Apart from what readers read.
#[repr(align(128))]
struct Writers {
    queues: Mutex<Queues>,
    /// Of all entries; written by who holds the lock, read by those who look for room, and by people.
    units: AtomicU64,
    entries: AtomicU64,
    evictions: AtomicU64,
}

#[repr(C, align(64))]
struct Bucket {
    /// A byte for each way, 0 if it is empty.
    tags: AtomicU64,
    ways: [ArcSwapOption<Entry>; WAYS],
}

/// Where an entry may be in its partition.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) bucket: usize,
    /// Never 0.
    pub(super) tag: u8,
    pub(super) hash: u128,
}

impl Partition {
    pub(super) fn new(buckets: usize, entries_max: u32) -> Partition {
        Partition {
            buckets: (0..buckets).map(|_| Bucket::new()).collect(),
            entries_max,
            writers: Writers {
                queues: Mutex::new(Queues::new(buckets * WAYS)),
                units: AtomicU64::new(0),
                entries: AtomicU64::new(0),
                evictions: AtomicU64::new(0),
            },
        }
    }

    #[inline]
    pub(super) fn get(&self, place: Place) -> Option<Arc<Entry>> {
        let (_, entry) = self.buckets[place.bucket].find(place)?;
        Guard::into_inner(entry)
    }

    pub(super) fn put(&self, place: Place, entry: Entry) -> Arc<Entry> {
        // What is replaced or goes is dropped behind the lock.
        let mut gone = [None, None];
        let mut queues = self.lock();
        let bucket = &self.buckets[place.bucket];
        let units = entry.units();
        let entry = if let Some((way, old)) = bucket.find(place) {
            let old = Guard::into_inner(old).expect("what is found is there");
            entry.set_uses(old.uses());
            queues.resize(slot(place.bucket, way), old.units(), units);
            gone[0] = Some(old);
            let entry = Arc::new(entry);
            bucket.ways[way].store(Some(Arc::clone(&entry)));
            entry
        } else {
            if queues.len() >= self.entries_max {
                gone[0] = self.evict_from(&mut queues);
            }
            let way = bucket.free().unwrap_or_else(|| {
                let way = bucket.least_used();
                gone[1] = self.take_out(&mut queues, place.bucket, way);
                self.writers.evictions.fetch_add(1, Relaxed);
                way
            });
            queues.admit(slot(place.bucket, way), key_hash(&entry), units);
            let entry = Arc::new(entry);
            bucket.fill(way, place.tag, Arc::clone(&entry));
            entry
        };
        self.publish(&queues);
        drop(queues);
        entry
    }

    /// Removes the entry of this hash if it is the one that is meant.
    pub(super) fn remove(&self, place: Place, is_meant: impl Fn(&Arc<Entry>) -> bool) -> bool {
        let mut queues = self.lock();
        let bucket = &self.buckets[place.bucket];
        let found = bucket.find(place);
        let found = found.filter(|(_, entry)| entry.as_ref().is_some_and(&is_meant));
        let gone = found.and_then(|(way, _)| self.take_out(&mut queues, place.bucket, way));
        self.publish(&queues);
        drop(queues);
        gone.is_some()
    }

    /// Removes the entry that goes next.
    pub(super) fn evict(&self) -> Option<Arc<Entry>> {
        let mut queues = self.lock();
        let gone = self.evict_from(&mut queues);
        self.publish(&queues);
        gone
    }

    /// All entries, while others come and go.
    pub(super) fn entries(&self) -> impl Iterator<Item = Arc<Entry>> {
        let buckets = self.buckets.iter();
        let used = buckets.filter(|bucket| bucket.tags.load(Relaxed) != 0);
        used.flat_map(|bucket| bucket.ways.iter().filter_map(ArcSwapOption::load_full))
    }

    pub(super) fn units(&self) -> u64 {
        self.writers.units.load(Relaxed)
    }

    pub(super) fn len(&self) -> u64 {
        self.writers.entries.load(Relaxed)
    }

    pub(super) fn evictions(&self) -> u64 {
        self.writers.evictions.load(Relaxed)
    }

    /// Nothing panics behind it but a broken invariant, and then it is better to go on than to stop all shards.
    fn lock(&self) -> MutexGuard<'_, Queues> {
        let queues = self.writers.queues.lock();
        queues.unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, queues: &Queues) {
        self.writers.units.store(queues.units(), Relaxed);
        let entries = u64::from(queues.len());
        self.writers.entries.store(entries, Relaxed);
    }

    fn evict_from(&self, queues: &mut Queues) -> Option<Arc<Entry>> {
        let slot = queues.evict(|slot, change| {
            let entry = self.way(slot).load();
            let entry = entry.as_ref().expect("a slot in a queue has an entry");
            look(entry, change)
        })?;
        self.writers.evictions.fetch_add(1, Relaxed);
        let (bucket, way) = (slot as usize / WAYS, slot as usize % WAYS);
        self.buckets[bucket].clear(way)
    }

    fn take_out(&self, queues: &mut Queues, bucket: usize, way: usize) -> Option<Arc<Entry>> {
        let gone = self.buckets[bucket].clear(way)?;
        queues.remove(slot(bucket, way), gone.units());
        Some(gone)
    }

    fn way(&self, slot: u32) -> &ArcSwapOption<Entry> {
        &self.buckets[slot as usize / WAYS].ways[slot as usize % WAYS]
    }
}

fn slot(bucket: usize, way: usize) -> u32 {
    u32::try_from(bucket * WAYS + way).expect("a partition has fewer slots")
}

fn look(entry: &Entry, change: Change) -> Seen {
    let uses = entry.uses();
    match change {
        Change::Clear => entry.set_uses(0),
        Change::Lower => entry.set_uses(uses.saturating_sub(1)),
    }
    Seen {
        uses,
        units: entry.units(),
        key_hash: key_hash(entry),
    }
}

/// The half of which the bucket takes the upper bits, and the ghosts the lower ones.
fn key_hash(entry: &Entry) -> u64 {
    entry.hash() as u64
}

impl Bucket {
    fn new() -> Bucket {
        Bucket {
            tags: AtomicU64::new(0),
            ways: array::from_fn(|_| ArcSwapOption::empty()),
        }
    }

    #[inline]
    fn find(&self, place: Place) -> Option<(usize, Guard<Option<Arc<Entry>>>)> {
        // Acquire: whoever sees a tag sees the entry.
        let mut found = zero_bytes(self.tags.load(Acquire) ^ (ONES * u64::from(place.tag)));
        while found != 0 {
            let way = found.trailing_zeros() as usize / 8;
            let entry = self.ways[way].load();
            let is_it = |entry: &Arc<Entry>| entry.hash() == place.hash;
            if entry.as_ref().is_some_and(is_it) {
                return Some((way, entry));
            }
            found &= found - 1;
        }
        None
    }

    fn free(&self) -> Option<usize> {
        // The lowest of them is never a false one.
        let free = zero_bytes(self.tags.load(Relaxed));
        (free != 0).then(|| free.trailing_zeros() as usize / 8)
    }

    fn least_used(&self) -> usize {
        let uses = |way: &usize| {
            let entry = self.ways[*way].load();
            entry.as_ref().map_or(0, |entry| entry.uses())
        };
        (0..WAYS).min_by_key(uses).expect("there are ways")
    }

    fn fill(&self, way: usize, tag: u8, entry: Arc<Entry>) {
        self.ways[way].store(Some(entry));
        self.set_tag(way, tag);
    }

    fn clear(&self, way: usize) -> Option<Arc<Entry>> {
        self.set_tag(way, 0);
        self.ways[way].swap(None)
    }

    /// Behind the lock of the partition, so nobody else writes.
    fn set_tag(&self, way: usize, tag: u8) {
        let mut tags = self.tags.load(Relaxed).to_le_bytes();
        tags[way] = tag;
        self.tags.store(u64::from_le_bytes(tags), Release);
    }
}

/// The high bit of each byte of a way that is 0, and perhaps of some above one.
fn zero_bytes(bytes: u64) -> u64 {
    bytes.wrapping_sub(ONES) & !bytes & HIGH_BITS
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::entry::{Account, Kind, Parts};
    use super::*;
    use crate::policy::cache::Terms;

    fn entry(hash: u128) -> Entry {
        let account = Arc::new(Account::new(1 << 20));
        let parts = Parts {
            hash,
            key: b"",
            head: b"",
            body: Bytes::new(),
            kind: Kind::Response,
            status: 200,
            terms: Terms {
                at: 0,
                age_s: 0,
                lifetime_s: 0,
                stale_while_revalidate_s: 0,
                stale_if_error_s: 0,
                must_revalidate: false,
                no_cache: false,
            },
        };
        Entry::new(parts, account.take(10).unwrap())
    }

    fn place(bucket: usize, tag: u8, hash: u128) -> Place {
        Place { bucket, tag, hash }
    }

    #[test]
    fn of_a_full_bucket_the_least_used_goes() {
        let partition = Partition::new(2, 100);
        let other = place(1, 1, u128::MAX);
        partition.put(other, entry(u128::MAX));
        let used = place(0, 7, 7);
        partition.put(used, entry(7));
        for hash in 1_000..2_000 {
            let place = place(0, (hash % 251) as u8 + 1, hash);
            partition.get(used).unwrap().touch();
            partition.put(place, entry(hash));
            assert!(partition.get(place).is_some());
        }
        assert!(partition.get(used).is_some() && partition.get(other).is_some());
        assert_eq!(partition.len(), 1 + WAYS as u64);
        assert_eq!(partition.evictions(), 1_001 - WAYS as u64);
        assert_eq!(partition.entries().count() as u64, partition.len());
    }

    /// Tags that are equal, or that a subtraction makes look equal, are still told apart.
    #[test]
    fn the_whole_hash_counts() {
        let partition = Partition::new(1, 100);
        let places = [
            (1, 10),
            (1, 11),
            (2, 12),
            (2, 13),
            (255, 14),
            (128, 15),
            (129, 16),
        ];
        let places = places.map(|(tag, hash)| place(0, tag, hash));
        for place in places {
            assert!(partition.get(place).is_none());
            partition.put(place, entry(place.hash));
        }
        for place in places {
            assert_eq!(partition.get(place).unwrap().hash(), place.hash);
        }
        for (at, place) in places.iter().enumerate() {
            assert!(partition.remove(*place, |_| true));
            let left = places
                .iter()
                .filter(|place| partition.get(**place).is_some());
            assert_eq!(left.count(), places.len() - at - 1);
        }
    }
}
