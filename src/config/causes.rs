//! Causes of failure and statuses as text.
//!
//! Decides: which words stand for what went wrong with an attempt. May not know: keys, files, who counts them.
//! Invariant: what is shown reads back as the same set; a success is never a cause.

use super::report::Fault;
use crate::policy::retry::{Cause, Causes, Statuses};

/// In the order of `Cause::NAMES`.
const NAMED: [Cause; 4] = [
    Cause::Connect,
    Cause::Closed,
    Cause::Timeout,
    Cause::Invalid,
];
/// Final statuses; 1xx are not.
const STATUSES: (u16, u16) = (200, 599);
const FAILURES: (u16, u16) = (400, 599);

/// One word of a list of causes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Named(Cause),
    Statuses(u16, u16),
}

/// `invalid`: whether a response that is none may be in the list.
pub(super) fn cause(text: &str, invalid: bool) -> Result<Part, Fault> {
    if text == Cause::Invalid.name() && !invalid {
        let fault = Fault::new("an invalid response has begun: its request is not tried again");
        return Err(fault.hint("passive_health.on and circuit_breaker.on may have it"));
    }
    match NAMED.iter().find(|cause| cause.name() == text) {
        Some(cause) => Ok(Part::Named(*cause)),
        None if text.starts_with(|c: char| c.is_ascii_digit()) => {
            range(text, FAILURES).map(|(first, last)| Part::Statuses(first, last))
        }
        None => {
            let names = NAMED
                .iter()
                .filter(|cause| invalid || **cause != Cause::Invalid);
            let fault = Fault::new(format!("\"{text}\" is no cause of a failure"));
            Err(fault.near(text, names.map(|cause| cause.name())))
        }
    }
}

pub(super) fn causes(parts: &[Part]) -> Causes {
    let mut causes = Causes::default();
    let mut statuses = Vec::new();
    for part in parts {
        match part {
            Part::Named(Cause::Connect) => causes.connect = true,
            Part::Named(Cause::Closed) => causes.closed = true,
            Part::Named(Cause::Timeout) => causes.timeout = true,
            Part::Named(Cause::Invalid) => causes.invalid = true,
            Part::Named(Cause::Status(status)) => statuses.push((*status, *status)),
            Part::Statuses(first, last) => statuses.push((*first, *last)),
        }
    }
    causes.statuses = Statuses(statuses.into());
    causes
}

pub(super) fn status(text: &str) -> Result<(u16, u16), Fault> {
    range(text, STATUSES)
}

/// A status of an error.
pub(super) fn failure(text: &str) -> Result<(u16, u16), Fault> {
    range(text, FAILURES)
}

pub(super) fn show(causes: &Causes) -> impl Iterator<Item = String> {
    let named = NAMED.iter().filter(|cause| causes.has(**cause));
    named
        .map(|cause| cause.name().to_owned())
        .chain(show_statuses(&causes.statuses))
}

pub(super) fn show_statuses(statuses: &Statuses) -> impl Iterator<Item = String> {
    statuses.0.iter().map(|(first, last)| {
        if first == last {
            first.to_string()
        } else if first % 100 == 0 && *last == first + 99 {
            format!("{}xx", first / 100)
        } else {
            format!("{first}-{last}")
        }
    })
}

/// `"503"`, `"500-504"` or `"5xx"`, within `bounds`.
fn range(text: &str, bounds: (u16, u16)) -> Result<(u16, u16), Fault> {
    let fault = || Fault::new(format!("\"{text}\" is no status"));
    let status = |digits: &str| {
        let good = digits.len() == 3 && digits.bytes().all(|b| b.is_ascii_digit());
        good.then(|| digits.parse::<u16>().ok()).flatten()
    };
    let (first, last) = match (text.strip_suffix("xx"), text.split_once('-')) {
        (Some(class), _) => {
            let first = status(&format!("{class}00")).ok_or_else(fault)?;
            (first, first + 99)
        }
        (None, Some((first, last))) => {
            let both = status(first).zip(status(last));
            both.ok_or_else(|| fault().hint("a range is written \"500-504\""))?
        }
        (None, None) => {
            let classes = ["2xx", "3xx", "4xx", "5xx"];
            let one = status(text).ok_or_else(|| fault().near(text, classes))?;
            (one, one)
        }
    };
    if first > last {
        let fault = Fault::new(format!("\"{text}\" ends before it begins"));
        return Err(fault.hint(format!("did you mean \"{last}-{first}\"?")));
    }
    if first < bounds.0 || last > bounds.1 {
        let (first, last) = bounds;
        return Err(Fault::new(format!(
            "\"{text}\" is not in {first} to {last}"
        )));
    }
    Ok((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_read_and_show_alike() {
        for good in ["200", "599", "2xx", "5xx", "200-204", "200-599"] {
            let range = status(good).unwrap();
            let shown: Vec<String> = show_statuses(&Statuses([range].into())).collect();
            assert_eq!(shown, [good]);
        }
        let cases = [
            ("500-599", "5xx"),
            ("404-404", "404"),
            ("204-200", "\"204-200\" ends before it begins"),
            ("199", "\"199\" is not in 200 to 599"),
            ("1xx", "\"1xx\" is not in 200 to 599"),
            ("200-600", "\"200-600\" is not in 200 to 599"),
            ("999xx", "\"999xx\" is no status"),
            ("xx", "\"xx\" is no status"),
            ("9xx", "\"9xx\" is not in 200 to 599"),
            ("2XX", "\"2XX\" is no status"),
            ("+20", "\"+20\" is no status"),
            ("20", "\"20\" is no status"),
            ("200-", "\"200-\" is no status"),
            ("", "\"\" is no status"),
        ];
        for (text, expected) in cases {
            let found = match status(text) {
                Ok(range) => show_statuses(&Statuses([range].into())).collect(),
                Err(fault) => fault.message,
            };
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn causes_read_and_show_in_one_order() {
        let parts: Vec<Part> = ["5xx", "timeout", "429", "connect"]
            .iter()
            .map(|text| cause(text, true).unwrap())
            .collect();
        let shown: Vec<String> = show(&causes(&parts)).collect();
        assert_eq!(shown, ["connect", "timeout", "5xx", "429"]);
        assert!(cause("invalid", true).is_ok());
        for (text, expected) in [
            (
                "invalid",
                "an invalid response has begun: its request is not tried again",
            ),
            ("timeouts", "\"timeouts\" is no cause of a failure"),
            ("200", "\"200\" is not in 400 to 599"),
            ("399-404", "\"399-404\" is not in 400 to 599"),
        ] {
            let fault = cause(text, false).map_err(|fault| fault.message);
            assert_eq!(fault, Err(expected.to_owned()), "{text}");
        }
    }
}
