//! Under which key a response is stored.
//!
//! Decides: which parts of a request count. May not know: where it is stored. Invariant: two keys are equal only if all
//! parts that count are; the text of a key begins like the URL, so that people can purge by prefix.
//!
//! A scheme that does not count is `*`, a host that does not count is `[*]`: no request can have these, so that keys by
//! different rules differ. Behind the URL, which has no spaces, stand fields and cookies in the order of the rule: a
//! space, the name, and, if the request has it, `=`, the length of its value, `:`, and the value; a cookie's name has
//! `cookie:` before it.

use super::value::{self, Folding};
use super::{KeyRule, QueryRule};
use crate::h1::head::Request;

/// Appends the key: `http://host/path?query`, and behind a space each further part.
pub fn write(rule: &KeyRule, request: &Request<'_, '_>, https: bool, out: &mut Vec<u8>) {
    let scheme: &[u8] = match (rule.scheme, https) {
        (false, _) => b"*://",
        (true, false) => b"http://",
        (true, true) => b"https://",
    };
    out.extend_from_slice(scheme);
    if rule.host {
        let host = without_default_port(request.host, https);
        out.extend(host.bytes().map(|byte| byte.to_ascii_lowercase()));
    } else {
        out.extend_from_slice(b"[*]");
    }
    out.extend_from_slice(request.path.as_bytes());
    if rule.sorts_query {
        write_sorted(&rule.query, request.query, out);
    } else {
        write_query(&rule.query, request.query, out);
    }
    // An empty query goes to the backend too, where nothing is taken from it.
    if rule.query == QueryRule::All && request.query.is_empty() && request.target.ends_with('?') {
        out.push(b'?');
    }
    for name in &rule.fields {
        let append = |out: &mut Vec<u8>| value::append(request, name, Folding::Exact, out);
        out.push(b' ');
        out.extend_from_slice(name.as_bytes());
        measured(append, out);
    }
    for name in &rule.cookies {
        out.extend_from_slice(b" cookie:");
        out.extend_from_slice(name.as_bytes());
        measured(|out| cookies(request, name, out), out);
    }
}

/// The host as it stands in keys. Backends are asked with this spelling too, on others' behalf.
pub fn host(request: &Request<'_, '_>, https: bool) -> String {
    without_default_port(request.host, https).to_ascii_lowercase()
}

/// Appends the query with the parameters that count, as they came, with its `?`; nothing if none is left.
pub fn write_query(rule: &QueryRule, query: &str, out: &mut Vec<u8>) {
    if !query.is_empty() {
        join(parameters(rule, query), out);
    }
}

/// The query with the parameters that count, with its `?` unless it is empty; `None`: as it came.
pub fn query(rule: &KeyRule, query: &str) -> Option<String> {
    if rule.query == QueryRule::All {
        return None;
    }
    let mut out = Vec::new();
    write_query(&rule.query, query, &mut out);
    Some(String::from_utf8(out).unwrap_or_default())
}

fn write_sorted(rule: &QueryRule, query: &str, out: &mut Vec<u8>) {
    if query.is_empty() {
        return;
    }
    let mut sorted: Vec<&str> = parameters(rule, query).collect();
    // Stable: of parameters of one name the order counts.
    sorted.sort_by_key(name_of);
    join(sorted.into_iter(), out);
}

/// Names count as they are spelled: one that is escaped is another one.
fn parameters<'q>(rule: &'q QueryRule, query: &'q str) -> impl Iterator<Item = &'q str> {
    let counts = move |parameter: &&str| match rule {
        QueryRule::All => true,
        QueryRule::None => false,
        QueryRule::Only(names) => is_named(names, name_of(parameter)),
        QueryRule::Except(names) => !is_named(names, name_of(parameter)),
    };
    query.split('&').filter(counts)
}

fn join<'q>(parameters: impl Iterator<Item = &'q str>, out: &mut Vec<u8>) {
    let mut separator = b'?';
    for parameter in parameters {
        out.push(separator);
        out.extend_from_slice(parameter.as_bytes());
        separator = b'&';
    }
}

fn name_of<'q>(parameter: &&'q str) -> &'q str {
    parameter.split('=').next().unwrap_or_default()
}

fn is_named(patterns: &[Box<str>], name: &str) -> bool {
    patterns.iter().any(|pattern| {
        pattern
            .strip_suffix('*')
            .map_or(&**pattern == name, |prefix| name.starts_with(prefix))
    })
}

/// RFC 9110 section 4.2.3: with or without it is the same.
fn without_default_port(host: &str, https: bool) -> &str {
    let port = if https { ":443" } else { ":80" };
    let host = host.strip_suffix(port).unwrap_or(host);
    host.strip_suffix(':').unwrap_or(host)
}

/// Appends what `append` finds, with its length before it.
fn measured(append: impl FnOnce(&mut Vec<u8>) -> bool, out: &mut Vec<u8>) {
    let start = out.len();
    if append(out) {
        let mut digits = itoa::Buffer::new();
        let length = digits.format(out.len() - start).as_bytes();
        out.extend_from_slice(b"=");
        out.extend_from_slice(length);
        out.extend_from_slice(b":");
        out[start..].rotate_right(length.len() + 2);
    }
}

/// All values of this name, since nobody knows which of them a backend takes.
fn cookies(request: &Request<'_, '_>, name: &str, out: &mut Vec<u8>) -> bool {
    let pairs = value::lines(request, "cookie").flat_map(|line| line.split(|byte| *byte == b';'));
    let mut has_values = false;
    for pair in pairs.map(<[u8]>::trim_ascii) {
        let Some((found, value)) = pair
            .iter()
            .position(|byte| *byte == b'=')
            .map(|at| pair.split_at(at))
        else {
            continue;
        };
        if found.trim_ascii() == name.as_bytes() {
            // No cookie has one.
            if has_values {
                out.push(b';');
            }
            has_values = true;
            out.extend_from_slice(&value[1..]);
        }
    }
    has_values
}
