//! The reference, `config.toml`: every key, its default and its meaning.

use std::collections::BTreeSet;

use corelane::config::defaults;
use corelane::config::keys::{Key, Scope};
use corelane::config::kinds::Kind;

use super::{REFERENCE, load, long_reference};

#[test]
fn the_reference_loads_to_exactly_the_defaults() {
    let defaults = defaults();
    let (file, plan) = load(REFERENCE, &[], &[])
        .map_err(|report| panic!("{report}"))
        .unwrap();
    for key in Key::settings() {
        let found = file
            .settings
            .get(&key)
            .unwrap_or_else(|| panic!("config.toml lacks {}", key.spec().path));
        assert_eq!(found.value, defaults[&key].value, "{}", key.spec().path);
    }
    let urls: Vec<&str> = plan.backends.iter().map(|backend| &*backend.url).collect();
    assert_eq!(
        urls,
        [
            "http://127.0.0.1:3001",
            "http://127.0.0.1:3002",
            "http://127.0.0.1:3003"
        ]
    );
}

#[test]
fn the_reference_has_every_key_and_no_other() {
    let text = long_reference();
    // No other: an unknown key would be a problem.
    load(&text, &[], &[]).unwrap_or_else(|report| panic!("{report}"));
    let mut found = BTreeSet::from(["backends".to_owned()]);
    let table: toml::Table = toml::from_str(&text).unwrap();
    paths(&toml::Value::Table(table), "", &mut found);
    for key in Key::ALL {
        assert!(
            found.contains(key.spec().path),
            "config.toml lacks {}",
            key.spec().path
        );
    }
}

fn paths(value: &toml::Value, path: &str, found: &mut BTreeSet<String>) {
    found.insert(path.to_owned());
    match value {
        toml::Value::Table(table) => {
            for (name, value) in table {
                paths(
                    value,
                    &if path.is_empty() {
                        name.clone()
                    } else {
                        format!("{path}.{name}")
                    },
                    found,
                );
            }
        }
        toml::Value::Array(items) => items
            .iter()
            .for_each(|item| paths(item, &format!("{path}[]"), found)),
        _ => {}
    }
}

#[test]
fn the_reference_says_what_each_key_means_and_takes() {
    let lines: Vec<&str> = REFERENCE.lines().collect();
    for key in Key::ALL {
        let spec = key.spec();
        let remark = match &spec.kind {
            Kind::Structure => format!("# {}", spec.meaning),
            kind => format!("# {} ({})", spec.meaning, kind.bounds()),
        };
        let at = lines
            .iter()
            .position(|line| *line == remark)
            .unwrap_or_else(|| panic!("config.toml lacks: {remark}"));
        let next = lines[at + 1].trim_start_matches(['#', '[']);
        assert!(next.contains(key.leaf()), "{remark}\n{next}");
    }
}

#[test]
fn every_top_level_key_has_a_variable_and_scopes_nest() {
    for key in Key::settings() {
        assert!(key.allows(Scope::Top), "{key:?}");
        // Only limits of rates may be a route's without being a cluster's.
        assert!(
            !key.allows(Scope::Route)
                || key.allows(Scope::Cluster)
                || key.section() == "rate_limit",
            "{key:?}"
        );
        assert_eq!(key.spec().path, format!("{}.{}", key.section(), key.leaf()));
    }
}
