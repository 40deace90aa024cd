//! Durations and sizes as text.
//!
//! Decides: how `"5s"` and `"32KiB"` are read and written. May not know: keys, bounds, files.
//! Invariant: reading what was written gives the same number; a number without a unit is never accepted.

use super::plan::Nanos;
use super::report::Fault;

const DURATIONS: &[(&str, u64)] = &[
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];
const SIZES: &[(&str, u64)] = &[
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

pub(crate) fn parse_duration(text: &str) -> Result<Nanos, Fault> {
    let (digits, unit) = split(text);
    match unit.to_ascii_lowercase().as_str() {
        "" => Err(Fault::new(format!("\"{text}\" has no unit"))
            .hint(format!("write \"{digits}s\" or \"{digits}ms\""))),
        "sec" | "secs" | "second" | "seconds" => Err(unknown_unit(unit, digits, "s")),
        "min" | "mins" | "minute" | "minutes" => Err(unknown_unit(unit, digits, "m")),
        "hr" | "hrs" | "hour" | "hours" => Err(unknown_unit(unit, digits, "h")),
        "msec" | "msecs" | "millisecond" | "milliseconds" => Err(unknown_unit(unit, digits, "ms")),
        _ => scaled(
            text,
            digits,
            unit,
            DURATIONS,
            "units are ms, s, m and h: \"250ms\", \"5s\", \"1m\", \"1h\"",
        ),
    }
}

pub(crate) fn parse_size(text: &str) -> Result<u64, Fault> {
    let (digits, unit) = split(text);
    match unit.to_ascii_lowercase().as_str() {
        "" => Err(Fault::new(format!("\"{text}\" has no unit"))
            .hint(format!("write \"{digits}KiB\" or \"{digits}B\""))),
        "k" | "kb" | "kib" if unit != "KiB" => Err(unknown_unit(unit, digits, "KiB")),
        "m" | "mb" | "mib" if unit != "MiB" => Err(unknown_unit(unit, digits, "MiB")),
        "g" | "gb" | "gib" if unit != "GiB" => Err(unknown_unit(unit, digits, "GiB")),
        _ => scaled(
            text,
            digits,
            unit,
            SIZES,
            "units are B, KiB, MiB and GiB: \"512B\", \"32KiB\", \"10MiB\"",
        ),
    }
}

pub(crate) fn show_duration(nanos: Nanos) -> String {
    show(nanos, DURATIONS)
}

pub(crate) fn show_size(bytes: u64) -> String {
    show(bytes, SIZES)
}

/// A number that is written with up to six digits behind the point. `None` for any other text.
pub(super) fn parse_millionths(text: &str) -> Option<u64> {
    let (whole, rest) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(rest) {
        return None;
    }
    let rest = rest.trim_end_matches('0');
    if rest.len() > 6 {
        return None;
    }
    let millionths: u64 = format!("{rest:0<6}").parse().ok()?;
    let whole: u64 = whole.parse().ok()?;
    whole.checked_mul(1_000_000)?.checked_add(millionths)
}

pub(super) fn show_millionths(number: u64) -> String {
    let (whole, rest) = (number / 1_000_000, number % 1_000_000);
    match rest {
        0 => whole.to_string(),
        rest => {
            let digits = format!("{rest:06}");
            format!("{whole}.{}", digits.trim_end_matches('0'))
        }
    }
}

/// The number in the largest unit that leaves no remainder.
fn show(number: u64, units: &[(&str, u64)]) -> String {
    let exact = units
        .iter()
        .find(|(_, size)| number.is_multiple_of(*size) && number >= *size);
    let zero = units.iter().find(|(name, _)| matches!(*name, "s" | "B"));
    match exact.or(zero) {
        Some((name, size)) => format!("{}{name}", number / size),
        None => number.to_string(),
    }
}

fn split(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

fn scaled(
    text: &str,
    digits: &str,
    unit: &str,
    units: &[(&str, u64)],
    help: &str,
) -> Result<u64, Fault> {
    if digits.is_empty() || unit.starts_with(['.', ',', '_']) {
        return Err(Fault::new(format!("\"{text}\" is no whole number with a unit")).hint(help));
    }
    let Some((_, size)) = units.iter().find(|(name, _)| *name == unit) else {
        return Err(Fault::new(format!("\"{unit}\" is no unit")).hint(help));
    };
    let number = digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(*size));
    number.ok_or_else(|| Fault::new(format!("\"{text}\" is too large")))
}

fn unknown_unit(unit: &str, digits: &str, right: &str) -> Fault {
    Fault::new(format!("\"{unit}\" is no unit")).hint(format!("did you mean \"{digits}{right}\"?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        for nanos in [
            0,
            1,
            1_500,
            250_000_000,
            1_000_000_000,
            90_000_000_000,
            3_600_000_000_000,
        ] {
            assert_eq!(
                parse_duration(&show_duration(nanos)).ok(),
                Some(nanos),
                "{}",
                show_duration(nanos)
            );
        }
        for bytes in [0, 1, 512, 1024, 32 * 1024, 1536, 10 << 20, 3 << 30] {
            assert_eq!(
                parse_size(&show_size(bytes)).ok(),
                Some(bytes),
                "{}",
                show_size(bytes)
            );
        }
        assert_eq!(show_duration(90_000_000_000), "90s");
        assert_eq!(show_size(1536), "1536B");
    }

    #[test]
    fn millionths_read_back_and_nothing_finer_is_taken() {
        for good in ["0", "10", "0.5", "0.000001", "12.34", "1000000"] {
            assert_eq!(show_millionths(parse_millionths(good).unwrap()), good);
        }
        for (text, number) in [
            ("10.0", 10_000_000),
            ("1.500000000", 1_500_000),
            ("007", 7_000_000),
        ] {
            assert_eq!(parse_millionths(text), Some(number), "{text}");
        }
        for bad in [
            "",
            ".",
            "1.",
            ".5",
            "-1",
            "1e3",
            "inf",
            "0.0000001",
            "99999999999999999999",
        ] {
            assert_eq!(parse_millionths(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_has_no_unit_or_a_wrong_one_is_refused() {
        let cases = [
            ("5", "\"5\" has no unit"),
            ("", "\"\" has no unit"),
            ("5 minutes", "\"minutes\" is no unit"),
            ("1.5s", "\"1.5s\" is no whole number with a unit"),
            ("-5s", "\"-5s\" is no whole number with a unit"),
            ("5S", "\"S\" is no unit"),
            (
                "99999999999999999999s",
                "\"99999999999999999999s\" is too large",
            ),
            ("9999999999999h", "\"9999999999999h\" is too large"),
        ];
        for (text, message) in cases {
            assert_eq!(
                parse_duration(text).map_err(|fault| fault.message),
                Err(message.to_owned()),
                "{text}"
            );
        }
        let cases = [
            ("32", "\"32\" has no unit"),
            ("32kb", "\"kb\" is no unit"),
            ("1.5MiB", "\"1.5MiB\" is no whole number with a unit"),
        ];
        for (text, message) in cases {
            assert_eq!(
                parse_size(text).map_err(|fault| fault.message),
                Err(message.to_owned()),
                "{text}"
            );
        }
    }
}
