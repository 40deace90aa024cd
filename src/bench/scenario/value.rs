//! A raw value of a scenario → its meaning.
//!
//! Decides: types and units. May not know: keys. Invariant: a number with a unit is never taken without one.

use crate::config::plan::Nanos;
use crate::config::read::{Member, Node, Raw};
use crate::config::report::{Fault, Notes};
use crate::config::units::{parse_duration, parse_size};
use crate::config::value::{in_range, integer, wrong_type};

pub(super) fn noted<T>(
    found: Result<T, Fault>,
    node: &Node,
    path: &str,
    notes: &mut Notes,
) -> Option<T> {
    found.map_err(|fault| notes.add(&node.at, path, fault)).ok()
}

pub(super) fn unknown<'a>(
    member: &Member,
    path: &str,
    known: impl IntoIterator<Item = &'a str>,
    notes: &mut Notes,
) {
    let fault = Fault::new("unknown key").near(&member.name, known);
    notes.add(&member.name_at, path, fault);
}

/// The items of a list, or the one in its place.
pub(super) fn each<T>(
    node: &Node,
    path: &str,
    max: usize,
    parse: impl Fn(&Node) -> Result<T, Fault>,
    notes: &mut Notes,
) -> Vec<T> {
    let nodes = match &node.raw {
        Raw::List(nodes) => nodes.as_slice(),
        Raw::Text { .. } | Raw::Integer(_) | Raw::Flag(_) | Raw::Table(_) | Raw::Other(_) => {
            std::slice::from_ref(node)
        }
    };
    if nodes.len() > max {
        let fault = Fault::new(format!("{} items, at most {max} are allowed", nodes.len()));
        notes.add(&node.at, path, fault);
        return Vec::new();
    }
    let item = |node| noted(parse(node), node, path, notes);
    nodes.iter().filter_map(item).collect()
}

pub(super) fn text(node: &Node) -> Result<&str, Fault> {
    match &node.raw {
        Raw::Text { text, .. } => Ok(text),
        Raw::Integer(_) | Raw::Flag(_) | Raw::List(_) | Raw::Table(_) | Raw::Other(_) => {
            Err(wrong_type("a string", &node.raw))
        }
    }
}

pub(super) fn method(node: &Node) -> Result<String, Fault> {
    let text = text(node)?;
    let fault = || Fault::new(format!("{text:?} is no method"));
    match http::Method::from_bytes(text.as_bytes()) {
        Ok(http::Method::CONNECT) | Err(_) => Err(fault()),
        Ok(method) => Ok(method.to_string()),
    }
}

pub(super) fn flag(node: &Node) -> Result<bool, Fault> {
    match &node.raw {
        Raw::Flag(flag) => Ok(*flag),
        Raw::Text { text, loose: true } if text == "true" => Ok(true),
        Raw::Text { text, loose: true } if text == "false" => Ok(false),
        raw @ (Raw::Text { .. }
        | Raw::Integer(_)
        | Raw::List(_)
        | Raw::Table(_)
        | Raw::Other(_)) => Err(wrong_type("true or false", raw)),
    }
}

pub(super) fn whole(node: &Node, min: u64, max: u64) -> Result<u64, Fault> {
    let number = integer(&node.raw).map_err(|hint| {
        let fault = wrong_type("a whole number", &node.raw);
        match hint {
            Some(hint) => fault.hint(hint),
            None => fault,
        }
    })?;
    in_range(number, min, max)
        .ok_or_else(|| Fault::new(format!("{number} is not in {min} to {max}")))
}

pub(super) fn duration(node: &Node, max: Nanos) -> Result<Nanos, Fault> {
    let text = match &node.raw {
        Raw::Integer(number) => {
            return Err(Fault::new(format!("{number} has no unit"))
                .hint(format!("write \"{number}s\" or \"{number}ms\"")));
        }
        Raw::Text { .. } | Raw::Flag(_) | Raw::List(_) | Raw::Table(_) | Raw::Other(_) => {
            text(node)?
        }
    };
    match parse_duration(text)? {
        0 => Err(Fault::new("it cannot be 0")),
        ns if ns > max => Err(Fault::new(format!("\"{text}\" is too long"))),
        ns => Ok(ns),
    }
}

pub(super) fn size(node: &Node, max: u64) -> Result<u64, Fault> {
    let text = text(node)?;
    match parse_size(text)? {
        bytes if bytes > max => Err(Fault::new(format!("\"{text}\" is too large"))),
        bytes => Ok(bytes),
    }
}

/// `"1%"` or `"0.1%"`, as a share of 1.
pub(super) fn percent(node: &Node) -> Result<f64, Fault> {
    let text = text(node).map_err(|fault| fault.hint("write \"1%\""))?;
    let number = text
        .strip_suffix('%')
        .and_then(|text| text.trim().parse::<f64>().ok());
    number
        .filter(|number| (0.0..=100.0).contains(number))
        .map(|number| number / 100.0)
        .ok_or_else(|| Fault::new(format!("\"{text}\" is no share")).hint("write \"1%\""))
}
