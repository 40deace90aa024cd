//! The body of a response, as it is or re-chunked.
//!
//! Decides: which of its bytes go out as they came, and in pieces of which size. May not know: heads, connections.
//! Invariant: what is sent has been checked; the last chunk or byte is sent only when it came.

use super::{Final, Receive, Received, Waited};
use crate::buf::Buf;
use crate::h1::Framing;
use crate::h1::body::{Decoder, LAST_CHUNK, Sink};
use crate::io::{Io, Stream};
use crate::metrics::Reason;
use crate::shard::LARGE_BYTES;

impl<I: Io> Receive<'_, I> {
    /// Sends the head in `out` and relays the body behind it.
    pub(super) async fn body(
        &self,
        head: &Final<'_>,
        inbound: &mut Buf,
        out: &mut Buf,
    ) -> Result<(), Received> {
        let mut decoder = Decoder::new(head.framing).dropping_trailers(head.drops_trailers);
        let mut filled = false;
        loop {
            // A body that has once filled its buffer is a long one.
            filled |= inbound.spare() == 0 && !self.throttle.is_on();
            let verbatim = self.check(head, &mut decoder, inbound, out)?;
            let all_taken = verbatim == inbound.len();
            let long_chunked = filled && head.framing == Framing::Chunked;
            // The same framing on both sides: payload may bypass us.
            if all_taken
                && !self.throttle.is_on()
                && head.framing == head.reply_framing
                && self
                    .bypass(&mut decoder, long_chunked, [&mut *out, &mut *inbound])
                    .await?
            {
                continue;
            }
            // The connection ends behind it at once.
            let is_last = decoder.is_done() && !head.client_keep_alive;
            self.piece(verbatim, inbound, out, is_last).await?;
            if decoder.is_done() {
                return Ok(());
            }
            if !self.read_body(&decoder, inbound, filled).await? {
                if head.reply_framing == Framing::Chunked {
                    out.append().extend_from_slice(LAST_CHUNK);
                    self.send(out).await?;
                }
                return Ok(());
            }
        }
    }

    /// Decodes what `inbound` has of the body. The client gets the first bytes of it as they are, so many; or none,
    /// and its form of all that was decoded stands in `out`.
    fn check(
        &self,
        head: &Final<'_>,
        decoder: &mut Decoder,
        inbound: &mut Buf,
        out: &mut Buf,
    ) -> Result<usize, Received> {
        if inbound.is_empty() {
            return Ok(0);
        }
        // While the head waits in `out`, the client has seen nothing.
        let refused = match out.is_empty() {
            true => |reject| Received::Truncated(Reason::BadResponse(reject)),
            false => |reject| Received::Failed(Reason::BadResponse(reject)),
        };
        let mut checked = decoder.clone();
        let step = checked
            .step(inbound.pending(), Sink::Check)
            .map_err(refused)?;
        self.record.body(step.payload as u64);
        let same = head.framing == head.reply_framing;
        if same && (step.verbatim || head.framing != Framing::Chunked) {
            *decoder = checked;
            return Ok(step.consumed);
        }
        let sink = match head.reply_framing {
            Framing::Chunked => Sink::Chunked(out.append()),
            Framing::UntilClose | Framing::Length(_) | Framing::None => Sink::Payload(out.append()),
        };
        decoder.step(inbound.pending(), sink).map_err(refused)?;
        inbound.consume(step.consumed);
        Ok(0)
    }

    /// Sends what is in `out` and so many bytes of `inbound` behind it; the last piece in one packet with our end, if
    /// the kernel takes it whole.
    pub(crate) async fn piece(
        &self,
        verbatim: usize,
        inbound: &mut Buf,
        out: &mut Buf,
        is_last: bool,
    ) -> Result<(), Received> {
        if out.is_empty() {
            return self.send_from(inbound, verbatim).await;
        }
        // One copy costs less than another send.
        out.append()
            .extend_from_slice(&inbound.pending()[..verbatim]);
        inbound.consume(verbatim);
        if is_last {
            let pushed = self.client.push([out.pending(), &[]], true);
            self.record.sent(pushed as u64);
            out.consume(pushed);
            // Not left to closing: with bytes of the client unread that is a reset, and takes back what is unsent.
            if pushed > 0 && out.is_empty() {
                self.client.shutdown_write();
                return Ok(());
            }
        }
        self.send(out).await
    }

    /// Reads more of the body. `false`: it has ended with the connection, as it may.
    pub(crate) async fn read_body(
        &self,
        decoder: &Decoder,
        inbound: &mut Buf,
        filled: bool,
    ) -> Result<bool, Received> {
        // What filled one buffer is likely to fill a large one: fewer and cheaper turns.
        if filled && inbound.is_empty() && inbound.capacity() < LARGE_BYTES {
            self.shard
                .give(std::mem::replace(inbound, self.shard.large_buf()));
        }
        inbound.reserve(1);
        let deadline = self
            .shard
            .timers
            .after(self.patience.read_ns)
            .min(self.patience.until);
        match self.read(inbound, deadline).await {
            Err(Waited::Late) => Err(Received::Truncated(Reason::BackendIdleTimeout)),
            Err(Waited::ClientGone) => Err(Received::ClientGone),
            Ok(Ok(n)) if n > 0 => Ok(true),
            Ok(Ok(_)) if decoder.eof() => Ok(false),
            Ok(Ok(_) | Err(_)) => Err(Received::Truncated(Reason::BackendClosed)),
        }
    }
}
