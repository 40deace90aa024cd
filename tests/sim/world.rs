//! A deterministic executor: seeded randomness, a virtual clock, tasks.
//!
//! Decides: which ready task runs next (at random), and that time passes only when none is ready. May not know:
//! connections, HTTP. Invariant: what happens depends on the seed alone.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::{Context, Poll, Wake, Waker};

use corelane::config::plan::Nanos;

pub const MS: Nanos = 1_000_000;
pub const SECOND: Nanos = 1_000 * MS;

/// Splitmix64: small, and good enough to choose with.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// Below `n`; 0 for 0.
    pub fn below(&mut self, n: u64) -> u64 {
        if n == 0 { 0 } else { self.next() % n }
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len() as u64) as usize]
    }
}

pub fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

struct WakeTask {
    task: usize,
    woken: Sender<usize>,
}

impl Wake for WakeTask {
    fn wake(self: Arc<Self>) {
        // The world may have ended before the waker.
        let _ = self.woken.send(self.task);
    }
}

struct Task {
    /// `None` while it is being polled, and when it is over.
    future: Option<Pin<Box<dyn Future<Output = ()>>>>,
    waker: Waker,
    queued: bool,
}

struct Inner {
    now: Cell<Nanos>,
    /// How much of `now` did not pass but was jumped over.
    jumped: Cell<Nanos>,
    unix_ms: Cell<u64>,
    rng: RefCell<Rng>,
    tasks: RefCell<Vec<Task>>,
    ready: RefCell<Vec<usize>>,
    sleepers: RefCell<BTreeMap<(Nanos, u64), Waker>>,
    serial: Cell<u64>,
    sender: Sender<usize>,
    woken: Receiver<usize>,
    trace: Cell<u64>,
    /// Is called after each turn of a task.
    look: RefCell<Option<Rc<dyn Fn()>>>,
    loud: bool,
}

#[derive(Clone)]
pub struct World(Rc<Inner>);

impl World {
    pub fn new(seed: u64) -> World {
        let (sender, woken) = channel();
        World(Rc::new(Inner {
            now: Cell::new(SECOND),
            jumped: Cell::new(0),
            unix_ms: Cell::new(1_700_000_000_000),
            rng: RefCell::new(Rng::new(mix(seed))),
            tasks: RefCell::default(),
            ready: RefCell::default(),
            sleepers: RefCell::default(),
            serial: Cell::new(0),
            sender,
            woken,
            trace: Cell::new(0xcbf2_9ce4_8422_2325),
            look: RefCell::default(),
            loud: std::env::var_os("SIM_LOUD").is_some(),
        }))
    }

    pub fn now(&self) -> Nanos {
        self.0.now.get()
    }

    /// Time that passed without jumps: what a patient observer has waited.
    pub fn waited(&self) -> Nanos {
        self.0.now.get() - self.0.jumped.get()
    }

    pub fn has_jumped(&self) -> bool {
        self.0.jumped.get() > 0
    }

    pub fn unix_ms(&self) -> u64 {
        self.0.unix_ms.get() + self.now() / MS
    }

    /// The monotonic clock leaps forward, as after a suspended machine; the wall clock goes anywhere.
    pub fn jump(&self, ns: Nanos, unix_ms: u64) {
        self.0.now.set(self.0.now.get() + ns);
        self.0.jumped.set(self.0.jumped.get() + ns);
        self.0.unix_ms.set(unix_ms);
    }

    pub fn below(&self, n: u64) -> u64 {
        self.0.rng.borrow_mut().below(n)
    }

    pub fn chance(&self, percent: u64) -> bool {
        self.0.rng.borrow_mut().chance(percent)
    }

    pub fn fork(&self) -> Rng {
        Rng::new(self.0.rng.borrow_mut().next())
    }

    /// Makes what was seen part of the run's trace.
    pub fn note(&self, who: u64, bytes: &[u8]) {
        if self.0.loud {
            let text = String::from_utf8_lossy(&bytes[..bytes.len().min(400)]);
            eprintln!("{} {who}: {} {text:?}", self.now() / 1000, bytes.len());
        }
        let mut hash = self.0.trace.get() ^ mix(who ^ self.now());
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.0.trace.set(hash);
    }

    pub fn trace(&self) -> u64 {
        self.0.trace.get()
    }

    pub fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        let mut tasks = self.0.tasks.borrow_mut();
        let task = tasks.len();
        let woken = self.0.sender.clone();
        tasks.push(Task {
            future: Some(Box::pin(future)),
            waker: Arc::new(WakeTask { task, woken }).into(),
            queued: true,
        });
        self.0.ready.borrow_mut().push(task);
    }

    /// Calls `look` after each turn of a task: what it checks holds always.
    pub fn always(&self, look: impl Fn() + 'static) {
        *self.0.look.borrow_mut() = Some(Rc::new(look));
    }

    /// Wakes at or after a time.
    pub fn wake_at(&self, at: Nanos, waker: &Waker) {
        let serial = self.0.serial.get();
        self.0.serial.set(serial + 1);
        let mut sleepers = self.0.sleepers.borrow_mut();
        sleepers.insert((at, serial), waker.clone());
    }

    pub async fn sleep(&self, ns: Nanos) {
        let until = self.now() + ns;
        let mut asleep = false;
        std::future::poll_fn(|cx| {
            if self.now() >= until {
                return Poll::Ready(());
            }
            if !std::mem::replace(&mut asleep, true) {
                self.wake_at(until, cx.waker());
            }
            Poll::Pending
        })
        .await;
    }

    /// Runs until `done`, which is asked whenever nothing is ready.
    pub fn run_until(&self, done: impl Fn() -> bool) {
        loop {
            self.collect();
            if let Some(task) = self.pick() {
                self.poll(task);
                let look = self.0.look.borrow().clone();
                if let Some(look) = look {
                    look();
                }
                continue;
            }
            if done() {
                return;
            }
            self.pass_time();
        }
    }

    /// Goes on to when the next sleeper is due, and wakes all that are due then.
    fn pass_time(&self) {
        let mut sleepers = self.0.sleepers.borrow_mut();
        let first = sleepers.first_key_value().map(|((at, _), _)| *at);
        let at = first.expect("somebody waits for something that can happen");
        self.0.now.set(self.now().max(at));
        let later = sleepers.split_off(&(self.now() + 1, 0));
        for (_, waker) in std::mem::replace(&mut *sleepers, later) {
            waker.wake();
        }
    }

    /// Ends all tasks. A task holds the world, so the world does not end by itself.
    pub fn end(&self) {
        let tasks = std::mem::take(&mut *self.0.tasks.borrow_mut());
        drop(tasks);
        self.0.sleepers.borrow_mut().clear();
    }

    fn collect(&self) {
        let mut tasks = self.0.tasks.borrow_mut();
        let mut woken: Vec<usize> = self.0.woken.try_iter().collect();
        // Whoever wakes many at once may do so in any order: it hangs on addresses in memory.
        woken.sort_unstable();
        for task in woken {
            if let Some(slot) = tasks.get_mut(task)
                && slot.future.is_some()
                && !std::mem::replace(&mut slot.queued, true)
            {
                self.0.ready.borrow_mut().push(task);
            }
        }
    }

    fn pick(&self) -> Option<usize> {
        let mut ready = self.0.ready.borrow_mut();
        if ready.is_empty() {
            return None;
        }
        let at = self.below(ready.len() as u64) as usize;
        Some(ready.swap_remove(at))
    }

    fn poll(&self, task: usize) {
        let (future, waker) = {
            let mut tasks = self.0.tasks.borrow_mut();
            let slot = &mut tasks[task];
            slot.queued = false;
            (slot.future.take(), slot.waker.clone())
        };
        let Some(mut future) = future else { return };
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(()) => {}
            Poll::Pending => {
                // Woken meanwhile: the message is in the channel and is seen after this.
                if let Some(slot) = self.0.tasks.borrow_mut().get_mut(task) {
                    slot.future = Some(future);
                }
            }
        }
    }
}
