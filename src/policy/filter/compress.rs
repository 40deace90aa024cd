//! Compression of responses.
//!
//! Decides: which coding a client likes best of those that we have, and whether a response is worth it. May not know:
//! codecs. Invariant: a response that has a coding, is a range, or forbids it (no-transform) is left alone.

#[derive(Debug)]
pub struct Compress {
    /// In order of preference, each with its level.
    pub codings: Box<[(Coding, u8)]>,
    /// Smaller responses are left alone, where their length is known.
    pub min_bytes: u64,
    /// Media types, lower case: `text/html`, or `text/*`.
    pub types: Box<[Box<str>]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    Gzip,
    Brotli,
    Zstd,
}
