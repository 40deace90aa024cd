//! A shard on a network of memory: what a request costs in our own code.
//!
//! Decides: when an operation ends: at its second poll, as on a ring, with all the bytes that are there. May not know:
//! HTTP, but for the empty line that every scripted request ends in. Invariant: no operation allocates; of what is
//! written only the length and the end are looked at.

use std::cell::Cell;
use std::future::{Future, pending, poll_fn};
use std::io;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use corelane::buf::Buf;
use corelane::cache::bell::Bell;
use corelane::config::plan::Nanos;
use corelane::config::{self, Source};
use corelane::conn;
use corelane::io::{Io, Peek, Stream, Target};
use corelane::log;
use corelane::metrics::{Counter, ShardMetrics};
use corelane::shard::{Peer, Shard};
use corelane::shared::Shared;

/// What a kept-alive client sends again and again, and what it is answered.
pub(crate) struct Exchange {
    pub(crate) name: &'static str,
    pub(crate) request: Vec<u8>,
    pub(crate) response: Vec<u8>,
    /// With an access log, which nobody keeps.
    pub(crate) is_logged: bool,
    /// Further sections of the configuration.
    pub(crate) filters: &'static str,
}

/// The last bytes of a request: of its head, or of its body.
pub(crate) const REQUEST_END: &[u8] = b"\r\n\r\n";

/// The client's connection outlives every measurement.
const PLAN: &str = r#"
backends = ["http://10.0.0.1:80"]
[limits]
connection_requests = 1000000000
"#;

/// Between two looks at the clock.
const LOOK_NS: Nanos = 100;

struct World {
    exchange: Exchange,
    now: Cell<Nanos>,
    /// Requests that the client has yet to begin.
    wanted: Cell<u64>,
    /// Bytes that the client has sent of the present request; all of them while there is none.
    sent: Cell<usize>,
    /// Bytes that the backend has sent of the present response; all of them while there is none.
    answered: Cell<usize>,
    received_bytes: Cell<u64>,
    /// The client is waited for and has nothing more to send.
    quiet: Cell<bool>,
}

#[derive(Clone)]
pub(crate) struct Lean(Rc<World>);

#[derive(Clone, Copy)]
enum Side {
    Client,
    Backend,
}

/// The proxy's end of a connection.
pub(crate) struct End {
    side: Side,
    world: Rc<World>,
}

/// One shard, one client, one backend.
pub(crate) struct Lane {
    world: Rc<World>,
    metrics: Arc<ShardMetrics>,
    serve: Pin<Box<dyn Future<Output = ()>>>,
}

impl Lane {
    pub(crate) fn new(exchange: Exchange) -> Lane {
        let plan = [PLAN, exchange.filters].concat();
        let loaded = config::load(Source::of("lean", &plan));
        let (_, plan) = loaded.unwrap_or_else(|problems| panic!("{problems}"));
        let log = exchange.is_logged.then(|| {
            let (queue, _) = log::start(io::sink()).expect("a thread can be started");
            queue
        });
        let world = Rc::new(World {
            now: Cell::new(1),
            wanted: Cell::new(0),
            sent: Cell::new(exchange.request.len()),
            answered: Cell::new(exchange.response.len()),
            received_bytes: Cell::new(0),
            quiet: Cell::new(false),
            exchange,
        });
        let metrics =
            Arc::new(ShardMetrics::new(plan.backends.len()).with_limits(plan.rate_limits.len()));
        let (shared, _) = Shared::new(
            Arc::new(plan),
            vec![Arc::clone(&metrics)],
            u32::MAX,
            [7; 32],
        );
        let io = Lean(Rc::clone(&world));
        let shard = Shard::new(0, io, Arc::new(shared), log);
        let peer = Peer::new(&shard, IpAddr::from([192, 0, 2, 1]), &Rc::from("8080"));
        let open = shard.open_connection(&peer).expect("there is no other");
        let client = End {
            side: Side::Client,
            world: Rc::clone(&world),
        };
        Lane {
            serve: Box::pin(conn::serve(shard, client, peer, open)),
            world,
            metrics,
        }
    }

    /// Serves `requests` requests, one after the other.
    pub(crate) fn run(&mut self, requests: u64) {
        let before = self.metrics.counter(Counter::Requests2xx);
        self.world.wanted.set(requests);
        self.world.quiet.set(false);
        let mut context = Context::from_waker(Waker::noop());
        while !self.world.quiet.get() {
            let over = self.serve.as_mut().poll(&mut context).is_ready();
            assert!(!over, "the connection lives on");
        }
        let served = self.metrics.counter(Counter::Requests2xx) - before;
        assert_eq!(served, requests);
    }

    /// Bytes that the client has got.
    #[allow(dead_code, reason = "the benchmark takes them on trust")]
    pub(crate) fn received_bytes(&self) -> u64 {
        self.world.received_bytes.get()
    }
}

impl End {
    fn poll_read(&self, buf: &mut Buf) -> Poll<usize> {
        let world = &*self.world;
        let Exchange {
            request, response, ..
        } = &world.exchange;
        match self.side {
            Side::Client => take(request, &world.sent, buf),
            Side::Backend => take(response, &world.answered, buf),
        }
    }

    /// The client has got so many bytes.
    fn count(&self, bytes: usize) {
        let received_bytes = &self.world.received_bytes;
        received_bytes.set(received_bytes.get() + bytes as u64);
    }

    /// Lets the client begin its next request.
    fn begin(&self) {
        let world = &*self.world;
        match self.side {
            Side::Client if world.sent.get() < world.exchange.request.len() => {}
            Side::Client if world.wanted.get() == 0 => world.quiet.set(true),
            Side::Client => {
                world.wanted.set(world.wanted.get() - 1);
                world.sent.set(0);
            }
            Side::Backend => {}
        }
    }
}

async fn second_poll() {
    let mut turned = false;
    poll_fn(|_| match std::mem::replace(&mut turned, true) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    })
    .await;
}

/// What of a message comes next: of `all`, from `from` on.
fn take(all: &[u8], from: &Cell<usize>, buf: &mut Buf) -> Poll<usize> {
    let rest = &all[from.get()..];
    let bytes = rest.len().min(buf.spare());
    buf.append().extend_from_slice(&rest[..bytes]);
    from.set(from.get() + bytes);
    if bytes == 0 {
        Poll::Pending
    } else {
        Poll::Ready(bytes)
    }
}

impl Stream for End {
    async fn read(&self, mut buf: Buf) -> (io::Result<usize>, Buf) {
        let mut turned = false;
        let bytes = poll_fn(|_| {
            self.begin();
            match std::mem::replace(&mut turned, true) {
                true => self.poll_read(&mut buf),
                false => Poll::Pending,
            }
        });
        (Ok(bytes.await), buf)
    }

    fn read_cancelable(&self, buf: Buf) -> impl Future<Output = (io::Result<usize>, Buf)> {
        self.read(buf)
    }

    fn cancel_read(&self) {}

    async fn write(&self, mut buf: Buf, most: usize) -> (io::Result<usize>, Buf) {
        second_poll().await;
        let bytes = &buf.pending()[..most];
        match self.side {
            Side::Client => self.count(bytes.len()),
            Side::Backend if bytes.ends_with(REQUEST_END) => self.world.answered.set(0),
            Side::Backend => {}
        }
        buf.consume(most);
        (Ok(most), buf)
    }

    async fn write_shared(&self, bytes: Bytes) -> (io::Result<usize>, Bytes) {
        second_poll().await;
        self.count(bytes.len());
        (Ok(bytes.len()), bytes)
    }

    fn read_now(&self, _buf: &mut Buf) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    async fn readable(&self) -> io::Result<()> {
        pending().await
    }

    async fn writable(&self) -> io::Result<()> {
        pending().await
    }

    fn peek(&self) -> Peek {
        Peek::Quiet
    }

    fn look(&self, _bytes: &mut Vec<u8>) {}

    fn look_behind(&self, _skip: usize, _bytes: &mut [u8]) -> Option<usize> {
        None
    }

    fn available(&self) -> usize {
        0
    }

    fn push(&self, _parts: [&[u8]; 2], _more: bool) -> usize {
        0
    }

    fn shutdown_write(&self) {}

    fn reset_on_close(&self) {}

    fn splice_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn hold(&self) {}

    fn release(&self) {}
}

impl Io for Lean {
    type Stream = End;

    fn now(&self) -> Nanos {
        let now = self.0.now.get() + LOOK_NS;
        self.0.now.set(now);
        now
    }

    fn unix_ms(&self) -> u64 {
        1_795_200_483_123
    }

    async fn connect(&self, _target: Target<'_>) -> io::Result<End> {
        Ok(End {
            side: Side::Backend,
            world: Rc::clone(&self.0),
        })
    }

    async fn sleep(&self, _ns: Nanos) {
        pending().await
    }

    fn spawn(&self, _task: impl Future<Output = ()> + 'static) {
        unreachable!("a connection starts no tasks");
    }

    async fn listen(&self, _bells: Arc<[Bell]>, _shard: usize, _hear: impl Fn()) {
        pending().await
    }
}
