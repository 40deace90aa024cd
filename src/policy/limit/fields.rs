//! What a client is told about a limit.
//!
//! Decides: the lines of a response. May not know: the request. Invariant: nothing that comes from a configuration ends
//! a line or a string.
//!
//! Lines of several limits may stand in one response: a list may be split over lines (RFC 9651 section 3.1). The legacy
//! fields are no list, so of several limits only one should have them.

use super::{Decision, Fields, Nanos, Quota};

const SECOND_NS: Nanos = 1_000_000_000;

/// The longest interval is a day, and the largest burst a million of them: their unit is 0.16 ms (see `pace`).
const ROUNDING_NS: Nanos = 200_000;

/// How a client stands, in whole seconds.
struct Standing {
    remaining: u32,
    /// Until there is one more.
    next_s: u64,
    full_s: u64,
}

/// What one limit says in responses, with all that is the same in each of them.
#[derive(Debug)]
pub struct Lines {
    quota: Quota,
    /// Whole lines.
    policy: Box<[u8]>,
    /// `RateLimit: "NAME";r=`; empty without the draft's fields.
    standing: Box<[u8]>,
    /// `X-RateLimit-Limit`; empty without the legacy fields.
    legacy: Box<[u8]>,
}

impl Lines {
    pub fn new(fields: Fields, name: &str, quota: &Quota) -> Lines {
        let (has_draft, has_legacy) = match fields {
            Fields::Off => (false, false),
            Fields::Draft => (true, false),
            Fields::Legacy => (false, true),
            Fields::Both => (true, true),
        };
        let (mut policy, mut standing, mut legacy) = (Vec::new(), Vec::new(), Vec::new());
        if has_draft {
            write_policy(&mut policy, name, quota);
            standing.extend_from_slice(b"RateLimit: ");
            string(&mut standing, name);
            standing.extend_from_slice(b";r=");
        }
        if has_legacy {
            let burst = u64::from(quota.burst);
            line(&mut legacy, b"X-RateLimit-Limit: ", burst);
        }
        Lines {
            quota: *quota,
            policy: policy.into(),
            standing: standing.into(),
            legacy: legacy.into(),
        }
    }

    /// Appends them. Nothing is known of the bucket of a key without room, so there the policy stands alone.
    pub fn write(&self, out: &mut Vec<u8>, decision: &Decision) {
        let standing = standing(&self.quota, decision);
        out.extend_from_slice(&self.policy);
        if let Some(standing) = &standing
            && !self.standing.is_empty()
        {
            out.extend_from_slice(&self.standing);
            number(out, u64::from(standing.remaining));
            out.extend_from_slice(b";t=");
            number(out, standing.next_s);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(&self.legacy);
        if let Some(standing) = standing
            && !self.legacy.is_empty()
        {
            // No standard: seconds from now, as most that do not mean a date.
            let remaining = u64::from(standing.remaining);
            line(out, b"X-RateLimit-Remaining: ", remaining);
            line(out, b"X-RateLimit-Reset: ", standing.full_s);
        }
    }
}

/// RFC 9110 section 10.2.3; at least 1, since 0 asks to come back at once.
pub fn write_retry_after(out: &mut Vec<u8>, retry_ns: Nanos) {
    line(out, b"Retry-After: ", seconds(retry_ns).max(1));
}

/// Rounded up. What the rounding of an interval has added is no second: it is less than `ROUNDING_NS`.
fn seconds(ns: Nanos) -> u64 {
    ns.saturating_sub(ROUNDING_NS).div_ceil(SECOND_NS)
}

fn standing(quota: &Quota, decision: &Decision) -> Option<Standing> {
    let lacking_ns = |count: u32| quota.interval_ns.saturating_mul(u64::from(count));
    let (remaining, next_ns, full_ns) = match *decision {
        Decision::Admitted {
            remaining, full_ns, ..
        } => {
            let others = quota.burst.saturating_sub(remaining.saturating_add(1));
            let next_ns = full_ns.saturating_sub(lacking_ns(others));
            (remaining, next_ns, full_ns)
        }
        Decision::Limited { retry_ns } => {
            let others = quota.burst.saturating_sub(1);
            (0, retry_ns, retry_ns.saturating_add(lacking_ns(others)))
        }
        Decision::Full => return None,
    };
    Some(Standing {
        remaining,
        next_s: seconds(next_ns),
        full_s: seconds(full_ns),
    })
}

/// draft-ietf-httpapi-ratelimit-headers-10: `q` requests per window of `w` seconds; `r` are left, and in `t` seconds
/// there is one more (sections 3 and 4). `q` is the burst, since `r` counts what may come at once; so `w` is the time in
/// which the rate gives as many.
fn write_policy(out: &mut Vec<u8>, name: &str, quota: &Quota) {
    out.extend_from_slice(b"RateLimit-Policy: ");
    string(out, name);
    out.extend_from_slice(b";q=");
    number(out, u64::from(quota.burst));
    out.extend_from_slice(b";w=");
    number(out, window_s(quota));
    out.extend_from_slice(b"\r\n");
}

/// Whole, and not 0. An interval was rounded up to a nanosecond; a window of 60 s is not to become one of 61 by that.
fn window_s(quota: &Quota) -> u64 {
    let rounded_ns = quota.interval_ns.saturating_sub(1);
    let window_ns = rounded_ns.saturating_mul(u64::from(quota.burst));
    window_ns.saturating_add(1).div_ceil(SECOND_NS)
}

/// RFC 9651 section 3.3.3.
fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for char in text.chars() {
        match char {
            '"' | '\\' => out.extend_from_slice(&[b'\\', char as u8]),
            ' '..='~' => out.push(char as u8),
            _ => out.push(b'?'),
        }
    }
    out.push(b'"');
}

fn line(out: &mut Vec<u8>, name: &[u8], value: u64) {
    out.extend_from_slice(name);
    number(out, value);
    out.extend_from_slice(b"\r\n");
}

fn number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Nanos = 1_000_000;

    fn quota(interval_ns: Nanos, burst: u32) -> Quota {
        Quota {
            interval_ns,
            burst,
            period_ns: SECOND_NS,
            requests: 1,
        }
    }

    fn written(fields: Fields, name: &str, quota: &Quota, decision: Decision) -> String {
        let mut out = Vec::new();
        Lines::new(fields, name, quota).write(&mut out, &decision);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn how_a_client_stands() {
        let admitted = |remaining, full_ms| Decision::Admitted {
            remaining,
            full_ns: full_ms * MS,
            wait_ns: 0,
        };
        let limited = |retry_ms| Decision::Limited {
            retry_ns: retry_ms * MS,
        };
        // Requests at once, ms between two, and what was decided; remaining, until one more, until all.
        let cases = [
            (10, 100, admitted(9, 100), (9, 1, 1)),
            (10, 100, admitted(0, 1_000), (0, 1, 1)),
            (10, 6_000, admitted(9, 6_000), (9, 6, 6)),
            (10, 6_000, admitted(7, 14_500), (7, 3, 15)),
            (10, 6_000, admitted(0, 60_000), (0, 6, 60)),
            (10, 6_000, limited(2_001), (0, 3, 57)),
            (1, 500, limited(1), (0, 1, 1)),
            // Of a lease: more remain than the bucket itself has.
            (10, 6_000, admitted(9, 0), (9, 0, 0)),
        ];
        for (burst, interval_ms, decision, (remaining, next_s, full_s)) in cases {
            let found = written(Fields::Both, "a", &quota(interval_ms * MS, burst), decision);
            let draft = format!("RateLimit: \"a\";r={remaining};t={next_s}\r\n");
            let legacy = format!(
                "X-RateLimit-Limit: {burst}\r\nX-RateLimit-Remaining: {remaining}\r\n\
                 X-RateLimit-Reset: {full_s}\r\n"
            );
            assert!(found.contains(&draft), "{decision:?}: {found}");
            assert!(found.ends_with(&legacy), "{decision:?}: {found}");
        }
    }

    #[test]
    fn a_policy_tells_the_rate() {
        let cases = [
            // 100 a second.
            (10 * MS, 100, "q=100;w=1"),
            (10 * MS, 10, "q=10;w=1"),
            (10 * MS, 250, "q=250;w=3"),
            // 7 a minute, rounded up to a nanosecond.
            (8_571_428_572, 7, "q=7;w=60"),
            (60_000 * MS, 1, "q=1;w=60"),
            (1_000, 1, "q=1;w=1"),
            (86_400_000 * MS, 1_000_000, "q=1000000;w=18446744074"),
        ];
        for (interval_ns, burst, expected) in cases {
            let quota = quota(interval_ns, burst);
            let found = written(Fields::Draft, "a", &quota, Decision::Full);
            let expected = format!("RateLimit-Policy: \"a\";{expected}\r\n");
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn only_the_fields_that_are_wanted() {
        let decision = Decision::Limited { retry_ns: MS };
        let cases = [
            (Fields::Off, 0, 0),
            (Fields::Draft, 2, 0),
            (Fields::Legacy, 0, 3),
            (Fields::Both, 2, 3),
        ];
        for (fields, draft, legacy) in cases {
            let found = written(fields, "a", &quota(MS, 1), decision);
            let count = |prefix| {
                found
                    .lines()
                    .filter(|line| line.starts_with(prefix))
                    .count()
            };
            assert_eq!((count("RateLimit"), count("X-RateLimit")), (draft, legacy));
        }
    }

    #[test]
    fn a_name_stays_a_string() {
        let cases = [
            ("rate_limits[1]", "\"rate_limits[1]\""),
            ("a\"b\\c", "\"a\\\"b\\\\c\""),
            ("ä\r\nX: y", "\"???X: y\""),
        ];
        for (name, expected) in cases {
            let found = written(Fields::Draft, name, &quota(MS, 1), Decision::Full);
            assert_eq!(found, format!("RateLimit-Policy: {expected};q=1;w=1\r\n"));
        }
    }

    #[test]
    fn who_is_refused_waits_for_a_second_at_least() {
        for (retry_ns, expected) in [
            (0, 1),
            (1, 1),
            (SECOND_NS, 1),
            (SECOND_NS + 1, 1),
            (SECOND_NS + MS, 2),
            (3_600 * SECOND_NS, 3_600),
        ] {
            let mut out = Vec::new();
            write_retry_after(&mut out, retry_ns);
            let found = String::from_utf8(out).unwrap();
            assert_eq!(found, format!("Retry-After: {expected}\r\n"));
        }
    }
}
