//! What was reached, beside what was to be reached.
//!
//! Decides: met or missed, by medians. May not know: how anything was measured. Invariant: a bound whose numbers
//! are not there is left out, never met.

use super::comparison::Measured;
use super::peer::Kind;
use super::sample::{Figure, Metric, Sample, figure, ratio};
use super::scenario::Bound;

/// Latencies may be as long as nginx's.
const LATENCY_MOST: f64 = 1.0;

pub(super) struct Verdict {
    pub(super) text: String,
    pub(super) reached: Figure,
    pub(super) most: f64,
    pub(super) is_met: bool,
}

pub(super) fn judge(bounds: &[Bound], variants: &[Measured]) -> Vec<Verdict> {
    bounds
        .iter()
        .flat_map(|bound| one(*bound, variants))
        .collect()
}

fn one(bound: Bound, variants: &[Measured]) -> Vec<Verdict> {
    let verdict = |text: String, reached: Option<Figure>, most: f64| {
        reached.map(|reached| Verdict {
            text,
            reached,
            most,
            is_met: reached.median <= most,
        })
    };
    let base = &variants[0];
    let of = |measured: &Measured, kind: Kind, metric| {
        let samples = measured.of(kind.name())?;
        // An empty sample has no ratio; then there is no verdict.
        figure(samples, metric).map(|_| samples.to_vec())
    };
    let beside = |kind, metric| {
        let ours = of(base, Kind::Corelane, metric)?;
        ratio(&ours, &of(base, kind, metric)?, metric)
    };
    let grown = |kind, label: &str| {
        let variant = variants.iter().find(|one| one.label == label)?;
        let (small, large) = (base.of(kind)?, variant.of(kind)?);
        Some(growth(small, large))
    };
    match bound {
        Bound::Cpu(kind, most) => {
            let text = format!("CPU per request ≤ {most} × {}", kind.name());
            verdict(text, beside(kind, Metric::Cpu), most)
                .into_iter()
                .collect()
        }
        Bound::Idle(most) => {
            let samples = base.of(Kind::Corelane.name()).unwrap_or(&[]);
            let text = format!("≤ {most} bytes per idle connection");
            let reached = figure(samples, Metric::Idle);
            verdict(text, reached, most).into_iter().collect()
        }
        Bound::Growth { variant, most } => {
            let text = format!(
                "CPU per request with {variant} ≤ {most} × that with {}",
                base.label
            );
            let reached = grown(Kind::Corelane.name(), variant).and_then(Figure::of);
            verdict(text, reached, most).into_iter().collect()
        }
        Bound::GrowthOfNginx { variant } => {
            let ours = grown(Kind::Corelane.name(), variant);
            let nginx = grown(Kind::Nginx.name(), variant);
            let text = format!("growth with {variant} ≤ nginx's growth");
            let reached = ours.zip(nginx).and_then(|(ours, nginx)| {
                Figure::of(ours.iter().zip(nginx).map(|(ours, nginx)| ours / nginx))
            });
            verdict(text, reached, 1.0).into_iter().collect()
        }
        Bound::Latency => [(Metric::P50, "p50"), (Metric::P99, "p99")]
            .into_iter()
            .filter_map(|(metric, name)| {
                let text = format!("{name} at half of nginx's rate ≤ nginx's");
                verdict(text, beside(Kind::Nginx, metric), LATENCY_MOST)
            })
            .collect(),
    }
}

/// CPU per request as a multiple, round by round.
pub(super) fn growth(small: &[Sample], large: &[Sample]) -> Vec<f64> {
    let pairs = small.iter().zip(large);
    let cpu = |sample: &Sample| sample.get(Metric::Cpu);
    pairs
        .filter_map(|(small, large)| Some(cpu(large)? / cpu(small)?))
        .collect()
}
