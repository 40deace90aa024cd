//! Caps on a backend's connections, and the queue of those that wait for one.
//!
//! Decides: how many ask for how long. Checks: never more connections than the cap, as the network counts them; each
//! request is served or refused in time; none is forgotten.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use corelane::config::plan::Nanos;
use corelane::policy::ClusterId;
use corelane::wait::{Race, race};

use crate::http::{Body, Wire};
use crate::net::{Door, SimStream, Weather};
use crate::random::{Replay, range};
use crate::stage::{Stage, address, plan};
use crate::world::{MS, Rng, SECOND, World, mix};

/// Cap, length of the queue and longest wait are put in.
const PLAN: &str = r#"
backends = ["http://10.0.0.1:80", "http://10.0.0.2:80"]
[pool]
idle_timeout = "3s"
[limits]
backend_connections = {cap}
[queue]
length = {length}
timeout = "{timeout_ms}ms"
[passive_health]
errors = 0
[timeouts]
client_header = "2s"
keepalive = "3s"
"#;

#[derive(Debug, Clone, Copy)]
struct Shape {
    cap: usize,
    length: usize,
    timeout_ns: Nanos,
    shards: usize,
    /// On each shard in turn.
    clients: usize,
    /// Longest work of a backend, and longest pause of a client.
    work_ns: Nanos,
    pause_ns: Nanos,
    /// Percent of requests whose client leaves before it has an answer.
    leaves: u64,
    /// Percent of answers behind which the backend closes.
    closes: u64,
}

/// One request, as its client saw it.
#[derive(Debug, Clone, Copy)]
struct Asked {
    client: usize,
    took_ns: Nanos,
    status: u16,
}

struct Lab {
    stage: Stage,
    asked: Rc<RefCell<Vec<Asked>>>,
    /// Most that waited at one time.
    waited: Rc<Cell<u32>>,
}

fn serve(stage: &Stage, shape: Shape) {
    for number in 0..2 {
        let world = stage.world.clone();
        let accept = move |stream| {
            let on = world.clone();
            world.spawn(async move {
                let mut wire = Wire::new(&on, &stream, 1);
                while wire.head().await.is_ok() {
                    let ns = on.below(shape.work_ns + 1);
                    on.sleep(ns).await;
                    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
                    if stream.send(answer).await.is_err() || on.chance(shape.closes) {
                        return;
                    }
                }
            });
        };
        stage.net.listen(address(number), || Door::Accept, accept);
    }
}

/// A client that asks again and again, and leaves now and then.
async fn ask(
    lab: (World, Rc<RefCell<Vec<Asked>>>),
    connect: impl Fn() -> SimStream,
    client: usize,
    shape: Shape,
    until: Nanos,
) {
    let (world, asked) = lab;
    let mut stream = connect();
    while world.now() < until {
        let ns = world.below(shape.pause_ns + 1);
        world.sleep(ns).await;
        let begun = world.now();
        stream.put(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let patience_ns = match world.chance(shape.leaves) {
            true => world.below(2 * shape.timeout_ns),
            false => 60 * SECOND,
        };
        let answer = async {
            let mut wire = Wire::new(&world, &stream, 2);
            let head = wire.head().await.expect("an answer comes");
            let length = head.number("Content-Length").expect("a length");
            let body = Body::Length(length);
            wire.body(body, &mut Vec::new())
                .await
                .expect("a body comes");
            head.line[9..12].parse().expect("a status")
        };
        let status = match race(answer, world.sleep(patience_ns)).await {
            Race::First(status) => status,
            Race::Second(()) => {
                stream = connect();
                continue;
            }
        };
        asked.borrow_mut().push(Asked {
            client,
            took_ns: world.now() - begun,
            status,
        });
    }
}

fn run(seed: u64, weather: Weather, shape: Shape, for_ns: Nanos) -> Lab {
    let text = PLAN
        .replace("{cap}", &shape.cap.to_string())
        .replace("{length}", &shape.length.to_string())
        .replace("{timeout_ms}", &(shape.timeout_ns / MS).to_string());
    let stage = Stage::new(seed, weather, &plan(&text), shape.shards, false);
    stage.watch();
    serve(&stage, shape);
    let lab = Lab {
        asked: Rc::default(),
        waited: Rc::default(),
        stage,
    };
    let stage = &lab.stage;
    let until = stage.world.now() + for_ns;
    for client in 0..shape.clients {
        let connect = stage.connector(client % shape.shards);
        let shared = (stage.world.clone(), Rc::clone(&lab.asked));
        stage
            .world
            .spawn(ask(shared, connect, client, shape, until));
    }
    let (world, shared, most) = (
        stage.world.clone(),
        stage.shared.clone(),
        Rc::clone(&lab.waited),
    );
    stage.world.spawn(async move {
        loop {
            let waiting = shared.backends.waiting(ClusterId(0));
            most.set(most.get().max(waiting));
            world.sleep(MS).await;
        }
    });
    stage.run_for(for_ns + 10 * SECOND);
    for number in 0..2 {
        let most = stage.net.count(address(number)).most();
        assert!(
            most <= shape.cap,
            "{most} connections to {number}: {shape:?}"
        );
    }
    assert!(
        lab.waited.get() as usize <= shape.length,
        "{} waited: {shape:?}",
        lab.waited.get()
    );
    lab
}

#[test]
fn caps_hold_and_nobody_waits_too_long() {
    for seed in range(60) {
        let _replay = Replay(seed, "caps_hold");
        let mut rng = Rng::new(mix(seed ^ 0xcab));
        let weather = Weather {
            short: 0,
            latency_ns: rng.pick(&[0, 100_000, 5 * MS]),
            late: rng.pick(&[0, 20]),
            window: 65_536,
        };
        let shape = Shape {
            cap: rng.pick(&[1, 2, 5]),
            length: rng.pick(&[0, 1, 4, 100]),
            timeout_ns: rng.pick(&[100 * MS, 500 * MS, 2 * SECOND]),
            shards: rng.pick(&[1, 2, 3]),
            clients: rng.pick(&[2, 8, 25]),
            work_ns: rng.pick(&[0, 20 * MS, 200 * MS]),
            pause_ns: rng.pick(&[10 * MS, 100 * MS]),
            leaves: rng.pick(&[0, 0, 30]),
            closes: rng.pick(&[0, 0, 20]),
        };
        let lab = run(seed, weather, shape, 6 * SECOND);
        let slack_ns = 100 * MS + 8 * weather.latency_ns;
        for asked in lab.asked.borrow().iter() {
            // Who finds its connection closed waits for another.
            let times = if shape.closes > 0 { 2 } else { 1 };
            let most_ns = match asked.status {
                503 => times * shape.timeout_ns,
                200 => times * shape.timeout_ns + shape.work_ns,
                status => panic!("{status}: {shape:?}"),
            };
            assert!(asked.took_ns <= most_ns + slack_ns, "{asked:?} {shape:?}");
        }
        let served = lab
            .asked
            .borrow()
            .iter()
            .filter(|asked| asked.status == 200)
            .count();
        // What is free is used: not all of the time, for another shard looks once a tick only.
        let turn_ns = shape.work_ns / 2 + 45 * MS + 6 * weather.latency_ns + shape.pause_ns;
        let at_once = shape.clients.min(2 * shape.cap) as u64;
        let least = 6 * SECOND / turn_ns * at_once / 3 * (100 - shape.leaves) / 100;
        assert!(served as u64 >= least, "{served} of {least}: {shape:?}");
        lab.stage.finish();
    }
}

/// Requests of one shard kept those of another waiting for ever: what it freed it took again at once.
#[test]
fn shards_take_turns() {
    for (shards, clients, cap, pause_ns) in [
        (2, 9, 1, 0),
        (2, 2, 1, 0),
        (2, 40, 5, 10 * MS),
        (3, 13, 1, 0),
        (4, 30, 2, 0),
        (8, 30, 2, 0),
    ] {
        let shape = Shape {
            cap,
            length: 100,
            timeout_ns: 5 * SECOND,
            shards,
            clients,
            work_ns: 20 * MS,
            pause_ns,
            leaves: 0,
            closes: 0,
        };
        let lab = run(1, Weather::STILL, shape, 20 * SECOND);
        let asked = lab.asked.borrow();
        let served = |client: usize| {
            let of = asked.iter().filter(|asked| asked.client == client);
            of.filter(|asked| asked.status == 200).count()
        };
        let each: Vec<_> = (0..clients).map(served).collect();
        let mean = each.iter().sum::<usize>() / clients;
        let longest_ns = asked.iter().map(|asked| asked.took_ns).max();
        assert!(each.iter().all(|one| one * 2 >= mean), "{each:?}");
        assert!(longest_ns < Some(2 * SECOND), "{longest_ns:?}");
        drop(asked);
        lab.stage.finish();
    }
}
