//! What is known about one request when it is over.
//!
//! Decides: nothing but how a request is counted and logged. May not know: sockets. Invariant: every request
//! is finished exactly once, whatever its end.

use std::cell::{Cell, RefCell};

use crate::config::plan::Nanos;
use crate::decide::Job;
use crate::h1::Version;
use crate::h1::head::Request;
use crate::io::Io;
use crate::log::{self, AccessLine, AttemptLine};
use crate::metrics::{Counter, Reason};
use crate::policy::BackendId;
use crate::policy::retry::Cause;
use crate::shard::{Peer, Shard};

/// Every way in which a request can end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Response complete.
    Served,
    /// Our own answer, a refusal.
    Refused,
    /// Our own answer, a good one.
    Answered,
    /// The client closed or reset before the end.
    ClientGone,
    /// The client did not take its response, or did not send its request, in time.
    ClientStalled,
    /// The backend closed, failed or fell silent within the response.
    BackendCut,
    /// An upgraded connection ran to its end.
    Tunnel,
}

impl End {
    pub fn label(self) -> &'static str {
        match self {
            End::Served => "served",
            End::Refused => "refused",
            End::Answered => "answered",
            End::ClientGone => "client_gone",
            End::ClientStalled => "client_stalled",
            End::BackendCut => "backend_cut",
            End::Tunnel => "tunnel",
        }
    }
}

/// How far a failed attempt has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// There was no connection: nothing was sent.
    Unsent,
    /// A connection that had been idle was closed without a byte: most likely before the request arrived.
    Stale,
    /// Sent, and not a byte came back.
    Silent,
    /// A whole head came with a status that is retried, and was withheld from the client.
    Withheld,
    /// A part of a response came, or the client's own half failed.
    Begun,
}

impl Progress {
    /// As it stands in the access log.
    pub fn name(self) -> &'static str {
        match self {
            Progress::Unsent => "unsent",
            Progress::Stale => "stale",
            Progress::Silent => "silent",
            Progress::Withheld => "withheld",
            Progress::Begun => "begun",
        }
    }
}

/// An attempt that failed, for the access log.
#[derive(Debug, Clone, Copy)]
pub struct Attempted {
    pub backend: BackendId,
    pub progress: Progress,
    pub cause: Cause,
    /// On a connection that was used before.
    pub reused: bool,
}

/// Collected while a request runs. Cells, because both directions of a request write here.
#[derive(Debug)]
pub struct Record {
    started: Nanos,
    pub end: Cell<End>,
    pub reason: Cell<Option<Reason>>,
    /// 0 while no response has begun.
    pub status: Cell<u16>,
    pub request_bytes: Cell<u64>,
    /// A body that was streamed has been sent to its end.
    pub upload_complete: Cell<bool>,
    /// Everything sent to the client for this request: heads, coding and body.
    pub response_bytes: Cell<u64>,
    /// Payload of the response that was sent or was about to be.
    pub response_body_bytes: Cell<u64>,
    pub backend: Cell<Option<BackendId>>,
    pub reused: Cell<bool>,
    /// What the cache did; empty: there was none.
    pub cache: Cell<&'static str>,
    pub retries: Cell<u32>,
    /// Attempts without an answer for the client; empty, and not allocated, for nearly all requests.
    attempted: RefCell<Vec<Attempted>>,
    /// Somebody wants to know when the first byte came.
    pub timed: Cell<bool>,
    /// Since the start, if it happened.
    pub connect_ns: Cell<Option<Nanos>>,
    pub first_byte_ns: Cell<Option<Nanos>>,
}

impl Record {
    /// A request that has just come. A look at the clock costs as much as a filter, so one that was taken counts.
    pub fn start(io: &impl Io, job: Option<&Job>) -> Self {
        let found = job.and_then(|job| job.found.as_deref());
        Record {
            started: found
                .and_then(|found| found.started)
                .unwrap_or_else(|| io.now()),
            end: Cell::new(End::Served),
            reason: Cell::new(None),
            status: Cell::new(0),
            request_bytes: Cell::new(0),
            upload_complete: Cell::new(false),
            response_bytes: Cell::new(0),
            response_body_bytes: Cell::new(0),
            backend: Cell::new(None),
            reused: Cell::new(false),
            cache: Cell::new(""),
            retries: Cell::new(0),
            attempted: RefCell::default(),
            timed: Cell::new(false),
            connect_ns: Cell::new(None),
            first_byte_ns: Cell::new(None),
        }
    }

    pub fn since_start(&self, io: &impl Io) -> Nanos {
        io.now().saturating_sub(self.started)
    }

    /// Our own answer goes out, for this reason.
    pub fn refused(&self, reason: Reason, status: u16) {
        self.end.set(End::Refused);
        self.reason.set(Some(reason));
        self.status.set(status);
    }

    /// A good answer of our own goes out.
    pub fn answered(&self, status: u16) {
        self.end.set(End::Answered);
        self.status.set(status);
    }

    /// The client went away: there is nobody left to answer.
    pub fn client_gone(&self) {
        self.end.set(End::ClientGone);
        self.reason.set(Some(Reason::ClientAbort));
    }

    pub fn sent(&self, bytes: u64) {
        self.response_bytes.set(self.response_bytes.get() + bytes);
    }

    pub fn body(&self, payload: u64) {
        self.response_body_bytes
            .set(self.response_body_bytes.get() + payload);
    }

    pub fn attempted(&self, attempt: Attempted) {
        self.attempted.borrow_mut().push(attempt);
    }

    /// Counts the request and writes its access line.
    pub fn finish<I: Io>(&self, shard: &Shard<I>, peer: &Peer, job: Option<Job>) {
        let duration_ns = self.since_start(&shard.io);
        let metrics = &shard.metrics;
        if self.status.get() == 0 {
            self.status.set(Reason::ClientAbort.status());
        }
        metrics.add(Counter::of_status(self.status.get()), 1);
        metrics.observe(duration_ns);
        metrics.add(Counter::ClientSentBytes, self.response_bytes.get());
        if let Some(reason) = self.reason.get()
            && self.end.get() != End::Refused
        {
            metrics.reject(reason);
        }
        if shard.is_logging() {
            self.log(shard, peer, job.as_ref(), duration_ns);
        }
        let Some(job) = job else { return };
        if let Some(note) = job.note {
            shard.give_note(note);
        }
        if let Some(found) = job.found {
            shard.give_found(found);
        }
        if let Some(caching) = job.cache {
            shard.give_caching(caching);
        }
    }

    fn log<I: Io>(&self, shard: &Shard<I>, peer: &Peer, job: Option<&Job>, duration_ns: Nanos) {
        let none = Note::default();
        let note = job.and_then(|job| job.note.as_deref()).unwrap_or(&none);
        let ip_text;
        let client = match job {
            Some(job) if job.client_ip != peer.ip => {
                ip_text = job.client_ip.to_string();
                &*ip_text
            }
            Some(_) | None => &*peer.ip_text,
        };
        let found = job.and_then(|job| job.found.as_deref());
        let plan = &*shard.plan;
        let reason = self.reason.get();
        let attempted = self.attempted.borrow();
        let attempts: Vec<AttemptLine<'_>> = attempted
            .iter()
            .map(|attempt| AttemptLine {
                backend: &plan.backends[attempt.backend.0 as usize].authority,
                cause: attempt.cause.name(),
                status: match attempt.cause {
                    Cause::Status(status) => status,
                    Cause::Connect | Cause::Closed | Cause::Timeout | Cause::Invalid => 0,
                },
                progress: attempt.progress.name(),
                reused: attempt.reused,
            })
            .collect();
        let line = AccessLine {
            unix_ms: shard.unix_ms_at(self.started),
            client,
            method: &note.method,
            path: &note.path,
            query: &note.query,
            version: job.map_or(Version::Http11, |job| job.version),
            status: self.status.get(),
            request_body_bytes: self.request_bytes.get(),
            response_body_bytes: self.response_body_bytes.get(),
            host: &note.host,
            user_agent: &note.user_agent,
            referer: &note.referer,
            duration_ns,
            connect_ns: self.connect_ns.get(),
            first_byte_ns: self.first_byte_ns.get(),
            backend: self
                .backend
                .get()
                .map_or("", |id| &*plan.backends[id.0 as usize].authority),
            backend_reused: self.reused.get(),
            retries: self.retries.get(),
            attempts: &attempts,
            route: job
                .and_then(|job| job.route)
                .map_or("", |id| &*plan.routes[id.0 as usize].name),
            shard: u16::try_from(shard.number).unwrap_or(u16::MAX),
            reason: reason.map_or("", Reason::label),
            error_type: reason.map_or("", Reason::error_type),
            end: self.end.get().label(),
            user: found.map_or("", |found| &found.user),
            request_id: found.map_or("", |found| &found.request_id),
            trace_id: found.map_or("", |found| &found.trace_id),
            cache: self.cache.get(),
            limit: found
                .and_then(|found| found.limit)
                .map_or("", |id| &*plan.rate_limits[id.0 as usize].name),
        };
        let mut clock = shard.clock.borrow_mut();
        shard.log_line(|out| log::write_line(out, &line, plan.log.format, &mut clock));
    }
}

/// What the access log wants of a request's head, copied while the head is at hand. Used again and again, so
/// that it allocates only while it grows.
#[derive(Debug, Default)]
pub struct Note {
    method: String,
    path: String,
    query: String,
    host: String,
    user_agent: Vec<u8>,
    referer: Vec<u8>,
}

impl Note {
    pub fn take_down(&mut self, request: &Request<'_, '_>) {
        for (field, text) in [
            (&mut self.method, request.method_text),
            (&mut self.path, request.path),
            (&mut self.query, request.query),
            (&mut self.host, request.host),
        ] {
            field.clear();
            field.push_str(text);
        }
        for (field, name) in [
            (&mut self.user_agent, "user-agent"),
            (&mut self.referer, "referer"),
        ] {
            field.clear();
            let found = request
                .headers
                .iter()
                .find(|h| h.name.eq_ignore_ascii_case(name));
            field.extend_from_slice(found.map_or(&[][..], |h| h.value));
        }
    }
}
