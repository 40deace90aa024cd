//! Passwords that were right a short while ago, for all shards.
//!
//! Decides: whether a password need not be hashed again. May not know: passwords, threads. Invariant: what is known was
//! verified by this process, for this hash; a word that is lost costs one more hash and nothing else.
//!
//! A word holds 48 bits of a keyed digest and the second of its last use. It stands in the set that 12 further bits name,
//! so two questions are one with a probability of 2^-60: nobody who guesses gets there.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use super::recent::{Digest, Key};
use crate::policy::Nanos;

const SETS: usize = 4096;
const WAYS: usize = 4;

/// A password that is used is not hashed again; one that is not is forgotten.
const KEPT_S: u16 = 600;

const SECOND_NS: Nanos = 1_000_000_000;

/// Written by all shards, a word at a time.
#[derive(Debug)]
pub struct Verified {
    key: Key,
    /// 0: free.
    words: Box<[AtomicU64]>,
}

impl Verified {
    /// `seed` is random, and secret.
    pub fn new(seed: &[u8; 32]) -> Self {
        Verified {
            key: Key::new(seed),
            words: (0..SETS * WAYS).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    pub fn digest<'p>(&self, parts: impl IntoIterator<Item = &'p [u8]>) -> Digest {
        self.key.digest(parts)
    }

    /// Whether it was verified, and is still remembered.
    pub fn knows(&self, digest: &Digest, now: Nanos) -> bool {
        let (set, tag, second) = self.place(digest, now);
        let word = set.iter().find(|word| word.load(Relaxed) >> 16 == tag);
        let Some(word) = word else { return false };
        let used = word.load(Relaxed) as u16;
        // Seconds are told modulo 18 hours: what was right then is right now.
        if second.wrapping_sub(used) > KEPT_S {
            return false;
        }
        if used != second {
            word.store(tag << 16 | u64::from(second), Relaxed);
        }
        true
    }

    /// It has been verified now. In a full set, the one that was used least lately is forgotten.
    pub fn learn(&self, digest: &Digest, now: Nanos) {
        let (set, tag, second) = self.place(digest, now);
        let age = |word: &&AtomicU64| match word.load(Relaxed) {
            word if word >> 16 == tag => u32::MAX,
            0 => u32::from(u16::MAX) + 1,
            word => u32::from(second.wrapping_sub(word as u16)),
        };
        if let Some(word) = set.iter().max_by_key(age) {
            word.store(tag << 16 | u64::from(second), Relaxed);
        }
    }

    fn place(&self, digest: &Digest, now: Nanos) -> (&[AtomicU64], u64, u16) {
        let word = digest.word();
        let first = (word as usize % SETS) * WAYS;
        let tag = (word >> 16).max(1);
        let second = (now / SECOND_NS) as u16;
        (&self.words[first..first + WAYS], tag, second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Nanos = SECOND_NS;

    #[test]
    fn what_is_used_is_remembered() {
        let verified = Verified::new(&[3; 32]);
        let one = verified.digest([&b"a"[..], b"b"]);
        let other = verified.digest([&b"ab"[..], b""]);
        assert!(!verified.knows(&one, 0));
        verified.learn(&one, 5 * S);
        assert!(verified.knows(&one, 605 * S) && !verified.knows(&other, 605 * S));
        assert!(verified.knows(&one, 1205 * S), "it was used meanwhile");
        assert!(!verified.knows(&one, 1806 * S));
    }

    #[test]
    fn memory_is_bounded_and_the_latest_stay() {
        let verified = Verified::new(&[3; 32]);
        let digest = |number: u32| verified.digest([&number.to_le_bytes()[..]]);
        for number in 0..100_000 {
            verified.learn(&digest(number), Nanos::from(number / 1000) * S);
        }
        let known = (0..100_000).filter(|number| verified.knows(&digest(*number), 99 * S));
        let known = known.count();
        assert!(known <= SETS * WAYS && known > SETS * WAYS / 2, "{known}");
        let latest = (99_000..100_000).filter(|number| verified.knows(&digest(*number), 99 * S));
        assert!(latest.count() > 990);
    }
}
