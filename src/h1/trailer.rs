//! The fields after the last chunk.
//!
//! Decides: whether a trailer section is well formed, and which of its fields may be sent on. May
//! not know: the head. Invariant: no trailer that passes could change what was decided from the
//! head.

use super::{Reject, syntax};

/// Longest trailer section, its empty line included.
pub(super) const BYTES_MAX: usize = 8 * 1024;
const COUNT_MAX: usize = 32;

/// Names that must not stand in trailers (RFC 9110 section 6.5.1): framing, routing,
/// authentication, control of request and response, and how the content is to be read.
/// Content-Digest may (RFC 9530 was made for it).
const FORBIDDEN: [&[u8]; 42] = [
    b"age",
    b"authorization",
    b"cache-control",
    b"connection",
    b"content-disposition",
    b"content-encoding",
    b"content-language",
    b"content-length",
    b"content-location",
    b"content-range",
    b"content-security-policy",
    b"content-type",
    b"cookie",
    b"date",
    b"expect",
    b"expires",
    b"forwarded",
    b"host",
    b"http2-settings",
    b"if-match",
    b"if-modified-since",
    b"if-none-match",
    b"if-range",
    b"if-unmodified-since",
    b"keep-alive",
    b"location",
    b"max-forwards",
    b"origin",
    b"pragma",
    b"range",
    b"retry-after",
    b"set-cookie",
    b"strict-transport-security",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
    b"vary",
    b"via",
    b"warning",
    b"www-authenticate",
    b"x-real-ip",
];
const FORBIDDEN_PREFIXES: [&[u8]; 3] = [b"proxy-", b"x-forwarded-", b"access-control-"];

/// Appends to `section` what of `rest` belongs to it. Returns the bytes taken, and whether the
/// empty line was reached.
pub(super) fn gather(section: &mut Vec<u8>, rest: &[u8]) -> Result<(usize, bool), Reject> {
    let mut at = 0;
    loop {
        let end = memchr::memchr(b'\n', &rest[at..]).map(|offset| at + offset + 1);
        let piece = &rest[at..end.unwrap_or(rest.len())];
        if section.len() + piece.len() > BYTES_MAX {
            return Err(Reject::BadTrailer);
        }
        let line_start = memchr::memrchr(b'\n', section).map_or(0, |offset| offset + 1);
        section.extend_from_slice(piece);
        let Some(end) = end else {
            return Ok((rest.len(), false));
        };
        at = end;
        match &section[line_start..] {
            b"\r\n" => return Ok((at, true)),
            line if line.ends_with(b"\r\n") => {}
            _ => return Err(Reject::BadTrailer),
        }
    }
}

/// Checks a whole section. True if every field of it may be sent on.
pub(super) fn check(section: &[u8]) -> Result<bool, Reject> {
    let mut count = 0;
    let mut all_pass = true;
    for line in lines(section) {
        count += 1;
        let colon = memchr::memchr(b':', line).ok_or(Reject::BadTrailer)?;
        let (name, value) = (&line[..colon], &line[colon + 1..line.len() - 2]);
        if count > COUNT_MAX || !syntax::is_token(name) || !syntax::is_field_value(value) {
            return Err(Reject::BadTrailer);
        }
        all_pass &= passes(name);
    }
    Ok(all_pass)
}

/// Appends the passing fields of a section that was checked.
pub(super) fn write_passing(out: &mut Vec<u8>, section: &[u8]) {
    for line in lines(section) {
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
        if passes(name) {
            out.extend_from_slice(line);
        }
    }
}

/// The field lines with their CRLF, without the empty line.
fn lines(section: &[u8]) -> impl Iterator<Item = &[u8]> {
    section
        .split_inclusive(|byte| *byte == b'\n')
        .filter(|line| *line != b"\r\n")
}

fn passes(name: &[u8]) -> bool {
    let has_prefix = |prefix: &&[u8]| {
        name.get(..prefix.len())
            .is_some_and(|start| syntax::same_name(start, prefix))
    };
    !FORBIDDEN
        .iter()
        .any(|forbidden| syntax::same_name(name, forbidden))
        && !FORBIDDEN_PREFIXES.iter().any(has_prefix)
}
