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
        // Everybody knows a public key: who signs with it as a secret would be believed.
        if memchr::memmem::find(secret, b"-----BEGIN ").is_some() {
            return Err("this is a key in PEM, not a secret: jwt_key takes public keys".to_owned());
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 7515 appendix A.2, and the keys of RFC 8037 appendix A.2 and RFC 7515 appendix A.3.
    const RSA: &str = r#""kty":"RSA","e":"AQAB","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ""#;
    const ED: &str =
        r#""kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo""#;
    const EC: &str = r#""kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0""#;
    const OCT: &str = r#""kty":"oct","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr8""#;

    fn set(members: &[String]) -> Result<Keys, String> {
        let members: Vec<String> = members
            .iter()
            .map(|member| format!("{{{member}}}"))
            .collect();
        Keys::from_jwks(format!(r#"{{"keys":[{}]}}"#, members.join(",")).as_bytes())
    }

    #[test]
    fn a_public_key_is_no_secret() {
        let pem = b"-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A\n-----END PUBLIC KEY-----\n";
        let refused = Keys::from_secret(pem).map(drop);
        assert!(refused.is_err_and(|why| why.contains("jwt_key")));
        assert!(Keys::from_secret(&[b'x'; 32]).is_ok());
    }

    #[test]
    fn keys_of_a_set_that_can_be_used() {
        let rsa_of = |n: &str, e: &str| format!(r#""kty":"RSA","e":"{e}","n":"{n}""#);
        let small = URL_SAFE_NO_PAD.encode([0xc1; 255]);
        let large = URL_SAFE_NO_PAD.encode([0xc1; 1025]);
        let right = URL_SAFE_NO_PAD.encode([0xc1; 256]);
        let padded = URL_SAFE_NO_PAD.encode([vec![0], vec![0xc1; 256]].concat());
        let cases = [
            (RSA.to_owned(), Some(Algorithm::Rs256)),
            (EC.to_owned(), Some(Algorithm::Es256)),
            (ED.to_owned(), Some(Algorithm::EdDsa)),
            (OCT.to_owned(), Some(Algorithm::Hs256)),
            (
                format!(r#"{RSA},"alg":"RS256","use":"sig""#),
                Some(Algorithm::Rs256),
            ),
            (
                format!(r#"{RSA},"key_ops":["sign","verify"]"#),
                Some(Algorithm::Rs256),
            ),
            (rsa_of(&right, "AQAB"), Some(Algorithm::Rs256)),
            (format!(r#"{RSA},"alg":"RS512""#), None),
            (format!(r#"{RSA},"alg":"HS256""#), None),
            (format!(r#"{RSA},"alg":"none""#), None),
            (format!(r#"{RSA},"use":"enc""#), None),
            (format!(r#"{RSA},"key_ops":["encrypt"]"#), None),
            (rsa_of(&small, "AQAB"), None),
            (rsa_of(&large, "AQAB"), None),
            (rsa_of(&right, "AQ"), None),
            (rsa_of(&right, ""), None),
            (rsa_of(&padded, "AQAB"), None),
            (rsa_of("+/", "AQAB"), None),
            (r#""kty":"RSA","e":"AQAB""#.to_owned(), None),
            (EC.replace("P-256", "P-384"), None),
            (EC.replace("x_FE", "x_FF"), None),
            (EC.replace(r#""x":"f8"#, r#""x":"#), None),
            (ED.replace("Ed25519", "X25519"), None),
            (ED.replace("11qY", "1"), None),
            (r#""kty":"oct","k":"AAAA""#.to_owned(), None),
            (r#""kty":"AKP","pub":"AAAA""#.to_owned(), None),
            (r#""kid":"one""#.to_owned(), None),
        ];
        for (member, expected) in cases {
            let found = set(std::slice::from_ref(&member));
            let found = found.ok().map(|keys| keys.keys[0].algorithm);
            assert_eq!(found, expected, "{member}");
        }
        // What cannot be used does no harm to the others.
        let mixed = [r#""kty":"AKP""#.to_owned(), ED.to_owned()];
        assert_eq!(set(&mixed).unwrap().keys.len(), 1);
    }

    #[test]
    fn sets_that_are_refused() {
        let many = format!(r#"{{"keys":[{}{{}}]}}"#, "{},".repeat(256));
        let twice = format!(r#"{{"keys":[{{{ED},"kid":"a"}},{{{ED},"kid":"a"}}]}}"#);
        let none = "no key of the set can be used for HS256, RS256, ES256 or EdDSA";
        let cases = [
            (
                "",
                "not a set of keys: EOF while parsing a value at line 1 column 0",
            ),
            ("[]", "not a set of keys: it has no list `keys`"),
            (r#"{"keys":{}}"#, "not a set of keys: it has no list `keys`"),
            (r#"{"keys":[]}"#, none),
            (r#"{"keys":[1,null,"x",{}]}"#, none),
            (&many, "257 keys; possible are at most 256"),
            (&twice, "two keys for EdDSA with the kid \"a\""),
        ];
        for (text, expected) in cases {
            assert_eq!(
                Keys::from_jwks(text.as_bytes()).unwrap_err(),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn public_keys_in_pem() {
        let parts = PublicKeyComponents {
            n: vec![0xc1; 256],
            e: vec![1, 0, 1],
        };
        let der: PublicKeyX509Der<'_> = parts.as_der().unwrap();
        // In a SubjectPublicKeyInfo for RSA, an RSAPublicKey begins behind 24 bytes.
        let (spki, pkcs1) = (
            STANDARD.encode(der.as_ref()),
            STANDARD.encode(&der.as_ref()[24..]),
        );
        let weak = PublicKeyComponents {
            n: vec![0xc1; 128],
            e: vec![1, 0, 1],
        };
        let weak: PublicKeyX509Der<'_> = weak.as_der().unwrap();
        let weak = STANDARD.encode(weak.as_ref());
        // RFC 8410 section 10.1.
        let ed = "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=";
        // RFC 5480: id-ecPublicKey, prime256v1, the point of RFC 7515 appendix A.3; and the head of one on P-384.
        let ec = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEf83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEXH8UTNG72bfocs3+257rn0s2ldbqkLJK2KRiMohYjlrQ==";
        let ec384 = "MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEqofKIr6LBTeOscce8yCtdG4dO2KLp5uYWfdB4IJUKjhVAvJdv1UpbDpUXjhydgq3NhfeSpYmLG9dnpi/kpLcKfj0Hb0omhR86doxE7XwuMAKYLHOHX6BnXpDHXyQ6g5f";
        let cases = [
            ("PUBLIC KEY", &*spki, Ok(Algorithm::Rs256)),
            ("RSA PUBLIC KEY", &*pkcs1, Ok(Algorithm::Rs256)),
            ("PUBLIC KEY", ed, Ok(Algorithm::EdDsa)),
            ("PUBLIC KEY", ec, Ok(Algorithm::Es256)),
            ("PUBLIC KEY", ec384, Err("not a public key of RSA (2048")),
            ("PUBLIC KEY", &*weak, Err("not a public key of RSA (2048")),
            ("PUBLIC KEY", "AAAA", Err("not a public key of RSA (2048")),
            ("PUBLIC KEY", "", Err("not a public key of RSA (2048")),
            ("PUBLIC KEY", "A!", Err("the key is not Base64")),
            ("PRIVATE KEY", ed, Err("a private key, which")),
            ("RSA PRIVATE KEY", ed, Err("a private key, which")),
            ("CERTIFICATE", ed, Err("a certificate, not")),
            ("X", ed, Err("no `-----BEGIN PUBLIC KEY-----` in it")),
        ];
        for (label, body, expected) in cases {
            let pem =
                format!("# ours\n-----BEGIN {label}-----\r\n{body}\r\n-----END {label}-----\n");
            let found = Keys::from_pem(pem.as_bytes());
            match expected {
                Ok(algorithm) => assert_eq!(found.unwrap().keys[0].algorithm, algorithm, "{body}"),
                Err(start) => {
                    let problem = found.unwrap_err();
                    assert!(problem.starts_with(start), "{problem}");
                }
            }
        }
        for bad in [&b""[..], b"\xff", b"-----BEGIN PUBLIC KEY-----\nAAAA"] {
            assert!(Keys::from_pem(bad).is_err());
        }
    }

    #[test]
    fn secrets_have_a_least_length_and_are_not_shown() {
        let secret = b"0123456789abcdef0123456789abcdef";
        let problem = Keys::from_secret(&secret[1..]).unwrap_err();
        assert!(problem.starts_with("a secret of 31 bytes"), "{problem}");
        assert!(!problem.contains("123456"), "{problem}");
        let keys = Keys::from_secret(secret).unwrap();
        assert_eq!(format!("{keys:?}"), "[Hs256]");
    }

    #[test]
    fn an_algorithm_leaves_its_keys() {
        let both = || set(&[ED.to_owned(), RSA.to_owned()]).unwrap();
        let all = both().fingerprint;
        let only = both().only(Algorithm::Rs256).unwrap();
        assert_eq!(format!("{only:?}"), "[Rs256]");
        assert_ne!(only.fingerprint, all);
        assert_eq!(
            both().only(Algorithm::Es256).unwrap_err(),
            "no key for ES256"
        );
        let names = ["HS256", "RS256", "ES256", "EdDSA"];
        for name in names {
            assert_eq!(Algorithm::parse(name).unwrap().name(), name);
        }
        for name in ["none", "hs256", "", "RS512"] {
            assert_eq!(Algorithm::parse(name), None);
        }
    }
}
