//! What the proxy sees of an end: its operations, which end late, move a part, or go on when nobody waits.
//!
//! Decides: what a forgotten operation has still done. Invariant: a cancelled read says whether it has bytes.

use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use corelane::buf::Buf;
use corelane::config::plan::Nanos;
use corelane::io::{Peek, Stream};

use super::SimStream;
use crate::world::MS;

/// An operation that was given to the kernel. When nobody waits for it any more it may still happen.
struct InFlight<'s, F: Future> {
    stream: &'s SimStream,
    future: Pin<Box<F>>,
    pending: bool,
    forgotten: fn(&SimStream),
}

impl<F: Future> Future for InFlight<'_, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let poll = self.future.as_mut().poll(cx);
        self.pending = poll.is_pending();
        poll
    }
}

impl<F: Future> Drop for InFlight<'_, F> {
    fn drop(&mut self) {
        if self.pending {
            (self.forgotten)(self.stream);
        }
    }
}

/// A dropped read may have taken bytes.
fn read_forgotten(stream: &SimStream) {
    stream.cancelable.set(false);
    let now = stream.link.world.now();
    let mut way = stream.link.ways[1 - stream.side].borrow_mut();
    way.settle(now);
    let arrived = !way.arrived.is_empty();
    drop(way);
    if arrived && stream.link.world.chance(50) {
        drop(stream.take(4096));
    }
}

impl SimStream {
    /// Writes some of the bytes, as a ring does.
    async fn writing(&self, bytes: &[u8]) -> io::Result<usize> {
        let write = async {
            self.late().await;
            poll_fn(|cx| self.poll_write(cx, bytes)).await
        };
        let write = InFlight {
            stream: self,
            future: Box::pin(write),
            pending: false,
            forgotten: |_| {},
        };
        write.await
    }
}

impl Stream for SimStream {
    async fn read(&self, mut buf: Buf) -> (io::Result<usize>, Buf) {
        if buf.spare() == 0 {
            return (Ok(0), buf);
        }
        let most = buf.spare();
        let read = async {
            self.late().await;
            self.receive(most).await
        };
        let read = InFlight {
            stream: self,
            future: Box::pin(read),
            pending: false,
            forgotten: read_forgotten,
        };
        let result = read.await.map(|bytes| {
            buf.append().extend_from_slice(&bytes);
            bytes.len()
        });
        (result, buf)
    }

    async fn read_cancelable(&self, mut buf: Buf) -> (io::Result<usize>, Buf) {
        let most = buf.spare();
        assert!(most > 0, "a cancelable read has room");
        self.cancelable.set(true);
        self.cancelled.set(None);
        let read = poll_fn(|cx| {
            if let Poll::Ready(result) = self.poll_read(cx, most) {
                return Poll::Ready(result);
            }
            let now = self.link.world.now();
            match self.cancelled.get() {
                Some(at) if at <= now => Poll::Ready(Err(io::Error::from_raw_os_error(
                    rustix::io::Errno::CANCELED.raw_os_error(),
                ))),
                Some(at) => {
                    self.link.world.wake_at(at, cx.waker());
                    Poll::Pending
                }
                None => {
                    *self.cancel_waker.borrow_mut() = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        });
        let read = InFlight {
            stream: self,
            future: Box::pin(read),
            pending: false,
            forgotten: read_forgotten,
        };
        let result = read.await;
        self.cancelable.set(false);
        let result = result.map(|bytes| {
            buf.append().extend_from_slice(&bytes);
            bytes.len()
        });
        (result, buf)
    }

    fn cancel_read(&self) {
        if !self.cancelable.get() {
            return;
        }
        let world = &self.link.world;
        // Bytes may come before the cancellation does.
        let late = if world.chance(30) { 2 * MS } else { 0 };
        self.cancelled
            .set(Some(world.now() + world.below(late + 1)));
        if let Some(waker) = self.cancel_waker.borrow_mut().take() {
            waker.wake();
        }
    }

    async fn write(&self, mut buf: Buf, most: usize) -> (io::Result<usize>, Buf) {
        let bytes = &buf.pending()[..most.min(buf.len())];
        let result = self.writing(bytes).await;
        if let Ok(n) = result {
            buf.consume(n);
        }
        (result, buf)
    }

    async fn write_shared(&self, bytes: Bytes) -> (io::Result<usize>, Bytes) {
        let result = self.writing(&bytes).await;
        (result, bytes)
    }

    async fn readable(&self) -> io::Result<()> {
        // Like poll(2): ready at the end and on an error too.
        poll_fn(|cx| self.poll_readable(cx).map(|_| Ok(()))).await
    }

    async fn writable(&self) -> io::Result<()> {
        poll_fn(|cx| self.poll_room(cx).map(|_| Ok(()))).await
    }

    fn read_now(&self, buf: &mut Buf) -> io::Result<usize> {
        let mut nobody = Context::from_waker(Waker::noop());
        match self.poll_read(&mut nobody, buf.spare()) {
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
            Poll::Ready(result) => result.map(|bytes| {
                buf.append().extend_from_slice(&bytes);
                bytes.len()
            }),
        }
    }

    fn peek(&self) -> Peek {
        let mut way = self.link.ways[1 - self.side].borrow_mut();
        let now = self.link.world.now();
        way.settle(now);
        if !way.arrived.is_empty() {
            return Peek::Bytes;
        }
        let over = |at: Option<Nanos>| at.is_some_and(|at| at <= now);
        if way.under_way.is_empty() && (over(way.fin) || over(way.reset)) {
            Peek::Closed
        } else {
            Peek::Quiet
        }
    }

    fn shutdown_write(&self) {
        self.finish();
    }

    fn reset_on_close(&self) {
        self.abort();
    }

    fn look(&self, _bytes: &mut Vec<u8>) {}

    fn look_behind(&self, _skip: usize, _bytes: &mut [u8]) -> Option<usize> {
        None
    }

    fn available(&self) -> usize {
        0
    }

    fn push(&self, parts: [&[u8]; 2], more: bool) -> usize {
        // What goes out with more is spliced, which nothing here can.
        if more || parts[0].is_empty() || self.link.world.chance(30) {
            return 0;
        }
        let mut nobody = Context::from_waker(Waker::noop());
        match self.poll_write(&mut nobody, parts[0]) {
            Poll::Ready(Ok(count)) => count,
            Poll::Ready(Err(_)) | Poll::Pending => 0,
        }
    }

    fn hold(&self) {}

    fn release(&self) {}

    fn splice_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}
