//! Listening sockets and the loop that accepts from them.
//!
//! Decides: when accepting pauses. May not know: HTTP beyond the ready-made refusal. Invariant: a listener is
//! closed only after its queue has been emptied, since closing resets what is in it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::SocketFlags;
use socket2::{Domain, Protocol, SockAddr, Socket as RawSocket, Type};

use crate::config::plan::{Listen, Nanos};
use crate::conn::{self, Ending};
use crate::h1::Version;
use crate::h1::answer::{self, Answer};
use crate::io::{Io, MonoioIo, Socket, Stream};
use crate::metrics::{Counter, Reason};
use crate::panics::catch;
use crate::shard::{Peer, Shard};
use crate::timer::NEVER;

/// Queue of connections that are not accepted yet, per listener. The kernel caps it at `somaxconn`.
const BACKLOG: i32 = 4096;

/// How long accepting pauses when the kernel has no descriptor or memory for one more connection.
const PAUSE_NS: Nanos = 50_000_000;

/// Connections taken in one turn.
const ACCEPTS_MAX: u32 = 64;

/// Turns after which a queue that does not get empty is closed all the same: as many as fill a backlog.
const LAST_TURNS_MAX: u32 = BACKLOG as u32 / ACCEPTS_MAX;

/// One shard's listener.
#[derive(Debug)]
pub enum Listener {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

/// Binds one listener per shard. Port 0 is given by the kernel once and then shared.
pub fn bind(listen: &Listen, shards: usize, congestion: Option<&str>) -> io::Result<Vec<Listener>> {
    match listen {
        Listen::Tcp(address) => {
            refuse_if_used(*address)?;
            let first = bind_tcp(*address, congestion)?;
            let address = first.local_addr()?;
            let more = (1..shards).map(|_| bind_tcp(address, congestion));
            std::iter::once(Ok(first))
                .chain(more)
                .map(|one| one.map(Listener::Tcp))
                .collect()
        }
        Listen::Unix(path) => {
            // No SO_REUSEPORT here: all shards accept from the one socket.
            let listener = bind_unix(path)?;
            (0..shards)
                .map(|_| listener.try_clone().map(Listener::Unix))
                .collect()
        }
    }
}

/// SO_REUSEPORT would let a second process share the port in silence and take half of its connections. Without
/// it, binding fails as long as anybody listens.
fn refuse_if_used(address: SocketAddr) -> io::Result<()> {
    let socket = RawSocket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&SockAddr::from(address))
}

fn bind_tcp(address: SocketAddr, congestion: Option<&str>) -> io::Result<std::net::TcpListener> {
    let socket = RawSocket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    // Accepted sockets inherit this, which saves a system call for each.
    socket.set_tcp_nodelay(true)?;
    if let Some(name) = congestion {
        socket.set_tcp_congestion(name.as_bytes())?;
    }
    if address.is_ipv6() {
        // `[::]` is both families, as with most servers; a second listener on 0.0.0.0 would clash.
        socket.set_only_v6(false)?;
    }
    socket.bind(&SockAddr::from(address))?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn bind_unix(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    use std::os::unix::fs::FileTypeExt;
    // What a process that was killed left behind; a socket that somebody listens on is not ours to take.
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|data| data.file_type().is_socket());
    if is_socket && std::os::unix::net::UnixStream::connect(path).is_err() {
        std::fs::remove_file(path)?;
    }
    std::os::unix::net::UnixListener::bind(path)
}

/// Accepts until the shard drains. The queue is emptied by direct calls once the listener is readable: no
/// accept is ever pending, so none can be cancelled, and a burst of connections takes one turn of the ring.
pub async fn accept(shard: Rc<Shard<MonoioIo>>, listener: Listener, epoll: bool) -> io::Result<()> {
    let (listener, port, is_tcp): (OwnedFd, Rc<str>, bool) = match listener {
        Listener::Tcp(listener) => {
            let port = listener.local_addr()?.port().to_string();
            (listener.into(), port.into(), true)
        }
        Listener::Unix(listener) => (listener.into(), "".into(), false),
    };
    rustix::io::ioctl_fionbio(&listener, true)?;
    // A stream only by name: what is asked of it is to wait until it is readable.
    let watched = Socket::accepted(listener.try_clone()?, is_tcp)?;
    let timer = shard.timers.timer();
    while !shard.is_draining() {
        shard.room().await;
        // Without a deadline, but through a timer: that is what a drain wakes.
        let wait = timer.at(
            NEVER,
            conn::unless_draining(&shard, Ending::AtOnce, watched.readable()),
        );
        if let Ok(Some(ready)) = wait.await {
            ready?;
        }
        accept_queue(&shard, &listener, &port, is_tcp, epoll).await;
    }
    for _ in 0..LAST_TURNS_MAX {
        if accept_queue(&shard, &listener, &port, is_tcp, epoll).await {
            break;
        }
    }
    Ok(())
}

/// Takes what is in the queue, up to a bound that lets others have their turn. `true`: the queue is empty.
async fn accept_queue(
    shard: &Rc<Shard<MonoioIo>>,
    listener: &OwnedFd,
    port: &Rc<str>,
    is_tcp: bool,
    epoll: bool,
) -> bool {
    let flags = if epoll {
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK
    } else {
        SocketFlags::CLOEXEC
    };
    for _ in 0..ACCEPTS_MAX {
        if shard.is_full() {
            return false;
        }
        match rustix::net::acceptfrom_with(listener, flags) {
            Ok((fd, address)) => {
                // A unix peer has no address: it counts as the local host.
                let address = address.and_then(|address| SocketAddr::try_from(address).ok());
                let ip = address.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |a| a.ip().to_canonical());
                // Fails only when the descriptor cannot be registered; the client sees it closed.
                if let Ok(socket) = Socket::accepted(fd, is_tcp) {
                    welcome(shard, socket, Peer::new(shard, ip, port));
                }
            }
            Err(Errno::AGAIN) => return true,
            Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                shard.metrics.add(Counter::AcceptPaused, 1);
                shard.io.sleep(PAUSE_NS).await;
                return false;
            }
            // The connection failed before we took it.
            Err(_) => {}
        }
    }
    false
}

fn welcome(shard: &Rc<Shard<MonoioIo>>, socket: Socket, peer: Peer) {
    match shard.open_connection(&peer) {
        Ok(open) => {
            let serve = conn::serve(Rc::clone(shard), socket, peer, open);
            shard.io.spawn(catch(Arc::clone(&shard.metrics), serve));
        }
        Err(reason) => {
            shard.metrics.reject(reason);
            let refusal = refusal(shard, reason);
            // One try without waiting: a refusal must cost less than a connection.
            let _ = rustix::net::send(&socket, &refusal, rustix::net::SendFlags::DONTWAIT);
            // Closing with the request unread would reset the connection and could destroy the answer.
            let mut request = [0_u8; 2048];
            let _ = rustix::net::recv(&socket, &mut request[..], rustix::net::RecvFlags::DONTWAIT);
        }
    }
}

fn refusal(shard: &Shard<MonoioIo>, reason: Reason) -> Vec<u8> {
    let (mut out, mut body) = (Vec::with_capacity(512), Vec::with_capacity(64));
    let status = reason.status();
    let content_type = answer::refusal_body(&mut body, status, reason.label(), false);
    let refusal = Answer {
        status,
        content_type,
        body: &body,
        fields: b"Cache-Control: no-store\r\nRetry-After: 1\r\n",
        head_request: false,
        keep_alive: false,
        version: Version::Http11,
        date: &shard.date(),
    };
    answer::write(&mut out, &refusal);
    out
}
