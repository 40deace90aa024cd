//! Header fields that are set, added and removed, in requests and responses; the security preset; HSTS.
//!
//! Decides: which fields of a message are dropped and which are written. May not know: when. Invariant: fields that
//! frame a message, or that belong to one connection, are never touched: the configuration refuses them.

use super::template::Template;

#[derive(Debug, Default)]
pub struct Headers {
    pub request: Edits,
    pub response: Edits,
    /// `Strict-Transport-Security`, for clients that came by https (RFC 6797 section 7.2); its value.
    pub hsts: Option<Box<str>>,
    /// Fields that make browsers careful, each where the backend does not send it.
    pub security: bool,
}

/// What happens to the fields of one direction.
#[derive(Debug, Default)]
pub struct Edits {
    /// Dropped: what is removed, and what is set anew. Lower case.
    pub drop: Box<[Box<str>]>,
    /// Written behind the others: what is set and what is added.
    pub write: Box<[(Box<str>, Template)]>,
}
