//! Copies of requests for a shadow cluster.
//!
//! Decides: which requests are copied. May not know: what becomes of the original. Invariant: a copy never delays or
//! fails the original: it is made of bytes that are at hand, sent by a task of its own, and its answer is forgotten.

use std::rc::Rc;

use crate::config::plan::{Mirror, Nanos};
use crate::decide::Job;
use crate::io::Io;
use crate::metrics::Counter;
use crate::shard::Shard;
use crate::subrequest::{Question, ask};

/// Copies under way per shard; more are left out. Each has a connection.
const COPIES_MAX: u32 = 64;

/// All of them have at most this part of the descriptors that client connections may have.
const ROOM_SHARE: u32 = 16;

/// Bytes of the copies under way per shard; more are left out.
const COPIED_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A copy that takes longer is given up: a shadow that hangs shall hold little.
const COPY_NS: Nanos = 5_000_000_000;

/// Of an answer so many bytes are read, so that its connection can be used again.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// Copies the request, if it is its turn and all of it is here. `bytes`: as a backend gets it.
pub fn copy<I: Io>(shard: &Rc<Shard<I>>, mirror: Mirror, job: &Job, bytes: &[u8]) {
    if shard.random() % 100 >= u64::from(mirror.percent) {
        return;
    }
    let copies = shard.copies.get();
    let room = shard.shared.room() / ROOM_SHARE / shard.shared.shards() as u32;
    let most = COPIES_MAX.min(room);
    let is_heavy = copies.bytes + bytes.len() > COPIED_BYTES_MAX;
    if job.held.is_none() || job.upgrade || copies.count >= most || is_heavy {
        shard.metrics.add(Counter::MirrorDropped, 1);
        return;
    }
    let guard = Copy::begin(Rc::clone(shard), bytes.len());
    let (bytes, method) = (bytes.to_vec(), job.method);
    shard.io.spawn(async move {
        let shard = &guard.shard;
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

/// What is under way in a shard.
#[derive(Debug, Clone, Copy, Default)]
pub struct Copies {
    count: u32,
    bytes: usize,
}

/// One copy under way.
struct Copy<I: Io> {
    shard: Rc<Shard<I>>,
    bytes: usize,
}

impl<I: Io> Copy<I> {
    fn begin(shard: Rc<Shard<I>>, bytes: usize) -> Self {
        let copies = shard.copies.get();
        shard.copies.set(Copies {
            count: copies.count + 1,
            bytes: copies.bytes + bytes,
        });
        Copy { shard, bytes }
    }
}

impl<I: Io> Drop for Copy<I> {
    fn drop(&mut self) {
        let copies = self.shard.copies.get();
        self.shard.copies.set(Copies {
            count: copies.count - 1,
            bytes: copies.bytes - self.bytes,
        });
    }
}
