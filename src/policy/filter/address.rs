//! Blocks of addresses that may ask, or may not.
//!
//! Decides: whether a client's address may pass. May not know: how it was found. Invariant: what is denied is denied,
//! allowed or not; with a list of the allowed, everybody else is denied.

use crate::config::plan::Cidr;

#[derive(Debug, Default)]
pub struct Address {
    /// Empty: everybody.
    pub allow: Box<[Cidr]>,
    pub deny: Box<[Cidr]>,
}
