//! A response's way to the client through an encoder.
//!
//! Decides: when encoded bytes go out, and when the encoder is asked for what it holds. May not know: codings, why a
//! response gets one, how requests are sent. Invariant: the end of the coding and the last chunk are sent only when the
//! whole body came.
//!
//! An encoder gathers: the more it sees at once, the better it compresses. But what a backend has said must reach the
//! client, also if it says nothing more for a minute. So the encoder is flushed when the backend has been silent for
//! [`SILENCE_NS`]; types that are read piece by piece are flushed after each read.

use crate::buf::Buf;
use crate::codec::Lent;
use crate::config::plan::Nanos;
use crate::decide::Job;
use crate::edits::ToClient;
use crate::h1::Framing;
use crate::h1::body::{Decoder, LAST_CHUNK, Sink, write_chunk_head};
use crate::h1::head::Response;
use crate::io::{Io, Peek, Stream};
use crate::metrics::Reason;
use crate::policy::filter::compress::{Compress, Treatment};
use crate::receive::{Final, Receive, Received};
use crate::shard::Shard;

/// People notice a tenth of a second, and backends that compute a response rarely pause for that long.
const SILENCE_NS: Nanos = 100_000_000;

/// Fewer bytes wait for more: each chunk costs a write.
const CHUNK_BYTES_MIN: usize = 4096;

/// How a response is encoded.
pub(crate) struct Encoding<'s> {
    lent: Lent<'s>,
    /// Nothing is held back.
    streams: bool,
}

/// What the route's filters make of a response.
pub(crate) struct Treated<'s> {
    treatment: Treatment,
    edits: Option<ToClient<'s>>,
    /// For the body, if it has one.
    pub(crate) encoding: Option<Box<Encoding<'s>>>,
}

impl Treated<'_> {
    pub(crate) fn is_edited(&self) -> bool {
        self.edits.is_some()
    }

    pub(crate) fn drops(&self, name: &str) -> bool {
        let mut dropped = self.treatment.drops().iter();
        dropped.any(|known| name.eq_ignore_ascii_case(known))
            || self.edits.as_ref().is_some_and(|edits| edits.drops(name))
    }

    /// Appends what the response gets in place of that, and besides.
    pub(crate) fn write(&self, response: &Response<'_, '_>, out: &mut Vec<u8>) {
        self.treatment.lines(response, out);
        if let Some(edits) = &self.edits {
            edits.write(Some(response), out);
        }
    }

    /// Nobody knows the length of what an encoder will give. `other`: that of the response as it is.
    pub(crate) fn framing(&self, other: Framing) -> Framing {
        match self.treatment.encodes() {
            true => Framing::Chunked,
            false => other,
        }
    }
}

/// What the route's filters make of a response to the request. `backend`: the authority of the one that answers.
pub(crate) fn treat<'s, I: Io>(
    shard: &'s Shard<I>,
    job: &'s Job,
    backend: &'s str,
    response: &Response<'_, '_>,
) -> Treated<'s> {
    let (treatment, encoding) = judge(shard, job, response);
    Treated {
        treatment,
        edits: ToClient::of(&shard.plan, job, backend),
        encoding,
    }
}

fn judge<'s, I: Io>(
    shard: &'s Shard<I>,
    job: &Job,
    response: &Response<'_, '_>,
) -> (Treatment, Option<Box<Encoding<'s>>>) {
    let route = job.route.map(|route| &shard.plan.routes[route.0 as usize]);
    let Some(compress) = route.and_then(|route| Compress::of(&route.filters)) else {
        return (Treatment::None, None);
    };
    let choice = job.found.as_deref().and_then(|found| found.coding);
    let treatment = compress.treat(response, job.method, choice);
    let Treatment::Encodes {
        coding,
        level,
        streams,
    } = treatment
    else {
        return (treatment, None);
    };
    let length = match response.framing {
        // An answer to HEAD.
        Framing::None => return (treatment, None),
        Framing::Length(length) => Some(length),
        Framing::Chunked | Framing::UntilClose => None,
    };
    match shard.encoders.lend(coding, level, length) {
        Some(lent) => (treatment, Some(Box::new(Encoding { lent, streams }))),
        None => (Treatment::Varies, None),
    }
}

impl<I: Io> Receive<'_, I> {
    /// Sends the head in `out` and the encoded body behind it. Trailers do not pass: they may tell a digest of the bytes
    /// that came.
    pub(crate) async fn encoded(
        &self,
        head: &Final<'_>,
        encoding: &mut Encoding<'_>,
        inbound: &mut Buf,
        out: &mut Buf,
    ) -> Result<(), Received> {
        let encoder = encoding.lent.encoder();
        let mut decoder = Decoder::new(head.framing);
        let (mut plain, mut coded) = (Vec::new(), Vec::new());
        loop {
            // While the head waits in `out`, the client has seen nothing.
            let refused = match out.is_empty() {
                true => |reject| Received::Truncated(Reason::BadResponse(reject)),
                false => |reject| Received::Failed(Reason::BadResponse(reject)),
            };
            let step = decoder
                .step(inbound.pending(), Sink::Payload(&mut plain))
                .map_err(refused)?;
            inbound.consume(step.consumed);
            encoder.push(&plain, &mut coded);
            plain.clear();
            let mut is_whole = decoder.is_done();
            if !is_whole {
                if encoding.streams {
                    encoder.flush(&mut coded);
                }
                if !encoder.holds() || coded.len() >= CHUNK_BYTES_MIN {
                    self.chunk(&mut coded, out);
                }
                self.send(out).await?;
                if encoder.holds() && self.is_silent().await {
                    encoder.flush(&mut coded);
                    self.chunk(&mut coded, out);
                    self.send(out).await?;
                }
                // Never into a large buffer: what is read at once is compressed at once, while all else waits.
                is_whole = !self.read_body(&decoder, inbound, false).await?;
            }
            if is_whole {
                encoder.finish(&mut coded);
                self.chunk(&mut coded, out);
                out.append().extend_from_slice(LAST_CHUNK);
                let is_last = !head.client_keep_alive;
                return self.piece(0, inbound, out, is_last).await;
            }
        }
    }

    /// Moves what the encoder gave to `out`.
    fn chunk(&self, coded: &mut Vec<u8>, out: &mut Buf) {
        if coded.is_empty() {
            return;
        }
        self.record.body(coded.len() as u64);
        let out = out.append();
        write_chunk_head(out, coded.len());
        out.append(coded);
        out.extend_from_slice(b"\r\n");
    }

    /// Whether the backend says nothing for a while. It may wait for its client's next word.
    async fn is_silent(&self) -> bool {
        if self.backend.peek() != Peek::Quiet {
            return false;
        }
        let until = self.shard.timers.after(SILENCE_NS).min(self.patience.until);
        // Not by a read: one that is given up may take bytes along.
        let readable = self.backend.readable();
        self.timer.at(until, readable).await.is_err()
    }
}
