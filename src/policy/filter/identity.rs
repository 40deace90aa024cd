//! Who a request says that it comes from.
//!
//! Decides: which credentials a request has, and how they are read. May not know: whether they are right. Invariant:
//! credentials that could be read as two different ones are malformed: there is one field of a kind, and it is bounded.

use crate::h1::head::Request;

/// Longest name of a user, in bytes. It goes into fields, logs and keys of limits.
pub const NAME_BYTES_MAX: usize = 256;

/// What one kind of access says of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity<'a> {
    /// The request has no credentials of this kind.
    Nobody,
    User(&'a str),
    Refused(Fault),
}

/// Why credentials are not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// They cannot be read, are too long, or come twice.
    Malformed,
    /// The user, the password or the key is unknown.
    Wrong,
    /// No token, or not signed by one of our keys with that key's algorithm.
    TokenBad,
    /// Valid no longer, or not yet.
    TokenExpired,
    /// Issued by somebody else, for somebody else, or for no user.
    TokenClaims,
}

/// The value of the one field of that name (RFC 9110 section 5.3: only lists may be split over several).
pub(super) fn field<'b>(request: &Request<'_, 'b>, name: &str) -> Result<Option<&'b [u8]>, Fault> {
    let named = |header: &&httparse::Header<'_>| header.name.eq_ignore_ascii_case(name);
    let mut found = request.headers.iter().filter(named);
    let value = found.next().map(|header| header.value);
    match found.next() {
        None => Ok(value),
        Some(_) => Err(Fault::Malformed),
    }
}

/// What stands behind `scheme` in Authorization (RFC 9110 section 11.4); `None`: there is none, or of another scheme.
pub(super) fn credentials<'b>(
    request: &Request<'_, 'b>,
    scheme: &str,
) -> Result<Option<&'b [u8]>, Fault> {
    let Some(value) = field(request, "authorization")? else {
        return Ok(None);
    };
    let end = value.iter().position(|byte| *byte == b' ');
    let (found, rest) = value.split_at(end.unwrap_or(value.len()));
    // What does not begin with a scheme is refused by each kind of access, not left to the next.
    if found.is_empty() || !found.iter().all(|byte| is_token_byte(*byte)) {
        return Err(Fault::Malformed);
    }
    if !found.eq_ignore_ascii_case(scheme.as_bytes()) {
        return Ok(None);
    }
    let spaces = rest.iter().take_while(|byte| **byte == b' ').count();
    match &rest[spaces..] {
        [] => Err(Fault::Malformed),
        rest => Ok(Some(rest)),
    }
}

/// The bearer token (RFC 6750 section 2.1), if it is spelled as one and not longer than allowed.
pub(super) fn bearer<'b>(
    request: &Request<'_, 'b>,
    bytes_max: usize,
) -> Result<Option<&'b str>, Fault> {
    let Some(token) = credentials(request, "bearer")? else {
        return Ok(None);
    };
    let padding = token.iter().rev().take_while(|byte| **byte == b'=').count();
    let is_fine = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(byte);
    let is_token = padding < token.len() && token[..token.len() - padding].iter().all(is_fine);
    if token.len() > bytes_max || !is_token {
        return Err(Fault::Malformed);
    }
    std::str::from_utf8(token)
        .map(Some)
        .or(Err(Fault::Malformed))
}

/// RFC 9110 section 5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Whether `name` can be a user's: it stands in fields and logs.
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.chars().any(char::is_control)
}

/// Begins a line that says how to ask again: `WWW-Authenticate: Basic realm="…"` (RFC 9110 section 11.6.1).
pub(super) fn begin_challenge(scheme: &str, realm: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"WWW-Authenticate: ");
    out.extend_from_slice(scheme.as_bytes());
    parameter(" realm", realm, out);
}

/// A parameter of a challenge as a quoted string (RFC 9110 section 5.6.4). What cannot stand in one becomes a space.
pub(super) fn parameter(name: &str, value: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"=\"");
    for byte in value.bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            0..b' ' | 0x7f => out.push(b' '),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

/// The challenge of a bearer token (RFC 6750 section 3). Without credentials it names no error (section 3.1).
pub(super) fn challenge_bearer(realm: &str, fault: Option<Fault>, out: &mut Vec<u8>) {
    begin_challenge("Bearer", realm, out);
    let error = match fault {
        None => None,
        Some(Fault::Malformed) => Some(("invalid_token", "malformed")),
        Some(Fault::Wrong) => Some(("invalid_token", "unknown")),
        Some(Fault::TokenBad) => Some(("invalid_token", "not genuine")),
        Some(Fault::TokenExpired) => Some(("invalid_token", "expired or not yet valid")),
        Some(Fault::TokenClaims) => Some(("insufficient_scope", "not meant for this")),
    };
    if let Some((error, description)) = error {
        parameter(", error", error, out);
        parameter(", error_description", description, out);
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::h1::Limits;
    use crate::h1::head::{Slots, parse_request};

    /// Calls `check` with a request that has these fields, each with its CRLF.
    pub(in crate::policy::filter) fn with_fields<R>(
        fields: &str,
        check: impl FnOnce(&Request<'_, '_>) -> R,
    ) -> R {
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let limits = Limits {
            header_bytes: 256 * 1024,
            ..Limits::DEFAULT
        };
        let mut slots = Slots::new();
        let request = parse_request(text.as_bytes(), &limits, &mut slots);
        check(&request.unwrap().unwrap())
    }

    #[test]
    fn bearer_tokens_as_they_come() {
        let long = format!("Authorization: Bearer {}\r\n", "a".repeat(100));
        let cases: [(&str, Result<Option<&str>, Fault>); 18] = [
            ("", Ok(None)),
            ("Authorization: Basic YTpi\r\n", Ok(None)),
            ("Authorization: Bearerx a\r\n", Ok(None)),
            ("Authorization: Digest a=\"b\", c=d\r\n", Ok(None)),
            (
                "Authorization: Bearer a.b-c_d~e+f/g==\r\n",
                Ok(Some("a.b-c_d~e+f/g==")),
            ),
            ("aUTHORIZATION: bEARER  a\r\n", Ok(Some("a"))),
            ("Authorization: Bearer a  \r\n", Ok(Some("a"))),
            ("Authorization: Bearer a b\r\n", Err(Fault::Malformed)),
            ("Authorization: Bearer a=b\r\n", Err(Fault::Malformed)),
            ("Authorization: Bearer =\r\n", Err(Fault::Malformed)),
            ("Authorization: Bearer a,b\r\n", Err(Fault::Malformed)),
            ("Authorization: Bearer \u{e4}\r\n", Err(Fault::Malformed)),
            ("Authorization: Bearer\r\n", Err(Fault::Malformed)),
            ("Authorization: Bearer\ta\r\n", Err(Fault::Malformed)),
            ("Authorization:\r\n", Err(Fault::Malformed)),
            ("Authorization: \"Bearer\" a\r\n", Err(Fault::Malformed)),
            (
                "Authorization: Bearer a\r\nauthorization: Bearer a\r\n",
                Err(Fault::Malformed),
            ),
            (&long, Err(Fault::Malformed)),
        ];
        for (fields, expected) in cases {
            let found = with_fields(fields, |request| {
                bearer(request, 99).map(|token| token.map(str::to_owned))
            });
            assert_eq!(
                found,
                expected.map(|token| token.map(str::to_owned)),
                "{fields}"
            );
        }
    }

    #[test]
    fn challenges_quote_and_name_errors_only_when_there_were_credentials() {
        let cases = [
            ("corelane", None, "realm=\"corelane\"\r\n"),
            ("a\"b\\c\r\nd", None, "realm=\"a\\\"b\\\\c  d\"\r\n"),
            (
                "c",
                Some(Fault::TokenExpired),
                "realm=\"c\", error=\"invalid_token\", error_description=\"expired or not yet valid\"\r\n",
            ),
            (
                "c",
                Some(Fault::TokenClaims),
                "realm=\"c\", error=\"insufficient_scope\", error_description=\"not meant for this\"\r\n",
            ),
        ];
        for (realm, fault, expected) in cases {
            let mut out = Vec::new();
            challenge_bearer(realm, fault, &mut out);
            let expected = format!("WWW-Authenticate: Bearer {expected}");
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}
