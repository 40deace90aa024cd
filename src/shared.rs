//! What more than one core can see.
//!
//! Decides nothing. Invariant: every field says who writes it and who reads it; none is written on the
//! request path.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use crate::config::plan::Plan;

/// Shared by all threads of a process.
#[derive(Debug)]
pub struct Shared {
    /// Written once before the shards start; read by all.
    pub plan: Arc<Plan>,
    /// Number of shards. Written once.
    pub shards: usize,
    /// Written by the control thread, read by every shard once a tick.
    stop: AtomicU8,
    /// Client connections of the process: written by a shard per connection (not per request), read with it.
    connections: AtomicU32,
    /// Client connections that the file descriptors carry. Written once.
    room: u32,
}

/// How far the process has come in stopping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    No,
    /// No new connections, no keep-alive; what is under way is finished.
    Drain,
    /// Everything ends at once.
    Now,
}

impl Shared {
    pub fn new(plan: Arc<Plan>, shards: usize, room: u32) -> Self {
        Shared {
            plan,
            shards,
            stop: AtomicU8::new(0),
            connections: AtomicU32::new(0),
            room,
        }
    }

    pub fn stop(&self) -> Stop {
        // Relaxed: nothing is published through this word, and a tick of delay does no harm.
        match self.stop.load(Ordering::Relaxed) {
            0 => Stop::No,
            1 => Stop::Drain,
            _ => Stop::Now,
        }
    }

    pub fn set_stop(&self, stop: Stop) {
        self.stop.store(stop as u8, Ordering::Relaxed);
    }

    /// Counts one more connection unless the limit is reached.
    pub fn connection_opened(&self) -> bool {
        let most = match self.plan.connections_max {
            0 => u32::MAX,
            most => most,
        };
        // Relaxed: a count, not a lock.
        if self.connections.fetch_add(1, Ordering::Relaxed) >= most {
            self.connections.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        true
    }

    pub fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Client connections beyond which accepting waits: each may need one to a backend.
    pub fn room(&self) -> u32 {
        self.room
    }

    pub fn connection_closed(&self) {
        let before = self.connections.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "closed more connections than were opened");
    }
}
