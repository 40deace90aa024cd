//! A second attempt beside a first one that is slower than most.
//!
//! Decides: which of two backends that have the same request is listened to. May not know: what they answer. Invariant:
//! only for requests that may be repeated, within the process's budget for retries, and before a byte has come; the
//! connection that loses is closed, which tells its backend to stop.

use crate::attempt::{Attempts, Request, open, reuse};
use crate::config::plan::Nanos;
use crate::conn::Busy;
use crate::decide::{Way, render_again};
use crate::io::{Io, Peek, Stream};
use crate::link::Link;
use crate::metrics::{Counter, Reason};
use crate::relay;
use crate::timer::Elapsed;
use crate::visit::{Permit, Visit};
use crate::wait::{Race, race};

/// The second attempt, which answered first.
pub struct Hedged<'s, I: Io> {
    pub way: Way,
    pub link: Link<I::Stream>,
    pub visit: Visit<'s, I>,
    _permit: Permit<'s, I>,
}

/// Waits for the first byte of `link`, which must come until `due`; sends the request to another backend when it takes
/// too long. `None`: it is the first one that is to be read, whatever comes.
pub async fn hedge<'s, I: Io>(
    conn: &Busy<'s, I>,
    request: &Request<'_>,
    way: &Way,
    link: &Link<I::Stream>,
    attempts: &Attempts<'_, I>,
    due: Nanos,
) -> Option<Hedged<'s, I>> {
    let shard: &'s _ = conn.shard;
    let cluster = shard.cluster_of(way.backend);
    let delay_ns = shard.delays[cluster.0 as usize]
        .as_ref()?
        .borrow()
        .delay_ns()?;
    let wait = shard.timers.after(delay_ns);
    let first = link.connection.stream.readable();
    if wait >= due || conn.timer.at(wait, first).await.is_ok() {
        return None;
    }
    let permit = Permit::take(shard)?;
    let mut tried = attempts.tried.clone();
    tried.add(way.backend);
    let mut wish = way.wish;
    wish.tag = None;
    let picked = shard.pick_free(way.entry, wish, &tried)?;
    let other = Way {
        backend: picked.backend,
        trial: picked.trial,
        ..*way
    };
    let visit = Visit::begin(shard, other.backend, other.trial);
    // The first one is listened to meanwhile: a backend that takes no connections must not cost its answer time.
    let begun = race(
        link.connection.stream.readable(),
        begin(conn, request, &other),
    );
    let second = match begun.await {
        Race::Second(Ok(second)) => second?,
        Race::Second(Err(reason)) => {
            if let Some(cause) = reason.cause() {
                shard.metrics.backend(other.backend).failed();
                visit.failed(cause);
            }
            return None;
        }
        Race::First(_) => return None,
    };
    shard.metrics.add(Counter::Hedges, 1);
    let either = race(
        link.connection.stream.readable(),
        second.connection.stream.readable(),
    );
    match conn.timer.at(due, either).await {
        // An end is no answer: the first one may still give one.
        Ok(Race::Second(Ok(()))) if second.connection.stream.peek() == Peek::Bytes => {
            shard.metrics.add(Counter::HedgesWon, 1);
            Some(Hedged {
                way: other,
                link: second,
                visit,
                _permit: permit,
            })
        }
        Ok(Race::First(_) | Race::Second(_)) | Err(Elapsed) => None,
    }
}

/// Opens a connection for the second attempt and sends the request. `None`: there is no room for one, or it broke.
async fn begin<I: Io>(
    conn: &Busy<'_, I>,
    request: &Request<'_>,
    way: &Way,
) -> Result<Option<Link<I::Stream>>, Reason> {
    let shard = conn.shard;
    let link = match reuse(shard, way, request, false) {
        Some(link) => link,
        None => match open(conn, way, request).await? {
            Some(link) => link,
            None => return Ok(None),
        },
    };
    let mut head = shard.buf();
    render_again(
        shard,
        conn.peer,
        conn.input.pending(),
        request.job,
        *way,
        &mut head,
    );
    let (bytes, patience) = (head.len(), request.to_backend());
    let stream = &link.connection.stream;
    let (sent, out) = relay::send(stream, head, bytes, conn.timer, &shard.timers, &patience).await;
    shard.give(out);
    Ok(sent.ok().map(|_| link))
}
