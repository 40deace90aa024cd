//! Results as a page that needs nothing but itself.
//!
//! Decides: what a report shows and in which order. May not know: how it was measured. Invariant: no address, no
//! script and no file outside of the page is referred to; everything that a person wrote is escaped.

use std::fmt::Write;

use crate::config::plan::Nanos;
use crate::version;

use super::chart::{Chart, Scale, Series, escape, linear_ticks};
use super::load::Load;
use super::outcome::{Outcome, Point};
use super::scenario::Scenario;
use super::tally::Trouble;
use super::text::{QUANTILES, bound, bytes, count, describe, digits, percent, time};
use super::verdict::Verdict;

const STYLE: &str = include_str!("report.css");

/// The percentile curve has so many places between 0 % and its end.
const CURVE_PLACES: u32 = 120;

pub fn render(scenario: &Scenario, outcome: &Outcome, verdicts: &[Verdict]) -> String {
    let mut out = String::with_capacity(256 * 1024);
    let name = escape(&scenario.name);
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <title>{name} · load test</title>\n<style>\n{STYLE}</style>\n<h1>{name}</h1>\n"
    );
    let urls: Vec<String> = scenario
        .urls
        .iter()
        .map(|url| escape(&format!("http://{}{}", url.authority, url.path)))
        .collect();
    for line in [
        escape(&scenario.about),
        escape(&describe(scenario)),
        format!("{} {}", escape(&scenario.message.method), urls.join(", ")),
    ] {
        if !line.is_empty() {
            let _ = writeln!(out, "<p>{line}</p>");
        }
    }
    notes(&mut out, outcome);
    tiles(&mut out, outcome, verdicts);
    out.push_str("<div class=\"row charts\">\n");
    out.push_str(&latency_chart(outcome));
    out.push_str(&curve_chart(outcome));
    out.push_str(&throughput_chart(scenario, outcome));
    out.push_str(&error_chart(outcome));
    out.push_str("</div>\n<div class=\"row tables\">\n");
    tables(&mut out, outcome, verdicts);
    let _ = write!(
        out,
        "</div>\n<p>{}</p>\n</html>\n",
        escape(&version::line())
    );
    out
}

fn notes(out: &mut String, outcome: &Outcome) {
    if outcome.bottlenecks.is_empty() {
        return;
    }
    out.push_str("<section class=\"note\"><h2>These numbers are not the target's alone</h2>");
    for bottleneck in &outcome.bottlenecks {
        let _ = write!(out, "<p>{}</p>", escape(&bottleneck.to_string()));
    }
    out.push_str("</section>\n");
}

fn tiles(out: &mut String, outcome: &Outcome, verdicts: &[Verdict]) {
    let total = &outcome.total;
    let missed = verdicts.iter().filter(|verdict| !verdict.is_met).count();
    let (word, class) = match (verdicts.len(), missed) {
        (0, _) => ("none set".to_owned(), ""),
        (all, 0) => (format!("{all} of {all} met"), "good"),
        (all, missed) => (format!("{missed} of {all} missed"), "bad"),
    };
    let errors = if total.errors() > 0 { "bad" } else { "" };
    out.push_str("<div class=\"row tiles\">\n");
    for (name, value, class) in [
        ("thresholds", word, class),
        (
            "answered per second",
            count(outcome.per_second(total.answered()) as u64),
            "",
        ),
        ("p50", time(outcome.latency_ns(0.5)), ""),
        ("p99", time(outcome.latency_ns(0.99)), ""),
        ("p99.9", time(outcome.latency_ns(0.999)), ""),
        ("errors", percent(total.error_share()), errors),
        ("limited (429)", percent(total.limited_share()), ""),
    ] {
        let _ = writeln!(
            out,
            "<div><b class=\"{class}\">{value}</b><span>{name}</span></div>"
        );
    }
    out.push_str("</div>\n");
}

fn over_time<'a>(
    outcome: &Outcome,
    title: &'a str,
    scale: Scale,
    format: fn(f64) -> String,
    series: Vec<Series>,
) -> Chart<'a> {
    let x: Vec<f64> = outcome
        .points
        .iter()
        .map(|point| seconds(point.at_ns))
        .collect();
    let most = x.last().copied().unwrap_or(1.0);
    let ticks = linear_ticks(most, 8.0);
    Chart {
        title,
        x_label: "seconds",
        x_ticks: ticks.into_iter().map(|at| (at, number(at))).collect(),
        x,
        scale,
        series,
        format,
        place: |at| format!("until {at:.1} s"),
    }
}

fn series(
    outcome: &Outcome,
    name: &'static str,
    class: &'static str,
    value: impl Fn(&Point) -> f64,
) -> Series {
    Series {
        name,
        class,
        values: outcome.points.iter().map(value).collect(),
    }
}

fn latency_chart(outcome: &Outcome) -> String {
    let lines = vec![
        series(outcome, "max", "c3", |point| point.max_ns as f64),
        series(outcome, "p99", "c2", |point| point.p99_ns as f64),
        series(outcome, "p50", "c1", |point| point.p50_ns as f64),
    ];
    over_time(outcome, "Latency over time", Scale::Log, latency, lines).render()
}

fn throughput_chart(scenario: &Scenario, outcome: &Outcome) -> String {
    let mut lines = vec![series(outcome, "requests/s", "c1", |point| {
        point.per_second(point.requests)
    })];
    match scenario.load {
        Load::Closed { .. } => {
            lines.push(series(outcome, "users", "c3", |point| {
                f64::from(point.active)
            }));
        }
        Load::Open { .. } => lines.push(series(outcome, "wanted", "c3", |point| point.wanted)),
    }
    over_time(outcome, "Throughput", Scale::Linear, number, lines).render()
}

fn error_chart(outcome: &Outcome) -> String {
    let lines = vec![
        series(outcome, "429/s", "c2", |point| {
            point.per_second(point.limited)
        }),
        series(outcome, "errors/s", "c4", |point| {
            point.per_second(point.errors)
        }),
    ];
    over_time(outcome, "Errors and refusals", Scale::Linear, number, lines).render()
}

/// The bottom axis counts nines: at 2, one request in a hundred is slower.
fn curve_chart(outcome: &Outcome) -> String {
    let histogram = &outcome.total.latency;
    // As far as there are requests to speak of.
    let nines = (histogram.len().max(10) as f64).log10().clamp(1.0, 6.0);
    let x: Vec<f64> = (0..=CURVE_PLACES)
        .map(|place| nines * f64::from(place) / f64::from(CURVE_PLACES))
        .collect();
    let quantile = |at: &f64| 1.0 - 10_f64.powf(-at);
    let values = x
        .iter()
        .map(|at| histogram.value_at_quantile(quantile(at)) as f64)
        .collect();
    let ticks = [
        (0.0, "0 %"),
        (0.301, "50 %"),
        (1.0, "90 %"),
        (2.0, "99 %"),
        (3.0, "99.9 %"),
        (4.0, "99.99 %"),
        (5.0, "99.999 %"),
        (6.0, "99.9999 %"),
    ];
    Chart {
        title: "Latency by percentile",
        x_label: "share of requests that were at least as fast",
        x,
        x_ticks: ticks
            .into_iter()
            .filter(|(at, _)| *at <= nines)
            .map(|(at, label)| (at, label.to_owned()))
            .collect(),
        scale: Scale::Log,
        series: vec![Series {
            name: "latency",
            class: "c1",
            values,
        }],
        format: latency,
        place: |at| format!("{:.4} %", 100.0 * (1.0 - 10_f64.powf(-at))),
    }
    .render()
}

fn tables(out: &mut String, outcome: &Outcome, verdicts: &[Verdict]) {
    let total = &outcome.total;
    let mut table = |title: &str, rows: &mut dyn Iterator<Item = (String, String, &str)>| {
        let _ = write!(out, "<section><h2>{title}</h2><table>");
        for (name, value, class) in rows {
            let (name, value) = (escape(&name), escape(&value));
            let _ = write!(
                out,
                "<tr><td>{name}</td><td class=\"{class}\">{value}</td></tr>"
            );
        }
        out.push_str("</table></section>\n");
    };
    if !verdicts.is_empty() {
        let rows = &mut verdicts.iter().map(|verdict| {
            let (word, class) = if verdict.is_met {
                ("met", "good")
            } else {
                ("missed", "bad")
            };
            (bound(verdict), word.to_owned(), class)
        });
        table("Thresholds", rows);
    }
    let quantiles = QUANTILES
        .iter()
        .map(|(quantile, name)| ((*name).to_owned(), time(outcome.latency_ns(*quantile)), ""));
    let max = ("max".to_owned(), time(total.latency.max()), "");
    table("Latency", &mut quantiles.chain([max]));
    let found = |trouble: &Trouble| total.count(*trouble) > 0;
    let troubles = Trouble::ALL.into_iter().filter(found).map(|trouble| {
        (
            trouble.name().replace('_', " "),
            count(total.count(trouble)),
            "bad",
        )
    });
    let sums = [
        ("requests", total.requests()),
        ("good", total.good),
        ("limited (429)", total.limited),
    ];
    let sums = sums.map(|(name, number)| (name.to_owned(), count(number), ""));
    let statuses = total
        .statuses
        .iter()
        .map(|(status, number)| (format!("status {status}"), count(*number), ""));
    table(
        "Requests",
        &mut sums.into_iter().chain(troubles).chain(statuses),
    );
    let rate = |all: u64| format!("{}/s", bytes(outcome.per_second(all)));
    let traffic = [
        ("received", rate(total.bytes_in)),
        ("sent", rate(total.bytes_out)),
        ("connections opened", count(total.connects)),
        ("closed by the target while idle", count(total.reconnects)),
    ];
    let traffic = traffic.map(|(name, value)| (name.to_owned(), value, ""));
    // A closed loop has no times at which something is due.
    let lag = (!total.lag.is_empty()).then(|| {
        let lag = time(total.lag.value_at_quantile(0.99));
        ("send lag, p99".to_owned(), lag, "")
    });
    let threads = outcome.threads.iter().enumerate().map(|(number, thread)| {
        let share = thread.usage.cpu_ns as f64 / thread.wall_ns.max(1) as f64;
        (
            format!("generator thread {number}, CPU"),
            percent(share),
            "",
        )
    });
    table(
        "Traffic and generator",
        &mut traffic.into_iter().chain(lag).chain(threads),
    );
}

fn seconds(ns: Nanos) -> f64 {
    ns as f64 / 1e9
}

fn latency(ns: f64) -> String {
    time(ns as Nanos)
}

fn number(value: f64) -> String {
    if value.fract() == 0.0 || value >= 100.0 {
        count(value as u64)
    } else {
        digits(value)
    }
}
