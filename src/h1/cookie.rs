//! A cookie's value among the fields of a request.
//!
//! Decides: where it stands. May not know: what it means. Invariant: what is returned is a part of a Cookie field as the
//! client sent it (RFC 6265 section 4.2.1).

/// The value of the first cookie of this name (case-sensitive).
pub fn value<'b>(headers: &[httparse::Header<'b>], name: &str) -> Option<&'b [u8]> {
    headers
        .iter()
        .filter(|header| header.name.eq_ignore_ascii_case("cookie"))
        .flat_map(|header| header.value.split(|byte| *byte == b';'))
        .find_map(|pair| {
            let pair = pair.trim_ascii();
            let value = pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
            Some(
                value
                    .strip_prefix(b"\"")
                    .and_then(|v| v.strip_suffix(b"\""))
                    .unwrap_or(value),
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_found_wherever_it_stands() {
        for (fields, found) in [
            (&["a=1"][..], Some("1")),
            (&["b=2; a=1; c=3"], Some("1")),
            (&["b=2;a=\"1\""], Some("1")),
            (&["b=2", "a=1; a=2"], Some("1")),
            (&["aa=1; b=a=1; A=1"], None),
            (&["a; a ; =a"], None),
            (&["a="], Some("")),
            (&[], None),
        ] {
            let headers: Vec<_> = fields
                .iter()
                .map(|value| httparse::Header {
                    name: "Cookie",
                    value: value.as_bytes(),
                })
                .collect();
            let value = value(&headers, "a").map(|value| std::str::from_utf8(value).unwrap());
            assert_eq!(value, found, "{fields:?}");
        }
    }
}
