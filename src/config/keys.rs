//! What a configuration key is; all of them stand in `list`.
//!
//! Decides: what is said of a key. The reader, its did-you-mean, `config show` and the test of `config.toml` all walk
//! the list. May not know: files, plans. Invariant: every default is a valid value of its key (a test reads each of
//! them).

use super::kinds::Kind;

/// Where a key may stand. A route's value goes before its cluster's, that before the top level's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    Top,
    Cluster,
    Route,
}

const TOP: &[Scope] = &[Scope::Top];
const CLUSTERS: &[Scope] = &[Scope::Top, Scope::Cluster];
const ROUTES: &[Scope] = &[Scope::Top, Scope::Cluster, Scope::Route];
/// One limit of the top level is shared by all routes; in a cluster it would be unclear whose it is.
const LIMITS: &[Scope] = &[Scope::Top, Scope::Route];

#[derive(Debug)]
pub struct Spec {
    /// `section.key`; for `Kind::Structure` the place in the tree, `clusters[].name`.
    pub path: &'static str,
    pub scopes: &'static [Scope],
    pub kind: Kind,
    /// As it is written in TOML; empty for `Kind::Structure`.
    pub default: &'static str,
    pub meaning: &'static str,
}

const MS: u64 = 1_000_000;
const HOUR: u64 = 3_600 * 1_000 * MS;
const DAY: u64 = 24 * HOUR;
const KIB: u64 = 1024;

const fn duration(max: u64, off: bool) -> Kind {
    Kind::Duration { min: MS, max, off }
}

const fn whole(min: u64, max: u64) -> Kind {
    Kind::Whole {
        min,
        max,
        word: None,
    }
}

const fn or_off(min: u64, max: u64) -> Kind {
    Kind::Whole {
        min,
        max,
        word: Some("off"),
    }
}

/// Below it, one piece of a few KiB would hold a connection for longer than any client waits.
const fn bandwidth() -> Kind {
    Kind::Bandwidth {
        min: KIB,
        max: 1 << 40,
    }
}

macro_rules! keys {
    ($($key:ident $path:literal $scopes:ident $kind:expr, $default:literal, $meaning:literal;)*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Key { $($key),* }

        impl Key {
            pub const ALL: &'static [Key] = &[$(Key::$key),*];

            pub fn spec(self) -> &'static Spec {
                match self {
                    $(Key::$key => const {
                        &Spec { path: $path, scopes: $scopes, kind: $kind, default: $default, meaning: $meaning }
                    },)*
                }
            }
        }
    };
}

mod list;

pub use list::Key;

/// Other words for some keys.
const ALIASES: [(&str, Key); 3] = [
    ("rps", Key::RatePerSecond),
    ("max_size", Key::CacheMaxEntries),
    ("ttl", Key::CacheTtl),
];

impl Key {
    /// All keys with a generic value.
    pub fn settings() -> impl Iterator<Item = Key> {
        Key::ALL
            .iter()
            .copied()
            .filter(|key| !matches!(key.spec().kind, Kind::Structure))
    }

    pub fn section(self) -> &'static str {
        self.spec()
            .path
            .split_once('.')
            .map_or("", |(section, _)| section)
    }

    pub fn leaf(self) -> &'static str {
        self.spec()
            .path
            .rsplit_once('.')
            .map_or(self.spec().path, |(_, leaf)| leaf)
    }

    /// Another word for it.
    pub fn alias(self) -> Option<&'static str> {
        let mut aliases = ALIASES.iter();
        let (alias, _) = aliases.find(|(_, key)| *key == self)?;
        Some(alias)
    }

    /// The words of a `Kind::Choice`, in the order of its `Value::Choice`.
    pub fn choices(self) -> &'static [&'static str] {
        if let Kind::Choice(names) = self.spec().kind {
            names
        } else {
            &[]
        }
    }

    /// The variable that overrides this key at the top level.
    pub fn variable(self) -> String {
        format!(
            "CORELANE_{}",
            self.spec().path.replace('.', "__").to_ascii_uppercase()
        )
    }

    pub fn allows(self, scope: Scope) -> bool {
        self.spec().scopes.contains(&scope)
    }
}
