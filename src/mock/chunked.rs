//! The end of a chunked body, for the backend that only wants to get past it.
//!
//! Decides: where the body ends. Knows nothing of its payload. Invariant: it takes no byte behind the end, however
//! the bytes are cut.

/// A chunked body on its way (RFC 9112 section 7.1). Extensions and trailers are passed over.
#[derive(Debug, Clone)]
pub(super) struct Chunks {
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The digits of a size.
    Size(u64),
    /// What else stands in the line of the size.
    SizeRest(u64),
    Data(u64),
    /// The CRLF behind a chunk's data.
    DataEnd,
    /// The beginning of a trailer, or the CRLF of the end.
    TrailerStart,
    Trailer,
    Done,
}

impl Chunks {
    pub(super) fn new() -> Chunks {
        Chunks {
            state: State::Size(0),
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Takes what belongs to the body from the front of `input`; `None`: not a chunked body.
    pub(super) fn take(&mut self, input: &[u8]) -> Option<usize> {
        let mut at = 0;
        while at < input.len() && self.state != State::Done {
            at += match self.state {
                State::Data(left) => {
                    let taken = left.min((input.len() - at) as u64);
                    self.state = match left - taken {
                        0 => State::DataEnd,
                        left => State::Data(left),
                    };
                    taken as usize
                }
                State::Size(_)
                | State::SizeRest(_)
                | State::DataEnd
                | State::TrailerStart
                | State::Trailer
                | State::Done => {
                    self.state = self.state.after(input[at])?;
                    1
                }
            };
        }
        Some(at)
    }
}

impl State {
    /// The state behind one byte of a line. A bare LF ends a line too, which no client of a benchmark sends.
    fn after(self, byte: u8) -> Option<State> {
        let line_end = |size| match size {
            0 => State::TrailerStart,
            size => State::Data(size),
        };
        Some(match (self, byte) {
            (State::Size(size) | State::SizeRest(size), b'\n') => line_end(size),
            (State::Size(size), b';' | b'\r' | b' ' | b'\t') => State::SizeRest(size),
            (State::Size(size), digit) => {
                let digit = (digit as char).to_digit(16)?;
                State::Size(size.checked_mul(16)? + u64::from(digit))
            }
            (State::DataEnd, b'\r') => State::DataEnd,
            (State::DataEnd, b'\n') => State::Size(0),
            (State::DataEnd, _) => return None,
            (State::TrailerStart, b'\r') => State::TrailerStart,
            (State::TrailerStart, b'\n') => State::Done,
            (State::Trailer, b'\n') => State::TrailerStart,
            (State::TrailerStart | State::Trailer, _) => State::Trailer,
            (state @ (State::SizeRest(_) | State::Data(_) | State::Done), _) => state,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `bytes` in two pieces; the bytes taken, or `None` if they are refused.
    fn take(bytes: &[u8], cut: usize) -> Option<(usize, bool)> {
        let mut chunks = Chunks::new();
        let first = chunks.take(&bytes[..cut])?;
        // What is not taken is behind the end.
        let second = if first == cut {
            chunks.take(&bytes[cut..])?
        } else {
            0
        };
        Some((first + second, chunks.is_done()))
    }

    #[test]
    fn ends_at_its_end_wherever_it_is_cut() {
        for body in [
            "0\r\n\r\n",
            "3\r\nabc\r\n0\r\n\r\n",
            "00a\r\n0\r\n\r\n12345\r\n0\r\n\r\n",
            "1F;name=\"v\"\r\n0123456789012345678901234567890\r\n0;x\r\nTrailer: 1\r\nB: \r\n\r\n",
        ] {
            let with_next = format!("{body}GET / HTTP/1.1\r\n\r\n");
            for cut in 0..=with_next.len() {
                let taken = take(with_next.as_bytes(), cut);
                assert_eq!(taken, Some((body.len(), true)), "{body:?} cut at {cut}");
            }
            for length in 0..body.len() {
                let taken = take(&body.as_bytes()[..length], 0);
                assert_eq!(taken, Some((length, false)), "{body:?} up to {length}");
            }
        }
    }

    #[test]
    fn refuses_what_is_no_chunk() {
        for body in ["x\r\n", "3\r\nabcd", "-1\r\n", "10000000000000000\r\n"] {
            assert_eq!(take(body.as_bytes(), 0), None, "{body:?}");
        }
    }
}
