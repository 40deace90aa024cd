//! Decisions about a parsed message: values and `now` in, values out.
//!
//! May not know: sockets, clocks, threads, the runtime.

pub mod balance;
pub mod route;

/// Index into `Plan::backends`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackendId(pub u32);

/// Index into `Plan::clusters`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClusterId(pub u32);

/// Index into `Plan::routes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteId(pub u32);
