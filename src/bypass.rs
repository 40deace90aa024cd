//! What of a response moves in the kernel, without passing through this process.
//!
//! Decides: which bytes may, and how many. May not know: heads, requests. Invariant: chunks are moved as they are only
//! after their framing has been checked, and the decoder then stands behind them.

use crate::buf::Buf;
use crate::h1::Framing;
use crate::h1::body::{Decoder, Sink};
use crate::io::{Io, Stream};
use crate::metrics::Reason;
use crate::receive::{Receive, Received};
use crate::relay::{Cut, SPLICE_MIN, Transfer};

/// Chunks that are moved at once.
const CHUNKS_MAX: u32 = 64;

/// A look at a chunk's header: the end of the last chunk, a size, and room for a short extension.
const HEADER_BYTES: usize = 64;

/// Two system calls a header are dearer than copying chunks that are shorter than this. An estimate.
const SHORT_BYTES: u64 = 4096;

impl<I: Io> Receive<'_, I> {
    /// Moves what comes next in the kernel, behind what is in `ahead`. `false`: nothing was moved, nothing sent.
    pub(crate) async fn bypass(
        &self,
        decoder: &mut Decoder,
        long_chunked: bool,
        ahead: [&mut Buf; 2],
    ) -> Result<bool, Received> {
        if let Some(left) = decoder.remaining().filter(|left| *left >= SPLICE_MIN) {
            return self.splice(decoder, left, ahead).await;
        }
        if long_chunked && !decoder.is_done() {
            return self.splice_chunks(decoder, ahead).await;
        }
        Ok(false)
    }

    async fn splice(
        &self,
        decoder: &mut Decoder,
        left: u64,
        [out, inbound]: [&mut Buf; 2],
    ) -> Result<bool, Received> {
        let shard = self.shard;
        let transfer = Transfer {
            from: self.backend,
            to: self.client,
            pipes: &shard.pipes,
            timer: self.timer,
            timers: &shard.timers,
            patience: &self.patience,
            pace: None,
            watch: self.sent.get(),
        };
        let ahead = out.len() + inbound.len();
        let (moved, ended) = transfer.run([&mut *out, &mut *inbound], left).await;
        decoder.skip(moved);
        let ahead = ahead - out.len() - inbound.len();
        self.record.sent(ahead as u64 + moved);
        self.record.body(moved);
        match ended {
            Ok(()) => Ok(true),
            Err(Cut::Unable) => Ok(false),
            Err(Cut::From) => Err(Received::Truncated(Reason::BackendClosed)),
            Err(Cut::FromStalled) => Err(Received::Truncated(Reason::BackendIdleTimeout)),
            Err(Cut::To) => Err(Received::ClientGone),
            Err(Cut::ToStalled) => Err(Received::ClientStalled),
        }
    }

    /// Moves chunks as they are, headers and all, after their headers were checked in the socket's queue. `false`: too
    /// little is there, or it may not pass as it is.
    async fn splice_chunks(
        &self,
        decoder: &mut Decoder,
        ahead: [&mut Buf; 2],
    ) -> Result<bool, Received> {
        if self.backend.splice_fd().is_none() {
            return Ok(false);
        }
        let queued = self.backend.available() as u64;
        if queued < SPLICE_MIN {
            return Ok(false);
        }
        let found = self
            .walk_chunks(decoder, queued)
            .or_else(|| self.read_chunks(decoder));
        let Some(Chunks {
            after,
            raw,
            payload,
        }) = found.filter(|chunks| chunks.raw >= SPLICE_MIN)
        else {
            return Ok(false);
        };
        let body_bytes = self.record.response_body_bytes.get();
        let mut bytes = Decoder::new(Framing::Length(raw));
        if !self.splice(&mut bytes, raw, ahead).await? {
            return Ok(false);
        }
        *decoder = after;
        self.record.response_body_bytes.set(body_bytes + payload);
        Ok(true)
    }

    /// Goes through the queue from one chunk's header to the next, without a look at what is between them. `None`:
    /// the chunks are so short that reading all of it is cheaper, or this kernel cannot look behind bytes.
    fn walk_chunks(&self, decoder: &Decoder, queued: u64) -> Option<Chunks> {
        let mut chunks = Chunks::none(decoder);
        for _ in 0..CHUNKS_MAX {
            if let Some(left) = chunks.after.remaining() {
                let data = left.min(queued.saturating_sub(chunks.raw));
                chunks.after.skip(data);
                chunks.raw += data;
                chunks.payload += data;
                if data < left {
                    break;
                }
            }
            let mut header = [0; HEADER_BYTES];
            let skip = usize::try_from(chunks.raw).ok()?;
            let there = self.backend.look_behind(skip, &mut header)?;
            if !chunks.add(&header[..there]) || chunks.after.is_done() {
                break;
            }
            let is_short = chunks
                .after
                .remaining()
                .is_none_or(|left| left < SHORT_BYTES);
            if is_short && there == HEADER_BYTES {
                return None;
            }
        }
        Some(chunks)
    }

    /// Reads the queue as a whole.
    fn read_chunks(&self, decoder: &Decoder) -> Option<Chunks> {
        let mut look = self.shard.large_buf();
        self.backend.look(look.append());
        let mut chunks = Chunks::none(decoder);
        let is_fit = chunks.add(look.pending());
        self.shard.give(look);
        is_fit.then_some(chunks)
    }
}

/// Chunks in a socket's queue that may pass as they are.
struct Chunks {
    /// The decoder, when they have passed.
    after: Decoder,
    raw: u64,
    payload: u64,
}

impl Chunks {
    fn none(decoder: &Decoder) -> Chunks {
        Chunks {
            after: decoder.clone(),
            raw: 0,
            payload: 0,
        }
    }

    /// Adds what comes next in the queue. `false`: it may not pass, or there is nothing; what is malformed is
    /// refused by the read that follows.
    fn add(&mut self, bytes: &[u8]) -> bool {
        let mut after = self.after.clone();
        match after.step(bytes, Sink::Check) {
            Ok(step) if step.verbatim && step.consumed > 0 => {
                self.after = after;
                self.raw += step.consumed as u64;
                self.payload += step.payload as u64;
                true
            }
            Ok(_) | Err(_) => false,
        }
    }
}
