//! A raw value → the value of its key.
//!
//! Decides: types, units, bounds, words. May not know: where keys may stand, what they mean together.
//! Invariant: a value that is returned is in its key's bounds; `show` writes what `read` takes back.

use std::net::SocketAddr;

use super::access::{self, Secrets};
use super::address;
use super::cache;
use super::causes;
use super::files::Files;
use super::keys::Key;
use super::kinds::{
    CAUSES_MAX, CIDRS_MAX, CODING_NAMES, FIELDS_MAX, HEADERS_MAX, Kind, LISTENS_MAX, METHODS_MAX,
    ORIGINS_MAX, PARAMETERS_MAX, WORDS_MAX,
};
use super::limits;
use super::list::list;
use super::message::{self, Edit};
use super::plan::{Cidr, HashKey, HostPolicy, Listen, Webhook};
use super::read::{Node, Raw};
use super::report::{Fault, Notes};
use super::secrets;
use super::units::{parse_duration, parse_size};
use crate::policy::filter::cors::Origin;
use crate::policy::limit::KeyPart;
use crate::policy::retry::{Causes, Statuses};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// The word that stands for no value: auto, off (of a listener), unlimited, an empty name.
    Unset,
    Flag(bool),
    /// A count, bytes, nanoseconds, or millionths of a rate; 0 is off where a duration may be off.
    Number(u64),
    /// Index into the names of its `Kind::Choice`.
    Choice(usize),
    Listens(Vec<Listen>),
    Socket(SocketAddr),
    Text(Box<str>),
    Cidrs(Vec<Cidr>),
    Host(HostPolicy),
    Causes(Causes),
    Statuses(Statuses),
    HashKey(HashKey),
    /// Each as `Name: value`.
    Headers(Vec<Box<str>>),
    Webhook(Webhook),
    /// Empty counts all requests as one.
    LimitKey(Box<[KeyPart]>),
    CacheKey(Box<[cache::Part]>),
    StatusTtls(Vec<cache::StatusTtl>),
    Origins(Vec<Origin>),
    /// Each an index, as of a choice.
    Choices(Vec<usize>),
    Secrets(Secrets),
    /// Names and other words.
    Words(Vec<Box<str>>),
    Edits(Vec<Edit>),
}

/// Reads the value of `key`; problems are noted under `path`.
#[expect(clippy::too_many_lines, reason = "one arm for each kind")]
pub(super) fn read(
    key: Key,
    node: &Node,
    path: &str,
    files: Files<'_>,
    notes: &mut Notes,
) -> Option<Value> {
    let kind = &key.spec().kind;
    let one = match kind {
        Kind::Flag => flag(&node.raw, kind).map(Value::Flag),
        Kind::Whole { min, max, word } => whole(node, kind, *min, *max, *word),
        Kind::Duration { min, max, off } => duration(node, kind, *min, *max, *off),
        Kind::Size { min, max, word } => size(node, kind, *min, *max, *word),
        Kind::Bandwidth { min, max } => size(node, kind, *min, *max, None),
        Kind::Rate { period_s } => limits::read_rate(node, kind, *period_s),
        Kind::Choice(names) => choice(node, kind, names),
        Kind::Admin => admin(node, kind),
        Kind::Congestion => optional(node, kind, |text| message::congestion(text, kind)),
        Kind::Token => parsed(node, kind, |text| token(text, kind)),
        Kind::Host => return host(node, kind, path, notes).map(Value::Host),
        Kind::Listens => {
            return list(node, kind, path, LISTENS_MAX, address::listen, notes).map(Value::Listens);
        }
        Kind::Cidrs => {
            return list(node, kind, path, CIDRS_MAX, address::cidr, notes).map(Value::Cidrs);
        }
        Kind::Causes { invalid } => {
            let parse = |text: &str| causes::cause(text, *invalid);
            let parts = list(node, kind, path, CAUSES_MAX, parse, notes);
            return parts.map(|parts| Value::Causes(causes::causes(&parts)));
        }
        Kind::Statuses => {
            return list(node, kind, path, CAUSES_MAX, causes::status, notes)
                .map(|ranges| Value::Statuses(Statuses(ranges.into())));
        }
        Kind::Headers => {
            return list(node, kind, path, HEADERS_MAX, message::header, notes).map(Value::Headers);
        }
        Kind::Seconds { max } => seconds(node, kind, *max),
        Kind::HashKey => optional(node, kind, |text| {
            message::hash_key(text).map(Value::HashKey)
        }),
        Kind::Cookie => optional(node, kind, |text| token(text, kind)),
        Kind::Method => parsed(node, kind, |text| {
            message::check_method(text).map(Value::Text)
        }),
        Kind::Target => parsed(node, kind, |text| address::target(text).map(Value::Text)),
        Kind::Authority => optional(node, kind, |text| {
            address::fixed_host(text).map(Value::Text)
        }),
        Kind::Text { max } => optional(node, kind, |text| short(text, *max)),
        Kind::Webhook => optional(node, kind, |text| {
            address::webhook(text).map(Value::Webhook)
        }),
        Kind::LimitKey => return limits::key(node, kind, path, notes).map(Value::LimitKey),
        Kind::Origins => {
            return list(node, kind, path, ORIGINS_MAX, message::origin, notes).map(Value::Origins);
        }
        Kind::Methods => return words(node, kind, path, METHODS_MAX, message::cors_method, notes),
        Kind::CorsFields => return words(node, kind, path, FIELDS_MAX, message::cors_field, notes),
        Kind::FieldNames { request } => {
            let parse = |text: &str| message::field_name(text, *request);
            return words(node, kind, path, FIELDS_MAX, parse, notes);
        }
        Kind::OwnField => optional(node, kind, |text| message::own_field(text).map(Value::Text)),
        Kind::Edits { request } => {
            let parse = |text: &str| message::edit(text, *request);
            return list(node, kind, path, FIELDS_MAX, parse, notes).map(Value::Edits);
        }
        Kind::Word { max } => parsed(node, kind, |text| {
            message::word(text, *max).map(Value::Text)
        }),
        Kind::Words { max } => {
            let parse = |text: &str| message::word(text, *max);
            return words(node, kind, path, WORDS_MAX, parse, notes);
        }
        Kind::ClusterName => optional(node, kind, |text| Ok(Value::Text(text.into()))),
        Kind::Codings => {
            let parse = |text: &str| one_of(text, &Kind::Choice(&CODING_NAMES), &CODING_NAMES);
            return list(node, kind, path, CODING_NAMES.len(), parse, notes).map(Value::Choices);
        }
        Kind::MediaTypes => return words(node, kind, path, WORDS_MAX, message::media_type, notes),
        Kind::CacheKey => return cache::key(node, kind, path, notes).map(Value::CacheKey),
        Kind::StatusTtls => {
            return cache::status_ttls(node, kind, path, notes).map(Value::StatusTtls);
        }
        Kind::Parameters => {
            return words(node, kind, path, PARAMETERS_MAX, cache::parameter, notes);
        }
        Kind::Users => return access::users(node, kind, path, files, notes).map(Value::Secrets),
        Kind::ApiKeys => {
            return access::api_keys(node, kind, path, files, notes).map(Value::Secrets);
        }
        Kind::Verifier(verifier) => access::verifier(node, kind, *verifier, files),
        Kind::Structure => return None,
    };
    one.map_err(|fault| notes.add(&node.at, path, fault)).ok()
}

/// As TOML.
pub(super) fn show(key: Key, value: &Value) -> String {
    match value {
        Value::Unset => string(key.spec().kind.unset()),
        Value::Flag(flag) => flag.to_string(),
        Value::Number(number) => key.spec().kind.number(*number),
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
        Value::Causes(on) => array(causes::show(on)),
        Value::Statuses(statuses) => array(causes::show_statuses(statuses)),
        Value::HashKey(key) => string(&message::show_hash_key(key)),
        Value::Headers(headers) => array(headers.iter().map(|text| secrets::field(text))),
        Value::Webhook(webhook) => string(&webhook.url),
        Value::LimitKey(parts) => limits::show_key(parts),
        Value::CacheKey(parts) => cache::show_key(parts),
        Value::StatusTtls(all) => cache::show_status_ttls(all),
        Value::Origins(origins) => array(origins.iter().map(message::show_origin)),
        Value::Choices(choices) => array(choices.iter().map(|at| CODING_NAMES[*at].to_owned())),
        Value::Secrets(secrets) => access::show(key, secrets),
        Value::Words(words) => array(words.iter().map(ToString::to_string)),
        Value::Edits(edits) => array(edits.iter().map(|edit| secrets::field(&edit.text))),
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

pub(super) fn flag(raw: &Raw, kind: &Kind) -> Result<bool, Fault> {
    match raw {
        Raw::Flag(flag) => Ok(*flag),
        Raw::Text { text, loose } => match (text.as_str(), loose) {
            ("true", true) => Ok(true),
            ("false", true) => Ok(false),
            ("true" | "false", false) => {
                Err(wrong_type(&kind.bounds(), raw).hint(format!("write {text} without quotes")))
            }
            (_, _) => Err(wrong_type(&kind.bounds(), raw)),
        },
        Raw::Integer(_) | Raw::List(_) | Raw::Table(_) | Raw::Other(_) => {
            Err(wrong_type(&kind.bounds(), raw))
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
            let fault = Fault::new(format!("\"{text}\" is not {}", kind.bounds()));
            match text.strip_suffix('%').map(str::parse::<u64>) {
                Some(Ok(number)) => fault.hint(format!("write {number}")),
                Some(Err(_)) | None => fault.near(text, word),
            }
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

fn seconds(node: &Node, kind: &Kind, max: u64) -> Result<Value, Fault> {
    const SECOND: u64 = 1_000_000_000;
    match duration(node, kind, SECOND, max, true)? {
        Value::Number(nanos) if !nanos.is_multiple_of(SECOND) => {
            Err(Fault::new("no whole number of seconds").hint(kind.bounds()))
        }
        value => Ok(value),
    }
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

fn size(node: &Node, kind: &Kind, min: u64, max: u64, word: Option<&str>) -> Result<Value, Fault> {
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
    match word {
        Some(word) if text == word => return Ok(Value::Unset),
        Some(word) if matches!(text, "off" | "unlimited") => {
            let fault = Fault::new(format!("\"{text}\" is no size"));
            return Err(fault.hint(format!("did you mean \"{word}\"?")));
        }
        Some(_) | None => {}
    }
    let bytes = parse_size(text)?;
    let is_off = bytes == 0 && matches!(kind, Kind::Bandwidth { .. });
    let fine = is_off || (min..=max).contains(&bytes);
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
    one_of(text(node, kind)?, kind, names).map(Value::Choice)
}

fn one_of(text: &str, kind: &Kind, names: &[&str]) -> Result<usize, Fault> {
    let name = text.replace('-', "_");
    names
        .iter()
        .position(|known| *known == name)
        .ok_or_else(|| {
            let fault = Fault::new(format!("\"{text}\" is not {}", kind.bounds()));
            fault.near(text, names.iter().copied())
        })
}

fn admin(node: &Node, kind: &Kind) -> Result<Value, Fault> {
    match text(node, kind)? {
        "off" => Ok(Value::Unset),
        text => address::socket(text).map(Value::Socket),
    }
}

fn parsed(
    node: &Node,
    kind: &Kind,
    parse: impl Fn(&str) -> Result<Value, Fault>,
) -> Result<Value, Fault> {
    text(node, kind).and_then(parse)
}

fn words(
    node: &Node,
    kind: &Kind,
    path: &str,
    max: usize,
    parse: impl Fn(&str) -> Result<Box<str>, Fault>,
    notes: &mut Notes,
) -> Option<Value> {
    list(node, kind, path, max, parse, notes).map(Value::Words)
}

/// A text that may be empty, which sets nothing.
fn optional(
    node: &Node,
    kind: &Kind,
    parse: impl Fn(&str) -> Result<Value, Fault>,
) -> Result<Value, Fault> {
    match text(node, kind)? {
        "" => Ok(Value::Unset),
        text => parse(text),
    }
}

fn short(text: &str, max: usize) -> Result<Value, Fault> {
    if text.len() <= max {
        Ok(Value::Text(text.into()))
    } else {
        let fault = format!("{} bytes, at most {max} are allowed", text.len());
        Err(Fault::new(fault))
    }
}

fn token(text: &str, kind: &Kind) -> Result<Value, Fault> {
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

pub(super) fn text<'a>(node: &'a Node, kind: &Kind) -> Result<&'a str, Fault> {
    match &node.raw {
        Raw::Text { text, .. } => Ok(text),
        raw @ (Raw::Integer(_) | Raw::Flag(_) | Raw::List(_) | Raw::Table(_) | Raw::Other(_)) => {
            Err(wrong_type(&kind.bounds(), raw))
        }
    }
}
