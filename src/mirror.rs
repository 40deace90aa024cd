//! Copies of requests for a shadow cluster.
//!
//! Decides: which requests are copied. May not know: what becomes of the original. Invariant: a copy never delays or
//! fails the original: it is made of bytes that are at hand, sent by a task of its own, and its answer is forgotten.

use std::cell::Cell;
use std::rc::Rc;

use crate::config::plan::{Mirror, Nanos};
use crate::decide::Job;
use crate::io::Io;
use crate::metrics::Counter;
use crate::shard::Shard;
use crate::subrequest::{Question, ask};

/// Copies under way per shard; more are left out.
const COPIES_MAX: u32 = 256;

/// A copy that takes longer is given up.
const COPY_NS: Nanos = 30_000_000_000;

/// Of an answer so many bytes are read, so that its connection can be used again.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// Copies the request, if it is its turn and all of it is here. `bytes`: as a backend gets it.
pub fn copy<I: Io>(shard: &Rc<Shard<I>>, mirror: Mirror, job: &Job, bytes: &[u8]) {
    if shard.random() % 100 >= u64::from(mirror.percent) {
        return;
    }
    let copies = &shard.copies;
    if job.held.is_none() || job.upgrade || copies.get() >= COPIES_MAX {
        shard.metrics.add(Counter::MirrorDropped, 1);
        return;
    }
    copies.set(copies.get() + 1);
    let guard = Copy(Rc::clone(shard));
    let (bytes, method) = (bytes.to_vec(), job.method);
    shard.io.spawn(async move {
        let shard = &guard.0;
        let question = Question {
            cluster: mirror.cluster,
            method,
            until: shard.timers.after(COPY_NS),
            body_bytes_max: ANSWER_BYTES_MAX,
            write: &|_, out| out.extend_from_slice(&bytes),
        };
        let counter = match ask(shard, &question).await {
            Ok(_) => Counter::Mirrored,
            Err(_) => Counter::MirrorFailed,
        };
        shard.metrics.add(counter, 1);
    });
}

/// One copy under way.
struct Copy<I: Io>(Rc<Shard<I>>);

impl<I: Io> Drop for Copy<I> {
    fn drop(&mut self) {
        let copies: &Cell<u32> = &self.0.copies;
        copies.set(copies.get() - 1);
    }
}
