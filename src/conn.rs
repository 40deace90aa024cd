//! One client connection, first byte to last.
//!
//! Decides: when a request begins, what is refused without a backend, what happens after a response. May not
//! know: how a backend is spoken to (`attempt.rs`), how bytes are moved (`relay.rs`). Invariant: bytes of the
//! next request stay in `input`; an idle connection holds no buffer longer than `WARM_NS`.
//!
//! States: Idle (no buffer) → Warm (a read is pending) → Head → Decide → Exchange → Finish → Warm, Idle, Linger
//! or closed.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::attempt;
use crate::buf::Buf;
use crate::cache::consult::Serving;
use crate::config::plan::Nanos;
use crate::decide::{Decided, Job, Way, decide};
use crate::h1::head::Scan;
use crate::h1::reuse::Next;
use crate::io::{Io, Stream};
use crate::metrics::{Counter, Reason};
use crate::record::Record;
use crate::shard::{BUF_BYTES, Open, Peer, Shard, WARM_MAX};
use crate::timer::{Elapsed, NEVER, Timer};
use crate::visit::Buffered;

/// How long a connection waits for its next request with a buffer in hand. A busy client sends the next one
/// at once; longer silence is worth a second operation.
const WARM_NS: Nanos = 1_000_000_000;

/// Longest time and most bytes that a refused client may still send before the connection is closed: closing
/// with unread bytes would reset the connection and could destroy the response on its way.
const LINGER_NS: Nanos = 2_000_000_000;
const LINGER_BYTES_MAX: usize = 1024 * 1024;

const LINGER_READ_BYTES: usize = 4096;

/// What the connection's task does next.
enum After {
    /// Wait without a buffer, until then.
    Idle(Nanos),
    Closed,
}

/// How the wait for a request ended.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every arrival is a request, and a box would be an allocation for each"
)]
enum Arrival {
    Decided(Decided),
    /// Nothing came; the connection may stay idle until then.
    Idle(Nanos),
    Gone,
}

/// Serves one client connection to its end.
#[expect(
    clippy::manual_async_fn,
    reason = "an async function would hold its arguments twice, in every idle connection"
)]
pub fn serve<I: Io>(
    shard: Rc<Shard<I>>,
    client: I::Stream,
    peer: Peer,
    open: Open<I>,
) -> impl Future<Output = ()> {
    async move {
        let timer = shard.timers.timer();
        let limit = request_limit(shard.plan.connection_requests_max, &shard.timers);
        let mut requests = 0;
        let mut expected = true;
        loop {
            // Boxed, so that a connection without a request costs only this small future.
            let busy = Busy {
                shard: &shard,
                client: &client,
                peer: &peer,
                timer: &timer,
                input: Buf::default(),
                buffered: Buffered::nothing(&shard),
                requests,
                requests_max: limit,
                expected,
            };
            let (after, served) = Box::pin(busy.run()).await;
            requests = served;
            let deadline = match after {
                After::Idle(until) => until,
                After::Closed => break,
            };
            let wait = unless_draining(&shard, Ending::AtOnce, client.readable());
            match timer.at(deadline, wait).await {
                Ok(Some(Ok(()))) => expected = true,
                Ok(Some(Err(_)) | None) | Err(Elapsed) => break,
            }
        }
        drop(open);
    }
}

/// The most requests of one connection, ± 10 %, so that connections opened together do not close together.
fn request_limit(max: u32, timers: &crate::timer::Timers) -> u32 {
    let spread = max / 5;
    if spread == 0 {
        return max;
    }
    // The low digits of the time of accepting are random enough for this.
    max - max / 10 + (timers.now() / 1_000 % u64::from(spread)) as u32
}

/// Whether a drain ends a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    AtOnce,
    /// A connection that was taken and has not been served: its request is on its way.
    InItsTime,
}

pin_project_lite::pin_project! {
    /// The future's result, or `None` as soon as the shard drains. Written out, because an async function would
    /// hold the future twice.
    pub struct UnlessDraining<'s, I: Io, F> {
        shard: &'s Shard<I>,
        ending: Ending,
        #[pin]
        future: F,
    }
}

pub fn unless_draining<I: Io, F: Future>(
    shard: &Shard<I>,
    ending: Ending,
    future: F,
) -> UnlessDraining<'_, I, F> {
    UnlessDraining {
        shard,
        ending,
        future,
    }
}

impl<I: Io, F: Future> Future for UnlessDraining<'_, I, F> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        match this.future.poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if *this.ending == Ending::AtOnce && this.shard.is_draining() => {
                Poll::Ready(None)
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

/// A connection with a buffer: while requests come one after the other.
pub struct Busy<'c, I: Io> {
    pub shard: &'c Rc<Shard<I>>,
    pub client: &'c I::Stream,
    pub peer: &'c Peer,
    pub timer: &'c Timer,
    /// Bytes of the client: the request's head (until it is finished), its body, the next requests.
    pub input: Buf,
    /// What the body in `input` takes of the shard's memory.
    pub buffered: Buffered<'c, I>,
    requests: u32,
    requests_max: u32,
    /// Bytes of the client are likely to be there: a new connection, or one that was idle and has become readable.
    expected: bool,
}

impl<I: Io> Busy<'_, I> {
    async fn run(mut self) -> (After, u32) {
        self.input = self.shard.buf();
        let after = loop {
            // Pinned where they stand: awaiting them otherwise moves them first, 2 KiB and more.
            let arrival = pin!(self.arrival()).await;
            let next = match arrival {
                Arrival::Decided(Decided::Forward(job, way, head)) => {
                    pin!(self.forward(job, way, head)).await
                }
                Arrival::Decided(Decided::Refuse(reason, job)) => self.refused(reason, job).await,
                Arrival::Decided(Decided::Serve(job, serving)) => {
                    pin!(self.served(job, serving)).await
                }
                // Boxed: rare.
                Arrival::Decided(decided) => Box::pin(self.otherwise(decided)).await,
                Arrival::Idle(until) => break After::Idle(until),
                Arrival::Gone => break After::Closed,
            };
            match next {
                Next::KeepAlive => {}
                Next::Linger => {
                    self.linger().await;
                    break After::Closed;
                }
                Next::Close => break After::Closed,
            }
        };
        self.shard.give(std::mem::take(&mut self.input));
        (after, self.requests)
    }

    /// Reads until a whole head has come and been decided upon.
    async fn arrival(&mut self) -> Arrival {
        let mut scan = Scan::new();
        let mut deadline = NEVER;
        if std::mem::take(&mut self.expected)
            && let Some(gone) = self.first_read()
        {
            return gone;
        }
        let mut first = true;
        loop {
            if !self.input.is_empty() {
                if deadline == NEVER {
                    deadline = self.shard.timers.after(self.shard.plan.client_header_ns);
                }
                let full = self.input.len() > self.shard.plan.limits.header_bytes;
                if first || full || scan.might_be_complete(self.input.pending()) {
                    first = false;
                    match self.decide() {
                        Decided::More => {}
                        decided => return Arrival::Decided(decided),
                    }
                }
            }
            let read = if deadline == NEVER {
                self.warm_read().await
            } else {
                self.head_read(deadline).await
            };
            if let Some(arrival) = read {
                return arrival;
            }
        }
    }

    fn decide(&mut self) -> Decided {
        let last = self.requests + 1 >= self.requests_max || self.shard.is_draining();
        decide(self.shard, self.peer, self.input.pending(), last)
    }

    /// Reads what is there already, without the ring: nothing has to be waited for. `None`: the connection goes on.
    fn first_read(&mut self) -> Option<Arrival> {
        match self.client.read_now(&mut self.input) {
            Ok(0) => Some(Arrival::Gone),
            Ok(n) => {
                self.received(n);
                None
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(_) => Some(Arrival::Gone),
        }
    }

    pub fn received(&self, bytes: usize) {
        let metrics = &self.shard.metrics;
        metrics.add(Counter::ClientReceivedBytes, bytes as u64);
    }

    /// Waits for the first bytes of a request. `None`: some came.
    async fn warm_read(&mut self) -> Option<Arrival> {
        let shard = self.shard;
        let until = shard.timers.after(shard.plan.keepalive_ns);
        // Those that never asked for anything leave room for those that did.
        let most = match self.requests {
            0 => WARM_MAX / 2,
            _ => WARM_MAX,
        };
        if shard.warm.get() >= most {
            return Some(Arrival::Idle(until));
        }
        shard.warm.set(shard.warm.get() + 1);
        let buf = std::mem::take(&mut self.input);
        let mut read = pin!(self.client.read_cancelable(buf));
        let wait_ns = WARM_NS.min(shard.plan.keepalive_ns);
        // For at most `WARM_NS`: a connection that says nothing must not hold up the drain.
        let ending = if self.requests == 0 {
            Ending::InItsTime
        } else {
            Ending::AtOnce
        };
        let wait = unless_draining(shard, ending, read.as_mut());
        let (done, otherwise) = match self.timer.at(shard.timers.after(wait_ns), wait).await {
            Ok(Some(done)) => (done, Arrival::Gone),
            // The read is ended and awaited: its bytes may have come meanwhile.
            Ok(None) => {
                self.client.cancel_read();
                (read.await, Arrival::Gone)
            }
            Err(Elapsed) => {
                self.client.cancel_read();
                (read.await, Arrival::Idle(until))
            }
        };
        shard.warm.set(shard.warm.get() - 1);
        let (result, buf) = done;
        self.input = buf;
        match result {
            Ok(0) => Some(Arrival::Gone),
            Ok(n) => {
                self.received(n);
                None
            }
            Err(e) if e.raw_os_error() == Some(rustix::io::Errno::CANCELED.raw_os_error()) => {
                Some(otherwise)
            }
            Err(_) => Some(Arrival::Gone),
        }
    }

    /// Reads more of a head that has begun. `None`: some came.
    async fn head_read(&mut self, deadline: Nanos) -> Option<Arrival> {
        // One byte beyond the limit lets the parser see that the head is too long.
        let most = self.shard.plan.limits.header_bytes + 1;
        if self.input.len() < most && self.input.spare() == 0 {
            let more = self.input.len().min(most - self.input.len());
            self.input.reserve(more);
        }
        let buf = std::mem::take(&mut self.input);
        match self.timer.at(deadline, self.client.read(buf)).await {
            Err(Elapsed) => Some(Arrival::Decided(Decided::Refuse(
                Reason::HeaderTimeout,
                None,
            ))),
            Ok((result, buf)) => {
                self.input = buf;
                match result {
                    Ok(0) | Err(_) => Some(Arrival::Gone),
                    Ok(n) => {
                        self.received(n);
                        None
                    }
                }
            }
        }
    }

    async fn forward(&mut self, job: Job, way: Way, head: Buf) -> Next {
        self.requests += 1;
        let record = Record::start(&self.shard.io, Some(&job));
        let next = pin!(attempt::forward(self, &job, way, head, &record)).await;
        self.finish(&record, Some(job));
        next
    }

    async fn refused(&mut self, reason: Reason, job: Option<Job>) -> Next {
        self.requests += 1;
        let record = Record::start(&self.shard.io, job.as_ref());
        let next = self.refuse(reason, job.as_ref(), &record).await;
        self.finish(&record, job);
        next
    }

    async fn served(&mut self, job: Job, serving: Serving) -> Next {
        self.requests += 1;
        let record = Record::start(&self.shard.io, Some(&job));
        let next = pin!(self.serve(&job, serving, &record)).await;
        self.finish(&record, Some(job));
        next
    }

    /// A request that the proxy answers by itself, or that has to wait first.
    async fn otherwise(&mut self, mut decided: Decided) -> Next {
        self.requests += 1;
        let record = Record::start(&self.shard.io, None);
        while let Decided::Pause(job, pause) = decided {
            decided = self.pause(job, pause, &record).await;
        }
        let (job, next) = match decided {
            Decided::Forward(job, way, head) => {
                let next = attempt::forward(self, &job, way, head, &record).await;
                (Some(job), next)
            }
            Decided::Refuse(reason, job) => {
                let next = self.refuse(reason, job.as_ref(), &record).await;
                (job, next)
            }
            Decided::Serve(job, serving) => {
                let next = self.serve(&job, serving, &record).await;
                (Some(job), next)
            }
            Decided::Answer(job, reply) => {
                let next = self.answer(&job, &reply, &record).await;
                (Some(job), next)
            }
            Decided::Pause(..) | Decided::More => unreachable!("a whole head, decided upon"),
        };
        self.finish(&record, job);
        next
    }

    fn finish(&mut self, record: &Record, job: Option<Job>) {
        record.finish(self.shard, self.peer, job);
        self.buffered = Buffered::nothing(self.shard);
        if self.input.is_empty() && self.input.capacity() != BUF_BYTES {
            // A body took it along, or made it large.
            let buf = std::mem::replace(&mut self.input, self.shard.buf());
            self.shard.give(buf);
        }
    }

    /// Reads and forgets what the client still sends, so that it gets to see the response.
    async fn linger(&mut self) {
        self.client.shutdown_write();
        let deadline = self.shard.timers.after(LINGER_NS);
        let mut left = LINGER_BYTES_MAX;
        let mut buf = std::mem::take(&mut self.input);
        buf.clear();
        buf.reserve(LINGER_READ_BYTES);
        loop {
            buf.clear();
            match self.timer.at(deadline, self.client.read(buf)).await {
                Ok((Ok(n), back)) if n > 0 && n < left => {
                    left -= n;
                    buf = back;
                }
                Ok((Ok(_) | Err(_), back)) => {
                    self.input = back;
                    return;
                }
                Err(Elapsed) => return,
            }
        }
    }
}
