//! Was it good enough?
//!
//! Decides: whether a threshold is missed. May not know: where it was written. Invariant: a run without a single
//! good answer misses every threshold: no latency is not a low latency.

use super::outcome::Outcome;

/// What a threshold is about. All are upper bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    P50,
    P95,
    P99,
    P999,
    /// Share of requests that failed.
    Errors,
    /// Share of requests that got 429.
    Limited,
}

impl Measure {
    pub const ALL: [Measure; 6] = [
        Measure::P50,
        Measure::P95,
        Measure::P99,
        Measure::P999,
        Measure::Errors,
        Measure::Limited,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Measure::P50 => "p50",
            Measure::P95 => "p95",
            Measure::P99 => "p99",
            Measure::P999 => "p999",
            Measure::Errors => "errors",
            Measure::Limited => "limited",
        }
    }

    /// A share of 1; otherwise nanoseconds.
    pub fn is_share(self) -> bool {
        match self {
            Measure::Errors | Measure::Limited => true,
            Measure::P50 | Measure::P95 | Measure::P99 | Measure::P999 => false,
        }
    }

    fn of(self, outcome: &Outcome) -> f64 {
        let latency = |quantile| outcome.latency_ns(quantile) as f64;
        match self {
            Measure::P50 => latency(0.5),
            Measure::P95 => latency(0.95),
            Measure::P99 => latency(0.99),
            Measure::P999 => latency(0.999),
            Measure::Errors => outcome.total.error_share(),
            Measure::Limited => outcome.total.limited_share(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Threshold {
    pub measure: Measure,
    /// Nanoseconds or a share.
    pub most: f64,
}

/// A threshold beside what was reached.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verdict {
    pub threshold: Threshold,
    pub found: f64,
    pub is_met: bool,
}

pub fn judge(outcome: &Outcome, thresholds: &[Threshold]) -> Vec<Verdict> {
    let judge = |threshold: &Threshold| {
        let found = threshold.measure.of(outcome);
        Verdict {
            threshold: *threshold,
            found,
            is_met: outcome.total.good > 0 && found <= threshold.most,
        }
    };
    thresholds.iter().map(judge).collect()
}
