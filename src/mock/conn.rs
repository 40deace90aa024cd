//! One connection of a mock backend: bytes in, heads and bodies out. Lenient where a proxy must be strict.

use std::io;
use std::time::Duration;

use monoio::buf::IoBuf;
use monoio::io::{AsyncReadRent, AsyncWriteRent, AsyncWriteRentExt};
use monoio::time::timeout;

const READ_BYTES: usize = 64 * 1024;
const HEAD_BYTES_MAX: usize = 256 * 1024;
const HEADER_COUNT_MAX: usize = 256;
/// A chunk's size line, or a trailer.
const LINE_BYTES_MAX: usize = 16 * 1024;
const TRAILER_COUNT_MAX: usize = 256;
/// How long a client may go on sending after an answer that ends the connection.
const LINGER: Duration = Duration::from_secs(2);

pub(super) struct Conn<S> {
    stream: S,
    /// Read and not yet used.
    received: Vec<u8>,
    /// How long the first byte of a request is waited for.
    idle_close: Option<Duration>,
}

/// A request, without its body.
#[derive(Debug)]
pub(super) struct Head {
    /// The request line and the fields, as they came.
    pub(super) text: String,
    pub(super) method: String,
    pub(super) target: String,
    pub(super) http10: bool,
    pub(super) keep_alive: bool,
    pub(super) expects_continue: bool,
    pub(super) upgrade: Option<String>,
    pub(super) if_none_match: Option<String>,
    pub(super) body: Body,
}

/// What of a request's body is still to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body {
    Length(u64),
    ChunkStart,
    Chunk(u64),
    End,
}

impl<S: AsyncReadRent + AsyncWriteRent> Conn<S> {
    pub(super) fn new(stream: S, idle_close: Option<Duration>) -> Conn<S> {
        Conn {
            stream,
            received: Vec::new(),
            idle_close,
        }
    }

    /// The next request; `None` when the client has closed between two. An error when it took too long to begin.
    pub(super) async fn head(&mut self) -> io::Result<Option<Head>> {
        loop {
            if let Some((head, head_bytes)) = parse(&self.received)? {
                self.received.drain(..head_bytes);
                return Ok(Some(head));
            }
            if self.received.len() >= HEAD_BYTES_MAX {
                return Err(invalid("head too long"));
            }
            let idle = self.idle_close.filter(|_| self.received.is_empty());
            let filled = match idle {
                Some(idle) => timeout(idle, self.fill())
                    .await
                    .map_err(|_| io::ErrorKind::TimedOut)?,
                None => self.fill().await,
            };
            if !filled? {
                return Ok(None);
            }
        }
    }

    /// The next piece of a body's payload; `None` at its end.
    pub(super) async fn piece(&mut self, body: &mut Body) -> io::Result<Option<Vec<u8>>> {
        loop {
            match *body {
                Body::Length(0) | Body::End => return Ok(None),
                Body::Length(left) => {
                    let piece = self.take(left).await?;
                    *body = Body::Length(left - piece.len() as u64);
                    return Ok(Some(piece));
                }
                Body::ChunkStart => *body = self.chunk_start().await?,
                Body::Chunk(left) => {
                    let piece = self.take(left).await?;
                    *body = Body::Chunk(left - piece.len() as u64);
                    if *body == Body::Chunk(0) {
                        if !self.line().await?.is_empty() {
                            return Err(invalid("no line end after a chunk"));
                        }
                        *body = Body::ChunkStart;
                    }
                    return Ok(Some(piece));
                }
            }
        }
    }

    /// Reads a body to its end and returns the number of its bytes.
    pub(super) async fn drain(&mut self, body: &mut Body) -> io::Result<u64> {
        let mut count = 0;
        while let Some(piece) = self.piece(body).await? {
            count += piece.len() as u64;
        }
        Ok(count)
    }

    /// Whatever comes next, framed or not; empty when the client has closed its side.
    pub(super) async fn raw(&mut self) -> io::Result<Vec<u8>> {
        if self.received.is_empty() {
            self.fill().await?;
        }
        Ok(std::mem::take(&mut self.received))
    }

    pub(super) async fn send(&mut self, bytes: impl IoBuf + 'static) -> io::Result<()> {
        self.stream.write_all(bytes).await.0.map(drop)
    }

    /// Closes our side, then waits for the client's: closing while unread bytes wait would reset the connection
    /// and could destroy the answer (RFC 9112 section 9.6).
    pub(super) async fn close(mut self) -> io::Result<()> {
        self.stream.shutdown().await?;
        let rest = async {
            while self.fill().await? {
                self.received.clear();
            }
            Ok(())
        };
        timeout(LINGER, rest).await.unwrap_or(Ok(()))
    }

    /// Reads once; false at the end of the stream.
    async fn fill(&mut self) -> io::Result<bool> {
        let (result, chunk) = self.stream.read(Vec::with_capacity(READ_BYTES)).await;
        if result? == 0 {
            return Ok(false);
        }
        if self.received.is_empty() {
            self.received = chunk;
        } else {
            self.received.extend_from_slice(&chunk);
        }
        Ok(true)
    }

    /// Some bytes, at least one and at most `max`.
    async fn take(&mut self, max: u64) -> io::Result<Vec<u8>> {
        if self.received.is_empty() && !self.fill().await? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if self.received.len() as u64 <= max {
            return Ok(std::mem::take(&mut self.received));
        }
        Ok(self.received.drain(..max as usize).collect())
    }

    async fn chunk_start(&mut self) -> io::Result<Body> {
        let line = self.line().await?;
        let size = line.split(|byte| *byte == b';').next().unwrap_or_default();
        let size = std::str::from_utf8(size).map_err(|_| invalid("chunk size"))?;
        let size = u64::from_str_radix(size.trim(), 16).map_err(|_| invalid("chunk size"))?;
        if size > 0 {
            return Ok(Body::Chunk(size));
        }
        for _ in 0..TRAILER_COUNT_MAX {
            if self.line().await?.is_empty() {
                return Ok(Body::End);
            }
        }
        Err(invalid("too many trailers"))
    }

    /// A line without its CRLF.
    async fn line(&mut self) -> io::Result<Vec<u8>> {
        loop {
            if let Some(length) = memchr::memmem::find(&self.received, b"\r\n") {
                let mut line: Vec<u8> = self.received.drain(..length + 2).collect();
                line.truncate(length);
                return Ok(line);
            }
            if self.received.len() > LINE_BYTES_MAX {
                return Err(invalid("line too long"));
            }
            if !self.fill().await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// A head and its length in bytes; `None` while it is not complete.
fn parse(bytes: &[u8]) -> io::Result<Option<(Head, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADER_COUNT_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let head_bytes = match request
        .parse(bytes)
        .map_err(|error| invalid(&error.to_string()))?
    {
        httparse::Status::Complete(head_bytes) => head_bytes,
        httparse::Status::Partial => return Ok(None),
    };
    let field = |name: &str| {
        let found = request
            .headers
            .iter()
            .find(|header| header.name.eq_ignore_ascii_case(name));
        found.map(|header| String::from_utf8_lossy(header.value).into_owned())
    };
    let names = |field: &Option<String>, wanted: &str| {
        let value = field.as_deref().unwrap_or_default();
        value
            .split(',')
            .any(|token| token.trim().eq_ignore_ascii_case(wanted))
    };
    let http10 = request.version != Some(1);
    let connection = field("connection");
    let keep_alive = if http10 {
        names(&connection, "keep-alive")
    } else {
        !names(&connection, "close")
    };
    let body = match (field("transfer-encoding"), field("content-length")) {
        (Some(_), _) => Body::ChunkStart,
        (None, Some(length)) => Body::Length(
            length
                .trim()
                .parse()
                .map_err(|_| invalid("content length"))?,
        ),
        (None, None) => Body::End,
    };
    let head = Head {
        text: String::from_utf8_lossy(&bytes[..head_bytes])
            .trim_end()
            .replace('\r', ""),
        method: request.method.unwrap_or_default().to_owned(),
        target: request.path.unwrap_or_default().to_owned(),
        http10,
        keep_alive,
        expects_continue: names(&field("expect"), "100-continue"),
        upgrade: field("upgrade"),
        if_none_match: field("if-none-match"),
        body,
    };
    Ok(Some((head, head_bytes)))
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
