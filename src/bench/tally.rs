//! What happened, counted.
//!
//! Decides: what is an error, which answers count for the latency. May not know: how requests are sent.
//! Invariant: each request that was due is counted once: good, limited, or as one trouble. What never came
//! counts for the latency with the time that was waited: left out, it would make the result look better.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use crate::config::plan::Nanos;

/// Below this, latencies are not told apart.
const LATENCY_NS_MIN: u64 = 256;
const LATENCY_NS_MAX: u64 = 3_600_000_000_000;
/// Three digits of a value are right.
const DIGITS: u8 = 3;

/// Why a request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// No connection.
    Connect,
    /// No whole answer in time.
    Timeout,
    Reset,
    /// The connection ended before the answer began.
    Closed,
    /// The connection ended within the body.
    ShortBody,
    /// The body is whole and of another length than expected.
    WrongLength,
    /// Another status than expected.
    BadStatus,
    /// No HTTP/1.1 answer, or bytes behind it that nobody asked for.
    Protocol,
    /// It was due, but no connection was free until the end.
    Unsent,
}

impl Trouble {
    pub const ALL: [Trouble; 9] = [
        Trouble::Connect,
        Trouble::Timeout,
        Trouble::Reset,
        Trouble::Closed,
        Trouble::ShortBody,
        Trouble::WrongLength,
        Trouble::BadStatus,
        Trouble::Protocol,
        Trouble::Unsent,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Trouble::Connect => "connect",
            Trouble::Timeout => "timeout",
            Trouble::Reset => "reset",
            Trouble::Closed => "closed",
            Trouble::ShortBody => "short_body",
            Trouble::WrongLength => "wrong_length",
            Trouble::BadStatus => "bad_status",
            Trouble::Protocol => "protocol",
            Trouble::Unsent => "unsent",
        }
    }

    /// It never came, and would have come later than now.
    fn counts_as_slow(self) -> bool {
        match self {
            Trouble::Timeout | Trouble::Unsent => true,
            Trouble::Connect
            | Trouble::Reset
            | Trouble::Closed
            | Trouble::ShortBody
            | Trouble::WrongLength
            | Trouble::BadStatus
            | Trouble::Protocol => false,
        }
    }
}

/// Counts of a thread, of an interval, or of a whole run.
#[derive(Debug, Clone)]
pub struct Tally {
    pub good: u64,
    /// Answered with 429.
    pub limited: u64,
    pub troubles: [u64; Trouble::ALL.len()],
    pub statuses: BTreeMap<u16, u64>,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// Connections opened.
    pub connects: u64,
    /// Kept connections that had been closed while they were idle.
    pub reconnects: u64,
    /// Of good answers, and of those that never came, from when the request was due.
    pub latency: Histogram<u64>,
    /// Of answers with 429.
    pub limited_latency: Histogram<u64>,
    /// How late the generator itself was; open loop only.
    pub lag: Histogram<u64>,
    /// When the last request ended, since the start.
    pub last_ns: Nanos,
}

impl Default for Tally {
    fn default() -> Tally {
        Tally {
            good: 0,
            limited: 0,
            troubles: [0; Trouble::ALL.len()],
            statuses: BTreeMap::new(),
            bytes_in: 0,
            bytes_out: 0,
            connects: 0,
            reconnects: 0,
            latency: histogram(),
            limited_latency: histogram(),
            lag: histogram(),
            last_ns: 0,
        }
    }
}

impl Tally {
    pub fn good(&mut self, latency_ns: Nanos) {
        self.good += 1;
        self.latency.saturating_record(latency_ns);
    }

    pub fn limited(&mut self, latency_ns: Nanos) {
        self.limited += 1;
        self.limited_latency.saturating_record(latency_ns);
    }

    pub fn trouble(&mut self, trouble: Trouble, latency_ns: Nanos, count: u64) {
        self.troubles[trouble as usize] += count;
        if trouble.counts_as_slow() {
            self.latency.saturating_record_n(latency_ns, count);
        }
    }

    pub fn count(&self, trouble: Trouble) -> u64 {
        self.troubles[trouble as usize]
    }

    pub fn errors(&self) -> u64 {
        self.troubles.iter().sum()
    }

    /// Requests that have ended, one way or the other.
    pub fn requests(&self) -> u64 {
        self.good + self.limited + self.errors()
    }

    /// Requests that got a whole answer, whatever it was.
    pub fn answered(&self) -> u64 {
        self.good + self.limited + self.count(Trouble::BadStatus) + self.count(Trouble::WrongLength)
    }

    pub fn error_share(&self) -> f64 {
        share(self.errors(), self.requests())
    }

    pub fn limited_share(&self) -> f64 {
        share(self.limited, self.requests())
    }

    pub fn add(&mut self, other: &Tally) {
        self.good += other.good;
        self.limited += other.limited;
        for (mine, theirs) in self.troubles.iter_mut().zip(other.troubles) {
            *mine += theirs;
        }
        for (status, count) in &other.statuses {
            *self.statuses.entry(*status).or_default() += count;
        }
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.connects += other.connects;
        self.reconnects += other.reconnects;
        for (mine, theirs) in [
            (&mut self.latency, &other.latency),
            (&mut self.limited_latency, &other.limited_latency),
            (&mut self.lag, &other.lag),
        ] {
            mine.add(theirs).expect("all histograms have one range");
        }
        self.last_ns = self.last_ns.max(other.last_ns);
    }
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(LATENCY_NS_MIN, LATENCY_NS_MAX, DIGITS)
        .expect("the bounds are constants that fit")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_is_counted_once_and_what_never_came_is_slow() {
        let mut tally = Tally::default();
        tally.good(1_000_000);
        tally.limited(1_000);
        for trouble in Trouble::ALL {
            assert_eq!(Trouble::ALL[trouble as usize], trouble);
            tally.trouble(trouble, 5_000_000, 2);
        }
        let mut total = Tally::default();
        total.add(&tally);
        total.add(&tally);
        assert_eq!(total.requests(), 2 * (2 + 18));
        assert_eq!(total.errors(), 36);
        assert_eq!(total.answered(), 2 * (2 + 4));
        // Good ones, timeouts and unsent ones; a quick refusal does not make it look fast.
        assert_eq!(total.latency.len(), 2 * (1 + 2 + 2));
        assert_eq!(total.limited_latency.len(), 2);
        assert!(total.latency.min() >= 999_000);
        assert!((total.error_share() - 0.9).abs() < 1e-9);
        assert_eq!(Tally::default().error_share(), 0.0);
    }
}
