//! The text of the configuration that the arguments name, with the variables and flags that go before it.
//!
//! Decides: which file is read. May not know: what stands in it. Invariant: what was read is valid UTF-8 and
//! of bounded size.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::RunArgs;
use crate::config::Source;
use crate::config::files::FILE_BYTES_MAX;
use crate::config::keys::Key;
use crate::config::kinds::{LEVEL_NAMES, LEVELS};

/// A larger file is no configuration.
const CONFIG_BYTES_MAX: u64 = 16 * 1024 * 1024;

const DEFAULT_PATHS: [&str; 2] = ["config.toml", "/etc/corelane/config.toml"];

/// Everything that a configuration is made of, owned.
#[derive(Debug)]
pub struct ConfigText {
    pub name: String,
    pub text: String,
    pub environment: Vec<(String, String)>,
    pub flags: Vec<(Key, &'static str, String)>,
}

impl ConfigText {
    /// Reads the file that the arguments name, or the first default one that exists.
    /// The error is a message for the person; its exit code is `Exit::Config`.
    pub fn read(args: &RunArgs, environment: Vec<(String, String)>) -> Result<ConfigText, String> {
        let found = ConfigText::find(args, environment)?;
        found.ok_or_else(|| {
            format!(
                "there is no configuration: looked for {}\n  name one with -c FILE or CORELANE_CONFIG, or try corelane demo",
                DEFAULT_PATHS.join(" and ")
            )
        })
    }

    /// The same; `None` when none is named and no default one exists.
    pub fn find(
        args: &RunArgs,
        environment: Vec<(String, String)>,
    ) -> Result<Option<ConfigText>, String> {
        let get = |name: &str| {
            environment
                .iter()
                .find(|(known, _)| known == name)
                .map(|(_, value)| value.as_str())
        };
        let named = args.config.clone().or(get("CORELANE_CONFIG")
            .filter(|path| !path.is_empty())
            .map(PathBuf::from));
        let exists = || {
            DEFAULT_PATHS
                .iter()
                .map(PathBuf::from)
                .find(|path| path.exists())
        };
        let (name, text) = match named.or_else(exists) {
            Some(path) => (path.display().to_string(), read_file(&path)?),
            None if get("CORELANE_BACKENDS").is_some() => ("(no file)".to_owned(), String::new()),
            None => return Ok(None),
        };
        let mut flags = Vec::new();
        if let Some(shards) = args.shards {
            flags.push((Key::ServerShards, "--shards", shards.to_string()));
        }
        if let Some(level) = args.log_level {
            let name = LEVELS
                .iter()
                .position(|known| *known == level)
                .map_or("", |at| LEVEL_NAMES[at]);
            flags.push((Key::LogLevel, "--log-level", name.to_owned()));
        }
        Ok(Some(ConfigText {
            name,
            text,
            environment,
            flags,
        }))
    }

    pub fn source(&self) -> Source<'_> {
        Source {
            name: &self.name,
            text: &self.text,
            environment: &self.environment,
            flags: &self.flags,
            files: &value_of_file,
        }
    }
}

/// A file that a value names. One byte too many shows that it is too long.
fn value_of_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let most = FILE_BYTES_MAX as u64 + 1;
    File::open(path)?.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// All variables; one that is not UTF-8 keeps what is.
pub fn environment() -> Vec<(String, String)> {
    let text = |text: OsString| text.to_string_lossy().into_owned();
    std::env::vars_os()
        .map(|(name, value)| (text(name), text(value)))
        .collect()
}

fn read_file(path: &Path) -> Result<String, String> {
    let name = path.display();
    let metadata =
        std::fs::metadata(path).map_err(|error| format!("cannot read {name}: {error}"))?;
    if metadata.len() > CONFIG_BYTES_MAX {
        return Err(format!(
            "{name} has more than {} MiB",
            CONFIG_BYTES_MAX >> 20
        ));
    }
    let bytes = std::fs::read(path).map_err(|error| format!("cannot read {name}: {error}"))?;
    String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count()
            + 1;
        format!("{name}:{line}: not UTF-8")
    })
}
