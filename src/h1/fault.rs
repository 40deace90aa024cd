//! Names the refusal for a head that the parser did not take. Cold: runs once per refused or
//! incomplete head.
//!
//! Decides: which [`Reject`] describes the first fault of a head. May not know: what a good head
//! means. Invariant: a fault found in a prefix of a head is a fault of the whole head.

use super::head::Start;
use super::{Limits, Reject, syntax};

/// The head is incomplete: is there already a reason to refuse it? `bytes` begins at the start
/// line, after `skipped` bytes of empty lines.
#[cold]
pub(super) fn incomplete(
    bytes: &[u8],
    skipped: usize,
    limits: &Limits,
    start: Start,
) -> Option<Reject> {
    let line_end = memchr::memchr(b'\n', bytes);
    if start == Start::Request && line_end.unwrap_or(bytes.len()) > limits.request_line + 1 {
        return Some(Reject::RequestLineTooLong);
    }
    // A complete head of this very length would have been taken, so this one will be longer.
    if skipped + bytes.len() >= limits.header_bytes {
        return Some(Reject::HeadTooLarge);
    }
    memchr::memchr_iter(b'\n', bytes)
        .any(|at| at == 0 || bytes[at - 1] != b'\r')
        .then_some(Reject::BareLf)
}

/// The parser refused the head with `error`.
#[cold]
pub(super) fn refused(
    bytes: &[u8],
    error: httparse::Error,
    limits: &Limits,
    start: Start,
) -> Reject {
    let line_end = memchr::memchr(b'\n', bytes).unwrap_or(bytes.len());
    let too_long = start == Start::Request && line_end > limits.request_line + 1;
    match error {
        httparse::Error::TooManyHeaders => Reject::TooManyHeaders,
        _ if too_long => Reject::RequestLineTooLong,
        httparse::Error::HeaderName => field_fault(bytes).unwrap_or(Reject::BadHeaderName),
        httparse::Error::HeaderValue => field_fault(bytes).unwrap_or(Reject::BadHeaderValue),
        // A status line yields other errors: this is a CR without LF where a field line should
        // begin.
        httparse::Error::NewLine if start == Start::Status => Reject::BadHeaderName,
        httparse::Error::NewLine
        | httparse::Error::Status
        | httparse::Error::Token
        | httparse::Error::Version => start_fault(&bytes[..line_end], start),
    }
}

/// The first fault of the field lines: each ends in CRLF, begins with a name, and holds no control
/// character.
fn field_fault(bytes: &[u8]) -> Option<Reject> {
    let mut lines = bytes.split_inclusive(|byte| *byte == b'\n');
    if !lines.next()?.ends_with(b"\r\n") {
        return Some(Reject::BareLf);
    }
    for line in lines {
        if matches!(line.first(), Some(b' ' | b'\t')) {
            return Some(Reject::ObsFold);
        }
        let name = line
            .iter()
            .position(|byte| !syntax::is_token_byte(*byte))
            .unwrap_or(line.len());
        if line
            .get(name)
            .is_some_and(|byte| name == 0 || *byte != b':')
            && line != b"\r\n"
        {
            return Some(Reject::BadHeaderName);
        }
        let content = line.strip_suffix(b"\n").unwrap_or(line);
        let Some(content) = content.strip_suffix(b"\r") else {
            let ended = content.len() < line.len() && syntax::is_field_value(content);
            return ended.then_some(Reject::BareLf);
        };
        if !syntax::is_field_value(&content[name.min(content.len())..]) {
            return Some(Reject::BadHeaderValue);
        }
    }
    None
}

/// The fault of a start line, given without its LF.
fn start_fault(line: &[u8], start: Start) -> Reject {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    match start {
        Start::Request => request_line_fault(line),
        Start::Status => status_line_fault(line),
    }
}

fn request_line_fault(line: &[u8]) -> Reject {
    let mut parts = line.splitn(3, |byte| *byte == b' ');
    let method = parts.next().unwrap_or_default();
    let (Some(target), Some(version)) = (parts.next(), parts.next()) else {
        // One space or none: HTTP/0.9, or no HTTP at all.
        return Reject::BadStartLine;
    };
    if !syntax::is_token(method) || target.is_empty() {
        return Reject::BadStartLine;
    }
    if !super::head::is_target_text(target) {
        return Reject::BadTarget;
    }
    version_fault(version)
}

fn status_line_fault(line: &[u8]) -> Reject {
    let version = line.split(|byte| *byte == b' ').next().unwrap_or_default();
    if matches!(version, b"HTTP/1.1" | b"HTTP/1.0") {
        Reject::BadStatus
    } else {
        version_fault(version)
    }
}

/// `HTTP/2.0`, `HTTP/1.2` are other versions; `HTTP/1.1 x` and `http/1.1` are no version at all.
fn version_fault(version: &[u8]) -> Reject {
    match version {
        b"HTTP/1.0" | b"HTTP/1.1" => Reject::BadHeaderName,
        [b'H', b'T', b'T', b'P', b'/', rest @ ..]
            if !rest.starts_with(b"1.1")
                && !rest.starts_with(b"1.0")
                && is_version_number(rest) =>
        {
            Reject::BadVersion
        }
        _ => Reject::BadStartLine,
    }
}

/// A version number, or the beginning of one that is cut off.
fn is_version_number(text: &[u8]) -> bool {
    !text.is_empty()
        && text
            .iter()
            .all(|byte| byte.is_ascii_digit() || *byte == b'.')
}
