//! Which value counts in one place, and where it was written.
//!
//! Decides: the order of the levels, and whose a value is. May not know: what keys mean together. Invariant: a value that
//! could not be read counts for nothing, and hides what is above it.

use std::collections::{HashMap, HashSet};

use super::file::{File, Found, Route, Settings};
use super::keys::Key;
use super::read::join;
use super::report::{Fault, Notes};
use super::value::Value;

/// The settings that count for a cluster, nearest first, each level with the path before its keys.
pub(super) struct Levels<'a> {
    pub(super) all: Vec<(String, &'a Settings)>,
    /// Paths of what could not be read.
    pub(super) noted: &'a HashSet<String>,
}

/// A value that counts, and where it was written.
pub(super) struct Place<'a> {
    pub(super) found: &'a Found<Value>,
    pub(super) path: String,
    pub(super) level: usize,
}

impl<'a> Levels<'a> {
    /// `None` if a value that could not be read would count.
    pub(super) fn find(&self, key: Key) -> Option<Place<'a>> {
        for (level, (prefix, settings)) in self.all.iter().enumerate() {
            // Nearly always there is nothing, for each of many routes.
            let found = settings.get(&key);
            if found.is_none() && self.noted.is_empty() {
                continue;
            }
            let path = join(prefix, key.spec().path);
            if let Some(found) = found {
                return Some(Place { found, path, level });
            }
            if self.noted.contains(&path) {
                return None;
            }
        }
        None
    }

    /// Whether a value of this key was written, but could not be read.
    pub(super) fn is_noted(&self, key: Key) -> bool {
        let mut levels = self.all.iter();
        !self.noted.is_empty()
            && levels.any(|(prefix, _)| self.noted.contains(&join(prefix, key.spec().path)))
    }

    /// All values of a key but the default.
    pub(super) fn written(&self, key: Key) -> impl Iterator<Item = Place<'a>> {
        let levels = self.all[..self.all.len() - 1].iter().enumerate();
        levels.filter_map(move |(level, (prefix, settings))| {
            let found = settings.get(&key)?;
            let path = join(prefix, key.spec().path);
            Some(Place { found, path, level })
        })
    }

    pub(super) fn default(&self, key: Key) -> Option<&'a Value> {
        let (_, defaults) = self.all.last()?;
        defaults.get(&key).map(|found| &found.value)
    }

    pub(super) fn is_on(&self, key: Key) -> bool {
        // Of the choices that can be off, that is the first.
        let is_off = |value: &Value| {
            matches!(
                value,
                Value::Choice(0) | Value::Number(0) | Value::Flag(false)
            )
        };
        self.find(key)
            .is_some_and(|place| !is_off(&place.found.value))
    }
}

/// Notes each path once.
pub(super) struct Once<'a> {
    pub(super) said: HashSet<String>,
    pub(super) notes: &'a mut Notes,
}

impl Once<'_> {
    pub(super) fn add(&mut self, place: &Place<'_>, fault: Fault) {
        if self.said.insert(place.path.clone()) {
            self.notes.add(&place.found.at, &place.path, fault);
        }
    }
}

/// The settings that count for each route, those of its cluster among them.
pub(super) fn of_routes<'a>(
    file: &'a File,
    above: &[(String, &'a Settings)],
    noted: &'a HashSet<String>,
) -> Vec<Levels<'a>> {
    let mut clusters = HashMap::new();
    for (at, cluster) in file.clusters.iter().enumerate() {
        if let Some(name) = &cluster.name {
            let level = (format!("clusters[{at}]"), &cluster.settings);
            clusters.entry(name.value.as_str()).or_insert(level);
        }
    }
    let levels = |(at, route): (usize, &'a Route)| {
        let split = route.split.iter().flat_map(|split| &split.value);
        let mut named = split.map(|part| &part.cluster).chain([&route.cluster]);
        // The clusters of a split agree in what the route does not set.
        let cluster = named.find_map(|name| clusters.get(name.as_ref()?.value.as_str()));
        let own = (format!("routes[{at}]"), &route.settings);
        let all = std::iter::once(own).chain(cluster.cloned());
        Levels {
            all: all.chain(above.iter().cloned()).collect(),
            noted,
        }
    };
    file.routes.iter().enumerate().map(levels).collect()
}
