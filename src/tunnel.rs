//! Two directions of bytes after an upgrade.
//!
//! Decides: when a tunnel is over. May not know: what is spoken inside. Invariant: a silent tunnel holds no
//! buffer; the end of one direction is passed on and leaves the other open (half-close).

use std::cell::Cell;
use std::future::Future;
use std::pin::pin;
use std::task::Poll;

use crate::buf::Buf;
use crate::config::plan::Nanos;
use crate::io::{Io, Stream};
use crate::relay::{self, Patience};
use crate::shard::Shard;
use crate::timer::{Elapsed, NEVER, Timer};

/// Runs a tunnel to its end; the bytes that went up (to the backend) and down.
pub async fn run<I: Io>(
    shard: &Shard<I>,
    client: &I::Stream,
    backend: &I::Stream,
    from_client: Buf,
    from_backend: Buf,
    idle_ns: Nanos,
) -> (u64, u64) {
    let active = Cell::new(shard.timers.now());
    let up = Direction {
        shard,
        from: client,
        to: backend,
        active: &active,
        idle_ns,
        bytes: Cell::new(0),
    };
    let down = Direction {
        shard,
        from: backend,
        to: client,
        active: &active,
        idle_ns,
        bytes: Cell::new(0),
    };
    {
        let mut upward = pin!(up.run(from_client));
        let mut downward = pin!(down.run(from_backend));
        let (mut up_open, mut down_open) = (true, true);
        std::future::poll_fn(|cx| {
            for (open, ended) in [
                (
                    &mut up_open,
                    upward.as_mut() as std::pin::Pin<&mut dyn Future<Output = Ended>>,
                ),
                (&mut down_open, downward.as_mut()),
            ] {
                let poll = if *open { ended.poll(cx) } else { Poll::Pending };
                match poll {
                    Poll::Ready(Ended::Closed) => *open = false,
                    Poll::Ready(Ended::Broken) => return Poll::Ready(()),
                    Poll::Pending => {}
                }
            }
            if up_open || down_open {
                Poll::Pending
            } else {
                Poll::Ready(())
            }
        })
        .await;
    }
    (up.bytes.get(), down.bytes.get())
}

/// How one direction ended.
enum Ended {
    /// The sender closed its half, and the receiver was told.
    Closed,
    /// A connection broke or both sides were silent for too long: the whole tunnel is over.
    Broken,
}

struct Direction<'t, I: Io> {
    shard: &'t Shard<I>,
    from: &'t I::Stream,
    to: &'t I::Stream,
    /// When a byte last went either way.
    active: &'t Cell<Nanos>,
    idle_ns: Nanos,
    bytes: Cell<u64>,
}

impl<I: Io> Direction<'_, I> {
    async fn run(&self, first: Buf) -> Ended {
        let timer = self.shard.timers.timer();
        if !first.is_empty() && self.send(first, &timer).await.is_err() {
            return Ended::Broken;
        }
        loop {
            if !self.wait(&timer).await {
                return Ended::Broken;
            }
            let (result, buf) = self.from.read(self.shard.buf()).await;
            match result {
                Ok(0) => {
                    self.shard.give(buf);
                    self.to.shutdown_write();
                    return Ended::Closed;
                }
                Ok(_) if self.send(buf, &timer).await.is_ok() => {}
                Ok(_) | Err(_) => return Ended::Broken,
            }
        }
    }

    /// Waits for bytes; `false` when both directions have been silent for too long.
    async fn wait(&self, timer: &Timer) -> bool {
        let mut readable = pin!(self.from.readable());
        loop {
            let silent_since = self.active.get();
            let deadline = if self.idle_ns == 0 {
                NEVER
            } else {
                silent_since.saturating_add(self.idle_ns)
            };
            match timer.at(deadline, readable.as_mut()).await {
                Ok(ready) => return ready.is_ok(),
                Err(Elapsed) if self.active.get() == silent_since => return false,
                Err(Elapsed) => {}
            }
        }
    }

    async fn send(&self, buf: Buf, timer: &Timer) -> Result<(), relay::Cut> {
        let bytes = buf.len();
        let patience = Patience {
            read_ns: 0,
            write_ns: self.idle_ns,
            until: NEVER,
        };
        let (sent, buf) =
            relay::send(self.to, buf, bytes, timer, &self.shard.timers, &patience).await;
        self.shard.give(buf);
        self.active.set(self.shard.timers.now());
        self.bytes.set(self.bytes.get() + bytes as u64);
        sent
    }
}
