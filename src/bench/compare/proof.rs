//! Whether a subject really did what it is measured for.
//!
//! Decides: when it did not. May not know: loads, rounds. Invariant: nobody is measured who was not proved.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use super::measure::get;
use super::peer::Feature;
use super::scenario::Variant;

/// Log lines may still be in a queue.
const LOG_LOOKS: u32 = 50;
const LOG_LOOK: Duration = Duration::from_millis(100);

/// The proxy answers what the backend answers, and so that the backend is asked (or not).
pub(super) fn prove(
    proxy: SocketAddr,
    backend: SocketAddr,
    variant: &Variant,
    feature: Feature,
) -> Result<(), String> {
    let first = get(proxy, &variant.path)?;
    let again = get(proxy, &variant.path)?;
    if again.status != variant.status {
        let (status, wanted) = (again.status, variant.status);
        return Err(format!("it answers {status} and not {wanted}"));
    }
    let expected = get(backend, &variant.path)?;
    let (right, compared) = match feature {
        Feature::Plain | Feature::AccessLog | Feature::Cache => (&expected, &again),
        // What a refusal says is the proxy's own.
        Feature::Limit => (&expected, &first),
    };
    if compared.status != right.status || compared.body != right.body {
        return Err("its answer is not the backend's".to_owned());
    }
    Ok(())
}

fn log_files(directory: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(directory).ok().into_iter().flatten().flatten();
    let is_log = |path: &PathBuf| {
        path.extension()
            .is_some_and(|suffix| suffix == "out" || suffix == "log")
    };
    entries.map(|entry| entry.path()).filter(is_log)
}

pub(super) fn truncate_logs(directory: &Path) {
    for path in log_files(directory) {
        // What is left over is counted, and found to be too much.
        let _ = fs::write(path, "");
    }
}

/// There is a line for each request.
pub(super) fn prove_logs(directory: &Path, requests: f64) -> Result<(), String> {
    let count = |path: PathBuf| {
        let bytes = fs::read(path).unwrap_or_default();
        memchr::memchr_iter(b'\n', &bytes).count()
    };
    let mut lines = 0;
    for _ in 0..LOG_LOOKS {
        lines = log_files(directory).map(count).sum();
        if lines as f64 >= requests {
            return Ok(());
        }
        sleep(LOG_LOOK);
    }
    Err(format!(
        "{lines} log lines for more than {requests:.0} requests"
    ))
}
