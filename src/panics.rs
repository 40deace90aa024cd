//! A panic of ours ends one connection and not the process (R21).
//!
//! Decides nothing. Invariant: a future that panicked is never polled again.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use crate::metrics::{Counter, ShardMetrics};

/// The future, ended and counted if it panics. Its connection is closed by the unwinding.
pub async fn catch(metrics: Arc<ShardMetrics>, future: impl Future<Output = ()>) {
    let mut future = pin!(future);
    std::future::poll_fn(|cx| {
        // Unwind safety: the future is dropped after a panic; the shard's cells hold no borrow across it,
        // because guards are released while unwinding.
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(poll) => poll,
            Err(_) => {
                metrics.add(Counter::Panics, 1);
                Poll::Ready(())
            }
        }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::{Context, Waker};

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
