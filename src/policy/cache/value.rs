//! The value of a request's field as part of a key.
//!
//! Decides: which lines count, and which spellings are one. May not know: why the field counts. Invariant: what a
//! backend gets to see of a field, it sees in the same form for the same value.

use crate::h1::head::{Kind, Request};

/// What of a value does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Folding {
    /// White space at the ends.
    Exact,
    /// White space around commas too, outside of strings: RFC 9111 section 4.1 lets caches take it away.
    List,
    /// Case, too.
    ListInLowerCase,
}

/// The lines of the field that go on to a backend, or that it is told in another way.
pub(super) fn lines<'h, 'b>(
    request: &Request<'h, 'b>,
    name: &'h str,
) -> impl Iterator<Item = &'b [u8]> + use<'h, 'b> {
    let fields = request.headers.iter().zip(request.kinds);
    let lines = fields.filter(move |(header, kind)| {
        is_forwarded(**kind) && header.name.eq_ignore_ascii_case(name)
    });
    lines.map(|(header, _)| header.value)
}

/// Appends the value; false if there is none. Several lines are one list (RFC 9110 section 5.3).
pub(super) fn append(
    request: &Request<'_, '_>,
    name: &str,
    folding: Folding,
    out: &mut Vec<u8>,
) -> bool {
    if name.eq_ignore_ascii_case("host") {
        out.extend(request.host.bytes().map(|byte| byte.to_ascii_lowercase()));
        return true;
    }
    let mut has_lines = false;
    for line in lines(request, name) {
        if has_lines {
            out.push(b',');
        }
        has_lines = true;
        match folding {
            Folding::Exact => out.extend_from_slice(line.trim_ascii()),
            Folding::List => append_list(line.trim_ascii(), |byte| byte, out),
            Folding::ListInLowerCase => {
                append_list(line.trim_ascii(), |byte| byte.to_ascii_lowercase(), out);
            }
        }
    }
    has_lines
}

/// A line without the white space around its commas.
fn append_list(line: &[u8], spell: impl Fn(u8) -> u8, out: &mut Vec<u8>) {
    let start = out.len();
    let (mut in_string, mut is_escaped, mut after_comma) = (false, false, false);
    for byte in line {
        let is_space = matches!(byte, b' ' | b'\t');
        if after_comma && is_space {
            continue;
        }
        after_comma = *byte == b',' && !in_string;
        if after_comma {
            while out.len() > start && matches!(out.last(), Some(b' ' | b'\t')) {
                out.pop();
            }
        }
        if *byte == b'"' && !is_escaped {
            in_string = !in_string;
        }
        is_escaped = in_string && *byte == b'\\' && !is_escaped;
        out.push(spell(*byte));
    }
}

/// A field of this kind reaches the backend as it is, or the backend is told otherwise what it says. One that does not
/// must not count: whoever sends it gets what those get who do not, and would have it stored as what it asked for.
fn is_forwarded(kind: Kind) -> bool {
    match kind {
        Kind::EndToEnd
        | Kind::Date
        | Kind::XForwardedFor
        | Kind::XForwardedHost
        | Kind::XForwardedProto
        | Kind::XForwardedPort
        | Kind::XRealIp
        | Kind::Forwarded
        | Kind::MaxForwards => true,
        Kind::Host
        | Kind::ContentLength
        | Kind::TransferEncoding
        | Kind::Connection
        | Kind::Upgrade
        | Kind::HopByHop
        | Kind::KeepAlive
        | Kind::Expect
        | Kind::Disguised => false,
    }
}
