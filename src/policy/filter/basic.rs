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
use super::recent::{Digest, Recent};
use crate::h1::head::Request;
use crate::policy::Nanos;

/// Longest `user:password`, in bytes.
const PAIR_BYTES_MAX: usize = 512;
/// Their longest Base64, and what it takes to decode that.
const TEXT_BYTES_MAX: usize = PAIR_BYTES_MAX.div_ceil(3) * 4;
const DECODED_BYTES: usize = TEXT_BYTES_MAX / 4 * 3;

/// How long a password that was right need not be hashed again.
const VERIFIED_NS: Nanos = 60_000_000_000;

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
    pub fn judge(&self, matches: bool, verified: &mut Verified, now: Nanos) -> Identity<'a> {
        match self.user {
            Some(user) if matches => {
                verified.0.put(self.digest, now + VERIFIED_NS);
                Identity::User(user)
            }
            Some(_) | None => Identity::Refused(Fault::Wrong),
        }
    }
}

/// Passwords of a shard's clients that were right a short while ago, at most 1024. Wrong ones are not remembered:
/// guessing shall cost.
#[derive(Debug)]
pub struct Verified(Recent<Nanos>);

impl Verified {
    /// `seed` is random, and secret.
    pub fn new(seed: &[u8; 32]) -> Self {
        Verified(Recent::new(seed))
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
        let digest = verified.0.digest([user.hash.as_bytes(), name, password]);
        if place.is_ok() && verified.0.get(&digest).is_some_and(|until| now < *until) {
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
