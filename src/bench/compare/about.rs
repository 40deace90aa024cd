//! What a result says about its origin: machine, versions, command.
//!
//! Decides nothing. Invariant: what cannot be read is "unknown", never guessed.

use std::fs;

use crate::io::unix_ms;
use crate::version;

use super::process::allowed_cpus;
use super::{Args, Contestant};

/// Others want the CPUs when the load average is higher than this before the start.
const LOAD_MAX: f64 = 0.5;

pub(super) struct About {
    pub(super) command: String,
    pub(super) started_unix_ms: u64,
    pub(super) generator: String,
    pub(super) cpu: String,
    pub(super) cpus: usize,
    pub(super) memory: String,
    pub(super) kernel: String,
    /// For outgoing connections, unless a program chooses another.
    pub(super) congestion: String,
    /// Of the last minute, before the start.
    pub(super) load: f64,
    pub(super) versions: Vec<(String, String)>,
    pub(super) rounds: u32,
    pub(super) seconds: f64,
}

impl About {
    pub(super) fn read(args: &Args, contestants: &[Contestant]) -> About {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            let value = line.and_then(|line| line.split_once(':'));
            value.map_or("unknown".to_owned(), |(_, value)| value.trim().to_owned())
        };
        let load = read("/proc/loadavg");
        let words = std::env::args().skip(1);
        let command: Vec<String> = words.map(without_folder).collect();
        About {
            command: format!("corelane {}", command.join(" ")),
            started_unix_ms: unix_ms(),
            generator: version::line(),
            cpu: field(&read("/proc/cpuinfo"), "model name"),
            cpus: allowed_cpus().map_or(0, |cpus| cpus.len()),
            memory: field(&read("/proc/meminfo"), "MemTotal"),
            kernel: rustix::system::uname()
                .release()
                .to_string_lossy()
                .into_owned(),
            congestion: read("/proc/sys/net/ipv4/tcp_congestion_control")
                .trim()
                .to_owned(),
            load: load
                .split_whitespace()
                .next()
                .and_then(|number| number.parse().ok())
                .unwrap_or(0.0),
            versions: contestants
                .iter()
                .map(|one| (one.name.clone(), one.version.clone()))
                .collect(),
            rounds: args.rounds,
            seconds: args.seconds,
        }
    }

    /// Something else was running before we began.
    pub(super) fn is_busy(&self) -> bool {
        self.load > LOAD_MAX
    }
}

/// A result says nothing about where files lay.
fn without_folder(word: String) -> String {
    let (before, path) = word.split_once('=').unwrap_or(("", &word));
    match path.rsplit_once('/') {
        Some((_, file)) if before.is_empty() => file.to_owned(),
        Some((_, file)) => format!("{before}={file}"),
        None => word,
    }
}
