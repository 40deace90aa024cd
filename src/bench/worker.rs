//! One thread of the generator: its users or its due requests.
//!
//! Decides: who sends when. May not know: other threads, how results are shown. Invariant: in an open loop each
//! number of the schedule is claimed once, in order, and its latency counts from when it was due, whoever was
//! late; in a closed loop a user has one batch in flight.
//!
//! Of the schedule (and of the users) thread `t` of `n` has those numbers that leave `t` when divided by `n`.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use crate::buf::{Buf, Free};
use crate::config::plan::Nanos;
use crate::engine::Chosen;
use crate::io::{Io, MonoioIo, Peek, Socket, Stream};
use crate::wait::{Race, race};

use super::address::Head;
use super::load::{Config, Judged, Load};
use super::tally::{Tally, Trouble};
use super::wire::{BUFFER_BYTES, connect, exchange};

/// Free buffers that a thread keeps.
const BUFFERS_KEPT: usize = 256;

/// A kept connection that was idle for longer is looked at before it is used: servers close those.
const TRUSTED_NS: Nanos = 1_000_000_000;

/// After a failed connect in a closed loop, which would else spin.
const CONNECT_PAUSE_NS: Nanos = 10_000_000;

/// What the tasks of a thread share.
pub(super) struct World {
    pub(super) config: Arc<Config>,
    pub(super) io: MonoioIo,
    pub(super) thread: u32,
    pub(super) threads: u32,
    is_epoll: bool,
    groups: Vec<Group>,
    /// When the run began; all else counts from here.
    origin: Cell<Nanos>,
    /// When the last stage ends, or earlier when the run is cut short.
    pub(super) end: Cell<Nanos>,
    /// Requests of this thread that may still be sent.
    left: Cell<u64>,
    /// Requests of this thread so far.
    begun: Cell<u64>,
    /// Users or connections that have not finished.
    pub(super) active: Cell<u32>,
    tally: RefCell<Tally>,
    buffers: RefCell<Free>,
}

/// Targets that share an address, and so connections.
struct Group {
    address: SocketAddr,
    requests: Vec<Head>,
}

/// Requests that are sent together.
pub(super) struct Batch {
    pub(super) due: Nanos,
    pub(super) count: u16,
    pub(super) answered: Cell<u16>,
}

/// Where a user or connection stands.
pub(super) struct Slot {
    /// Among those of all threads.
    pub(super) number: u32,
    /// Requests so far.
    turns: usize,
    wire: Option<Socket>,
    idle_since: Nanos,
}

impl Slot {
    pub(super) fn new(number: u32) -> Slot {
        Slot {
            number,
            turns: 0,
            wire: None,
            idle_since: 0,
        }
    }
}

impl World {
    pub(super) fn new(
        config: Arc<Config>,
        io: MonoioIo,
        thread: u32,
        threads: u32,
        engine: Chosen,
    ) -> World {
        let mut groups: Vec<Group> = Vec::new();
        for target in &config.targets {
            let request = Head::new(target, &config.message, config.keep_alive);
            match groups
                .iter_mut()
                .find(|group| group.address == target.address)
            {
                Some(group) => group.requests.push(request),
                None => groups.push(Group {
                    address: target.address,
                    requests: vec![request],
                }),
            }
        }
        let share = |most: u64| {
            let rest = u64::from(u64::from(thread) < most % u64::from(threads));
            most / u64::from(threads) + rest
        };
        World {
            io,
            thread,
            threads,
            is_epoll: engine == Chosen::Epoll,
            groups,
            origin: Cell::new(0),
            end: Cell::new(config.duration_ns()),
            left: Cell::new(config.requests_max.map_or(u64::MAX, share)),
            begun: Cell::new(0),
            active: Cell::new(0),
            tally: RefCell::default(),
            buffers: RefCell::new(Free::new(BUFFER_BYTES, BUFFERS_KEPT)),
            config,
        }
    }

    /// From now on is the run.
    pub(super) fn begin(&self, origin: Nanos) {
        self.origin.set(origin);
    }

    /// Time since the start of the run; 0 before it.
    pub(super) fn now(&self) -> Nanos {
        self.io.now().saturating_sub(self.origin.get())
    }

    /// When nothing is waited for any more.
    pub(super) fn give_up(&self) -> Nanos {
        self.end.get() + self.config.timeout_ns
    }

    pub(super) fn buffer(&self) -> Buf {
        self.buffers.borrow_mut().take()
    }

    pub(super) fn put_back(&self, buf: Buf) {
        self.buffers.borrow_mut().put(buf);
    }

    pub(super) fn count_in(&self, bytes: usize) {
        self.tally.borrow_mut().bytes_in += bytes as u64;
    }

    pub(super) fn count_out(&self, bytes: usize) {
        self.tally.borrow_mut().bytes_out += bytes as u64;
    }

    pub(super) fn count_lag(&self, ns: Nanos) {
        self.tally.borrow_mut().lag.saturating_record(ns);
    }

    /// The counts since the last call.
    pub(super) fn take_tally(&self) -> Tally {
        self.tally.take()
    }

    /// A whole answer has come.
    pub(super) fn record(&self, due: Nanos, status: u16, judged: Judged) {
        let now = self.now();
        let latency = now.saturating_sub(due);
        let mut tally = self.tally.borrow_mut();
        tally.last_ns = now;
        *tally.statuses.entry(status).or_default() += 1;
        match judged {
            Judged::Good => tally.good(latency),
            Judged::Limited => tally.limited(latency),
            Judged::BadStatus => tally.trouble(Trouble::BadStatus, latency, 1),
            Judged::WrongLength => tally.trouble(Trouble::WrongLength, latency, 1),
        }
    }

    pub(super) fn trouble(&self, due: Nanos, trouble: Trouble, count: u64) {
        let now = self.now();
        let mut tally = self.tally.borrow_mut();
        tally.last_ns = now;
        tally.trouble(trouble, now.saturating_sub(due), count);
    }

    /// Takes leave to send up to `count` requests.
    pub(super) fn claim(&self, count: u16) -> u16 {
        let granted = u64::from(count).min(self.left.get());
        self.left.set(self.left.get() - granted);
        u16::try_from(granted).unwrap_or(count)
    }

    /// For the next request: a number that no other one of the run has.
    pub(super) fn number(&self) -> u64 {
        let begun = self.begun.get();
        self.begun.set(begun + 1);
        begun * u64::from(self.threads) + u64::from(self.thread)
    }

    /// All requests that were allowed have been sent.
    pub(super) fn is_spent(&self) -> bool {
        self.left.get() == 0
    }

    /// The address that a slot's connections come from.
    fn client(&self, slot: u32) -> Option<IpAddr> {
        let number = slot.checked_rem(self.config.client_addresses)?;
        Some(IpAddr::V4(Ipv4Addr::from_bits(
            Ipv4Addr::new(127, 0, 0, 2).to_bits() + number,
        )))
    }

    fn group(&self, slot: u32) -> &Group {
        &self.groups[slot as usize % self.groups.len()]
    }

    /// Opens a connection for a slot, within the timeout.
    pub(super) async fn open(&self, slot: u32) -> Result<Socket, Trouble> {
        let connecting = connect(self.group(slot).address, self.client(slot), self.is_epoll);
        match race(connecting, self.io.sleep(self.config.timeout_ns)).await {
            Race::First(Ok(socket)) => {
                self.tally.borrow_mut().connects += 1;
                Ok(socket)
            }
            Race::First(Err(_)) | Race::Second(()) => Err(Trouble::Connect),
        }
    }

    /// Gives a slot its connection before the start. A failure is found again, and counted, when it is used.
    pub(super) async fn prepare(&self, slot: &mut Slot) -> bool {
        slot.wire = self.open(slot.number).await.ok();
        slot.wire.is_some()
    }

    /// Sends a batch on a slot's connection, which is opened when there is none, and records what comes of it.
    pub(super) async fn turn(
        &self,
        slot: &mut Slot,
        due: Nanos,
        count: u16,
    ) -> Result<(), Trouble> {
        let batch = Batch {
            due,
            count,
            answered: Cell::new(0),
        };
        let result = self.attempt(slot, &batch).await;
        slot.idle_since = self.now();
        if let Err(trouble) = result {
            let unanswered = count.saturating_sub(batch.answered.get());
            self.trouble(due, trouble, unanswered.into());
        }
        result
    }

    async fn attempt(&self, slot: &mut Slot, batch: &Batch) -> Result<(), Trouble> {
        let group = self.group(slot.number);
        // Connections start at different targets.
        let at = (slot.number as usize / self.groups.len() + slot.turns) % group.requests.len();
        slot.turns += 1;
        if slot.wire.is_some() && self.now().saturating_sub(slot.idle_since) > TRUSTED_NS {
            slot.wire = slot.wire.take().filter(|wire| wire.peek() == Peek::Quiet);
            if slot.wire.is_none() {
                self.tally.borrow_mut().reconnects += 1;
            }
        }
        let wire = match slot.wire.take() {
            Some(wire) => wire,
            None => self.open(slot.number).await?,
        };
        let exchange = exchange(self, &wire, &group.requests[at], batch);
        match race(exchange, self.io.sleep(self.config.timeout_ns)).await {
            Race::First(Ok(reusable)) => {
                if reusable && self.config.keep_alive {
                    slot.wire = Some(wire);
                }
                Ok(())
            }
            Race::First(Err(trouble)) => Err(trouble),
            Race::Second(()) => Err(Trouble::Timeout),
        }
    }
}

/// A user of a closed loop, until there is no more use for it.
pub(super) async fn user(world: Rc<World>, number: u32, wanted: Rc<Cell<u32>>) {
    let Load::Closed {
        think_ns,
        pipeline,
        connections,
    } = world.config.load
    else {
        return;
    };
    let users = world.config.users_max();
    let numbers = (number..connections.max(number + 1)).step_by(users as usize);
    let mut slots: Vec<Slot> = numbers.map(Slot::new).collect();
    let mut turn = 0;
    while world.now() < world.end.get() && number < wanted.get() {
        let count = world.claim(pipeline);
        if count == 0 {
            break;
        }
        let at = turn % slots.len();
        turn += 1;
        let result = world.turn(&mut slots[at], world.now(), count).await;
        if result == Err(Trouble::Connect) {
            world.io.sleep(CONNECT_PAUSE_NS).await;
        }
        if think_ns > 0 {
            world.io.sleep(think_ns).await;
        }
    }
    world.active.set(world.active.get() - 1);
}
