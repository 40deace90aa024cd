//! A stored head after a 304 (RFC 9111 section 4.3.4), and the 304 that is made of one.
//!
//! Decides: which fields are replaced. May not know: times. Invariant: the body's length and coding stay those of the
//! stored body, and so does its tag.

use super::conditional::Validators;
use crate::h1::forward::passes_in_response;
use crate::h1::head::{Kind, Response};

/// Appends the stored head with the fields of the 304 in place of its own of the same name. Both are heads with their
/// empty line at the end; `stored` has end-to-end fields only.
///
/// Age and Date are those of the 304, or none: they tell when it was made. Whoever stores the head adds the Date that is
/// missing (RFC 9110 section 6.6.1), and asks [`super::store::admit`] anew, since all that it goes by may have changed.
pub fn write(stored: &Response<'_, '_>, fresh: &Response<'_, '_>, out: &mut Vec<u8>) {
    out.reserve(stored.head_len + fresh.head_len);
    let line_end = memchr::memchr(b'\n', stored.head).map_or(0, |at| at + 1);
    out.extend_from_slice(&stored.head[..line_end]);
    let confirms = confirms_tag(stored, fresh);
    let replaces = |name: &str, kind| {
        passes_in_response(kind)
            && !is_of_body(name)
            && (confirms || !name.eq_ignore_ascii_case("etag"))
    };
    let is_replaced = |name: &str| {
        let mut fields = fresh.headers.iter().zip(fresh.kinds);
        fields.any(|(header, kind)| {
            replaces(header.name, *kind) && header.name.eq_ignore_ascii_case(name)
        })
    };
    for (header, kind) in stored.headers.iter().zip(stored.kinds) {
        let is_momentary = *kind == Kind::Date || header.name.eq_ignore_ascii_case("age");
        if passes_in_response(*kind) && !is_momentary && !is_replaced(header.name) {
            line(header, out);
        }
    }
    for (header, kind) in fresh.headers.iter().zip(fresh.kinds) {
        if replaces(header.name, *kind) {
            line(header, out);
        }
    }
    out.extend_from_slice(b"\r\n");
}

fn line(header: &httparse::Header<'_>, out: &mut Vec<u8>) {
    for part in [header.name.as_bytes(), b": ", header.value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

/// RFC 9111 section 3.2: what says how the stored body is to be read. Content-Length is not among the fields that are
/// stored. Via is ours to write.
fn is_of_body(name: &str) -> bool {
    ["content-encoding", "content-range", "via"]
        .iter()
        .any(|other| name.eq_ignore_ascii_case(other))
}

/// RFC 9111 section 4.3.4: a 304 with another tag is about another body, which must not pass for this one.
fn confirms_tag(stored: &Response<'_, '_>, fresh: &Response<'_, '_>) -> bool {
    let opaque = |response| {
        let etag = Validators::of(response).etag;
        etag.map(|etag| etag.strip_prefix(b"W/").unwrap_or(etag))
    };
    let own = opaque(stored);
    own.is_none() || own == opaque(fresh)
}

/// A field of a stored head that belongs into a 304 (RFC 9110 section 15.4.5): not what describes a body, which the
/// client has a description of. Last-Modified does belong, for clients that have nothing else to ask by.
pub fn stands_in_not_modified(name: &str) -> bool {
    const OF_BODY: [&str; 7] = [
        "content-type",
        "content-length",
        "content-encoding",
        "content-language",
        "content-range",
        "content-digest",
        "content-md5",
    ];
    !OF_BODY.iter().any(|other| name.eq_ignore_ascii_case(other))
}

/// The values of Cache-Tag (and Surrogate-Key) in a stored head name this tag. Tags are separated by commas or spaces.
pub fn has_tag(head: &[u8], tag: &str) -> bool {
    let fields = head.split(|byte| *byte == b'\n').skip(1);
    let mut values = fields.filter_map(|line| {
        let (name, value) = line.split_at(memchr::memchr(b':', line)?);
        let is_list =
            name.eq_ignore_ascii_case(b"cache-tag") || name.eq_ignore_ascii_case(b"surrogate-key");
        is_list.then(|| &value[1..])
    });
    !tag.is_empty()
        && values.any(|value| {
            let mut tags = value.split(|byte| matches!(byte, b',' | b' ' | b'\t' | b'\r'));
            tags.any(|found| found == tag.as_bytes())
        })
}
