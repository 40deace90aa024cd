//! Counters of all shards → Prometheus text format 0.0.4.
//!
//! Decides: order and labels of the output. Called by the admin thread. The crate `prometheus` encodes (escaping,
//! cumulative buckets); of it we use only the encoder and its data types. Its own counters are atomic
//! read-modify-writes, and `prometheus-client` speaks OpenMetrics only.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus::TextEncoder;
use prometheus::proto;
use prometheus::proto::{LabelPair, Metric, MetricFamily, MetricType};

use crate::config::plan::{Nanos, Plan};
use crate::ledger::Ledger;
use crate::policy::BackendId;
use crate::shared::Shared;

use super::limits;
use super::process::Process;
use super::standing;
use super::{BOUNDS_NS, BackendMetrics, Class, Counter, Described, Gauge, Reason, ShardMetrics};

/// The media type of what [`render`] writes.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What does not change while the process runs.
#[derive(Debug, Default)]
pub struct Info {
    pub version: &'static str,
    pub commit: &'static str,
    /// `io_uring` or `epoll`.
    pub engine: String,
    /// The ring's set-up flags.
    pub flags: String,
    /// When the process started, in milliseconds since 1970.
    pub start_unix_ms: u64,
    /// From `LogQueue::write_errors`.
    pub log_write_errors: Arc<AtomicU64>,
}

/// Appends all metrics to `out`.
pub fn render(out: &mut String, shared: &Shared, ledger: &Ledger, info: &Info, now: Nanos) {
    let (shards, plan) = (&shared.metrics[..], &*shared.plan);
    let mut families = Vec::with_capacity(48);
    plain(
        &mut families,
        MetricType::COUNTER,
        Counter::ALL.iter().map(|counter| {
            (
                counter.described(),
                shards.iter().map(|shard| shard.counter(*counter)).sum(),
            )
        }),
    );
    plain(
        &mut families,
        MetricType::GAUGE,
        Gauge::ALL.iter().map(|gauge| {
            (
                gauge.described(),
                shards.iter().map(|shard| shard.gauge(*gauge)).sum(),
            )
        }),
    );
    families.push(durations(shards));
    families.push(rejected(shards));
    families.push(limits::per_limit(shards, plan));
    per_backend(&mut families, shards, plan);
    standing::per_backend(&mut families, shared, ledger);
    families.push(by_shard(shards));
    families.push(standing::stuck(shared, now));
    cache(&mut families, shared);
    per_process(&mut families, info, Process::read());
    // Clusters may be without backends, and a family without samples is an error to the encoder.
    families.retain(|family| !family.get_metric().is_empty());
    TextEncoder::new()
        .encode_utf8(&families, out)
        .expect("families have names and samples, and a String takes all");
}

/// Neighbours of one name become one family.
fn plain(
    families: &mut Vec<MetricFamily>,
    kind: MetricType,
    metrics: impl Iterator<Item = (Described, u64)>,
) {
    for (described, value) in metrics {
        let sample = sample(kind, described.label.as_slice(), value as f64);
        match families.last_mut() {
            Some(last) if last.name() == described.name => last.mut_metric().push(sample),
            Some(_) | None => {
                families.push(family(described.name, described.help, kind, vec![sample]));
            }
        }
    }
}

fn durations(shards: &[Arc<ShardMetrics>]) -> MetricFamily {
    let count_in = |bucket: usize| -> u64 {
        shards
            .iter()
            .map(|shard| shard.duration_buckets[bucket].load(Ordering::Relaxed))
            .sum()
    };
    let mut cumulative = 0;
    let mut buckets = Vec::with_capacity(BOUNDS_NS.len());
    for (index, bound_ns) in BOUNDS_NS.iter().enumerate() {
        cumulative += count_in(index);
        let mut bucket = proto::Bucket::default();
        bucket.set_upper_bound(seconds(*bound_ns));
        bucket.set_cumulative_count(cumulative);
        buckets.push(bucket);
    }
    // The count is summed from the buckets, not kept apart: while shards go on counting, the two would differ.
    cumulative += count_in(BOUNDS_NS.len());
    let sum_ns: u64 = shards
        .iter()
        .map(|shard| shard.duration_sum_ns.load(Ordering::Relaxed))
        .sum();
    let mut histogram = proto::Histogram::default();
    histogram.set_bucket(buckets);
    histogram.set_sample_count(cumulative);
    histogram.set_sample_sum(seconds(sum_ns));
    let mut metric = Metric::default();
    metric.set_histogram(histogram);
    family(
        "corelane_request_duration_seconds",
        "From the first byte of a request to the last byte of its response.",
        MetricType::HISTOGRAM,
        vec![metric],
    )
}

fn rejected(shards: &[Arc<ShardMetrics>]) -> MetricFamily {
    let samples = Reason::all().map(|reason| {
        let count: u64 = shards
            .iter()
            .map(|shard| shard.reasons[reason.index()].load(Ordering::Relaxed))
            .sum();
        sample(
            MetricType::COUNTER,
            &[("reason", reason.label())],
            count as f64,
        )
    });
    family(
        "corelane_rejected_total",
        "Requests and connections that ended otherwise than by a backend's complete response, by reason.",
        MetricType::COUNTER,
        samples.collect(),
    )
}

fn per_backend(families: &mut Vec<MetricFamily>, shards: &[Arc<ShardMetrics>], plan: &Plan) {
    let sum = |id: BackendId, cell: &dyn Fn(&BackendMetrics) -> u64| -> f64 {
        shards
            .iter()
            .map(|shard| cell(shard.backend(id)))
            .sum::<u64>() as f64
    };
    let mut requests = Vec::new();
    for (id, [cluster, backend]) in labels_of(plan) {
        let mut push = |code, value| {
            let labels = [cluster, backend, ("code", code)];
            requests.push(sample(MetricType::COUNTER, &labels, value));
        };
        for (class, code) in Class::LABELS.iter().enumerate() {
            push(
                code,
                sum(id, &|backend| {
                    backend.answered[class].load(Ordering::Relaxed)
                }),
            );
        }
        push(
            "error",
            sum(id, &|backend| backend.failed.load(Ordering::Relaxed)),
        );
    }
    families.push(family(
        "corelane_backend_requests_total",
        "Attempts at a backend, by class of its status; error: none came, and not because the client failed.",
        MetricType::COUNTER,
        requests,
    ));
    let mut one_each = |name, help, kind, cell: &dyn Fn(&BackendMetrics) -> u64| {
        let samples = labels_of(plan).map(|(id, labels)| sample(kind, &labels, sum(id, cell)));
        families.push(family(name, help, kind, samples.collect()));
    };
    one_each(
        "corelane_backend_inflight",
        "Requests at a backend now.",
        MetricType::GAUGE,
        &|backend| backend.inflight.load(Ordering::Relaxed),
    );
    one_each(
        "corelane_backend_connections_opened_total",
        "Connections opened to a backend.",
        MetricType::COUNTER,
        &|backend| backend.opened.load(Ordering::Relaxed),
    );
    one_each(
        "corelane_backend_connections_reused_total",
        "Requests sent on a backend connection that was open already.",
        MetricType::COUNTER,
        &|backend| backend.reused.load(Ordering::Relaxed),
    );
}

/// All backends with the labels that name them.
pub(super) fn labels_of(plan: &Plan) -> impl Iterator<Item = (BackendId, [(&str, &str); 2])> {
    (0_u32..)
        .map(BackendId)
        .zip(&plan.backends)
        .map(|(id, backend)| {
            let cluster = &plan.clusters[backend.cluster.0 as usize].name;
            (id, [("cluster", &**cluster), ("backend", &*backend.url)])
        })
}

fn by_shard(shards: &[Arc<ShardMetrics>]) -> MetricFamily {
    let samples = shards.iter().enumerate().map(|(number, shard)| {
        sample(
            MetricType::COUNTER,
            &[("shard", &number.to_string())],
            shard.requests() as f64,
        )
    });
    family(
        "corelane_shard_requests_total",
        "Requests answered, by shard.",
        MetricType::COUNTER,
        samples.collect(),
    )
}

/// What is stored; nothing where no route caches.
fn cache(families: &mut Vec<MetricFamily>, shared: &Shared) {
    let table = shared.cache.as_ref().map(|cache| cache.table.figures());
    let figures = table.unwrap_or_default();
    let purged = shared.purged.load(Ordering::Relaxed);
    let (counter, gauge) = (MetricType::COUNTER, MetricType::GAUGE);
    for (name, help, kind, value) in [
        (
            "corelane_cache_entries",
            "Entries of the cache.",
            gauge,
            figures.entries,
        ),
        (
            "corelane_cache_bytes",
            "Memory of what is stored, being fetched to be stored, or still read.",
            gauge,
            figures.bytes,
        ),
        (
            "corelane_cache_bytes_max",
            "Most memory that the cache takes.",
            gauge,
            figures.bytes_max,
        ),
        (
            "corelane_cache_evictions_total",
            "Entries that made room for others.",
            counter,
            figures.evictions,
        ),
        (
            "corelane_cache_purged_total",
            "Entries that operators have purged.",
            counter,
            purged,
        ),
    ] {
        let samples = vec![sample(kind, &[], value as f64)];
        families.push(family(name, help, kind, samples));
    }
}

fn per_process(families: &mut Vec<MetricFamily>, info: &Info, process: Process) {
    let mut one = |name, help, kind, labels: &[(&str, &str)], value: Option<f64>| {
        let samples = value.map(|value| sample(kind, labels, value));
        families.push(family(name, help, kind, samples.into_iter().collect()));
    };
    let (counter, gauge) = (MetricType::COUNTER, MetricType::GAUGE);
    let write_errors = info.log_write_errors.load(Ordering::Relaxed) as f64;
    let build = [("version", info.version), ("commit", info.commit)];
    let engine = [
        ("engine", info.engine.as_str()),
        ("flags", info.flags.as_str()),
    ];
    let start_seconds = info.start_unix_ms as f64 / 1e3;
    one(
        "corelane_log_write_errors_total",
        "Access log writes that failed.",
        counter,
        &[],
        Some(write_errors),
    );
    one(
        "corelane_build_info",
        "Version and commit of this process.",
        gauge,
        &build,
        Some(1.0),
    );
    one(
        "corelane_engine_info",
        "The I/O engine that the shards run on.",
        gauge,
        &engine,
        Some(1.0),
    );
    one(
        "process_cpu_seconds_total",
        "User and system time.",
        counter,
        &[],
        process.cpu_seconds,
    );
    one(
        "process_start_time_seconds",
        "Start time since 1970.",
        gauge,
        &[],
        Some(start_seconds),
    );
    let resident = process.resident_bytes.map(|bytes| bytes as f64);
    one(
        "process_resident_memory_bytes",
        "Resident memory.",
        gauge,
        &[],
        resident,
    );
    let descriptors = process.open_descriptors.map(|count| count as f64);
    one(
        "process_open_fds",
        "Open file descriptors.",
        gauge,
        &[],
        descriptors,
    );
}

pub(super) fn family(
    name: &str,
    help: &str,
    kind: MetricType,
    samples: Vec<Metric>,
) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(samples);
    family
}

/// A sample of a counter or, for any other kind, of a gauge.
pub(super) fn sample(kind: MetricType, labels: &[(&str, &str)], value: f64) -> Metric {
    let pairs = labels.iter().map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    });
    let mut metric = Metric::default();
    metric.set_label(pairs.collect());
    if kind == MetricType::COUNTER {
        let mut counter = proto::Counter::default();
        counter.set_value(value);
        metric.set_counter(counter);
    } else {
        let mut gauge = proto::Gauge::default();
        gauge.set_value(value);
        metric.set_gauge(gauge);
    }
    metric
}

fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::mpsc::Receiver;

    use super::*;
    use crate::backends::Change;
    use crate::config::{self, Source};
    use crate::h1::Reject;
    use crate::policy::health::Mode;

    /// A strict reader of the format: every sample follows the HELP and TYPE of its family, no family comes
    /// twice, no sample comes twice, every name and value is well formed.
    fn parse(text: &str) -> BTreeMap<String, f64> {
        let mut samples = BTreeMap::new();
        let mut families = BTreeSet::new();
        let (mut current, mut kind) = (String::new(), "");
        assert!(text.ends_with('\n'));
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').unwrap();
                assert!(families.insert(name.to_owned()), "{name} comes twice");
                assert!(!help.is_empty());
                current = name.to_owned();
            } else if let Some(kind_line) = line.strip_prefix("# TYPE ") {
                let (name, word) = kind_line.split_once(' ').unwrap();
                assert_eq!(name, current);
                kind = word;
                assert!(["counter", "gauge", "histogram"].contains(&kind));
                assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
            } else {
                let (series, value) = line.rsplit_once(' ').unwrap();
                let name = series.split('{').next().unwrap();
                let suffix = name.strip_prefix(&current).unwrap();
                let suffixes: &[&str] = if kind == "histogram" {
                    &["_bucket", "_sum", "_count"]
                } else {
                    &[""]
                };
                assert!(suffixes.contains(&suffix), "{line}");
                assert!(
                    name.bytes()
                        .all(|byte| byte.is_ascii_lowercase() || byte == b'_'),
                    "{line}"
                );
                let value: f64 = value.parse().unwrap();
                assert!(value >= 0.0);
                assert!(
                    samples.insert(series.to_owned(), value).is_none(),
                    "{series} comes twice"
                );
            }
        }
        samples
    }

    fn shared(text: &str) -> (Shared, Receiver<Change>) {
        let loaded = config::load(Source::of("test", text));
        let (_, plan) = loaded.unwrap_or_else(|problems| panic!("{problems}"));
        let shards = (0..2).map(|_| Arc::new(ShardMetrics::new(1))).collect();
        Shared::new(Arc::new(plan), shards, 1, [7; 32])
    }

    fn rendered(
        shared: &Shared,
        ledger: &Ledger,
        info: &Info,
        now: Nanos,
    ) -> BTreeMap<String, f64> {
        let mut text = String::new();
        render(&mut text, shared, ledger, info, now);
        parse(&text)
    }

    /// Of two shards, of which the second saw ten times what the first did.
    const EXPECTED: &str = r#"
corelane_requests_total{code="2xx"} 11
corelane_requests_total{code="5xx"} 0
corelane_client_received_bytes_total 11000
corelane_client_connections 11
corelane_client_connections_total 0
corelane_retries_total{reason="stale_connection"} 11
corelane_backend_connections{cluster="c",backend="http://b:1"} 1
corelane_backend_weight{cluster="c",backend="http://b:1"} 7
corelane_backend_up{cluster="c",backend="http://b:1"} 0
corelane_backend_standing{cluster="c",backend="http://b:1",standing="available"} 0
corelane_backend_standing{cluster="c",backend="http://b:1",standing="draining"} 1
corelane_backend_changes_total{cluster="c",backend="http://b:1",to="available"} 0
corelane_backend_changes_total{cluster="c",backend="http://b:1",to="draining"} 1
corelane_backend_checks_total{cluster="c",backend="http://b:1",result="passed"} 2
corelane_backend_checks_total{cluster="c",backend="http://b:1",result="failed"} 1
corelane_shard_stuck{shard="0"} 1
corelane_shard_stuck{shard="1"} 0
corelane_shard_requests_total{shard="0"} 1
corelane_shard_requests_total{shard="1"} 10
corelane_request_duration_seconds_bucket{le="0.00025"} 0
corelane_request_duration_seconds_bucket{le="0.0005"} 1
corelane_request_duration_seconds_bucket{le="0.005"} 2
corelane_request_duration_seconds_bucket{le="10"} 2
corelane_request_duration_seconds_bucket{le="+Inf"} 2
corelane_request_duration_seconds_count 2
corelane_request_duration_seconds_sum 0.0033
corelane_rejected_total{reason="bare_lf"} 2
corelane_rejected_total{reason="bad_response"} 2
corelane_backend_requests_total{cluster="c",backend="http://b:1",code="4xx"} 2
corelane_backend_requests_total{cluster="c",backend="http://b:1",code="error"} 2
corelane_backend_inflight{cluster="c",backend="http://b:1"} 2
corelane_backend_connections_opened_total{cluster="c",backend="http://b:1"} 2
corelane_backend_connections_reused_total{cluster="c",backend="http://b:1"} 2
corelane_log_write_errors_total 4
corelane_build_info{version="1.2.3",commit="abc"} 1
corelane_engine_info{engine="io_uring",flags="a,b"} 1
process_start_time_seconds 1700000000.5"#;

    #[test]
    fn shards_are_summed_under_the_documented_names() {
        let text = "[[clusters]]\nname = 'c'\nbackends = ['http://b:1']\n[[routes]]\ncluster = 'c'";
        let (shared, changes) = shared(text);
        let ledger = Ledger::new(1);
        for (shard, count) in shared.metrics.iter().zip([1, 10]) {
            shard.add(Counter::of_status(200), count);
            shard.add(Counter::ClientReceivedBytes, 1000 * count);
            shard.add(Counter::RetriesStale, count);
            shard.gauge_add(Gauge::ClientConnections, count);
            shard.observe(300_000 * count);
            shard.reject(Reason::Protocol(Reject::BareLf));
            shard.reject(Reason::BadResponse(Reject::BareLf));
            let backend = shard.backend(BackendId(0));
            backend.answered(404);
            backend.failed();
            backend.connection_opened();
            backend.connection_reused();
            backend.inflight_add();
            backend.inflight_add();
            backend.inflight_sub();
        }
        let info = Info {
            version: "1.2.3",
            commit: "abc",
            engine: "io_uring".to_owned(),
            flags: "a,b".to_owned(),
            start_unix_ms: 1_700_000_000_500,
            log_write_errors: Arc::new(AtomicU64::new(4)),
        };
        let id = BackendId(0);
        shared.backends.connection_opens(id);
        shared.backends.set_weight(id, 7);
        shared.backends.set_mode(id, Mode::Drain, 1);
        ledger.changed(&changes.try_recv().unwrap(), 1);
        for passed in [true, true, false] {
            ledger.checked(id, 1, passed, "".into());
        }
        let now = 2 * shared.plan.stuck_ns;
        shared.beat(0, 1);
        shared.beat(1, now);
        let samples = rendered(&shared, &ledger, &info, now);
        for line in EXPECTED.trim().lines() {
            let (series, value) = line.rsplit_once(' ').unwrap();
            assert_eq!(
                samples.get(series),
                Some(&value.parse().unwrap()),
                "{series}"
            );
        }
        assert!(samples["process_resident_memory_bytes"] > 0.0);
    }

    #[test]
    fn every_reason_and_every_plain_metric_is_rendered() {
        let (shared, _changes) = shared("backends = ['http://b:1']");
        let samples = rendered(&shared, &Ledger::new(1), &Info::default(), 0);
        for reason in Reason::all() {
            assert!(samples.contains_key(&format!(
                r#"corelane_rejected_total{{reason="{}"}}"#,
                reason.label()
            )));
        }
        let described = Counter::ALL.iter().map(|counter| counter.described());
        for Described {
            name,
            label,
            help: _,
        } in described.chain(Gauge::ALL.iter().map(|gauge| gauge.described()))
        {
            let series = match label {
                Some((key, value)) => format!("{name}{{{key}=\"{value}\"}}"),
                None => name.to_owned(),
            };
            assert!(samples.contains_key(&series), "{series}");
        }
    }

    #[test]
    fn a_label_cannot_break_out_of_its_quotes() {
        let text = "[[clusters]]\nname = 'c'\nbackends = [\"unix:/a\\\"b\\\\c\"]\n[[routes]]\ncluster = 'c'";
        let (shared, _changes) = shared(text);
        let samples = rendered(&shared, &Ledger::new(1), &Info::default(), 0);
        let series = r#"corelane_backend_inflight{cluster="c",backend="unix:/a\"b\\c"}"#;
        assert!(samples.contains_key(series), "{samples:?}");
    }
}
