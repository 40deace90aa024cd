//! Requests that wait for a connection, because each backend has as many as it may have.
//!
//! Decides: who is next, and when a shard leaves to others what becomes free. May not know: requests, connections.
//! Invariant: within a shard first come, first served; the process's number of waiting requests is bounded
//! (`queue.length`), and each leaves its place when dropped. A connection that another shard frees is noticed by the
//! first in line at the next tick; so that it has not been taken again by then, shards take turns while several wait.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use crate::config::plan::Nanos;
use crate::io::Io;
use crate::metrics::Gauge;
use crate::policy::ClusterId;
use crate::shard::Shard;
use crate::timer::TICK_NS;

/// How long a shard takes what becomes free while requests of others wait too, and how long it then leaves it to them:
/// each of them looks once in that time.
const TURN_NS: Nanos = 5 * TICK_NS;
const REST_NS: Nanos = 2 * TICK_NS;

/// The requests of one shard that wait for one cluster.
#[derive(Debug, Default)]
pub struct Queue {
    places: RefCell<VecDeque<Rc<Place>>>,
    /// When this shard first took something while others waited.
    turn: Cell<Option<Nanos>>,
}

#[derive(Debug, Default)]
struct Place {
    called: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Place {
    fn call(&self) {
        self.called.set(true);
        let waker = self.waker.borrow_mut().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// A request's place in the queue; dropped, it is left, and the next is called.
pub struct Waiting<'s, I: Io> {
    shard: &'s Shard<I>,
    cluster: ClusterId,
    place: Rc<Place>,
}

impl Queue {
    pub fn is_empty(&self) -> bool {
        self.places.borrow().is_empty()
    }

    pub fn len(&self) -> usize {
        self.places.borrow().len()
    }

    /// What is free need not be left to others, who may wait.
    pub fn has_turn(&self, now: Nanos, others_wait: bool) -> bool {
        let age_ns = match self.turn.get() {
            Some(since) if others_wait => now.saturating_sub(since),
            // There is nobody to take turns with.
            Some(_) => Nanos::MAX,
            None => return true,
        };
        if age_ns < TURN_NS + REST_NS {
            return age_ns < TURN_NS;
        }
        self.turn.set(None);
        true
    }

    /// Something was taken while others wait.
    pub fn begin_turn(&self, now: Nanos) {
        self.turn.set(self.turn.get().or(Some(now)));
    }

    /// A connection may have become free.
    pub fn call_first(&self) {
        if let Some(first) = self.places.borrow().front() {
            first.call();
        }
    }
}

impl<'s, I: Io> Waiting<'s, I> {
    /// Takes the last place; `None` when the process's queue for the cluster is full.
    pub fn join(shard: &'s Shard<I>, cluster: ClusterId) -> Option<Self> {
        if !shard.shared.backends.waiting_add(cluster) {
            return None;
        }
        let place = Rc::new(Place::default());
        shard.metrics.gauge_add(Gauge::QueuedRequests, 1);
        let queue = &shard.queues[cluster.0 as usize];
        queue.places.borrow_mut().push_back(Rc::clone(&place));
        Some(Waiting {
            shard,
            cluster,
            place,
        })
    }

    pub fn is_first(&self) -> bool {
        let queue = self.queue().places.borrow();
        queue
            .front()
            .is_some_and(|first| Rc::ptr_eq(first, &self.place))
    }

    /// Until this request is called.
    pub async fn called(&self) {
        poll_fn(|cx| {
            if self.place.called.take() {
                return Poll::Ready(());
            }
            *self.place.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    fn queue(&self) -> &'s Queue {
        &self.shard.queues[self.cluster.0 as usize]
    }
}

impl<I: Io> Drop for Waiting<'_, I> {
    fn drop(&mut self) {
        self.shard.shared.backends.waiting_sub(self.cluster);
        self.shard.metrics.gauge_sub(Gauge::QueuedRequests, 1);
        let mut queue = self.queue().places.borrow_mut();
        queue.retain(|place| !Rc::ptr_eq(place, &self.place));
        if let Some(first) = queue.front() {
            first.call();
        }
    }
}
