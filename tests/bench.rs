//! The load generator against backends that misbehave in known ways.
//!
//! Each backend is a few lines of blocking code, so that what it does is plain. Loopback only, all runs short.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use corelane::bench::address::Url;
use corelane::bench::load::{Config, Expect, Load, Message, Stage, Target};
use corelane::bench::outcome::{Bottleneck, Outcome, Point};
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
        warm_up_ns: 0,
        timeout_ns: 5000 * MS,
        requests_max: None,
        expect: Expect::default(),
    }
}

const CLOSED: Load = Load::Closed {
    think_ns: 0,
    pipeline: 1,
    connections: 0,
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
    let gate = Mutex::new(());
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

/// Reads one request head and leaves the rest.
fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            Ok(_) | Err(_) => return None,
        }
    }
    Some(String::from_utf8(head).unwrap())
}

/// A backend that gives `answer` to the first request of each connection and closes it.
fn once(answer: &'static [u8]) -> SocketAddr {
    backend(move |mut stream, _| {
        if read_head(&mut stream).is_some() {
            // The peer may have gone; that is its own business.
            let _ = stream.write_all(answer);
        }
    })
}

#[test]
fn each_trouble_is_counted_as_itself() {
    let reset = backend(|stream, _| {
        // Bytes that nobody reads make the close a reset.
        let _ = stream.peek(&mut [0]);
    });
    let cases: [(Trouble, SocketAddr); 8] = [
        (Trouble::Reset, reset),
        (Trouble::Closed, once(b"")),
        (
            Trouble::ShortBody,
            once(b"HTTP/1.1 200 -\r\nContent-Length: 5\r\n\r\nhell"),
        ),
        (
            Trouble::WrongLength,
            once(b"HTTP/1.1 200 -\r\nContent-Length: 4\r\n\r\nhell"),
        ),
        (
            Trouble::BadStatus,
            once(b"HTTP/1.1 503 -\r\nContent-Length: 5\r\n\r\nhello"),
        ),
        (Trouble::Protocol, once(b"what?\r\n\r\n")),
        (
            Trouble::Protocol,
            once(b"HTTP/1.1 200 -\r\nContent-Length: 5\r\n\r\nhello, you"),
        ),
        (Trouble::Protocol, once(b"HTTP/1.1 200 -\r\n")),
    ];
    for (trouble, address) in cases {
        for engine in [engine(), Chosen::Epoll] {
            let mut config = config(address, CLOSED, 2.0, 5000);
            config.requests_max = Some(6);
            // Each of these backends closes without saying so.
            config.keep_alive = false;
            config.expect.body_bytes = Some(5);
            let outcome = run(&config, engine, &Arc::default(), &mut |_| {}).unwrap();
            let total = &outcome.total;
            let what = format!("{trouble:?} on {engine:?}: {:?}", total.troubles);
            assert_eq!(total.count(trouble), 6, "{what}");
            assert_eq!((total.errors(), total.good), (6, 0), "{what}");
            assert_eq!(total.latency.len(), 0, "{what}");
        }
    }
}

#[test]
fn what_never_came_is_slow() {
    let silent = || backend(|mut stream, _| while read_head(&mut stream).is_some() {});
    let mut closed = config(silent(), CLOSED, 3.0, 5000);
    closed.timeout_ns = 100 * MS;
    closed.requests_max = Some(3);
    let outcome = measure(&closed);
    assert_eq!(outcome.total.count(Trouble::Timeout), 3);
    assert!(outcome.latency_ns(0.01) >= 99 * MS);

    // Two connections are all that is there for thirty requests.
    let mut open = config(silent(), Load::Open { connections: 2 }, 100.0, 300);
    open.timeout_ns = 200 * MS;
    let outcome = measure(&open);
    let total = &outcome.total;
    assert_eq!(total.requests(), 30, "{:?}", total.troubles);
    assert!(total.count(Trouble::Timeout) >= 4, "{:?}", total.troubles);
    assert!(total.count(Trouble::Unsent) >= 10, "{:?}", total.troubles);
    assert_eq!(total.errors(), 30);
    assert_eq!(total.latency.len(), 30);
    assert!(
        outcome
            .bottlenecks
            .iter()
            .any(|one| matches!(one, Bottleneck::Unsent { count: 10.. }))
    );
}

#[test]
fn refused_connections_are_counted_and_do_not_spin() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // The look before the start is the only connection that is accepted.
    let door = thread::spawn(move || drop(listener.accept().unwrap()));
    let mut config = config(address, CLOSED, 1.0, 300);
    config.timeout_ns = 1000 * MS;
    let outcome = measure(&config);
    door.join().unwrap();
    let refused = outcome.total.count(Trouble::Connect);
    assert!((2..=32).contains(&refused), "{:?}", outcome.total.troubles);
    assert_eq!(
        outcome.total.requests() - refused,
        outcome.total.errors() - refused
    );

    match run(&config, engine(), &Arc::default(), &mut |_| {}) {
        Err(RunError::Unreachable { target, .. }) => assert_eq!(target.address, address),
        other => panic!("{other:?}"),
    }
}

#[test]
fn answers_of_every_framing_are_good_and_429_is_its_own_kind() {
    let cases: [(&'static [u8], bool); 4] = [
        (
            b"HTTP/1.1 200 -\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            false,
        ),
        (b"HTTP/1.1 200 -\r\n\r\nhello", false),
        (
            b"HTTP/1.1 100 -\r\n\r\nHTTP/1.0 200 -\r\nContent-Length: 5\r\n\r\nhello",
            false,
        ),
        (
            b"HTTP/1.1 429 -\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
            true,
        ),
    ];
    for (answer, is_limited) in cases {
        let mut config = config(once(answer), CLOSED, 2.0, 5000);
        config.requests_max = Some(4);
        config.keep_alive = false;
        config.expect.body_bytes = Some(5);
        let total = measure(&config).total;
        let expected = if is_limited { (0, 4) } else { (4, 0) };
        assert_eq!(
            (total.good, total.limited),
            expected,
            "{:?}",
            total.troubles
        );
        assert_eq!(total.limited_latency.len(), total.limited);
        assert_eq!(total.errors(), 0);
    }
}

#[test]
fn connections_addresses_and_targets() {
    type Seen = Arc<Mutex<Vec<IpAddr>>>;
    let seen = Seen::default();
    let record = Arc::clone(&seen);
    let address = backend(move |stream, _| {
        record
            .lock()
            .unwrap()
            .push(stream.peer_addr().unwrap().ip());
        answer_all(stream, HELLO, || {});
    });
    let take = || {
        let mut seen = std::mem::take(&mut *seen.lock().unwrap());
        // The look before the start comes from the usual address.
        seen.sort();
        seen.into_iter()
            .map(|ip| ip.to_string())
            .collect::<Vec<_>>()
    };
    let mut kept = config(address, CLOSED, 4.0, 5000);
    kept.requests_max = Some(100);
    kept.client_addresses = 2;
    kept.cores = vec![0, 0];
    let outcome = measure(&kept);
    assert_eq!((outcome.total.good, outcome.total.connects), (100, 4));
    assert_eq!(outcome.threads.len(), 2);
    assert_eq!(
        take(),
        [
            "127.0.0.1",
            "127.0.0.2",
            "127.0.0.2",
            "127.0.0.3",
            "127.0.0.3"
        ]
    );

    let mut fresh = config(address, CLOSED, 2.0, 5000);
    fresh.requests_max = Some(20);
    fresh.keep_alive = false;
    fresh.idle_connections = 3;
    let outcome = measure(&fresh);
    assert_eq!((outcome.total.good, outcome.total.connects), (20, 23));
    assert_eq!(outcome.idle_closed, 0);
    assert_eq!(take().len(), 1 + 23);

    let mut rotation = config(address, Load::Open { connections: 50 }, 500.0, 400);
    rotation.client_addresses = 50;
    let outcome = measure(&rotation);
    assert_eq!((outcome.total.good, outcome.total.connects), (200, 50));
    assert_eq!(
        outcome.points.iter().map(|point| point.good).sum::<u64>(),
        200
    );
}

#[test]
fn users_take_turns_on_their_connections() {
    let address = backend(|stream, _| answer_all(stream, HELLO, || {}));
    let load = Load::Closed {
        think_ns: 0,
        pipeline: 1,
        connections: 31,
    };
    let mut turns = config(address, load, 4.0, 5000);
    turns.requests_max = Some(200);
    turns.cores = vec![0, 0];
    let outcome = measure(&turns);
    assert_eq!((outcome.total.good, outcome.total.connects), (200, 31));
}

#[test]
fn the_warm_up_is_not_counted() {
    let address = backend(|stream, _| answer_all(stream, HELLO, || {}));
    let mut warm = config(address, Load::Open { connections: 4 }, 1000.0, 500);
    // Not a multiple of the interval: counting begins at the next one.
    warm.warm_up_ns = 150 * MS;
    let outcome = measure(&warm);
    let good = |points: &[Point]| points.iter().map(|point| point.good).sum::<u64>();
    assert_eq!(good(&outcome.points), 500);
    assert_eq!(outcome.total.good, good(&outcome.points[2..]));
    assert_eq!(outcome.total.latency.len(), outcome.total.good);
    let (elapsed, rest) = (outcome.elapsed_ns, 300 * MS);
    assert!(elapsed >= rest, "{elapsed} is less than {rest}");
}

#[test]
fn pipelined_requests_are_all_answered() {
    let address = backend(|stream, _| answer_all(stream, HELLO, || {}));
    let load = Load::Closed {
        think_ns: 0,
        pipeline: 8,
        connections: 0,
    };
    let mut config = config(address, load, 2.0, 5000);
    config.requests_max = Some(100);
    let total = measure(&config).total;
    assert_eq!((total.good, total.errors(), total.connects), (100, 0, 2));
}

#[test]
fn every_request_has_a_number_of_its_own() {
    let seen: Arc<Mutex<Vec<u64>>> = Arc::default();
    let record = Arc::clone(&seen);
    let address = backend(move |mut stream, _| {
        while let Some(head) = read_head(&mut stream) {
            let number = head.split(['/', ' ']).nth(2).unwrap().parse().unwrap();
            record.lock().unwrap().push(number);
            stream.write_all(HELLO).unwrap();
        }
    });
    let pipelined = Load::Closed {
        think_ns: 0,
        pipeline: 3,
        connections: 0,
    };
    for load in [pipelined, Load::Open { connections: 3 }] {
        let mut numbered = config(address, load, 100.0, 5000);
        numbered.targets[0].url.path = "/{n}".to_owned();
        numbered.requests_max = Some(100);
        numbered.cores = vec![0, 0];
        assert_eq!(measure(&numbered).total.good, 100);
        let mut numbers = std::mem::take(&mut *seen.lock().unwrap());
        numbers.sort_unstable();
        assert_eq!(numbers, Vec::from_iter(0..100), "{load:?}");
    }
}

#[test]
fn uploads_arrive_whole() {
    for (body_bytes, is_chunked) in [(1, false), (200_000, false), (1, true), (200_000, true)] {
        let received = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&received);
        let address = backend(move |mut stream, _| {
            if read_head(&mut stream).is_none() {
                return;
            }
            let mut bytes = Vec::new();
            let mut buf = [0; 4096];
            let is_whole = |bytes: &[u8]| match is_chunked {
                true => bytes.ends_with(b"0\r\n\r\n"),
                false => bytes.len() as u64 >= body_bytes,
            };
            while !is_whole(&bytes) {
                let n = stream.read(&mut buf).unwrap();
                assert!(n > 0, "the body is cut");
                bytes.extend_from_slice(&buf[..n]);
            }
            // Lines of letters; what is none belongs to the framing.
            let is_payload = |byte: &&u8| byte.is_ascii_lowercase() || **byte == b'\n';
            let frames = bytes.windows(2).filter(|two| two == b"\r\n").count();
            let sizes = if is_chunked { hex_letters(&bytes) } else { 0 };
            let payload = bytes.iter().filter(is_payload).count() - frames - sizes;
            count.store(payload as u32, Ordering::Relaxed);
            stream.write_all(HELLO).unwrap();
        });
        let mut config = config(address, CLOSED, 1.0, 5000);
        config.message.method = "POST".into();
        config.message.body_bytes = body_bytes;
        config.message.is_chunked = is_chunked;
        config.requests_max = Some(1);
        let total = measure(&config).total;
        assert_eq!(total.good, 1, "{:?}", total.troubles);
        let received = u64::from(received.load(Ordering::Relaxed));
        assert_eq!(received, body_bytes, "chunked: {is_chunked}");
        assert!(total.bytes_out >= body_bytes);
    }
}

/// Letters in the size lines of chunks: those between a line's end and the next carriage return.
fn hex_letters(bytes: &[u8]) -> usize {
    let mut letters = 0;
    let mut rest = bytes;
    while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
        let text = std::str::from_utf8(&rest[..end]).unwrap();
        letters += text.bytes().filter(u8::is_ascii_lowercase).count();
        let size = usize::from_str_radix(text, 16).unwrap();
        if size == 0 {
            break;
        }
        rest = &rest[end + 2 + size + 2..];
    }
    letters
}

#[test]
fn users_come_and_go_with_the_stages() {
    let address = backend(|stream, _| answer_all(stream, HELLO, || {}));
    let load = Load::Closed {
        think_ns: 5 * MS,
        pipeline: 1,
        connections: 0,
    };
    let mut config = config(address, load, 0.0, 400);
    config.stages[0].to = 20.0;
    config.stages.push(Stage {
        from: 2.0,
        to: 2.0,
        duration_ns: 400 * MS,
    });
    let mut active = Vec::new();
    let outcome = run(&config, engine(), &Arc::default(), &mut |point| {
        active.push(point.active);
    })
    .unwrap();
    assert_eq!(outcome.total.errors(), 0);
    assert!((10..=20).contains(&active[2]), "{active:?}");
    assert!(active[2] > active[0], "{active:?}");
    assert_eq!(active[5], 2, "{active:?}");
}

#[test]
fn a_run_can_be_cut_short() {
    let address = backend(|stream, _| answer_all(stream, HELLO, || {}));
    let stop = Arc::default();
    let config = config(address, Load::Open { connections: 4 }, 100.0, 60_000);
    let asked = Arc::clone(&stop);
    let outcome = run(&config, engine(), &stop, &mut |_| {
        asked.store(true, Ordering::Relaxed);
    })
    .unwrap();
    assert!(outcome.total.good > 0);
    assert_eq!(outcome.total.errors(), 0, "{:?}", outcome.total.troubles);
    assert!(outcome.elapsed_ns < 20_000 * MS, "{}", outcome.elapsed_ns);
}

fn bench(arguments: &[&str]) -> (i32, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(env!("CARGO_BIN_EXE_corelane"))
        .arg("bench")
        .args(arguments)
        .output()
        .unwrap();
    let text = String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap();
    (status.code().unwrap(), text)
}

#[test]
fn the_command_and_its_exit_codes() {
    let address = backend(|stream, _| answer_all(stream, HELLO, || {}));
    let url = format!("http://{address}/<a>&b");
    let folder = std::env::temp_dir().join(format!("corelane-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let scenario = |name: &str, thresholds: &str| {
        let stage = "[[stages]]\nusers = 2\nduration = \"10s\"\n[thresholds]\n";
        std::fs::write(Path::new(&path(name)), format!("{stage}{thresholds}\n")).unwrap();
        path(name)
    };
    let easy = scenario("easy.toml", "errors = \"0%\"\np95 = \"10s\"");
    let hard = scenario("hard.toml", "p50 = \"1ns\"");
    let bad = scenario("bad.toml", "p96 = \"1s\"");
    let (json, html) = (path("r.json"), path("r.html"));
    let nobody = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let nobody = format!("http://{nobody}/");
    let run = ["--url", &url, "--scale", "0.02", "--scenario"];
    let cases: [(Vec<&str>, i32, &str); 7] = [
        (
            [&run[..], &[&easy, "--json", &json, "--html", &html]].concat(),
            0,
            "≤ 10.0 s met",
        ),
        ([&run[..], &[&hard]].concat(), 1, "MISSED"),
        (
            [&run[..], &[&bad]].concat(),
            78,
            "bad.toml:5:1: thresholds.p96: unknown key",
        ),
        (
            [&run[..], &["no.toml"]].concat(),
            78,
            "no.toml: No such file",
        ),
        (vec!["--url", &nobody], 71, "cannot connect to"),
        (vec!["--url", "ftp://x"], 2, "flag url: \"ftp\" is not http"),
        (vec!["--rate", "5"], 2, "no target"),
    ];
    for (arguments, code, text) in cases {
        let (found, output) = bench(&arguments);
        assert_eq!(found, code, "{arguments:?}: {output}");
        assert!(output.contains(text), "{arguments:?}: {output}");
    }
    let json = std::fs::read_to_string(json).unwrap();
    assert!(json.contains("\"passed\":true"), "{json}");
    assert!(
        json.contains("\"errors_by_kind\":{\"connect\":0,"),
        "{json}"
    );
    let html = std::fs::read_to_string(html).unwrap();
    assert_eq!(html.matches("<svg").count(), 4);
    for outside in ["src=", "href=", "url(", "@import", "<script", "/<a>&b"] {
        assert!(!html.contains(outside), "{outside}");
    }
    assert!(html.contains("/&lt;a&gt;&amp;b"));
    std::fs::remove_dir_all(folder).unwrap();
}
