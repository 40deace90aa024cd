//! The process: start, signals, drain, end.
//!
//! Decides: the order of starting and stopping, and the exit code. May not know: requests. Invariant: either
//! everything that was configured runs, or the process ends with a reason before it has taken a connection.

use std::fmt;
use std::io;
use std::net::ToSocketAddrs;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};

use crate::admin::{self, Admin, AdminState, Phase};
use crate::cli::Exit;
use crate::config::plan::{Address, Level, Listen, Plan};
use crate::engine::{self, Chosen};
use crate::health::{self, Health};
use crate::io::{Io, MonoioIo, process_start, unix_ms};
use crate::ledger::Ledger;
use crate::listen::{self, Listener};
use crate::log::{self, Events, LogHandle, LogQueue};
use crate::machine;
use crate::metrics::{Info, ShardMetrics};
use crate::password;
use crate::policy::ClusterId;
use crate::shard::Shard;
use crate::shared::{Shared, Stop};
use crate::timer::TICK_NS;

/// How long the log's writer may take to empty its queue at the end.
const LOG_PATIENCE: Duration = Duration::from_secs(2);

/// Longest time for the shards to notice that they must stop now.
const STOP_PATIENCE: Duration = Duration::from_millis(500);

/// Why the process did not start.
#[derive(Debug)]
pub struct StartError {
    what: String,
    error: io::Error,
}

impl StartError {
    pub fn exit(&self) -> Exit {
        match self.error.kind() {
            io::ErrorKind::PermissionDenied => Exit::Permission,
            io::ErrorKind::NotConnected => Exit::Failure,
            _ => Exit::Os,
        }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.error)
    }
}

fn failed(what: impl Into<String>) -> impl FnOnce(io::Error) -> StartError {
    let what = what.into();
    move |error| StartError { what, error }
}

/// A running proxy.
pub struct Server {
    shared: Arc<Shared>,
    state: Arc<AdminState>,
    admin: Option<Admin>,
    log: Option<LogHandle>,
    health: Option<Health>,
    threads: Vec<JoinHandle<()>>,
    ended: Receiver<Ended>,
    events: Events,
}

/// What a shard's thread reports when it ends.
enum Ended {
    Drained,
    Cut,
    Failed(io::Error),
}

/// Runs the plan until a signal ends it; the process's exit code.
pub fn run(plan: Plan) -> Exit {
    let events = Events::to_stderr(plan.log.level);
    // Before any thread: signals must find their handler.
    let signals = match signal_hook::iterator::Signals::new([SIGTERM, SIGINT, SIGQUIT, SIGHUP]) {
        Ok(signals) => signals,
        Err(error) => {
            events.say(
                unix_ms(),
                Level::Error,
                "cannot handle signals",
                &[("error", &error)],
            );
            return Exit::Os;
        }
    };
    match start(plan) {
        Ok(server) => server.wait(signals),
        Err(error) => {
            events.say(
                unix_ms(),
                Level::Error,
                "cannot start",
                &[("error", &error)],
            );
            error.exit()
        }
    }
}

/// Starts everything. Nothing is accepted before all of it has been bound.
pub fn start(mut plan: Plan) -> Result<Server, StartError> {
    let events = Events::to_stderr(plan.log.level);
    resolve(&mut plan)?;
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let shards = plan
        .server
        .shards
        .map_or_else(|| machine::cpus(cores.len().max(1)), usize::from);
    let descriptors = machine::raise_descriptor_limit();
    let engine = choose_engine(&plan, &events)?;
    let mut listeners = bind_all(&plan, shards)?;
    let room = machine::connections_for(descriptors);
    let plan = Arc::new(plan);
    let metrics: Vec<_> = (0..shards)
        .map(|_| {
            Arc::new(ShardMetrics::new(plan.backends.len()).with_limits(plan.rate_limits.len()))
        })
        .collect();
    let secret = machine::secret().map_err(failed("random bytes".to_owned()))?;
    let (mut shared, changes) = Shared::new(Arc::clone(&plan), metrics, room, secret);
    if plan.needs_passwords() {
        // Hashing takes tens of milliseconds of a core, which the shards want too.
        let passwords = password::start(shards / 2);
        shared.passwords = Some(passwords.map_err(failed("password thread".to_owned()))?);
    }
    let shared = Arc::new(shared);
    let ledger = Arc::new(Ledger::new(plan.backends.len()));
    let (log, queue) = start_log(&plan)?;
    let clock = MonoioIo::new(process_start());
    let state = Arc::new(AdminState::new(
        Arc::clone(&shared),
        Arc::clone(&ledger),
        info(engine, queue.as_ref()),
        events,
        clock.clone(),
    ));
    let admin = plan.admin.map(|address| {
        admin::start(address, Arc::clone(&state))
            .map_err(failed(format!("admin listener {address}")))
    });
    let admin = admin.transpose()?;
    let health = health::start(Arc::clone(&shared), ledger, changes, events);
    let health = health.map_err(failed("the health thread"))?;
    require_healthy(&shared)?;
    let (report, ended) = channel();
    let mut threads = Vec::new();
    for number in 0..shards {
        let lane = Lane {
            number,
            engine,
            clock: clock.clone(),
            core: plan
                .server
                .pin
                .then(|| cores.get(number % cores.len().max(1)).copied())
                .flatten(),
            listeners: listeners.iter_mut().filter_map(Vec::pop).collect(),
            shared: Arc::clone(&shared),
            log: queue.clone(),
        };
        threads.push(
            lane.spawn(report.clone())
                .map_err(failed(format!("shard {number}")))?,
        );
    }
    state.set_phase(Phase::Ready);
    banner(&events, &plan, &shared, engine, admin.as_ref());
    Ok(Server {
        shared,
        state,
        admin,
        log,
        health: Some(health),
        threads,
        ended,
        events,
    })
}

fn choose_engine(plan: &Plan, events: &Events) -> Result<Chosen, StartError> {
    let (engine, refused) =
        engine::choose(plan.server.engine).map_err(failed("io_uring is asked for but refused"))?;
    if let Some(reason) = &refused {
        let fields: &[(&str, &dyn fmt::Display)] =
            &[("engine", &engine.name()), ("reason", reason)];
        events.say(
            unix_ms(),
            Level::Warn,
            "a faster engine is not available",
            fields,
        );
    }
    Ok(engine)
}

fn bind_all(plan: &Plan, shards: usize) -> Result<Vec<Vec<Listener>>, StartError> {
    let congestion = plan.server.tcp_congestion.as_deref();
    let bind = |listen: &Listen| {
        listen::bind(listen, shards, congestion)
            .map_err(failed(format!("listener {}", name_of(listen))))
    };
    plan.server.listen.iter().map(bind).collect()
}

fn start_log(plan: &Plan) -> Result<(Option<LogHandle>, Option<LogQueue>), StartError> {
    if !plan.log.access {
        return Ok((None, None));
    }
    let target = log::stdout().map_err(failed("standard output"))?;
    let (queue, handle) = log::start(target).map_err(failed("the log's writer"))?;
    Ok((Some(handle), Some(queue)))
}

/// Refuses to serve with nobody behind, where the configuration asks for that.
fn require_healthy(shared: &Shared) -> Result<(), StartError> {
    for (at, cluster) in shared.plan.clusters.iter().enumerate() {
        if cluster.require_healthy && !shared.backends.has_healthy(ClusterId(at as u32)) {
            let what = format!("cluster {}", cluster.name);
            let text =
                "none of its backends is healthy, and health_check.require_healthy_on_start is set";
            return Err(failed(what)(io::Error::new(
                io::ErrorKind::NotConnected,
                text,
            )));
        }
    }
    Ok(())
}

/// Looks up the names of backends. Blocking, so before any shard runs.
fn resolve(plan: &mut Plan) -> Result<(), StartError> {
    for backend in &mut plan.backends {
        let Address::Tcp {
            host,
            port,
            resolved,
        } = &mut backend.address
        else {
            continue;
        };
        if resolved.is_empty() {
            let found = (&**host, *port).to_socket_addrs();
            *resolved = found
                .map_err(failed(format!("backend {}", backend.url)))?
                .collect();
        }
    }
    Ok(())
}

fn info(engine: Chosen, queue: Option<&LogQueue>) -> Info {
    Info {
        version: crate::version::VERSION,
        commit: crate::version::COMMIT,
        engine: engine.name().to_owned(),
        flags: engine.flags().to_owned(),
        start_unix_ms: unix_ms(),
        log_write_errors: queue.map(LogQueue::write_errors).unwrap_or_default(),
    }
}

fn name_of(listen: &Listen) -> String {
    match listen {
        Listen::Tcp(address) => address.to_string(),
        Listen::Unix(path) => format!("unix:{}", path.display()),
    }
}

fn banner(events: &Events, plan: &Plan, shared: &Shared, engine: Chosen, admin: Option<&Admin>) {
    let listeners: Vec<String> = plan.server.listen.iter().map(name_of).collect();
    let listeners = listeners.join(", ");
    let admin = admin.map_or("off".to_owned(), |admin| admin.address().to_string());
    let fields: &[(&str, &dyn fmt::Display)] = &[
        ("version", &crate::version::VERSION),
        ("commit", &crate::version::COMMIT),
        ("listen", &listeners),
        ("admin", &admin),
        ("shards", &shared.shards()),
        ("pinned", &plan.server.pin),
        ("engine", &engine.name()),
        ("flags", &engine.flags()),
        ("clusters", &plan.clusters.len()),
        ("backends", &plan.backends.len()),
        ("routes", &plan.routes.len()),
        ("client_connections_max", &shared.room()),
    ];
    events.say(unix_ms(), Level::Info, "corelane is ready", fields);
}

/// What a shard's thread is started with.
struct Lane {
    number: usize,
    engine: Chosen,
    /// One for all threads: what one writes down, another compares with its now.
    clock: MonoioIo,
    core: Option<core_affinity::CoreId>,
    listeners: Vec<Listener>,
    shared: Arc<Shared>,
    log: Option<LogQueue>,
}

impl Lane {
    fn spawn(self, report: Sender<Ended>) -> io::Result<JoinHandle<()>> {
        let name = format!("shard-{}", self.number);
        std::thread::Builder::new().name(name).spawn(move || {
            if let Some(core) = self.core {
                // Refused only if the affinity mask changed meanwhile; the shard then floats.
                core_affinity::set_for_current(core);
            }
            let ended = match self.engine.block_on(self.run(report.clone())) {
                Ok(Ok(Stop::Now)) => Ended::Cut,
                Ok(Ok(Stop::No | Stop::Drain)) => Ended::Drained,
                Ok(Err(error)) | Err(error) => Ended::Failed(error),
            };
            // The control thread may have given up waiting.
            let _ = report.send(ended);
        })
    }

    async fn run(self, report: Sender<Ended>) -> io::Result<Stop> {
        let shard = Shard::new(self.number, self.clock, self.shared, self.log);
        for listener in self.listeners {
            let accepting = Arc::clone(&shard.metrics);
            let report = report.clone();
            let accept = listen::accept(
                std::rc::Rc::clone(&shard),
                listener,
                self.engine == Chosen::Epoll,
            );
            shard.io.spawn(crate::panics::catch(accepting, async move {
                // Ends only with the drain, or when the listener itself is unusable. A shard that takes no more
                // connections must not go unnoticed.
                if let Err(error) = accept.await {
                    // The control thread may have given up waiting.
                    let _ = report.send(Ended::Failed(error));
                }
            }));
        }
        Ok(shard.tick().await)
    }
}

impl Server {
    /// Ends on the first signal by draining, on the second at once.
    fn wait(self, mut signals: signal_hook::iterator::Signals) -> Exit {
        let (notice, noticed) = channel();
        let (handle, events) = (signals.handle(), self.events);
        let waiter = std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                for signal in signals.forever() {
                    if signal == SIGHUP {
                        // Elsewhere it reloads; ending the process instead would be a surprise.
                        let text = "SIGHUP: a reload is not built yet, nothing was changed";
                        events.say(unix_ms(), Level::Warn, text, &[]);
                        continue;
                    }
                    if notice.send(signal).is_err() {
                        break;
                    }
                }
            });
        let code = match waiter {
            Ok(_) => self.control(&noticed),
            Err(_) => Exit::Os,
        };
        handle.close();
        code
    }

    fn control(mut self, noticed: &Receiver<i32>) -> Exit {
        let signal = loop {
            if let Ok(signal) = noticed.recv_timeout(Duration::from_millis(200)) {
                break signal;
            }
            // A shard that ends by itself has failed: fail as a whole rather than serve with less.
            if let Ok(Ended::Failed(error)) = self.ended.try_recv() {
                self.say(Level::Error, "a shard failed", &[("error", &error)]);
                return Exit::Failure;
            }
            if self.threads.iter().any(JoinHandle::is_finished) {
                self.say(Level::Error, "a shard ended", &[]);
                return Exit::Failure;
            }
        };
        let name = signal_hook::low_level::signal_name(signal).unwrap_or("signal");
        let timeout = Duration::from_nanos(self.shared.plan.server.drain_timeout_ns);
        self.say(
            Level::Info,
            "draining",
            &[
                ("signal", &name),
                ("connections", &self.shared.connections()),
            ],
        );
        let code = self.drain(timeout, noticed);
        for listen in &self.shared.plan.server.listen {
            if let Listen::Unix(path) = listen {
                // Gone already if somebody else cleaned up.
                let _ = std::fs::remove_file(path);
            }
        }
        if let Some(health) = self.health.take() {
            health.stop();
        }
        if let Some(log) = self.log.take() {
            log.finish(LOG_PATIENCE);
        }
        if let Some(admin) = self.admin.take() {
            admin.stop();
        }
        code
    }

    /// Finishes what is under way, for at most `timeout`; a second signal ends it at once.
    fn drain(&mut self, timeout: Duration, noticed: &Receiver<i32>) -> Exit {
        self.state.set_phase(Phase::Draining);
        self.shared.set_stop(Stop::Drain);
        let step = Duration::from_nanos(TICK_NS);
        let mut left = timeout;
        let mut running = self.threads.len();
        let mut code = Exit::Clean;
        while running > 0 {
            match self.ended.recv_timeout(step) {
                Ok(Ended::Drained | Ended::Cut) => running -= 1,
                Ok(Ended::Failed(_)) => {
                    running -= 1;
                    code = Exit::Failure;
                }
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => left = left.saturating_sub(step),
            }
            let again = noticed.try_recv().ok();
            if left.is_zero() || again.is_some() {
                let cut = self.shared.connections();
                self.say(
                    Level::Warn,
                    "ending with connections open",
                    &[("connections", &cut)],
                );
                self.shared.set_stop(Stop::Now);
                while running > 0 && self.ended.recv_timeout(STOP_PATIENCE).is_ok() {
                    running -= 1;
                }
                return again.map_or(Exit::DrainDeadline, |signal| {
                    Exit::Signal(u8::try_from(signal).unwrap_or(0))
                });
            }
        }
        self.say(Level::Info, "drained", &[]);
        code
    }

    fn say(&self, level: Level, message: &str, fields: &[(&str, &dyn fmt::Display)]) {
        self.events.say(unix_ms(), level, message, fields);
    }
}
