//! The backend for measuring: it must cost less than anything in front of it.
//!
//! A request ends at its first empty line, or with the body behind it; its answer is a slice that was made at the
//! start, chosen by the last segment of the path. No allocation and no time per request but the search and one write.

use std::cell::Cell;
use std::io;

use memchr::memmem::{Finder, find};
use monoio::buf::IoBufMut;
use monoio::io::{AsyncReadRent, AsyncWriteRent, AsyncWriteRentExt};

use super::chunked::Chunks;

/// Large, so that a 10 MiB upload takes few reads; untouched pages cost nothing.
const BUFFER_BYTES: usize = 256 * 1024;

/// Answers below this may be cached by whatever stands in front.
const CACHED: &[u8] = b"/cache/";

/// The answers, made once. They live as long as the process, as does the backend.
pub(super) struct Answers {
    small: Answer,
    page: Answer,
    large: Answer,
    large_chunked: Answer,
    /// HTML, for those who compress it.
    large_text: Answer,
    huge: Answer,
    cached_small: Answer,
    cached_page: Answer,
    cached_large: Answer,
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
        let of_length = |fields, length| {
            Answer::new(
                name,
                200,
                &format!("{fields}Content-Length: {length}"),
                &vec![b'x'; length],
            )
        };
        let plain = |length| of_length("", length);
        let cached = |length| of_length("Cache-Control: max-age=3600\r\n", length);
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
            large_text: Answer::new(
                name,
                200,
                "Content-Type: text/html; charset=utf-8\r\nContent-Length: 65536",
                &page(64 * 1024),
            ),
            huge: plain(10 * 1024 * 1024),
            cached_small: cached(100),
            cached_page: cached(4 * 1024),
            cached_large: cached(64 * 1024),
            unknown: Answer::new(name, 404, "Content-Length: 0", b""),
            count: Cell::new(0),
            head_end: Finder::new(b"\r\n\r\n"),
        }
    }

    /// By the last segment, so that any route may lead here; `None` asks for the count.
    fn of(&self, path: &[u8]) -> Option<Answer> {
        let last_segment = memchr::memrchr(b'/', path).map_or(0, |slash| slash + 1);
        let last = &path[last_segment..];
        if path.starts_with(CACHED) {
            return Some(match last {
                b"4k" => self.cached_page,
                b"64k" => self.cached_large,
                _ => self.cached_small,
            });
        }
        Some(match last {
            b"" => self.small,
            b"4k" => self.page,
            b"64k" => self.large,
            b"64k-chunked" => self.large_chunked,
            b"64k-text" => self.large_text,
            b"10m" => self.huge,
            b"__count" => return None,
            _ => self.unknown,
        })
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

/// A list of articles: no two lines alike, and as far as gzip is concerned like a page of a site.
fn page(length: usize) -> Vec<u8> {
    const WORDS: [&str; 32] = [
        "river", "council", "the", "of", "bridge", "opens", "after", "winter", "market", "a",
        "new", "train", "station", "in", "autumn", "people", "say", "weather", "and", "museum",
        "for", "garden", "morning", "report", "school", "to", "harbour", "evening", "light", "on",
        "road", "music",
    ];
    let mut state: u32 = 1;
    // Numerical Recipes' generator; its low bits are poor.
    let mut below = |bound: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) as usize % bound
    };
    let mut page = b"<!doctype html>\n<title>News</title>\n<ul>\n".to_vec();
    while page.len() < length {
        let words: Vec<&str> = (0..14).map(|_| WORDS[below(WORDS.len())]).collect();
        let (number, day) = (below(65_536), 1 + below(28));
        let (slug, text) = (words[..4].join("-"), words.join(" "));
        let line = format!(
            "<li class=\"article\"><a href=\"/articles/{number}/{slug}\">{text}</a> <time>2026-11-{day:02}</time></li>\n"
        );
        page.extend_from_slice(line.as_bytes());
    }
    page.truncate(length);
    page
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
            let Some(request) = Request::of(&buffer[used..used + length + 2], answers) else {
                return Ok(());
            };
            used += length + 4;
            let Request { answer, mut body } = request;
            loop {
                let Some(taken) = body.take(&buffer[used..]) else {
                    return Ok(());
                };
                used += taken;
                if body.is_done() {
                    break;
                }
                // The body reaches beyond the buffer, so nothing in there is still needed.
                buffer.clear();
                used = 0;
                let (result, slice) = stream.read(buffer.slice_mut(..BUFFER_BYTES)).await;
                buffer = slice.into_inner();
                if result? == 0 {
                    return Ok(());
                }
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

struct Request {
    /// `None` asks for the count.
    answer: Option<&'static [u8]>,
    body: Body,
}

impl Request {
    /// `head` ends in the CRLF of its last field. `None`: not understood.
    fn of(head: &[u8], answers: &Answers) -> Option<Request> {
        let method_end = memchr::memchr(b' ', head)?;
        let method = &head[..method_end];
        let target = &head[method_end + 1..];
        let path = &target[..memchr::memchr2(b' ', b'?', target)?];
        // Those without a body by habit are spared the search for its length.
        let body = match method {
            b"GET" | b"HEAD" => Body::Length(0),
            _ => Body::of(head)?,
        };
        let answer = answers.of(path).map(|answer| match method {
            b"HEAD" => &answer.bytes[..answer.head_bytes],
            _ => answer.bytes,
        });
        Some(Request { answer, body })
    }
}

/// What of a request's body is still to come.
enum Body {
    Length(u64),
    Chunked(Chunks),
}

impl Body {
    fn of(head: &[u8]) -> Option<Body> {
        let mut length = 0;
        let mut rest = head;
        while let Some(line_end) = find(rest, b"\r\n") {
            let line = &rest[..line_end];
            rest = &rest[line_end + 2..];
            let Some(colon) = memchr::memchr(b':', line) else {
                continue;
            };
            let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
            if name.eq_ignore_ascii_case(b"content-length") {
                length = std::str::from_utf8(value).ok()?.parse().ok()?;
            }
            if name.eq_ignore_ascii_case(b"transfer-encoding") {
                return Some(Body::Chunked(Chunks::new()));
            }
        }
        Some(Body::Length(length))
    }

    /// Takes what belongs to the body from the front of `input`; `None`: not understood.
    fn take(&mut self, input: &[u8]) -> Option<usize> {
        match self {
            Body::Length(left) => {
                let taken = (*left).min(input.len() as u64);
                *left -= taken;
                Some(taken as usize)
            }
            Body::Chunked(chunks) => chunks.take(input),
        }
    }

    fn is_done(&self) -> bool {
        match self {
            Body::Length(left) => *left == 0,
            Body::Chunked(chunks) => chunks.is_done(),
        }
    }
}
