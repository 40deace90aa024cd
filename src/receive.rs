//! The response's way to the client.
//!
//! Decides: what of a backend's bytes is the response, and in which form the client gets it. May not know:
//! how the request was sent, what happens to the connections afterwards. Invariant: a response that was cut
//! never looks complete: its last chunk or byte is sent only when it came.

mod body;
mod cache;

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::pin::pin;

use crate::buf::Buf;
use crate::cache::caching::Caching;
use crate::cache::lead::Judged;
use crate::config::plan::{Nanos, Timeouts};
use crate::decide::Job;
use crate::encode::{Encoding, treat};
use crate::h1::forward::{self, Edit, Reply};
use crate::h1::head::{Scan, Slots, parse_response};
use crate::h1::{Framing, Method, Reject, Version};
use crate::io::{Io, Stream};
use crate::metrics::Reason;
use crate::record::Record;
use crate::relay::{self, Cut, Patience, WATCH_NS};
use crate::shard::Shard;
use crate::throttle::Throttle;
use crate::timer::{Elapsed, NEVER, Timer};
use crate::wait::{Race, closed, race, would_block};

/// Interim responses (1xx) before the final one. More is a backend gone wrong.
const INTERIMS_MAX: u32 = 16;

pub struct Receive<'r, I: Io> {
    pub shard: &'r Shard<I>,
    pub client: &'r I::Stream,
    pub backend: &'r I::Stream,
    pub timer: &'r Timer,
    /// A response with this status is to be withheld from the client, because the request is tried again.
    pub withhold: &'r dyn Fn(u16) -> bool,
    /// A Set-Cookie field of ours.
    pub cookie: Option<Box<str>>,
    pub job: &'r Job,
    pub record: &'r Record,
    pub timeouts: &'r Timeouts,
    pub patience: Patience,
    pub throttle: Throttle,
    /// The request is sent, so the first byte is due.
    pub sent: Cell<bool>,
    /// Set when a response has begun.
    pub answering: Cell<bool>,
    /// When the wait that is going on is over; `attempt` sets it when the request has been sent meanwhile.
    pub due: Cell<Nanos>,
    /// When waiting for the response to a request that will never be sent to its end is over; or for the first byte, if
    /// that wait has begun before.
    pub early: Cell<Nanos>,
}

/// How the response half ended.
pub enum Received {
    Complete {
        client_keep_alive: bool,
        backend_keep_alive: bool,
        /// The backend sent more than its response.
        leftover: bool,
    },
    /// 101: both sides speak another protocol now. `inbound` holds its first bytes from the backend.
    Upgraded {
        inbound: Buf,
    },
    /// Not a byte came.
    Silent(Reason),
    /// A final head came, whose status has the request tried again. Its connection is not used any more.
    Withheld(u16),
    /// A final head came that changes what is stored: the client gets its response from there.
    Kept(Kept),
    /// What came is no response; the client has seen nothing of it.
    Failed(Reason),
    ClientGone,
    ClientStalled,
    /// The backend ended within the response, of which the client has seen a part.
    Truncated(Reason),
}

/// What a final head says.
pub(crate) struct Final<'s> {
    head_len: usize,
    status: u16,
    pub(crate) framing: Framing,
    reply_framing: Framing,
    drops_trailers: bool,
    pub(crate) client_keep_alive: bool,
    backend_keep_alive: bool,
    /// The body goes through an encoder.
    pub(crate) encoding: Option<Box<Encoding<'s>>>,
}

/// What came with a head that changes what is stored.
pub struct Kept {
    pub judged: Judged,
    pub status: u16,
    pub framing: Framing,
    pub backend_keep_alive: bool,
    pub inbound: Buf,
}

enum Digest<'s> {
    More,
    /// The status has the request tried again.
    Withheld(u16),
    /// The head was this long.
    Kept(Kept, usize),
    /// An interim response is rendered; the head was this long.
    Interim(usize),
    Final(Final<'s>),
}

impl<I: Io> Receive<'_, I> {
    pub async fn run(&self) -> Received {
        let mut inbound = self.shard.buf();
        let mut out = self.shard.buf();
        let received = match self.head(&mut inbound, &mut out).await {
            Err(Received::Kept(kept)) => Received::Kept(Kept {
                inbound: std::mem::take(&mut inbound),
                ..kept
            }),
            Err(received) => received,
            Ok(head) if head.status == 101 => match self.send(&mut out).await {
                Err(received) => received,
                Ok(()) => Received::Upgraded {
                    inbound: std::mem::take(&mut inbound),
                },
            },
            Ok(mut head) => {
                let delivered = match head.encoding.take() {
                    None => self.body(&head, &mut inbound, &mut out).await,
                    // Boxed: it would make every response larger.
                    Some(mut encoding) => {
                        let encoded = self.encoded(&head, &mut encoding, &mut inbound, &mut out);
                        Box::pin(encoded).await
                    }
                };
                match delivered {
                    Err(received) => received,
                    Ok(()) => Received::Complete {
                        client_keep_alive: head.client_keep_alive,
                        backend_keep_alive: head.backend_keep_alive,
                        leftover: !inbound.is_empty(),
                    },
                }
            }
        };
        self.shard.give(inbound);
        self.shard.give(out);
        received
    }

    /// Reads until the final head is complete; it is rendered into `out` and consumed from `inbound`.
    async fn head(&self, inbound: &mut Buf, out: &mut Buf) -> Result<Final<'_>, Received> {
        let mut interims = 0;
        let limit = self.shard.plan.limits.header_bytes;
        let mut scan = Scan::new();
        let mut first = true;
        loop {
            let full = inbound.len() > limit;
            if !inbound.is_empty() && (first || full || scan.might_be_complete(inbound.pending())) {
                first = false;
                match self.digest(inbound.pending(), out, interims == 0) {
                    Err(reason) => return Err(Received::Failed(reason)),
                    Ok(Digest::Withheld(status)) => return Err(Received::Withheld(status)),
                    Ok(Digest::Kept(kept, head_len)) => {
                        inbound.consume(head_len);
                        return Err(Received::Kept(kept));
                    }
                    Ok(Digest::Interim(head_len)) => {
                        inbound.consume(head_len);
                        (scan, first) = (Scan::new(), true);
                        interims += 1;
                        if interims > INTERIMS_MAX {
                            return Err(Received::Failed(Reason::BadResponse(Reject::BadStatus)));
                        }
                        // Within an interim response nothing else may be said to the client, and the
                        // deadline is that of its write.
                        self.answering.set(!out.is_empty());
                        if self.leads() {
                            self.hint(out);
                        }
                        self.send(out).await?;
                        self.answering.set(false);
                        continue;
                    }
                    Ok(Digest::Final(head)) => {
                        inbound.consume(head.head_len);
                        self.record.status.set(head.status);
                        self.answering.set(true);
                        return Ok(head);
                    }
                    Ok(Digest::More) => {}
                }
            }
            if inbound.spare() == 0 {
                // One byte beyond the limit lets the parser see that the head is too long.
                inbound.reserve(
                    inbound
                        .len()
                        .min((limit + 1).saturating_sub(inbound.len()))
                        .max(1),
                );
            }
            self.read_head(inbound, interims == 0).await?;
        }
    }

    /// Sends an interim response to the client of a request that fetches for others: at once or not at all, for they
    /// do not wait for it. What the kernel took a part of is sent whole.
    fn hint(&self, out: &mut Buf) {
        let sent = self.client.push([out.pending(), &[]], false);
        self.record.sent(sent as u64);
        match sent {
            0 => out.clear(),
            sent => out.consume(sent),
        }
    }

    /// `untouched`: no interim response has come.
    async fn read_head(&self, inbound: &mut Buf, untouched: bool) -> Result<(), Received> {
        let begun = !inbound.is_empty();
        let silent = untouched && !begun;
        let nothing = |reason| match silent {
            true => Received::Silent(reason),
            false => Received::Failed(reason),
        };
        let (wait_ns, late) = if begun {
            (self.timeouts.backend_idle_ns, Reason::BackendIdleTimeout)
        } else {
            (self.timeouts.first_byte_ns, Reason::FirstByteTimeout)
        };
        let due = self.shard.timers.after(wait_ns).min(self.patience.until);
        // While the request is still on its way, `attempt` sets the deadline of a response that has not begun.
        let deadline = if silent && self.sent.get() {
            due.min(self.early.get())
        } else if begun || self.sent.get() {
            due
        } else {
            self.early.get().min(self.patience.until)
        };
        match self.read(inbound, deadline).await {
            Err(Waited::Late) => Err(nothing(late)),
            Err(Waited::ClientGone) => Err(Received::ClientGone),
            Ok(Ok(n)) if n > 0 => {
                if silent && self.record.timed.get() {
                    let since = self.record.since_start(&self.shard.io);
                    self.record.first_byte_ns.set(Some(since));
                }
                Ok(())
            }
            Ok(Ok(_) | Err(_)) => Err(nothing(Reason::BackendClosed)),
        }
    }

    /// Parses what has come of a head and renders it for the client. `untouched`: no interim response has come.
    fn digest(&self, bytes: &[u8], out: &mut Buf, untouched: bool) -> Result<Digest<'_>, Reason> {
        let mut slots = Slots::new();
        let job = self.job;
        let parsed = parse_response(bytes, &self.shard.plan.limits, job.method, &mut slots)
            .map_err(Reason::BadResponse)?;
        let Some(response) = parsed else {
            return Ok(Digest::More);
        };
        let via = &*self.shard.plan.forwarding.via;
        if response.status < 200 && response.status != 101 {
            // RFC 9110 section 15.2: not to a client of HTTP/1.0.
            if job.version == Version::Http11 {
                forward::interim(out.append(), &response, via);
            }
            return Ok(Digest::Interim(response.head_len));
        }
        // A switch that nobody asked for would hand the connection to the backend's protocol.
        if response.status == 101 && (!job.upgrade || response.upgrade.is_none()) {
            return Err(Reason::UpgradeRefused);
        }
        if response.status >= 400 && untouched && (self.withhold)(response.status) {
            return Ok(Digest::Withheld(response.status));
        }
        let mut lines = Vec::new();
        if let Some(caching) = job.cache.as_deref()
            && let Some(judged) = self.cache(caching, &response, &mut lines)
        {
            let kept = Kept {
                judged,
                status: response.status,
                framing: response.framing,
                backend_keep_alive: response.keep_alive,
                inbound: Buf::default(),
            };
            return Ok(Digest::Kept(kept, response.head_len));
        }
        // With the request still on its way, its rest would be taken for the next one (RFC 9112 section 9.6).
        let keep_alive = job.keep_alive && self.sent.get() && !self.shard.is_draining();
        let treated = treat(self.shard, job, self.authority(), &response);
        let reply_framing = forward::reply_framing(response.framing, job.version, keep_alive);
        let reply_framing = treated.framing(reply_framing);
        let drops = |name: &str| treated.drops(name);
        let write = |out: &mut Vec<u8>| treated.write(&response, out);
        let keep_alive = keep_alive && reply_framing != Framing::UntilClose;
        let date = self.shard.date();
        let reply = Reply {
            client_version: job.version,
            keep_alive,
            framing: reply_framing,
            head_request: job.method == Method::Head,
            via,
            date: &date,
            set_cookie: self.cookie.as_deref(),
            lines: &lines,
            edit: treated.is_edited().then_some(Edit {
                drops: &drops,
                write: &write,
            }),
        };
        forward::response(out.append(), &response, &reply);
        if let (Some(seconds @ 1..), Some(backend)) =
            (response.keep_alive_s, self.record.backend.get())
        {
            let idle_ns = u64::from(seconds) * 1_000_000_000;
            self.shard.shared.backends.learn_idle(backend, idle_ns);
        }
        Ok(Digest::Final(Final {
            head_len: response.head_len,
            status: response.status,
            framing: response.framing,
            reply_framing,
            drops_trailers: response.nominates || treated.is_edited() && job.drops_trailers,
            client_keep_alive: keep_alive,
            backend_keep_alive: response.keep_alive,
            encoding: treated.encoding,
        }))
    }

    /// One read from the backend. After some silence the client is watched too, once nobody else reads from it.
    async fn read(
        &self,
        inbound: &mut Buf,
        mut deadline: Nanos,
    ) -> Result<io::Result<usize>, Waited> {
        loop {
            let buf = std::mem::take(inbound);
            let mut read = pin!(self.backend.read(buf));
            self.due.set(deadline);
            let first = if self.sent.get() && !self.leads() {
                deadline.min(self.shard.timers.after(WATCH_NS))
            } else {
                deadline
            };
            let (result, buf) = match self.timer.at(first, read.as_mut()).await {
                Ok(done) => done,
                Err(Elapsed) if self.is_due() => return Err(Waited::Late),
                // Boxed: rare, and it would make every waiting request larger.
                Err(Elapsed) => {
                    let either = Box::pin(race(read, closed(self.client)));
                    match self.timer.at(self.due.get(), either).await {
                        Ok(Race::First(done)) => done,
                        Ok(Race::Second(())) => return Err(Waited::ClientGone),
                        Err(Elapsed) => return Err(Waited::Late),
                    }
                }
            };
            *inbound = buf;
            if !would_block(&result) {
                return Ok(result);
            }
            // The upload is being spliced to this socket.
            let readable = Box::pin(self.backend.readable());
            match self.timer.at(self.due.get(), readable).await {
                Err(Elapsed) if self.is_due() => return Err(Waited::Late),
                // `expect` may have set another deadline meanwhile.
                Ok(_) | Err(Elapsed) => deadline = self.due.get(),
            }
        }
    }

    /// The request fetches for the cache: its client's end does not end it.
    fn leads(&self) -> bool {
        self.job.cache.as_deref().is_some_and(Caching::leads)
    }

    /// Of the backend.
    fn authority(&self) -> &str {
        let backend = self.record.backend.get();
        backend.map_or("", |id| &*self.shard.plan.backends[id.0 as usize].authority)
    }

    fn is_due(&self) -> bool {
        self.shard.timers.now() >= self.due.get()
    }

    /// The request has been sent, or will never be: a response that has not begun is due in `wait_ns`.
    pub fn expect(&self, wait_ns: Nanos) {
        let timers = &self.shard.timers;
        let due = timers.after(wait_ns).min(self.patience.until);
        if !self.sent.get() {
            // For this wait and all that follow: part of a head, or an interim response, is no answer yet.
            self.early.set(due);
        }
        if self.answering.get() {
            return;
        }
        self.due.set(due);
        let glance = if self.sent.get() && !self.leads() {
            timers.after(WATCH_NS)
        } else {
            NEVER
        };
        self.timer.set(due.min(glance));
    }

    pub(crate) fn send<'s>(
        &'s self,
        out: &'s mut Buf,
    ) -> impl Future<Output = Result<(), Received>> + 's {
        let bytes = out.len();
        self.send_from(out, bytes)
    }

    /// Waits as the route's rate wants it. A client that goes away meanwhile is noticed, once nobody else reads from it.
    async fn paced(&self) -> Result<(), Received> {
        let gone = async {
            match self.sent.get() {
                true => closed(self.client).await,
                false => std::future::pending().await,
            }
        };
        let (shard, until) = (self.shard, self.patience.until);
        match self.throttle.wait(shard, until, gone).await {
            true => Ok(()),
            false => Err(Received::ClientGone),
        }
    }

    async fn send_from(&self, from: &mut Buf, bytes: usize) -> Result<(), Received> {
        if self.throttle.is_on() {
            // Boxed: rare.
            Box::pin(self.paced()).await?;
        }
        let buf = std::mem::take(from);
        let timers = &self.shard.timers;
        let (sent, back) =
            relay::send(self.client, buf, bytes, self.timer, timers, &self.patience).await;
        *from = back;
        match sent {
            Ok(()) => {
                self.record.sent(bytes as u64);
                self.throttle.count(bytes as u64);
                Ok(())
            }
            Err(Cut::ToStalled) => Err(Received::ClientStalled),
            Err(Cut::To | Cut::From | Cut::FromStalled | Cut::Unable) => Err(Received::ClientGone),
        }
    }
}

/// Why a wait for the backend ended without it.
enum Waited {
    Late,
    ClientGone,
}
