//! The access log, its writer thread, and the process's own messages.
//!
//! Decides: how a line looks and what of it is escaped. May not know: sockets, the runtime, the clock (times are
//! passed in).
//! Invariant: one request is one line. No byte that a client sent ends a line, closes a string or reaches a
//! terminal as a control character. A shard never waits for the writer.

mod escape;
mod event;
mod line;
mod writer;

pub use event::{Events, event_json, rfc3339};
pub use line::{AccessLine, AttemptLine, Clock, write_line};
pub use writer::{LogHandle, LogQueue, start, stdout};
