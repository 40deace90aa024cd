//! Decisions about a parsed message: values and `now` in, values out.
//!
//! May not know: sockets, clocks, threads, the runtime.

pub mod adaptive;
pub mod balance;
pub mod cache;
pub mod cidr;
pub mod filter;
pub mod health;
pub mod hedge;
pub mod idle;
pub mod latency;
pub mod limit;
pub mod retry;
pub mod rewrite;
pub mod route;

/// Nanoseconds: a duration, or a point in time since the process started.
pub type Nanos = u64;

/// Index into `Plan::backends`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackendId(pub u32);

/// Index into `Plan::clusters`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClusterId(pub u32);

/// Index into `Plan::routes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteId(pub u32);
