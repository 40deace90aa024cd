//! Each way from one word to another, in literals; and that any word can be read.

use proptest::prelude::*;

use super::*;
use crate::policy::balance::SHARE_WHOLE;

const S: Nanos = 1_000_000_000;

const RULES: Rules = Rules {
    rise: 2,
    fall: 3,
    errors_max: 5,
    eject_ns: 10 * S,
    eject_max_ns: 300 * S,
    open_ns: 5 * S,
    open_max_ns: 60 * S,
    trials: 3,
    slow_start_ns: 10 * S,
};

const FAILED: Event = Event::Failed { may_eject: true };
const BAD: Event = Event::Check { passed: false };
const GOOD: Event = Event::Check { passed: true };

fn after(word: Word, now: Nanos, events: &[Event]) -> Word {
    events
        .iter()
        .fold(word, |word, event| next(word, *event, now, &RULES))
}

fn after_n(word: Word, now: Nanos, event: Event, times: usize) -> Word {
    after(word, now, &vec![event; times])
}

#[test]
fn the_first_check_decides_alone_and_later_ones_need_their_number() {
    let up = after(Word::default(), S, &[GOOD]);
    for (events, standing) in [
        (&[][..], Standing::Available),
        (&[BAD, BAD], Standing::Available),
        (&[BAD, BAD, GOOD, BAD, BAD], Standing::Available),
        (&[BAD, BAD, BAD], Standing::Down),
        (&[BAD, BAD, BAD, GOOD], Standing::Down),
        (&[BAD, BAD, BAD, GOOD, BAD, GOOD], Standing::Down),
        (&[BAD, BAD, BAD, GOOD, GOOD], Standing::Available),
    ] {
        assert_eq!(after(up, S, events).standing(), standing, "{events:?}");
    }
    assert_eq!(after(Word::default(), S, &[BAD]).standing(), Standing::Down);
    assert_eq!(Word::default().standing(), Standing::Available);
}

#[test]
fn failures_in_succession_eject_and_a_success_between_saves() {
    let word = Word::default();
    assert!(after_n(word, S, FAILED, 4).is_available());
    let saved = after(after_n(word, S, FAILED, 4), S, &[Event::Passed]);
    assert!(after_n(saved, S, FAILED, 4).is_available());
    let ejected = after_n(word, S, FAILED, 5);
    assert_eq!(ejected.standing(), Standing::Ejected);
    assert!(!ejected.is_available());
    // Late answers change nothing.
    assert_eq!(after(ejected, S, &[Event::Passed, FAILED]), ejected);
}

#[test]
fn a_cluster_that_cannot_do_without_keeps_it_until_it_can() {
    let word = after_n(Word::default(), S, Event::Failed { may_eject: false }, 9);
    assert!(word.is_available());
    assert_eq!(after(word, S, &[FAILED]).standing(), Standing::Ejected);
}

#[test]
fn each_ejection_lasts_twice_as_long_up_to_the_longest() {
    let mut word = Word::default();
    let mut now = S;
    let mut lasted = Vec::new();
    for _ in 0..8 {
        word = after_n(word, now, FAILED, 5);
        let out = now;
        while !word.is_available() {
            now += S / 10;
            word = after(word, now, &[Event::Elapsed]);
        }
        lasted.push((now - out) / S);
    }
    assert_eq!(lasted, [10, 20, 40, 80, 160, 300, 300, 300]);
}

#[test]
fn a_long_time_of_service_makes_the_next_ejection_short_again() {
    let ejected = after_n(Word::default(), S, FAILED, 5);
    let back = after(ejected, 12 * S, &[Event::Elapsed]);
    assert_eq!((back.standing(), back.level()), (Standing::Available, 1));
    assert_eq!(after(back, 200 * S, &[Event::Elapsed]).level(), 1);
    let calm = after(back, 313 * S, &[Event::Elapsed]);
    assert_eq!((calm.level(), calm.is_timed()), (0, false));
}

#[test]
fn a_restart_seen_by_checks_ends_an_ejection() {
    let ejected = after_n(after(Word::default(), S, &[GOOD]), S, FAILED, 5);
    let down = after(ejected, 2 * S, &[BAD, BAD, BAD]);
    let up = after(down, 4 * S, &[GOOD, GOOD]);
    assert!(up.is_available());
    assert_eq!(up.age_ns(4 * S), Some(0));
}

#[test]
fn half_open_admits_its_quota_and_needs_all_of_it_to_pass() {
    let open = after(Word::default(), S, &[Event::Trip]);
    assert_eq!(open.standing(), Standing::Open);
    assert_eq!(after(open, 3 * S, &[Event::Elapsed]), open);
    let half = after(open, 7 * S, &[Event::Elapsed]);
    assert_eq!(half.standing(), Standing::HalfOpen);
    let full = after_n(half, 7 * S, Event::Admit, 3);
    assert_eq!(after(full, 7 * S, &[Event::Admit]), full);
    let passed = after_n(full, 7 * S, Event::Passed, 2);
    assert_eq!(passed.standing(), Standing::HalfOpen);
    assert_eq!(after(passed, 7 * S, &[Event::Admit]), passed);
    assert!(after(passed, 7 * S, &[Event::Passed]).is_available());
    let open = after(passed, 7 * S, &[FAILED]);
    assert_eq!(open.standing(), Standing::Open);
    // Twice the first time.
    assert_eq!(open.left_ns(8 * S).unwrap() / S, 9);
}

#[test]
fn a_trial_without_verdict_gives_its_place_back() {
    let half = after(Word::default(), S, &[Event::Trip]);
    let half = after(half, 7 * S, &[Event::Elapsed]);
    let full = after_n(half, 7 * S, Event::Admit, 3);
    let one = after(full, 7 * S, &[Event::Released]);
    assert_ne!(after(one, 7 * S, &[Event::Admit]), one);
    assert_eq!(after(half, 7 * S, &[Event::Released]), half);
}

#[test]
fn the_operator_has_the_last_word() {
    let down = after(Word::default(), S, &[BAD]);
    for (mode, standing) in [
        (Mode::Auto, Standing::Down),
        (Mode::Up, Standing::Available),
        (Mode::Drain, Standing::Draining),
        (Mode::Maintenance, Standing::Maintenance),
    ] {
        let word = after(down, S, &[Event::Mode(mode)]);
        assert_eq!(word.standing(), standing);
        assert_eq!(word.is_available(), standing == Standing::Available);
        let auto = after(word, S, &[Event::Mode(Mode::Auto)]);
        assert_eq!(auto.standing(), Standing::Down);
    }
}

#[test]
fn it_starts_slowly_after_it_was_out_and_not_at_the_process_start() {
    assert_eq!(Word::default().share(S, 10 * S), SHARE_WHOLE);
    let ejected = after_n(Word::default(), S, FAILED, 5);
    let back = after(ejected, 20 * S, &[Event::Elapsed]);
    for (after_s, least, most) in [(0, 16, 16), (5, 120, 130), (9, 225, 232), (10, 254, 256)] {
        let share = back.share((20 + after_s) * S, 10 * S);
        assert!((least..=most).contains(&share), "{after_s} s: {share}");
    }
    assert_eq!(back.share(20 * S, 0), SHARE_WHOLE);
}

#[test]
fn the_breaker_wants_a_volume_and_a_ratio_within_its_window() {
    let rules = Breaker {
        percent: 50,
        volume: 20,
        window_ns: 10 * S,
    };
    let run = |results: &[(u64, bool)]| {
        let (mut requests, mut failures, mut window) = (1_000, 77, Window::default());
        for (second, good) in results {
            requests += 1;
            if *good {
                continue;
            }
            failures += 1;
            let (after, trips) = window.failure(second * S, requests, failures, &rules);
            window = after;
            if trips {
                return true;
            }
        }
        false
    };
    let alternating: Vec<_> = (0..30).map(|i| (1, i % 2 == 1)).collect();
    assert!(run(&alternating));
    assert!(!run(&alternating[..19]));
    let third: Vec<_> = (0..60).map(|i| (1, i % 3 != 0)).collect();
    assert!(!run(&third));
    let thin: Vec<_> = (0..60).map(|i| (i, false)).collect();
    assert!(!run(&thin));
}

#[test]
fn failures_count_from_the_first_moment_of_the_process() {
    let rules = Breaker {
        percent: 50,
        volume: 2,
        window_ns: 10 * S,
    };
    let (window, trips) = Window::default().failure(0, 1, 1, &rules);
    assert!(!trips && window != Window::default());
    assert!(window.failure(0, 2, 2, &rules).1);
}

#[test]
fn more_requests_than_a_window_counts_do_not_trip_it() {
    let rules = Breaker {
        percent: 50,
        volume: 20,
        window_ns: 3_600 * S,
    };
    let mut window = Window::default();
    for failures in 1..200_000 {
        // One of a hundred.
        let (after, trips) = window.failure(S, failures * 100, failures, &rules);
        assert!(!trips, "{failures}");
        window = after;
    }
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        any::<bool>().prop_map(|passed| Event::Check { passed }),
        Just(Event::Passed),
        any::<bool>().prop_map(|may_eject| Event::Failed { may_eject }),
        Just(Event::Trip),
        Just(Event::Admit),
        Just(Event::Released),
        Just(Event::Elapsed),
        (0..4_usize).prop_map(|i| Event::Mode(Mode::ALL[i])),
    ]
}

proptest! {
    #[test]
    fn every_word_is_readable_and_trials_stay_within_their_quota(
        start in any::<u64>(),
        events in proptest::collection::vec((any_event(), 0..100 * S), 0..60),
    ) {
        let (mut word, mut now) = (Word(start), 0);
        let mut begun = None;
        for (event, pause) in events {
            now += pause;
            let before = word;
            word = next(word, event, now, &RULES);
            prop_assert_eq!(word.is_available(), word.standing() == Standing::Available);
            prop_assert!(word.share(now, RULES.slow_start_ns) <= SHARE_WHOLE);
            if before.traffic() != Traffic::HalfOpen && word.traffic() == Traffic::HalfOpen {
                begun = Some(word);
            }
            if begun.is_some() && word.traffic() == Traffic::HalfOpen {
                prop_assert!(word.trials().0 <= RULES.trials);
            }
        }
        let text = format!("{word:?}");
        prop_assert!(text.starts_with(word.standing().name()));
    }
}
