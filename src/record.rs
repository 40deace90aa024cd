//! What is known about one request when it is over.
//!
//! Decides: nothing but how a request is counted and logged. May not know: sockets. Invariant: every request
//! is finished exactly once, whatever its end.

use std::cell::Cell;

use crate::buf::Buf;
use crate::config::plan::Nanos;
use crate::h1::head::Request;
use crate::h1::Version;
use crate::decide::Job;
use crate::io::Io;
use crate::log::{self, AccessLine};
use crate::metrics::{Counter, Reason};
use crate::policy::{BackendId, RouteId};
use crate::shard::{Peer, Shard};

/// Every way in which a request can end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Response complete.
    Served,
    /// Our own answer.
    Refused,
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
            End::ClientGone => "client_gone",
            End::ClientStalled => "client_stalled",
            End::BackendCut => "backend_cut",
            End::Tunnel => "tunnel",
        }
    }
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
    pub response_bytes: Cell<u64>,
    pub route: Cell<Option<RouteId>>,
    pub backend: Cell<Option<BackendId>>,
    pub reused: Cell<bool>,
    pub retries: Cell<u32>,
    /// Since the start; 0 if it never happened.
    pub connect_ns: Cell<Nanos>,
    pub first_byte_ns: Cell<Nanos>,
}

impl Record {
    pub fn start(io: &impl Io) -> Self {
        Record {
            started: io.now(),
            end: Cell::new(End::Served),
            reason: Cell::new(None),
            status: Cell::new(0),
            request_bytes: Cell::new(0),
            upload_complete: Cell::new(false),
            response_bytes: Cell::new(0),
            route: Cell::new(None),
            backend: Cell::new(None),
            reused: Cell::new(false),
            retries: Cell::new(0),
            connect_ns: Cell::new(0),
            first_byte_ns: Cell::new(0),
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

    /// The client went away: there is nobody left to answer.
    pub fn client_gone(&self) {
        self.end.set(End::ClientGone);
        self.reason.set(Some(Reason::ClientAbort));
    }

    pub fn sent(&self, bytes: u64) {
        self.response_bytes.set(self.response_bytes.get() + bytes);
    }

    /// Counts the request and writes its access line.
    pub fn finish<I: Io>(&self, shard: &Shard<I>, peer: &Peer, job: Option<Job>) {
        let duration_ns = self.since_start(&shard.io);
        let metrics = &shard.metrics;
        if self.status.get() == 0 {
            self.status.set(Reason::ClientAbort.status());
        }
        metrics.request(self.status.get(), duration_ns);
        metrics.add(Counter::ClientSentBytes, self.response_bytes.get());
        if let Some(reason) = self.reason.get()
            && self.end.get() != End::Refused
        {
            metrics.reject(reason);
        }
        if shard.is_logging() {
            self.log(shard, peer, job.as_ref(), duration_ns);
        }
        if let Some(note) = job.and_then(|job| job.note) {
            shard.give(note.text);
        }
    }

    fn log<I: Io>(&self, shard: &Shard<I>, peer: &Peer, job: Option<&Job>, duration_ns: Nanos) {
        let note = job.and_then(|job| job.note.as_ref());
        let text = |field: fn(&Note) -> (u32, u32)| -> &[u8] {
            note.map_or(&[], |note| {
                let (from, to) = field(note);
                &note.text.pending()[from as usize..to as usize]
            })
        };
        let ip_text;
        let client = match job {
            Some(job) if job.client_ip != peer.ip => {
                ip_text = job.client_ip.to_string();
                &*ip_text
            }
            Some(_) | None => &*peer.ip_text,
        };
        let plan = &*shard.plan;
        let line = AccessLine {
            unix_ms: shard.io.unix_ms(),
            client,
            method: text(|note| note.method),
            path: text(|note| note.path),
            query: text(|note| note.query),
            http11: job.is_none_or(|job| job.version == Version::Http11),
            host: text(|note| note.host),
            user_agent: text(|note| note.user_agent),
            referer: text(|note| note.referer),
            status: self.status.get(),
            request_bytes: self.request_bytes.get(),
            response_bytes: self.response_bytes.get(),
            duration_ns,
            connect_ns: self.connect_ns.get(),
            first_byte_ns: self.first_byte_ns.get(),
            backend: self.backend.get().map_or("", |id| &*plan.backends[id.0 as usize].authority),
            reused: self.reused.get(),
            retries: self.retries.get(),
            route: self.route.get().map_or("", |id| &*plan.routes[id.0 as usize].name),
            shard: shard.number,
            reason: self.reason.get().map_or("", Reason::label),
            end: self.end.get().label(),
        };
        let mut clock = shard.clock.borrow_mut();
        shard.log_line(|out| log::write_line(out, &line, plan.log.format, &mut clock));
    }
}

/// What the access log wants of a request's head, copied while the head is at hand.
#[derive(Debug)]
pub struct Note {
    text: Buf,
    method: (u32, u32),
    path: (u32, u32),
    query: (u32, u32),
    host: (u32, u32),
    user_agent: (u32, u32),
    referer: (u32, u32),
}

impl Note {
    pub fn of(mut text: Buf, request: &Request<'_, '_>) -> Self {
        let bytes = text.append();
        let mut add = |value: &[u8]| {
            let from = bytes.len() as u32;
            bytes.extend_from_slice(value);
            (from, bytes.len() as u32)
        };
        let header = |name: &str| {
            let found = request.headers.iter().find(|h| h.name.eq_ignore_ascii_case(name));
            found.map_or(&[][..], |h| h.value)
        };
        let method = add(request.method_text.as_bytes());
        let path = add(request.path.as_bytes());
        let query = add(request.query.as_bytes());
        let host = add(request.host.as_bytes());
        let user_agent = add(header("user-agent"));
        let referer = add(header("referer"));
        Note { text, method, path, query, host, user_agent, referer }
    }
}
