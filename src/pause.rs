//! A request that has to wait before it is decided upon.
//!
//! Decides: when the wait is over. May not know: what it was for, beyond `Pause`. Invariant: every wait has a deadline.

use std::future::pending;
use std::pin::pin;

use crate::auth::{self, Denied};
use crate::buf::Buf;
use crate::cache::serve::Waited;
use crate::conn::Busy;
use crate::decide::{Decided, Job, Pause, decide_on};
use crate::h1::body::{Decoder, Sink};
use crate::io::{Io, Stream};
use crate::metrics::Reason;
use crate::password::Ticket;
use crate::policy::Nanos;
use crate::record::Record;
use crate::relay::{self, Pace, Patience, WATCH_NS};
use crate::timer::{Elapsed, NEVER, TICK_NS};
use crate::wait::{Race, closed, race};

/// Longest wait for the verdict on a password.
const PASSWORD_NS: Nanos = 10_000_000_000;

/// A chunked body may be so much longer than what it carries.
const CHUNKS_BYTES_MAX: usize = 64 * 1024;

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

impl<I: Io> Busy<'_, I> {
    /// Waits, and decides again.
    pub async fn pause(&mut self, mut job: Job, pause: Pause, record: &Record) -> Decided {
        let waited = match pause {
            Pause::Until(at) => self.turn(at).await,
            Pause::Password(ticket) => self.verdict(&mut job, &ticket).await,
            Pause::ForwardAuth(at) => {
                let asked = race(auth::ask(self, &mut job, at), self.gone()).await;
                match asked {
                    Race::First(Ok(())) => Ok(()),
                    Race::First(Err(Denied::Reply(reply))) => return Decided::Answer(job, reply),
                    Race::First(Err(Denied::Unavailable)) => Err(Reason::AuthUnavailable),
                    Race::Second(()) => Err(Reason::ClientAbort),
                }
            }
            Pause::Fill(version) => self.filled(&mut job, version).await,
            Pause::Body { bytes_max, expects } => {
                let read = self.whole_body(&job, bytes_max, expects, record).await;
                // What is left of it is not read.
                job.keep_alive &= read.is_ok();
                read
            }
        };
        match waited {
            Ok(()) => decide_on(self.shard, self.peer, self.input.pending(), job),
            Err(reason) => Decided::Refuse(reason, Some(job)),
        }
    }

    /// Ends when the client has gone; not before some silence, because one that has closed its half may still wait.
    async fn gone(&self) {
        self.shard.io.sleep(WATCH_NS).await;
        closed(self.client).await;
    }

    /// Waits for what another request fetches.
    async fn filled(&self, job: &mut Job, version: u32) -> Result<(), Reason> {
        let Some(caching) = &mut job.cache else {
            return Ok(());
        };
        let Some((fill, until)) = caching.awaited(self.shard.timers.now()) else {
            return Ok(());
        };
        match self.watch(&fill, version, until).await {
            Waited::Changed => {}
            Waited::ClientGone => return Err(Reason::ClientAbort),
            Waited::Late => caching.gives_up(),
        }
        Ok(())
    }

    /// Waits for a point in time, unless the client goes away. As with a response, only after some silence: a client
    /// that has closed its half may wait for the answer.
    async fn turn(&mut self, at: Nanos) -> Result<(), Reason> {
        let quiet = at.min(self.shard.timers.after(WATCH_NS));
        let _: Result<(), Elapsed> = self.timer.at(quiet, pending()).await;
        if quiet == at {
            return Ok(());
        }
        match self.timer.at(at, closed(self.client)).await {
            Ok(()) => Err(Reason::ClientAbort),
            Err(Elapsed) => Ok(()),
        }
    }

    /// Waits for the verdict on a password. Who has gone leaves the queue: others wait in it.
    async fn verdict(&mut self, job: &mut Job, ticket: &Ticket) -> Result<(), Reason> {
        let timers = &self.shard.timers;
        let (watched, until) = (timers.after(WATCH_NS), timers.after(PASSWORD_NS));
        let mut gone = pin!(closed(self.client));
        while timers.now() < until {
            if let Some(fits) = ticket.poll() {
                if let Some(found) = &mut job.found {
                    found.password = Some(fits);
                }
                return Ok(());
            }
            let tick = timers.after(TICK_NS);
            if timers.now() < watched {
                let _: Result<(), Elapsed> = self.timer.at(tick, pending()).await;
            } else if self.timer.at(tick, gone.as_mut()).await.is_ok() {
                return Err(Reason::ClientAbort);
            }
        }
        Err(Reason::AccessBusy)
    }

    /// Reads until the whole body is in the input.
    async fn whole_body(
        &mut self,
        job: &Job,
        bytes_max: u64,
        expects: bool,
        record: &Record,
    ) -> Result<(), Reason> {
        let route = job.route.expect("a request is routed before it waits");
        let route = &self.shard.plan.routes[route.0 as usize];
        if expects && self.input.len() == job.head_len {
            self.invite(record).await?;
        }
        let client_body_ns = route.timeouts.client_body_ns;
        let pace = Pace::new(route.body_rate_min, client_body_ns, self.shard.timers.now());
        let most = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        let raw_max = job
            .head_len
            .saturating_add(most)
            .saturating_add(CHUNKS_BYTES_MAX);
        let mut decoder = Decoder::new(job.framing);
        let (mut checked, mut payload) = (job.head_len, 0_u64);
        loop {
            let step = decoder
                .step(&self.input.pending()[checked..], Sink::Check)
                .map_err(Reason::Protocol)?;
            checked += step.consumed;
            payload += step.payload as u64;
            if payload > bytes_max || checked > raw_max {
                return Err(Reason::BufferFull);
            }
            if step.done || decoder.is_done() {
                return Ok(());
            }
            if self.input.spare() == 0 {
                // Twice as much each time, within the bound.
                let rest = raw_max.saturating_sub(self.input.len());
                let more = self.input.len().min(rest).max(1);
                if !self.buffered.grows(self.input.capacity() + more) {
                    return Err(Reason::Overload);
                }
                self.input.reserve(more);
            }
            let read = self.body_read(client_body_ns).await?;
            if !pace.keeps(read as u64, self.shard.timers.now()) {
                return Err(Reason::BodyTimeout);
            }
        }
    }

    async fn body_read(&mut self, wait_ns: Nanos) -> Result<usize, Reason> {
        let buf = std::mem::take(&mut self.input);
        let deadline = self.shard.timers.after(wait_ns);
        let Ok((result, buf)) = self.timer.at(deadline, self.client.read(buf)).await else {
            return Err(Reason::BodyTimeout);
        };
        self.input = buf;
        match result {
            Ok(0) | Err(_) => Err(Reason::ClientAbort),
            Ok(n) => {
                self.received(n);
                Ok(n)
            }
        }
    }

    /// Tells a client that it may send its body (RFC 9110 section 10.1.1).
    async fn invite(&mut self, record: &Record) -> Result<(), Reason> {
        let mut out: Buf = self.shard.buf();
        out.append().extend_from_slice(CONTINUE);
        let patience = Patience {
            read_ns: 0,
            write_ns: self.shard.plan.client_header_ns,
            until: NEVER,
        };
        let timers = &self.shard.timers;
        let (sent, out) = relay::send(
            self.client,
            out,
            CONTINUE.len(),
            self.timer,
            timers,
            &patience,
        )
        .await;
        self.shard.give(out);
        record.sent(CONTINUE.len() as u64);
        sent.map_err(|_| Reason::ClientAbort)
    }
}
