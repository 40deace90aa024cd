//! Rules that no request reaches.
//!
//! Decides: which rules can never match, because others take all that they would. May not know: the text of the
//! configuration. Invariant: what is reported is never matched; not all that is never matched is found.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};

use super::normal::is_border;
use super::{HostPattern, MethodName, PathPattern, Rule, host_key, path_key};

/// The rules of each place, in their order.
type Table = HashMap<Place, Vec<usize>, BuildHasherDefault<DefaultHasher>>;

/// For the configuration's checker: pairs of a rule that can never match and one that shadows it. A rule is shadowed
/// when for each of its hosts, and each of its methods, another is asked before it and wants no more of a request: an
/// earlier one with the same path, or one of a higher priority with the same or a wider path and host.
pub fn unreachable(rules: &[Rule]) -> Vec<(usize, usize)> {
    let mut table = Table::default();
    for (at, rule) in rules.iter().enumerate() {
        for place in places(rule) {
            table.entry(place).or_default().push(at);
        }
    }
    let highest = rules.iter().map(|rule| rule.priority).max();
    let pairs = rules.iter().enumerate().map(|(at, rule)| {
        let is_highest = Some(rule.priority) == highest;
        let shadows = places(rule).into_iter().map(|place| {
            let mut before = asked_before(rules, &table, at, &place);
            if !is_highest {
                before.extend(wider(&place).flat_map(|place| above(rules, &table, at, &place)));
            }
            before.retain(|other| rules[*other].conditions.cover(&rule.conditions));
            before.sort_unstable();
            shadow_of(rules, &before, &rule.methods)
        });
        let shadows: Option<Vec<usize>> = shadows.collect();
        Some((at, shadows?.into_iter().max()?))
    });
    pairs.flatten().collect()
}

/// The rules of a place that are asked before the one at `at`, which is there too.
fn asked_before(rules: &[Rule], table: &Table, at: usize, place: &Place) -> Vec<usize> {
    let earlier = table.get(place).into_iter().flatten().copied();
    earlier
        .take_while(|other| *other < at)
        .filter(|other| rules[*other].priority == rules[at].priority)
        .collect()
}

/// The rules of a place that have a higher priority than the one at `at`.
fn above(rules: &[Rule], table: &Table, at: usize, place: &Place) -> Vec<usize> {
    let all = table.get(place).into_iter().flatten().copied();
    all.filter(|other| rules[*other].priority > rules[at].priority)
        .collect()
}

/// Where a rule stands in the table.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Place {
    host: PlaceHost,
    is_exact: bool,
    path: Box<[u8]>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum PlaceHost {
    Any,
    Exact(Box<[u8]>),
    Suffix(Box<[u8]>),
}

fn places(rule: &Rule) -> Vec<Place> {
    let (is_exact, path) = match &rule.path {
        PathPattern::Exact(path) => (true, path_key(path)),
        PathPattern::Prefix(path) => (false, path_key(path)),
    };
    let hosts = rule.hosts.iter().map(|host| match host {
        HostPattern::Exact(name) => PlaceHost::Exact(host_key(name)),
        HostPattern::Suffix(name) => PlaceHost::Suffix(host_key(name)),
    });
    let any = rule.hosts.is_empty().then_some(PlaceHost::Any);
    hosts
        .chain(any)
        .map(|host| Place {
            host,
            is_exact,
            path: path.clone(),
        })
        .collect()
}

/// The place itself, and all whose hosts and paths are all of this one's and more. As many as the host has labels times
/// the segments of the path.
fn wider(place: &Place) -> impl Iterator<Item = Place> {
    let hosts = wider_hosts(&place.host);
    let paths = wider_paths(place);
    hosts.into_iter().flat_map(move |host| {
        let paths = paths.clone().into_iter();
        paths.map(move |(is_exact, path)| Place {
            host: host.clone(),
            is_exact,
            path,
        })
    })
}

fn wider_hosts(host: &PlaceHost) -> Vec<PlaceHost> {
    let name: &[u8] = match host {
        PlaceHost::Any => return vec![PlaceHost::Any],
        PlaceHost::Exact(name) | PlaceHost::Suffix(name) => name,
    };
    // A suffix has a label before it: a dot at the beginning is no place to cut.
    let suffixes = memchr::memchr_iter(b'.', name)
        .filter(|dot| *dot > 0)
        .map(|dot| PlaceHost::Suffix(name[dot + 1..].into()));
    let mut hosts = vec![host.clone(), PlaceHost::Any];
    hosts.extend(suffixes);
    hosts
}

fn wider_paths(place: &Place) -> Vec<(bool, Box<[u8]>)> {
    let path = &place.path;
    let prefixes = (1..=path.len()).filter(|length| is_border(path, *length));
    let mut paths: Vec<_> = prefixes
        .map(|length| (false, path[..length].into()))
        .collect();
    if place.is_exact {
        paths.push((true, path.clone()));
    }
    paths
}

/// The last of the rules asked before that it takes to cover all of `methods`; `None` if they do not.
fn shadow_of(rules: &[Rule], before: &[usize], methods: &[MethodName]) -> Option<usize> {
    let covers = |at: &&usize, method: &MethodName| {
        rules[**at].methods.is_empty() || rules[**at].methods.contains(method)
    };
    if methods.is_empty() {
        return before
            .iter()
            .find(|at| rules[**at].methods.is_empty())
            .copied();
    }
    let mut last = 0;
    for method in methods {
        last = last.max(*before.iter().find(|at| covers(at, method))?);
    }
    Some(last)
}
