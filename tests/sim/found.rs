//! What the simulation found: one case for each, named after it.

use std::rc::Rc;

use crate::backend::{Flaw, Manner, Reply, Shape};
use crate::client::{Script, Seen};
use crate::http::Gone;
use crate::model::{Ask, Load};
use crate::net::{Door, SimStream, Weather};
use crate::stage::{PLAN, Stage, address, plan};
use crate::world::{MS, SECOND};

pub fn stage(text: &str) -> Stage {
    Stage::new(1, Weather::STILL, &plan(text), 1, false)
}

/// Answers by hand: the same on each connection.
pub fn by_hand<F: Future<Output = ()> + 'static>(
    stage: &Stage,
    serve: impl Fn(Rc<SimStream>) -> F + Clone + 'static,
) {
    for number in 0..3 {
        let (world, serve) = (stage.world.clone(), serve.clone());
        stage.net.listen(
            address(number),
            || Door::Accept,
            move |stream| {
                world.spawn(serve(Rc::new(stream)));
            },
        );
    }
}

/// Closing with pipelined requests unread reset the connection, and the last response was lost.
#[test]
fn last_response_survives_pipelined_requests() {
    for seed in 0..20 {
        let text = PLAN.replace("[limits]", "[limits]\nconnection_requests = 2");
        let weather = Weather {
            latency_ns: 5 * MS,
            ..Weather::STILL
        };
        let stage = Stage::new(seed, weather, &plan(&text), 1, true);
        for number in 0..3 {
            let reply = |_: &Ask| Reply::plain(Shape::Length, 10_000);
            stage.backend(number, || Door::Accept, Manner::plain(reply));
        }
        let mut script = Script::of(vec![Ask::get(); 5]);
        script.pipelined = true;
        let seens = stage.client(script);
        stage.run_clients();
        assert_eq!(*seens.borrow(), [Seen::Answer(200); 2]);
        stage.finish();
    }
}

/// A client of HTTP/1.0 that stalled got an orderly end in the middle of its response.
#[test]
fn stalled_http10_client_sees_that_its_response_was_cut() {
    let weather = Weather {
        window: 5_000,
        ..Weather::STILL
    };
    let stage = Stage::new(1, weather, &plan(PLAN), 1, false);
    for number in 0..3 {
        let reply = |_: &Ask| Reply::plain(Shape::Chunked, 300_000);
        stage.backend(number, || Door::Accept, Manner::plain(reply));
    }
    let ask = Ask {
        http10: true,
        ..Ask::get()
    };
    let mut script = Script::of(vec![ask]);
    script.slow_ns = 20 * SECOND;
    let seens = stage.client(script);
    stage.run_clients();
    let gone = Gone::Reset;
    let seen = seens.borrow()[0];
    assert!(
        seen == Seen::Cut(gone) || seen == Seen::Nothing(gone),
        "{seen:?}"
    );
    stage.finish();
}

/// An interim response is a sign of life: the request was repeated after it all the same.
#[test]
fn nothing_is_repeated_after_an_interim_response() {
    let stage = stage(PLAN);
    for number in 0..3 {
        // Connections fail from their second request on.
        let reply = |_: &Ask| Reply::plain(Shape::Length, 10);
        stage.backend(number, || Door::Accept, Manner::plain(reply));
    }
    let requests = Rc::new(std::cell::Cell::new(0));
    let (world, count) = (stage.world.clone(), Rc::clone(&requests));
    by_hand(&stage, move |stream| {
        let (world, count) = (world.clone(), Rc::clone(&count));
        async move {
            let mut first = true;
            while let Ok(bytes) = stream.receive(10_000).await
                && !bytes.is_empty()
            {
                count.set(count.get() + 1);
                if std::mem::take(&mut first) {
                    stream.put(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
                } else {
                    stream.put(b"HTTP/1.1 103 Early Hints\r\n\r\n");
                    world.sleep(50 * MS).await;
                    return;
                }
            }
        }
    });
    let answers = raw(&stage, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 6);
    // Three connections are opened, and each fails once.
    assert_eq!(requests.get(), 6);
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 3, "{answers}");
    assert_eq!(answers.matches("HTTP/1.1 502").count(), 3, "{answers}");
    stage.finish();
}

/// After a backend has stopped taking an upload, a part of a head or a 1xx kept the request waiting for ever.
#[test]
fn stalled_upload_has_a_deadline_whatever_is_said_meanwhile() {
    let said: [(&[u8], u16); 3] = [
        (b"", 504),
        (b"HTTP/1.1 200 OK\r\nX-Half: ", 504),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n", 504),
    ];
    for (bytes, status) in said {
        let weather = Weather {
            window: 5_000,
            ..Weather::STILL
        };
        let stage = Stage::new(1, weather, &plan(PLAN), 1, false);
        let world = stage.world.clone();
        by_hand(&stage, move |stream| {
            let world = world.clone();
            async move {
                // The upload is given up after 2 seconds, the wait for an early answer a second later.
                world.sleep(2_500 * MS).await;
                stream.put(bytes);
                world.sleep(100 * SECOND).await;
            }
        });
        let ask = Ask::post(Load::Length(100_000));
        let seens = stage.client(Script::of(vec![ask]));
        let began = stage.world.now();
        stage.run_clients();
        let took = stage.world.now() - began;
        assert!(took < 8 * SECOND, "{status}: {} ms", took / MS);
        assert_eq!(*seens.borrow(), [Seen::Refusal(status)]);
        stage.run_for(100 * SECOND);
        stage.finish();
    }
}

/// A head beyond the limit that came in unlucky pieces filled its buffer, and the connection closed in silence.
#[test]
fn head_beyond_the_limit_is_refused_however_it_comes() {
    let text = PLAN.replace("4KiB", "20KiB");
    for first in [100, 9_000, 10_000, 12_000, 16_000] {
        for second in [18_001, 19_000, 20_001] {
            let stage = stage(&text);
            let stream = stage.connect(0).expect("there is room");
            let world = stage.world.clone();
            let got = Rc::new(std::cell::RefCell::new(Vec::new()));
            let keep = Rc::clone(&got);
            stage.world.spawn(async move {
                let mut head = b"GET / HTTP/1.1\r\nHost: a\r\n".to_vec();
                while head.len() < 60_000 {
                    head.extend(b"X-Filler: 0123456789012345678901234567890123456789\r\n");
                }
                let mut at = 0;
                for to in [10, first, second, 33_000, 60_000] {
                    stream.put(&head[at..to]);
                    at = to;
                    world.sleep(50 * MS).await;
                }
                while let Ok(bytes) = stream.receive(10_000).await
                    && !bytes.is_empty()
                {
                    keep.borrow_mut().extend(bytes);
                }
            });
            stage.run_for(3 * SECOND);
            let text = String::from_utf8_lossy(&got.borrow()).into_owned();
            assert!(
                text.starts_with("HTTP/1.1 431"),
                "{first} {second}: {text:?}"
            );
            stage.finish();
        }
    }
}

/// Sends a request so many times, each after the response to the one before; all that came back.
pub fn raw(stage: &Stage, request: &'static [u8], times: usize) -> String {
    let stream = stage.connect(0).expect("there is room");
    let got = Rc::new(std::cell::RefCell::new(Vec::new()));
    let (world, keep) = (stage.world.clone(), Rc::clone(&got));
    stage.world.spawn(async move {
        for _ in 0..times {
            stream.put(request);
            world.sleep(300 * MS).await;
        }
        while let Ok(bytes) = stream.receive(10_000).await
            && !bytes.is_empty()
        {
            keep.borrow_mut().extend(bytes);
        }
    });
    stage.run_for(times as u64 * 300 * MS + 5 * SECOND);
    String::from_utf8_lossy(&got.borrow()).into_owned()
}

/// A body that was wrong from its first byte came with its head, which was not sent: the client got nothing.
#[test]
fn body_wrong_from_its_first_byte_is_refused() {
    let stage = stage(PLAN);
    by_hand(&stage, |stream| async move {
        let _ = stream.receive(10_000).await;
        stream.put(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n");
    });
    let answers = raw(&stage, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 1);
    assert!(answers.starts_with("HTTP/1.1 502"), "{answers:?}");
    stage.finish();
}

/// Cutting a response short by a reset took along the one before it, which was still on its way.
#[test]
fn cut_response_spares_the_one_before() {
    for seed in 0..20 {
        let weather = Weather {
            latency_ns: 20 * MS,
            ..Weather::STILL
        };
        let stage = Stage::new(seed, weather, &plan(PLAN), 1, false);
        for number in 0..3 {
            let flawed = std::cell::Cell::new(false);
            let manner = Manner::plain(move |ask| Reply {
                flaw: match ask.method {
                    "DELETE" => Flaw::Cut(900, flawed.replace(true)),
                    _ => Flaw::None,
                },
                ..Reply::plain(Shape::Length, 2_000)
            });
            stage.backend(number, || Door::Accept, manner);
        }
        let delete = Ask {
            method: "DELETE",
            ..Ask::get()
        };
        let mut script = Script::of(vec![Ask::get(), delete]);
        script.pipelined = true;
        let seens = stage.client(script);
        stage.run_clients();
        assert_eq!(seens.borrow()[0], Seen::Answer(200), "{seed}: {seens:?}");
        stage.finish();
    }
}
