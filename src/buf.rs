//! The one buffer type: bytes that arrived and bytes that are still to be sent; and what is kept for reuse.
//!
//! Decides nothing. Invariant: `start <= bytes.len() <= capacity`; capacity grows only in `reserve`, whose
//! callers name the bound.

use std::cell::RefCell;

use monoio::buf::{Slice, SliceMut};

/// Bytes from `start` are pending; what is before has been consumed.
#[derive(Debug, Default)]
pub struct Buf {
    bytes: Vec<u8>,
    start: usize,
}

impl Buf {
    pub fn with_capacity(capacity: usize) -> Self {
        Buf {
            bytes: Vec::with_capacity(capacity),
            start: 0,
        }
    }

    pub fn pending(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    pub fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }

    pub fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Room behind the pending bytes.
    pub fn spare(&self) -> usize {
        self.bytes.capacity() - self.bytes.len()
    }

    pub fn consume(&mut self, n: usize) {
        debug_assert!(n <= self.len(), "consumed {n} of {}", self.len());
        self.start += n;
        if self.start >= self.bytes.len() {
            self.clear();
        }
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
        self.start = 0;
    }

    /// The bytes as a vector to append to.
    pub fn append(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Makes room for `more` bytes behind the pending ones: first by moving them to the front.
    pub fn reserve(&mut self, more: usize) {
        if self.spare() >= more {
            return;
        }
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.reserve(more);
    }

    /// For a read: the spare capacity.
    pub fn into_spare(self) -> (SliceMut<Vec<u8>>, usize) {
        let (from, to) = (self.bytes.len(), self.bytes.capacity());
        (SliceMut::new(self.bytes, from, to), self.start)
    }

    /// For a write: the first `most` pending bytes.
    pub fn into_pending(self, most: usize) -> (Slice<Vec<u8>>, usize) {
        let to = self.bytes.len().min(self.start.saturating_add(most));
        (Slice::new(self.bytes, self.start, to), self.start)
    }

    pub fn from_parts(bytes: Vec<u8>, start: usize) -> Self {
        debug_assert!(start <= bytes.len());
        Buf { bytes, start }
    }
}

/// A shard's free buffers of one size.
#[derive(Debug)]
pub struct Free {
    size: usize,
    most: usize,
    list: Vec<Buf>,
}

impl Free {
    /// Keeps at most `most` buffers of `size` bytes; more are given back to the allocator.
    pub fn new(size: usize, most: usize) -> Self {
        Free {
            size,
            most,
            list: Vec::new(),
        }
    }

    /// The buffer used last, which is still in the processor's cache.
    pub fn take(&mut self) -> Buf {
        self.list
            .pop()
            .unwrap_or_else(|| Buf::with_capacity(self.size))
    }

    pub fn put(&mut self, mut buf: Buf) {
        // A buffer that grew for one long head is not kept, nor one that an operation took along.
        if self.list.len() < self.most && (self.size..=self.size * 2).contains(&buf.capacity()) {
            buf.clear();
            self.list.push(buf);
        }
    }
}

/// Things that keep their memory between one request and the next.
#[derive(Debug)]
pub struct Spares<T>(RefCell<Vec<Box<T>>>);

/// As many as a shard keeps buffers.
const SPARES_MAX: usize = 256;

impl<T> Default for Spares<T> {
    fn default() -> Self {
        Spares(RefCell::default())
    }
}

impl<T: Default> Spares<T> {
    pub fn take(&self) -> Box<T> {
        self.0.borrow_mut().pop().unwrap_or_default()
    }

    pub fn give(&self, spare: Box<T>) {
        let mut list = self.0.borrow_mut();
        if list.len() < SPARES_MAX {
            list.push(spare);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pending_bytes_survive_a_reserve() {
        let mut buf = Buf::with_capacity(8);
        buf.append().extend_from_slice(b"abcdefgh");
        buf.consume(5);
        buf.reserve(4);
        assert_eq!(buf.pending(), b"fgh");
        assert_eq!(buf.capacity(), 8, "moved, not grown");
        buf.consume(3);
        assert!(buf.is_empty());
        assert_eq!(buf.spare(), 8);
    }

    #[test]
    fn free_list_is_bounded_and_last_in_first_out() {
        let mut free = Free::new(16, 1);
        let (a, b) = (free.take(), free.take());
        free.put(a);
        free.put(b);
        assert_eq!(free.list.len(), 1);
        free.put(Buf::with_capacity(64));
        assert_eq!(free.list.len(), 1);
    }
}
