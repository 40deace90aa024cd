//! Why one backend gets requests or gets none: `/why`.
//!
//! Decides: who of checks, requests, breaker and operator has decided, in words. May not know: sockets, shards.
//! Invariant: all of it is of one moment; what is said of the future follows from the rules in force.

use std::fmt::Write;

use crate::config::plan::{Check, CheckKind, Cluster};
use crate::config::units::show_duration;
use crate::json::Object;
use crate::ledger::{Entry, History};
use crate::log::rfc3339;
use crate::policy::balance::SHARE_WHOLE;
use crate::policy::health::{Checks, Event, Mode, Standing, Traffic, next};

use super::backends::{self, Row, checks_name};
use super::parse::{Form, Refusal, Which};
use super::{AdminState, Moment};

/// Everything about one backend.
struct Why<'a> {
    row: Row<'a>,
    cluster: &'a Cluster,
    history: History,
    moment: Moment,
}

pub(super) fn tell(state: &AdminState, which: &Which, form: Form) -> Result<String, Refusal> {
    let plan = &state.shared.plan;
    let id = backends::find(plan, which)?;
    let moment = state.moment();
    let why = Why {
        row: backends::row(state, id, moment),
        cluster: &plan.clusters[plan.backends[id.0 as usize].cluster.0 as usize],
        history: state.ledger.history(id),
        moment,
    };
    Ok(match form {
        Form::Text => why.text(),
        Form::Json => why.json(),
    })
}

/// Who has decided that a backend stands as it does.
fn decided_by(mode: Mode, standing: Standing) -> &'static str {
    match (mode, standing) {
        (Mode::Up | Mode::Drain | Mode::Maintenance, _) => "operator",
        (Mode::Auto, Standing::Down) => "checks",
        (Mode::Auto, Standing::Ejected) => "requests",
        (Mode::Auto, Standing::Open | Standing::HalfOpen) => "breaker",
        (Mode::Auto, Standing::Available | Standing::Draining | Standing::Maintenance) => "nobody",
    }
}

fn breaker_name(traffic: Traffic) -> &'static str {
    match traffic {
        Traffic::In | Traffic::Ejected => "closed",
        Traffic::Open => "open",
        Traffic::HalfOpen => "half_open",
    }
}

impl Why<'_> {
    /// Where it would stand without the operator's word.
    fn by_itself(&self) -> Standing {
        let auto = Event::Mode(Mode::Auto);
        next(self.row.word, auto, self.moment.now, &self.cluster.rules).standing()
    }

    fn share_percent(&self) -> u32 {
        let slow_start_ns = self.cluster.rules.slow_start_ns;
        self.row.word.share(self.moment.now, slow_start_ns) * 100 / SHARE_WHOLE
    }

    fn json(&self) -> String {
        let (word, rules) = (self.row.word, &self.cluster.rules);
        let ms = |ns: u64| ns / 1_000_000;
        let mut out = Object::default();
        self.row.describe(&mut out);
        out.text("decided_by", decided_by(word.mode(), word.standing()));
        out.text("by_itself", self.by_itself().name());
        out.raw(
            "check",
            &self
                .cluster
                .check
                .as_ref()
                .map_or("null".to_owned(), |check| {
                    let mut out = Object::default();
                    out.text("what", &what(check));
                    out.number("interval_ms", ms(check.interval_ns));
                    out.number("timeout_ms", ms(check.timeout_ns));
                    out.number("rise", rules.rise);
                    out.number("fall", rules.fall);
                    out.finish()
                }),
        );
        let last = self.history.last_check.as_ref();
        out.raw(
            "last_check",
            &last.map_or("null".to_owned(), |(at, passed, met)| {
                let mut out = Object::default();
                out.text("at", &rfc3339(*at));
                out.number("passed", passed);
                out.text("met", met);
                out.finish()
            }),
        );
        out.number("checks_against", word.streak());
        out.number("errors", word.errors());
        out.number("errors_max", rules.errors_max);
        out.number("level", word.level());
        out.raw("breaker", &self.breaker_json());
        out.number("share_percent", self.share_percent());
        out.number("slow_start_ms", ms(rules.slow_start_ns));
        out.list(
            "history",
            self.history.changes.iter().map(|entry| {
                let mut out = Object::default();
                out.text("at", &rfc3339(entry.unix_ms));
                out.text("from", entry.from.name());
                out.text("to", entry.to.name());
                out.text("cause", &entry.why.to_string());
                out.finish()
            }),
        );
        out.finish() + "\n"
    }

    fn breaker_json(&self) -> String {
        let Some(breaking) = &self.cluster.breaker else {
            return "null".to_owned();
        };
        let (begun, passed) = self.row.word.trials();
        let mut out = Object::default();
        out.text("state", breaker_name(self.row.word.traffic()));
        out.number("percent", breaking.breaker.percent);
        out.number("volume", breaking.breaker.volume);
        out.number("window_ms", breaking.breaker.window_ns / 1_000_000);
        out.number("trials", self.cluster.rules.trials);
        out.number("trials_begun", begun);
        out.number("trials_passed", passed);
        out.finish()
    }

    fn text(&self) -> String {
        let (row, word) = (&self.row, self.row.word);
        let mut out = format!(
            "{} of cluster {}: {}\n\n",
            row.backend,
            row.cluster,
            self.verdict()
        );
        let mut line = |name: &str, text: String| {
            let _ = writeln!(out, "{name:<12}  {text}");
        };
        let since = format!(
            "{} since {} ({}), cause: {}",
            word.standing().name(),
            rfc3339(row.since_unix_ms),
            ago(self.moment.unix_ms.saturating_sub(row.since_unix_ms)),
            row.cause
        );
        line("standing", since);
        line("mode", self.mode());
        line("checks", self.checks());
        if let Some((at, passed, met)) = &self.history.last_check {
            let result = if *passed { "passed" } else { "failed" };
            let ago = ago(self.moment.unix_ms.saturating_sub(*at));
            line(
                "last check",
                format!("{result} at {} ({ago}): {met}", rfc3339(*at)),
            );
        }
        line("requests", self.requests());
        line("breaker", self.breaker());
        line("slow start", self.slow_start());
        line("weight", self.weight());
        line(
            "traffic",
            format!(
                "{} in flight, {} connections open",
                row.inflight, row.connections
            ),
        );
        line(
            "idle timeout",
            match row.idle_timeout_ms {
                Some(ms) => format!("closes idle connections after {ms} ms, as it was seen to"),
                None => "not known".to_owned(),
            },
        );
        if self.history.changes.is_empty() {
            line("history", "nothing has changed since the start".to_owned());
        }
        for (at, entry) in self.history.changes.iter().rev().enumerate() {
            line(if at == 0 { "history" } else { "" }, told(entry));
        }
        out
    }

    fn verdict(&self) -> String {
        let standing = self.row.word.standing();
        match decided_by(self.row.word.mode(), standing) {
            "nobody" => "gets requests, and nothing speaks against it".to_owned(),
            who => {
                let gets = match standing {
                    Standing::Available => "gets requests",
                    Standing::HalfOpen => "gets a few requests on trial",
                    Standing::Draining => "gets no new clients",
                    Standing::Maintenance | Standing::Down | Standing::Ejected | Standing::Open => {
                        "gets no requests"
                    }
                };
                format!("{gets}, decided by: {who}")
            }
        }
    }

    fn mode(&self) -> String {
        let by_itself = self.by_itself().name();
        match self.row.word.mode() {
            Mode::Auto => "auto".to_owned(),
            Mode::Up => format!("up: used whatever is known; by itself it would be {by_itself}"),
            Mode::Drain => format!(
                "drain: only who sticks to it by cookie is sent there; by itself it would be {by_itself}"
            ),
            Mode::Maintenance => "maintenance: neither requests nor checks".to_owned(),
        }
    }

    fn checks(&self) -> String {
        let (word, rules) = (self.row.word, &self.cluster.rules);
        let Some(check) = &self.cluster.check else {
            return "off".to_owned();
        };
        let against = match (word.checks(), word.streak()) {
            (_, 0) | (Checks::Unknown, _) => String::new(),
            (Checks::Up, streak) => format!(", {streak} of {} failed in succession", rules.fall),
            (Checks::Down, streak) => format!(", {streak} of {} passed in succession", rules.rise),
        };
        format!(
            "{}{against}; {} every {} within {}, rise {}, fall {}",
            checks_name(word.checks()),
            what(check),
            show_duration(check.interval_ns),
            show_duration(check.timeout_ns),
            rules.rise,
            rules.fall
        )
    }

    fn requests(&self) -> String {
        let (word, rules) = (self.row.word, &self.cluster.rules);
        if rules.errors_max == 0 {
            return "failures do not eject".to_owned();
        }
        let mut out = format!(
            "{} of {} failures in succession",
            word.errors(),
            rules.errors_max
        );
        if word.traffic() == Traffic::Ejected {
            let left_ns = word.left_ns(self.moment.now).unwrap_or(0);
            let _ = write!(out, "; ejected for another {}", seconds(left_ns));
        }
        if word.level() > 0 {
            let _ = write!(out, "; was out {} times of late", word.level());
        }
        out
    }

    fn breaker(&self) -> String {
        let word = self.row.word;
        let Some(breaking) = &self.cluster.breaker else {
            return "off".to_owned();
        };
        let rules = &breaking.breaker;
        let trips = format!(
            "opens at {} % failures of at least {} requests in {}",
            rules.percent,
            rules.volume,
            show_duration(rules.window_ns)
        );
        match word.traffic() {
            Traffic::In | Traffic::Ejected => format!("closed; {trips}"),
            Traffic::Open => {
                let left_ns = word.left_ns(self.moment.now).unwrap_or(0);
                format!("open for another {}; {trips}", seconds(left_ns))
            }
            Traffic::HalfOpen => {
                let ((begun, passed), trials) = (word.trials(), self.cluster.rules.trials);
                format!("half open: {passed} of {trials} trials passed, {begun} begun; {trips}")
            }
        }
    }

    fn slow_start(&self) -> String {
        let slow_start_ns = self.cluster.rules.slow_start_ns;
        match (slow_start_ns, self.share_percent()) {
            (0, _) => "off".to_owned(),
            (_, 100) => "has its whole share".to_owned(),
            (_, percent) => {
                let whole = show_duration(slow_start_ns);
                format!("has {percent} % of its share, the whole one {whole} after it came in")
            }
        }
    }

    fn weight(&self) -> String {
        let row = &self.row;
        let backup = if row.backup { ", a backup" } else { "" };
        if row.weight == row.configured_weight {
            format!("{}{backup}", row.weight)
        } else {
            format!(
                "{}, configured {}{backup}",
                row.weight, row.configured_weight
            )
        }
    }
}

fn what(check: &Check) -> String {
    match &check.kind {
        CheckKind::Tcp => "TCP connect".to_owned(),
        CheckKind::Http { method, path, .. } => format!("{method} {path}"),
    }
}

fn told(entry: &Entry) -> String {
    let (from, to) = (entry.from.name(), entry.to.name());
    format!("{}  {from} → {to}, {}", rfc3339(entry.unix_ms), entry.why)
}

fn seconds(ns: u64) -> String {
    format!("{:.1} s", ns as f64 / 1e9)
}

fn ago(ms: u64) -> String {
    match ms / 1000 {
        0..=119 => format!("{:.1} s ago", ms as f64 / 1e3),
        second @ 120..=7_199 => format!("{} min ago", second / 60),
        second => format!("{} h ago", second / 3_600),
    }
}
