//! Decoders of the content codings, by the crates that encode them.
//!
//! Decides: what a client has of a response, whole or not. May not know: encoders.

use std::io::Write;

use corelane::policy::filter::compress::Coding;
use flate2::{Decompress, FlushDecompress, Status};
use zstd_safe::{DCtx, InBuffer, OutBuffer};

/// What `bytes` decode to, and whether they are a whole with nothing behind it.
pub(crate) fn decode(coding: Coding, bytes: &[u8]) -> (Vec<u8>, bool) {
    match coding {
        Coding::Gzip => gzip(bytes),
        Coding::Brotli => brotli(bytes),
        Coding::Zstd => zstd(bytes),
    }
}

fn gzip(bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut stream = Decompress::new_gzip(15);
    let mut out = Vec::new();
    loop {
        out.reserve(64 * 1024);
        let at = usize::try_from(stream.total_in()).expect("no more than there is");
        let had = out.len();
        let status = stream
            .decompress_vec(&bytes[at..], &mut out, FlushDecompress::None)
            .expect("gzip");
        let is_stuck = stream.total_in() as usize == at && out.len() == had;
        if status == Status::StreamEnd || is_stuck {
            let is_whole = status == Status::StreamEnd && stream.total_in() == bytes.len() as u64;
            return (out, is_whole);
        }
    }
}

fn brotli(bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut stream = brotli::DecompressorWriter::new(Vec::new(), 64 * 1024);
    stream.write_all(bytes).expect("brotli");
    let ended = stream.close().is_ok();
    let out = match stream.into_inner() {
        Ok(out) | Err(out) => out,
    };
    (out, ended)
}

fn zstd(bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut stream = DCtx::create();
    let mut out = Vec::new();
    let mut input = InBuffer::around(bytes);
    loop {
        out.reserve(256 * 1024);
        let at = out.len();
        let mut room = OutBuffer::around_pos(&mut out, at);
        let left = stream
            .decompress_stream(&mut room, &mut input)
            .expect("zstd");
        let is_all = input.pos() == bytes.len();
        if left == 0 || is_all && out.len() < out.capacity() {
            return (out, left == 0 && is_all);
        }
    }
}
