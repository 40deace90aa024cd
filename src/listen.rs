//! Listening sockets and the loop that accepts from them.
//!
//! Decides: when accepting pauses. May not know: HTTP beyond the ready-made refusal. Invariants: an accept is
//! never cancelled (its descriptor would leak); a listener is closed only when its queue is empty, since
//! closing resets what is in it.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockAddr, Socket as RawSocket, Type};

use crate::config::plan::{Listen, Nanos};
use crate::conn;
use crate::io::{Io, MonoioIo, Socket};
use crate::metrics::{Counter, Reason};
use crate::panics::catch;
use crate::shard::{Peer, Shard};
use crate::timer::{NEVER, TICK_NS};

/// Queue of connections that are not accepted yet, per listener. The kernel caps it at `somaxconn`.
const BACKLOG: i32 = 4096;

/// How long accepting pauses when the kernel has no descriptor or memory for one more connection.
const PAUSE_NS: Nanos = 50_000_000;

/// A drain gives connections in the queue this many looks before the listener closes.
const DRAIN_LOOKS: u32 = 20;

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

/// Accepts until the shard drains.
pub async fn accept(shard: Rc<Shard<MonoioIo>>, listener: Listener, epoll: bool) -> io::Result<()> {
    match listener {
        Listener::Tcp(listener) => {
            listener.set_nonblocking(epoll)?;
            let port: Rc<str> = listener.local_addr()?.port().to_string().into();
            let watched = listener.as_fd().try_clone_to_owned()?;
            shard
                .io
                .spawn(close_when_draining(Rc::clone(&shard), watched));
            let listener = monoio::net::TcpListener::from_std(listener)?;
            loop {
                shard.room().await;
                match listener.accept().await {
                    Ok((stream, address)) => {
                        let peer = Peer::new(&shard, address.ip().to_canonical(), &port);
                        welcome(&shard, Socket::tcp(stream), peer);
                    }
                    Err(error) if pause(&shard, &error).await => {}
                    Err(_) => return Ok(()),
                }
            }
        }
        Listener::Unix(listener) => {
            listener.set_nonblocking(epoll)?;
            let port: Rc<str> = "0".into();
            let watched = listener.as_fd().try_clone_to_owned()?;
            shard
                .io
                .spawn(close_when_draining(Rc::clone(&shard), watched));
            let listener = monoio::net::UnixListener::from_std(listener)?;
            loop {
                shard.room().await;
                match listener.accept().await {
                    Ok((stream, _)) => {
                        // A unix peer has no address: it counts as the local host.
                        let ip = std::net::IpAddr::from([127, 0, 0, 1]);
                        let peer = Peer::new(&shard, ip, &port);
                        // Fails only when the descriptor cannot be registered; the client sees it closed.
                        if let Ok(socket) = Socket::unix(stream) {
                            welcome(&shard, socket, peer);
                        }
                    }
                    Err(error) if pause(&shard, &error).await => {}
                    Err(_) => return Ok(()),
                }
            }
        }
    }
}

fn welcome(shard: &Rc<Shard<MonoioIo>>, socket: Socket, peer: Peer) {
    match shard.open_connection() {
        Some(open) => {
            let serve = conn::serve(Rc::clone(shard), socket, peer, open);
            shard.io.spawn(catch(Arc::clone(&shard.metrics), serve));
        }
        None => {
            shard.metrics.reject(Reason::ConnectionsMax);
            // One try without waiting: a refusal must cost less than a connection.
            let _ = rustix::net::send(&socket, FULL, rustix::net::SendFlags::DONTWAIT);
        }
    }
}

const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\n\
Content-Length: 41\r\nRetry-After: 1\r\nConnection: close\r\n\r\n503 Service Unavailable: connections_max\n\n";

/// After a failed accept: `true` to go on, after a pause if the machine has run out of something.
async fn pause(shard: &Shard<MonoioIo>, error: &io::Error) -> bool {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
            shard.metrics.add(Counter::AcceptPaused, 1);
            shard.io.sleep(PAUSE_NS).await;
            true
        }
        // The listener was shut down: see `close_when_draining`.
        Some(Errno::INVAL) => false,
        // The connection failed before we took it, or a network error that was pending on it.
        Some(_) | None => !shard.is_draining(),
    }
}

/// When the drain begins, serves what is in the queue and then ends the pending accept from outside.
async fn close_when_draining(shard: Rc<Shard<MonoioIo>>, listener: OwnedFd) {
    let timer = shard.timers.timer();
    // No deadline: only the drain wakes this.
    let drained = conn::unless_draining(&shard, std::future::pending::<()>());
    let _ = timer.at(NEVER, drained).await;
    for _ in 0..DRAIN_LOOKS {
        let mut fds = [PollFd::new(&listener, PollFlags::IN)];
        let queued = poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0);
        if !queued {
            break;
        }
        shard.io.sleep(TICK_NS).await;
    }
    // Fails only on a socket that is not listening any more.
    let _ = rustix::net::shutdown(&listener, rustix::net::Shutdown::Read);
}
