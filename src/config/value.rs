//! A raw value → the value of its key.
//!
//! Decides: types, units, bounds, words. May not know: where keys may stand, what they mean together.
//! Invariant: a value that is returned is in its key's bounds; `show` writes what `read` takes back.

use std::net::SocketAddr;

use super::address;
use super::keys::{CIDRS_MAX, Key, Kind, LISTENS_MAX};
use super::plan::{Cidr, HostPolicy, Listen};
use super::read::{Node, Raw};
use super::report::{Fault, Notes};
use super::units::{parse_duration, parse_size, show_duration, show_size};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// The word that stands for no value: auto, off (of a listener), unlimited, an empty name.
    Unset,
    Flag(bool),
    /// A count, bytes, or nanoseconds; 0 is off where a duration may be off.
    Number(u64),
    /// Index into the names of its `Kind::Choice`.
    Choice(usize),
    Listens(Vec<Listen>),
    Socket(SocketAddr),
    Text(Box<str>),
    Cidrs(Vec<Cidr>),
    Host(HostPolicy),
}

/// Reads the value of `key`; problems are noted under `path`.
pub(super) fn read(key: Key, node: &Node, path: &str, notes: &mut Notes) -> Option<Value> {
    let kind = &key.spec().kind;
    let one = match kind {
        Kind::Flag => flag(node, kind).map(Value::Flag),
        Kind::Whole { min, max, word } => whole(node, kind, *min, *max, *word),
        Kind::Duration { min, max, off } => duration(node, kind, *min, *max, *off),
        Kind::Size {
            min,
            max,
            unlimited,
        } => size(node, kind, *min, *max, *unlimited),
        Kind::Choice(names) => choice(node, kind, names),
        Kind::Admin => admin(node, kind),
        Kind::Congestion => congestion(node, kind),
        Kind::Token => token(node, kind),
        Kind::Host => return host(node, kind, path, notes).map(Value::Host),
        Kind::Listens => {
            return list(node, kind, path, LISTENS_MAX, address::listen, notes).map(Value::Listens);
        }
        Kind::Cidrs => {
            return list(node, kind, path, CIDRS_MAX, address::cidr, notes).map(Value::Cidrs);
        }
        Kind::Structure => return None,
    };
    one.map_err(|fault| notes.add(&node.at, path, fault)).ok()
}

/// As TOML.
pub(super) fn show(key: Key, value: &Value) -> String {
    match value {
        Value::Unset => match &key.spec().kind {
            Kind::Whole { word, .. } => string(word.unwrap_or("")),
            Kind::Size { .. } => string("unlimited"),
            Kind::Admin => string("off"),
            Kind::Flag
            | Kind::Duration { .. }
            | Kind::Choice(_)
            | Kind::Listens
            | Kind::Congestion
            | Kind::Token
            | Kind::Cidrs
            | Kind::Host
            | Kind::Structure => string(""),
        },
        Value::Flag(flag) => flag.to_string(),
        Value::Number(number) => match &key.spec().kind {
            Kind::Duration { off: true, .. } if *number == 0 => string("off"),
            Kind::Duration { .. } => string(&show_duration(*number)),
            Kind::Size { .. } => string(&show_size(*number)),
            Kind::Whole { .. }
            | Kind::Flag
            | Kind::Choice(_)
            | Kind::Listens
            | Kind::Admin
            | Kind::Congestion
            | Kind::Token
            | Kind::Cidrs
            | Kind::Host
            | Kind::Structure => number.to_string(),
        },
        Value::Choice(at) => string(key.choices()[*at]),
        Value::Listens(listens) => match listens.as_slice() {
            [one] => string(&show_listen(one)),
            many => array(many.iter().map(show_listen)),
        },
        Value::Socket(socket) => string(&socket.to_string()),
        Value::Text(text) => string(text),
        Value::Cidrs(cidrs) => array(
            cidrs
                .iter()
                .map(|cidr| format!("{}/{}", cidr.network, cidr.prefix)),
        ),
        Value::Host(HostPolicy::Pass) => string("pass"),
        Value::Host(HostPolicy::Backend) => string("backend"),
        Value::Host(HostPolicy::Fixed(host)) => format!("{{ fixed = {} }}", string(host)),
    }
}

/// A TOML string that is read back as it was: dollar signs are doubled.
pub(super) fn string(text: &str) -> String {
    toml::Value::String(text.replace('$', "$$")).to_string()
}

pub(super) fn array(items: impl Iterator<Item = String>) -> String {
    format!(
        "[{}]",
        items
            .map(|item| string(&item))
            .collect::<Vec<_>>()
            .join(", ")
    )
}

fn show_listen(listen: &Listen) -> String {
    match listen {
        Listen::Tcp(address) => address.to_string(),
        Listen::Unix(path) => format!("unix:{}", path.display()),
    }
}

pub(crate) fn wrong_type(expected: &str, raw: &Raw) -> Fault {
    Fault::new(format!("expected {expected}, found {}", raw.noun()))
}

fn flag(node: &Node, kind: &Kind) -> Result<bool, Fault> {
    match &node.raw {
        Raw::Flag(flag) => Ok(*flag),
        Raw::Text { text, loose } => {
            match (text.as_str(), loose) {
                ("true", true) => Ok(true),
                ("false", true) => Ok(false),
                ("true" | "false", false) => Err(wrong_type(&kind.bounds(), &node.raw)
                    .hint(format!("write {text} without quotes"))),
                (_, _) => Err(wrong_type(&kind.bounds(), &node.raw)),
            }
        }
        Raw::Integer(_) | Raw::List(_) | Raw::Table(_) | Raw::Other(_) => {
            Err(wrong_type(&kind.bounds(), &node.raw))
        }
    }
}

fn whole(node: &Node, kind: &Kind, min: u64, max: u64, word: Option<&str>) -> Result<Value, Fault> {
    if let Raw::Text { text, .. } = &node.raw {
        if Some(text.as_str()) == word {
            return Ok(Value::Unset);
        }
    }
    let number = integer(&node.raw).map_err(|hint| match (hint, &node.raw) {
        (Some(hint), raw) => wrong_type(&kind.bounds(), raw).hint(hint),
        (None, Raw::Text { text, .. }) => {
            Fault::new(format!("\"{text}\" is not {}", kind.bounds())).near(text, word)
        }
        (None, raw) => wrong_type(&kind.bounds(), raw),
    })?;
    in_range(number, min, max)
        .map(Value::Number)
        .ok_or_else(|| Fault::new(format!("{number} is not in {min} to {max}")))
}

/// A number, or text of the environment that spells one. The error is a hint, when there is one.
pub(crate) fn integer(raw: &Raw) -> Result<i128, Option<String>> {
    match raw {
        Raw::Integer(number) => Ok(*number),
        Raw::Text { text, loose } => match (text.trim().parse::<i128>(), loose) {
            (Ok(number), true) => Ok(number),
            (Ok(number), false) => Err(Some(format!("write {number} without quotes"))),
            (Err(_), _) => Err(None),
        },
        Raw::Flag(_) | Raw::List(_) | Raw::Table(_) | Raw::Other(_) => Err(None),
    }
}

pub(crate) fn in_range(number: i128, min: u64, max: u64) -> Option<u64> {
    u64::try_from(number)
        .ok()
        .filter(|number| (min..=max).contains(number))
}

fn duration(node: &Node, kind: &Kind, min: u64, max: u64, off: bool) -> Result<Value, Fault> {
    let text = match &node.raw {
        Raw::Integer(0) if off => return Ok(Value::Number(0)),
        Raw::Integer(number) => {
            return Err(Fault::new(format!("{number} has no unit"))
                .hint(format!("write \"{number}s\" or \"{number}ms\"")));
        }
        Raw::Text { text, .. } => text.as_str(),
        Raw::Flag(false) if off => {
            return Err(wrong_type("a duration", &node.raw).hint("write \"off\""));
        }
        Raw::Flag(_) | Raw::List(_) | Raw::Table(_) | Raw::Other(_) => {
            return Err(wrong_type("a duration such as \"5s\"", &node.raw));
        }
    };
    match text {
        "off" | "0" if off => return Ok(Value::Number(0)),
        "off" => return Err(Fault::new("it cannot be off").hint(kind.bounds())),
        _ => {}
    }
    let nanos = parse_duration(text)?;
    let fine = (min..=max).contains(&nanos) || (off && nanos == 0);
    if fine {
        Ok(Value::Number(nanos))
    } else {
        Err(Fault::new(format!(
            "\"{text}\" is not in {}",
            kind.bounds()
        )))
    }
}

fn size(node: &Node, kind: &Kind, min: u64, max: u64, unlimited: bool) -> Result<Value, Fault> {
    let text = match &node.raw {
        Raw::Integer(number) => {
            return Err(Fault::new(format!("{number} has no unit"))
                .hint(format!("write \"{number}B\" or \"{number}KiB\"")));
        }
        Raw::Text { text, .. } => text.as_str(),
        Raw::Flag(_) | Raw::List(_) | Raw::Table(_) | Raw::Other(_) => {
            return Err(wrong_type("a size such as \"32KiB\"", &node.raw));
        }
    };
    match text {
        "unlimited" if unlimited => return Ok(Value::Unset),
        "off" if unlimited => {
            return Err(Fault::new("\"off\" is no size").hint("did you mean \"unlimited\"?"));
        }
        _ => {}
    }
    let bytes = parse_size(text)?;
    let fine = (min..=max).contains(&bytes);
    if fine {
        Ok(Value::Number(bytes))
    } else {
        Err(Fault::new(format!(
            "\"{text}\" is not in {}",
            kind.bounds()
        )))
    }
}

fn choice(node: &Node, kind: &Kind, names: &[&str]) -> Result<Value, Fault> {
    let text = text(node, kind)?;
    let name = text.replace('-', "_");
    match names.iter().position(|known| *known == name) {
        Some(at) => Ok(Value::Choice(at)),
        None => {
            let fault = Fault::new(format!("\"{text}\" is not {}", kind.bounds()));
            Err(fault.near(text, names.iter().copied()))
        }
    }
}

fn admin(node: &Node, kind: &Kind) -> Result<Value, Fault> {
    match text(node, kind)? {
        "off" => Ok(Value::Unset),
        text => address::socket(text).map(Value::Socket),
    }
}

fn congestion(node: &Node, kind: &Kind) -> Result<Value, Fault> {
    let text = text(node, kind)?;
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-');
    match text {
        "" => Ok(Value::Unset),
        // TCP_CA_NAME_MAX is 16, the final NUL included.
        _ if text.len() <= 15 && text.bytes().all(good) => Ok(Value::Text(text.into())),
        _ => Err(Fault::new(format!("\"{text}\" is not {}", kind.bounds()))),
    }
}

fn token(node: &Node, kind: &Kind) -> Result<Value, Fault> {
    let text = text(node, kind)?;
    let fault = || {
        Fault::new(format!("\"{text}\" is not {}", kind.bounds()))
            .hint("letters, digits and !#$%&'*+-.^_`|~")
    };
    address::is_token(text)
        .then(|| Value::Text(text.into()))
        .ok_or_else(fault)
}

fn host(node: &Node, kind: &Kind, path: &str, notes: &mut Notes) -> Option<HostPolicy> {
    let fault = match &node.raw {
        Raw::Text { text, .. } => match text.as_str() {
            "pass" => return Some(HostPolicy::Pass),
            "backend" => return Some(HostPolicy::Backend),
            _ => {
                let fault = Fault::new(format!("\"{text}\" is not {}", kind.bounds()))
                    .near(text, ["pass", "backend"]);
                match (&fault.hint, address::fixed_host(text)) {
                    (None, Ok(host)) => {
                        fault.hint(format!("did you mean {{ fixed = \"{host}\" }}?"))
                    }
                    (Some(_), _) | (None, Err(_)) => fault,
                }
            }
        },
        Raw::Table(members) => match members.as_slice() {
            [member] if member.name == "fixed" => match &member.node.raw {
                Raw::Text { text, .. } => match address::fixed_host(text) {
                    Ok(host) => return Some(HostPolicy::Fixed(host)),
                    Err(fault) => fault,
                },
                raw @ (Raw::Integer(_)
                | Raw::Flag(_)
                | Raw::List(_)
                | Raw::Table(_)
                | Raw::Other(_)) => wrong_type("a host such as \"example.org\"", raw),
            },
            _ => Fault::new(format!("expected {}", kind.bounds())),
        },
        raw @ (Raw::Integer(_) | Raw::Flag(_) | Raw::List(_) | Raw::Other(_)) => {
            wrong_type(&kind.bounds(), raw)
        }
    };
    notes.add(&node.at, path, fault);
    None
}

/// A list, or one item in its place.
fn list<T: PartialEq>(
    node: &Node,
    kind: &Kind,
    path: &str,
    max: usize,
    parse: impl Fn(&str) -> Result<T, Fault>,
    notes: &mut Notes,
) -> Option<Vec<T>> {
    let texts = texts(node, &kind.bounds(), path, notes)?;
    if texts.len() > max {
        notes.add(
            &node.at,
            path,
            Fault::new(format!("{} items, at most {max} are allowed", texts.len())),
        );
        return None;
    }
    if texts.is_empty() && matches!(kind, Kind::Listens) {
        notes.add(
            &node.at,
            path,
            Fault::new("the list is empty").hint("name at least one address"),
        );
        return None;
    }
    let mut items = Vec::with_capacity(texts.len());
    let mut good = true;
    for text in &texts {
        match parse(text.text) {
            Ok(item) if items.contains(&item) => {
                notes.add(
                    &text.node.at,
                    &text.path,
                    Fault::new(format!("\"{}\" stands twice", text.text)),
                );
                good = false;
            }
            Ok(item) => items.push(item),
            Err(fault) => {
                notes.add(&text.node.at, &text.path, fault);
                good = false;
            }
        }
    }
    good.then_some(items)
}

/// One string of a list, with its place.
pub(super) struct Item<'a> {
    pub(super) text: &'a str,
    pub(super) node: &'a Node,
    pub(super) path: String,
}

/// The strings of a list; one string is a list of one, and one of the environment is split at commas.
pub(super) fn texts<'a>(
    node: &'a Node,
    expected: &str,
    path: &str,
    notes: &mut Notes,
) -> Option<Vec<Item<'a>>> {
    match &node.raw {
        Raw::Text { text, loose: false } => Some(vec![Item {
            text,
            node,
            path: path.to_owned(),
        }]),
        Raw::Text { text, loose: true } => {
            let parts = text
                .split(',')
                .map(str::trim)
                .filter(|part| !part.is_empty());
            Some(
                parts
                    .map(|text| Item {
                        text,
                        node,
                        path: path.to_owned(),
                    })
                    .collect(),
            )
        }
        Raw::List(nodes) => {
            let mut items = Vec::with_capacity(nodes.len());
            for (at, node) in nodes.iter().enumerate() {
                let path = format!("{path}[{at}]");
                match &node.raw {
                    Raw::Text { text, .. } => items.push(Item { text, node, path }),
                    raw @ (Raw::Integer(_)
                    | Raw::Flag(_)
                    | Raw::List(_)
                    | Raw::Table(_)
                    | Raw::Other(_)) => notes.add(&node.at, &path, wrong_type("a string", raw)),
                }
            }
            (items.len() == nodes.len()).then_some(items)
        }
        raw @ (Raw::Integer(_) | Raw::Flag(_) | Raw::Table(_) | Raw::Other(_)) => {
            notes.add(&node.at, path, wrong_type(expected, raw));
            None
        }
    }
}

fn text<'a>(node: &'a Node, kind: &Kind) -> Result<&'a str, Fault> {
    match &node.raw {
        Raw::Text { text, .. } => Ok(text),
        raw @ (Raw::Integer(_) | Raw::Flag(_) | Raw::List(_) | Raw::Table(_) | Raw::Other(_)) => {
            Err(wrong_type(&kind.bounds(), raw))
        }
    }
}
