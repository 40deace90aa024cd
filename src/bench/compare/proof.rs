//! Whether a subject really did what it is measured for.
//!
//! Decides: when it did not. May not know: how a load is made, rounds. Invariant: nobody is measured who was not proved.

use std::fs;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use flate2::read::GzDecoder;

use crate::bench::outcome::Outcome;
use crate::bench::tally::{Tally, Trouble};

use super::measure::{Answer, get};
use super::peer::{Feature, ORIGIN};
use super::scenario::Variant;

/// Log lines may still be in a queue.
const LOG_LOOKS: u32 = 50;
const LOG_LOOK: Duration = Duration::from_millis(100);
/// Counted by the generator and by the backend at slightly different moments.
const COUNT_SLACK: f64 = 0.03;

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
        Feature::Plain | Feature::AccessLog | Feature::Cache => again,
        Feature::Filters => {
            prove_fields(&again.head)?;
            again
        }
        // What a refusal says is the proxy's own.
        Feature::Limit => first,
        Feature::Gzip | Feature::GzipAlike => unpacked(again)?,
    };
    let expected = ask(backend)?;
    if compared.status != expected.status || compared.body != expected.body {
        return Err("its answer is not the backend's".to_owned());
    }
    Ok(())
}

/// What was compressed, as the backend sent it.
fn unpacked(answer: Answer) -> Result<Answer, String> {
    let head = String::from_utf8_lossy(&answer.head).to_ascii_lowercase();
    if !head.contains("\r\ncontent-encoding: gzip\r\n") {
        return Err("its answer is not in gzip".to_owned());
    }
    let mut body = Vec::new();
    GzDecoder::new(&*answer.body)
        .read_to_end(&mut body)
        .map_err(|error| format!("its answer cannot be unpacked: {error}"))?;
    Ok(Answer { body, ..answer })
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

/// How many requests of a load its CPU time is divided by, if all were what they were to be; the backend saw `seen`.
pub(super) fn prove_load(feature: Feature, outcome: &Outcome, seen: u64) -> Result<u64, String> {
    let total = &outcome.total;
    let wrong = wrong(total);
    if wrong > 0 || total.good == 0 {
        let statuses = &total.statuses;
        let troubles: Vec<String> = Trouble::ALL
            .into_iter()
            .filter(|trouble| total.count(*trouble) > 0)
            .map(|trouble| format!("{} {}", total.count(trouble), trouble.name()))
            .collect();
        let troubles = troubles.join(", ");
        return Err(format!(
            "{wrong} of {} requests went wrong: {troubles}; statuses {statuses:?}",
            total.requests()
        ));
    }
    let all: u64 = outcome.points.iter().map(|point| point.errors).sum();
    let early = all.saturating_sub(total.errors());
    if early > 0 {
        return Err(format!("{early} requests went wrong during the warm-up"));
    }
    let answered = total.answered();
    if feature.asks_backend() {
        let off = (seen as f64 - answered as f64).abs();
        // What was in flight when counting began or ended.
        let slack = COUNT_SLACK * answered as f64 + 200.0;
        if off > slack {
            return Err(format!(
                "{answered} answers, but the backend saw {seen} requests: something else answered"
            ));
        }
        return Ok(seen);
    }
    // One gets through a limit now and then; an entry of a cache may be fetched again.
    if seen as f64 > answered as f64 * 0.01 + 10.0 {
        return Err(format!(
            "of {answered} answers {seen} came from the backend: the feature is not at work"
        ));
    }
    Ok(answered)
}

/// Requests that make a measurement worthless. What was never sent does not: it is in the latencies with all that it
/// waited, and a warning says so. A slow proxy is slow, not wrong.
fn wrong(total: &Tally) -> u64 {
    total.errors() - total.count(Trouble::Unsent)
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
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    #[test]
    fn who_cannot_keep_up_is_slow_and_not_wrong() {
        let mut total = Tally::default();
        total.trouble(Trouble::Unsent, 1_000_000_000, 7);
        assert_eq!(wrong(&total), 0);
        total.trouble(Trouble::Reset, 1, 2);
        assert_eq!(wrong(&total), 2);
    }

    #[test]
    fn what_is_not_compressed_or_not_whole_is_found() {
        let answer = |field: &str, body: &[u8]| Answer {
            status: 200,
            head: format!("HTTP/1.1 200 OK\r\n{field}\r\n\r\n").into_bytes(),
            body: body.to_vec(),
        };
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(b"a page").unwrap();
        let packed = encoder.finish().unwrap();
        let field = "Content-Encoding: gzip";
        let whole = unpacked(answer(field, &packed)).map(|answer| answer.body);
        assert_eq!(whole, Ok(b"a page".to_vec()));
        let cut = &packed[..packed.len() - 1];
        for (field, body, said) in [
            ("Vary: Accept-Encoding", &*packed, "not in gzip"),
            (field, cut, "cannot be unpacked"),
            (field, b"a page", "cannot be unpacked"),
        ] {
            let error = unpacked(answer(field, body)).err().unwrap();
            assert!(error.contains(said), "{error}");
        }
    }

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
