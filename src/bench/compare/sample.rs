//! What was measured, and what it says: medians, spread, ratios.
//!
//! Decides: how rounds become one figure. May not know: how anything was measured. Invariant: a ratio compares
//! two samples of the same round, so that whatever else the machine did hit both.

/// A kind of number. Smaller is better, except for requests per second and shares that only describe the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Metric {
    /// CPU time per request, of all threads of the proxy.
    Cpu,
    User,
    System,
    PerSecond,
    /// Of an answer with its head, where proxies may answer differently.
    Answer,
    /// Of the time, how much the proxy ran.
    Busy,
    /// Of the time, how long something else ran on the proxy's CPU.
    Others,
    /// Of the CPU's time, how much was given to other machines.
    Stolen,
    Peak,
    P50,
    P99,
    P999,
    /// CPU time per request at the fixed rate at which latencies are measured.
    RatedCpu,
    Idle,
    Empty,
}

impl Metric {
    pub(super) const ALL: [Metric; 15] = [
        Metric::Cpu,
        Metric::User,
        Metric::System,
        Metric::PerSecond,
        Metric::Answer,
        Metric::Busy,
        Metric::Others,
        Metric::Stolen,
        Metric::Peak,
        Metric::P50,
        Metric::P99,
        Metric::P999,
        Metric::RatedCpu,
        Metric::Idle,
        Metric::Empty,
    ];

    /// In result files; ends in the unit where there is one.
    pub(super) fn name(self) -> &'static str {
        match self {
            Metric::Cpu => "cpu_us",
            Metric::User => "user_us",
            Metric::System => "system_us",
            Metric::PerSecond => "requests_per_second",
            Metric::Answer => "answer_bytes",
            Metric::Busy => "busy_share",
            Metric::Others => "others_share",
            Metric::Stolen => "stolen_share",
            Metric::Peak => "peak_bytes",
            Metric::P50 => "p50_us",
            Metric::P99 => "p99_us",
            Metric::P999 => "p999_us",
            Metric::RatedCpu => "rated_cpu_us",
            Metric::Idle => "idle_connection_bytes",
            Metric::Empty => "empty_bytes",
        }
    }
}

/// The numbers of one subject in one round.
#[derive(Debug, Clone, Default)]
pub(super) struct Sample(Vec<(Metric, f64)>);

impl Sample {
    pub(super) fn set(&mut self, metric: Metric, value: f64) {
        // A division by nothing says nothing.
        if value.is_finite() {
            self.0.push((metric, value));
        }
    }

    pub(super) fn get(&self, metric: Metric) -> Option<f64> {
        let found = self.0.iter().find(|(known, _)| *known == metric);
        found.map(|(_, value)| *value)
    }

    pub(super) fn add(&mut self, other: Sample) {
        self.0.extend(other.0);
    }
}

/// A median with the smallest and the largest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Figure {
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

impl Figure {
    pub(super) fn of(values: impl IntoIterator<Item = f64>) -> Option<Figure> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            (values[middle - 1] + values[middle]) / 2.0
        };
        Some(Figure { median, min, max })
    }
}

/// A metric over the rounds.
pub(super) fn figure(samples: &[Sample], metric: Metric) -> Option<Figure> {
    Figure::of(samples.iter().filter_map(|sample| sample.get(metric)))
}

/// How many times one is the other, round by round.
pub(super) fn ratio(of: &[Sample], to: &[Sample], metric: Metric) -> Option<Figure> {
    let pairs = of.iter().zip(to);
    let ratios = pairs.filter_map(|(of, to)| Some(of.get(metric)? / to.get(metric)?));
    // To nothing, there is no ratio.
    Figure::of(ratios.filter(|ratio| ratio.is_finite()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(values: &[f64]) -> Vec<Sample> {
        let sample = |value: &f64| {
            let mut sample = Sample::default();
            sample.set(Metric::Cpu, *value);
            sample
        };
        values.iter().map(sample).collect()
    }

    #[test]
    fn medians_and_their_spread() {
        let figure = |values: &[f64]| Figure::of(values.iter().copied());
        let expected = |median, min, max| Some(Figure { median, min, max });
        assert_eq!(figure(&[]), None);
        assert_eq!(figure(&[3.0, 1.0, 2.0]), expected(2.0, 1.0, 3.0));
        assert_eq!(figure(&[4.0, 1.0, 2.0, 3.0]), expected(2.5, 1.0, 4.0));
    }

    #[test]
    fn ratios_are_those_of_the_same_round() {
        // The machine was twice as slow in the second round: the ratio does not move.
        let found = ratio(&samples(&[1.0, 2.0]), &samples(&[2.0, 4.0]), Metric::Cpu);
        let half = Figure {
            median: 0.5,
            min: 0.5,
            max: 0.5,
        };
        assert_eq!(found, Some(half));
        assert_eq!(ratio(&samples(&[1.0]), &samples(&[]), Metric::Cpu), None);
        assert_eq!(
            ratio(&samples(&[1.0, 0.0]), &samples(&[0.0, 0.0]), Metric::Cpu),
            None
        );
        assert_eq!(
            ratio(&samples(&[1.0]), &samples(&[0.0]), Metric::Peak),
            None
        );
    }
}
