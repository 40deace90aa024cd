//! What a scenario came to, while it is put together.
//!
//! Decides: what was wrong with the circumstances. May not know: how anything was measured. Invariant: a warning
//! is said once, however many rounds it holds for.

use std::collections::BTreeMap;

use crate::bench::outcome::Bottleneck;

use super::peer::Kind;
use super::sample::{Metric, Sample, figure};
use super::scenario::Scenario;
use super::verdict::{self, Verdict};

/// With others on its CPU for more of the time than this, a proxy was not alone.
const OTHERS_SHARE_MAX: f64 = 0.05;
const STOLEN_SHARE_MAX: f64 = 0.05;
/// A backend that costs more than this part of the cheapest proxy does not leave the measuring to the proxies.
const BACKEND_SHARE_MAX: f64 = 0.6;
/// Who does not take part, and why.
pub(super) type Absent = Vec<(String, &'static str)>;

/// What a scenario came to.
pub(super) struct Comparison {
    pub(super) scenario: Scenario,
    pub(super) variants: Vec<Measured>,
    pub(super) verdicts: Vec<Verdict>,
    pub(super) warnings: Vec<String>,
    pub(super) absent: Absent,
}

pub(super) struct Measured {
    pub(super) label: &'static str,
    /// Requests per second at which latencies were measured.
    pub(super) rate: Option<f64>,
    /// By name, a sample for each round.
    pub(super) subjects: Vec<(String, Vec<Sample>)>,
    /// The backend asked directly, for what it costs itself.
    pub(super) backend: Vec<Sample>,
}

impl Measured {
    pub(super) fn of(&self, name: &str) -> Option<&[Sample]> {
        let found = self.subjects.iter().find(|(known, _)| known == name);
        found.map(|(_, samples)| samples.as_slice())
    }
}

impl Comparison {
    pub(super) fn add(&mut self, variant: usize, name: &str, sample: Sample) {
        let subjects = &mut self.variants[variant].subjects;
        if let Some((_, samples)) = subjects.iter_mut().find(|(known, _)| known == name) {
            samples.push(sample);
        }
    }

    /// More numbers for a round that has some already.
    pub(super) fn join(&mut self, name: &str, round: u32, sample: Sample) {
        let subjects = &mut self.variants[0].subjects;
        let found = subjects.iter_mut().find(|(known, _)| known == name);
        if let Some(known) = found.and_then(|(_, samples)| samples.get_mut(round as usize)) {
            known.add(sample);
        }
    }

    /// The worst round of each subject in which it was not alone.
    fn judge_business(&mut self) {
        let mut worst: BTreeMap<&str, [f64; 2]> = BTreeMap::new();
        for (name, samples) in self.variants.iter().flat_map(|variant| &variant.subjects) {
            let shares = worst.entry(name).or_default();
            for (share, metric) in shares.iter_mut().zip([Metric::Others, Metric::Stolen]) {
                let found = figure(samples, metric).map_or(0.0, |figure| figure.max);
                *share = share.max(found);
            }
        }
        let mut said = Vec::new();
        for (name, [others, stolen]) in worst {
            if others > OTHERS_SHARE_MAX {
                let percent = others * 100.0;
                said.push(format!(
                    "something else ran on {name}'s CPU, for up to {percent:.0} % of a round"
                ));
            }
            if stolen > STOLEN_SHARE_MAX {
                let percent = stolen * 100.0;
                said.push(format!(
                    "other machines took up to {percent:.0} % of {name}'s CPU in a round"
                ));
            }
        }
        self.warnings.extend(said);
    }

    /// Who does less at most than is asked of everybody for the latencies.
    pub(super) fn note_overload(&mut self, rate: f64) {
        let subjects = self.variants[0].subjects.iter();
        let slow = subjects.filter(|(_, samples)| {
            figure(samples, Metric::PerSecond).is_some_and(|most| most.median < rate)
        });
        let said: Vec<String> = slow
            .map(|(name, _)| {
                format!("{name} cannot keep up with {rate:.0} requests/s: its latencies are those of an overload")
            })
            .collect();
        self.warnings.extend(said);
    }

    /// Without numbers: said once, however many rounds.
    pub(super) fn note_bottleneck(&mut self, name: &str, bottleneck: Bottleneck) {
        match bottleneck {
            Bottleneck::Busy { .. } => {
                self.warn(format!(
                    "{name}, latencies: the generator had no CPU to spare"
                ));
            }
            // With two CPUs it shares one with the backend, which hits everybody in the same way.
            Bottleneck::Waited { .. } => {}
            Bottleneck::Late { .. } => {
                self.warn(format!(
                    "{name}, latencies: one request in a hundred was sent late"
                ));
            }
            Bottleneck::Unsent { .. } => {
                self.warn(format!("{name} could not keep up with the rate"));
            }
        }
    }

    pub(super) fn judge_backend(&mut self) {
        let variant = &self.variants[0];
        let Some(backend) = figure(&variant.backend, Metric::Cpu) else {
            return;
        };
        let proxies = variant
            .subjects
            .iter()
            .filter_map(|(name, samples)| Some((name, figure(samples, Metric::Cpu)?.median)));
        let Some((name, least)) = proxies.min_by(|a, b| a.1.total_cmp(&b.1)) else {
            return;
        };
        if backend.median > BACKEND_SHARE_MAX * least {
            self.warn(format!(
                "the backend costs {:.2} of the cheapest proxy ({name}): it takes part in what is measured",
                backend.median / least
            ));
        }
    }

    fn warn(&mut self, warning: String) {
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    pub(super) fn judge(&mut self) {
        self.judge_business();
        self.verdicts = verdict::judge(&self.scenario.bounds, &self.variants);
    }
}

impl Measured {
    /// Half of what nginx does at most; without nginx, of what the slowest does.
    pub(super) fn half_rate(&self) -> Option<f64> {
        let rate = |samples: &[Sample]| Some(figure(samples, Metric::PerSecond)?.median);
        let slowest = || {
            let rates = self
                .subjects
                .iter()
                .filter_map(|(_, samples)| rate(samples));
            rates.min_by(f64::total_cmp)
        };
        let nginx = self.of(Kind::Nginx.name()).and_then(rate);
        Some((nginx.or_else(slowest)? / 2.0).round())
    }
}
