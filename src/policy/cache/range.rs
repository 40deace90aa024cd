//! Ranges of a stored response (RFC 9110 section 14).
//!
//! Decides: which bytes are wanted. May not know: conditions. Invariant: what cannot be read, and more than one range,
//! is a request for everything.

use super::fields::{named, single};
use crate::h1::head::Request;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ranged {
    Whole,
    /// From the first byte to the one behind the last: never empty.
    Part {
        from: u64,
        to: u64,
    },
    /// Behind the end: 416.
    Unsatisfiable,
}

/// What of `length` bytes the request wants.
pub fn of(request: &Request<'_, '_>, length: u64) -> Ranged {
    match single(request.headers, "range").and_then(only) {
        None => Ranged::Whole,
        Some(Spec::From(from)) => part(from, length, length),
        Some(Spec::Between(from, last)) => part(from, last.saturating_add(1).min(length), length),
        // RFC 9110 section 14.1.2: 0 bytes cannot be had; more than there are is all of them, which has no form as a
        // part if it is nothing.
        Some(Spec::Last(0)) => Ranged::Unsatisfiable,
        Some(Spec::Last(_)) if length == 0 => Ranged::Whole,
        Some(Spec::Last(count)) => part(length.saturating_sub(count), length, length),
    }
}

/// The request wants something else than the body from its start to its end, or nobody can read what; whoever does not
/// have the body asks for just that. `bytes=0-` is how players ask for everything.
pub fn is_partial(request: &Request<'_, '_>) -> bool {
    let only = single(request.headers, "range").and_then(only);
    named(request.headers, "range").next().is_some() && only != Some(Spec::From(0))
}

fn part(from: u64, to: u64, length: u64) -> Ranged {
    if from < length {
        Ranged::Part { from, to }
    } else {
        Ranged::Unsatisfiable
    }
}

/// RFC 9110 section 14.1.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spec {
    From(u64),
    /// Both belong to it.
    Between(u64, u64),
    Last(u64),
}

/// The only range of the field, if it is one of bytes.
fn only(value: &[u8]) -> Option<Spec> {
    let (unit, list) = value.split_at_checked(b"bytes=".len())?;
    if !unit.eq_ignore_ascii_case(b"bytes=") {
        return None;
    }
    let members = list.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    let mut members = members.filter(|member| !member.is_empty());
    let only = members.next()?;
    if members.next().is_some() {
        return None;
    }
    let (first, last) = only.split_at(memchr::memchr(b'-', only)?);
    let last = &last[1..];
    if first.is_empty() {
        return position(last).map(Spec::Last);
    }
    let first = position(first)?;
    if last.is_empty() {
        return Some(Spec::From(first));
    }
    let last = position(last)?;
    (first <= last).then_some(Spec::Between(first, last))
}

/// What is too large for us is behind the end of everything.
fn position(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, byte| {
        let digit = u64::from(byte.wrapping_sub(b'0'));
        (digit < 10).then(|| number.saturating_mul(10).saturating_add(digit))
    })
}
