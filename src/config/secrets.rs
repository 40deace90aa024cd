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

/// The parts of a configuration's text, in order, that no report may show.
pub(super) fn hidden(text: &str) -> Vec<Range<usize>> {
    let mut hidden: Vec<Range<usize>> = Vec::new();
    let mut judged: HashMap<&str, bool> = HashMap::new();
    for (at, _) in text.match_indices('=') {
        if hidden.last().is_some_and(|last| at < last.end) {
            continue;
        }
        let name = name_before(text, at);
        if *judged.entry(name).or_insert_with(|| is_secret(name)) {
            hidden.push(at + 1..end(text, at + 1));
        }
    }
    hidden
}

/// The last part of the key before an equals sign.
fn name_before(text: &str, at: usize) -> &str {
    let before = text[..at].trim_end_matches([' ', '\t', '"', '\'']);
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let start = before
        .char_indices()
        .rev()
        .take_while(|(_, c)| is_part(*c))
        .last()
        .map_or(before.len(), |(start, _)| start);
    &before[start..]
}

/// The name of a secret, or a misspelt one.
fn is_secret(name: &str) -> bool {
    let secrets = Key::settings().filter(|key| key.spec().kind.is_secret());
    let known = Key::settings().any(|key| key.leaf() == name && !key.spec().kind.is_secret());
    !known && nearest(name, secrets.map(Key::leaf)).is_some()
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
    let is_part =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '"' | '\'' | ' ');
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
                && name.chars().all(is_part)
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
        ];
        for (text, expected) in cases {
            assert_eq!(shown(text), expected, "{text}");
        }
    }
}
