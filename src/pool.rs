//! Idle backend connections of one shard.
//!
//! Decides: which idle connection is used next (the last one put: it is the least likely to be closed by the
//! backend) and when one has been idle for too long. May not know: what a connection is. Invariant: at most
//! `idle_max` connections per backend, each between two exchanges and with nothing in flight.

use crate::config::plan::Nanos;
use crate::policy::BackendId;

#[derive(Debug)]
pub struct Pool<S> {
    idle: Vec<Vec<Idle<S>>>,
    count: usize,
}

#[derive(Debug)]
struct Idle<S> {
    stream: S,
    since: Nanos,
}

impl<S> Pool<S> {
    pub fn new(backends: usize) -> Self {
        Pool {
            idle: (0..backends).map(|_| Vec::new()).collect(),
            count: 0,
        }
    }

    /// Idle connections to all backends.
    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn take(&mut self, backend: BackendId) -> Option<S> {
        let idle = self.idle[backend.0 as usize].pop()?;
        self.count -= 1;
        Some(idle.stream)
    }

    /// Keeps the connection, or gives it back when the backend's share is full.
    pub fn put(
        &mut self,
        backend: BackendId,
        stream: S,
        now: Nanos,
        idle_max: usize,
    ) -> Result<(), S> {
        let list = &mut self.idle[backend.0 as usize];
        if list.len() >= idle_max {
            return Err(stream);
        }
        list.push(Idle { stream, since: now });
        self.count += 1;
        Ok(())
    }

    /// Removes the connections that have been idle for longer than their backend's `idle_ns`.
    pub fn expire(&mut self, now: Nanos, idle_ns: impl Fn(BackendId) -> Nanos) -> Vec<S> {
        let mut expired = Vec::new();
        if self.count == 0 {
            return expired;
        }
        for (i, list) in self.idle.iter_mut().enumerate() {
            let limit = idle_ns(BackendId(i as u32));
            // The list is in order of `since`: the old ones are at the front.
            let old = list.partition_point(|idle| now.saturating_sub(idle.since) > limit);
            expired.extend(list.drain(..old).map(|idle| idle.stream));
        }
        self.count -= expired.len();
        expired
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const B: BackendId = BackendId(1);

    #[test]
    fn last_in_first_out_and_capped() {
        let mut pool = Pool::new(2);
        assert_eq!(pool.put(B, 'a', 0, 2), Ok(()));
        assert_eq!(pool.put(B, 'b', 1, 2), Ok(()));
        assert_eq!(pool.put(B, 'c', 2, 2), Err('c'));
        assert_eq!(pool.take(BackendId(0)), None);
        assert_eq!(pool.take(B), Some('b'));
        assert_eq!(pool.take(B), Some('a'));
        assert_eq!(pool.take(B), None);
        assert!(pool.is_empty());
    }

    #[test]
    fn only_the_old_expire() {
        let mut pool = Pool::new(2);
        for (stream, since) in [('a', 0), ('b', 50), ('c', 90)] {
            pool.put(B, stream, since, 9).unwrap();
        }
        assert_eq!(pool.expire(100, |_| 60), ['a']);
        assert_eq!(pool.len(), 2);
        assert_eq!(pool.take(B), Some('c'));
    }
}
