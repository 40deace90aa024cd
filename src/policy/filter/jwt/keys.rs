//! What tokens are verified with.
//!
//! Decides: which keys can be used, and which one a token is to be verified with. May not know: tokens. Invariant: a key
//! has exactly one algorithm, so that none can be used as a key of another kind; keys are never printed.

use aws_lc_rs::digest;
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rsa::{PublicEncryptingKey, PublicKeyComponents};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RsaParameters};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{DecodingKey, Validation};
use serde_json::Value;

/// RFC 7518 section 3.2: as long as the hash at least.
const SECRET_BYTES_MIN: usize = 32;
/// RFC 7518 section 3.3 for the lower bound; beyond the upper one a signature takes too long.
const RSA_BITS: std::ops::RangeInclusive<u32> = 2048..=8192;
/// Most keys of a set.
const KEYS_MAX: usize = 256;

/// How tokens are signed (RFC 7518 section 3.1, RFC 8037 section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    Hs256,
    Rs256,
    Es256,
    EdDsa,
}

/// What tokens are verified with.
pub struct Keys {
    /// At least one.
    keys: Box<[Key]>,
    /// From a set: a token's `kid` says which.
    by_id: bool,
    /// Of all that the keys were made from.
    fingerprint: [u8; 32],
}

pub(super) struct Key {
    id: Option<Box<str>>,
    algorithm: Algorithm,
    pub(super) decoding: DecodingKey,
    /// What the library checks: the algorithm and the signature. It would read a clock for more.
    pub(super) validation: Validation,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let algorithms = self.keys.iter().map(|key| key.algorithm);
        f.debug_list().entries(algorithms).finish()
    }
}

impl Algorithm {
    /// The algorithm of that name, as `alg` spells it.
    pub fn parse(name: &str) -> Option<Algorithm> {
        match name {
            "HS256" => Some(Algorithm::Hs256),
            "RS256" => Some(Algorithm::Rs256),
            "ES256" => Some(Algorithm::Es256),
            "EdDSA" => Some(Algorithm::EdDsa),
            _ => None,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Hs256 => "HS256",
            Algorithm::Rs256 => "RS256",
            Algorithm::Es256 => "ES256",
            Algorithm::EdDsa => "EdDSA",
        }
    }

    fn library(self) -> jsonwebtoken::Algorithm {
        match self {
            Algorithm::Hs256 => jsonwebtoken::Algorithm::HS256,
            Algorithm::Rs256 => jsonwebtoken::Algorithm::RS256,
            Algorithm::Es256 => jsonwebtoken::Algorithm::ES256,
            Algorithm::EdDsa => jsonwebtoken::Algorithm::EdDSA,
        }
    }
}

impl Keys {
    /// A shared secret, for HS256.
    pub fn from_secret(secret: &[u8]) -> Result<Keys, String> {
        Ok(Keys {
            keys: [Key::of_secret(secret)?].into(),
            by_id: false,
            fingerprint: fingerprint("secret", secret),
        })
    }

    /// A public key in PEM, for RS256, ES256 or EdDSA, as its kind is.
    pub fn from_pem(pem: &[u8]) -> Result<Keys, String> {
        Ok(Keys {
            keys: [Key::of_public(&read_pem(pem)?)?].into(),
            by_id: false,
            fingerprint: fingerprint("pem", pem),
        })
    }

    /// A set of keys in JSON (RFC 7517 section 5). Those that cannot be used are left out.
    pub fn from_jwks(text: &[u8]) -> Result<Keys, String> {
        let set: Value =
            serde_json::from_slice(text).map_err(|error| format!("not a set of keys: {error}"))?;
        let Some(members) = set.get("keys").and_then(Value::as_array) else {
            return Err("not a set of keys: it has no list `keys`".to_owned());
        };
        if members.len() > KEYS_MAX {
            return Err(format!(
                "{} keys; possible are at most {KEYS_MAX}",
                members.len()
            ));
        }
        let keys: Vec<Key> = members.iter().filter_map(read_member).collect();
        if keys.is_empty() {
            return Err(
                "no key of the set can be used for HS256, RS256, ES256 or EdDSA".to_owned(),
            );
        }
        let same = |a: &Key, b: &Key| a.id == b.id && a.algorithm == b.algorithm;
        let double = |(at, key): (usize, &Key)| {
            key.id.is_some() && keys[..at].iter().any(|other| same(key, other))
        };
        if let Some(at) = keys.iter().enumerate().position(double) {
            let (id, name) = (keys[at].id.as_deref(), keys[at].algorithm.name());
            return Err(format!(
                "two keys for {name} with the kid {:?}",
                id.unwrap_or_default()
            ));
        }
        Ok(Keys {
            keys: keys.into(),
            by_id: true,
            fingerprint: fingerprint("jwks", text),
        })
    }

    /// Leaves only those of one algorithm.
    pub fn only(self, algorithm: Algorithm) -> Result<Keys, String> {
        let fits = |key: &Key| key.algorithm == algorithm;
        let keys: Box<[Key]> = self.keys.into_iter().filter(fits).collect();
        if keys.is_empty() {
            return Err(format!("no key for {}", algorithm.name()));
        }
        Ok(Keys {
            keys,
            by_id: self.by_id,
            fingerprint: fingerprint(algorithm.name(), &self.fingerprint),
        })
    }

    pub(super) fn fingerprint(&self) -> &[u8; 32] {
        &self.fingerprint
    }

    /// The one key that fits what a token says of itself; nothing if several do.
    pub(super) fn select(
        &self,
        algorithm: jsonwebtoken::Algorithm,
        id: Option<&str>,
    ) -> Option<&Key> {
        let mut fitting = self.keys.iter().filter(|key| {
            let id_fits = !self.by_id || id.is_none() || key.id.as_deref() == id;
            id_fits && key.algorithm.library() == algorithm
        });
        let key = fitting.next()?;
        fitting.next().is_none().then_some(key)
    }
}

impl Key {
    fn new(algorithm: Algorithm, decoding: DecodingKey) -> Key {
        let mut validation = Validation::new(algorithm.library());
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        Key {
            id: None,
            algorithm,
            decoding,
            validation,
        }
    }

    fn of_secret(secret: &[u8]) -> Result<Key, String> {
        if secret.len() < SECRET_BYTES_MIN {
            let found = secret.len();
            return Err(format!(
                "a secret of {found} bytes; HS256 needs {SECRET_BYTES_MIN} at least (`openssl rand -base64 32`)"
            ));
        }
        Ok(Key::new(Algorithm::Hs256, DecodingKey::from_secret(secret)))
    }

    /// Of a SubjectPublicKeyInfo (RFC 5280 section 4.1) or, for RSA, an RSAPublicKey (RFC 8017 appendix A.1.1).
    fn of_public(der: &[u8]) -> Result<Key, String> {
        if ParsedPublicKey::new(&ED25519, der).is_ok() {
            return Ok(Key::new(Algorithm::EdDsa, DecodingKey::from_ed_der(der)));
        }
        if ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, der).is_ok() {
            return Ok(Key::new(Algorithm::Es256, DecodingKey::from_ec_der(der)));
        }
        let bits = RsaParameters::public_modulus_len(der).ok();
        let is_rsa = match bits {
            Some(bits) => RSA_BITS.contains(&bits),
            // It takes the same sizes.
            None => PublicEncryptingKey::from_der(der).is_ok(),
        };
        if is_rsa {
            return Ok(Key::new(Algorithm::Rs256, DecodingKey::from_rsa_der(der)));
        }
        let (least, most) = (RSA_BITS.start(), RSA_BITS.end());
        Err(format!(
            "not a public key of RSA ({least} to {most} bits), of the curve P-256, or Ed25519"
        ))
    }
}

fn fingerprint(kind: &str, text: &[u8]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(kind.as_bytes());
    context.update(&[0]);
    context.update(text);
    let mut found = [0; 32];
    found.copy_from_slice(context.finish().as_ref());
    found
}

/// What stands between the lines of a PEM text (RFC 7468), whatever stands around it.
fn read_pem(text: &[u8]) -> Result<Vec<u8>, String> {
    let none = "no `-----BEGIN PUBLIC KEY-----` in it";
    let text = std::str::from_utf8(text).map_err(|_| none)?;
    let (_, rest) = text.split_once("-----BEGIN ").ok_or(none)?;
    let (label, rest) = rest.split_once("-----").ok_or(none)?;
    match label {
        "PUBLIC KEY" | "RSA PUBLIC KEY" => {}
        "CERTIFICATE" => {
            let hint = "`openssl x509 -pubkey -noout` takes the key out";
            return Err(format!("a certificate, not a public key; {hint}"));
        }
        _ if label.ends_with("PRIVATE KEY") => {
            let hint = "`openssl pkey -pubout` makes the public one";
            return Err(format!("a private key, which does not belong here; {hint}"));
        }
        _ => return Err(none.to_owned()),
    }
    let (body, _) = rest
        .split_once("-----END ")
        .ok_or("the end of the key is missing")?;
    let body: String = body.split_ascii_whitespace().collect();
    STANDARD
        .decode(body)
        .map_err(|_| "the key is not Base64".to_owned())
}

/// A key of a set; `None` if it is of a kind, or for a use, that we do not know.
fn read_member(member: &Value) -> Option<Key> {
    let text = |name: &str| member.get(name).and_then(Value::as_str);
    let bytes = |name: &str| URL_SAFE_NO_PAD.decode(text(name)?).ok();
    let is_for_signatures = text("use").is_none_or(|found| found == "sig");
    let operations = member.get("key_ops").and_then(Value::as_array);
    let verifies = operations.is_none_or(|all| all.iter().any(|one| one == "verify"));
    if !is_for_signatures || !verifies {
        return None;
    }
    let mut key = match (text("kty")?, text("crv")) {
        ("oct", _) => Key::of_secret(&bytes("k")?).ok()?,
        ("RSA", _) => {
            let parts = PublicKeyComponents {
                n: bytes("n")?,
                e: bytes("e")?,
            };
            let der: PublicKeyX509Der<'_> = parts.as_der().ok()?;
            Key::of_public(der.as_ref()).ok()?
        }
        ("EC", Some("P-256")) => {
            // SEC 1 section 2.3.3: an uncompressed point. Each coordinate has all its bytes (RFC 7518 section 6.2.1.2).
            let point = [vec![4], bytes("x")?, bytes("y")?].concat();
            Key::of_public(&point).ok()?
        }
        ("OKP", Some("Ed25519")) => Key::of_public(&bytes("x")?).ok()?,
        _ => return None,
    };
    if text("alg").is_some_and(|name| name != key.algorithm.name()) {
        return None;
    }
    key.id = text("kid").map(Into::into);
    Some(key)
}
