//! Text → `File` → `Plan`.
//!
//! Decides: what a configuration means, and everything that is wrong with it, at once. May not know: sockets,
//! clocks, threads, where the text comes from. Invariant: the same sources always give the same plan or the
//! same report; there is no half-accepted configuration.
//!
//! Reading order: `keys` (the one list of keys), `load` below, `read` (TOML and environment to a raw tree),
//! `value` (raw to typed), `file`, `check`, `resolve`, `plan`; `report` says what is wrong, `show` what counts.

pub mod access;
mod address;
pub mod cache;
mod causes;
mod chain;
mod check;
mod conflicts;
pub mod file;
pub mod files;
mod filters;
pub mod keys;
pub mod kinds;
mod levels;
mod limits;
mod list;
mod matching;
pub mod message;
pub mod pages;
pub mod plan;
pub(crate) mod read;
pub mod report;
mod resolve;
pub mod secrets;
mod show;
mod tree;
pub(crate) mod units;
pub mod value;

use file::{File, Found, Settings};
use files::Files;
use keys::Key;
use plan::Plan;
use report::{At, Notes, Problems};

/// Everything that a configuration is made of. A flag goes before the environment, that before the file.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// The file's name, for reports.
    pub name: &'a str,
    pub text: &'a str,
    /// All variables of the process.
    pub environment: &'a [(String, String)],
    /// Keys that flags of the command line set: key, flag, value.
    pub flags: &'a [(Key, &'static str, String)],
    /// Reads the files that values name.
    pub files: Files<'a>,
}

impl<'a> Source<'a> {
    /// A text alone: no environment, no flags, no files.
    pub fn of(name: &'a str, text: &'a str) -> Source<'a> {
        Source {
            name,
            text,
            environment: &[],
            flags: &[],
            files: &files::none,
        }
    }
}

/// Reads and checks a configuration. `corelane check` and `corelane run` are both this.
pub fn load(source: Source<'_>) -> Result<(File, Plan), Problems> {
    let mut notes = Notes::default();
    let defaults = defaults();
    let members = read::document(source.text, source.environment, &mut notes);
    let mut file = File::read(members.as_deref().unwrap_or(&[]), source.files, &mut notes);
    for (key, node) in read::overrides(source.environment, &mut notes) {
        file.set(key, &node, source.files, &mut notes);
    }
    for (key, flag, value) in source.flags {
        let node = read::loose(value, At::Flag(flag));
        file.set(*key, &node, source.files, &mut notes);
    }
    // What a broken text seems to leave out may well be in it.
    if members.is_some() {
        check::check(&file, &defaults, &mut notes);
    }
    if !notes.is_empty() {
        return Err(notes.finish(source.name, source.text));
    }
    let plan = resolve::plan(&file, &defaults);
    Ok((file, plan))
}

/// The effective configuration as TOML; with `origins`, each value says where it came from.
pub fn show(source: Source<'_>, origins: bool) -> Result<String, Problems> {
    let (file, _) = load(source)?;
    Ok(show::render(
        &file,
        &defaults(),
        source.name,
        source.text,
        origins,
    ))
}

/// The default of every key.
pub fn defaults() -> Settings {
    let mut notes = Notes::default();
    let default = |key: Key| {
        let node = read::value(key.spec().default, &mut notes)?;
        let value = value::read(key, &node, key.spec().path, &files::none, &mut notes)?;
        Some((
            key,
            Found {
                value,
                at: At::Default,
            },
        ))
    };
    Key::settings().filter_map(default).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_a_value_of_its_key() {
        let defaults = defaults();
        for key in Key::settings() {
            let found = defaults.get(&key).unwrap_or_else(|| panic!("{key:?}"));
            assert_eq!(
                value::show(key, &found.value),
                key.spec().default,
                "{key:?}"
            );
        }
    }
}
