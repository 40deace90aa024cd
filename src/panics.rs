//! A panic of ours ends one connection and not the process (R21).
//!
//! Decides nothing. Invariant: a future that panicked is never polled again.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::metrics::{Counter, ShardMetrics};

pin_project_lite::pin_project! {
    /// The future, ended and counted if it panics. Its connection is closed by the unwinding. Written out, because
    /// an async function would hold the future twice.
    pub struct Catch<F> {
        #[pin]
        future: F,
        metrics: Arc<ShardMetrics>,
    }
}

pub fn catch<F: Future<Output = ()>>(metrics: Arc<ShardMetrics>, future: F) -> Catch<F> {
    Catch { future, metrics }
}

impl<F: Future<Output = ()>> Future for Catch<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        // Unwind safety: the future is not polled again after a panic; the shard's cells hold no borrow across
        // it, because guards are released while unwinding.
        match catch_unwind(AssertUnwindSafe(|| this.future.poll(cx))) {
            Ok(poll) => poll,
            Err(_) => {
                this.metrics.add(Counter::Panics, 1);
                Poll::Ready(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::Waker;

    #[test]
    fn a_panic_is_counted_and_ends_the_future() {
        let metrics = Arc::new(ShardMetrics::new(0));
        let mut caught = pin!(catch(Arc::clone(&metrics), async {
            panic!("expected by this test")
        }));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(caught.as_mut().poll(&mut cx).is_ready());
        assert_eq!(metrics.counter(Counter::Panics), 1);
    }
}
