//! One exchange on one connection to a backend.
//!
//! Decides: how the two directions of an exchange end together, what its end says of the backend, and what becomes of
//! both connections. May not know: whether there will be another attempt. Invariant: a backend connection is used again
//! only when both halves of its exchange are complete and nothing lies behind the response.

use std::cell::Cell;
use std::future::Future;
use std::pin::pin;
use std::task::Poll;

use crate::attempt::{Attempts, Failure, Outcome, Request, stalled};
use crate::buf::Buf;
use crate::cache::keep;
use crate::config::plan::Nanos;
use crate::conn::Busy;
use crate::decide::{Job, Way};
use crate::h1::Version;
use crate::h1::reuse::{Ended, Next};
use crate::hedge::{Hedged, hedge};
use crate::io::{Io, Stream};
use crate::link::Link;
use crate::metrics::{Counter, Gauge, Reason};
use crate::policy::BackendId;
use crate::policy::retry::Cause;
use crate::receive::{Receive, Received};
use crate::record::{End, Progress};
use crate::relay::{self, Cut, Pace};
use crate::shard::Shard;
use crate::throttle::Throttle;
use crate::timer::{NEVER, Timer};
use crate::tunnel;
use crate::upload::{Upload, Uploaded};
use crate::visit::Visit;

/// After a backend has stopped taking a request, its early response may still be on its way.
const EARLY_NS: Nanos = 1_000_000_000;

/// Sends the request and relays its response. What it says of the backend is told to its visit.
pub async fn exchange<I: Io>(
    conn: &mut Busy<'_, I>,
    request: &Request<'_>,
    way: Way,
    link: Link<I::Stream>,
    head: &mut Buf,
    first: &Visit<'_, I>,
    attempts: &Attempts<'_, I>,
) -> Outcome {
    let shard = conn.shard;
    let metrics = shard.metrics.backend(way.backend);
    metrics.inflight_add();
    let timed = shard.wants_latency(way.backend);
    let begun_ns = if timed {
        request.record.since_start(&shard.io)
    } else {
        0
    };
    let both = Both {
        request,
        way,
        link: &link,
        attempts,
    };
    let mut hedged = None;
    let received = if request.job.held.is_some() {
        let (bytes, out) = (head.len(), std::mem::take(head));
        let (stream, patience) = (&link.connection.stream, request.to_backend());
        let sending = relay::send(stream, out, bytes, conn.timer, &shard.timers, &patience);
        let (sent, out) = pin!(sending).await;
        *head = out;
        match sent {
            Err(Cut::ToStalled) => {
                let reason = stalled(request, shard, Reason::BackendIdleTimeout);
                Err(failed(reason, Progress::Begun))
            }
            // A backend that closes may have answered before: what it sent is read even if our write failed.
            Ok(()) | Err(Cut::To | Cut::From | Cut::FromStalled | Cut::Unable) => {
                let mut due = NEVER;
                if shard.hedges(way.backend) && request.is_repeatable() {
                    due = first_byte_due(shard, request);
                    // Boxed: rare.
                    hedged = Box::pin(hedge(conn, request, &way, &link, attempts, due)).await;
                    let read = hedged.as_ref().map_or(&link, |hedged| &hedged.link);
                    request.record.reused.set(read.reused);
                }
                let beside = hedged.as_ref().map(|hedged| both.beside(hedged));
                let both = beside.as_ref().unwrap_or(&both);
                let withhold = |status| attempts.withholds(request, &both.way, status);
                let receive = both.receive(shard, conn.client, conn.timer, &withhold);
                receive.sent.set(true);
                receive.early.set(due);
                Ok(pin!(receive.run()).await)
            }
        }
    } else {
        // Boxed: most requests have no body to stream, and their future stays small.
        Box::pin(streamed(conn, &both, head)).await
    };
    metrics.inflight_sub();
    let received = match received {
        Ok(Received::Silent(reason @ Reason::BackendClosed)) if request.record.reused.get() => {
            Err(failed(reason, Progress::Stale))
        }
        received => received,
    };
    if timed && hedged.is_none() {
        observe(shard, request, way.backend, begun_ns, &received);
    } else if timed {
        // It had so long, and would have needed longer.
        let sample_ns = request
            .record
            .since_start(&shard.io)
            .saturating_sub(begun_ns);
        let backends = &shard.shared.backends;
        backends.observe_latency(way.backend, sample_ns, shard.timers.now());
    }
    let (way, link, visit) = match hedged {
        None => (way, link, None),
        Some(hedged) => (hedged.way, hedged.link, Some(hedged.visit)),
    };
    tell(shard, request, visit.as_ref().unwrap_or(first), &received);
    match received {
        Ok(received) => pin!(judge(conn, request, way, link, received)).await,
        Err(outcome) => outcome,
    }
}

/// What both halves of an exchange look at.
struct Both<'b, 'r, 's, I: Io> {
    request: &'b Request<'r>,
    way: Way,
    link: &'b Link<I::Stream>,
    attempts: &'b Attempts<'s, I>,
}

/// The latency of an answer, or the time lost with a backend that gave none.
fn observe<I: Io>(
    shard: &Shard<I>,
    request: &Request<'_>,
    backend: BackendId,
    begun_ns: Nanos,
    received: &Result<Received, Outcome>,
) {
    let record = request.record;
    let ended_ns = match received {
        Ok(
            Received::Complete { .. }
            | Received::Upgraded { .. }
            | Received::Truncated(_)
            | Received::Kept(_),
        ) => record.first_byte_ns.get(),
        Ok(Received::Withheld(_) | Received::Silent(_) | Received::Failed(_)) => {
            Some(record.since_start(&shard.io))
        }
        Ok(Received::ClientGone | Received::ClientStalled) | Err(_) => None,
    };
    if let Some(ended_ns) = ended_ns {
        let sample_ns = ended_ns.saturating_sub(begun_ns);
        shard
            .shared
            .backends
            .observe_latency(backend, sample_ns, shard.timers.now());
        let cluster = shard.cluster_of(backend);
        if shard.plan.clusters[cluster.0 as usize].adaptive.is_some() {
            shard.shared.backends.count_latency(cluster, sample_ns);
        }
        if let Some(delay) = &shard.delays[cluster.0 as usize] {
            delay.borrow_mut().observe(sample_ns);
        }
    }
}

/// Counts the attempt, and tells the backend's health.
fn tell<I: Io>(
    shard: &Shard<I>,
    request: &Request<'_>,
    visit: &Visit<'_, I>,
    received: &Result<Received, Outcome>,
) {
    let metrics = shard.metrics.backend(visit.backend);
    let cause = match received {
        Ok(Received::Complete { .. } | Received::Upgraded { .. }) => {
            let status = request.record.status.get();
            metrics.answered(status);
            return visit.answered(status);
        }
        Ok(Received::Withheld(status)) => {
            metrics.answered(*status);
            return visit.answered(*status);
        }
        Ok(Received::Kept(kept)) => {
            metrics.answered(kept.status);
            visit.answered(kept.status);
            // What receives the body counts, for as long as that takes: not for as long as the client takes.
            return visit.leave();
        }
        Ok(Received::Silent(reason) | Received::Failed(reason) | Received::Truncated(reason)) => {
            reason.cause()
        }
        Err(Outcome::Failed(failure)) => failure.cause,
        Ok(Received::ClientGone | Received::ClientStalled) | Err(Outcome::Over(_)) => None,
    };
    match (request.record.status.get(), cause) {
        (0, None) => {}
        (0, Some(_)) => metrics.failed(),
        (status, _) => metrics.answered(status),
    }
    // An idle connection that was closed says nothing of how requests fare.
    let stale =
        matches!(received, Err(Outcome::Failed(failure)) if failure.progress == Progress::Stale);
    match cause {
        Some(cause) if !stale => visit.failed(cause),
        Some(_) | None => {}
    }
}

/// Sends a request with a body that is still arriving, and receives its response, perhaps before the end.
async fn streamed<I: Io>(
    conn: &mut Busy<'_, I>,
    both: &Both<'_, '_, '_, I>,
    head: &mut Buf,
) -> Result<Received, Outcome> {
    let (request, link) = (both.request, both.link);
    let shard = conn.shard;
    let timer = shard.timers.timer();
    let route = request.route;
    let upload = Upload {
        shard,
        client: conn.client,
        backend: &link.connection.stream,
        timer: conn.timer,
        patience: request.to_backend(),
        record: request.record,
        body_bytes_max: route.body_bytes_max.unwrap_or(u64::MAX),
        throttle: Throttle::new(route.request_rate_max),
        pace: Pace::new(
            route.body_rate_min,
            request.timeouts.client_body_ns,
            shard.timers.now(),
        ),
    };
    // What has been sent is no longer held.
    let receive = both.receive(shard, conn.client, &timer, &|_| false);
    let mut up = pin!(upload.run(&mut conn.input, std::mem::take(head), request.job));
    let mut down = pin!(receive.run());
    let mut uploading = true;
    let mut unsent = Reason::BackendClosed;
    std::future::poll_fn(|cx| {
        if uploading && let Poll::Ready(uploaded) = up.as_mut().poll(cx) {
            uploading = false;
            match uploaded {
                Uploaded::Complete => {
                    receive.sent.set(true);
                    receive.expect(request.timeouts.first_byte_ns);
                }
                Uploaded::Backend(reason) => {
                    unsent = stalled(request, shard, reason);
                    receive.expect(EARLY_NS);
                }
                Uploaded::Client(reason) => {
                    let reason = stalled(request, shard, reason);
                    let begun = receive.answering.get();
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
            ) if !receive.sent.get() => Poll::Ready(Ok(Received::Silent(unsent))),
            Poll::Ready(received) => Poll::Ready(Ok(received)),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
    .inspect(|_| request.record.upload_complete.set(receive.sent.get()))
}

impl<'b, 'r, 's, I: Io> Both<'b, 'r, 's, I> {
    /// The same with another backend, which answered first.
    fn beside<'h>(&self, hedged: &'h Hedged<'_, I>) -> Both<'h, 'r, 's, I>
    where
        'b: 'h,
    {
        self.request.record.backend.set(Some(hedged.way.backend));
        Both {
            request: self.request,
            way: hedged.way,
            link: &hedged.link,
            attempts: self.attempts,
        }
    }

    /// The response's way to the client.
    fn receive<'x>(
        &'x self,
        shard: &'x Shard<I>,
        client: &'x I::Stream,
        timer: &'x Timer,
        withhold: &'x dyn Fn(u16) -> bool,
    ) -> Receive<'x, I> {
        let request = self.request;
        Receive {
            shard,
            client,
            backend: &self.link.connection.stream,
            timer,
            withhold,
            cookie: self.cookie(shard),
            job: request.job,
            record: request.record,
            timeouts: request.timeouts,
            patience: request.to_client(),
            throttle: Throttle::new(request.route.response_rate_max),
            sent: Cell::new(false),
            answering: Cell::new(false),
            due: Cell::new(NEVER),
            early: Cell::new(NEVER),
        }
    }

    /// The field that ties the client to the backend, unless it is tied to it.
    fn cookie(&self, shard: &Shard<I>) -> Option<Box<str>> {
        let cluster = &shard.plan.clusters[shard.cluster_of(self.way.backend).0 as usize];
        let sticky = cluster.sticky.as_ref()?;
        let tag = shard.plan.backends[self.way.backend.0 as usize].tag;
        (self.way.wish.tag != Some(tag)).then(|| sticky.set_cookie(tag))
    }
}

/// When the first byte must be there, if all has been sent now.
fn first_byte_due<I: Io>(shard: &Shard<I>, request: &Request<'_>) -> Nanos {
    let due = shard.timers.after(request.timeouts.first_byte_ns);
    due.min(request.until)
}

fn failure(reason: Reason, progress: Progress) -> Failure {
    Failure {
        reason,
        progress,
        cause: reason.cause(),
    }
}

fn failed(reason: Reason, progress: Progress) -> Outcome {
    Outcome::Failed(failure(reason, progress))
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
        return failed(reason, Progress::Begun);
    }
    record.reason.set(Some(reason));
    record.end.set(End::ClientStalled);
    cut(client, job)
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
                shard.keep(way.backend, link.connection);
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
        Received::Kept(kept) => {
            Outcome::Over(Box::pin(keep::stored(conn, request, way, link, kept)).await)
        }
        Received::Upgraded { inbound } => {
            Outcome::Over(Box::pin(tunnelled(conn, request, &link, inbound)).await)
        }
        Received::Silent(reason) => Outcome::Failed(Failure {
            cause: reason.cause(),
            ..failure(stalled(request, shard, reason), Progress::Silent)
        }),
        Received::Failed(reason) => failed(stalled(request, shard, reason), Progress::Begun),
        Received::Withheld(status) => Outcome::Failed(Failure {
            cause: Some(Cause::Status(status)),
            ..failure(Reason::Internal, Progress::Withheld)
        }),
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

/// Both sides speak another protocol from here to the end.
async fn tunnelled<I: Io>(
    conn: &mut Busy<'_, I>,
    request: &Request<'_>,
    link: &Link<I::Stream>,
    inbound: Buf,
) -> Next {
    let (shard, record) = (conn.shard, request.record);
    conn.input.consume(request.job.head_len);
    let input = std::mem::take(&mut conn.input);
    let idle_ns = request.timeouts.tunnel_ns;
    shard.metrics.add(Counter::Tunnels, 1);
    shard.metrics.gauge_add(Gauge::Tunnels, 1);
    let backend = &link.connection.stream;
    let (up, down) = tunnel::run(shard, conn.client, backend, input, inbound, idle_ns).await;
    shard.metrics.gauge_sub(Gauge::Tunnels, 1);
    record.request_bytes.set(up);
    record.sent(down);
    record.body(down);
    record.end.set(End::Tunnel);
    Next::Close
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
