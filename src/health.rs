//! The thread that watches over backends and shards.
//!
//! Decides: when a check is due, and who hears of a change. What follows from a check or from time is decided by
//! `policy::health`. May not know: requests. Invariant: one prober per process; each change of a backend's standing is
//! reported exactly once, by this thread, whoever caused it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fmt::Display;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, JoinHandle};

use monoio::{LegacyDriver, RuntimeBuilder};

use crate::backends::{Change, Why};
use crate::config::plan::{Check, Cluster, Level, Nanos};
use crate::io::{Io, MonoioIo, process_start};
use crate::ledger::Ledger;
use crate::log::Events;
use crate::policy::adaptive::{Limit, Period};
use crate::policy::balance::hash;
use crate::policy::health::{Event, Mode, Standing};
use crate::policy::{BackendId, ClusterId};
use crate::probe::{Verdict, probe};
use crate::shared::{Shared, Stop};
use crate::webhook::{self, Webhooks};

/// How often changes are reported and times looked at.
const STEP_NS: Nanos = 50_000_000;

/// Checks at one time: each needs a descriptor.
const PROBES_MAX: usize = 256;

/// The least pause between two checks of a backend, however long they take.
const PAUSE_LEAST_NS: Nanos = 1_000_000;

/// How often the adaptive limits are computed.
const LIMIT_NS: Nanos = 500_000_000;

/// The running thread.
#[derive(Debug)]
pub struct Health {
    stopping: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Health {
    pub fn stop(self) {
        self.stopping.store(true, Ordering::Relaxed);
        // It looks once a step; if it died of a panic, there is nothing to wait for.
        let _ = self.thread.join();
    }
}

/// Starts the thread, and returns when each backend that is checked has been checked once: no request shall go to one
/// that is known to be dead.
pub fn start(
    shared: Arc<Shared>,
    ledger: Arc<Ledger>,
    changes: Receiver<Change>,
    events: Events,
) -> io::Result<Health> {
    let stopping = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&stopping);
    let (report, first) = channel();
    let webhooks = webhook::start(shared.plan.webhook.clone(), events)?;
    let thread = Builder::new().name("health".to_owned()).spawn(move || {
        // Epoll, whatever the shards run on: it works everywhere, and nobody counts microseconds here.
        let runtime = RuntimeBuilder::<LegacyDriver>::new().enable_timer().build();
        match runtime {
            Ok(mut runtime) => {
                let watch = Watch::new(
                    MonoioIo::new(process_start()),
                    shared,
                    ledger,
                    events,
                    webhooks,
                );
                runtime.block_on(watch.run(&changes, &stop, &report));
            }
            Err(error) => {
                let _ = report.send(Err(error));
            }
        }
    })?;
    first.recv().unwrap_or(Ok(()))?;
    Ok(Health { stopping, thread })
}

/// What the thread works with. Generic, so that the simulation can run it.
pub struct Watch<I: Io> {
    io: I,
    shared: Arc<Shared>,
    ledger: Arc<Ledger>,
    events: Events,
    webhooks: Option<Webhooks>,
    /// Backends whose word changes with time.
    timed: RefCell<BTreeSet<BackendId>>,
    /// Since when each backend gets no requests; 0 while it does.
    out_since: RefCell<Vec<Nanos>>,
    /// Clusters of which nothing is left; told once.
    gone: RefCell<BTreeSet<ClusterId>>,
    /// The adaptive limits, where they are on.
    limits: RefCell<Vec<Option<Limit>>>,
    limited_at: Cell<Nanos>,
    /// Checks that are under way.
    probing: Cell<usize>,
    /// Shards that are stuck; told once.
    stuck: RefCell<BTreeSet<usize>>,
}

impl<I: Io> Watch<I> {
    pub fn new(
        io: I,
        shared: Arc<Shared>,
        ledger: Arc<Ledger>,
        events: Events,
        webhooks: Option<Webhooks>,
    ) -> Rc<Self> {
        let backends = shared.plan.backends.len();
        let limit = |(at, cluster): (usize, &Cluster)| {
            let limit = Limit::new(cluster.adaptive?);
            let least = limit.get(cluster.adaptive?);
            shared.backends.set_limit(ClusterId(at as u32), least);
            Some(limit)
        };
        let limits = shared.plan.clusters.iter().enumerate().map(limit).collect();
        Rc::new(Watch {
            io,
            shared,
            ledger,
            events,
            webhooks,
            timed: RefCell::default(),
            out_since: RefCell::new(vec![0; backends]),
            gone: RefCell::default(),
            limits: RefCell::new(limits),
            limited_at: Cell::new(0),
            probing: Cell::new(0),
            stuck: RefCell::default(),
        })
    }

    async fn run(
        self: Rc<Self>,
        changes: &Receiver<Change>,
        stopping: &AtomicBool,
        report: &Sender<io::Result<()>>,
    ) {
        let first = self.begin_checks();
        let mut waiting = true;
        while !stopping.load(Ordering::Relaxed) {
            if waiting && Rc::strong_count(&first) == 1 {
                waiting = false;
                // The starter waits for nothing else.
                let _ = report.send(Ok(()));
            }
            self.step(changes);
            let pause = if waiting { STEP_NS / 10 } else { STEP_NS };
            self.io.sleep(pause).await;
        }
        self.step(changes);
    }

    /// Starts a task for each backend that is checked. Each holds what is returned until its first check is done.
    pub fn begin_checks(self: &Rc<Self>) -> Rc<()> {
        let first = Rc::new(());
        for (at, backend) in self.shared.plan.backends.iter().enumerate() {
            let cluster = &self.shared.plan.clusters[backend.cluster.0 as usize];
            if cluster.check.is_some() {
                let (watch, held) = (Rc::clone(self), Rc::clone(&first));
                let id = BackendId(at as u32);
                self.io.spawn(async move { watch.check(id, held).await });
            }
        }
        first
    }

    /// Checks a backend for ever.
    async fn check(self: Rc<Self>, id: BackendId, first: Rc<()>) {
        let plan = Arc::clone(&self.shared.plan);
        let backend = &plan.backends[id.0 as usize];
        let check = &plan.clusters[backend.cluster.0 as usize].check;
        let check = check
            .as_ref()
            .expect("only backends with a check have this task");
        let mut first = Some(first);
        for number in 0_u64.. {
            let begun = self.io.now();
            if self.shared.backends.word(id).mode() != Mode::Maintenance {
                while self.probing.get() >= PROBES_MAX {
                    self.io.sleep(STEP_NS / 10).await;
                }
                self.probing.set(self.probing.get() + 1);
                let verdict = probe(&self.io, check, backend).await;
                self.probing.set(self.probing.get() - 1);
                self.checked(id, verdict);
            }
            drop(first.take());
            let took_ns = self.io.now().saturating_sub(begun);
            let pause_ns = jittered(check, id, number).saturating_sub(took_ns);
            self.io.sleep(pause_ns.max(PAUSE_LEAST_NS)).await;
        }
    }

    fn checked(&self, id: BackendId, verdict: Verdict) {
        let (passed, met) = match verdict {
            Verdict::Passed(met) => (true, met),
            Verdict::Failed(met) => (false, met),
            Verdict::None(error) => {
                let fields: &[(&str, &dyn Display)] = &[("error", &error)];
                let text = "a check could not be made";
                return self
                    .events
                    .say(self.io.unix_ms(), Level::Error, text, fields);
            }
        };
        let unix_ms = self.io.unix_ms();
        self.ledger.checked(id, unix_ms, passed, met.clone());
        let event = Event::Check { passed };
        let now = self.io.now();
        self.shared
            .backends
            .apply(id, event, now, || Why::Check(met));
    }

    /// Reports what has changed, and lets time pass for those that it matters to.
    pub fn step(&self, changes: &Receiver<Change>) {
        while let Ok(change) = changes.try_recv() {
            self.report(&change);
        }
        let now = self.io.now();
        let due: Vec<BackendId> = self.timed.borrow().iter().copied().collect();
        for id in due {
            let (_, after) = self
                .shared
                .backends
                .apply(id, Event::Elapsed, now, || Why::Time);
            if !after.is_timed() {
                self.timed.borrow_mut().remove(&id);
            }
        }
        self.watch_shards(now);
        if now.saturating_sub(self.limited_at.get()) >= LIMIT_NS {
            self.limited_at.set(now);
            self.limit_clusters();
        }
    }

    /// Computes the adaptive limits anew.
    fn limit_clusters(&self) {
        let backends = &self.shared.backends;
        for (at, limit) in self.limits.borrow_mut().iter_mut().enumerate() {
            let id = ClusterId(at as u32);
            let (Some(limit), Some(bounds)) = (limit, self.shared.plan.clusters[at].adaptive)
            else {
                continue;
            };
            let (answered, latency_ns) = backends.take_latency(id);
            let period = Period {
                answered,
                latency_ns,
                in_flight: backends.cluster_load(id),
            };
            *limit = limit.next(period, bounds);
            backends.set_limit(id, limit.get(bounds));
        }
    }

    fn report(&self, change: &Change) {
        let id = change.backend;
        if self.shared.backends.word(id).is_timed() {
            self.timed.borrow_mut().insert(id);
        }
        let (from, to) = (change.before.standing(), change.after.standing());
        if from == to {
            return;
        }
        let plan = &self.shared.plan;
        let backend = &plan.backends[id.0 as usize];
        let since = &mut self.out_since.borrow_mut()[id.0 as usize];
        let out_ms = change.at.saturating_sub(*since) / 1_000_000;
        let unix_ms = self.io.unix_ms();
        self.ledger.changed(change, unix_ms);
        let cluster = &plan.clusters[backend.cluster.0 as usize];
        let mut fields: Vec<(&str, &dyn Display)> =
            vec![("cluster", &cluster.name), ("backend", &backend.url)];
        let (from_name, to_name) = (from.name(), to.name());
        fields.extend::<[(&str, &dyn Display); 3]>([
            ("from", &from_name),
            ("to", &to_name),
            ("cause", &change.why),
        ]);
        let returns = to == Standing::Available && *since != 0;
        if returns {
            fields.push(("out_ms", &out_ms));
            // It may be another process, with another idle timeout.
            self.shared.backends.forget_idle(id);
            *since = 0;
        } else if to != Standing::Available && *since == 0 {
            *since = change.at.max(1);
        }
        let level = match to {
            Standing::Available
            | Standing::HalfOpen
            | Standing::Draining
            | Standing::Maintenance => Level::Info,
            Standing::Down | Standing::Ejected | Standing::Open => Level::Warn,
        };
        self.tell(unix_ms, level, "backend changed", &fields);
        self.report_cluster(backend.cluster, unix_ms);
    }

    /// Nothing is left of a cluster, or something again: said once.
    fn report_cluster(&self, id: ClusterId, unix_ms: u64) {
        let cluster = &self.shared.plan.clusters[id.0 as usize];
        let healthy = self.shared.backends.has_healthy(id);
        let mut gone = self.gone.borrow_mut();
        let fields: &[(&str, &dyn Display)] = &[("cluster", &cluster.name)];
        if !healthy && gone.insert(id) {
            self.tell(
                unix_ms,
                Level::Error,
                "no backend of the cluster is available",
                fields,
            );
        } else if healthy && gone.remove(&id) {
            self.tell(
                unix_ms,
                Level::Info,
                "the cluster is available again",
                fields,
            );
        }
    }

    /// A shard without a sign of life is reported once, and once more when it goes on.
    fn watch_shards(&self, now: Nanos) {
        // A shard that has drained is silent for good.
        if self.shared.stop() != Stop::No {
            return;
        }
        for shard in 0..self.shared.shards() {
            let silent_ns = match self.shared.last_beat(shard) {
                0 => 0,
                beat => now.saturating_sub(beat),
            };
            let is_stuck = silent_ns > self.shared.plan.stuck_ns;
            let mut stuck = self.stuck.borrow_mut();
            let silent_ms = silent_ns / 1_000_000;
            let fields: &[(&str, &dyn Display)] = &[("shard", &shard), ("silent_ms", &silent_ms)];
            if is_stuck && stuck.insert(shard) {
                self.tell(self.io.unix_ms(), Level::Error, "a shard is stuck", fields);
            } else if !is_stuck && stuck.remove(&shard) {
                self.tell(
                    self.io.unix_ms(),
                    Level::Info,
                    "a shard goes on",
                    &fields[..1],
                );
            }
        }
    }

    /// To the log, the event stream and the webhook.
    fn tell(&self, unix_ms: u64, level: Level, message: &str, fields: &[(&str, &dyn Display)]) {
        self.events.say(unix_ms, level, message, fields);
        let line: Arc<str> = crate::log::event_json(unix_ms, level, message, fields).into();
        self.ledger.tell(&line);
        if let Some(webhooks) = &self.webhooks {
            webhooks.post(line);
        }
    }
}

/// The time from one check of a backend to its next: 80 to 100 % of the interval, by chance, so that the checks of many
/// backends do not stay together.
fn jittered(check: &Check, id: BackendId, number: u64) -> Nanos {
    let random = hash(&[u64::from(id.0).to_le_bytes(), number.to_le_bytes()].concat());
    let less = ((u128::from(random) * u128::from(check.interval_ns / 5)) >> 64) as u64;
    check.interval_ns - less
}
