//! Fields of a head, found by name.
//!
//! Decides: which lines belong to a name. May not know: what they say. Invariant: what is returned is a part of the
//! head.

use crate::h1::head::{Kind, Response};

/// The values of all lines of this name.
pub(super) fn named<'h, 'b>(
    headers: &'h [httparse::Header<'b>],
    name: &'static str,
) -> impl Iterator<Item = &'b [u8]> + use<'h, 'b> {
    let lines = headers
        .iter()
        .filter(move |header| header.name.eq_ignore_ascii_case(name));
    lines.map(|header| header.value)
}

/// The value of the only line of this name. RFC 9110 section 5.3: a field that is no list stands in one line.
pub(super) fn single<'b>(headers: &[httparse::Header<'b>], name: &'static str) -> Option<&'b [u8]> {
    only(named(headers, name))
}

/// The same, among the fields that are stored with the response.
pub(super) fn single_stored<'b>(
    response: &Response<'_, 'b>,
    name: &'static str,
) -> Option<&'b [u8]> {
    let fields = response.headers.iter().zip(response.kinds);
    only(
        fields
            .filter(|(header, kind)| is_stored(**kind) && header.name.eq_ignore_ascii_case(name))
            .map(|(header, _)| header.value),
    )
}

/// A field of a response with this kind stays with it (RFC 9111 section 3.1).
pub(super) fn is_stored(kind: Kind) -> bool {
    match kind {
        Kind::EndToEnd
        | Kind::Date
        | Kind::Host
        | Kind::XForwardedFor
        | Kind::XForwardedHost
        | Kind::XForwardedProto
        | Kind::XForwardedPort
        | Kind::XRealIp
        | Kind::Forwarded
        | Kind::MaxForwards
        | Kind::Expect => true,
        Kind::ContentLength
        | Kind::TransferEncoding
        | Kind::Connection
        | Kind::Upgrade
        | Kind::HopByHop
        | Kind::KeepAlive
        | Kind::Disguised => false,
    }
}

fn only<'b>(mut lines: impl Iterator<Item = &'b [u8]>) -> Option<&'b [u8]> {
    let line = lines.next()?;
    lines.next().is_none().then_some(line)
}
