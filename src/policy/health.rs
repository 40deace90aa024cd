//! Who may serve: one packed word per backend, and how it changes.
//!
//! Decides: what a check, a failed request, a trial or an operator does to a backend's standing. May not know:
//! clocks, other backends (whether a share of the cluster is out already is told), how the word is stored.
//! Invariant: `next` is the only way from one word to another; it is total, and never panics.
//!
//! ```text
//!             errors_max failures, if the cluster may lose one         its time is over
//!   In ──────────────────────────────────────────────▶ Ejected ──────────────────────▶ In
//!   In ── the window trips ──▶ Open ── its time is over ──▶ HalfOpen ── all trials pass ──▶ In
//!                               ▲                               │
//!                               └────────── one fails ──────────┘
//! ```
//! Beside it stand the checks (unknown, up, down) and the operator's mode; a backend is used when all three agree.

mod window;
mod word;

#[cfg(test)]
mod tests;

use word::{ADMITTED, CHECKED, DOWN, ERRORS, LEVEL, MODE, PASSED, STREAK, TIME, TRAFFIC, units};

pub use window::{Breaker, Window};
pub use word::{Checks, Mode, STREAK_MAX, Standing, TRIALS_MAX, Traffic, Trial, Word};

use crate::policy::Nanos;

/// What happened to a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    Check {
        passed: bool,
    },
    /// A request got a good answer.
    Passed,
    /// A request failed for a cause that counts. `may_eject`: its cluster can do without it.
    Failed {
        may_eject: bool,
    },
    /// Too large a share of requests failed.
    Trip,
    /// A trial wants to begin; it may if the word changes.
    Admit,
    /// A trial ended without a verdict.
    Released,
    /// Time has passed.
    Elapsed,
    Mode(Mode),
}

/// When a backend is taken out and let in again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Checks in succession that must pass, or fail. At least 1.
    pub rise: u32,
    pub fall: u32,
    /// Failures in succession that eject; 0 is off.
    pub errors_max: u32,
    /// The first ejection; each further one lasts twice as long, up to the longest.
    pub eject_ns: Nanos,
    pub eject_max_ns: Nanos,
    /// The same for the breaker.
    pub open_ns: Nanos,
    pub open_max_ns: Nanos,
    /// Trials that a half-open backend gets; all must pass. At least 1.
    pub trials: u32,
    /// A backend that comes in gets its whole share after this time; 0 is at once.
    pub slow_start_ns: Nanos,
}

/// The word after an event. The same word means that nothing happened.
pub fn next(word: Word, event: Event, now: Nanos, rules: &Rules) -> Word {
    match event {
        Event::Check { passed } => checked(word, passed, now, rules),
        Event::Passed => passed(word, now, rules),
        Event::Failed { may_eject } => failed(word, may_eject, now, rules),
        Event::Trip => match word.traffic() {
            Traffic::In => word.goes_out(Traffic::Open, now, rules.open_ns, rules.open_max_ns),
            Traffic::Ejected | Traffic::Open | Traffic::HalfOpen => word,
        },
        Event::Admit => match word.standing() {
            Standing::HalfOpen if word.get(ADMITTED) < u64::from(rules.trials) => {
                word.with(ADMITTED, word.get(ADMITTED) + 1)
            }
            Standing::HalfOpen
            | Standing::Available
            | Standing::Draining
            | Standing::Maintenance
            | Standing::Down
            | Standing::Ejected
            | Standing::Open => word,
        },
        Event::Released => match word.traffic() {
            // A trial that passed keeps its place: the quota is one of trials, not of trials at a time.
            Traffic::HalfOpen if word.get(ADMITTED) > word.get(PASSED) => {
                word.with(ADMITTED, word.get(ADMITTED) - 1)
            }
            Traffic::HalfOpen | Traffic::In | Traffic::Ejected | Traffic::Open => word,
        },
        Event::Elapsed => elapsed(word, now, rules),
        Event::Mode(mode) => {
            let word = word.with(STREAK, 0);
            let back = mode == Mode::Auto && word.mode() == Mode::Maintenance;
            let word = word.with(MODE, mode as u64);
            // Nobody has looked meanwhile: the next check decides alone.
            let word = match word.checks() {
                Checks::Up if back => word.with(CHECKED, 0),
                Checks::Up | Checks::Unknown | Checks::Down => word,
            };
            match word.traffic() {
                Traffic::In if back => word.comes_in(now),
                Traffic::In | Traffic::Ejected | Traffic::Open | Traffic::HalfOpen => word,
            }
        }
    }
}

fn checked(word: Word, passed: bool, now: Nanos, rules: &Rules) -> Word {
    let against = word.with(STREAK, word.get(STREAK) + 1);
    let turned = word.with(STREAK, 0).with(CHECKED, 1);
    match (word.checks(), passed) {
        // The first one decides alone: there is nothing yet that it could contradict.
        (Checks::Unknown, passed) => turned.with(DOWN, u64::from(!passed)),
        (Checks::Up, true) | (Checks::Down, false) => word.with(STREAK, 0),
        (Checks::Up, false) if against.get(STREAK) >= u64::from(rules.fall) => turned.with(DOWN, 1),
        // It has restarted, or was mended: what its requests met before says nothing any more.
        (Checks::Down, true) if against.get(STREAK) >= u64::from(rules.rise) => {
            turned.with(DOWN, 0).with(LEVEL, 0).comes_in(now)
        }
        (Checks::Up, false) | (Checks::Down, true) => against,
    }
}

fn passed(word: Word, now: Nanos, rules: &Rules) -> Word {
    match word.traffic() {
        Traffic::In => word.with(ERRORS, 0),
        Traffic::HalfOpen => {
            let passed = word.with(PASSED, word.get(PASSED) + 1);
            if passed.get(PASSED) >= u64::from(rules.trials) {
                word.comes_in(now)
            } else {
                passed
            }
        }
        // A late answer to what was sent before.
        Traffic::Ejected | Traffic::Open => word,
    }
}

fn failed(word: Word, may_eject: bool, now: Nanos, rules: &Rules) -> Word {
    match word.traffic() {
        Traffic::In if rules.errors_max == 0 => word,
        Traffic::In => {
            let word = word.with(ERRORS, word.get(ERRORS) + 1);
            if may_eject && word.get(ERRORS) >= u64::from(rules.errors_max) {
                word.goes_out(Traffic::Ejected, now, rules.eject_ns, rules.eject_max_ns)
            } else {
                word
            }
        }
        Traffic::HalfOpen => word.goes_out(Traffic::Open, now, rules.open_ns, rules.open_max_ns),
        Traffic::Ejected | Traffic::Open => word,
    }
}

fn elapsed(word: Word, now: Nanos, rules: &Rules) -> Word {
    match (word.traffic(), word.left_ns(now)) {
        (Traffic::Ejected, Some(0)) => word.comes_in(now),
        (Traffic::Open, Some(0)) => word
            .with(TRAFFIC, Traffic::HalfOpen as u64)
            .with(ADMITTED, 0)
            .with(PASSED, 0)
            .with(TIME, units(now)),
        (Traffic::In, _) => {
            // In service for as long as it could be out: the next time begins small again.
            let calm_ns = rules
                .slow_start_ns
                .max(rules.eject_max_ns)
                .max(rules.open_max_ns);
            match word.age_ns(now) {
                Some(age) if age >= calm_ns => word.with(LEVEL, 0).with(TIME, 0),
                Some(_) | None => word,
            }
        }
        (Traffic::Ejected | Traffic::Open | Traffic::HalfOpen, _) => word,
    }
}
