//! Whole shards in a simulated world: the proxy's own code on a network and a clock that a seed decides.
//!
//! `SIM_SEED=17 cargo test --test sim seeds` repeats one run, `SIM_RUNS=100000` makes many,
//! `SIM_LOUD=1` prints what each end receives.

#![expect(
    unreachable_pub,
    reason = "a test has no users: pub means for the other modules"
)]

mod backend;
mod breaker;
mod cache;
mod client;
mod compress;
mod deadlines;
mod every_byte;
mod found;
mod http;
mod life;
mod limits;
mod model;
mod net;
mod probe;
mod queue;
mod random;
mod resilience;
mod reuse;
mod stage;
mod world;

#[path = "../support/decode.rs"]
mod decode;
