//! What a shard has found out lately and need not find out again.
//!
//! Decides: how long something is remembered: until newer things of its set push it out. May not know: what it is.
//! Invariant: bounded; only a keyed hash of what was asked is kept, never the secret in it.

use aws_lc_rs::hmac;

/// Answers that are remembered by one shard: `SETS` times `WAYS`.
const SETS: usize = 256;
const WAYS: usize = 4;

/// A keyed hash. Who does not know the key cannot choose where it falls, nor learn from how long it is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest([u8; 32]);

/// What digests are made with.
#[derive(Debug)]
pub struct Key(hmac::Key);

impl Key {
    /// `seed` is random, and secret.
    pub fn new(seed: &[u8; 32]) -> Key {
        Key(hmac::Key::new(hmac::HMAC_SHA256, seed))
    }

    /// What is asked, in parts: two lists of parts have the same digest only if all their parts are the same.
    pub fn digest<'p>(&self, parts: impl IntoIterator<Item = &'p [u8]>) -> Digest {
        let mut context = hmac::Context::with_key(&self.0);
        for part in parts {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part);
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(context.sign().as_ref());
        Digest(digest)
    }
}

impl Digest {
    /// A part of it: equal digests have equal words, and others almost never.
    pub fn word(&self) -> u64 {
        u64::from_le_bytes(*self.0.first_chunk().expect("a digest is longer"))
    }
}

/// A table in which each digest belongs to one set, and a full set forgets its oldest.
#[derive(Debug)]
pub struct Recent<T> {
    key: Key,
    /// Chosen by a digest's first byte; each has the newest first.
    sets: Box<[Vec<(Digest, T)>; SETS]>,
}

impl<T> Recent<T> {
    /// `seed` is random, and secret.
    pub fn new(seed: &[u8; 32]) -> Self {
        Recent {
            key: Key::new(seed),
            sets: Box::new(std::array::from_fn(|_| Vec::new())),
        }
    }

    pub fn digest<'p>(&self, parts: impl IntoIterator<Item = &'p [u8]>) -> Digest {
        self.key.digest(parts)
    }

    pub fn get(&self, digest: &Digest) -> Option<&T> {
        let set = &self.sets[usize::from(digest.0[0])];
        let found = set.iter().find(|(known, _)| known == digest);
        found.map(|(_, value)| value)
    }

    pub fn put(&mut self, digest: Digest, value: T) {
        let set = &mut self.sets[usize::from(digest.0[0])];
        set.retain(|(known, _)| *known != digest);
        push(set, digest, value);
    }

    /// What is remembered, or else what `make` finds out.
    pub fn get_or_put<E>(
        &mut self,
        digest: Digest,
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<&T, E> {
        let set = &mut self.sets[usize::from(digest.0[0])];
        let at = match set.iter().position(|(known, _)| *known == digest) {
            Some(at) => at,
            None => {
                push(set, digest, make()?);
                0
            }
        };
        Ok(&set[at].1)
    }
}

fn push<T>(set: &mut Vec<(Digest, T)>, digest: Digest, value: T) {
    set.truncate(WAYS - 1);
    set.insert(0, (digest, value));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_kept_apart_and_the_key_counts() {
        let recent = Recent::<()>::new(&[1; 32]);
        let digest = recent.digest([&b"ab"[..], b"c"]);
        assert_eq!(digest, recent.digest([&b"ab"[..], b"c"]));
        for other in [&[&b"a"[..], b"bc"][..], &[b"abc"], &[b"ab", b"c", b""]] {
            assert_ne!(digest, recent.digest(other.iter().copied()), "{other:?}");
        }
        let rekeyed = Recent::<()>::new(&[2; 32]);
        assert_ne!(digest, rekeyed.digest([&b"ab"[..], b"c"]));
    }

    #[test]
    fn a_set_forgets_its_oldest() {
        let mut recent = Recent::new(&[0; 32]);
        let digest = |last: u8| Digest(std::array::from_fn(|at| if at == 31 { last } else { 7 }));
        assert_eq!(recent.get(&digest(0)), None);
        for last in 0..4 {
            recent.put(digest(last), last);
        }
        // What is put again is the newest, and is there once.
        recent.put(digest(0), 10);
        assert_eq!(recent.get_or_put(digest(4), || Ok::<_, ()>(4)), Ok(&4));
        assert_eq!(recent.get_or_put(digest(4), || Err(())), Ok(&4));
        assert_eq!(recent.get_or_put(digest(5), || Err(())), Err(()));
        let found = [0, 1, 2, 3, 4].map(|last| recent.get(&digest(last)).copied());
        assert_eq!(found, [Some(10), None, Some(2), Some(3), Some(4)]);
    }
}
