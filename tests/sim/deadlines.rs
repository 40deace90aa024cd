//! Every phase has its deadline, and every deadline its outcome.

use std::rc::Rc;

use corelane::config::plan::Nanos;
use corelane::metrics::Reason;

use crate::backend::{Flaw, Manner, Reply, Shape};
use crate::client::{Ending, Script, Seen};
use crate::http::Gone;
use crate::model::{Ask, Fate, Load};
use crate::net::{Door, Weather};
use crate::stage::{PLAN, Stage, plan};
use crate::world::{MS, SECOND};

struct Case {
    name: &'static str,
    script: Script,
    reply: Reply,
    door: Door,
    /// Added to the plan's timeouts.
    timeouts: &'static str,
    seen: Seen,
    reason: Option<Reason>,
    /// When the client's connection ends: not before, and not much later.
    after_ns: Nanos,
}

fn case(name: &'static str, seen: Seen, reason: Reason, after_ns: Nanos) -> Case {
    Case {
        name,
        script: Script::of(vec![Ask::get()]),
        reply: Reply::plain(Shape::Length, 5_000),
        door: Door::Accept,
        timeouts: "",
        seen,
        reason: Some(reason),
        after_ns,
    }
}

fn fate(mut ask: Ask, fate: Fate) -> Script {
    ask.fate = fate;
    Script::of(vec![ask])
}

fn flawed(flaw: Flaw) -> Reply {
    Reply {
        flaw,
        ..Reply::plain(Shape::Length, 5_000)
    }
}

#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn cases() -> Vec<Case> {
    let (s, refused) = (SECOND, Seen::Refusal);
    let upload = Ask::post(Load::Length(3_000));
    let upgrade = Ask {
        upgrade: true,
        ..Ask::get()
    };
    let late = Script {
        slow_ns: 20 * s,
        ..Script::of(vec![Ask::get()])
    };
    let waits = Script {
        ending: Ending::Wait,
        ..Script::of(vec![Ask::get()])
    };
    vec![
        Case {
            script: fate(Ask::get(), Fate::Stall(20)),
            ..case("the head", refused(408), Reason::HeaderTimeout, 2 * s)
        },
        Case {
            script: fate(upload.clone(), Fate::Stall(2_000)),
            ..case("the body", refused(408), Reason::BodyTimeout, 2 * s)
        },
        Case {
            door: Door::Hang,
            // Twice: another backend is tried.
            ..case("connecting", refused(504), Reason::ConnectTimeout, 2 * s)
        },
        Case {
            reply: flawed(Flaw::Hang(0)),
            ..case(
                "the first byte",
                refused(504),
                Reason::FirstByteTimeout,
                2 * s,
            )
        },
        Case {
            reply: flawed(Flaw::Hang(5)),
            ..case(
                "the response's head",
                refused(504),
                Reason::BackendIdleTimeout,
                2 * s,
            )
        },
        Case {
            reply: flawed(Flaw::Hang(700)),
            ..case(
                "its body",
                Seen::Cut(Gone::End),
                Reason::BackendIdleTimeout,
                2 * s,
            )
        },
        Case {
            reply: flawed(Flaw::Hang(0)),
            timeouts: "request = \"1s\"",
            ..case("the whole request", refused(504), Reason::RequestTimeout, s)
        },
        Case {
            reply: Reply::plain(Shape::Length, 400_000),
            script: late,
            ..case(
                "taking it",
                Seen::Cut(Gone::End),
                Reason::ClientWriteTimeout,
                2 * s,
            )
        },
        Case {
            script: waits,
            reason: None,
            ..case(
                "the next request",
                Seen::Answer(200),
                Reason::Internal,
                3 * s,
            )
        },
        Case {
            script: Script::of(vec![upgrade]),
            reply: Reply {
                tunnel_hangs: true,
                ..Reply::plain(Shape::Length, 5_000)
            },
            reason: None,
            ..case("a tunnel", Seen::Answer(101), Reason::Internal, 4 * s)
        },
    ]
}

#[test]
fn each_deadline_fires_and_says_so() {
    for case in cases() {
        let text = PLAN.replace("[limits]", &format!("{}\n[limits]", case.timeouts));
        let weather = Weather {
            window: 20_000,
            ..Weather::STILL
        };
        let stage = Stage::new(7, weather, &plan(&text), 1, false);
        for number in 0..3 {
            let (reply, door) = (case.reply.clone(), case.door);
            stage.backend(number, move || door, Manner::plain(move |_| reply.clone()));
        }
        let began = stage.world.now();
        let seens = stage.client(case.script);
        stage.run_clients();
        let took = stage.world.now() - began;
        assert_eq!(*seens.borrow(), [case.seen], "{}", case.name);
        // A slow reader learns late that it was cut off.
        let slow = case.reason == Some(Reason::ClientWriteTimeout);
        let most = case.after_ns + if slow { 60 * SECOND } else { 500 * MS };
        let range = case.after_ns..most;
        assert!(range.contains(&took), "{}: {} ms", case.name, took / MS);
        if let Some(reason) = case.reason {
            assert_eq!(stage.rejects(reason), 1, "{}: {reason:?}", case.name);
        }
        stage.finish();
    }
}

/// A suspended machine: all that was under way is late, nothing stays.
#[test]
fn hours_pass_at_once() {
    let upgrade = Ask {
        upgrade: true,
        ..Ask::get()
    };
    for ask in [Ask::get(), Ask::post(Load::Chunked(50_000)), upgrade] {
        for at in 0..40 {
            let stage = Stage::new(at, Weather::STILL, &plan(PLAN), 2, false);
            for number in 0..3 {
                let reply = Reply {
                    think_ns: 100 * MS,
                    pause_ns: 10 * MS,
                    ..Reply::plain(Shape::Chunked, 20_000)
                };
                stage.backend(
                    number,
                    || Door::Accept,
                    Manner::plain(move |_| reply.clone()),
                );
            }
            let mut script = Script::of(vec![ask.clone(), Ask::get()]);
            script.trickle_ns = MS;
            script.ending = Ending::Wait;
            stage.client(script);
            let world = stage.world.clone();
            stage.after(at * 8 * MS, move || world.jump(5 * 3600 * SECOND, 1));
            stage.finish();
        }
    }
}

/// A shard without a sign of life is reported once, and once more when it goes on; one that has drained while another
/// has not is none.
#[test]
fn who_has_ended_is_not_stuck() {
    let stage = Stage::new(
        1,
        Weather::STILL,
        &plan(&PLAN.replace("1h", "1s")),
        2,
        false,
    );
    for number in 0..3 {
        let reply = Reply {
            think_ns: 1_900 * MS,
            ..Reply::plain(Shape::Length, 10)
        };
        stage.backend(
            number,
            || Door::Accept,
            Manner::plain(move |_| reply.clone()),
        );
    }
    stage.watch();
    let listener = stage.told.listen().expect("there is room");
    let told = || std::iter::from_fn(|| listener.next().expect("it was heard in time"));
    stage.run_for(SECOND);
    stage.world.jump(5 * SECOND, 1);
    stage.run_for(SECOND);
    let lines: Vec<_> = told().collect();
    let count = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
    // The watch may come after the shard that goes on.
    assert!(count("a shard is stuck") <= 2, "{lines:?}");
    assert_eq!(
        count("a shard is stuck"),
        count("a shard goes on"),
        "{lines:?}"
    );
    let seens = stage.client(Script::of(vec![Ask::get()]));
    stage.run_for(100 * MS);
    stage.drain()();
    stage.run_clients();
    assert_eq!(*seens.borrow(), [Seen::Answer(200)]);
    let lines: Vec<_> = told().collect();
    assert!(lines.is_empty(), "{lines:?}");
    stage.finish();
}

/// The drain comes at any point of an exchange: what has begun is finished, and then all is over.
#[test]
fn a_drain_in_the_middle() {
    for at in 0..60 {
        let stage = Stage::new(at, Weather::STILL, &plan(PLAN), 1, false);
        for number in 0..3 {
            let reply = Reply {
                think_ns: 100 * MS,
                pause_ns: 10 * MS,
                ..Reply::plain(Shape::Length, 20_000)
            };
            stage.backend(
                number,
                || Door::Accept,
                Manner::plain(move |_| reply.clone()),
            );
        }
        let mut script = Script::of(vec![
            Ask::get(),
            Ask::post(Load::Length(40_000)),
            Ask::get(),
        ]);
        script.trickle_ns = MS;
        script.pause_ns = 200 * MS;
        script.ending = Ending::Wait;
        let seens = stage.client(script);
        stage.after(at * 20 * MS, stage.drain());
        let shard = Rc::clone(&stage.shards[0]);
        stage.run_clients();
        assert!(at == 0 || shard.is_draining() || seens.borrow().len() == 3);
        let cut = |seen: &Seen| matches!(seen, Seen::Cut(_) | Seen::Refusal(_));
        assert!(!seens.borrow().iter().any(cut), "{at}: {seens:?}");
        stage.finish();
    }
}
