//! A backend's standing in one word: what it says.
//!
//! Decides: how the parts are packed, and what they mean together. May not know: how they change (`super::next`).
//! Invariant: every word can be read; a value that does not fit its field is cut to the largest that does.

use crate::policy::Nanos;
use crate::policy::balance::SHARE_WHOLE;

/// Points in time within a word count units of 2^26 ns, about 67 ms, modulo 2^26: they are unique for 52 days.
pub(super) const UNIT_BITS: u32 = 26;
const TIME_BITS: u32 = 26;
const TIME_MASK: u64 = (1 << TIME_BITS) - 1;

pub(super) const MODE: Field = Field { at: 0, bits: 2 };
pub(super) const DOWN: Field = Field { at: 2, bits: 1 };
pub(super) const CHECKED: Field = Field { at: 3, bits: 1 };
pub(super) const STREAK: Field = Field { at: 4, bits: 8 };
pub(super) const TRAFFIC: Field = Field { at: 12, bits: 2 };
pub(super) const ERRORS: Field = Field { at: 14, bits: 8 };
pub(super) const LEVEL: Field = Field { at: 22, bits: 4 };
pub(super) const ADMITTED: Field = Field { at: 26, bits: 6 };
pub(super) const PASSED: Field = Field { at: 32, bits: 6 };
pub(super) const TIME: Field = Field {
    at: 38,
    bits: TIME_BITS,
};

/// What keeps a backend in mode `Auto` from being used; any other mode than that shows here too.
const BLOCKED: u64 = MODE.mask() | DOWN.mask() | TRAFFIC.mask();

/// Largest `rise`, `fall` and `errors_max`: what their field holds.
pub const STREAK_MAX: u64 = 255;
/// Most trials of a half-open backend.
pub const TRIALS_MAX: u64 = 63;

#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    at: u32,
    bits: u32,
}

impl Field {
    const fn mask(self) -> u64 {
        ((1 << self.bits) - 1) << self.at
    }
}

/// One of a half-open backend's trials, known by when that half-open time began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trial(u64);

/// A backend's standing, packed so that one atomic holds it.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Word(pub u64);

/// What the operator wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Checks and failures decide.
    Auto,
    /// Used, whatever checks and failures say.
    Up,
    /// No new requests but those that stick to it; checks go on.
    Drain,
    /// No requests and no checks.
    Maintenance,
}

impl Mode {
    pub const ALL: [Mode; 4] = [Mode::Auto, Mode::Up, Mode::Drain, Mode::Maintenance];

    pub fn name(self) -> &'static str {
        match self {
            Mode::Auto => "auto",
            Mode::Up => "up",
            Mode::Drain => "drain",
            Mode::Maintenance => "maintenance",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traffic {
    In,
    Ejected,
    Open,
    HalfOpen,
}

/// What the checks say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checks {
    Unknown,
    Up,
    Down,
}

/// Whether a backend is used, and if not, who decided so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Available,
    /// A few trials are admitted.
    HalfOpen,
    Draining,
    Maintenance,
    /// Checks failed.
    Down,
    /// Requests failed in succession.
    Ejected,
    /// Too large a share of its requests failed.
    Open,
}

impl Standing {
    pub const ALL: [Standing; 7] = [
        Standing::Available,
        Standing::HalfOpen,
        Standing::Draining,
        Standing::Maintenance,
        Standing::Down,
        Standing::Ejected,
        Standing::Open,
    ];

    /// As it stands in metrics, logs and the admin pages.
    pub fn name(self) -> &'static str {
        match self {
            Standing::Available => "available",
            Standing::HalfOpen => "half_open",
            Standing::Draining => "draining",
            Standing::Maintenance => "maintenance",
            Standing::Down => "down",
            Standing::Ejected => "ejected",
            Standing::Open => "open",
        }
    }
}

impl Word {
    pub(super) fn get(self, field: Field) -> u64 {
        (self.0 & field.mask()) >> field.at
    }

    /// A value that does not fit is cut to the field's largest.
    #[must_use]
    pub(super) fn with(self, field: Field, value: u64) -> Word {
        let value = value.min(field.mask() >> field.at);
        Word(self.0 & !field.mask() | value << field.at)
    }

    /// Gets requests without further questions. One load and one test on the request path.
    #[inline]
    pub fn is_available(self) -> bool {
        self.0 & BLOCKED == 0 || self.mode() == Mode::Up
    }

    pub fn mode(self) -> Mode {
        Mode::ALL[self.get(MODE) as usize]
    }

    pub fn traffic(self) -> Traffic {
        [
            Traffic::In,
            Traffic::Ejected,
            Traffic::Open,
            Traffic::HalfOpen,
        ][self.get(TRAFFIC) as usize]
    }

    pub fn checks(self) -> Checks {
        match (self.get(CHECKED), self.get(DOWN)) {
            (_, 1) => Checks::Down,
            (0, _) => Checks::Unknown,
            (_, _) => Checks::Up,
        }
    }

    pub fn standing(self) -> Standing {
        match self.mode() {
            Mode::Up => Standing::Available,
            Mode::Drain => Standing::Draining,
            Mode::Maintenance => Standing::Maintenance,
            Mode::Auto if self.checks() == Checks::Down => Standing::Down,
            Mode::Auto => match self.traffic() {
                Traffic::In => Standing::Available,
                Traffic::Ejected => Standing::Ejected,
                Traffic::Open => Standing::Open,
                Traffic::HalfOpen => Standing::HalfOpen,
            },
        }
    }

    /// A half-open backend that has one of its `trials` left.
    pub fn has_trial(self, trials: u32) -> bool {
        self.standing() == Standing::HalfOpen && self.get(ADMITTED) < u64::from(trials)
    }

    /// Takes no new clients, but those that a cookie ties to it.
    pub fn serves_its_own(self) -> bool {
        self.mode() == Mode::Drain && self.0 & (BLOCKED & !MODE.mask()) == 0
    }

    /// Failed requests since the last good one.
    pub fn errors(self) -> u32 {
        self.get(ERRORS) as u32
    }

    /// Times that it was taken out without a long time of service between.
    pub fn level(self) -> u32 {
        self.get(LEVEL) as u32
    }

    /// Check results in succession that speak against what the checks say.
    pub fn streak(self) -> u32 {
        self.get(STREAK) as u32
    }

    /// What trials of now are known by.
    pub fn trial(self) -> Trial {
        Trial(self.get(TIME))
    }

    /// It is half open, and the trial is one of now: nothing follows from one that began in a half-open time before.
    pub fn is_trying(self, trial: Option<Trial>) -> bool {
        self.traffic() == Traffic::HalfOpen && trial == Some(self.trial())
    }

    /// Trials begun and passed of a half-open backend.
    pub fn trials(self) -> (u32, u32) {
        (self.get(ADMITTED) as u32, self.get(PASSED) as u32)
    }

    /// A good answer would change something: failures are forgotten, or a trial is passed.
    #[inline]
    pub fn wants_success(self) -> bool {
        self.0 & (ERRORS.mask() | TRAFFIC.mask()) != 0
    }

    /// Time until an ejected or open backend is let in, if it is one.
    pub fn left_ns(self, now: Nanos) -> Option<Nanos> {
        match self.traffic() {
            Traffic::Ejected | Traffic::Open => {
                let left = self.get(TIME).wrapping_sub(units(now)) & TIME_MASK;
                // More than half the circle ahead lies behind.
                Some(if left > TIME_MASK / 2 {
                    0
                } else {
                    left << UNIT_BITS
                })
            }
            Traffic::In | Traffic::HalfOpen => None,
        }
    }

    /// `Elapsed` may change this word some day.
    pub fn is_timed(self) -> bool {
        match self.traffic() {
            Traffic::Ejected | Traffic::Open => true,
            Traffic::In => self.get(TIME) != 0,
            Traffic::HalfOpen => false,
        }
    }

    /// Time since it came in, unless that is long ago.
    pub fn age_ns(self, now: Nanos) -> Option<Nanos> {
        (self.traffic() == Traffic::In && self.get(TIME) != 0)
            .then(|| (units(now).wrapping_sub(self.get(TIME)) & TIME_MASK) << UNIT_BITS)
    }

    /// The part of its weight that it gets, of 256: less than that while it starts slowly.
    #[inline]
    pub fn share(self, now: Nanos, slow_start_ns: Nanos) -> u32 {
        if self.0 & TIME.mask() == 0 {
            return SHARE_WHOLE;
        }
        match self.age_ns(now) {
            Some(age) if age < slow_start_ns => {
                let share = u128::from(age) * u128::from(SHARE_WHOLE) / u128::from(slow_start_ns);
                (share as u32).max(LEAST_SHARE)
            }
            Some(_) | None => SHARE_WHOLE,
        }
    }

    pub(super) fn comes_in(self, now: Nanos) -> Word {
        self.with(TRAFFIC, Traffic::In as u64)
            .with(ERRORS, 0)
            .with(ADMITTED, 0)
            .with(PASSED, 0)
            // 0 says that it was long ago.
            .with(TIME, units(now).max(1))
    }

    pub(super) fn goes_out(
        self,
        traffic: Traffic,
        now: Nanos,
        first_ns: Nanos,
        longest_ns: Nanos,
    ) -> Word {
        let level = self.get(LEVEL);
        let out_ns = first_ns
            .saturating_mul(1 << level)
            .min(longest_ns.max(first_ns));
        self.with(TRAFFIC, traffic as u64)
            .with(ERRORS, 0)
            .with(ADMITTED, 0)
            .with(PASSED, 0)
            .with(LEVEL, level + 1)
            .with(
                TIME,
                units(now.saturating_add(out_ns)).wrapping_add(1) & TIME_MASK,
            )
    }
}

/// The least share of a backend that starts slowly: something to warm up with.
const LEAST_SHARE: u32 = 16;

pub(super) fn units(now: Nanos) -> u64 {
    (now >> UNIT_BITS) & TIME_MASK
}

impl std::fmt::Debug for Word {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (admitted, passed) = self.trials();
        write!(
            f,
            "{} (mode {}, checks {:?} against {}, {:?}, errors {}, level {}, trials {admitted}/{passed}, time {})",
            self.standing().name(),
            self.mode().name(),
            self.checks(),
            self.streak(),
            self.traffic(),
            self.errors(),
            self.level(),
            self.get(TIME),
        )
    }
}
