//! TOML and environment → one tree of raw values that remember where they stood.
//!
//! Decides: syntax, `${NAME:-default}`, which variables override which key. May not know: what a key means.
//! Invariant: every problem of syntax and substitution is noted with its place; none stops the others.

use std::borrow::Cow;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::Key;
use super::report::{At, Fault, Notes, nearest};

/// Variables that begin with `CORELANE_` and override no key.
const OTHER_VARIABLES: &[&str] = &["CORELANE_CONFIG"];

/// A substituted value longer than this is no configuration.
const SUBSTITUTED_BYTES_MAX: usize = 64 * 1024;

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) raw: Raw,
    pub(crate) at: At,
}

#[derive(Debug)]
pub(crate) enum Raw {
    /// `loose` text came from the environment: it may spell a number, a flag, or a list with commas.
    Text {
        text: String,
        loose: bool,
    },
    Integer(i128),
    Flag(bool),
    List(Vec<Node>),
    Table(Vec<Member>),
    /// What few keys take, or none.
    Other(Odd),
}

#[derive(Debug)]
pub(crate) enum Odd {
    /// A number with a fraction, as it was written.
    Fraction(Box<str>),
    Noun(&'static str),
}

#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) name_at: At,
    pub(crate) node: Node,
}

impl Raw {
    /// For "expected …, found …".
    pub(crate) fn noun(&self) -> &'static str {
        match self {
            Raw::Text { .. } => "a string",
            Raw::Integer(_) => "a number",
            Raw::Flag(true) => "true",
            Raw::Flag(false) => "false",
            Raw::List(_) => "a list",
            Raw::Table(_) => "a table",
            Raw::Other(Odd::Fraction(_)) => "a number with a fraction",
            Raw::Other(Odd::Noun(noun)) => noun,
        }
    }
}

/// The members of the whole text, or `None` when its syntax is broken.
pub(crate) fn document(
    text: &str,
    environment: &[(String, String)],
    notes: &mut Notes,
) -> Option<Vec<Member>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut broken = false;
    for error in errors {
        // A duplicate leaves the rest of the tree sound; after any other error it is a guess.
        broken |= error.message() != "duplicate key";
        let span = error.span().unwrap_or(0..0);
        notes.add(&At::File(span), "", Fault::new(error.message()));
    }
    if broken {
        return None;
    }
    let mut reader = Reader { environment, notes };
    Some(reader.members(table.get_ref(), ""))
}

/// The top-level values that the environment sets, and problems with variables that look as if they would.
pub(super) fn overrides(environment: &[(String, String)], notes: &mut Notes) -> Vec<(Key, Node)> {
    let mut found = Vec::new();
    let known: Vec<(Key, String)> = Key::settings()
        .chain([Key::Backends])
        .map(|key| (key, key.variable()))
        .collect();
    for (name, value) in environment {
        if !name.starts_with("CORELANE_")
            || OTHER_VARIABLES.contains(&name.as_str())
            || is_service_link(name, value)
        {
            continue;
        }
        let at = At::Env(name.as_str().into());
        match known.iter().find(|(_, variable)| variable == name) {
            Some((key, _)) => {
                found.extend(value_of_variable(value, at, notes).map(|node| (*key, node)))
            }
            None => {
                let names = known.iter().map(|(_, variable)| variable.as_str());
                let near = nearest_variable(name, names.chain(OTHER_VARIABLES.iter().copied()));
                let fault = Fault::new("no key has this variable");
                let hint = near.map_or("it is CORELANE_SECTION__KEY".to_owned(), |near| {
                    format!("did you mean {near}?")
                });
                notes.add(&at, "", fault.hint(hint));
            }
        }
    }
    found
}

/// A value that was given as plain text: by a variable or a flag.
pub(crate) fn loose(text: &str, at: At) -> Node {
    Node {
        raw: Raw::Text {
            text: text.to_owned(),
            loose: true,
        },
        at,
    }
}

/// One TOML value of ours, for the defaults.
pub(super) fn value(text: &str, notes: &mut Notes) -> Option<Node> {
    parse_value(text, &At::Default, notes)
}

/// Lists and tables are written as TOML, everything else as it is.
fn value_of_variable(text: &str, at: At, notes: &mut Notes) -> Option<Node> {
    if text.trim_start().starts_with(['[', '{'])
        && !text.trim_start().starts_with("[:")
        && toml_like(text)
    {
        parse_value(text.trim(), &at, notes)
    } else {
        Some(loose(text, at))
    }
}

/// `[::1]:80` is an address, `["[::1]:80"]` a list.
fn toml_like(text: &str) -> bool {
    let text = text.trim();
    text.ends_with([']', '}'])
        && (text.starts_with('{') || text[1..].trim_start().starts_with(['"', '\'', '{', ']']))
}

fn parse_value(text: &str, at: &At, notes: &mut Notes) -> Option<Node> {
    match DeValue::parse(text) {
        Ok(value) => {
            let mut node = Reader {
                environment: &[],
                notes,
            }
            .plain(value.get_ref());
            place(&mut node, at);
            Some(node)
        }
        Err(error) => {
            notes.add(at, "", Fault::new(error.message()));
            None
        }
    }
}

/// Says of a whole tree that it stood in one place: spans within a variable mean nothing to the file.
fn place(node: &mut Node, at: &At) {
    node.at = at.clone();
    match &mut node.raw {
        Raw::List(items) => items.iter_mut().for_each(|item| place(item, at)),
        Raw::Table(members) => {
            for member in members {
                member.name_at = at.clone();
                place(&mut member.node, at);
            }
        }
        Raw::Text { .. } | Raw::Integer(_) | Raw::Flag(_) | Raw::Other(_) => {}
    }
}

/// What Kubernetes and Docker set for every service in reach, were one of them called corelane.
fn is_service_link(name: &str, value: &str) -> bool {
    let protocol = ["_TCP", "_UDP", "_SCTP"]
        .iter()
        .any(|protocol| name.contains(protocol));
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || (name.contains("_PORT_") && protocol)
        || (name.ends_with("_PORT") && value.contains("://"))
}

fn nearest_variable<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // The common beginning would make any two variables near.
    let rest = |name: &'a str| name.trim_start_matches("CORELANE_");
    let known: Vec<&str> = known.collect();
    let lower: Vec<String> = known
        .iter()
        .map(|known| rest(known).to_ascii_lowercase())
        .collect();
    let near = nearest(
        name.trim_start_matches("CORELANE_"),
        lower.iter().map(String::as_str),
    )?;
    lower
        .iter()
        .position(|name| name == near)
        .map(|at| known[at])
}

struct Reader<'a> {
    environment: &'a [(String, String)],
    notes: &'a mut Notes,
}

impl Reader<'_> {
    fn members(&mut self, table: &DeTable<'_>, path: &str) -> Vec<Member> {
        let member = |(name, value): (&Spanned<Cow<'_, str>>, &Spanned<DeValue<'_>>)| {
            let path = join(path, name.get_ref());
            Member {
                name: name.get_ref().to_string(),
                name_at: At::File(name.span()),
                node: self.node(value, &path),
            }
        };
        table.iter().map(member).collect()
    }

    fn node(&mut self, value: &Spanned<DeValue<'_>>, path: &str) -> Node {
        let at = At::File(value.span());
        let raw = match value.get_ref() {
            DeValue::String(text) => match substitute(text, self.environment) {
                Ok((text, loose)) => Raw::Text { text, loose },
                Err(fault) => {
                    self.notes.broken(&at, path, fault);
                    Raw::Other(Odd::Noun("a broken substitution"))
                }
            },
            DeValue::Array(items) => {
                let item = |(at, item)| self.node(item, &format!("{path}[{at}]"));
                Raw::List(items.iter().enumerate().map(item).collect())
            }
            DeValue::Table(table) => Raw::Table(self.members(table, path)),
            DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => leaf(value.get_ref()),
        };
        Node { raw, at }
    }

    /// Without substitution.
    fn plain(&mut self, value: &DeValue<'_>) -> Node {
        let raw = match value {
            DeValue::String(text) => Raw::Text {
                text: text.to_string(),
                loose: false,
            },
            DeValue::Array(items) => Raw::List(
                items
                    .iter()
                    .map(|item| self.plain(item.get_ref()))
                    .collect(),
            ),
            DeValue::Table(table) => {
                let member =
                    |(name, value): (&Spanned<Cow<'_, str>>, &Spanned<DeValue<'_>>)| Member {
                        name: name.get_ref().to_string(),
                        name_at: At::Default,
                        node: self.plain(value.get_ref()),
                    };
                Raw::Table(table.iter().map(member).collect())
            }
            DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => leaf(value),
        };
        Node {
            raw,
            at: At::Default,
        }
    }
}

fn leaf(value: &DeValue<'_>) -> Raw {
    Raw::Other(match value {
        DeValue::Integer(integer) => {
            match i128::from_str_radix(integer.as_str(), integer.radix()) {
                Ok(number) => return Raw::Integer(number),
                Err(_) => Odd::Noun("a number far too large"),
            }
        }
        DeValue::Boolean(flag) => return Raw::Flag(*flag),
        DeValue::Float(float) => Odd::Fraction(float.as_str().into()),
        DeValue::Datetime(_) => Odd::Noun("a date"),
        DeValue::String(_) | DeValue::Array(_) | DeValue::Table(_) => Odd::Noun("a value"),
    })
}

pub(crate) fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

/// Replaces `${NAME}`, `${NAME:-default}` and `$$`. Says whether anything came from the environment's syntax.
fn substitute(text: &str, environment: &[(String, String)]) -> Result<(String, bool), Fault> {
    let mut out = String::new();
    let mut loose = false;
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            let Some((inner, after)) = after.split_once('}') else {
                return Err(Fault::new("\"${\" without \"}\"")
                    .hint("write ${NAME:-default}, or $$ for a dollar sign"));
            };
            out.push_str(&variable(inner, environment)?);
            loose = true;
            rest = after;
        } else {
            out.push('$');
        }
        if out.len() > SUBSTITUTED_BYTES_MAX {
            return Err(Fault::new(format!(
                "longer than {SUBSTITUTED_BYTES_MAX} bytes after substitution"
            )));
        }
    }
    out.push_str(rest);
    Ok((out, loose))
}

/// As in a shell, `:-` stands in for a variable that is unset or empty.
fn variable<'a>(
    inner: &'a str,
    environment: &'a [(String, String)],
) -> Result<Cow<'a, str>, Fault> {
    let (name, default) = match inner.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inner, None),
    };
    let good = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.bytes().all(good)
    {
        let fault = Fault::new(format!("\"{name}\" is no name of a variable"));
        return Err(fault.hint("write ${NAME} or ${NAME:-default}, or $$ for a dollar sign"));
    }
    let value = environment
        .iter()
        .find(|(known, _)| known == name)
        .map(|(_, value)| value.as_str());
    match (value, default) {
        (Some(""), Some(default)) | (None, Some(default)) if default.contains("${") => {
            Err(Fault::new("a default has no substitution of its own"))
        }
        (Some(""), Some(default)) | (None, Some(default)) => Ok(default.into()),
        (Some(value), Some(_) | None) => Ok(value.into()),
        (None, None) => {
            let fault = Fault::new(format!("environment variable {name} is not set"));
            Err(fault.hint(format!("set it, or give a default: ${{{name}:-…}}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn substitution() {
        let environment = [
            ("A".to_owned(), "1".to_owned()),
            ("EMPTY".to_owned(), String::new()),
        ];
        let cases = [
            ("plain", Ok(("plain", false))),
            ("${A}", Ok(("1", true))),
            ("x${A}y${A:-2}", Ok(("x1y1", true))),
            ("${B:-2}", Ok(("2", true))),
            ("${EMPTY:-2}", Ok(("2", true))),
            ("${EMPTY}", Ok(("", true))),
            ("${B:-}", Ok(("", true))),
            ("$$A $${A} $A $", Ok(("$A ${A} $A $", false))),
            ("${B}", Err("environment variable B is not set")),
            ("${A", Err("\"${\" without \"}\"")),
            ("${}", Err("\"\" is no name of a variable")),
            ("${1}", Err("\"1\" is no name of a variable")),
            ("${A-x}", Err("\"A-x\" is no name of a variable")),
            (
                "${B:-${A}}",
                Err("a default has no substitution of its own"),
            ),
        ];
        for (text, expected) in cases {
            let found = substitute(text, &environment);
            let found = found
                .as_ref()
                .map(|(text, loose)| (text.as_str(), *loose))
                .map_err(|fault| fault.message.as_str());
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn links_of_a_service_called_corelane_are_no_keys() {
        for (name, value) in [
            ("CORELANE_SERVICE_HOST", "10.0.0.1"),
            ("CORELANE_SERVICE_PORT_HTTP", "80"),
            ("CORELANE_PORT", "tcp://10.0.0.1:80"),
            ("CORELANE_PORT_80_TCP_ADDR", "10.0.0.1"),
            ("CORELANE_ADMIN_SERVICE_HOST", "10.0.0.1"),
            ("CORELANE_ADMIN_PORT", "tcp://10.0.0.1:80"),
        ] {
            assert!(is_service_link(name, value), "{name}");
        }
        assert!(!is_service_link("CORELANE_PORT", "8080"));
        for key in Key::settings() {
            assert!(!is_service_link(&key.variable(), "x"), "{key:?}");
        }
    }
}
