//! The id of a request and its place in a trace.
//!
//! Decides: whether what came is taken, and what an id of our own looks like. May not know: clocks, randomness (given).
//! Invariant: an id is 1 to 128 visible ASCII characters.

use super::headers::is_named;
use crate::h1::head::{Kind, Request};

/// `[request_id]` of a route.
#[derive(Debug)]
pub struct RequestId {
    /// The field's name, as it is written; `None`: no ids.
    pub header: Option<Box<str>>,
    pub accept: Accept,
    /// The client gets the id in its response.
    pub respond: bool,
    /// W3C Trace Context: a valid `traceparent` goes on, another is replaced.
    pub traceparent: bool,
}

/// Whose ids are taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accept {
    Never,
    /// Those of trusted proxies.
    Trusted,
    Always,
}

/// Longest id of somebody else's that is taken.
const ID_BYTES_MAX: usize = 128;

/// Bytes of an id of ours, in hexadecimal digits.
pub const ID_BYTES: usize = 32;

/// Bytes of a `traceparent` of version 00.
pub const TRACEPARENT_BYTES: usize = 55;

/// A valid `traceparent` (W3C Trace Context, "Traceparent Header").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent<'b> {
    /// 32 hexadecimal digits in lower case, not all zero.
    pub trace_id: &'b str,
    /// 16 of them: who asks.
    pub parent_id: &'b str,
    /// Whoever asks may have recorded the trace.
    pub sampled: bool,
}

/// What a request brings that goes on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Brought<'b> {
    pub id: Option<&'b str>,
    pub trace: Option<TraceParent<'b>>,
}

impl RequestId {
    /// Reads the id and the trace. `trusted`: the client is a trusted proxy. Of several fields of one name none counts:
    /// the next one to read them might take another.
    pub fn judge<'b>(&self, request: &Request<'_, 'b>, trusted: bool) -> Brought<'b> {
        let id = self.header.as_deref().and_then(|name| {
            let value = only(request, name)?;
            self.accepts(value, trusted)
                .then(|| std::str::from_utf8(value).ok())?
        });
        let trace = if self.traceparent {
            only(request, TRACEPARENT).and_then(parse_traceparent)
        } else {
            None
        };
        Brought { id, trace }
    }

    /// Whether an id that came is taken over. What stands in ids of all kinds (UUID, ULID, base64, trace ids) may stand
    /// in it; quotes, brackets, separators and spaces may not, which could mean something to whoever reads it in a log.
    pub fn accepts(&self, value: &[u8], trusted: bool) -> bool {
        let is_believed = match self.accept {
            Accept::Never => false,
            Accept::Trusted => trusted,
            Accept::Always => true,
        };
        let is_id_byte = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/+=@".contains(byte);
        is_believed && (1..=ID_BYTES_MAX).contains(&value.len()) && value.iter().all(is_id_byte)
    }

    /// Whether a field of the request is left out. All ids are: the one that counts is written anew. A trace that goes
    /// on stays as it is, with its `tracestate`; without a valid `traceparent` that means nothing, and goes (Trace
    /// Context, "Processing Model").
    pub fn drops(&self, name: &str, trace_goes_on: bool) -> bool {
        let is_id = |header: &str| is_named(name, header);
        self.header.as_deref().is_some_and(is_id)
            || self.traceparent
                && !trace_goes_on
                && (is_named(name, TRACEPARENT) || is_named(name, "tracestate"))
    }
}

const TRACEPARENT: &str = "traceparent";

/// The value of the only field of this name, if it goes on: what Connection nominates does not.
fn only<'b>(request: &Request<'_, 'b>, name: &str) -> Option<&'b [u8]> {
    let fields = request.headers.iter().zip(request.kinds);
    let mut named = fields.filter(|(header, _)| is_named(header.name, name));
    match (named.next(), named.next()) {
        (Some((field, kind)), None) => (*kind != Kind::HopByHop).then_some(field.value),
        (Some(_), Some(_)) | (None, _) => None,
    }
}

/// `version-trace_id-parent_id-flags`. A later version may say more behind that, after another dash (Trace Context,
/// "Versioning of traceparent").
pub fn parse_traceparent(value: &[u8]) -> Option<TraceParent<'_>> {
    let text = std::str::from_utf8(value).ok()?;
    let (known, more) = text.split_at_checked(TRACEPARENT_BYTES)?;
    let mut parts = known.split('-');
    let mut hex = |length: usize| {
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        parts
            .next()
            .filter(|part| part.len() == length && part.bytes().all(is_hex))
    };
    let (version, trace_id, parent_id, flags) = (hex(2)?, hex(32)?, hex(16)?, hex(2)?);
    let is_whole = match version {
        "ff" => false,
        "00" => more.is_empty(),
        _ => more.is_empty() || more.starts_with('-'),
    };
    let is_zero = |id: &str| id.bytes().all(|digit| digit == b'0');
    if !is_whole || is_zero(trace_id) || is_zero(parent_id) {
        return None;
    }
    let flags = u8::from_str_radix(flags, 16).ok()?;
    Some(TraceParent {
        trace_id,
        parent_id,
        sampled: flags & 1 == 1,
    })
}

/// An id of our own.
pub fn write_id(random: [u64; 2], out: &mut [u8; ID_BYTES]) {
    let (first, second) = out.split_at_mut(16);
    write_hex(random[0], first);
    write_hex(random[1], second);
}

/// The `traceparent` of a trace that begins here. Not sampled: that is the default of whoever begins a trace without
/// recording it (Trace Context, "Sampled flag").
pub fn write_traceparent(random: [u64; 3], out: &mut [u8; TRACEPARENT_BYTES]) {
    out.copy_from_slice(b"00-................................-................-00");
    write_hex(random[0], &mut out[3..19]);
    // All zeros are no id.
    write_hex(random[1].max(1), &mut out[19..35]);
    write_hex(random[2].max(1), &mut out[36..52]);
}

/// Both digits of each byte.
static DIGITS: [[u8; 2]; 256] = {
    let mut digits = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        let hex = b"0123456789abcdef";
        digits[byte] = [hex[byte >> 4], hex[byte & 15]];
        byte += 1;
    }
    digits
};

fn write_hex(value: u64, out: &mut [u8]) {
    for (pair, byte) in out.chunks_exact_mut(2).zip(value.to_be_bytes()) {
        pair.copy_from_slice(&DIGITS[usize::from(byte)]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::h1::Limits;
    use crate::h1::head::{Slots, parse_request};

    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn rules(accept: Accept) -> RequestId {
        RequestId {
            header: Some("X-Request-Id".into()),
            accept,
            respond: true,
            traceparent: true,
        }
    }

    #[test]
    fn ids_that_are_taken() {
        for (accept, trusted, expected) in [
            (Accept::Never, true, false),
            (Accept::Trusted, false, false),
            (Accept::Trusted, true, true),
            (Accept::Always, false, true),
        ] {
            assert_eq!(rules(accept).accepts(b"a", trusted), expected, "{accept:?}");
        }
        let longest = "a".repeat(128);
        let longer = "a".repeat(129);
        for (id, expected) in [
            ("6ba7b810-9dad-11d1-80b4-00c04fd430c8", true),
            ("Root=1-67891233-abcdef012345678912345678", true),
            ("a/b+c==", true),
            ("user@host:1_2.3", true),
            (&longest, true),
            (&longer, false),
            ("", false),
            ("a b", false),
            ("a\tb", false),
            ("a,b", false),
            ("a;b", false),
            ("a\"b", false),
            ("a'b", false),
            ("a\\b", false),
            ("<a>", false),
            ("{a}", false),
            ("${a}", false),
            ("a%0d%0a", false),
            ("a\r\nb", false),
            ("a\0", false),
            ("\u{e9}", false),
        ] {
            assert_eq!(
                rules(Accept::Always).accepts(id.as_bytes(), false),
                expected,
                "{id}"
            );
        }
    }

    const GO_ON: [(&str, bool); 7] = [
        (
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
            false,
        ),
        (
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03",
            true,
        ),
        (
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-fe",
            false,
        ),
        (
            "00-00000000000000000000000000000001-0000000000000001-01",
            true,
        ),
        // Later versions.
        (
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            true,
        ),
        (
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-they.like",
            true,
        ),
        (
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            true,
        ),
    ];

    const INVALID: [&str; 20] = [
        "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.what",
        "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-012",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        // No ids.
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        // Upper case, other characters.
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00F067AA0BA902B7-01",
        "0A-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0A",
        "00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-+1",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0\u{e9}",
        // Other lengths, other places.
        "",
        "00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01",
        "00_4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7_01",
        "000-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
        "00-4bf92f3577b34da6-a3ce929d0e0e4736-00f067aa0ba902b7-01",
        " 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    ];

    #[test]
    fn traces_that_go_on() {
        let expected = TraceParent {
            trace_id: "4bf92f3577b34da6a3ce929d0e0e4736",
            parent_id: "00f067aa0ba902b7",
            sampled: true,
        };
        assert_eq!(parse_traceparent(TRACE.as_bytes()), Some(expected));
        for (text, sampled) in GO_ON {
            let found = parse_traceparent(text.as_bytes());
            assert_eq!(found.map(|trace| trace.sampled), Some(sampled), "{text}");
        }
        for text in INVALID {
            assert_eq!(parse_traceparent(text.as_bytes()), None, "{text}");
        }
        for end in 0..TRACE.len() {
            assert_eq!(parse_traceparent(&TRACE.as_bytes()[..end]), None);
        }
    }

    #[test]
    fn what_a_request_brings_and_what_is_dropped() {
        let trace = format!("TraceParent: {TRACE}");
        for (fields, id, goes_on) in [
            (&[][..], None, false),
            (&["x-request-id: 7"], Some("7"), false),
            (&["x-request-id: 7", &trace], Some("7"), true),
            // Which one would count?
            (&["x-request-id: 7", "X-Request-Id: 8"], None, false),
            (&["x-request-id: 7", "X_Request_Id: 8"], None, false),
            (&[&trace, &trace], None, false),
            (&["x-request-id: a b", "traceparent: 00-x"], None, false),
        ] {
            let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
            let text = format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
            let mut slots = Slots::new();
            let request = parse_request(text.as_bytes(), &Limits::DEFAULT, &mut slots);
            let rules = rules(Accept::Trusted);
            let brought = rules.judge(&request.unwrap().unwrap(), true);
            assert_eq!(
                (brought.id, brought.trace.is_some()),
                (id, goes_on),
                "{fields}"
            );
            for (name, expected) in [
                ("x-request-id", true),
                ("X_REQUEST_ID", true),
                ("Traceparent", !goes_on),
                ("TraceState", !goes_on),
                ("X-Other", false),
            ] {
                assert_eq!(rules.drops(name, goes_on), expected, "{name}: {fields}");
            }
        }
        let off = RequestId {
            header: None,
            accept: Accept::Always,
            respond: false,
            traceparent: false,
        };
        for name in ["X-Request-Id", "traceparent", "tracestate"] {
            assert!(!off.drops(name, false));
        }
    }

    #[test]
    fn what_we_write() {
        let mut id = [0; ID_BYTES];
        write_id([0x0123_4567_89ab_cdef, 0xfe], &mut id);
        assert_eq!(&id, b"0123456789abcdef00000000000000fe");
        let mut trace = [0; TRACEPARENT_BYTES];
        write_traceparent([0; 3], &mut trace);
        assert_eq!(
            &trace,
            b"00-00000000000000000000000000000001-0000000000000001-00"
        );
    }

    proptest! {
        #[test]
        fn what_we_write_is_taken(random in any::<[u64; 3]>()) {
            let mut id = [0; ID_BYTES];
            write_id([random[0], random[1]], &mut id);
            prop_assert!(rules(Accept::Always).accepts(&id, false));
            prop_assert_eq!(id.to_vec(), format!("{:016x}{:016x}", random[0], random[1]).into_bytes());
            let mut trace = [0; TRACEPARENT_BYTES];
            write_traceparent(random, &mut trace);
            let parsed = parse_traceparent(&trace).unwrap();
            prop_assert!(!parsed.sampled);
            prop_assert_eq!(parsed.parent_id, format!("{:016x}", random[2].max(1)));
        }

        #[test]
        fn any_bytes_can_be_read(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            parse_traceparent(&bytes);
        }
    }
}
