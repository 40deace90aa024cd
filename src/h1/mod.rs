//! Bytes ↔ HTTP/1.1 messages.
//!
//! Decides: whether a head is well formed, which length rule governs its body, what we send on, and
//! whether a connection may be used again. May not know: sockets, clocks, threads, routes,
//! configuration files. Invariant: a message whose framing could be read in two ways never leaves
//! this module as accepted.

pub mod answer;
pub mod body;
pub mod cookie;
mod fault;
mod fields;
pub mod forward;
pub mod forwarded;
pub mod head;
pub mod reuse;
mod syntax;
#[cfg(test)]
mod tests;
mod trailer;

/// Bounds on a message head. Exceeding one is a [`Reject`], never a reallocation without end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest head in bytes, start line and final empty line included (1 KiB to 256 KiB).
    pub header_bytes: usize,
    /// Most header fields (1 to [`HEADER_COUNT_MAX`]).
    pub header_count: usize,
    /// Longest request line in bytes without its CRLF (RFC 9110 section 4.1 advises at least 8000).
    pub request_line: usize,
}

impl Limits {
    /// The defaults of `[limits]`.
    pub const DEFAULT: Limits = Limits {
        header_bytes: 32 * 1024,
        header_count: 100,
        request_line: 8 * 1024,
    };
}

/// Upper bound of `Limits::header_count`: the parser's slots live on the stack (32 B each).
pub const HEADER_COUNT_MAX: usize = 256;

/// A request method. Anything but the registered ones is `Other`, and is forwarded as it was
/// spelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Options,
    Patch,
    Connect,
    Trace,
    Other,
}

impl Method {
    /// Case counts (RFC 9110 section 9.1).
    pub fn of(text: &str) -> Method {
        head::method_of(text)
    }

    /// RFC 9110 section 9.2.2: repeating the request has the effect of one.
    pub fn is_idempotent(self) -> bool {
        match self {
            Method::Get
            | Method::Head
            | Method::Put
            | Method::Delete
            | Method::Options
            | Method::Trace => true,
            Method::Post | Method::Patch | Method::Connect | Method::Other => false,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    Http10,
    Http11,
}

/// The length rule that governs a body (RFC 9112 section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// No body.
    None,
    /// Exactly this many bytes; zero is spelled `None`.
    Length(u64),
    /// Chunked transfer coding.
    Chunked,
    /// Responses only: the body ends when the backend closes.
    UntilClose,
}

/// Why a message was refused. One refusal, one variant, one metric label, one test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reject {
    /// Not HTTP/1.x syntax at all in the start line.
    BadStartLine,
    /// A version other than HTTP/1.0 and HTTP/1.1.
    BadVersion,
    /// A request target of a form that the method does not allow, or with bytes outside RFC 3986.
    BadTarget,
    /// A field name with a byte that is no token, or no colon.
    BadHeaderName,
    /// A field value with a control character (NUL, bare CR, …).
    BadHeaderValue,
    /// A line that ends in LF without CR.
    BareLf,
    /// A continuation line (obs-fold), or white space before the first field.
    ObsFold,
    /// The head is longer than `Limits::header_bytes`.
    HeadTooLarge,
    /// More fields than `Limits::header_count`.
    TooManyHeaders,
    /// The request line is longer than `Limits::request_line`.
    RequestLineTooLong,
    /// HTTP/1.1 without Host.
    MissingHost,
    /// More than one Host.
    DuplicateHost,
    /// A Host that is no `uri-host [":" port]`.
    BadHost,
    /// Content-Length that is no number, is too large, or is a list of differing numbers.
    BadContentLength,
    /// Content-Length together with Transfer-Encoding.
    LengthAndChunked,
    /// Transfer-Encoding in a message of HTTP/1.0.
    ChunkedInHttp10,
    /// A Transfer-Encoding of which `chunked` is not the last coding, or is named twice, or is
    /// misspelled.
    BadTransferEncoding,
    /// A transfer coding that we do not implement (501).
    UnknownCoding,
    /// A malformed chunk: size, extension, or the line end after its data.
    BadChunk,
    /// Chunk extensions beyond their bound.
    ChunkExtensionTooLong,
    /// A malformed trailer, or trailers beyond their bound.
    BadTrailer,
    /// An expectation other than `100-continue` (417).
    BadExpect,
    /// CONNECT: we are no tunnel (405… see `status`).
    ConnectRefused,
    /// TRACE: it would echo what the client may not see.
    TraceRefused,
    /// A status code outside 100..=599, or a 1xx where it has no place.
    BadStatus,
}

impl Reject {
    /// Every variant, for the metric's labels and the test that wants one case each.
    pub const ALL: &'static [Reject] = &[
        Reject::BadStartLine,
        Reject::BadVersion,
        Reject::BadTarget,
        Reject::BadHeaderName,
        Reject::BadHeaderValue,
        Reject::BareLf,
        Reject::ObsFold,
        Reject::HeadTooLarge,
        Reject::TooManyHeaders,
        Reject::RequestLineTooLong,
        Reject::MissingHost,
        Reject::DuplicateHost,
        Reject::BadHost,
        Reject::BadContentLength,
        Reject::LengthAndChunked,
        Reject::ChunkedInHttp10,
        Reject::BadTransferEncoding,
        Reject::UnknownCoding,
        Reject::BadChunk,
        Reject::ChunkExtensionTooLong,
        Reject::BadTrailer,
        Reject::BadExpect,
        Reject::ConnectRefused,
        Reject::TraceRefused,
        Reject::BadStatus,
    ];

    /// The status that a client gets when its request is refused for this reason.
    pub fn status(self) -> u16 {
        match self {
            Reject::BadVersion => 505,
            Reject::HeadTooLarge | Reject::TooManyHeaders => 431,
            Reject::RequestLineTooLong => 414,
            Reject::UnknownCoding => 501,
            Reject::BadExpect => 417,
            Reject::ConnectRefused | Reject::TraceRefused => 405,
            Reject::BadStartLine
            | Reject::BadTarget
            | Reject::BadHeaderName
            | Reject::BadHeaderValue
            | Reject::BareLf
            | Reject::ObsFold
            | Reject::MissingHost
            | Reject::DuplicateHost
            | Reject::BadHost
            | Reject::BadContentLength
            | Reject::LengthAndChunked
            | Reject::ChunkedInHttp10
            | Reject::BadTransferEncoding
            | Reject::BadChunk
            | Reject::ChunkExtensionTooLong
            | Reject::BadTrailer
            | Reject::BadStatus => 400,
        }
    }

    /// The reason as it stands in metrics and in the access log.
    pub fn label(self) -> &'static str {
        match self {
            Reject::BadStartLine => "bad_start_line",
            Reject::BadVersion => "bad_version",
            Reject::BadTarget => "bad_target",
            Reject::BadHeaderName => "bad_header_name",
            Reject::BadHeaderValue => "bad_header_value",
            Reject::BareLf => "bare_lf",
            Reject::ObsFold => "obs_fold",
            Reject::HeadTooLarge => "head_too_large",
            Reject::TooManyHeaders => "too_many_headers",
            Reject::RequestLineTooLong => "request_line_too_long",
            Reject::MissingHost => "missing_host",
            Reject::DuplicateHost => "duplicate_host",
            Reject::BadHost => "bad_host",
            Reject::BadContentLength => "bad_content_length",
            Reject::LengthAndChunked => "length_and_chunked",
            Reject::ChunkedInHttp10 => "chunked_in_http10",
            Reject::BadTransferEncoding => "bad_transfer_encoding",
            Reject::UnknownCoding => "unknown_coding",
            Reject::BadChunk => "bad_chunk",
            Reject::ChunkExtensionTooLong => "chunk_extension_too_long",
            Reject::BadTrailer => "bad_trailer",
            Reject::BadExpect => "bad_expect",
            Reject::ConnectRefused => "connect_refused",
            Reject::TraceRefused => "trace_refused",
            Reject::BadStatus => "bad_status",
        }
    }
}
