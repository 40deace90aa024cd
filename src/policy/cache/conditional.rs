//! Conditions of requests, answered from a stored response (RFC 9110 section 13, RFC 9111 section 4.3.2).
//!
//! Decides: whether the client has it already. May not know: the body. Invariant: a condition that cannot be read does
//! not hold, so the client gets everything.

use super::date;
use super::fields::{named, single, single_stored};
use crate::h1::answer;
use crate::h1::head::{Request, Response};

/// What a stored response is known by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Validators<'e> {
    /// With quotes, and with `W/` if it is weak.
    pub etag: Option<&'e [u8]>,
    /// Seconds since 1970.
    pub last_modified_s: Option<u64>,
    /// Date, in seconds since 1970: it stands in for Last-Modified where a client asks.
    pub date_s: Option<u64>,
}

impl<'e> Validators<'e> {
    /// A field that is not stored with the response, or cannot be read, does not count.
    pub fn of(response: &Response<'_, 'e>) -> Self {
        let date = |name| single_stored(response, name).and_then(date::parse);
        let etag = single_stored(response, "etag").map(<[u8]>::trim_ascii);
        Validators {
            etag: etag.filter(|etag| Tag::take(etag).is_some_and(|(_, rest)| rest.is_empty())),
            last_modified_s: date("last-modified"),
            date_s: date("date"),
        }
    }

    /// A backend can be asked whether it still holds.
    pub(super) fn can_ask(&self) -> bool {
        self.etag.is_some() || self.last_modified_s.is_some()
    }
}

/// RFC 9110 section 8.8.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tag<'b> {
    is_weak: bool,
    opaque: &'b [u8],
}

impl<'b> Tag<'b> {
    /// The one that the text begins with, and what is left.
    fn take(text: &'b [u8]) -> Option<(Tag<'b>, &'b [u8])> {
        let (is_weak, rest) = match text.strip_prefix(b"W/") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let rest = rest.strip_prefix(b"\"")?;
        let (opaque, rest) = rest.split_at(memchr::memchr(b'"', rest)?);
        Some((Tag { is_weak, opaque }, &rest[1..]))
    }
}

/// A 304 is the answer: If-None-Match, else If-Modified-Since.
pub fn is_not_modified(request: &Request<'_, '_>, stored: &Validators<'_>) -> bool {
    let mut has_tags = false;
    for line in named(request.headers, "if-none-match") {
        has_tags = true;
        if names_tag(line, stored) {
            return true;
        }
    }
    // RFC 9110 section 13.1.3: it counts only without the other.
    if has_tags {
        return false;
    }
    let since_s = single(request.headers, "if-modified-since").and_then(date::parse);
    // RFC 9111 section 4.3.2: without Last-Modified, Date counts.
    let modified_s = stored.last_modified_s.or(stored.date_s);
    match (modified_s, since_s) {
        (Some(modified_s), Some(since_s)) => modified_s <= since_s,
        (None, _) | (_, None) => false,
    }
}

/// RFC 9110 section 13.1.2: any, or one of the list, by weak comparison. What stands behind a fault does not count.
fn names_tag(list: &[u8], stored: &Validators<'_>) -> bool {
    if list.trim_ascii() == b"*" {
        return true;
    }
    let own = stored.etag.and_then(Tag::take).map(|(tag, _)| tag.opaque);
    let mut rest = list.trim_ascii_start();
    loop {
        while let [b',' | b' ' | b'\t', behind @ ..] = rest {
            rest = behind;
        }
        let Some((tag, behind)) = Tag::take(rest) else {
            return false;
        };
        rest = behind.trim_ascii_start();
        if !matches!(rest, [] | [b',', ..]) {
            return false;
        }
        if own == Some(tag.opaque) {
            return true;
        }
    }
}

/// If-Range, if there is one, lets the range be served (strong comparison, RFC 9110 section 13.1.5).
pub fn range_holds(request: &Request<'_, '_>, stored: &Validators<'_>) -> bool {
    let mut lines = named(request.headers, "if-range");
    let Some(wanted) = lines.next().map(<[u8]>::trim_ascii) else {
        return true;
    };
    if lines.next().is_some() {
        return false;
    }
    if let Some((tag, rest)) = Tag::take(wanted) {
        return rest.is_empty() && !tag.is_weak && stored.etag == Some(wanted);
    }
    // RFC 9110 section 8.8.2.2: within the second of its last change a response may have been changed again.
    match (date::parse(wanted), stored.last_modified_s, stored.date_s) {
        (Some(wanted_s), Some(modified_s), Some(date_s)) => {
            wanted_s == modified_s && modified_s < date_s
        }
        (None, _, _) | (_, None, _) | (_, _, None) => false,
    }
}

/// The request asks for something only a backend can decide: If-Match or If-Unmodified-Since.
pub fn needs_backend(request: &Request<'_, '_>) -> bool {
    ["if-match", "if-unmodified-since"]
        .into_iter()
        .any(|name| named(request.headers, name).next().is_some())
}

/// Appends the lines with which a backend is asked whether the stored response still holds (RFC 9111 section 4.3.1).
pub fn write_question(stored: &Validators<'_>, out: &mut Vec<u8>) {
    if let Some(etag) = stored.etag {
        for part in [b"If-None-Match: ", etag, b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
    if let Some(modified_s) = stored.last_modified_s {
        let mut date = String::with_capacity(29);
        answer::http_date(&mut date, modified_s);
        answer::line(out, "If-Modified-Since", &date);
    }
}
