//! What no report and no page may show.
//!
//! Decides: which parts of a text are secret. May not know: TOML (the text may be broken). Invariant: what stands behind
//! a key that is secret, or that was probably meant to be one, is hidden up to the next key.

use std::collections::HashMap;
use std::ops::Range;

use super::keys::Key;
use super::kinds::Kind;
use super::report::nearest;

pub(super) const HIDDEN: &str = "***";

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub(super) Box<str>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(HIDDEN)
    }
}

/// Names of header fields that hold a secret, and ends of such names.
const FIELDS: [&str; 4] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
];
const FIELD_ENDS: [&str; 4] = ["-key", "-token", "-secret", "-password"];
/// An unknown key that ends so was meant to hold one.
const KEY_ENDS: [&str; 4] = ["password", "passwd", "secret", "token"];
/// The section of which nothing is shown but what is known to be no secret.
const SECTION: &str = "access";

/// A header field as it was written, without a value that is secret.
pub(super) fn field(text: &str) -> String {
    match secret_of(text) {
        Some(start) => format!("{}: {HIDDEN}", &text[..start]),
        None => text.to_owned(),
    }
}

/// Where the name ends of a field that holds a secret, if more follows.
fn secret_of(text: &str) -> Option<usize> {
    let name = text.trim_start_matches([' ', '\t']);
    let length = name.find(|c| !is_part(c))?;
    let lower = name[..length].to_ascii_lowercase().replace('_', "-");
    let is_secret =
        FIELDS.contains(&lower.as_str()) || FIELD_ENDS.iter().any(|end| lower.ends_with(end));
    is_secret.then(|| text.len() - name.len() + length)
}

/// The parts of a configuration's text, in order, that no report may show.
pub(super) fn hidden(text: &str) -> Vec<Range<usize>> {
    let mut all = settings(text);
    all.extend(fields(text));
    joined(all)
}

/// In order, and apart.
fn joined(mut all: Vec<Range<usize>>) -> Vec<Range<usize>> {
    all.sort_by_key(|range| range.start);
    let mut joined: Vec<Range<usize>> = Vec::new();
    for range in all {
        match joined.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            Some(_) | None => joined.push(range),
        }
    }
    joined
}

/// Values of keys.
fn settings(text: &str) -> Vec<Range<usize>> {
    let mut hidden: Vec<Range<usize>> = Vec::new();
    let mut judged: HashMap<&str, bool> = HashMap::new();
    let mut sections: HashMap<&str, bool> = HashMap::new();
    let access = access(text, &mut sections);
    for (at, _) in text.match_indices('=') {
        if hidden.last().is_some_and(|last| at < last.end) {
            continue;
        }
        let key = Dotted::before(text, at);
        let name = key.parts[0];
        let next = access.partition_point(|range| range.end <= at);
        let is_inside = access.get(next).is_some_and(|range| range.start <= at);
        let is_access = key.begins
            && (is_inside
                || key.parts[1..]
                    .iter()
                    .any(|part| is_section(part, &mut sections)));
        let is_unknown = is_access && !is_public(name);
        if is_unknown || *judged.entry(name).or_insert_with(|| is_secret(name)) {
            hidden.push(at + 1..end(text, at + 1));
        }
    }
    hidden
}

/// What stands in the section of access, wherever that is.
fn access<'a>(text: &'a str, sections: &mut HashMap<&'a str, bool>) -> Vec<Range<usize>> {
    let mut all = Vec::new();
    let mut begin = None;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let trimmed = line.trim();
        if trimmed.starts_with('[') && begins_anew(trimmed) {
            all.extend(begin.map(|begin| begin..at));
            let name = trimmed.trim_start_matches('[').split(']').next();
            let mut parts = name.unwrap_or("").split('.');
            let is_access = parts.any(|part| is_section(part.trim_matches(QUOTES), sections));
            begin = is_access.then_some(at);
        }
        at += line.len();
    }
    all.extend(begin.map(|begin| begin..at));
    for (at, _) in text.match_indices('=') {
        let is_table = text[at + 1..].trim_start().starts_with('{');
        if is_table && is_section(Dotted::before(text, at).parts[0], sections) {
            all.push(at + 1..end(text, at + 1));
        }
    }
    joined(all)
}

fn is_section<'a>(name: &'a str, judged: &mut HashMap<&'a str, bool>) -> bool {
    let judge = || {
        let mut sections: Vec<&str> = Key::settings().map(Key::section).collect();
        // The keys of a section are neighbours.
        sections.dedup();
        nearest(name, sections) == Some(SECTION)
    };
    *judged.entry(name).or_insert_with(judge)
}

/// Values of header fields in strings, up to the string's end.
fn fields(text: &str) -> Vec<Range<usize>> {
    let mut hidden = Vec::new();
    for (quote, long) in [("\"", "\"\"\""), ("'", "'''")] {
        let mut done = 0;
        for (at, _) in text.match_indices(quote) {
            let inside = &text[at + 1..];
            let start = secret_of(inside).filter(|start| !inside[*start..].starts_with(quote));
            let Some(start) = start.filter(|_| at >= done) else {
                continue;
            };
            let is_long = text[..=at].ends_with(long);
            let closing = if is_long { long } else { quote };
            let start = at + 1 + start + usize::from(inside[start..].starts_with(':'));
            done = start + string_end(&text[start..], closing);
            hidden.push(start..done);
        }
    }
    hidden
}

/// Where a string ends; one that is not closed does at its line's end.
fn string_end(text: &str, closing: &str) -> usize {
    let mut is_escaped = false;
    for (at, c) in text.char_indices() {
        let is_end = !is_escaped && text[at..].starts_with(closing);
        if is_end || (c == '\n' && closing.len() == 1) {
            return at;
        }
        is_escaped = c == '\\' && !is_escaped && closing.starts_with('"');
    }
    text.len()
}

const QUOTES: [char; 4] = [' ', '\t', '"', '\''];

fn is_part(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-')
}

/// The key before an equals sign.
struct Dotted<'a> {
    /// The last one first; never empty.
    parts: Vec<&'a str>,
    /// Whether it stands where keys do, and not within a string.
    begins: bool,
}

impl<'a> Dotted<'a> {
    fn before(text: &'a str, at: usize) -> Dotted<'a> {
        let mut before = &text[..at];
        let mut parts = Vec::with_capacity(1);
        loop {
            before = before.trim_end_matches(QUOTES);
            let rest = before.trim_end_matches(is_part);
            parts.push(&before[rest.len()..]);
            before = rest.trim_end_matches(QUOTES);
            let Some(rest) = before.strip_suffix('.') else {
                let begins = before.is_empty() || before.ends_with(['\n', '{', ',']);
                return Dotted { parts, begins };
            };
            before = rest;
        }
    }
}

/// The name of a secret, or a misspelt one.
fn is_secret(name: &str) -> bool {
    let secrets = Key::settings().filter(|key| key.spec().kind.is_secret());
    let known = Key::settings().any(|key| key.leaf() == name && !key.spec().kind.is_secret());
    let lower = name.to_ascii_lowercase();
    !known
        && (KEY_ENDS.iter().any(|end| lower.ends_with(end))
            || nearest(name, secrets.map(Key::leaf)).is_some())
}

/// A key of the section of access that holds no secret.
fn is_public(name: &str) -> bool {
    Key::settings()
        .any(|key| key.section() == SECTION && key.leaf() == name && !key.spec().kind.is_secret())
}

/// Where the value ends that begins at `start`: at a later line that begins with a key or a section.
fn end(text: &str, start: usize) -> usize {
    let mut at = start;
    for (count, line) in text[start..].split_inclusive('\n').enumerate() {
        if count > 0 && begins_anew(line.trim()) {
            return at;
        }
        at += line.len();
    }
    text.len()
}

fn begins_anew(line: &str) -> bool {
    let is_key = |c: char| is_part(c) || matches!(c, '.' | '"' | '\'' | ' ');
    if let Some(section) = line.strip_prefix('[') {
        let name = section.trim_start_matches('[');
        return name.starts_with(|c: char| c.is_ascii_lowercase()) && line.contains(']');
    }
    match line.split_once('=') {
        // A line of Base64 ends with its equals signs.
        Some((name, value)) => {
            let name = name.trim_end();
            let value = value.trim_start_matches('=');
            name.starts_with(|c: char| c.is_ascii_lowercase())
                && name.chars().all(is_key)
                && !value.trim().is_empty()
        }
        None => false,
    }
}

impl Kind {
    /// Whether reports leave out the values.
    pub(super) fn is_secret(&self) -> bool {
        matches!(self, Kind::Users | Kind::ApiKeys | Kind::Verifier(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let mut shown = text.to_owned();
        for range in hidden(text).into_iter().rev() {
            shown.replace_range(range, "*");
        }
        shown
    }

    #[test]
    fn what_follows_a_secret_key_is_hidden() {
        let cases = [
            (
                "jwt_secret = \"x\"\nrealm = \"a\"",
                "jwt_secret =*realm = \"a\"",
            ),
            (
                "[access]\nbasic_users = [\n  \"a:$2y$\",\n]\n[log]\nx = 1",
                "[access]\nbasic_users =*[log]\nx = 1",
            ),
            (
                "access = { realm = \"a\", api_keys = [\"k:v\"] }\nlimits.body = \"1B\"",
                "access = { realm = \"a\", api_keys =*limits.body = \"1B\"",
            ),
            ("access.\"jwt_secret\"='x", "access.\"jwt_secret\"=*"),
            ("api_key = \"x\"\n\n[[routes]]", "api_key =*[[routes]]"),
            ("api-keys=\"x\"", "api-keys=*"),
            (
                "jwt_secret = \"\"\"\nMIIB\nAbc==\nabc=\n\"\"\"\n",
                "jwt_secret =*",
            ),
            ("api_key_header = \"x\"", "api_key_header = \"x\""),
            ("keys = 65536\nkey = \"ip\"", "keys = 65536\nkey = \"ip\""),
            ("jwt_issuers = [\"a\"]", "jwt_issuers = [\"a\"]"),
            ("a = 1\nb == 2\n=", "a = 1\nb == 2\n="),
            ("", ""),
            // What is unknown there was meant to be a secret.
            (
                "[access]\npassword = \"x\"\nrealm = \"a\"",
                "[access]\npassword =*realm = \"a\"",
            ),
            (
                "[[routes]]\n[routes.acess]\nx = 1\n[log]\ny = 1",
                "[[routes]]\n[routes.acess]\nx =*[log]\ny = 1",
            ),
            ("[access.basic]\nann = \"x\"", "[access.basic]\nann =*"),
            ("access.pass = \"x\"\nlog.x = 1", "access.pass =*log.x = 1"),
            ("\"access\" . pass = \"x\"", "\"access\" . pass =*"),
            (
                "routes = [{ access = { realm = \"a\", pass = 1 } }]",
                "routes = [{ access = { realm = \"a\", pass =*",
            ),
            (
                "[access]\nforward_path = \"/a?b=c\"",
                "[access]\nforward_path = \"/a?b=c\"",
            ),
            (
                "[log]\nx = 1\nmy_password = 2",
                "[log]\nx = 1\nmy_password =*",
            ),
            // Header fields.
            (
                "x = [\"Authorization: Bearer a\", \"X-A: b\"]",
                "x = [\"Authorization:*\", \"X-A: b\"]",
            ),
            ("x = [' x_api_key:a\"', 'b']", "x = [' x_api_key:*', 'b']"),
            ("x = \"Cookie a\\\"b\"", "x = \"Cookie*\""),
            ("x = \"Cookie: a\ny = 1", "x = \"Cookie:*\ny = 1"),
            (
                "x = \"\"\"Cookie: \\\na\"\"\" # b",
                "x = \"\"\"Cookie:*\"\"\" # b",
            ),
            (
                "x = [\"Cookie\", \"X-Api-Key\"]",
                "x = [\"Cookie\", \"X-Api-Key\"]",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(shown(text), expected, "{text}");
        }
    }
}
