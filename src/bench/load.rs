//! What a run is: its targets, its requests, how much of them when.
//!
//! Decides: how many users there are, and when the request with a given number is due. May not know: sockets,
//! clocks, threads. Invariant: due times never decrease with the number, and none lies past the last stage.

use std::net::SocketAddr;

use crate::config::plan::Nanos;

use super::address::Url;

const SECOND: f64 = 1e9;

/// Everything that a run needs to know.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// At least one. A connection keeps its address and takes the targets there in turn.
    pub targets: Vec<Target>,
    pub message: Message,
    pub load: Load,
    pub stages: Vec<Stage>,
    /// False: a new connection for each request.
    pub keep_alive: bool,
    /// Connections take source addresses from 127.0.0.2 on, so many; 0 leaves it to the kernel.
    pub client_addresses: u32,
    /// Connections that are opened before the start and never used.
    pub idle_connections: u32,
    /// CPU numbers, a pinned thread on each; at least one.
    pub cores: Vec<usize>,
    /// So much of the stages is not counted: caches fill, pools open their connections.
    pub warm_up_ns: Nanos,
    /// For one request, from when it is sent; for one connect; and for what is late at the end.
    pub timeout_ns: Nanos,
    /// Ends the run early.
    pub requests_max: Option<u64>,
    pub expect: Expect,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub url: Url,
    pub address: SocketAddr,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub method: String,
    /// Name and value; one called Host replaces that of the URL.
    pub fields: Vec<(String, String)>,
    pub body_bytes: u64,
    /// The body's framing is chunked; its length is not announced.
    pub is_chunked: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// So many users as the stages say; each waits for its answer before it asks again.
    Closed {
        think_ns: Nanos,
        /// Requests of one user in flight.
        pipeline: u16,
        /// Of all users; each takes turns on its part of them. 0: one each.
        connections: u32,
    },
    /// So many requests per second as the stages say, whether answers come or not.
    Open { connections: u32 },
}

/// The level (users, or requests per second) goes evenly from one number to another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stage {
    pub from: f64,
    pub to: f64,
    pub duration_ns: Nanos,
}

/// What a good answer is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expect {
    /// Empty: 200 to 399.
    pub statuses: Vec<u16>,
    pub body_bytes: Option<u64>,
}

/// An answer, judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judged {
    Good,
    /// 429, unless it is expected.
    Limited,
    BadStatus,
    WrongLength,
}

impl Expect {
    pub fn judge(&self, status: u16, body_bytes: u64) -> Judged {
        let expected = match self.statuses.as_slice() {
            [] => (200..400).contains(&status),
            statuses => statuses.contains(&status),
        };
        if !expected && status == 429 {
            Judged::Limited
        } else if !expected {
            Judged::BadStatus
        } else if self.body_bytes.is_some_and(|bytes| bytes != body_bytes) {
            Judged::WrongLength
        } else {
            Judged::Good
        }
    }
}

impl Config {
    pub fn duration_ns(&self) -> Nanos {
        self.stages.iter().map(|stage| stage.duration_ns).sum()
    }

    /// The most connections that are open at once.
    pub fn connections_max(&self) -> u64 {
        let busy = match self.load {
            Load::Closed { connections, .. } => self.users_max().max(connections),
            Load::Open { connections } => connections,
        };
        u64::from(busy) + u64::from(self.idle_connections)
    }

    /// The most users at once.
    pub fn users_max(&self) -> u32 {
        let ends = self.stages.iter().map(|stage| stage.from.max(stage.to));
        ends.fold(0.0, f64::max).ceil() as u32
    }
}

/// The level at a time since the start; 0 when all stages are over.
pub fn level(stages: &[Stage], at_ns: Nanos) -> f64 {
    let mut start = 0;
    for stage in stages {
        let since = at_ns - start;
        if since < stage.duration_ns {
            let part = since as f64 / stage.duration_ns as f64;
            return stage.from + (stage.to - stage.from) * part;
        }
        start += stage.duration_ns;
    }
    0.0
}

/// When each request of an open loop is due.
#[derive(Debug)]
pub struct Schedule {
    pieces: Vec<Piece>,
    total: u64,
}

#[derive(Debug)]
struct Piece {
    stage: Stage,
    start_ns: Nanos,
    /// Requests due before it, with a fraction.
    before: f64,
}

impl Schedule {
    pub fn new(stages: &[Stage], requests_max: Option<u64>) -> Schedule {
        let (mut start_ns, mut before) = (0, 0.0);
        let mut pieces = Vec::with_capacity(stages.len());
        for stage in stages {
            pieces.push(Piece {
                stage: *stage,
                start_ns,
                before,
            });
            start_ns += stage.duration_ns;
            before += (stage.from + stage.to) / 2.0 * stage.duration_ns as f64 / SECOND;
        }
        // A hair less than a whole number is that number, computed in floating point.
        let total = (before - 1e-6).ceil().max(0.0) as u64;
        Schedule {
            pieces,
            total: total.min(requests_max.unwrap_or(u64::MAX)),
        }
    }

    pub fn total(&self) -> u64 {
        self.total
    }

    /// Time since the start at which request `number` (from 0) is due; `None` past the last.
    pub fn due(&self, number: u64) -> Option<Nanos> {
        if number >= self.total {
            return None;
        }
        let number = number as f64;
        let at = self
            .pieces
            .partition_point(|piece| piece.before <= number)
            .saturating_sub(1);
        let piece = self.pieces.get(at)?;
        let Stage {
            from,
            to,
            duration_ns,
        } = piece.stage;
        // from·t + slope/2·t² = count, solved for t without subtracting what is nearly equal.
        let count = number - piece.before;
        let slope = (to - from) / (duration_ns as f64 / SECOND);
        let root = (from * from + 2.0 * slope * count).max(0.0).sqrt();
        let seconds = if from + root > 0.0 {
            2.0 * count / (from + root)
        } else {
            0.0
        };
        Some(piece.start_ns + ((seconds * SECOND) as u64).min(duration_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    fn stage(from: f64, to: f64, seconds: u64) -> Stage {
        Stage {
            from,
            to,
            duration_ns: seconds * S,
        }
    }

    #[test]
    fn levels() {
        let stages = [
            stage(0.0, 100.0, 10),
            stage(100.0, 100.0, 5),
            stage(100.0, 20.0, 4),
        ];
        for (at, expected) in [
            (0, 0.0),
            (5, 50.0),
            (10, 100.0),
            (14, 100.0),
            (17, 60.0),
            (19, 0.0),
            (99, 0.0),
        ] {
            assert_eq!(level(&stages, at * S), expected, "{at} s");
        }
    }

    #[test]
    fn a_constant_rate_is_evenly_spaced() {
        let schedule = Schedule::new(&[stage(1000.0, 1000.0, 2)], None);
        assert_eq!(schedule.total(), 2000);
        for number in 0..2000 {
            let off = schedule.due(number).unwrap().abs_diff(number * 1_000_000);
            assert!(off <= 1, "{number} off by {off} ns");
        }
        assert_eq!(schedule.due(2000), None);
    }

    #[test]
    fn a_ramp_has_its_area_and_never_goes_back() {
        let cases = [
            (vec![stage(0.0, 100.0, 10)], 500),
            (vec![stage(100.0, 0.0, 10)], 500),
            (vec![stage(0.0, 0.0, 5), stage(10.0, 10.0, 1)], 10),
            (
                vec![
                    stage(10.0, 500.0, 5),
                    stage(500.0, 500.0, 1),
                    stage(500.0, 1.0, 3),
                ],
                1275 + 500 + 752,
            ),
        ];
        for (stages, total) in cases {
            let end: u64 = stages.iter().map(|stage| stage.duration_ns).sum();
            let schedule = Schedule::new(&stages, None);
            assert_eq!(schedule.total(), total, "{stages:?}");
            let dues: Vec<u64> = (0..total).map(|n| schedule.due(n).unwrap()).collect();
            assert!(dues.is_sorted(), "{stages:?}");
            assert!(dues.iter().all(|due| *due <= end), "{stages:?}");
        }
        let ramp = Schedule::new(&[stage(0.0, 100.0, 10)], None);
        // Half of the time has a quarter of the requests.
        assert!(ramp.due(125).unwrap().abs_diff(5 * S) < 1000);
    }

    #[test]
    fn a_count_ends_a_schedule() {
        let schedule = Schedule::new(&[stage(1000.0, 1000.0, 2)], Some(3));
        assert_eq!((schedule.total(), schedule.due(3)), (3, None));
    }

    #[test]
    fn answers_are_judged() {
        let any = Expect::default();
        let strict = Expect {
            statuses: vec![204, 429],
            body_bytes: Some(0),
        };
        for (expect, status, bytes, judged) in [
            (&any, 200, 5, Judged::Good),
            (&any, 302, 0, Judged::Good),
            (&any, 429, 0, Judged::Limited),
            (&any, 404, 0, Judged::BadStatus),
            (&any, 503, 0, Judged::BadStatus),
            (&strict, 204, 0, Judged::Good),
            (&strict, 429, 0, Judged::Good),
            (&strict, 200, 0, Judged::BadStatus),
            (&strict, 204, 1, Judged::WrongLength),
        ] {
            assert_eq!(expect.judge(status, bytes), judged, "{status} {bytes}");
        }
    }
}
