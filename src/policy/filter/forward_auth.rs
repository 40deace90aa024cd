//! Another server is asked whether a request may pass.
//!
//! Decides: how it is asked and what its answer means. May not know: sockets. Invariant: a server that does not answer
//! lets nobody pass.

use crate::policy::{ClusterId, Nanos};

#[derive(Debug)]
pub struct ForwardAuth {
    pub cluster: ClusterId,
    /// What the server is asked for.
    pub path: Box<str>,
    /// Fields of its answer that the backend gets with the request; the client's own are dropped. Lower case.
    pub copy: Box<[Box<str>]>,
    pub timeout_ns: Nanos,
}
