//! Changes as they happen: `/events`, as server-sent events.
//!
//! Decides: when a stream ends. May not know: what the events mean. Invariant: a listener that is gone or behind holds
//! nothing for longer than its next write may take.

use std::io;
use std::time::Duration;

use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::net::TcpStream;
use monoio::time::timeout;

use crate::ledger::{Behind, Listener};

use super::STEP_TIMEOUT;

/// How long an event may wait. The ledger is of another thread, which cannot wake this one.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Looks without an event after which a comment is sent: a proxy between forgets silent connections, and a client that
/// vanished without a word is noticed. 15 s.
const COMMENT_AFTER: u32 = 300;

pub(super) const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n\
    X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n";

/// Sends events until the client leaves, says more, or is too slow.
pub(super) async fn stream(mut stream: TcpStream, listener: &Listener) -> io::Result<()> {
    send(&mut stream, HEAD.to_owned()).await?;
    let mut silent = 0;
    loop {
        let mut out = String::new();
        let behind = loop {
            match listener.next() {
                Ok(Some(line)) => out.extend(["data: ", &line, "\n\n"]),
                Ok(None) => break false,
                Err(Behind) => break true,
            }
        };
        silent += 1;
        if silent == COMMENT_AFTER {
            out.push_str(":\n\n");
        }
        if !out.is_empty() {
            send(&mut stream, out).await?;
            silent = 0;
        }
        // Whatever comes, be it the client's end, ends the stream; nothing lets it go on.
        if behind || timeout(LOOK_EVERY, stream.read(vec![0; 1])).await.is_ok() {
            return Ok(());
        }
    }
}

/// Sends some of a stream within the time for one step.
pub(super) async fn send(stream: &mut TcpStream, text: String) -> io::Result<()> {
    timeout(STEP_TIMEOUT, stream.write_all(text.into_bytes()))
        .await?
        .0
        .map(drop)
}
