//! The open loop of one thread: due requests meet connections.
//!
//! Decides: which connection sends which request. May not know: how it is sent. Invariant: requests are claimed
//! in the order in which they are due; connections take turns, the one that has rested longest first.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Poll, Waker};

use crate::config::plan::Nanos;
use crate::io::Io;
use crate::wait::race;

use super::alarm::Alarm;
use super::load::Schedule;
use super::tally::Trouble;
use super::worker::{Slot, World};

/// How often the dispatcher looks at the clock while all connections are busy.
const BUSY_LOOK_NS: Nanos = 20_000_000;

pub(super) struct Open {
    world: Rc<World>,
    schedule: Schedule,
    /// Of this thread's own requests.
    next: Cell<u64>,
    resting: RefCell<VecDeque<Rc<Seat>>>,
    /// The dispatcher, while it waits for a connection to rest.
    dispatcher: RefCell<Option<Waker>>,
    is_over: Cell<bool>,
}

/// Where a resting connection waits.
struct Seat {
    order: Cell<Option<Order>>,
    waker: RefCell<Option<Waker>>,
    since: Nanos,
}

#[derive(Debug, Clone, Copy)]
enum Order {
    Send { due: Nanos },
    Stop,
}

impl Seat {
    fn give(&self, order: Order) {
        self.order.set(Some(order));
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    async fn order(&self) -> Order {
        poll_fn(|context| match self.order.take() {
            Some(order) => Poll::Ready(order),
            None => {
                self.waker.replace(Some(context.waker().clone()));
                Poll::Pending
            }
        })
        .await
    }
}

impl Open {
    pub(super) fn new(world: Rc<World>) -> Open {
        let config = &world.config;
        Open {
            schedule: Schedule::new(&config.stages, config.requests_max),
            next: Cell::new(0),
            resting: RefCell::default(),
            dispatcher: RefCell::default(),
            is_over: Cell::new(false),
            world,
        }
    }

    /// When this thread's next request is due.
    fn due(&self) -> Option<Nanos> {
        let number = self.next.get() * u64::from(self.world.threads) + u64::from(self.world.thread);
        self.schedule
            .due(number)
            .filter(|due| *due < self.world.end.get())
    }

    fn claim(&self) {
        self.next.set(self.next.get() + 1);
    }

    /// Sends each request when it is due, to the end of the schedule; then lets the connections go.
    pub(super) async fn dispatch(self: Rc<Self>) -> io::Result<()> {
        let alarm = Alarm::new()?;
        while let Some(due) = self.due() {
            let now = self.world.now();
            if now >= self.world.give_up() {
                break;
            }
            if now < due {
                alarm.sleep(due - now).await?;
                continue;
            }
            let rested = self.resting.borrow_mut().pop_front();
            match rested {
                Some(seat) => {
                    self.claim();
                    seat.give(Order::Send { due });
                }
                None => {
                    let look = self.world.io.sleep(BUSY_LOOK_NS);
                    race(self.somebody_rests(), look).await;
                }
            }
        }
        self.is_over.set(true);
        self.give_up_late();
        let resting = self.resting.take();
        resting.iter().for_each(|seat| seat.give(Order::Stop));
        Ok(())
    }

    /// Counts what was due and for which no connection was free until the end.
    fn give_up_late(&self) {
        let Some(due) = self.due() else {
            return;
        };
        let mut count = 0;
        while self.due().is_some() {
            self.claim();
            count += 1;
        }
        self.world.trouble(due, Trouble::Unsent, count);
    }

    async fn somebody_rests(&self) {
        poll_fn(|context| {
            if !self.resting.borrow().is_empty() {
                return Poll::Ready(());
            }
            self.dispatcher.replace(Some(context.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    /// A connection, to the end of the schedule.
    pub(super) async fn connection(self: Rc<Self>, mut slot: Slot) {
        while let Some(due) = self.order().await {
            // What becomes of it is counted where it happens.
            let _ = self.world.turn(&mut slot, due, 1).await;
        }
        self.world.active.set(self.world.active.get() - 1);
    }

    /// What a connection is to send next: at once what is late already, if nobody has rested longer.
    async fn order(&self) -> Option<Nanos> {
        let now = self.world.now();
        let late = self.due().filter(|due| *due <= now);
        if self.is_over.get() || now >= self.world.give_up() {
            return None;
        }
        if let (Some(due), true) = (late, self.resting.borrow().is_empty()) {
            self.claim();
            return Some(due);
        }
        let seat = Rc::new(Seat {
            order: Cell::new(None),
            waker: RefCell::new(None),
            since: now,
        });
        self.resting.borrow_mut().push_back(Rc::clone(&seat));
        if let Some(dispatcher) = self.dispatcher.take() {
            dispatcher.wake();
        }
        match seat.order().await {
            Order::Send { due } => {
                // Had the connection come back late, that would not be our lag.
                let free = due.max(seat.since);
                self.world.count_lag(self.world.now().saturating_sub(free));
                Some(due)
            }
            Order::Stop => None,
        }
    }
}
