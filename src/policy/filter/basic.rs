//! Basic authentication (RFC 7617).
//!
//! Decides: who a request says that it comes from, and what its answer is if that is nobody. May not know: threads
//! (hashing a password is slow, so it is done elsewhere). Invariant: an unknown user costs as much as a wrong password.

use argon2::password_hash::PasswordVerifier;
use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, Params};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bcrypt::HashParts;
use zeroize::Zeroizing;

use super::identity::{self, Fault, Identity};
use super::recent::Digest;
use super::verified::Verified;
use crate::h1::head::Request;
use crate::policy::Nanos;

/// Longest `user:password`, in bytes.
const PAIR_BYTES_MAX: usize = 512;
/// Their longest Base64, and what it takes to decode that.
const TEXT_BYTES_MAX: usize = PAIR_BYTES_MAX.div_ceil(3) * 4;
const DECODED_BYTES: usize = TEXT_BYTES_MAX / 4 * 3;

/// One request must not take seconds: bcrypt of cost 14 takes about one.
const BCRYPT_COST_MAX: u32 = 14;
/// Argon2: memory, passes over it, and lanes.
const ARGON2_KIB_MAX: u32 = 64 * 1024;
const ARGON2_PASSES_MAX: u32 = 10;
const ARGON2_LANES_MAX: u32 = 16;

#[derive(Debug)]
pub struct Basic {
    /// As it stands in the challenge.
    pub realm: Box<str>,
    /// By name, each once, at least one.
    pub users: Box<[User]>,
}

pub struct User {
    pub name: Box<str>,
    /// bcrypt (`$2y$…`) or Argon2 (`$argon2id$…`).
    pub hash: Box<str>,
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl User {
    /// Reads `name:hash`. What is wrong is said without the hash: it may be a password.
    pub fn parse(text: &str) -> Result<User, String> {
        let hint = "make it with `htpasswd -nB NAME`";
        let Some((name, hash)) = text.split_once(':') else {
            return Err(format!("a user is written as name:hash; {hint}"));
        };
        if !identity::is_name(name) {
            let most = identity::NAME_BYTES_MAX;
            return Err(format!(
                "a user's name has 1 to {most} bytes and no control characters"
            ));
        }
        let checked = if hash.starts_with("$argon2") {
            check_argon2(hash)
        } else if ["$2a$", "$2b$", "$2y$"]
            .iter()
            .any(|start| hash.starts_with(start))
        {
            check_bcrypt(hash)
        } else {
            Err(format!("not a bcrypt or Argon2 hash; {hint}"))
        };
        checked.map_err(|problem| format!("the password of {name:?}: {problem}"))?;
        Ok(User {
            name: name.into(),
            hash: hash.into(),
        })
    }
}

fn check_bcrypt(hash: &str) -> Result<(), String> {
    let parts: HashParts = hash.parse().map_err(|_| "not a whole bcrypt hash")?;
    match parts.get_cost() {
        4..=BCRYPT_COST_MAX => Ok(()),
        cost => Err(format!(
            "bcrypt of cost {cost}; possible are 4 to {BCRYPT_COST_MAX}"
        )),
    }
}

fn check_argon2(hash: &str) -> Result<(), String> {
    let hash = PasswordHash::new(hash).map_err(|_| "not a whole Argon2 hash")?;
    if !matches!(hash.algorithm.as_str(), "argon2id" | "argon2i") {
        return Err("of the forms of Argon2, argon2id and argon2i are possible".to_owned());
    }
    let params = Params::try_from(&hash).map_err(|_| "Argon2 with impossible parameters")?;
    if hash.salt.is_none() || hash.hash.is_none() {
        return Err("not a whole Argon2 hash".to_owned());
    }
    let bounds = [
        (params.m_cost(), ARGON2_KIB_MAX, "KiB of memory"),
        (params.t_cost(), ARGON2_PASSES_MAX, "passes"),
        (params.p_cost(), ARGON2_LANES_MAX, "lanes"),
    ];
    for (found, most, what) in bounds {
        if found > most {
            return Err(format!(
                "Argon2 with {found} {what}; possible are at most {most}"
            ));
        }
    }
    Ok(())
}

/// Whether the hash is that of the password. Slow by intention: never on a shard.
pub fn matches(hash: &str, password: &[u8]) -> bool {
    if hash.starts_with("$argon2") {
        let verify = |hash| Argon2::default().verify_password(password, &hash).is_ok();
        PasswordHash::new(hash).is_ok_and(verify)
    } else {
        // Of a longer password, bcrypt sees 72 bytes; so did the tool that made the hash.
        bcrypt::verify(password, hash).unwrap_or(false)
    }
}

/// What can be said of a request at once.
#[derive(Debug)]
pub enum Asked<'a> {
    Known(Identity<'a>),
    /// A password has to be hashed first.
    Hash(Trial<'a>),
}

/// A password, and the hash that it is to be compared with.
pub struct Trial<'a> {
    /// `None`: nobody has that name.
    user: Option<&'a str>,
    hash: &'a str,
    password: Zeroizing<Box<[u8]>>,
    digest: Digest,
}

impl std::fmt::Debug for Trial<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trial")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

impl<'a> Trial<'a> {
    pub fn hash(&self) -> &'a str {
        self.hash
    }

    pub fn password(&self) -> &[u8] {
        &self.password
    }

    /// What follows from the comparison.
    pub fn judge(&self, matches: bool, verified: &Verified, now: Nanos) -> Identity<'a> {
        match self.user {
            Some(user) if matches => {
                verified.learn(&self.digest, now);
                Identity::User(user)
            }
            Some(_) | None => Identity::Refused(Fault::Wrong),
        }
    }
}

impl Basic {
    pub fn new(realm: &str, mut users: Vec<User>) -> Result<Basic, String> {
        if users.is_empty() {
            return Err("no users".to_owned());
        }
        users.sort_by(|a, b| a.name.cmp(&b.name));
        if let Some(pair) = users.windows(2).find(|pair| pair[0].name == pair[1].name) {
            return Err(format!("two users with the name {:?}", pair[0].name));
        }
        Ok(Basic {
            realm: realm.into(),
            users: users.into(),
        })
    }

    /// Who the request comes from. Allocates only if the password has to be hashed.
    pub fn ask<'a>(
        &'a self,
        request: &Request<'_, '_>,
        verified: &Verified,
        now: Nanos,
    ) -> Asked<'a> {
        let text = match identity::credentials(request, "basic") {
            Ok(Some(text)) => text,
            Ok(None) => return Asked::Known(Identity::Nobody),
            Err(fault) => return Asked::Known(Identity::Refused(fault)),
        };
        let mut decoded = Zeroizing::new([0; DECODED_BYTES]);
        let Some((name, password)) = read_pair(text, &mut decoded) else {
            return Asked::Known(Identity::Refused(Fault::Malformed));
        };
        let place = self
            .users
            .binary_search_by(|user| user.name.as_bytes().cmp(name));
        // For a name that nobody has, somebody else's hash is computed, always the same one for one name, and its
        // outcome ignored: how long the answer takes says nothing.
        let (Ok(at) | Err(at)) = place;
        let user = &self.users[at.min(self.users.len() - 1)];
        // With the hash, so that what was verified holds no longer than the password.
        let digest = verified.digest([user.hash.as_bytes(), name, password]);
        if place.is_ok() && verified.knows(&digest, now) {
            return Asked::Known(Identity::User(&user.name));
        }
        Asked::Hash(Trial {
            user: place.is_ok().then_some(&*user.name),
            hash: &user.hash,
            password: Zeroizing::new(password.into()),
            digest,
        })
    }

    /// Appends how to ask again (RFC 7617 section 2). No fault is named: the scheme has no place for it.
    pub fn challenge(&self, out: &mut Vec<u8>) {
        identity::begin_challenge("Basic", &self.realm, out);
        identity::parameter(", charset", "UTF-8", out);
        out.extend_from_slice(b"\r\n");
    }
}

/// Name and password (RFC 7617 section 2): neither has control characters, and a name has no colon.
fn read_pair<'d>(
    text: &[u8],
    decoded: &'d mut [u8; DECODED_BYTES],
) -> Option<(&'d [u8], &'d [u8])> {
    if text.len() > TEXT_BYTES_MAX {
        return None;
    }
    let length = STANDARD.decode_slice(text, decoded).ok()?;
    let pair = &decoded[..length];
    if length > PAIR_BYTES_MAX || pair.iter().any(u8::is_ascii_control) {
        return None;
    }
    let colon = pair.iter().position(|byte| *byte == b':')?;
    Some((&pair[..colon], &pair[colon + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::filter::identity::tests::with_fields;

    /// Of `U*U`; from the tests of crypt_blowfish.
    const BCRYPT: &str = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";
    /// Of `password`; from the tests of the reference implementation.
    const ARGON2ID: &str =
        "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";
    const ARGON2I: &str =
        "$argon2i$v=19$m=256,t=2,p=1$c29tZXNhbHQ$iekCn0Y3spW+sCcFanM2xBT63UP2sghkUoHLIUpWRS8";

    fn basic() -> Basic {
        let users = [("bob", ARGON2ID), ("alice", BCRYPT), ("Jürgen", BCRYPT)];
        let users = users.map(|(name, hash)| User::parse(&format!("{name}:{hash}")).unwrap());
        Basic::new("corelane", users.into()).unwrap()
    }

    fn field(pair: &[u8]) -> String {
        format!("Authorization: Basic {}\r\n", STANDARD.encode(pair))
    }

    /// What comes of it, with all passwords hashed here.
    fn ask<'a>(basic: &'a Basic, fields: &str, verified: &Verified, now: Nanos) -> Identity<'a> {
        with_fields(fields, |request| match basic.ask(request, verified, now) {
            Asked::Known(identity) => identity,
            Asked::Hash(trial) => {
                let fits = matches(trial.hash(), trial.password());
                trial.judge(fits, verified, now)
            }
        })
    }

    #[test]
    fn hashes_and_their_passwords() {
        let cases = [
            (BCRYPT, "U*U", true),
            (BCRYPT, "U*U*", false),
            (BCRYPT, "", false),
            (ARGON2ID, "password", true),
            (ARGON2ID, "Password", false),
            (ARGON2I, "password", true),
            (ARGON2I, "password ", false),
            ("$argon2id$", "password", false),
            ("", "", false),
        ];
        for (hash, password, expected) in cases {
            let found = matches(hash, password.as_bytes());
            assert_eq!(found, expected, "{hash} {password}");
        }
        for version in ["$2b$", "$2y$"] {
            assert!(matches(&BCRYPT.replace("$2a$", version), b"U*U"));
        }
    }

    #[test]
    fn users_as_they_are_written() {
        for hash in [BCRYPT, ARGON2ID, ARGON2I] {
            let user = User::parse(&format!("alice:{hash}")).unwrap();
            assert_eq!((&*user.name, &*user.hash), ("alice", hash));
            assert_eq!(format!("{user:?}"), "User { name: \"alice\", .. }");
        }
        let long = "n".repeat(257) + ":" + BCRYPT;
        let start = "a user's name has 1 to 256 bytes";
        let cases = [
            (
                "hunter22",
                "a user is written as name:hash; make it with `htpasswd",
            ),
            (&format!(":{BCRYPT}"), start),
            (&format!("a\u{1}:{BCRYPT}"), start),
            (&long, start),
        ];
        for (text, start) in cases {
            let problem = User::parse(text).unwrap_err();
            assert!(problem.starts_with(start), "{text}: {problem}");
            assert!(!problem.contains("hunter22"), "{problem}");
        }
        assert_eq!(Basic::new("r", Vec::new()).unwrap_err(), "no users");
        let twice = [BCRYPT, ARGON2I].map(|hash| User::parse(&format!("a:{hash}")).unwrap());
        let problem = Basic::new("r", twice.into()).unwrap_err();
        assert_eq!(problem, "two users with the name \"a\"");
    }

    #[test]
    fn hashes_that_are_refused() {
        let cases = [
            ("hunter22", "not a bcrypt or Argon2 hash; make it with"),
            ("", "not a bcrypt or Argon2 hash"),
            ("$apr1$hunter22", "not a bcrypt or Argon2 hash"),
            ("{SHA}hunter22", "not a bcrypt or Argon2 hash"),
            (&BCRYPT.replace("2a", "2x"), "not a bcrypt or Argon2 hash"),
            (&BCRYPT[..59], "not a whole bcrypt hash"),
            (&format!("{BCRYPT}:x"), "not a whole bcrypt hash"),
            (&BCRYPT.replace("$05$", "$15$"), "bcrypt of cost 15"),
            (&BCRYPT.replace("$05$", "$03$"), "bcrypt of cost 3"),
            (&ARGON2ID.replace("2id", "2d"), "of the forms of Argon2"),
            (
                &ARGON2ID.replace("m=256", "m=65537"),
                "Argon2 with 65537 KiB",
            ),
            (&ARGON2ID.replace("t=2", "t=11"), "Argon2 with 11 passes"),
            (&ARGON2ID.replace("p=1", "p=17"), "Argon2 with 17 lanes"),
            (&ARGON2ID.replace("t=2", "t=0"), "Argon2 with impossible"),
            (&ARGON2ID[..30], "not a whole Argon2 hash"),
            (&ARGON2ID[..ARGON2ID.len() - 44], "not a whole Argon2 hash"),
        ];
        for (hash, start) in cases {
            let problem = User::parse(&format!("a:{hash}")).unwrap_err();
            let start = format!("the password of \"a\": {start}");
            assert!(problem.starts_with(&start), "{hash}: {problem}");
            assert!(!problem.contains("hunter22"), "{problem}");
        }
    }

    #[test]
    fn requests_with_passwords() {
        let wrong = Identity::Refused(Fault::Wrong);
        let malformed = Identity::Refused(Fault::Malformed);
        let full = [b"alice:".to_vec(), vec![b'p'; 506]].concat();
        let overlong = [b"alice:".to_vec(), vec![b'p'; 507]].concat();
        let huge = [b"alice:".to_vec(), vec![b'p'; 60_000]].concat();
        let cases = [
            (String::new(), Identity::Nobody),
            ("Authorization: Bearer abc\r\n".to_owned(), Identity::Nobody),
            (field(b"alice:U*U"), Identity::User("alice")),
            (field("Jürgen:U*U".as_bytes()), Identity::User("Jürgen")),
            (
                field(b"bob:password").replace("Basic ", "bASIC  "),
                Identity::User("bob"),
            ),
            (field(b"alice:password"), wrong),
            (field(b"bob:U*U"), wrong),
            (field(b"alice:"), wrong),
            (field(b":U*U"), wrong),
            (field(b"Alice:U*U"), wrong),
            (field(b"alice :U*U"), wrong),
            // Nobody's names, each beside somebody: before, between and behind the users.
            (field(b"A:U*U"), wrong),
            (field(b"alicf:password"), wrong),
            (field(b"zoe:U*U"), wrong),
            (field(b"J\xfcrgen:U*U"), wrong),
            (field(b"alice:U*U:x"), wrong),
            (field(&full), wrong),
            (field(&overlong), malformed),
            (field(&huge), malformed),
            (field(b"alice"), malformed),
            (field(b"alice:U*U\n"), malformed),
            (field(b"alice:U*U\0"), malformed),
            (field(b"al\x7fce:U*U"), malformed),
            (field(b"alice:U*U").repeat(2), malformed),
            ("Authorization: Basic\r\n".to_owned(), malformed),
            (
                "Authorization: Basic YWxpY2U6VSpV!\r\n".to_owned(),
                malformed,
            ),
            (
                "Authorization: Basic YWxpY2U6VSpVeA\r\n".to_owned(),
                malformed,
            ),
            (
                "Authorization: Basic YWxpY2U6VSpVeB==\r\n".to_owned(),
                malformed,
            ),
            (
                "Authorization: Basic YWxp Y2U6VSpV\r\n".to_owned(),
                malformed,
            ),
            (
                "Authorization: Basic username=\"alice\"\r\n".to_owned(),
                malformed,
            ),
        ];
        let basic = basic();
        for (fields, expected) in cases {
            let verified = Verified::new(&[1; 32]);
            assert_eq!(ask(&basic, &fields, &verified, 0), expected, "{fields}");
        }
    }

    #[test]
    fn every_password_costs_a_hash_whether_there_is_such_a_user_or_not() {
        let basic = basic();
        let verified = Verified::new(&[1; 32]);
        let hashes = ["A", "alice", "alicf", "bob", "zoe"].map(|name| {
            let fields = field(format!("{name}:wrong").as_bytes());
            with_fields(&fields, |request| match basic.ask(request, &verified, 0) {
                Asked::Known(identity) => panic!("{name}: {identity:?}"),
                Asked::Hash(trial) => {
                    assert_eq!(trial.password(), b"wrong");
                    trial.hash().to_owned()
                }
            })
        });
        assert_eq!(hashes, [BCRYPT, BCRYPT, ARGON2ID, ARGON2ID, ARGON2ID]);
    }

    #[test]
    fn what_is_known_of_a_request() {
        let basic = basic();
        let verified = Verified::new(&[1; 32]);
        let right = field(b"alice:U*U");
        let is_known = |basic: &Basic, fields: &str, verified: &Verified, now| {
            with_fields(fields, |request| {
                matches!(basic.ask(request, verified, now), Asked::Known(_))
            })
        };
        assert!(!is_known(&basic, &right, &verified, 0));
        assert_eq!(ask(&basic, &right, &verified, 0), Identity::User("alice"));
        assert_eq!(
            ask(&basic, &field(b"alice:no"), &verified, 0),
            Identity::Refused(Fault::Wrong)
        );
        let cases = [
            (&*right, 0, true),
            (&right, 600_000_000_000, true),
            (&field(b"alice:no"), 0, false),
            (&field(b"Alice:U*U"), 0, false),
            (&field("Jürgen:U*U".as_bytes()), 0, false),
        ];
        for (fields, now, expected) in cases {
            assert_eq!(
                is_known(&basic, fields, &verified, now),
                expected,
                "{fields} {now}"
            );
        }
        // A new hash, and the old password is not known any more.
        let user = User::parse(&format!("alice:{ARGON2ID}")).unwrap();
        let changed = Basic::new("r", vec![user]).unwrap();
        assert!(!is_known(&changed, &right, &verified, 0));
    }

    #[test]
    fn the_challenge() {
        let mut out = Vec::new();
        basic().challenge(&mut out);
        let expected = "WWW-Authenticate: Basic realm=\"corelane\", charset=\"UTF-8\"\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
