//! The filters of a route.
//!
//! Decides: which filters there are and in which order a request meets them. May not know: sockets, shards, how a
//! response is sent. Invariant: the order is that of [`Filter::rank`], whatever the order in the configuration: who
//! asks, then how often, then who they are, then (in the proxy itself) the cache and the backends.

pub mod address;
pub mod api_key;
pub mod basic;
pub mod compress;
pub mod cors;
pub mod forward_auth;
pub mod headers;
pub mod identity;
pub mod jwt;
pub mod recent;
pub mod request_id;
pub mod template;
pub mod verified;

use std::sync::Arc;

use super::limit::LimitId;

/// One filter of a route, ready to run. What may be large is shared by the routes that inherit it.
#[derive(Debug)]
pub enum Filter {
    /// A request gets its id, and its trace goes on.
    RequestId(request_id::RequestId),
    /// Blocks of addresses that may ask, or may not.
    Address(Arc<address::Address>),
    /// Which pages of other origins may ask.
    Cors(Arc<cors::Cors>),
    /// How often somebody may ask.
    Limit(LimitId),
    Basic(Arc<basic::Basic>),
    ApiKey(Arc<api_key::ApiKey>),
    Jwt(Arc<jwt::Jwt>),
    /// Another server is asked whether the request may pass.
    ForwardAuth(Arc<forward_auth::ForwardAuth>),
    /// How often a known user may ask.
    UserLimit(LimitId),
    /// Fields that are set, added, removed.
    Headers(Arc<headers::Headers>),
    /// Which responses are compressed, and how.
    Compress(Arc<compress::Compress>),
}

impl Filter {
    /// One of those of which any may tell who asks.
    pub fn is_identity(&self) -> bool {
        match self {
            Filter::Basic(_) | Filter::ApiKey(_) | Filter::Jwt(_) => true,
            Filter::RequestId(_)
            | Filter::Address(_)
            | Filter::Cors(_)
            | Filter::Limit(_)
            | Filter::ForwardAuth(_)
            | Filter::UserLimit(_)
            | Filter::Headers(_)
            | Filter::Compress(_) => false,
        }
    }

    /// It decides by who asks.
    pub fn is_access(&self) -> bool {
        self.is_identity() || matches!(self, Filter::ForwardAuth(_))
    }

    /// The filter's place in the chain.
    pub fn rank(&self) -> u8 {
        match self {
            Filter::RequestId(_) => 0,
            Filter::Address(_) => 1,
            // Before limits and access: a page must be able to read why it was refused, and a browser sends no
            // credentials with the question whether it may ask (Fetch standard, CORS-preflight fetch).
            Filter::Cors(_) => 2,
            // Before access: guessing passwords is limited too.
            Filter::Limit(_) => 3,
            Filter::Basic(_) => 4,
            Filter::ApiKey(_) => 5,
            Filter::Jwt(_) => 6,
            Filter::ForwardAuth(_) => 7,
            Filter::UserLimit(_) => 8,
            Filter::Headers(_) => 9,
            Filter::Compress(_) => 10,
        }
    }
}
