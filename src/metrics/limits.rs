//! What rate limits did, per limit.
//!
//! Decides: which outcomes are told apart. May not know: limits, but for their names. Invariant: as with all counters of a
//! shard, only that shard writes them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus::proto::{MetricFamily, MetricType};

use super::render::{family, sample};
use super::{ShardMetrics, increase, zeros};
use crate::config::plan::Plan;
use crate::policy::limit::LimitId;

/// What became of a request at a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitCount {
    Admitted,
    /// Admitted after a wait.
    Delayed,
    Limited,
    /// Admitted, because the limit is only a shadow.
    Shadow,
    /// There was no room for its key.
    Full,
}

impl LimitCount {
    const ALL: [(LimitCount, &'static str); 5] = [
        (LimitCount::Admitted, "admitted"),
        (LimitCount::Delayed, "delayed"),
        (LimitCount::Limited, "limited"),
        (LimitCount::Shadow, "shadow"),
        (LimitCount::Full, "full"),
    ];
}

/// Aligned as a shard's counters are.
#[derive(Debug)]
#[repr(align(128))]
pub struct LimitMetrics([AtomicU64; LimitCount::ALL.len()]);

impl LimitMetrics {
    pub(super) fn new() -> LimitMetrics {
        LimitMetrics(zeros())
    }

    #[inline]
    pub fn count(&self, what: LimitCount) {
        increase(&self.0[what as usize], 1);
    }
}

pub(super) fn per_limit(shards: &[Arc<ShardMetrics>], plan: &Plan) -> MetricFamily {
    let mut samples = Vec::new();
    for (at, limit) in plan.rate_limits.iter().enumerate() {
        for (what, label) in LimitCount::ALL {
            let counts = shards.iter().map(|shard| {
                let cells = &shard.limit(LimitId(at as u32)).0;
                cells[what as usize].load(Ordering::Relaxed)
            });
            let count: u64 = counts.sum();
            let labels = [("limit", &*limit.name), ("result", label)];
            samples.push(sample(MetricType::COUNTER, &labels, count as f64));
        }
    }
    family(
        "corelane_rate_limit_requests_total",
        "Requests that met a rate limit, by what became of them there.",
        MetricType::COUNTER,
        samples,
    )
}
