//! API keys.
//!
//! Decides: whose key a request has. May not know: the keys: it has their digests. Invariant: how long a comparison
//! takes says nothing of a key.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest;

use super::identity::{self, Fault, Identity};
use crate::h1::head::Request;

/// Longest key that is read, in bytes.
const KEY_BYTES_MAX: usize = 512;

/// Most keys of a filter: each request is compared with all, which takes 3 µs for so many, and 0.1 µs for ten.
const KEYS_MAX: usize = 1024;

#[derive(Debug)]
pub struct ApiKey {
    /// As it stands in the challenge.
    pub realm: Box<str>,
    /// The field that holds the key; for `Authorization`, behind `Bearer`. Lower case.
    pub header: Box<str>,
    pub keys: Box<[Key]>,
}

pub struct Key {
    /// Whose it is.
    pub name: Box<str>,
    pub sha256: [u8; 32],
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Key {
    /// Reads `name:key` or `name:sha256:HEX`. What is wrong is said without the key.
    pub fn parse(text: &str) -> Result<Key, String> {
        let Some((name, key)) = text.split_once(':') else {
            return Err("a key is written as name:key or name:sha256:HEX".to_owned());
        };
        if !identity::is_name(name) {
            let most = identity::NAME_BYTES_MAX;
            return Err(format!(
                "a key's name has 1 to {most} bytes and no control characters"
            ));
        }
        let sha256 = match key.strip_prefix("sha256:") {
            Some(hex) => read_hex(hex)
                .ok_or_else(|| format!("the digest of {name:?} is not 64 hexadecimal digits"))?,
            None if (1..=KEY_BYTES_MAX).contains(&key.len())
                && key.bytes().all(|byte| byte.is_ascii_graphic()) =>
            {
                sha256(key.as_bytes())
            }
            None => {
                return Err(format!(
                    "the key of {name:?} is not 1 to {KEY_BYTES_MAX} visible ASCII characters"
                ));
            }
        };
        Ok(Key {
            name: name.into(),
            sha256,
        })
    }
}

impl ApiKey {
    pub fn new(realm: &str, header: &str, keys: Vec<Key>) -> Result<ApiKey, String> {
        if keys.is_empty() || keys.len() > KEYS_MAX {
            return Err(format!("{} keys; possible are 1 to {KEYS_MAX}", keys.len()));
        }
        let mut sorted: Vec<&Key> = keys.iter().collect();
        sorted.sort_by_key(|key| key.sha256);
        if let Some(pair) = sorted
            .windows(2)
            .find(|pair| pair[0].sha256 == pair[1].sha256)
        {
            let (one, other) = (&pair[0].name, &pair[1].name);
            return Err(format!("{one:?} and {other:?} have the same key"));
        }
        Ok(ApiKey {
            realm: realm.into(),
            header: header.to_ascii_lowercase().into(),
            keys: keys.into(),
        })
    }

    pub fn identify(&self, request: &Request<'_, '_>) -> Identity<'_> {
        let found = if self.is_bearer() {
            identity::bearer(request, KEY_BYTES_MAX).map(|token| token.map(str::as_bytes))
        } else {
            identity::field(request, &self.header)
        };
        match found {
            Ok(None) => Identity::Nobody,
            Ok(Some(key)) if (1..=KEY_BYTES_MAX).contains(&key.len()) => self.look_up(key),
            Ok(Some(_)) => Identity::Refused(Fault::Malformed),
            Err(fault) => Identity::Refused(fault),
        }
    }

    /// Each digest is compared, whole, whatever the others gave: the time depends on how many keys there are, not on
    /// which of them fits, nor on how far one does.
    fn look_up(&self, key: &[u8]) -> Identity<'_> {
        let presented = sha256(key);
        let mut found = None;
        for key in &self.keys {
            if verify_slices_are_equal(&key.sha256, &presented).is_ok() {
                found = Some(key);
            }
        }
        found.map_or(Identity::Refused(Fault::Wrong), |key| {
            Identity::User(&key.name)
        })
    }

    /// Appends how to ask again. Of keys in fields of their own, no registered scheme knows; a 401 must have a challenge
    /// all the same (RFC 9110 section 15.5.2), so this one says by itself what is wanted.
    pub fn challenge(&self, fault: Option<Fault>, out: &mut Vec<u8>) {
        if self.is_bearer() {
            return identity::challenge_bearer(&self.realm, fault, out);
        }
        identity::begin_challenge("ApiKey", &self.realm, out);
        identity::parameter(", header", &self.header, out);
        out.extend_from_slice(b"\r\n");
    }

    fn is_bearer(&self) -> bool {
        &*self.header == "authorization"
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut found = [0; 32];
    found.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    found
}

fn read_hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 2 * bytes.len() {
        return None;
    }
    let digit = |digit: u8| char::from(digit).to_digit(16);
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = (digit(pair[0])? * 16 + digit(pair[1])?) as u8;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::filter::identity::tests::with_fields;

    /// SHA-256 of `abc` (FIPS 180-4).
    const ABC: &str = "BA7816BF8F01CFEA414140DE5DAE2223b00361a396177a9cb410ff61f20015ad";

    fn keys(header: &str) -> ApiKey {
        let keys = ["alice:abc", "bob:secret:with:colons", "alice:her-next"];
        let keys = keys.map(|text| Key::parse(text).unwrap());
        ApiKey::new("r", header, keys.into()).unwrap()
    }

    #[test]
    fn keys_as_they_are_written() {
        for text in ["alice:abc".to_owned(), format!("alice:sha256:{ABC}")] {
            let key = Key::parse(&text).unwrap();
            assert_eq!((&*key.name, key.sha256), ("alice", sha256(b"abc")));
            assert_eq!(format!("{key:?}"), "Key { name: \"alice\", .. }");
        }
        let long = format!("alice:{}", "k".repeat(513));
        let short_digest = format!("alice:sha256:{}", &ABC[1..]);
        let long_digest = format!("alice:sha256:{ABC}0");
        let no_digest = format!("alice:sha256:g{}", &ABC[1..]);
        let bad = ["abc", ":abc", "alice:", "a\u{7}:abc", "alice:a b", &long];
        for text in bad
            .into_iter()
            .chain([&*short_digest, &long_digest, &no_digest])
        {
            let problem = Key::parse(text).unwrap_err();
            let secret = text.split_once(':').map_or(text, |(_, secret)| secret);
            assert!(secret.len() < 3 || !problem.contains(secret), "{problem}");
        }
        let twice = ["a:abc", "b:abc"].map(|text| Key::parse(text).unwrap());
        let problem = ApiKey::new("r", "x", twice.into()).unwrap_err();
        assert_eq!(problem, "\"a\" and \"b\" have the same key");
        assert!(ApiKey::new("r", "x", Vec::new()).is_err());
    }

    #[test]
    fn requests_with_keys() {
        let long = format!("X-Api-Key: {}\r\n", "k".repeat(513));
        let refused = |fault| Identity::Refused(fault);
        let own = keys("X-Api-Key");
        let bearer = keys("Authorization");
        let cases = [
            (&own, "", Identity::Nobody),
            (&own, "Authorization: Bearer abc\r\n", Identity::Nobody),
            (&own, "x-API-key: abc\r\n", Identity::User("alice")),
            (&own, "X-Api-Key: her-next\r\n", Identity::User("alice")),
            (
                &own,
                "X-Api-Key: secret:with:colons\r\n",
                Identity::User("bob"),
            ),
            (&own, "X-Api-Key: ABC\r\n", refused(Fault::Wrong)),
            (&own, "X-Api-Key: abcd\r\n", refused(Fault::Wrong)),
            (&own, "X-Api-Key: \r\n", refused(Fault::Malformed)),
            (
                &own,
                "X-Api-Key: abc\r\nX-Api-Key: abc\r\n",
                refused(Fault::Malformed),
            ),
            (&own, &long, refused(Fault::Malformed)),
            (&bearer, "X-Api-Key: abc\r\n", Identity::Nobody),
            (&bearer, "Authorization: Basic YTpi\r\n", Identity::Nobody),
            (
                &bearer,
                "Authorization: bearer abc\r\n",
                Identity::User("alice"),
            ),
            (
                &bearer,
                "Authorization: bearer abd\r\n",
                refused(Fault::Wrong),
            ),
            (
                &bearer,
                "Authorization: bearer a b\r\n",
                refused(Fault::Malformed),
            ),
        ];
        for (filter, fields, expected) in cases {
            with_fields(fields, |request| {
                assert_eq!(filter.identify(request), expected, "{fields}");
            });
        }
    }

    #[test]
    fn challenges() {
        let cases = [
            ("X-Api-Key", "ApiKey realm=\"r\", header=\"x-api-key\""),
            (
                "Authorization",
                "Bearer realm=\"r\", error=\"invalid_token\", error_description=\"unknown\"",
            ),
        ];
        for (header, expected) in cases {
            let mut out = Vec::new();
            keys(header).challenge(Some(Fault::Wrong), &mut out);
            let expected = format!("WWW-Authenticate: {expected}\r\n");
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}
