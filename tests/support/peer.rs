//! One end of a connection, and a reader of messages of its own.
//!
//! Decides: where a message ends by RFC 9112 section 6.3, read strictly. Shares no code with the proxy.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use super::PATIENCE;

/// A connection with what has been read from it and not been used yet.
pub(crate) struct Peer {
    pub(crate) stream: TcpStream,
    pub(crate) pending: Vec<u8>,
}

/// A start line and the fields behind it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Head {
    pub(crate) start: String,
    pub(crate) fields: Vec<(String, String)>,
}

impl Head {
    /// All values of a field.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let same = self
            .fields
            .iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case(name));
        same.map(|(_, value)| value.as_str()).collect()
    }

    pub(crate) fn status(&self) -> Option<u16> {
        let rest = self.start.strip_prefix("HTTP/1.1 ")?;
        rest.get(..3)?.parse().ok()
    }
}

/// What follows a head.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Body {
    pub(crate) bytes: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
    /// It came to its end.
    pub(crate) complete: bool,
    /// The connection was reset within it.
    pub(crate) reset: bool,
}

/// How a read ended without bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closed {
    End,
    Reset,
}

impl Peer {
    pub(crate) fn new(stream: TcpStream) -> Peer {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Peer {
            stream,
            pending: Vec::new(),
        }
    }

    /// Sends; a receiver that has closed is noticed by what it answered, not here.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// One read. An error only when nothing comes for too long.
    pub(crate) fn fill(&mut self) -> Result<Option<Closed>, String> {
        let mut buf = [0; 16 * 1024];
        match self.stream.read(&mut buf) {
            Ok(0) => Ok(Some(Closed::End)),
            Ok(n) => {
                self.pending.extend_from_slice(&buf[..n]);
                Ok(None)
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(Some(Closed::Reset)),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Some(Closed::Reset)),
            Err(error) => Err(format!("{error}; so far {}", show(&self.pending))),
        }
    }

    fn line(&mut self) -> Result<Vec<u8>, String> {
        loop {
            if let Some(at) = self.pending.windows(2).position(|two| two == b"\r\n") {
                let rest = self.pending.split_off(at + 2);
                let mut line = std::mem::replace(&mut self.pending, rest);
                line.truncate(at);
                return Ok(line);
            }
            if let Some(closed) = self.fill()? {
                return Err(format!("{closed:?} after {}", show(&self.pending)));
            }
        }
    }

    fn fields(&mut self) -> Result<Vec<(String, String)>, String> {
        let mut fields = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(fields);
            }
            let text: String = line.iter().copied().map(char::from).collect();
            let (name, value) = text.split_once(':').ok_or(format!("no field: {text:?}"))?;
            if name.is_empty() || name.contains([' ', '\t', '\n', '\r']) {
                return Err(format!("a bad field name: {text:?}"));
            }
            fields.push((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()));
        }
    }

    pub(crate) fn head(&mut self) -> Result<Head, String> {
        let start = self.line()?;
        Ok(Head {
            start: start.iter().copied().map(char::from).collect(),
            fields: self.fields()?,
        })
    }

    /// The body behind `head`; `None` for what has none whatever its fields say (answers to HEAD, 1xx, 204, 304).
    pub(crate) fn body(&mut self, head: &Head, is_request: bool) -> Result<Body, String> {
        let lengths = head.all("content-length");
        let codings = head.all("transfer-encoding");
        let mut body = Body::default();
        match (lengths.as_slice(), codings.as_slice()) {
            ([], []) if is_request => body.complete = true,
            ([], []) => {
                let closed = loop {
                    if let Some(closed) = self.fill()? {
                        break closed;
                    }
                };
                body.bytes = std::mem::take(&mut self.pending);
                body.reset = closed == Closed::Reset;
                body.complete = closed == Closed::End;
            }
            ([length], []) => {
                let length: usize = length.parse().map_err(|_| format!("length {length:?}"))?;
                body.complete = self.take(length, &mut body)?;
            }
            ([], ["chunked"]) => self.chunks(&mut body)?,
            both => return Err(format!("two lengths: {both:?}")),
        }
        Ok(body)
    }

    /// Moves `count` bytes to the body; `false` if the connection ends before.
    fn take(&mut self, count: usize, body: &mut Body) -> Result<bool, String> {
        while self.pending.len() < count {
            if let Some(closed) = self.fill()? {
                body.reset = closed == Closed::Reset;
                body.bytes.append(&mut self.pending);
                return Ok(false);
            }
        }
        let rest = self.pending.split_off(count);
        body.bytes
            .append(&mut std::mem::replace(&mut self.pending, rest));
        Ok(true)
    }

    fn chunks(&mut self, body: &mut Body) -> Result<(), String> {
        loop {
            let size = match self.line() {
                Ok(size) => size,
                Err(error) if error.starts_with("End") || error.starts_with("Reset") => {
                    body.reset = error.starts_with("Reset");
                    return Ok(());
                }
                Err(error) => return Err(error),
            };
            let text = String::from_utf8_lossy(&size).into_owned();
            let size = usize::from_str_radix(&text, 16).map_err(|_| format!("chunk {text:?}"))?;
            if size == 0 {
                body.trailers = self.fields()?;
                body.complete = true;
                return Ok(());
            }
            if !self.take(size, body)? {
                return Ok(());
            }
            match self.line() {
                Ok(line) if line.is_empty() => {}
                Ok(line) => return Err(format!("{} behind a chunk", show(&line))),
                Err(_) => return Ok(()),
            }
        }
    }

    /// Exactly these bytes come next.
    pub(crate) fn raw(&mut self, expected: &[u8]) -> Result<(), String> {
        while self.pending.len() < expected.len() {
            if let Some(closed) = self.fill()? {
                return Err(format!("{closed:?} after {}", show(&self.pending)));
            }
        }
        let rest = self.pending.split_off(expected.len());
        let got = std::mem::replace(&mut self.pending, rest);
        if got == expected {
            Ok(())
        } else {
            Err(format!("{} instead of {}", show(&got), show(expected)))
        }
    }

    /// The other side closes, and sends nothing before.
    pub(crate) fn closed(&mut self) -> Result<Closed, String> {
        if !self.pending.is_empty() {
            return Err(format!("unexpected {}", show(&self.pending)));
        }
        match self.fill()? {
            Some(closed) => Ok(closed),
            None => Err(format!("unexpected {}", show(&self.pending))),
        }
    }

    /// What has come without waiting; `None` if the connection has ended.
    pub(crate) fn at_hand(&mut self) -> Option<&[u8]> {
        self.stream.set_nonblocking(true).unwrap();
        let mut buf = [0; 4096];
        let read = self.stream.read(&mut buf);
        self.stream.set_nonblocking(false).unwrap();
        match read {
            Ok(n) if n > 0 => self.pending.extend_from_slice(&buf[..n]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Ok(_) | Err(_) if self.pending.is_empty() => return None,
            Ok(_) | Err(_) => {}
        }
        Some(&self.pending)
    }

    /// Closes so that the other side sees a reset.
    pub(crate) fn reset(self) {
        let socket = socket2::SockRef::from(&self.stream);
        socket.set_linger(Some(std::time::Duration::ZERO)).unwrap();
    }
}

/// Bytes as text, not too many of them.
pub(crate) fn show(bytes: &[u8]) -> String {
    let most = bytes.len().min(600);
    format!(
        "\"{}\" ({} bytes)",
        bytes[..most].escape_ascii(),
        bytes.len()
    )
}
