//! Moving body bytes from one connection to the other.
//!
//! Decides: copy or splice. May not know: requests, routes, metrics. Invariant: at most one buffer or one pipe
//! of bytes is under way; a pipe goes back to the pool only when it is empty.

use std::cell::{Cell, RefCell};
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::pipe::SpliceFlags;

use crate::buf::Buf;
use crate::config::plan::Nanos;
use crate::io::Stream;
use crate::timer::{Timer, Timers};

/// From this many bytes on, moving them in the kernel costs less than copying them (`scripts/bench`).
pub const SPLICE_MIN: u64 = 16 * 1024;

/// Wanted pipe size: fewer turns for large bodies. The kernel may give less.
const PIPE_BYTES: usize = 256 * 1024;

/// Idle pipes kept per shard: 32 × 2 descriptors.
const PIPES_MAX: usize = 32;

/// Pieces moved without waiting before other connections get their turn.
const TURNS_MAX: u32 = 16;

/// Which side ended a transfer, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The sender closed or failed before the end.
    From,
    /// The receiver closed or failed.
    To,
    /// The sender was silent for too long.
    FromStalled,
    /// The receiver took nothing for too long.
    ToStalled,
    /// The kernel refused (no pipe): nothing has been moved.
    Unable,
}

/// Longest silences of a transfer.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    pub read_ns: Nanos,
    pub write_ns: Nanos,
    /// The whole request's deadline.
    pub until: Nanos,
}

impl Patience {
    fn read(&self, timers: &Timers) -> Nanos {
        timers.after(self.read_ns).min(self.until)
    }

    pub fn write(&self, timers: &Timers) -> Nanos {
        timers.after(self.write_ns).min(self.until)
    }
}

/// The slowest pace of a sender (against bodies that trickle for ever). Each window of time is judged by itself.
#[derive(Debug)]
pub struct Pace {
    rate_min: u64,
    window_ns: Nanos,
    since: Cell<Nanos>,
    bytes: Cell<u64>,
}

impl Pace {
    /// At least `rate_min` bytes per second over each `window_ns`; 0 is any pace.
    pub fn new(rate_min: u64, window_ns: Nanos, now: Nanos) -> Self {
        Pace {
            rate_min,
            window_ns,
            since: Cell::new(now),
            bytes: Cell::new(0),
        }
    }

    /// Counts bytes that arrived; `false` when a window ends with too few.
    pub fn keeps(&self, bytes: u64, now: Nanos) -> bool {
        self.bytes.set(self.bytes.get().saturating_add(bytes));
        let elapsed = now.saturating_sub(self.since.get());
        if self.rate_min == 0 || elapsed < self.window_ns {
            return true;
        }
        let needed = u128::from(self.rate_min) * u128::from(elapsed) / 1_000_000_000;
        self.since.set(now);
        u128::from(self.bytes.replace(0)) >= needed
    }
}

/// Writes the first `most` pending bytes of `buf`; each piece that is taken renews the patience.
pub async fn send<S: Stream>(
    to: &S,
    mut buf: Buf,
    mut most: usize,
    timer: &Timer,
    timers: &Timers,
    patience: &Patience,
) -> (Result<(), Cut>, Buf) {
    while most > 0 {
        let written = match timer.at(patience.write(timers), to.write(buf, most)).await {
            // The buffer stays with the cancelled operation.
            Err(_) => return (Err(Cut::ToStalled), Buf::default()),
            Ok((result, back)) => {
                buf = back;
                result
            }
        };
        match written {
            Ok(0) | Err(_) => return (Err(Cut::To), buf),
            Ok(n) => most -= n,
        }
    }
    (Ok(()), buf)
}

/// A pipe between two sockets.
#[derive(Debug)]
pub struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    capacity: usize,
}

/// A shard's free pipes.
#[derive(Debug, Default)]
pub struct Pipes {
    free: Vec<Pipe>,
}

impl Pipes {
    /// `None` when the descriptors have run out.
    pub fn take(&mut self) -> Option<Pipe> {
        if let Some(pipe) = self.free.pop() {
            return Some(pipe);
        }
        use rustix::pipe::{PipeFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with};
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
        // Refused beyond the user's pipe quota: the default size works too.
        let _ = fcntl_setpipe_size(&write, PIPE_BYTES);
        let capacity = fcntl_getpipe_size(&write).unwrap_or(4096);
        Some(Pipe {
            read,
            write,
            capacity,
        })
    }

    /// Takes back a pipe that is empty.
    pub fn put(&mut self, pipe: Pipe) {
        if self.free.len() < PIPES_MAX {
            self.free.push(pipe);
        }
    }
}

/// Holds both sockets in non-blocking mode while bytes are spliced. Ring operations on them meanwhile get
/// EAGAIN, which `Socket::read` and `Socket::write` turn into a wait for readiness.
struct NonBlocking<'a> {
    from: BorrowedFd<'a>,
    to: BorrowedFd<'a>,
    restore: bool,
}

impl<'a> NonBlocking<'a> {
    fn hold(from: BorrowedFd<'a>, to: BorrowedFd<'a>) -> Result<Self, Errno> {
        // The epoll engine's sockets are non-blocking for good.
        let restore = !rustix::fs::fcntl_getfl(to)?.contains(rustix::fs::OFlags::NONBLOCK);
        if restore {
            rustix::io::ioctl_fionbio(from, true)?;
            rustix::io::ioctl_fionbio(to, true)?;
        }
        Ok(NonBlocking { from, to, restore })
    }
}

impl Drop for NonBlocking<'_> {
    fn drop(&mut self) {
        if self.restore {
            // Cannot fail on an open socket; a socket left non-blocking still works, only slower.
            let _ = rustix::io::ioctl_fionbio(self.from, false);
            let _ = rustix::io::ioctl_fionbio(self.to, false);
        }
    }
}

/// Moves exactly `bytes` from one socket to the other without copying them through this process.
/// Gives the number of bytes that reached the receiver's socket, and how it ended.
#[expect(
    clippy::too_many_arguments,
    reason = "two ends, and what bounds and accounts for the way between them"
)]
pub async fn splice<S: Stream>(
    from: &S,
    to: &S,
    bytes: u64,
    pipes: &RefCell<Pipes>,
    timer: &Timer,
    timers: &Timers,
    patience: &Patience,
    pace: Option<&Pace>,
) -> (u64, Result<(), Cut>) {
    let (Some(from_fd), Some(to_fd)) = (from.splice_fd(), to.splice_fd()) else {
        return (0, Err(Cut::Unable));
    };
    let Some(pipe) = pipes.borrow_mut().take() else {
        return (0, Err(Cut::Unable));
    };
    let Ok(_held) = NonBlocking::hold(from_fd, to_fd) else {
        return (0, Err(Cut::Unable));
    };
    let mut moved = 0;
    let mut inside = 0;
    let mut left = bytes;
    let mut turns = 0;
    let ended = loop {
        let mut progress = false;
        if left > 0 && inside < pipe.capacity {
            let want = usize::try_from(left)
                .unwrap_or(usize::MAX)
                .min(pipe.capacity - inside);
            match piece(from_fd, &pipe.write, want) {
                Ok(0) if inside == 0 => break Err(Cut::From),
                Ok(n) => {
                    left -= n as u64;
                    inside += n;
                    progress = n > 0;
                    if pace.is_some_and(|pace| !pace.keeps(n as u64, timers.now())) {
                        break Err(Cut::FromStalled);
                    }
                }
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(_) => break Err(Cut::From),
            }
        }
        let mut blocked = false;
        if inside > 0 {
            match piece(&pipe.read, to_fd, inside) {
                Ok(n) => {
                    inside -= n;
                    moved += n as u64;
                    progress |= n > 0;
                }
                Err(Errno::AGAIN | Errno::INTR) => blocked = true,
                Err(_) => break Err(Cut::To),
            }
        }
        if left == 0 && inside == 0 {
            break Ok(());
        }
        turns = if progress { turns + 1 } else { 0 };
        if progress && turns < TURNS_MAX {
            continue;
        }
        turns = 0;
        // Also to let others run: then on the side that has work for us.
        let blocked = blocked || inside > 0;
        if let Err(cut) = wait(from, to, blocked, timer, timers, patience).await {
            break Err(cut);
        }
    };
    if inside == 0 {
        pipes.borrow_mut().put(pipe);
    }
    (moved, ended)
}

fn piece(
    from: impl std::os::fd::AsFd,
    to: impl std::os::fd::AsFd,
    most: usize,
) -> Result<usize, Errno> {
    rustix::pipe::splice(
        from,
        None,
        to,
        None,
        most,
        SpliceFlags::NONBLOCK | SpliceFlags::MOVE,
    )
}

/// Waits until the side that holds the transfer up is ready again.
async fn wait<S: Stream>(
    from: &S,
    to: &S,
    blocked: bool,
    timer: &Timer,
    timers: &Timers,
    patience: &Patience,
) -> Result<(), Cut> {
    if blocked {
        return match timer.at(patience.write(timers), to.writable()).await {
            Err(_) => Err(Cut::ToStalled),
            Ok(Err(_)) => Err(Cut::To),
            Ok(Ok(())) => Ok(()),
        };
    }
    match timer.at(patience.read(timers), from.readable()).await {
        Err(_) => Err(Cut::FromStalled),
        Ok(Err(_)) => Err(Cut::From),
        Ok(Ok(())) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Nanos = 1_000_000_000;

    #[test]
    fn a_pace_is_judged_window_by_window() {
        let pace = Pace::new(10, 5 * SECOND, 0);
        assert!(pace.keeps(1, 4 * SECOND), "within the window anything goes");
        assert!(pace.keeps(49, 5 * SECOND), "50 bytes in 5 s");
        assert!(!pace.keeps(49, 10 * SECOND), "49 bytes in 5 s");
        assert!(pace.keeps(u64::MAX, 20 * SECOND));
    }

    #[test]
    fn no_pace_is_any_pace() {
        assert!(Pace::new(0, SECOND, 0).keeps(0, u64::MAX));
    }
}
