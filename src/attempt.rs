//! One request at its backend, with further attempts where that is safe.
//!
//! Decides: which connection is used, whether an attempt may be repeated, where and when. May not know: how a client
//! is waited for, how bytes move (`exchange.rs`). Invariants: nothing is repeated after the first byte of a response;
//! what may have been executed is repeated only if it is idempotent; every attempt is told to the backend's health.

use std::cell::OnceCell;
use std::pin::pin;

use crate::buf::Buf;
use crate::cache::serve::Fetched;
use crate::choose::{TRIES_MAX, Tried};
use crate::config::plan::{Nanos, Route, Timeouts};
use crate::conn::Busy;
use crate::connect;
use crate::decide::{Job, Way, render_again};
use crate::exchange::exchange;
use crate::h1::reuse::Next;
use crate::io::Io;
use crate::link::{Connection, Link};
use crate::metrics::{Counter, Reason};
use crate::mirror;
use crate::policy::retry::Cause;
use crate::queue::Waiting;
use crate::record::{Attempted, Progress, Record};
use crate::relay::Patience;
use crate::shard::Shard;
use crate::timer::{Elapsed, NEVER, TICK_NS};
use crate::visit::{Active, Permit, Place, Seat, Visit};

/// How one attempt ended.
pub enum Outcome {
    /// The client has its response, or can get none any more.
    Over(Next),
    /// Nothing has been sent to the client yet.
    Failed(Failure),
}

/// What an attempt came to that the client has seen nothing of.
#[derive(Debug, Clone, Copy)]
pub struct Failure {
    pub reason: Reason,
    pub progress: Progress,
    /// What it says of the backend; `None` when it was not the backend's doing.
    pub cause: Option<Cause>,
}

/// What the attempts at one request have in common.
pub struct Request<'r> {
    pub job: &'r Job,
    pub record: &'r Record,
    pub route: &'r Route,
    pub timeouts: &'r Timeouts,
    /// The whole request's deadline.
    pub until: Nanos,
}

impl Request<'_> {
    pub fn to_backend(&self) -> Patience {
        Patience {
            read_ns: self.timeouts.client_body_ns,
            write_ns: self.timeouts.backend_idle_ns,
            until: self.until,
        }
    }

    pub fn to_client(&self) -> Patience {
        Patience {
            read_ns: self.timeouts.backend_idle_ns,
            write_ns: self.timeouts.client_write_ns,
            until: self.until,
        }
    }

    /// Sending it twice does no harm, and we still have all of it.
    pub fn is_repeatable(&self) -> bool {
        self.job.held.is_some() && self.job.method.is_idempotent()
    }
}

/// What another attempt costs the backends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Price {
    /// A connection was refused: all backends may be asked in turn.
    Nothing,
    /// One more attempt of the request's own. A backend that closes has crashed or restarts: all that it had in hand
    /// comes at once, and waits for no budget, so that nobody sees it die.
    Work,
    /// The backend is slow or says that it cannot: what a retry costs may be what it lacks, so the process's budget
    /// decides too.
    Load,
}

/// The attempts so far.
pub struct Attempts<'s, I: Io> {
    shard: &'s Shard<I>,
    pub tried: Tried,
    /// Those beyond the first that may have cost a backend something.
    paid: u32,
    /// Held from the first paid retry to the end of the request.
    permit: OnceCell<Permit<'s, I>>,
    /// The connection of the next attempt must be a new one.
    fresh: bool,
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
    let route = &shard.plan.routes[way.route.0 as usize];
    let request = Request {
        job,
        record,
        route,
        timeouts: &route.timeouts,
        until: shard.timers.after(route.timeouts.request_ns),
    };
    record.request_bytes.set(job.held_payload);
    record
        .timed
        .set(shard.is_logging() || shard.wants_latency(way.backend));
    let _active = Active::begin(shard);
    // From here on, for it may hold a trial.
    let mut visit = Visit::begin(shard, way.backend, way.trial);
    let Some(_seat) = Seat::take(shard, way.route) else {
        shard.give(head);
        return refused(conn, job, Reason::RequestsMax, record).await;
    };
    let Some(_place) = Place::take(shard, way.route, job.client_ip) else {
        shard.give(head);
        return refused(conn, job, Reason::RequestsPerIp, record).await;
    };
    if let Some(mirror) = route.mirror {
        mirror::copy(shard, mirror, job, head.pending());
    }
    let mut attempts = Attempts {
        shard,
        tried: Tried::default(),
        paid: 0,
        permit: OnceCell::new(),
        fresh: false,
    };
    loop {
        // Pinned where it stands: awaiting it otherwise moves it first.
        let outcome = attempt(conn, &request, &mut way, &mut head, &mut visit, &attempts);
        let outcome = pin!(outcome).await;
        let failure = match outcome {
            Outcome::Over(next) => {
                shard.give(head);
                return next;
            }
            Outcome::Failed(failure) => failure,
        };
        let Some(pause_ns) = attempts.again(&request, &mut way, failure) else {
            shard.give(head);
            if let Some(caching) = &job.cache {
                caching.fails(failure.reason);
            }
            return refused(conn, job, failure.reason, record).await;
        };
        // On a new connection to the same backend it is the same visit, and the same trial.
        if visit.backend != way.backend {
            visit = Visit::begin(shard, way.backend, way.trial);
        }
        if pause_ns > 0 {
            shard.io.sleep(pause_ns).await;
        }
        record.retries.set(record.retries.get() + 1);
        render_again(shard, conn.peer, conn.input.pending(), job, way, &mut head);
    }
}

/// Refuses it, unless something is stored that may stand in for an error. Others who wait for it are not concerned.
async fn refused<I: Io>(
    conn: &mut Busy<'_, I>,
    job: &Job,
    reason: Reason,
    record: &Record,
) -> Next {
    if let Some(caching) = &job.cache {
        drop(caching.hand_over());
        // Boxed: rare.
        return Box::pin(conn.fetched(job, Fetched::Failed(reason), record)).await;
    }
    conn.refuse(reason, Some(job), record).await
}

/// One attempt: at `way`'s backend, or at another if all are busy and that one is free first.
async fn attempt<'s, I: Io>(
    conn: &mut Busy<'s, I>,
    request: &Request<'_>,
    way: &mut Way,
    head: &mut Buf,
    visit: &mut Visit<'s, I>,
    attempts: &Attempts<'_, I>,
) -> Outcome {
    let shard = conn.shard;
    request.record.backend.set(Some(way.backend));
    if visit.is_beyond_limit() {
        return Outcome::Failed(Failure {
            reason: Reason::Overload,
            progress: Progress::Begun,
            cause: None,
        });
    }
    let cluster = shard.cluster_of(way.backend);
    let queue = &shard.queues[cluster.0 as usize];
    let opened = if !queue.is_empty() || !shard.may_take(cluster) {
        // Others came first.
        Ok(None)
    } else if let Some(link) = reuse(shard, way, request, attempts.fresh) {
        Ok(Some(link))
    } else {
        pin!(open(conn, way, request)).await
    };
    let opened = match opened {
        Ok(None) => {
            // It counts where it will be served.
            visit.leave();
            // Boxed: rare.
            let queued = Box::pin(queued(conn, request, way, visit, attempts)).await;
            request.record.backend.set(match queued {
                // Who never had a connection was at no backend.
                Err(Reason::QueueFull | Reason::QueueTimeout) => None,
                Ok(_) | Err(_) => Some(way.backend),
            });
            render_again(
                shard,
                conn.peer,
                conn.input.pending(),
                request.job,
                *way,
                head,
            );
            queued
        }
        Ok(Some(link)) => Ok(link),
        Err(reason) => Err(reason),
    };
    if opened.is_ok() {
        shard.took(cluster);
    }
    let outcome = match opened {
        Ok(link) => pin!(exchange(conn, request, *way, link, head, visit, attempts)).await,
        Err(reason) => {
            let cause = reason.cause();
            if let Some(cause) = cause {
                shard.metrics.backend(way.backend).failed();
                visit.failed(cause);
            }
            Outcome::Failed(Failure {
                reason,
                progress: Progress::Unsent,
                cause,
            })
        }
    };
    queue.call_first();
    outcome
}

impl<I: Io> Attempts<'_, I> {
    /// Where and after which pause the next attempt is made; `None`: the failure is the answer.
    fn again(&mut self, request: &Request<'_>, way: &mut Way, failure: Failure) -> Option<Nanos> {
        // Another one than the first, when that was slow and a second attempt was made beside it.
        let failed = request.record.backend.get().unwrap_or(way.backend);
        if let Some(cause) = failure.cause {
            request.record.attempted(Attempted {
                backend: failed,
                progress: failure.progress,
                cause,
                reused: request.record.reused.get(),
            });
        }
        let shard = self.shard;
        let on = &request.route.retry.on;
        let counts = failure.cause.is_some_and(|cause| on.has(cause));
        let was_fresh = std::mem::take(&mut self.fresh);
        let (counter, price) = match failure.progress {
            Progress::Stale if request.is_repeatable() && !was_fresh => {
                self.fresh = true;
                shard.metrics.add(Counter::RetriesStale, 1);
                return Some(0);
            }
            // A refused connection costs nothing, so all backends may be asked; one that is not answered costs time.
            Progress::Unsent if counts && failure.reason == Reason::ConnectTimeout => {
                (Counter::RetriesConnect, Price::Work)
            }
            Progress::Unsent if counts => (Counter::RetriesConnect, Price::Nothing),
            Progress::Silent if counts && request.is_repeatable() => match failure.cause {
                Some(Cause::Timeout) => (Counter::RetriesTimeout, Price::Load),
                Some(Cause::Closed | Cause::Connect | Cause::Invalid | Cause::Status(_)) | None => {
                    (Counter::RetriesClosed, Price::Work)
                }
            },
            Progress::Withheld => (Counter::RetriesStatus, Price::Load),
            Progress::Unsent | Progress::Stale | Progress::Silent | Progress::Begun => return None,
        };
        // For a status that was withheld, this was asked before.
        let allowed = failure.progress == Progress::Withheld || self.may_pay(request, price);
        if !allowed || self.tried.count() + 1 >= TRIES_MAX {
            return None;
        }
        self.tried.add(failed);
        if failed != way.backend {
            self.tried.add(way.backend);
        }
        match shard.pick(way.entry, way.wish, &self.tried) {
            Some(other) => (way.backend, way.trial) = (other.backend, other.trial),
            // The other one that was seen when the response was withheld has gone since: better this one than none.
            None if failure.progress == Progress::Withheld => {}
            None => return None,
        }
        shard.metrics.add(counter, 1);
        if price == Price::Nothing {
            return Some(0);
        }
        self.paid += 1;
        let pause_ns = request.route.retry.pause_ns(self.paid, shard.random());
        // With too little time left for a pause, the attempt is worth more than its manners.
        let in_time = shard.timers.now().saturating_add(pause_ns) < request.until;
        Some(if in_time { pause_ns } else { 0 })
    }

    /// The limits allow one more attempt at this price.
    fn may_pay(&self, request: &Request<'_>, price: Price) -> bool {
        let left = self.paid < request.route.retry.attempts
            && self.tried.count() + 1 < TRIES_MAX
            && self.shard.timers.now() < request.until;
        match price {
            Price::Nothing => true,
            Price::Work => left,
            Price::Load if !left || self.permit.get().is_some() => left,
            Price::Load => {
                let permit = Permit::take(self.shard);
                if permit.is_none() {
                    self.shard.metrics.add(Counter::RetriesOverBudget, 1);
                }
                permit.is_some_and(|permit| self.permit.set(permit).is_ok())
            }
        }
    }

    /// A response with this status is to be withheld, and its request tried again.
    pub fn withholds(&self, request: &Request<'_>, way: &Way, status: u16) -> bool {
        request.is_repeatable()
            && request.route.retry.on.has(Cause::Status(status))
            && self.shard.has_other(way.entry, way.backend, &self.tried)
            && self.may_pay(request, Price::Load)
    }
}

/// A silence that ended at the whole request's deadline is that deadline's.
pub fn stalled<I: Io>(request: &Request<'_>, shard: &Shard<I>, reason: Reason) -> Reason {
    if request.until != NEVER && shard.timers.now() >= request.until {
        Reason::RequestTimeout
    } else {
        reason
    }
}

/// The idle connection to the backend that was used last, if it is still open and silent.
pub fn reuse<I: Io>(
    shard: &Shard<I>,
    way: &Way,
    request: &Request<'_>,
    fresh: bool,
) -> Option<Link<I::Stream>> {
    let connection = if fresh {
        // One that lies idle may be what keeps a new one from being opened.
        if !shard.has_slot(way.backend) {
            drop(shard.take_idle(way.backend));
        }
        None
    } else {
        shard.take_idle(way.backend)
    };
    request.record.reused.set(connection.is_some());
    let connection = connection?;
    shard.metrics.backend(way.backend).connection_reused();
    Some(Link {
        connection,
        reused: true,
    })
}

/// A new connection to the backend. `None`: it has as many as it may have.
pub async fn open<I: Io>(
    conn: &Busy<'_, I>,
    way: &Way,
    request: &Request<'_>,
) -> Result<Option<Link<I::Stream>>, Reason> {
    let shard = conn.shard;
    let Some(slot) = shard.connection_slot(way.backend) else {
        return Ok(None);
    };
    let deadline = shard
        .timers
        .after(request.timeouts.connect_ns)
        .min(request.until);
    let connected = connect::connect(shard, way.backend, conn.timer, deadline).await;
    let stream = connected.map_err(|reason| match reason {
        // The request's own time was over, however soon the backend would have answered.
        Reason::ConnectTimeout => stalled(request, shard, reason),
        reason => reason,
    })?;
    shard.metrics.backend(way.backend).connection_opened();
    request
        .record
        .connect_ns
        .set(Some(request.record.since_start(&shard.io)));
    Ok(Some(Link {
        connection: Connection::new(stream, slot),
        reused: false,
    }))
}

/// Waits until a backend of the cluster has room for one more connection, and opens it.
async fn queued<'s, I: Io>(
    conn: &Busy<'s, I>,
    request: &Request<'_>,
    way: &mut Way,
    visit: &mut Visit<'s, I>,
    attempts: &Attempts<'_, I>,
) -> Result<Link<I::Stream>, Reason> {
    let shard = conn.shard;
    let id = shard.cluster_of(way.backend);
    let cluster = &shard.plan.clusters[id.0 as usize];
    let place = Waiting::join(shard, id).ok_or(Reason::QueueFull)?;
    let until = shard.timers.after(cluster.queue_ns).min(request.until);
    loop {
        let first = place.is_first();
        if first
            && shard.may_take(id)
            && let Some(picked) = shard.pick_free(way.entry, way.wish, &attempts.tried)
        {
            (way.backend, way.trial) = (picked.backend, picked.trial);
            *visit = Visit::begin(shard, picked.backend, picked.trial);
            if attempts.fresh {
                // An idle one holds the place of the new one that is wanted.
                drop(shard.take_idle(way.backend));
            }
            let opened = match reuse(shard, way, request, attempts.fresh) {
                Some(link) => Ok(Some(link)),
                None => open(conn, way, request).await,
            };
            match opened {
                // Another shard was faster.
                Ok(None) => visit.leave(),
                Ok(Some(link)) => return Ok(link),
                Err(reason) => return Err(reason),
            }
        }
        let now = shard.timers.now();
        if now >= until {
            return Err(Reason::QueueTimeout);
        }
        // The first one also looks for what other shards have freed.
        let step = if first {
            until.min(now + TICK_NS)
        } else {
            until
        };
        match conn.timer.at(step, place.called()).await {
            Ok(()) | Err(Elapsed) => {}
        }
    }
}
