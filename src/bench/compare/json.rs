//! A comparison as JSON, from which docs/PERFORMANCE.md is made.
//!
//! Decides: names. Invariant: every figure stands beside the samples that it was made of.

use crate::json::{Object, quoted};

use super::about::About;
use super::comparison::{Comparison, Measured};
use super::peer::Kind;
use super::sample::{Figure, Metric, Sample, figure, ratio};
use super::verdict::{Verdict, growth};

/// Changes when a reader has to.
const FORMAT: u32 = 1;

pub(super) fn render(about: &About, comparisons: &[Comparison]) -> String {
    let mut out = Object::default();
    out.number("format", FORMAT);
    out.text("command", &about.command);
    out.number("started_unix_ms", about.started_unix_ms);
    out.text("generator", &about.generator);
    out.text("cpu", &about.cpu);
    out.number("cpus", about.cpus);
    out.text("memory", &about.memory);
    out.text("kernel", &about.kernel);
    out.text("congestion", &about.congestion);
    out.number("load_before", about.load);
    out.number("rounds", about.rounds);
    out.number("seconds", about.seconds);
    let mut versions = Object::default();
    for (name, version) in &about.versions {
        versions.text(name, version);
    }
    out.raw("versions", &versions.finish());
    out.list("scenarios", comparisons.iter().map(comparison));
    out.finish() + "\n"
}

fn comparison(comparison: &Comparison) -> String {
    let mut out = Object::default();
    out.text("name", comparison.scenario.name);
    out.text("about", comparison.scenario.about);
    let variants = &comparison.variants;
    out.list(
        "variants",
        variants
            .iter()
            .map(|variant| measured(variant, &variants[0])),
    );
    out.list("verdicts", comparison.verdicts.iter().map(verdict));
    let warnings = comparison.warnings.iter();
    out.list("warnings", warnings.map(|text| quoted(text)));
    let mut absent = Object::default();
    for (name, why) in &comparison.absent {
        absent.text(name, why);
    }
    out.raw("absent", &absent.finish());
    out.finish()
}

fn measured(variant: &Measured, base: &Measured) -> String {
    let mut out = Object::default();
    out.text("label", variant.label);
    if let Some(rate) = variant.rate {
        out.number("rate", rate);
    }
    let ours = variant.of(Kind::Corelane.name()).unwrap_or(&[]);
    let rows = variant.subjects.iter().map(|(name, samples)| {
        let grown = base.of(name).filter(|_| variant.label != base.label);
        let grown = grown.and_then(|small| Figure::of(growth(small, samples)));
        subject(name, samples, ours, grown)
    });
    let backend =
        (!variant.backend.is_empty()).then(|| subject("backend", &variant.backend, ours, None));
    out.list("subjects", rows.chain(backend));
    out.finish()
}

fn subject(name: &str, samples: &[Sample], ours: &[Sample], grown: Option<Figure>) -> String {
    let mut out = Object::default();
    out.text("name", name);
    for metric in Metric::ALL {
        let Some(known) = figure(samples, metric) else {
            continue;
        };
        let mut inside = Object::default();
        spread(&mut inside, known);
        if let Some(ratio) = ratio(ours, samples, metric) {
            let mut of = Object::default();
            spread(&mut of, ratio);
            inside.raw("corelane_ratio", &of.finish());
        }
        let values = samples.iter().filter_map(|sample| sample.get(metric));
        inside.list("samples", values.map(|value| value.to_string()));
        out.raw(metric.name(), &inside.finish());
    }
    if let Some(grown) = grown {
        let mut inside = Object::default();
        spread(&mut inside, grown);
        out.raw("growth", &inside.finish());
    }
    out.finish()
}

fn spread(out: &mut Object, figure: Figure) {
    out.number("median", figure.median);
    out.number("min", figure.min);
    out.number("max", figure.max);
}

fn verdict(verdict: &Verdict) -> String {
    let mut out = Object::default();
    out.text("text", &verdict.text);
    spread(&mut out, verdict.reached);
    out.number("most", verdict.most);
    out.raw("is_met", &verdict.is_met.to_string());
    out.finish()
}
