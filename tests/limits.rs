//! Rate limits as promises of the process: whichever shards a client's requests come to, and however many keys there are.
//!
//! Decides nothing. Shards are turns of a seeded random order, which can be repeated, or real threads, which cannot; what
//! must hold does not depend on who was faster.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of a test may fail as the test itself may"
)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Barrier, Mutex};

use corelane::policy::Nanos;
use corelane::policy::limit::{Counts, Decision, Entered, Hasher, Leases, Quota, Seed, Table};

const US: Nanos = 1_000;
const MS: Nanos = 1_000 * US;
const S: Nanos = 1_000 * MS;
const TICK_NS: Nanos = 20 * MS;

fn quota(interval_ns: Nanos, burst: u32) -> Quota {
    Quota {
        interval_ns,
        burst,
        period_ns: S,
        requests: 1,
    }
}

fn key(number: u64) -> u64 {
    let hasher = Hasher::new(Seed(1, 2));
    hasher.bytes(&number.to_le_bytes()).finish()
}

fn is_admitted(decision: Decision) -> bool {
    matches!(decision, Decision::Admitted { .. })
}

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

/// All threads begin together; each gets its number and random numbers of its own.
fn together(threads: usize, work: impl Fn(usize, &mut Random) + Sync) {
    let barrier = Barrier::new(threads);
    std::thread::scope(|scope| {
        for number in 0..threads {
            let (barrier, work) = (&barrier, &work);
            scope.spawn(move || {
                let mut random = Random(number as u64 + 1);
                barrier.wait();
                work(number, &mut random);
            });
        }
    });
}

/// One exact counter per key, that everybody asks in turn: numbers of any size, nothing rounded.
struct Oracle {
    quota: Quota,
    full_at: BTreeMap<u64, u128>,
}

impl Oracle {
    fn take(&mut self, key: u64, now: Nanos) -> bool {
        let (now, interval) = (u128::from(now), u128::from(self.quota.interval_ns));
        let full_at = self.full_at.entry(key).or_default();
        if *full_at + interval > now + interval * u128::from(self.quota.burst) {
            return false;
        }
        *full_at = now.max(*full_at) + interval;
        true
    }
}

/// By how many requests the worst of all windows, of those from any request to any later one, exceeds its burst and its
/// time.
fn excess(quota: &Quota, times: &mut [Nanos]) -> i128 {
    times.sort_unstable();
    let interval = i128::from(quota.interval_ns);
    let (mut least, mut worst) = (i128::MAX, 0);
    for (count, at) in (0..).zip(times) {
        let level = count * interval - i128::from(*at);
        least = least.min(level);
        // The window holds one more than the counts at its ends differ by.
        worst = worst.max(level - least + interval);
    }
    let burst = interval * i128::from(quota.burst);
    (worst - burst + interval - 1).div_euclid(interval)
}

#[test]
fn an_excess_is_found() {
    let quota = quota(100, 2);
    for (times, expected) in [
        (vec![0, 0], 0),
        (vec![0, 0, 0], 1),
        (vec![0, 0, 99], 1),
        (vec![0, 0, 100, 200], 0),
        (vec![1_000, 0, 0, 1_000, 1_099, 1_000], 2),
        (vec![0], -1),
    ] {
        assert_eq!(excess(&quota, &mut times.clone()), expected, "{times:?}");
    }
}

const SHARDS: [usize; 4] = [1, 2, 8, 64];
const SEEDS: u64 = 10;
const KEYS: u64 = 4;

/// Shards that ask in a random order, each by its own clock.
struct World {
    table: Table,
    quota: Quota,
    /// Of each shard, when it takes ahead.
    leases: Vec<Leases>,
    random: Random,
    clock: Nanos,
    /// How far each shard's clock is behind.
    behind: Vec<Nanos>,
    admitted: Vec<Vec<Nanos>>,
    oracle: Oracle,
    asked_oracle: u64,
}

impl World {
    fn new(seed: u64, shards: usize, quota: Quota, lease: Option<u32>, behind_max: Nanos) -> World {
        let table = Table::new(&quota, 1_024, shards as u32);
        let mut random = Random(seed);
        World {
            leases: lease.map_or_else(Vec::new, |lease| {
                let leases = |_| Leases::new(&table, lease, shards as u32);
                (0..shards).map(leases).collect()
            }),
            behind: (0..shards).map(|_| random.below(behind_max + 1)).collect(),
            table,
            quota,
            random,
            clock: S,
            admitted: vec![Vec::new(); KEYS as usize],
            oracle: Oracle {
                quota,
                full_at: BTreeMap::new(),
            },
            asked_oracle: 0,
        }
    }

    /// One request at a shard; what the oracle says, beside what the shard says.
    fn ask(&mut self, shard: usize, number: u64) -> (bool, Decision) {
        let now = self.clock - self.behind[shard];
        let decision = match self.leases.get_mut(shard) {
            Some(leases) => leases.take(&self.table, key(number), now),
            None => self.table.take(key(number), now),
        };
        if is_admitted(decision) {
            self.admitted[number as usize].push(now);
        }
        let expected = self.oracle.take(number, now);
        self.asked_oracle += u64::from(expected);
        (expected, decision)
    }

    fn tick(&mut self) {
        for shard in 0..self.behind.len() {
            let now = self.clock - self.behind[shard];
            self.table.sweep(now);
            if let Some(leases) = self.leases.get_mut(shard) {
                leases.expire(&self.table, now);
            }
        }
    }

    /// Clients that want more than they get, for `rounds` ticks, spread over shards as it comes: over all, over one, one
    /// after the other.
    fn run(&mut self, rounds: u64, mut each: impl FnMut(bool, Decision)) {
        let shards = self.behind.len() as u64;
        for round in 0..rounds {
            let (first, spread) = (self.random.below(shards), 1 + self.random.below(shards));
            let requests = 4 * TICK_NS / self.quota.interval_ns * KEYS;
            for _ in 0..requests {
                self.clock += self.random.below(2 * TICK_NS / requests);
                let shard = (first + self.random.below(spread)) % shards;
                let number = self.random.below(KEYS);
                let (expected, decision) = self.ask(shard as usize, number);
                each(expected, decision);
            }
            self.tick();
            // Now and then they are silent, for so long that buckets are forgotten or leases go back.
            if round % 64 == 63 {
                self.clock += self.random.below(S);
                self.tick();
            }
        }
    }

    fn worst(&mut self) -> i128 {
        let quota = self.quota;
        let admitted = self.admitted.iter_mut();
        admitted.map(|times| excess(&quota, times)).max().unwrap()
    }

    fn count(&self) -> u64 {
        self.admitted.iter().map(Vec::len).sum::<usize>() as u64
    }
}

fn seeds() -> impl Iterator<Item = (usize, u64)> {
    let seeds = |shards| (1..=SEEDS).map(move |seed| (shards, seed));
    SHARDS.into_iter().flat_map(seeds)
}

#[test]
fn over_all_shards_a_client_gets_what_one_counter_gives() {
    for (shards, seed) in seeds() {
        let mut world = World::new(seed, shards, quota(MS, 20), None, 0);
        world.run(200, |expected, decision| {
            assert_eq!(
                is_admitted(decision),
                expected,
                "{shards} shards, seed {seed}"
            );
        });
        assert!(world.worst() <= 0 && world.count() > 10_000);
    }
}

#[test]
fn clocks_that_differ_give_nobody_more() {
    for (shards, seed) in seeds() {
        let mut world = World::new(seed, shards, quota(MS, 20), None, 100 * MS);
        world.run(200, |_, _| {});
        let worst = world.worst();
        assert!(worst <= 0, "{worst} too many, {shards} shards, seed {seed}");
        assert!(world.count() > 1_000);
    }
}

#[test]
fn with_leases_a_client_gets_at_most_what_shards_hold_more() {
    for (shards, seed) in seeds() {
        let lease = 8;
        let mut world = World::new(seed, shards, quota(MS, 1_024), Some(lease), 10 * MS);
        world.run(150, |_, _| {});
        let bound = shards as i128 * i128::from(lease);
        let worst = world.worst();
        assert!(
            worst <= bound,
            "{worst} too many, {shards} shards, seed {seed}"
        );
        let (count, exact) = (world.count(), world.asked_oracle);
        assert!(
            count * 100 >= exact * 98,
            "{count} of {exact}, {shards} shards, seed {seed}"
        );
    }
}

/// Threads that ask as often as they can, each time a little later by a clock that they share.
#[test]
fn threads_together_get_a_burst_and_the_rate() {
    for threads in [2, 4, 8] {
        let quota = quota(US, 50);
        let table = Table::new(&quota, 1_024, threads as u32);
        let (clock, admitted) = (AtomicU64::new(S), AtomicU64::new(1));
        assert!(is_admitted(table.take(key(0), S)));
        together(threads, |_, random| {
            for _ in 0..20_000 {
                let now = clock.fetch_add(random.below(40), Relaxed);
                let count = is_admitted(table.take(key(0), now));
                admitted.fetch_add(u64::from(count), Relaxed);
            }
        });
        let end = clock.load(Relaxed);
        let rest = (0..)
            .take_while(|_| is_admitted(table.take(key(0), end)))
            .count() as u64;
        let expected = u64::from(quota.burst) + (end - S) / quota.interval_ns;
        assert_eq!(admitted.load(Relaxed) + rest, expected, "{threads} threads");
    }
}

#[test]
fn threads_that_bring_the_same_new_keys_give_each_one_burst() {
    const BURST: u32 = 3;
    for round in 0..20 {
        let keys = 200;
        let table = Table::new(&quota(S, BURST), 1_024, 1);
        let admitted: Vec<AtomicU32> = (0..keys).map(|_| AtomicU32::new(0)).collect();
        let take = |number: usize| {
            let decision = table.take(key(round * 1_000 + number as u64), S);
            admitted[number].fetch_add(u32::from(is_admitted(decision)), Relaxed);
        };
        together(8, |_, _| {
            for number in 0..keys {
                (0..2).for_each(|_| take(number));
            }
        });
        // Who came while another was suspended in the middle of an insertion was refused.
        (0..keys).for_each(|number| (0..BURST).for_each(|_| take(number)));
        for (number, admitted) in admitted.iter().enumerate() {
            assert_eq!(admitted.load(Relaxed), BURST, "key {number}");
        }
    }
}

/// Cells change keys under the hands of those who charge them: in each 300 ms other keys are asked for, and there is
/// never room for all.
#[test]
fn threads_that_compete_for_room_give_no_window_too_much() {
    /// A bucket is forgotten when it has been full for so long.
    const GRACE_NS: Nanos = 1 << 27;
    let (quota, threads) = (quota(10 * US, 2), 8);
    let table = Table::new(&quota, 8, 1);
    let (clock, worst_behind) = (AtomicU64::new(S), AtomicU64::new(0));
    let admitted: Vec<_> = (0..40).map(|_| Mutex::new(Vec::new())).collect();
    together(threads, |_, random| {
        for _ in 0..40_000 {
            let now = clock.fetch_add(random.below(20 * US), Relaxed);
            let number = now / (300 * MS) * 10 + random.below(20);
            let number = (number % admitted.len() as u64) as usize;
            if is_admitted(table.take(key(number as u64), now)) {
                admitted[number].lock().unwrap().push(now);
            }
            if random.below(100) == 0 {
                table.sweep(now);
            }
            let behind = clock.load(Relaxed) - now;
            worst_behind.fetch_max(behind, Relaxed);
        }
    });
    // A thread that was suspended for longer brings a time at which what it finds no more was not full.
    let beyond = worst_behind.into_inner().saturating_sub(GRACE_NS);
    let bound = i128::from(beyond.div_ceil(quota.interval_ns)) * threads as i128;
    let mut served = 0;
    for times in admitted {
        let mut times = times.into_inner().unwrap();
        served += u32::from(!times.is_empty());
        let worst = excess(&quota, &mut times);
        assert!(worst <= bound, "{worst} too many, {beyond} ns behind");
    }
    assert!(served > 20, "{served} had room for a while");
}

#[test]
fn threads_with_leases_keep_the_bound() {
    let (threads, lease) = (8, 8);
    let quota = quota(US, 1_000);
    let table = Table::new(&quota, 1_024, threads as u32);
    let (clock, admitted) = (AtomicU64::new(S), AtomicU64::new(0));
    together(threads, |_, random| {
        let mut leases = Leases::new(&table, lease, threads as u32);
        for turn in 0..20_000 {
            let now = clock.fetch_add(random.below(40), Relaxed);
            let count = is_admitted(leases.take(&table, key(0), now));
            admitted.fetch_add(u64::from(count), Relaxed);
            if turn % 100 == 0 {
                leases.expire(&table, now);
            }
        }
    });
    let should = u64::from(quota.burst) + (clock.load(Relaxed) - S) / quota.interval_ns;
    let bound = threads as u64 * u64::from(lease);
    let found = admitted.load(Relaxed);
    assert!(found <= should + bound, "{found} of {should}");
    assert!(found + bound >= should * 98 / 100, "{found} of {should}");
}

#[test]
fn threads_count_what_is_under_way() {
    const MOST: u32 = 3;
    let counts = Counts::new(64);
    let inside: Vec<AtomicU32> = (0..50).map(|_| AtomicU32::new(0)).collect();
    let entered = AtomicU32::new(0);
    together(8, |_, random| {
        let mut held = Vec::new();
        for _ in 0..20_000 {
            let number = random.below(50) as usize;
            if held.len() < 4 && counts.enter(key(number as u64), MOST) == Entered::Yes {
                entered.fetch_add(1, Relaxed);
                assert!(inside[number].fetch_add(1, Relaxed) < MOST);
                held.push(number);
            } else if !held.is_empty() {
                let number = held.swap_remove(random.below(held.len() as u64) as usize);
                inside[number].fetch_sub(1, Relaxed);
                counts.leave(key(number as u64));
            }
        }
        held.iter().for_each(|number| {
            inside[*number].fetch_sub(1, Relaxed);
            counts.leave(key(*number as u64));
        });
    });
    assert!(entered.load(Relaxed) > 1_000);
    // Nothing is left of anybody.
    for number in 0..50 {
        for expected in [Entered::Yes, Entered::TooMany] {
            assert_eq!(counts.enter(key(number), 1), expected, "{number}");
        }
    }
}
