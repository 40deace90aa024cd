//! The id of a request and its place in a trace.
//!
//! Decides: whether what came is taken, and what an id of our own looks like. May not know: clocks, randomness (given).
//! Invariant: an id is 1 to 128 visible ASCII characters.

/// `[request_id]` of a route.
#[derive(Debug)]
pub struct RequestId {
    /// The field's name, as it is written; `None`: no ids.
    pub header: Option<Box<str>>,
    pub accept: Accept,
    /// The client gets the id in its response.
    pub respond: bool,
    /// W3C Trace Context: a valid `traceparent` goes on, another is replaced.
    pub traceparent: bool,
}

/// Whose ids are taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accept {
    Never,
    /// Those of trusted proxies.
    Trusted,
    Always,
}
