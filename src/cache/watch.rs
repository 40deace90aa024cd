//! Waiting for a fill, in one shard.
//!
//! Decides nothing. Invariant: who began to wait before a change is woken after it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::fill::Fill;
use crate::io::Io;
use crate::shard::Shard;

/// Those of one shard who wait, by the fill that they wait for.
#[derive(Debug, Default)]
pub struct Watches(RefCell<HashMap<usize, Watch>>);

#[derive(Debug)]
struct Watch {
    fill: Arc<Fill>,
    /// What the first of them has seen.
    version: u32,
    wakers: Vec<Waker>,
}

impl Watches {
    fn add(&self, fill: &Arc<Fill>, version: u32, waker: &Waker) {
        let mut watches = self.0.borrow_mut();
        let at = Arc::as_ptr(fill) as usize;
        let watch = watches.entry(at).or_insert_with(|| Watch {
            fill: Arc::clone(fill),
            version,
            wakers: Vec::new(),
        });
        // Twice in the list is no harm; most that come twice come twice in a row.
        if !watch
            .wakers
            .last()
            .is_some_and(|last| last.will_wake(waker))
        {
            watch.wakers.push(waker.clone());
        }
    }

    /// Wakes those who wait for this fill, if it has changed.
    pub fn wake(&self, fill: &Arc<Fill>) {
        let mut watches = self.0.borrow_mut();
        let at = Arc::as_ptr(fill) as usize;
        let is_changed = |watch: &Watch| fill.version() != watch.version;
        let woken = match watches.get(&at).is_some_and(is_changed) {
            true => watches.remove(&at),
            false => None,
        };
        drop(watches);
        for waker in woken.into_iter().flat_map(|watch| watch.wakers) {
            waker.wake();
        }
    }

    /// Wakes those whose fill has changed.
    fn wake_all(&self) {
        let mut woken = Vec::new();
        self.0.borrow_mut().retain(|_, watch| {
            let is_same = watch.fill.version() == watch.version;
            if !is_same {
                woken.append(&mut watch.wakers);
            }
            is_same
        });
        for waker in woken {
            waker.wake();
        }
    }
}

/// Ends when the fill has changed since `version`.
struct Changed<'s, I: Io> {
    shard: &'s Shard<I>,
    fill: &'s Arc<Fill>,
    version: u32,
}

impl<I: Io> Future for Changed<'_, I> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.fill.version() != self.version {
            return Poll::Ready(());
        }
        self.shard.watches.add(self.fill, self.version, cx.waker());
        self.fill.wait(self.shard.number);
        // A change before the line above has woken nobody.
        match self.fill.version() == self.version {
            true => Poll::Pending,
            false => Poll::Ready(()),
        }
    }
}

/// Waits until the fill has changed since `version`.
pub fn changed<'s, I: Io>(
    shard: &'s Shard<I>,
    fill: &'s Arc<Fill>,
    version: u32,
) -> impl Future<Output = ()> + 's {
    Changed {
        shard,
        fill,
        version,
    }
}

/// Hears the shard's bell as long as it lives, if something may ring it.
pub fn listen<I: Io>(shard: &Rc<Shard<I>>) {
    let Some(cache) = &shard.shared.cache else {
        return;
    };
    let (bells, listener) = (Arc::clone(cache.fills.bells()), Rc::downgrade(shard));
    let (io, number) = (shard.io.clone(), shard.number);
    shard.io.spawn(async move {
        let hear = || {
            if let Some(shard) = listener.upgrade() {
                shard.watches.wake_all();
            }
        };
        io.listen(bells, number, hear).await;
    });
}
