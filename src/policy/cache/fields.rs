//! Fields of a head, found by name.
//!
//! Decides: which lines belong to a name. May not know: what they say. Invariant: what is returned is a part of the
//! head.

use crate::h1::forward::passes_in_response;
use crate::h1::head::Response;

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
            .filter(|(header, kind)| {
                passes_in_response(**kind) && header.name.eq_ignore_ascii_case(name)
            })
            .map(|(header, _)| header.value),
    )
}

fn only<'b>(mut lines: impl Iterator<Item = &'b [u8]>) -> Option<&'b [u8]> {
    let line = lines.next()?;
    lines.next().is_none().then_some(line)
}
