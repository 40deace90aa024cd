//! Everything that one core owns.
//!
//! Decides: whether a connection is taken, when buffers are given up, when the shard is done. May not know: HTTP. Invariant: no borrow of a cell outlives an await; nothing here is seen by another
//! core except through `shared` and `metrics`.

use std::cell::{Cell, Ref, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use crate::backends::Balances;
use crate::buf::{Buf, Free, Spares};
use crate::cache::caching::Caching;
use crate::cache::watch::{self, Watches};
use crate::codec::Encoders;
use crate::config::plan::{Destination, Nanos, Plan};
use crate::filters::Found;
use crate::h1::answer;
use crate::io::Io;
use crate::link::Connection;
use crate::log::{Clock, LogQueue};
use crate::metrics::{Counter, Gauge, Reason, ShardMetrics};
use crate::mirror::Copies;
use crate::policy::balance::{Turn, hash};
use crate::policy::filter::jwt::Tokens;
use crate::policy::hedge::Delay;
use crate::policy::idle::Suspicion;
use crate::policy::limit::Leases;
use crate::policy::{BackendId, ClusterId};
use crate::pool::Pool;
use crate::queue::Queue;
use crate::record::Note;
use crate::relay::Pipes;
use crate::shared::{Shared, Stop};
use crate::timer::{TICK_NS, Timers};

/// A read buffer: a head of usual size with the small body behind it. Longer heads grow their buffer up to the limit.
/// Not larger, because what of a long body comes with the head is copied and only the rest is spliced: 8 KiB instead
/// of 16 KiB took 64 KiB responses from 0.94 to 0.78 of nginx in one
/// interleaved run (see docs/DECISIONS.md).
pub const BUF_BYTES: usize = 8 * 1024;

/// A buffer for long bodies that cannot be spliced.
pub const LARGE_BYTES: usize = 128 * 1024;

/// Free buffers kept per shard: 256 × 8 KiB = 2 MiB, and 8 × 128 KiB.
const BUFS_MAX: usize = 256;
const LARGE_MAX: usize = 8;

/// Idle connections per shard that may wait with a buffer in hand; more wait without one, which costs some hundred
/// instructions per request but no memory. With more connections in turn than this, buffers grow cold in the waiting:
/// at 1,000, 256 warm ones cost 1.03 of 128, and 1,024 cost 1.18 of 256; at 64, none at all cost 1.04 of 128 (corelane
/// bench compare --only connections).
pub const WARM_MAX: u32 = 128;

/// A batch of access lines is handed to the writer at this size, or at the next tick.
const LOG_BATCH_BYTES: usize = 32 * 1024;

/// Room for a line more than the last batch had.
const LOG_SPARE_BYTES: usize = 2 * 1024;

/// Ticks between two computations of the delay of hedging: one second.
const REFRESH_TICKS: u64 = 1_000_000_000 / TICK_NS;

pub struct Shard<I: Io> {
    pub number: usize,
    pub io: I,
    pub shared: Arc<Shared>,
    pub plan: Arc<Plan>,
    pub metrics: Arc<ShardMetrics>,
    pub timers: Rc<Timers>,
    pub pool: RefCell<Pool<Connection<I::Stream>>>,
    /// Indexed by `BackendId`: what is concluded of the age at which it closes idle connections.
    pub suspicions: Vec<Cell<Suspicion>>,
    pub pipes: RefCell<Pipes>,
    pub encoders: Encoders,
    /// Indexed by `ClusterId`: where this shard stands in the order of the backends, and in that of the backups.
    pub turns: Vec<[Cell<Turn>; 2]>,
    /// Weights set at run time; indexed by `ClusterId`.
    pub balances: RefCell<Vec<Option<Arc<Balances>>>>,
    /// The number of changes of weights that are in `balances`.
    weights_seen: Cell<u32>,
    /// Indexed by `ClusterId`: something is decided by how many requests its backends have.
    counted: Vec<bool>,
    /// Indexed by `ClusterId`: its choice depends on how fast backends answer.
    timed: Vec<bool>,
    /// Indexed by `ClusterId`: where hedging is on, after which delay.
    pub delays: Vec<Option<RefCell<Delay>>>,
    /// Indexed by `RouteId`: where this shard stands in the route's split.
    pub splits: Vec<Cell<u32>>,
    /// Indexed by `ClusterId`.
    pub queues: Vec<Queue>,
    random: Cell<u64>,
    bufs: RefCell<Free>,
    large: RefCell<Free>,
    /// Idle connections that wait with a buffer; at most `WARM_MAX`.
    pub warm: Cell<u32>,
    connections: Cell<u32>,
    draining: Cell<bool>,
    log: Option<LogQueue>,
    log_batch: RefCell<LogBatch>,
    /// Idle connections per backend that this shard may keep.
    pub idle_max: Vec<usize>,
    pub clock: RefCell<Clock>,
    wall: RefCell<Wall>,
    notes: Spares<Note>,
    found: Spares<Found>,
    cachings: Spares<Caching>,
    /// Copies of requests under way.
    pub copies: Cell<Copies>,
    /// Indexed by `LimitId`; of the leased ones.
    pub leases: Vec<Option<RefCell<Leases>>>,
    /// Bytes of bodies that are held for `buffering.request`.
    pub buffered: Cell<usize>,
    /// Tokens that were genuine lately.
    pub tokens: RefCell<Tokens>,
    /// Requests that wait for what another fetches.
    pub watches: Watches,
}

/// The wall clock, read once a tick; between ticks it follows the monotonic clock.
#[derive(Debug, Default)]
struct Wall {
    unix_ms: u64,
    at_ns: Nanos,
    /// The Date field of this second.
    date: String,
}

impl Wall {
    fn set(&mut self, unix_ms: u64, now: Nanos) {
        if self.date.is_empty() || unix_ms / 1000 != self.unix_ms / 1000 {
            self.date.clear();
            answer::http_date(&mut self.date, unix_ms / 1000);
        }
        self.unix_ms = unix_ms;
        self.at_ns = now;
    }
}

#[derive(Default)]
struct LogBatch {
    bytes: Vec<u8>,
    lines: u64,
}

/// Who is at the other end of a client connection, fixed when it is accepted.
#[derive(Debug, Clone)]
pub struct Peer {
    pub ip: IpAddr,
    pub ip_text: Box<str>,
    /// The port that the client connected to, for X-Forwarded-Port.
    pub port_text: Rc<str>,
    /// The peer is one of `trusted_proxies`.
    pub trusted: bool,
}

impl Peer {
    pub fn new<I: Io>(shard: &Shard<I>, ip: IpAddr, port_text: &Rc<str>) -> Self {
        Peer {
            ip,
            ip_text: ip.to_string().into(),
            port_text: Rc::clone(port_text),
            trusted: shard.plan.forwarding.trusts(ip),
        }
    }

    /// It came by a unix socket: there are no addresses.
    fn is_local(&self) -> bool {
        self.port_text.is_empty()
    }
}

impl<I: Io> Shard<I> {
    pub fn new(number: usize, io: I, shared: Arc<Shared>, log: Option<LogQueue>) -> Rc<Self> {
        let plan = Arc::clone(&shared.plan);
        let shards = shared.shards();
        let (unix_ms, place) = (io.unix_ms().to_le_bytes(), (number as u64).to_le_bytes());
        // Ids of requests are made of it: nobody shall guess the next one.
        let seed = hash(&[&shared.secret[..], &unix_ms, &place].concat());
        let turns = plan.clusters.iter().map(|cluster| {
            let main = cluster.balance.start(number, shards, seed);
            let backup = cluster.backup.as_ref();
            let backup = backup.map_or(main, |backup| backup.start(number, shards, seed));
            [Cell::new(main), Cell::new(backup)]
        });
        let turns = turns.collect();
        let splits = plan.routes.iter().map(|route| match &route.destination {
            Destination::One(_) | Destination::Own(_) => Cell::new(0),
            // As with backends: the shards begin at different places, so that their sum is fair too.
            Destination::Split(split) => Cell::new((split.order.len() * number / shards) as u32),
        });
        let splits = splits.collect();
        let counted = plan.clusters.iter().map(|cluster| {
            let backup = cluster.backup.as_ref();
            cluster.adaptive.is_some()
                || cluster.balance.needs_load()
                || backup.is_some_and(|backup| backup.needs_load())
        });
        let counted = counted.collect();
        let timed = plan.clusters.iter().map(|cluster| {
            cluster.balance.needs_latency()
                || cluster.hedge_percentile.is_some()
                || cluster.adaptive.is_some()
        });
        let timed = timed.collect();
        let delays = plan.clusters.iter().map(|cluster| {
            let delay = cluster.hedge_percentile.map(Delay::new);
            delay.map(RefCell::new)
        });
        let delays = delays.collect();
        let shard = Rc::new(Shard {
            number,
            timers: Timers::new(io.now()),
            pool: RefCell::new(Pool::new(plan.backends.len())),
            suspicions: plan.backends.iter().map(|_| Cell::default()).collect(),
            pipes: RefCell::default(),
            encoders: Encoders::default(),
            turns,
            balances: RefCell::new(plan.clusters.iter().map(|_| None).collect()),
            weights_seen: Cell::new(0),
            counted,
            timed,
            delays,
            splits,
            queues: plan.clusters.iter().map(|_| Queue::default()).collect(),
            random: Cell::new(seed),
            bufs: RefCell::new(Free::new(BUF_BYTES, BUFS_MAX)),
            large: RefCell::new(Free::new(LARGE_BYTES, LARGE_MAX)),
            warm: Cell::new(0),
            connections: Cell::new(0),
            draining: Cell::new(false),
            log,
            log_batch: RefCell::default(),
            idle_max: idle_max(&plan, shards),
            clock: RefCell::default(),
            wall: RefCell::default(),
            notes: Spares::default(),
            found: Spares::default(),
            cachings: Spares::default(),
            copies: Cell::default(),
            buffered: Cell::new(0),
            leases: shared.tables.leases(&plan, shards),
            tokens: RefCell::new(Tokens::new(&shared.secret)),
            watches: Watches::default(),
            plan,
            io,
            metrics: Arc::clone(&shared.metrics[number]),
            shared,
        });
        shard.read_clocks();
        shard
    }

    fn read_clocks(&self) {
        let now = self.io.now();
        self.wall.borrow_mut().set(self.io.unix_ms(), now);
        self.timers.advance(now);
    }

    /// The wall clock at a point of the monotonic one, in milliseconds since 1970.
    pub fn unix_ms_at(&self, now: Nanos) -> u64 {
        let wall = self.wall.borrow();
        let behind_ms = wall.at_ns.saturating_sub(now) / 1_000_000;
        wall.unix_ms.saturating_sub(behind_ms) + now.saturating_sub(wall.at_ns) / 1_000_000
    }

    /// Now, as a Date field.
    pub fn date(&self) -> Ref<'_, str> {
        Ref::map(self.wall.borrow(), |wall| &*wall.date)
    }

    pub fn buf(&self) -> Buf {
        self.bufs.borrow_mut().take()
    }

    /// Takes back a buffer of either size.
    pub fn give(&self, buf: Buf) {
        let list = if buf.capacity() < LARGE_BYTES {
            &self.bufs
        } else {
            &self.large
        };
        list.borrow_mut().put(buf);
    }

    pub fn large_buf(&self) -> Buf {
        self.large.borrow_mut().take()
    }

    /// An empty note for the access log, if there is one.
    pub fn note(&self) -> Option<Box<Note>> {
        self.log.as_ref()?;
        Some(self.notes.take())
    }

    pub fn give_note(&self, note: Box<Note>) {
        self.notes.give(note);
    }

    /// Nothing found yet.
    pub fn found(&self) -> Box<Found> {
        self.found.take()
    }

    pub fn give_found(&self, mut found: Box<Found>) {
        found.clear();
        self.found.give(found);
    }

    /// Nothing known yet.
    pub fn caching(&self) -> Box<Caching> {
        self.cachings.take()
    }

    pub fn give_caching(&self, mut caching: Box<Caching>) {
        caching.clear();
        self.cachings.give(caching);
    }

    pub fn cluster_of(&self, backend: BackendId) -> ClusterId {
        self.plan.backends[backend.0 as usize].cluster
    }

    /// Something is decided by how many requests the backend's cluster has in flight.
    pub fn counts_load(&self, backend: BackendId) -> bool {
        self.counted[self.cluster_of(backend).0 as usize]
    }

    /// Slow attempts at the backend get another beside them.
    pub fn hedges(&self, backend: BackendId) -> bool {
        self.delays[self.cluster_of(backend).0 as usize].is_some()
    }

    /// Something depends on how fast the backend answers.
    pub fn wants_latency(&self, backend: BackendId) -> bool {
        self.timed[self.cluster_of(backend).0 as usize]
    }

    /// Good enough to spread things; nobody's secret.
    pub fn random(&self) -> u64 {
        let next = self.random.get().wrapping_add(1);
        self.random.set(next);
        hash(&next.to_le_bytes())
    }

    /// Takes over weights that an operator has changed.
    fn take_weights(&self) {
        let changed = self.shared.backends.weights_changed();
        if self.weights_seen.replace(changed) == changed {
            return;
        }
        for (at, balances) in self.balances.borrow_mut().iter_mut().enumerate() {
            *balances = self.shared.backends.balances(ClusterId(at as u32));
        }
    }

    pub fn is_draining(&self) -> bool {
        self.draining.get()
    }

    pub fn is_logging(&self) -> bool {
        self.log.is_some()
    }

    /// Takes one more client connection, unless the process or its address has its maximum.
    pub fn open_connection(self: &Rc<Self>, peer: &Peer) -> Result<Open<I>, Reason> {
        let most = self.plan.connections_per_ip_max;
        let tables = &self.shared.tables;
        let counted = !peer.trusted && !peer.is_local();
        if counted && !tables.may_connect(peer.ip, self.io.now()) {
            return Err(Reason::AcceptsPerIp);
        }
        let counted = (counted && most > 0).then_some(peer.ip);
        if counted.is_some_and(|ip| !tables.connection_opens(ip, most)) {
            return Err(Reason::ConnectionsPerIp);
        }
        if !self.shared.connection_opened() {
            if let Some(ip) = counted {
                tables.connection_closed(ip);
            }
            return Err(Reason::ConnectionsMax);
        }
        self.connections.set(self.connections.get() + 1);
        self.metrics.add(Counter::ClientConnections, 1);
        self.metrics.gauge_add(Gauge::ClientConnections, 1);
        Ok(Open {
            shard: Rc::clone(self),
            counted,
        })
    }

    /// The process has as many client connections as its descriptors carry.
    pub fn is_full(&self) -> bool {
        self.shared.connections() >= self.shared.room()
    }

    /// Waits while the process is full. Those that wait in the kernel's queue meanwhile are served as soon as
    /// others end.
    pub async fn room(&self) {
        if self.is_full() {
            self.metrics.add(Counter::AcceptPaused, 1);
        }
        while self.is_full() && !self.draining.get() {
            self.io.sleep(TICK_NS).await;
        }
    }

    /// Queues one access line; never waits.
    pub fn log_line(&self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut batch = self.log_batch.borrow_mut();
        write(&mut batch.bytes);
        batch.lines += 1;
        if batch.bytes.len() >= LOG_BATCH_BYTES {
            self.flush_log(&mut batch);
        }
    }

    fn flush_log(&self, batch: &mut LogBatch) {
        let Some(log) = &self.log else { return };
        if batch.lines == 0 {
            return;
        }
        let lines = std::mem::take(&mut batch.lines);
        // The next batch is likely to be as long.
        let next = Vec::with_capacity(batch.bytes.len() + LOG_SPARE_BYTES);
        let bytes = std::mem::replace(&mut batch.bytes, next);
        if let Err(mut bytes) = log.send(bytes) {
            self.metrics.add(Counter::LogDropped, lines);
            bytes.clear();
            batch.bytes = bytes;
        }
    }

    /// The shard's heartbeat: timers, log, pool, the process's stop word. Ends when the shard has drained or
    /// must stop now.
    pub async fn tick(self: Rc<Self>) -> Stop {
        let mut ticks: u64 = 0;
        watch::listen(&self);
        loop {
            self.io.sleep(TICK_NS).await;
            ticks += 1;
            self.read_clocks();
            self.flush_log(&mut self.log_batch.borrow_mut());
            self.shared.beat(self.number, self.timers.now());
            self.take_weights();
            self.sweep_limits();
            if ticks.is_multiple_of(REFRESH_TICKS) {
                for delay in self.delays.iter().flatten() {
                    delay.borrow_mut().refresh();
                }
            }
            self.sweep(ticks);
            match self.shared.stop() {
                Stop::No => {}
                Stop::Drain if self.connections.get() == 0 && self.draining.get() => break,
                Stop::Drain => {
                    if !self.draining.replace(true) {
                        self.timers.wake_all();
                    }
                }
                Stop::Now => break,
            }
        }
        self.flush_log(&mut self.log_batch.borrow_mut());
        self.shared.stop()
    }
}

/// Idle connections to each backend that one of so many shards may keep.
fn idle_max(plan: &Plan, shards: usize) -> Vec<usize> {
    let each = plan.backends.iter().map(|backend| {
        let pool = &plan.clusters[backend.cluster.0 as usize].pool;
        pool.idle_max.min(pool.idle_process_max.div_ceil(shards))
    });
    each.collect()
}

/// One counted client connection.
pub struct Open<I: Io> {
    shard: Rc<Shard<I>>,
    /// The address that it counts for.
    counted: Option<IpAddr>,
}

impl<I: Io> Drop for Open<I> {
    fn drop(&mut self) {
        let shard = &self.shard;
        shard.connections.set(shard.connections.get() - 1);
        shard.shared.connection_closed();
        if let Some(ip) = self.counted {
            shard.shared.tables.connection_closed(ip);
        }
        shard.metrics.gauge_sub(Gauge::ClientConnections, 1);
    }
}
