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
    /// Where the next look for closed ones begins.
    look_at: usize,
}

#[derive(Debug)]
struct Idle<S> {
    stream: S,
    since: Nanos,
}

/// Idle connections that a backend has closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClosedAt {
    pub backend: BackendId,
    /// Of the youngest of them.
    pub age_ns: Nanos,
    /// No younger one is open still, so the backend may as well have ended.
    pub all: bool,
}

impl<S> Pool<S> {
    pub fn new(backends: usize) -> Self {
        Pool {
            idle: (0..backends).map(|_| Vec::new()).collect(),
            count: 0,
            look_at: 0,
        }
    }

    /// Idle connections to all backends.
    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The connection put last and its age, unless it has been idle for so long that all are too old.
    pub fn take(&mut self, backend: BackendId, now: Nanos, idle_ns: Nanos) -> Option<(S, Nanos)> {
        let list = &mut self.idle[backend.0 as usize];
        let age_ns = now.saturating_sub(list.last()?.since);
        if age_ns > idle_ns {
            return None;
        }
        let idle = list.pop()?;
        self.count -= 1;
        Some((idle.stream, age_ns))
    }

    pub fn has(&self, backend: BackendId) -> bool {
        !self.idle[backend.0 as usize].is_empty()
    }

    /// Gives up all idle connections to a backend.
    pub fn clear(&mut self, backend: BackendId) -> Vec<S> {
        let list = std::mem::take(&mut self.idle[backend.0 as usize]);
        self.count -= list.len();
        list.into_iter().map(|idle| idle.stream).collect()
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

    /// Removes connections that the other side has closed: looks at the oldest of up to `looks` backends.
    pub fn closed(
        &mut self,
        now: Nanos,
        looks: usize,
        is_closed: impl Fn(&S) -> bool,
    ) -> (Vec<S>, Vec<ClosedAt>) {
        let (mut closed, mut ages) = (Vec::new(), Vec::new());
        let backends = self.idle.len();
        let mut left = looks;
        for step in 0..backends {
            let at = (self.look_at + step) % backends;
            let list = &mut self.idle[at];
            if list.is_empty() {
                continue;
            }
            if left == 0 {
                self.look_at = at;
                break;
            }
            left -= 1;
            if !is_closed(&list[0].stream) {
                continue;
            }
            let open = list.partition_point(|idle| is_closed(&idle.stream));
            ages.push(ClosedAt {
                backend: BackendId(at as u32),
                age_ns: now.saturating_sub(list[open - 1].since),
                all: open == list.len(),
            });
            closed.extend(list.drain(..open).map(|idle| idle.stream));
        }
        self.count -= closed.len();
        (closed, ages)
    }

    /// Removes the connections that have been idle for longer than their backend's `idle_ns`.
    pub fn expire(&mut self, now: Nanos, idle_ns: impl Fn(BackendId) -> Nanos) -> Vec<S> {
        let mut expired = Vec::new();
        if self.count == 0 {
            return expired;
        }
        for (i, list) in self.idle.iter_mut().enumerate() {
            // Most of many backends have none, and each limit costs several cache misses.
            if list.is_empty() {
                continue;
            }
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
        assert_eq!(pool.take(BackendId(0), 9, 9), None);
        assert_eq!(pool.take(B, 9, 90), Some(('b', 8)));
        assert_eq!(pool.take(B, 9, 90), Some(('a', 9)));
        assert_eq!(pool.take(B, 9, 90), None);
        assert!(pool.is_empty());
    }

    #[test]
    fn who_closes_by_age_is_told_from_who_has_ended() {
        let mut pool = Pool::new(3);
        for (backend, stream, since) in [(0, 'x', 0), (0, 'x', 50), (0, 'o', 90), (2, 'x', 70)] {
            pool.put(BackendId(backend), stream, since, 9).unwrap();
        }
        let (closed, ages) = pool.closed(100, 1, |stream| *stream == 'x');
        let at = |backend, age_ns, all| ClosedAt {
            backend: BackendId(backend),
            age_ns,
            all,
        };
        assert_eq!((closed.len(), ages), (2, vec![at(0, 50, false)]));
        // The next look goes on with the next backend.
        let (closed, ages) = pool.closed(100, 1, |stream| *stream == 'x');
        assert_eq!((closed.len(), ages), (1, vec![at(2, 30, true)]));
        assert_eq!(pool.len(), 1);
    }

    #[test]
    fn who_is_too_old_is_not_taken() {
        let mut pool = Pool::new(2);
        pool.put(B, 'a', 0, 9).unwrap();
        assert_eq!(pool.take(B, 61, 60), None);
        assert_eq!(pool.take(B, 60, 60), Some(('a', 60)));
    }

    #[test]
    fn backends_without_idle_connections_are_not_looked_at() {
        let mut pool = Pool::new(2);
        pool.put(B, 'a', 0, 9).unwrap();
        let limit = |backend| {
            if backend == B {
                60
            } else {
                panic!("{backend:?}")
            }
        };
        assert_eq!(pool.expire(100, limit), ['a']);
    }

    #[test]
    fn only_the_old_expire() {
        let mut pool = Pool::new(2);
        for (stream, since) in [('a', 0), ('b', 50), ('c', 90)] {
            pool.put(B, stream, since, 9).unwrap();
        }
        assert_eq!(pool.expire(100, |_| 60), ['a']);
        assert_eq!(pool.len(), 2);
        assert_eq!(pool.take(B, 99, 90), Some(('c', 9)));
    }
}
