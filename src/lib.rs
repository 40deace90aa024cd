//! Corelane: a thread-per-core HTTP/1.1 reverse proxy on io_uring.
//!
//! The modules in reading order. The first three are pure: they name neither clock, socket nor thread.

pub mod config;
pub mod h1; // bytes ↔ HTTP/1.1 messages
pub mod policy; // decisions about a parsed message: route, balance // text → File → Plan

pub mod cli; // arguments, and the configuration they name
pub mod version; // what this binary is
