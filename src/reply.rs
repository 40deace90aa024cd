//! Responses of our own on their way to the client.
//!
//! Decides: what stands in them, and whether the connection lives on after them. May not know: why a request is refused,
//! beyond its reason. Invariant: a response of ours is complete, and says the same to every client that asks the same.

use crate::buf::Buf;
use crate::config::plan::Nanos;
use crate::conn::Busy;
use crate::decide::{Job, Reply};
use crate::edits::{self, ToClient};
use crate::h1::answer::{self, Answer, line};
use crate::h1::reuse::Next;
use crate::h1::{Method, Version};
use crate::io::Io;
use crate::metrics::Reason;
use crate::policy::rewrite;
use crate::record::{End, Record};
use crate::relay::{self, Patience};
use crate::shard::Shard;
use crate::timer::NEVER;

/// Longest stall of a client that does not take its refusal.
const WRITE_NS: Nanos = 5_000_000_000;

/// What is allowed where a method is refused whatever the route.
const ALLOWED: &str = "GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH";

impl<I: Io> Busy<'_, I> {
    /// Refuses a request.
    pub async fn refuse(&mut self, reason: Reason, job: Option<&Job>, record: &Record) -> Next {
        if reason == Reason::ClientAbort {
            record.client_gone();
            return Next::Close;
        }
        let status = edits::status(reason, job);
        record.refused(reason, status);
        self.shard.metrics.reject(reason);
        let (mut body, mut fields) = (self.shard.buf(), self.shard.buf());
        let content_type = refusal_body(self.shard, status, reason, job, &mut body);
        let edits = job.and_then(|job| ToClient::of(&self.shard.plan, job, ""));
        // What the route sets takes the place of ours.
        if !edits.is_some_and(|edits| edits.drops("cache-control")) {
            line(fields.append(), "Cache-Control", "no-store");
        }
        refusal_fields(status, reason, job, &mut fields);
        let next = self
            .send(status, content_type, &body, fields, job, record)
            .await;
        self.shard.give(body);
        next
    }

    /// Gives an answer that the route, a filter or the auth server has made.
    pub async fn answer(&mut self, job: &Job, reply: &Reply, record: &Record) -> Next {
        match reply.reason {
            Some(reason) => {
                record.refused(reason, reply.status);
                self.shard.metrics.reject(reason);
            }
            None => record.answered(reply.status),
        }
        let mut body = self.shard.buf();
        body.append().extend_from_slice(&reply.body);
        let fields = self.shard.buf();
        let next = self
            .send(
                reply.status,
                &reply.content_type,
                &body,
                fields,
                Some(job),
                record,
            )
            .await;
        self.shard.give(body);
        next
    }

    /// Sends it. The connection lives on only if the request has been read to its end.
    async fn send(
        &mut self,
        status: u16,
        content_type: &str,
        body: &Buf,
        mut fields: Buf,
        job: Option<&Job>,
        record: &Record,
    ) -> Next {
        if let Some(job) = job {
            edits::own_fields(self.shard, job, fields.append());
        }
        let stays = !self.shard.is_draining();
        let keep = stays && job.is_some_and(|job| job.keep_alive && job.held.is_some());
        let mut out = self.shard.buf();
        let head_len = answer::write(
            out.append(),
            &Answer {
                status,
                content_type,
                body: body.pending(),
                fields: fields.pending(),
                head_request: job.is_some_and(|job| job.method == Method::Head),
                keep_alive: keep,
                version: job.map_or(Version::Http11, |job| job.version),
                date: &self.shard.date(),
            },
        );
        self.shard.give(fields);
        let bytes = out.len();
        let patience = Patience {
            read_ns: 0,
            write_ns: WRITE_NS,
            until: NEVER,
        };
        let timers = &self.shard.timers;
        let (sent, out) = relay::send(self.client, out, bytes, self.timer, timers, &patience).await;
        self.shard.give(out);
        if sent.is_err() {
            record.end.set(End::ClientGone);
            return Next::Close;
        }
        record.sent(bytes as u64);
        record.body((bytes - head_len) as u64);
        match job {
            Some(job) if keep => {
                self.input.consume(job.whole_len());
                Next::KeepAlive
            }
            Some(_) | None => Next::Linger,
        }
    }
}

/// The route's own page for the status, or the plain one.
fn refusal_body<'p, I: Io>(
    shard: &'p Shard<I>,
    status: u16,
    reason: Reason,
    job: Option<&Job>,
    out: &mut Buf,
) -> &'p str {
    let route = job.and_then(|job| job.route);
    let plan = &shard.plan;
    let pages = route.map_or(&plan.error_pages, |route| {
        &plan.routes[route.0 as usize].error_pages
    });
    match rewrite::page(pages, status) {
        Some(page) => {
            edits::render(shard, job, &page.body, status, reason.label(), out.append());
            &page.content_type
        }
        None => {
            let json = job.is_some_and(|job| job.json);
            answer::refusal_body(out.append(), status, reason.label(), json)
        }
    }
}

/// What a refusal says beside its body.
fn refusal_fields(status: u16, reason: Reason, job: Option<&Job>, out: &mut Buf) {
    let out = out.append();
    if status == 405 {
        let allow = job.and_then(|job| job.allow.as_deref()).unwrap_or(ALLOWED);
        line(out, "Allow", allow);
    }
    let seconds = match (reason, job) {
        (Reason::NoBackend, Some(job)) => job.retry_after_s.max(1),
        (
            Reason::QueueFull
            | Reason::QueueTimeout
            | Reason::RequestsMax
            | Reason::RequestsPerIp
            | Reason::RateLimitFull
            | Reason::AccessBusy
            | Reason::Overload,
            _,
        ) => 1,
        (_, _) => return,
    };
    line(out, "Retry-After", itoa::Buffer::new().format(seconds));
}
