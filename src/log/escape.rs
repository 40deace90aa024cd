//! Bytes that a client chose → text that is safe in a log.

/// Appends `bytes` as the inside of a JSON string. What is not UTF-8 becomes U+FFFD. Control characters, C1 and
/// the Unicode line separators among them, become `\u` escapes: JSON would allow some, a terminal should not.
pub(super) fn json(out: &mut Vec<u8>, bytes: &[u8]) {
    if is_plain(bytes) {
        out.extend_from_slice(bytes);
        return;
    }
    let mut rest = bytes;
    while let Some(stop) = rest.iter().position(|byte| !PLAIN[usize::from(*byte)]) {
        out.extend_from_slice(&rest[..stop]);
        rest = &rest[stop..];
        if rest[0].is_ascii() {
            json_ascii(out, rest[0]);
            rest = &rest[1..];
        } else {
            let end = rest.iter().position(u8::is_ascii).unwrap_or(rest.len());
            json_beyond_ascii(out, &rest[..end]);
            rest = &rest[end..];
        }
    }
    out.extend_from_slice(rest);
}

/// Appends `bytes` as nginx does in a quoted field: `"`, `\` and all but printable ASCII become `\xHH`.
pub(super) fn combined(out: &mut Vec<u8>, bytes: &[u8]) {
    if is_plain(bytes) {
        out.extend_from_slice(bytes);
        return;
    }
    for &byte in bytes {
        if PLAIN[usize::from(byte)] {
            out.push(byte);
        } else {
            let [high, low] = hex(byte, b"0123456789ABCDEF");
            out.extend_from_slice(&[b'\\', b'x', high, low]);
        }
    }
}

/// Printable ASCII without `"` and `\`.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0x20;
    while byte < 0x7f {
        plain[byte] = byte != b'"' as usize && byte != b'\\' as usize;
        byte += 1;
    }
    plain
};

/// Most of what is logged. No early exit, so that the loop compiles to vector code.
fn is_plain(bytes: &[u8]) -> bool {
    bytes.iter().fold(true, |plain, byte| {
        plain & (b' '..=b'~').contains(byte) & (*byte != b'"') & (*byte != b'\\')
    })
}

fn json_ascii(out: &mut Vec<u8>, byte: u8) {
    match byte {
        b'"' => out.extend_from_slice(b"\\\""),
        b'\\' => out.extend_from_slice(b"\\\\"),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        b'\t' => out.extend_from_slice(b"\\t"),
        _ => json_unit(out, u16::from(byte)),
    }
}

fn json_beyond_ascii(out: &mut Vec<u8>, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\u{80}'..='\u{9f}' | '\u{2028}' | '\u{2029}' => json_unit(out, character as u16),
                _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
}

fn json_unit(out: &mut Vec<u8>, unit: u16) {
    let [high, low] = unit.to_be_bytes();
    out.extend_from_slice(b"\\u");
    out.extend_from_slice(&hex(high, b"0123456789abcdef"));
    out.extend_from_slice(&hex(low, b"0123456789abcdef"));
}

fn hex(byte: u8, digits: &[u8; 16]) -> [u8; 2] {
    [
        digits[usize::from(byte >> 4)],
        digits[usize::from(byte & 15)],
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_bytes_are_escaped() {
        for (input, as_json, as_combined) in [
            (&b""[..], "", ""),
            (b"plain /path?x=1", "plain /path?x=1", "plain /path?x=1"),
            (b"a\"b\\c", "a\\\"b\\\\c", "a\\x22b\\x5Cc"),
            (b"a\r\nb\tc", "a\\r\\nb\\tc", "a\\x0D\\x0Ab\\x09c"),
            (
                b"\x00\x1b[31m\x7f",
                "\\u0000\\u001b[31m\\u007f",
                "\\x00\\x1B[31m\\x7F",
            ),
            (
                "é€😀".as_bytes(),
                "é€😀",
                "\\xC3\\xA9\\xE2\\x82\\xAC\\xF0\\x9F\\x98\\x80",
            ),
            (b"a\xffb\xc3", "a\\ufffdb\\ufffd", "a\\xFFb\\xC3"),
            (
                b"\xc2\x85\xe2\x80\xa8",
                "\\u0085\\u2028",
                "\\xC2\\x85\\xE2\\x80\\xA8",
            ),
            (
                b"\xc0\xaf\xed\xa0\x80",
                "\\ufffd\\ufffd\\ufffd\\ufffd\\ufffd",
                "\\xC0\\xAF\\xED\\xA0\\x80",
            ),
        ] {
            let (mut json_out, mut combined_out) = (Vec::new(), Vec::new());
            json(&mut json_out, input);
            combined(&mut combined_out, input);
            assert_eq!(String::from_utf8(json_out).unwrap(), as_json, "{input:?}");
            assert_eq!(
                String::from_utf8(combined_out).unwrap(),
                as_combined,
                "{input:?}"
            );
        }
    }

    #[test]
    fn no_pair_of_bytes_gets_through_raw() {
        for first in 0..=255 {
            for second in 0..=255 {
                let (mut json_out, mut combined_out) = (Vec::new(), Vec::new());
                json(&mut json_out, &[first, second]);
                combined(&mut combined_out, &[first, second]);
                let text = std::str::from_utf8(&json_out).expect("JSON is UTF-8");
                assert!(!text.chars().any(char::is_control), "{first} {second}");
                assert!(
                    combined_out.iter().all(|byte| (0x20..0x7f).contains(byte)),
                    "{first} {second}"
                );
            }
        }
    }
}
