//! What must hold between the parts of a configuration.
//!
//! Decides: names that must exist once, routes that must be reachable, clusters that must have a backend.
//! May not know: TOML, the environment. Invariant: a `File` without notes becomes a `Plan` without questions.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::file::{Backend, File, Found, Settings};
use super::keys::{BACKENDS_MAX, CLUSTERS_MAX, Key, ROUTES_MAX};
use super::plan::Listen;
use super::report::{At, Fault, Notes};
use super::resolve::rules;
use super::value::Value;

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
    reachable(file, notes);
    listeners(file, defaults, notes);
    limits(file, defaults, notes);
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
        (None, Some(at)) if file.clusters.is_empty() => {
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

fn references(file: &File, notes: &mut Notes) {
    let names: Vec<&str> = file
        .clusters
        .iter()
        .filter_map(|cluster| Some(cluster.name.as_ref()?.value.as_str()))
        .collect();
    let known: HashMap<&str, ()> = names.iter().map(|name| (*name, ())).collect();
    for (at, route) in file.routes.iter().enumerate() {
        let Some(cluster) = &route.cluster else {
            continue;
        };
        // Without any cluster, or with one whose name could not be read, that is the problem to report.
        if names.len() == file.clusters.len()
            && !names.is_empty()
            && !known.contains_key(cluster.value.as_str())
        {
            let fault = Fault::new(format!("there is no cluster \"{}\"", cluster.value));
            let fault = fault.near(&cluster.value, names.iter().copied());
            let fault = match fault.hint {
                None if names.len() <= 8 => {
                    fault.hint(format!("clusters are: {}", names.join(", ")))
                }
                None | Some(_) => fault,
            };
            notes.add(&cluster.at, &format!("routes[{at}].cluster"), fault);
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
        let fault = fault.hint("give it other hosts, another path or other methods");
        notes.add(&file.routes[route].at, &format!("routes[{route}]"), fault);
    }
}

/// The admin port must not be reachable as the proxy's.
fn listeners(file: &File, defaults: &Settings, notes: &mut Notes) {
    let of = |key| file.settings.get(&key).or(defaults.get(&key));
    let (Some(listen), Some(admin)) = (of(Key::ServerListen), of(Key::AdminListen)) else {
        return;
    };
    let (Value::Listens(listens), Value::Socket(admin_address)) = (&listen.value, &admin.value)
    else {
        return;
    };
    let overlaps = |address: &SocketAddr| {
        let any = address.ip().is_unspecified() || admin_address.ip().is_unspecified();
        address.port() != 0
            && address.port() == admin_address.port()
            && (any || address.ip() == admin_address.ip())
    };
    for each in listens {
        match each {
            Listen::Tcp(address) if overlaps(address) => {
                // Where the person wrote last: the admin's own line, or the listener that met its default.
                let (at, path) = match &admin.at {
                    At::Default => (&listen.at, "server.listen"),
                    At::File(_) | At::Env(_) | At::Flag(_) => (&admin.at, "admin.listen"),
                };
                let fault = Fault::new(format!(
                    "the port is taken twice: server.listen {address}, admin.listen {admin_address}"
                ));
                notes.add(
                    at,
                    path,
                    fault.hint("give the admin listener a port of its own, or \"off\""),
                );
            }
            Listen::Tcp(_) | Listen::Unix(_) => {}
        }
    }
}

/// A request line that no head can hold is a mistake, if it was written down.
fn limits(file: &File, defaults: &Settings, notes: &mut Notes) {
    let of = |key| {
        file.settings
            .get(&key)
            .or(defaults.get(&key))
            .map(|found| &found.value)
    };
    let (Some(line), Some(Value::Number(head))) =
        (file.settings.get(&Key::RequestLine), of(Key::HeaderBytes))
    else {
        return;
    };
    if let Value::Number(bytes) = &line.value {
        if bytes > head {
            let fault = Fault::new("longer than limits.header_bytes, so it never takes effect");
            notes.add(&line.at, "limits.request_line", fault);
        }
    }
}
