//! The rules of style that neither the compiler nor clippy knows, as tests over the sources.
//!
//! `BLESS=1 cargo test --test tidy` writes docs/METRICS.md anew.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use corelane::config;
use corelane::ledger::Ledger;
use corelane::metrics::{Info, ShardMetrics, render};
use corelane::shared::Shared;

/// Longest file, without its tests.
const LINES_MAX: usize = 500;
/// Files that may be longer, with the reason.
const LONG_FILES: &[Listed] = &[];

/// A file, and the reason why it is on a list.
type Listed = (&'static str, &'static str);

/// What only some files may name, and why they may. A file that no longer does is to be taken off its list.
const DOORS: &[(&[&str], &[Listed])] = &[
    (
        &["monoio"],
        &[
            ("src/admin.rs", "a runtime of its own, on its own thread"),
            ("src/admin/stream.rs", "the same"),
            ("src/health.rs", "a runtime of its own, on its own thread"),
            (
                "src/buf.rs",
                "the buffer type is what the runtime reads into",
            ),
            ("src/engine.rs", "builds the runtime of a shard"),
            ("src/io.rs", "the one door of a shard to the outside"),
            ("src/mock.rs", "a program of its own: the backend"),
            ("src/mock/answer.rs", "a program of its own: the backend"),
            ("src/mock/conn.rs", "a program of its own: the backend"),
            ("src/mock/fast.rs", "a program of its own: the backend"),
        ],
    ),
    (
        &["rustix", "socket2"],
        &[
            ("src/bench/alarm.rs", "a timer of the kernel"),
            ("src/bench/compare/about.rs", "the kernel's release"),
            (
                "src/bench/compare/measure.rs",
                "idle connections from several addresses",
            ),
            (
                "src/bench/compare/peer/template.rs",
                "asks whether this is root, under whom nginx works",
            ),
            (
                "src/bench/compare/process.rs",
                "pins and ends the programs that it starts",
            ),
            ("src/bench/relay.rs", "a program of its own: the floor"),
            (
                "src/bench/wire.rs",
                "connects from an address of its choice, which no shard does",
            ),
            ("src/conn.rs", "names one error of the kernel: cancelled"),
            (
                "src/cache/bell.rs",
                "a descriptor that other threads write to",
            ),
            ("src/io.rs", "the one door of a shard to the outside"),
            ("src/listen.rs", "options of listening sockets"),
            ("src/machine.rs", "descriptor limits"),
            ("src/metrics/process.rs", "units of /proc"),
            ("src/mock.rs", "a program of its own: the backend"),
            ("src/peek.rs", "looks into a socket's queue"),
            ("src/connect.rs", "names errors of the kernel that are ours"),
            (
                "src/relay.rs",
                "splices; the simulation has no descriptors, and copies",
            ),
        ],
    ),
    (
        &["io_uring::", "core_affinity"],
        &[
            ("src/bench/run.rs", "pins the threads that it starts"),
            ("src/engine.rs", "flags of a shard's ring"),
            ("src/mock.rs", "flags of the backend's ring"),
            ("src/server.rs", "pins the threads that it starts"),
        ],
    ),
    (
        &["std::thread", "thread::spawn"],
        &[
            ("src/admin.rs", "its own thread"),
            ("src/admin/client.rs", "pauses between two looks"),
            (
                "src/bench/compare/measure.rs",
                "waits until memory has settled",
            ),
            (
                "src/bench/compare/process.rs",
                "waits for a program's start and end",
            ),
            ("src/bench/compare/proof.rs", "waits for log lines"),
            (
                "src/bench/run.rs",
                "starts the threads of the load generator",
            ),
            ("src/health.rs", "its own thread"),
            ("src/log/writer.rs", "its own thread: writing may block"),
            ("src/mock.rs", "a program of its own: the backend"),
            ("src/password.rs", "its own thread: hashing takes long"),
            ("src/server.rs", "starts the shards"),
            ("src/webhook.rs", "its own thread: posting may block"),
        ],
    ),
    (
        &["Instant", "SystemTime"],
        &[("src/io.rs", "the one reader of clocks")],
    ),
    (
        &["unsafe"],
        &[
            ("src/io.rs", "the runtime's types and raw descriptors"),
            ("src/peek.rs", "a socket option that no library has"),
            (
                "src/bench/compare/process.rs",
                "a child asks to end when its parent does",
            ),
        ],
    ),
];

/// The modules that decide, each with those that it may name; none may name what `IMPURE` lists.
const PURE: &[(&str, &[&str])] = &[
    ("h1", &["h1"]),
    ("policy", &["h1", "policy"]),
    ("config", &["h1", "policy", "config"]),
];

const IMPURE: &[&str] = &[
    "monoio",
    "rustix",
    "socket2",
    "io_uring::",
    "std::thread",
    "std::fs",
    "std::env",
    "std::process",
    "Instant",
    "SystemTime",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "UnixListener",
    "ToSocketAddrs",
    "RandomState",
    "thread_local",
];

struct Source {
    /// From the top of the repository.
    name: String,
    text: String,
}

impl Source {
    /// What stands before the tests; nothing of a file that is all tests.
    fn body(&self) -> &str {
        if self.name.contains("/tests/") {
            return "";
        }
        let body = self.text.split("\n#[cfg(test)]\nmod tests {").next();
        body.unwrap_or_default()
    }

    fn names(&self, needle: &str) -> bool {
        self.body().lines().any(|line| has_word(line, needle))
    }
}

/// Whether `needle` stands in the code of `line`: not as a part of a longer word, in a text or in a remark.
fn has_word(line: &str, needle: &str) -> bool {
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    line.match_indices(needle).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + needle.len()..]);
        let is_part = before.as_bytes().last().is_some_and(is_word)
            || !needle.ends_with(':') && after.as_bytes().first().is_some_and(is_word);
        let in_text = before.matches('"').count() % 2 == 1;
        !is_part && !in_text && !before.contains("//")
    })
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &str, extension: &str) -> Vec<Source> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(source(path));
            }
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

fn source(path: PathBuf) -> Source {
    let name = path.strip_prefix(root()).unwrap().to_str().unwrap();
    Source {
        name: name.to_owned(),
        text: fs::read_to_string(&path).unwrap(),
    }
}

/// Fails with all findings at once.
fn none(findings: Vec<String>, what: &str) {
    assert!(findings.is_empty(), "{what}:\n{}", findings.join("\n"));
}

#[test]
fn only_listed_files_name_what_reaches_outside() {
    let sources = files("src", "rs");
    let mut findings = Vec::new();
    for (needles, allowed) in DOORS {
        let allowed: BTreeSet<&str> = allowed.iter().map(|(name, _)| *name).collect();
        let naming: BTreeSet<&str> = sources
            .iter()
            .filter(|source| needles.iter().any(|needle| source.names(needle)))
            .map(|source| source.name.as_str())
            .collect();
        for name in naming.difference(&allowed) {
            findings.push(format!("{name} names one of {needles:?}"));
        }
        for name in allowed.difference(&naming) {
            findings.push(format!("{name} is listed for {needles:?} and names none"));
        }
    }
    none(findings, "DOORS says otherwise");
}

#[test]
fn modules_that_decide_name_nothing_that_acts() {
    let mut findings = Vec::new();
    for (module, may_name) in PURE {
        let sources = files(&format!("src/{module}"), "rs");
        assert!(!sources.is_empty());
        for source in sources {
            for needle in IMPURE.iter().filter(|needle| source.names(needle)) {
                findings.push(format!("{} names {needle}", source.name));
            }
            for path in source.body().split("crate::").skip(1) {
                let end = path.find(|byte: char| !byte.is_alphanumeric() && byte != '_');
                let named = &path[..end.unwrap_or(path.len())];
                if !may_name.contains(&named) {
                    findings.push(format!("{} names crate::{named}", source.name));
                }
            }
        }
    }
    none(findings, "the pure part stays pure");
}

#[test]
fn files_are_short_and_say_what_they_are_for() {
    let mut findings = Vec::new();
    let folders = ["src", "tests", "benches", "fuzz/targets"];
    for source in folders.iter().flat_map(|folder| files(folder, "rs")) {
        let lines = source.body().lines().count();
        let is_listed = LONG_FILES.iter().any(|(name, _)| *name == source.name);
        if (lines > LINES_MAX) != is_listed && source.name.starts_with("src/") {
            findings.push(format!("{} has {lines} lines", source.name));
        }
        let is_tests = source.name.contains("/tests/") && source.text.contains("super::");
        if !source.text.starts_with("//!") && !is_tests {
            findings.push(format!("{} does not begin with //!", source.name));
        }
    }
    none(findings, "at most 500 lines, and a first sentence");
}

#[test]
fn tests_neither_sleep_nor_are_ignored() {
    let mut findings = Vec::new();
    for source in ["src", "tests"]
        .iter()
        .flat_map(|folder| files(folder, "rs"))
    {
        for line in source.text.lines() {
            if has_word(line, "ignore") && line.trim_start().starts_with("#[") {
                findings.push(format!("{}: {line}", source.name));
            }
        }
        let tests = &source.text[source.body().len()..];
        let is_test_file = source.name.starts_with("tests/");
        let tests = if is_test_file { &source.text } else { tests };
        if tests.lines().any(|line| has_word(line, "thread::sleep")) {
            findings.push(format!("{} sleeps", source.name));
        }
    }
    none(
        findings,
        "a test waits for what it wants to see, and is run",
    );
}

#[test]
fn documents_cite_symbols_not_lines() {
    let mut findings = Vec::new();
    let documents = files("docs", "md").into_iter().chain(top_documents());
    for source in documents.chain(files("src", "rs")) {
        for (number, line) in source.text.lines().enumerate() {
            let cites = line.match_indices(".rs:").any(|(at, found)| {
                let next = line.as_bytes().get(at + found.len());
                next.is_some_and(u8::is_ascii_digit)
            });
            if cites {
                findings.push(format!("{}, line {}: {line}", source.name, number + 1));
            }
        }
    }
    none(findings, "a line number is wrong after the next change");
}

fn top_documents() -> impl Iterator<Item = Source> {
    fs::read_dir(root())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|found| found == "md"))
        .map(source)
}

#[test]
fn every_metric_is_documented() {
    let expected = metrics_page();
    let path = root().join("docs/METRICS.md");
    if std::env::var_os("BLESS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &expected).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        found, expected,
        "docs/METRICS.md is old: BLESS=1 cargo test --test tidy"
    );
}

#[derive(Default)]
struct Family {
    kind: String,
    help: String,
    /// Values of each label, in the order in which they are rendered.
    labels: BTreeMap<String, Vec<String>>,
}

/// Labels whose values come from our own lists; the others come from configuration, build or machine.
const CLOSED_LABELS: [&str; 5] = ["code", "reason", "result", "standing", "to"];

fn metrics_page() -> String {
    let mut page = "# Metrics\n\n\
        What `/metrics` of the admin listener shows, in the text format of Prometheus. Written by \
        `BLESS=1 cargo test --test tidy`\nfrom the metrics themselves; a test keeps it complete.\n\n\
        | Metric | Type | Labels | Meaning |\n| --- | --- | --- | --- |\n"
        .to_owned();
    let mut values = String::new();
    for (name, family) in families() {
        let mut labels = Vec::new();
        for (label, found) in &family.labels {
            labels.push(format!("`{label}`"));
            if CLOSED_LABELS.contains(&label.as_str()) {
                let list = found
                    .iter()
                    .map(|value| format!("`{value}`"))
                    .collect::<Vec<_>>();
                writeln!(values, "- `{name}`, `{label}`: {}", list.join(", ")).unwrap();
            }
        }
        let (kind, help) = (family.kind, family.help);
        writeln!(
            page,
            "| `{name}` | {kind} | {} | {help} |",
            labels.join(", ")
        )
        .unwrap();
    }
    page + "\n## Values of labels\n\n" + &values
}

/// Everything that is rendered for one shard and one backend.
fn families() -> Vec<(String, Family)> {
    let text = "backends = [\"http://127.0.0.1:3001\"]\n[rate_limit]\nrps = 1.0\n";
    let (_, plan) = config::load(config::Source::of("test", text)).unwrap();
    let metrics = vec![Arc::new(ShardMetrics::new(1).with_limits(1))];
    let (shared, _changes) = Shared::new(Arc::new(plan), metrics, 1, [7; 32]);
    let mut text = String::new();
    render(&mut text, &shared, &Ledger::new(1), &Info::default(), 0);
    let mut families: Vec<(String, Family)> = Vec::new();
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').unwrap();
            let family = Family {
                help: help.to_owned(),
                ..Family::default()
            };
            families.push((name.to_owned(), family));
            continue;
        }
        let (_, family) = families.last_mut().unwrap();
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            family.kind = kind.rsplit(' ').next().unwrap().to_owned();
        } else if let Some((_, labels)) = line.split_once('{') {
            // No value of ours holds a comma or a brace.
            for label in labels.split('}').next().unwrap().split(',') {
                let (key, value) = label.split_once('=').unwrap();
                let values = family.labels.entry(key.to_owned()).or_default();
                let value = value.trim_matches('"').to_owned();
                if !values.contains(&value) {
                    values.push(value);
                }
            }
        }
    }
    families
}
