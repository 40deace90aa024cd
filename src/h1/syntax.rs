//! The byte classes and small grammars of RFC 9110 and RFC 3986.
//!
//! Decides: whether a piece of text is a token, a field value, a number, an authority. May not
//! know: what the text is for. Invariant: nothing here allocates or panics, and each answer depends
//! on the bytes alone.

use std::net::Ipv6Addr;

const TOKEN: u8 = 1;
const VALUE: u8 = 2;
const NAME: u8 = 4;

/// One table for all classes: 256 bytes, so that it stays in the first-level cache.
static CLASS: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        let byte = at as u8;
        let alphanumeric = byte.is_ascii_alphanumeric();
        if alphanumeric || in_set(byte, b"!#$%&'*+-.^_`|~") {
            table[at] |= TOKEN;
        }
        if byte == b'\t' || (byte >= b' ' && byte != 0x7f) {
            table[at] |= VALUE;
        }
        // RFC 3986 section 3.2.2, reg-name, without the comma: a list of hosts must not pass for
        // one; and without the percent sign, which two digits must follow.
        if alphanumeric || in_set(byte, b"-._~!$&'()*+;=") {
            table[at] |= NAME;
        }
        at += 1;
    }
    table
}

const fn in_set(byte: u8, set: &[u8]) -> bool {
    let mut at = 0;
    while at < set.len() {
        if set[at] == byte {
            return true;
        }
        at += 1;
    }
    false
}

fn all(bytes: &[u8], class: u8) -> bool {
    bytes
        .iter()
        .all(|byte| CLASS[usize::from(*byte)] & class != 0)
}

/// RFC 9110 section 5.6.2: a non-empty token.
pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && all(bytes, TOKEN)
}

/// RFC 9110 section 5.5: a field value without control characters (the tab excepted).
pub(super) fn is_field_value(bytes: &[u8]) -> bool {
    all(bytes, VALUE)
}

pub(super) fn is_token_byte(byte: u8) -> bool {
    CLASS[usize::from(byte)] & TOKEN != 0
}

/// Optional white space (RFC 9110 section 5.6.3) taken off both ends.
pub(super) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// The elements of a comma-separated list, trimmed; empty ones included.
pub(super) fn elements(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|byte| *byte == b',').map(trim)
}

/// One to nineteen digits and nothing else (RFC 9110 section 8.6). Nineteen digits always fit a
/// `u64`.
pub(super) fn number(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() || bytes.len() > 19 {
        return None;
    }
    let mut value = 0_u64;
    for byte in bytes {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + u64::from(digit);
    }
    Some(value)
}

/// RFC 9110 section 7.2: `uri-host [ ":" port ]` with a non-empty host. No user information, no
/// zone, no IPvFuture: nothing sends them, and a router could be fooled by them.
pub(super) fn is_authority(bytes: &[u8]) -> bool {
    if bytes.first() == Some(&b'[') {
        let Some(end) = memchr::memchr(b']', bytes) else {
            return false;
        };
        let literal = std::str::from_utf8(&bytes[1..end]);
        let is_ip = literal.is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok());
        return is_ip && is_port_suffix(&bytes[end + 1..]);
    }
    let mut rest = bytes;
    loop {
        match rest {
            [byte, after @ ..] if CLASS[usize::from(*byte)] & NAME != 0 => rest = after,
            [b'%', high, low, after @ ..]
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                rest = after;
            }
            [] | [_, ..] => return rest.len() < bytes.len() && is_port_suffix(rest),
        }
    }
}

/// Nothing, or a colon with an optional port (RFC 3986 section 3.2.3 allows `host:`).
fn is_port_suffix(bytes: &[u8]) -> bool {
    match bytes {
        [] | [b':'] => true,
        [b':', digits @ ..] => {
            digits.len() <= 5 && number(digits).is_some_and(|port| port <= u64::from(u16::MAX))
        }
        [_, ..] => false,
    }
}

/// Whether `name` is `lower` without regard to case, eight bytes at a time. `lower` is in lower case; both are tokens,
/// so that setting bit 5 cannot make a letter of a control character.
pub(super) fn folds_to(name: &[u8], lower: &[u8]) -> bool {
    const CASE: u64 = 0x2020_2020_2020_2020;
    let same = |name: &[u8; 8], lower: &[u8; 8]| {
        u64::from_ne_bytes(*name) | CASE == u64::from_ne_bytes(*lower)
    };
    if name.len() != lower.len() {
        return false;
    }
    let (mut rest, mut wanted) = (name, lower);
    while let (Some((name, name_rest)), Some((lower, lower_rest))) =
        (rest.split_first_chunk(), wanted.split_first_chunk())
    {
        if !same(name, lower) {
            return false;
        }
        (rest, wanted) = (name_rest, lower_rest);
    }
    // The last eight overlap with those before; shorter names go byte by byte.
    match (name.last_chunk(), lower.last_chunk()) {
        (Some(name), Some(lower)) => same(name, lower),
        (_, _) => rest
            .iter()
            .zip(wanted)
            .all(|(byte, want)| byte | 0x20 == *want),
    }
}

/// Whether `name` is `lower` without regard to case, where an underscore counts as a dash. `lower`
/// is in lower case. Both are tokens, so that setting bit 5 cannot make a letter of a control
/// character.
pub(super) fn same_name(name: &[u8], lower: &[u8]) -> bool {
    name.len() == lower.len()
        && name.iter().zip(lower).all(|(byte, want)| {
            let byte = if *byte == b'_' { b'-' } else { *byte };
            byte | 0x20 == *want
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities() {
        for good in [
            "a",
            "a.b:80",
            "a:",
            "[::1]",
            "[::1]:8080",
            "1.2.3.4:65535",
            "x_y",
            "%41b",
            "a%4f:80",
            "a!$&'()*+;=",
        ] {
            assert!(is_authority(good.as_bytes()), "{good}");
        }
        for bad in [
            "",
            ":80",
            "a:65536",
            "a:000080",
            "a:8x",
            "a:+8",
            "a b",
            "a,b",
            "u@h",
            "a/b",
            "a?",
            "a#",
            "a\\b",
            "[::1",
            "[]",
            "[::g]",
            "[::1]x",
            "[fe80::1%25eth0]",
            "[v1.x]",
            "::1",
            "a:80:90",
            "a%4",
            "a%zz",
            "%",
            "a%4:80",
            "é",
            "a\u{0}",
            "a\"",
            "<a>",
            "a|b",
            "[::1]:",
        ] {
            let expected = bad == "[::1]:";
            assert_eq!(is_authority(bad.as_bytes()), expected, "{bad}");
        }
    }

    #[test]
    fn numbers() {
        assert_eq!(number(b"0"), Some(0));
        assert_eq!(number(b"007"), Some(7));
        assert_eq!(
            number(b"9999999999999999999"),
            Some(9_999_999_999_999_999_999)
        );
        for bad in [
            "",
            "+1",
            "-1",
            "1 ",
            " 1",
            "1,1",
            "0x1",
            "1.0",
            "10000000000000000000",
            "1_0",
            "\u{661}",
        ] {
            assert_eq!(number(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn names_fold_case_eight_at_a_time() {
        for length in 0..=20 {
            let lower = &b"proxy-authentication-"[..length];
            let upper = lower.to_ascii_uppercase();
            assert!(folds_to(&upper, lower));
            assert!(!folds_to(&upper, &b"proxy-authentication-"[..length + 1]));
            for at in 0..length {
                let mut other = upper.clone();
                other[at] = b'_';
                assert!(!folds_to(&other, lower), "{other:?}");
            }
        }
    }

    #[test]
    fn names_fold_case_and_underscore() {
        assert!(same_name(b"Content_LENGTH", b"content-length"));
        assert!(same_name(b"Via", b"via"));
        assert!(!same_name(b"Vib", b"via"));
        assert!(!same_name(b"via", b"vi"));
        // `|` and `\\`, `^` and `~` differ in bit 5 only, but no wanted name holds them.
        assert!(!same_name(b"te^", b"te-"));
    }

    #[test]
    fn tokens_and_values() {
        assert!(is_token(b"x-Y_z~1"));
        for bad in [&b""[..], b"a b", b"a:", b"(a)", b"\x7f", b"\x80", b"a\x0b"] {
            assert!(!is_token(bad), "{bad:?}");
        }
        assert!(is_field_value(b"a\tb \x80\xff"));
        for bad in [&b"\0"[..], b"\r", b"\n", b"\x0b", b"\x7f"] {
            assert!(!is_field_value(bad), "{bad:?}");
        }
        assert_eq!(trim(b" \ta b\t "), b"a b");
        assert_eq!(trim(b" \t"), b"");
    }
}
