//! A second attempt beside a slow first one, against the real binary: it may help, and must not harm.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of a test may fail as the test itself may"
)]

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use support::peer::Peer;
use support::{ENGINES, Proxy, blackhole};

/// How long the first backend takes for `/slow`; nothing else takes it long.
const SLOW: Duration = Duration::from_millis(700);

/// How long for `/pause`: long enough for the delay of hedging to be computed meanwhile.
const PAUSE: Duration = Duration::from_millis(1_300);

/// As many as say something of a percentile.
const WARMING: usize = 120;

fn backend(serve: fn(TcpStream)) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || serve(stream.unwrap()));
        }
    });
    address
}

fn sometimes_slow(mut stream: TcpStream) {
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut bytes) {
        let patience = match &bytes[..count] {
            head if head.starts_with(b"GET /slow") => Some(SLOW),
            head if head.starts_with(b"GET /pause") => Some(PAUSE),
            _ => None,
        };
        // Until the proxy leaves, which is not expected.
        if patience.is_some() {
            stream.set_read_timeout(patience).unwrap();
            assert!(!matches!(stream.read(&mut bytes), Ok(1..)));
            stream.set_read_timeout(None).unwrap();
        }
        if stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst")
            .is_err()
        {
            return;
        }
    }
}

fn closes(mut stream: TcpStream) {
    let _ = stream.read(&mut [0; 4096]);
}

fn refuses(mut stream: TcpStream) {
    let _ = stream.read(&mut [0; 4096]);
    let _ = stream.write_all(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
}

/// Hedges to `second` only. Gives the status of a slow request and its access line.
fn slow_request(engine: &str, second: SocketAddr, more: &str) -> (Option<u16>, String) {
    let first = backend(sometimes_slow);
    let mut proxy = Proxy::start(&format!(
        "backends = [\"http://{first}\", {{ url = \"http://{second}\", backup = true }}]\n{more}\n\
         [hedge]\npercentile = 95\n[server]\nlisten = \"{{listen}}\"\nshards = 1\npin = false\n\
         engine = \"{engine}\"\n[admin]\nlisten = \"127.0.0.1:0\"\n"
    ));
    let mut client = Peer::new(TcpStream::connect(proxy.address).unwrap());
    let mut ask = |path: &str| {
        client.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes());
        let head = client.head().unwrap();
        client.body(&head, false).unwrap();
        head.status()
    };
    for _ in 0..WARMING {
        ask("/");
    }
    ask("/pause");
    let status = ask("/slow");
    let line = proxy.wait_for_line(0, "\"/slow\"").unwrap();
    (status, line)
}

#[test]
fn a_second_attempt_that_is_closed_does_not_end_the_first() {
    for engine in ENGINES {
        let (status, line) = slow_request(engine, backend(closes), "retry.attempts = 0");
        assert_eq!(status, Some(200), "{engine}: {line}");
    }
}

#[test]
fn a_second_backend_that_takes_no_connection_does_not_delay_the_first() {
    let (address, _held) = blackhole();
    for engine in ENGINES {
        let (status, line) = slow_request(engine, address, "timeouts.connect = \"3s\"");
        assert_eq!(status, Some(200), "{engine}: {line}");
        let ms = line.split("\"duration_ms\":").nth(1).unwrap_or_default();
        let ms = ms.split([',', '}']).next().unwrap_or_default();
        let ms: f64 = ms.parse().unwrap();
        assert!(ms < 2_000.0 * SLOW.as_secs_f64(), "{engine}: {line}");
    }
}

#[test]
fn what_the_second_backend_answered_is_held_against_the_second() {
    for engine in ENGINES {
        let second = backend(refuses);
        let (status, line) = slow_request(engine, second, "retry.on = [\"503\"]");
        assert_eq!(status, Some(200), "{engine}: {line}");
        let failed = format!("\"attempts\":[{{\"upstream.address\":\"{second}\"");
        assert!(line.contains(&failed), "{engine}: {line}");
    }
}
