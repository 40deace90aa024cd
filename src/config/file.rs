//! The configuration as it was written: every leaf read, nothing related yet.
//!
//! Decides: which keys stand where; notes unknown and misplaced ones. May not know: whether names agree.
//! Invariant: what is in a `File` is in its key's bounds and remembers where it stood. A part that could not
//! be read is noted and left out as `None`, so that it causes no second problem later.

use std::collections::BTreeMap;

use super::files::Files;
use super::keys::{Key, Scope};
use super::limits;
use super::pages::{self, Body, Page};
use super::plan::Address;
use super::read::{Member, Node, Raw, join};
use super::report::{At, Fault, Notes};
use super::tree::{backends, cluster, name, route, tables};
use super::value::{self, Value, wrong_type};
use crate::policy::filter::template::Template;
use crate::policy::route::{Conditions, HostPattern, MethodName, PathPattern};

#[derive(Debug)]
pub struct File {
    pub settings: Settings,
    /// The short form, if it was used.
    pub backends: Option<Found<Vec<Backend>>>,
    pub clusters: Vec<Cluster>,
    pub routes: Vec<Route>,
    /// `[[rate_limits]]`, if they were written.
    pub rate_limits: Option<Vec<Limit>>,
    pub error_pages: Vec<Page>,
}

/// The settings of one scope; a key that is absent is inherited.
pub type Settings = BTreeMap<Key, Found<Value>>;

#[derive(Debug, Clone)]
pub struct Found<T> {
    pub value: T,
    pub at: At,
}

#[derive(Debug)]
pub struct Backend {
    pub at: At,
    pub url: String,
    /// The address and its authority; `None` if the URL was refused.
    pub address: Option<(Address, Box<str>)>,
    pub weight: Option<u32>,
    pub backup: bool,
}

#[derive(Debug)]
pub struct Cluster {
    pub at: At,
    pub name: Option<Found<String>>,
    pub backends: Option<Found<Vec<Backend>>>,
    pub failover: Option<Found<String>>,
    pub settings: Settings,
}

#[derive(Debug)]
pub struct Route {
    pub at: At,
    pub name: Option<Found<String>>,
    /// Empty for any host, as `methods` is for any method.
    pub hosts: Option<Vec<HostPattern>>,
    pub path: Option<PathPattern>,
    pub methods: Option<Vec<MethodName>>,
    pub cluster: Option<Found<String>>,
    /// In place of the cluster.
    pub split: Option<Found<Vec<Part>>>,
    /// A field's name in lower case.
    pub split_header: Option<Found<String>>,
    /// In place of those of the top level; none at all if the list is empty.
    pub rate_limits: Option<Vec<Limit>>,
    pub conditions: Option<Conditions>,
    pub priority: Option<Found<i32>>,
    pub strip_prefix: Option<Found<Box<str>>>,
    pub add_prefix: Option<Found<Box<str>>>,
    pub replace_path: Option<Found<Box<str>>>,
    /// In place of the cluster.
    pub own: Option<Found<Answering>>,
    pub mirror: Option<Found<String>>,
    pub mirror_percent: Option<Found<u32>>,
    pub error_pages: Vec<Page>,
    pub settings: Settings,
}

/// A route that answers itself.
#[derive(Debug)]
pub enum Answering {
    Redirect { status: u16, location: Template },
    Answer { status: u16, body: Body },
}

/// One rate limit of a list.
#[derive(Debug)]
pub struct Limit {
    pub at: At,
    pub name: Option<Found<String>>,
    /// Keys of `[rate_limit]`.
    pub settings: Settings,
}

/// One cluster of a split.
#[derive(Debug)]
pub struct Part {
    pub cluster: Option<Found<String>>,
    pub weight: Option<u32>,
}

impl File {
    pub(super) fn read(members: &[Member], files: Files<'_>, notes: &mut Notes) -> File {
        let own = ["backends", "clusters", "routes", limits::LIST, pages::LIST];
        let (settings, own) = scope(members, Scope::Top, "", &own, files, notes);
        let mut file = File {
            settings,
            backends: None,
            clusters: Vec::new(),
            routes: Vec::new(),
            rate_limits: None,
            error_pages: Vec::new(),
        };
        for member in own {
            let node = &member.node;
            match member.name.as_str() {
                "backends" => file.backends = backends(node, &member.name, notes),
                "clusters" => {
                    let read = |node: &_, members: &_, path: &_, notes: &mut _| {
                        cluster(node, members, path, files, notes)
                    };
                    file.clusters = tables(node, "clusters", notes, read);
                }
                limits::LIST => {
                    file.rate_limits = Some(limit_list(node, limits::LIST, files, notes))
                }
                pages::LIST => file.error_pages = pages::read(node, pages::LIST, files, notes),
                _ => {
                    let read = |node: &_, members: &_, path: &_, notes: &mut _| {
                        route(node, members, path, files, notes)
                    };
                    file.routes = tables(node, "routes", notes, read);
                }
            }
        }
        file
    }

    /// Sets what the environment or a flag says; later calls win.
    pub(super) fn set(&mut self, key: Key, node: &Node, files: Files<'_>, notes: &mut Notes) {
        let path = key.spec().path;
        if key == Key::Backends {
            self.backends = backends(node, path, notes);
        } else if let Some(value) = value::read(key, node, path, files, notes) {
            self.settings.insert(
                key,
                Found {
                    value,
                    at: node.at.clone(),
                },
            );
        }
    }
}

/// The settings of one scope, and the members that are of its `own` structure.
pub(super) fn scope<'a>(
    members: &'a [Member],
    scope: Scope,
    prefix: &str,
    own: &[&'static str],
    files: Files<'_>,
    notes: &mut Notes,
) -> (Settings, Vec<&'a Member>) {
    let mut settings = Settings::new();
    let mut structure = Vec::new();
    for member in members {
        let path = join(prefix, &member.name);
        let in_section: Vec<Key> = Key::settings()
            .filter(|key| key.section() == member.name)
            .collect();
        // A route's `headers` are a list of conditions, or a section.
        let is_section = !in_section.is_empty() && matches!(member.node.raw, Raw::Table(_));
        if own.contains(&member.name.as_str()) && !is_section {
            structure.push(member);
        } else if in_section.is_empty() {
            notes.add(
                &member.name_at,
                &path,
                unknown_name(&member.name, scope, own),
            );
        } else if !in_section.iter().any(|key| key.allows(scope)) {
            let cluster = in_section.iter().any(|key| key.allows(Scope::Cluster));
            let home = if cluster {
                "a cluster or the top level has one"
            } else {
                "only the top level has one"
            };
            let fault = Fault::new(format!("no [{}] stands here: {home}", member.name));
            notes.add(&member.name_at, &path, fault);
        } else if let Raw::Table(leaves) = &member.node.raw {
            for leaf in leaves {
                setting(leaf, &in_section, scope, &path, &mut settings, files, notes);
            }
        } else {
            let expected = format!("a section [{path}]");
            notes.add(
                &member.node.at,
                &path,
                wrong_type(&expected, &member.node.raw),
            );
        }
    }
    (settings, structure)
}

/// `[[rate_limits]]`.
pub(super) fn limit_list(
    node: &Node,
    path: &str,
    files: Files<'_>,
    notes: &mut Notes,
) -> Vec<Limit> {
    let read =
        |node: &_, members: &_, path: &_, notes: &mut _| limit(node, members, path, files, notes);
    tables(node, path, notes, read)
}

/// The keys of `[rate_limit]`, and a name.
fn limit(
    node: &Node,
    members: &[Member],
    path: &str,
    files: Files<'_>,
    notes: &mut Notes,
) -> Limit {
    let section: Vec<Key> = Key::settings()
        .filter(|key| key.section() == limits::SECTION)
        .collect();
    let mut limit = Limit {
        at: node.at.clone(),
        name: None,
        settings: Settings::new(),
    };
    for member in members {
        if member.name == "name" {
            limit.name = name(&member.node, &join(path, "name"), notes);
        } else {
            let settings = &mut limit.settings;
            setting(member, &section, Scope::Route, path, settings, files, notes);
        }
    }
    limit
}

fn setting(
    leaf: &Member,
    section: &[Key],
    scope: Scope,
    prefix: &str,
    settings: &mut Settings,
    files: Files<'_>,
    notes: &mut Notes,
) {
    let path = join(prefix, &leaf.name);
    let known = section
        .iter()
        .find(|key| key.leaf() == leaf.name || key.alias() == Some(&*leaf.name));
    match known {
        Some(key) if settings.contains_key(key) => {
            let fault = Fault::new(format!("{} is set too", key.leaf()));
            let hint = |alias| format!("{alias} is short for it: keep one of them");
            let fault = key.alias().map(hint).into_iter().fold(fault, Fault::hint);
            notes.add(&leaf.name_at, &path, fault);
        }
        Some(key) if key.allows(scope) => {
            if let Some(value) = value::read(*key, &leaf.node, &path, files, notes) {
                settings.insert(
                    *key,
                    Found {
                        value,
                        at: leaf.node.at.clone(),
                    },
                );
            }
        }
        Some(key) => {
            let fault = Fault::new(match scope {
                Scope::Route if key.allows(Scope::Cluster) => {
                    "a cluster or the top level may set this, a route may not"
                }
                Scope::Top | Scope::Cluster | Scope::Route => "only the top level may set this",
            });
            notes.add(&leaf.name_at, &path, fault);
        }
        None => {
            let here = section
                .iter()
                .filter(|key| key.allows(scope))
                .flat_map(|key| [Some(key.leaf()), key.alias()])
                .flatten();
            let mut fault = Fault::new("unknown key").near(&leaf.name, here);
            if fault.hint.is_none() {
                fault.hint = home(&leaf.name, scope);
            }
            notes.add(&leaf.name_at, &path, fault);
        }
    }
}

fn unknown_name(name: &str, scope: Scope, own: &[&'static str]) -> Fault {
    let fault = Fault::new("unknown key");
    if let Some(home) = home(name, scope) {
        return fault.hint(home);
    }
    let sections = Key::settings()
        .filter(|key| key.allows(scope))
        .map(Key::section);
    fault.near(name, own.iter().copied().chain(sections))
}

/// Says which sections have a key of this name.
fn home(leaf: &str, scope: Scope) -> Option<String> {
    let homes: Vec<String> = Key::settings()
        .filter(|key| key.leaf() == leaf && key.allows(scope))
        .map(|key| format!("[{}]", key.section()))
        .collect();
    let (last, others) = homes.split_last()?;
    Some(if others.is_empty() {
        format!("{leaf} belongs in {last}")
    } else {
        format!("{leaf} belongs in {} or {last}", others.join(", "))
    })
}
