//! A comparison as text.
//!
//! Decides: how numbers look. May not know: how they were measured. Invariant: a median never stands without its
//! spread, and a rate that the proxy did not limit is marked.

use std::fmt::Write;

use crate::bench::text::{bytes, count, digits, time};

use super::about::About;
use super::comparison::{Comparison, Measured};
use super::peer::Kind;
use super::sample::{Figure, Metric, Sample, figure, ratio};
use super::scenario::{Scenario, Variant, WAITING};
use super::verdict::growth;

/// Below this part of its core, it was not the proxy that limited the rate.
const BUSY_SHARE: f64 = 0.9;

pub(super) fn list(scenarios: &[Scenario]) -> String {
    let mut out = String::new();
    for scenario in scenarios {
        let _ = writeln!(out, "{:16} {}", scenario.name, scenario.about);
        if scenario.variants.len() > 1 {
            let labels: Vec<&str> = scenario.variants.iter().map(|one| one.label).collect();
            let _ = writeln!(out, "{:16}   {}", "", labels.join("; "));
        }
    }
    for (name, what) in WAITING {
        let _ = writeln!(out, "{name:16} waits for {what}");
    }
    out
}

pub(super) fn about(about: &About) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "{} × {}, {}", about.cpus, about.cpu, about.memory);
    let _ = writeln!(
        out,
        "Linux {}, congestion control {}; {} rounds of {} s",
        about.kernel, about.congestion, about.rounds, about.seconds
    );
    for (name, version) in &about.versions {
        let _ = writeln!(out, "{name:10} {version}");
    }
    if about.is_busy() {
        let _ = writeln!(
            out,
            "WARNING: the load average is {}: something else is running",
            about.load
        );
    }
    out
}

/// A line for each load, while it goes on.
pub(super) fn progress(
    scenario: &Scenario,
    variant: &Variant,
    name: &str,
    round: u32,
    sample: &Sample,
) {
    let shown = [Metric::Cpu, Metric::P50, Metric::P99, Metric::Idle];
    let shown = shown.into_iter().filter_map(|metric| {
        let value = sample.get(metric)?;
        Some(format!("{} {}", metric.name(), digits(value)))
    });
    let shown: Vec<String> = shown.collect();
    let label = match variant.label {
        "" => String::new(),
        label => format!(" ({label})"),
    };
    eprintln!(
        "  {}{label} round {} {name}: {}",
        scenario.name,
        round + 1,
        shown.join(", ")
    );
}

pub(super) fn result(comparison: &Comparison) -> String {
    let mut out = String::new();
    let scenario = &comparison.scenario;
    let _ = writeln!(out, "\n{}: {}", scenario.name, scenario.about);
    for variant in &comparison.variants {
        if !variant.label.is_empty() {
            let _ = writeln!(out, " {}", variant.label);
        }
        rows(&mut out, variant, &comparison.variants[0]);
    }
    for (name, why) in &comparison.absent {
        let _ = writeln!(out, "  {name:10} {why}");
    }
    for verdict in &comparison.verdicts {
        let word = if verdict.is_met { "met" } else { "MISSED" };
        let reached = spread(verdict.reached, digits);
        let _ = writeln!(out, "  {word}: {}: {reached}", verdict.text);
    }
    for warning in &comparison.warnings {
        let _ = writeln!(out, "  warning: {warning}");
    }
    out
}

fn rows(out: &mut String, variant: &Measured, base: &Measured) {
    let ours = variant.of(Kind::Corelane.name()).unwrap_or(&[]);
    for (name, samples) in &variant.subjects {
        let grown = base.of(name).filter(|_| variant.label != base.label);
        let grown = grown.and_then(|small| Figure::of(growth(small, samples)));
        row(out, name, samples, ours, grown);
    }
    row(out, "(backend)", &variant.backend, &[], None);
    if let Some(rate) = variant.rate {
        let rate = count(rate as u64);
        let _ = writeln!(out, "  latencies at {rate} requests/s");
    }
}

fn row(out: &mut String, name: &str, samples: &[Sample], ours: &[Sample], grown: Option<Figure>) {
    if samples.is_empty() {
        return;
    }
    let of = |metric| figure(samples, metric);
    let mut cells = Vec::new();
    if let Some(cpu) = of(Metric::Cpu) {
        cells.push(format!("{} µs", spread(cpu, digits)));
        if let (Some(user), Some(system)) = (of(Metric::User), of(Metric::System)) {
            let (user, system) = (digits(user.median), digits(system.median));
            cells.push(format!("{user} user + {system} system"));
        }
    }
    if let Some(idle) = of(Metric::Idle) {
        cells.push(format!("{} per connection", spread(idle, bytes)));
    }
    let metric = if of(Metric::Idle).is_some() {
        Metric::Idle
    } else {
        Metric::Cpu
    };
    if let Some(ratio) = ratio(ours, samples, metric).filter(|_| name != Kind::Corelane.name()) {
        cells.push(format!("corelane is {}", spread(ratio, digits)));
    }
    if let Some(grown) = grown {
        cells.push(format!("grown {} ×", spread(grown, digits)));
    }
    if let (Some(rate), Some(busy)) = (of(Metric::PerSecond), of(Metric::Busy)) {
        let mark = if busy.median < BUSY_SHARE { "≥ " } else { "" };
        cells.push(format!("{mark}{} r/s", count(rate.median as u64)));
    }
    if let Some(answer) = of(Metric::Answer) {
        cells.push(format!("{} an answer", bytes(answer.median)));
    }
    for (metric, label) in [
        (Metric::P50, "p50"),
        (Metric::P99, "p99"),
        (Metric::P999, "p99.9"),
    ] {
        if let Some(latency) = of(metric) {
            let spread = spread(latency, |us| time((us * 1e3) as u64));
            cells.push(format!("{label} {spread}"));
        }
    }
    if let Some(peak) = of(Metric::Peak) {
        cells.push(format!("peak {}", bytes(peak.median)));
    }
    let _ = writeln!(out, "  {name:10} {}", cells.join("; "));
}

fn spread(figure: Figure, show: impl Fn(f64) -> String) -> String {
    let (median, min, max) = (show(figure.median), show(figure.min), show(figure.max));
    format!("{median} ({min}–{max})")
}
