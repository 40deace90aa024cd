//! Rate limits that hold for the process, whichever shards a client's requests come to.
//!
//! Decides: whether a request with this key may pass now. May not know: requests, clocks, threads. Invariant: in any
//! window a key gets at most `burst + rate × time` (exact), or that and `shards × lease` (leased).

mod cells;
mod counts;
pub mod fields;
mod key;
mod leases;
mod pace;
mod table;

pub use counts::{Counts, Entered};
pub use key::{Hasher, Seed};
pub use leases::Leases;
pub use table::Table;

use super::Nanos;

/// Index into `Plan::rate_limits`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LimitId(pub u32);

/// One rate limit, as it is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLimit {
    /// In `RateLimit` fields, the access log and metrics.
    pub name: Box<str>,
    pub quota: Quota,
    /// What is counted apart. Empty: all requests together.
    pub key: Box<[KeyPart]>,
    pub mode: Mode,
    pub action: Action,
    /// Would-be refusals are counted only.
    pub shadow: bool,
    /// Of the refusal.
    pub status: u16,
    pub fields: Fields,
    /// Keys that each shard has room for.
    pub keys_max: usize,
    pub when_full: WhenFull,
}

/// One request every `interval_ns`, and `burst` at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// 1 µs to 1 day, rounded up: a limit is never exceeded for want of a fraction.
    pub interval_ns: Nanos,
    /// 1 to 1,000,000.
    pub burst: u32,
    /// The period that the rate is told by (1 s, 1 min, 1 h), and its requests: for `RateLimit-Policy`.
    pub period_ns: Nanos,
    pub requests: u32,
}

/// What a key is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyPart {
    /// The client's address; of IPv6 the first 64 bits.
    Ip,
    Route,
    /// Without the query; however it is spelled.
    Path,
    /// A field's first value, a cookie's; those without share one key. Lower case.
    Header(Box<str>),
    Cookie(Box<str>),
    /// Who `[access]` has found.
    User,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Exact,
    /// Shards take so many at a time.
    Leased {
        lease: u32,
    },
}

/// What happens to a request that comes too early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Refused when the burst is used up.
    Reject,
    /// Requests of a burst wait until they keep the rate; beyond the burst they are refused.
    Delay,
}

/// Which fields tell clients how they stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fields {
    Off,
    /// `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-10).
    Draft,
    /// `X-RateLimit-Limit`, `-Remaining`, `-Reset`.
    Legacy,
    Both,
}

/// A new key while there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    Reject,
    Allow,
}

/// Whether a request may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    Admitted {
        /// As many could follow at once.
        remaining: u32,
        /// Until the bucket is full again.
        full_ns: Nanos,
        /// A request that waits for so long keeps the rate without its burst (`Action::Delay`).
        wait_ns: Nanos,
    },
    /// Not before `retry_ns` have passed.
    Limited { retry_ns: Nanos },
    /// A new key, and no room for it (`WhenFull`).
    Full,
}
