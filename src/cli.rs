//! The command line: arguments in, a command out; and the text of the configuration that it names.
//!
//! Decides: commands, flags, which file is read, exit codes. May not know: what a key means, sockets.
//! Invariant: a flag that its command does not take is refused, never ignored.

use std::ffi::OsString;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::config::Source;
use crate::config::keys::{Key, LEVEL_NAMES, LEVELS};
use crate::config::plan::Level;
use crate::config::report::nearest;

/// A larger file is no configuration.
const CONFIG_BYTES_MAX: u64 = 16 * 1024 * 1024;

const DEFAULT_PATHS: [&str; 2] = ["config.toml", "/etc/corelane/config.toml"];

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

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    Run(RunArgs),
    Check(RunArgs),
    Show { run: RunArgs, origins: bool },
    Demo(DemoArgs),
    Mock(MockArgs),
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

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MockArgs {
    pub name: String,
    /// `ip:port` or `unix:/path`.
    pub listen: String,
    pub delay_ms: u64,
    /// Of a hundred requests, how many get `fail_status`.
    pub fail_percent: u8,
    pub fail_status: u16,
    /// The shortest answer, the same for every request: for load tests.
    pub fast: bool,
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

pub const HELP: &str = "\
Corelane, a thread-per-core HTTP/1.1 reverse proxy

USAGE
  corelane [run] [-c FILE]         serve what config.toml says
  corelane check [FILE]            report every problem of a configuration, and end
  corelane config show [--origin]  the effective configuration with its defaults
  corelane demo                    three backends and the proxy in one process
  corelane mock                    one backend that answers, waits and fails on demand
  corelane version                 version, commit and build profile

EXAMPLES
  corelane demo                          then: curl http://127.0.0.1:8080/
  corelane check && corelane             serve only what is free of problems
  corelane -c site.toml --shards 2       another file, two threads
  corelane config show --origin          which value comes from where
  CORELANE_BACKENDS=http://127.0.0.1:3001 corelane    no file at all
  corelane mock --name slow --listen 127.0.0.1:3002 --delay 250 --fail 10

FLAGS of run, check and config show
  -c, --config FILE    else $CORELANE_CONFIG, ./config.toml, /etc/corelane/config.toml
      --shards N       threads that serve (server.shards)
      --log-level L    error, warn, info or debug (log.level)
  -t, --test           the same as check
      --origin         config show: say where each value comes from
FLAGS of demo
      --listen ADDR    where the proxy listens [127.0.0.1:8080]
      --backends N     1 to 9 [3]
FLAGS of mock
      --listen ADDR    ip:port or unix:/path [127.0.0.1:3001]
      --name NAME      what it calls itself in answers [mock]
      --delay MS       milliseconds before each answer [0]
      --fail PERCENT   of a hundred requests, how many fail [0]
      --fail-status N  what a failing request gets [500]
      --fast           the shortest answer, for load tests
FLAGS of all
  -h, --help           this text
  -V, --version        version, commit and build profile

CONFIGURATION
  config.toml is the reference: every key, its default, its meaning.
  CORELANE_SECTION__KEY overrides a key, as in CORELANE_TIMEOUTS__CONNECT=1s, and
  ${NAME:-default} in a value takes a variable. Flag goes before variable, file, default.

EXIT CODES
  0 clean, 1 failure while running, 2 wrong arguments, 71 refused by the system,
  75 drain deadline exceeded, 77 no permission, 78 bad configuration, 128+n by signal n
";

/// A flag: its name, its letter, and whether a value follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flag {
    Config,
    Shards,
    LogLevel,
    Test,
    Origin,
    Listen,
    Backends,
    Name,
    Delay,
    Fail,
    FailStatus,
    Fast,
    Help,
    Version,
}

impl Flag {
    const ALL: [Flag; 14] = [
        Flag::Config,
        Flag::Shards,
        Flag::LogLevel,
        Flag::Test,
        Flag::Origin,
        Flag::Listen,
        Flag::Backends,
        Flag::Name,
        Flag::Delay,
        Flag::Fail,
        Flag::FailStatus,
        Flag::Fast,
        Flag::Help,
        Flag::Version,
    ];

    fn long(self) -> &'static str {
        match self {
            Flag::Config => "config",
            Flag::Shards => "shards",
            Flag::LogLevel => "log-level",
            Flag::Test => "test",
            Flag::Origin => "origin",
            Flag::Listen => "listen",
            Flag::Backends => "backends",
            Flag::Name => "name",
            Flag::Delay => "delay",
            Flag::Fail => "fail",
            Flag::FailStatus => "fail-status",
            Flag::Fast => "fast",
            Flag::Help => "help",
            Flag::Version => "version",
        }
    }

    fn short(self) -> Option<char> {
        match self {
            Flag::Config => Some('c'),
            Flag::Test => Some('t'),
            Flag::Help => Some('h'),
            Flag::Version => Some('V'),
            Flag::Shards
            | Flag::LogLevel
            | Flag::Origin
            | Flag::Listen
            | Flag::Backends
            | Flag::Name
            | Flag::Delay
            | Flag::Fail
            | Flag::FailStatus
            | Flag::Fast => None,
        }
    }

    fn takes_value(self) -> bool {
        match self {
            Flag::Test | Flag::Origin | Flag::Fast | Flag::Help | Flag::Version => false,
            Flag::Config
            | Flag::Shards
            | Flag::LogLevel
            | Flag::Listen
            | Flag::Backends
            | Flag::Name
            | Flag::Delay
            | Flag::Fail
            | Flag::FailStatus => true,
        }
    }
}

/// The first words of a command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Run,
    Check,
    Config,
    Demo,
    Mock,
    Version,
    Help,
}

const VERBS: [(&str, Verb); 7] = [
    ("run", Verb::Run),
    ("check", Verb::Check),
    ("config", Verb::Config),
    ("demo", Verb::Demo),
    ("mock", Verb::Mock),
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
        Verb::Version => Command::Version,
        Verb::Help => Command::Help,
    };
    if let Some(word) = words.next() {
        return Err(usage(format!(
            "\"{}\" is one word too many",
            word.to_string_lossy()
        )));
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
                let known = Flag::ALL
                    .into_iter()
                    .find(|flag| flag.short() == Some(letter));
                known.ok_or_else(|| usage(format!("unknown flag -{letter}")))?
            }
        };
        if found.flags.0.iter().any(|(known, _)| *known == flag) {
            return Err(usage(format!("--{} is given twice", flag.long())));
        }
        let value = if flag.takes_value() {
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
        Some(known) => usage.hint(format!("did you mean {known}?")),
        None if text.ends_with(".toml") => usage.hint(format!("did you mean -c {text}?")),
        None => usage,
    })
}

fn long(name: &str) -> Result<Flag, Usage> {
    if let Some(flag) = Flag::ALL.into_iter().find(|flag| flag.long() == name) {
        return Ok(flag);
    }
    let usage = usage(format!("unknown flag --{name}"));
    Err(
        match nearest(name, Flag::ALL.iter().map(|flag| flag.long())) {
            Some(known) => usage.hint(format!("did you mean --{known}?")),
            None => usage,
        },
    )
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
        let listen = match self.text(Flag::Listen)? {
            None => SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            Some(text) => text.parse().map_err(|_| {
                usage(format!("--listen {text} is no address with a port"))
                    .hint("write 127.0.0.1:8080")
            })?,
        };
        let backends = self.number(Flag::Backends, 3, 1, 9)?;
        Ok(DemoArgs {
            listen,
            backends: u8::try_from(backends).unwrap_or(u8::MAX),
        })
    }

    fn mock(&mut self) -> Result<MockArgs, Usage> {
        Ok(MockArgs {
            name: self.text(Flag::Name)?.unwrap_or_else(|| "mock".to_owned()),
            listen: self
                .text(Flag::Listen)?
                .unwrap_or_else(|| "127.0.0.1:3001".to_owned()),
            delay_ms: self.number(Flag::Delay, 0, 0, 3_600_000)?,
            fail_percent: u8::try_from(self.number(Flag::Fail, 0, 0, 100)?).unwrap_or(100),
            fail_status: u16::try_from(self.number(Flag::FailStatus, 500, 200, 599)?)
                .unwrap_or(500),
            fast: self.has(Flag::Fast),
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
            None => {
                return Err(format!(
                    "there is no configuration: looked for {}\n  name one with -c FILE or CORELANE_CONFIG, or try corelane demo",
                    DEFAULT_PATHS.join(" and ")
                ));
            }
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
        Ok(ConfigText {
            name,
            text,
            environment,
            flags,
        })
    }

    pub fn source(&self) -> Source<'_> {
        Source {
            name: &self.name,
            text: &self.text,
            environment: &self.environment,
            flags: &self.flags,
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

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
        let mock = MockArgs {
            name: "mock".into(),
            listen: "127.0.0.1:3001".into(),
            delay_ms: 0,
            fail_percent: 0,
            fail_status: 500,
            fast: false,
        };
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
            ("mock", Command::Mock(mock.clone())),
            (
                "mock --name a --listen unix:/a --delay 5 --fail 10 --fail-status 503 --fast",
                Command::Mock(MockArgs {
                    name: "a".into(),
                    listen: "unix:/a".into(),
                    delay_ms: 5,
                    fail_percent: 10,
                    fail_status: 503,
                    fast: true,
                }),
            ),
        ];
        for (line, command) in cases {
            assert_eq!(check(line), Ok(command), "{line}");
        }
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
            ("check a.toml b.toml", "\"b.toml\" is one word too many"),
            ("check a.toml -c b.toml", "the file is named twice"),
            ("run a.toml", "\"a.toml\" is one word too many"),
            ("config", "config wants a word\n  corelane config show"),
            (
                "demo --listen 8080",
                "--listen 8080 is no address with a port\n  write 127.0.0.1:8080",
            ),
            ("mock --fail 101", "--fail 101 is not in 0 to 100"),
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
        for flag in Flag::ALL {
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
