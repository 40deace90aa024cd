//! Lists of strings.
//!
//! Decides: what may stand for a list, and that nothing stands in it twice. May not know: what its items mean.
//! Invariant: each item is read once, and its problem noted at its own place.

use super::kinds::Kind;
use super::read::{Node, Raw};
use super::report::{Fault, Notes};
use super::secrets;
use super::value::wrong_type;

/// A list, or one item in its place.
pub(super) fn list<T: PartialEq>(
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
    // Without a status no check would ever pass, and so on.
    let noun = [
        (Kind::Listens, "address"),
        (Kind::Statuses, "status"),
        (Kind::Codings, "coding"),
        (Kind::MediaTypes, "media type"),
    ];
    let mut noun = noun
        .iter()
        .filter(|(needed, _)| std::mem::discriminant(needed) == std::mem::discriminant(kind));
    if let (true, Some((_, noun))) = (texts.is_empty(), noun.next()) {
        notes.add(
            &node.at,
            path,
            Fault::new("the list is empty").hint(format!("name at least one {noun}")),
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
                    Fault::new(format!("\"{}\" stands twice", secrets::field(text.text))),
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
