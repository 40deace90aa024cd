//! Small waits on streams and on two things at once.
//!
//! Decides: nothing. May not know: sockets beyond `Stream`. Invariant: whoever loses a race is dropped, never left running.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::task::Poll;

use crate::io::{Peek, Stream};

/// The socket is held in non-blocking mode and nothing is there.
pub fn would_block(result: &io::Result<usize>) -> bool {
    result
        .as_ref()
        .is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

/// Ends when the peer has closed; bytes that it sends meanwhile end the watch, not the wait.
pub async fn closed<S: Stream>(stream: &S) {
    if stream.readable().await.is_ok() && stream.peek() == Peek::Bytes {
        // Bytes of the next request are in the way of the end behind them.
        std::future::pending::<()>().await;
    }
}

/// Waits for two things at once, in one task: the first that is ready wins, `first` when both are.
pub async fn race<A, B>(
    first: impl Future<Output = A>,
    second: impl Future<Output = B>,
) -> Race<A, B> {
    let mut first = pin!(first);
    let mut second = pin!(second);
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
