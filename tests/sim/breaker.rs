//! Circuit breakers over several shards, as the backend sees them.
//!
//! Decides: what a sick backend answers, and when it is well again. One of two backends is sick; the other answers.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use corelane::config::plan::Nanos;
use corelane::policy::BackendId;
use corelane::policy::health::Standing;
use corelane::shared::Shared;
use corelane::wait::{Race, race};

use crate::http::{Body, Wire};
use crate::net::{Door, SimStream, Weather};
use crate::resilience::{Standings, observe};
use crate::stage::{Stage, address, plan};
use crate::world::{MS, SECOND, World};

const PLAN: &str = r#"
backends = ["http://10.0.0.1:80", "http://10.0.0.2:80"]
[timeouts]
backend_idle = "20s"
[pool]
idle_timeout = "20s"
[passive_health]
errors = 0
on = []
[slow_start]
duration = "off"
[limits]
requests = 0
[circuit_breaker]
enabled = true
on = ["5xx"]
volume = 10
open = "2s"
trials = 4
"#;

const TRIALS: usize = 4;

/// What the sick backend does with a request.
#[derive(Debug, Clone, Copy)]
enum Deed {
    /// After a while, with this status.
    Answer(u16, Nanos),
    /// Ends the connection without a word.
    Close,
}

/// When a request comes.
#[derive(Debug, Clone, Copy)]
struct When {
    standing: Standing,
    /// Which half-open time it is, or was last; from 1.
    period: usize,
    /// Its number within this standing, from 0.
    number: usize,
    /// Others came on the same connection before.
    reused: bool,
}

/// A request as the sick backend saw it.
#[derive(Debug, Clone, Copy)]
struct Seen {
    when: When,
    /// The status of the answer, and within which half-open time it was given.
    answered: Option<(u16, usize)>,
}

/// The backend that is sick.
#[derive(Clone)]
struct Sick {
    world: World,
    shared: Arc<Shared>,
    standings: Standings,
    seen: Rc<RefCell<Vec<Seen>>>,
    deed: Rc<dyn Fn(When) -> Deed>,
}

impl Sick {
    fn period(&self) -> usize {
        let standings = self.standings.borrow();
        let half_open = |(_, standing): &&(Nanos, Standing)| *standing == Standing::HalfOpen;
        let seen = standings.iter().filter(half_open).count();
        // It may have begun since the last look.
        let last = standings.last().map(|(_, standing)| *standing);
        let now = self.shared.backends.word(BackendId(0)).standing();
        let new = now == Standing::HalfOpen && last != Some(now);
        seen + usize::from(new)
    }

    /// Notes a request; when it came, and where it is noted.
    fn saw(&self, reused: bool) -> (When, usize) {
        let standing = self.shared.backends.word(BackendId(0)).standing();
        let period = self.period();
        let mut seen = self.seen.borrow_mut();
        let same = |seen: &&Seen| (seen.when.standing, seen.when.period) == (standing, period);
        let when = When {
            standing,
            period,
            number: seen.iter().filter(same).count(),
            reused,
        };
        seen.push(Seen {
            when,
            answered: None,
        });
        (when, seen.len() - 1)
    }

    async fn serve(self, stream: SimStream) {
        let mut wire = Wire::new(&self.world, &stream, 1);
        let mut reused = false;
        while wire.head().await.is_ok() {
            let (when, mine) = self.saw(reused);
            let Deed::Answer(status, after_ns) = (self.deed)(when) else {
                return;
            };
            // Who has asked may go meanwhile.
            match race(wire.more(), self.world.sleep(after_ns)).await {
                Race::Second(()) => {}
                Race::First(_) => return,
            }
            let text = format!("HTTP/1.1 {status} Sure\r\nContent-Length: 0\r\n\r\n");
            self.seen.borrow_mut()[mine].answered = Some((status, self.period()));
            if stream.send(text.as_bytes()).await.is_err() {
                return;
            }
            reused = true;
        }
    }

    /// Requests that came while it was half open for the `period`th time.
    fn trials(&self, period: usize) -> Vec<Seen> {
        let seen = self.seen.borrow();
        let trial =
            |seen: &&Seen| (seen.when.standing, seen.when.period) == (Standing::HalfOpen, period);
        seen.iter().filter(trial).copied().collect()
    }

    fn standings(&self) -> Vec<Standing> {
        let standings = self.standings.borrow();
        standings.iter().map(|(_, standing)| *standing).collect()
    }
}

fn ward(
    seed: u64,
    text: &str,
    shards: usize,
    deed: impl Fn(When) -> Deed + 'static,
) -> (Stage, Sick) {
    let stage = Stage::new(seed, Weather::STILL, &plan(text), shards, false);
    stage.watch();
    let sick = Sick {
        world: stage.world.clone(),
        shared: Arc::clone(&stage.shared),
        standings: observe(&stage, 0),
        seen: Rc::default(),
        deed: Rc::new(deed),
    };
    let (world, serve) = (stage.world.clone(), sick.clone());
    let accept = move |stream| world.spawn(serve.clone().serve(stream));
    stage.net.listen(address(0), || Door::Accept, accept);
    let world = stage.world.clone();
    let accept = move |stream| {
        let on = world.clone();
        world.spawn(async move {
            let mut wire = Wire::new(&on, &stream, 2);
            while wire.head().await.is_ok() {
                on.sleep(MS).await;
                stream.put(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            }
        });
    };
    stage.net.listen(address(1), || Door::Accept, accept);
    (stage, sick)
}

/// Clients of all shards that ask again and again, each with pauses of up to 200 ms. Those whose patience ends leave and
/// come back.
fn crowd(
    stage: &Stage,
    clients: usize,
    until: Nanos,
    patience: impl Fn(&World) -> Nanos + Clone + 'static,
) -> Rc<RefCell<Vec<u16>>> {
    let statuses = Rc::new(RefCell::new(Vec::new()));
    for number in 0..clients {
        let shard = number % stage.shards.len();
        let (world, keep) = (stage.world.clone(), Rc::clone(&statuses));
        let (connect, patience) = (stage.connector(shard), patience.clone());
        stage.world.spawn(async move {
            let mut stream = connect();
            while world.now() < until {
                let ns = world.below(200 * MS);
                world.sleep(ns).await;
                stream.put(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
                let status = {
                    let mut wire = Wire::new(&world, &stream, 3);
                    let answer = async {
                        let head = wire.head().await.ok()?;
                        let length = head.number("Content-Length").unwrap_or(0);
                        wire.body(Body::Length(length), &mut Vec::new())
                            .await
                            .ok()?;
                        head.line.get(9..12)?.parse().ok()
                    };
                    match race(answer, world.sleep(patience(&world))).await {
                        Race::First(status) => Some(status.expect("an answer comes")),
                        Race::Second(()) => None,
                    }
                };
                match status {
                    Some(status) => keep.borrow_mut().push(status),
                    None => stream = connect(),
                }
            }
        });
    }
    statuses
}

/// Sick until it has been half open once.
fn sick_once(when: When) -> Deed {
    match (when.standing, when.period) {
        (_, 0) => Deed::Answer(500, MS),
        (Standing::HalfOpen, 1) => Deed::Answer(500, 100 * MS),
        (_, _) => Deed::Answer(200, 600 * MS),
    }
}

const OPENED_TWICE: [Standing; 6] = [
    Standing::Available,
    Standing::Open,
    Standing::HalfOpen,
    Standing::Open,
    Standing::HalfOpen,
    Standing::Available,
];

#[test]
fn half_open_admits_exactly_its_trials_over_all_shards() {
    for seed in 0..12 {
        let shards = 1 + seed as usize % 4;
        let (stage, sick) = ward(seed, PLAN, shards, sick_once);
        let until = stage.world.now() + 15 * SECOND;
        crowd(&stage, 30, until, |_| 60 * SECOND);
        stage.run_for(16 * SECOND);
        assert_eq!(sick.standings(), OPENED_TWICE, "seed {seed}");
        for period in [1, 2] {
            assert_eq!(sick.trials(period).len(), TRIALS, "seed {seed}, {period}");
        }
        let open: Vec<Nanos> = sick
            .standings
            .borrow()
            .windows(2)
            .map(|two| two[1].0 - two[0].0)
            .collect();
        assert!((2 * SECOND..2_200 * MS).contains(&open[1]), "{open:?}");
        assert!((4 * SECOND..4_200 * MS).contains(&open[3]), "{open:?}");
        let open = |seen: &Seen| seen.when.standing == Standing::Open;
        assert!(
            !sick.seen.borrow().iter().any(open),
            "seed {seed}: asked while it is open"
        );
        let last = sick.seen.borrow().last().map(|seen| seen.when.standing);
        assert_eq!(last, Some(Standing::Available));
        stage.finish_within(25 * SECOND);
    }
}

/// Clients that leave give their trial back, and it closes only when as many as it takes have passed.
#[test]
fn trials_of_those_that_leave_are_given_to_others() {
    for seed in 0..30 {
        let (stage, sick) = ward(seed, PLAN, 1 + seed as usize % 3, sick_once);
        let until = stage.world.now() + 20 * SECOND;
        crowd(&stage, 30, until, |world: &World| match world.chance(30) {
            true => world.below(400 * MS),
            false => 60 * SECOND,
        });
        stage.run_for(21 * SECOND);
        let trials = sick.trials(2);
        let passed = trials
            .iter()
            .filter(|seen| seen.answered.is_some_and(|(status, _)| status == 200));
        assert!(passed.count() >= TRIALS, "seed {seed}: {trials:?}");
        assert_eq!(
            sick.standings().last(),
            Some(&Standing::Available),
            "seed {seed}"
        );
        stage.finish_within(25 * SECOND);
    }
}

/// A request that was refused for another reason had taken a trial, and never gave it back.
#[test]
fn trial_of_a_request_beyond_the_limit_is_given_back() {
    let text = PLAN.replace("requests = 0", "requests = 3");
    for seed in 0..10 {
        let (stage, sick) = ward(seed, &text, 2, sick_once);
        let until = stage.world.now() + 20 * SECOND;
        let statuses = crowd(&stage, 30, until, |_| 60 * SECOND);
        stage.run_for(21 * SECOND);
        assert!(statuses.borrow().contains(&503));
        assert_eq!(sick.standings(), OPENED_TWICE, "seed {seed}");
        stage.finish_within(25 * SECOND);
    }
}

/// An idle connection that had been closed gave the trial back, and the attempt on a fresh one was a trial all the same.
#[test]
fn trial_on_a_stale_connection_is_one_trial() {
    for seed in 0..20 {
        let (stage, sick) = ward(seed, PLAN, 1 + seed as usize % 3, |when| {
            match (when.standing, when.reused) {
                (Standing::HalfOpen, true) => Deed::Close,
                (_, _) => sick_once(when),
            }
        });
        let until = stage.world.now() + 20 * SECOND;
        crowd(&stage, 30, until, |_| 60 * SECOND);
        stage.run_for(21 * SECOND);
        for period in [1, 2] {
            let trials = sick.trials(period);
            let real = trials.iter().filter(|seen| !seen.when.reused).count();
            assert!(real <= TRIALS, "seed {seed}, {period}: {trials:?}");
        }
        assert_eq!(sick.standings(), OPENED_TWICE, "seed {seed}");
        stage.finish_within(25 * SECOND);
    }
}

/// A trial that fails for a cause that does not count used up a trial, and said nothing.
#[test]
fn trial_that_breaks_off_has_failed() {
    for seed in 0..10 {
        let (stage, sick) = ward(seed, PLAN, 2, |when| match (when.standing, when.period) {
            (Standing::HalfOpen, 1) => Deed::Close,
            (_, _) => sick_once(when),
        });
        let until = stage.world.now() + 20 * SECOND;
        crowd(&stage, 30, until, |_| 60 * SECOND);
        stage.run_for(21 * SECOND);
        assert_eq!(sick.standings(), OPENED_TWICE, "seed {seed}");
        assert!(sick.trials(1).len() <= 2 * TRIALS, "seed {seed}");
        stage.finish_within(25 * SECOND);
    }
}

/// A trial that outlives its half-open time says nothing of the next one, and makes no room in it.
#[test]
fn trial_of_the_time_before_is_none_of_this_one() {
    for seed in 0..40 {
        let (stage, sick) = ward(seed, PLAN, 2, |when| match (when.standing, when.period) {
            (Standing::HalfOpen, 1) if when.number == 3 => Deed::Answer(500, 300 * MS),
            // These end within the second half-open time, by an answer or because nobody waits any more.
            (Standing::HalfOpen, 1) => Deed::Answer(200, 5 * SECOND),
            (Standing::HalfOpen, _) => Deed::Answer(200, (1 + when.number as u64) * 700 * MS),
            (_, _) => sick_once(when),
        });
        let until = stage.world.now() + 20 * SECOND;
        let patience = if seed % 2 == 0 { 60_000 } else { 4_700 };
        crowd(&stage, 30, until, move |_| patience * MS);
        stage.run_for(21 * SECOND);
        assert_eq!(sick.standings(), OPENED_TWICE, "seed {seed}");
        let trials = sick.trials(2);
        assert_eq!(trials.len(), TRIALS, "seed {seed}: {trials:?}");
        let passed = |seen: &&Seen| seen.answered == Some((200, 2));
        let passed = trials.iter().filter(passed).count();
        assert_eq!(passed, TRIALS, "seed {seed}: {trials:?}");
        let standings = sick.standings.borrow();
        let took_ns = standings[5].0 - standings[4].0;
        assert!(took_ns >= 4 * 700 * MS, "seed {seed}: {} ms", took_ns / MS);
        drop(standings);
        stage.finish_within(25 * SECOND);
    }
}
