//! A run: shards of the proxy, clients and backends in one simulated world.
//!
//! Decides: how a run is put up, and what must hold when it is over. Invariant: nothing of a run outlives it.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use corelane::backends::Change;
use corelane::config::plan::{Level, Nanos, Plan};
use corelane::config::{self, Source};
use corelane::conn;
use corelane::health::Watch;
use corelane::log::Events;
use corelane::metrics::{self, Counter, Gauge, Info, Reason, ShardMetrics};
use corelane::policy::{BackendId, ClusterId, RouteId};
use corelane::shard::{Peer, Shard};
use corelane::shared::{Shared, Stop};

use crate::backend::{self, Manner};
use crate::client::{Client, Excuses, Script, Seen};
use crate::http::patience;
use crate::life::Life;
use crate::model::Ledger;
use crate::net::{Door, Net, SimStream, Weather};
use crate::world::{MS, SECOND, World};

/// The pace of the health thread.
const STEP_NS: Nanos = 50 * MS;

/// Short deadlines, so that a run sees them all.
pub const PLAN: &str = r#"
backends = ["http://10.0.0.1:80", "http://10.0.0.2:80", "http://10.0.0.3:80"]
[timeouts]
client_header = "2s"
client_body = "2s"
client_write = "2s"
keepalive = "3s"
connect = "1s"
first_byte = "2s"
backend_idle = "2s"
tunnel = "4s"
[limits]
header_bytes = "4KiB"
[pool]
idle_timeout = "3s"
[watchdog]
stuck = "1h"
"#;

pub fn plan(text: &str) -> Arc<Plan> {
    let loaded = config::load(Source::of("sim", text));
    let (_, plan) = loaded.unwrap_or_else(|problems| panic!("{problems}"));
    Arc::new(plan)
}

pub fn address(backend: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, backend as u8 + 1], 80))
}

/// What came for the requests of one client.
pub type Seens = Rc<RefCell<Vec<Seen>>>;

pub struct Stage {
    pub world: World,
    pub net: Net,
    pub ledger: Ledger,
    pub shared: Arc<Shared>,
    pub shards: Vec<Rc<Shard<Net>>>,
    /// Backends' changes of standing, for who watches them.
    changes: Cell<Option<Receiver<Change>>>,
    /// What the watch has told.
    pub told: Arc<corelane::ledger::Ledger>,
    all_metrics: Vec<Arc<ShardMetrics>>,
    draining: Rc<Cell<bool>>,
    clients: Rc<Cell<usize>>,
    ticking: Rc<Cell<usize>>,
    whos: Cell<u64>,
}

impl Stage {
    pub fn new(seed: u64, weather: Weather, plan: &Arc<Plan>, shards: usize, calm: bool) -> Stage {
        let world = World::new(seed);
        let net = Net::new(&world, weather);
        let all_metrics: Vec<_> = (0..shards)
            .map(|_| {
                Arc::new(ShardMetrics::new(plan.backends.len()).with_limits(plan.rate_limits.len()))
            })
            .collect();
        let (shared, changes) =
            Shared::new(Arc::clone(plan), all_metrics.clone(), u32::MAX, [7; 32]);
        let shared = Arc::new(shared);
        let ticking = Rc::new(Cell::new(shards));
        let shards = (0..shards)
            .map(|number| {
                let shared = Arc::clone(&shared);
                let shard = Shard::new(number, net.clone(), shared, None);
                let (tick, left) = (Rc::clone(&shard).tick(), Rc::clone(&ticking));
                world.spawn(async move {
                    tick.await;
                    left.set(left.get() - 1);
                });
                shard
            })
            .collect();
        Stage {
            ledger: Ledger::new(calm, plan),
            net,
            shared,
            shards,
            changes: Cell::new(Some(changes)),
            told: Arc::new(corelane::ledger::Ledger::new(plan.backends.len())),
            all_metrics,
            draining: Rc::default(),
            clients: Rc::default(),
            ticking,
            whos: Cell::new(1),
            world,
        }
    }

    /// Runs what the health thread runs. Gives its network, which counts its connections.
    pub fn watch(&self) -> Net {
        let net = self.net.apart();
        let changes = self.changes.take().expect("one watch is enough");
        let watch = Watch::new(
            net.clone(),
            Arc::clone(&self.shared),
            Arc::clone(&self.told),
            Events::to_stderr(Level::Error),
            None,
        );
        drop(watch.begin_checks());
        let world = self.world.clone();
        self.world.spawn(async move {
            loop {
                watch.step(&changes);
                world.sleep(STEP_NS).await;
            }
        });
        net
    }

    /// A backend that may die.
    pub fn mortal(&self, number: usize, manner: Manner) -> Rc<Life> {
        let life = Rc::new(Life::new(self.ledger.clone(), number));
        let (world, ledger) = (self.world.clone(), self.ledger.clone());
        let (door, lives) = (Rc::clone(&life), Rc::clone(&life));
        let whos = Cell::new(1_000_000 * (number as u64 + 1));
        let accept = move |stream| {
            whos.set(whos.get() + 1);
            let (on, ledger) = (world.clone(), ledger.clone());
            let serve = backend::serve(on, ledger, stream, manner.clone(), number, whos.get());
            world.spawn(Rc::clone(&lives).during(serve));
        };
        self.net
            .listen(address(number), move || door.door(), accept);
        life
    }

    pub fn backend(&self, number: usize, door: impl Fn() -> Door + 'static, manner: Manner) {
        let (world, ledger) = (self.world.clone(), self.ledger.clone());
        let whos = Cell::new(1_000_000 * (number as u64 + 1));
        self.net.listen(address(number), door, move |stream| {
            whos.set(whos.get() + 1);
            let (on, ledger) = (world.clone(), ledger.clone());
            let manner = manner.clone();
            let serve = backend::serve(on, ledger, stream, manner, number, whos.get());
            world.spawn(serve);
        });
    }

    /// A connection to a shard as the listener makes it; `None`: refused.
    pub fn connect(&self, shard: usize) -> Option<SimStream> {
        connect(&self.net, &self.shards[shard])
    }

    /// What opens connections to a shard.
    pub fn connector(&self, shard: usize) -> impl Fn() -> SimStream + use<> {
        let (net, shard) = (self.net.clone(), Rc::clone(&self.shards[shard]));
        move || connect(&net, &shard).expect("there is room")
    }

    /// Runs a client's script beside all others.
    pub fn client(&self, script: Script) -> Seens {
        let seens = Seens::default();
        self.whos.set(self.whos.get() + 1);
        let client = Client {
            world: self.world.clone(),
            ledger: self.ledger.clone(),
            excuses: Excuses {
                world: self.world.clone(),
                draining: Rc::clone(&self.draining),
            },
            who: self.whos.get(),
        };
        let (net, world) = (self.net.clone(), self.world.clone());
        let shard = self.world.below(self.shards.len() as u64) as usize;
        let shard = Rc::clone(&self.shards[shard]);
        let clients = Rc::clone(&self.clients);
        clients.set(clients.get() + 1);
        let seen = Rc::clone(&seens);
        let start_ns = world.below(script.start_ns + 1);
        self.world.spawn(async move {
            world.sleep(start_ns).await;
            if let Some(stream) = connect(&net, &shard) {
                let all = client.run(stream, script).await;
                *seen.borrow_mut() = all;
            }
            clients.set(clients.get() - 1);
        });
        seens
    }

    pub fn after(&self, ns: Nanos, event: impl FnOnce() + 'static) {
        let world = self.world.clone();
        self.world.spawn(async move {
            world.sleep(ns).await;
            event();
        });
    }

    /// An event that begins the drain.
    pub fn drain(&self) -> impl FnOnce() + 'static {
        let (shared, draining) = (Arc::clone(&self.shared), Rc::clone(&self.draining));
        move || {
            draining.set(true);
            shared.set_stop(Stop::Drain);
        }
    }

    pub fn run_clients(&self) {
        let clients = Rc::clone(&self.clients);
        self.world.run_until(|| clients.get() == 0);
    }

    pub fn run_for(&self, ns: Nanos) {
        let over = Rc::new(Cell::new(false));
        let (world, set) = (self.world.clone(), Rc::clone(&over));
        self.world.spawn(async move {
            patience(&world, ns).await;
            set.set(true);
        });
        self.world.run_until(|| over.get());
    }

    pub fn gauge(&self, gauge: Gauge) -> u64 {
        self.all_metrics.iter().map(|m| m.gauge(gauge)).sum()
    }

    pub fn counter(&self, counter: Counter) -> u64 {
        self.all_metrics.iter().map(|m| m.counter(counter)).sum()
    }

    pub fn rejects(&self, reason: Reason) -> u64 {
        let text = self.metrics_text();
        let label = format!("reason=\"{}\"", reason.label());
        let lines = text
            .lines()
            .filter(|line| line.starts_with("corelane_reject"));
        lines.filter(|line| line.contains(&label)).map(value).sum()
    }

    pub fn metrics_text(&self) -> String {
        let mut text = String::new();
        let ledger = corelane::ledger::Ledger::new(self.shared.plan.backends.len());
        metrics::render(&mut text, &self.shared, &ledger, &Info::default(), 0);
        let ours = |line: &&str| !line.contains("process_");
        text.lines()
            .filter(ours)
            .flat_map(|line| [line, "\n"])
            .collect()
    }

    /// Runs to the end, and checks that nothing is left. Gives the trace.
    pub fn finish(self) -> u64 {
        self.finish_within(10 * SECOND)
    }

    /// `ns` is longer than every deadline: what is still there then stays for ever.
    pub fn finish_within(self, ns: Nanos) -> u64 {
        self.run_clients();
        self.run_for(ns);
        assert_eq!(
            self.gauge(Gauge::ClientConnections),
            0,
            "a client connection stays"
        );
        assert_eq!(self.gauge(Gauge::Tunnels), 0, "a tunnel stays");
        assert_eq!(self.shared.connections(), 0);
        self.nothing_is_counted();
        let idle = |shard: &Rc<Shard<Net>>| shard.pool.borrow().len();
        let pooled: usize = self.shards.iter().map(idle).sum();
        assert_eq!(self.gauge(Gauge::PoolIdleConnections), pooled as u64);
        assert_eq!(self.net.census(), pooled, "the proxy holds a connection");
        if !self.draining.get() {
            assert_eq!(pooled, 0, "idle connections expire");
        }
        for shard in &self.shards {
            assert_eq!(shard.warm.get(), 0, "a warm slot is lost");
            assert_eq!(shard.encoders.lent_bytes(), 0, "an encoder is lost");
        }
        let text = self.metrics_text();
        for line in text
            .lines()
            .filter(|l| l.starts_with("corelane_backend_inflight{"))
        {
            assert_eq!(value(line), 0, "{line}");
        }
        self.drain()();
        self.run_for(SECOND);
        assert_eq!(
            self.ticking.get(),
            0,
            "a shard does not end after its drain"
        );
        self.world.note(0, text.as_bytes());
        let trace = self.world.trace();
        self.world.end();
        trace
    }
}

impl Stage {
    /// No request is under way, so each count of requests is where it began.
    fn nothing_is_counted(&self) {
        assert_eq!(self.gauge(Gauge::ActiveRequests), 0, "active requests");
        assert_eq!(self.gauge(Gauge::QueuedRequests), 0, "queued requests");
        let backends = &self.shared.backends;
        for at in 0..self.shared.plan.backends.len() {
            let id = BackendId(at as u32);
            assert_eq!(backends.load(id), 0, "load of {at}");
            let (admitted, passed) = backends.word(id).trials();
            assert_eq!(admitted, passed, "trials of {at}: {:?}", backends.word(id));
            let open = self.net.count(address(at)).now();
            assert_eq!(backends.connections(id) as usize, open, "slots of {at}");
        }
        for at in 0..self.shared.plan.clusters.len() {
            let id = ClusterId(at as u32);
            assert_eq!(backends.cluster_load(id), 0, "load of cluster {at}");
            assert_eq!(backends.waiting(id), 0, "waiting for cluster {at}");
        }
        for (at, route) in self.shared.plan.routes.iter().enumerate() {
            let (id, most) = (RouteId(at as u32), route.requests_max);
            let entered = (0..most).filter(|_| self.shared.request_enters(id, most));
            assert_eq!(entered.count(), most as usize, "requests of route {at}");
            (0..most).for_each(|_| self.shared.request_leaves(id));
        }
        let least = self.shared.plan.budget.least;
        let begun = (0..least + 1).filter(|_| self.shared.retry_begins());
        assert_eq!(begun.count(), least as usize, "retries");
        (0..least).for_each(|_| self.shared.retry_ends());
    }
}

fn connect(net: &Net, shard: &Rc<Shard<Net>>) -> Option<SimStream> {
    if shard.is_draining() {
        return None;
    }
    let peer = Peer::new(shard, IpAddr::from([192, 0, 2, 1]), &Rc::from("8080"));
    let open = shard.open_connection(&peer).ok()?;
    let (ours, theirs) = net.link();
    net.world
        .spawn(conn::serve(Rc::clone(shard), ours, peer, open));
    Some(theirs)
}

fn value(line: &str) -> u64 {
    let number = line.rsplit(' ').next().expect("a value");
    number.parse().unwrap_or_else(|_| panic!("{line}"))
}
