//! How long a stored response may be used.
//!
//! Decides: fresh, stale, and what stale may still be good for. May not know: the response itself. Invariant: time only
//! makes a response staler.

use super::control::Asked;
use crate::policy::Nanos;

/// Counts of seconds end here (RFC 9111 section 1.2.2).
pub(super) const SECONDS_MAX: u32 = i32::MAX as u32;

const SECOND_NS: Nanos = 1_000_000_000;
/// Shards look at the clock once in 20 ms, a busy one later: who stored a response and who serves it may be that far
/// apart. So much older it counts, as it must not seem younger than it is.
const SLACK_NS: Nanos = 40_000_000;

/// The times of a stored response. Seconds of more than 2^31 - 1 count as that (RFC 9111 section 1.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// When it came, on the process's clock.
    pub at: Nanos,
    /// How old it was then (RFC 9111 section 4.2.3: corrected_initial_age).
    pub age_s: u32,
    pub lifetime_s: u32,
    pub stale_while_revalidate_s: u32,
    pub stale_if_error_s: u32,
    /// Never used stale beyond the times above, whatever a request wants (`must-revalidate` and the like; that leaves no
    /// such times, `s-maxage` those that its own response names).
    pub must_revalidate: bool,
    /// Never used without asking the backend first (`no-cache`, or no lifetime at all).
    pub no_cache: bool,
}

/// What a stored response is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Fresh,
    /// Stale, and the client takes it (`max-stale`).
    Accepted,
    /// Stale, and may be used while it is validated.
    Revalidating,
    /// To be validated first.
    Stale,
}

impl Terms {
    /// How old the response is (RFC 9111 section 4.2.3: current_age).
    pub fn age_s(&self, now: Nanos) -> u32 {
        let resident_ns = now.saturating_sub(self.at).saturating_add(SLACK_NS);
        let resident_s = resident_ns / SECOND_NS;
        capped_s(u64::from(self.age_s).saturating_add(resident_s))
    }

    /// `asked`: what the request wants, where that counts.
    pub fn standing(&self, asked: &Asked, now: Nanos) -> Standing {
        let age_s = self.age_s(now);
        if self.no_cache || asked.no_cache || asked.refuses_age(age_s) {
            return Standing::Stale;
        }
        if self.lifetime_s > age_s {
            // RFC 9111 section 5.2.1.3.
            return if self.lifetime_s - age_s >= asked.min_fresh_s {
                Standing::Fresh
            } else {
                Standing::Stale
            };
        }
        // RFC 9111 section 4.2.4. Whoever wants it fresh for a while does not want it stale.
        if asked.min_fresh_s > 0 {
            return Standing::Stale;
        }
        let staleness_s = age_s - self.lifetime_s;
        if staleness_s < self.stale_while_revalidate_s {
            Standing::Revalidating
        } else if !self.must_revalidate && asked.takes_stale(staleness_s) {
            Standing::Accepted
        } else {
            Standing::Stale
        }
    }

    /// It may be sent in place of an error now (RFC 5861 section 4). What the request says of age does not count then;
    /// that it wants no stored response does.
    pub fn stands_in(&self, asked: &Asked, now: Nanos) -> bool {
        let age_s = self.age_s(now);
        if self.no_cache || asked.no_cache {
            return false;
        }
        if self.lifetime_s > age_s {
            return true;
        }
        let staleness_s = age_s - self.lifetime_s;
        let asked_s = asked.stale_if_error_s.unwrap_or(0);
        let is_wanted = staleness_s < asked_s || asked.takes_stale(staleness_s);
        staleness_s < self.stale_if_error_s || is_wanted && !self.must_revalidate
    }

    /// Whether it is, or will be, good for anything without being validated.
    pub(super) fn serves_unasked(&self) -> bool {
        let window_s = self.stale_while_revalidate_s.max(self.stale_if_error_s);
        !self.no_cache && self.lifetime_s.saturating_add(window_s) > self.age_s
    }
}

pub(super) fn capped_s(seconds: u64) -> u32 {
    seconds.min(u64::from(SECONDS_MAX)) as u32
}

#[cfg(test)]
mod tests {
    use super::Standing::{Accepted, Fresh, Revalidating, Stale};
    use super::*;
    use proptest::prelude::*;

    const NONE: Asked = Asked {
        no_store: false,
        no_cache: false,
        only_if_cached: false,
        max_age_s: None,
        min_fresh_s: 0,
        max_stale_s: 0,
        stale_if_error_s: None,
    };

    const TERMS: Terms = Terms {
        at: 5 * SECOND_NS,
        age_s: 10,
        lifetime_s: 100,
        stale_while_revalidate_s: 20,
        stale_if_error_s: 50,
        must_revalidate: false,
        no_cache: false,
    };

    /// A moment at which the response is this old.
    fn when(age_s: u64) -> Nanos {
        (age_s - 10 + 5) * SECOND_NS
    }

    #[test]
    fn age_counts_from_where_it_began() {
        let cases: &[(&str, Terms, Nanos, u32)] = &[
            ("4.2.3: at once", TERMS, when(10), 10),
            ("4.2.3: later", TERMS, when(11), 11),
            ("a clock that lags", TERMS, when(11) - SLACK_NS, 11),
            ("whole seconds", TERMS, when(11) - SLACK_NS - 1, 10),
            ("a clock behind", TERMS, 0, 10),
            ("1.2.2: no overflow", TERMS, Nanos::MAX, SECONDS_MAX),
            (
                "1.2.2: the cap",
                Terms {
                    age_s: SECONDS_MAX,
                    ..TERMS
                },
                when(11),
                SECONDS_MAX,
            ),
        ];
        for (section, terms, now, age_s) in cases {
            assert_eq!(terms.age_s(*now), *age_s, "{section}");
        }
    }

    const STRICT: Terms = Terms {
        must_revalidate: true,
        stale_while_revalidate_s: 0,
        stale_if_error_s: 0,
        ..TERMS
    };
    /// `s-maxage` with times for stale use.
    const BOUNDED: Terms = Terms {
        must_revalidate: true,
        ..TERMS
    };
    const UNSURE: Terms = Terms {
        no_cache: true,
        ..TERMS
    };
    const FOREVER: Terms = Terms {
        lifetime_s: SECONDS_MAX,
        ..TERMS
    };
    const NO_CACHE: Asked = Asked {
        no_cache: true,
        ..NONE
    };
    const BOTH: Asked = Asked {
        min_fresh_s: 1,
        max_stale_s: u32::MAX,
        ..NONE
    };

    const fn max_age(seconds: u32) -> Asked {
        Asked {
            max_age_s: Some(seconds),
            ..NONE
        }
    }

    const fn min_fresh(seconds: u32) -> Asked {
        Asked {
            min_fresh_s: seconds,
            ..NONE
        }
    }

    const fn max_stale(seconds: u32) -> Asked {
        Asked {
            max_stale_s: seconds,
            ..NONE
        }
    }

    const STANDINGS: &[(&str, Terms, Asked, u64, Standing)] = &[
        ("4.2: fresh", TERMS, NONE, 99, Fresh),
        ("4.2: not at its end", STRICT, NONE, 100, Stale),
        ("5861 3: begins", TERMS, NONE, 100, Revalidating),
        ("5861 3: last second", TERMS, NONE, 119, Revalidating),
        ("5861 3: over", TERMS, NONE, 120, Stale),
        ("5.2.2.2: fresh", STRICT, NONE, 99, Fresh),
        ("5.2.2.2: stale", STRICT, NONE, 101, Stale),
        (
            "5.2.2.2: over max-stale",
            STRICT,
            max_stale(u32::MAX),
            101,
            Stale,
        ),
        ("5.2.2.10: its own", BOUNDED, NONE, 119, Revalidating),
        (
            "5.2.2.10: over max-stale",
            BOUNDED,
            max_stale(u32::MAX),
            120,
            Stale,
        ),
        ("5.2.2.4", UNSURE, NONE, 10, Stale),
        ("5.2.2.4: over max-stale", UNSURE, max_stale(9), 10, Stale),
        ("5.2.1.1: younger", TERMS, max_age(20), 20, Fresh),
        ("5.2.1.1: older", TERMS, max_age(20), 21, Stale),
        ("5.2.1.1: not stale", TERMS, max_age(500), 130, Stale),
        ("5.2.1.1: zero", TERMS, max_age(0), 10, Stale),
        ("5.2.1.2: bounded", TERMS, max_stale(60), 160, Accepted),
        ("5.2.1.2: beyond", TERMS, max_stale(60), 161, Stale),
        ("5.2.1.2: any", TERMS, max_stale(u32::MAX), 9_000, Accepted),
        (
            "5861 before 5.2.1.2",
            TERMS,
            max_stale(60),
            119,
            Revalidating,
        ),
        ("5.2.1.3: enough", TERMS, min_fresh(80), 20, Fresh),
        ("5.2.1.3: too little", TERMS, min_fresh(81), 20, Stale),
        ("5.2.1.3: not stale", TERMS, min_fresh(1), 100, Stale),
        ("5.2.1.3: over max-stale", TERMS, BOTH, 100, Stale),
        (
            "5.2.1.3: unreadable",
            FOREVER,
            min_fresh(u32::MAX),
            10,
            Stale,
        ),
        ("5.2.1.4", TERMS, NO_CACHE, 10, Stale),
        ("1.2.2: never over", FOREVER, NONE, 4_000_000, Fresh),
    ];

    #[test]
    fn standings() {
        for (section, terms, asked, age_s, standing) in STANDINGS {
            let found = terms.standing(asked, when(*age_s));
            assert_eq!(found, *standing, "{section}");
        }
        let zero = Terms { age_s: 0, ..TERMS };
        assert_eq!(zero.standing(&max_age(0), zero.at), Stale, "5.2.1.1: zero");
    }

    #[test]
    fn what_stands_in_for_an_error() {
        let asked = |stale_if_error_s, max_stale_s| Asked {
            stale_if_error_s,
            max_stale_s,
            ..NONE
        };
        let reload = Asked {
            max_age_s: Some(0),
            ..NONE
        };
        let cases: &[(&str, Terms, Asked, u64, bool)] = &[
            ("fresh", TERMS, NONE, 20, true),
            ("fresh, but the client wants newer", TERMS, reload, 20, true),
            ("5861 4: last second", TERMS, NONE, 149, true),
            ("5861 4: over", TERMS, NONE, 150, false),
            (
                "5861 4: the request's",
                TERMS,
                asked(Some(60), 0),
                159,
                true,
            ),
            ("5861 4: over", TERMS, asked(Some(60), 0), 160, false),
            ("5861 4: the longer", TERMS, asked(Some(0), 0), 149, true),
            ("5.2.1.2", TERMS, asked(None, 70), 170, true),
            ("5.2.1.2: over", TERMS, asked(None, 70), 171, false),
            ("5.2.2.2: fresh", STRICT, NONE, 99, true),
            ("5.2.2.2: stale", STRICT, asked(Some(9), 9), 100, false),
            ("5.2.2.10: its own", BOUNDED, NONE, 149, true),
            ("5.2.2.10", BOUNDED, asked(Some(90), 90), 150, false),
            ("5.2.2.4", UNSURE, asked(Some(9), 9), 20, false),
            ("5.2.1.4", TERMS, NO_CACHE, 20, false),
        ];
        for (section, terms, asked, age_s, stands_in) in cases {
            let found = terms.stands_in(asked, when(*age_s));
            assert_eq!(found, *stands_in, "{section}");
        }
    }

    /// Staler is greater.
    fn rank(standing: Standing) -> u8 {
        match standing {
            Standing::Fresh => 0,
            Standing::Revalidating => 1,
            Standing::Accepted => 2,
            Standing::Stale => 3,
        }
    }

    fn seconds() -> impl Strategy<Value = u32> {
        prop_oneof![0_u32..200, 0..=SECONDS_MAX, Just(SECONDS_MAX)]
    }

    prop_compose! {
        fn any_terms()(
            at in 0..1_000 * SECOND_NS,
            age_s in seconds(), lifetime_s in seconds(),
            stale_while_revalidate_s in seconds(), stale_if_error_s in seconds(),
            must_revalidate: bool, no_cache: bool,
        ) -> Terms {
            Terms {
                at, age_s, lifetime_s, stale_while_revalidate_s, stale_if_error_s,
                must_revalidate, no_cache,
            }
        }
    }

    prop_compose! {
        fn any_asked()(
            no_cache in prop::bool::weighted(0.1),
            max_age_s in prop::option::of(seconds()),
            min_fresh_s in prop_oneof![Just(0), seconds()],
            max_stale_s in prop_oneof![Just(0), Just(u32::MAX), seconds()],
            stale_if_error_s in prop::option::of(seconds()),
        ) -> Asked {
            Asked { no_cache, max_age_s, min_fresh_s, max_stale_s, stale_if_error_s, ..NONE }
        }
    }

    proptest! {
        #[test]
        fn time_only_makes_staler(
            terms in any_terms(), asked in any_asked(),
            now in 0..4_000 * SECOND_NS, passed in prop_oneof![0..400 * SECOND_NS, any::<u64>()],
        ) {
            let later = now.saturating_add(passed);
            prop_assert!(terms.age_s(now) <= terms.age_s(later));
            let (one, other) = (terms.standing(&asked, now), terms.standing(&asked, later));
            prop_assert!(rank(one) <= rank(other), "{:?} {:?}", one, other);
            prop_assert!(terms.stands_in(&asked, now) || !terms.stands_in(&asked, later));
        }

        #[test]
        fn what_must_be_validated_never_serves(terms in any_terms(), asked in any_asked(), now: u64) {
            let standing = terms.standing(&asked, now);
            let is_over = terms.age_s(now) >= terms.lifetime_s;
            let is_beyond = |window_s: u32| {
                terms.no_cache || {
                    let end_s = u64::from(terms.lifetime_s) + u64::from(window_s);
                    terms.must_revalidate && u64::from(terms.age_s(now)) >= end_s
                }
            };
            if is_beyond(terms.stale_while_revalidate_s) {
                prop_assert_eq!(standing, Standing::Stale);
            }
            if is_beyond(terms.stale_if_error_s) {
                prop_assert!(!terms.stands_in(&asked, now));
            }
            if standing == Standing::Fresh {
                prop_assert!(!is_over && terms.serves_unasked());
            }
        }
    }
}
