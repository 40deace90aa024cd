//! The fields that a request wants to see in its answer: `?header=Cache-Control:%20max-age%3D60`, in any target.
//!
//! Decides: which of them are sent. May not know: what they mean. Invariant: a name is a token and no value has a
//! control byte, so an answer's head stays one; what frames an answer is not for a request to say.

/// In one answer.
const COUNT_MAX: usize = 16;
/// Of one field, decoded.
const BYTES_MAX: usize = 4096;
const FRAMING: [&str; 3] = ["content-length", "transfer-encoding", "connection"];

pub(super) type Fields = Vec<(String, String)>;

/// `None`: too many, or one of them is none.
pub(super) fn wanted(target: &str) -> Option<Fields> {
    let (_, query) = target.split_once('?').unwrap_or_default();
    let wanted = query
        .split('&')
        .filter_map(|pair| pair.strip_prefix("header="));
    let fields: Option<Fields> = wanted.take(COUNT_MAX + 1).map(field).collect();
    fields.filter(|fields| fields.len() <= COUNT_MAX)
}

fn field(encoded: &str) -> Option<(String, String)> {
    let text = decoded(encoded).filter(|text| text.len() <= BYTES_MAX)?;
    let (name, value) = text.split_once(':')?;
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let is_text = |byte: u8| byte == b'\t' || !byte.is_ascii_control();
    let is_good = !name.is_empty() && name.bytes().all(is_token) && value.bytes().all(is_text);
    let frames = FRAMING.iter().any(|known| name.eq_ignore_ascii_case(known));
    (is_good && !frames).then(|| (name.to_owned(), value.trim_ascii().to_owned()))
}

fn decoded(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut pieces = text.split('%');
    out.extend(pieces.next()?.bytes());
    for piece in pieces {
        let (digits, rest) = piece.split_at_checked(2)?;
        let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let byte = u8::from_str_radix(digits, 16).ok().filter(|_| is_hex)?;
        out.push(byte);
        out.extend(rest.bytes());
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_taken_from_anywhere_in_the_query() {
        for (target, expected) in [
            ("/", vec![]),
            ("/?size=1&headers=a:b", vec![]),
            ("/?header=A:b", vec![("A", "b")]),
            (
                "/x?header=Cache-Control:%20max-age%3D60&size=1&header=vary:A,%20B",
                vec![("Cache-Control", "max-age=60"), ("vary", "A, B")],
            ),
            ("/?header=A:", vec![("A", "")]),
            ("/?header=A:b%09c%25", vec![("A", "b\tc%")]),
            ("/?header=A:%C3%A4", vec![("A", "ä")]),
        ] {
            let found = wanted(target).unwrap();
            let found: Vec<(&str, &str)> = found
                .iter()
                .map(|(name, value)| (&**name, &**value))
                .collect();
            assert_eq!(found, expected, "{target}");
        }
    }

    #[test]
    fn what_is_no_field_or_too_many_is_refused() {
        let many = |count: usize| format!("/?{}", "header=A:b&".repeat(count));
        let long = |length: usize| format!("/?header=A:{}", "b".repeat(length));
        assert_eq!(
            wanted(&many(COUNT_MAX)).map(|fields| fields.len()),
            Some(COUNT_MAX)
        );
        assert!(wanted(&long(BYTES_MAX - 2)).is_some());
        for bad in [
            "/?header=",
            "/?header=A",
            "/?header=:b",
            "/?header=A%20:b",
            "/?header=A:b%0D%0AC:d",
            "/?header=A:%00",
            "/?header=A:%7f",
            "/?header=A:%4",
            "/?header=A:%+1",
            "/?header=A:%ff",
            "/?header=%C3%A4:b",
            "/?header=content-LENGTH:5",
            "/?header=Transfer-Encoding:chunked",
            "/?header=Connection:close",
            &many(COUNT_MAX + 1),
            &long(BYTES_MAX - 1),
        ] {
            assert_eq!(wanted(bad), None, "{bad}");
        }
    }
}
