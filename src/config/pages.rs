//! Bodies of our own: answers of routes, pages of errors.
//!
//! Decides: how they are written, which variables they may have. May not know: when they are sent. Invariant: only
//! an answer of plain text, which no browser and no program runs or parses, has anything in it that a client chose.

use std::sync::Arc;

use super::causes;
use super::file::{Answering, Found};
use super::files::{self, Files};
use super::kinds::{CAUSES_MAX, Kind, PAGES_MAX};
use super::list::list;
use super::matching::number;
use super::message;
use super::read::{Member, Node, Raw, join};
use super::report::{At, Fault, Notes};
use super::tree::tables;
use super::value::wrong_type;
use crate::policy::filter::template::{Template, Variable};
use crate::policy::rewrite::ErrorPage;

pub(super) const LIST: &str = "error_pages";

const PLAIN: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
/// A body may hold what is known before a backend is.
const VARIABLES: [Variable; 11] = [
    Variable::ClientIp,
    Variable::Scheme,
    Variable::RequestId,
    Variable::Route,
    Variable::Status,
    Variable::Method,
    Variable::Host,
    Variable::Hostname,
    Variable::Path,
    Variable::Query,
    Variable::User,
];
/// So many of those are not what a client chose.
const SAFE: usize = 5;

/// A body with its type.
#[derive(Debug)]
pub struct Body {
    pub content_type: Box<str>,
    /// The text, or the file that it stands in.
    pub written: Box<str>,
    pub template: Arc<Template>,
}

/// One of `[[error_pages]]`.
#[derive(Debug)]
pub struct Page {
    pub at: At,
    pub statuses: Option<Vec<(u16, u16)>>,
    pub body: Option<Body>,
}

/// The members of an answer or a page.
struct Parts<'a> {
    status: Option<&'a Member>,
    content_type: Option<&'a Member>,
    body: Option<&'a Member>,
}

impl<'a> Parts<'a> {
    fn of(members: &'a [Member], path: &str, notes: &mut Notes) -> Parts<'a> {
        let find = |name: &str| members.iter().find(|member| member.name == name);
        let names = ["status", "content_type", "body"];
        for member in members {
            if !names.contains(&member.name.as_str()) {
                let fault = Fault::new("unknown key").near(&member.name, names);
                notes.add(&member.name_at, &join(path, &member.name), fault);
            }
        }
        Parts {
            status: find("status"),
            content_type: find("content_type"),
            body: find("body"),
        }
    }

    fn body(
        &self,
        default: &str,
        reason: bool,
        path: &str,
        files: Files<'_>,
        notes: &mut Notes,
    ) -> Option<Body> {
        let content_type = match self.content_type {
            Some(member) => {
                let path = join(path, "content_type");
                noted(content_type(&member.node), &member.node, &path, notes)?
            }
            None => default.into(),
        };
        let node = &self.body?.node;
        let path = join(path, "body");
        let written = noted(text(node, "a text or \"file:/path\""), node, &path, notes)?;
        let template = template(written, &content_type, reason, files);
        Some(Body {
            template: Arc::new(noted(template, node, &path, notes)?),
            written: written.into(),
            content_type,
        })
    }
}

/// `{ status, content_type, body }`, of a route.
pub(super) fn answer(
    node: &Node,
    path: &str,
    files: Files<'_>,
    notes: &mut Notes,
) -> Option<Found<Answering>> {
    let Raw::Table(members) = &node.raw else {
        let fault = wrong_type("{ status, content_type, body }", &node.raw);
        notes.add(&node.at, path, fault);
        return None;
    };
    let parts = Parts::of(members, path, notes);
    let status = match parts.status {
        Some(member) => {
            let found = number(&member.node, 200, 599);
            noted(found, &member.node, &join(path, "status"), notes)
        }
        None => Some(200),
    };
    let body = match parts.body {
        Some(_) => parts.body(PLAIN, false, path, files, notes),
        None => Some(Body {
            content_type: PLAIN.into(),
            written: "".into(),
            template: Arc::new(message::template("", &[]).ok()?),
        }),
    };
    let (status, body) = (u16::try_from(status?).ok()?, body?);
    // RFC 9110 sections 15.3.5, 15.3.6 and 15.4.5.
    if matches!(status, 204 | 205 | 304) && !body.written.is_empty() {
        let fault = Fault::new(format!("a response with status {status} has no body"));
        notes.add(&node.at, &join(path, "body"), fault);
    }
    Some(Found {
        value: Answering::Answer { status, body },
        at: node.at.clone(),
    })
}

/// `[[error_pages]]`.
pub(super) fn read(node: &Node, path: &str, files: Files<'_>, notes: &mut Notes) -> Vec<Page> {
    let one = |node: &Node, members: &[Member], path: &str, notes: &mut Notes| {
        page(node, members, path, files, notes)
    };
    let pages = tables(node, path, notes, one);
    if pages.len() > PAGES_MAX {
        let fault = format!("{} pages, at most {PAGES_MAX} are allowed", pages.len());
        notes.add(&node.at, path, Fault::new(fault));
    }
    pages
}

fn page(node: &Node, members: &[Member], path: &str, files: Files<'_>, notes: &mut Notes) -> Page {
    let parts = Parts::of(members, path, notes);
    for (part, name, why) in [
        (parts.status, "status", "a page is for some statuses"),
        (parts.body, "body", "a page has one"),
    ] {
        if part.is_none() {
            let fault = Fault::new(format!("missing: {why}"));
            notes.add(&node.at, &join(path, name), fault);
        }
    }
    let statuses = parts.status.and_then(|member| {
        let path = join(path, "status");
        let kind = Kind::Statuses;
        list(
            &member.node,
            &kind,
            &path,
            CAUSES_MAX,
            causes::failure,
            notes,
        )
    });
    Page {
        at: node.at.clone(),
        statuses,
        body: parts.body(HTML, true, path, files, notes),
    }
}

/// Pages of a plan, in their order.
pub(super) fn plan(pages: &[Page]) -> impl Iterator<Item = ErrorPage> {
    pages.iter().filter_map(|page| {
        let body = page.body.as_ref()?;
        Some(ErrorPage {
            statuses: page.statuses.clone()?.into(),
            content_type: body.content_type.clone(),
            body: body.template.clone(),
        })
    })
}

fn template(
    written: &str,
    content_type: &str,
    reason: bool,
    files: Files<'_>,
) -> Result<Template, Fault> {
    let text = files::text(written, files)?;
    let mut allowed = VARIABLES.to_vec();
    let (kind, _) = content_type.split_once(';').unwrap_or((content_type, ""));
    let is_plain = kind.trim_end().eq_ignore_ascii_case("text/plain");
    // Of a page, the request is not at hand.
    if !is_plain || reason {
        allowed.truncate(SAFE);
    }
    if reason {
        allowed.push(Variable::Reason);
    }
    message::body(&text, &allowed).map_err(|fault| {
        let is_chosen = !is_plain && !reason && message::body(&text, Variable::ALL).is_ok();
        if is_chosen {
            fault.hint("what a client sends could bring a script into it; text/plain may have it")
        } else {
            fault
        }
    })
}

fn content_type(node: &Node) -> Result<Box<str>, Fault> {
    let text = text(node, "a media type")?;
    let (kind, _) = text.split_once(';').unwrap_or((text, ""));
    if kind.contains('*') || !message::is_field_value(text) {
        return Err(Fault::new(format!("\"{text}\" is no media type")));
    }
    message::media_type(kind.trim_end())?;
    Ok(text.into())
}

fn text<'a>(node: &'a Node, expected: &str) -> Result<&'a str, Fault> {
    match &node.raw {
        Raw::Text { text, .. } => Ok(text),
        raw @ (Raw::Integer(_) | Raw::Flag(_) | Raw::List(_) | Raw::Table(_) | Raw::Other(_)) => {
            Err(wrong_type(expected, raw))
        }
    }
}

fn noted<T>(read: Result<T, Fault>, node: &Node, path: &str, notes: &mut Notes) -> Option<T> {
    read.map_err(|fault| notes.add(&node.at, path, fault)).ok()
}
