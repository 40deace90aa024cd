//! Reads answers, and throws their bodies away as they come.
//!
//! Decides: where an answer ends (RFC 9112 section 6.3) and whether it is one. May not know: sockets, and the
//! proxy's own parser, whose mistakes must not be mirrored here. Invariant: of an answer nothing is kept but
//! numbers; a head that is longer than the caller's buffer is the caller's to refuse.
//!
//! States: Head → (Length | Size → Data → DataEnd → Size … → Trailer | UntilClose) → Done.

use super::tally::Trouble;

/// More fields than this is no answer that we can read.
const FIELDS_MAX: usize = 64;
const INTERIM_MAX: u32 = 16;
const LINE_BYTES_MAX: usize = 4096;
const TRAILERS_MAX: u32 = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Head,
    Length { left: u64 },
    Size,
    Data { left: u64 },
    DataEnd,
    Trailer { lines: u32 },
    UntilClose,
    Done,
}

/// One answer.
#[derive(Debug)]
pub(super) struct Answer {
    state: State,
    to_head: bool,
    interim: u32,
    pub(super) status: u16,
    pub(super) body_bytes: u64,
    /// The connection cannot be used again.
    pub(super) closes: bool,
}

impl Answer {
    /// `to_head`: the request is a HEAD.
    pub(super) fn new(to_head: bool) -> Answer {
        Answer {
            state: State::Head,
            to_head,
            interim: 0,
            status: 0,
            body_bytes: 0,
            closes: false,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Takes what it can of `bytes` and says how much that was.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<usize, Trouble> {
        let mut used = 0;
        while self.state != State::Done {
            match self.step(&bytes[used..])? {
                0 => break,
                n => used += n,
            }
        }
        Ok(used)
    }

    /// The peer has closed. `Ok` when that is how this answer ends.
    pub(super) fn end(&mut self, pending: &[u8]) -> Result<(), Trouble> {
        match self.state {
            State::UntilClose | State::Done => {
                self.state = State::Done;
                Ok(())
            }
            State::Head if pending.is_empty() && self.interim == 0 => Err(Trouble::Closed),
            State::Head => Err(Trouble::Protocol),
            State::Length { .. }
            | State::Size
            | State::Data { .. }
            | State::DataEnd
            | State::Trailer { .. } => Err(Trouble::ShortBody),
        }
    }

    /// How many bytes were used; 0 asks for more. Each step that does not ask for more goes forward.
    fn step(&mut self, bytes: &[u8]) -> Result<usize, Trouble> {
        match self.state {
            State::Head => self.head(bytes),
            State::Length { left } => {
                let n = self.body(bytes, left);
                let left = left - n as u64;
                self.state = if left == 0 {
                    State::Done
                } else {
                    State::Length { left }
                };
                Ok(n)
            }
            State::Data { left } => {
                let n = self.body(bytes, left);
                let left = left - n as u64;
                self.state = if left == 0 {
                    State::DataEnd
                } else {
                    State::Data { left }
                };
                Ok(n)
            }
            State::UntilClose => Ok(self.body(bytes, u64::MAX)),
            State::Size => match httparse::parse_chunk_size(bytes) {
                Ok(httparse::Status::Complete((n, 0))) => {
                    self.state = State::Trailer { lines: 0 };
                    Ok(n)
                }
                Ok(httparse::Status::Complete((n, left))) => {
                    self.state = State::Data { left };
                    Ok(n)
                }
                Ok(httparse::Status::Partial) if bytes.len() < LINE_BYTES_MAX => Ok(0),
                Ok(httparse::Status::Partial) | Err(_) => Err(Trouble::Protocol),
            },
            State::DataEnd => match bytes {
                [] | [b'\r'] => Ok(0),
                [b'\r', b'\n', ..] => {
                    self.state = State::Size;
                    Ok(2)
                }
                [_, ..] => Err(Trouble::Protocol),
            },
            State::Trailer { lines } => self.trailer(bytes, lines),
            State::Done => Ok(0),
        }
    }

    fn body(&mut self, bytes: &[u8], left: u64) -> usize {
        let n = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
        self.body_bytes += n as u64;
        n
    }

    fn trailer(&mut self, bytes: &[u8], lines: u32) -> Result<usize, Trouble> {
        match memchr::memchr(b'\n', bytes) {
            Some(at) if at > 0 && bytes[at - 1] == b'\r' && lines < TRAILERS_MAX => {
                self.state = if at == 1 {
                    State::Done
                } else {
                    State::Trailer { lines: lines + 1 }
                };
                Ok(at + 1)
            }
            None if bytes.len() < LINE_BYTES_MAX => Ok(0),
            Some(_) | None => Err(Trouble::Protocol),
        }
    }

    fn head(&mut self, bytes: &[u8]) -> Result<usize, Trouble> {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut response = httparse::Response::new(&mut fields);
        let used = match response.parse(bytes) {
            Ok(httparse::Status::Complete(used)) => used,
            Ok(httparse::Status::Partial) => return Ok(0),
            Err(_) => return Err(Trouble::Protocol),
        };
        let status = response.code.unwrap_or_default();
        if (100..200).contains(&status) && status != 101 {
            self.interim += 1;
            return if self.interim > INTERIM_MAX {
                Err(Trouble::Protocol)
            } else {
                Ok(used)
            };
        }
        self.status = status;
        let framing = Framing::of(response.headers)?;
        self.closes = match response.version {
            Some(1) => framing.says_close,
            Some(_) | None => !framing.says_keep_alive,
        };
        self.state = if self.to_head || matches!(status, 101 | 204 | 304) {
            self.closes |= status == 101;
            State::Done
        } else if framing.is_chunked {
            State::Size
        } else if let Some(left) = framing.length {
            if left == 0 {
                State::Done
            } else {
                State::Length { left }
            }
        } else {
            self.closes = true;
            State::UntilClose
        };
        Ok(used)
    }
}

#[derive(Debug, Default)]
struct Framing {
    length: Option<u64>,
    is_chunked: bool,
    says_close: bool,
    says_keep_alive: bool,
}

impl Framing {
    fn of(fields: &[httparse::Header<'_>]) -> Result<Framing, Trouble> {
        let mut framing = Framing::default();
        for field in fields {
            let value = field.value.trim_ascii();
            if field.name.eq_ignore_ascii_case("content-length") {
                let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
                let text = std::str::from_utf8(value).map_err(|_| Trouble::Protocol)?;
                let length = text.parse().map_err(|_| Trouble::Protocol)?;
                if !digits || framing.length.is_some_and(|known| known != length) {
                    return Err(Trouble::Protocol);
                }
                framing.length = Some(length);
            } else if field.name.eq_ignore_ascii_case("transfer-encoding") {
                if !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Trouble::Protocol);
                }
                framing.is_chunked = true;
            } else if field.name.eq_ignore_ascii_case("connection") {
                for option in value.split(|byte| *byte == b',') {
                    let option = option.trim_ascii();
                    framing.says_close |= option.eq_ignore_ascii_case(b"close");
                    framing.says_keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            }
        }
        // Both at once is what smuggling looks like (RFC 9112 section 6.1).
        if framing.is_chunked && framing.length.is_some() {
            return Err(Trouble::Protocol);
        }
        Ok(framing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Status, body bytes, closes, bytes left over.
    type Read = (u16, u64, bool, usize);

    /// Reads a whole connection's bytes that come in pieces of `step`.
    fn check(text: &str, to_head: bool, step: usize) -> Result<Read, Trouble> {
        let mut answer = Answer::new(to_head);
        let mut pending: Vec<u8> = Vec::new();
        for piece in text.as_bytes().chunks(step) {
            pending.extend_from_slice(piece);
            let used = answer.take(&pending)?;
            pending.drain(..used);
        }
        if !answer.is_done() {
            answer.end(&pending)?;
        }
        Ok((
            answer.status,
            answer.body_bytes,
            answer.closes,
            pending.len(),
        ))
    }

    #[test]
    fn answers_cut_anywhere() {
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let cases: [(String, bool, Result<Read, Trouble>); 22] = [
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc".into(), false, Ok((200, 3, false, 0))),
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcd".into(), false, Ok((200, 3, false, 1))),
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: x, Close\r\n\r\nabc".into(), false, Ok((200, 3, true, 0))),
            ("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n".into(), false, Ok((200, 0, true, 0))),
            ("HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n".into(), false, Ok((200, 0, false, 0))),
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n".into(), true, Ok((200, 0, false, 0))),
            ("HTTP/1.1 304 -\r\nContent-Length: 3\r\n\r\n".into(), false, Ok((304, 0, false, 0))),
            ("HTTP/1.1 204 -\r\n\r\n".into(), false, Ok((204, 0, false, 0))),
            ("HTTP/1.1 100 -\r\n\r\nHTTP/1.1 103 -\r\nA: b\r\n\r\nHTTP/1.1 429 -\r\nContent-Length: 0\r\n\r\n".into(), false, Ok((429, 0, false, 0))),
            ("HTTP/1.1 200 OK\r\n\r\nabcde".into(), false, Ok((200, 5, true, 0))),
            (format!("{chunked}3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n"), false, Ok((200, 13, false, 0))),
            (format!("{chunked}0\r\nA: b\r\n\r\n"), false, Ok((200, 0, false, 0))),
            ("".into(), false, Err(Trouble::Closed)),
            ("HTTP/1.1 200".into(), false, Err(Trouble::Protocol)),
            ("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc".into(), false, Err(Trouble::ShortBody)),
            (format!("{chunked}3\r\nabc\r\n"), false, Err(Trouble::ShortBody)),
            (format!("{chunked}3\r\nabcd\r\n"), false, Err(Trouble::Protocol)),
            (format!("{chunked}x\r\n"), false, Err(Trouble::Protocol)),
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc".into(), false, Err(Trouble::Protocol)),
            ("HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\nabc".into(), false, Err(Trouble::Protocol)),
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n".into(), false, Err(Trouble::Protocol)),
            ("SSH-2.0\r\n\r\n".into(), false, Err(Trouble::Protocol)),
        ];
        for (text, to_head, expected) in cases {
            for step in 1..=text.len().max(1) {
                let found = check(&text, to_head, step);
                // What follows a refused answer is not looked at, so its length does not matter.
                assert_eq!(found, expected, "{text:?} in pieces of {step}");
            }
        }
    }

    #[test]
    fn interim_answers_and_trailers_are_bounded() {
        let interim = "HTTP/1.1 100 -\r\n\r\n".repeat(17);
        assert_eq!(check(&interim, false, 1000), Err(Trouble::Protocol));
        let head = "HTTP/1.1 200 -\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n";
        let trailers = format!("{head}{}", "a: b\r\n".repeat(65));
        assert_eq!(check(&trailers, false, 1000), Err(Trouble::Protocol));
    }
}
