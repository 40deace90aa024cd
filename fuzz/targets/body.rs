//! Bodies: however the input is cut and whichever way its pieces go out, the payload is the same and ends at the
//! same byte, as an independent reader finds it too.
//!
//! The last eight bytes of an input choose the framing, the cuts and the ways; all before is the wire.

#![no_main]

use corelane::h1::body::{Decoder, Sink};
use corelane::h1::{Framing, Reject};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((wire, knobs)) = data.split_last_chunk::<8>() else {
        return;
    };
    let mut choices = Choices(u64::from_le_bytes(*knobs));
    let framing = match choices.below(8) {
        0 => Framing::None,
        1 => Framing::UntilClose,
        2 => Framing::Length(choices.below(wire.len() + 20) as u64),
        _ => Framing::Chunked,
    };
    let whole = at_once(wire, framing);
    for _ in 0..4 {
        let cut = in_pieces(wire, framing, &mut choices);
        assert_eq!(cut, whole, "cut");
        forwarded(wire, framing, &whole, &mut choices);
    }
    if let Ok(decoded) = &whole {
        bounds(wire, framing, decoded);
        if framing == Framing::Chunked {
            second_opinion(wire, decoded);
        }
    }
});

/// xorshift64: the fuzzer mutates its seed, and a seed always gives the same run.
struct Choices(u64);

impl Choices {
    fn below(&mut self, bound: usize) -> usize {
        self.0 |= 1;
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound.max(1)
    }

    /// Mostly small: the interesting cuts are close together.
    fn piece<'w>(&mut self, rest: &'w [u8]) -> &'w [u8] {
        let most = [1, 2, 4, 16, 64, 1024][self.below(6)].min(rest.len());
        &rest[..1 + self.below(most)]
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Decoded {
    consumed: usize,
    payload: Vec<u8>,
    done: bool,
}

fn at_once(wire: &[u8], framing: Framing) -> Result<Decoded, Reject> {
    let mut payload = Vec::new();
    let mut decoder = Decoder::new(framing);
    let step = decoder.step(wire, Sink::Payload(&mut payload))?;
    assert_eq!(step.payload, payload.len());
    assert_eq!(step.done, decoder.is_done());
    Ok(Decoded {
        consumed: step.consumed,
        payload,
        done: step.done,
    })
}

fn in_pieces(wire: &[u8], framing: Framing, choices: &mut Choices) -> Result<Decoded, Reject> {
    let mut decoder = Decoder::new(framing);
    let (mut at, mut payload) = (0, Vec::new());
    while at < wire.len() && !decoder.is_done() {
        let piece = choices.piece(&wire[at..]);
        let before = payload.len();
        let mut checked = decoder.clone();
        let check = checked.step(piece, Sink::Check);
        let step = decoder.step(piece, Sink::Payload(&mut payload));
        assert_eq!(check, step, "the sink changes nothing but the output");
        let step = step?;
        assert_eq!(payload.len() - before, step.payload);
        assert!(step.consumed == piece.len() || step.done);
        at += step.consumed;
    }
    Ok(Decoded {
        consumed: at,
        payload,
        done: decoder.is_done(),
    })
}

/// Sends the body on to a receiver of chunks as the relay does: raw where it may, re-encoded where it must or
/// wants to, past the decoder where that is allowed.
fn forwarded(
    wire: &[u8],
    framing: Framing,
    whole: &Result<Decoded, Reject>,
    choices: &mut Choices,
) {
    let raw_allowed = framing == Framing::Chunked;
    let mut decoder = Decoder::new(framing);
    let (mut at, mut sent) = (0, Vec::new());
    while at < wire.len() && !decoder.is_done() {
        let outside = decoder
            .remaining()
            .map_or(0, |left| left.min((wire.len() - at) as u64) as usize);
        if raw_allowed && outside > 0 && choices.below(2) == 0 {
            let count = 1 + choices.below(outside);
            sent.extend_from_slice(&wire[at..at + count]);
            decoder.skip(count as u64);
            at += count;
            continue;
        }
        let piece = choices.piece(&wire[at..]);
        let before = decoder.clone();
        let step = if raw_allowed && choices.below(4) > 0 {
            decoder.step(piece, Sink::Check)
        } else {
            Err(Reject::BadChunk)
        };
        let consumed = match step {
            Ok(step) if step.verbatim => {
                sent.extend_from_slice(&piece[..step.consumed]);
                step.consumed
            }
            Ok(_) | Err(_) => {
                decoder = before;
                match decoder.step(piece, Sink::Chunked(&mut sent)) {
                    Ok(step) => step.consumed,
                    Err(reject) => {
                        assert_eq!(whole.as_ref(), Err(&reject));
                        return;
                    }
                }
            }
        };
        at += consumed;
    }
    let Ok(whole) = whole else {
        panic!("{whole:?} of the whole, nothing of the pieces");
    };
    assert_eq!(at, whole.consumed);
    assert_eq!(decoder.is_done(), whole.done);
    if framing == Framing::None || framing == Framing::Length(0) {
        return;
    }
    let received = at_once(&sent, Framing::Chunked).expect("what we send is well formed");
    assert_eq!(received.payload, whole.payload);
    assert_eq!(received.done, whole.done);
    assert_eq!(received.consumed, sent.len(), "nothing follows the body");
}

/// The end is where it is: not a byte earlier, and nothing is taken after it.
fn bounds(wire: &[u8], framing: Framing, decoded: &Decoded) {
    assert!(decoded.consumed <= wire.len());
    if !decoded.done {
        assert_eq!(decoded.consumed, wire.len());
        return;
    }
    let mut decoder = Decoder::new(framing);
    if let Some(shorter) = decoded.consumed.checked_sub(1) {
        let step = decoder
            .step(&wire[..shorter], Sink::Check)
            .expect("a prefix of a good body is good");
        assert!(!step.done);
        assert!(!decoder.eof() || framing == Framing::UntilClose);
    }
    let last = decoder
        .step(&wire[decoded.consumed.saturating_sub(1)..], Sink::Check)
        .expect("the last byte is good");
    assert_eq!(last.consumed, decoded.consumed.min(1));
    let after = decoder.step(wire, Sink::Check).expect("done");
    assert!(after.done && after.consumed == 0);
}

/// Reads the same bytes by the grammar of RFC 9112 section 7.1, line by line.
fn second_opinion(wire: &[u8], decoded: &Decoded) {
    if !decoded.done {
        return;
    }
    let (mut rest, mut payload) = (&wire[..decoded.consumed], Vec::new());
    loop {
        let line = take_line(&mut rest);
        let digits = line
            .iter()
            .take_while(|byte| byte.is_ascii_hexdigit())
            .count();
        assert!(matches!(line.get(digits), None | Some(b';')), "{line:?}");
        let size = std::str::from_utf8(&line[..digits]).expect("hex digits");
        let size = usize::from_str_radix(size, 16).expect("a size");
        if size == 0 {
            break;
        }
        payload.extend_from_slice(&rest[..size]);
        rest = &rest[size..];
        assert_eq!(take_line(&mut rest), b"");
    }
    while !take_line(&mut rest).is_empty() {}
    assert_eq!(rest, b"", "the body ends at the first empty line");
    assert_eq!(payload, decoded.payload);
}

/// A line without its CRLF, and no other CR or LF in it.
fn take_line<'w>(rest: &mut &'w [u8]) -> &'w [u8] {
    let end = rest
        .iter()
        .position(|byte| *byte == b'\n')
        .expect("a line end");
    let line = rest[..end].strip_suffix(b"\r").expect("CRLF");
    assert!(!line.contains(&b'\r'));
    *rest = &rest[end + 1..];
    line
}
