//! A whole run: threads start together, report at intervals, and end.
//!
//! Decides: intervals, when all is over, whether the generator kept up. May not know: scenarios, thresholds,
//! how results are shown. Invariant: a run ends at the latest two timeouts after its last stage, and leaves no
//! thread behind.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::net::TcpStream;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use crate::config::plan::Nanos;
use crate::engine::Chosen;
use crate::io::{Io, MonoioIo, Peek, Stream, process_start};
use crate::machine;

use super::load::{Config, Load, Target, level};
use super::open::Open;
use super::outcome::{Collected, Outcome, Point, Usage};
use super::tally::Tally;
use super::worker::{Slot, World, user};

/// About so many points has a report.
const POINTS: u64 = 240;
const INTERVAL_NS_MIN: Nanos = 100_000_000;
/// How often the number of users is adjusted, and the end looked for.
const LOOK_NS: Nanos = 10_000_000;
/// Between the moment when all threads are ready and the first request.
const LEAD_NS: Nanos = 5_000_000;
/// Threads when nobody asks for a number: more are seldom needed.
const THREADS_MAX: usize = 4;
/// Descriptors for all that is no connection.
const DESCRIPTORS_RESERVED: u64 = 64;

/// Why a run did not take place.
#[derive(Debug)]
pub enum RunError {
    Unreachable {
        target: Box<Target>,
        error: io::Error,
    },
    /// The limit on descriptors is lower than the connections that were asked for.
    Descriptors {
        wanted: u64,
        limit: u64,
    },
    System(io::Error),
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunError::Unreachable { target, error } => {
                let (authority, address) = (&target.url.authority, target.address);
                write!(f, "cannot connect to {authority} ({address}): {error}")
            }
            RunError::Descriptors { wanted, limit } => write!(
                f,
                "{wanted} connections want more than the {limit} open files that are allowed (ulimit -n)"
            ),
            RunError::System(error) => write!(f, "cannot start: {error}"),
        }
    }
}

/// What a thread has to say.
enum Word {
    Ready,
    Interval(Box<Interval>),
}

/// What a thread did in one interval.
pub(super) struct Interval {
    pub(super) thread: u32,
    pub(super) number: usize,
    pub(super) tally: Tally,
    pub(super) usage: Usage,
    /// Users or connections at its end.
    pub(super) active: u32,
    /// Idle connections that the target has closed by now.
    pub(super) idle_closed: u32,
}

/// Runs the load to its end. `watch` sees each interval when all threads have reported it; setting `stop` ends
/// the run early and in order.
pub fn run(
    config: &Config,
    engine: Chosen,
    stop: &Arc<AtomicBool>,
    watch: &mut dyn FnMut(&Point),
) -> Result<Outcome, RunError> {
    check(config)?;
    let config = Arc::new(config.clone());
    let io = MonoioIo::new(process_start());
    let interval_ns = (config.duration_ns() / POINTS).max(INTERVAL_NS_MIN);
    let (words, heard) = channel();
    let mut threads = Vec::with_capacity(config.cores.len());
    for (number, core) in config.cores.iter().enumerate() {
        let (begin, begun) = channel();
        let mut worker = Worker {
            config: Arc::clone(&config),
            io: io.clone(),
            engine,
            number: u32::try_from(number).unwrap_or(u32::MAX),
            interval_ns,
            core: *core,
            begun,
            words: words.clone(),
            stop: Arc::clone(stop),
        };
        let thread = Builder::new()
            .name(format!("bench {number}"))
            .spawn(move || worker.main())
            .map_err(RunError::System)?;
        threads.push((thread, begin));
    }
    drop(words);
    conduct(&config, &io, interval_ns, threads, &heard, watch).map_err(RunError::System)
}

/// CPUs for the generator, the last ones first: what it measures usually takes the first ones. 0: half of them.
pub fn cores(threads: usize) -> Vec<usize> {
    let allowed = core_affinity::get_core_ids().unwrap_or_default();
    let mut ids: Vec<usize> = allowed.into_iter().map(|core| core.id).collect();
    if ids.is_empty() {
        ids.push(0);
    }
    let count = match threads {
        0 => (machine::cpus(ids.len()) / 2).clamp(1, THREADS_MAX),
        count => count,
    };
    ids.into_iter().rev().cycle().take(count).collect()
}

/// What can be known before the first thread starts.
fn check(config: &Config) -> Result<(), RunError> {
    let wanted = config.connections_max();
    let limit = machine::raise_descriptor_limit();
    if wanted + DESCRIPTORS_RESERVED > limit {
        return Err(RunError::Descriptors { wanted, limit });
    }
    for target in &config.targets {
        let timeout = Duration::from_nanos(config.timeout_ns);
        if let Err(error) = TcpStream::connect_timeout(&target.address, timeout) {
            let target = Box::new(target.clone());
            return Err(RunError::Unreachable { target, error });
        }
    }
    Ok(())
}

type Thread = (JoinHandle<io::Result<()>>, Sender<Nanos>);

fn conduct(
    config: &Arc<Config>,
    io: &MonoioIo,
    interval_ns: Nanos,
    threads: Vec<Thread>,
    heard: &Receiver<Word>,
    watch: &mut dyn FnMut(&Point),
) -> io::Result<Outcome> {
    let mut collected = Collected::new(config, interval_ns);
    let (mut ready, mut begins, mut handles) = (0, Vec::new(), Vec::new());
    let count = threads.len();
    for (handle, begin) in threads {
        handles.push(handle);
        begins.push(begin);
    }
    // Ends when every thread has ended, one way or the other.
    for word in heard {
        match word {
            Word::Ready => {
                ready += 1;
                if ready == count {
                    let origin = io.now() + LEAD_NS;
                    for begin in begins.drain(..) {
                        // A thread that is gone says why when it is joined.
                        let _ = begin.send(origin);
                    }
                }
            }
            Word::Interval(interval) => collected.add(*interval, watch),
        }
        // A thread that failed never gets ready: the others must not wait for it.
        if ready < count && handles.iter().any(JoinHandle::is_finished) {
            begins.clear();
        }
    }
    for handle in handles {
        match handle.join() {
            Ok(result) => result?,
            Err(_) => return Err(io::Error::other("a thread of the load generator panicked")),
        }
    }
    Ok(collected.finish(watch))
}

struct Worker {
    config: Arc<Config>,
    io: MonoioIo,
    engine: Chosen,
    number: u32,
    interval_ns: Nanos,
    core: usize,
    begun: Receiver<Nanos>,
    words: Sender<Word>,
    stop: Arc<AtomicBool>,
}

impl Worker {
    fn main(&mut self) -> io::Result<()> {
        core_affinity::set_for_current(core_affinity::CoreId { id: self.core });
        let engine = self.engine;
        engine.block_on(self.work())?
    }

    async fn work(&mut self) -> io::Result<()> {
        let threads = u32::try_from(self.config.cores.len()).unwrap_or(u32::MAX);
        let (config, io) = (Arc::clone(&self.config), self.io.clone());
        let world = Rc::new(World::new(config, io, self.number, threads, self.engine));
        let mine = |count: u32| (self.number..count).step_by(threads as usize);
        let mut idle = Vec::new();
        for number in mine(self.config.idle_connections) {
            let refused = |_| io::Error::other("an idle connection was refused");
            idle.push(world.open(number).await.map_err(refused)?);
        }
        let mut slots: Vec<Slot> = Vec::new();
        if let Load::Open { connections } = self.config.load {
            slots = mine(connections).map(Slot::new).collect();
            if self.config.keep_alive {
                for slot in &mut slots {
                    if !world.prepare(slot).await {
                        break;
                    }
                }
            }
        }
        // Not heard when the run is off; then there is no start either.
        let _ = self.words.send(Word::Ready);
        let Ok(origin) = self.begun.recv() else {
            return Ok(());
        };
        world.begin(origin);
        let wait = origin.saturating_sub(world.io.now());
        world.io.sleep(wait).await;
        let is_over = Rc::new(Cell::new(false));
        match self.config.load {
            Load::Closed { .. } => {
                let users = users(Rc::clone(&world), Rc::clone(&is_over));
                world.io.spawn(users);
            }
            Load::Open { .. } => self.open(&world, slots, &is_over),
        }
        let closed = |idle: &Vec<crate::io::Socket>| {
            let closed = idle.iter().filter(|socket| socket.peek() == Peek::Closed);
            u32::try_from(closed.count()).unwrap_or(u32::MAX)
        };
        self.report(&world, &is_over, &|| closed(&idle)).await;
        Ok(())
    }

    fn open(&self, world: &Rc<World>, slots: Vec<Slot>, is_over: &Rc<Cell<bool>>) {
        let open = Rc::new(Open::new(Rc::clone(world)));
        for slot in slots {
            world.active.set(world.active.get() + 1);
            world.io.spawn(Rc::clone(&open).connection(slot));
        }
        let is_over = Rc::clone(is_over);
        world.io.spawn(async move {
            let dispatched = open.dispatch().await;
            dispatched.expect("a timer of our own can be set and polled");
            is_over.set(true);
        });
    }

    /// Sends the counts of each interval, until all work is done or none is waited for any more.
    async fn report(&self, world: &World, is_over: &Cell<bool>, idle_closed: &dyn Fn() -> u32) {
        let mut used = Usage::now();
        for number in 0.. {
            let until = (number as u64 + 1) * self.interval_ns;
            let mut is_done = false;
            while world.now() < until && !is_done {
                let wait = until.saturating_sub(world.now()).min(LOOK_NS);
                world.io.sleep(wait).await;
                if self.stop.load(Ordering::Relaxed) {
                    world.end.set(world.end.get().min(world.now()));
                }
                // A second timeout: a request that was late may have been sent just before the first was over.
                is_done = is_over.get() && world.active.get() == 0
                    || world.now() > world.give_up() + self.config.timeout_ns;
            }
            let now = Usage::now();
            let interval = Interval {
                thread: self.number,
                number,
                tally: world.take_tally(),
                usage: now.since(used),
                active: world.active.get(),
                idle_closed: idle_closed(),
            };
            used = now;
            // The conductor listens until all threads have ended.
            let _ = self.words.send(Word::Interval(Box::new(interval)));
            if is_done {
                break;
            }
        }
    }
}

/// Starts users when the stages want more of them; those that are too many go by themselves.
async fn users(world: Rc<World>, is_over: Rc<Cell<bool>>) {
    let wanted = Rc::new(Cell::new(0));
    let mut running: Vec<Rc<Cell<bool>>> = Vec::new();
    while world.now() < world.end.get() {
        let level = level(&world.config.stages, world.now()).round() as u32;
        wanted.set(level);
        let numbers = (world.thread..level).step_by(world.threads as usize);
        for (at, number) in numbers.enumerate() {
            if at == running.len() {
                running.push(Rc::new(Cell::new(false)));
            }
            if running[at].replace(true) {
                continue;
            }
            let (running, task) = (
                Rc::clone(&running[at]),
                user(Rc::clone(&world), number, Rc::clone(&wanted)),
            );
            world.active.set(world.active.get() + 1);
            world.io.spawn(async move {
                task.await;
                running.set(false);
            });
        }
        if world.is_spent() {
            break;
        }
        world.io.sleep(LOOK_NS).await;
    }
    is_over.set(true);
}
