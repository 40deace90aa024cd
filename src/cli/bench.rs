//! The flags of `corelane bench`, `bench compare` and `bench relay`.
//!
//! Decides: which flags are settings of a load test and which say where its result goes. May not know: what a
//! setting means. Invariant: settings come in the order of [`Key::ALL`], headers in the order of the command line.

use std::path::PathBuf;

use crate::bench::Args;
use crate::bench::compare::Args as CompareArgs;
use crate::bench::scenario::Key;

use super::{Command, Flag, Flags, Usage, usage};

/// Nobody waits for more.
const ROUNDS_MAX: u64 = 100;
const SECONDS_MAX: f64 = 600.0;

impl Flags {
    pub(super) fn bench(&mut self) -> Result<Args, Usage> {
        let mut settings = Vec::new();
        for key in Key::ALL {
            while let Some(text) = self.text(Flag::Load(key))? {
                settings.push((key, text));
            }
        }
        Ok(Args {
            scenario: self.take(Flag::Scenario).map(PathBuf::from),
            scale: self.scale()?,
            json: self.take(Flag::Json).map(PathBuf::from),
            html: self.take(Flag::Html).map(PathBuf::from),
            settings,
        })
    }

    pub(super) fn compare(&mut self) -> Result<CompareArgs, Usage> {
        let mut extra = Vec::new();
        while let Some(text) = self.text(Flag::Extra)? {
            match text.split_once('=') {
                Some((name, path)) => extra.push((name.to_owned(), PathBuf::from(path))),
                None => return Err(usage("--extra wants NAME=BINARY")),
            }
        }
        let rounds = self.number(Flag::Rounds, 5, 1, ROUNDS_MAX)?;
        Ok(CompareArgs {
            only: self.names(Flag::Only)?,
            peers: self.names(Flag::Peers)?,
            extra,
            rounds: u32::try_from(rounds).unwrap_or(u32::MAX),
            seconds: self.seconds()?,
            json: self.take(Flag::Json).map(PathBuf::from),
            show_config: self.has(Flag::ShowConfig),
            list: self.has(Flag::List),
        })
    }

    pub(super) fn relay(&mut self) -> Result<Command, Usage> {
        Ok(Command::Relay {
            listen: self.address(Flag::Listen, 8080)?,
            to: self.address(Flag::To, 3001)?,
        })
    }

    /// Names between commas.
    fn names(&mut self, flag: Flag) -> Result<Vec<String>, Usage> {
        let text = self.text(flag)?.unwrap_or_default();
        let names = text.split(',').map(str::trim);
        Ok(names
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect())
    }

    fn seconds(&mut self) -> Result<f64, Usage> {
        let Some(text) = self.text(Flag::Seconds)? else {
            return Ok(2.0);
        };
        let seconds = text.parse::<f64>().ok();
        let seconds = seconds.filter(|seconds| (0.2..=SECONDS_MAX).contains(seconds));
        seconds.ok_or_else(|| usage(format!("--seconds {text} is not in 0.2 to {SECONDS_MAX}")))
    }

    fn scale(&mut self) -> Result<Option<f64>, Usage> {
        let Some(text) = self.text(Flag::Scale)? else {
            return Ok(None);
        };
        let scale = text.parse::<f64>().ok();
        let scale = scale.filter(|scale| (0.001..=100.0).contains(scale));
        scale
            .map(Some)
            .ok_or_else(|| usage(format!("--scale {text} is not in 0.001 to 100")))
    }
}
