//! Every flag.
//!
//! Decides: names, letters, and whether a value follows. May not know: which command takes which.
//! Invariant: no two flags share a name or a letter.

use crate::bench::scenario::Key;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flag {
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
    FailMode,
    FailStatus,
    IdleClose,
    Log,
    Fast,
    Scenario,
    Scale,
    Json,
    Html,
    Only,
    Peers,
    Extra,
    Rounds,
    Seconds,
    ShowConfig,
    List,
    To,
    Admin,
    Cluster,
    Wait,
    Prefix,
    Tag,
    All,
    /// A key of a load test's scenario.
    Load(Key),
    Help,
    Version,
}

/// What a flag looks like.
struct Shape {
    long: &'static str,
    short: Option<char>,
    takes_value: bool,
}

/// `--long VALUE`
const fn value(long: &'static str) -> Shape {
    Shape {
        long,
        short: None,
        takes_value: true,
    }
}

/// `--long`
const fn switch(long: &'static str) -> Shape {
    Shape {
        long,
        short: None,
        takes_value: false,
    }
}

impl Shape {
    const fn or(self, letter: char) -> Shape {
        Shape {
            short: Some(letter),
            ..self
        }
    }
}

impl Flag {
    const OWN: [Flag; 35] = [
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
        Flag::FailMode,
        Flag::FailStatus,
        Flag::IdleClose,
        Flag::Log,
        Flag::Fast,
        Flag::Scenario,
        Flag::Scale,
        Flag::Json,
        Flag::Html,
        Flag::Only,
        Flag::Peers,
        Flag::Extra,
        Flag::Rounds,
        Flag::Seconds,
        Flag::ShowConfig,
        Flag::List,
        Flag::To,
        Flag::Admin,
        Flag::Cluster,
        Flag::Wait,
        Flag::Prefix,
        Flag::Tag,
        Flag::All,
        Flag::Help,
        Flag::Version,
    ];

    pub(super) fn all() -> impl Iterator<Item = Flag> {
        Flag::OWN.into_iter().chain(Key::ALL.map(Flag::Load))
    }

    fn shape(self) -> Shape {
        match self {
            Flag::Config => value("config").or('c'),
            Flag::Shards => value("shards"),
            Flag::LogLevel => value("log-level"),
            Flag::Test => switch("test").or('t'),
            Flag::Origin => switch("origin"),
            Flag::Listen => value("listen"),
            Flag::Backends => value("backends"),
            Flag::Name => value("name"),
            Flag::Delay => value("delay"),
            Flag::Fail => value("fail"),
            Flag::FailMode => value("fail-mode"),
            Flag::FailStatus => value("fail-status"),
            Flag::IdleClose => value("idle-close"),
            Flag::Log => value("log"),
            Flag::Fast => switch("fast"),
            Flag::Scenario => value("scenario"),
            Flag::Scale => value("scale"),
            Flag::Json => value("json"),
            Flag::Html => value("html"),
            Flag::Only => value("only"),
            Flag::Peers => value("peers"),
            Flag::Extra => value("extra"),
            Flag::Rounds => value("rounds"),
            Flag::Seconds => value("seconds"),
            Flag::ShowConfig => switch("show-config"),
            Flag::List => switch("list"),
            Flag::To => value("to"),
            Flag::Admin => value("admin"),
            Flag::Cluster => value("cluster"),
            Flag::Wait => switch("wait"),
            Flag::Prefix => value("prefix"),
            Flag::Tag => value("tag"),
            Flag::All => switch("all"),
            Flag::Load(key) => value(key.flag()),
            Flag::Help => switch("help").or('h'),
            Flag::Version => switch("version").or('V'),
        }
    }

    pub(super) fn long(self) -> &'static str {
        self.shape().long
    }

    pub(super) fn short(self) -> Option<char> {
        self.shape().short
    }

    pub(super) fn takes_value(self) -> bool {
        self.shape().takes_value
    }

    pub(super) fn may_repeat(self) -> bool {
        matches!(self, Flag::Extra | Flag::Load(Key::Header))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_letters_are_unique() {
        let all: Vec<Flag> = Flag::all().collect();
        for (at, flag) in all.iter().enumerate() {
            for other in &all[..at] {
                assert_ne!(flag.long(), other.long());
                assert!(flag.short().is_none() || flag.short() != other.short());
            }
        }
    }
}
