//! Who gets requests, as metrics.
//!
//! Decides: which of what is known of backends and shards becomes a sample. May not know: how it changes.

use prometheus::proto::{MetricFamily, MetricType};

use crate::config::plan::Nanos;
use crate::ledger::Ledger;
use crate::policy::BackendId;
use crate::policy::health::Standing;
use crate::shared::Shared;

use super::render::{family, labels_of, sample};

/// One sample per backend, and per value of a further label where there is one.
pub(super) fn per_backend(families: &mut Vec<MetricFamily>, shared: &Shared, ledger: &Ledger) {
    let (plan, backends) = (&*shared.plan, &shared.backends);
    let standing = |id: BackendId| backends.word(id).standing();
    let mut one_each = |name, help, value: &dyn Fn(BackendId) -> u32| {
        let each = labels_of(plan);
        let samples =
            each.map(|(id, labels)| sample(MetricType::GAUGE, &labels, f64::from(value(id))));
        families.push(family(name, help, MetricType::GAUGE, samples.collect()));
    };
    one_each(
        "corelane_backend_up",
        "1: the backend gets requests. 0: it gets none, or a few on trial.",
        &|id| u32::from(backends.word(id).is_available()),
    );
    one_each(
        "corelane_backend_weight",
        "The weight of a backend now.",
        &|id| backends.weight(id),
    );
    one_each(
        "corelane_backend_connections",
        "Connections open to a backend, idle ones included.",
        &|id| backends.connections(id),
    );
    let mut by_label = |name, help, kind, key, values: &[(&str, &dyn Fn(BackendId) -> u64)]| {
        let each = labels_of(plan).flat_map(|(id, [cluster, backend])| {
            values.iter().map(move |(label, value)| {
                sample(kind, &[cluster, backend, (key, label)], value(id) as f64)
            })
        });
        families.push(family(name, help, kind, each.collect()));
    };
    let is = |wanted| move |id| u64::from(standing(id) == wanted);
    let is = Standing::ALL.map(|wanted| (wanted.name(), is(wanted)));
    by_label(
        "corelane_backend_standing",
        "1 for how a backend stands, 0 for how it does not.",
        MetricType::GAUGE,
        "standing",
        &is.each_ref().map(|(name, is)| (*name, is as _)),
    );
    let changes = |to| move |id| ledger.counts(id).changes_to(to);
    let changes = Standing::ALL.map(|to| (to.name(), changes(to)));
    by_label(
        "corelane_backend_changes_total",
        "Changes of how a backend stands, by what it became.",
        MetricType::COUNTER,
        "to",
        &changes.each_ref().map(|(name, count)| (*name, count as _)),
    );
    by_label(
        "corelane_backend_checks_total",
        "Active checks of a backend.",
        MetricType::COUNTER,
        "result",
        &[
            ("passed", &|id| ledger.counts(id).checks_passed),
            ("failed", &|id| ledger.counts(id).checks_failed),
        ],
    );
}

/// Which shards show no sign of life.
pub(super) fn stuck(shared: &Shared, now: Nanos) -> MetricFamily {
    let samples = (0..shared.shards()).map(|shard| {
        let is_stuck = match shared.last_beat(shard) {
            0 => false,
            beat => now.saturating_sub(beat) > shared.plan.stuck_ns,
        };
        let labels = [("shard", &*shard.to_string())];
        sample(MetricType::GAUGE, &labels, f64::from(u8::from(is_stuck)))
    });
    family(
        "corelane_shard_stuck",
        "1: the shard shows no sign of life for longer than its limit.",
        MetricType::GAUGE,
        samples.collect(),
    )
}
