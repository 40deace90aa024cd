//! Backends die and come back under load: who may be repeated is always answered.
//!
//! Decides: who dies when. The checks are those of the clients, of the ledger and of the stage, and the times within
//! which a backend's standing follows what has become of it.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use corelane::config::plan::{Nanos, Plan};
use corelane::metrics::Counter;
use corelane::policy::BackendId;
use corelane::policy::health::Standing;

use crate::backend::{Manner, Reply, Shape};
use crate::client::{Script, Seen};
use crate::life::{Life, State};
use crate::model::{Ask, Load};
use crate::net::Weather;
use crate::random::{Replay, range};
use crate::stage::{Stage, plan};
use crate::world::{MS, Rng, SECOND, World, mix};

const PLAN: &str = r#"
backends = ["http://10.0.0.1:80", "http://10.0.0.2:80", "http://10.0.0.3:80"]
[timeouts]
connect = "500ms"
first_byte = "1s"
backend_idle = "2s"
[pool]
idle_timeout = "3s"
idle_per_shard = {idle}
[limits]
backend_connections = {cap}
[load_balancer]
algorithm = "{algorithm}"
hash_key = "{key}"
[hedge]
percentile = {hedge}
[health_check]
type = "http"
path = "/healthz"
interval = "1s"
timeout = "500ms"
rise = 2
fall = 3
[passive_health]
ejection = "2s"
[retry]
on = ["connect", "closed", "timeout"]
budget = 100
"#;

const INTERVAL: Nanos = SECOND;
const TIMEOUT: Nanos = 500 * MS;

/// From a backend's end to when it gets no more requests: `fall` checks, the last of which takes its time. From its
/// return to when it gets some again: `rise` checks, for one may have begun just before.
const OUT_NS: Nanos = 3 * INTERVAL + TIMEOUT + 100 * MS;
const IN_NS: Nanos = 2 * INTERVAL + 200 * MS;

/// What a backend's standing was from when on.
pub type Standings = Rc<RefCell<Vec<(Nanos, Standing)>>>;

/// Looks at a backend's standing all the time.
pub fn observe(stage: &Stage, number: usize) -> Standings {
    let seen = Standings::default();
    let (world, shared) = (stage.world.clone(), Arc::clone(&stage.shared));
    let keep = Rc::clone(&seen);
    stage.world.spawn(async move {
        loop {
            let standing = shared.backends.word(BackendId(number as u32)).standing();
            let last = keep.borrow().last().map(|(_, standing)| *standing);
            if last != Some(standing) {
                keep.borrow_mut().push((world.now(), standing));
            }
            world.sleep(MS).await;
        }
    });
    seen
}

/// The standing at a time.
fn standing_at(standings: &Standings, at: Nanos) -> Standing {
    let all = standings.borrow();
    let until = all.partition_point(|(since, _)| *since <= at);
    all[until.max(1) - 1].1
}

/// One at a time dies, for a while.
async fn reaper(world: World, mut rng: Rng, lives: Vec<Rc<Life>>, seen: Vec<Standings>) {
    for _ in 0..3 {
        world.sleep(rng.below(3 * SECOND)).await;
        let at = rng.below(lives.len() as u64) as usize;
        let state = rng.pick(&[State::Dead, State::Dead, State::Lost]);
        lives[at].becomes(state);
        let died = world.now();
        let long = rng.chance(60);
        world
            .sleep(if long { OUT_NS } else { rng.below(2 * SECOND) })
            .await;
        let standing = standing_at(&seen[at], world.now());
        assert!(
            !long || standing == Standing::Down,
            "{standing:?} long after the end, {died}"
        );
        lives[at].becomes(State::Alive);
        world.sleep(IN_NS).await;
        let standing = standing_at(&seen[at], world.now());
        // A short death may not have been seen by checks, so that an ejection runs its time.
        let back = standing == Standing::Available || !long && standing == Standing::Ejected;
        assert!(back, "{standing:?} long after the return");
        // Until nobody meets two deaths.
        world.sleep(3 * SECOND).await;
    }
}

fn ask(rng: &mut Rng) -> Ask {
    let mut ask = Ask::get();
    ask.method = rng.pick(&["GET", "GET", "HEAD", "DELETE", "POST"]);
    if ask.method == "POST" {
        ask.load = Load::Length(1 + rng.below(200));
    }
    ask
}

fn reply(world: &World) -> impl Fn(&Ask) -> Reply + 'static {
    let rng = RefCell::new(world.fork());
    move |_| {
        let rng = &mut *rng.borrow_mut();
        let mut reply = Reply::plain(rng.pick(&[Shape::Length, Shape::Chunked]), rng.below(3_000));
        reply.think_ns = if rng.chance(50) {
            rng.below(400 * MS)
        } else {
            0
        };
        reply.pause_ns = if rng.chance(20) {
            rng.below(50 * MS)
        } else {
            0
        };
        reply.close = rng.chance(3);
        reply
    }
}

/// Everything that has a say in where requests go, in turn. No cap is so low that two backends could not serve all.
fn some_plan(rng: &mut Rng) -> Arc<Plan> {
    let (algorithm, key) = rng.pick(&[
        ("round_robin", ""),
        ("least_connections", ""),
        ("p2c", ""),
        ("ip_hash", ""),
        ("consistent_hash", "path"),
        ("random", ""),
        ("peak_ewma", ""),
    ]);
    let text = PLAN
        .replace("{algorithm}", algorithm)
        .replace("{key}", key)
        .replace("{idle}", rng.pick(&["0", "64"]))
        .replace("{cap}", rng.pick(&["0", "8"]))
        .replace("{hedge}", rng.pick(&["\"off\"", "50", "90"]));
    plan(&text)
}

/// Gives the number of second attempts.
fn run(seed: u64) -> u64 {
    let mut rng = Rng::new(mix(seed ^ 0xdead));
    let weather = Weather {
        short: 0,
        latency_ns: rng.pick(&[0, 100_000, 5 * MS]),
        late: rng.pick(&[0, 20]),
        window: 65_536,
    };
    let plan = some_plan(&mut rng);
    let shards = 1 + rng.below(2) as usize;
    let mut stage = Stage::new(seed, weather, &plan, shards, false);
    stage.ledger.firm = true;
    let lives: Vec<_> = (0..plan.backends.len())
        .map(|number| stage.mortal(number, Manner::plain(reply(&stage.world))))
        .collect();
    stage.watch();
    let seen: Vec<_> = (0..lives.len()).map(|at| observe(&stage, at)).collect();
    let reaper = reaper(stage.world.clone(), rng.clone(), lives, seen);
    stage.world.spawn(reaper);
    let mut all = Vec::new();
    for _ in 0..6 + rng.below(6) {
        let mut script = Script::of((0..60).map(|_| ask(&mut rng)).collect());
        script.start_ns = SECOND;
        script.pause_ns = SECOND;
        all.push(stage.client(script));
    }
    stage.run_clients();
    let answered = |seen: &Seen| matches!(seen, Seen::Answer(_));
    let answered: usize = all
        .iter()
        .map(|seens| seens.borrow().iter().filter(|seen| answered(seen)).count())
        .sum();
    assert!(answered > 50 * all.len(), "{answered} answers");
    let hedges = stage.counter(Counter::Hedges);
    stage.finish();
    hedges
}

#[test]
fn backends_die_and_come_back() {
    let mut hedges = 0;
    for seed in range(30) {
        let _replay = Replay(seed, "backends_die");
        hedges += run(seed);
    }
    assert!(hedges > 0 || range(30).count() == 1);
}

/// A backend that comes back gets its share by and by: of what its turns are worth, about the part of the slow start
/// that has passed.
#[test]
fn who_comes_back_starts_slowly() {
    for (seed, algorithm) in ["round_robin", "least_connections", "p2c", "random"]
        .iter()
        .enumerate()
    {
        let text = PLAN
            .replace("{algorithm}", algorithm)
            .replace("{key}", "")
            .replace("{idle}", "64")
            .replace("{hedge}", "\"off\"")
            .replace("{cap}", "0");
        let stage = Stage::new(seed as u64, Weather::STILL, &plan(&text), 2, false);
        let arrivals: Rc<RefCell<Vec<(Nanos, usize)>>> = Rc::default();
        let mut lives = Vec::new();
        for number in 0..3 {
            let (keep, world) = (Rc::clone(&arrivals), stage.world.clone());
            lives.push(stage.mortal(
                number,
                Manner::plain(move |_| {
                    keep.borrow_mut().push((world.now(), number));
                    let mut reply = Reply::plain(Shape::Length, 10);
                    reply.think_ns = 20 * MS;
                    reply
                }),
            ));
        }
        stage.watch();
        let seen = observe(&stage, 0);
        for _ in 0..20 {
            let mut script = Script::of(vec![Ask::get(); 600]);
            script.pause_ns = 100 * MS;
            stage.client(script);
        }
        let life = Rc::clone(&lives[0]);
        stage.after(SECOND, move || life.becomes(State::Dead));
        let life = Rc::clone(&lives[0]);
        stage.after(6 * SECOND, move || life.becomes(State::Alive));
        stage.run_clients();
        let back = seen
            .borrow()
            .iter()
            .rfind(|(_, standing)| *standing == Standing::Available)
            .map(|(at, _)| *at);
        let back = back.expect("it is back");
        // Its part of all requests between two times after its return, of a hundred.
        let share = |from: Nanos, to: Nanos| {
            let arrivals = arrivals.borrow();
            let within = arrivals
                .iter()
                .filter(|(at, _)| (back + from..back + to).contains(at));
            let all: Vec<usize> = within.map(|(_, number)| *number).collect();
            assert!(all.len() > 150, "{} requests, {from} {to}", all.len());
            all.iter().filter(|number| **number == 0).count() * 100 / all.len()
        };
        let parts =
            [(0, 1), (4, 6), (9, 10), (11, 14)].map(|(from, to)| share(from * SECOND, to * SECOND));
        let wanted = [0..=6, 14..=25, 26..=34, 30..=36];
        let fine = parts
            .iter()
            .zip(wanted)
            .all(|(part, wanted)| wanted.contains(part));
        assert!(fine, "{algorithm}: {parts:?}");
        stage.finish();
    }
}

/// A second attempt beside the first gives neither of them more time.
#[test]
fn a_hedge_gives_no_more_time() {
    let text = PLAN
        .replace("{algorithm}", "round_robin")
        .replace("{key}", "")
        .replace("{idle}", "64")
        .replace("{hedge}", "90")
        .replace("{cap}", "0")
        .replace(", \"timeout\"]", "]");
    let stage = Stage::new(1, Weather::STILL, &plan(&text), 1, false);
    let hangs = Rc::new(std::cell::Cell::new(false));
    for number in 0..3 {
        let hangs = Rc::clone(&hangs);
        let reply = move |_: &Ask| {
            let mut reply = Reply::plain(Shape::Length, 10);
            reply.think_ns = if hangs.get() { 30 * SECOND } else { 5 * MS };
            reply
        };
        stage.mortal(number, Manner::plain(reply));
    }
    let mut script = Script::of(vec![Ask::get(); 300]);
    script.pause_ns = 50 * MS;
    stage.client(script);
    stage.run_clients();
    hangs.set(true);
    let begun = stage.world.now();
    let seens = stage.client(Script::of(vec![Ask::get()]));
    stage.run_clients();
    let took_ns = stage.world.now() - begun;
    assert_eq!(*seens.borrow(), [Seen::Refusal(504)]);
    assert_eq!(stage.counter(Counter::Hedges), 1);
    assert!(took_ns < 1_300 * MS, "{} ms", took_ns / MS);
    stage.finish_within(40 * SECOND);
}
