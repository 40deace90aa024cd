//! What a run came to.
//!
//! Decides: points over time, totals, and whether the generator itself was the bottleneck. May not know:
//! thresholds, how it is shown. Invariant: the total is the sum of what the threads sent, and nothing else.

use std::fmt;
use std::fs;
use std::sync::Arc;

use crate::config::plan::Nanos;

use super::load::{Config, level};
use super::run::Interval;
use super::tally::{Tally, Trouble};

/// A thread that runs for more than this part of an interval is busy throughout.
const BUSY_SHARE: f64 = 0.95;
/// With more than this part of its intervals busy, a thread was the bottleneck.
const BUSY_INTERVALS_SHARE: f64 = 0.2;
/// With more than this part of the time spent waiting for a CPU, the machine was.
const WAIT_SHARE: f64 = 0.1;
const LAG_NS_MAX: Nanos = 1_000_000;

/// CPU time of a thread.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// Running.
    pub cpu_ns: Nanos,
    /// Ready to run, while something else had the CPU.
    pub wait_ns: Nanos,
}

impl Usage {
    /// Of the calling thread, as the scheduler counts; zeros where it does not.
    pub(super) fn now() -> Usage {
        let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
        Usage::of(&text)
    }

    fn of(schedstat: &str) -> Usage {
        let mut numbers = schedstat.split_ascii_whitespace().map(str::parse);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(cpu_ns)), Some(Ok(wait_ns))) => Usage { cpu_ns, wait_ns },
            (_, _) => Usage::default(),
        }
    }

    pub(super) fn since(self, before: Usage) -> Usage {
        Usage {
            cpu_ns: self.cpu_ns.saturating_sub(before.cpu_ns),
            wait_ns: self.wait_ns.saturating_sub(before.wait_ns),
        }
    }
}

/// One interval of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Since the start, at its end.
    pub at_ns: Nanos,
    pub length_ns: Nanos,
    pub requests: u64,
    pub good: u64,
    pub limited: u64,
    pub errors: u64,
    pub p50_ns: Nanos,
    pub p99_ns: Nanos,
    pub max_ns: Nanos,
    /// Users or connections at its end.
    pub active: u32,
    /// What the stages wanted at its end: users, or requests per second.
    pub wanted: f64,
}

impl Point {
    pub fn per_second(&self, count: u64) -> f64 {
        count as f64 * 1e9 / self.length_ns.max(1) as f64
    }
}

#[derive(Debug, Clone, Copy, Default)]
pub struct ThreadUse {
    pub usage: Usage,
    pub wall_ns: Nanos,
    pub intervals: u32,
    pub busy_intervals: u32,
}

#[derive(Debug)]
pub struct Outcome {
    pub total: Tally,
    pub points: Vec<Point>,
    pub threads: Vec<ThreadUse>,
    /// The stages, or until the last request ended when that was later, or when the run was cut short; without
    /// the warm-up.
    pub elapsed_ns: Nanos,
    /// Idle connections that the target closed during the run.
    pub idle_closed: u32,
    /// Why the numbers say more about the generator than about the target; empty if they do not.
    pub bottlenecks: Vec<Bottleneck>,
}

impl Outcome {
    pub fn per_second(&self, count: u64) -> f64 {
        count as f64 * 1e9 / self.elapsed_ns.max(1) as f64
    }

    pub fn latency_ns(&self, quantile: f64) -> Nanos {
        self.total.latency.value_at_quantile(quantile)
    }

    fn find_bottlenecks(&self) -> Vec<Bottleneck> {
        let mut found = Vec::new();
        for (thread, used) in self.threads.iter().enumerate() {
            let share = f64::from(used.busy_intervals) / f64::from(used.intervals.max(1));
            if share > BUSY_INTERVALS_SHARE {
                found.push(Bottleneck::Busy { thread, share });
            }
            let share = used.usage.wait_ns as f64 / used.wall_ns.max(1) as f64;
            if share > WAIT_SHARE {
                found.push(Bottleneck::Waited { thread, share });
            }
        }
        let lag_ns = self.total.lag.value_at_quantile(0.99);
        if lag_ns > LAG_NS_MAX {
            found.push(Bottleneck::Late { lag_ns });
        }
        let count = self.total.count(Trouble::Unsent);
        if count > 0 {
            found.push(Bottleneck::Unsent { count });
        }
        found
    }
}

/// Why numbers say more about the generator than about the target.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bottleneck {
    /// A thread used its whole CPU in a share of the intervals.
    Busy { thread: usize, share: f64 },
    /// Something else had a thread's CPU for a share of the time.
    Waited { thread: usize, share: f64 },
    /// So late was one request in a hundred, although a connection was free.
    Late { lag_ns: Nanos },
    /// Requests were due, and no connection was ever free for them.
    Unsent { count: u64 },
}

impl fmt::Display for Bottleneck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bottleneck::Busy { thread, share } => write!(
                f,
                "thread {thread} of the generator used its whole CPU in {:.0} % of the time: give it more threads",
                share * 100.0
            ),
            Bottleneck::Waited { thread, share } => write!(
                f,
                "thread {thread} of the generator waited for a CPU in {:.0} % of the time: the machine was busy",
                share * 100.0
            ),
            Bottleneck::Late { lag_ns } => write!(
                f,
                "one request in a hundred was sent {:.1} ms late or later, with a connection free",
                *lag_ns as f64 / 1e6
            ),
            Bottleneck::Unsent { count } => write!(
                f,
                "{count} requests were due and never sent: all connections were waiting for answers"
            ),
        }
    }
}

/// Puts the threads' intervals together while they come.
pub(super) struct Collected {
    config: Arc<Config>,
    interval_ns: Nanos,
    total: Tally,
    points: Vec<Point>,
    /// Intervals that not all threads have reported, from `points.len()` on.
    open: Vec<Joint>,
    threads: Vec<ThreadUse>,
    /// How far each thread has reported.
    reported: Vec<usize>,
    idle_closed: Vec<u32>,
}

#[derive(Default)]
struct Joint {
    tally: Tally,
    active: u32,
}

impl Collected {
    pub(super) fn new(config: &Arc<Config>, interval_ns: Nanos) -> Collected {
        let threads = config.cores.len();
        Collected {
            config: Arc::clone(config),
            interval_ns,
            total: Tally::default(),
            points: Vec::new(),
            open: Vec::new(),
            threads: vec![ThreadUse::default(); threads],
            reported: vec![0; threads],
            idle_closed: vec![0; threads],
        }
    }

    pub(super) fn add(&mut self, interval: Interval, watch: &mut dyn FnMut(&Point)) {
        let thread = interval.thread as usize;
        self.reported[thread] = interval.number + 1;
        self.idle_closed[thread] = interval.idle_closed;
        if interval.number as u64 >= self.warm_up_intervals() {
            let used = &mut self.threads[thread];
            used.usage.cpu_ns += interval.usage.cpu_ns;
            used.usage.wait_ns += interval.usage.wait_ns;
            used.wall_ns += self.interval_ns;
            used.intervals += 1;
            let busy = interval.usage.cpu_ns as f64 / self.interval_ns as f64;
            used.busy_intervals += u32::from(busy > BUSY_SHARE);
            self.total.add(&interval.tally);
        }
        let at = interval.number - self.points.len();
        while self.open.len() <= at {
            self.open.push(Joint::default());
        }
        self.open[at].tally.add(&interval.tally);
        self.open[at].active += interval.active;
        while self.reported.iter().all(|count| *count > self.points.len()) {
            self.close(watch);
        }
    }

    /// Whole intervals: the first one that is counted begins after the warm-up.
    fn warm_up_intervals(&self) -> u64 {
        self.config.warm_up_ns.div_ceil(self.interval_ns)
    }

    /// Makes a point of the oldest open interval.
    fn close(&mut self, watch: &mut dyn FnMut(&Point)) {
        let joint = self.open.remove(0);
        let at_ns = (self.points.len() as u64 + 1) * self.interval_ns;
        let latency = &joint.tally.latency;
        let point = Point {
            at_ns,
            length_ns: self.interval_ns,
            requests: joint.tally.requests(),
            good: joint.tally.good,
            limited: joint.tally.limited,
            errors: joint.tally.errors(),
            p50_ns: latency.value_at_quantile(0.5),
            p99_ns: latency.value_at_quantile(0.99),
            max_ns: latency.max(),
            active: joint.active,
            wanted: level(&self.config.stages, at_ns - 1),
        };
        watch(&point);
        self.points.push(point);
    }

    pub(super) fn finish(mut self, watch: &mut dyn FnMut(&Point)) -> Outcome {
        // Threads may end in different intervals; the last ones are then those of some.
        while !self.open.is_empty() {
            self.close(watch);
        }
        let planned = self.config.duration_ns();
        let reached = (self.points.len() as u64 + 1) * self.interval_ns;
        let is_cut = self.config.requests_max.is_some() || reached < planned;
        let warm_up_ns = self.warm_up_intervals() * self.interval_ns;
        let end_ns = if is_cut {
            self.total.last_ns
        } else {
            self.total.last_ns.max(planned)
        };
        let mut outcome = Outcome {
            elapsed_ns: end_ns.saturating_sub(warm_up_ns),
            total: self.total,
            points: self.points,
            threads: self.threads,
            idle_closed: self.idle_closed.iter().sum(),
            bottlenecks: Vec::new(),
        };
        outcome.bottlenecks = outcome.find_bottlenecks();
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scheduler_numbers() {
        let usage = |cpu_ns, wait_ns| Usage { cpu_ns, wait_ns };
        assert_eq!(Usage::of("12 34 5\n"), usage(12, 34));
        assert_eq!(Usage::of(""), usage(0, 0));
        assert_eq!(usage(5, 9).since(usage(2, 3)), usage(3, 6));
    }
}
