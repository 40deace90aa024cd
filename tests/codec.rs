//! Encoders against decoders: those of the crates, and the programs that people have.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

#[path = "support/allocations.rs"]
mod allocations;
#[path = "support/decode.rs"]
mod decode;

use std::io::Write;
use std::process::{Command, Stdio};

use corelane::codec::{Encoder, Encoders};
use corelane::policy::filter::compress::Coding;
use decode::decode;
use proptest::prelude::*;

#[global_allocator]
static ALLOCATOR: allocations::Counting = allocations::Counting;

/// All that a configuration may ask for.
fn levels(coding: Coding) -> std::ops::RangeInclusive<u8> {
    match coding {
        Coding::Gzip => 1..=9,
        Coding::Brotli => 0..=11,
        Coding::Zstd => 1..=19,
    }
}

fn all() -> impl Iterator<Item = (Coding, u8)> {
    let with_levels = |coding| levels(coding).map(move |level| (coding, level));
    Coding::ALL.into_iter().flat_map(with_levels)
}

/// Bytes that repeat, but not soon, with some noise.
fn text(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut out = Vec::with_capacity(length + 16);
    while out.len() < length {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let word = (state >> 33) % 5000;
        write!(out, "{:x} ", word * word).unwrap();
    }
    out.truncate(length);
    out
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 7_u64;
    let bytes = std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    });
    bytes.take(length).collect()
}

fn encoded(encoder: &mut Encoder, pieces: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in pieces {
        encoder.push(piece, &mut out);
    }
    encoder.finish(&mut out);
    out
}

#[test]
fn every_level_gives_back_what_it_got() {
    let body = text(100_000);
    for (coding, level) in all() {
        for (length, told) in [
            (0, false),
            (0, true),
            (1, true),
            (100_000, false),
            (70_000, true),
        ] {
            let body = &body[..length];
            let mut encoder = Encoder::new(coding, level, told.then_some(length as u64));
            let pieces: Vec<&[u8]> = body.chunks(8000).collect();
            let out = encoded(&mut encoder, &pieces);
            assert!(
                decode(coding, &out) == (body.to_vec(), true),
                "{coding:?} {level} {length}"
            );
            assert!(
                length < 1000 || out.len() < length * 3 / 4,
                "{coding:?} {level}"
            );
        }
    }
}

#[test]
fn long_bodies_come_back() {
    let body = text(10 << 20);
    for (coding, level) in [(Coding::Gzip, 1), (Coding::Brotli, 1), (Coding::Zstd, 3)] {
        let mut encoder = Encoder::new(coding, level, None);
        let pieces: Vec<&[u8]> = body.chunks(100_000).collect();
        let out = encoded(&mut encoder, &pieces);
        assert!(decode(coding, &out) == (body.clone(), true), "{coding:?}");
    }
}

#[test]
fn what_cannot_be_compressed_comes_back() {
    let noise = noise(200_000);
    for (coding, level) in [(Coding::Gzip, 5), (Coding::Brotli, 4), (Coding::Zstd, 3)] {
        let out = encoded(&mut Encoder::new(coding, level, None), &[&noise]);
        assert!(decode(coding, &out) == (noise.clone(), true), "{coding:?}");
        assert!(out.len() < noise.len() + 1000, "{coding:?}: {}", out.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Pushed in pieces of any size with flushes anywhere: after each flush all that was pushed is there, and nothing
    /// looks whole before its end.
    #[test]
    fn a_flush_brings_all_that_was_pushed(
        which in 0_usize..3,
        level in 1_u8..=6,
        pieces in prop::collection::vec((0_usize..9000, any::<bool>()), 0..12),
    ) {
        let coding = Coding::ALL[which];
        let body = text(pieces.iter().map(|(length, _)| length).sum());
        let mut encoder = Encoder::new(coding, level, None);
        let (mut out, mut at) = (Vec::new(), 0);
        for (length, flushed) in pieces {
            encoder.push(&body[at..at + length], &mut out);
            at += length;
            if flushed {
                encoder.flush(&mut out);
                prop_assert!(!encoder.holds());
                let before = out.len();
                encoder.flush(&mut out);
                prop_assert_eq!(out.len(), before, "nothing came since");
            }
            let (got, whole) = decode(coding, &out);
            prop_assert!(!whole);
            prop_assert!(body.starts_with(&got));
            prop_assert!(encoder.holds() || got.len() == at);
        }
        encoder.finish(&mut out);
        prop_assert!(decode(coding, &out) == (body, true));
    }
}

#[test]
fn a_used_encoder_remembers_nothing() {
    let (first, second) = (text(50_000), b"something else entirely".repeat(100));
    let home = Encoders::default();
    for (coding, level) in [
        (Coding::Gzip, 5),
        (Coding::Brotli, 4),
        (Coding::Zstd, 3),
        (Coding::Zstd, 9),
    ] {
        let length = Some(second.len() as u64);
        let fresh = encoded(&mut Encoder::new(coding, level, length), &[&second]);
        // Given up in the middle: before its first output, within it, behind it.
        for cut in [0, 10, 50_000] {
            let mut lent = home.lend(coding, level, None).unwrap();
            let mut out = Vec::new();
            lent.encoder().push(&first[..cut], &mut out);
            lent.encoder().flush(&mut out);
            lent.encoder().push(&first[..cut], &mut out);
            drop(lent);
            let mut lent = home.lend(coding, level, length).unwrap();
            let again = encoded(lent.encoder(), &[&second]);
            assert!(again == fresh, "{coding:?} {cut}");
        }
    }
}

#[test]
fn encoders_at_work_are_bounded() {
    for (coding, level) in all() {
        let home = Encoders::default();
        let most = (128 << 20) / Encoder::bytes_max(coding, level);
        let mut lent: Vec<_> = (0..most)
            .map(|_| home.lend(coding, level, Some(10)).unwrap())
            .collect();
        assert!(
            home.lend(coding, level, Some(10)).is_none(),
            "{coding:?} {level}"
        );
        lent.pop();
        assert!(
            home.lend(coding, level, Some(10)).is_some(),
            "{coding:?} {level}"
        );
    }
}

#[test]
fn no_encoder_takes_more_memory_than_it_says() {
    for (coding, level) in all() {
        for body in [text(1 << 18), noise(1 << 18)] {
            let mut out = Vec::with_capacity(body.len() * 2);
            let peak = allocations::peak_of(|| {
                let mut encoder = Encoder::new(coding, level, None);
                for piece in body.chunks(8192) {
                    encoder.push(piece, &mut out);
                }
                encoder.flush(&mut out);
                encoder.finish(&mut out);
            });
            let most = Encoder::bytes_max(coding, level);
            assert!(peak <= most, "{coding:?} {level}: {peak} of {most}");
            assert!(peak > most / 3, "{coding:?} {level}: only {peak} of {most}");
        }
    }
}

/// What the program that people have makes of it.
fn unpacked(program: &str, bytes: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .args(["-d", "-c"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}; scripts/test installs it"));
    let mut input = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || input.write_all(bytes).unwrap());
        child.wait_with_output().unwrap()
    });
    assert!(output.status.success(), "{program}");
    output.stdout
}

#[test]
fn the_programs_of_the_codings_agree() {
    let body = text(700_000);
    for (coding, program, levels) in [
        (Coding::Gzip, "gzip", [1, 5, 9]),
        (Coding::Brotli, "brotli", [0, 4, 9]),
        (Coding::Zstd, "zstd", [1, 3, 12]),
    ] {
        for level in levels {
            let mut encoder = Encoder::new(coding, level, Some(body.len() as u64));
            let mut out = Vec::new();
            for piece in body.chunks(33_333) {
                encoder.push(piece, &mut out);
                encoder.flush(&mut out);
            }
            encoder.finish(&mut out);
            assert!(unpacked(program, &out) == body, "{program} {level}");
            let empty = encoded(&mut Encoder::new(coding, level, Some(0)), &[]);
            assert!(unpacked(program, &empty).is_empty(), "{program} {level}");
        }
    }
}
