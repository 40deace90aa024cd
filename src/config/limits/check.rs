//! What is wrong with rate limits that are fine one by one.
//!
//! Decides: which limits could never do anything, or contradict each other. May not know: TOML, the environment.
//! Invariant: a limit that many routes share is noted once.

use std::collections::{HashMap, HashSet};

use super::{LIST, RATES, SECTION, Written, of_route};
use crate::config::file::{File, Found, Limit, Route, Settings};
use crate::config::keys::Key;
use crate::config::kinds::{ALL_LIMITS_MAX, LIMITS_MAX};
use crate::config::plan::Nanos;
use crate::config::report::{At, Fault, Notes};
use crate::config::units::show_duration;
use crate::config::value::Value;
use crate::policy::limit::{Action, KeyPart, RateLimit};

/// No client waits for longer, and what waits takes a connection.
const WAIT_MAX_NS: Nanos = 60_000_000_000;

/// Notes every contradiction. `knows_user` says whether some identity is asked for in a route.
pub(in crate::config) fn check(
    file: &File,
    defaults: &Settings,
    knows_user: impl Fn(Option<&Route>) -> bool,
    notes: &mut Notes,
) {
    places(file, defaults, notes);
    without_rate(file, defaults, notes);
    let routes: Vec<Option<(usize, &Route)>> = if file.routes.is_empty() {
        vec![None]
    } else {
        file.routes.iter().enumerate().map(Some).collect()
    };
    let mut said = HashSet::new();
    let mut names: HashMap<Box<str>, String> = HashMap::new();
    for route in routes {
        let all = of_route(file, defaults, route);
        let route = route.map(|(_, route)| route);
        for (at, written) in all.iter().enumerate() {
            let twice = name_twice(written, &mut names);
            let idle = implied(&all, at);
            let unknown = (written.is_by_user() && !knows_user(route)).then(nobody);
            let long = waits(&written.limit);
            for fault in [twice, idle, unknown, long].into_iter().flatten() {
                if said.insert(written.path.clone()) {
                    notes.add(written.at, &written.path, fault);
                }
            }
        }
    }
    if names.len() > ALL_LIMITS_MAX {
        let fault = format!(
            "{} limits, at most {ALL_LIMITS_MAX} are allowed",
            names.len()
        );
        notes.add(
            &At::Default,
            LIST,
            Fault::new(fault).hint("routes that inherit one share it"),
        );
    }
}

fn nobody() -> Fault {
    Fault::new("nobody is known: a route that has this limit asks for no identity").hint(
        "set access.basic_users, access.api_keys or a key for tokens, or count by \"header:NAME\"",
    )
}

/// The last of a burst waits for all that came before it.
fn waits(limit: &RateLimit) -> Option<Fault> {
    let before = u64::from(limit.quota.burst) - 1;
    let wait_ns = before.saturating_mul(limit.quota.interval_ns);
    if limit.action != Action::Delay || wait_ns <= WAIT_MAX_NS {
        return None;
    }
    // In whole seconds; half of what fits is 292 years.
    let wait = show_duration(wait_ns.min(u64::MAX / 2).next_multiple_of(1_000_000_000));
    let max = show_duration(WAIT_MAX_NS);
    let fault = format!("requests would wait for up to {wait}, {max} is the most");
    Some(Fault::new(fault).hint("set a smaller burst, a higher rate, or action = \"reject\""))
}

/// Metrics and fields tell limits apart by name.
fn name_twice(written: &Written<'_>, names: &mut HashMap<Box<str>, String>) -> Option<Fault> {
    let name = &written.limit.name;
    match names.get(name) {
        Some(path) if *path != written.path => Some(Fault::new(format!(
            "\"{name}\" is the name of {path} already"
        ))),
        Some(_) => None,
        None => {
            names.insert(name.clone(), written.path.clone());
            None
        }
    }
}

/// What passes a limit passes every other of the same key that refills at least as fast and holds at least as much.
fn implied(all: &[Written<'_>], at: usize) -> Option<Fault> {
    let idle = &all[at].limit;
    let same = |key: &[KeyPart], other: &[KeyPart]| {
        key.len() == other.len() && key.iter().all(|part| other.contains(part))
    };
    let by = all.iter().enumerate().find(|(other, written)| {
        let limit = &written.limit;
        let stricter = limit.quota.interval_ns >= idle.quota.interval_ns
            && limit.quota.burst <= idle.quota.burst;
        let equal = limit.quota.interval_ns == idle.quota.interval_ns
            && limit.quota.burst == idle.quota.burst;
        // Of two that are equal, the second one is too many. One in shadow refuses nothing.
        *other != at
            && stricter
            && (!equal || *other < at)
            && limit.action == idle.action
            && !limit.shadow
            && !idle.shadow
            && same(&limit.key, &idle.key)
    });
    let (_, by) = by?;
    let fault = format!(
        "conflicting limits: it never refuses what {} lets pass",
        by.path
    );
    Some(Fault::new(fault).hint("of two limits with one key, the slower one has the larger burst"))
}

/// In one place stands one rate.
fn places(file: &File, defaults: &Settings, notes: &mut Notes) {
    one_rate(&file.settings, SECTION, notes);
    lists(file.rate_limits.as_deref(), "", defaults, notes);
    for (at, route) in file.routes.iter().enumerate() {
        let prefix = format!("routes[{at}].");
        one_rate(&route.settings, &format!("{prefix}{SECTION}"), notes);
        lists(route.rate_limits.as_deref(), &prefix, defaults, notes);
    }
}

fn lists(list: Option<&[Limit]>, prefix: &str, defaults: &Settings, notes: &mut Notes) {
    let list = list.unwrap_or_default();
    if list.is_empty() {
        return;
    }
    if let Some(first) = list.get(LIMITS_MAX) {
        let fault = format!("{} limits, at most {LIMITS_MAX} are allowed", list.len());
        notes.add(&first.at, &format!("{prefix}{LIST}"), Fault::new(fault));
    }
    let noted = notes.paths();
    for (at, limit) in list.iter().enumerate() {
        let path = format!("{prefix}{LIST}[{at}]");
        one_rate(&limit.settings, &path, notes);
        lease(&limit.settings, defaults, None, &path, notes);
        if !names_rate(&limit.settings) && !is_rate_noted(&noted, &path) {
            let fault = Fault::new("missing: a limit has a rate");
            let path = format!("{path}.{}", Key::RatePerSecond.leaf());
            notes.add(
                &limit.at,
                &path,
                fault.hint("set requests_per_second, requests_per_minute or requests_per_hour"),
            );
        }
    }
}

fn names_rate(settings: &Settings) -> bool {
    RATES.iter().any(|(key, _)| settings.contains_key(key))
}

/// Whether a rate of the place with this path was written, but could not be read.
fn is_rate_noted(noted: &HashSet<String>, path: &str) -> bool {
    let mut leaves = RATES
        .iter()
        .flat_map(|(key, _)| [Some(key.leaf()), key.alias()])
        .flatten();
    !noted.is_empty() && leaves.any(|leaf| noted.contains(&format!("{path}.{leaf}")))
}

fn one_rate(settings: &Settings, path: &str, notes: &mut Notes) {
    let mut named = RATES.iter().filter_map(|(key, _)| {
        let found = settings.get(key)?;
        matches!(found.value, Value::Number(_)).then_some((key.leaf(), found))
    });
    let Some((first, _)) = named.next() else {
        return;
    };
    for (leaf, found) in named {
        let fault = Fault::new(format!("{first} is set too")).hint("keep one of them");
        notes.add(&found.at, &format!("{path}.{leaf}"), fault);
    }
}

/// A lease means nothing to a limit that is exact.
fn lease(
    settings: &Settings,
    defaults: &Settings,
    above: Option<&Settings>,
    path: &str,
    notes: &mut Notes,
) {
    let Some(lease) = settings.get(&Key::RateLease) else {
        return;
    };
    let is_default = |found: &Found<Value>| {
        let default = defaults.get(&Key::RateLease);
        default.is_some_and(|default| default.value == found.value)
    };
    let mode = settings
        .get(&Key::RateMode)
        .or(above.and_then(|above| above.get(&Key::RateMode)))
        .or(defaults.get(&Key::RateMode));
    if !is_default(lease) && mode.is_some_and(|mode| mode.value == Value::Choice(0)) {
        let fault = Fault::new("it never takes effect: the mode is \"exact\"");
        notes.add(
            &lease.at,
            &format!("{path}.{}", Key::RateLease.leaf()),
            fault.hint("set mode = \"leased\", or leave the key out"),
        );
    }
}

/// Settings of the section where nobody named a rate.
fn without_rate(file: &File, defaults: &Settings, notes: &mut Notes) {
    let names_rate = |settings: &Settings| RATES.iter().any(|(key, _)| settings.contains_key(key));
    let noted = notes.paths();
    let top = (String::new(), &file.settings, None);
    let each = file.routes.iter().enumerate();
    let each = each.map(|(at, route)| {
        let above = Some(&file.settings);
        (format!("routes[{at}]."), &route.settings, above)
    });
    let some_route = file.routes.iter().any(|route| names_rate(&route.settings));
    for (prefix, settings, above) in std::iter::once(top).chain(each) {
        let path = format!("{prefix}{SECTION}");
        lease(settings, defaults, above, &path, notes);
        // What the top level says of limits may be meant for those that routes turn on.
        let is_on = match above {
            Some(above) => names_rate(settings) || names_rate(above),
            None => names_rate(settings) || some_route,
        };
        if is_on || is_rate_noted(&noted, &path) || is_rate_noted(&noted, SECTION) {
            continue;
        }
        for (key, found) in settings.iter().filter(|(key, _)| key.section() == SECTION) {
            let default = defaults.get(key);
            if default.is_none_or(|default| default.value != found.value) {
                let fault = Fault::new("it never takes effect: no rate is set");
                notes.add(
                    &found.at,
                    &format!("{prefix}{}", key.spec().path),
                    fault.hint("set rate_limit.requests_per_second"),
                );
            }
        }
    }
}
