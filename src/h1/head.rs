//! Parse and check one head, on httparse.
//!
//! Decides: whether the bytes of a head are a request or a response that we are willing to forward,
//! and what governs its body. May not know: what becomes of it. Invariant: what is accepted has one
//! reading only: one Host, one length rule, CRLF line ends, and a target that is split in one way.

use std::mem::MaybeUninit;

pub use super::fields::Kind;
use super::fields::{self, Expect, Fields, Side};
use super::{Framing, HEADER_COUNT_MAX, Limits, Method, Reject, Version, fault, syntax};

/// Stack space for the parser. `Slots::new()` leaves the fields uninitialised; 256 B of kinds are
/// cheap to fill.
pub struct Slots<'b> {
    headers: [MaybeUninit<httparse::Header<'b>>; HEADER_COUNT_MAX],
    kinds: [Kind; HEADER_COUNT_MAX],
}

impl Slots<'_> {
    #[expect(
        clippy::new_without_default,
        reason = "8 KiB of stack should be asked for by name"
    )]
    pub fn new() -> Self {
        Slots {
            headers: [const { MaybeUninit::uninit() }; HEADER_COUNT_MAX],
            kinds: [Kind::EndToEnd; HEADER_COUNT_MAX],
        }
    }
}

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
    /// The authority that counts: of the absolute-form target if there is one (RFC 9112 section
    /// 3.2.2), else Host. Empty for HTTP/1.0 without Host.
    pub host: &'b str,
    pub framing: Framing,
    /// Content-Length as sent; unlike `framing` it tells 0 from none.
    pub content_length: Option<u64>,
    /// The client lets the connection live on after this request.
    pub keep_alive: bool,
    /// `Expect: 100-continue` in an HTTP/1.1 request that has a body.
    pub expect_continue: bool,
    /// The Upgrade value, when Connection names it, the version is 1.1, there is no body and it is
    /// not h2c.
    pub upgrade: Option<&'b str>,
    /// Connection nominates fields of the message: trailers do not pass.
    pub nominates: bool,
    /// Max-Forwards of an OPTIONS request; at 0 we must answer and not forward (RFC 9110 section
    /// 7.6.2).
    pub max_forwards: Option<u32>,
    /// Bytes of the head in the buffer, with empty lines before it.
    pub head_len: usize,
    /// Those bytes.
    pub head: &'b [u8],
    pub headers: &'h [httparse::Header<'b>],
    pub kinds: &'h [Kind],
}

/// A checked response head.
pub struct Response<'h, 'b> {
    pub status: u16,
    pub reason: &'b str,
    pub version: Version,
    /// The body's length rule, given the request's method; `None` for 1xx, 204, 304 and answers to
    /// HEAD.
    pub framing: Framing,
    /// Content-Length as sent; answers to HEAD and 304 announce a length without a body.
    pub content_length: Option<u64>,
    /// The backend lets its connection live on after this response (length known, no close,
    /// version).
    pub keep_alive: bool,
    /// How long the backend says that it keeps its connection idle (Keep-Alive: timeout=N).
    pub keep_alive_s: Option<u32>,
    /// The Upgrade value of a 101.
    pub upgrade: Option<&'b str>,
    /// Connection nominates fields of the message: trailers do not pass.
    pub nominates: bool,
    pub head_len: usize,
    /// Those bytes.
    pub head: &'b [u8],
    pub headers: &'h [httparse::Header<'b>],
    pub kinds: &'h [Kind],
}

/// What a head begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    Request,
    Status,
}

/// Parses a request head at the beginning of `bytes`. `None`: more bytes are needed.
pub fn parse_request<'h, 'b>(
    bytes: &'b [u8],
    limits: &Limits,
    slots: &'h mut Slots<'b>,
) -> Result<Option<Request<'h, 'b>>, Reject> {
    let Some(skipped) = skip_empty_lines(bytes)? else {
        return Ok(None);
    };
    let message = &bytes[skipped..];
    let count = limits.header_count.min(HEADER_COUNT_MAX);
    let mut parsed = httparse::Request::new(&mut []);
    let length = match parsed.parse_with_uninit_headers(message, &mut slots.headers[..count]) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => {
            return fault::incomplete(message, skipped, limits, Start::Request)
                .map_or(Ok(None), Err);
        }
        Err(error) => return Err(fault::refused(message, error, limits, Start::Request)),
    };
    let (Some(method_text), Some(target), Some(minor)) =
        (parsed.method, parsed.path, parsed.version)
    else {
        return Err(Reject::BadStartLine);
    };
    // The parser accepts single spaces only, so this is the line's length: method, target,
    // `HTTP/1.1`.
    if method_text.len() + target.len() + 10 > limits.request_line {
        return Err(Reject::RequestLineTooLong);
    }
    let head = whole_head(bytes, skipped + length, limits)?;
    let method = method_of(method_text);
    match method {
        Method::Connect => return Err(Reject::ConnectRefused),
        Method::Trace => return Err(Reject::TraceRefused),
        Method::Get
        | Method::Head
        | Method::Post
        | Method::Put
        | Method::Delete
        | Method::Options
        | Method::Patch
        | Method::Other => {}
    }
    let kinds = &mut slots.kinds[..parsed.headers.len()];
    let fields = fields::gather(head, parsed.headers, kinds, Side::Request)?;
    let line = RequestLine {
        method,
        method_text,
        target,
        version: version_of(minor),
    };
    let mut request = judge_request(&line, &fields)?;
    request.head_len = head.len();
    request.head = head;
    request.headers = parsed.headers;
    request.kinds = kinds;
    Ok(Some(request))
}

struct RequestLine<'b> {
    method: Method,
    method_text: &'b str,
    target: &'b str,
    version: Version,
}

/// All rules that need the start line and the fields together. The fields themselves are left out.
fn judge_request<'h, 'b>(
    line: &RequestLine<'b>,
    fields: &Fields<'b>,
) -> Result<Request<'h, 'b>, Reject> {
    let is_http10 = line.version == Version::Http10;
    let target = split_target(line.target, line.method)?;
    let host = host_of(fields.host, is_http10)?;
    let framing = match fields.content_length {
        None | Some(0) => Framing::None,
        Some(length) => Framing::Length(length),
    };
    let framing = if fields.is_chunked(is_http10)? {
        Framing::Chunked
    } else {
        framing
    };
    // RFC 9110 section 10.1.1: an expectation in HTTP/1.0 is ignored, as is one for a body that
    // does not exist.
    if !is_http10 && fields.expect == Some(Expect::Unknown) {
        return Err(Reject::BadExpect);
    }
    let has_body = framing != Framing::None;
    Ok(Request {
        method: line.method,
        method_text: line.method_text,
        target: line.target,
        path: target.path,
        query: target.query,
        version: line.version,
        host: target.authority.unwrap_or(host),
        framing,
        content_length: fields.content_length,
        keep_alive: lives_on(line.version, fields),
        expect_continue: !is_http10 && has_body && fields.expect.is_some(),
        upgrade: if is_http10 || has_body {
            None
        } else {
            fields.upgrade_text()
        },
        nominates: fields.nominates,
        max_forwards: if line.method == Method::Options {
            fields.max_forwards
        } else {
            None
        },
        head_len: 0,
        head: &[],
        headers: &[],
        kinds: &[],
    })
}

/// Parses a response head at the beginning of `bytes`. `None`: more bytes are needed.
pub fn parse_response<'h, 'b>(
    bytes: &'b [u8],
    limits: &Limits,
    request_method: Method,
    slots: &'h mut Slots<'b>,
) -> Result<Option<Response<'h, 'b>>, Reject> {
    // RFC 9112 section 2.2 lets a server skip empty lines, not a client. Stray bytes before a
    // response mean that the connection is out of step.
    if let Some(b'\r' | b'\n') = bytes.first() {
        return Err(Reject::BadStartLine);
    }
    let count = limits.header_count.min(HEADER_COUNT_MAX);
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let slice = &mut slots.headers[..count];
    let length = match config.parse_response_with_uninit_headers(&mut parsed, bytes, slice) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => {
            return fault::incomplete(bytes, 0, limits, Start::Status).map_or(Ok(None), Err);
        }
        Err(error) => return Err(fault::refused(bytes, error, limits, Start::Status)),
    };
    let (Some(status @ 100..=599), Some(minor)) = (parsed.code, parsed.version) else {
        return Err(Reject::BadStatus);
    };
    let head = whole_head(bytes, length, limits)?;
    let kinds = &mut slots.kinds[..parsed.headers.len()];
    let fields = fields::gather(head, parsed.headers, kinds, Side::Response)?;
    let version = version_of(minor);
    let (framing, in_step) = response_framing(status, version, request_method, &fields)?;
    let switches = status == 101;
    let bounded = framing != Framing::UntilClose && !switches;
    Ok(Some(Response {
        status,
        // Other bytes than ASCII are dropped by the parser; the phrase means nothing (RFC 9112
        // section 4).
        reason: parsed.reason.unwrap_or_default(),
        version,
        framing,
        content_length: fields.content_length,
        keep_alive: bounded && in_step && lives_on(version, &fields),
        keep_alive_s: fields.keep_alive_s(),
        nominates: fields.nominates,
        upgrade: if switches {
            fields.upgrade_text()
        } else {
            None
        },
        head_len: head.len(),
        head,
        headers: parsed.headers,
        kinds,
    }))
}

/// RFC 9112 section 6.3, and whether the backend can be trusted to begin its next response where
/// this one ends.
///
/// A length in a 1xx or 204 violates RFC 9110 section 8.6 and RFC 9112 section 6.1. With a 204,
/// hyper and HAProxy ignore it; so do we, and we do not reuse the connection, because the backend
/// may well send that body. With a 1xx more responses follow on the connection, so there is nothing
/// safe to do: refused.
fn response_framing(
    status: u16,
    version: Version,
    request_method: Method,
    fields: &Fields<'_>,
) -> Result<(Framing, bool), Reject> {
    let chunked = fields.is_chunked(version == Version::Http10)?;
    let has_length = !matches!(fields.content_length, None | Some(0));
    match status {
        100..=199 if chunked => Err(Reject::BadTransferEncoding),
        100..=199 if has_length => Err(Reject::BadContentLength),
        204 => Ok((Framing::None, !chunked && !has_length)),
        100..=199 | 304 => Ok((Framing::None, true)),
        _ if request_method == Method::Head => Ok((Framing::None, true)),
        _ if chunked => Ok((Framing::Chunked, true)),
        _ => Ok(match fields.content_length {
            None => (Framing::UntilClose, true),
            Some(0) => (Framing::None, true),
            Some(length) => (Framing::Length(length), true),
        }),
    }
}

/// RFC 9112 section 9.3.
fn lives_on(version: Version, fields: &Fields<'_>) -> bool {
    match version {
        Version::Http11 => !fields.close,
        Version::Http10 => fields.keep_alive && !fields.close,
    }
}

/// The head's bytes, if they are within bounds and end in two CRLF (the parser takes LF alone as
/// well).
fn whole_head<'b>(bytes: &'b [u8], length: usize, limits: &Limits) -> Result<&'b [u8], Reject> {
    let head = &bytes[..length];
    if length > limits.header_bytes {
        return Err(Reject::HeadTooLarge);
    }
    if head.ends_with(b"\r\n\r\n") {
        Ok(head)
    } else {
        Err(Reject::BareLf)
    }
}

/// RFC 9112 section 2.2: clients of old send an empty line after a body. A few are skipped.
fn skip_empty_lines(bytes: &[u8]) -> Result<Option<usize>, Reject> {
    const EMPTY_LINES_MAX: usize = 4;
    let mut at = 0;
    loop {
        match bytes[at..] {
            [] | [b'\r'] => return Ok(None),
            [b'\r', b'\n', ..] if at < 2 * EMPTY_LINES_MAX => at += 2,
            [b'\r', ..] => return Err(Reject::BadStartLine),
            [b'\n', ..] => return Err(Reject::BareLf),
            [_, ..] => return Ok(Some(at)),
        }
    }
}

fn version_of(minor: u8) -> Version {
    if minor == 0 {
        Version::Http10
    } else {
        Version::Http11
    }
}

/// Methods are case-sensitive (RFC 9110 section 9.1).
pub(super) fn method_of(text: &str) -> Method {
    match text {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "OPTIONS" => Method::Options,
        "PATCH" => Method::Patch,
        "CONNECT" => Method::Connect,
        "TRACE" => Method::Trace,
        _ => Method::Other,
    }
}

/// RFC 9112 section 3.2. An empty Host would be right for targets without authority; http has none.
fn host_of(host: Option<&[u8]>, is_http10: bool) -> Result<&str, Reject> {
    match host {
        Some(host) if syntax::is_authority(host) => {
            std::str::from_utf8(host).map_err(|_| Reject::BadHost)
        }
        Some(_) => Err(Reject::BadHost),
        None if is_http10 => Ok(""),
        None => Err(Reject::MissingHost),
    }
}

struct Target<'b> {
    authority: Option<&'b str>,
    path: &'b str,
    query: &'b str,
}

/// The bytes that we let stand in a target: visible ASCII without `#`.
///
/// RFC 3986 excludes `" < > \ ^ { | }` and the backtick too, but browsers send some of them raw in
/// queries, and nginx, HAProxy and Go all pass them, so that refusing them would break sites and
/// protect nobody. A fragment is never sent (HAProxy refuses it since 2.8); a backend that cuts it
/// off would see another path than our router.
pub(super) fn is_target_text(target: &[u8]) -> bool {
    // No early exit, so that the loop compiles to vector code.
    target.iter().fold(true, |fine, byte| {
        fine & (b'!'..=b'~').contains(byte) & (*byte != b'#')
    })
}

/// RFC 9112 section 3.2: origin-form, absolute-form with http or https, or `*` for OPTIONS.
fn split_target(target: &str, method: Method) -> Result<Target<'_>, Reject> {
    if !is_target_text(target.as_bytes()) {
        return Err(Reject::BadTarget);
    }
    if target.starts_with('/') {
        let (path, query) = split_query(target);
        return Ok(Target {
            authority: None,
            path,
            query,
        });
    }
    if target == "*" && method == Method::Options {
        return Ok(Target {
            authority: None,
            path: "/",
            query: "",
        });
    }
    let rest = strip_scheme(target).ok_or(Reject::BadTarget)?;
    let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    if !syntax::is_authority(authority.as_bytes()) {
        return Err(Reject::BadTarget);
    }
    let (path, query) = split_query(rest);
    Ok(Target {
        authority: Some(authority),
        path: if path.is_empty() { "/" } else { path },
        query,
    })
}

fn split_query(target: &str) -> (&str, &str) {
    match memchr::memchr(b'?', target.as_bytes()) {
        Some(at) => (&target[..at], &target[at + 1..]),
        None => (target, ""),
    }
}

fn strip_scheme(target: &str) -> Option<&str> {
    ["http://", "https://"].into_iter().find_map(|scheme| {
        let start = target.get(..scheme.len())?;
        start
            .eq_ignore_ascii_case(scheme)
            .then(|| &target[scheme.len()..])
    })
}

/// Keeps a peer that sends byte by byte from making us parse its head anew for each.
///
/// The caller parses on its first read and when its buffer is full in any case, and else when
/// [`Scan::might_be_complete`] says so.
#[derive(Debug, Clone, Copy)]
pub struct Scan {
    /// Bytes looked at so far.
    offset: usize,
    /// At this length we parse anyway: faults and excesses show without an empty line too. Doubles,
    /// so that all parses together are linear in the head.
    parse_at: usize,
    /// The first line has been looked at as a whole: what is no HTTP shows there, and would else be
    /// waited for in vain.
    first_line_seen: bool,
}

impl Scan {
    #[expect(
        clippy::new_without_default,
        reason = "a scan begins with a head, not by default"
    )]
    pub fn new() -> Scan {
        Scan {
            offset: 0,
            parse_at: 1024,
            first_line_seen: false,
        }
    }

    /// `bytes` is the same buffer as before, grown. True if a line ended it (an empty line), if it
    /// cannot be right (an LF without CR), if its first line is there, or if it doubled.
    pub fn might_be_complete(&mut self, bytes: &[u8]) -> bool {
        let from = self.offset;
        self.offset = bytes.len();
        let ended = memchr::memchr_iter(b'\n', &bytes[from.min(bytes.len())..]).any(|at| {
            let line = &bytes[..from + at];
            let first = !std::mem::replace(&mut self.first_line_seen, true);
            first || !line.ends_with(b"\r") || line.ends_with(b"\r\n\r")
        });
        let doubled = bytes.len() >= self.parse_at;
        if doubled {
            self.parse_at = bytes.len().saturating_mul(2);
        }
        ended || doubled
    }
}
