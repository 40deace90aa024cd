//! Clusters, routes and backends as they were written.
//!
//! Decides: which keys they have beside their settings. May not know: whether names agree.
//! Invariant: what could not be read is noted and left out as `None`, so that it causes no second problem later.

use super::address;
use super::file::{Backend, Cluster, Found, Part, Route, limit_list, scope};
use super::files::Files;
use super::keys::Scope;
use super::kinds::{HOSTS_MAX, Kind, METHODS_MAX, SPLIT_MAX, WEIGHT_MAX};
use super::limits;
use super::list::{Item, texts};
use super::matching;
use super::read::{Member, Node, Raw, join};
use super::report::{At, Fault, Notes};
use super::value::{self, in_range, integer, wrong_type};
use crate::policy::route::{Conditions, PathPattern};

/// `[[name]]`, each table read by `read`.
pub(super) fn tables<T>(
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

pub(super) fn cluster(
    node: &Node,
    members: &[Member],
    path: &str,
    files: Files<'_>,
    notes: &mut Notes,
) -> Cluster {
    let names = ["name", "backends", "failover"];
    let (settings, own) = scope(members, Scope::Cluster, path, &names, files, notes);
    let mut cluster = Cluster {
        at: node.at.clone(),
        name: None,
        backends: None,
        failover: None,
        settings,
    };
    for member in &own {
        let path = join(path, &member.name);
        match member.name.as_str() {
            "name" => cluster.name = name(&member.node, &path, notes),
            "failover" => cluster.failover = name(&member.node, &path, notes),
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

pub(super) fn route(
    node: &Node,
    members: &[Member],
    path: &str,
    files: Files<'_>,
    notes: &mut Notes,
) -> Route {
    let names = [
        "name",
        "hosts",
        "path_prefix",
        "path",
        "methods",
        "cluster",
        "split",
        "split_header",
        limits::LIST,
    ];
    let names = [&names[..], &matching::NAMES].concat();
    let (settings, own) = scope(members, Scope::Route, path, &names, files, notes);
    let mut route = Route {
        at: node.at.clone(),
        name: None,
        hosts: Some(Vec::new()),
        path: Some(PathPattern::Prefix("/".into())),
        methods: Some(Vec::new()),
        cluster: None,
        split: None,
        split_header: None,
        rate_limits: None,
        conditions: Some(Conditions::default()),
        priority: None,
        strip_prefix: None,
        add_prefix: None,
        replace_path: None,
        own: None,
        mirror: None,
        mirror_percent: None,
        error_pages: Vec::new(),
        settings,
    };
    for member in &own {
        let node = &member.node;
        let path = join(path, &member.name);
        match member.name.as_str() {
            "name" => route.name = name(node, &path, notes),
            "cluster" => route.cluster = name(node, &path, notes),
            "split" => route.split = split(node, &path, notes),
            "split_header" => route.split_header = field_name(node, &path, notes),
            limits::LIST => route.rate_limits = Some(limit_list(node, &path, files, notes)),
            "path_prefix" => route.path = path_of(node, &path, notes).map(PathPattern::Prefix),
            "hosts" => route.hosts = patterns(node, &path, HOSTS_MAX, address::host_pattern, notes),
            "methods" => route.methods = patterns(node, &path, METHODS_MAX, address::method, notes),
            "path" => route.path = path_of(node, &path, notes).map(PathPattern::Exact),
            _ => matching::read(member, &path, &mut route, files, notes),
        }
    }
    one_of(node, &own, path, notes);
    route
}

/// Of two keys that say one thing, one; and of those that are required, one.
fn one_of(node: &Node, own: &[&Member], path: &str, notes: &mut Notes) {
    let has = |name: &str| own.iter().find(|member| member.name == name);
    let exclusive: [&[&str]; 3] = [
        &["path", "path_prefix"],
        &["headers", matching::HEADERS],
        &["cluster", "split", "redirect", "answer"],
    ];
    for names in exclusive {
        let mut written = own
            .iter()
            .filter(|member| names.contains(&member.name.as_str()));
        let Some(first) = written.next() else {
            continue;
        };
        for twice in written {
            let fault = Fault::new(format!("{} is set too", first.name)).hint("keep one of them");
            notes.add(&twice.name_at, &join(path, &twice.name), fault);
        }
    }
    let target = ["cluster", "split", "redirect", "answer"]
        .iter()
        .find_map(|name| has(name));
    match (target, has("split_header")) {
        (None, _) => notes.add(
            &node.at,
            &join(path, "cluster"),
            Fault::new("missing: a route names the cluster that serves it")
                .hint("or it has a split, a redirect or an answer"),
        ),
        (Some(_), Some(header)) if has("split").is_none() => notes.add(
            &header.name_at,
            &join(path, "split_header"),
            Fault::new("there is no split that it could choose from"),
        ),
        (Some(_), Some(_) | None) => {}
    }
}

fn split(node: &Node, path: &str, notes: &mut Notes) -> Option<Found<Vec<Part>>> {
    let Raw::List(nodes) = &node.raw else {
        let fault = wrong_type("a list of { cluster, weight }", &node.raw);
        notes.add(&node.at, path, fault);
        return None;
    };
    if !(1..=SPLIT_MAX).contains(&nodes.len()) {
        let fault = match nodes.len() {
            0 => Fault::new("the list is empty").hint("name at least one cluster"),
            many => Fault::new(format!("{many} clusters, at most {SPLIT_MAX} are allowed")),
        };
        notes.add(&node.at, path, fault);
        return None;
    }
    let read = |(at, node)| part(node, &format!("{path}[{at}]"), notes);
    Some(Found {
        value: nodes.iter().enumerate().map(read).collect(),
        at: node.at.clone(),
    })
}

fn part(node: &Node, path: &str, notes: &mut Notes) -> Part {
    let mut part = Part {
        cluster: None,
        weight: None,
    };
    let Raw::Table(members) = &node.raw else {
        let fault = wrong_type("{ cluster, weight }", &node.raw);
        notes.add(&node.at, path, fault);
        return part;
    };
    for member in members {
        let path = join(path, &member.name);
        match member.name.as_str() {
            "cluster" => part.cluster = name(&member.node, &path, notes),
            "weight" => match weight(&member.node.raw) {
                Ok(weight) => part.weight = Some(weight),
                Err(fault) => notes.add(&member.node.at, &path, fault),
            },
            unknown => {
                let fault = Fault::new("unknown key").near(unknown, ["cluster", "weight"]);
                notes.add(&member.name_at, &path, fault);
            }
        }
    }
    if !members.iter().any(|member| member.name == "cluster") {
        notes.add(&node.at, &join(path, "cluster"), Fault::new("missing"));
    }
    part
}

fn field_name(node: &Node, path: &str, notes: &mut Notes) -> Option<Found<String>> {
    let fault = match &node.raw {
        Raw::Text { text, .. } if address::is_token(text) => {
            return Some(Found {
                value: text.to_ascii_lowercase(),
                at: node.at.clone(),
            });
        }
        Raw::Text { text, .. } => Fault::new(format!("\"{text}\" is no name of a header field")),
        raw @ (Raw::Integer(_) | Raw::Flag(_) | Raw::List(_) | Raw::Table(_) | Raw::Other(_)) => {
            wrong_type("the name of a header field", raw)
        }
    };
    notes.add(&node.at, path, fault);
    None
}

pub(super) fn name(node: &Node, path: &str, notes: &mut Notes) -> Option<Found<String>> {
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
    let mut note = |item: &Item<'_>, fault| notes.add(&item.node.at, &item.path, fault);
    let read: Vec<T> = items
        .iter()
        .filter_map(|item| parse(item.text).map_err(|fault| note(item, fault)).ok())
        .collect();
    (read.len() == items.len()).then_some(read)
}

pub(super) fn backends(node: &Node, path: &str, notes: &mut Notes) -> Option<Found<Vec<Backend>>> {
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
        backup: false,
    };
    let members = match &node.raw {
        Raw::Text { text, .. } => return address_of(text, &node.at, path, notes),
        Raw::Table(members) => members,
        raw @ (Raw::Integer(_) | Raw::Flag(_) | Raw::List(_) | Raw::Other(_)) => {
            notes.add(
                &node.at,
                path,
                wrong_type("a URL or { url, weight, backup }", raw),
            );
            return refused();
        }
    };
    let mut backend = refused();
    for member in members {
        let path = join(path, &member.name);
        match (member.name.as_str(), &member.node.raw) {
            ("url", Raw::Text { text, .. }) => {
                backend = Backend {
                    weight: backend.weight,
                    backup: backend.backup,
                    ..address_of(text, &member.node.at, &path, notes)
                };
            }
            ("url", raw) => notes.add(&member.node.at, &path, wrong_type("a URL", raw)),
            ("weight", raw) => match weight(raw) {
                Ok(weight) => backend.weight = Some(weight),
                Err(fault) => notes.add(&member.node.at, &path, fault),
            },
            ("backup", raw) => match value::flag(raw, &Kind::Flag) {
                Ok(backup) => backend.backup = backup,
                Err(fault) => notes.add(&member.node.at, &path, fault),
            },
            (name, _) => notes.add(
                &member.name_at,
                &path,
                Fault::new("unknown key").near(name, ["url", "weight", "backup"]),
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
        backup: false,
    }
}
