//! Passwords are compared with their hashes on a thread of their own.
//!
//! Decides: nothing but when there are too many. May not know: users, requests. Invariant: the queue is bounded, no
//! shard ever waits for it, and every ticket gets an answer: also when the thread has died.
//!
//! ```text
//! WAITING -> FITS | FAILS      the thread
//!         -> GIVEN_UP          the shard: nobody wants to know any more
//! ```

use std::io;
use std::panic::catch_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::Builder;

use zeroize::Zeroizing;

use crate::policy::filter::basic::matches;

/// Passwords that may wait. At 50 ms each, the last waits for 13 s: more than most clients do.
const QUEUE_MAX: usize = 256;

const WAITING: u8 = 0;
const FITS: u8 = 1;
const FAILS: u8 = 2;
const GIVEN_UP: u8 = 3;

/// The way to the threads.
#[derive(Debug)]
pub struct Passwords {
    queues: Box<[SyncSender<Job>]>,
    /// The queue that is next. Written by all shards.
    next: AtomicUsize,
}

/// What is found out for a shard.
#[derive(Debug)]
pub struct Ticket(Arc<AtomicU8>);

struct Job {
    hash: Box<str>,
    password: Zeroizing<Box<[u8]>>,
    /// Written once by the thread or, to give up, by the shard; read by both.
    state: Arc<AtomicU8>,
}

/// Starts so many threads. They end with their sender.
pub fn start(threads: usize) -> io::Result<Passwords> {
    let queues = (0..threads.max(1)).map(|_| {
        let (sender, queue) = sync_channel(QUEUE_MAX);
        Builder::new()
            .name("passwords".to_owned())
            .spawn(move || run(&queue))?;
        Ok(sender)
    });
    Ok(Passwords {
        queues: queues.collect::<io::Result<_>>()?,
        next: AtomicUsize::new(0),
    })
}

fn run(queue: &Receiver<Job>) {
    while let Ok(job) = queue.recv() {
        let is_wanted = job.state.load(Ordering::Relaxed) == WAITING;
        // A fault in a hash's own code must not end the thread: a job that is dropped fails.
        let fits = is_wanted && catch_unwind(|| matches(&job.hash, &job.password)).unwrap_or(false);
        if fits {
            job.answer(FITS);
        }
    }
}

impl Passwords {
    /// Has a password compared with a hash. `None`: too many wait already.
    pub fn verify(&self, hash: &str, password: &[u8]) -> Option<Ticket> {
        let state = Arc::new(AtomicU8::new(WAITING));
        let mut job = Job {
            hash: hash.into(),
            password: Zeroizing::new(password.into()),
            state: Arc::clone(&state),
        };
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        for turn in 0..self.queues.len() {
            let queue = &self.queues[first.wrapping_add(turn) % self.queues.len()];
            match queue.try_send(job) {
                Ok(()) => return Some(Ticket(state)),
                Err(TrySendError::Full(back) | TrySendError::Disconnected(back)) => job = back,
            }
        }
        None
    }
}

impl Ticket {
    /// Whether the password fits, once that is known. A shard asks at its ticks: no thread can wake it.
    pub fn poll(&self) -> Option<bool> {
        // Relaxed: the word is all that is told.
        match self.0.load(Ordering::Relaxed) {
            WAITING => None,
            state => Some(state == FITS),
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.store(GIVEN_UP, Ordering::Relaxed);
    }
}

impl Job {
    fn answer(&self, answer: u8) {
        let relaxed = Ordering::Relaxed;
        // Fails when there is an answer already, or nobody who wants one.
        let _ = self
            .state
            .compare_exchange(WAITING, answer, relaxed, relaxed);
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.answer(FAILS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of `U*U`; from the tests of crypt_blowfish.
    const HASH: &str = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";

    fn queue() -> (Passwords, Receiver<Job>) {
        let (sender, queue) = sync_channel(QUEUE_MAX);
        let passwords = Passwords {
            queues: [sender].into(),
            next: AtomicUsize::new(0),
        };
        (passwords, queue)
    }

    #[test]
    fn each_ticket_gets_its_answer() {
        let (passwords, queue) = queue();
        let cases = [(HASH, "U*U", true), (HASH, "U*V", false), ("", "", false)];
        let tickets = cases.map(|(hash, password, _)| {
            let ticket = passwords.verify(hash, password.as_bytes()).unwrap();
            assert_eq!(ticket.poll(), None);
            ticket
        });
        drop(passwords);
        run(&queue);
        for (ticket, (hash, password, fits)) in tickets.iter().zip(cases) {
            assert_eq!(ticket.poll(), Some(fits), "{hash} {password}");
        }
    }

    #[test]
    fn what_nobody_wants_to_know_is_not_found_out() {
        let (passwords, queue) = queue();
        let ticket = passwords.verify(HASH, b"U*U").unwrap();
        let state = Arc::clone(&ticket.0);
        drop(ticket);
        drop(passwords);
        run(&queue);
        assert_eq!(state.load(Ordering::Relaxed), GIVEN_UP);
    }

    #[test]
    fn the_queue_is_bounded_and_its_end_answers_all() {
        let (passwords, queue) = queue();
        let verify = || passwords.verify(HASH, b"U*U");
        let tickets: Vec<Ticket> = std::iter::from_fn(verify).take(QUEUE_MAX + 1).collect();
        assert_eq!(tickets.len(), QUEUE_MAX);
        // As if the thread had died.
        drop(queue);
        assert!(tickets.iter().all(|ticket| ticket.poll() == Some(false)));
        assert!(passwords.verify(HASH, b"U*U").is_none());
    }

    #[test]
    fn the_thread_answers() {
        let passwords = start(2).unwrap();
        let ticket = passwords.verify(HASH, b"U*U").unwrap();
        let answer = std::iter::repeat_with(|| {
            std::thread::yield_now();
            ticket.poll()
        });
        assert_eq!(answer.flatten().next(), Some(true));
    }
}
