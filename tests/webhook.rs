//! Events posted to a receiver that is there, fails, or is not there.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of a test may fail as the test itself may"
)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use corelane::config::plan::Level;
use corelane::config::{self, Source};
use corelane::log::Events;
use corelane::webhook::{Webhooks, start};
use socket2::SockRef;

/// Longest wait for anything that must happen.
const PATIENCE: Duration = Duration::from_secs(20);

const OK: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";

fn webhooks(to: SocketAddr) -> Webhooks {
    let text = format!(
        "backends = [\"http://127.0.0.1:1\"]\n[events]\nwebhook = \"http://{to}/hook?key=1\""
    );
    let (_, plan) = config::load(Source::of("test", &text)).unwrap_or_else(|e| panic!("{e}"));
    // Each event that is given up is a warning.
    let events = Events::to_stderr(Level::Error);
    start(plan.webhook, events).unwrap().unwrap()
}

/// The next event that is posted, with the connection that waits for its answer.
fn posted(listener: &TcpListener) -> (String, TcpStream) {
    let to = listener.local_addr().unwrap();
    // On Linux this bounds the wait for a connection too.
    SockRef::from(listener)
        .set_read_timeout(Some(PATIENCE))
        .unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut got = Vec::new();
    let event = loop {
        let mut buf = [0; 4096];
        let count = stream.read(&mut buf).unwrap();
        assert!(count > 0, "cut: {}", got.escape_ascii());
        got.extend_from_slice(&buf[..count]);
        // Not while a letter is cut.
        let text = String::from_utf8(got.clone()).unwrap_or_default();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let wanted = format!(
            "POST /hook?key=1 HTTP/1.1\r\nHost: {to}\r\nContent-Type: application/json\r\n\
             Content-Length: "
        );
        let rest = head.strip_prefix(&wanted).expect(head);
        let length = rest.strip_suffix("\r\nConnection: close").expect(head);
        if body.len() >= length.parse().unwrap() {
            assert_eq!(body.len().to_string(), length);
            break body.to_owned();
        }
    };
    (event, stream)
}

fn answers(listener: &TcpListener, answer: &[u8]) -> String {
    let (event, mut stream) = posted(listener);
    stream.write_all(answer).unwrap();
    event
}

#[test]
fn each_event_is_posted_in_order() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let webhooks = webhooks(listener.local_addr().unwrap());
    let long = format!("{{\"text\":\"{}\"}}", "é".repeat(100_000));
    for event in ["{\"n\":1}", &long, "{\"n\":3}"] {
        webhooks.post(event.into());
    }
    for event in ["{\"n\":1}", &long, "{\"n\":3}"] {
        assert_eq!(answers(&listener, OK), event);
    }
}

/// One that closes, one that refuses to: the event comes again; and after the last try it is dropped, and the next one
/// comes.
#[test]
fn what_fails_comes_again_and_is_dropped_in_the_end() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let webhooks = webhooks(listener.local_addr().unwrap());
    for event in ["{\"n\":1}", "{\"n\":2}", "{\"n\":3}"] {
        webhooks.post(event.into());
    }
    let busy = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(answers(&listener, b""), "{\"n\":1}");
    assert_eq!(answers(&listener, busy), "{\"n\":1}");
    assert_eq!(answers(&listener, OK), "{\"n\":1}");
    assert_eq!(answers(&listener, busy), "{\"n\":2}");
    assert_eq!(
        answers(&listener, b"220 mail.example.org ESMTP\r\n"),
        "{\"n\":2}"
    );
    assert_eq!(answers(&listener, b"HTTP/1.1 2"), "{\"n\":2}");
    assert_eq!(answers(&listener, OK), "{\"n\":3}");
    // Nothing is left over of the one that was dropped.
    webhooks.post("{\"n\":4}".into());
    assert_eq!(answers(&listener, OK), "{\"n\":4}");
}
