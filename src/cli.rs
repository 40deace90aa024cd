//! The command line: arguments in, a command out.
//!
//! Decides: commands, flags, exit codes. May not know: what a key means, sockets.
//! Invariant: a flag that its command does not take is refused, never ignored.

mod backends;
mod bench;
mod cache;
mod flag;
pub mod text;

use std::ffi::OsString;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use crate::admin::client::Args as AdminArgs;
use crate::bench::Args as BenchArgs;
use crate::bench::compare::Args as CompareArgs;
use crate::config::kinds::{LEVEL_NAMES, LEVELS};
use crate::config::plan::Level;
use crate::config::report::nearest;
use crate::mock::{self, Failure};

use flag::Flag;

/// How the process ends. The numbers are those of sysexits.h where it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Clean,
    Failure,
    Usage,
    /// The system refused something that we need.
    Os,
    /// Connections were cut because the drain deadline passed.
    DrainDeadline,
    Permission,
    Config,
    Signal(u8),
}

impl Exit {
    pub fn code(self) -> u8 {
        match self {
            Exit::Clean => 0,
            Exit::Failure => 1,
            Exit::Usage => 2,
            Exit::Os => 71,
            Exit::DrainDeadline => 75,
            Exit::Permission => 77,
            Exit::Config => 78,
            Exit::Signal(number) => 128_u8.saturating_add(number),
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    Run(RunArgs),
    Check(RunArgs),
    Show {
        run: RunArgs,
        origins: bool,
    },
    Demo(DemoArgs),
    Mock(mock::Args),
    Bench(BenchArgs),
    Compare(CompareArgs),
    /// Bytes both ways and nothing else: what a proxy costs at least.
    Relay {
        listen: SocketAddr,
        to: SocketAddr,
    },
    /// Asks a running proxy, or tells it what to do with a backend.
    Backends(AdminArgs),
    /// Asks a running proxy what it has stored, or makes it forget.
    Cache(AdminArgs),
    Version,
    Help,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunArgs {
    pub config: Option<PathBuf>,
    pub shards: Option<u16>,
    pub log_level: Option<Level>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DemoArgs {
    pub listen: SocketAddr,
    pub backends: u8,
}

/// Wrong arguments.
#[derive(Debug, PartialEq, Eq)]
pub struct Usage {
    message: String,
    hint: Option<String>,
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "corelane: {}", self.message)?;
        if let Some(hint) = &self.hint {
            writeln!(f, "  {hint}")?;
        }
        write!(f, "corelane --help shows how it is used")
    }
}

pub const HELP: &str = include_str!("cli/help.txt");

/// The first words of a command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Run,
    Check,
    Config,
    Demo,
    Mock,
    Bench,
    Backends,
    Cache,
    Version,
    Help,
}

const VERBS: [(&str, Verb); 10] = [
    ("run", Verb::Run),
    ("check", Verb::Check),
    ("config", Verb::Config),
    ("demo", Verb::Demo),
    ("mock", Verb::Mock),
    ("bench", Verb::Bench),
    ("backends", Verb::Backends),
    ("cache", Verb::Cache),
    ("version", Verb::Version),
    ("help", Verb::Help),
];

/// Arguments without the program's name.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, Usage> {
    let Words {
        verb,
        words,
        mut flags,
    } = split(arguments)?;
    if flags.has(Flag::Help) || verb == Some(Verb::Help) {
        return Ok(Command::Help);
    }
    if flags.has(Flag::Version) || verb == Some(Verb::Version) {
        return Ok(Command::Version);
    }
    let test = flags.has(Flag::Test);
    let mut words = words.into_iter();
    let command = match verb.unwrap_or(Verb::Run) {
        Verb::Run if !test => Command::Run(flags.run()?),
        Verb::Run | Verb::Check => {
            let mut run = flags.run()?;
            match (words.next(), &run.config) {
                (Some(_), Some(_)) => return Err(usage("the file is named twice")),
                (Some(word), None) => run.config = Some(word.into()),
                (None, _) => {}
            }
            Command::Check(run)
        }
        Verb::Config => match words.next() {
            Some(word) if word == "show" => {
                let origins = flags.has(Flag::Origin);
                Command::Show {
                    run: flags.run()?,
                    origins,
                }
            }
            Some(_) | None => return Err(usage("config wants a word").hint("corelane config show")),
        },
        Verb::Demo => Command::Demo(flags.demo()?),
        Verb::Mock => Command::Mock(flags.mock()?),
        Verb::Bench => match words.next() {
            None => Command::Bench(flags.bench()?),
            Some(word) if word == "compare" => Command::Compare(flags.compare()?),
            Some(word) if word == "relay" => flags.relay()?,
            Some(word) => {
                let word = word.to_string_lossy();
                let usage = usage(format!("bench has no \"{word}\""));
                return Err(usage.hint("there are: corelane bench, bench compare and bench relay"));
            }
        },
        Verb::Backends => Command::Backends(flags.backends(&mut words)?),
        Verb::Cache => Command::Cache(flags.cache(&mut words)?),
        Verb::Version => Command::Version,
        Verb::Help => Command::Help,
    };
    if let Some(word) = words.next() {
        let word = word.to_string_lossy();
        let usage = usage(format!("\"{word}\" is one word too many"));
        return Err(if word.ends_with(".toml") {
            usage.hint(format!("a file is named by -c {word}"))
        } else {
            usage
        });
    }
    match flags.0.first() {
        Some((flag, _)) => Err(usage(format!(
            "--{} does not belong to this command",
            flag.long()
        ))),
        None => Ok(command),
    }
}

struct Words {
    verb: Option<Verb>,
    /// What stands after the verb and is no flag.
    words: Vec<OsString>,
    flags: Flags,
}

fn split(arguments: impl IntoIterator<Item = OsString>) -> Result<Words, Usage> {
    // `-config FILE` is how Go programs spell it; to lexopt it would be `-c onfig`.
    let arguments = arguments
        .into_iter()
        .map(|argument| match argument.to_str() {
            Some("-config") => "--config".into(),
            Some(text) => match text.strip_prefix("-config=") {
                Some(file) => format!("--config={file}").into(),
                None => argument,
            },
            None => argument,
        });
    let mut found = Words {
        verb: None,
        words: Vec::new(),
        flags: Flags(Vec::new()),
    };
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next().map_err(|error| usage(error.to_string()))? {
        let flag = match argument {
            lexopt::Arg::Value(word) => {
                match found.verb {
                    None => found.verb = Some(verb(&word)?),
                    Some(_) => found.words.push(word),
                }
                continue;
            }
            lexopt::Arg::Long(name) => long(name)?,
            lexopt::Arg::Short(letter) => {
                let known = Flag::all().find(|flag| flag.short() == Some(letter));
                known.ok_or_else(|| usage(format!("unknown flag -{letter}")))?
            }
        };
        if !flag.may_repeat() && found.flags.0.iter().any(|(known, _)| *known == flag) {
            return Err(usage(format!("--{} is given twice", flag.long())));
        }
        // A load test's result goes to a file, what a proxy says to standard output.
        let tells = matches!(found.verb, Some(Verb::Backends | Verb::Cache));
        let is_switch = flag == Flag::Json && tells;
        let value = if flag.takes_value() && !is_switch {
            parser
                .value()
                .map_err(|_| usage(format!("--{} wants a value", flag.long())))?
        } else {
            OsString::new()
        };
        found.flags.0.push((flag, value));
    }
    Ok(found)
}

fn verb(word: &OsString) -> Result<Verb, Usage> {
    let text = word.to_string_lossy();
    if let Some((_, verb)) = VERBS.iter().find(|(name, _)| *name == text) {
        return Ok(*verb);
    }
    let usage = usage(format!("unknown command \"{text}\""));
    Err(match nearest(&text, VERBS.iter().map(|(name, _)| *name)) {
        Some(_) | None if text.ends_with(".toml") => usage.hint(format!("did you mean -c {text}?")),
        Some(known) => usage.hint(format!("did you mean {known}?")),
        None => usage,
    })
}

fn long(name: &str) -> Result<Flag, Usage> {
    if let Some(flag) = Flag::all().find(|flag| flag.long() == name) {
        return Ok(flag);
    }
    let usage = usage(format!("unknown flag --{name}"));
    Err(match nearest(name, Flag::all().map(Flag::long)) {
        Some(known) => usage.hint(format!("did you mean --{known}?")),
        None => usage,
    })
}

/// The flags that were given; each command takes out what it knows.
struct Flags(Vec<(Flag, OsString)>);

impl Flags {
    fn take(&mut self, flag: Flag) -> Option<OsString> {
        let at = self.0.iter().position(|(known, _)| *known == flag)?;
        Some(self.0.remove(at).1)
    }

    fn has(&mut self, flag: Flag) -> bool {
        self.take(flag).is_some()
    }

    fn text(&mut self, flag: Flag) -> Result<Option<String>, Usage> {
        let text = self.take(flag).map(OsString::into_string).transpose();
        text.map_err(|_| usage(format!("--{} is not UTF-8", flag.long())))
    }

    fn number(&mut self, flag: Flag, default: u64, min: u64, max: u64) -> Result<u64, Usage> {
        let Some(text) = self.text(flag)? else {
            return Ok(default);
        };
        let number = text
            .parse()
            .ok()
            .filter(|number| (min..=max).contains(number));
        number.ok_or_else(|| usage(format!("--{} {text} is not in {min} to {max}", flag.long())))
    }

    fn run(&mut self) -> Result<RunArgs, Usage> {
        let config = self.take(Flag::Config).map(PathBuf::from);
        let shards = match self.number(Flag::Shards, 0, 1, 1024)? {
            0 => None,
            number => u16::try_from(number).ok(),
        };
        let log_level = match self.text(Flag::LogLevel)? {
            None => None,
            Some(text) => match LEVEL_NAMES.iter().position(|name| *name == text) {
                Some(at) => Some(LEVELS[at]),
                None => {
                    return Err(usage(format!(
                        "--log-level {text} is none of {}",
                        LEVEL_NAMES.join(", ")
                    )));
                }
            },
        };
        Ok(RunArgs {
            config,
            shards,
            log_level,
        })
    }

    fn demo(&mut self) -> Result<DemoArgs, Usage> {
        let listen = self.address(Flag::Listen, 8080)?;
        let backends = self.number(Flag::Backends, 3, 1, 9)?;
        Ok(DemoArgs {
            listen,
            backends: u8::try_from(backends).unwrap_or(u8::MAX),
        })
    }

    /// An address with a port; on 127.0.0.1 if there is none.
    fn address(&mut self, flag: Flag, default_port: u16) -> Result<SocketAddr, Usage> {
        match self.text(flag)? {
            None => Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, default_port))),
            Some(text) => text.parse().map_err(|_| {
                let flag = flag.long();
                usage(format!("--{flag} {text} is no address with a port"))
                    .hint("write 127.0.0.1:8080")
            }),
        }
    }

    fn mock(&mut self) -> Result<mock::Args, Usage> {
        let name = self.text(Flag::Name)?.unwrap_or_else(|| "mock".to_owned());
        let listen = self.text(Flag::Listen)?;
        let plain = mock::Args {
            listen: listen.unwrap_or_else(|| "127.0.0.1:3001".to_owned()),
            ..mock::Args::named(&name)
        };
        let failure = self.failure()?;
        let percent = if failure.is_some() { 100 } else { 0 };
        let idle_close_ms = self.number(Flag::IdleClose, 0, 1, 3_600_000)?;
        let args = mock::Args {
            delay_ms: self.number(Flag::Delay, 0, 0, 3_600_000)?,
            fail_percent: u8::try_from(self.number(Flag::Fail, percent, 0, 100)?).unwrap_or(100),
            failure: failure.unwrap_or(Failure::Status),
            fail_status: u16::try_from(self.number(Flag::FailStatus, 500, 200, 599)?)
                .unwrap_or(500),
            idle_close_ms: Some(idle_close_ms).filter(|ms| *ms > 0),
            log: self.take(Flag::Log).map(PathBuf::from),
            ..plain.clone()
        };
        if !self.has(Flag::Fast) {
            return Ok(args);
        }
        if args != plain {
            return Err(usage(
                "--fast has one answer: it neither waits, fails nor logs",
            ));
        }
        Ok(mock::Args {
            fast: true,
            ..plain
        })
    }

    fn failure(&mut self) -> Result<Option<Failure>, Usage> {
        let Some(text) = self.text(Flag::FailMode)? else {
            return Ok(None);
        };
        let known = Failure::ALL.into_iter().find(|one| one.name() == text);
        known.map(Some).ok_or_else(|| {
            let names = Failure::ALL.map(Failure::name).join(", ");
            usage(format!("--fail-mode {text} is none of {names}"))
        })
    }
}

fn usage(message: impl Into<String>) -> Usage {
    Usage {
        message: message.into(),
        hint: None,
    }
}

impl Usage {
    fn hint(mut self, hint: impl Into<String>) -> Usage {
        self.hint = Some(hint.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::scenario::Key;

    fn check(line: &str) -> Result<Command, String> {
        parse(line.split_whitespace().map(OsString::from)).map_err(|usage| usage.to_string())
    }

    fn run(config: Option<&str>, shards: Option<u16>, log_level: Option<Level>) -> RunArgs {
        RunArgs {
            config: config.map(PathBuf::from),
            shards,
            log_level,
        }
    }

    #[test]
    fn commands() {
        let plain = run(None, None, None);
        let file = run(Some("a.toml"), None, None);
        let cases = [
            ("", Command::Run(plain.clone())),
            ("run", Command::Run(plain.clone())),
            ("-c a.toml", Command::Run(file.clone())),
            ("-ca.toml", Command::Run(file.clone())),
            ("-config a.toml", Command::Run(file.clone())),
            ("-config=a.toml", Command::Run(file.clone())),
            ("--config=a.toml run", Command::Run(file.clone())),
            (
                "--shards 2 --log-level debug",
                Command::Run(run(None, Some(2), Some(Level::Debug))),
            ),
            ("check", Command::Check(plain.clone())),
            ("check a.toml", Command::Check(file.clone())),
            ("check -c a.toml", Command::Check(file.clone())),
            ("-t", Command::Check(plain.clone())),
            ("-tc a.toml", Command::Check(file.clone())),
            (
                "config show",
                Command::Show {
                    run: plain.clone(),
                    origins: false,
                },
            ),
            (
                "config show --origin -c a.toml",
                Command::Show {
                    run: file,
                    origins: true,
                },
            ),
            ("version", Command::Version),
            ("-V", Command::Version),
            ("demo --help", Command::Help),
            ("help", Command::Help),
            (
                "demo",
                Command::Demo(DemoArgs {
                    listen: ([127, 0, 0, 1], 8080).into(),
                    backends: 3,
                }),
            ),
            (
                "demo --listen [::1]:0",
                Command::Demo(DemoArgs {
                    listen: "[::1]:0".parse().unwrap(),
                    backends: 3,
                }),
            ),
        ];
        for (line, command) in cases {
            assert_eq!(check(line), Ok(command), "{line}");
        }
    }

    #[test]
    fn mocks() {
        let mock = mock::Args {
            listen: "127.0.0.1:3001".into(),
            ..mock::Args::named("mock")
        };
        let cases = [
            ("mock", mock.clone()),
            (
                "mock --name a --listen unix:/a --delay 5 --fail 10 --fail-status 503 --idle-close 7 --log l",
                mock::Args {
                    name: "a".into(),
                    listen: "unix:/a".into(),
                    delay_ms: 5,
                    fail_percent: 10,
                    failure: Failure::Status,
                    fail_status: 503,
                    idle_close_ms: Some(7),
                    log: Some("l".into()),
                    fast: false,
                },
            ),
            (
                "mock --fail-mode hang",
                mock::Args {
                    fail_percent: 100,
                    failure: Failure::Hang,
                    ..mock.clone()
                },
            ),
            (
                "mock --fail-mode reset --fail 7",
                mock::Args {
                    fail_percent: 7,
                    failure: Failure::Reset,
                    ..mock.clone()
                },
            ),
            (
                "mock --fast",
                mock::Args {
                    fast: true,
                    ..mock.clone()
                },
            ),
        ];
        for (line, args) in cases {
            assert_eq!(check(line), Ok(Command::Mock(args)), "{line}");
        }
    }

    #[test]
    fn load_tests() {
        let cases = [
            ("bench", Command::Bench(BenchArgs::default())),
            (
                "bench --url http://a --header A:b --header C:d --scenario s --scale 0.1 --json j --html h",
                Command::Bench(BenchArgs {
                    scenario: Some("s".into()),
                    scale: Some(0.1),
                    json: Some("j".into()),
                    html: Some("h".into()),
                    settings: vec![
                        (Key::Url, "http://a".into()),
                        (Key::Header, "A:b".into()),
                        (Key::Header, "C:d".into()),
                    ],
                }),
            ),
        ];
        for (line, command) in cases {
            assert_eq!(check(line), Ok(command), "{line}");
        }
        let compare = CompareArgs {
            only: vec!["small".into(), "64k".into()],
            peers: vec!["nginx".into()],
            extra: vec![("old".into(), "a/b".into())],
            rounds: 3,
            seconds: 0.5,
            json: Some("j".into()),
            show_config: false,
            list: true,
        };
        let line = "bench compare --only small,64k --peers nginx --extra old=a/b --rounds 3 --seconds 0.5 --json j --list";
        assert_eq!(check(line), Ok(Command::Compare(compare)));
        let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let relay = Command::Relay {
            listen: address(8080),
            to: address(9),
        };
        assert_eq!(check("bench relay --to 127.0.0.1:9"), Ok(relay));
    }

    #[test]
    fn wrong_arguments_say_what_was_meant() {
        let cases = [
            (
                "--shard 2",
                "unknown flag --shard\n  did you mean --shards?",
            ),
            ("--banana", "unknown flag --banana\n"),
            ("-x", "unknown flag -x\n"),
            ("chekc", "unknown command \"chekc\"\n  did you mean check?"),
            (
                "a.toml",
                "unknown command \"a.toml\"\n  did you mean -c a.toml?",
            ),
            ("--shards", "--shards wants a value"),
            ("--shards 0", "--shards 0 is not in 1 to 1024"),
            ("--shards x", "--shards x is not in 1 to 1024"),
            ("--shards 1 --shards 2", "--shards is given twice"),
            (
                "--log-level loud",
                "--log-level loud is none of error, warn, info, debug",
            ),
            ("run --fast", "--fast does not belong to this command"),
            ("mock -c a.toml", "--config does not belong to this command"),
            (
                "check a.toml b.toml",
                "\"b.toml\" is one word too many\n  a file is named by -c b.toml",
            ),
            ("check a.toml -c b.toml", "the file is named twice"),
            (
                "run a.toml",
                "\"a.toml\" is one word too many\n  a file is named by -c a.toml",
            ),
            (
                "config.toml",
                "unknown command \"config.toml\"\n  did you mean -c config.toml?",
            ),
            ("config", "config wants a word\n  corelane config show"),
            (
                "demo --listen 8080",
                "--listen 8080 is no address with a port\n  write 127.0.0.1:8080",
            ),
            ("run --rate 5", "--rate does not belong to this command"),
            (
                "bench --rat 5",
                "unknown flag --rat\n  did you mean --rate?",
            ),
            ("bench --scale 0", "--scale 0 is not in 0.001 to 100"),
            ("bench --url a --url b", "--url is given twice"),
            ("mock --fail 101", "--fail 101 is not in 0 to 100"),
            (
                "mock --fail-mode halt",
                "--fail-mode halt is none of status, hang, reset, close",
            ),
            ("mock --fast --fail 1", "--fast has one answer"),
            (
                "--origin=yes config show",
                "unexpected argument for option '--origin': \"yes\"",
            ),
        ];
        for (line, message) in cases {
            let found = check(line).expect_err(line);
            assert!(
                found.starts_with(&format!("corelane: {message}")),
                "{line}: {found}"
            );
        }
    }

    #[test]
    fn help_names_every_flag_and_command() {
        for flag in Flag::all() {
            assert!(HELP.contains(&format!("--{}", flag.long())), "{flag:?}");
            if let Some(letter) = flag.short() {
                assert!(
                    HELP.contains(&format!("-{letter}, --{}", flag.long())),
                    "{flag:?}"
                );
            }
        }
        for (name, _) in VERBS.iter().filter(|(name, _)| *name != "help") {
            assert!(HELP.contains(name), "{name}");
        }
    }
}
