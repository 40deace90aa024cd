//! Moving body bytes from one connection to the other.
//!
//! Decides: copy or splice. May not know: requests, routes, metrics. Invariant: at most one buffer or one pipe
//! of bytes is under way; a pipe goes back to the pool only when it is empty.

use std::cell::{Cell, RefCell};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::pin;

use rustix::io::Errno;
use rustix::pipe::SpliceFlags;

use crate::buf::Buf;
use crate::config::plan::Nanos;
use crate::io::Stream;
use crate::timer::{Elapsed, NEVER, Timer, Timers};
use crate::wait::{Race, closed, race, would_block};

/// From this many bytes on they are moved in the kernel. Chosen, not measured: a transfer costs six system calls, and
/// 64 KiB were clearly cheaper spliced. The size from which it pays is still to be found.
pub const SPLICE_MIN: u64 = 16 * 1024;

/// Wanted pipe size: fewer turns for large bodies. The kernel may give less.
const PIPE_BYTES: usize = 256 * 1024;

/// Idle pipes kept per shard: 32 × 2 descriptors.
const PIPES_MAX: usize = 32;

/// Pieces moved without waiting before other connections get their turn.
const TURNS_MAX: u32 = 16;

/// Turns in a row in which a sender was ready and yet nothing came: an urgent byte is in the way. A splice stops in
/// front of it for ever, and nobody who speaks HTTP sends one.
const STUCK_TURNS_MAX: u32 = 16;

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
        let deadline = patience.write(timers);
        let writing = pin!(timer.at(deadline, to.write(buf, most)));
        let Ok((written, back)) = writing.await else {
            // The buffer stays with the cancelled operation.
            return (Err(Cut::ToStalled), Buf::default());
        };
        buf = back;
        match written {
            // The other direction is being spliced.
            Err(_) if would_block(&written) => {
                // Boxed: rare, and it would make every write larger.
                if timer.at(deadline, Box::pin(to.writable())).await.is_err() {
                    return (Err(Cut::ToStalled), buf);
                }
            }
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

/// Holds both sockets in non-blocking mode while bytes are spliced. Ring operations on them get `WouldBlock`
/// meanwhile, which their callers turn into a wait for readiness.
struct NonBlocking<'a, S: Stream> {
    from: &'a S,
    to: &'a S,
}

impl<'a, S: Stream> NonBlocking<'a, S> {
    fn hold(from: &'a S, to: &'a S) -> Self {
        from.hold();
        to.hold();
        NonBlocking { from, to }
    }
}

impl<S: Stream> Drop for NonBlocking<'_, S> {
    fn drop(&mut self) {
        self.from.release();
        self.to.release();
    }
}

/// A silence longer than this is worth a look at whether the receiver is still there.
pub const WATCH_NS: Nanos = 100_000_000;

/// Moves bytes from one socket to the other without copying them through this process.
pub struct Transfer<'t, S> {
    pub from: &'t S,
    pub to: &'t S,
    pub pipes: &'t RefCell<Pipes>,
    pub timer: &'t Timer,
    pub timers: &'t Timers,
    pub patience: &'t Patience,
    pub pace: Option<&'t Pace>,
    /// Nobody else reads from the receiver: its end may be watched for.
    pub watch: bool,
}

/// What is under way in a pipe.
struct Load {
    left: u64,
    inside: usize,
    moved: u64,
}

impl<S: Stream> Transfer<'_, S> {
    /// Sends what is in `ahead`, then moves exactly `bytes`. Gives the number of bytes that were moved, and how it
    /// ended; what is left in `ahead` has not been sent.
    pub async fn run(&self, ahead: [&mut Buf; 2], bytes: u64) -> (u64, Result<(), Cut>) {
        let (Some(from), Some(to)) = (self.from.splice_fd(), self.to.splice_fd()) else {
            return (0, Err(Cut::Unable));
        };
        let Some(pipe) = self.pipes.borrow_mut().take() else {
            return (0, Err(Cut::Unable));
        };
        let held = NonBlocking::hold(self.from, self.to);
        let mut load = Load {
            left: bytes,
            inside: 0,
            moved: 0,
        };
        let mut turns = 0;
        let mut stuck = 0;
        let led = self.lead(from, &pipe, &mut load, ahead).await;
        let ended = loop {
            if led.is_err() {
                break led;
            }
            let filled = match self.fill(from, &pipe, &mut load) {
                Ok(n) => n,
                Err(cut) => break Err(cut),
            };
            let emptied = match empty(&pipe, to, &mut load) {
                Ok(n) => n,
                Err(cut) => break Err(cut),
            };
            if load.left == 0 && load.inside == 0 {
                break Ok(());
            }
            stuck = match filled + emptied + load.inside {
                0 => stuck + 1,
                _ => 0,
            };
            if stuck > STUCK_TURNS_MAX {
                break Err(Cut::From);
            }
            turns += 1;
            if filled + emptied > 0 && turns < TURNS_MAX {
                continue;
            }
            turns = 0;
            // Nothing moved, or others shall run: on the side that has work for us.
            if let Err(cut) = self.wait(load.inside > 0).await {
                break Err(cut);
            }
        };
        drop(held);
        if load.inside == 0 {
            self.pipes.borrow_mut().put(pipe);
        }
        (load.moved, ended)
    }

    /// Sends what goes before the body, in one packet with its beginning if that is there already: the receiver wakes
    /// up once instead of twice.
    async fn lead(
        &self,
        from: BorrowedFd<'_>,
        pipe: &Pipe,
        load: &mut Load,
        ahead: [&mut Buf; 2],
    ) -> Result<(), Cut> {
        if ahead.iter().all(|buf| buf.is_empty()) {
            return Ok(());
        }
        let filled = self.fill(from, pipe, load);
        let mut pushed = match load.inside {
            0 => 0,
            _ => self.to.push([ahead[0].pending(), ahead[1].pending()], true),
        };
        for buf in ahead {
            let mine = pushed.min(buf.len());
            pushed -= mine;
            buf.consume(mine);
            if !buf.is_empty() {
                let (bytes, taken) = (buf.len(), std::mem::take(buf));
                let (timers, patience) = (self.timers, self.patience);
                // Boxed: rare, and it would make every transfer larger.
                let sending = Box::pin(send(self.to, taken, bytes, self.timer, timers, patience));
                let sent;
                (sent, *buf) = sending.await;
                sent?;
            }
        }
        filled.map(drop)
    }

    /// Sender to pipe; the bytes moved.
    fn fill(&self, from: BorrowedFd<'_>, pipe: &Pipe, load: &mut Load) -> Result<usize, Cut> {
        if load.left == 0 || load.inside >= pipe.capacity {
            return Ok(0);
        }
        let left = usize::try_from(load.left).unwrap_or(usize::MAX);
        match piece(from, &pipe.write, left.min(pipe.capacity - load.inside)) {
            Ok(0) if load.inside == 0 => Err(Cut::From),
            Ok(n) => {
                load.left -= n as u64;
                load.inside += n;
                let pace = self
                    .pace
                    .is_none_or(|pace| pace.keeps(n as u64, self.timers.now()));
                if pace { Ok(n) } else { Err(Cut::FromStalled) }
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(0),
            Err(_) => Err(Cut::From),
        }
    }

    /// Waits until the side that holds the transfer up is ready again.
    async fn wait(&self, to_receiver: bool) -> Result<(), Cut> {
        if to_receiver {
            let deadline = self.patience.write(self.timers);
            return match self.timer.at(deadline, self.to.writable()).await {
                Err(Elapsed) => Err(Cut::ToStalled),
                Ok(ready) => ready.map_err(|_| Cut::To),
            };
        }
        let deadline = self.patience.read(self.timers);
        let glance = if self.watch {
            self.timers.after(WATCH_NS)
        } else {
            NEVER
        };
        let mut readable = pin!(self.from.readable());
        match self.timer.at(deadline.min(glance), readable.as_mut()).await {
            Ok(ready) => return ready.map_err(|_| Cut::From),
            Err(Elapsed) if glance >= deadline => return Err(Cut::FromStalled),
            Err(Elapsed) => {}
        }
        // Boxed: rare, and it would make every transfer larger.
        let either = Box::pin(race(readable, closed(self.to)));
        match self.timer.at(deadline, either).await {
            Ok(Race::First(ready)) => ready.map_err(|_| Cut::From),
            Ok(Race::Second(())) => Err(Cut::To),
            Err(Elapsed) => Err(Cut::FromStalled),
        }
    }
}

/// Pipe to receiver; the bytes moved.
fn empty(pipe: &Pipe, to: BorrowedFd<'_>, load: &mut Load) -> Result<usize, Cut> {
    if load.inside == 0 {
        return Ok(0);
    }
    match piece(&pipe.read, to, load.inside) {
        Ok(n) => {
            load.inside -= n;
            load.moved += n as u64;
            Ok(n)
        }
        Err(Errno::AGAIN | Errno::INTR) => Ok(0),
        Err(_) => Err(Cut::To),
    }
}

fn piece(from: impl AsFd, to: impl AsFd, most: usize) -> Result<usize, Errno> {
    let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
    rustix::pipe::splice(from, None, to, None, most, flags)
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
