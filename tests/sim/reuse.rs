//! Pooled connections that are not what they seem, and half-closed tunnels.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use corelane::metrics::Counter;
use corelane::wait::{Race, race};

use crate::found::{by_hand, raw, stage};
use crate::http::{Body, Wire};
use crate::net::Weather;
use crate::stage::{PLAN, Stage, plan};
use crate::world::{MS, SECOND};

const EMPTY: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// The second request on each connection finds it closed: the backend took it and said nothing.
#[test]
fn stale_connection_is_replaced_for_what_may_be_repeated() {
    let cases: [(&[u8], usize, usize, u64); 3] = [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 4, 0, 1),
        (
            b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
            4,
            0,
            1,
        ),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
            3,
            1,
            0,
        ),
    ];
    for (request, answered, refused, retries) in cases {
        let stage = stage(PLAN);
        by_hand(&stage, |stream| async move {
            let _ = stream.receive(10_000).await;
            stream.put(EMPTY);
            let _ = stream.receive(10_000).await;
        });
        // The fourth comes back to the first backend.
        let answers = raw(&stage, request, 4);
        let ok = answers.matches("HTTP/1.1 200").count();
        assert_eq!(ok, answered, "{answers}");
        assert_eq!(
            answers.matches("HTTP/1.1 502").count(),
            refused,
            "{answers}"
        );
        assert_eq!(stage.counter(Counter::RetriesStale), retries, "{answers}");
        stage.finish();
    }
}

/// Bytes that nobody asked for come while the connection is idle.
#[test]
fn connection_that_spoke_while_idle_is_not_used() {
    let stage = stage(PLAN);
    let requests = Rc::new(Cell::new(0));
    let (world, count) = (stage.world.clone(), Rc::clone(&requests));
    by_hand(&stage, move |stream| {
        let (world, count) = (world.clone(), Rc::clone(&count));
        async move {
            let _ = stream.receive(10_000).await;
            count.set(count.get() + 1);
            stream.put(EMPTY);
            world.sleep(50 * MS).await;
            stream.put(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
            let more = stream.receive(10_000).await;
            assert!(!more.is_ok_and(|bytes| !bytes.is_empty()), "used again");
        }
    });
    let answers = raw(&stage, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 6);
    assert_eq!(requests.get(), 6);
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 6, "{answers}");
    assert!(!answers.contains("evil"), "{answers}");
    stage.finish();
}

/// A backend that says how long it keeps idle connections: none is used when it may just be closing it. Who finds out by
/// trying loses a request or two.
#[test]
fn idle_timeout_that_is_told_is_kept() {
    for (field, lost) in [("Keep-Alive: timeout=1\r\n", 0..=0), ("", 1..=3)] {
        let weather = Weather {
            latency_ns: 40 * MS,
            ..Weather::STILL
        };
        let others = ", \"http://10.0.0.2:80\", \"http://10.0.0.3:80\"";
        let stage = Stage::new(3, weather, &plan(&PLAN.replace(others, "")), 1, false);
        let world = stage.world.clone();
        by_hand(&stage, move |stream| {
            let world = world.clone();
            async move {
                let answer = format!("HTTP/1.1 200 OK\r\n{field}Content-Length: 0\r\n\r\n");
                loop {
                    match race(stream.receive(10_000), world.sleep(SECOND)).await {
                        Race::First(Ok(bytes)) if !bytes.is_empty() => {}
                        Race::First(_) | Race::Second(()) => return,
                    }
                    stream.put(answer.as_bytes());
                }
            }
        });
        let statuses = Rc::new(RefCell::new(Vec::new()));
        let (stream, world) = (
            stage.connect(0).expect("there is room"),
            stage.world.clone(),
        );
        let keep = Rc::clone(&statuses);
        stage.world.spawn(async move {
            for _ in 0..150 {
                stream.put(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
                let mut wire = Wire::new(&world, &stream, 1);
                let head = wire.head().await.expect("an answer comes");
                let length = head.number("Content-Length").expect("a length");
                let body = Body::Length(length);
                wire.body(body, &mut Vec::new()).await.expect("all of it");
                keep.borrow_mut().push(head.line[9..12].to_owned());
                let ns = world.below(200 * MS);
                world.sleep(800 * MS + ns).await;
            }
        });
        stage.run_for(600 * SECOND);
        let statuses = statuses.borrow();
        assert_eq!(statuses.len(), 150);
        let failed = statuses.iter().filter(|status| *status == "502").count();
        assert!(lost.contains(&failed), "{field:?}: {failed} failed");
        stage.finish();
    }
}

/// The end of one direction is passed on while the other still speaks.
#[test]
fn tunnel_passes_the_end_of_one_direction_on() {
    let stage = stage(PLAN);
    by_hand(&stage, |stream| async move {
        let _ = stream.receive(10_000).await;
        stream.put(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: sim\r\n\r\n",
        );
        let mut got = Vec::new();
        while let Ok(bytes) = stream.receive(10_000).await
            && !bytes.is_empty()
        {
            got.extend(bytes);
        }
        assert_eq!(got, b"last words");
        stream.put(b"after your end");
    });
    let stream = Rc::new(stage.connect(0).expect("there is room"));
    let (world, began) = (stage.world.clone(), stage.world.now());
    let ended = Rc::new(Cell::new(0));
    let set = Rc::clone(&ended);
    stage.world.spawn(async move {
        stream.put(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: sim\r\n\r\n");
        let _ = stream.receive(10_000).await;
        stream.put(b"last words");
        stream.finish();
        let mut got = Vec::new();
        while let Ok(bytes) = stream.receive(10_000).await
            && !bytes.is_empty()
        {
            got.extend(bytes);
        }
        assert_eq!(got, b"after your end");
        set.set(world.now());
    });
    stage.run_for(1_000 * MS);
    let took = ended.get().checked_sub(began);
    assert!(took.is_some_and(|ns| ns < 500 * MS), "{took:?}");
    stage.finish();
}
