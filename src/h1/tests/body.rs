//! Bodies: what is refused, and that every way of cutting and sending one yields the same body.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::h1::body::{Decoder, LAST_CHUNK, Sink, Step, write_chunk_head};
use crate::h1::{Framing, Reject};

/// Decodes a body in one step; what is left over, too.
fn decode(body: &[u8]) -> Result<(Vec<u8>, Step), Reject> {
    let mut payload = Vec::new();
    let step = Decoder::new(Framing::Chunked).step(body, Sink::Payload(&mut payload))?;
    Ok((payload, step))
}

/// Body, its payload, and whether it may pass as it stands.
const GOOD: &[(&str, &str, bool)] = &[
    ("0\r\n\r\n", "", true),
    ("5\r\nhello\r\n0\r\n\r\n", "hello", true),
    (
        "a\r\n0123456789\r\n1\r\nx\r\n0\r\n\r\n",
        "0123456789x",
        true,
    ),
    ("A\r\n0123456789\r\n0\r\n\r\n", "0123456789", true),
    ("2\r\n\r\n\r\n0\r\n\r\n", "\r\n", true),
    ("5\r\n0\r\n\r\n\r\n0\r\n\r\n", "0\r\n\r\n", true),
    ("0000000000000005\r\nhello\r\n0\r\n\r\n", "hello", false),
    ("5\r\nhello\r\n000\r\n\r\n", "hello", false),
    ("5;a=b\r\nhello\r\n0\r\n\r\n", "hello", false),
    ("5;a=\"\t;\u{e9}\"\r\nhello\r\n0;z\r\n\r\n", "hello", false),
    ("5;\r\nhello\r\n0\r\n\r\n", "hello", false),
    ("1\r\nx\r\n0\r\nETag: y\r\nX-Sum:\r\n\r\n", "x", true),
    ("1\r\nx\r\n0\r\nContent-Digest: y\r\n\r\n", "x", true),
    ("1\r\nx\r\n0\r\nContent-Length: 5\r\n\r\n", "x", false),
    (
        "1\r\nx\r\n0\r\nX-Sum: 1\r\ntransfer_encoding: chunked\r\n\r\n",
        "x",
        false,
    ),
    (
        "1\r\nx\r\n0\r\nX-Forwarded-For: 1\r\nProxy-A: 1\r\n\r\n",
        "x",
        false,
    ),
];

const BAD: &[(Reject, &str)] = &[
    (Reject::BadChunk, "\r\n"),
    (Reject::BadChunk, "\n"),
    (Reject::BadChunk, ";a\r\n"),
    (Reject::BadChunk, " 5\r\nhello\r\n"),
    (Reject::BadChunk, "5 \r\nhello\r\n"),
    (Reject::BadChunk, "5 ;a\r\nhello\r\n"),
    (Reject::BadChunk, "5\t;a\r\nhello\r\n"),
    (Reject::BadChunk, "0x5\r\nhello\r\n"),
    (Reject::BadChunk, "+5\r\nhello\r\n"),
    (Reject::BadChunk, "-5\r\nhello\r\n"),
    (Reject::BadChunk, "5g\r\n"),
    (Reject::BadChunk, "5_0\r\n"),
    (Reject::BadChunk, "5\nhello\r\n"),
    (Reject::BadChunk, "5\r\rhello\r\n"),
    (Reject::BadChunk, "5\rhello\r\n"),
    (Reject::BadChunk, "5\r\nhelloX\r\n"),
    (Reject::BadChunk, "5\r\nhello\n0\r\n\r\n"),
    (Reject::BadChunk, "5\r\nhello\r0\r\n\r\n"),
    (Reject::BadChunk, "5\r\nhello0\r\n\r\n"),
    (Reject::BadChunk, "5\r\nhello\r\n\r\n"),
    (Reject::BadChunk, "5;a\nhello\r\n"),
    (Reject::BadChunk, "5;a\rb\r\nhello\r\n"),
    (Reject::BadChunk, "5;\0\r\nhello\r\n"),
    (Reject::BadChunk, "5;\x7f\r\nhello\r\n"),
    (Reject::BadChunk, "8000000000000000\r\n"),
    (Reject::BadChunk, "ffffffffffffffff\r\n"),
    (Reject::BadChunk, "00000000000000005\r\n"),
    (Reject::BadTrailer, "0\r\nX\r\n\r\n"),
    (Reject::BadTrailer, "0\r\n: x\r\n\r\n"),
    (Reject::BadTrailer, "0\r\nX : y\r\n\r\n"),
    (Reject::BadTrailer, "0\r\n X: y\r\n\r\n"),
    (Reject::BadTrailer, "0\r\nX: y\r\n z\r\n\r\n"),
    (Reject::BadTrailer, "0\r\nX: y\n\r\n"),
    (Reject::BadTrailer, "0\r\nX: y\r\n\n"),
    (Reject::BadTrailer, "0\r\n\n"),
    (Reject::BadTrailer, "0\r\nX: \0\r\n\r\n"),
    (Reject::BadTrailer, "0\r\nX: y\rz\r\n\r\n"),
    (Reject::BadTrailer, "0\r\n\rX: y\r\n\r\n"),
    (Reject::BadTrailer, "0\r\nGET / HTTP/1.1\r\n\r\n"),
];

#[test]
fn good_bodies() {
    for (body, payload, verbatim) in GOOD {
        let followed = format!("{body}GET / HTTP/1.1\r\n");
        let (decoded, step) = decode(followed.as_bytes()).unwrap();
        assert_eq!(decoded, payload.as_bytes(), "{body:?}");
        assert_eq!(
            (step.consumed, step.payload),
            (body.len(), payload.len()),
            "{body:?}"
        );
        assert_eq!((step.done, step.verbatim), (true, *verbatim), "{body:?}");
    }
}

#[test]
fn bad_bodies_whole_and_cut() {
    for (reject, body) in BAD {
        assert_eq!(decode(body.as_bytes()).err(), Some(*reject), "{body:?}");
        for cut in 0..body.len() {
            let (first, second) = body.as_bytes().split_at(cut);
            let mut decoder = Decoder::new(Framing::Chunked);
            let start = decoder.step(first, Sink::Check);
            let end = start.and_then(|_| decoder.step(second, Sink::Check));
            assert_eq!(end.err(), Some(*reject), "{body:?} at {cut}");
        }
    }
}

#[test]
fn bounds_are_exact() {
    let chunk = |extension: usize| format!("1;{}\r\nx\r\n", "e".repeat(extension - 1));
    assert!(decode(chunk(256).as_bytes()).is_ok());
    assert_eq!(
        decode(chunk(257).as_bytes()).err(),
        Some(Reject::ChunkExtensionTooLong)
    );
    assert!(decode(chunk(256).repeat(64).as_bytes()).is_ok());
    let more = format!("{}1;\r\nx\r\n", chunk(256).repeat(64));
    assert_eq!(
        decode(more.as_bytes()).err(),
        Some(Reject::ChunkExtensionTooLong)
    );
    let trailers = |bytes: usize| format!("0\r\nX: {}\r\n\r\n", "y".repeat(bytes - 7));
    assert!(decode(trailers(8192).as_bytes()).unwrap().1.done);
    assert_eq!(
        decode(trailers(8193).as_bytes()).err(),
        Some(Reject::BadTrailer)
    );
    assert_eq!(
        decode(&[b"0\r\n".as_slice(), &[b'x'; 9000]].concat()).err(),
        Some(Reject::BadTrailer)
    );
    assert!(decode(format!("0\r\n{}\r\n", "X: y\r\n".repeat(32)).as_bytes()).is_ok());
    let many = format!("0\r\n{}\r\n", "X: y\r\n".repeat(33));
    assert_eq!(decode(many.as_bytes()).err(), Some(Reject::BadTrailer));
    let (_, step) = decode(b"7fffffffffffffff\r\nx").unwrap();
    assert_eq!((step.payload, step.done), (1, false));
}

#[test]
fn forbidden_trailers_and_extensions_are_left_out() {
    let body = b"5;x=y\r\nhello\r\n0;z\r\nA: 1\r\nHost: b\r\nB:2\r\n\r\n";
    let mut out = Vec::new();
    Decoder::new(Framing::Chunked)
        .step(body, Sink::Chunked(&mut out))
        .unwrap();
    assert_eq!(out, b"5\r\nhello\r\n0\r\nA: 1\r\nB:2\r\n\r\n");
}

#[test]
fn bodies_with_a_length() {
    for framing in [Framing::None, Framing::Length(0)] {
        let mut decoder = Decoder::new(framing);
        assert!(decoder.is_done() && decoder.eof() && decoder.remaining().is_none());
        let step = decoder.step(b"next", Sink::Check).unwrap();
        assert_eq!((step.consumed, step.done), (0, true));
    }
    let mut decoder = Decoder::new(Framing::Length(10));
    assert_eq!(decoder.remaining(), Some(10));
    let mut out = Vec::new();
    let step = decoder.step(b"abc", Sink::Payload(&mut out)).unwrap();
    assert_eq!(
        step,
        Step {
            consumed: 3,
            payload: 3,
            done: false,
            verbatim: true
        }
    );
    decoder.skip(5);
    assert_eq!((decoder.remaining(), decoder.eof()), (Some(2), false));
    let step = decoder.step(b"yznext", Sink::Payload(&mut out)).unwrap();
    assert_eq!(
        step,
        Step {
            consumed: 2,
            payload: 2,
            done: true,
            verbatim: true
        }
    );
    assert_eq!((out.as_slice(), decoder.eof()), (b"abcyz".as_slice(), true));
    let mut decoder = Decoder::new(Framing::Length(u64::MAX));
    decoder.skip(u64::MAX);
    assert!(decoder.is_done());
}

#[test]
fn bodies_until_close_become_chunks() {
    let mut decoder = Decoder::new(Framing::UntilClose);
    let mut out = Vec::new();
    for piece in ["hello", "", "0123456789abcdefg"] {
        let step = decoder
            .step(piece.as_bytes(), Sink::Chunked(&mut out))
            .unwrap();
        assert_eq!(
            (step.consumed, step.payload, step.done),
            (piece.len(), piece.len(), false)
        );
    }
    assert!(decoder.eof() && !decoder.is_done() && decoder.remaining().is_none());
    out.extend_from_slice(LAST_CHUNK);
    assert_eq!(out, b"5\r\nhello\r\n11\r\n0123456789abcdefg\r\n0\r\n\r\n");
}

#[test]
fn chunk_heads() {
    for length in [1, 9, 10, 15, 16, 255, 256, 0xabc_def0, usize::MAX] {
        let mut out = Vec::new();
        write_chunk_head(&mut out, length);
        assert_eq!(out, format!("{length:x}\r\n").into_bytes());
    }
}

#[test]
fn only_a_raw_chunk_may_pass_outside() {
    let mut decoder = Decoder::new(Framing::Chunked);
    let before = decoder.clone();
    assert!(decoder.step(b"a\r\n012", Sink::Check).unwrap().verbatim);
    assert_eq!(decoder.remaining(), Some(7));
    decoder.skip(7);
    assert_eq!(decoder.remaining(), None);
    assert!(!decoder.eof());
    assert!(decoder.step(b"\r\n0\r\n\r\n", Sink::Check).unwrap().done);

    let mut decoder = before;
    let mut out = Vec::new();
    decoder.step(b"a\r\n012", Sink::Chunked(&mut out)).unwrap();
    assert_eq!(
        (decoder.remaining(), out.as_slice()),
        (None, b"3\r\n012\r\n".as_slice())
    );
    assert!(!decoder.step(b"345", Sink::Check).unwrap().verbatim);
}

/// How the pieces of a body are sent on.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// Raw where possible.
    Usual,
    /// Re-encoded although it could be raw.
    Encode,
    /// Raw, and data past the decoder where possible.
    Splice,
}

/// Forwards a body in the given pieces; what goes out, and how much was consumed.
fn forward(body: &[u8], cuts: &[usize], ways: &[Way]) -> Result<(Vec<u8>, usize, bool), Reject> {
    let mut decoder = Decoder::new(Framing::Chunked);
    let mut out = Vec::new();
    let mut at = 0;
    let ends = cuts.iter().copied().chain([body.len()]);
    for (end, way) in ends.zip(ways.iter().copied().cycle()) {
        if let (Way::Splice, Some(left)) = (way, decoder.remaining()) {
            let taken = left.min((end - at) as u64);
            decoder.skip(taken);
            out.extend_from_slice(&body[at..at + taken as usize]);
            at += taken as usize;
        }
        let piece = &body[at..end];
        let before = decoder.clone();
        let step = decoder.step(piece, Sink::Check)?;
        if step.verbatim && !matches!(way, Way::Encode) {
            out.extend_from_slice(&piece[..step.consumed]);
        } else {
            decoder = before;
            let again = decoder.step(piece, Sink::Chunked(&mut out))?;
            assert_eq!(
                (again.consumed, again.payload),
                (step.consumed, step.payload)
            );
        }
        at += step.consumed;
        if step.done {
            return Ok((out, at, true));
        }
        assert_eq!(at, end, "a step stopped before the end of the body");
    }
    Ok((out, at, false))
}

const WAYS: &[&[Way]] = &[
    &[Way::Usual],
    &[Way::Encode],
    &[Way::Splice],
    &[Way::Usual, Way::Encode],
    &[Way::Encode, Way::Usual],
    &[Way::Encode, Way::Splice],
    &[Way::Usual, Way::Encode, Way::Splice],
];

#[test]
fn cut_anywhere_and_sent_in_any_way() {
    for (body, payload, _) in GOOD {
        let followed = format!("{body}next");
        let bytes = followed.as_bytes();
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                for ways in WAYS {
                    let (out, consumed, done) = forward(bytes, &[first, second], ways).unwrap();
                    assert_eq!(
                        (consumed, done),
                        (body.len(), true),
                        "{body:?} {first} {second}"
                    );
                    let (decoded, step) = decode(&out).unwrap();
                    assert_eq!(
                        decoded,
                        payload.as_bytes(),
                        "{body:?} {first} {second} {ways:?}"
                    );
                    assert_eq!((step.consumed, step.done), (out.len(), true));
                    assert!(
                        step.verbatim,
                        "sent on: {:?}",
                        String::from_utf8_lossy(&out)
                    );
                }
            }
        }
        let every: Vec<usize> = (0..bytes.len()).collect();
        for ways in WAYS {
            let (out, consumed, _) = forward(bytes, &every, ways).unwrap();
            assert_eq!(
                (consumed, decode(&out).unwrap().0.as_slice()),
                (body.len(), payload.as_bytes())
            );
        }
    }
}

fn chunk() -> impl Strategy<Value = (Vec<u8>, &'static str, usize)> {
    let extension = prop_oneof![4 => Just(""), 1 => Just(";"), 1 => Just(";name=\"v\"")];
    (
        vec(any::<u8>(), 1..40),
        extension,
        prop_oneof![6 => Just(0_usize), 1 => 1..4_usize],
    )
}

fn way() -> impl Strategy<Value = Way> {
    prop_oneof![Just(Way::Usual), Just(Way::Encode), Just(Way::Splice)]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bodies(
        chunks in vec(chunk(), 0..8),
        trailers in vec(prop_oneof![Just("A: 1\r\n"), Just("Host: x\r\n"), Just("B:\r\n")], 0..3),
        mut cuts in vec(0..400_usize, 0..12),
        ways in vec(way(), 1..6),
        after in vec(any::<u8>(), 0..20),
    ) {
        let (mut body, mut payload) = (Vec::new(), Vec::new());
        for (data, extension, zeros) in &chunks {
            let head = format!("{}{:X}{extension}\r\n", "0".repeat(*zeros), data.len());
            body.extend_from_slice(head.as_bytes());
            body.extend_from_slice(data);
            body.extend_from_slice(b"\r\n");
            payload.extend_from_slice(data);
        }
        body.extend_from_slice(format!("0\r\n{}\r\n", trailers.concat()).as_bytes());
        let length = body.len();
        body.extend_from_slice(&after);
        cuts.retain(|cut| *cut < body.len());
        cuts.sort_unstable();

        let (out, consumed, done) = forward(&body, &cuts, &ways).unwrap();
        prop_assert_eq!((consumed, done), (length, true));
        let (decoded, step) = decode(&out).unwrap();
        prop_assert_eq!(&decoded, &payload);
        prop_assert_eq!((step.consumed, step.done, step.verbatim), (out.len(), true, true));

        let mut decoder = Decoder::new(Framing::Chunked);
        let (mut bare, mut at, mut count) = (Vec::new(), 0, 0);
        for end in cuts.into_iter().chain([body.len()]) {
            if !decoder.is_done() {
                let step = decoder.step(&body[at..end], Sink::Payload(&mut bare)).unwrap();
                at += step.consumed;
                count += step.payload;
            }
        }
        prop_assert_eq!((at, count), (length, payload.len()));
        prop_assert_eq!(bare, payload);
    }

    /// Any bytes: no panic, and the verdict does not depend on the cuts.
    #[test]
    fn random_bytes(
        pieces in vec(prop_oneof![
            Just("1\r\nx\r\n"), Just("0\r\n"), Just("\r"), Just("\n"), Just("\r\n"), Just("A: b"),
            Just(";"), Just("5"), Just("f"), Just("\0"), Just("hello"), Just(" "),
        ], 0..12),
        mut cuts in vec(0..60_usize, 0..6),
        ways in vec(way(), 1..4),
    ) {
        let body = pieces.concat().into_bytes();
        cuts.retain(|cut| *cut < body.len());
        cuts.sort_unstable();
        let whole = forward(&body, &[], &[Way::Usual]).map(|(_, consumed, done)| (consumed, done));
        let cut = forward(&body, &cuts, &ways).map(|(_, consumed, done)| (consumed, done));
        prop_assert_eq!(whole, cut);
    }
}
