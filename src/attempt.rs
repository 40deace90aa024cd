//! One request at its backend, with another attempt where that is safe.
//!
//! Decides: which connection is used, whether an attempt may be repeated, how the two directions of an
//! exchange end together. May not know: how a client is waited for. Invariants: nothing is repeated after the
//! first byte of a response; a backend connection is used again only when both halves of its exchange are
//! complete and nothing lies behind the response.

use std::cell::Cell;
use std::future::Future;
use std::pin::pin;
use std::task::Poll;

use crate::buf::Buf;
use crate::config::plan::{Nanos, Timeouts};
use crate::conn::Busy;
use crate::connect;
use crate::decide::{Job, Way, render_again};
use crate::h1::Version;
use crate::h1::reuse::{Ended, Next};
use crate::io::{Io, Peek, Stream};
use crate::metrics::{Counter, Gauge, Reason};
use crate::receive::{Receive, Received};
use crate::record::{End, Record};
use crate::relay::{self, Cut, Pace, Patience};
use crate::shard::Shard;
use crate::timer::NEVER;
use crate::tunnel;
use crate::upload::{Upload, Uploaded};

/// Attempts beyond the first: one, on another backend or on a fresh connection.
const RETRIES_MAX: u32 = 1;

/// After a backend has stopped taking a request, its early response may still be on its way.
const EARLY_NS: Nanos = 1_000_000_000;

/// A connection to a backend for one exchange.
struct Link<S> {
    stream: S,
    /// It has served a request before, so its silence may only mean that it was closed while idle.
    reused: bool,
}

/// How an exchange ended.
enum Outcome {
    /// The client has its response, or can get none any more.
    Over(Next),
    /// Nothing came back on a reused connection: the backend had closed it.
    Stale,
    /// Nothing has been sent to the client yet.
    Failed(Reason),
}

/// What the attempts at one request have in common.
struct Request<'r> {
    job: &'r Job,
    record: &'r Record,
    timeouts: &'r Timeouts,
    /// The whole request's deadline.
    until: Nanos,
}

impl Request<'_> {
    fn to_backend(&self) -> Patience {
        Patience {
            read_ns: self.timeouts.client_body_ns,
            write_ns: self.timeouts.backend_idle_ns,
            until: self.until,
        }
    }

    fn to_client(&self) -> Patience {
        Patience {
            read_ns: self.timeouts.backend_idle_ns,
            write_ns: self.timeouts.client_write_ns,
            until: self.until,
        }
    }
}

/// Forwards a request and its response. `head` is what the first backend is to see.
pub async fn forward<I: Io>(
    conn: &mut Busy<'_, I>,
    job: &Job,
    mut way: Way,
    mut head: Buf,
    record: &Record,
) -> Next {
    let shard = conn.shard;
    let timeouts = &shard.plan.routes[way.route.0 as usize].timeouts;
    let until = shard.timers.after(timeouts.request_ns);
    let request = Request {
        job,
        record,
        timeouts,
        until,
    };
    record.route.set(Some(way.route));
    record.request_bytes.set(job.held_payload);
    let mut fresh = false;
    loop {
        record.backend.set(Some(way.backend));
        let last = record.retries.get() >= RETRIES_MAX;
        match open(conn, way, &request, fresh).await {
            Err(reason) => {
                // Nothing has been sent: safe for every method, on another backend.
                let other = shard.pick(way.cluster, Some(way.backend)).filter(|_| !last);
                let Some(other) = other else {
                    shard.give(head);
                    return conn.refuse(reason, Some(job), record).await;
                };
                way.backend = other;
                shard.metrics.add(Counter::RetriesConnect, 1);
            }
            Ok(link) => match exchange(conn, &request, way, link, &mut head).await {
                Outcome::Over(next) => {
                    shard.give(head);
                    return next;
                }
                Outcome::Stale if !last => {
                    fresh = true;
                    shard.metrics.add(Counter::RetriesStale, 1);
                }
                Outcome::Stale => {
                    shard.give(head);
                    return conn.refuse(Reason::BackendClosed, Some(job), record).await;
                }
                Outcome::Failed(reason) => {
                    shard.give(head);
                    return conn.refuse(reason, Some(job), record).await;
                }
            },
        }
        record.retries.set(record.retries.get() + 1);
        render_again(shard, conn.peer, conn.input.pending(), job, way, &mut head);
    }
}

/// A connection to the backend: the idle one used last, if it is still open and silent, else a new one.
async fn open<I: Io>(
    conn: &Busy<'_, I>,
    way: Way,
    request: &Request<'_>,
    fresh: bool,
) -> Result<Link<I::Stream>, Reason> {
    let shard = conn.shard;
    let metrics = shard.metrics.backend(way.backend);
    loop {
        let idle = if fresh {
            None
        } else {
            shard.pool.borrow_mut().take(way.backend)
        };
        let Some(stream) = idle else {
            break;
        };
        shard.metrics.gauge_sub(Gauge::PoolIdleConnections, 1);
        // Bytes that nobody asked for would be taken for the next response.
        if stream.peek() == Peek::Quiet {
            metrics.connection_reused();
            request.record.reused.set(true);
            return Ok(Link {
                stream,
                reused: true,
            });
        }
    }
    request.record.reused.set(false);
    let deadline = shard
        .timers
        .after(request.timeouts.connect_ns)
        .min(request.until);
    let stream = connect::connect(shard, way.backend, conn.timer, deadline).await;
    let stream = stream.inspect_err(|_| metrics.failed())?;
    metrics.connection_opened();
    request
        .record
        .connect_ns
        .set(Some(request.record.since_start(&shard.io)));
    Ok(Link {
        stream,
        reused: false,
    })
}

async fn exchange<I: Io>(
    conn: &mut Busy<'_, I>,
    request: &Request<'_>,
    way: Way,
    link: Link<I::Stream>,
    head: &mut Buf,
) -> Outcome {
    let shard = conn.shard;
    let metrics = shard.metrics.backend(way.backend);
    metrics.inflight_add();
    let received = if request.job.held.is_some() {
        pin!(held(conn, request, &link, head)).await
    } else {
        // Boxed: most requests have no body to stream, and their future stays small.
        Box::pin(streamed(conn, request, &link, head)).await
    };
    metrics.inflight_sub();
    match request.record.status.get() {
        0 if is_clients_fault(&received) => {}
        0 => metrics.failed(),
        status => metrics.answered(status),
    }
    match received {
        Ok(received) => pin!(judge(conn, request, way, link, received)).await,
        Err(outcome) => outcome,
    }
}

/// There was no response because the client went away or sent what we refuse: no error of the backend.
fn is_clients_fault(received: &Result<Received, Outcome>) -> bool {
    match received {
        Ok(Received::ClientGone | Received::ClientStalled) | Err(Outcome::Over(_)) => true,
        Err(Outcome::Failed(reason)) => reason.status() < 500,
        Ok(
            Received::Complete { .. }
            | Received::Upgraded { .. }
            | Received::Silent(_)
            | Received::Failed(_)
            | Received::Truncated(_),
        )
        | Err(Outcome::Stale) => false,
    }
}

/// Sends a request that we hold as a whole, then receives its response.
async fn held<I: Io>(
    conn: &mut Busy<'_, I>,
    request: &Request<'_>,
    link: &Link<I::Stream>,
    head: &mut Buf,
) -> Result<Received, Outcome> {
    let shard = conn.shard;
    let bytes = head.len();
    let out = std::mem::take(head);
    let patience = request.to_backend();
    let (sent, out) = relay::send(
        &link.stream,
        out,
        bytes,
        conn.timer,
        &shard.timers,
        &patience,
    )
    .await;
    *head = out;
    if sent == Err(Cut::ToStalled) {
        return Err(Outcome::Failed(stalled(
            request,
            shard,
            Reason::BackendIdleTimeout,
        )));
    }
    // A backend that closes may have answered before: what it sent is read even if our write failed.
    let whole = Cell::new(true);
    let answering = Cell::new(false);
    let receive = Receive {
        shard,
        client: conn.client,
        backend: &link.stream,
        timer: conn.timer,
        job: request.job,
        record: request.record,
        timeouts: request.timeouts,
        patience: request.to_client(),
        sent: &whole,
        answering: &answering,
        due: Cell::new(NEVER),
        early: Cell::new(NEVER),
    };
    let received = receive.run().await;
    let stale = link.reused && request.job.method.is_idempotent();
    match received {
        Received::Silent(Reason::BackendClosed) if stale => Err(Outcome::Stale),
        received => Ok(received),
    }
}

/// Sends a request with a body that is still arriving, and receives its response, perhaps before the end.
async fn streamed<I: Io>(
    conn: &mut Busy<'_, I>,
    request: &Request<'_>,
    link: &Link<I::Stream>,
    head: &mut Buf,
) -> Result<Received, Outcome> {
    let shard = conn.shard;
    let timer = shard.timers.timer();
    let (sent, answering) = (Cell::new(false), Cell::new(false));
    let route = request
        .record
        .route
        .get()
        .expect("routed before it is forwarded");
    let route = &shard.plan.routes[route.0 as usize];
    let upload = Upload {
        shard,
        client: conn.client,
        backend: &link.stream,
        timer: conn.timer,
        patience: request.to_backend(),
        record: request.record,
        body_bytes_max: route.body_bytes_max.unwrap_or(u64::MAX),
        pace: Pace::new(
            route.body_rate_min,
            request.timeouts.client_body_ns,
            shard.timers.now(),
        ),
    };
    let receive = Receive {
        shard,
        client: conn.client,
        backend: &link.stream,
        timer: &timer,
        job: request.job,
        record: request.record,
        timeouts: request.timeouts,
        patience: request.to_client(),
        sent: &sent,
        answering: &answering,
        due: Cell::new(NEVER),
        early: Cell::new(NEVER),
    };
    let mut up = pin!(upload.run(&mut conn.input, std::mem::take(head), request.job));
    let mut down = pin!(receive.run());
    let mut uploading = true;
    let mut unsent = Reason::BackendClosed;
    std::future::poll_fn(|cx| {
        if uploading && let Poll::Ready(uploaded) = up.as_mut().poll(cx) {
            uploading = false;
            match uploaded {
                Uploaded::Complete => {
                    sent.set(true);
                    receive.expect(request.timeouts.first_byte_ns);
                }
                Uploaded::Backend(reason) => {
                    unsent = stalled(request, shard, reason);
                    receive.expect(EARLY_NS);
                }
                Uploaded::Client(reason) => {
                    let reason = stalled(request, shard, reason);
                    let begun = answering.get();
                    let failed = client_failed(conn.client, request, reason, begun);
                    return Poll::Ready(Err(failed));
                }
            }
        }
        match down.as_mut().poll(cx) {
            // The response did not come because the request could not be sent.
            Poll::Ready(
                Received::Silent(Reason::FirstByteTimeout)
                | Received::Failed(Reason::FirstByteTimeout),
            ) if !sent.get() => Poll::Ready(Ok(Received::Silent(unsent))),
            Poll::Ready(received) => Poll::Ready(Ok(received)),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
    .inspect(|_| request.record.upload_complete.set(sent.get()))
}

/// The client's half failed. Once a response has begun there is nothing left to say.
fn client_failed<S: Stream>(
    client: &S,
    request: &Request<'_>,
    reason: Reason,
    answering: bool,
) -> Outcome {
    let (job, record) = (request.job, request.record);
    if reason == Reason::ClientAbort {
        record.client_gone();
        return cut(client, job);
    }
    if !answering {
        return Outcome::Failed(reason);
    }
    record.reason.set(Some(reason));
    record.end.set(End::ClientStalled);
    cut(client, job)
}

/// A silence that ended at the whole request's deadline is that deadline's.
fn stalled<I: Io>(request: &Request<'_>, shard: &Shard<I>, reason: Reason) -> Reason {
    if request.until != NEVER && shard.timers.now() >= request.until {
        Reason::RequestTimeout
    } else {
        reason
    }
}

/// What becomes of the two connections.
async fn judge<I: Io>(
    conn: &mut Busy<'_, I>,
    request: &Request<'_>,
    way: Way,
    link: Link<I::Stream>,
    received: Received,
) -> Outcome {
    let (job, record) = (request.job, request.record);
    let shard = conn.shard;
    match received {
        Received::Complete {
            client_keep_alive,
            backend_keep_alive,
            leftover,
        } => {
            let whole = job.held.is_some() || record.upload_complete.get();
            let ended = Ended {
                request_read: whole,
                request_sent: whole,
                response_complete: true,
                client_keep_alive,
                backend_keep_alive,
                backend_leftover: leftover,
                tunnel: false,
                draining: shard.is_draining(),
            };
            if ended.backend() {
                shard.keep(way.backend, link.stream);
            }
            if job.held.is_some() {
                conn.input.consume(job.whole_len());
            }
            Outcome::Over(match ended.client() {
                // Closing with pipelined requests unread, or on their way, would reset the connection and could
                // destroy this response (RFC 9112 section 9.6). A client that asked to close sends no more.
                Next::Close if !job.closes || !conn.input.is_empty() => Next::Linger,
                next => next,
            })
        }
        Received::Upgraded { inbound } => {
            conn.input.consume(job.head_len);
            let input = std::mem::take(&mut conn.input);
            let idle_ns = request.timeouts.tunnel_ns;
            shard.metrics.add(Counter::Tunnels, 1);
            shard.metrics.gauge_add(Gauge::Tunnels, 1);
            let tunnel = tunnel::run(shard, conn.client, &link.stream, input, inbound, idle_ns);
            let (up, down) = Box::pin(tunnel).await;
            shard.metrics.gauge_sub(Gauge::Tunnels, 1);
            record.request_bytes.set(up);
            record.sent(down);
            record.body(down);
            record.end.set(End::Tunnel);
            Outcome::Over(Next::Close)
        }
        Received::Silent(reason) | Received::Failed(reason) => {
            Outcome::Failed(stalled(request, shard, reason))
        }
        Received::ClientGone => {
            record.client_gone();
            cut(conn.client, job)
        }
        Received::ClientStalled => {
            record.end.set(End::ClientStalled);
            record
                .reason
                .set(Some(stalled(request, shard, Reason::ClientWriteTimeout)));
            cut(conn.client, job)
        }
        Received::Truncated(reason) => {
            record.end.set(End::BackendCut);
            record.reason.set(Some(stalled(request, shard, reason)));
            cut(conn.client, job)
        }
    }
}

/// Ends a response that is not complete. To HTTP/1.0 it ends with the connection: only a reset says that it was
/// cut. Elsewhere its framing says so, and a reset could destroy the response before it, which is on its way.
fn cut<S: Stream>(client: &S, job: &Job) -> Outcome {
    Outcome::Over(match job.version {
        Version::Http10 => {
            client.reset_on_close();
            Next::Close
        }
        Version::Http11 => Next::Linger,
    })
}
