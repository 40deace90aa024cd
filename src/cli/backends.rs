//! The words and flags of `corelane backends`.
//!
//! Decides: which words there are, and what must follow each. May not know: which backends there are.
//! Invariant: what is wrong with the words is said before anything is sent.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::admin::client::{Args, What};
use crate::config::kinds::WEIGHT_MAX;
use crate::config::plan::Nanos;
use crate::config::report::nearest;
use crate::config::units::parse_duration;
use crate::policy::health::Mode;

use super::flag::Flag;
use super::{Flags, Usage, usage};
use crate::bench::scenario::Key;

/// How long `--wait` waits where `--timeout` says nothing.
const WAIT_NS: Nanos = 30_000_000_000;

/// Nobody waits for longer.
const WAIT_MAX_NS: Nanos = 86_400_000_000_000;

#[derive(Clone, Copy)]
enum Word {
    List,
    Why,
    Mode(Mode),
    Weight,
    Events,
}

const WORDS: [(&str, Word); 8] = [
    ("list", Word::List),
    ("why", Word::Why),
    ("drain", Word::Mode(Mode::Drain)),
    ("maintenance", Word::Mode(Mode::Maintenance)),
    ("up", Word::Mode(Mode::Up)),
    ("auto", Word::Mode(Mode::Auto)),
    ("weight", Word::Weight),
    ("events", Word::Events),
];

impl Flags {
    pub(super) fn backends(
        &mut self,
        words: &mut impl Iterator<Item = OsString>,
    ) -> Result<Args, Usage> {
        let (name, word) = match words.next() {
            None => ("list", Word::List),
            Some(word) => known(&word.to_string_lossy())?,
        };
        let mut next = |wanted: &str, example: &str| {
            let hint = || format!("corelane backends {name} {example}");
            let word = words.next().map(OsString::into_string);
            let word = word.ok_or_else(|| usage(format!("{name} wants {wanted}")).hint(hint()))?;
            word.map_err(|_| usage(format!("what follows {name} is not UTF-8")))
        };
        let mut backend = |example| next("a backend's URL", example);
        let what = match word {
            Word::List => What::List,
            Word::Events => What::Events,
            Word::Why => What::Why(backend("http://127.0.0.1:3001")?),
            Word::Mode(mode) => {
                let backend = backend("http://127.0.0.1:3001")?;
                let wait_ns = match mode {
                    Mode::Drain | Mode::Maintenance => self.wait()?,
                    Mode::Auto | Mode::Up => None,
                };
                What::Mode {
                    backend,
                    mode,
                    wait_ns,
                }
            }
            Word::Weight => {
                let example = "http://127.0.0.1:3001 2";
                let backend = backend(example)?;
                let text = next("a URL and a number", example)?;
                let weight = text.parse::<u32>().ok();
                let weight = weight.filter(|number| u64::from(*number) <= WEIGHT_MAX);
                let weight = weight
                    .ok_or_else(|| usage(format!("weight {text} is not in 0 to {WEIGHT_MAX}")))?;
                What::Weight { backend, weight }
            }
        };
        Ok(Args {
            what,
            // A stream of events is of all clusters.
            cluster: match word {
                Word::Events => None,
                Word::List | Word::Why | Word::Mode(_) | Word::Weight => {
                    self.text(Flag::Cluster)?
                }
            },
            admin: self.admin()?,
            config: self.take(Flag::Config).map(PathBuf::from),
            json: self.has(Flag::Json),
        })
    }

    /// An address or a name, with a port.
    pub(super) fn admin(&mut self) -> Result<Option<String>, Usage> {
        let Some(text) = self.text(Flag::Admin)? else {
            return Ok(None);
        };
        let bare = text.strip_prefix("http://").unwrap_or(&text);
        let bare = bare.strip_suffix('/').unwrap_or(bare);
        match bare.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
                Ok(Some(bare.to_owned()))
            }
            Some(_) | None => Err(usage(format!("--admin {text} is no address with a port"))
                .hint("write 127.0.0.1:2112")),
        }
    }

    /// For how long to wait, if that is wanted.
    fn wait(&mut self) -> Result<Option<Nanos>, Usage> {
        if !self.has(Flag::Wait) {
            return Ok(None);
        }
        let Some(text) = self.text(Flag::Load(Key::Timeout))? else {
            return Ok(Some(WAIT_NS));
        };
        let timeout_ns = parse_duration(&text).ok();
        let timeout_ns = timeout_ns.filter(|timeout_ns| *timeout_ns <= WAIT_MAX_NS);
        let refused = || usage(format!("--timeout {text} is no duration of up to 24h"));
        timeout_ns
            .map(Some)
            .ok_or_else(|| refused().hint("write 30s or 5m"))
    }
}

fn known(word: &str) -> Result<(&'static str, Word), Usage> {
    if let Some(found) = WORDS.iter().find(|(name, _)| *name == word) {
        return Ok(*found);
    }
    let names = WORDS.map(|(name, _)| name);
    let usage = usage(format!("backends has no \"{word}\""));
    Err(match nearest(word, names) {
        Some(near) => usage.hint(format!("did you mean corelane backends {near}?")),
        None => usage.hint(format!("there are: {}", names.join(", "))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Command, parse};

    fn check(line: &str) -> Result<Args, String> {
        match parse(line.split_whitespace().map(OsString::from)) {
            Ok(Command::Backends(args)) => Ok(args),
            Ok(other) => Err(format!("{other:?}")),
            Err(usage) => Err(usage.to_string()),
        }
    }

    fn args(what: What) -> Args {
        Args {
            what,
            cluster: None,
            admin: None,
            config: None,
            json: false,
        }
    }

    fn mode(mode: Mode, wait_ns: Option<Nanos>) -> What {
        What::Mode {
            backend: "a:1".to_owned(),
            mode,
            wait_ns,
        }
    }

    #[test]
    fn words() {
        let weight = What::Weight {
            backend: "http://a".to_owned(),
            weight: 0,
        };
        let all = Args {
            cluster: Some("c".to_owned()),
            admin: Some("localhost:1".to_owned()),
            config: Some("f".into()),
            json: true,
            ..args(What::List)
        };
        for (line, expected) in [
            ("backends", args(What::List)),
            ("backends list", args(What::List)),
            (
                "backends --json --cluster c --admin http://localhost:1/ -c f",
                all,
            ),
            ("backends why a", args(What::Why("a".to_owned()))),
            ("backends events", args(What::Events)),
            ("backends up a:1", args(mode(Mode::Up, None))),
            ("backends auto a:1", args(mode(Mode::Auto, None))),
            ("backends drain a:1", args(mode(Mode::Drain, None))),
            (
                "backends drain a:1 --wait",
                args(mode(Mode::Drain, Some(30_000_000_000))),
            ),
            (
                "backends maintenance --wait --timeout 5ms a:1",
                args(mode(Mode::Maintenance, Some(5_000_000))),
            ),
            ("backends weight http://a 0", args(weight)),
        ] {
            assert_eq!(check(line), Ok(expected), "{line}");
        }
    }

    #[test]
    fn wrong_words_say_what_was_meant() {
        for (line, message) in [
            (
                "backend",
                "unknown command \"backend\"\n  did you mean backends?",
            ),
            (
                "backends dran a",
                "backends has no \"dran\"\n  did you mean corelane backends drain?",
            ),
            (
                "backends http://a",
                "backends has no \"http://a\"\n  there are: list, why, drain, maintenance, up, auto, weight, events",
            ),
            (
                "backends drain",
                "drain wants a backend's URL\n  corelane backends drain http://127.0.0.1:3001",
            ),
            (
                "backends weight a",
                "weight wants a URL and a number\n  corelane backends weight http://127.0.0.1:3001 2",
            ),
            (
                "backends weight a 70000",
                "weight 70000 is not in 0 to 65535",
            ),
            ("backends why a b", "\"b\" is one word too many"),
            (
                "backends up a --wait",
                "--wait does not belong to this command",
            ),
            (
                "backends drain a --timeout 5s",
                "--timeout does not belong to this command",
            ),
            (
                "backends drain a --wait --timeout 5",
                "--timeout 5 is no duration of up to 24h\n  write 30s or 5m",
            ),
            (
                "backends --admin 2112",
                "--admin 2112 is no address with a port\n  write 127.0.0.1:2112",
            ),
            (
                "backends events --cluster a",
                "--cluster does not belong to this command",
            ),
            (
                "backends --json=x",
                "unexpected argument for option '--json': \"x\"",
            ),
            (
                "backends --clutser x",
                "unknown flag --clutser\n  did you mean --cluster?",
            ),
            (
                "run --cluster a",
                "--cluster does not belong to this command",
            ),
        ] {
            let found = check(line).expect_err(line);
            assert!(
                found.starts_with(&format!("corelane: {message}")),
                "{line}: {found}"
            );
        }
    }
}
