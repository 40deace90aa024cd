//! Incremental decoder of bodies, and encoder of chunks.
//!
//! Decides: where a body ends, and whether its bytes may be sent on as they stand. May not know:
//! sockets, buffers of others, who the receiver is. Invariant: the bytes that all steps consume are
//! exactly the body's, and whatever mix of raw and re-encoded pieces goes out, it is one
//! well-formed chunked body with the same payload.
//!
//! States of a chunked body, in the order in which they follow each other:
//!
//! ```text
//! Size ─ hex digits ─► Extension ─► SizeLf ─► Data ─► DataCr ─► DataLf ─► Size
//!                                     └─ size 0 ─► Trailers ─► Done
//! ```

use super::{Framing, Reject, syntax, trailer};

/// The end of a chunked body without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Longest extension of one chunk, from its `;` on. Nobody uses them (RFC 9112 section 7.1.1 lets
/// us ignore them).
const EXTENSION_BYTES_MAX: usize = 256;
/// All extensions of one body: else a stream of 1-byte chunks could cost us 256 times its payload.
const EXTENSION_BYTES_TOTAL_MAX: usize = 16 * 1024;
/// Sixteen digits fill a `u64`; leading zeros count.
const SIZE_DIGITS_MAX: u8 = 16;

/// Decodes one body. Cloning it before a step is how to undo the step: it owns nothing on the heap
/// until trailers are cut in two.
#[derive(Debug, Clone)]
pub struct Decoder {
    state: State,
    /// Bytes of this chunk's extension, and of all.
    extension_bytes: usize,
    extension_bytes_total: usize,
    /// The trailer section so far. Never more than `trailer::BYTES_MAX`.
    trailers: Vec<u8>,
    /// No trailer passes, whatever its name.
    drops_trailers: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Length(u64),
    UntilClose,
    Size { value: u64, digits: u8 },
    Extension { value: u64 },
    SizeLf { value: u64 },
    Data { left: u64, form: Form },
    DataCr(Form),
    DataLf(Form),
    Trailers,
    Done,
}

/// How the current chunk's header went out, which binds the rest of that chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// As it came: its data and the line end after it follow as they come.
    Raw,
    /// Not at all: each piece of its data gets a header of its own.
    Own,
}

/// What a step does with the body besides checking it.
#[derive(Debug)]
pub enum Sink<'o> {
    /// Nothing; the caller sends the raw bytes on if the step was verbatim.
    Check,
    /// Append the payload alone: for receivers without chunks.
    Payload(&'o mut Vec<u8>),
    /// Append a chunked form without extensions and forbidden trailers.
    Chunked(&'o mut Vec<u8>),
}

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Bytes of the input that belong to the body.
    pub consumed: usize,
    /// Bytes of payload among them.
    pub payload: usize,
    /// The body is complete.
    pub done: bool,
    /// The consumed bytes may be sent on as they stand to a receiver with the same framing. If they
    /// are not, they must be re-encoded: the decision binds the steps that follow.
    pub verbatim: bool,
}

impl Decoder {
    pub fn new(framing: Framing) -> Decoder {
        let state = match framing {
            Framing::None | Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Size {
                value: 0,
                digits: 0,
            },
            Framing::UntilClose => State::UntilClose,
        };
        Decoder {
            state,
            extension_bytes: 0,
            extension_bytes_total: 0,
            trailers: Vec::new(),
            drops_trailers: false,
        }
    }

    /// With `drop`, checks trailers but passes none on: Connection nominates fields, and what it names must not
    /// pass as a trailer either (RFC 9110 section 7.6.1). Any recipient may drop trailers (section 6.5.1).
    pub fn dropping_trailers(mut self, drop: bool) -> Decoder {
        self.drops_trailers = drop;
        self
    }

    /// Takes as much of `input` as belongs to the body, and never a byte more.
    ///
    /// To forward a chunked body: clone, step with [`Sink::Check`], and send the consumed bytes if
    /// `verbatim`; else go back to the clone and step with [`Sink::Chunked`].
    pub fn step(&mut self, input: &[u8], mut sink: Sink<'_>) -> Result<Step, Reject> {
        match self.state {
            State::Length(left) => {
                let taken = clamp(left, input.len());
                let left = left - taken as u64;
                self.state = if left == 0 {
                    State::Done
                } else {
                    State::Length(left)
                };
                sink.data(&input[..taken], Form::Own);
                if self.is_done() {
                    sink.put(LAST_CHUNK);
                }
                Ok(self.plain_step(taken))
            }
            State::UntilClose => {
                sink.data(input, Form::Own);
                Ok(self.plain_step(input.len()))
            }
            State::Done => Ok(self.plain_step(0)),
            State::Size { .. }
            | State::Extension { .. }
            | State::SizeLf { .. }
            | State::Data { .. }
            | State::DataCr(_)
            | State::DataLf(_)
            | State::Trailers => self.step_chunked(input, &mut sink),
        }
    }

    /// Bytes of payload that may pass outside the decoder ([`Decoder::skip`]): what is left of a
    /// body with a length, or of a chunk whose header went out raw.
    pub fn remaining(&self) -> Option<u64> {
        match self.state {
            State::Length(left)
            | State::Data {
                left,
                form: Form::Raw,
            } => Some(left),
            State::UntilClose
            | State::Size { .. }
            | State::Extension { .. }
            | State::SizeLf { .. }
            | State::Data {
                left: _,
                form: Form::Own,
            }
            | State::DataCr(_)
            | State::DataLf(_)
            | State::Trailers
            | State::Done => None,
        }
    }

    /// `count` bytes of payload were sent on without the decoder seeing them; no more than
    /// [`Decoder::remaining`].
    pub fn skip(&mut self, count: u64) {
        debug_assert!(
            count == 0
                || self.state == State::UntilClose
                || self.remaining().is_some_and(|left| count <= left),
            "skipped past what may pass outside"
        );
        match self.state {
            State::Length(left) if left <= count => self.state = State::Done,
            State::Length(left) => self.state = State::Length(left - count),
            State::Data { left, form } if left <= count => self.state = State::DataCr(form),
            State::Data { left, form } => {
                self.state = State::Data {
                    left: left - count,
                    form,
                }
            }
            State::UntilClose
            | State::Size { .. }
            | State::Extension { .. }
            | State::SizeLf { .. }
            | State::DataCr(_)
            | State::DataLf(_)
            | State::Trailers
            | State::Done => {}
        }
    }

    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Whether the sender's closing here leaves a complete message (RFC 9112 section 8).
    pub fn eof(&self) -> bool {
        matches!(self.state, State::Done | State::UntilClose)
    }

    fn plain_step(&self, taken: usize) -> Step {
        Step {
            consumed: taken,
            payload: taken,
            done: self.is_done(),
            verbatim: true,
        }
    }

    fn step_chunked(&mut self, input: &[u8], sink: &mut Sink<'_>) -> Result<Step, Reject> {
        let new_chunk = match sink {
            Sink::Check | Sink::Payload(_) => Form::Raw,
            Sink::Chunked(_) => Form::Own,
        };
        let mut verbatim = self.may_be_raw();
        let mut at = 0;
        let mut payload = 0;
        while at < input.len() && !self.is_done() {
            let rest = &input[at..];
            at += match self.state {
                State::Data { left, form } => {
                    let taken = clamp(left, rest.len());
                    sink.data(&rest[..taken], form);
                    payload += taken;
                    let left = left - taken as u64;
                    self.state = if left == 0 {
                        State::DataCr(form)
                    } else {
                        State::Data { left, form }
                    };
                    taken
                }
                State::DataCr(form) => {
                    sink.line_end(rest[0], b'\r', form)?;
                    self.state = State::DataLf(form);
                    1
                }
                State::DataLf(form) => {
                    sink.line_end(rest[0], b'\n', form)?;
                    self.state = State::Size {
                        value: 0,
                        digits: 0,
                    };
                    1
                }
                State::Trailers => self.take_trailers(rest, sink, &mut verbatim)?,
                State::Length(_)
                | State::UntilClose
                | State::Size { .. }
                | State::Extension { .. }
                | State::SizeLf { .. }
                | State::Done => self.take_size_line(rest, new_chunk, &mut verbatim)?,
            };
        }
        let verbatim = verbatim && (self.is_done() || self.may_be_raw());
        Ok(Step {
            consumed: at,
            payload,
            done: self.is_done(),
            verbatim,
        })
    }

    /// Whether what comes next may go out raw. Not in the middle of a size line or of trailers:
    /// whether all of it may is not known yet, and its first half cannot be called back.
    fn may_be_raw(&self) -> bool {
        match self.state {
            State::Size { value: _, digits } => digits == 0,
            State::Data { left: _, form } | State::DataCr(form) | State::DataLf(form) => {
                form == Form::Raw
            }
            State::Length(_) | State::UntilClose => true,
            State::Extension { .. } | State::SizeLf { .. } | State::Trailers | State::Done => false,
        }
    }

    /// RFC 9112 section 7.1: digits, an extension, CRLF. Returns the bytes taken.
    fn take_size_line(
        &mut self,
        rest: &[u8],
        new_chunk: Form,
        verbatim: &mut bool,
    ) -> Result<usize, Reject> {
        match self.state {
            State::Size { value, digits } => {
                self.state = match rest[0] {
                    b'\r' if digits > 0 => State::SizeLf { value },
                    // White space before the semicolon is refused: a size that ends in a space is
                    // read differently by different parsers.
                    b';' if digits > 0 => {
                        *verbatim = false;
                        self.extension_bytes = 0;
                        return self.take_extension(rest, value);
                    }
                    digit => {
                        // Leading zeros are allowed, but not sent on.
                        *verbatim &= digits == 0 || value != 0;
                        add_digit(value, digits, digit)?
                    }
                };
                Ok(1)
            }
            State::Extension { value } => self.take_extension(rest, value),
            State::SizeLf { value } if rest[0] == b'\n' => {
                self.state = match value {
                    0 => State::Trailers,
                    left => State::Data {
                        left,
                        form: new_chunk,
                    },
                };
                Ok(1)
            }
            State::SizeLf { .. }
            | State::Length(_)
            | State::UntilClose
            | State::Data { .. }
            | State::DataCr(_)
            | State::DataLf(_)
            | State::Trailers
            | State::Done => Err(Reject::BadChunk),
        }
    }

    fn take_extension(&mut self, rest: &[u8], value: u64) -> Result<usize, Reject> {
        let end = rest
            .iter()
            .position(|byte| !syntax::is_field_value(&[*byte]));
        let length = end.unwrap_or(rest.len());
        self.extension_bytes = self.extension_bytes.saturating_add(length);
        self.extension_bytes_total = self.extension_bytes_total.saturating_add(length);
        if self.extension_bytes > EXTENSION_BYTES_MAX
            || self.extension_bytes_total > EXTENSION_BYTES_TOTAL_MAX
        {
            return Err(Reject::ChunkExtensionTooLong);
        }
        match rest.get(length) {
            None => {
                self.state = State::Extension { value };
                Ok(length)
            }
            Some(b'\r') => {
                self.state = State::SizeLf { value };
                Ok(length + 1)
            }
            Some(_) => Err(Reject::BadChunk),
        }
    }

    /// The lines after the last chunk. They are kept until the empty line: only then is it known
    /// what may pass.
    fn take_trailers(
        &mut self,
        rest: &[u8],
        sink: &mut Sink<'_>,
        verbatim: &mut bool,
    ) -> Result<usize, Reject> {
        if self.trailers.is_empty() && rest.starts_with(b"\r\n") {
            sink.put(LAST_CHUNK);
            self.state = State::Done;
            return Ok(2);
        }
        let (taken, complete) = trailer::gather(&mut self.trailers, rest)?;
        if complete {
            let all_pass = trailer::check(&self.trailers)?;
            *verbatim &= all_pass && !self.drops_trailers;
            if let Sink::Chunked(out) = sink {
                out.extend_from_slice(b"0\r\n");
                if !self.drops_trailers {
                    trailer::write_passing(out, &self.trailers);
                }
                out.extend_from_slice(b"\r\n");
            }
            self.trailers = Vec::new();
            self.state = State::Done;
        }
        Ok(taken)
    }
}

/// One more digit of a size. The value fits 63 bits, so that no receiver can take it for a negative
/// number.
fn add_digit(value: u64, digits: u8, byte: u8) -> Result<State, Reject> {
    let digit = char::from(byte).to_digit(16).ok_or(Reject::BadChunk)?;
    if digits == SIZE_DIGITS_MAX || value >= 1 << 59 {
        return Err(Reject::BadChunk);
    }
    Ok(State::Size {
        value: value << 4 | u64::from(digit),
        digits: digits + 1,
    })
}

fn clamp(left: u64, length: usize) -> usize {
    usize::try_from(left).map_or(length, |left| left.min(length))
}

impl Sink<'_> {
    fn data(&mut self, data: &[u8], form: Form) {
        match self {
            Sink::Check => {}
            Sink::Payload(out) => out.extend_from_slice(data),
            Sink::Chunked(_) if data.is_empty() => {}
            Sink::Chunked(out) => match form {
                Form::Raw => out.extend_from_slice(data),
                Form::Own => {
                    write_chunk_head(out, data.len());
                    out.extend_from_slice(data);
                    out.extend_from_slice(b"\r\n");
                }
            },
        }
    }

    /// A byte of the CRLF after a chunk's data.
    fn line_end(&mut self, byte: u8, expected: u8, form: Form) -> Result<(), Reject> {
        if byte != expected {
            return Err(Reject::BadChunk);
        }
        match form {
            Form::Raw => self.put(&[byte]),
            // Went out with the last piece of data.
            Form::Own => {}
        }
        Ok(())
    }

    /// Bytes of the chunked form that are no payload.
    fn put(&mut self, bytes: &[u8]) {
        match self {
            Sink::Check | Sink::Payload(_) => {}
            Sink::Chunked(out) => out.extend_from_slice(bytes),
        }
    }
}

/// Appends the size line of a chunk; `length` is not 0 (that would end the body).
pub fn write_chunk_head(out: &mut Vec<u8>, length: usize) {
    debug_assert!(length > 0, "an empty chunk is the last");
    let digits = (usize::BITS - length.leading_zeros()).div_ceil(4);
    for place in (0..digits).rev() {
        let digit = (length >> (place * 4)) & 0xf;
        out.push(b"0123456789abcdef"[digit]);
    }
    out.extend_from_slice(b"\r\n");
}
