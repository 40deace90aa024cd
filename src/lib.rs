//! Corelane: a thread-per-core HTTP/1.1 reverse proxy on io_uring.
//!
//! The modules in reading order. The first three are pure: they name neither clock, socket nor thread.

pub mod h1; // bytes ↔ HTTP/1.1 messages
pub mod policy; // decisions about a parsed message: route, balance
pub mod config; // text → File → Plan
pub mod metrics; // every metric, in one list
pub mod log; // the access log and the messages of the process
pub mod admin; // health, readiness and metrics, on a thread of their own
pub mod mock; // a backend to try things against
pub mod demo; // three mock backends and the proxy in one process
