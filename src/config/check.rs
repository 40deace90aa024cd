//! What must hold between the parts of a configuration.
//!
//! Decides: names that must exist once, routes that must be reachable, clusters that must have a backend and may
//! not fail over in a circle. May not know: TOML, the environment, what settings say. Invariant: a `File` without
//! notes becomes a `Plan` without questions.

use std::collections::{HashMap, HashSet};

use super::access;
use super::chain::Chain;
use super::conflicts;
use super::file::{Backend, Cluster, File, Found, Part, Route, Settings};
use super::keys::Key;
use super::kinds::{BACKENDS_MAX, CLUSTERS_MAX, ROUTES_MAX};
use super::limits;
use super::matching;
use super::read::join;
use super::report::{At, Fault, Notes};
use super::resolve::{SHORT_NAME, rules};
use super::value::Value;

/// Clusters of a circle that are named; the rest is left out.
const CIRCLE_SHOWN_MAX: usize = 8;

/// Notes every contradiction. `defaults` has a value for every key.
pub(super) fn check(file: &File, defaults: &Settings, notes: &mut Notes) {
    forms(file, notes);
    counts(file, notes);
    if let Some(backends) = &file.backends {
        cluster(backends, "backends", notes);
    }
    for (at, each) in file.clusters.iter().enumerate() {
        if let Some(backends) = &each.backends {
            cluster(backends, &format!("clusters[{at}].backends"), notes);
        }
    }
    unique(
        "clusters",
        file.clusters.iter().map(|cluster| &cluster.name),
        notes,
    );
    unique("routes", file.routes.iter().map(|route| &route.name), notes);
    references(file, notes);
    circles(&file.clusters, notes);
    mirrors(file, notes);
    for (at, route) in file.routes.iter().enumerate() {
        if let Some(parts) = &route.split {
            split(parts, &format!("routes[{at}].split"), notes);
        }
        matching::check(route, &format!("routes[{at}]"), notes);
    }
    reachable(file, notes);
    conflicts::note(file, defaults, notes);
    access::check(file, notes);
    users(file, defaults, notes);
}

/// A limit by user wants to know one.
fn users(file: &File, defaults: &Settings, notes: &mut Notes) {
    let mut clusters: HashMap<&str, &Settings> = HashMap::new();
    for cluster in &file.clusters {
        if let Some(name) = &cluster.name {
            clusters.entry(&name.value).or_insert(&cluster.settings);
        }
    }
    // What could not be read may well have named somebody.
    let is_noted = notes.paths().iter().any(|path| path.contains("access."));
    let knows_user = |route: Option<&Route>| {
        let mut levels = Vec::with_capacity(4);
        if let Some(route) = route {
            let split = route.split.iter().flat_map(|split| &split.value);
            let mut names = split.map(|part| &part.cluster).chain([&route.cluster]);
            let cluster = names.find_map(|name| clusters.get(name.as_ref()?.value.as_str()));
            levels.push(&route.settings);
            levels.extend(cluster.copied());
        }
        levels.extend([&file.settings, defaults]);
        is_noted || access::knows_user(&Chain(levels))
    };
    limits::check(file, defaults, knows_user, notes);
}

/// Either `backends`, or `[[clusters]]` with `[[routes]]`.
fn forms(file: &File, notes: &mut Notes) {
    let long = file
        .clusters
        .first()
        .map(|first| &first.at)
        .or(file.routes.first().map(|first| &first.at));
    match (&file.backends, long) {
        (Some(backends), Some(_)) => {
            let fault =
                Fault::new("the short form and [[clusters]] or [[routes]] exclude each other");
            notes.add(
                &backends.at,
                "backends",
                fault.hint("move these backends into a cluster"),
            );
        }
        (Some(_), None) => {}
        (None, None) => {
            let fault = Fault::new("there is no backend to forward to");
            notes.add(
                &At::Default,
                "backends",
                fault.hint("write backends = [\"http://127.0.0.1:3001\"]"),
            );
        }
        (None, Some(at)) if file.routes.is_empty() => {
            let fault = Fault::new("there are clusters, but no route leads to them");
            notes.add(
                at,
                "routes",
                fault.hint("add [[routes]] with cluster = \"…\""),
            );
        }
        (None, Some(at)) if file.clusters.is_empty() && wants_cluster(file) => {
            let fault = Fault::new("there are routes, but no cluster");
            notes.add(
                at,
                "clusters",
                fault.hint("add [[clusters]] with name and backends"),
            );
        }
        (None, Some(_)) => {}
    }
}

/// A proxy that only redirects or answers has no cluster.
fn wants_cluster(file: &File) -> bool {
    let mut routes = file.routes.iter();
    routes.any(|route| route.cluster.is_some() || route.split.is_some())
}

fn counts(file: &File, notes: &mut Notes) {
    let each = file
        .clusters
        .iter()
        .filter_map(|cluster| cluster.backends.as_ref())
        .chain(&file.backends);
    let backends: usize = each.map(|backends| backends.value.len()).sum();
    for (path, count, max) in [
        ("backends", backends, BACKENDS_MAX),
        ("clusters", file.clusters.len(), CLUSTERS_MAX),
        ("routes", file.routes.len(), ROUTES_MAX),
    ] {
        if count > max {
            notes.add(
                &At::Default,
                path,
                Fault::new(format!("{count} {path}, at most {max} are allowed")),
            );
        }
    }
}

fn cluster(backends: &Found<Vec<Backend>>, path: &str, notes: &mut Notes) {
    if backends.value.is_empty() {
        notes.add(
            &backends.at,
            path,
            Fault::new("the list is empty").hint("name at least one backend"),
        );
    } else if backends
        .value
        .iter()
        .all(|backend| backend.weight == Some(0))
    {
        let fault = Fault::new("every weight is 0: no backend would take traffic");
        notes.add(&backends.at, path, fault);
    } else if backends
        .value
        .iter()
        .all(|backend| backend.backup || backend.weight == Some(0))
    {
        let fault = Fault::new("all that have a weight are backups: there is nothing to back up");
        notes.add(
            &backends.at,
            path,
            fault.hint("leave backup out of one at least"),
        );
    }
    let mut seen = HashMap::new();
    for (at, backend) in backends.value.iter().enumerate() {
        let Some((address, _)) = &backend.address else {
            continue;
        };
        match seen.get(address) {
            None => drop(seen.insert(address, at)),
            Some(first) => {
                let fault = Fault::new(format!("the same backend as {path}[{first}]"));
                notes.add(
                    &backend.at,
                    &format!("{path}[{at}]"),
                    fault.hint("a larger share is a weight: { url, weight = 2 }"),
                );
            }
        }
    }
}

fn unique<'a>(
    list: &str,
    names: impl Iterator<Item = &'a Option<Found<String>>>,
    notes: &mut Notes,
) {
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for (at, name) in names.enumerate() {
        let Some(name) = name else { continue };
        match seen.get(name.value.as_str()) {
            None => drop(seen.insert(&name.value, at)),
            Some(first) => {
                let fault = Fault::new(format!(
                    "\"{}\" is the name of {list}[{first}] already",
                    name.value
                ));
                notes.add(&name.at, &format!("{list}[{at}].name"), fault);
            }
        }
    }
}

/// Clusters that are named must exist.
fn references(file: &File, notes: &mut Notes) {
    let mut names: Vec<&str> = file
        .clusters
        .iter()
        .filter_map(|cluster| Some(cluster.name.as_ref()?.value.as_str()))
        .collect();
    if file.backends.is_some() && file.clusters.is_empty() {
        names.push(SHORT_NAME);
    }
    // Without any cluster, or with one whose name could not be read, that is the problem to report.
    let is_noted = names.is_empty() && (file.routes.is_empty() || wants_cluster(file));
    if is_noted || names.len() < file.clusters.len() {
        return;
    }
    let known: HashSet<&str> = names.iter().copied().collect();
    let mut refer = |name: &Option<Found<String>>, path: &dyn Fn() -> String| {
        let Some(name) = name
            .as_ref()
            .filter(|name| !known.contains(name.value.as_str()))
        else {
            return;
        };
        let fault = Fault::new(format!("there is no cluster \"{}\"", name.value));
        let fault = fault.near(&name.value, names.iter().copied());
        let fault = match fault.hint {
            None if (1..=8).contains(&names.len()) => {
                fault.hint(format!("clusters are: {}", names.join(", ")))
            }
            None | Some(_) => fault,
        };
        notes.add(&name.at, &path(), fault);
    };
    let mut asks = |settings: &Settings, prefix: &str| {
        if let Some(Found {
            value: Value::Text(name),
            at,
        }) = settings.get(&Key::AuthCluster)
        {
            let name = Found {
                value: name.to_string(),
                at: at.clone(),
            };
            refer(&Some(name), &|| join(prefix, Key::AuthCluster.spec().path));
        }
    };
    asks(&file.settings, "");
    for (at, cluster) in file.clusters.iter().enumerate() {
        asks(&cluster.settings, &format!("clusters[{at}]"));
    }
    for (at, route) in file.routes.iter().enumerate() {
        asks(&route.settings, &format!("routes[{at}]"));
    }
    for (at, cluster) in file.clusters.iter().enumerate() {
        refer(&cluster.failover, &|| format!("clusters[{at}].failover"));
    }
    for (at, route) in file.routes.iter().enumerate() {
        refer(&route.cluster, &|| format!("routes[{at}].cluster"));
        refer(&route.mirror, &|| format!("routes[{at}].mirror"));
        for (part, each) in route
            .split
            .iter()
            .flat_map(|split| &split.value)
            .enumerate()
        {
            refer(&each.cluster, &|| {
                format!("routes[{at}].split[{part}].cluster")
            });
        }
    }
}

fn indexes(clusters: &[Cluster]) -> HashMap<&str, usize> {
    let mut indexes = HashMap::new();
    for (at, cluster) in clusters.iter().enumerate() {
        if let Some(name) = &cluster.name {
            indexes.entry(name.value.as_str()).or_insert(at);
        }
    }
    indexes
}

/// The cluster that stands in for each.
fn failovers(clusters: &[Cluster], indexes: &HashMap<&str, usize>) -> Vec<Option<usize>> {
    let failover = |cluster: &Cluster| {
        let name = cluster.failover.as_ref()?;
        indexes.get(name.value.as_str()).copied()
    };
    clusters.iter().map(failover).collect()
}

/// A cluster that serves a request must not get its copy too: it would be executed twice.
fn mirrors(file: &File, notes: &mut Notes) {
    let indexes = indexes(&file.clusters);
    let failovers = failovers(&file.clusters, &indexes);
    let index = |name: &Option<Found<String>>| {
        let name = name.as_ref()?;
        indexes.get(name.value.as_str()).copied()
    };
    for (at, route) in file.routes.iter().enumerate() {
        let (Some(name), Some(mirror)) = (&route.mirror, index(&route.mirror)) else {
            continue;
        };
        let parts = route.split.iter().flat_map(|split| &split.value);
        let entries = parts.map(|part| &part.cluster).chain([&route.cluster]);
        let entries: Vec<usize> = entries.filter_map(index).collect();
        // A circle has its own note.
        let stands_in = |entry: &usize| {
            std::iter::successors(Some(*entry), |at| failovers[*at])
                .take(file.clusters.len())
                .any(|cluster| cluster == mirror)
        };
        let why = if entries.contains(&mirror) {
            "serves this route itself"
        } else if entries.iter().any(stands_in) {
            "stands in for a cluster of this route (failover)"
        } else {
            continue;
        };
        let fault = Fault::new(format!(
            "\"{}\" {why}: it could get a request twice",
            name.value
        ));
        let path = format!("routes[{at}].mirror");
        notes.add(
            &name.at,
            &path,
            fault.hint("name a cluster that serves nothing of this route"),
        );
    }
}

/// A request that no cluster can serve must not go round for ever.
fn circles(clusters: &[Cluster], notes: &mut Notes) {
    let failovers = failovers(clusters, &indexes(clusters));
    let next = |at: usize| failovers[at];
    // The walk on which each cluster was met; a walk that meets itself has found a circle.
    let mut met = vec![None; clusters.len()];
    for start in 0..clusters.len() {
        let mut at = Some(start);
        while let Some(here) = at.filter(|here| met[*here].is_none()) {
            met[here] = Some(start);
            at = next(here);
        }
        if let Some(first) = at.filter(|here| met[*here] == Some(start)) {
            circle(clusters, first, next, notes);
        }
    }
}

/// Notes the circle that leads from `first` back to it.
fn circle(
    clusters: &[Cluster],
    first: usize,
    next: impl Fn(usize) -> Option<usize>,
    notes: &mut Notes,
) {
    let all: Vec<usize> =
        std::iter::successors(Some(first), |at| next(*at).filter(|at| *at != first)).collect();
    let begin = all.iter().copied().min().unwrap_or(first);
    let Some(failover) = &clusters[begin].failover else {
        return;
    };
    let turn = all.iter().position(|at| *at == begin).unwrap_or(0);
    let name = |at: usize| clusters[at].name.as_ref().map_or("", |name| &name.value);
    let mut shown: Vec<&str> = (0..all.len().min(CIRCLE_SHOWN_MAX))
        .map(|step| name(all[(turn + step) % all.len()]))
        .collect();
    if all.len() > CIRCLE_SHOWN_MAX {
        shown.push("…");
    }
    shown.push(name(begin));
    let fault = Fault::new(format!("a circle: {}", shown.join(" → ")));
    notes.add(
        &failover.at,
        &format!("clusters[{begin}].failover"),
        fault.hint("leave failover out of one of them"),
    );
}

fn split(parts: &Found<Vec<Part>>, path: &str, notes: &mut Notes) {
    if parts.value.iter().all(|part| part.weight == Some(0)) {
        let fault = Fault::new("every weight is 0: no cluster would take traffic");
        notes.add(&parts.at, path, fault);
    }
    let mut seen = HashMap::new();
    for (at, part) in parts.value.iter().enumerate() {
        let Some(cluster) = &part.cluster else {
            continue;
        };
        match seen.get(&cluster.value) {
            None => drop(seen.insert(&cluster.value, at)),
            Some(first) => notes.add(
                &cluster.at,
                &format!("{path}[{at}].cluster"),
                Fault::new(format!("the same cluster as in {path}[{first}]"))
                    .hint("a larger share is a weight"),
            ),
        }
    }
}

fn reachable(file: &File, notes: &mut Notes) {
    let (rules, indexes) = rules(file);
    for (rule, shadow) in crate::policy::route::unreachable(&rules) {
        let (route, first) = (indexes[rule], indexes[shadow]);
        let name = file.routes[first]
            .name
            .as_ref()
            .map(|name| format!(" (\"{}\")", name.value));
        let fault = Fault::new(format!(
            "no request reaches it: routes[{first}]{} takes them all",
            name.unwrap_or_default()
        ));
        let fault = fault
            .hint("give it other hosts, another path, other methods or conditions, or a priority");
        notes.add(&file.routes[route].at, &format!("routes[{route}]"), fault);
    }
}
