//! The thread that writes the access log.
//!
//! Shards hand over batches of whole lines through a bounded queue. A full queue, a closed pipe or a full disk
//! costs lines, never time on a shard.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{
    Receiver, RecvTimeoutError, SyncSender, TryRecvError, TrySendError, sync_channel,
};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

/// With batches of up to 64 KiB, the memory that a stuck reader of our log costs: 4 MiB.
const QUEUE_BATCHES: usize = 64;

/// A shard's end of the queue. Clones share it.
#[derive(Debug, Clone)]
pub struct LogQueue {
    batches: SyncSender<Vec<u8>>,
    write_errors: Arc<AtomicU64>,
}

impl LogQueue {
    /// Hands over whole lines. Never blocks: what finds no room comes back, to be counted and dropped.
    pub fn send(&self, batch: Vec<u8>) -> Result<(), Vec<u8>> {
        self.batches
            .try_send(batch)
            .map_err(|refused| match refused {
                TrySendError::Full(batch) | TrySendError::Disconnected(batch) => batch,
            })
    }

    /// Writes that failed so far; for the metrics.
    pub fn write_errors(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.write_errors)
    }
}

/// The owner's end: ends the writer.
#[derive(Debug)]
pub struct LogHandle {
    queue: LogQueue,
    stopping: Arc<AtomicBool>,
    /// Closed when the writer ends.
    ended: Receiver<()>,
    thread: JoinHandle<()>,
}

impl LogHandle {
    /// Lets the writer write what is queued, and waits for it, but no longer than `patience`: whoever reads our
    /// standard output may have stopped. Returns whether everything was handed to the kernel.
    pub fn finish(self, patience: Duration) -> bool {
        self.stopping.store(true, Ordering::Release);
        // Wakes a writer that waits. If the queue is full it does not wait, and will see the flag.
        let _ = self.queue.send(Vec::new());
        match self.ended.recv_timeout(patience) {
            Ok(()) | Err(RecvTimeoutError::Disconnected) => self.thread.join().is_ok(),
            Err(RecvTimeoutError::Timeout) => false,
        }
    }
}

/// Standard output without the line buffer of `std::io::Stdout`.
pub fn stdout() -> io::Result<File> {
    io::stdout().as_fd().try_clone_to_owned().map(File::from)
}

/// Starts the writer thread.
pub fn start(target: impl Write + Send + 'static) -> io::Result<(LogQueue, LogHandle)> {
    let (batches, queued) = sync_channel(QUEUE_BATCHES);
    let (ending, ended) = sync_channel(0);
    let write_errors = Arc::new(AtomicU64::new(0));
    let stopping = Arc::new(AtomicBool::new(false));
    let mut writer = Writer {
        target,
        write_errors: Arc::clone(&write_errors),
        torn: false,
    };
    let stop = Arc::clone(&stopping);
    let thread = Builder::new().name("log".to_owned()).spawn(move || {
        writer.run(&queued, &stop);
        drop(ending);
    })?;
    let queue = LogQueue {
        batches,
        write_errors,
    };
    Ok((
        queue.clone(),
        LogHandle {
            queue,
            stopping,
            ended,
            thread,
        },
    ))
}

struct Writer<W> {
    target: W,
    write_errors: Arc<AtomicU64>,
    /// The last write failed in the middle of a line.
    torn: bool,
}

impl<W: Write> Writer<W> {
    fn run(&mut self, queued: &Receiver<Vec<u8>>, stopping: &AtomicBool) {
        loop {
            let batch = if stopping.load(Ordering::Acquire) {
                queued.try_recv()
            } else {
                queued.recv().map_err(|_| TryRecvError::Disconnected)
            };
            match batch {
                Ok(batch) => self.write(&batch),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return,
            }
        }
    }

    fn write(&mut self, batch: &[u8]) {
        if batch.is_empty() {
            return;
        }
        if self.torn && self.write_all(b"\n").is_err() {
            return;
        }
        self.torn = false;
        if let Err(written) = self.write_all(batch) {
            self.torn = written > 0 && batch[written - 1] != b'\n';
        }
    }

    /// On an error, counts it and returns how many bytes went out before.
    fn write_all(&mut self, bytes: &[u8]) -> Result<(), usize> {
        let mut written = 0;
        while written < bytes.len() {
            match self.target.write(&bytes[written..]) {
                Ok(count) if count > 0 => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => {
                    self.write_errors.fetch_add(1, Ordering::Relaxed);
                    return Err(written);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// What each call of `write` is to do, in order; afterwards all bytes are taken.
    struct Scripted {
        steps: Vec<Step>,
        taken: Sender<Vec<u8>>,
    }

    enum Step {
        /// Take so many bytes.
        Take(usize),
        Fail(io::ErrorKind),
        /// Wait until the other end is dropped.
        Block(Receiver<()>),
    }

    impl Write for Scripted {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = match if self.steps.is_empty() {
                None
            } else {
                Some(self.steps.remove(0))
            } {
                Some(Step::Take(count)) => count.min(bytes.len()),
                Some(Step::Fail(kind)) => return Err(kind.into()),
                Some(Step::Block(release)) => {
                    let _ = release.recv();
                    bytes.len()
                }
                None => bytes.len(),
            };
            self.taken.send(bytes[..count].to_vec()).unwrap();
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn started(steps: Vec<Step>) -> (LogQueue, LogHandle, Receiver<Vec<u8>>) {
        let (taken, out) = channel();
        let (queue, handle) = start(Scripted { steps, taken }).unwrap();
        (queue, handle, out)
    }

    fn text(out: Receiver<Vec<u8>>) -> String {
        String::from_utf8(out.iter().flatten().collect()).unwrap()
    }

    #[test]
    fn what_is_queued_is_written_before_the_end() {
        let (queue, handle, out) =
            started(vec![Step::Take(1), Step::Fail(io::ErrorKind::Interrupted)]);
        for line in 0..50 {
            queue.send(format!("line {line}\n").into_bytes()).unwrap();
        }
        assert!(handle.finish(PATIENCE));
        assert_eq!(
            text(out),
            (0..50)
                .map(|line| format!("line {line}\n"))
                .collect::<String>()
        );
        assert_eq!(queue.write_errors().load(Ordering::Relaxed), 0);
        assert_eq!(queue.send(b"late\n".to_vec()), Err(b"late\n".to_vec()));
    }

    #[test]
    fn an_error_costs_its_batch_and_the_next_begins_on_a_line_of_its_own() {
        let (queue, handle, out) = started(vec![
            Step::Take(3),
            Step::Fail(io::ErrorKind::StorageFull),
            Step::Fail(io::ErrorKind::StorageFull),
        ]);
        for line in ["first\n", "second\n", "third\n"] {
            queue.send(line.into()).unwrap();
        }
        assert!(handle.finish(PATIENCE));
        assert_eq!(text(out), "fir\nthird\n");
        assert_eq!(queue.write_errors().load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_stuck_reader_costs_lines_and_no_time() {
        let (release, blocked) = channel();
        let (queue, handle, out) = started(vec![Step::Block(blocked)]);
        let accepted = (0..QUEUE_BATCHES * 2)
            .filter(|_| queue.send(b"x\n".to_vec()).is_ok())
            .count();
        // One more than the queue holds if the writer took the first before the queue was full.
        assert!(
            (QUEUE_BATCHES..=QUEUE_BATCHES + 1).contains(&accepted),
            "{accepted}"
        );
        drop(release);
        assert!(handle.finish(PATIENCE));
        assert_eq!(text(out).len(), accepted * 2);
    }

    #[test]
    fn the_end_does_not_wait_for_a_stuck_reader() {
        let (release, blocked) = channel();
        let (queue, handle, out) = started(vec![Step::Block(blocked)]);
        queue.send(b"x\n".to_vec()).unwrap();
        assert!(!handle.finish(Duration::from_millis(1)));
        drop(release);
        assert_eq!(text(out), "x\n");
    }
}
