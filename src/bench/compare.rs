//! Corelane beside other proxies: `corelane bench compare`.
//!
//! Decides nothing yet: `peer` says what is compared and how each is set up.

pub mod peer;
