//! The backend for measuring: it must cost less than anything in front of it.
//!
//! A request ends at its first empty line (plus Content-Length); its answer is a slice that was made at the start.
//! No allocation and no time per request but the search and one write.

use std::cell::Cell;
use std::io;

use memchr::memmem::{Finder, find};
use monoio::buf::IoBufMut;
use monoio::io::{AsyncReadRent, AsyncWriteRent, AsyncWriteRentExt};

/// Large, so that a 10 MiB upload takes few reads; untouched pages cost nothing.
const BUFFER_BYTES: usize = 256 * 1024;

/// The answers, made once. They live as long as the process, as does the backend.
pub(super) struct Answers {
    small: Answer,
    page: Answer,
    large: Answer,
    large_chunked: Answer,
    huge: Answer,
    unknown: Answer,
    /// Requests answered, without those for the count itself.
    count: Cell<u64>,
    head_end: Finder<'static>,
}

#[derive(Clone, Copy)]
struct Answer {
    bytes: &'static [u8],
    head_bytes: usize,
}

impl Answers {
    pub(super) fn new(name: &str) -> Answers {
        let plain = |length| {
            Answer::new(
                name,
                200,
                &format!("Content-Length: {length}"),
                &vec![b'x'; length],
            )
        };
        let mut chunked = Vec::new();
        for _ in 0..4 {
            chunked.extend_from_slice(b"4000\r\n");
            chunked.resize(chunked.len() + 0x4000, b'x');
            chunked.extend_from_slice(b"\r\n");
        }
        chunked.extend_from_slice(b"0\r\n\r\n");
        Answers {
            small: plain(100),
            page: plain(4 * 1024),
            large: plain(64 * 1024),
            large_chunked: Answer::new(name, 200, "Transfer-Encoding: chunked", &chunked),
            huge: plain(10 * 1024 * 1024),
            unknown: Answer::new(name, 404, "Content-Length: 0", b""),
            count: Cell::new(0),
            head_end: Finder::new(b"\r\n\r\n"),
        }
    }

    fn of(&self, path: &[u8]) -> Answer {
        match path {
            b"/" => self.small,
            b"/4k" => self.page,
            b"/64k" => self.large,
            b"/64k-chunked" => self.large_chunked,
            b"/10m" => self.huge,
            _ => self.unknown,
        }
    }
}

impl Answer {
    fn new(name: &str, status: u16, framing: &str, body: &[u8]) -> Answer {
        let head = format!("HTTP/1.1 {status} -\r\nX-Backend: {name}\r\n{framing}\r\n\r\n");
        let bytes: &'static [u8] = Vec::leak([head.as_bytes(), body].concat());
        Answer {
            bytes,
            head_bytes: head.len(),
        }
    }
}

/// Serves one connection to its end, or to the first request that it does not understand.
pub(super) async fn serve(
    mut stream: impl AsyncReadRent + AsyncWriteRent,
    answers: &Answers,
) -> io::Result<()> {
    let mut buffer: Vec<u8> = Vec::with_capacity(BUFFER_BYTES);
    // Bytes of the buffer that are answered already.
    let mut used = 0;
    loop {
        while let Some(length) = answers.head_end.find(&buffer[used..]) {
            let Some(request) = Request::of(&buffer[used..used + length + 2]) else {
                return Ok(());
            };
            used += length + 4;
            let in_buffer = request.body_bytes.min((buffer.len() - used) as u64);
            used += in_buffer as usize;
            let mut left = request.body_bytes - in_buffer;
            let answer = request.answer(answers);
            while left > 0 {
                // The body reaches beyond the buffer, so nothing in there is still needed.
                let max = left.min(BUFFER_BYTES as u64) as usize;
                let (result, slice) = stream.read(buffer.slice_mut(..max)).await;
                buffer = slice.into_inner();
                let count = result?;
                if count == 0 {
                    return Ok(());
                }
                left -= count as u64;
                buffer.clear();
                used = 0;
            }
            match answer {
                Some(bytes) => {
                    answers.count.set(answers.count.get() + 1);
                    stream.write_all(bytes).await.0?;
                }
                None => {
                    let digits = answers.count.get().to_string();
                    let text = format!(
                        "HTTP/1.1 200 -\r\nContent-Length: {}\r\n\r\n{digits}",
                        digits.len()
                    );
                    stream.write_all(text.into_bytes()).await.0?;
                }
            }
        }
        buffer.drain(..used);
        used = 0;
        let filled = buffer.len();
        if filled == BUFFER_BYTES {
            return Ok(());
        }
        let (result, slice) = stream.read(buffer.slice_mut(filled..BUFFER_BYTES)).await;
        buffer = slice.into_inner();
        if result? == 0 {
            return Ok(());
        }
    }
}

struct Request<'b> {
    path: &'b [u8],
    head_only: bool,
    body_bytes: u64,
}

impl<'b> Request<'b> {
    /// `head` ends in the CRLF of its last field. `None`: not understood, chunked bodies among others.
    fn of(head: &'b [u8]) -> Option<Request<'b>> {
        let method_end = memchr::memchr(b' ', head)?;
        let target = &head[method_end + 1..];
        let path = &target[..memchr::memchr2(b' ', b'?', target)?];
        // Those without a body by habit are spared the search for its length.
        let body_bytes = match &head[..method_end] {
            b"GET" | b"HEAD" => 0,
            _ => content_length(head)?,
        };
        Some(Request {
            path,
            head_only: &head[..method_end] == b"HEAD",
            body_bytes,
        })
    }

    /// `None` asks for the count.
    fn answer(&self, answers: &Answers) -> Option<&'static [u8]> {
        if self.path == b"/__count" {
            return None;
        }
        let answer = answers.of(self.path);
        Some(if self.head_only {
            &answer.bytes[..answer.head_bytes]
        } else {
            answer.bytes
        })
    }
}

fn content_length(head: &[u8]) -> Option<u64> {
    let mut rest = head;
    while let Some(line_end) = find(rest, b"\r\n") {
        let line = &rest[..line_end];
        rest = &rest[line_end + 2..];
        let Some(colon) = memchr::memchr(b':', line) else {
            continue;
        };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            return std::str::from_utf8(value).ok()?.parse().ok();
        }
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            return None;
        }
    }
    Some(0)
}
