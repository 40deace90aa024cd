//! Results as JSON.
//!
//! Decides: names and units of the result file. Invariant: durations are whole nanoseconds, shares are of 1, and
//! every name that has a unit ends in it.

use crate::json::{Object, quoted};
use crate::version;

use super::load::Load;
use super::outcome::Outcome;
use super::scenario::Scenario;
use super::tally::Trouble;
use super::text::QUANTILES;
use super::verdict::Verdict;

/// Changes when a reader has to.
const FORMAT: u32 = 1;

/// One result as an object, with a line break at its end.
pub fn render(
    scenario: &Scenario,
    outcome: &Outcome,
    verdicts: &[Verdict],
    unix_ms: u64,
) -> String {
    let total = &outcome.total;
    let mut out = Object::default();
    out.number("format", FORMAT);
    out.text("scenario", &scenario.name);
    out.text("about", &scenario.about);
    out.text("generator", &version::line());
    out.number("finished_unix_ms", unix_ms);
    let urls = scenario.urls.iter().map(|url| {
        let (authority, path) = (&url.authority, &url.path);
        quoted(&format!("http://{authority}{path}"))
    });
    out.list("urls", urls);
    pace(&mut out, scenario.load);
    let stages = scenario.stages.iter().map(|stage| {
        let mut out = Object::default();
        out.number("from", stage.from);
        out.number("to", stage.to);
        out.number("duration_ns", stage.duration_ns);
        out.finish()
    });
    out.list("stages", stages);
    out.number("warm_up_ns", scenario.warm_up_ns);
    out.number("elapsed_ns", outcome.elapsed_ns);
    out.number("requests", total.requests());
    out.number("answered", total.answered());
    out.number("answered_per_second", outcome.per_second(total.answered()));
    out.number("good", total.good);
    out.number("limited", total.limited);
    out.number("limited_share", total.limited_share());
    out.number("errors", total.errors());
    out.number("error_share", total.error_share());
    let mut troubles = Object::default();
    for trouble in Trouble::ALL {
        troubles.number(trouble.name(), total.count(trouble));
    }
    out.raw("errors_by_kind", &troubles.finish());
    let mut statuses = Object::default();
    for (status, count) in &total.statuses {
        statuses.number(&status.to_string(), count);
    }
    out.raw("statuses", &statuses.finish());
    out.raw("latency_ns", &latency(&total.latency));
    out.raw("limited_latency_ns", &latency(&total.limited_latency));
    out.number("bytes_in", total.bytes_in);
    out.number("bytes_out", total.bytes_out);
    out.number("connects", total.connects);
    out.number("reconnects", total.reconnects);
    out.number("idle_closed", outcome.idle_closed);
    out.raw("send_lag_ns", &latency(&total.lag));
    out.list("threads", threads(outcome));
    out.list(
        "bottlenecks",
        outcome
            .bottlenecks
            .iter()
            .map(|one| quoted(&one.to_string())),
    );
    out.list("thresholds", verdicts.iter().map(verdict));
    out.raw(
        "passed",
        &verdicts.iter().all(|verdict| verdict.is_met).to_string(),
    );
    out.list("points", points(outcome));
    out.finish() + "\n"
}

fn pace(out: &mut Object, load: Load) {
    match load {
        Load::Closed {
            think_ns,
            pipeline,
            connections,
        } => {
            out.text("loop", "closed");
            out.number("think_ns", think_ns);
            out.number("pipeline", pipeline);
            out.number("connections", connections);
        }
        Load::Open { connections } => {
            out.text("loop", "open");
            out.number("connections", connections);
        }
    }
}

fn latency(histogram: &hdrhistogram::Histogram<u64>) -> String {
    let mut out = Object::default();
    out.number("count", histogram.len());
    out.number("min", histogram.min());
    out.number("mean", histogram.mean());
    for (quantile, name) in QUANTILES {
        out.number(name, histogram.value_at_quantile(quantile));
    }
    out.number("max", histogram.max());
    out.finish()
}

fn threads(outcome: &Outcome) -> impl Iterator<Item = String> {
    outcome.threads.iter().map(|thread| {
        let mut out = Object::default();
        out.number("wall_ns", thread.wall_ns);
        out.number("cpu_ns", thread.usage.cpu_ns);
        out.number("wait_ns", thread.usage.wait_ns);
        out.number("intervals", thread.intervals);
        out.number("busy_intervals", thread.busy_intervals);
        out.finish()
    })
}

fn verdict(verdict: &Verdict) -> String {
    let mut out = Object::default();
    let measure = verdict.threshold.measure;
    out.text("measure", measure.name());
    out.text("unit", if measure.is_share() { "share" } else { "ns" });
    out.number("most", verdict.threshold.most);
    out.number("found", verdict.found);
    out.raw("met", &verdict.is_met.to_string());
    out.finish()
}

fn points(outcome: &Outcome) -> impl Iterator<Item = String> {
    outcome.points.iter().map(|point| {
        let mut out = Object::default();
        out.number("at_ns", point.at_ns);
        out.number("requests", point.requests);
        out.number("good", point.good);
        out.number("limited", point.limited);
        out.number("errors", point.errors);
        out.number("p50_ns", point.p50_ns);
        out.number("p99_ns", point.p99_ns);
        out.number("max_ns", point.max_ns);
        out.number("active", point.active);
        out.number("wanted", point.wanted);
        out.finish()
    })
}
