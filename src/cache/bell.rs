//! How one shard tells another that something has come.
//!
//! Decides nothing. Invariant: whoever rings after a change wakes the shard after that change; rings that nobody has
//! heard yet are one.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{EventfdFlags, eventfd};

/// A shard's own. Rung by all, heard by it.
#[derive(Debug)]
pub struct Bell {
    /// `None`: there was no descriptor left.
    fd: Option<OwnedFd>,
    rung: AtomicBool,
}

impl Bell {
    #[expect(
        clippy::new_without_default,
        reason = "it opens a descriptor, which should be asked for by name"
    )]
    pub fn new() -> Bell {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        Bell {
            fd: eventfd(0, flags).ok(),
            rung: AtomicBool::new(false),
        }
    }

    pub fn ring(&self) {
        if !self.rung.swap(true, Ordering::SeqCst)
            && let Some(fd) = &self.fd
        {
            // Fails only when the count is full, and then it has been rung.
            let _ = rustix::io::write(fd, &1_u64.to_ne_bytes());
        }
    }

    /// Whether it was rung since the last time.
    pub fn heard(&self) -> bool {
        // Before the word: a ring from here on is a new one. Always: a ring may be written after it was heard.
        if let Some(fd) = &self.fd {
            let mut count = [0; 8];
            // Nothing may be there: the ring has not been written yet.
            let _ = rustix::io::read(fd, &mut count);
        }
        self.rung.swap(false, Ordering::SeqCst)
    }

    /// For waiting until it rings.
    pub fn descriptor(&self) -> io::Result<OwnedFd> {
        let fd = self.fd.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        fd.try_clone()
    }
}
