//! What a whole request costs in our own code: one shard, whose network is memory.
//!
//! `cargo bench --bench request` prints allocations and time per request. Time is noisy on a shared machine; counts of
//! instructions are not: `REQUESTS=10000 EXCHANGE=get valgrind --tool=callgrind --toggle-collect='*::measured' PROGRAM`
//! counts those of 10,000 requests, where PROGRAM is the path that cargo bench prints.

#[path = "../tests/support/allocations.rs"]
mod allocations;
#[path = "../tests/support/exchanges.rs"]
mod exchanges;
#[path = "../tests/support/heads.rs"]
mod heads;
#[path = "../tests/support/lean.rs"]
mod lean;

use std::time::Duration;

use criterion::Criterion;
use lean::Lane;

#[global_allocator]
static ALLOCATOR: allocations::Counting = allocations::Counting;

/// After so many requests all buffers have their size.
const WARM_REQUESTS: u64 = 100;

/// Its own function, so that a profiler finds it by its name.
#[inline(never)]
fn measured(lane: &mut Lane, requests: u64) {
    lane.run(requests);
}

fn count(requests: u64, name: &str) {
    for exchange in exchanges::all().into_iter().filter(|e| e.name == name) {
        let mut lane = Lane::new(exchange);
        lane.run(WARM_REQUESTS);
        measured(&mut lane, requests);
    }
}

fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("request");
    for exchange in exchanges::all() {
        let name = exchange.name;
        let mut lane = Lane::new(exchange);
        lane.run(WARM_REQUESTS);
        let before = allocations::count();
        lane.run(1000);
        let allocations = allocations::count() - before;
        println!(
            "{name}: {} allocations per request",
            allocations as f64 / 1000.0
        );
        group.bench_function(name, |bencher| bencher.iter(|| measured(&mut lane, 1)));
    }
    group.finish();
}

fn main() {
    if let Some(requests) = std::env::var("REQUESTS").ok().and_then(|n| n.parse().ok()) {
        return count(requests, &std::env::var("EXCHANGE").unwrap_or_default());
    }
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(50)
        .configure_from_args();
    bench(&mut criterion);
    criterion.final_summary();
}
