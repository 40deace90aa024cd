//! What several threads' events leave behind in the counts beside the words.

use super::*;
use crate::config::{Source, load};

const S: Nanos = 1_000_000_000;
const ALL: [BackendId; 2] = [BackendId(0), BackendId(1)];

fn backends(text: &str) -> Backends {
    let text = format!("backends = [\"http://127.0.0.1:1\", \"http://127.0.0.1:2\"]\n{text}");
    let (_, plan) = load(Source::of("test", &text)).unwrap_or_else(|problems| panic!("{problems}"));
    Backends::new(Arc::new(plan)).0
}

#[test]
fn failures_of_an_ejected_backend_take_no_further_place() {
    let backends = backends("[passive_health]\nerrors = 1\nshare = 100");
    let failed = |id, now| backends.failed(id, Cause::Closed, None, now, || (0, 0));
    // Two requests that were in flight together.
    failed(ALL[0], S);
    failed(ALL[0], S);
    backends.apply(ALL[0], Event::Elapsed, 60 * S, || Why::Time);
    for id in ALL {
        failed(id, 60 * S);
        assert_eq!(backends.word(id).standing(), Standing::Ejected);
    }
}

#[test]
fn a_trial_that_fails_for_a_cause_that_does_not_count_has_failed() {
    let backends = backends(
        "[passive_health]\non = [\"connect\"]\n\
         [circuit_breaker]\nenabled = true\non = [\"5xx\"]\ntrials = 1",
    );
    let id = ALL[0];
    backends.apply(id, Event::Trip, S, || Why::Trials);
    backends.apply(id, Event::Elapsed, 60 * S, || Why::Time);
    let trial = backends.admit(id, 60 * S);
    assert!(trial.is_some() && backends.admit(id, 60 * S).is_none());
    backends.failed(id, Cause::Timeout, trial, 60 * S, || (0, 0));
    assert_eq!(backends.word(id).standing(), Standing::Open);
}
