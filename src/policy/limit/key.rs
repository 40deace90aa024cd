//! What a limit counts apart, as one number.
//!
//! Decides: which requests share a bucket. May not know: where the parts come from. Invariant: for the same list of
//! kinds of parts, different parts are different bytes to the hash, so that ("ab", "c") is not ("a", "bc"). The hash is
//! keyed, since clients choose the parts: who does not know the seed cannot aim at a set of the table or at a tag.

use std::hash::Hasher as _;
use std::net::IpAddr;

use siphasher::sip::SipHasher13;

use crate::policy::route::normal::with_normal;

/// Secret of the process, from its source of randomness.
#[derive(Clone, Copy)]
pub struct Seed(pub u64, pub u64);

/// Takes the parts of a key, in the order in which they are configured. Inlined, since a call would copy its state there
/// and back: benchmark limit/key, 8.6 to 4.8 ns.
#[derive(Clone, Copy)]
pub struct Hasher(SipHasher13);

impl Hasher {
    pub fn new(seed: Seed) -> Hasher {
        Hasher(SipHasher13::new_with_keys(seed.0, seed.1))
    }

    /// A client's address. Of IPv6 the first 64 bits, since one client has them all; IPv4 in IPv6 is IPv4.
    #[inline]
    #[must_use]
    pub fn ip(mut self, ip: IpAddr) -> Hasher {
        match ip.to_canonical() {
            IpAddr::V4(address) => {
                self.0.write_u64(u64::from(address.to_bits()));
                self.0.write_u8(4);
            }
            IpAddr::V6(address) => {
                self.0.write_u64((address.to_bits() >> 64) as u64);
                self.0.write_u8(6);
            }
        }
        self
    }

    #[inline]
    #[must_use]
    pub fn bytes(mut self, part: &[u8]) -> Hasher {
        self.0.write_u64(part.len() as u64);
        self.0.write(part);
        self
    }

    /// What a route takes for one path is one part, however a client spells it.
    #[must_use]
    pub fn path(self, path: &[u8]) -> Hasher {
        with_normal(path, |path| self.bytes(path))
    }

    pub fn finish(&self) -> u64 {
        self.0.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: Seed = Seed(1, 2);

    fn ip(text: &str) -> u64 {
        Hasher::new(SEED).ip(text.parse().unwrap()).finish()
    }

    fn parts(parts: &[&str]) -> u64 {
        let add = |hasher: Hasher, part: &&str| hasher.bytes(part.as_bytes());
        parts.iter().fold(Hasher::new(SEED), add).finish()
    }

    #[test]
    fn spellings_of_one_path_are_one_key() {
        let path = |path: &str| Hasher::new(SEED).path(path.as_bytes()).finish();
        for (spelled, same) in [
            ("/%6cogin", true),
            ("/x/../login", true),
            ("/./login", true),
            ("/login/", false),
            ("/LOGIN", false),
        ] {
            assert_eq!(path(spelled) == path("/login"), same, "{spelled}");
        }
    }

    #[test]
    fn addresses_of_one_client_are_one_key() {
        let same = [
            ("192.0.2.1", "::ffff:192.0.2.1"),
            ("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff"),
        ];
        for (one, other) in same {
            assert_eq!(ip(one), ip(other), "{one} {other}");
        }
        let different = [
            ("192.0.2.1", "192.0.2.2"),
            ("2001:db8:1:2::1", "2001:db8:1:3::1"),
            // The prefix has the bits of the IPv4 address.
            ("192.0.2.1", "0:0:c000:201::1"),
        ];
        for (one, other) in different {
            assert_ne!(ip(one), ip(other), "{one} {other}");
        }
    }

    #[test]
    fn the_borders_of_parts_count() {
        let mut keys = vec![
            parts(&[]),
            parts(&[""]),
            parts(&["", ""]),
            parts(&["abc"]),
            parts(&["abc", ""]),
            parts(&["", "abc"]),
            parts(&["ab", "c"]),
            parts(&["a", "bc"]),
            parts(&["c", "ab"]),
        ];
        let count = keys.len();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), count);
    }

    #[test]
    fn another_seed_gives_other_keys() {
        let other = Hasher::new(Seed(1, 3)).bytes(b"abc").finish();
        assert_ne!(other, parts(&["abc"]));
    }
}
