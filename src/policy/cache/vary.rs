//! Which fields of a request a response depends on.
//!
//! Decides: when two requests are the same to a response. May not know: the responses. Invariant: values that mean the
//! same may count as different, never the other way round.

use super::fields::named;
use super::value::{self, Folding};
use crate::h1::head::{Request, Response};

/// Most names of one response: each is looked for in every request.
const NAMES_MAX: usize = 32;

/// What we write ourselves into a backend's request, by who the client is: its own values say nothing.
const REWRITTEN: [&str; 6] = [
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-real-ip",
];

/// The response depends on everything, or nobody can read on what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anything;

/// The fields named by Vary, lower-case, sorted, each once, joined by `,`; empty: none.
pub fn names(response: &Response<'_, '_>) -> Result<String, Anything> {
    if is_anything(response) {
        return Err(Anything);
    }
    let lower = |name| String::from_utf8_lossy(name).to_ascii_lowercase();
    let mut names: Vec<String> = members(response).map(lower).collect();
    names.sort_unstable();
    names.dedup();
    Ok(names.join(","))
}

/// [`names`] would not tell any.
pub(super) fn is_anything(response: &Response<'_, '_>) -> bool {
    let mut count = 0;
    members(response).any(|name| {
        count += 1;
        name == b"*" || count > NAMES_MAX || !is_token(name) || is_rewritten(name)
    })
}

/// What a client says there, a backend does not get, or only of those we trust.
pub fn is_rewritten(name: &[u8]) -> bool {
    let mut known = REWRITTEN.iter();
    known.any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
}

/// RFC 9110 section 12.5.5; empty members count for nothing (section 5.6.1.2).
fn members<'h, 'b>(response: &Response<'h, 'b>) -> impl Iterator<Item = &'b [u8]> + use<'h, 'b> {
    let lines = named(response.headers, "vary");
    let members = lines.flat_map(|line| line.split(|byte| *byte == b',').map(<[u8]>::trim_ascii));
    members.filter(|name| !name.is_empty())
}

/// RFC 9110 section 5.6.2.
fn is_token(name: &[u8]) -> bool {
    name.iter()
        .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

/// How the value that follows is written.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
enum Form {
    Missing,
    /// Four bytes of length, and the text.
    Text,
    /// One byte: see [`Codings::mask`].
    Codings,
}

/// Appends the request's values of these fields, normalised, so that equal bytes mean equal requests (RFC 9111 section
/// 4.1).
pub fn write(names: &str, request: &Request<'_, '_>, out: &mut Vec<u8>) {
    for name in names.split(',').filter(|name| !name.is_empty()) {
        if name == "accept-encoding"
            && let Some(codings) = Codings::of(request)
        {
            out.extend([Form::Codings as u8, codings.mask()]);
            continue;
        }
        let folding = match name {
            // No lists, though they may hold commas.
            "cookie" | "authorization" => Folding::Exact,
            // RFC 9110 section 12.5.4: the case of languages does not count.
            "accept-language" => Folding::ListInLowerCase,
            _ => Folding::List,
        };
        let start = out.len();
        out.push(Form::Text as u8);
        out.extend([0; 4]);
        if value::append(request, name, folding, out) {
            let length = (out.len() - start - 5) as u32;
            out[start + 1..start + 5].copy_from_slice(&length.to_be_bytes());
        } else {
            out.truncate(start);
            out.push(Form::Missing as u8);
        }
    }
}

/// What Accept-Encoding takes (RFC 9110 section 12.5.3), without its preferences: whoever takes a coding can read it.
#[derive(Debug, Default)]
struct Codings {
    /// gzip, br, zstd, deflate: named, and taken or refused.
    known: [Option<bool>; 4],
    identity: Option<bool>,
    /// `*`
    others: Option<bool>,
}

impl Codings {
    /// `None`: there is no such field, or it names something else, or something twice, or cannot be read.
    fn of(request: &Request<'_, '_>) -> Option<Codings> {
        let mut codings = Codings::default();
        let mut lines = value::lines(request, "accept-encoding").peekable();
        lines.peek()?;
        let members =
            lines.flat_map(|line| line.split(|byte| *byte == b',').map(<[u8]>::trim_ascii));
        for member in members.filter(|member| !member.is_empty()) {
            let mut parts = member
                .splitn(2, |byte| *byte == b';')
                .map(<[u8]>::trim_ascii);
            let name = parts.next()?;
            let takes = parts.next().map_or(Some(true), has_weight)?;
            let place = codings.place(name)?;
            if place.replace(takes).is_some() {
                return None;
            }
        }
        Some(codings)
    }

    fn place(&mut self, name: &[u8]) -> Option<&mut Option<bool>> {
        // RFC 9110 section 8.4.1.3: x-gzip is the same.
        let names: [&[u8]; 7] = [
            b"gzip",
            b"br",
            b"zstd",
            b"deflate",
            b"x-gzip",
            b"identity",
            b"*",
        ];
        let at = names
            .iter()
            .position(|other| name.eq_ignore_ascii_case(other))?;
        Some(match at {
            0..=3 => &mut self.known[at],
            4 => &mut self.known[0],
            5 => &mut self.identity,
            _ => &mut self.others,
        })
    }

    /// A bit for each known coding that is taken, one for the refusal of none, and one for all others.
    fn mask(&self) -> u8 {
        let takes = |named: Option<bool>, without| named.or(self.others).unwrap_or(without);
        let mut mask = 0;
        for (at, named) in self.known.iter().enumerate() {
            mask |= u8::from(takes(*named, false)) << at;
        }
        mask | u8::from(!takes(self.identity, true)) << 4 | u8::from(takes(None, false)) << 5
    }
}

/// Whether `q=…` is more than 0; `None`: it is no weight (RFC 9110 section 12.4.2).
fn has_weight(parameter: &[u8]) -> Option<bool> {
    let [b'q' | b'Q', b'=', whole @ (b'0' | b'1'), rest @ ..] = parameter else {
        return None;
    };
    let decimals = match rest {
        [] => rest,
        [b'.', decimals @ ..] if decimals.len() <= 3 => decimals,
        [_, ..] => return None,
    };
    let is_zero = decimals.iter().all(|digit| *digit == b'0');
    if !decimals.iter().all(u8::is_ascii_digit) || *whole == b'1' && !is_zero {
        return None;
    }
    Some(*whole == b'1' || !is_zero)
}
