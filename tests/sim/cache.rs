//! The cache under seeds: many clients over several shards, an origin that fails in all ways, purges in between.
//!
//! Decides: the odds of a run. The checks are those of the clients and of the origin; and at all times what is charged
//! stays within the budget, at the end it is what is stored.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use corelane::cache::Cache;
use corelane::cache::entry::{Entry, Kind};
use corelane::config::plan::Nanos;

use asker::{Asker, REQUEST_NS_MAX, Want, Went, at_last};
use origin::{Odds, Origin};
use said::Sort;

use crate::net::{Door, Weather};
use crate::random::{Replay, range};
use crate::stage::{PLAN, Stage, address, plan};
use crate::world::{MS, Rng, SECOND, mix};

mod asker;
mod origin;
mod said;

/// What is different from run to run.
#[derive(Debug, Clone, Copy)]
struct Setting {
    calm: bool,
    odds: Odds,
    budget: Room,
    /// Percent of requests that are no plain GET.
    oddness: u64,
    leaves: u64,
    doors: u64,
    slow: u64,
    purges: u64,
    clients: u64,
    sorts: usize,
    spread_ns: Nanos,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    Ample,
    /// Responses are larger than what is stored of one.
    LowCap,
    /// Nearly nothing fits.
    Tiny,
}

impl Room {
    fn text(self) -> &'static str {
        match self {
            Room::Ample => "max_bytes = \"64MiB\"",
            Room::LowCap => "max_bytes = \"1MiB\"\nmax_object = \"4KiB\"",
            Room::Tiny => "max_bytes = \"64KiB\"\nmax_object = \"32KiB\"\nmax_entries = 16",
        }
    }

    fn object_bytes_max(self) -> usize {
        match self {
            Room::Ample => 1024 * 1024,
            Room::LowCap => 4 * 1024,
            Room::Tiny => 32 * 1024,
        }
    }
}

impl Setting {
    fn of(rng: &mut Rng) -> Setting {
        let calm = rng.chance(40);
        let mut percent = |most: u64| match calm || rng.chance(50) {
            true => 0,
            false => rng.below(most),
        };
        let (flaws, hangs, doors, slow) = (percent(50), percent(15), percent(30), percent(20));
        let budget = match rng.below(4) {
            0 => Room::LowCap,
            1 => Room::Tiny,
            _ => Room::Ample,
        };
        let spread_ns = rng.pick(&[0, 50 * MS, SECOND, 4 * SECOND]);
        Setting {
            calm,
            odds: Odds {
                flaws,
                hangs,
                think_ns: rng.pick(&[0, 20 * MS, 900 * MS]),
                pause_ns: rng.pick(&[0, 5 * MS, 60 * MS]),
                bytes_max: rng.pick(&[300, 10_000, 40_000]),
                counts: budget == Room::Ample && hangs == 0 && doors == 0,
            },
            budget,
            oddness: rng.pick(&[0, 20, 60]),
            leaves: rng.pick(&[0, 0, 20, 70]),
            doors,
            slow,
            purges: rng.pick(&[0, 0, 3, 12]),
            clients: 1 + rng.below(24),
            sorts: 1 + rng.below(Sort::ALL.len() as u64) as usize,
            spread_ns,
        }
    }
}

struct Run {
    stage: Stage,
    origin: Rc<Origin>,
    cache: Arc<Cache>,
    setting: Setting,
    left: Rc<Cell<usize>>,
    wents: Rc<RefCell<Vec<Went>>>,
    whos: Cell<u64>,
}

impl Run {
    fn new(seed: u64, rng: &mut Rng, setting: Setting) -> Run {
        let weather = Weather {
            short: rng.pick(&[0, 10, 50, 90]),
            latency_ns: rng.pick(&[0, 100_000, 5 * MS, 40 * MS]),
            late: rng.pick(&[0, 0, 20]),
            window: rng.pick(&[700, 4_096, 65_536]),
        };
        let text = format!("{PLAN}[cache]\nenabled = true\n{}\n", setting.budget.text());
        let shards = 1 + rng.below(3) as usize;
        let stage = Stage::new(seed, weather, &plan(&text), shards, false);
        let cache = stage.shared.cache.clone().expect("it is on");
        let looked_at = Arc::clone(&cache);
        stage.world.always(move || {
            let figures = looked_at.table.figures();
            assert!(figures.bytes <= figures.bytes_max, "{figures:?}");
        });
        let run = Run {
            origin: Origin::new(&stage.world, setting.odds),
            stage,
            cache,
            setting,
            left: Rc::default(),
            wents: Rc::default(),
            whos: Cell::new(1),
        };
        run.listen();
        run
    }

    fn listen(&self) {
        for number in 0..3 {
            let (origin, doors) = (Rc::clone(&self.origin), self.setting.doors);
            let rng = RefCell::new(self.stage.world.fork());
            let door = move || {
                let mut rng = rng.borrow_mut();
                match rng.chance(doors) {
                    true => rng.pick(&[Door::Refuse, Door::Hang]),
                    false => Door::Accept,
                }
            };
            let whos = Cell::new(1_000_000 * (number as u64 + 1));
            self.stage.net.listen(address(number), door, move |stream| {
                whos.set(whos.get() + 1);
                let serve = Rc::clone(&origin).serve(stream, whos.get());
                origin.world.spawn(serve);
            });
        }
    }

    fn client(&self, wants: Vec<Want>, start_ns: Nanos, pause_ns: Nanos, calm: bool) {
        let shards = self.stage.shards.len() as u64;
        let connectors: Vec<_> = (0..shards)
            .map(|at| self.stage.connector(at as usize))
            .collect();
        let world = self.stage.world.clone();
        let pick = world.clone();
        self.whos.set(self.whos.get() + 1);
        let asker = Asker {
            origin: Rc::clone(&self.origin),
            connect: Box::new(move || connectors[pick.below(shards) as usize]()),
            who: self.whos.get(),
            calm,
        };
        let (left, wents) = (Rc::clone(&self.left), Rc::clone(&self.wents));
        left.set(left.get() + 1);
        self.stage.world.spawn(async move {
            world.sleep(start_ns).await;
            // Who reads slowly decides himself.
            let is_slow = wants.iter().any(|want| want.slow_ns > 0);
            let most_ns = match is_slow {
                true => Nanos::MAX,
                false => wants.len() as u64 * (REQUEST_NS_MAX + pause_ns),
            };
            let began_ns = world.now();
            let went = asker.run(wants, pause_ns).await;
            let took_ns = world.now() - began_ns;
            assert!(took_ns <= most_ns, "{took_ns} for {went:?}");
            wents.borrow_mut().extend(went);
            left.set(left.get() - 1);
        });
    }

    /// Forgets some keys, now and then, by one way or the other.
    fn purge(&self, sorts: &[Sort], rng: &mut Rng) {
        let (cache, origin) = (Arc::clone(&self.cache), Rc::clone(&self.origin));
        let (host, sort) = (rng.pick(&["one.test", "two.test"]), rng.pick(sorts));
        let path = sort.path();
        let (exactly, forgets) = (rng.chance(50), rng.chance(30));
        let shared = Arc::clone(&self.stage.shared);
        self.stage.after(rng.below(3 * SECOND), move || {
            if exactly {
                let text = format!("http://{host}{path}");
                cache.invalidate(cache.hash(&shared.plan.routes[0], text.as_bytes()));
                return origin.raise(&format!("{host}{path}"), origin.event());
            }
            // All of a host, or everything.
            let prefix = format!("http://{}", if forgets { "" } else { host });
            cache.purge(|entry| entry.key().starts_with(prefix.as_bytes()));
            let came = origin.event();
            for sort in Sort::ALL {
                for each in ["one.test", "two.test"] {
                    let key = format!("{each}{}", sort.path());
                    match forgets || each == host {
                        true => origin.raise(&key, came),
                        // What is being fetched is not stored, whatever its key.
                        false => origin.loosen(&key),
                    }
                }
            }
        });
    }

    fn run_clients(&self) {
        let left = Rc::clone(&self.left);
        self.stage.world.run_until(|| left.get() == 0);
    }

    /// What is charged is what is stored, and what is stored is whole and in its place.
    fn check_stored(&self) {
        let bytes = Cell::new(0);
        self.cache.table.sweep(|entry| {
            let cost = Entry::cost_bytes(entry.key().len(), entry.head().len(), entry.body.len());
            bytes.set(bytes.get() + cost.next_multiple_of(64));
            if entry.kind() == Kind::Response {
                self.check_entry(entry);
            }
            false
        });
        let figures = self.cache.table.figures();
        assert_eq!(figures.bytes, bytes.get(), "{figures:?}");
    }

    fn check_entry(&self, entry: &Entry) {
        let head = std::str::from_utf8(entry.head()).expect("a head is ASCII here");
        let mut lines = head.lines();
        let serial = lines.find_map(|line| line.strip_prefix("X-Serial: "));
        let serial = serial.and_then(|serial| serial.parse().ok());
        let said = self.origin.said(serial.unwrap_or_else(|| panic!("{head}")));
        let key = format!("http://{}", said.key);
        assert_eq!(entry.key(), key.as_bytes(), "{head}");
        assert!(!said.is_private, "{said:?} is stored");
        assert!(said.is_whole && entry.body == said.body(), "{said:?}");
        assert!(
            entry.body.len() <= self.setting.budget.object_bytes_max(),
            "{said:?}"
        );
        // Variants may stay where nobody finds them any more.
        let floor = self.origin.floor(&said.key, u64::MAX);
        let is_variant = said.key.ends_with(&Sort::Varied.path());
        assert!(
            is_variant || said.came >= floor,
            "older than a purge: {said:?}"
        );
    }

    /// Gives the trace, and how the requests went.
    fn finish(self, sorts: &[Sort]) -> (u64, Vec<Went>) {
        self.run_clients();
        // What is fetched beside the requests may take a minute.
        let is_rough = self.setting.doors + self.setting.odds.hangs > 0;
        let is_long = is_rough && sorts.contains(&Sort::Windowed);
        self.stage.run_for(if is_long { 70 } else { 10 } * SECOND);
        self.check_stored();
        if self.setting.calm {
            self.client(at_last(sorts), 0, 0, true);
            self.run_clients();
            self.stage.run_for(5 * SECOND);
            self.check_stored();
        }
        self.cache.purge(|_| true);
        assert_eq!(
            self.cache.table.figures().bytes,
            0,
            "something is still charged"
        );
        let trace = self.stage.finish();
        (trace, self.wents.take())
    }
}

fn run(seed: u64) -> (u64, Setting, Vec<Went>) {
    let mut rng = Rng::new(mix(seed ^ 0xcac4e));
    let setting = Setting::of(&mut rng);
    let run = Run::new(seed, &mut rng, setting);
    let mut sorts = Sort::ALL.to_vec();
    while sorts.len() > setting.sorts {
        let at = rng.below(sorts.len() as u64) as usize;
        sorts.swap_remove(at);
    }
    for _ in 0..setting.clients {
        let count = 1 + rng.below(5);
        let mut wants: Vec<Want> = (0..count)
            .map(|_| Want::some(&mut rng, &sorts, setting.oddness, setting.leaves))
            .collect();
        for want in &mut wants {
            want.slow_ns = match rng.chance(setting.slow) {
                true => rng.pick(&[30 * MS, 5 * SECOND]),
                false => 0,
            };
        }
        let pause_ns = rng.pick(&[0, 100 * MS, 2 * SECOND]);
        run.client(
            wants,
            rng.below(setting.spread_ns + 1),
            pause_ns,
            setting.calm,
        );
    }
    for _ in 0..setting.purges {
        run.purge(&sorts, &mut rng);
    }
    let (trace, wents) = run.finish(&sorts);
    (trace, setting, wents)
}

/// Runs without `SIM_RUNS`.
const RUNS: u64 = 150;

#[test]
fn cached() {
    for seed in range(RUNS) {
        let _replay = Replay(seed, "cached");
        let (trace, ..) = run(seed);
        if seed.is_multiple_of(10) {
            assert_eq!(trace, run(seed).0, "seed {seed} is not repeatable");
        }
    }
}
