//! A route's own keys beyond host, path and method: conditions, rewriting, redirects, mirrors.
//!
//! Decides: how they are written, and which of them make no sense together. May not know: how requests are matched.
//! Invariant: what is returned can be used as it is; what is shown reads back the same.

use super::address;
use super::file::{Answering, Found, Route};
use super::files::Files;
use super::kinds::{CIDRS_MAX, CONDITIONS_MAX, HEADER_BYTES_MAX, Kind, PERCENT, PRIORITY_MAX};
use super::list::list;
use super::message;
use super::pages;
use super::read::{Member, Node, Raw, join};
use super::report::{Fault, Notes};
use super::secrets;
use super::tree::name;
use super::value::{array, in_range, integer, string, wrong_type};
use crate::policy::filter::template::{Part, Template, Values, Variable};
use crate::policy::rewrite::{self, Rewrite};
use crate::policy::route::PathPattern;

/// Beside a section `[routes.headers]`, which has the same name, conditions have this one.
pub(super) const HEADERS: &str = "match_headers";
pub(super) const NAMES: [&str; 13] = [
    "headers",
    HEADERS,
    "query",
    "clients",
    "priority",
    "strip_prefix",
    "add_prefix",
    "replace_path",
    "redirect",
    "answer",
    "mirror",
    "mirror_percent",
    pages::LIST,
];

const REDIRECTS: [i128; 5] = [301, 302, 303, 307, 308];
const REDIRECT: u16 = 308;
/// What a location may say: what is known before a backend is.
const LOCATION_VARIABLES: [Variable; 10] = [
    Variable::ClientIp,
    Variable::Scheme,
    Variable::Method,
    Variable::Host,
    Variable::Hostname,
    Variable::Path,
    Variable::Query,
    Variable::RequestId,
    Variable::User,
    Variable::Route,
];

/// Reads one of `NAMES` into its route.
pub(super) fn read(
    member: &Member,
    path: &str,
    route: &mut Route,
    files: Files<'_>,
    notes: &mut Notes,
) {
    let node = &member.node;
    match member.name.as_str() {
        "headers" | HEADERS => {
            let read = named(node, path, field, notes);
            let headers = read.map(Into::into);
            set(&mut route.conditions, headers, |all, found| {
                all.headers = found;
            });
        }
        "query" => {
            let query = named(node, path, parameter, notes).map(Into::into);
            set(&mut route.conditions, query, |all, found| all.query = found);
        }
        "clients" => {
            let read = list(node, &Kind::Cidrs, path, CIDRS_MAX, address::cidr, notes);
            let clients = read.map(Into::into);
            set(&mut route.conditions, clients, |all, found| {
                all.clients = found;
            });
        }
        "priority" => route.priority = priority(node, path, notes),
        "strip_prefix" => route.strip_prefix = written_path(node, path, notes),
        "add_prefix" => route.add_prefix = written_path(node, path, notes),
        "replace_path" => route.replace_path = written_path(node, path, notes),
        "redirect" => route.own = redirect(node, path, notes),
        "answer" => route.own = pages::answer(node, path, files, notes),
        "mirror" => route.mirror = name(node, path, notes),
        "mirror_percent" => route.mirror_percent = percent(node, path, notes),
        _ => route.error_pages = pages::read(node, path, files, notes),
    }
}

/// What could not be read is left out with all that belongs to it.
fn set<T, V>(all: &mut Option<T>, found: Option<V>, put: impl FnOnce(&mut T, V)) {
    match (all.as_mut(), found) {
        (Some(all), Some(found)) => put(all, found),
        (Some(_), None) => *all = None,
        (None, _) => {}
    }
}

/// A name, and its value if that matters.
type Named = (Box<str>, Option<Box<str>>);

fn named(
    node: &Node,
    path: &str,
    parse: impl Fn(&str) -> Result<Named, Fault>,
    notes: &mut Notes,
) -> Option<Vec<Named>> {
    let kind = Kind::Headers;
    list(node, &kind, path, CONDITIONS_MAX, parse, notes)
}

fn field(text: &str) -> Result<Named, Fault> {
    let (name, value) = match text.split_once(':') {
        Some((name, value)) => (name, Some(value.trim_matches([' ', '\t']))),
        None => (text, None),
    };
    if !address::is_token(name) {
        return Err(message::no_name(name).hint("write \"Name\" or \"Name: value\""));
    }
    match value {
        Some(value) if !message::is_field_value(value) => Err(Fault::new(format!(
            "the value of {name} has a character that no header field has"
        ))),
        value => bounded(text, name.to_ascii_lowercase().into(), value),
    }
}

fn parameter(text: &str) -> Result<Named, Fault> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (text, None),
    };
    let good = |b: u8| b.is_ascii_graphic() && !matches!(b, b'&' | b'#');
    if name.is_empty() || !text.bytes().all(good) {
        let fault = Fault::new(format!("\"{text}\" is no parameter of a query"));
        return Err(fault.hint("write \"name\" or \"name=value\", percent-encoded as in a request"));
    }
    bounded(text, name.into(), value)
}

fn bounded(text: &str, name: Box<str>, value: Option<&str>) -> Result<Named, Fault> {
    if text.len() > HEADER_BYTES_MAX {
        return Err(Fault::new(format!("longer than {HEADER_BYTES_MAX} bytes")));
    }
    Ok((name, value.map(Into::into)))
}

fn priority(node: &Node, path: &str, notes: &mut Notes) -> Option<Found<i32>> {
    let bounds = format!("-{PRIORITY_MAX} to {PRIORITY_MAX}");
    let fault = match integer(&node.raw) {
        Ok(number) => match i32::try_from(number) {
            Ok(value) if value.abs() <= PRIORITY_MAX => {
                let at = node.at.clone();
                return Some(Found { value, at });
            }
            Ok(_) | Err(_) => Fault::new(format!("{number} is not in {bounds}")),
        },
        Err(hint) => {
            let fault = wrong_type(&bounds, &node.raw);
            hint.into_iter().fold(fault, Fault::hint)
        }
    };
    notes.add(&node.at, path, fault);
    None
}

fn percent(node: &Node, path: &str, notes: &mut Notes) -> Option<Found<u32>> {
    let (min, max) = PERCENT;
    match number(node, min, max) {
        Ok(value) => Some(Found {
            value,
            at: node.at.clone(),
        }),
        Err(fault) => {
            notes.add(&node.at, path, fault);
            None
        }
    }
}

pub(super) fn number(node: &Node, min: u32, max: u32) -> Result<u32, Fault> {
    let bounds = format!("{min} to {max}");
    let number = integer(&node.raw).map_err(|hint| {
        let fault = wrong_type(&bounds, &node.raw);
        hint.into_iter().fold(fault, Fault::hint)
    })?;
    let found = in_range(number, min.into(), max.into()).and_then(|found| found.try_into().ok());
    found.ok_or_else(|| Fault::new(format!("{number} is not in {bounds}")))
}

fn written_path(node: &Node, path: &str, notes: &mut Notes) -> Option<Found<Box<str>>> {
    let read = match &node.raw {
        Raw::Text { text, .. } if text.starts_with("//") => {
            Err(Fault::new(format!("\"{text}\" begins with two slashes")))
        }
        Raw::Text { text, .. } => address::path(text),
        raw @ (Raw::Integer(_) | Raw::Flag(_) | Raw::List(_) | Raw::Table(_) | Raw::Other(_)) => {
            Err(wrong_type("a path such as \"/api\"", raw))
        }
    };
    match read {
        Ok(value) => Some(Found {
            value,
            at: node.at.clone(),
        }),
        Err(fault) => {
            notes.add(&node.at, path, fault);
            None
        }
    }
}

/// A text, or `{ to, status }`.
fn redirect(node: &Node, path: &str, notes: &mut Notes) -> Option<Found<Answering>> {
    let expected = "a text such as \"https://{hostname}{path}{query}\", or { to, status }";
    let mut status = Some(REDIRECT);
    let mut to = None;
    match &node.raw {
        Raw::Text { .. } => to = location(node, path, notes),
        Raw::Table(members) => {
            for member in members {
                let path = join(path, &member.name);
                match member.name.as_str() {
                    "to" => to = location(&member.node, &path, notes),
                    "status" => status = redirect_status(&member.node, &path, notes),
                    unknown => {
                        let fault = Fault::new("unknown key").near(unknown, ["to", "status"]);
                        notes.add(&member.name_at, &path, fault);
                    }
                }
            }
            if !members.iter().any(|member| member.name == "to") {
                notes.add(&node.at, &join(path, "to"), Fault::new("missing"));
            }
        }
        raw @ (Raw::Integer(_) | Raw::Flag(_) | Raw::List(_) | Raw::Other(_)) => {
            notes.add(&node.at, path, wrong_type(expected, raw));
        }
    }
    Some(Found {
        value: Answering::Redirect {
            status: status?,
            location: to?,
        },
        at: node.at.clone(),
    })
}

fn redirect_status(node: &Node, path: &str, notes: &mut Notes) -> Option<u16> {
    let bounds = "301, 302, 303, 307 or 308";
    let fault = match integer(&node.raw) {
        Ok(status) if REDIRECTS.contains(&status) => return u16::try_from(status).ok(),
        Ok(status) => Fault::new(format!("{status} is not {bounds}")),
        Err(hint) => {
            let fault = wrong_type(bounds, &node.raw);
            hint.into_iter().fold(fault, Fault::hint)
        }
    };
    notes.add(&node.at, path, fault);
    None
}

fn location(node: &Node, path: &str, notes: &mut Notes) -> Option<Template> {
    let read = match &node.raw {
        Raw::Text { text, .. } => location_of(text),
        raw @ (Raw::Integer(_) | Raw::Flag(_) | Raw::List(_) | Raw::Table(_) | Raw::Other(_)) => {
            Err(wrong_type("a location", raw))
        }
    };
    read.map_err(|fault| notes.add(&node.at, path, fault)).ok()
}

fn location_of(text: &str) -> Result<Template, Fault> {
    let template = message::template(text, &LOCATION_VARIABLES)?;
    // An ordinary request: what is no location for it is none for any.
    let values = Values {
        client_ip: "192.0.2.1",
        scheme: "https",
        method: "GET",
        host: "example.org",
        path: "/",
        request_id: "1",
        user: "user",
        route: "route",
        ..Values::default()
    };
    let (mut rendered, mut out) = (Vec::new(), Vec::new());
    template.render(&values, &mut rendered);
    if text.len() > HEADER_BYTES_MAX {
        return Err(Fault::new(format!("longer than {HEADER_BYTES_MAX} bytes")));
    }
    if rewrite::location(&rendered, &mut out).is_err() {
        let fault = Fault::new(format!("\"{text}\" is no location"));
        return Err(fault.hint("write \"https://example.org{path}{query}\" or \"/path\""));
    }
    Ok(template)
}

/// What becomes of the path.
pub(super) fn rewrite(route: &Route) -> Option<Rewrite> {
    let text = |found: &Option<Found<Box<str>>>| found.as_ref().map(|found| found.value.clone());
    let rewrite = Rewrite {
        strip: text(&route.strip_prefix),
        add: text(&route.add_prefix),
        replace: text(&route.replace_path),
    };
    (rewrite != Rewrite::default()).then_some(rewrite)
}

/// What one route's keys say of each other. `path` is the route's.
pub(super) fn check(route: &Route, path: &str, notes: &mut Notes) {
    let prefixes = route.strip_prefix.as_ref().or(route.add_prefix.as_ref());
    if let (Some(replace), Some(_)) = (&route.replace_path, prefixes) {
        let fault = Fault::new("it takes the place of the whole path");
        let fault = fault.hint("leave out strip_prefix and add_prefix, or this one");
        notes.add(&replace.at, &format!("{path}.replace_path"), fault);
    }
    strip(route, path, notes);
    if let (None, Some(percent)) = (&route.mirror, &route.mirror_percent)
        && !notes.paths().contains(&format!("{path}.mirror"))
    {
        let fault = Fault::new("there is no mirror that it could be of");
        notes.add(&percent.at, &format!("{path}.mirror_percent"), fault);
    }
    let Some(own) = &route.own else { return };
    if let Answering::Redirect { location, .. } = &own.value
        && is_loop(location, route.path.as_ref())
    {
        let fault = Fault::new("it leads back to where it comes from");
        notes.add(
            &own.at,
            &format!("{path}.redirect"),
            fault.hint("lead to another scheme, host or path"),
        );
    }
    let at = |found: &Option<Found<Box<str>>>| found.as_ref().map(|found| found.at.clone());
    for (at, key) in [
        (at(&route.strip_prefix), "strip_prefix"),
        (at(&route.add_prefix), "add_prefix"),
        (at(&route.replace_path), "replace_path"),
        (
            route.mirror.as_ref().map(|found| found.at.clone()),
            "mirror",
        ),
    ] {
        if let Some(at) = at {
            let fault = Fault::new("it never takes effect: the route answers itself");
            notes.add(&at, &format!("{path}.{key}"), fault);
        }
    }
}

fn strip(route: &Route, path: &str, notes: &mut Notes) {
    let (Some(found), Some(pattern)) = (&route.strip_prefix, &route.path) else {
        return;
    };
    let (own, key) = match pattern {
        PathPattern::Exact(own) => (own, "path"),
        PathPattern::Prefix(own) => (own, "path_prefix"),
    };
    let strip = found.value.strip_suffix('/').unwrap_or(&found.value);
    let rest = own.strip_prefix(strip);
    if rest.is_none_or(|rest| !rest.is_empty() && !rest.starts_with('/')) {
        let fault = format!("no prefix of the route's {key}, which is \"{own}\"");
        notes.add(
            &found.at,
            &format!("{path}.strip_prefix"),
            Fault::new(fault),
        );
    }
}

/// Whether every request is sent back to its own place.
fn is_loop(location: &Template, pattern: Option<&PathPattern>) -> bool {
    let parts = match &*location.parts {
        [
            Part::Variable(Variable::Scheme),
            Part::Text(slashes),
            Part::Variable(Variable::Host),
            rest @ ..,
        ] if **slashes == *"://" => rest,
        all => all,
    };
    // With something between them, what follows the host is a text.
    match parts {
        [Part::Variable(Variable::Path)]
        | [
            Part::Variable(Variable::Path),
            Part::Variable(Variable::Query),
        ] => true,
        [Part::Text(text)] | [Part::Text(text), Part::Variable(Variable::Query)] => {
            matches!(pattern, Some(PathPattern::Exact(path)) if path == text)
        }
        _ => false,
    }
}

fn show_named((name, value): &Named, between: &str) -> String {
    match value {
        Some(value) => format!("{name}{between}{value}"),
        None => name.to_string(),
    }
}

/// The keys of a route as TOML, each with the place where it was written.
pub(super) fn show(route: &Route) -> Vec<(&'static str, String)> {
    let mut all = Vec::new();
    if let Some(conditions) = &route.conditions {
        if !conditions.headers.is_empty() {
            let headers = conditions.headers.iter();
            let headers = headers.map(|named| secrets::field(&show_named(named, ": ")));
            all.push((HEADERS, array(headers)));
        }
        if !conditions.query.is_empty() {
            let query = conditions.query.iter();
            all.push(("query", array(query.map(|named| show_named(named, "=")))));
        }
        if !conditions.clients.is_empty() {
            let clients = conditions.clients.iter();
            let clients = clients.map(|cidr| format!("{}/{}", cidr.network, cidr.prefix));
            all.push(("clients", array(clients)));
        }
    }
    if let Some(priority) = &route.priority {
        all.push(("priority", priority.value.to_string()));
    }
    for (key, found) in [
        ("strip_prefix", &route.strip_prefix),
        ("add_prefix", &route.add_prefix),
        ("replace_path", &route.replace_path),
    ] {
        all.extend(found.iter().map(|found| (key, string(&found.value))));
    }
    if let Some(mirror) = &route.mirror {
        all.push(("mirror", string(&mirror.value)));
    }
    if let Some(percent) = &route.mirror_percent {
        all.push(("mirror_percent", percent.value.to_string()));
    }
    match route.own.as_ref().map(|own| &own.value) {
        Some(Answering::Redirect { status, location }) => {
            let to = string(&location.show());
            all.push(("redirect", format!("{{ to = {to}, status = {status} }}")));
        }
        Some(Answering::Answer { status, body }) => {
            let (content_type, body) = (string(&body.content_type), string(&body.written));
            let table =
                format!("{{ status = {status}, content_type = {content_type}, body = {body} }}");
            all.push(("answer", table));
        }
        None => {}
    }
    all
}
