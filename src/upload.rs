//! The request's way to the backend, while its body is still arriving.
//!
//! Decides: what of the input belongs to the body, and when it is too long. May not know: responses.
//! Invariant: not a byte behind the body leaves `input`.

use crate::buf::Buf;
use crate::decide::Job;
use crate::h1::Framing;
use crate::h1::body::{Decoder, Sink};
use crate::io::{Io, Stream};
use crate::metrics::{Counter, Reason};
use crate::record::Record;
use crate::relay::{self, Cut, Pace, Patience, SPLICE_MIN, Transfer};
use crate::shard::{LARGE_BYTES, Shard};
use crate::throttle::Throttle;
use crate::timer::Timer;
use crate::wait::would_block;

pub struct Upload<'u, I: Io> {
    pub shard: &'u Shard<I>,
    pub client: &'u I::Stream,
    pub backend: &'u I::Stream,
    pub timer: &'u Timer,
    pub patience: Patience,
    pub record: &'u Record,
    pub body_bytes_max: u64,
    pub throttle: Throttle,
    pub pace: Pace,
}

/// How the request half ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uploaded {
    Complete,
    /// The backend takes no more, because it closed or stalled; it may have said why.
    Backend(Reason),
    /// The client's fault: a malformed, overlong or stalled body, or it has gone.
    Client(Reason),
}

impl<I: Io> Upload<'_, I> {
    /// Sends the head and then the body as it arrives.
    pub async fn run(&self, input: &mut Buf, head: Buf, job: &Job) -> Uploaded {
        input.consume(job.head_len);
        let mut decoder = Decoder::new(job.framing).dropping_trailers(job.drops_trailers);
        let mut out = head;
        let uploaded = self.pump(input, &mut out, &mut decoder, job.framing).await;
        self.shard.give(out);
        match uploaded {
            Ok(()) => Uploaded::Complete,
            Err(uploaded) => uploaded,
        }
    }

    /// `out` goes first, with the first piece of the body behind it.
    async fn pump(
        &self,
        input: &mut Buf,
        out: &mut Buf,
        decoder: &mut Decoder,
        framing: Framing,
    ) -> Result<(), Uploaded> {
        loop {
            let verbatim = self.check(input, out, decoder, framing)?;
            let all_taken = verbatim == input.len();
            if all_taken
                && !self.throttle.is_on()
                && let Some(left) = decoder.remaining().filter(|left| *left >= SPLICE_MIN)
                && self.splice(decoder, left, [&mut *out, &mut *input]).await?
            {
                continue;
            }
            self.piece(verbatim, input, out).await?;
            if decoder.is_done() {
                return Ok(());
            }
            self.read(input).await?;
        }
    }

    /// Decodes what `input` has of the body. The backend gets the first bytes of it as they are, so many; or none, and
    /// its form of all that was decoded stands in `out`.
    fn check(
        &self,
        input: &mut Buf,
        out: &mut Buf,
        decoder: &mut Decoder,
        framing: Framing,
    ) -> Result<usize, Uploaded> {
        if input.is_empty() {
            return Ok(0);
        }
        let refused = |reject| Uploaded::Client(Reason::Protocol(reject));
        let mut checked = decoder.clone();
        let step = checked
            .step(input.pending(), Sink::Check)
            .map_err(refused)?;
        self.count(step.payload as u64)?;
        if step.verbatim || framing != Framing::Chunked {
            *decoder = checked;
            return Ok(step.consumed);
        }
        decoder
            .step(input.pending(), Sink::Chunked(out.append()))
            .map_err(refused)?;
        input.consume(step.consumed);
        Ok(0)
    }

    /// Sends what is in `out` and so many bytes of `input` behind it.
    async fn piece(&self, verbatim: usize, input: &mut Buf, out: &mut Buf) -> Result<(), Uploaded> {
        if out.is_empty() {
            return self.send(input, verbatim).await;
        }
        // One copy costs less than another send.
        out.append().extend_from_slice(&input.pending()[..verbatim]);
        input.consume(verbatim);
        self.send(out, usize::MAX).await
    }

    /// Sends the first `most` bytes that are pending.
    async fn send(&self, from: &mut Buf, most: usize) -> Result<(), Uploaded> {
        if self.throttle.is_on() {
            let (until, never) = (self.patience.until, std::future::pending());
            // Boxed: rare.
            Box::pin(self.throttle.wait(self.shard, until, never)).await;
        }
        let bytes = most.min(from.len());
        let buf = std::mem::take(from);
        let (timers, patience) = (&self.shard.timers, &self.patience);
        let (sent, back) =
            relay::send(self.backend, buf, bytes, self.timer, timers, patience).await;
        *from = back;
        sent.map_err(backend_cut)?;
        self.throttle.count(bytes as u64);
        Ok(())
    }

    /// Sends what is in `ahead` and moves `left` bytes in the kernel behind it. `false`: that is not possible here, and
    /// nothing was sent.
    async fn splice(
        &self,
        decoder: &mut Decoder,
        left: u64,
        ahead: [&mut Buf; 2],
    ) -> Result<bool, Uploaded> {
        self.count(left)?;
        let shard = self.shard;
        let transfer = Transfer {
            from: self.client,
            to: self.backend,
            pipes: &shard.pipes,
            timer: self.timer,
            timers: &shard.timers,
            patience: &self.patience,
            pace: Some(&self.pace),
            watch: false,
        };
        let (moved, ended) = transfer.run(ahead, left).await;
        shard.metrics.add(Counter::ClientReceivedBytes, moved);
        decoder.skip(moved);
        self.record
            .request_bytes
            .set(self.record.request_bytes.get() - (left - moved));
        match ended {
            Ok(()) => Ok(true),
            Err(Cut::Unable) => Ok(false),
            Err(Cut::From) => Err(Uploaded::Client(Reason::ClientAbort)),
            Err(Cut::FromStalled) => Err(Uploaded::Client(Reason::BodyTimeout)),
            Err(cut @ (Cut::To | Cut::ToStalled)) => Err(backend_cut(cut)),
        }
    }

    async fn read(&self, input: &mut Buf) -> Result<(), Uploaded> {
        // A body that fills its buffer gets a large one; the small one had nothing left in it.
        let full = input.is_empty()
            && !self.throttle.is_on()
            && input.capacity() < LARGE_BYTES
            && self.record.request_bytes.get() > 0;
        if input.capacity() == 0 || full {
            self.shard
                .give(std::mem::replace(input, self.shard.large_buf()));
        }
        input.reserve(1);
        let deadline = self
            .shard
            .timers
            .after(self.patience.read_ns)
            .min(self.patience.until);
        loop {
            let buf = std::mem::take(input);
            let Ok((result, back)) = self.timer.at(deadline, self.client.read(buf)).await else {
                return Err(Uploaded::Client(Reason::BodyTimeout));
            };
            *input = back;
            match result {
                // An early response is being spliced to this socket.
                Err(_) if would_block(&result) => {
                    let ready = self.timer.at(deadline, self.client.readable()).await;
                    if ready.is_err() {
                        return Err(Uploaded::Client(Reason::BodyTimeout));
                    }
                }
                Ok(0) | Err(_) => return Err(Uploaded::Client(Reason::ClientAbort)),
                Ok(n) => {
                    self.shard
                        .metrics
                        .add(Counter::ClientReceivedBytes, n as u64);
                    if self.pace.keeps(n as u64, self.shard.timers.now()) {
                        return Ok(());
                    }
                    return Err(Uploaded::Client(Reason::BodyTimeout));
                }
            }
        }
    }

    fn count(&self, payload: u64) -> Result<(), Uploaded> {
        let total = self.record.request_bytes.get().saturating_add(payload);
        if total > self.body_bytes_max {
            return Err(Uploaded::Client(Reason::BodyTooLarge));
        }
        self.record.request_bytes.set(total);
        Ok(())
    }
}

/// A write to the backend that did not succeed.
fn backend_cut(cut: Cut) -> Uploaded {
    Uploaded::Backend(match cut {
        Cut::ToStalled => Reason::BackendIdleTimeout,
        Cut::To | Cut::From | Cut::FromStalled | Cut::Unable => Reason::BackendClosed,
    })
}
