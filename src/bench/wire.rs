//! One connection: opening it, sending requests, taking their answers.
//!
//! Decides: which trouble a failure is. May not know: when requests are due. Invariant: a connection whose
//! exchange did not end cleanly is closed; each answer is recorded before the next is read.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use socket2::{Domain, Protocol, Type};

use crate::buf::Buf;
use crate::io::{Socket, Stream};

use super::address::Head;
use super::answer::Answer;
use super::tally::Trouble;
use super::worker::{Batch, World};

/// A buffer for a request on its way out, then for its answer; also the longest head of an answer.
pub(super) const BUFFER_BYTES: usize = 64 * 1024;

/// Bodies that we send are lines of 64 characters.
static BLOCK: [u8; 16 * 1024] = {
    let mut block = [b'\n'; 16 * 1024];
    let mut i = 0;
    while i < block.len() {
        if i % 64 != 63 {
            block[i] = b'a' + (i % 26) as u8;
        }
        i += 1;
    }
    block
};

/// Opens a connection from a given address. The descriptor is bound before it is connected, which the
/// runtime's own connect cannot do.
pub(super) async fn connect(
    address: SocketAddr,
    client: Option<IpAddr>,
    is_epoll: bool,
) -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = socket2::Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    if let Some(client) = client {
        socket.bind(&SocketAddr::from((client, 0)).into())?;
    }
    match socket.connect(&address.into()) {
        Ok(()) => {}
        Err(error)
            if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
        Err(error) => return Err(error),
    }
    let socket = Socket::accepted(OwnedFd::from(socket), true)?;
    socket.writable().await?;
    rustix::net::sockopt::socket_error(&socket)??;
    if !is_epoll {
        // A read on the ring is to wait, not to fail with EAGAIN.
        rustix::io::ioctl_fionbio(&socket, false)?;
    }
    Ok(socket)
}

/// Sends the requests of a batch and records their answers. `Ok` says whether the connection can be used again;
/// requests of the batch without an answer are the caller's to record.
pub(super) async fn exchange(
    world: &World,
    socket: &Socket,
    request: &Head,
    batch: &Batch,
) -> Result<bool, Trouble> {
    let mut buf = world.buffer();
    for _ in 0..batch.count {
        request.write(buf.append(), world.number());
        buf = send_body(world, socket, buf, batch.count > 1).await?;
    }
    let (sent, mut buf) = send(world, socket, buf).await;
    // An answer may have come before the request was out; if none has, this error is found again by reading.
    drop(sent);
    buf.clear();
    let mut closes = false;
    for number in 0..batch.count {
        let (answer, rest) = receive(world, socket, buf).await?;
        buf = rest;
        closes |= answer.closes;
        let is_last = number + 1 == batch.count;
        if is_last && !buf.is_empty() {
            return Err(Trouble::Protocol);
        }
        let judged = world.config.expect.judge(answer.status, answer.body_bytes);
        batch.answered.set(batch.answered.get() + 1);
        world.record(batch.due, answer.status, judged);
        if closes && !is_last {
            return Err(Trouble::Closed);
        }
    }
    world.put_back(buf);
    Ok(!closes)
}

/// Appends the body and sends what does not fit. `gather`: more requests follow in the same batch.
async fn send_body(
    world: &World,
    socket: &Socket,
    mut buf: Buf,
    gather: bool,
) -> Result<Buf, Trouble> {
    let message = &world.config.message;
    let mut left = message.body_bytes;
    while left > 0 {
        let n = usize::try_from(left).map_or(BLOCK.len(), |left| left.min(BLOCK.len()));
        let out = buf.append();
        if message.is_chunked {
            out.extend_from_slice(format!("{n:x}\r\n").as_bytes());
        }
        out.extend_from_slice(&BLOCK[..n]);
        if message.is_chunked {
            out.extend_from_slice(b"\r\n");
        }
        left -= n as u64;
        if left > 0 && buf.len() > BUFFER_BYTES - 2 * BLOCK.len() {
            let (sent, back) = send(world, socket, buf).await;
            buf = back;
            if sent.is_err() {
                // The peer may have answered early; the rest of the body would not be read.
                return Ok(buf);
            }
        }
    }
    if message.is_chunked {
        buf.append().extend_from_slice(b"0\r\n\r\n");
    }
    if gather && buf.len() > BUFFER_BYTES {
        let (_, back) = send(world, socket, buf).await;
        buf = back;
    }
    Ok(buf)
}

async fn send(world: &World, socket: &Socket, mut buf: Buf) -> (io::Result<()>, Buf) {
    while !buf.is_empty() {
        let (result, back) = socket.write(buf, usize::MAX).await;
        buf = back;
        match result {
            Ok(0) => return (Err(io::ErrorKind::WriteZero.into()), buf),
            Ok(n) => world.count_out(n),
            Err(error) => {
                buf.clear();
                return (Err(error), buf);
            }
        }
    }
    (Ok(()), buf)
}

/// Reads one answer; the buffer comes back with what followed it.
async fn receive(world: &World, socket: &Socket, mut buf: Buf) -> Result<(Answer, Buf), Trouble> {
    let mut answer = Answer::new(world.config.message.method == "HEAD");
    loop {
        let used = answer.take(buf.pending())?;
        buf.consume(used);
        if answer.is_done() {
            return Ok((answer, buf));
        }
        if buf.spare() == 0 {
            // The buffer moves its pending bytes to the front before it would grow.
            if buf.len() >= BUFFER_BYTES {
                return Err(Trouble::Protocol);
            }
            buf.reserve(1);
        }
        let (result, back) = socket.read(buf).await;
        buf = back;
        match result {
            Ok(0) => {
                answer.end(buf.pending())?;
                return Ok((answer, buf));
            }
            Ok(n) => world.count_in(n),
            Err(_) => return Err(Trouble::Reset),
        }
    }
}
