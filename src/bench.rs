//! The load generator: `corelane bench`, and a library for what compares.
//!
//! Decides: how a run is made of arguments, and its exit code. Knows nothing of the proxy's request path, so that
//! a mistake there is not mirrored here. Invariant: every run is bounded in time, connections and memory.
//!
//! Reading order: `load` (what a run is), `run`, `worker`, `open`, `wire`, `answer`, `tally`, `outcome`; then
//! `scenario` (a file becomes a load), `verdict`, and what shows results: `table`, `json`, `html`.

pub mod address;
mod alarm;
mod answer;
pub mod load;
mod open;
pub mod outcome;
pub mod run;
pub mod tally;
mod wire;
mod worker;
