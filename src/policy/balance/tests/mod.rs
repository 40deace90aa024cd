//! Tables of cases and simulations of the algorithms, on a cluster of plain numbers.

mod every;
mod keyed;
mod load;
mod round_robin;

use super::*;

/// The state of a cluster, indexed by `BackendId`.
#[derive(Debug, Clone)]
struct Cluster {
    usable: Vec<bool>,
    loads: Vec<u32>,
    shares: Vec<u32>,
    latencies: Vec<u64>,
}

impl Cluster {
    /// All usable, idle, of whole share and unknown latency.
    fn new(count: usize) -> Self {
        Cluster {
            usable: vec![true; count],
            loads: vec![0; count],
            shares: vec![SHARE_WHOLE; count],
            latencies: vec![0; count],
        }
    }

    fn without(mut self, down: &[usize]) -> Self {
        down.iter().for_each(|at| self.usable[*at] = false);
        self
    }
}

impl View for Cluster {
    fn usable(&self, id: BackendId) -> bool {
        self.usable[id.0 as usize]
    }

    fn load(&self, id: BackendId) -> u32 {
        self.loads[id.0 as usize]
    }

    fn total_load(&self) -> u32 {
        self.loads.iter().fold(0, |a, load| a.saturating_add(*load))
    }

    fn share(&self, id: BackendId) -> u32 {
        self.shares[id.0 as usize]
    }

    fn latency_ns(&self, id: BackendId) -> u64 {
        self.latencies[id.0 as usize]
    }
}

/// All algorithms, one bounded hash among them.
const ALGORITHMS: [Algorithm; 7] = [
    Algorithm::RoundRobin,
    Algorithm::LeastConnections,
    Algorithm::PowerOfTwo,
    Algorithm::Random,
    Algorithm::ConsistentHash {
        bound_percent: None,
    },
    Algorithm::ConsistentHash {
        bound_percent: Some(125),
    },
    Algorithm::PeakEwma,
];

/// A balance over backends 0, 1, 2 ... with names of their own.
fn build(algorithm: Algorithm, weights: &[u32]) -> Option<Balance> {
    let names: Vec<String> = (0..weights.len())
        .map(|i| format!("http://10.0.0.{i}:8080"))
        .collect();
    let backends: Vec<(BackendId, &str, u32)> = names
        .iter()
        .zip(weights)
        .enumerate()
        .map(|(i, (name, weight))| (BackendId(i as u32), name.as_str(), *weight))
        .collect();
    Balance::new(algorithm, &backends)
}

/// The first `count` picks of one shard, with keys from 0 on.
fn picks(balance: &Balance, view: &impl View, count: usize) -> Vec<u32> {
    let mut turn = balance.start(0, 1, 1);
    let mut pick = |key| balance.pick(&mut turn, key as u64, view);
    (0..count).map(|key| pick(key).unwrap().0).collect()
}

/// How often each backend was picked.
fn counts(picked: &[u32], backends: usize) -> Vec<u32> {
    let mut counts = vec![0; backends];
    picked.iter().for_each(|id| counts[*id as usize] += 1);
    counts
}

/// Each count is its part of the whole, give or take `slack` of the whole.
fn assert_parts(counts: &[u32], weights: &[u32], slack: f64, what: &str) {
    let whole = f64::from(counts.iter().sum::<u32>());
    let weight = f64::from(weights.iter().sum::<u32>());
    for (count, part) in counts.iter().zip(weights) {
        let off = f64::from(*count) / whole - f64::from(*part) / weight;
        assert!(off.abs() <= slack, "{what}, {weights:?}: {counts:?}");
    }
}
