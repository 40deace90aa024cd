//! A request of a kept-alive client allocates nothing once the shard is warm.

#[path = "support/allocations.rs"]
mod allocations;
#[path = "support/exchanges.rs"]
mod exchanges;
#[path = "support/heads.rs"]
mod heads;
#[path = "support/lean.rs"]
mod lean;

use lean::Lane;

#[global_allocator]
static ALLOCATOR: allocations::Counting = allocations::Counting;

/// Allocations in a thousand requests.
fn allowed(name: &str) -> u64 {
    match name {
        // A body that is still arriving has a future of its own, boxed, so that the many requests without one stay small.
        "upload" => 1000,
        // Each batch of lines is given away: 32 KiB of lines of a kilobyte.
        "logged" => 40,
        // Who asks a backend on a route that caches stands in a table, so that a purge meanwhile is not missed.
        "private" => 4000,
        _ => 0,
    }
}

#[test]
fn a_request_allocates_nothing() {
    const REQUESTS: u64 = 1000;
    let mut findings = Vec::new();
    for exchange in exchanges::all() {
        let (name, response_bytes) = (exchange.name, exchange.response.len() as u64);
        let mut lane = Lane::new(exchange);
        lane.run(100);
        let (before, received_bytes) = (allocations::count(), lane.received_bytes());
        lane.run(REQUESTS);
        let allocations = allocations::count() - before;
        let received_bytes = lane.received_bytes() - received_bytes;
        // We write another head, hardly longer or shorter.
        let bytes = received_bytes / REQUESTS;
        let other_head = if name == "filtered" { 1024 } else { 64 };
        assert!(
            bytes.abs_diff(response_bytes) < other_head,
            "{name}: {bytes} bytes came"
        );
        if allocations > allowed(name) {
            allocations::show(|| lane.run(1));
            findings.push(format!("{name}: {allocations} in {REQUESTS} requests"));
        }
    }
    assert!(findings.is_empty(), "{findings:?}, from where is printed");
}
