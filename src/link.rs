//! A connection to a backend, counted from its opening to its end.
//!
//! Decides nothing. Invariant: a `Slot` exists for each connection that is open or being opened, so the process's
//! count is exact whichever way a connection ends.

use std::sync::Arc;

use crate::backends::Backends;
use crate::policy::BackendId;

/// A connection to a backend.
#[derive(Debug)]
pub struct Connection<S> {
    pub stream: S,
    /// Counts it until it is dropped.
    _slot: Slot,
}

impl<S> Connection<S> {
    pub fn new(stream: S, slot: Slot) -> Self {
        Connection {
            stream,
            _slot: slot,
        }
    }
}

/// The right to one connection.
#[derive(Debug)]
pub struct Slot {
    backends: Arc<Backends>,
    backend: BackendId,
}

impl Slot {
    /// `None` when the backend has as many connections as it may have.
    pub fn take(backends: &Arc<Backends>, backend: BackendId) -> Option<Slot> {
        backends.connection_opens(backend).then(|| Slot {
            backends: Arc::clone(backends),
            backend,
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.backends.connection_closed(self.backend);
    }
}

/// A connection for one exchange.
pub struct Link<S> {
    pub connection: Connection<S>,
    /// It has served a request before, so its silence may only mean that it was closed while idle.
    pub reused: bool,
}
