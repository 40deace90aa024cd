//! The floor of a comparison: a relay of TCP connections that parses nothing.
//!
//! Decides: when a connection is over. May not know: HTTP, what the proxy decides. Invariant: once connected, an
//! exchange is one receive and one send per direction, and nothing else reaches the kernel.

use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::rc::Rc;

use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::pipe;

use crate::buf::Buf;
use crate::cli::Exit;
use crate::config::plan::{Engine, Listen, Nanos};
use crate::engine::{self, Chosen};
use crate::io::{Io, MonoioIo, Socket, Stream, Target, process_start};
use crate::listen::{self, Listener};
use crate::machine;
use crate::wait::{Race, race};

/// The size of the proxy's buffers.
const SMALL_BYTES: usize = 8 * 1024;
/// For a direction that has filled a small buffer.
const LARGE_BYTES: usize = 64 * 1024;
/// Connections above this are closed at once.
const CONNECTIONS_MAX: u32 = 16_384;
/// Connections taken in one turn.
const ACCEPTS_MAX: u32 = 64;
/// How long accepting pauses when the kernel has no descriptor for one more connection.
const PAUSE_NS: Nanos = 50_000_000;

/// Relays what arrives at `listen` to `to` until SIGTERM or SIGINT.
pub fn command(listen: SocketAddr, to: SocketAddr) -> Exit {
    machine::raise_descriptor_limit();
    let served = stop_signals().and_then(|stop| serve(bind(listen)?, to, stop));
    match served {
        Ok(()) => Exit::Clean,
        Err(error) => {
            eprintln!("corelane: relay {listen}: {error}");
            Exit::Os
        }
    }
}

/// Gets a byte when a signal comes, so that the one thread can wait for it on its ring.
fn stop_signals() -> io::Result<UnixStream> {
    let (stop, signalled) = UnixStream::pair()?;
    pipe::register(SIGTERM, signalled.try_clone()?)?;
    pipe::register(SIGINT, signalled)?;
    Ok(stop)
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    match listen::bind(&Listen::Tcp(address), 1, None)?.pop() {
        Some(Listener::Tcp(listener)) => Ok(listener),
        Some(Listener::Unix(_)) | None => Err(ErrorKind::AddrNotAvailable.into()),
    }
}

/// Relays on this thread until something arrives on `stop`, or it is closed.
pub fn serve(listener: TcpListener, to: SocketAddr, stop: UnixStream) -> io::Result<()> {
    let engine = engine::choose(Engine::Auto)?.0;
    listener.set_nonblocking(true)?;
    stop.set_nonblocking(true)?;
    engine.block_on(async {
        let stop = Socket::accepted(stop.into(), false)?;
        match race(stop.readable(), accept(engine, listener, to)).await {
            Race::First(ended) | Race::Second(ended) => ended,
        }
    })?
}

async fn accept(engine: Chosen, listener: TcpListener, to: SocketAddr) -> io::Result<()> {
    let mut flags = SocketFlags::CLOEXEC;
    flags.set(SocketFlags::NONBLOCK, engine == Chosen::Epoll);
    let io = MonoioIo::new(process_start());
    // A stream only by name: it is not read.
    let watched = Socket::accepted(listener.try_clone()?.into(), true)?;
    let open = Rc::new(Cell::new(0));
    loop {
        watched.readable().await?;
        for _ in 0..ACCEPTS_MAX {
            match accept_with(&listener, flags) {
                Ok(_refused) if open.get() == CONNECTIONS_MAX => {}
                Ok(client) => {
                    // Fails only when the descriptor cannot be registered; the client sees it closed.
                    if let Ok(client) = Socket::accepted(client, true) {
                        open.set(open.get() + 1);
                        io.spawn(relay(io.clone(), client, to, Rc::clone(&open)));
                    }
                }
                Err(Errno::AGAIN) => break,
                Err(_) => {
                    io.sleep(PAUSE_NS).await;
                    break;
                }
            }
        }
    }
}

async fn relay(io: MonoioIo, client: Socket, to: SocketAddr, open: Rc<Cell<u32>>) {
    // An error ends this connection, and both sides see that.
    let _ = exchange(&io, &client, to).await;
    open.set(open.get() - 1);
}

async fn exchange(io: &MonoioIo, client: &Socket, to: SocketAddr) -> io::Result<()> {
    let backend = io.connect(Target::Tcp(to, None)).await?;
    let mut up = pin!(copy(client, &backend));
    let mut down = pin!(copy(&backend, client));
    match race(up.as_mut(), down.as_mut()).await {
        Race::First(ended) => {
            ended?;
            down.await
        }
        Race::Second(ended) => {
            ended?;
            up.await
        }
    }
}

/// Moves bytes until `from` has sent its end, which is passed on.
async fn copy<S: Stream>(from: &S, to: &S) -> io::Result<()> {
    let mut buf = Buf::with_capacity(SMALL_BYTES);
    loop {
        let received;
        (received, buf) = from.read(buf).await;
        if received? == 0 {
            to.shutdown_write();
            return Ok(());
        }
        let is_full = buf.spare() == 0;
        while !buf.is_empty() {
            let (sent, rest) = to.write(buf, usize::MAX).await;
            buf = rest;
            sent?;
        }
        if is_full && buf.capacity() < LARGE_BYTES {
            buf = Buf::with_capacity(LARGE_BYTES);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpStream};
    use std::thread;
    use std::time::Duration;

    use super::*;

    /// A relay in front of `to`, what stops it, and what it returns.
    fn started(to: SocketAddr) -> (SocketAddr, UnixStream, thread::JoinHandle<io::Result<()>>) {
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = UnixStream::pair().unwrap();
        let relay = thread::spawn(move || serve(listener, to, stopped));
        (address, stop, relay)
    }

    fn connected(address: SocketAddr) -> TcpStream {
        let stream = TcpStream::connect(address).unwrap();
        // So that a mistake fails the test instead of hanging it.
        let patience = Some(Duration::from_secs(20));
        stream.set_read_timeout(patience).unwrap();
        stream.set_write_timeout(patience).unwrap();
        stream
    }

    #[test]
    fn bytes_and_ends_pass_both_ways() {
        let backend = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, stop, relay) = started(backend.local_addr().unwrap());
        let echo = thread::spawn(move || {
            let (mut stream, _) = backend.accept().unwrap();
            // Only an end that was passed on ends this.
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).unwrap();
            stream.write_all(&bytes).unwrap();
        });
        let sent: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
        let mut client = connected(address);
        client.write_all(&sent).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut received = Vec::new();
        client.read_to_end(&mut received).unwrap();
        assert!(received == sent, "{} bytes came back", received.len());
        echo.join().unwrap();
        drop(stop);
        relay.join().unwrap().unwrap();
    }

    #[test]
    fn a_backend_that_refuses_ends_the_connection() {
        let closed = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = closed.local_addr().unwrap();
        drop(closed);
        let (address, mut stop, relay) = started(to);
        assert_eq!(connected(address).read(&mut [0]).unwrap(), 0);
        stop.write_all(b"!").unwrap();
        relay.join().unwrap().unwrap();
    }
}
