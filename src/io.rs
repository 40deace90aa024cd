//! The one door to the outside: clock, connections, tasks.
//!
//! Decides nothing. The only file that names monoio's net and time and that reads a clock; the simulation in
//! `tests/support` is the other implementation of [`Io`]. Invariant: a buffer belongs to the operation that
//! was given it until that operation has ended, whoever lost interest in it meanwhile.
#![expect(
    unsafe_code,
    reason = "monoio wants &mut for operations that only clone the descriptor"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "this is where the clocks are read"
)]

use std::cell::{RefCell, UnsafeCell};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use monoio::buf::{Slice, SliceMut};
use monoio::io::{AsyncReadRent, AsyncWriteRent, CancelableAsyncReadRent, Canceller};
use monoio::net::{TcpStream, UnixStream};

use crate::buf::Buf;
use crate::config::plan::Nanos;

/// Where a connection to a backend goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    Tcp(SocketAddr, Option<&'a str>),
    Unix(&'a Path),
}

/// Clock, connections and tasks of one shard.
pub trait Io: Clone + 'static {
    type Stream: Stream;

    /// Time since the process started.
    fn now(&self) -> Nanos;

    /// Wall clock in milliseconds since 1970, for Date and the logs.
    fn unix_ms(&self) -> u64;

    fn connect(&self, target: Target<'_>) -> impl Future<Output = io::Result<Self::Stream>>;

    fn sleep(&self, ns: Nanos) -> impl Future<Output = ()>;

    fn spawn(&self, task: impl Future<Output = ()> + 'static);
}

/// A connected byte stream. All operations take `&self`: one read and one write may run at a time.
pub trait Stream: 'static {
    /// Appends what arrives to `buf`, at most its spare capacity; `Ok(0)` is the peer's end.
    fn read(&self, buf: Buf) -> impl Future<Output = (io::Result<usize>, Buf)>;

    /// Like `read`, but `cancel_read` ends it with `ECANCELED` unless bytes have already arrived.
    fn read_cancelable(&self, buf: Buf) -> impl Future<Output = (io::Result<usize>, Buf)>;

    /// Ends the pending `read_cancelable`. The read must still be awaited: it may have bytes.
    fn cancel_read(&self);

    /// Writes some of the first `most` pending bytes of `buf` and consumes them there.
    fn write(&self, buf: Buf, most: usize) -> impl Future<Output = (io::Result<usize>, Buf)>;

    /// Waits until a read would not wait, holding no buffer.
    fn readable(&self) -> impl Future<Output = io::Result<()>>;

    fn writable(&self) -> impl Future<Output = io::Result<()>>;

    /// What a read would find now, without waiting and without taking anything.
    fn peek(&self) -> Peek;

    /// Sends our end; the other direction stays open.
    fn shutdown_write(&self);

    /// Makes the coming close a reset, so that a cut response cannot look complete.
    fn reset_on_close(&self);

    /// The descriptor, where the kernel can move bytes by itself.
    fn splice_fd(&self) -> Option<BorrowedFd<'_>>;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peek {
    /// Open, and nothing has arrived.
    Quiet,
    /// Bytes wait to be read.
    Bytes,
    /// Ended or broken.
    Closed,
}

/// The real thing, on monoio.
#[derive(Clone)]
pub struct MonoioIo {
    started: Instant,
}

impl MonoioIo {
    pub fn new(started: Instant) -> Self {
        MonoioIo { started }
    }
}

/// The process's start on the monotonic clock, for [`MonoioIo::new`].
pub fn process_start() -> Instant {
    Instant::now()
}

/// Wall clock in milliseconds since 1970.
pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

impl Io for MonoioIo {
    type Stream = Socket;

    fn now(&self) -> Nanos {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn unix_ms(&self) -> u64 {
        unix_ms()
    }

    async fn connect(&self, target: Target<'_>) -> io::Result<Socket> {
        match target {
            Target::Tcp(address, congestion) => {
                let stream = TcpStream::connect_addr(address).await?;
                stream.set_nodelay(true)?;
                let socket = Socket::tcp(stream);
                if let Some(name) = congestion {
                    rustix::net::sockopt::set_tcp_congestion(&socket, name)?;
                }
                Ok(socket)
            }
            Target::Unix(path) => Ok(Socket::unix(UnixStream::connect(path).await?)),
        }
    }

    async fn sleep(&self, ns: Nanos) {
        monoio::time::sleep(Duration::from_nanos(ns)).await;
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        drop(monoio::spawn(task));
    }
}

enum Kind {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A TCP or unix stream of monoio.
pub struct Socket {
    kind: UnsafeCell<Kind>,
    fd: RawFd,
    canceller: RefCell<Option<Canceller>>,
}

impl Socket {
    pub fn tcp(stream: TcpStream) -> Self {
        let fd = stream.as_raw_fd();
        Socket {
            kind: UnsafeCell::new(Kind::Tcp(stream)),
            fd,
            canceller: RefCell::new(None),
        }
    }

    pub fn unix(stream: UnixStream) -> Self {
        let fd = stream.as_raw_fd();
        Socket {
            kind: UnsafeCell::new(Kind::Unix(stream)),
            fd,
            canceller: RefCell::new(None),
        }
    }

    /// The descriptor without the runtime: for a connection that is answered and closed at once.
    pub fn into_fd(self) -> OwnedFd {
        use std::os::fd::FromRawFd;
        let raw = match self.kind.into_inner() {
            Kind::Tcp(stream) => stream.into_raw_fd(),
            Kind::Unix(stream) => stream.into_raw_fd(),
        };
        // SAFETY: `into_raw_fd` gave up the ownership of an open descriptor.
        unsafe { OwnedFd::from_raw_fd(raw) }
    }

    /// The stream for one operation to be made from it.
    ///
    /// SAFETY of the callers: monoio's operations take `&mut` but only clone the shared descriptor out of it
    /// (its own `Split` relies on the same); no reference outlives the call that builds the operation, except
    /// inside futures that do not touch it again.
    #[expect(clippy::mut_from_ref, reason = "see the comment above")]
    fn kind(&self) -> &mut Kind {
        // SAFETY: single-threaded (`UnsafeCell` is not `Sync`), and used as said above.
        unsafe { &mut *self.kind.get() }
    }

    async fn read_once(&self, slice: SliceMut<Vec<u8>>) -> (io::Result<usize>, SliceMut<Vec<u8>>) {
        match self.kind() {
            Kind::Tcp(stream) => stream.read(slice).await,
            Kind::Unix(stream) => stream.read(slice).await,
        }
    }

    async fn write_once(&self, slice: Slice<Vec<u8>>) -> (io::Result<usize>, Slice<Vec<u8>>) {
        match self.kind() {
            Kind::Tcp(stream) => stream.write(slice).await,
            Kind::Unix(stream) => stream.write(slice).await,
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: `fd` is open as long as `kind` lives, which is as long as `self`.
        unsafe { BorrowedFd::borrow_raw(self.fd) }
    }
}

fn would_block(result: &io::Result<usize>) -> bool {
    result
        .as_ref()
        .is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock)
}

impl Stream for Socket {
    async fn read(&self, buf: Buf) -> (io::Result<usize>, Buf) {
        let (mut slice, start) = buf.into_spare();
        loop {
            let result;
            (result, slice) = self.read_once(slice).await;
            // A splice in the other direction may hold the descriptor in non-blocking mode (see relay.rs).
            if would_block(&result)
                && let Ok(()) = self.readable().await
            {
                continue;
            }
            return (result, Buf::from_parts(slice.into_inner(), start));
        }
    }

    async fn read_cancelable(&self, buf: Buf) -> (io::Result<usize>, Buf) {
        let (slice, start) = buf.into_spare();
        let handle = self
            .canceller
            .borrow_mut()
            .get_or_insert_with(Canceller::new)
            .handle();
        let (result, slice) = match self.kind() {
            Kind::Tcp(stream) => stream.cancelable_read(slice, handle).await,
            Kind::Unix(stream) => stream.cancelable_read(slice, handle).await,
        };
        (result, Buf::from_parts(slice.into_inner(), start))
    }

    fn cancel_read(&self) {
        if let Some(canceller) = self.canceller.borrow_mut().take() {
            canceller.cancel();
        }
    }

    async fn write(&self, buf: Buf, most: usize) -> (io::Result<usize>, Buf) {
        let (mut slice, start) = buf.into_pending(most);
        loop {
            let result;
            (result, slice) = self.write_once(slice).await;
            if would_block(&result)
                && let Ok(()) = self.writable().await
            {
                continue;
            }
            let mut buf = Buf::from_parts(slice.into_inner(), start);
            if let Ok(n) = result {
                buf.consume(n);
            }
            return (result, buf);
        }
    }

    async fn readable(&self) -> io::Result<()> {
        match self.kind() {
            Kind::Tcp(stream) => stream.readable(false).await,
            Kind::Unix(stream) => stream.readable(false).await,
        }
    }

    async fn writable(&self) -> io::Result<()> {
        match self.kind() {
            Kind::Tcp(stream) => stream.writable(false).await,
            Kind::Unix(stream) => stream.writable(false).await,
        }
    }

    fn peek(&self) -> Peek {
        use rustix::net::RecvFlags;
        let mut byte = [0_u8; 1];
        match rustix::net::recv(self, &mut byte[..], RecvFlags::PEEK | RecvFlags::DONTWAIT) {
            Ok((_, 0)) => Peek::Closed,
            Ok(_) => Peek::Bytes,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Peek::Quiet,
            Err(_) => Peek::Closed,
        }
    }

    fn shutdown_write(&self) {
        // An error means that the peer is gone, which the next operation will say.
        let _ = rustix::net::shutdown(self, rustix::net::Shutdown::Write);
    }

    fn reset_on_close(&self) {
        // An error means that the peer is gone already.
        let _ = rustix::net::sockopt::set_socket_linger(self, Some(Duration::ZERO));
    }

    fn splice_fd(&self) -> Option<BorrowedFd<'_>> {
        match self.kind() {
            Kind::Tcp(_) => Some(self.as_fd()),
            Kind::Unix(_) => None,
        }
    }
}

/// Waits for two things at once, in one task: the first that is ready wins, `first` when both are.
pub async fn race<A, B>(
    first: impl Future<Output = A>,
    second: impl Future<Output = B>,
) -> Race<A, B> {
    use std::task::Poll;
    let mut first = std::pin::pin!(first);
    let mut second = std::pin::pin!(second);
    std::future::poll_fn(move |cx| {
        if let Poll::Ready(a) = first.as_mut().poll(cx) {
            return Poll::Ready(Race::First(a));
        }
        second.as_mut().poll(cx).map(Race::Second)
    })
    .await
}

#[derive(Debug)]
pub enum Race<A, B> {
    First(A),
    Second(B),
}
