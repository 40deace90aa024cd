//! Traces of requests, and policies of eviction to hold ours against.
//!
//! Decides: nothing. May not know: what is measured. Invariant: objects are all of one size, and numbers below the size
//! of their universe.

#![allow(dead_code, reason = "each user takes what it needs")]

use std::collections::{BTreeMap, VecDeque};

use corelane::policy::cache::evict::{Change, Queues, Seen};

/// Xorshift.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// Requests for objects of which the n-th is asked for with a frequency of n to the power of minus `skew`.
pub(crate) struct Zipf {
    /// Of all up to this one.
    sums: Vec<f64>,
    random: Random,
}

impl Zipf {
    pub(crate) fn new(objects: u32, skew: f64, seed: u64) -> Zipf {
        let mut sum = 0.0;
        let sums = (1..=objects).map(|rank| {
            sum += f64::from(rank).powf(-skew);
            sum
        });
        Zipf {
            sums: sums.collect(),
            random: Random(seed),
        }
    }

    pub(crate) fn next(&mut self) -> u32 {
        let all = self.sums[self.sums.len() - 1];
        let at = (self.random.next() >> 11) as f64 / (1_u64 << 53) as f64 * all;
        let rank = self.sums.partition_point(|sum| *sum <= at);
        rank.min(self.sums.len() - 1) as u32
    }
}

pub(crate) trait Policy {
    /// It was there, and is now.
    fn request(&mut self, object: u32) -> bool;
}

/// The part of the requests of a trace that hit.
pub(crate) fn hit_rate(policy: &mut dyn Policy, trace: impl Iterator<Item = u32>) -> f64 {
    let (mut hits, mut all) = (0_u64, 0_u64);
    for object in trace {
        hits += u64::from(policy.request(object));
        all += 1;
    }
    hits as f64 / all as f64
}

/// What spreads numbers as a hash does.
pub(crate) fn scatter(number: u64) -> u64 {
    let number = (number ^ number >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ number >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ number >> 31
}

/// Our queues, and no more than they need.
pub(crate) struct Ours {
    queues: Queues,
    /// The slot of each object, plus one.
    slots: Vec<u32>,
    /// The object in each slot, and its uses.
    objects: Vec<(u32, u8)>,
    room: usize,
}

impl Ours {
    pub(crate) fn new(objects: u32, room: usize) -> Ours {
        Ours {
            queues: Queues::new(room),
            slots: vec![0; objects as usize],
            objects: Vec::new(),
            room,
        }
    }
}

impl Policy for Ours {
    fn request(&mut self, object: u32) -> bool {
        if let Some(slot) = self.slots[object as usize].checked_sub(1) {
            let (_, uses) = &mut self.objects[slot as usize];
            *uses = (*uses + 1).min(3);
            return true;
        }
        let slot = if self.objects.len() < self.room {
            self.objects.push((object, 0));
            self.objects.len() as u32 - 1
        } else {
            let objects = &mut self.objects;
            let slot = self.queues.evict(|slot, change| {
                let (object, uses) = &mut objects[slot as usize];
                let seen = Seen {
                    uses: *uses,
                    units: 1,
                    key_hash: scatter(u64::from(*object)),
                };
                *uses = match change {
                    Change::Clear => 0,
                    Change::Lower => uses.saturating_sub(1),
                };
                seen
            });
            let slot = slot.expect("a full cache has somebody who goes");
            let (gone, _) = std::mem::replace(&mut objects[slot as usize], (object, 0));
            self.slots[gone as usize] = 0;
            slot
        };
        self.slots[object as usize] = slot + 1;
        self.queues.admit(slot, scatter(u64::from(object)), 1);
        false
    }
}

/// S3-FIFO as the paper has it (algorithm 1), with three plain queues.
pub(crate) struct Textbook {
    small: VecDeque<u32>,
    main: VecDeque<u32>,
    ghost: VecDeque<(u32, u32)>,
    small_max: usize,
    main_max: usize,
    uses: Vec<Option<u8>>,
    /// When an object became a ghost the last time, if it still is one.
    ghosts: Vec<u32>,
    time: u32,
}

impl Textbook {
    pub(crate) fn new(objects: u32, room: usize) -> Textbook {
        Textbook {
            small: VecDeque::new(),
            main: VecDeque::new(),
            ghost: VecDeque::new(),
            small_max: room / 10,
            main_max: room - room / 10,
            uses: vec![None; objects as usize],
            ghosts: vec![0; objects as usize],
            time: 0,
        }
    }

    fn evict(&mut self) {
        if self.main.len() > self.main_max || self.small.is_empty() {
            self.evict_from_main();
        } else {
            self.evict_from_small();
        }
    }

    fn evict_from_small(&mut self) {
        while let Some(object) = self.small.pop_back() {
            if self.uses[object as usize] > Some(1) {
                self.uses[object as usize] = Some(0);
                self.main.push_front(object);
                continue;
            }
            self.uses[object as usize] = None;
            self.time += 1;
            self.ghosts[object as usize] = self.time;
            self.ghost.push_front((object, self.time));
            if self.ghost.len() > self.main_max
                && let Some((object, time)) = self.ghost.pop_back()
                && self.ghosts[object as usize] == time
            {
                self.ghosts[object as usize] = 0;
            }
            return;
        }
    }

    fn evict_from_main(&mut self) {
        while let Some(object) = self.main.pop_back() {
            match self.uses[object as usize] {
                Some(uses) if uses > 0 => {
                    self.uses[object as usize] = Some(uses - 1);
                    self.main.push_front(object);
                }
                _ => {
                    self.uses[object as usize] = None;
                    return;
                }
            }
        }
    }
}

impl Policy for Textbook {
    fn request(&mut self, object: u32) -> bool {
        if let Some(uses) = &mut self.uses[object as usize] {
            *uses = (*uses + 1).min(3);
            return true;
        }
        while self.small.len() + self.main.len() >= self.small_max + self.main_max {
            self.evict();
        }
        if std::mem::take(&mut self.ghosts[object as usize]) == 0 {
            self.small.push_front(object);
        } else {
            self.main.push_front(object);
        }
        self.uses[object as usize] = Some(0);
        false
    }
}

/// The least recently used goes.
pub(crate) struct Lru {
    /// When each object was used, plus one.
    used: Vec<u64>,
    order: BTreeMap<u64, u32>,
    time: u64,
    room: usize,
}

impl Lru {
    pub(crate) fn new(objects: u32, room: usize) -> Lru {
        Lru {
            used: vec![0; objects as usize],
            order: BTreeMap::new(),
            time: 0,
            room,
        }
    }
}

impl Policy for Lru {
    fn request(&mut self, object: u32) -> bool {
        self.time += 1;
        let before = std::mem::replace(&mut self.used[object as usize], self.time);
        let hit = self.order.remove(&before).is_some();
        self.order.insert(self.time, object);
        if self.order.len() > self.room
            && let Some((_, gone)) = self.order.pop_first()
        {
            self.used[gone as usize] = 0;
        }
        hit
    }
}
