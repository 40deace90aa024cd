//! The one door to the outside: clock, connections, tasks.
//!
//! Decides nothing. The only file that names monoio's net and time and that reads a clock; the simulation in
//! `tests/sim` is the other implementation of [`Io`]. Invariant: a buffer belongs to the operation that
//! was given it until that operation has ended, whoever lost interest in it meanwhile.
#![expect(
    unsafe_code,
    reason = "monoio wants &mut for operations that only clone the descriptor"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "this is where the clocks are read"
)]

use std::cell::{Cell, RefCell, UnsafeCell};
use std::future::Future;
use std::io;
use std::mem::ManuallyDrop;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use monoio::buf::{Slice, SliceMut};
use monoio::io::{AsyncReadRent, AsyncWriteRent, CancelableAsyncReadRent, Canceller};
use monoio::net::{TcpStream, UnixStream};

use crate::buf::Buf;
use crate::cache::bell::Bell;
use crate::config::plan::Nanos;
use crate::peek;

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

    /// Calls `hear` after each ring of the bell, for ever.
    fn listen(&self, bell: Arc<[Bell]>, shard: usize, hear: impl Fn()) -> impl Future<Output = ()>;
}

/// A connected byte stream. All operations take `&self`: one read and one write may run at a time.
pub trait Stream: 'static {
    /// Appends what arrives to `buf`, at most its spare capacity; `Ok(0)` is the peer's end. `WouldBlock` while the
    /// socket is held in non-blocking mode (see relay.rs): wait for `readable` and try again.
    fn read(&self, buf: Buf) -> impl Future<Output = (io::Result<usize>, Buf)>;

    /// Like `read`, but `cancel_read` ends it with `ECANCELED` unless bytes have already arrived.
    fn read_cancelable(&self, buf: Buf) -> impl Future<Output = (io::Result<usize>, Buf)>;

    /// Ends the pending `read_cancelable`. The read must still be awaited: it may have bytes.
    fn cancel_read(&self);

    /// Writes some of the first `most` pending bytes of `buf` and consumes them there.
    fn write(&self, buf: Buf, most: usize) -> impl Future<Output = (io::Result<usize>, Buf)>;

    /// Writes some of bytes that others may read too; they come back as they are, with how many were written.
    fn write_shared(&self, bytes: Bytes) -> impl Future<Output = (io::Result<usize>, Bytes)>;

    /// Waits until a read would not wait, holding no buffer.
    fn readable(&self) -> impl Future<Output = io::Result<()>>;

    fn writable(&self) -> impl Future<Output = io::Result<()>>;

    /// Reads what is there without waiting; `WouldBlock` if that is nothing.
    fn read_now(&self, buf: &mut Buf) -> io::Result<usize>;

    /// What a read would find now, without waiting and without taking anything.
    fn peek(&self) -> Peek;

    /// Appends what a read would find now, at most the spare capacity, without waiting and without taking it.
    /// Asked only where bytes can be spliced.
    fn look(&self, bytes: &mut Vec<u8>);

    /// The same behind the next `skip` bytes; how many there were. `None`: cannot be done.
    fn look_behind(&self, skip: usize, bytes: &mut [u8]) -> Option<usize>;

    /// Bytes that a read would find now. Asked only where bytes can be spliced.
    fn available(&self) -> usize;

    /// Gives the kernel what it takes at once; how many bytes it took. With `more` they go out together with those that
    /// follow, or with our end, which must follow at once; none is taken then where bytes cannot be spliced.
    fn push(&self, parts: [&[u8]; 2], more: bool) -> usize;

    /// Sends our end; the other direction stays open.
    fn shutdown_write(&self);

    /// Makes the coming close a reset, so that a cut response cannot look complete.
    fn reset_on_close(&self);

    /// The descriptor, where the kernel can move bytes by itself.
    fn splice_fd(&self) -> Option<BorrowedFd<'_>>;

    /// Makes the socket non-blocking while bytes are spliced from or to it. Holds are counted: both directions may
    /// have one. Ring operations then get `WouldBlock` where they would have waited.
    fn hold(&self);

    fn release(&self);
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

/// The process's start on the monotonic clock: the first call decides, and all threads count from it.
pub fn process_start() -> Instant {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    *START.get_or_init(Instant::now)
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
            Target::Unix(path) => {
                let fd = UnixStream::connect(path).await?.into_raw_fd();
                // SAFETY: `into_raw_fd` gave up the ownership of an open descriptor.
                Socket::accepted(unsafe { OwnedFd::from_raw_fd(fd) }, false)
            }
        }
    }

    async fn sleep(&self, ns: Nanos) {
        monoio::time::sleep(Duration::from_nanos(ns)).await;
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        drop(monoio::spawn(task));
    }

    async fn listen(&self, bells: Arc<[Bell]>, shard: usize, hear: impl Fn()) {
        let bell = &bells[shard];
        let socket = bell.descriptor().and_then(|fd| Socket::accepted(fd, false));
        loop {
            // Without it, rings are heard a little later.
            let rung = match &socket {
                Ok(socket) => socket.readable().await,
                Err(_) => Err(io::ErrorKind::Unsupported.into()),
            };
            if rung.is_err() {
                self.sleep(DEAF_NS).await;
            }
            if bell.heard() {
                hear();
            }
        }
    }
}

/// Between two looks at a bell that cannot be waited for.
const DEAF_NS: Nanos = 5_000_000;

/// A connected stream socket of monoio, TCP or unix.
pub struct Socket {
    /// Also for unix sockets: the operations are the same, and one type keeps their futures small.
    stream: UnsafeCell<ManuallyDrop<TcpStream>>,
    fd: RawFd,
    is_tcp: bool,
    canceller: RefCell<Option<Canceller>>,
    /// The last look left an offset behind, from which others would begin.
    looked_behind: Cell<bool>,
    /// Transfers that want the socket non-blocking.
    holds: Cell<u32>,
    /// The epoll engine's sockets are non-blocking for good.
    nonblocking: bool,
    /// Operations that have not ended. One that was dropped before its end is counted for ever.
    running: Cell<u32>,
}

impl Socket {
    /// A connection that was just accepted.
    pub fn accepted(fd: OwnedFd, is_tcp: bool) -> io::Result<Self> {
        let stream = TcpStream::from_std(std::net::TcpStream::from(fd))?;
        let mut socket = Socket::tcp(stream);
        socket.is_tcp = is_tcp;
        Ok(socket)
    }

    fn tcp(stream: TcpStream) -> Self {
        let fd = stream.as_raw_fd();
        Socket {
            stream: UnsafeCell::new(ManuallyDrop::new(stream)),
            fd,
            is_tcp: true,
            canceller: RefCell::new(None),
            looked_behind: Cell::new(false),
            holds: Cell::new(0),
            nonblocking: monoio::utils::is_legacy(),
            running: Cell::new(0),
        }
    }

    fn run<F>(&self, operation: F) -> Running<'_, F> {
        self.running.set(self.running.get() + 1);
        Running {
            operation,
            running: &self.running,
        }
    }

    /// The stream for one operation to be made from it.
    #[expect(
        clippy::mut_from_ref,
        reason = "monoio's operations take &mut, see below"
    )]
    fn stream(&self) -> &mut TcpStream {
        // SAFETY: single-threaded (`UnsafeCell` is not `Sync`). monoio's operations take `&mut` but only clone the
        // shared descriptor out of it, when they are built or first polled; its own `Split` relies on the same.
        // Nothing ever writes to the stream.
        unsafe { &mut *self.stream.get() }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // SAFETY: taken once, here; nothing touches it afterwards.
        let stream = unsafe { ManuallyDrop::take(self.stream.get_mut()) };
        if self.running.get() == 0 {
            // SAFETY: no operation is running, so `into_raw_fd` gives up the only owner of an open descriptor.
            // Closing it ourselves saves two operations on the ring, one of which cancels the other.
            drop(unsafe { OwnedFd::from_raw_fd(stream.into_raw_fd()) });
        }
        // Else the kernel may still use the descriptor: monoio closes it when the last operation has ended.
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: `fd` is open as long as `stream` lives, which is as long as `self`.
        unsafe { BorrowedFd::borrow_raw(self.fd) }
    }
}

pin_project_lite::pin_project! {
    /// Counts an operation as running until it has ended. Written out, because an async block would hold the
    /// operation twice.
    struct Running<'s, F> {
        #[pin]
        operation: F,
        running: &'s Cell<u32>,
    }
}

impl<F: Future> Future for Running<'_, F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        this.operation.poll(cx).map(|output| {
            this.running.set(this.running.get() - 1);
            output
        })
    }
}

pin_project_lite::pin_project! {
    /// Gives the buffer of a finished operation back as a `Buf`.
    struct Back<F> {
        #[pin]
        operation: F,
        start: usize,
        consumes: bool,
    }
}

/// What monoio's operations give back their buffer in.
trait Inner {
    fn inner(self) -> Vec<u8>;
}

impl Inner for Slice<Vec<u8>> {
    fn inner(self) -> Vec<u8> {
        self.into_inner()
    }
}

impl Inner for SliceMut<Vec<u8>> {
    fn inner(self) -> Vec<u8> {
        self.into_inner()
    }
}

impl<B: Inner, F: Future<Output = (io::Result<usize>, B)>> Future for Back<F> {
    type Output = (io::Result<usize>, Buf);

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        this.operation.poll(cx).map(|(result, slice)| {
            let mut buf = Buf::from_parts(slice.inner(), *this.start);
            if let (Ok(n), true) = (&result, *this.consumes) {
                buf.consume(*n);
            }
            (result, buf)
        })
    }
}

impl Stream for Socket {
    fn read(&self, buf: Buf) -> impl Future<Output = (io::Result<usize>, Buf)> {
        let (slice, start) = buf.into_spare();
        let operation = self.run(self.stream().read(slice));
        Back {
            operation,
            start,
            consumes: false,
        }
    }

    fn read_cancelable(&self, buf: Buf) -> impl Future<Output = (io::Result<usize>, Buf)> {
        let (slice, start) = buf.into_spare();
        let handle = self
            .canceller
            .borrow_mut()
            .get_or_insert_with(Canceller::new)
            .handle();
        let operation = self.run(self.stream().cancelable_read(slice, handle));
        Back {
            operation,
            start,
            consumes: false,
        }
    }

    fn cancel_read(&self) {
        if let Some(canceller) = self.canceller.borrow_mut().take() {
            canceller.cancel();
        }
    }

    fn write(&self, buf: Buf, most: usize) -> impl Future<Output = (io::Result<usize>, Buf)> {
        let (slice, start) = buf.into_pending(most);
        let operation = self.run(self.stream().write(slice));
        Back {
            operation,
            start,
            consumes: true,
        }
    }

    fn write_shared(&self, bytes: Bytes) -> impl Future<Output = (io::Result<usize>, Bytes)> {
        self.run(self.stream().write(bytes))
    }

    fn readable(&self) -> impl Future<Output = io::Result<()>> {
        self.run(self.stream().readable(false))
    }

    fn writable(&self) -> impl Future<Output = io::Result<()>> {
        self.run(self.stream().writable(false))
    }

    fn read_now(&self, buf: &mut Buf) -> io::Result<usize> {
        use rustix::net::{RecvFlags, recv};
        let spare = rustix::buffer::spare_capacity(buf.append());
        let (count, _) = recv(self, spare, RecvFlags::DONTWAIT)?;
        Ok(count)
    }

    fn peek(&self) -> Peek {
        if self.looked_behind.replace(false) {
            peek::from_start(self.as_fd());
        }
        use rustix::net::RecvFlags;
        let mut byte = [0_u8; 1];
        match rustix::net::recv(self, &mut byte[..], RecvFlags::PEEK | RecvFlags::DONTWAIT) {
            Ok((_, 0)) => Peek::Closed,
            Ok(_) => Peek::Bytes,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Peek::Quiet,
            Err(_) => Peek::Closed,
        }
    }

    fn look(&self, bytes: &mut Vec<u8>) {
        if self.looked_behind.replace(false) {
            peek::from_start(self.as_fd());
        }
        peek::look(self.as_fd(), rustix::buffer::spare_capacity(bytes));
    }

    fn look_behind(&self, skip: usize, bytes: &mut [u8]) -> Option<usize> {
        if !peek::behind(self.as_fd(), skip) {
            return None;
        }
        self.looked_behind.set(true);
        Some(peek::look(self.as_fd(), bytes))
    }

    fn available(&self) -> usize {
        peek::available(self.as_fd())
    }

    fn push(&self, parts: [&[u8]; 2], more: bool) -> usize {
        use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
        if more && !self.is_tcp {
            return 0;
        }
        let mut flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        flags.set(SendFlags::MORE, more);
        let parts = parts.map(io::IoSlice::new);
        // An error will be met by whoever writes.
        sendmsg(self, &parts, &mut SendAncillaryBuffer::default(), flags).unwrap_or(0)
    }

    fn shutdown_write(&self) {
        // An error means that the peer is gone, which the next operation will say.
        let _ = rustix::net::shutdown(self, rustix::net::Shutdown::Write);
    }

    fn reset_on_close(&self) {
        // An error means that the peer is gone already.
        let _ = rustix::net::sockopt::set_socket_linger(self, Some(Duration::ZERO));
    }

    fn hold(&self) {
        let before = self.holds.replace(self.holds.get() + 1);
        if before == 0 && !self.nonblocking {
            // Cannot fail on an open socket.
            let _ = rustix::io::ioctl_fionbio(self, true);
        }
    }

    fn release(&self) {
        debug_assert!(self.holds.get() > 0, "released more often than held");
        self.holds.set(self.holds.get() - 1);
        if self.holds.get() == 0 && !self.nonblocking {
            // A socket left non-blocking would still work, only slower.
            let _ = rustix::io::ioctl_fionbio(self, false);
        }
    }

    fn splice_fd(&self) -> Option<BorrowedFd<'_>> {
        self.is_tcp.then(|| self.as_fd())
    }
}
