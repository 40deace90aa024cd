//! Runs made from a seed: who asks what, who answers how, and what goes wrong meanwhile.
//!
//! Decides: the odds. The checks are those of the clients, the backends and the stage.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use corelane::config::plan::Plan;

use crate::backend::{BAD_HEADS, Flaw, Manner, Reply, Shape, some_break};
use crate::client::{Ending, Script};
use crate::model::{Ask, Fate, Garbage, Load};
use crate::net::{Door, How, Weather};
use crate::stage::{PLAN, Stage, plan};
use crate::world::{MS, Rng, SECOND, World, mix};

const GARBAGE: [Garbage; 10] = [
    Garbage {
        bytes: "GARBAGE\r\n\r\n",
        statuses: &[400],
    },
    Garbage {
        bytes: "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        statuses: &[400],
    },
    Garbage {
        bytes: "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n\
                0\r\n\r\nGET /evil HTTP/1.1\r\nHost: a\r\nX-Id: 1\r\n\r\n",
        statuses: &[400],
    },
    Garbage {
        bytes: "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        statuses: &[400, 501],
    },
    Garbage {
        bytes: "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        statuses: &[400],
    },
    Garbage {
        bytes: "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\r\n folded\r\n\r\n",
        statuses: &[400],
    },
    Garbage {
        bytes: "GET / HTTP/1.1\nHost: a\n\n",
        statuses: &[400],
    },
    Garbage {
        bytes: "GET / HTTP/3.0\r\nHost: a\r\n\r\n",
        statuses: &[400, 505],
    },
    Garbage {
        bytes: "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n",
        statuses: &[400, 405],
    },
    Garbage {
        bytes: "GET / HTTP/1.1\r\nHost: a\r\nX-Half: ",
        statuses: &[408],
    },
];

/// What may go wrong in a run.
#[derive(Debug, Clone, Copy)]
struct Odds {
    calm: bool,
    /// Percent of links that break.
    breaks: u64,
    /// Percent of answers with a flaw.
    flaws: u64,
    /// Percent of requests with a fate, or that are none.
    fates: u64,
    /// Percent of connections that are refused or hang.
    doors: u64,
    /// Percent of idle backend connections that are closed early.
    idles: u64,
    slow: bool,
    drain: bool,
    jump: bool,
}

impl Odds {
    fn of(rng: &mut Rng) -> Odds {
        let calm = rng.chance(30);
        let mut percent = |most: u64| {
            if calm || rng.chance(50) {
                0
            } else {
                rng.below(most)
            }
        };
        Odds {
            calm,
            breaks: percent(30),
            flaws: percent(50),
            fates: percent(40),
            doors: percent(30),
            idles: percent(100),
            slow: !calm && rng.chance(20),
            drain: !calm && rng.chance(20),
            jump: !calm && rng.chance(10),
        }
    }
}

fn size(rng: &mut Rng) -> u64 {
    match rng.below(20) {
        0 => 0,
        1..=10 => rng.below(300),
        11..=16 => rng.below(6_000),
        17 => 16_384 - 200 + rng.below(400),
        _ => rng.below(80_000),
    }
}

fn ask(rng: &mut Rng, odds: Odds) -> Ask {
    let mut ask = Ask::get();
    if rng.chance(odds.fates / 4) {
        ask.garbage = Some(rng.pick(&GARBAGE));
        return ask;
    }
    ask.method = rng.pick(&[
        "GET", "GET", "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS",
    ]);
    if matches!(ask.method, "POST" | "PUT") || rng.chance(5) {
        let n = size(rng);
        ask.load = if rng.chance(50) {
            Load::Length(n)
        } else {
            Load::Chunked(n)
        };
        ask.expect = rng.chance(10);
    } else if rng.chance(5) {
        ask.upgrade = true;
        ask.method = "GET";
    }
    if rng.chance(10) && !ask.upgrade && !ask.expect && !matches!(ask.load, Load::Chunked(_)) {
        ask.http10 = true;
    }
    ask.close = rng.chance(5) && !ask.upgrade;
    if rng.chance(odds.fates) && !ask.upgrade {
        let len = ask.render().len() as u64;
        ask.fate = match rng.below(4) {
            0 => Fate::HalfClose,
            1 => Fate::Stall(1 + rng.below(len - 1) as usize),
            2 => Fate::Abort(rng.below(len) as usize, rng.chance(50)),
            _ => Fate::Abort(len as usize, rng.chance(50)),
        };
    }
    ask
}

fn script(rng: &mut Rng, world: &World, odds: Odds) -> Script {
    let asks = (0..1 + rng.below(6)).map(|_| ask(rng, odds)).collect();
    let mut script = Script::of(asks);
    script.pipelined = rng.chance(30);
    script.start_ns = rng.below(500 * MS);
    script.pause_ns = if rng.chance(30) { 500 * MS } else { 0 };
    script.trickle_ns = if rng.chance(30) {
        rng.below(30 * MS)
    } else {
        0
    };
    script.slow_ns = if rng.chance(20) {
        rng.below(20 * MS)
    } else {
        0
    };
    script.read_max = rng.pick(&[64 * 1024, 64 * 1024, 5_000]);
    if odds.slow && rng.chance(20) {
        script.slow_ns = 5 * SECOND;
    }
    if odds.slow && rng.chance(20) {
        script.pause_ns = 5 * SECOND;
    }
    if odds.slow && rng.chance(10) {
        script.trickle_ns = 4 * SECOND;
    }
    let endings = [
        Ending::Close,
        Ending::HalfClose,
        Ending::Wait,
        Ending::Reset,
    ];
    script.ending = rng.pick(&endings);
    if rng.chance(odds.breaks) {
        script.breaks[0] = Some(some_break(world, &[How::Fin, How::Reset]));
    }
    if rng.chance(odds.breaks) {
        script.breaks[1] = Some(some_break(world, &[How::Reset]));
    }
    script
}

fn reply(rng: &mut Rng, ask: &Ask, odds: Odds) -> Reply {
    let shapes = [
        Shape::Length,
        Shape::Chunked,
        Shape::UntilClose,
        Shape::Bodiless,
    ];
    let mut shape = rng.pick(&shapes);
    if ask.method == "HEAD" && shape == Shape::UntilClose {
        shape = Shape::Length;
    }
    let mut reply = Reply::plain(shape, size(rng));
    reply.interims = if rng.chance(10) { 1 + rng.below(3) } else { 0 };
    reply.close = rng.chance(5);
    reply.http10 = rng.chance(5) && reply.interims == 0 && shape != Shape::Chunked;
    reply.think_ns = if rng.chance(30) {
        rng.below(900 * MS)
    } else {
        0
    };
    reply.pause_ns = if rng.chance(30) {
        rng.below(20 * MS)
    } else {
        0
    };
    if ask.load.bytes() > 0 && rng.chance(10) && !odds.calm {
        reply.early = Some(rng.chance(50));
    }
    if rng.chance(odds.flaws / 2) {
        reply.status = 503;
    }
    if rng.chance(odds.flaws) {
        flaw(rng, ask, &mut reply);
    }
    reply
}

fn flaw(rng: &mut Rng, ask: &Ask, reply: &mut Reply) {
    let at = rng.below(1001);
    reply.flaw = match rng.below(5) {
        0 if reply.shape != Shape::UntilClose && !ask.upgrade => Flaw::Extra,
        1 => Flaw::Hang(at),
        2 => Flaw::BadHead(rng.pick(&BAD_HEADS[..if ask.upgrade { 5 } else { 6 }])),
        3 if reply.shape == Shape::Chunked && ask.method != "HEAD" => Flaw::BadChunk,
        _ => Flaw::Cut(at, rng.chance(50) || reply.shape == Shape::UntilClose),
    };
    reply.tunnel_hangs = rng.chance(20);
}

fn manner(world: &World, odds: Odds) -> Manner {
    let replies = RefCell::new(world.fork());
    let idles = RefCell::new(world.fork());
    let on = world.clone();
    Manner {
        reply: Rc::new(move |ask| reply(&mut replies.borrow_mut(), ask, odds)),
        idle_ns: Rc::new(move || {
            let mut rng = idles.borrow_mut();
            rng.chance(odds.idles).then(|| rng.below(800 * MS))
        }),
        breaks: Rc::new(move || {
            let break_of = || on.chance(odds.breaks / 2);
            let some = || some_break(&on, &[How::Fin, How::Reset]);
            [break_of().then(some), break_of().then(some)]
        }),
        ..Manner::plain(|_| Reply::plain(Shape::Length, 0))
    }
}

/// The plans that runs choose from.
struct Plans {
    /// Without trouble, every request is answered: as it stands, and with few requests on a connection.
    open: [Arc<Plan>; 3],
    /// These refuse some all the same.
    narrow: [Arc<Plan>; 2],
}

/// Every failure is tried again, twice.
const EAGER: &str = r#"
[retry]
on = ["connect", "closed", "timeout", "503"]
attempts = 2
budget = 100
[passive_health]
errors = 2
ejection = "500ms"
[slow_start]
duration = "1s"
[load_balancer]
algorithm = "peak_ewma"
"#;

/// Few connections, and a short queue.
const CAPPED: &str = r#"
backend_connections = 2
[queue]
length = 4
timeout = "500ms"
[load_balancer]
algorithm = "least_connections"
[retry]
on = ["connect", "closed", "503"]
"#;

/// Everything that takes a backend out, at every occasion.
const TOUCHY: &str = r#"
requests = 5
[circuit_breaker]
enabled = true
volume = 2
open = "200ms"
trials = 2
[passive_health]
errors = 1
share = 100
ejection = "300ms"
[health_check]
type = "http"
path = "/healthz"
interval = "300ms"
timeout = "200ms"
rise = 1
fall = 2
[load_balancer]
algorithm = "p2c"
[sticky]
cookie = "tie"
[retry]
on = ["connect", "closed", "timeout", "503"]
"#;

impl Plans {
    fn new() -> Plans {
        let with = |limits: &str| plan(&PLAN.replace("[limits]", &format!("[limits]\n{limits}")));
        let after = |more: &str| plan(&format!("{PLAN}{more}"));
        let narrow = |more: &str| {
            // The limits stand first in what is added, so theirs come last here.
            let (limits, rest) = more.split_once("\n[").expect("more than limits");
            let text = PLAN.replace("[limits]", &format!("[limits]{limits}"));
            plan(&format!("{text}[{rest}"))
        };
        Plans {
            open: [plan(PLAN), with("connection_requests = 4"), after(EAGER)],
            narrow: [narrow(CAPPED), narrow(TOUCHY)],
        }
    }

    fn pick(&self, rng: &mut Rng, odds: Odds) -> &Arc<Plan> {
        match odds.calm {
            false if rng.chance(50) => &self.narrow[rng.below(2) as usize],
            _ => &self.open[rng.below(3) as usize],
        }
    }
}

fn run(seed: u64, plans: &Plans) -> u64 {
    let mut rng = Rng::new(mix(seed ^ 0x5eed));
    let odds = Odds::of(&mut rng);
    let weather = Weather {
        short: rng.pick(&[0, 10, 50, 90]),
        latency_ns: rng.pick(&[0, 100_000, 5 * MS, 40 * MS]),
        late: rng.pick(&[0, 0, 20]),
        window: rng.pick(&[700, 4_096, 65_536]),
    };
    let shards = 1 + rng.below(2) as usize;
    let stage = Stage::new(seed, weather, plans.pick(&mut rng, odds), shards, odds.calm);
    stage.watch();
    for number in 0..3 {
        let doors = RefCell::new(stage.world.fork());
        let door = move || {
            let mut rng = doors.borrow_mut();
            match rng.chance(odds.doors) {
                true => rng.pick(&[Door::Refuse, Door::Hang]),
                false => Door::Accept,
            }
        };
        stage.backend(number, door, manner(&stage.world, odds));
    }
    for _ in 0..1 + rng.below(8) {
        stage.client(script(&mut rng, &stage.world, odds));
    }
    if odds.drain {
        stage.after(rng.below(3 * SECOND), stage.drain());
    }
    if odds.jump {
        let world = stage.world.clone();
        let (ns, unix_ms) = (rng.below(10_000) * SECOND, rng.below(1 << 42));
        stage.after(rng.below(SECOND), move || world.jump(ns, unix_ms));
    }
    stage.finish()
}

/// Says how to see a failure again.
pub struct Replay(pub u64, pub &'static str);

impl Drop for Replay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "\nreplay: SIM_SEED={} cargo test --test sim {}\n",
                self.0, self.1
            );
        }
    }
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text}: not a number")),
    )
}

/// The seeds of a test that usually makes so many runs.
pub fn range(runs: u64) -> std::ops::Range<u64> {
    match number("SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SIM_RUNS").unwrap_or(runs),
    }
}

/// Seeds of a run without `SIM_RUNS`.
const RUNS: u64 = 300;

#[test]
fn seeds() {
    let plans = Plans::new();
    for seed in range(RUNS) {
        let _replay = Replay(seed, "seeds");
        let trace = run(seed, &plans);
        if seed.is_multiple_of(10) {
            assert_eq!(trace, run(seed, &plans), "seed {seed} is not repeatable");
        }
    }
}
