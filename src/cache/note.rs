//! What the cache did with a request, for those who ask: Cache-Status (RFC 9211), metrics, the access log.
//!
//! Decides: words. May not know: why. Invariant: every request that meets a cache has one note.

use crate::metrics::Counter;

/// Room for a whole line with a short name.
const LINE_BYTES: usize = 128;

/// Why a request went to a backend (RFC 9211 section 2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forwarded {
    /// The cache has nothing to do with requests of this kind, or lately had nothing of its key.
    Bypass,
    Method,
    UriMiss,
    VaryMiss,
    /// The request's own Cache-Control, or its conditions.
    Request,
    Stale,
    /// It wants a part of what is not there.
    Partial,
}

impl Forwarded {
    fn label(self) -> &'static str {
        match self {
            Forwarded::Bypass => "bypass",
            Forwarded::Method => "method",
            Forwarded::UriMiss => "uri-miss",
            Forwarded::VaryMiss => "vary-miss",
            Forwarded::Request => "request",
            Forwarded::Stale => "stale",
            Forwarded::Partial => "partial",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Did {
    /// Sent what was stored: fresh, or stale where that is allowed.
    Hit,
    /// Asked the backend, for this request or for one before it.
    Forwarded(Forwarded),
    /// The backend said that what was stored still holds.
    Revalidated(Forwarded),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Note {
    pub did: Did,
    /// It was sent although it is stale.
    pub is_stale: bool,
    pub stored: bool,
    /// Another request had asked already.
    pub collapsed: bool,
    /// Why it was not stored; empty: nothing to say.
    pub detail: &'static str,
}

impl Note {
    pub fn of(did: Did) -> Note {
        Note {
            did,
            is_stale: false,
            stored: false,
            collapsed: false,
            detail: "",
        }
    }

    /// As in the access log, and the metric that counts it.
    pub fn result(&self) -> (&'static str, Counter) {
        match self.did {
            Did::Hit if self.is_stale => ("stale", Counter::CacheStale),
            Did::Hit => ("hit", Counter::CacheHit),
            Did::Revalidated(_) => ("revalidated", Counter::CacheRevalidated),
            Did::Forwarded(_) if self.collapsed => ("collapsed", Counter::CacheCollapsed),
            Did::Forwarded(Forwarded::UriMiss | Forwarded::VaryMiss) => {
                ("miss", Counter::CacheMiss)
            }
            Did::Forwarded(Forwarded::Stale) => ("expired", Counter::CacheExpired),
            Did::Forwarded(
                Forwarded::Bypass | Forwarded::Method | Forwarded::Request | Forwarded::Partial,
            ) => ("bypass", Counter::CacheBypass),
        }
    }

    /// Appends the field. `ttl_s`: how long what is sent is still fresh, of what is stored; `status`: the backend's.
    pub fn write(&self, name: &str, ttl_s: Option<i64>, status: u16, out: &mut Vec<u8>) {
        out.reserve(LINE_BYTES);
        let mut put = |text: &str| out.extend_from_slice(text.as_bytes());
        let mut digits = itoa::Buffer::new();
        put("Cache-Status: ");
        put(name);
        match self.did {
            Did::Hit => put("; hit"),
            Did::Revalidated(why) => {
                put("; fwd=");
                put(why.label());
                put("; fwd-status=304");
            }
            Did::Forwarded(why) => {
                put("; fwd=");
                put(why.label());
                if status > 0 {
                    put("; fwd-status=");
                    put(digits.format(status));
                }
            }
        }
        if let Some(ttl_s) = ttl_s {
            put("; ttl=");
            put(digits.format(ttl_s));
        }
        if self.stored {
            put("; stored");
        }
        if self.collapsed {
            put("; collapsed");
        }
        if !self.detail.is_empty() {
            put("; detail=");
            put(self.detail);
        }
        put("\r\n");
    }
}
