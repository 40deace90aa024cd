//! Settings that contradict each other, each fine by itself.
//!
//! Decides: what of the written would never take effect, or could never hold. May not know: TOML, the environment,
//! which names exist. Invariant: each contradiction is noted once, where it was written, however many clusters
//! inherit it; a value that could not be read contradicts nothing.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;

use super::access::{self, IDENTITIES};
use super::cache;
use super::file::{File, Settings};
use super::filters::ANY;
use super::keys::{Key, Scope};
use super::kinds::{CHOOSINGS, Choosing, Kind};
use super::levels::{self, Levels, Once};
use super::plan::Listen;
use super::report::{At, Fault, Notes};
use super::value::{Value, show};
use crate::policy::filter::cors::Origin;

/// Pairs of which the second may not be the smaller one, with the key that turns them on.
type Pair = (Key, Key, Key);
const PAIRS: [Pair; 4] = [
    (Key::CheckType, Key::CheckTimeout, Key::CheckInterval),
    (
        Key::PassiveErrors,
        Key::PassiveEjection,
        Key::PassiveEjectionMax,
    ),
    (Key::BreakerEnabled, Key::BreakerOpen, Key::BreakerOpenMax),
    (Key::Adaptive, Key::AdaptiveLeast, Key::AdaptiveMost),
];

/// The same for what a route may set. No body is both slow and fast enough.
const ROUTE_PAIRS: [Pair; 1] = [(Key::RequestRate, Key::BodyRate, Key::RequestRate)];

/// Keys that turn their section on, which does nothing without. One that was written to be off is as it should be.
const SWITCHES: [Key; 6] = [
    Key::CheckType,
    Key::BreakerEnabled,
    Key::Adaptive,
    Key::StickyCookie,
    Key::CorsOrigins,
    Key::Compression,
];

/// Keys that mean nothing unless one of others is written.
const NEEDS: [(&[Key], &[Key]); 6] = [
    (&[Key::HstsSubdomains, Key::HstsPreload], &[Key::Hsts]),
    (&[Key::IdAccept, Key::IdRespond], &[Key::IdHeader]),
    (&[Key::Realm], &IDENTITIES),
    (&[Key::ApiKeyHeader], &[Key::ApiKeys]),
    (
        &[
            Key::JwtAlgorithm,
            Key::JwtIssuers,
            Key::JwtAudiences,
            Key::JwtLeeway,
            Key::JwtUserClaim,
        ],
        &[Key::JwtSecret, Key::JwtKey, Key::JwtJwks],
    ),
    (
        &[Key::AuthPath, Key::AuthCopy, Key::AuthTimeout],
        &[Key::AuthCluster],
    ),
];

pub(super) fn note(file: &File, defaults: &Settings, notes: &mut Notes) {
    listeners(file, defaults, notes);
    limits(file, defaults, notes);
    let noted = notes.paths();
    let above = vec![(String::new(), &file.settings), (String::new(), defaults)];
    let clusters = file.clusters.iter().enumerate();
    let own = clusters.map(|(at, cluster)| (format!("clusters[{at}]"), &cluster.settings));
    let mut all: Vec<Levels<'_>> = own
        .map(|own| Levels {
            all: [vec![own], above.clone()].concat(),
            noted: &noted,
        })
        .collect();
    if all.is_empty() {
        all.push(Levels {
            all: above.clone(),
            noted: &noted,
        });
    }
    let mut once = Once {
        said: HashSet::new(),
        notes,
    };
    let mut keyed = HashSet::new();
    for levels in &all {
        pairs(levels, &PAIRS, &mut once);
        body_of_head(levels, &mut once);
        keyed.extend(hash_key(levels, &mut once));
    }
    for levels in &all {
        for key in levels.written(Key::HashKey) {
            if key.found.value != Value::Unset && !keyed.contains(&key.path) {
                let fault = Fault::new("it never takes effect: only consistent_hash goes by a key");
                let hint =
                    "set load_balancer.algorithm = \"consistent_hash\", or leave the key out";
                once.add(&key, fault.hint(hint));
            }
        }
    }
    let routes = levels::of_routes(file, &above, &noted);
    // The short form has no route of its own.
    let entries = if routes.is_empty() { &all } else { &routes };
    let mut tried = HashSet::new();
    for levels in entries {
        access::algorithm(levels, &mut tried, &mut once);
        pairs(levels, &ROUTE_PAIRS, &mut once);
        credentials(levels, &mut once);
        preload(levels, &mut once);
        edited_twice(levels, &mut once);
    }
    cache::check(file, entries, &mut once);
    all.extend(routes);
    for switch in SWITCHES {
        let section = Key::settings().filter(|key| key.section() == switch.section());
        let others: Vec<Key> = section.filter(|key| *key != switch).collect();
        unswitched(&others, &[switch], &all, &mut once);
    }
    for (keys, switches) in NEEDS {
        unswitched(keys, switches, &all, &mut once);
    }
    splits(file, defaults, &noted, notes);
}

fn pairs(levels: &Levels<'_>, pairs: &[Pair], once: &mut Once<'_>) {
    for (switch, short, long) in pairs {
        let (Some(shorter), Some(longer)) = (levels.find(*short), levels.find(*long)) else {
            continue;
        };
        let (Value::Number(less), Value::Number(more)) =
            (&shorter.found.value, &longer.found.value)
        else {
            continue;
        };
        if less <= more || !levels.is_on(*switch) {
            continue;
        }
        // The nearer one was written with the other in force.
        let (place, than, other, value) = if shorter.level < longer.level {
            (&shorter, "more", long, &longer.found.value)
        } else {
            (&longer, "less", short, &shorter.found.value)
        };
        let (path, shown) = (other.spec().path, show(*other, value));
        once.add(
            place,
            Fault::new(format!("{than} than {path}, which is {shown}")),
        );
    }
}

/// Settings that nobody has turned on, or written down to be off.
fn unswitched(keys: &[Key], switches: &[Key], all: &[Levels<'_>], once: &mut Once<'_>) {
    let is_written = |levels: &Levels<'_>| {
        let mut switches = switches.iter();
        switches.any(|switch| levels.written(*switch).next().is_some() || levels.is_noted(*switch))
    };
    if all.iter().any(is_written) {
        return;
    }
    let names: Vec<&str> = switches.iter().map(|switch| switch.spec().path).collect();
    for key in keys {
        for levels in all {
            let default = levels.default(*key);
            for place in levels.written(*key) {
                // What `config show` prints must be taken back.
                if Some(&place.found.value) != default {
                    let names = names.join(" nor ");
                    let neither = if switches.len() > 1 { "neither " } else { "" };
                    let not = if switches.len() > 1 { "" } else { " not" };
                    let fault = format!("it never takes effect: {neither}{names} is{not} set");
                    once.add(&place, Fault::new(fault));
                }
            }
        }
    }
}

/// The Fetch standard (CORS protocol and credentials) lets no browser take this.
fn credentials(levels: &Levels<'_>, once: &mut Once<'_>) {
    if !levels.is_on(Key::CorsCredentials) {
        return;
    }
    let is_any = |value: &Value| {
        if let Value::Origins(origins) = value {
            origins.contains(&Origin::Any)
        } else {
            matches!(value, Value::Words(names) if names.iter().any(|name| **name == *ANY))
        }
    };
    for key in [Key::CorsOrigins, Key::CorsExposedHeaders] {
        let (Some(credentials), Some(any)) = (levels.find(Key::CorsCredentials), levels.find(key))
        else {
            continue;
        };
        if is_any(&any.found.value) {
            let place = if credentials.level < any.level {
                &credentials
            } else {
                &any
            };
            let path = key.spec().path;
            let fault = format!("{path} = [\"*\"] and cors.credentials exclude each other");
            once.add(place, Fault::new(fault).hint("name each of them"));
        }
    }
}

/// What the browsers' list asks for, at hstspreload.org.
fn preload(levels: &Levels<'_>, once: &mut Once<'_>) {
    const YEAR_NS: u64 = 365 * 86_400 * 1_000_000_000;
    let (Some(preload), Some(hsts)) = (levels.find(Key::HstsPreload), levels.find(Key::Hsts))
    else {
        return;
    };
    let is_short =
        matches!(hsts.found.value, Value::Number(age_ns) if (1..YEAR_NS).contains(&age_ns));
    let is_narrow =
        levels.find(Key::HstsSubdomains).is_some() && !levels.is_on(Key::HstsSubdomains);
    if levels.is_on(Key::HstsPreload) && levels.is_on(Key::Hsts) && (is_short || is_narrow) {
        let fault = Fault::new("browsers take no such domain into their list");
        let hint = "set headers.hsts to 8760h or more, and headers.hsts_subdomains = true";
        once.add(&preload, fault.hint(hint));
    }
}

/// Of a field that is set anew, nothing else can be said.
fn edited_twice(levels: &Levels<'_>, once: &mut Once<'_>) {
    for (set, remove) in [
        (Key::RequestSet, Key::RequestRemove),
        (Key::ResponseSet, Key::ResponseRemove),
    ] {
        let (Some(set), Some(removed)) = (levels.find(set), levels.find(remove)) else {
            continue;
        };
        let (Value::Edits(edits), Value::Words(names)) = (&set.found.value, &removed.found.value)
        else {
            continue;
        };
        let mut seen = HashSet::new();
        let mut twice = edits.iter().map(|edit| edit.name.to_ascii_lowercase());
        if let Some(name) = twice.find(|name| !seen.insert(name.clone())) {
            let fault = Fault::new(format!("{name} is set twice"));
            once.add(&set, fault.hint("a further value is added"));
        }
        let is_set = |name: &str| {
            let mut edits = edits.iter();
            edits.any(|edit| edit.name.eq_ignore_ascii_case(name))
        };
        if let Some(name) = names.iter().find(|name| is_set(name)) {
            let place = if set.level < removed.level {
                &set
            } else {
                &removed
            };
            let fault = Fault::new(format!("{name} is both set and removed"));
            once.add(
                place,
                fault.hint("what is set takes the place of what came"),
            );
        }
    }
}

fn body_of_head(levels: &Levels<'_>, once: &mut Once<'_>) {
    let (Some(method), Some(body)) = (levels.find(Key::CheckMethod), levels.find(Key::CheckBody))
    else {
        return;
    };
    let is_head = matches!(&method.found.value, Value::Text(name) if &**name == "HEAD");
    if is_head && body.found.value != Value::Unset && levels.is_on(Key::CheckType) {
        let place = if method.level < body.level {
            &method
        } else {
            &body
        };
        let fault = Fault::new("a response to HEAD has no body");
        once.add(
            place,
            fault.hint("check with GET, or leave health_check.body empty"),
        );
    }
}

/// A consistent hash must have a key. Gives the path of the key that takes effect.
fn hash_key(levels: &Levels<'_>, once: &mut Once<'_>) -> Option<String> {
    let key = levels.find(Key::HashKey)?;
    let Some(algorithm) = levels.find(Key::Algorithm) else {
        return Some(key.path);
    };
    let Value::Choice(at) = algorithm.found.value else {
        return None;
    };
    if CHOOSINGS[at] != Choosing::ConsistentHash {
        return None;
    }
    if key.found.value != Value::Unset {
        return Some(key.path);
    }
    let place = if key.level < algorithm.level {
        &key
    } else {
        &algorithm
    };
    let fault = Fault::new("the hash key is missing: consistent_hash goes by one");
    let keys = Kind::HashKey.bounds();
    once.add(
        place,
        fault.hint(format!("set load_balancer.hash_key to {keys}")),
    );
    None
}

/// A route that leads to several clusters has one set of settings: what it does not set itself must be the same in
/// all of them.
fn splits(file: &File, defaults: &Settings, noted: &HashSet<String>, notes: &mut Notes) {
    let mut indexes = HashMap::new();
    for (at, cluster) in file.clusters.iter().enumerate() {
        if let Some(name) = &cluster.name {
            indexes.entry(name.value.as_str()).or_insert(at);
        }
    }
    let keys: Vec<Key> = Key::settings()
        .filter(|key| key.allows(Scope::Route))
        .collect();
    let inherited = |key: &Key| file.settings.get(key).or(defaults.get(key));
    for (at, route) in file.routes.iter().enumerate() {
        let Some(split) = &route.split else { continue };
        let named = split.value.iter().filter_map(|part| part.cluster.as_ref());
        let clusters: Vec<(&str, usize)> = named
            .filter_map(|name| Some((name.value.as_str(), *indexes.get(name.value.as_str())?)))
            .collect();
        let Some(((first, first_at), others)) = clusters.split_first() else {
            continue;
        };
        let of = |at: usize, key: &Key| {
            let found = file.clusters[at].settings.get(key).or(inherited(key));
            let is_noted =
                !noted.is_empty() && noted.contains(&format!("clusters[{at}].{}", key.spec().path));
            found.filter(|_| !is_noted).map(|found| &found.value)
        };
        for key in keys.iter().filter(|key| !route.settings.contains_key(key)) {
            let Some(value) = of(*first_at, key) else {
                continue;
            };
            let differs = |at: usize| of(at, key).is_some_and(|other| other != value);
            if let Some((other, _)) = others.iter().find(|(_, at)| differs(*at)) {
                let path = key.spec().path;
                let fault = format!("its clusters \"{first}\" and \"{other}\" differ in {path}");
                notes.add(
                    &split.at,
                    &format!("routes[{at}].split"),
                    Fault::new(fault).hint(format!("set {path} in the route")),
                );
            }
        }
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
