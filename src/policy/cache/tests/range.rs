use super::super::range::Ranged::{self, Unsatisfiable, Whole};
use super::super::range::{is_partial, of};
use super::with_request;

const fn part(from: u64, to: u64) -> Ranged {
    Ranged::Part { from, to }
}

const RANGES: &[(&str, &[&str], u64, Ranged, bool)] = &[
    ("9110 14.2: none", &[], 10, Whole, false),
    ("9110 14.1.2: from", &["bytes=0-"], 10, part(0, 10), false),
    ("9110 14.1.2: from", &["bytes=3-"], 10, part(3, 10), true),
    ("9110 14.1.2: from", &["bytes=9-"], 10, part(9, 10), true),
    (
        "9110 14.1.2: behind",
        &["bytes=10-"],
        10,
        Unsatisfiable,
        true,
    ),
    (
        "9110 14.1.2: of nothing",
        &["bytes=0-"],
        0,
        Unsatisfiable,
        false,
    ),
    ("9110 14.1.2: both", &["bytes=0-0"], 10, part(0, 1), true),
    ("9110 14.1.2: both", &["bytes=0-1"], 10, part(0, 2), true),
    ("9110 14.1.2: both", &["bytes=2-8"], 10, part(2, 9), true),
    (
        "9110 14.1.2: too long",
        &["bytes=2-10"],
        10,
        part(2, 10),
        true,
    ),
    (
        "9110 14.1.2: behind",
        &["bytes=10-12"],
        10,
        Unsatisfiable,
        true,
    ),
    ("9110 14.1.2: last", &["bytes=-1"], 10, part(9, 10), true),
    ("9110 14.1.2: last", &["bytes=-10"], 10, part(0, 10), true),
    (
        "9110 14.1.2: too many",
        &["bytes=-11"],
        10,
        part(0, 10),
        true,
    ),
    ("9110 14.1.2: none", &["bytes=-0"], 10, Unsatisfiable, true),
    ("9110 14.1.2: of nothing", &["bytes=-1"], 0, Whole, true),
    ("9110 14.1: case", &["BYTES=1-2"], 10, part(1, 3), true),
    (
        "9110 5.6.1: empty members",
        &["bytes=, 1-2 ,"],
        10,
        part(1, 3),
        true,
    ),
    (
        "overflow",
        &["bytes=0-18446744073709551615"],
        10,
        part(0, 10),
        true,
    ),
    (
        "overflow",
        &["bytes=0-99999999999999999999999"],
        10,
        part(0, 10),
        true,
    ),
    (
        "overflow",
        &["bytes=-99999999999999999999999"],
        10,
        part(0, 10),
        true,
    ),
    (
        "overflow",
        &["bytes=99999999999999999999999-"],
        10,
        Unsatisfiable,
        true,
    ),
    (
        "overflow",
        &["bytes=0-18446744073709551615"],
        u64::MAX,
        part(0, u64::MAX),
        true,
    ),
    ("several", &["bytes=0-1,3-4"], 10, Whole, true),
    ("several lines", &["bytes=0-", "bytes=0-"], 10, Whole, true),
    ("9110 14.2: other units", &["items=0-1"], 10, Whole, true),
    ("unreadable", &["bytes=2-1"], 10, Whole, true),
    ("unreadable", &["bytes=-"], 10, Whole, true),
    ("unreadable", &["bytes="], 10, Whole, true),
    ("unreadable", &["bytes"], 10, Whole, true),
    ("unreadable", &[""], 10, Whole, true),
    ("unreadable", &["bytes=a-"], 10, Whole, true),
    ("unreadable", &["bytes=1-2x"], 10, Whole, true),
    ("unreadable", &["bytes=1--2"], 10, Whole, true),
    ("unreadable", &["bytes=+1-2"], 10, Whole, true),
    ("unreadable", &["bytes =1-2"], 10, Whole, true),
    ("unreadable", &["bytes=1 - 2"], 10, Whole, true),
];

#[test]
fn ranges() {
    for (section, values, length, expected, partial) in RANGES {
        let fields: Vec<_> = values
            .iter()
            .map(|value| format!("Range: {value}"))
            .collect();
        let found = with_request("/", &fields, |request| {
            (of(request, *length), is_partial(request))
        });
        assert_eq!(found, (*expected, *partial), "{section}: {values:?}");
    }
}
