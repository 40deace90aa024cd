//! Parse and check one head, on httparse.

use std::mem::MaybeUninit;

use super::{Framing, HEADER_COUNT_MAX, Limits, Method, Reject, Version};

/// Stack space for the parser. `Slots::new()` initialises nothing.
pub struct Slots<'b> {
    headers: [MaybeUninit<httparse::Header<'b>>; HEADER_COUNT_MAX],
    kinds: [MaybeUninit<Kind>; HEADER_COUNT_MAX],
}

/// What a field name means to a forwarder; found once, at parse time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind { EndToEnd /* … */ }

/// A checked request head, borrowed from the buffer that holds it.
pub struct Request<'h, 'b> {
    pub method: Method,
    pub method_text: &'b str,
    /// The target as sent: origin-form, absolute-form or `*`.
    pub target: &'b str,
    /// Path of the target without query (`/` for `*` and for an absolute-form without path).
    pub path: &'b str,
    /// Query without `?`, empty if none.
    pub query: &'b str,
    pub version: Version,
    /// The authority that counts: of the absolute-form target if there is one (RFC 9112 section 3.2.2), else Host.
    pub host: &'b str,
    pub framing: Framing,
    /// The client lets the connection live on after this request.
    pub keep_alive: bool,
    /// `Expect: 100-continue` in an HTTP/1.1 request that has a body.
    pub expect_continue: bool,
    /// The Upgrade value, when Connection names it, the version is 1.1, there is no body and it is not h2c.
    pub upgrade: Option<&'b str>,
    /// Bytes of the head in the buffer.
    pub head_len: usize,
    pub headers: &'h [httparse::Header<'b>],
    pub kinds: &'h [Kind],
}

/// A checked response head.
pub struct Response<'h, 'b> {
    pub status: u16,
    pub reason: &'b str,
    pub version: Version,
    /// The body's length rule, given the request's method; `None` for 1xx, 204, 304 and answers to HEAD.
    pub framing: Framing,
    /// The backend lets its connection live on after this response (length known, no close, version).
    pub keep_alive: bool,
    /// The Upgrade value of a 101.
    pub upgrade: Option<&'b str>,
    pub head_len: usize,
    pub headers: &'h [httparse::Header<'b>],
    pub kinds: &'h [Kind],
}
