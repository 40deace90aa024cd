//! A run: shards of the proxy, clients and backends in one simulated world.
//!
//! Decides: how a run is put up, and what must hold when it is over. Invariant: nothing of a run outlives it.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use corelane::config::plan::{Nanos, Plan};
use corelane::config::{self, Source};
use corelane::conn;
use corelane::metrics::{self, Counter, Gauge, Info, Reason, ShardMetrics};
use corelane::shard::{Peer, Shard};
use corelane::shared::{Shared, Stop};

use crate::backend::{self, Manner};
use crate::client::{Client, Excuses, Script, Seen};
use crate::http::patience;
use crate::model::Ledger;
use crate::net::{Door, Net, SimStream, Weather};
use crate::world::{SECOND, World};

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
        let shared = Arc::new(Shared::new(Arc::clone(plan), shards, u32::MAX));
        let ticking = Rc::new(Cell::new(shards));
        let mut all_metrics = Vec::new();
        let shards = (0..shards)
            .map(|number| {
                let metrics = Arc::new(ShardMetrics::new(plan.backends.len()));
                all_metrics.push(Arc::clone(&metrics));
                let shared = Arc::clone(&shared);
                let shard = Shard::new(number, net.clone(), shared, metrics, None);
                let (tick, left) = (Rc::clone(&shard).tick(), Rc::clone(&ticking));
                world.spawn(async move {
                    tick.await;
                    left.set(left.get() - 1);
                });
                shard
            })
            .collect();
        Stage {
            ledger: Ledger::new(calm),
            net,
            shared,
            shards,
            all_metrics,
            draining: Rc::default(),
            clients: Rc::default(),
            ticking,
            whos: Cell::new(1),
            world,
        }
    }

    pub fn backend(&self, number: usize, door: impl Fn() -> Door + 'static, manner: Manner) {
        let (world, ledger) = (self.world.clone(), self.ledger.clone());
        let whos = Cell::new(1_000_000 * (number as u64 + 1));
        self.net.listen(address(number), door, move |stream| {
            whos.set(whos.get() + 1);
            let (on, ledger) = (world.clone(), ledger.clone());
            let serve = backend::serve(on, ledger, stream, manner.clone(), whos.get());
            world.spawn(serve);
        });
    }

    /// A connection to a shard as the listener makes it; `None`: refused.
    pub fn connect(&self, shard: usize) -> Option<SimStream> {
        connect(&self.net, &self.shards[shard])
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
        let info = Info {
            backends: self.shards[0]
                .plan
                .backends
                .iter()
                .enumerate()
                .map(info)
                .collect(),
            ..Info::default()
        };
        let mut text = String::new();
        metrics::render(&mut text, &self.all_metrics, &info);
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
        let idle = |shard: &Rc<Shard<Net>>| shard.pool.borrow().len();
        let pooled: usize = self.shards.iter().map(idle).sum();
        assert_eq!(self.gauge(Gauge::PoolIdleConnections), pooled as u64);
        assert_eq!(self.net.census(), pooled, "the proxy holds a connection");
        if !self.draining.get() {
            assert_eq!(pooled, 0, "idle connections expire");
        }
        for shard in &self.shards {
            assert_eq!(shard.warm.get(), 0, "a warm slot is lost");
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

fn connect(net: &Net, shard: &Rc<Shard<Net>>) -> Option<SimStream> {
    if shard.is_draining() {
        return None;
    }
    let open = shard.open_connection()?;
    let (ours, theirs) = net.link();
    let peer = Peer::new(shard, IpAddr::from([192, 0, 2, 1]), &Rc::from("8080"));
    net.world
        .spawn(conn::serve(Rc::clone(shard), ours, peer, open));
    Some(theirs)
}

fn info((number, backend): (usize, &corelane::config::plan::Backend)) -> metrics::BackendInfo {
    metrics::BackendInfo {
        cluster: "default".to_owned(),
        backend: format!("{number} {}", backend.url),
    }
}

fn value(line: &str) -> u64 {
    let number = line.rsplit(' ').next().expect("a value");
    number.parse().unwrap_or_else(|_| panic!("{line}"))
}
