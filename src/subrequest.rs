//! A request of our own to a backend: forward auth, mirroring.
//!
//! Decides: what of an answer is kept. May not know: why it is asked. Invariant: a subrequest ends by its deadline; what
//! it learns of a backend counts as with any request.

use std::io;
use std::pin::pin;

use crate::buf::Buf;
use crate::choose::{TRIES_MAX, Tried, Wish};
use crate::config::plan::Nanos;
use crate::connect;
use crate::h1::body::{Decoder, Sink};
use crate::h1::head::{Slots, parse_response};
use crate::h1::{Framing, Method};
use crate::io::{Io, Stream};
use crate::link::{Connection, Link};
use crate::metrics::Reason;
use crate::policy::{BackendId, ClusterId};
use crate::relay::{self, Patience};
use crate::shard::Shard;
use crate::timer::Timer;
use crate::visit::Visit;

/// Interim responses that are passed over.
const INTERIMS_MAX: u32 = 4;

/// What is asked, of whom, and how much of the answer is wanted.
pub struct Question<'q> {
    pub cluster: ClusterId,
    pub method: Method,
    pub until: Nanos,
    /// Longer bodies are cut.
    pub body_bytes_max: usize,
    /// Appends the request as the backend with this authority gets it.
    pub write: &'q dyn Fn(&str, &mut Vec<u8>),
}

pub struct Answer {
    /// The final head.
    pub head: Vec<u8>,
    pub body: Vec<u8>,
    /// The body is longer.
    pub cut: bool,
}

/// Asks, once more if a connection from the pool turns out to be dead.
pub async fn ask<I: Io>(shard: &Shard<I>, question: &Question<'_>) -> Result<Answer, Reason> {
    let timer = shard.timers.timer();
    let (mut fresh, mut tried) = (false, Tried::default());
    loop {
        let picked = shard.pick(question.cluster, Wish::default(), &tried);
        let picked = picked.ok_or(Reason::NoBackend)?;
        let visit = Visit::begin(shard, picked.backend, picked.trial);
        let metrics = shard.metrics.backend(picked.backend);
        let (reused, asked) = match open(shard, picked.backend, fresh, &timer, question).await {
            Err(reason) => (false, Err(Some(reason))),
            Ok(link) => {
                let reused = link.reused;
                let asked = exchange(shard, question, picked.backend, link, &timer).await;
                (reused, asked)
            }
        };
        let reason = match asked {
            Ok((status, answer)) => {
                metrics.answered(status);
                visit.answered(status);
                return Ok(answer);
            }
            Err(None) if reused => {
                fresh = true;
                continue;
            }
            Err(reason) => reason.unwrap_or(Reason::BackendClosed),
        };
        if let Some(cause) = reason.cause() {
            metrics.failed();
            visit.failed(cause);
        }
        // Nothing was sent: another may be asked.
        let unsent = matches!(reason, Reason::ConnectFailed | Reason::QueueFull);
        if !unsent || tried.count() + 1 >= TRIES_MAX {
            return Err(reason);
        }
        tried.add(picked.backend);
        if !shard.has_other(question.cluster, picked.backend, &tried) {
            return Err(reason);
        }
    }
}

async fn open<I: Io>(
    shard: &Shard<I>,
    backend: BackendId,
    fresh: bool,
    timer: &Timer,
    question: &Question<'_>,
) -> Result<Link<I::Stream>, Reason> {
    if !fresh && let Some(connection) = shard.take_idle(backend) {
        shard.metrics.backend(backend).connection_reused();
        return Ok(Link {
            connection,
            reused: true,
        });
    }
    let slot = shard.connection_slot(backend).ok_or(Reason::QueueFull)?;
    let stream = connect::connect(shard, backend, timer, question.until).await?;
    shard.metrics.backend(backend).connection_opened();
    Ok(Link {
        connection: Connection::new(stream, slot),
        reused: false,
    })
}

/// One exchange on one connection. `Err(None)`: it was closed without a byte.
async fn exchange<I: Io>(
    shard: &Shard<I>,
    question: &Question<'_>,
    backend: BackendId,
    link: Link<I::Stream>,
    timer: &Timer,
) -> Result<(u16, Answer), Option<Reason>> {
    let mut out = shard.buf();
    let authority = &shard.plan.backends[backend.0 as usize].authority;
    (question.write)(authority, out.append());
    let patience = Patience {
        read_ns: 0,
        write_ns: 0,
        until: question.until,
    };
    let (stream, bytes) = (&link.connection.stream, out.len());
    let sending = relay::send(stream, out, bytes, timer, &shard.timers, &patience);
    // What it sent before it closed is read all the same.
    let (_, out) = pin!(sending).await;
    shard.give(out);
    let mut inbound = shard.buf();
    let read = answer(shard, question, stream, timer, &mut inbound).await;
    let leftover = !inbound.is_empty();
    shard.give(inbound);
    let (status, keep_alive, answer) = read?;
    if keep_alive && !leftover && !answer.cut {
        shard.keep(backend, link.connection);
    }
    Ok((status, answer))
}

/// Reads head and body. With the status, and whether the connection may be used again.
async fn answer<I: Io>(
    shard: &Shard<I>,
    question: &Question<'_>,
    stream: &I::Stream,
    timer: &Timer,
    inbound: &mut Buf,
) -> Result<(u16, bool, Answer), Option<Reason>> {
    let limits = &shard.plan.limits;
    let mut interims = 0;
    let (status, framing, keep_alive, head) = loop {
        let mut slots = Slots::new();
        let parsed = parse_response(inbound.pending(), limits, question.method, &mut slots);
        match parsed.map_err(|reject| Some(Reason::BadResponse(reject)))? {
            Some(response) if response.status < 200 => {
                interims += 1;
                if interims > INTERIMS_MAX || response.status == 101 {
                    return Err(Some(Reason::UpgradeRefused));
                }
                let head_len = response.head_len;
                inbound.consume(head_len);
            }
            Some(response) => {
                let head = response.head.to_vec();
                let (status, framing) = (response.status, response.framing);
                let (keep_alive, head_len) = (response.keep_alive, response.head_len);
                inbound.consume(head_len);
                break (status, framing, keep_alive, head);
            }
            None => {
                let untouched = inbound.is_empty() && interims == 0;
                let read =
                    read(stream, timer, question.until, limits.header_bytes, inbound).await?;
                if read.unwrap_or(0) == 0 {
                    return Err((!untouched).then_some(Reason::BackendClosed));
                }
            }
        }
    };
    let mut answer = Answer {
        head,
        body: Vec::new(),
        cut: false,
    };
    let mut decoder = Decoder::new(framing);
    while !decoder.is_done() && framing != Framing::None {
        let step = decoder.step(inbound.pending(), Sink::Payload(&mut answer.body));
        let step = step.map_err(|reject| Some(Reason::BadResponse(reject)))?;
        inbound.consume(step.consumed);
        if answer.body.len() > question.body_bytes_max {
            answer.body.truncate(question.body_bytes_max);
            answer.cut = true;
            break;
        }
        if decoder.is_done() {
            break;
        }
        match read(stream, timer, question.until, 0, inbound).await? {
            Ok(0) if decoder.eof() => break,
            // A reset is no end: a body without length would seem whole.
            Ok(0) | Err(_) => return Err(Some(Reason::BackendClosed)),
            Ok(_) => {}
        }
    }
    Ok((status, keep_alive, answer))
}

async fn read<S: Stream>(
    stream: &S,
    timer: &Timer,
    until: Nanos,
    head_bytes_max: usize,
    inbound: &mut Buf,
) -> Result<io::Result<usize>, Option<Reason>> {
    if inbound.spare() == 0 {
        // One byte beyond the limit lets the parser see that a head is too long.
        inbound.reserve((head_bytes_max + 1).saturating_sub(inbound.len()).max(1));
    }
    let buf = std::mem::take(inbound);
    let Ok((result, back)) = timer.at(until, stream.read(buf)).await else {
        return Err(Some(Reason::FirstByteTimeout));
    };
    *inbound = back;
    Ok(result)
}
