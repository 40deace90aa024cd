//! A new connection to a backend.
//!
//! Decides: which of a backend's addresses is tried when (RFC 8305, happy eyeballs). May not know: requests.
//! Invariant: at most one connection comes out; the others are closed.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::Poll;

use rustix::io::Errno;

use crate::config::plan::{Address, Nanos};
use crate::io::{Io, Target};
use crate::metrics::Reason;
use crate::policy::BackendId;
use crate::shard::Shard;
use crate::timer::{Elapsed, Timer};

/// Head start of an address over the next one (RFC 8305 section 5 recommends 250 ms).
const STAGGER_NS: Nanos = 250_000_000;

/// Connects to the backend by one of its addresses.
pub async fn connect<I: Io>(
    shard: &Shard<I>,
    backend: BackendId,
    timer: &Timer,
    deadline: Nanos,
) -> Result<I::Stream, Reason> {
    let backend = &shard.plan.backends[backend.0 as usize];
    let congestion = shard.plan.clusters[backend.cluster.0 as usize]
        .pool
        .tcp_congestion
        .as_deref();
    let dialled = dial(&shard.io, &backend.address, congestion);
    let connected = timer.at(deadline, dialled).await;
    match connected {
        Ok(Ok(stream)) => Ok(stream),
        // Not held against the backend, and no other would do better.
        Ok(Err(error)) if is_ours(&error) => Err(Reason::Internal),
        Ok(Err(_)) => Err(Reason::ConnectFailed),
        Err(Elapsed) => Err(Reason::ConnectTimeout),
    }
}

/// We lack descriptors, memory or ports.
pub fn is_ours(error: &io::Error) -> bool {
    let lacks = [
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOBUFS,
        Errno::NOMEM,
        Errno::ADDRNOTAVAIL,
    ];
    lacks
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Connects to one of the address's sockets, however long that takes.
pub async fn dial<I: Io>(
    io: &I,
    address: &Address,
    congestion: Option<&str>,
) -> io::Result<I::Stream> {
    match address {
        Address::Unix(path) => io.connect(Target::Unix(path)).await,
        Address::Tcp { resolved, .. } => match resolved.as_slice() {
            [] => Err(io::ErrorKind::AddrNotAvailable.into()),
            [one] => io.connect(Target::Tcp(*one, congestion)).await,
            // Boxed: rare, and larger.
            several => Box::pin(staggered(io, several, congestion)).await,
        },
    }
}

/// Starts the addresses one after the other, the next when the one before has failed or had its head start.
async fn staggered<I: Io>(
    io: &I,
    addresses: &[SocketAddr],
    congestion: Option<&str>,
) -> io::Result<I::Stream> {
    type Attempt<'a, S> = Pin<Box<dyn Future<Output = io::Result<S>> + 'a>>;
    let mut waiting = addresses.iter();
    let mut running: Vec<Attempt<'_, I::Stream>> = Vec::new();
    let mut stagger: Pin<Box<dyn Future<Output = ()> + '_>> = Box::pin(std::future::ready(()));
    let mut failed = io::Error::from(io::ErrorKind::AddrNotAvailable);
    std::future::poll_fn(|cx| {
        loop {
            let mut one_failed = false;
            let mut i = 0;
            while i < running.len() {
                match running[i].as_mut().poll(cx) {
                    Poll::Ready(Ok(stream)) => return Poll::Ready(Ok(stream)),
                    Poll::Ready(Err(error)) => {
                        failed = error;
                        one_failed = true;
                        drop(running.swap_remove(i));
                    }
                    Poll::Pending => i += 1,
                }
            }
            let next_due = one_failed || stagger.as_mut().poll(cx).is_ready();
            match if next_due { waiting.next() } else { None } {
                Some(address) => {
                    running.push(Box::pin(io.connect(Target::Tcp(*address, congestion))));
                    stagger = Box::pin(io.sleep(STAGGER_NS));
                }
                None if running.is_empty() => {
                    let error = std::mem::replace(&mut failed, io::ErrorKind::Other.into());
                    return Poll::Ready(Err(error));
                }
                None => return Poll::Pending,
            }
        }
    })
    .await
}
