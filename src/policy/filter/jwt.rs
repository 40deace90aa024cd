//! JSON Web Tokens (RFC 7519) as bearer tokens (RFC 6750).
//!
//! Decides: whether a token is genuine and valid now, and whose it is. May not know: clocks (given). Invariant: the
//! algorithm is the key's, never the token's own word alone; `none` is no algorithm.

#[derive(Debug)]
pub struct Jwt {
    pub realm: Box<str>,
    pub keys: Keys,
    /// One of these; empty for any.
    pub issuers: Box<[Box<str>]>,
    /// One of these; empty for any.
    pub audiences: Box<[Box<str>]>,
    /// How far clocks may differ.
    pub leeway_s: u64,
    /// The claim that names the user; `sub` by default.
    pub user_claim: Box<str>,
}

/// What tokens are verified with.
#[derive(Debug)]
pub struct Keys {}
