//! HTTP caching (RFC 9111, shared cache): what may be stored, for how long, and for whom it may be used.
//!
//! Decides: about one request and one response at a time. May not know: where responses are kept. Invariant: what is
//! malformed, conflicting or absurd makes a response stale or unstorable, never fresher.

pub mod conditional;
pub mod control;
mod date;
pub mod evict;
mod fields;
pub mod fresh;
pub mod key;
pub mod range;
pub mod store;
mod targeted;
#[cfg(test)]
mod tests;
pub mod update;
mod value;
pub mod vary;

pub use fresh::{Standing, Terms};
pub use store::Unstorable;

use super::Nanos;

/// What all caching routes of a process share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Heads, bodies and bookkeeping of all that is stored or being fetched (64 KiB to 1 TiB).
    pub bytes_max: u64,
    /// Most stored responses (16 to 268,435,456): it sizes the table.
    pub entries_max: u32,
}

/// How a route caches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Longest body that is stored.
    pub object_bytes_max: u64,
    /// Seconds for which a response is fresh that says nothing about it; `None`: it is not stored, unless it can be
    /// validated.
    pub default_ttl_s: Option<u32>,
    /// The same by status, before `default_ttl_s`: the first that matches. A status that is not cacheable by default
    /// (RFC 9110 section 15.1) is stored without explicit freshness only if it stands here.
    pub status_ttls: Box<[(u16, u32)]>,
    /// A response with Last-Modified alone is fresh for a tenth of its age (RFC 9111 section 4.2.2), a day at most.
    pub heuristics: bool,
    /// Seconds after its end in which a response that says nothing about it may be used while it is validated.
    pub stale_while_revalidate_s: u32,
    /// Seconds after its end in which a response that says nothing about it may stand in for an error.
    pub stale_if_error_s: u32,
    /// Cache-Control of requests counts (RFC 9111 section 5.2.1).
    pub request_directives: bool,
    /// Responses with Set-Cookie are stored, cookies and all.
    pub set_cookie: bool,
    /// CDN-Cache-Control counts before Cache-Control (RFC 9213).
    pub cdn_cache_control: bool,
    /// Responses say what the cache did (RFC 9211).
    pub status_field: bool,
    /// The longest that a request waits for what another fetches, before it goes on by itself; 0: it never waits.
    pub collapse_ns: Nanos,
    pub key: KeyRule,
}

/// What makes two requests ask for the same thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRule {
    pub scheme: bool,
    pub host: bool,
    pub query: QueryRule,
    /// `b=2&a=1` is `a=1&b=2`.
    pub sorts_query: bool,
    /// Lower-case names of fields and cookies whose values count too.
    pub fields: Box<[Box<str>]>,
    pub cookies: Box<[Box<str>]>,
}

/// Which parameters of a query count. Those that do not are not sent to the backend either: what is not in the key must
/// not reach what is stored under it. A name may end in `*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueryRule {
    All,
    None,
    Only(Box<[Box<str>]>),
    Except(Box<[Box<str>]>),
}

impl Default for Rules {
    fn default() -> Self {
        Rules {
            object_bytes_max: 1024 * 1024,
            default_ttl_s: None,
            status_ttls: Box::default(),
            heuristics: false,
            stale_while_revalidate_s: 0,
            stale_if_error_s: 0,
            request_directives: true,
            set_cookie: false,
            cdn_cache_control: true,
            status_field: true,
            collapse_ns: 5_000_000_000,
            key: KeyRule::default(),
        }
    }
}

impl Default for KeyRule {
    fn default() -> Self {
        KeyRule {
            scheme: true,
            host: true,
            query: QueryRule::All,
            sorts_query: false,
            fields: Box::default(),
            cookies: Box::default(),
        }
    }
}
