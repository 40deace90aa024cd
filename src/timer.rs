//! Deadlines of a shard's connections.
//!
//! Decides: when a wait is over. May not know: what is waited for. Invariant: a timer is linked in exactly one
//! bucket, at or before its deadline.
//!
//! Moving a deadline later costs one store: the timer stays in its bucket and is moved on when the wheel gets
//! there. So a connection that sets a deadline for every read touches the wheel about once per shortest
//! timeout and not once per read. Deadlines are checked once a tick: they fire up to two ticks late, never early.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::config::plan::Nanos;

/// The wheel's step: the precision of every timeout.
pub const TICK_NS: Nanos = 20_000_000;

/// Buckets: 4096 × 20 ms = 82 s, so that all but the longest timeouts are examined once.
const BUCKETS: usize = 4096;

const NONE: u32 = u32::MAX;

/// No deadline.
pub const NEVER: Nanos = Nanos::MAX;

#[derive(Debug)]
struct Slot {
    deadline: Nanos,
    /// The tick whose bucket holds this timer; meaningless while free.
    armed: u64,
    previous: u32,
    next: u32,
    fired: bool,
    waker: Option<Waker>,
}

#[derive(Debug)]
struct Wheel {
    slots: Vec<Slot>,
    free: Vec<u32>,
    heads: Box<[u32]>,
    /// The last tick that was examined.
    tick: u64,
}

/// All timers of a shard.
#[derive(Debug)]
pub struct Timers {
    wheel: RefCell<Wheel>,
    /// The time at the last tick: precise enough for deadlines, and free.
    now: Cell<Nanos>,
}

/// One connection's timer; one wait at a time.
#[derive(Debug)]
pub struct Timer {
    timers: Rc<Timers>,
    id: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elapsed;

impl Timers {
    pub fn new(now: Nanos) -> Rc<Self> {
        let wheel = Wheel {
            slots: Vec::new(),
            free: Vec::new(),
            heads: vec![NONE; BUCKETS].into(),
            tick: now / TICK_NS,
        };
        Rc::new(Timers {
            wheel: RefCell::new(wheel),
            now: Cell::new(now),
        })
    }

    /// The time of the last tick.
    pub fn now(&self) -> Nanos {
        self.now.get()
    }

    /// The deadline `ns` from now; 0 is "off".
    pub fn after(&self, ns: Nanos) -> Nanos {
        if ns == 0 {
            NEVER
        } else {
            self.now.get().saturating_add(ns).saturating_add(TICK_NS)
        }
    }

    pub fn timer(self: &Rc<Self>) -> Timer {
        let id = self.wheel.borrow_mut().insert();
        Timer {
            timers: Rc::clone(self),
            id,
        }
    }

    /// Wakes what is due. Called once a tick.
    pub fn advance(&self, now: Nanos) {
        self.now.set(now);
        let mut due = Vec::new();
        self.wheel.borrow_mut().advance(now, &mut due);
        for waker in due {
            waker.wake();
        }
    }

    /// Makes every wait that is going on look at the world again (a drain has begun).
    pub fn wake_all(&self) {
        let wakers: Vec<Waker> = self
            .wheel
            .borrow()
            .slots
            .iter()
            .filter_map(|slot| slot.waker.clone())
            .collect();
        for waker in wakers {
            waker.wake();
        }
    }
}

impl Timer {
    /// Moves the deadline of the wait that is going on or comes next.
    pub fn set(&self, deadline: Nanos) {
        self.timers.wheel.borrow_mut().set(self.id, deadline);
    }

    /// The future's result, or `Elapsed` once `deadline` has passed. The future is then dropped: any operation in
    /// it is cancelled, its bytes are lost, so the connection must not be used for reading again.
    pub fn at<F: Future>(&self, deadline: Nanos, future: F) -> Timed<'_, F> {
        self.set(deadline);
        Timed {
            timer: self,
            future,
        }
    }

    /// Registers the waker and says whether the deadline has passed.
    fn poll_elapsed(&self, cx: &Context<'_>) -> bool {
        let mut wheel = self.timers.wheel.borrow_mut();
        let slot = &mut wheel.slots[self.id as usize];
        if std::mem::take(&mut slot.fired) {
            return true;
        }
        match &slot.waker {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            Some(_) | None => slot.waker = Some(cx.waker().clone()),
        }
        false
    }
}

pin_project_lite::pin_project! {
    /// See [`Timer::at`]. Written out, because an async function would hold `future` twice.
    pub struct Timed<'t, F> {
        timer: &'t Timer,
        #[pin]
        future: F,
    }
}

impl<F: Future> Future for Timed<'_, F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(output) = this.future.poll(cx) {
            // The deadline stays as it is: the next wait sets its own, and until then nobody looks.
            return Poll::Ready(Ok(output));
        }
        if this.timer.poll_elapsed(cx) {
            Poll::Ready(Err(Elapsed))
        } else {
            Poll::Pending
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        let waker = self.timers.wheel.borrow_mut().remove(self.id);
        // Outside the borrow: dropping the last waker of a task may drop the task, and a timer in it.
        drop(waker);
    }
}

impl Wheel {
    fn insert(&mut self) -> u32 {
        let slot = Slot {
            deadline: NEVER,
            armed: 0,
            previous: NONE,
            next: NONE,
            fired: false,
            waker: None,
        };
        let id = match self.free.pop() {
            Some(id) => {
                self.slots[id as usize] = slot;
                id
            }
            None => {
                self.slots.push(slot);
                u32::try_from(self.slots.len() - 1).expect("fewer timers than descriptors")
            }
        };
        self.link(id, self.tick + BUCKETS as u64 - 1);
        id
    }

    fn remove(&mut self, id: u32) -> Option<Waker> {
        self.unlink(id);
        self.free.push(id);
        self.slots[id as usize].waker.take()
    }

    fn set(&mut self, id: u32, deadline: Nanos) {
        let slot = &mut self.slots[id as usize];
        slot.deadline = deadline;
        slot.fired = false;
        if deadline / TICK_NS < slot.armed {
            self.unlink(id);
            self.link(id, deadline / TICK_NS);
        }
    }

    fn advance(&mut self, now: Nanos, due: &mut Vec<Waker>) {
        let until = now / TICK_NS;
        // After a long pause (a stopped process) one whole turn sees every timer.
        let from = self.tick.max(until.saturating_sub(BUCKETS as u64)) + 1;
        for tick in from..=until {
            self.tick = tick;
            let bucket = (tick % BUCKETS as u64) as usize;
            let mut id = std::mem::replace(&mut self.heads[bucket], NONE);
            while id != NONE {
                let slot = &mut self.slots[id as usize];
                let next = slot.next;
                if slot.deadline <= now {
                    slot.deadline = NEVER;
                    slot.fired = true;
                    due.extend(slot.waker.clone());
                }
                let deadline = slot.deadline;
                self.link(id, deadline / TICK_NS);
                id = next;
            }
        }
    }

    /// Links a timer that is in no bucket. The bucket is never the current one, nor beyond one turn.
    fn link(&mut self, id: u32, tick: u64) {
        let tick = tick.clamp(self.tick + 1, self.tick + BUCKETS as u64 - 1);
        let head = &mut self.heads[(tick % BUCKETS as u64) as usize];
        let next = std::mem::replace(head, id);
        let slot = &mut self.slots[id as usize];
        slot.armed = tick;
        slot.previous = NONE;
        slot.next = next;
        if next != NONE {
            self.slots[next as usize].previous = id;
        }
    }

    fn unlink(&mut self, id: u32) {
        let Slot {
            armed,
            previous,
            next,
            ..
        } = self.slots[id as usize];
        match previous {
            NONE => self.heads[(armed % BUCKETS as u64) as usize] = next,
            previous => self.slots[previous as usize].next = next,
        }
        if next != NONE {
            self.slots[next as usize].previous = previous;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;

    /// Advances tick by tick until the wait ends; the time at which it did.
    fn fires_at(timers: &Rc<Timers>, timer: &Timer, limit: Nanos) -> Option<Nanos> {
        let mut wait = pin!(Timed {
            timer,
            future: std::future::pending::<()>()
        });
        let mut cx = Context::from_waker(Waker::noop());
        let mut now = timers.now();
        while now < limit {
            if wait.as_mut().poll(&mut cx).is_ready() {
                return Some(timers.now());
            }
            now += TICK_NS;
            timers.advance(now);
        }
        None
    }

    #[test]
    fn fires_after_the_deadline_and_within_two_ticks() {
        for ns in [1, TICK_NS, 3 * TICK_NS + 7, 500 * TICK_NS, 10_000 * TICK_NS] {
            let timers = Timers::new(12_345);
            let timer = timers.timer();
            timer.set(timers.after(ns));
            let at = fires_at(&timers, &timer, u64::MAX).unwrap();
            assert!(at >= 12_345 + ns, "{ns}: early by {}", 12_345 + ns - at);
            assert!(
                at <= 12_345 + ns + 3 * TICK_NS,
                "{ns}: late by {}",
                at - ns - 12_345
            );
        }
    }

    #[test]
    fn a_deadline_moves_later_and_earlier() {
        let timers = Timers::new(0);
        let timer = timers.timer();
        timer.set(timers.after(10 * TICK_NS));
        timer.set(timers.after(100 * TICK_NS));
        let at = fires_at(&timers, &timer, u64::MAX).unwrap();
        assert!((100 * TICK_NS..=103 * TICK_NS).contains(&at));
        timer.set(timers.after(5 * TICK_NS));
        assert!(fires_at(&timers, &timer, u64::MAX).unwrap() <= 108 * TICK_NS);
    }

    #[test]
    fn off_and_finished_waits_never_fire() {
        let timers = Timers::new(0);
        let timer = timers.timer();
        timer.set(timers.after(0));
        assert_eq!(fires_at(&timers, &timer, 10_000 * TICK_NS), None);
        let mut done = pin!(timer.at(timers.after(TICK_NS), std::future::ready(7)));
        let mut cx = Context::from_waker(Waker::noop());
        assert_eq!(done.as_mut().poll(&mut cx), Poll::Ready(Ok(7)));
        // What is left of its deadline does not end the next wait.
        timers.advance(30_000 * TICK_NS);
        timer.set(NEVER);
        assert_eq!(fires_at(&timers, &timer, 40_000 * TICK_NS), None);
    }

    #[test]
    fn slots_are_used_again_and_neighbours_stay_linked() {
        let timers = Timers::new(0);
        let kept: Vec<Timer> = (0..50).map(|_| timers.timer()).collect();
        for (i, timer) in kept.iter().enumerate() {
            timer.set(timers.after((i as u64 % 3 + 2) * TICK_NS));
        }
        let odd: Vec<Timer> = kept
            .into_iter()
            .enumerate()
            .filter_map(|(i, t)| (i % 2 == 1).then_some(t))
            .collect();
        assert_eq!(timers.wheel.borrow().free.len(), 25);
        timers.advance(10 * TICK_NS);
        let wheel = timers.wheel.borrow();
        assert_eq!(
            odd.iter()
                .filter(|t| wheel.slots[t.id as usize].fired)
                .count(),
            25
        );
    }

    #[test]
    fn a_long_pause_fires_everything_that_is_due() {
        let timers = Timers::new(0);
        let timer = timers.timer();
        timer.set(timers.after(50 * TICK_NS));
        timers.advance(1_000_000 * TICK_NS);
        assert!(timers.wheel.borrow().slots[timer.id as usize].fired);
    }
}
