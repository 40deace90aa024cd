//! Results as text: the line while it runs, the table at the end.
//!
//! Decides: how numbers look. May not know: what is measured. Invariant: errors have lines of their own.

use std::fmt::Write;

use crate::config::plan::Nanos;

use super::load::Load;
use super::outcome::{Outcome, Point};
use super::scenario::Scenario;
use super::tally::Trouble;
use super::verdict::Verdict;

const BAR_CHARS: usize = 20;

/// The quantiles that are shown, and what they are called.
pub(super) const QUANTILES: [(f64, &str); 7] = [
    (0.5, "p50"),
    (0.75, "p75"),
    (0.9, "p90"),
    (0.95, "p95"),
    (0.99, "p99"),
    (0.999, "p99.9"),
    (0.9999, "p99.99"),
];

/// Three digits and a unit.
pub(super) fn time(ns: Nanos) -> String {
    let ns = ns as f64;
    let (value, unit) = match ns {
        _ if ns < 1e3 => (ns, "ns"),
        _ if ns < 1e6 => (ns / 1e3, "µs"),
        _ if ns < 1e9 => (ns / 1e6, "ms"),
        _ => (ns / 1e9, "s"),
    };
    format!("{} {unit}", digits(value))
}

pub(super) fn digits(value: f64) -> String {
    match value {
        _ if value < 9.995 => format!("{value:.2}"),
        _ if value < 99.95 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// With a space between thousands.
pub(super) fn count(number: u64) -> String {
    let plain = number.to_string();
    let mut out = String::with_capacity(plain.len() + plain.len() / 3);
    for (at, digit) in plain.chars().enumerate() {
        if at > 0 && (plain.len() - at).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

pub(super) fn percent(share: f64) -> String {
    format!("{} %", digits(share * 100.0))
}

pub(super) fn bytes(bytes: f64) -> String {
    let (value, unit) = match bytes {
        _ if bytes < 1024.0 => (bytes, "B"),
        _ if bytes < 1_048_576.0 => (bytes / 1024.0, "KiB"),
        _ if bytes < 1_073_741_824.0 => (bytes / 1_048_576.0, "MiB"),
        _ => (bytes / 1_073_741_824.0, "GiB"),
    };
    format!("{} {unit}", digits(value))
}

/// What is being done, in words.
pub(super) fn describe(scenario: &Scenario) -> String {
    let noun = match scenario.load {
        Load::Closed { .. } => "users",
        Load::Open { .. } => "requests/s",
    };
    let mut levels = String::new();
    for stage in &scenario.stages {
        if levels.is_empty() || stage.from != stage.to {
            if levels.is_empty() && stage.from != stage.to {
                let _ = write!(levels, "{} → ", stage.from);
            } else if !levels.is_empty() {
                levels.push_str(" → ");
            }
            let _ = write!(levels, "{}", stage.to);
        }
    }
    let duration_ns: Nanos = scenario.stages.iter().map(|stage| stage.duration_ns).sum();
    let duration = time(duration_ns);
    match scenario.load {
        Load::Closed {
            think_ns,
            pipeline,
            connections,
        } => {
            let mut out = format!("{levels} {noun}");
            if connections > 0 {
                let _ = write!(out, " taking turns on {connections} connections");
            }
            if pipeline > 1 {
                let _ = write!(out, ", each {pipeline} requests at a time");
            }
            if think_ns > 0 {
                let _ = write!(out, ", {} between requests", time(think_ns));
            }
            format!("{out}, {duration}, closed loop")
        }
        Load::Open { connections } => {
            format!("{levels} {noun} on {connections} connections, {duration}, open loop")
        }
    }
}

/// The line that is overwritten while a run goes on.
pub(super) fn progress(point: &Point, errors: u64, duration_ns: Nanos) -> String {
    let part = point.at_ns as f64 / duration_ns.max(1) as f64;
    let full = ((part * BAR_CHARS as f64) as usize).min(BAR_CHARS);
    format!(
        "[{}{}] {:.0}/{:.0} s  {} r/s  p50 {}  p99 {}  errors {}  active {}",
        "#".repeat(full),
        "-".repeat(BAR_CHARS - full),
        point.at_ns as f64 / 1e9,
        duration_ns as f64 / 1e9,
        count(point.per_second(point.requests) as u64),
        time(point.p50_ns),
        time(point.p99_ns),
        count(errors),
        point.active,
    )
}

pub(super) fn table(scenario: &Scenario, outcome: &Outcome, verdicts: &[Verdict]) -> String {
    let mut out = Table::default();
    out.line(
        "scenario",
        format!("{}: {}", scenario.name, describe(scenario)),
    );
    requests(&mut out, outcome);
    latencies(&mut out, outcome);
    traffic(&mut out, scenario, outcome);
    for verdict in verdicts {
        let word = if verdict.is_met { "met" } else { "MISSED" };
        out.line("threshold", format!("{} {word}", bound(verdict)));
    }
    for bottleneck in &outcome.bottlenecks {
        let _ = writeln!(out.text, "\n  WARNING: {bottleneck}");
    }
    out.text
}

#[derive(Default)]
struct Table {
    text: String,
}

impl Table {
    fn line(&mut self, name: &str, value: impl std::fmt::Display) {
        let _ = writeln!(self.text, "  {name:<14} {value}");
    }
}

fn requests(out: &mut Table, outcome: &Outcome) {
    let total = &outcome.total;
    let (all, elapsed) = (count(total.requests()), time(outcome.elapsed_ns));
    let answered = count(outcome.per_second(total.answered()) as u64);
    out.line(
        "requests",
        format!("{all} in {elapsed}, {answered} answered per second"),
    );
    out.line("good", of_all(total.good, total.requests()));
    out.line("limited (429)", of_all(total.limited, total.requests()));
    out.line("errors", of_all(total.errors(), total.requests()));
    for trouble in Trouble::ALL {
        if total.count(trouble) > 0 {
            out.line(
                "",
                format!("{} {}", count(total.count(trouble)), trouble.name()),
            );
        }
    }
    let status = |(status, number): (&u16, &u64)| format!("{status}: {}", count(*number));
    let statuses: Vec<String> = total.statuses.iter().map(status).collect();
    out.line("statuses", statuses.join("  "));
}

fn latencies(out: &mut Table, outcome: &Outcome) {
    let named = |(quantile, name): &(f64, &str)| {
        let latency = outcome.latency_ns(*quantile);
        format!("{name} {}", time(latency))
    };
    let all: Vec<String> = QUANTILES.iter().map(named).collect();
    let (most, last) = all.split_at(4);
    out.line("latency", most.join("  "));
    let max = time(outcome.total.latency.max());
    out.line("", format!("{}  max {max}", last.join("  ")));
}

fn traffic(out: &mut Table, scenario: &Scenario, outcome: &Outcome) {
    let total = &outcome.total;
    let rate = |all: u64| bytes(outcome.per_second(all));
    let (received, sent) = (rate(total.bytes_in), rate(total.bytes_out));
    out.line("bytes", format!("{received}/s received, {sent}/s sent"));
    let (opened, again) = (count(total.connects), count(total.reconnects));
    out.line(
        "connections",
        format!("{opened} opened, {again} again after the target closed them idle"),
    );
    if scenario.idle_connections > 0 {
        let (idle, closed) = (scenario.idle_connections, outcome.idle_closed);
        out.line(
            "",
            format!("{idle} idle, of which the target closed {closed}"),
        );
    }
    for (number, thread) in outcome.threads.iter().enumerate() {
        let share = |ns: Nanos| percent(ns as f64 / thread.wall_ns.max(1) as f64);
        let (cpu, wait) = (share(thread.usage.cpu_ns), share(thread.usage.wait_ns));
        let name = if number == 0 { "generator" } else { "" };
        out.line(
            name,
            format!("thread {number}: CPU {cpu}, waiting for one {wait}"),
        );
    }
}

/// `p95 12.3 ms ≤ 35.0 ms`
pub(super) fn bound(verdict: &Verdict) -> String {
    let measure = verdict.threshold.measure;
    let value = |value: f64| {
        if measure.is_share() {
            percent(value)
        } else {
            time(value as Nanos)
        }
    };
    let sign = if verdict.found <= verdict.threshold.most {
        "≤"
    } else {
        ">"
    };
    let (found, most) = (value(verdict.found), value(verdict.threshold.most));
    format!("{} {found} {sign} {most}", measure.name())
}

fn of_all(part: u64, whole: u64) -> String {
    let share = if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    };
    format!("{} ({})", count(part), percent(share))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        for (ns, text) in [
            (999, "999 ns"),
            (1_000, "1.00 µs"),
            (12_340, "12.3 µs"),
            (999_600, "1000 µs"),
            (1_500_000_000, "1.50 s"),
        ] {
            assert_eq!(time(ns), text);
        }
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1 000"),
            (1234567, "1 234 567"),
        ] {
            assert_eq!(count(number), text);
        }
        assert_eq!(bytes(1536.0), "1.50 KiB");
        assert_eq!(percent(0.125), "12.5 %");
    }
}
