//! What a request must have beside host, path and method.
//!
//! Decides: whether a request meets a rule's conditions; which conditions ask for no more than others. May not know:
//! rules, routes. Invariant: nothing is unescaped and nothing is decoded; a loop over a request's fields or parameters
//! is bounded by the limits of its head.
//!
//! A client that spells a parameter in another way (`%64ebug` for `debug`) misses the condition, and its backend may
//! still understand it: conditions choose among routes, they keep nobody out.

use std::net::IpAddr;

use super::super::cidr::Cidr;
use crate::h1::head::Request;

/// All of it must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Conditions {
    /// Fields by lower-case name; without a value, that it is there.
    pub headers: Box<[Named]>,
    /// Parameters of the query as they are written (escapes are not resolved).
    pub query: Box<[Named]>,
    /// The client's address is in one of these; empty for any.
    pub clients: Box<[Cidr]>,
}

/// The name of a field or parameter, and its value if that matters.
type Named = (Box<str>, Option<Box<str>>);

impl Conditions {
    pub(super) fn hold(&self, request: &Request<'_, '_>, client_ip: IpAddr) -> bool {
        let has_field = |(name, value): &Named| {
            request
                .headers
                .iter()
                .any(|field| field.name.eq_ignore_ascii_case(name) && is_wanted(value, field.value))
        };
        let has_parameter = |(name, value): &Named| {
            parameters(request.query)
                .any(|(found, text)| *found == **name && is_wanted(value, text.as_bytes()))
        };
        self.headers.iter().all(has_field)
            && self.query.iter().all(has_parameter)
            && (self.clients.is_empty()
                || self.clients.iter().any(|block| block.contains(client_ip)))
    }

    /// Whether every request that meets `others` meets these too. May say no where it is so.
    pub(super) fn cover(&self, others: &Conditions) -> bool {
        all_implied(&self.headers, &others.headers)
            && all_implied(&self.query, &others.query)
            && blocks_cover(&self.clients, &others.clients)
    }
}

fn is_wanted(wanted: &Option<Box<str>>, found: &[u8]) -> bool {
    // The parser has taken off the white space around a field's value.
    wanted
        .as_deref()
        .is_none_or(|wanted| *wanted.as_bytes() == *found)
}

/// Names and values. A parameter without `=` has an empty value.
fn parameters(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query
        .split('&')
        .map(|parameter| parameter.split_once('=').unwrap_or((parameter, "")))
}

fn all_implied(wanted: &[Named], given: &[Named]) -> bool {
    wanted.iter().all(|(name, value)| {
        let mut given = given.iter();
        given.any(|(known, exact)| known == name && (value.is_none() || value == exact))
    })
}

fn blocks_cover(wide: &[Cidr], narrow: &[Cidr]) -> bool {
    let is_covered = |narrow: &Cidr| {
        let mut wide = wide.iter();
        wide.any(|wide| wide.prefix <= narrow.prefix && wide.contains(narrow.network))
    };
    wide.is_empty() || !narrow.is_empty() && narrow.iter().all(is_covered)
}
