//! S3-FIFO: who goes when there is no room (Yang et al., SOSP 2023).
//!
//! Decides: the order. May not know: what is stored, or who reads it meanwhile. Invariant: one scan over things that are
//! asked for once does not push out those that are asked for again. A slot is in one queue or in none.
//!
//! What is new goes to the small queue, a tenth of all. What has been used twice when it comes to the end of that queue
//! goes on to the main one; all else goes, and leaves its fingerprint among the ghosts. What comes again while its ghost
//! is still there goes to the main queue at once. There, each use is worth one more round.
//!
//! The queues are lists through an array of links, so that what is removed or replaced is out of them at once. Whoever
//! has the slots knows the rest: how often each was used, its units (of whatever is short), its hash.

/// The small queue's part of all units is one of so many.
const SMALL_PART: u64 = 10;

/// Uses in the small queue with which a slot goes on.
const USES_MIN: u8 = 2;

/// Slots that one eviction looks at, about 20 µs. If all have been used, it is a good cache, and any of them may go.
const LOOKS_MAX: u32 = 256;

/// What is known of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Up to 3, before the change.
    pub uses: u8,
    pub units: u32,
    pub key_hash: u64,
}

/// What becomes of the uses of a slot that is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Clear,
    /// By one, if there is one.
    Lower,
}

/// Slots in the order in which they go.
#[derive(Debug)]
pub struct Queues {
    /// Of each slot, the numbers of the next newer and the next older one in its queue.
    links: Box<[[u32; 2]]>,
    /// A bit for each slot: it is in the main queue.
    mains: Box<[u64]>,
    small: Queue,
    main: Queue,
    ghosts: Ghosts,
}

/// Slots stand in links as their number plus one; 0 is none.
#[derive(Debug, Default)]
struct Queue {
    newest: u32,
    oldest: u32,
    len: u32,
    units: u64,
}

const NEWER: usize = 0;
const OLDER: usize = 1;

impl Queues {
    /// For slots below `slots`. Pages without a slot in use take no memory.
    pub fn new(slots: usize) -> Queues {
        Queues {
            links: bytemuck::zeroed_slice_box(slots),
            mains: bytemuck::zeroed_slice_box(slots.div_ceil(64)),
            small: Queue::default(),
            main: Queue::default(),
            ghosts: Ghosts::default(),
        }
    }

    pub fn len(&self) -> u32 {
        self.small.len + self.main.len
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn units(&self) -> u64 {
        self.small.units + self.main.units
    }

    /// A slot that was in no queue.
    pub fn admit(&mut self, slot: u32, key_hash: u64, units: u32) {
        let room = self.ghosts_max();
        let is_main = self.ghosts.take(key_hash, room);
        self.push(slot, units, is_main);
    }

    /// The slot has other units now. It keeps its place.
    pub fn resize(&mut self, slot: u32, from_units: u32, to_units: u32) {
        let queue = self.queue_of(slot);
        queue.units = queue.units - u64::from(from_units) + u64::from(to_units);
    }

    /// The slot is in no queue any more.
    pub fn remove(&mut self, slot: u32, units: u32) {
        let [newer, older] = self.links[slot as usize];
        let queue = self.queue_of(slot);
        debug_assert!(queue.len > 0 && queue.units >= u64::from(units));
        queue.len -= 1;
        queue.units -= u64::from(units);
        if newer == 0 {
            debug_assert_eq!(queue.newest, slot + 1, "the slot is in its queue");
            queue.newest = older;
        }
        if older == 0 {
            debug_assert_eq!(queue.oldest, slot + 1, "the slot is in its queue");
            queue.oldest = newer;
        }
        if newer != 0 {
            self.links[newer as usize - 1][OLDER] = older;
        }
        if older != 0 {
            self.links[older as usize - 1][NEWER] = newer;
        }
    }

    /// Takes out the slot that goes next. `look` tells of a slot, and changes its uses.
    pub fn evict(&mut self, mut look: impl FnMut(u32, Change) -> Seen) -> Option<u32> {
        for count in 1..=LOOKS_MAX {
            let is_small = self.is_small_next();
            let queue = if is_small { &self.small } else { &self.main };
            let slot = queue.oldest.checked_sub(1)?;
            let change = if is_small {
                Change::Clear
            } else {
                Change::Lower
            };
            let seen = look(slot, change);
            let goes_on = match change {
                Change::Clear => seen.uses >= USES_MIN,
                Change::Lower => seen.uses > 0,
            };
            self.remove(slot, seen.units);
            if !goes_on || count == LOOKS_MAX {
                if is_small {
                    let room = self.ghosts_max();
                    self.ghosts.push(seen.key_hash, room);
                }
                return Some(slot);
            }
            self.push(slot, seen.units, true);
        }
        None
    }

    fn is_small_next(&self) -> bool {
        let is_large = self.small.units * SMALL_PART >= self.units();
        self.small.len > 0 && (is_large || self.main.len == 0)
    }

    /// As many as the main queue holds when it has its part.
    fn ghosts_max(&self) -> usize {
        let len = self.len() as usize;
        len - len / SMALL_PART as usize
    }

    fn push(&mut self, slot: u32, units: u32, is_main: bool) {
        let bit = 1 << (slot % 64);
        let word = &mut self.mains[slot as usize / 64];
        *word = if is_main { *word | bit } else { *word & !bit };
        let queue = self.queue_of(slot);
        let older = queue.newest;
        queue.len += 1;
        queue.units += u64::from(units);
        queue.newest = slot + 1;
        if older == 0 {
            queue.oldest = slot + 1;
        }
        self.links[slot as usize] = [0, older];
        if older != 0 {
            self.links[older as usize - 1][NEWER] = slot + 1;
        }
    }

    fn queue_of(&mut self, slot: u32) -> &mut Queue {
        let is_main = self.mains[slot as usize / 64] >> (slot % 64) & 1 != 0;
        if is_main {
            &mut self.main
        } else {
            &mut self.small
        }
    }
}

/// Fingerprints in a set: a line of the cache, the newest in front.
const SET_GHOSTS: usize = 16;

/// The last that went. A fingerprint chooses its set, so one list becomes many short ones of about the same age.
#[derive(Debug, Default)]
struct Ghosts {
    /// A power of two, or none.
    sets: Vec<[u32; SET_GHOSTS]>,
}

impl Ghosts {
    /// It was there, among about `room` that came last, and is not any more.
    fn take(&mut self, key_hash: u64, room: usize) -> bool {
        let newest = self.newest(room);
        let print = print(key_hash);
        let Some(set) = self.set(print) else {
            return false;
        };
        let Some(at) = set[..newest].iter().position(|ghost| *ghost == print) else {
            return false;
        };
        set.copy_within(at + 1.., at);
        set[SET_GHOSTS - 1] = 0;
        true
    }

    fn push(&mut self, key_hash: u64, room: usize) {
        self.grow(room);
        let print = print(key_hash);
        if let Some(set) = self.set(print) {
            set.copy_within(..SET_GHOSTS - 1, 1);
            set[0] = print;
        }
    }

    fn set(&mut self, print: u32) -> Option<&mut [u32; SET_GHOSTS]> {
        let mask = self.sets.len().checked_sub(1)?;
        self.sets.get_mut(print as usize & mask)
    }

    /// How many of each set count.
    fn newest(&self, room: usize) -> usize {
        let newest = room.div_ceil(self.sets.len().max(1));
        newest.min(SET_GHOSTS)
    }

    /// Twice as many sets, each with those of its half that it chooses.
    fn grow(&mut self, room: usize) {
        if self.sets.is_empty() {
            self.sets.push([0; SET_GHOSTS]);
        }
        while self.sets.len() * SET_GHOSTS < room {
            let bit = self.sets.len() as u32;
            let half = |set: &[u32; SET_GHOSTS], upper: bool| {
                let mut half = [0; SET_GHOSTS];
                let ours = set.iter().filter(|print| (**print & bit != 0) == upper);
                for (to, print) in half.iter_mut().zip(ours) {
                    *to = *print;
                }
                half
            };
            let uppers: Vec<_> = self.sets.iter().map(|set| half(set, true)).collect();
            for set in &mut self.sets {
                *set = half(set, false);
            }
            self.sets.reserve_exact(uppers.len());
            self.sets.extend(uppers);
        }
    }
}

/// Never 0, which is none.
fn print(key_hash: u64) -> u32 {
    (key_hash as u32).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Xorshift.
    struct Random(u64);

    impl Random {
        fn below(&mut self, n: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 % n
        }
    }

    /// Slots with what is known of each, if it is in use.
    struct Slots(Vec<Option<Seen>>);

    impl Slots {
        fn look(&mut self, slot: u32, change: Change) -> Seen {
            let seen = self.0[slot as usize].as_mut().unwrap();
            let before = *seen;
            seen.uses = match change {
                Change::Clear => 0,
                Change::Lower => seen.uses.saturating_sub(1),
            };
            before
        }

        fn used(&self) -> Vec<u32> {
            let slots = self.0.iter().enumerate();
            let used = slots.filter(|(_, seen)| seen.is_some());
            used.map(|(slot, _)| slot as u32).collect()
        }
    }

    fn seen(units: u32, key_hash: u64) -> Option<Seen> {
        Some(Seen {
            uses: 0,
            units,
            key_hash,
        })
    }

    /// From the oldest to the newest, and the same backwards.
    fn list(queues: &Queues, queue: &Queue) -> Vec<u32> {
        let walk = |from: u32, link: usize| {
            let mut slots = Vec::new();
            let mut next = from;
            while let Some(slot) = next.checked_sub(1) {
                slots.push(slot);
                assert!(slots.len() <= queues.links.len(), "a ring");
                next = queues.links[slot as usize][link];
            }
            slots
        };
        let slots = walk(queue.oldest, NEWER);
        let mut backwards = walk(queue.newest, OLDER);
        backwards.reverse();
        assert_eq!(slots, backwards);
        slots
    }

    /// Each slot in use is in one queue, once, and what the queues count is what is in them.
    fn check(queues: &Queues, slots: &Slots) {
        let mut all = Vec::new();
        for queue in [&queues.small, &queues.main] {
            let list = list(queues, queue);
            let units = list
                .iter()
                .map(|slot| slots.0[*slot as usize].unwrap().units);
            assert_eq!(units.map(u64::from).sum::<u64>(), queue.units);
            assert_eq!(list.len(), queue.len as usize);
            all.extend(list);
        }
        all.sort_unstable();
        assert_eq!(all, slots.used());
    }

    #[test]
    fn no_slot_is_lost_or_doubled_whatever_happens() {
        for seed in 1..=20 {
            let mut random = Random(seed);
            let count = 1 + random.below(200);
            let mut queues = Queues::new(count as usize);
            let mut slots = Slots(vec![None; count as usize]);
            for _ in 0..3_000 {
                let slot = random.below(count) as u32;
                let units = random.below(1_000) as u32;
                let entry = &mut slots.0[slot as usize];
                match (random.below(8), entry) {
                    (0, Some(known)) => {
                        queues.remove(slot, known.units);
                        slots.0[slot as usize] = None;
                    }
                    (1, Some(known)) => {
                        queues.resize(slot, known.units, units);
                        known.units = units;
                    }
                    (2, _) => {
                        let gone = queues.evict(|slot, change| slots.look(slot, change));
                        assert_eq!(gone.is_none(), slots.used().is_empty());
                        if let Some(slot) = gone {
                            slots.0[slot as usize] = None;
                        }
                    }
                    (_, Some(known)) => known.uses = (known.uses + 1).min(3),
                    (_, entry @ None) => {
                        let key_hash = random.below(500) * 0x9E37_79B9;
                        *entry = seen(units, key_hash);
                        queues.admit(slot, key_hash, units);
                    }
                }
                check(&queues, &slots);
            }
        }
    }

    #[test]
    fn what_is_used_twice_stays_and_what_comes_again_is_believed() {
        let mut queues = Queues::new(16);
        let mut slots = Slots(vec![None; 16]);
        for slot in 0..10 {
            queues.admit(slot, u64::from(slot), 1);
            slots.0[slot as usize] = seen(1, u64::from(slot));
        }
        // Uses of the oldest: two, one, none.
        slots.0[0].as_mut().unwrap().uses = 2;
        slots.0[1].as_mut().unwrap().uses = 1;
        let mut evict = |queues: &mut Queues| {
            let slot = queues.evict(|slot, change| slots.look(slot, change));
            slot.inspect(|slot| slots.0[*slot as usize] = None)
        };
        assert_eq!(evict(&mut queues), Some(1));
        assert_eq!(list(&queues, &queues.main), [0]);
        assert_eq!(evict(&mut queues), Some(2));
        assert_eq!(list(&queues, &queues.small), [3, 4, 5, 6, 7, 8, 9]);
        // The ghost of 2, in another slot; and somebody new.
        queues.admit(12, 2, 1);
        queues.admit(13, 100, 1);
        assert_eq!(list(&queues, &queues.main), [0, 12]);
        assert_eq!(list(&queues, &queues.small), [3, 4, 5, 6, 7, 8, 9, 13]);
        // A ghost is believed once.
        queues.admit(14, 2, 1);
        assert_eq!(list(&queues, &queues.main), [0, 12]);
    }

    #[test]
    fn the_small_queue_has_a_tenth_of_the_units() {
        let mut queues = Queues::new(64);
        let mut slots = Slots(vec![None; 64]);
        for slot in 0..64 {
            queues.admit(slot, u64::from(slot), 10);
            slots.0[slot as usize] = seen(10, u64::from(slot));
            slots.0[slot as usize].as_mut().unwrap().uses = 3;
        }
        // All go on until there is only a tenth left; then uses are spent, and the oldest is the first without any.
        let gone = queues.evict(|slot, change| slots.look(slot, change));
        assert_eq!((gone, queues.small.len, queues.main.len), (Some(0), 6, 57));
    }

    #[test]
    fn an_eviction_looks_at_a_bounded_number_of_slots() {
        let mut queues = Queues::new(10_000);
        (0..10_000).for_each(|slot| queues.admit(slot, u64::from(slot), 1));
        for _ in 0..100 {
            let mut looks = 0;
            let gone = queues.evict(|slot, _| {
                looks += 1;
                Seen {
                    uses: 3,
                    units: 1,
                    key_hash: u64::from(slot),
                }
            });
            assert!(gone.is_some());
            assert_eq!(looks, LOOKS_MAX);
        }
    }

    #[test]
    fn as_many_ghosts_are_remembered_as_there_is_room_for() {
        let mut random = Random(9);
        let mut ghosts = Ghosts::default();
        let room = 1_000;
        let hashes: Vec<u64> = (0..20_000).map(|_| random.below(u64::MAX)).collect();
        for hash in &hashes {
            ghosts.push(*hash, room);
        }
        // The order is exact within a set only.
        let (old, new) = hashes.split_at(hashes.len() - 2 * room);
        let kept = |hashes: &[u64], ghosts: &mut Ghosts| {
            hashes
                .iter()
                .filter(|hash| ghosts.take(**hash, room))
                .count()
        };
        assert!(kept(old, &mut ghosts) < 10);
        assert!((950..1_050).contains(&kept(new, &mut ghosts)));
        assert_eq!(kept(&hashes, &mut ghosts), 0);
        assert_eq!(ghosts.sets.len() * SET_GHOSTS, 1_024);
    }

    #[test]
    fn ghosts_stay_when_there_is_more_room() {
        let mut ghosts = Ghosts::default();
        let hashes: Vec<u64> = (1_u64..=8)
            .map(|hash| hash.wrapping_mul(0x9E37_79B9_7F4A_7C15))
            .collect();
        for (hash, room) in hashes.iter().zip([1, 2, 4, 8, 100, 1_000, 10_000, 10_000]) {
            ghosts.push(*hash, room);
        }
        assert!(hashes.iter().all(|hash| ghosts.take(*hash, 10_000)));
    }
}
