//! Scenario files and flags → what a run is and what it must reach.
//!
//! Decides: keys, units, bounds, defaults. May not know: sockets, other than that a host has an address.
//! Invariant: every problem of a file is reported at once with its place; nothing is half accepted.

mod value;

use crate::config::plan::Nanos;
use crate::config::read::{Member, Node, Raw, document, join, loose};
use crate::config::report::{At, Fault, Notes, Problems};
use crate::config::value::wrong_type;

use super::address::{Url, field};
use super::load::{Expect, Load, Message, Stage};
use super::verdict::{Measure, Threshold};
use value::{duration, each, flag, method, noted, percent, size, text, unknown, whole};

const SECOND: Nanos = 1_000_000_000;
const STAGES_MAX: usize = 64;
const URLS_MAX: usize = 64;
const USERS_MAX: u64 = 100_000;
const RATE_MAX: u64 = 10_000_000;
const DURATION_MAX: Nanos = 24 * 3600 * SECOND;
const BODY_BYTES_MAX: u64 = 1 << 30;
const CONNECTIONS_DEFAULT: u32 = 64;

/// Keys that stand at the top of a scenario and are flags as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    Url,
    Method,
    Header,
    Body,
    Chunked,
    KeepAlive,
    Pipeline,
    Connections,
    Idle,
    Clients,
    Threads,
    Timeout,
    Think,
    Requests,
    WarmUp,
    ExpectStatus,
    ExpectBody,
    /// The three that are a scenario's stages, as flags only.
    Users,
    Rate,
    Duration,
}

impl Key {
    pub const ALL: [Key; 20] = [
        Key::Url,
        Key::Method,
        Key::Header,
        Key::Body,
        Key::Chunked,
        Key::KeepAlive,
        Key::Pipeline,
        Key::Connections,
        Key::Idle,
        Key::Clients,
        Key::Threads,
        Key::Timeout,
        Key::Think,
        Key::Requests,
        Key::WarmUp,
        Key::ExpectStatus,
        Key::ExpectBody,
        Key::Users,
        Key::Rate,
        Key::Duration,
    ];

    /// As a flag; in a file, underscores stand for the dashes.
    pub fn flag(self) -> &'static str {
        match self {
            Key::Url => "url",
            Key::Method => "method",
            Key::Header => "header",
            Key::Body => "body",
            Key::Chunked => "chunked",
            Key::KeepAlive => "keep-alive",
            Key::Pipeline => "pipeline",
            Key::Connections => "connections",
            Key::Idle => "idle",
            Key::Clients => "clients",
            Key::Threads => "threads",
            Key::Timeout => "timeout",
            Key::Think => "think",
            Key::Requests => "requests",
            Key::WarmUp => "warm-up",
            Key::ExpectStatus => "expect-status",
            Key::ExpectBody => "expect-body",
            Key::Users => "users",
            Key::Rate => "rate",
            Key::Duration => "duration",
        }
    }

    fn is_in_files(self) -> bool {
        !matches!(self, Key::Users | Key::Rate | Key::Duration)
    }
}

/// A scenario: a run without the addresses and CPUs of this machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    pub name: String,
    pub about: String,
    pub urls: Vec<Url>,
    pub message: Message,
    pub load: Load,
    pub stages: Vec<Stage>,
    pub keep_alive: bool,
    pub client_addresses: u32,
    pub idle_connections: u32,
    /// 0: as many as suit the machine.
    pub threads: usize,
    pub warm_up_ns: Nanos,
    pub timeout_ns: Nanos,
    pub requests_max: Option<u64>,
    pub expect: Expect,
    pub thresholds: Vec<Threshold>,
}

/// What is wrong, and with what.
#[derive(Debug)]
pub enum Wrong {
    Flags(Problems),
    File(Problems),
}

/// Puts a scenario together from a file (name and text), if there is one, and flags, which go first.
pub fn load(file: Option<(&str, &str)>, flags: &[(Key, String)]) -> Result<Scenario, Wrong> {
    let mut draft = Draft::default();
    if let Some((name, text)) = file {
        let mut notes = Notes::default();
        if let Some(members) = document(text, &[], &mut notes) {
            draft.file(&members, &mut notes);
            draft.check(At::Default, &mut notes);
        }
        if !notes.is_empty() {
            return Err(Wrong::File(notes.finish(name, text)));
        }
    }
    let mut notes = Notes::default();
    draft.flags(flags, file.is_some(), &mut notes);
    if notes.is_empty() {
        draft.check(At::Flag("bench"), &mut notes);
        if draft.urls.is_empty() {
            let fault = Fault::new("no target").hint("name it: --url http://127.0.0.1:8080/");
            notes.add(&At::Flag("--url"), "", fault);
        }
    }
    if !notes.is_empty() {
        return Err(Wrong::Flags(notes.finish("the command line", "")));
    }
    Ok(draft.finish(file.map(|(name, _)| name)))
}

/// Which loop the stages ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    Users,
    Rate,
}

impl Pace {
    fn name(self) -> &'static str {
        match self {
            Pace::Users => "users",
            Pace::Rate => "rate",
        }
    }

    fn max(self) -> u64 {
        match self {
            Pace::Users => USERS_MAX,
            Pace::Rate => RATE_MAX,
        }
    }
}

#[derive(Debug, Default)]
struct Draft {
    name: Option<String>,
    about: String,
    urls: Vec<Url>,
    method: Option<String>,
    fields: Vec<(String, String)>,
    body_bytes: u64,
    is_chunked: bool,
    keep_alive: Option<bool>,
    pipeline: Option<u16>,
    connections: Option<u32>,
    idle: u32,
    clients: u32,
    threads: usize,
    timeout_ns: Option<Nanos>,
    think_ns: Option<Nanos>,
    requests_max: Option<u64>,
    warm_up_ns: Nanos,
    expect: Expect,
    pace: Option<Pace>,
    stages: Vec<Stage>,
    thresholds: Vec<Threshold>,
    /// Of the flags.
    users: Option<u64>,
    rate: Option<u64>,
    duration_ns: Option<Nanos>,
}

impl Draft {
    fn file(&mut self, members: &[Member], notes: &mut Notes) {
        for member in members {
            let name = member.name.as_str();
            let known = Key::ALL
                .into_iter()
                .filter(|key| key.is_in_files())
                .find(|key| key.flag().replace('-', "_") == name);
            match (known, name) {
                (Some(key), _) => self.set(key, &member.node, name, notes),
                (None, "name" | "about") => {
                    if let Some(text) = noted(text(&member.node), &member.node, name, notes) {
                        match name {
                            "name" => self.name = Some(text.to_owned()),
                            _ => self.about = text.to_owned(),
                        }
                    }
                }
                (None, "stages") => self.stages(&member.node, notes),
                (None, "thresholds") => self.thresholds(&member.node, notes),
                (None, _) => {
                    let flags = Key::ALL.map(|key| key.flag().replace('-', "_"));
                    let known = flags.iter().map(String::as_str);
                    let others = ["name", "about", "stages", "thresholds"];
                    unknown(member, name, known.chain(others), notes);
                }
            }
        }
        if !members.iter().any(|member| member.name == "stages") {
            let fault = Fault::new("the scenario has no stages")
                .hint("write [[stages]] with users or rate, and a duration");
            notes.add(&At::Default, "", fault);
        }
    }

    fn flags(&mut self, flags: &[(Key, String)], has_file: bool, notes: &mut Notes) {
        let mut cleared = false;
        for (key, value) in flags {
            let at = At::Flag(key.flag());
            if has_file && !key.is_in_files() {
                let fault = Fault::new("the scenario's stages say that")
                    .hint("--scale makes all of them shorter");
                notes.add(&at, "", fault);
                continue;
            }
            // Headers of flags take the place of those of the file, like everything else.
            if *key == Key::Header && !std::mem::replace(&mut cleared, true) {
                self.fields.clear();
            }
            self.set(*key, &loose(value, at), "", notes);
        }
        if has_file {
            return;
        }
        let (pace, level) = match (self.users, self.rate) {
            (Some(_), Some(_)) => {
                let fault = Fault::new("either users, who wait for answers, or a rate");
                notes.add(&At::Flag("rate"), "", fault);
                return;
            }
            (None, Some(rate)) => (Pace::Rate, rate),
            (users, None) => (Pace::Users, users.unwrap_or(10)),
        };
        self.pace = Some(pace);
        self.stages = vec![Stage {
            from: level as f64,
            to: level as f64,
            duration_ns: self.duration_ns.unwrap_or(10 * SECOND),
        }];
    }

    fn set(&mut self, key: Key, node: &Node, path: &str, notes: &mut Notes) {
        let fault = match key {
            Key::Url => return self.set_urls(node, path, notes),
            Key::Header => return self.set_fields(node, path, notes),
            Key::ExpectStatus => return self.set_statuses(node, path, notes),
            Key::Method => method(node).map(|method| self.method = Some(method)),
            Key::Body => size(node, BODY_BYTES_MAX).map(|bytes| self.body_bytes = bytes),
            Key::ExpectBody => {
                size(node, u64::MAX).map(|bytes| self.expect.body_bytes = Some(bytes))
            }
            Key::Chunked => flag(node).map(|flag| self.is_chunked = flag),
            Key::KeepAlive => flag(node).map(|flag| self.keep_alive = Some(flag)),
            Key::Pipeline => whole(node, 1, 64).map(|n| self.pipeline = Some(n as u16)),
            Key::Connections => {
                whole(node, 1, USERS_MAX).map(|n| self.connections = Some(n as u32))
            }
            Key::Idle => whole(node, 0, USERS_MAX).map(|n| self.idle = n as u32),
            Key::Clients => whole(node, 0, 60_000).map(|n| self.clients = n as u32),
            Key::Threads => whole(node, 1, 256).map(|n| self.threads = n as usize),
            Key::Timeout => duration(node, 3600 * SECOND).map(|ns| self.timeout_ns = Some(ns)),
            Key::Think => duration(node, 3600 * SECOND).map(|ns| self.think_ns = Some(ns)),
            Key::Requests => whole(node, 1, u64::MAX).map(|n| self.requests_max = Some(n)),
            Key::WarmUp => duration(node, DURATION_MAX).map(|ns| self.warm_up_ns = ns),
            Key::Users => whole(node, 1, USERS_MAX).map(|n| self.users = Some(n)),
            Key::Rate => whole(node, 1, RATE_MAX).map(|n| self.rate = Some(n)),
            Key::Duration => duration(node, DURATION_MAX).map(|ns| self.duration_ns = Some(ns)),
        };
        noted(fault, node, path, notes);
    }

    fn set_urls(&mut self, node: &Node, path: &str, notes: &mut Notes) {
        let parse = |node: &Node| Url::parse(text(node)?);
        self.urls = each(node, path, URLS_MAX, parse, notes);
    }

    fn set_fields(&mut self, node: &Node, path: &str, notes: &mut Notes) {
        let parse = |node: &Node| field(text(node)?);
        self.fields.extend(each(node, path, 64, parse, notes));
    }

    fn set_statuses(&mut self, node: &Node, path: &str, notes: &mut Notes) {
        let parse = |node: &Node| whole(node, 200, 599).map(|status| status as u16);
        self.expect.statuses = each(node, path, 64, parse, notes);
    }

    fn stages(&mut self, node: &Node, notes: &mut Notes) {
        let Raw::List(nodes) = &node.raw else {
            let fault = wrong_type("tables", &node.raw).hint("write [[stages]]");
            return notes.add(&node.at, "stages", fault);
        };
        if nodes.is_empty() || nodes.len() > STAGES_MAX {
            let count = nodes.len();
            let fault = Fault::new(format!("{count} stages, 1 to {STAGES_MAX} are allowed"));
            return notes.add(&node.at, "stages", fault);
        }
        for (at, node) in nodes.iter().enumerate() {
            self.stage(node, &format!("stages[{at}]"), notes);
        }
    }

    fn stage(&mut self, node: &Node, path: &str, notes: &mut Notes) {
        let Raw::Table(members) = &node.raw else {
            return notes.add(&node.at, path, wrong_type("a table", &node.raw));
        };
        let (mut level, mut from, mut length) = (None, None, None);
        for member in members {
            let (name, node) = (member.name.as_str(), &member.node);
            let path = join(path, name);
            match name {
                "users" | "rate" => {
                    let pace = if name == "users" {
                        Pace::Users
                    } else {
                        Pace::Rate
                    };
                    level = noted(whole(node, 0, pace.max()), node, &path, notes).or(Some(0));
                    if self.pace.is_some_and(|known| known != pace) {
                        let fault = Fault::new("a scenario has either users or a rate");
                        notes.add(&member.name_at, &path, fault);
                    }
                    self.pace = Some(pace);
                }
                "from" => from = noted(whole(node, 0, RATE_MAX), node, &path, notes),
                "duration" => {
                    length = noted(duration(node, DURATION_MAX), node, &path, notes).or(Some(1));
                }
                _ => unknown(member, &path, ["users", "rate", "from", "duration"], notes),
            }
        }
        match (level, length) {
            (Some(to), Some(duration_ns)) => {
                let before = self.stages.last().map(|stage| stage.to);
                let from = from.map(|from| from as f64).or(before);
                self.stages.push(Stage {
                    from: from.unwrap_or(to as f64),
                    to: to as f64,
                    duration_ns: duration_ns.max(1),
                });
            }
            (None, _) => notes.add(&node.at, path, Fault::new("neither users nor rate")),
            (Some(_), None) => notes.add(&node.at, path, Fault::new("no duration")),
        }
    }

    fn thresholds(&mut self, node: &Node, notes: &mut Notes) {
        let Raw::Table(members) = &node.raw else {
            return notes.add(&node.at, "thresholds", wrong_type("a table", &node.raw));
        };
        for member in members {
            let (name, node) = (member.name.as_str(), &member.node);
            let path = join("thresholds", name);
            let Some(measure) = Measure::ALL.into_iter().find(|one| one.name() == name) else {
                unknown(member, &path, Measure::ALL.map(Measure::name), notes);
                continue;
            };
            let most = if measure.is_share() {
                percent(node)
            } else {
                duration(node, 3600 * SECOND).map(|ns| ns as f64)
            };
            if let Some(most) = noted(most, node, &path, notes) {
                self.thresholds.push(Threshold { measure, most });
            }
        }
    }

    /// What single values cannot say.
    fn check(&self, at: At, notes: &mut Notes) {
        let mut refuse = |path: &str, text: &str| notes.add(&at, path, Fault::new(text));
        if self.pace == Some(Pace::Rate) {
            if self.pipeline.is_some_and(|depth| depth > 1) {
                refuse("pipeline", "an open loop has no pipelining");
            }
            if self.think_ns.is_some() {
                refuse("think", "only users think; a rate is a rate");
            }
        }
        if self.keep_alive == Some(false) && self.pipeline.is_some_and(|depth| depth > 1) {
            refuse(
                "pipeline",
                "there is nothing to pipeline on a connection for one request",
            );
        }
        let users = self.stages.iter().map(|stage| stage.from.max(stage.to));
        let users = users.fold(0.0, f64::max);
        let few = self.connections.is_some_and(|few| f64::from(few) < users);
        if self.pace == Some(Pace::Users) && few {
            refuse("connections", "each user needs at least one");
        }
        let stages = self.stages.iter().map(|stage| stage.duration_ns);
        let duration_ns = stages.sum::<u64>();
        if duration_ns > DURATION_MAX {
            refuse("stages", "together they are longer than a day");
        }
        if self.warm_up_ns > 0 && self.warm_up_ns >= duration_ns {
            refuse("warm_up", "nothing is left of the run to be counted");
        }
        let loopback = |url: &Url| url.host == "localhost" || url.host.starts_with("127.");
        if self.clients > 0 && !self.urls.iter().all(loopback) {
            refuse(
                "clients",
                "other client addresses are there only towards 127.0.0.0/8",
            );
        }
    }

    fn finish(self, file: Option<&str>) -> Scenario {
        let pace = self.pace.unwrap_or(Pace::Users);
        let has_body = self.body_bytes > 0;
        let method = self
            .method
            .unwrap_or_else(|| if has_body { "POST" } else { "GET" }.into());
        Scenario {
            name: self
                .name
                .or_else(|| file.map(str::to_owned))
                .unwrap_or_else(|| {
                    let level = self.stages.first().map_or(0.0, |stage| stage.to);
                    format!("{} {level}", pace.name())
                }),
            about: self.about,
            urls: self.urls,
            message: Message {
                method,
                fields: self.fields,
                body_bytes: self.body_bytes,
                is_chunked: self.is_chunked,
            },
            load: match pace {
                Pace::Users => Load::Closed {
                    think_ns: self.think_ns.unwrap_or(0),
                    pipeline: self.pipeline.unwrap_or(1),
                    connections: self.connections.unwrap_or(0),
                },
                Pace::Rate => Load::Open {
                    connections: self.connections.unwrap_or(CONNECTIONS_DEFAULT),
                },
            },
            stages: self.stages,
            keep_alive: self.keep_alive.unwrap_or(true),
            client_addresses: self.clients,
            idle_connections: self.idle,
            threads: self.threads,
            warm_up_ns: self.warm_up_ns,
            timeout_ns: self.timeout_ns.unwrap_or(10 * SECOND),
            requests_max: self.requests_max,
            expect: self.expect,
            thresholds: self.thresholds,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(text: &str, flags: &[(Key, &str)]) -> String {
        let flags: Vec<(Key, String)> = flags
            .iter()
            .map(|(key, value)| (*key, (*value).to_owned()))
            .collect();
        let file = (!text.is_empty()).then_some(("s.toml", text));
        match load(file, &flags) {
            Ok(scenario) => format!("{scenario:?}"),
            Err(Wrong::File(problems)) => problems.to_string(),
            Err(Wrong::Flags(problems)) => format!("usage: {problems}"),
        }
    }

    const URL: (Key, &str) = (Key::Url, "http://127.0.0.1:8080/");

    /// Text, part of the report, part of its hint.
    const MISTAKES: &[(&str, &str, &str)] = &[
        (
            "methd = \"GET\"",
            "s.toml:1:1: methd: unknown key",
            "did you mean \"method\"?",
        ),
        (
            "timeout = 5",
            "s.toml:1:11: timeout: 5 has no unit",
            "write \"5s\"",
        ),
        (
            "body = \"5k\"",
            "s.toml:1:8: body: \"k\" is no unit",
            "\"5KiB\"?",
        ),
        (
            "keep_alive = \"true\"",
            "s.toml:1:14: keep_alive: expected true or false",
            "",
        ),
        (
            "url = \"127.0.0.1\"",
            "s.toml:1:7: url: \"127.0.0.1\" is no URL",
            "http://127.0.0.1",
        ),
        (
            "header = [\"A\"]",
            "s.toml:1:11: header: \"A\" is no header",
            "Name: value",
        ),
        ("users = 5", "s.toml:1:1: users: unknown key", ""),
        (
            "pipeline = 0",
            "s.toml:1:12: pipeline: 0 is not in 1 to 64",
            "",
        ),
        (
            "pipeline = 2\nkeep_alive = false",
            "s.toml: pipeline: there is nothing to",
            "",
        ),
        (
            "warm_up = \"1h\"",
            "s.toml: warm_up: nothing is left of the run",
            "",
        ),
        (
            "clients = 5\nurl = \"http://a/\"",
            "s.toml: clients: other client",
            "",
        ),
        (
            "[thresholds]\np59 = \"1s\"",
            "s.toml:2:1: thresholds.p59: unknown key",
            "\"p50\"?",
        ),
        (
            "[thresholds]\nerrors = 1",
            "s.toml:2:10: thresholds.errors: expected a string",
            "\"1%\"",
        ),
        (
            "[thresholds]\nerrors = \"101%\"",
            "s.toml:2:10: thresholds.errors: \"101%\" is no",
            "",
        ),
        (
            "[[stages]]\nuser = 5",
            "s.toml:2:1: stages[0].user: unknown key",
            "\"users\"?",
        ),
        (
            "[[stages]]\nusers = 5",
            "s.toml:1:1: stages[0]: no duration",
            "",
        ),
        (
            "[[stages]]\nrate = 5\nduration = \"1s\"",
            "stages[1].users: a scenario has either",
            "",
        ),
        (
            "[[stages]]\nusers = 5\nduration = \"25h\"",
            "stages[0].duration: \"25h\" is too long",
            "",
        ),
    ];

    #[test]
    fn mistakes_are_named_with_their_line() {
        let stage = "\n[[stages]]\nusers = 1\nduration = \"1s\"\n";
        for (text, problem, hint) in MISTAKES {
            let found = report(&format!("{text}{stage}"), &[URL]);
            assert!(
                found.contains(problem) && found.contains(hint),
                "{text}: {found}"
            );
        }
        let found = report("name = \"x\"\n", &[URL]);
        assert!(
            found.contains("s.toml: the scenario has no stages"),
            "{found}"
        );
        let found = report("methd = 1\ntimeout = 1", &[URL]);
        assert!(found.contains("3 problems in s.toml"), "{found}");
    }

    #[test]
    fn flags_are_checked_too() {
        let cases = [
            (vec![], "usage: flag --url: no target"),
            (
                vec![URL, (Key::Users, "0")],
                "usage: flag users: 0 is not in 1",
            ),
            (
                vec![URL, (Key::Users, "1"), (Key::Rate, "1")],
                "usage: flag rate: either",
            ),
            (
                vec![URL, (Key::Rate, "1"), (Key::Think, "1s")],
                "usage: flag bench: think: only",
            ),
            (
                vec![URL, (Key::Users, "6"), (Key::Connections, "5")],
                "usage: flag bench: connections: each user needs",
            ),
            (
                vec![URL, (Key::Duration, "1")],
                "usage: flag duration: \"1\" has no unit",
            ),
        ];
        for (flags, expected) in cases {
            let found = report("", &flags);
            assert!(found.starts_with(expected), "{flags:?}: {found}");
        }
        let text = "[[stages]]\nusers = 1\nduration = \"1s\"";
        let found = report(text, &[URL, (Key::Users, "2")]);
        assert!(
            found.starts_with("usage: flag users: the scenario's stages"),
            "{found}"
        );
    }

    #[test]
    fn a_scenario_of_everything() {
        let text = r#"
            name = "all"
            url = ["http://127.0.0.1:1/a", "http://127.0.0.1:1/b"]
            method = "PUT"
            header = ["A: b"]
            body = "64KiB"
            chunked = true
            connections = 8
            idle = 3
            clients = 2
            threads = 1
            timeout = "2s"
            requests = 1000
            warm_up = "3s"
            expect_status = [200, 429]
            expect_body = "4KiB"
            [[stages]]
            from = 10
            rate = 100
            duration = "5s"
            [[stages]]
            rate = 50
            duration = "1m"
            [thresholds]
            p999 = "1s"
            errors = "0.5%"
        "#;
        let scenario = load(Some(("s", text)), &[(Key::Idle, "4".into())]).unwrap();
        let stage = |from, to, seconds: u64| Stage {
            from,
            to,
            duration_ns: seconds * SECOND,
        };
        let url = |path: &str| Url::parse(&format!("http://127.0.0.1:1/{path}")).unwrap();
        let threshold = |measure, most| Threshold { measure, most };
        let expected = Scenario {
            name: "all".into(),
            about: String::new(),
            urls: vec![url("a"), url("b")],
            message: Message {
                method: "PUT".into(),
                fields: vec![("A".into(), "b".into())],
                body_bytes: 65_536,
                is_chunked: true,
            },
            load: Load::Open { connections: 8 },
            stages: vec![stage(10.0, 100.0, 5), stage(100.0, 50.0, 60)],
            keep_alive: true,
            client_addresses: 2,
            idle_connections: 4,
            threads: 1,
            warm_up_ns: 3 * SECOND,
            timeout_ns: 2 * SECOND,
            requests_max: Some(1000),
            expect: Expect {
                statuses: vec![200, 429],
                body_bytes: Some(4096),
            },
            thresholds: vec![
                threshold(Measure::Errors, 0.005),
                threshold(Measure::P999, 1e9),
            ],
        };
        assert_eq!(scenario.thresholds.len(), 2);
        let sorted = Scenario {
            thresholds: expected.thresholds.clone(),
            ..scenario.clone()
        };
        assert_eq!(sorted, expected);
        for threshold in &expected.thresholds {
            assert!(scenario.thresholds.contains(threshold));
        }
    }

    #[test]
    fn the_files_in_loadtest_are_scenarios() {
        for (name, text, seconds, peak) in [
            ("smoke", include_str!("../../loadtest/smoke.toml"), 30, 10.0),
            ("load", include_str!("../../loadtest/load.toml"), 330, 500.0),
            (
                "spike",
                include_str!("../../loadtest/spike.toml"),
                190,
                500.0,
            ),
            (
                "sustained",
                include_str!("../../loadtest/sustained.toml"),
                300,
                200.0,
            ),
        ] {
            let scenario = load(Some((name, text)), &[]).unwrap();
            assert_eq!(scenario.name, name);
            let duration: u64 = scenario.stages.iter().map(|stage| stage.duration_ns).sum();
            assert_eq!(duration, seconds * SECOND, "{name}");
            let most = scenario
                .stages
                .iter()
                .map(|stage| stage.to)
                .fold(0.0, f64::max);
            assert_eq!(most, peak, "{name}");
            let measures = scenario
                .thresholds
                .iter()
                .map(|threshold| threshold.measure);
            for needed in [Measure::P95, Measure::Errors, Measure::Limited] {
                assert!(measures.clone().any(|measure| measure == needed), "{name}");
            }
        }
    }
}
