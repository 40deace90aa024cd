//! What all shards share, under real threads: no count is lost, no limit is passed, each change is told once.
//!
//! Decides nothing. Each test is a number of rounds of a few threads that do as much as they can at once; what must hold
//! after each round does not depend on who was faster.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of a test may fail as the test itself may"
)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Barrier, Mutex};

use corelane::backends::{Backends, Change, Why};
use corelane::config::plan::{Nanos, Plan};
use corelane::config::{self, Source};
use corelane::metrics::ShardMetrics;
use corelane::policy::health::{Event, Mode, Standing, Traffic, Trial};
use corelane::policy::retry::Cause;
use corelane::policy::{BackendId, ClusterId, RouteId};
use corelane::shared::Shared;

const THREADS: usize = 8;
const S: Nanos = 1_000_000_000;

fn plan(text: &str) -> Arc<Plan> {
    let backends = "backends = [\"http://10.0.0.1:1\", \"http://10.0.0.2:1\", \
                    \"http://10.0.0.3:1\", \"http://10.0.0.4:1\"]\n";
    let loaded = config::load(Source::of("test", &format!("{backends}{text}")));
    let (_, plan) = loaded.unwrap_or_else(|problems| panic!("{problems}"));
    Arc::new(plan)
}

const ALL: [BackendId; 4] = [BackendId(0), BackendId(1), BackendId(2), BackendId(3)];

/// All threads begin together; each gets its number and random numbers of its own.
fn together(work: impl Fn(usize, &mut Random) + Sync) {
    let barrier = Barrier::new(THREADS);
    std::thread::scope(|scope| {
        for number in 0..THREADS {
            let (barrier, work) = (&barrier, &work);
            scope.spawn(move || {
                let mut random = Random(number as u64 + 1);
                barrier.wait();
                work(number, &mut random);
            });
        }
    });
}

/// Xorshift: which of several things a thread does next.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

fn of(backends: &Backends, standing: Standing) -> usize {
    let has = |id: &&BackendId| backends.word(**id).standing() == standing;
    ALL.iter().filter(has).count()
}

fn elapse(backends: &Backends, now: Nanos) {
    for id in ALL {
        backends.apply(id, Event::Elapsed, now, || Why::Time);
    }
}

/// As many changes lead to each standing as away from it, but for the first and the last one.
fn told_once(backends: &Backends, changes: &Receiver<Change>) -> usize {
    let mut balance: BTreeMap<(u32, &str), i64> = BTreeMap::new();
    let mut count = 0;
    for change in changes.try_iter() {
        let (from, to) = (change.before.standing(), change.after.standing());
        if from != to {
            count += 1;
            *balance.entry((change.backend.0, from.name())).or_default() -= 1;
            *balance.entry((change.backend.0, to.name())).or_default() += 1;
        }
    }
    for id in ALL {
        *balance
            .entry((id.0, Standing::Available.name()))
            .or_default() += 1;
        let last = backends.word(id).standing().name();
        *balance.entry((id.0, last)).or_default() -= 1;
    }
    let uneven: Vec<_> = balance.iter().filter(|(_, left)| **left != 0).collect();
    assert!(uneven.is_empty(), "{uneven:?}");
    count
}

#[test]
fn no_more_are_ejected_than_the_share() {
    for errors in [1, 3] {
        let plan = plan(&format!(
            "[passive_health]\nerrors = {errors}\nshare = 50\nejection = \"1s\"\nejection_max = \"1s\""
        ));
        let (backends, changes) = Backends::new(plan);
        for round in 1..200 {
            let now = round * 10 * S;
            together(|number, random| {
                for _ in 0..20 {
                    let id = ALL[random.below(4) as usize];
                    match random.below(8) {
                        0 => backends.passed(id, None, || now),
                        // Late answers and time come in between.
                        1 => elapse(&backends, now - 5 * S),
                        _ => backends.failed(id, Cause::Closed, None, now, || (0, 0)),
                    }
                    let word = backends.word(ALL[number % 4]);
                    assert_eq!(word.traffic() == Traffic::Ejected, !word.is_available());
                }
            });
            assert!(of(&backends, Standing::Ejected) <= 2, "round {round}");
            // Whatever has happened, two may be out, and no more.
            for id in ALL {
                for _ in 0..errors {
                    backends.failed(id, Cause::Closed, None, now, || (0, 0));
                }
            }
            assert_eq!(of(&backends, Standing::Ejected), 2, "round {round}");
            together(|_, _| elapse(&backends, now + 5 * S));
            assert_eq!(of(&backends, Standing::Available), 4, "round {round}");
            let told = told_once_more(&changes);
            assert!(told >= 4, "{told} changes in round {round}");
        }
        told_once(&backends, &changes);
    }
}

/// All is as it was at the start, so the changes of this round lead back to it.
fn told_once_more(changes: &Receiver<Change>) -> usize {
    let mut balance: BTreeMap<u32, i64> = BTreeMap::new();
    let mut count = 0;
    for change in changes.try_iter() {
        let (from, to) = (change.before.standing(), change.after.standing());
        match (from, to) {
            (Standing::Available, Standing::Ejected) => {
                *balance.entry(change.backend.0).or_default() += 1
            }
            (Standing::Ejected, Standing::Available) => {
                *balance.entry(change.backend.0).or_default() -= 1
            }
            (from, to) if from == to => continue,
            (from, to) => panic!("{from:?} to {to:?}"),
        }
        count += 1;
    }
    assert!(balance.values().all(|left| *left == 0), "{balance:?}");
    count
}

const BREAKER: &str = "[passive_health]\nerrors = 0\non = []\n\
     [circuit_breaker]\nenabled = true\non = [\"5xx\"]\nvolume = 10\ntrials = 7\nopen = \"1s\"\nopen_max = \"1s\"";
const TRIALS: u64 = 7;

fn half_open(backends: &Backends, id: BackendId, now: Nanos) {
    backends.apply(id, Event::Trip, now, || Why::Request(Cause::Closed));
    backends.apply(id, Event::Elapsed, now + 5 * S, || Why::Time);
    assert_eq!(backends.word(id).standing(), Standing::HalfOpen);
}

/// Takes as many trials as there are, while those of the half-open time before come to their end.
fn all_trials(backends: &Backends, id: BackendId, now: Nanos, before: &[Trial]) -> Vec<Trial> {
    let trials = Mutex::new(Vec::new());
    together(|number, random| {
        for _ in 0..40 {
            let ended = before.get(number).copied();
            match (ended, random.below(3)) {
                (None, _) => {}
                (Some(trial), 0) => backends.trial_ended(id, trial, now),
                (ended, 1) => backends.passed(id, ended, || now),
                (ended, _) => backends.failed(id, Cause::Status(500), ended, now, || (0, 0)),
            }
            backends.passed(id, None, || now);
            trials.lock().unwrap().extend(backends.admit(id, now));
        }
    });
    let trials = trials.into_inner().unwrap();
    assert_eq!(trials.len() as u64, TRIALS);
    assert_eq!(backends.word(id).trials(), (TRIALS as u32, 0));
    trials
}

#[test]
fn half_open_admits_exactly_its_trials_and_closes_when_all_pass() {
    let (backends, changes) = Backends::new(plan(BREAKER));
    let id = ALL[1];
    let mut before = Vec::new();
    for round in 1..300 {
        let now = round * 100 * S;
        half_open(&backends, id, now);
        let trials = all_trials(&backends, id, now, &before);
        before = trials.clone();
        // Some leave, and others take their place.
        let (mine, passed) = (Mutex::new(trials), AtomicU64::new(0));
        together(|_, random| {
            for _ in 0..200 {
                let trial = mine.lock().unwrap().pop();
                match trial.or_else(|| backends.admit(id, now)) {
                    Some(trial) if random.below(2) == 0 => backends.trial_ended(id, trial, now),
                    Some(trial) => {
                        passed.fetch_add(1, SeqCst);
                        backends.passed(id, Some(trial), || now);
                    }
                    None => {}
                }
            }
        });
        assert_eq!(passed.load(SeqCst), TRIALS, "round {round}");
        assert!(backends.word(id).is_available(), "round {round}");
    }
    told_once(&backends, &changes);
}

#[test]
fn half_open_opens_again_when_one_fails() {
    let (backends, changes) = Backends::new(plan(BREAKER));
    let id = ALL[1];
    half_open(&backends, id, 100 * S);
    let mut before = Vec::new();
    for round in 2..300 {
        let now = round * 100 * S;
        let trials = all_trials(&backends, id, now, &before);
        together(|number, _| match (number, trials.get(number)) {
            (_, None) => {}
            (3, failed) => {
                backends.failed(id, Cause::Status(500), failed.copied(), now, || (0, 0));
            }
            (_, passed) => backends.passed(id, passed.copied(), || now),
        });
        assert_eq!(backends.word(id).standing(), Standing::Open);
        backends.apply(id, Event::Elapsed, now + 50 * S, || Why::Time);
        assert_eq!(backends.word(id).standing(), Standing::HalfOpen);
        before = trials;
    }
    told_once(&backends, &changes);
}

#[test]
fn a_breaker_trips_once_per_window() {
    let (backends, changes) = Backends::new(plan(BREAKER));
    let id = ALL[2];
    for round in 1..300 {
        let now = round * 100 * S;
        let sum = AtomicU64::new(0);
        together(|_, _| {
            for _ in 0..5 {
                let failures = sum.fetch_add(1, SeqCst) + 1;
                let cause = Cause::Status(500);
                backends.failed(id, cause, None, now, || (failures, failures));
            }
        });
        // Forty failures of forty requests.
        assert_eq!(
            backends.word(id).standing(),
            Standing::Open,
            "round {round}"
        );
        assert_eq!(backends.word(id).level().min(2), (round as u32).min(2));
        backends.apply(id, Event::Elapsed, now + 5 * S, || Why::Time);
        for _ in 0..TRIALS {
            let trial = backends.admit(id, now + 5 * S);
            backends.passed(id, trial, || now + 5 * S);
        }
        assert_eq!(backends.word(id).standing(), Standing::Available);
        let told: Vec<_> = changes
            .try_iter()
            .map(|change| change.after.standing())
            .collect();
        let wanted = [Standing::Open, Standing::HalfOpen, Standing::Available];
        assert_eq!(told, wanted, "round {round}");
    }
}

/// Everything at once: what is told leads from the first standing to the last one, for each backend.
#[test]
fn each_change_is_told_once() {
    let plan = plan(
        "[passive_health]\nerrors = 2\nshare = 75\nejection = \"1s\"\n\
         [health_check]\ntype = \"tcp\"\nrise = 1\nfall = 2\n\
         [circuit_breaker]\nenabled = true\nvolume = 3\ntrials = 2\nopen = \"1s\"",
    );
    let (backends, changes) = Backends::new(plan);
    let sum = AtomicU64::new(0);
    for round in 1..100 {
        together(|number, random| {
            for step in 0..100 {
                let now = round * 20 * S + step * S / 10;
                let id = ALL[random.below(4) as usize];
                match random.below(16) {
                    0..4 => {
                        let sums = || {
                            let failures = sum.fetch_add(1, SeqCst);
                            (failures, failures)
                        };
                        backends.failed(id, Cause::Closed, None, now, sums);
                    }
                    4..6 => backends.passed(id, None, || now),
                    6..8 => {
                        if let Some(trial) = backends.admit(id, now) {
                            match random.below(3) {
                                0 => backends.passed(id, Some(trial), || now),
                                1 => backends.trial_ended(id, trial, now),
                                _ => {
                                    backends.failed(id, Cause::Closed, Some(trial), now, || (0, 0))
                                }
                            }
                        }
                    }
                    8..10 => {
                        let passed = random.below(2) == 0;
                        let why = || Why::Check("looked".into());
                        backends.apply(id, Event::Check { passed }, now, why);
                    }
                    10..12 if number == 0 => {
                        backends.set_mode(id, Mode::ALL[random.below(4) as usize], now);
                    }
                    _ => {
                        backends.apply(id, Event::Elapsed, now, || Why::Time);
                    }
                }
            }
        });
    }
    let told = told_once(&backends, &changes);
    assert!(told > 1_000, "{told} changes");
    // The share is as it was: three of four may be ejected, and no more.
    let now = 10_000 * S;
    for id in ALL {
        backends.set_mode(id, Mode::Auto, now);
        for passed in [false, false, true] {
            backends.apply(id, Event::Check { passed }, now, || {
                Why::Check("looked".into())
            });
        }
        assert!(backends.word(id).is_available());
    }
    for id in ALL {
        for _ in 0..2 {
            backends.failed(id, Cause::Connect, None, now, || (1, 1));
        }
    }
    assert_eq!(of(&backends, Standing::Ejected), 3);
}

/// Takes and gives back at random; never more than so many are taken at once, as many as may be are, and in the end
/// none is.
fn never_more_than(most: i64, take: impl Fn() -> bool + Sync, give: impl Fn() + Sync) {
    let (taken, highest) = (AtomicI64::new(0), AtomicI64::new(0));
    together(|_, random| {
        let mut mine = 0;
        for _ in 0..20_000 {
            if random.below(2) == 0 && take() {
                mine += 1;
                let now = taken.fetch_add(1, SeqCst) + 1;
                highest.fetch_max(now, SeqCst);
                assert!(now <= most, "{now} of {most}");
            } else if mine > 0 {
                mine -= 1;
                taken.fetch_sub(1, SeqCst);
                give();
            }
        }
        for _ in 0..mine {
            taken.fetch_sub(1, SeqCst);
            give();
        }
    });
    assert_eq!(highest.load(SeqCst), most);
    let all = (0..2 * most).filter(|_| take()).count() as i64;
    assert_eq!(all, most);
    (0..most).for_each(|_| give());
}

#[test]
fn counts_keep_their_limits() {
    let plan = plan(
        "[limits]\nbackend_connections = 5\nrequests = 6\n[queue]\nlength = 4\n\
         [retry]\nbudget = 0\nbudget_least = 3",
    );
    let metrics = vec![Arc::new(ShardMetrics::new(4))];
    let (shared, _changes) = Shared::new(plan, metrics, 100, [7; 32]);
    let (backends, id, cluster) = (&shared.backends, ALL[3], ClusterId(0));
    never_more_than(
        5,
        || backends.connection_opens(id),
        || backends.connection_closed(id),
    );
    assert_eq!(backends.connections(id), 0);
    never_more_than(
        4,
        || backends.waiting_add(cluster),
        || backends.waiting_sub(cluster),
    );
    assert_eq!(backends.waiting(cluster), 0);
    never_more_than(3, || shared.retry_begins(), || shared.retry_ends());
    let route = RouteId(0);
    never_more_than(
        6,
        || shared.request_enters(route, 6),
        || shared.request_leaves(route),
    );
    together(|number, random| {
        for _ in 0..20_000 {
            let id = ALL[random.below(4) as usize];
            backends.load_add(id);
            backends.learn_idle(
                id,
                (1_000 + number as u64 + random.below(1_000)) * 1_000_000,
            );
            backends.load_sub(id);
        }
    });
    for id in ALL {
        assert_eq!(backends.load(id), 0);
        let idle_ns = backends.idle_ns(id).unwrap();
        assert!((1_000..1_020).contains(&(idle_ns / 1_000_000)), "{idle_ns}");
    }
    assert_eq!(backends.cluster_load(cluster), 0);
}
