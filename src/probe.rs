//! One active check of a backend.
//!
//! Decides: whether what came back is healthy. May not know: how often, what follows (`policy::health`). Invariant: ends
//! within its timeout, with a connection of its own that is closed afterwards, and reads a bounded answer.

use crate::buf::Buf;
use crate::config::plan::{Backend, Check, CheckKind};
use crate::connect;
use crate::h1::body::{Decoder, Sink};
use crate::h1::head::{Slots, parse_response};
use crate::h1::{Limits, Method};
use crate::io::{Io, Stream};
use crate::wait::{Race, race};

/// Most of an answer that is read: heads are bounded as those for clients are, and a body to be searched by this.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

const READ_BYTES: usize = 8 * 1024;

/// What a check came to, with what it met, in words for the log.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Passed(Box<str>),
    Failed(Box<str>),
    /// We could not ask, which says nothing of the backend.
    None(Box<str>),
}

/// Checks the backend once.
pub async fn probe<I: Io>(io: &I, check: &Check, backend: &Backend) -> Verdict {
    let answer = async {
        let stream = match connect::dial(io, &backend.address, None).await {
            Ok(stream) => stream,
            Err(error) if connect::is_ours(&error) => {
                return Verdict::None(error.to_string().into());
            }
            Err(error) => return Verdict::Failed(format!("connect: {error}").into()),
        };
        match ask(&stream, check, backend).await {
            Ok(met) => Verdict::Passed(met),
            Err(met) => Verdict::Failed(met),
        }
    };
    match race(answer, io.sleep(check.timeout_ns)).await {
        Race::First(verdict) => verdict,
        Race::Second(()) => Verdict::Failed("no answer in time".into()),
    }
}

async fn ask<S: Stream>(
    stream: &S,
    check: &Check,
    backend: &Backend,
) -> Result<Box<str>, Box<str>> {
    match &check.kind {
        CheckKind::Tcp => Ok("connected".into()),
        CheckKind::Http { method, .. } => {
            write(stream, request(&check.kind, backend)).await?;
            let method = if &**method == "HEAD" {
                Method::Head
            } else {
                Method::Get
            };
            let answer = read(stream, method, &check.kind).await?;
            judge(&check.kind, answer)
        }
    }
}

fn request(kind: &CheckKind, backend: &Backend) -> Buf {
    let CheckKind::Http {
        method,
        path,
        host,
        fields,
        ..
    } = kind
    else {
        return Buf::default();
    };
    let host = host.as_deref().unwrap_or(&backend.authority);
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n");
    for field in fields {
        text.push_str(field);
        text.push_str("\r\n");
    }
    text.push_str("User-Agent: corelane-health-check\r\nConnection: close\r\n\r\n");
    let mut buf = Buf::with_capacity(text.len());
    buf.append().extend_from_slice(text.as_bytes());
    buf
}

async fn write<S: Stream>(stream: &S, mut buf: Buf) -> Result<(), Box<str>> {
    while !buf.is_empty() {
        let most = buf.len();
        let (written, back) = stream.write(buf, most).await;
        written.map_err(|error| format!("send: {error}"))?;
        buf = back;
    }
    Ok(())
}

/// A final response: its status, and of its body as much as is looked at.
struct Answer {
    status: u16,
    body: Vec<u8>,
}

async fn read<S: Stream>(stream: &S, method: Method, kind: &CheckKind) -> Result<Answer, Box<str>> {
    let CheckKind::Http { body: wanted, .. } = kind else {
        return Err("a TCP check reads nothing".into());
    };
    let mut buf = Buf::with_capacity(READ_BYTES);
    let mut answer: Option<(Answer, Decoder)> = None;
    let mut taken = 0;
    loop {
        if answer.is_none() {
            answer = head(&mut buf, method)?;
        }
        if let Some((answer, decoder)) = &mut answer {
            let step = decoder.step(buf.pending(), Sink::Payload(&mut answer.body));
            let step = step.map_err(|reject| format!("bad body: {}", reject.label()))?;
            buf.consume(step.consumed);
            if decoder.is_done() || wanted.is_empty() || has(&answer.body, wanted) {
                break;
            }
        }
        if taken >= ANSWER_BYTES_MAX {
            break;
        }
        buf.reserve(READ_BYTES);
        let (received, back) = stream.read(buf).await;
        buf = back;
        match received {
            Ok(0) if answer.is_some() => break,
            Ok(0) => return Err("closed without a response".into()),
            Ok(bytes) => taken += bytes,
            Err(error) => return Err(format!("receive: {error}").into()),
        }
    }
    let (answer, _) = answer.ok_or("the head is too long")?;
    Ok(answer)
}

/// The final head, if it is there; interim ones are passed over.
fn head(buf: &mut Buf, method: Method) -> Result<Option<(Answer, Decoder)>, Box<str>> {
    loop {
        if buf.is_empty() {
            return Ok(None);
        }
        let mut slots = Slots::new();
        let parsed = parse_response(buf.pending(), &Limits::DEFAULT, method, &mut slots);
        let parsed = parsed.map_err(|reject| format!("bad response: {}", reject.label()))?;
        let Some(response) = parsed else {
            return Ok(None);
        };
        let (status, framing, head_len) = (response.status, response.framing, response.head_len);
        buf.consume(head_len);
        if status >= 200 {
            let answer = Answer {
                status,
                body: Vec::new(),
            };
            return Ok(Some((answer, Decoder::new(framing))));
        }
    }
}

fn judge(kind: &CheckKind, answer: Answer) -> Result<Box<str>, Box<str>> {
    let CheckKind::Http { statuses, body, .. } = kind else {
        return Ok("connected".into());
    };
    if !statuses.has(answer.status) {
        return Err(format!("status {}", answer.status).into());
    }
    if !body.is_empty() && !has(&answer.body, body) {
        return Err(format!("status {}, but the body has no \"{body}\"", answer.status).into());
    }
    Ok(format!("status {}", answer.status).into())
}

fn has(body: &[u8], wanted: &str) -> bool {
    memchr::memmem::find(body, wanted.as_bytes()).is_some()
}
