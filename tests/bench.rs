//! The load generator against backends that misbehave in known ways.
//!
//! Each backend is a few lines of blocking code, so that what it does is plain. Loopback only, all runs short.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use corelane::bench::address::Url;
use corelane::bench::load::{Config, Expect, Load, Message, Stage, Target};
use corelane::bench::outcome::Outcome;
use corelane::bench::run::{RunError, run};
use corelane::bench::tally::Trouble;
use corelane::config::plan::Engine;
use corelane::engine::{Chosen, choose};

const MS: u64 = 1_000_000;

/// Starts a backend that gives each connection to `serve`, with its number, on a thread of its own.
fn backend(serve: impl Fn(TcpStream, u32) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for (number, stream) in (0..).zip(listener.incoming()) {
            let (serve, stream) = (Arc::clone(&serve), stream.unwrap());
            stream.set_nodelay(true).unwrap();
            thread::spawn(move || serve(stream, number));
        }
    });
    address
}

/// Answers each request head with `answer`; `before` may wait first.
fn answer_all(mut stream: TcpStream, answer: &[u8], before: impl Fn()) {
    let mut pending = Vec::new();
    let mut buf = [0; 16 * 1024];
    loop {
        match stream.read(&mut buf) {
            Ok(0) | Err(_) => return,
            Ok(n) => pending.extend_from_slice(&buf[..n]),
        }
        while let Some(end) = pending.windows(4).position(|four| four == b"\r\n\r\n") {
            pending.drain(..end + 4);
            before();
            if stream.write_all(answer).is_err() {
                return;
            }
        }
    }
}

const HELLO: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

fn config(address: SocketAddr, load: Load, level: f64, ms: u64) -> Config {
    Config {
        targets: vec![Target {
            url: Url::parse(&format!("http://{address}/")).unwrap(),
            address,
        }],
        message: Message {
            method: "GET".into(),
            fields: Vec::new(),
            body_bytes: 0,
            is_chunked: false,
        },
        load,
        stages: vec![Stage {
            from: level,
            to: level,
            duration_ns: ms * MS,
        }],
        keep_alive: true,
        client_addresses: 0,
        idle_connections: 0,
        cores: vec![0],
        timeout_ns: 5000 * MS,
        requests_max: None,
        expect: Expect::default(),
    }
}

const CLOSED: Load = Load::Closed {
    think_ns: 0,
    pipeline: 1,
};

fn engine() -> Chosen {
    choose(Engine::Auto).unwrap().0
}

fn measure(config: &Config) -> Outcome {
    run(config, engine(), &Arc::default(), &mut |_| {}).unwrap()
}

/// A backend that stalls for 500 ms once, for all connections.
fn stalling() -> SocketAddr {
    let answers = AtomicU32::new(0);
    let gate = std::sync::Mutex::new(());
    let shared = Arc::new((answers, gate));
    backend(move |stream, _| {
        answer_all(stream, HELLO, || {
            let (answers, gate) = &*shared;
            let _held = gate.lock().unwrap();
            if answers.fetch_add(1, Ordering::Relaxed) == 300 {
                // The stall itself: waiting for a word that never comes.
                let (_word, never) = mpsc::channel::<()>();
                never.recv_timeout(Duration::from_millis(500)).unwrap_err();
            }
        });
    })
}

#[test]
fn a_stall_shows_in_an_open_loop_and_hides_in_a_closed_one() {
    let load = Load::Open { connections: 10 };
    let outcome = measure(&config(stalling(), load, 1000.0, 2000));
    assert_eq!(outcome.total.good, 2000, "{:?}", outcome.total.troubles);
    assert_eq!(outcome.total.errors(), 0);
    // The 500 requests that were due meanwhile waited for 0 to 500 ms, though only ten were on their way.
    assert!(
        outcome.latency_ns(0.999) > 480 * MS,
        "{}",
        outcome.latency_ns(0.999)
    );
    assert!(
        outcome.latency_ns(0.9) > 200 * MS,
        "{}",
        outcome.latency_ns(0.9)
    );
    assert!(
        outcome.latency_ns(0.5) < 200 * MS,
        "{}",
        outcome.latency_ns(0.5)
    );
    let slow = outcome.total.latency.count_between(100 * MS, 1000 * MS);
    assert!(
        (350..650).contains(&slow),
        "{slow} requests waited for more than 100 ms"
    );

    // The same stall, seen by ten users who wait for their answers: ten slow requests among thousands.
    let outcome = measure(&config(stalling(), CLOSED, 10.0, 2000));
    let slow = outcome.total.latency.count_between(100 * MS, 1000 * MS);
    assert!(
        (1..=10).contains(&slow),
        "{slow} slow requests in a closed loop"
    );
}
