//! Events posted to a URL of the operator's.
//!
//! Decides: nothing but when an event is given up. May not know: what the events mean. Invariant: a thread of its own
//! with a bounded queue, so that a slow receiver delays nobody; each event is tried a few times, then dropped and said.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Builder;
use std::time::Duration;

use crate::config::plan::{Address, Level, Webhook};
use crate::io::unix_ms;
use crate::log::Events;

/// Events that may wait.
const QUEUE_MAX: usize = 256;
const TRIES: u32 = 3;
const TRY_TIMEOUT: Duration = Duration::from_secs(2);
const TRY_PAUSE: Duration = Duration::from_millis(500);

/// The way to the thread that posts.
#[derive(Debug)]
pub struct Webhooks(SyncSender<Arc<str>>);

impl Webhooks {
    /// Posts the event in its turn; with too many waiting it is dropped.
    pub fn post(&self, event: Arc<str>) {
        // Dropped: the log and the event stream have it.
        let _ = self.0.try_send(event);
    }
}

/// Starts the thread, if there is a webhook. It ends with the sender.
pub fn start(webhook: Option<Webhook>, events: Events) -> io::Result<Option<Webhooks>> {
    let Some(webhook) = webhook else {
        return Ok(None);
    };
    let (sender, queue) = sync_channel(QUEUE_MAX);
    Builder::new()
        .name("webhook".to_owned())
        .spawn(move || run(&webhook, &queue, events))?;
    Ok(Some(Webhooks(sender)))
}

fn run(webhook: &Webhook, queue: &Receiver<Arc<str>>, events: Events) {
    while let Ok(event) = queue.recv() {
        let mut outcome = Ok(());
        for number in 0..TRIES {
            if number > 0 {
                std::thread::sleep(TRY_PAUSE);
            }
            outcome = post(webhook, &event);
            if outcome.is_ok() {
                break;
            }
        }
        if let Err(error) = outcome {
            let text = "an event could not be posted";
            events.say(
                unix_ms(),
                Level::Warn,
                text,
                &[("url", &webhook.url), ("error", &error)],
            );
        }
    }
}

fn post(webhook: &Webhook, event: &str) -> io::Result<()> {
    let Address::Tcp { host, port, .. } = &webhook.address else {
        return Err(io::ErrorKind::Unsupported.into());
    };
    let address = (&**host, *port).to_socket_addrs()?.next();
    let address = address.ok_or(io::ErrorKind::AddrNotAvailable)?;
    let mut stream = TcpStream::connect_timeout(&address, TRY_TIMEOUT)?;
    stream.set_read_timeout(Some(TRY_TIMEOUT))?;
    stream.set_write_timeout(Some(TRY_TIMEOUT))?;
    let request = format!(
        "POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{event}",
        webhook.path,
        webhook.authority,
        event.len()
    );
    stream.write_all(request.as_bytes())?;
    let mut status_line = [0; 12];
    stream.read_exact(&mut status_line)?;
    if status_line.starts_with(b"HTTP/1.") && status_line[9] == b'2' {
        Ok(())
    } else {
        let text = String::from_utf8_lossy(&status_line).into_owned();
        Err(io::Error::other(text))
    }
}
