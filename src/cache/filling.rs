//! The body of a response on its way into the cache.
//!
//! Decides: when it is whole, and whether it is still stored. May not know: who reads it. Invariants: what is stored is a
//! whole body; a body that cannot be stored is held only as far as somebody still has to read it.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

use super::entry::Charge;
use super::fill::{Ended, Fill, Writer};
use super::lead::Lead;
use crate::buf::Buf;
use crate::config::plan::Nanos;
use crate::h1::body::{Decoder, Sink};
use crate::io::{Io, Stream};
use crate::link::Connection;
use crate::metrics::{Counter, Reason};
use crate::policy::BackendId;
use crate::shard::{LARGE_BYTES, Shard};
use crate::timer::{TICK_NS, Timer};
use crate::visit::Visit;

/// Bytes of a body that is not stored which may wait for its fastest reader.
const WINDOW_BYTES: u64 = 256 * 1024;

/// Bytes by which others may be slower than the fastest; then their response ends. To wait for them would let one client
/// stop all.
const LAG_BYTES: u64 = 1024 * 1024;

/// What nobody reads shall be whole by then.
const DESERTED_NS: Nanos = 60_000_000_000;

/// What a piece costs beside its bytes.
const PIECE_BYTES: u64 = 128;

/// What it takes to receive a body.
pub struct Filling<S> {
    pub lead: Lead,
    pub connection: Connection<S>,
    pub backend: BackendId,
    /// The backend lets its connection live on.
    pub keep_alive: bool,
    pub inbound: Buf,
    pub decoder: Decoder,
    pub object_bytes_max: u64,
    pub idle_ns: Nanos,
    pub fill: Arc<Fill>,
    pub writer: Writer,
    /// The body so far, and what is paid for it; `None` when it will not be stored.
    pub parts: Option<(Vec<Bytes>, Charge)>,
    pub bytes: u64,
    /// When somebody was last seen to read it.
    pub deserted: Nanos,
}

impl<S: Stream> Filling<S> {
    /// Takes what has come. Whether that is all.
    pub fn take(&mut self) -> Result<bool, Reason> {
        let mut payload = Vec::new();
        let step = self
            .decoder
            .step(self.inbound.pending(), Sink::Payload(&mut payload))
            .map_err(Reason::BadResponse)?;
        self.inbound.consume(step.consumed);
        if !payload.is_empty() {
            self.push(Bytes::from(payload.into_boxed_slice()));
        }
        Ok(self.decoder.is_done())
    }

    /// By how much the body is ahead of its fastest reader.
    fn ahead(&self) -> u64 {
        self.writer.end().saturating_sub(self.fill.read())
    }

    fn push(&mut self, piece: Bytes) {
        self.bytes += piece.len() as u64;
        if let Some((parts, paid)) = &mut self.parts {
            let cost = piece.len() as u64 + PIECE_BYTES;
            match self.lead.cache().table.reserve(cost) {
                Some(charge) if self.bytes <= self.object_bytes_max => {
                    paid.add(charge);
                    parts.push(piece.clone());
                }
                Some(_) | None => self.store_no_more(),
            }
        }
        self.writer.push(piece);
    }

    fn store_no_more(&mut self) {
        self.parts = None;
        self.lead.cache().fills.leave(&self.fill);
        self.fill.keep_no_more();
    }

    /// Takes what is there, and leaves the rest to a task of its own.
    pub fn start<I: Io<Stream = S>>(mut self, shard: &Rc<Shard<I>>) {
        match self.take() {
            Ok(true) => self.finish(shard),
            Ok(false) => {
                let metrics = Arc::clone(&shard.metrics);
                let task = run(Rc::clone(shard), self);
                shard.io.spawn(crate::panics::catch(metrics, task));
            }
            Err(reason) => self.cut(shard, reason),
        }
    }

    /// The body is whole.
    pub fn finish<I: Io<Stream = S>>(mut self, shard: &Shard<I>) {
        let stored = self.parts.take().and_then(|(mut parts, paid)| {
            let body = match parts.len() {
                0 | 1 => parts.pop().unwrap_or_default(),
                _ => Bytes::from(parts.concat().into_boxed_slice()),
            };
            self.lead.store(body, paid)
        });
        let ended = match stored {
            Some(entry) => {
                shard.metrics.add(Counter::CacheStored, 1);
                Ended::Whole(entry)
            }
            None => Ended::Unstored,
        };
        self.lead.end(ended);
        if self.keep_alive && self.inbound.is_empty() {
            shard.keep(self.backend, self.connection);
        }
        shard.give(self.inbound);
        shard.watches.wake(&self.fill);
    }

    fn cut<I: Io<Stream = S>>(self, shard: &Shard<I>, reason: Reason) {
        self.lead.end(Ended::Cut(reason));
        shard.watches.wake(&self.fill);
    }
}

/// Receives the rest of a body, whoever waits for it.
pub async fn run<I: Io>(shard: Rc<Shard<I>>, mut filling: Filling<I::Stream>) {
    let visit = Visit::begin(&shard, filling.backend, None);
    let timer = shard.timers.timer();
    loop {
        shard.watches.wake(&filling.fill);
        if let Err(reason) = receive(&shard, &mut filling, &timer).await {
            if let Some(cause) = reason.cause() {
                visit.failed(cause);
            }
            break filling.cut(&shard, reason);
        }
        match filling.take() {
            Ok(false) => {}
            Ok(true) => break filling.finish(&shard),
            Err(reason) => break filling.cut(&shard, reason),
        }
    }
}

/// Reads more. A body that ends with its connection is then done.
async fn receive<I: Io>(
    shard: &Shard<I>,
    filling: &mut Filling<I::Stream>,
    timer: &Timer,
) -> Result<(), Reason> {
    if filling.parts.is_none() {
        filling.writer.forget(LAG_BYTES);
    }
    while filling.parts.is_none() && filling.ahead() > WINDOW_BYTES && filling.fill.readers() > 0 {
        shard.io.sleep(TICK_NS).await;
        filling.writer.forget(LAG_BYTES);
    }
    let now = shard.timers.now();
    match filling.fill.readers() {
        0 if filling.parts.is_none() => return Err(Reason::ClientAbort),
        0 if now > filling.deserted.saturating_add(DESERTED_NS) => return Err(Reason::ClientAbort),
        0 => {}
        _ => filling.deserted = now,
    }
    let is_long = filling.bytes > filling.inbound.capacity() as u64;
    if is_long && filling.inbound.is_empty() && filling.inbound.capacity() < LARGE_BYTES {
        shard.give(std::mem::replace(&mut filling.inbound, shard.large_buf()));
    }
    filling.inbound.reserve(1);
    let buf = std::mem::take(&mut filling.inbound);
    let deadline = shard.timers.after(filling.idle_ns);
    let read = timer
        .at(deadline, filling.connection.stream.read(buf))
        .await;
    let Ok((result, buf)) = read else {
        return Err(Reason::BackendIdleTimeout);
    };
    filling.inbound = buf;
    match result {
        Ok(n) if n > 0 => Ok(()),
        Ok(_) if filling.decoder.eof() => {
            filling.keep_alive = false;
            filling.decoder = Decoder::new(crate::h1::Framing::None);
            Ok(())
        }
        Ok(_) | Err(_) => Err(Reason::BackendClosed),
    }
}
