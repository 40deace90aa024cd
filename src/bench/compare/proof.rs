//! Whether a subject really did what it is measured for.
//!
//! Decides: when it did not. May not know: loads, rounds. Invariant: nobody is measured who was not proved.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use super::measure::get;
use super::peer::{Feature, ORIGIN};
use super::scenario::Variant;

/// Log lines may still be in a queue.
const LOG_LOOKS: u32 = 50;
const LOG_LOOK: Duration = Duration::from_millis(100);

/// The proxy answers what the backend answers, and so that the backend is asked (or not).
pub(super) fn prove(
    proxy: SocketAddr,
    backend: SocketAddr,
    variant: &Variant,
) -> Result<(), String> {
    let ask = |address| get(address, &variant.path, &variant.fields);
    let first = ask(proxy)?;
    let again = ask(proxy)?;
    if again.status != variant.status {
        let (status, wanted) = (again.status, variant.status);
        return Err(format!("it answers {status} and not {wanted}"));
    }
    let compared = match variant.feature {
        Feature::Plain | Feature::AccessLog | Feature::Cache => &again,
        Feature::Filters => {
            prove_fields(&again.head)?;
            &again
        }
        // What a refusal says is the proxy's own.
        Feature::Limit => &first,
    };
    let expected = ask(backend)?;
    if compared.status != expected.status || compared.body != expected.body {
        return Err("its answer is not the backend's".to_owned());
    }
    Ok(())
}

/// A field for each filter that changes answers, and none that is to be taken out.
fn prove_fields(head: &[u8]) -> Result<(), String> {
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let cors = format!("\r\naccess-control-allow-origin: {ORIGIN}\r\n");
    for field in ["\r\nx-request-id: ", "\r\nx-frame-options: deny\r\n", &cors] {
        if !head.contains(field) {
            return Err(format!("there is no {:?} in its answer", field.trim()));
        }
    }
    if head.contains("\r\nx-backend:") {
        return Err("the field X-Backend is left in its answer".to_owned());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_is_not_at_work_is_found() {
        let head = |fields: &[&str]| {
            let lines = fields.iter().map(|field| format!("{field}\r\n"));
            format!("HTTP/1.1 200 OK\r\n{}\r\n", lines.collect::<String>())
        };
        let cors = format!("Access-Control-Allow-Origin: {ORIGIN}");
        let whole = ["X-Request-Id: 1", "X-Frame-Options: DENY", &cors];
        assert_eq!(prove_fields(head(&whole).as_bytes()), Ok(()));
        for missing in 0..whole.len() {
            let mut fields = whole.to_vec();
            fields.remove(missing);
            let error = prove_fields(head(&fields).as_bytes()).unwrap_err();
            let (name, _) = whole[missing].split_once(':').unwrap();
            let name = name.to_ascii_lowercase();
            assert!(error.contains(&name), "{name}: {error}");
        }
        let left = [&whole[..], &["X-Backend: mock"]].concat();
        assert!(prove_fields(head(&left).as_bytes()).is_err());
    }
}
