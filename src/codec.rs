//! Encoders of the content codings: values in, bytes out.
//!
//! Decides: how large their windows and tables are, and with them their memory; that there is none for another one. May
//! not know: HTTP, sockets, who reads. Invariant: after a flush, what was put out decodes to all that was pushed; what
//! was not finished decodes to no whole.

use std::cell::{Cell, RefCell};

use brotli::enc::StandardAlloc;
use brotli::enc::encode::{
    BrotliEncoderOperation, BrotliEncoderParameter, BrotliEncoderStateStruct,
};
use flate2::{Compression, FlushCompress, Status};
use zstd_safe::{CCtx, CParameter, InBuffer, OutBuffer, ResetDirective};

use crate::policy::filter::compress::Coding;

/// Memory of the encoders at work in one shard: 341 of gzip, 64 of zstd at level 3, 36 of brotli at level 4. What comes on
/// top goes out as it is: a thousand event streams must not take gigabytes.
const BYTES_MAX: usize = 128 * 1024 * 1024;

/// Encoders of one coding that a shard keeps for reuse. A new one of zstd costs as much as compressing 4 KiB: 30 µs instead of 15.
const SPARE_MAX: usize = 4;

/// 32 KiB, which every decoder of gzip has (RFC 1952).
const GZIP_WINDOW_BITS: u8 = 15;

/// 128 KiB: with twice that, 1 MiB of text would become 1.4 % smaller at level 4, and its encoder 1 MiB larger.
const BROTLI_WINDOW_BITS: u32 = 17;

/// 64 KiB, the least: the most that is compressed in one go, while all else on the shard waits.
const BROTLI_BLOCK_BITS: u32 = 16;

/// 256 KiB. A client need not take more than 8 MiB (RFC 9659).
const ZSTD_WINDOW_BITS: u32 = 18;

/// Above this level the tables are made for windows of megabytes, if nobody sets a bound.
const ZSTD_SMALL_LEVEL: u8 = 3;

/// The least room for output that an encoder is given.
const ROOM_BYTES: usize = 4096;

/// One response's encoder.
pub struct Encoder {
    coding: Coding,
    level: u8,
    state: State,
    /// Something was pushed since the last flush.
    holds: bool,
}

enum State {
    Gzip(flate2::Compress),
    Brotli(Box<BrotliEncoderStateStruct<StandardAlloc>>),
    Zstd(CCtx<'static>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Push,
    Flush,
    Finish,
}

impl Encoder {
    /// `length`: bytes that will be pushed, if that is known; then it must be right. Short ones need less memory.
    pub fn new(coding: Coding, level: u8, length: Option<u64>) -> Encoder {
        let state = match coding {
            Coding::Gzip => State::Gzip(new_gzip(level)),
            Coding::Brotli => State::Brotli(new_brotli(level)),
            Coding::Zstd => State::Zstd(begun_zstd(CCtx::create(), level, length)),
        };
        Encoder::of(coding, level, state)
    }

    fn of(coding: Coding, level: u8, state: State) -> Encoder {
        Encoder {
            coding,
            level,
            state,
            holds: false,
        }
    }

    /// Takes `data`; what of the coded form is ready is appended to `out`.
    pub fn push(&mut self, data: &[u8], out: &mut Vec<u8>) {
        if data.is_empty() {
            return;
        }
        self.holds = true;
        self.step(data, Step::Push, out);
    }

    /// Appends all that is needed to decode what was pushed so far. Costs a few bytes, and some of the next ones'
    /// compression.
    pub fn flush(&mut self, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.holds) {
            self.step(&[], Step::Flush, out);
        }
    }

    /// Appends the rest. Nothing may be pushed any more.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.holds = false;
        self.step(&[], Step::Finish, out);
    }

    /// Whether something was pushed that may not have come out.
    pub fn holds(&self) -> bool {
        self.holds
    }

    /// No encoder of this coding and level takes more memory, working space within a call included. Measured; a test
    /// keeps it true.
    pub fn bytes_max(coding: Coding, level: u8) -> usize {
        const KIB: usize = 1024;
        match (coding, level) {
            (Coding::Gzip, _) => 384 * KIB,
            (Coding::Brotli, ..=1) => 128 * KIB,
            (Coding::Brotli, 2..=3) => 1536 * KIB,
            (Coding::Brotli, 4) => 3584 * KIB,
            (Coding::Brotli, 5..=6) => 5120 * KIB,
            (Coding::Brotli, 7) => 12_288 * KIB,
            (Coding::Brotli, 8) => 20_480 * KIB,
            (Coding::Brotli, 9) => 36_864 * KIB,
            (Coding::Brotli, 10..) => 8192 * KIB,
            (Coding::Zstd, ..=3) => 2048 * KIB,
            (Coding::Zstd, 4..) => 4096 * KIB,
        }
    }

    fn step(&mut self, data: &[u8], step: Step, out: &mut Vec<u8>) {
        match &mut self.state {
            State::Gzip(stream) => gzip(stream, data, step, out),
            State::Brotli(stream) => brotli(stream, data, step, out),
            State::Zstd(stream) => zstd(stream, data, step, out),
        }
    }
}

fn new_gzip(level: u8) -> flate2::Compress {
    flate2::Compress::new_gzip(Compression::new(u32::from(level)), GZIP_WINDOW_BITS)
}

/// Without a hint of the length: from 1 MiB on it would choose larger tables and compress worse.
fn new_brotli(level: u8) -> Box<BrotliEncoderStateStruct<StandardAlloc>> {
    let mut stream = BrotliEncoderStateStruct::new(StandardAlloc::default());
    for (parameter, value) in [
        (
            BrotliEncoderParameter::BROTLI_PARAM_QUALITY,
            u32::from(level),
        ),
        (
            BrotliEncoderParameter::BROTLI_PARAM_LGWIN,
            BROTLI_WINDOW_BITS,
        ),
        (
            BrotliEncoderParameter::BROTLI_PARAM_LGBLOCK,
            BROTLI_BLOCK_BITS,
        ),
    ] {
        stream.set_parameter(parameter, value);
    }
    Box::new(stream)
}

/// Makes a new or a used stream ready.
fn begun_zstd(mut stream: CCtx<'static>, level: u8, length: Option<u64>) -> CCtx<'static> {
    let mut begin = || {
        stream.reset(ResetDirective::SessionAndParameters)?;
        stream.set_parameter(CParameter::CompressionLevel(i32::from(level)))?;
        stream.set_parameter(CParameter::WindowLog(ZSTD_WINDOW_BITS))?;
        if level > ZSTD_SMALL_LEVEL {
            stream.set_parameter(CParameter::HashLog(ZSTD_WINDOW_BITS))?;
            stream.set_parameter(CParameter::ChainLog(ZSTD_WINDOW_BITS))?;
        }
        stream.set_pledged_src_size(length)
    };
    begin().expect("these parameters are within their bounds");
    stream
}

fn gzip(stream: &mut flate2::Compress, mut data: &[u8], step: Step, out: &mut Vec<u8>) {
    let flush = match step {
        Step::Push => FlushCompress::None,
        Step::Flush => FlushCompress::Sync,
        Step::Finish => FlushCompress::Finish,
    };
    loop {
        out.reserve(ROOM_BYTES);
        let before = stream.total_in();
        let status = stream
            .compress_vec(data, out, flush)
            .expect("nothing is pushed after the end");
        let taken = usize::try_from(stream.total_in() - before).expect("no more than `data`");
        data = &data[taken..];
        let is_done = match step {
            Step::Push => data.is_empty(),
            // What fills the room exactly may have more behind it.
            Step::Flush => out.len() < out.capacity(),
            Step::Finish => status == Status::StreamEnd,
        };
        if is_done {
            return;
        }
    }
}

fn brotli(
    stream: &mut BrotliEncoderStateStruct<StandardAlloc>,
    data: &[u8],
    step: Step,
    out: &mut Vec<u8>,
) {
    let operation = || match step {
        Step::Push => BrotliEncoderOperation::BROTLI_OPERATION_PROCESS,
        Step::Flush => BrotliEncoderOperation::BROTLI_OPERATION_FLUSH,
        Step::Finish => BrotliEncoderOperation::BROTLI_OPERATION_FINISH,
    };
    let (mut left, mut at) = (data.len(), 0);
    loop {
        // Without room, so that it keeps the output until it is taken: one copy less.
        let (mut room, mut written) = (0, 0);
        let is_fine = stream.compress_stream(
            operation(),
            &mut left,
            data,
            &mut at,
            &mut room,
            &mut [],
            &mut written,
            &mut None,
            &mut |_, _, _, _| (),
        );
        assert!(is_fine, "nothing is pushed after the end");
        while stream.has_more_output() {
            let mut bytes = 0;
            let ready = stream.take_output(&mut bytes);
            out.extend_from_slice(&ready[..bytes]);
        }
        let is_done = match step {
            Step::Push | Step::Flush => left == 0,
            Step::Finish => stream.is_finished(),
        };
        if is_done {
            return;
        }
    }
}

fn zstd(stream: &mut CCtx<'static>, data: &[u8], step: Step, out: &mut Vec<u8>) {
    let mut input = InBuffer::around(data);
    loop {
        out.reserve(ROOM_BYTES);
        let at = out.len();
        let mut room = OutBuffer::around_pos(out, at);
        let left = match step {
            Step::Push => stream.compress_stream(&mut room, &mut input),
            Step::Flush => stream.flush_stream(&mut room),
            Step::Finish => stream.end_stream(&mut room),
        };
        let left = left.expect("as much was pushed as was announced, and there is memory");
        let is_done = match step {
            Step::Push => input.pos() == data.len(),
            Step::Flush | Step::Finish => left == 0,
        };
        if is_done {
            return;
        }
    }
}

/// The encoders of a shard: those at work are counted, a few are kept. Those of brotli cannot be used twice.
#[derive(Default)]
pub struct Encoders {
    lent_bytes: Cell<usize>,
    /// With their levels.
    gzip: RefCell<Vec<(u8, flate2::Compress)>>,
    zstd: RefCell<Vec<CCtx<'static>>>,
}

/// An encoder at work. It comes back when it is dropped.
pub struct Lent<'s> {
    /// Always there until the drop.
    encoder: Option<Encoder>,
    home: &'s Encoders,
}

impl Encoders {
    /// `None`: the memory for encoders is used up.
    pub fn lend(&self, coding: Coding, level: u8, length: Option<u64>) -> Option<Lent<'_>> {
        let lent_bytes = self.lent_bytes.get() + Encoder::bytes_max(coding, level);
        if lent_bytes > BYTES_MAX {
            return None;
        }
        self.lent_bytes.set(lent_bytes);
        let used = match coding {
            Coding::Gzip => self.used_gzip(level).map(State::Gzip),
            Coding::Brotli => None,
            Coding::Zstd => {
                let used = self.zstd.borrow_mut().pop();
                used.map(|stream| State::Zstd(begun_zstd(stream, level, length)))
            }
        };
        let encoder = match used {
            Some(state) => Encoder::of(coding, level, state),
            None => Encoder::new(coding, level, length),
        };
        Some(Lent {
            encoder: Some(encoder),
            home: self,
        })
    }

    /// Memory of the encoders at work.
    pub fn lent_bytes(&self) -> usize {
        self.lent_bytes.get()
    }

    fn used_gzip(&self, level: u8) -> Option<flate2::Compress> {
        let mut used = self.gzip.borrow_mut();
        let at = used.iter().rposition(|(other, _)| *other == level)?;
        let (_, mut stream) = used.swap_remove(at);
        stream.reset();
        Some(stream)
    }
}

impl Lent<'_> {
    pub fn encoder(&mut self) -> &mut Encoder {
        self.encoder.as_mut().expect("there until the drop")
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let Some(encoder) = self.encoder.take() else {
            return;
        };
        let bytes = Encoder::bytes_max(encoder.coding, encoder.level);
        self.home.lent_bytes.set(self.home.lent_bytes.get() - bytes);
        match encoder.state {
            State::Gzip(stream) => keep(&self.home.gzip, (encoder.level, stream)),
            State::Brotli(_) => {}
            State::Zstd(stream) => keep(&self.home.zstd, stream),
        }
    }
}

fn keep<T>(used: &RefCell<Vec<T>>, stream: T) {
    let mut used = used.borrow_mut();
    if used.len() < SPARE_MAX {
        used.push(stream);
    }
}
