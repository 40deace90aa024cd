//! What one mock backend does to its requests, and what it has seen of them.
//!
//! Decides: which requests fail, what is counted and written down. May not know: connections, answers.
//! Invariant: a request is written down as soon as its head has come, so that not even a killed process has
//! served one that its log does not show.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Write};

use super::Args;

/// Methods that are counted by name.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// How a request fails that is to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// It is answered with `fail_status`.
    Status,
    /// It is never answered; the connection stays.
    Hang,
    /// The connection is reset behind the head of an answer whose body was announced. On a Unix socket, which
    /// knows no reset, it is closed there.
    Reset,
    /// The connection is closed without a byte.
    Close,
}

impl Failure {
    pub const ALL: [Failure; 4] = [
        Failure::Status,
        Failure::Hang,
        Failure::Reset,
        Failure::Close,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Failure::Status => "status",
            Failure::Hang => "hang",
            Failure::Reset => "reset",
            Failure::Close => "close",
        }
    }
}

pub(super) struct Behaviour {
    pub(super) args: Args,
    log: Option<File>,
    /// Of `/health`; a request may change it.
    pub(super) health: Cell<u16>,
    health_asked: Cell<u64>,
    connections: Cell<u64>,
    /// Those that could have been made to fail.
    requests: Cell<u64>,
    failed: Cell<u64>,
    /// In the order of `METHODS`; all others last.
    methods: [Cell<u64>; METHODS.len() + 1],
}

impl Behaviour {
    pub(super) fn new(args: Args) -> io::Result<Behaviour> {
        let open = |path| File::options().append(true).create(true).open(path);
        Ok(Behaviour {
            log: args.log.as_ref().map(open).transpose()?,
            args,
            health: Cell::new(200),
            health_asked: Cell::default(),
            connections: Cell::default(),
            requests: Cell::default(),
            failed: Cell::default(),
            methods: Default::default(),
        })
    }

    pub(super) fn note_connection(&self) {
        increment(&self.connections);
    }

    pub(super) fn note_health(&self) {
        increment(&self.health_asked);
    }

    /// Counts a request and writes it down.
    pub(super) fn note(&self, method: &str, target: &str) -> io::Result<()> {
        let at = METHODS.iter().position(|known| *known == method);
        increment(&self.methods[at.unwrap_or(METHODS.len())]);
        let Some(mut log) = self.log.as_ref() else {
            return Ok(());
        };
        // One write per line: others may append to the same file.
        log.write_all(format!("{method} {target}\n").as_bytes())
    }

    /// Whether the next request fails. Spreads the failures evenly: of any hundred requests in a row exactly
    /// `fail_percent` fail.
    pub(super) fn fails(&self) -> bool {
        let number = self.requests.get();
        self.requests.set(number.wrapping_add(1));
        let percent = u64::from(self.args.fail_percent.min(100));
        let fails = (number % 100 + 1) * percent / 100 > (number % 100) * percent / 100;
        if fails {
            increment(&self.failed);
        }
        fails
    }

    /// The counts, a line each. A request is counted when its head has come, a failure when it happens.
    pub(super) fn counts(&self) -> String {
        let names = METHODS.iter().chain(&["other"]);
        let requests = self.methods.iter().map(Cell::get).sum();
        let mut text = String::new();
        for (name, count) in [
            ("connections", self.connections.get()),
            ("requests", requests),
            ("failed", self.failed.get()),
            ("health", self.health_asked.get()),
        ]
        .into_iter()
        .chain(names.copied().zip(self.methods.iter().map(Cell::get)))
        {
            text += &format!("{name} {count}\n");
        }
        text
    }
}

fn increment(count: &Cell<u64>) {
    count.set(count.get() + 1);
}
