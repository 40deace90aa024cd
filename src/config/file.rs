//! The configuration as it was written: every leaf read, nothing related yet.
//!
//! Decides: which keys stand where; notes unknown and misplaced ones. May not know: whether names agree.
//! Invariant: what is in a `File` is in its key's bounds and remembers where it stood. A part that could not
//! be read is noted and left out as `None`, so that it causes no second problem later.

use std::collections::BTreeMap;

use super::address;
use super::keys::{HOSTS_MAX, Key, Kind, METHODS_MAX, Scope, WEIGHT_MAX};
use super::plan::Address;
use super::read::{Member, Node, Raw, join};
use super::report::{At, Fault, Notes};
use super::value::{self, Value, in_range, integer, texts, wrong_type};
use crate::policy::route::{HostPattern, MethodName, PathPattern};

#[derive(Debug)]
pub struct File {
    pub settings: Settings,
    /// The short form, if it was used.
    pub backends: Option<Found<Vec<Backend>>>,
    pub clusters: Vec<Cluster>,
    pub routes: Vec<Route>,
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
}

#[derive(Debug)]
pub struct Cluster {
    pub at: At,
    pub name: Option<Found<String>>,
    pub backends: Option<Found<Vec<Backend>>>,
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
    pub settings: Settings,
}

impl File {
    pub(super) fn read(members: &[Member], notes: &mut Notes) -> File {
        let own = ["backends", "clusters", "routes"];
        let (settings, own) = scope(members, Scope::Top, "", &own, notes);
        let mut file = File {
            settings,
            backends: None,
            clusters: Vec::new(),
            routes: Vec::new(),
        };
        for member in own {
            let node = &member.node;
            match member.name.as_str() {
                "backends" => file.backends = backends(node, &member.name, notes),
                "clusters" => {
                    let read = |node: &_, members: &_, path: &_, notes: &mut _| {
                        cluster(node, members, path, notes)
                    };
                    file.clusters = tables(node, "clusters", notes, read);
                }
                _ => {
                    let read = |node: &_, members: &_, path: &_, notes: &mut _| {
                        route(node, members, path, notes)
                    };
                    file.routes = tables(node, "routes", notes, read);
                }
            }
        }
        file
    }

    /// Sets what the environment or a flag says; later calls win.
    pub(super) fn set(&mut self, key: Key, node: &Node, notes: &mut Notes) {
        let path = key.spec().path;
        if key == Key::Backends {
            self.backends = backends(node, path, notes);
        } else if let Some(value) = value::read(key, node, path, notes) {
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
fn scope<'a>(
    members: &'a [Member],
    scope: Scope,
    prefix: &str,
    own: &[&'static str],
    notes: &mut Notes,
) -> (Settings, Vec<&'a Member>) {
    let mut settings = Settings::new();
    let mut structure = Vec::new();
    for member in members {
        let path = join(prefix, &member.name);
        let in_section: Vec<Key> = Key::settings()
            .filter(|key| key.section() == member.name)
            .collect();
        if own.contains(&member.name.as_str()) {
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
                setting(leaf, &in_section, scope, &path, &mut settings, notes);
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

fn setting(
    leaf: &Member,
    section: &[Key],
    scope: Scope,
    prefix: &str,
    settings: &mut Settings,
    notes: &mut Notes,
) {
    let path = join(prefix, &leaf.name);
    match section.iter().find(|key| key.leaf() == leaf.name) {
        Some(key) if key.allows(scope) => {
            if let Some(value) = value::read(*key, &leaf.node, &path, notes) {
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
                .map(|key| key.leaf());
            let mut fault = Fault::new("unknown key").near(&leaf.name, here);
            if let (None, Some(home)) = (&fault.hint, home(&leaf.name)) {
                fault = fault.hint(format!("{} belongs in [{}]", leaf.name, home.section()));
            }
            notes.add(&leaf.name_at, &path, fault);
        }
    }
}

fn unknown_name(name: &str, scope: Scope, own: &[&'static str]) -> Fault {
    let fault = Fault::new("unknown key");
    if let Some(home) = home(name).filter(|key| key.allows(scope)) {
        return fault.hint(format!("{name} belongs in [{}]", home.section()));
    }
    let sections = Key::settings()
        .filter(|key| key.allows(scope))
        .map(Key::section);
    fault.near(name, own.iter().copied().chain(sections))
}

/// The section that has a key of this name.
fn home(leaf: &str) -> Option<Key> {
    Key::settings().find(|key| key.leaf() == leaf)
}

/// `[[name]]`, each table read by `read`.
fn tables<T>(
    node: &Node,
    name: &str,
    notes: &mut Notes,
    read: impl Fn(&Node, &[Member], &str, &mut Notes) -> T,
) -> Vec<T> {
    let mut all = Vec::new();
    match &node.raw {
        Raw::List(nodes) => {
            for (at, node) in nodes.iter().enumerate() {
                let path = format!("{name}[{at}]");
                match &node.raw {
                    Raw::Table(members) => all.push(read(node, members, &path, notes)),
                    raw @ (Raw::Text { .. }
                    | Raw::Integer(_)
                    | Raw::Flag(_)
                    | Raw::List(_)
                    | Raw::Other(_)) => notes.add(&node.at, &path, wrong_type("a table", raw)),
                }
            }
        }
        Raw::Table(members) => {
            notes.add(
                &node.at,
                name,
                Fault::new(format!("[{name}] is one of a list")).hint(format!("write [[{name}]]")),
            );
            all.push(read(node, members, &format!("{name}[0]"), notes));
        }
        raw @ (Raw::Text { .. } | Raw::Integer(_) | Raw::Flag(_) | Raw::Other(_)) => notes.add(
            &node.at,
            name,
            wrong_type(&format!("tables [[{name}]]"), raw),
        ),
    }
    all
}

fn cluster(node: &Node, members: &[Member], path: &str, notes: &mut Notes) -> Cluster {
    let (settings, own) = scope(members, Scope::Cluster, path, &["name", "backends"], notes);
    let mut cluster = Cluster {
        at: node.at.clone(),
        name: None,
        backends: None,
        settings,
    };
    for member in &own {
        let path = join(path, &member.name);
        match member.name.as_str() {
            "name" => cluster.name = name(&member.node, &path, notes),
            _ => cluster.backends = backends(&member.node, &path, notes),
        }
    }
    for (required, why) in [
        ("name", "routes refer to it"),
        ("backends", "nothing else takes its traffic"),
    ] {
        if !own.iter().any(|member| member.name == required) {
            notes.add(
                &node.at,
                &join(path, required),
                Fault::new(format!("missing: {why}")),
            );
        }
    }
    cluster
}

fn route(node: &Node, members: &[Member], path: &str, notes: &mut Notes) -> Route {
    let names = ["name", "hosts", "path_prefix", "path", "methods", "cluster"];
    let (settings, own) = scope(members, Scope::Route, path, &names, notes);
    let mut route = Route {
        at: node.at.clone(),
        name: None,
        hosts: Some(Vec::new()),
        path: Some(PathPattern::Prefix("/".into())),
        methods: Some(Vec::new()),
        cluster: None,
        settings,
    };
    for member in &own {
        let node = &member.node;
        let path = join(path, &member.name);
        match member.name.as_str() {
            "name" => route.name = name(node, &path, notes),
            "cluster" => route.cluster = name(node, &path, notes),
            "hosts" => route.hosts = patterns(node, &path, HOSTS_MAX, address::host_pattern, notes),
            "methods" => route.methods = patterns(node, &path, METHODS_MAX, address::method, notes),
            "path" => route.path = path_of(node, &path, notes).map(PathPattern::Exact),
            _ => route.path = path_of(node, &path, notes).map(PathPattern::Prefix),
        }
    }
    let has = |name: &str| own.iter().find(|member| member.name == name);
    if let (Some(_), Some(second)) = (has("path"), has("path_prefix")) {
        notes.add(
            &second.name_at,
            &join(path, "path_prefix"),
            Fault::new("path is set too").hint("keep one of them"),
        );
    }
    if has("cluster").is_none() {
        notes.add(
            &node.at,
            &join(path, "cluster"),
            Fault::new("missing: a route names the cluster that serves it"),
        );
    }
    route
}

fn name(node: &Node, path: &str, notes: &mut Notes) -> Option<Found<String>> {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    match &node.raw {
        Raw::Text { text, .. } => {
            if !(1..=64).contains(&text.len()) || !text.bytes().all(good) {
                let fault = Fault::new(format!("\"{text}\" is no name"));
                notes.add(
                    &node.at,
                    path,
                    fault.hint("letters, digits, dot, dash and underscore, 1 to 64"),
                );
            }
            Some(Found {
                value: text.clone(),
                at: node.at.clone(),
            })
        }
        raw @ (Raw::Integer(_) | Raw::Flag(_) | Raw::List(_) | Raw::Table(_) | Raw::Other(_)) => {
            notes.add(&node.at, path, wrong_type("a name", raw));
            None
        }
    }
}

fn path_of(node: &Node, path: &str, notes: &mut Notes) -> Option<Box<str>> {
    let read = match &node.raw {
        Raw::Text { text, .. } => address::path(text),
        raw @ (Raw::Integer(_) | Raw::Flag(_) | Raw::List(_) | Raw::Table(_) | Raw::Other(_)) => {
            Err(wrong_type("a path such as \"/api\"", raw))
        }
    };
    read.map_err(|fault| notes.add(&node.at, path, fault)).ok()
}

fn patterns<T>(
    node: &Node,
    path: &str,
    max: usize,
    parse: impl Fn(&str) -> Result<T, Fault>,
    notes: &mut Notes,
) -> Option<Vec<T>> {
    let items = texts(node, "a list of strings", path, notes)?;
    if items.is_empty() {
        notes.add(
            &node.at,
            path,
            Fault::new("the list is empty").hint("leave the key out to match any"),
        );
        return None;
    }
    if items.len() > max {
        notes.add(
            &node.at,
            path,
            Fault::new(format!("{} items, at most {max} are allowed", items.len())),
        );
        return None;
    }
    let mut note = |item: &value::Item<'_>, fault| notes.add(&item.node.at, &item.path, fault);
    let read: Vec<T> = items
        .iter()
        .filter_map(|item| parse(item.text).map_err(|fault| note(item, fault)).ok())
        .collect();
    (read.len() == items.len()).then_some(read)
}

fn backends(node: &Node, path: &str, notes: &mut Notes) -> Option<Found<Vec<Backend>>> {
    let all = match &node.raw {
        Raw::List(nodes) => {
            let read = |(at, node)| backend(node, &format!("{path}[{at}]"), notes);
            nodes.iter().enumerate().map(read).collect()
        }
        Raw::Text { .. } => {
            let items = texts(node, "", path, notes)?;
            items
                .iter()
                .map(|item| address_of(item.text, &node.at, path, notes))
                .collect()
        }
        raw @ (Raw::Integer(_) | Raw::Flag(_) | Raw::Table(_) | Raw::Other(_)) => {
            notes.add(&node.at, path, wrong_type("a list of URLs", raw));
            return None;
        }
    };
    Some(Found {
        value: all,
        at: node.at.clone(),
    })
}

fn backend(node: &Node, path: &str, notes: &mut Notes) -> Backend {
    let refused = || Backend {
        at: node.at.clone(),
        url: String::new(),
        address: None,
        weight: None,
    };
    let members = match &node.raw {
        Raw::Text { text, .. } => return address_of(text, &node.at, path, notes),
        Raw::Table(members) => members,
        raw @ (Raw::Integer(_) | Raw::Flag(_) | Raw::List(_) | Raw::Other(_)) => {
            notes.add(&node.at, path, wrong_type("a URL or { url, weight }", raw));
            return refused();
        }
    };
    let mut backend = refused();
    for member in members {
        let path = join(path, &member.name);
        match (member.name.as_str(), &member.node.raw) {
            ("url", Raw::Text { text, .. }) => {
                let weight = backend.weight;
                backend = Backend {
                    weight,
                    ..address_of(text, &member.node.at, &path, notes)
                };
            }
            ("url", raw) => notes.add(&member.node.at, &path, wrong_type("a URL", raw)),
            ("weight", raw) => match weight(raw) {
                Ok(weight) => backend.weight = Some(weight),
                Err(fault) => notes.add(&member.node.at, &path, fault),
            },
            (name, _) => notes.add(
                &member.name_at,
                &path,
                Fault::new("unknown key").near(name, ["url", "weight"]),
            ),
        }
    }
    if !members.iter().any(|member| member.name == "url") {
        notes.add(&node.at, &join(path, "url"), Fault::new("missing"));
    }
    backend
}

fn weight(raw: &Raw) -> Result<u32, Fault> {
    let bounds = Kind::Whole {
        min: 0,
        max: WEIGHT_MAX,
        word: None,
    }
    .bounds();
    let number = integer(raw).map_err(|hint| {
        let fault = wrong_type(&bounds, raw);
        hint.into_iter().fold(fault, Fault::hint)
    })?;
    let weight = in_range(number, 0, WEIGHT_MAX).and_then(|weight| u32::try_from(weight).ok());
    weight.ok_or_else(|| Fault::new(format!("{number} is not in {bounds}")))
}

fn address_of(url: &str, at: &At, path: &str, notes: &mut Notes) -> Backend {
    let address = address::backend(url)
        .map_err(|fault| notes.add(at, path, fault))
        .ok();
    Backend {
        at: at.clone(),
        url: url.to_owned(),
        address,
        weight: None,
    }
}
