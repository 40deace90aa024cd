//! What has happened to the backends, for people who ask why.
//!
//! Decides nothing. Written by the health thread, read by the admin thread, never by a shard: hence a plain lock.
//! Invariant: a bounded history per backend, and a bounded number of listeners, each with a bounded queue.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::backends::{Change, Why};
use crate::policy::BackendId;
use crate::policy::health::Standing;

/// Changes remembered per backend.
const HISTORY_MAX: usize = 16;

/// Listeners to the event stream; a dashboard and a few terminals.
const LISTENERS_MAX: usize = 16;

/// Events that a listener may be behind before it is dropped.
const LISTENER_QUEUE_MAX: usize = 256;

#[derive(Debug)]
pub struct Ledger {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    backends: Vec<History>,
    listeners: Vec<Told>,
}

/// One that is told of events.
#[derive(Debug)]
struct Told {
    sender: SyncSender<Arc<str>>,
    /// Gone with the listener. A channel says that only when something is sent, which may take days.
    alive: Weak<()>,
}

/// The other end.
#[derive(Debug)]
pub struct Listener {
    lines: Receiver<Arc<str>>,
    _alive: Arc<()>,
}

impl Listener {
    /// The next event, if there is one.
    pub fn next(&self) -> Result<Option<Arc<str>>, Behind> {
        match self.lines.try_recv() {
            Ok(line) => Ok(Some(line)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(Behind),
        }
    }
}

/// The listener was too slow, and hears no more.
#[derive(Debug, PartialEq, Eq)]
pub struct Behind;

/// What is remembered of one backend.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Oldest first.
    pub changes: VecDeque<Entry>,
    /// The last check: when, in ms since 1970, whether it passed, and what it met.
    pub last_check: Option<(u64, bool, Box<str>)>,
    pub counts: Counts,
}

/// What happened to one backend since the process started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Changes to each standing.
    changes: [u64; Standing::ALL.len()],
    pub checks_passed: u64,
    pub checks_failed: u64,
}

impl Counts {
    pub fn changes_to(&self, standing: Standing) -> u64 {
        self.changes[standing as usize]
    }
}

/// One change of standing.
#[derive(Debug, Clone)]
pub struct Entry {
    pub unix_ms: u64,
    pub from: Standing,
    pub to: Standing,
    pub why: Why,
}

impl Ledger {
    pub fn new(backends: usize) -> Self {
        Ledger {
            inner: Mutex::new(Inner {
                backends: vec![History::default(); backends],
                listeners: Vec::new(),
            }),
        }
    }

    pub fn changed(&self, change: &Change, unix_ms: u64) {
        let mut inner = self.lock();
        let history = &mut inner.backends[change.backend.0 as usize];
        if history.changes.len() == HISTORY_MAX {
            history.changes.pop_front();
        }
        let to = change.after.standing();
        history.changes.push_back(Entry {
            unix_ms,
            from: change.before.standing(),
            to,
            why: change.why.clone(),
        });
        history.counts.changes[to as usize] += 1;
    }

    pub fn checked(&self, id: BackendId, unix_ms: u64, passed: bool, met: Box<str>) {
        let mut inner = self.lock();
        let history = &mut inner.backends[id.0 as usize];
        history.last_check = Some((unix_ms, passed, met));
        history.counts.checks_passed += u64::from(passed);
        history.counts.checks_failed += u64::from(!passed);
    }

    pub fn history(&self, id: BackendId) -> History {
        self.lock().backends[id.0 as usize].clone()
    }

    pub fn counts(&self, id: BackendId) -> Counts {
        self.lock().backends[id.0 as usize].counts
    }

    /// Sends a line to all listeners; one that is behind is dropped, which ends its stream.
    pub fn tell(&self, line: &Arc<str>) {
        let mut inner = self.lock();
        inner
            .listeners
            .retain(|told| told.sender.try_send(Arc::clone(line)).is_ok());
    }

    /// What will be told from now on; `None` when too many listen.
    pub fn listen(&self) -> Option<Listener> {
        let mut inner = self.lock();
        inner.listeners.retain(|told| told.alive.strong_count() > 0);
        if inner.listeners.len() >= LISTENERS_MAX {
            return None;
        }
        let (sender, lines) = sync_channel(LISTENER_QUEUE_MAX);
        let alive = Arc::new(());
        inner.listeners.push(Told {
            sender,
            alive: Arc::downgrade(&alive),
        });
        Some(Listener {
            lines,
            _alive: alive,
        })
    }

    /// A panic within a change of a list leaves a list.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_gone_makes_room_and_who_is_behind_hears_no_more() {
        let ledger = Ledger::new(0);
        let line: Arc<str> = "x".into();
        let mut listeners: Vec<Listener> = (0..LISTENERS_MAX)
            .map(|_| ledger.listen().unwrap())
            .collect();
        assert!(ledger.listen().is_none());
        listeners.pop();
        let last = ledger.listen().unwrap();
        assert_eq!(last.next(), Ok(None));
        for _ in 0..=LISTENER_QUEUE_MAX {
            ledger.tell(&line);
            assert_eq!(last.next(), Ok(Some(Arc::clone(&line))));
        }
        let slow = &listeners[0];
        for _ in 0..LISTENER_QUEUE_MAX {
            assert_eq!(slow.next(), Ok(Some(Arc::clone(&line))));
        }
        assert_eq!(slow.next(), Err(Behind));
        assert_eq!(ledger.lock().listeners.len(), 1);
    }
}
