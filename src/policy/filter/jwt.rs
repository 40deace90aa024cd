//! JSON Web Tokens (RFC 7519) as bearer tokens (RFC 6750).
//!
//! Decides: whether a token is genuine and valid now, and whose it is. May not know: clocks (given). Invariant: the
//! algorithm is the key's, never the token's own word alone; `none` is no algorithm.

pub mod keys;

use jsonwebtoken::{decode, decode_header};
use serde_json::{Map, Value};

pub use self::keys::{Algorithm, Keys};
use super::identity::{self, Fault, Identity};
use super::recent::Recent;
use crate::h1::head::Request;

/// Longest token that is read, in bytes.
const TOKEN_BYTES_MAX: usize = 8 * 1024;

#[derive(Debug)]
pub struct Jwt {
    pub realm: Box<str>,
    pub keys: Keys,
    /// One of these; empty for any.
    pub issuers: Box<[Box<str>]>,
    /// One of these; empty for any.
    pub audiences: Box<[Box<str>]>,
    /// How far clocks may differ.
    pub leeway_s: u64,
    /// The claim that names the user; `sub` by default.
    pub user_claim: Box<str>,
}

/// Tokens that a shard has found genuine lately, at most 1024. Their times are compared with the clock on each use.
///
/// A signature costs more than all the rest of a request: 21 µs for RS256 of 2048 bits, 53 µs for ES256, 34 µs for
/// EdDSA, against 0.7 to 0.9 µs for a token that is remembered (best of five runs of [`Jwt::identify`]).
#[derive(Debug)]
pub struct Tokens(Recent<Genuine>);

/// What a token with a right signature, issuer and audience says.
#[derive(Debug)]
struct Genuine {
    user: Box<str>,
    /// From here on it is too old.
    expires_s: u64,
    /// Until here it is too young.
    begins_s: u64,
}

type Claims = Map<String, Value>;

impl Tokens {
    /// `seed` is random, and secret.
    pub fn new(seed: &[u8; 32]) -> Self {
        Tokens(Recent::new(seed))
    }
}

impl Jwt {
    /// Who the request comes from. Allocates only for a token that the shard has not seen lately.
    pub fn identify<'t>(
        &self,
        request: &Request<'_, '_>,
        tokens: &'t mut Tokens,
        now_unix_s: u64,
    ) -> Identity<'t> {
        let token = match identity::bearer(request, TOKEN_BYTES_MAX) {
            Ok(Some(token)) => token,
            Ok(None) => return Identity::Nobody,
            Err(fault) => return Identity::Refused(fault),
        };
        match self.check(token, tokens, now_unix_s) {
            Ok(user) => Identity::User(user),
            Err(fault) => Identity::Refused(fault),
        }
    }

    /// Appends how to ask again.
    pub fn challenge(&self, fault: Option<Fault>, out: &mut Vec<u8>) {
        identity::challenge_bearer(&self.realm, fault, out);
    }

    fn check<'t>(
        &self,
        token: &str,
        tokens: &'t mut Tokens,
        now_unix_s: u64,
    ) -> Result<&'t str, Fault> {
        // With all that the verdict depends on but the clock, so that it holds in whichever filter it is asked for.
        let issuers = self.issuers.iter().map(|text| [b"iss", text.as_bytes()]);
        let audiences = self.audiences.iter().map(|text| [b"aud", text.as_bytes()]);
        let claim = self.user_claim.as_bytes();
        let parts = [&self.keys.fingerprint()[..], claim, token.as_bytes()];
        let parts = parts.into_iter().chain(issuers.chain(audiences).flatten());
        let digest = tokens.0.digest(parts);
        let genuine = tokens.0.get_or_put(digest, || {
            let genuine = self.verify(token)?;
            // Here too: what is of no use now does not push out others.
            genuine.check_time(now_unix_s, self.leeway_s)?;
            Ok(genuine)
        })?;
        genuine.check_time(now_unix_s, self.leeway_s)?;
        Ok(&genuine.user)
    }

    /// All checks but those of time.
    fn verify(&self, token: &str) -> Result<Genuine, Fault> {
        let header = decode_header(token).map_err(|_| Fault::TokenBad)?;
        // We understand no extension (RFC 7515 section 4.1.11).
        if header.crit.is_some() {
            return Err(Fault::TokenBad);
        }
        let key = self.keys.select(header.alg, header.kid.as_deref());
        let key = key.ok_or(Fault::TokenBad)?;
        let decoded = decode::<Claims>(token, &key.decoding, &key.validation);
        let claims = decoded.map_err(|_| Fault::TokenBad)?.claims;
        self.check_parties(&claims)?;
        Ok(Genuine {
            user: self.user(&claims)?.into(),
            // A token that never ends could not be taken back: one without `exp` is refused.
            expires_s: date(&claims, "exp")?.ok_or(Fault::TokenBad)?,
            begins_s: date(&claims, "nbf")?.unwrap_or(0),
        })
    }

    /// RFC 7519 sections 4.1.1 and 4.1.3. An audience is a text or a list of texts.
    fn check_parties(&self, claims: &Claims) -> Result<(), Fault> {
        let is_one_of = |list: &[Box<str>], found: &Value| {
            let found = found.as_str();
            list.iter().any(|one| found == Some(one))
        };
        let is_issued = match claims.get("iss") {
            Some(issuer) => is_one_of(&self.issuers, issuer),
            None => false,
        };
        let is_for_us = match claims.get("aud") {
            Some(Value::Array(all)) => all.iter().any(|one| is_one_of(&self.audiences, one)),
            Some(audience) => is_one_of(&self.audiences, audience),
            None => false,
        };
        let issuer_is_fine = is_issued || self.issuers.is_empty();
        let audience_is_fine = is_for_us || self.audiences.is_empty();
        if issuer_is_fine && audience_is_fine {
            Ok(())
        } else {
            Err(Fault::TokenClaims)
        }
    }

    fn user<'c>(&self, claims: &'c Claims) -> Result<&'c str, Fault> {
        let user = claims.get(&*self.user_claim).and_then(Value::as_str);
        let user = user.filter(|user| identity::is_name(user));
        user.ok_or(Fault::TokenClaims)
    }
}

impl Genuine {
    /// RFC 7519 sections 4.1.4 and 4.1.5.
    fn check_time(&self, now_unix_s: u64, leeway_s: u64) -> Result<(), Fault> {
        let is_old = now_unix_s >= self.expires_s.saturating_add(leeway_s);
        let is_young = now_unix_s.saturating_add(leeway_s) < self.begins_s;
        if is_old || is_young {
            Err(Fault::TokenExpired)
        } else {
            Ok(())
        }
    }
}

/// A date in seconds, possibly with a fraction (RFC 7519 section 2, NumericDate). Rounded up: both comparisons with whole
/// seconds come out the same.
fn date(claims: &Claims, name: &str) -> Result<Option<u64>, Fault> {
    match claims.get(name) {
        None => Ok(None),
        Some(date) => {
            let date = date.as_f64().ok_or(Fault::TokenBad)?;
            // Saturates: what is before 1970 or beyond all time stays so.
            Ok(Some(date.ceil() as u64))
        }
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::AsDer;
    use aws_lc_rs::hmac;
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::rsa::PublicKeyComponents;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair};
    use base64::Engine;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

    use super::*;
    use crate::policy::filter::identity::tests::with_fields;

    // RFC 7515 appendices A.1 to A.3: one payload, of the issuer joe, until 1300819380.
    const JOE: &str = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    const JOE_EXPIRES_S: u64 = 1_300_819_380;
    const HS_HEADER: &str = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9";
    const HS_SIGNATURE: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    const HS_KEY: &str =
        "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
    const RS_HEADER: &str = "eyJhbGciOiJSUzI1NiJ9";
    const RS_SIGNATURE: &str = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
    const RS_MODULUS: &str = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";
    const ES_HEADER: &str = "eyJhbGciOiJFUzI1NiJ9";
    const ES_SIGNATURE: &str =
        "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    const ES_X: &str = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
    const ES_Y: &str = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";
    const ES_PRIVATE: &str = "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI";
    // RFC 8037 appendices A.1 and A.2.
    const ED_PRIVATE: &str = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";
    const ED_PUBLIC: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

    /// When most tests take place, and claims that are fine then.
    const NOW_S: u64 = 1_000;
    const FINE: &str = r#"{"sub":"alice","exp":2000}"#;

    fn bytes(text: &str) -> Vec<u8> {
        URL_SAFE_NO_PAD.decode(text).unwrap()
    }

    fn pem(label: &str, der: &[u8]) -> String {
        let body = STANDARD.encode(der);
        let lines: Vec<&str> = body
            .as_bytes()
            .chunks(64)
            .map(|line| str::from_utf8(line).unwrap())
            .collect();
        format!(
            "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
            lines.join("\n")
        )
    }

    fn rsa_pem() -> String {
        let parts = PublicKeyComponents {
            n: bytes(RS_MODULUS),
            e: vec![1, 0, 1],
        };
        pem("PUBLIC KEY", parts.as_der().unwrap().as_ref())
    }

    fn rsa_jwk(more: &str) -> String {
        format!(r#"{{"kty":"RSA","n":"{RS_MODULUS}","e":"AQAB"{more}}}"#)
    }

    fn ec_jwk(more: &str) -> String {
        format!(r#"{{"kty":"EC","crv":"P-256","x":"{ES_X}","y":"{ES_Y}"{more}}}"#)
    }

    fn ed_jwk(more: &str) -> String {
        format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{ED_PUBLIC}"{more}}}"#)
    }

    fn set(keys: &[String]) -> Result<Keys, String> {
        Keys::from_jwks(format!(r#"{{"keys":[{}]}}"#, keys.join(",")).as_bytes())
    }

    #[derive(Debug, Clone, Copy)]
    enum Signer {
        Hs256,
        Es256,
        EdDsa,
        /// HMAC with a secret that is not one.
        Hmac(&'static [u8]),
        /// This text, whatever the message.
        Text(&'static str),
    }

    fn sign(header: &str, claims: &str, signer: Signer) -> String {
        let encode = |text: &[u8]| URL_SAFE_NO_PAD.encode(text);
        let message = format!(
            "{}.{}",
            encode(header.as_bytes()),
            encode(claims.as_bytes())
        );
        let hmac = |secret: &[u8]| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
            encode(hmac::sign(&key, message.as_bytes()).as_ref())
        };
        let signature = match signer {
            Signer::Hs256 => hmac(&bytes(HS_KEY)),
            Signer::Es256 => {
                let public = [vec![4], bytes(ES_X), bytes(ES_Y)].concat();
                let pair = EcdsaKeyPair::from_private_key_and_public_key(
                    &ECDSA_P256_SHA256_FIXED_SIGNING,
                    &bytes(ES_PRIVATE),
                    &public,
                );
                let signed = pair.unwrap().sign(&SystemRandom::new(), message.as_bytes());
                encode(signed.unwrap().as_ref())
            }
            Signer::EdDsa => {
                let pair = Ed25519KeyPair::from_seed_unchecked(&bytes(ED_PRIVATE)).unwrap();
                encode(pair.sign(message.as_bytes()).as_ref())
            }
            Signer::Hmac(secret) => hmac(secret),
            Signer::Text(text) => text.to_owned(),
        };
        format!("{message}.{signature}")
    }

    fn filter(keys: Keys) -> Jwt {
        Jwt {
            realm: "corelane".into(),
            keys,
            issuers: [].into(),
            audiences: [].into(),
            leeway_s: 0,
            user_claim: "sub".into(),
        }
    }

    fn hmac_filter() -> Jwt {
        filter(Keys::from_secret(&bytes(HS_KEY)).unwrap())
    }

    fn tokens() -> Tokens {
        Tokens::new(&[7; 32])
    }

    /// What the filter says of the token, first and again.
    fn ask(filter: &Jwt, token: &str, now_s: u64) -> Result<String, Fault> {
        let mut tokens = tokens();
        let first = filter.check(token, &mut tokens, now_s).map(str::to_owned);
        let again = filter.check(token, &mut tokens, now_s).map(str::to_owned);
        assert_eq!(first, again, "{token}");
        first
    }

    #[test]
    fn tokens_of_the_standards() {
        let rsa = rsa_jwk("");
        let cases = [
            (Keys::from_secret(&bytes(HS_KEY)), HS_HEADER, HS_SIGNATURE),
            (
                Keys::from_pem(rsa_pem().as_bytes()),
                RS_HEADER,
                RS_SIGNATURE,
            ),
            (set(&[rsa]), RS_HEADER, RS_SIGNATURE),
            (set(&[ec_jwk("")]), ES_HEADER, ES_SIGNATURE),
        ];
        for (keys, header, signature) in cases {
            let mut filter = filter(keys.unwrap());
            filter.user_claim = "iss".into();
            let token = format!("{header}.{JOE}.{signature}");
            let before = JOE_EXPIRES_S - 1;
            assert_eq!(ask(&filter, &token, before).as_deref(), Ok("joe"));
            assert_eq!(ask(&filter, &token, before + 1), Err(Fault::TokenExpired));
            // Each part counts.
            for at in [2, header.len() + 5, token.len() - 9] {
                let mut changed = token.clone().into_bytes();
                changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
                let changed = String::from_utf8(changed).unwrap();
                assert_eq!(
                    ask(&filter, &changed, before),
                    Err(Fault::TokenBad),
                    "{changed}"
                );
            }
            // The leeway is for both ends.
            filter.leeway_s = 60;
            assert!(ask(&filter, &token, before + 60).is_ok());
            assert_eq!(ask(&filter, &token, before + 61), Err(Fault::TokenExpired));
        }
    }

    #[test]
    fn an_algorithm_belongs_to_its_key() {
        let pem_as_secret: &'static [u8] = rsa_pem().leak().as_bytes();
        let modulus_as_secret: &'static [u8] = bytes(RS_MODULUS).leak();
        // Of zeros alone: CVE-2022-21449.
        let zeros: &'static str = "A".repeat(86).leak();
        let hmac = hmac_filter();
        let rsa = filter(Keys::from_pem(rsa_pem().as_bytes()).unwrap());
        let ed = filter(set(&[ed_jwk("")]).unwrap());
        let ec = filter(set(&[ec_jwk("")]).unwrap());
        let cases = [
            (&hmac, "HS256", Signer::Hs256, true),
            (&ec, "ES256", Signer::Es256, true),
            (&ed, "EdDSA", Signer::EdDsa, true),
            (&hmac, "HS256", Signer::Text(""), false),
            (&hmac, "HS256", Signer::Text("AAAA"), false),
            (&hmac, "HS256", Signer::Hmac(b""), false),
            (&hmac, "HS256", Signer::EdDsa, false),
            (&hmac, "HS512", Signer::Hs256, false),
            (&hmac, "EdDSA", Signer::EdDsa, false),
            // A public key as a secret.
            (&rsa, "HS256", Signer::Hmac(pem_as_secret), false),
            (&rsa, "HS256", Signer::Hmac(modulus_as_secret), false),
            (&rsa, "RS256", Signer::Hmac(pem_as_secret), false),
            (&rsa, "PS256", Signer::Text(RS_SIGNATURE), false),
            (&rsa, "none", Signer::Text(""), false),
            (&ed, "ES256", Signer::Es256, false),
            (&ed, "EdDSA", Signer::Text(zeros), false),
            (&ec, "ES256", Signer::Text(zeros), false),
            (&ec, "ES384", Signer::Es256, false),
        ];
        for (filter, algorithm, signer, is_fine) in cases {
            let token = sign(&format!(r#"{{"alg":"{algorithm}"}}"#), FINE, signer);
            let found = ask(filter, &token, NOW_S);
            let expected = if is_fine {
                Ok("alice".to_owned())
            } else {
                Err(Fault::TokenBad)
            };
            assert_eq!(found, expected, "{algorithm} {signer:?}");
        }
    }

    #[test]
    fn headers_of_all_kinds() {
        let filter = hmac_filter();
        let fine = [
            r#"{"alg":"HS256","typ":"at+jwt","kid":"any"}"#,
            r#" { "alg" : "\u0048S256" } "#,
        ];
        for header in fine {
            let found = ask(&filter, &sign(header, FINE, Signer::Hs256), NOW_S);
            assert_eq!(found.as_deref(), Ok("alice"), "{header}");
        }
        let bad = [
            // RFC 7518 section 3.6, and its spellings.
            r#"{"alg":"none"}"#,
            r#"{"alg":"None"}"#,
            r#"{"alg":"NONE"}"#,
            r#"{"alg":"nOnE"}"#,
            r#"{"alg":""}"#,
            r#"{"alg":null}"#,
            r#"{"alg":["HS256"]}"#,
            r#"{"alg":"hs256"}"#,
            r#"{"alg":"HS256 "}"#,
            r#"{"alg":"HS256","alg":"none"}"#,
            r#"{"typ":"JWT"}"#,
            // Extensions that must be understood (RFC 7515 section 4.1.11).
            r#"{"alg":"HS256","crit":["b64"],"b64":false}"#,
            r#"{"alg":"HS256","crit":["x"],"x":"1"}"#,
            r#"{"alg":"HS256","crit":[]}"#,
            r#"{"alg":"HS256","crit":1}"#,
            r#"["alg","HS256"]"#,
            "alg: HS256",
            "",
        ];
        for header in bad {
            for signer in [Signer::Text(""), Signer::Hs256] {
                let found = ask(&filter, &sign(header, FINE, signer), NOW_S);
                assert_eq!(found, Err(Fault::TokenBad), "{header} {signer:?}");
            }
        }
    }

    #[test]
    fn claims_of_all_kinds() {
        let long = format!(r#"{{"exp":2000,"sub":"{}"}}"#, "u".repeat(257));
        let deep = format!(
            r#"{{"exp":2000,"sub":"a","x":{}{}}}"#,
            "[".repeat(900),
            "]".repeat(900)
        );
        let (bad, old, claims) = (Fault::TokenBad, Fault::TokenExpired, Fault::TokenClaims);
        let cases = [
            (FINE, Ok("alice")),
            (r#"{"sub":"a","exp":1001}"#, Ok("a")),
            (r#"{"sub":"a","exp":1000}"#, Err(old)),
            (r#"{"sub":"a","exp":1000.5}"#, Ok("a")),
            (r#"{"sub":"a","exp":1e3}"#, Err(old)),
            (r#"{"sub":"a","exp":-1}"#, Err(old)),
            (r#"{"sub":"a","exp":1e300}"#, Ok("a")),
            (r#"{"sub":"a","exp":1e400}"#, Err(bad)),
            (r#"{"sub":"a","exp":18446744073709551615}"#, Ok("a")),
            (r#"{"sub":"a"}"#, Err(bad)),
            (r#"{"sub":"a","exp":null}"#, Err(bad)),
            (r#"{"sub":"a","exp":"2000"}"#, Err(bad)),
            (r#"{"sub":"a","exp":1,"exp":2000}"#, Err(bad)),
            (r#"{"sub":"a","exp":2000,"nbf":1000}"#, Ok("a")),
            (r#"{"sub":"a","exp":2000,"nbf":1000.5}"#, Err(old)),
            (r#"{"sub":"a","exp":2000,"nbf":1001}"#, Err(old)),
            (r#"{"sub":"a","exp":2000,"nbf":"now"}"#, Err(bad)),
            (r#"{"sub":"a","exp":2000,"iat":5000}"#, Ok("a")),
            (r#"{"exp":2000}"#, Err(claims)),
            (r#"{"exp":2000,"sub":""}"#, Err(claims)),
            (r#"{"exp":2000,"sub":1}"#, Err(claims)),
            (r#"{"exp":2000,"sub":"a\r\nX-Admin: 1"}"#, Err(claims)),
            (r#"{"exp":2000,"sub":"a\u0000"}"#, Err(claims)),
            (r#"{"exp":2000,"sub":"J\u00fcrgen"}"#, Ok("Jürgen")),
            (&long, Err(claims)),
            (&deep, Err(bad)),
            (r#"["alice"]"#, Err(bad)),
            (r#""alice""#, Err(bad)),
            (r#"{"sub":"a","exp":2000"#, Err(bad)),
            ("", Err(bad)),
        ];
        let filter = hmac_filter();
        for (claims, expected) in cases {
            let token = sign(r#"{"alg":"HS256"}"#, claims, Signer::Hs256);
            let found = ask(&filter, &token, NOW_S);
            assert_eq!(
                found.as_deref(),
                expected.as_ref().map(|user| *user),
                "{claims}"
            );
        }
    }

    #[test]
    fn issuers_and_audiences() {
        let mut filter = hmac_filter();
        filter.issuers = ["https://a".into(), "https://b".into()].into();
        filter.audiences = ["one".into(), "two".into()].into();
        let cases = [
            (r#""iss":"https://b","aud":"one""#, true),
            (r#""iss":"https://a","aud":["none","two"]"#, true),
            (r#""iss":"https://a","aud":["one",7]"#, true),
            (r#""iss":"https://a","aud":[]"#, false),
            (r#""iss":"https://a","aud":["One"]"#, false),
            (r#""iss":"https://a","aud":{"one":"one"}"#, false),
            (r#""iss":"https://a""#, false),
            (r#""iss":"https://a/","aud":"one""#, false),
            (r#""iss":["https://a"],"aud":"one""#, false),
            (r#""aud":"one""#, false),
        ];
        for (claims, is_fine) in cases {
            let claims = format!(r#"{{"sub":"a","exp":2000,{claims}}}"#);
            let token = sign(r#"{"alg":"HS256"}"#, &claims, Signer::Hs256);
            let expected = if is_fine {
                Ok("a".to_owned())
            } else {
                Err(Fault::TokenClaims)
            };
            assert_eq!(ask(&filter, &token, NOW_S), expected, "{claims}");
        }
    }

    #[test]
    fn a_set_knows_its_keys_by_their_ids() {
        let (one, two) = (
            ed_jwk(r#","kid":"one""#),
            ec_jwk(r#","kid":"two","alg":"ES256""#),
        );
        let nameless = format!(r#"{{"kty":"oct","k":"{HS_KEY}"}}"#);
        let filter = filter(set(&[one, two, nameless]).unwrap());
        let cases = [
            (r#"{"alg":"EdDSA","kid":"one"}"#, Signer::EdDsa, true),
            (r#"{"alg":"ES256","kid":"two"}"#, Signer::Es256, true),
            // Without an id, because one key fits.
            (r#"{"alg":"EdDSA"}"#, Signer::EdDsa, true),
            (r#"{"alg":"HS256"}"#, Signer::Hs256, true),
            (r#"{"alg":"HS256","kid":"three"}"#, Signer::Hs256, false),
            (r#"{"alg":"EdDSA","kid":"two"}"#, Signer::EdDsa, false),
            (r#"{"alg":"ES256","kid":"one"}"#, Signer::Es256, false),
            (r#"{"alg":"EdDSA","kid":"One"}"#, Signer::EdDsa, false),
            (r#"{"alg":"EdDSA","kid":""}"#, Signer::EdDsa, false),
            (r#"{"alg":"EdDSA","kid":1}"#, Signer::EdDsa, false),
        ];
        for (header, signer, is_fine) in cases {
            let expected = if is_fine {
                Ok("alice".to_owned())
            } else {
                Err(Fault::TokenBad)
            };
            assert_eq!(
                ask(&filter, &sign(header, FINE, signer), NOW_S),
                expected,
                "{header}"
            );
        }
    }

    #[test]
    fn of_two_keys_that_fit_none_is_taken() {
        let another = ed_jwk(r#","kid":"another""#)
            .replace(ED_PUBLIC, "PUAXw-hDiVqStwqnTRt-vJyYLM8uxJaMwM1V8Sr0Zgw");
        let filter = filter(set(&[ed_jwk(r#","kid":"one""#), another]).unwrap());
        let token = |header| sign(header, FINE, Signer::EdDsa);
        assert!(ask(&filter, &token(r#"{"alg":"EdDSA","kid":"one"}"#), NOW_S).is_ok());
        let nameless = ask(&filter, &token(r#"{"alg":"EdDSA"}"#), NOW_S);
        assert_eq!(nameless, Err(Fault::TokenBad));
    }

    #[test]
    fn what_is_remembered_is_checked_against_the_clock_and_the_filter() {
        let token = sign(
            r#"{"alg":"HS256"}"#,
            r#"{"sub":"a","exp":2000,"nbf":500,"aud":"x"}"#,
            Signer::Hs256,
        );
        let mut tokens = tokens();
        let filter = hmac_filter();
        let mut narrow = hmac_filter();
        narrow.audiences = ["y".into()].into();
        let mut other_claim = hmac_filter();
        other_claim.user_claim = "aud".into();
        let mut patient = hmac_filter();
        patient.leeway_s = 10;
        let other_key = super::tests::filter(Keys::from_secret(&[1; 32]).unwrap());
        let cases = [
            (&filter, 499, Err(Fault::TokenExpired)),
            (&filter, 500, Ok("a")),
            (&filter, 1999, Ok("a")),
            (&filter, 2000, Err(Fault::TokenExpired)),
            (&filter, 499, Err(Fault::TokenExpired)),
            (&patient, 2009, Ok("a")),
            (&patient, 2010, Err(Fault::TokenExpired)),
            (&narrow, 1000, Err(Fault::TokenClaims)),
            (&other_claim, 1000, Ok("x")),
            (&other_key, 1000, Err(Fault::TokenBad)),
        ];
        for (filter, now_s, expected) in cases {
            assert_eq!(
                filter.check(&token, &mut tokens, now_s),
                expected,
                "{now_s}"
            );
        }
    }

    #[test]
    fn requests_with_tokens() {
        let fine = sign(r#"{"alg":"HS256"}"#, FINE, Signer::Hs256);
        let field = |value: &str| format!("Authorization: {value}\r\n");
        let (head, _) = fine.rsplit_once('.').unwrap();
        let bad = Identity::Refused(Fault::TokenBad);
        let malformed = Identity::Refused(Fault::Malformed);
        let cases = [
            (String::new(), Identity::Nobody),
            (field("Basic YTpi"), Identity::Nobody),
            (field(&format!("Bearer {fine}")), Identity::User("alice")),
            (field(&format!("bearer   {fine}")), Identity::User("alice")),
            (field("Bearer a"), bad),
            (field("Bearer ..."), bad),
            (field(&format!("Bearer {head}")), bad),
            (field(&format!("Bearer {head}.")), bad),
            (field(&format!("Bearer {fine}.")), bad),
            (field(&format!("Bearer .{fine}")), bad),
            (field(&format!("Bearer {fine}.a.b")), bad),
            (field(&format!("Bearer {fine}=")), bad),
            (field(&format!("Bearer {fine} {fine}")), malformed),
            (field(&format!("Bearer \"{fine}\"")), malformed),
            (field(&format!("Bearer {fine},")), malformed),
            (field(&format!("Bearer {fine}")).repeat(2), malformed),
            (
                field(&format!("Bearer {fine}")) + "Authorization: Basic YTpi\r\n",
                malformed,
            ),
            (field(&format!("Bearer {}", "a".repeat(8 * 1024))), bad),
            (
                field(&format!("Bearer {}", "a".repeat(8 * 1024 + 1))),
                malformed,
            ),
            (
                field(&format!("Bearer {}", "a.".repeat(50 * 1024))),
                malformed,
            ),
        ];
        let filter = hmac_filter();
        for (fields, expected) in cases {
            with_fields(&fields, |request| {
                let mut tokens = tokens();
                assert_eq!(
                    filter.identify(request, &mut tokens, NOW_S),
                    expected,
                    "{fields}"
                );
            });
        }
    }
}
