//! Path → answer.

use std::io;
use std::time::Duration;

use monoio::io::{AsyncReadRent, AsyncWriteRent};
use monoio::time::sleep;

use super::behaviour::{Behaviour, Failure};
use super::conn::{Body, Conn, Head};
use super::fields::{Fields, wanted};

const DELAY_MS_MAX: u64 = 60_000;
const BYTES_MAX: u64 = 10 * 1024 * 1024 * 1024;
const CHUNK_BYTES_DEFAULT: u64 = 16 * 1024;
const CHUNK_BYTES_MAX: u64 = 1024 * 1024;
const EVENTS_MAX: u32 = 60;
const EVENT_PAUSE: Duration = Duration::from_secs(1);
/// Chunks are gathered up to this size before they are written.
const GATHER_BYTES: usize = 64 * 1024;
/// What an answer announces that is cut behind its head.
const CUT_BYTES: u64 = 100;

/// Byte `i` of any generated payload is `BLOCK[i % BLOCK.len()]`: lines of 64 characters, which a test can check
/// and a person can look at.
static BLOCK: [u8; 65_536] = {
    let mut block = [b'\n'; 65_536];
    let mut i = 0;
    while i < block.len() {
        if i % 64 != 63 {
            block[i] = b'!' + ((i / 64 + i % 64) % 90) as u8;
        }
        i += 1;
    }
    block
};

/// What a path asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    /// Name, request line, fields.
    Describe,
    /// The same, later.
    Delay {
        delay_ms: u64,
    },
    Bytes {
        count: u64,
    },
    Chunked {
        count: u64,
        chunk_bytes: u64,
    },
    Status(u16),
    Echo,
    Events,
    Early,
    Upgrade,
    Control(Control),
    /// One of the above with a number that is none, or is out of bounds, or with a field that is none.
    Wrong,
}

/// What never waits and never fails, and is no request of anybody whose requests are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Control {
    Health,
    /// Another status for `/health` from now on.
    SetHealth(u16),
    Count,
}

impl Action {
    fn of(target: &str) -> Action {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut segments = path.split('/').skip(1);
        let (first, second) = (segments.next().unwrap_or_default(), segments.next());
        let number = |max: u64| {
            second
                .and_then(|text| text.parse().ok())
                .filter(|value| *value <= max)
        };
        let status = number(599)
            .filter(|status| *status >= 200)
            .map(|status| status as u16);
        match first {
            "delay" => {
                number(DELAY_MS_MAX).map_or(Action::Wrong, |delay_ms| Action::Delay { delay_ms })
            }
            "bytes" => number(BYTES_MAX).map_or(Action::Wrong, |count| Action::Bytes { count }),
            "chunked" => {
                let size = query.split('&').find_map(|pair| pair.strip_prefix("size="));
                let chunk_bytes = size.map_or(Some(CHUNK_BYTES_DEFAULT), |text| text.parse().ok());
                match (number(BYTES_MAX), chunk_bytes) {
                    (Some(count), Some(chunk_bytes @ 1..=CHUNK_BYTES_MAX)) => {
                        Action::Chunked { count, chunk_bytes }
                    }
                    (Some(_) | None, Some(_) | None) => Action::Wrong,
                }
            }
            "status" => status.map_or(Action::Wrong, Action::Status),
            "health" => Action::Control(Control::Health),
            "__health" => status.map_or(Action::Wrong, |status| {
                Action::Control(Control::SetHealth(status))
            }),
            "__count" => Action::Control(Control::Count),
            "echo" => Action::Echo,
            "sse" => Action::Events,
            "early" => Action::Early,
            "upgrade" => Action::Upgrade,
            _ => Action::Describe,
        }
    }
}

/// The length rule of an answer's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    None,
    Length(u64),
    Chunked,
    UntilClose,
}

/// Serves one connection to its end. An error drops it at once, whether the client is to blame or a failure on
/// purpose.
pub(super) async fn serve(
    stream: impl AsyncReadRent + AsyncWriteRent,
    behaviour: &Behaviour,
) -> io::Result<()> {
    behaviour.note_connection();
    let idle_close_ms = behaviour.args.idle_close_ms;
    let mut conn = Conn::new(stream, idle_close_ms.map(Duration::from_millis));
    while let Some(head) = conn.head().await? {
        let mut exchange = Exchange {
            conn: &mut conn,
            behaviour,
            head,
            fields: Fields::new(),
        };
        exchange.run().await?;
        if !exchange.head.keep_alive {
            break;
        }
    }
    conn.close().await
}

/// One request and its answer.
struct Exchange<'c, S> {
    conn: &'c mut Conn<S>,
    behaviour: &'c Behaviour,
    head: Head,
    /// Those that the request wants to see.
    fields: Fields,
}

impl<S: AsyncReadRent + AsyncWriteRent> Exchange<'_, S> {
    async fn run(&mut self) -> io::Result<()> {
        let action = match wanted(&self.head.target) {
            Some(fields) => {
                self.fields = fields;
                Action::of(&self.head.target)
            }
            None => Action::Wrong,
        };
        let is_control = matches!(action, Action::Control(_));
        if !is_control {
            self.behaviour.note(&self.head.method, &self.head.target)?;
        }
        if self.head.expects_continue && action != Action::Early {
            self.conn
                .send(&b"HTTP/1.1 100 Continue\r\n\r\n"[..])
                .await?;
        }
        let body_bytes = match action {
            Action::Early | Action::Echo => 0,
            Action::Describe
            | Action::Delay { .. }
            | Action::Bytes { .. }
            | Action::Chunked { .. }
            | Action::Status(_)
            | Action::Events
            | Action::Upgrade
            | Action::Control(_)
            | Action::Wrong => self.conn.drain(&mut self.head.body).await?,
        };
        if action != Action::Early && !is_control {
            sleep(Duration::from_millis(
                self.behaviour.args.delay_ms.min(DELAY_MS_MAX),
            ))
            .await;
            if self.behaviour.fails() {
                self.conn.drain(&mut self.head.body).await?;
                return self.fail().await;
            }
        }
        if self.is_known() {
            return self.text(304, "").await;
        }
        match action {
            Action::Describe => self.describe(body_bytes).await,
            Action::Delay { delay_ms } => {
                sleep(Duration::from_millis(delay_ms)).await;
                self.describe(body_bytes).await
            }
            Action::Bytes { count } => self.bytes(count).await,
            Action::Chunked { count, chunk_bytes } => self.chunked(count, chunk_bytes).await,
            Action::Status(status) => self.text(status, &format!("status {status}\n")).await,
            Action::Echo => self.echo().await,
            Action::Events => self.events().await,
            Action::Early => {
                self.head.keep_alive = false;
                self.text(413, "too large, said before the body was read\n")
                    .await
            }
            Action::Upgrade => self.upgrade().await,
            Action::Control(control) => self.control(control).await,
            Action::Wrong => {
                self.text(400, "a number or field is missing or out of bounds\n")
                    .await
            }
        }
    }

    /// Whether the request names the tag that it wants in its answer.
    fn is_known(&self) -> bool {
        let is_tag = |(name, _): &&(String, String)| name.eq_ignore_ascii_case("etag");
        let tag = self.fields.iter().find(is_tag);
        let known = self.head.if_none_match.as_deref().unwrap_or_default();
        tag.is_some_and(|(_, tag)| known.split(',').any(|known| known.trim() == tag))
    }

    async fn control(&mut self, control: Control) -> io::Result<()> {
        match control {
            Control::Health => {
                self.behaviour.note_health();
                match self.behaviour.health.get() {
                    200 => self.text(200, "ok\n").await,
                    status => self.text(status, "told to say so\n").await,
                }
            }
            Control::SetHealth(status) => {
                self.behaviour.health.set(status);
                self.text(200, &format!("health is {status}\n")).await
            }
            Control::Count => self.text(200, &self.behaviour.counts()).await,
        }
    }

    async fn fail(&mut self) -> io::Result<()> {
        let args = &self.behaviour.args;
        match args.failure {
            Failure::Status => {
                let line = format!("{} fails on purpose\n", args.name);
                self.text(args.fail_status, &line).await
            }
            Failure::Hang => {
                while !self.conn.raw().await?.is_empty() {}
                self.head.keep_alive = false;
                Ok(())
            }
            Failure::Reset => {
                self.start(200, &[], Coding::Length(CUT_BYTES)).await?;
                Err(io::ErrorKind::ConnectionAborted.into())
            }
            Failure::Close => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }

    async fn describe(&mut self, body_bytes: u64) -> io::Result<()> {
        let text = format!(
            "{}\n{}\n\nbody: {body_bytes} bytes\n",
            self.behaviour.args.name, self.head.text
        );
        self.text(200, &text).await
    }

    async fn bytes(&mut self, count: u64) -> io::Result<()> {
        self.start(
            200,
            &[("Content-Type", "text/plain")],
            Coding::Length(count),
        )
        .await?;
        if self.head.method == "HEAD" {
            return Ok(());
        }
        let mut left = count;
        while left > 0 {
            let piece = &BLOCK[..left.min(BLOCK.len() as u64) as usize];
            self.conn.send(piece).await?;
            left -= piece.len() as u64;
        }
        Ok(())
    }

    async fn chunked(&mut self, count: u64, chunk_bytes: u64) -> io::Result<()> {
        let coding = self.streamed();
        self.start(200, &[("Content-Type", "text/plain")], coding)
            .await?;
        if self.head.method == "HEAD" {
            return Ok(());
        }
        let mut out = Vec::with_capacity(2 * GATHER_BYTES);
        let mut sent = 0;
        while sent < count {
            let end = count.min(sent + chunk_bytes);
            if coding == Coding::Chunked {
                out.extend_from_slice(format!("{:x}\r\n", end - sent).as_bytes());
            }
            while sent < end {
                let begin = (sent % BLOCK.len() as u64) as usize;
                let piece = &BLOCK[begin..BLOCK.len().min(begin + (end - sent) as usize)];
                out.extend_from_slice(piece);
                sent += piece.len() as u64;
                if out.len() >= GATHER_BYTES {
                    self.conn
                        .send(std::mem::replace(
                            &mut out,
                            Vec::with_capacity(2 * GATHER_BYTES),
                        ))
                        .await?;
                }
            }
            if coding == Coding::Chunked {
                out.extend_from_slice(b"\r\n");
            }
        }
        if coding == Coding::Chunked {
            out.extend_from_slice(b"0\r\n\r\n");
        }
        self.conn.send(out).await
    }

    /// The request's body, framed as the request was.
    async fn echo(&mut self) -> io::Result<()> {
        let coding = match self.head.body {
            Body::Length(length) => Coding::Length(length),
            Body::End => Coding::Length(0),
            Body::ChunkStart | Body::Chunk(_) => self.streamed(),
        };
        self.start(200, &[("Content-Type", "application/octet-stream")], coding)
            .await?;
        while let Some(piece) = self.conn.piece(&mut self.head.body).await? {
            if self.head.method == "HEAD" {
                continue;
            }
            self.payload(piece, coding).await?;
        }
        self.finish(coding).await
    }

    async fn events(&mut self) -> io::Result<()> {
        let coding = self.streamed();
        let fields = [
            ("Content-Type", "text/event-stream"),
            ("Cache-Control", "no-store"),
        ];
        self.start(200, &fields, coding).await?;
        if self.head.method == "HEAD" {
            return Ok(());
        }
        for number in 1..=EVENTS_MAX {
            let event = format!(
                "id: {number}\ndata: event {number} from {}\n\n",
                self.behaviour.args.name
            );
            self.payload(event.into_bytes(), coding).await?;
            if number < EVENTS_MAX {
                sleep(EVENT_PAUSE).await;
            }
        }
        self.finish(coding).await
    }

    /// Switches to "whatever you asked for", which is an echo of bytes until the client closes its side.
    async fn upgrade(&mut self) -> io::Result<()> {
        let Some(protocol) = self.head.upgrade.take() else {
            return self.text(426, "send Upgrade: anything\n").await;
        };
        self.head.keep_alive = false;
        let head = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: {protocol}\r\nConnection: Upgrade\r\nX-Backend: {}\r\n\r\n",
            self.behaviour.args.name
        );
        self.conn.send(head.into_bytes()).await?;
        loop {
            let bytes = self.conn.raw().await?;
            if bytes.is_empty() {
                return Ok(());
            }
            self.conn.send(bytes).await?;
        }
    }

    /// A whole answer.
    async fn text(&mut self, status: u16, body: &str) -> io::Result<()> {
        // RFC 9110 section 8.6: no Content-Length in 204; 304 has no body either.
        let coding = if matches!(status, 204 | 304) {
            Coding::None
        } else {
            Coding::Length(body.len() as u64)
        };
        let mut out = self.response_head(
            status,
            &[("Content-Type", "text/plain; charset=utf-8")],
            coding,
        );
        if coding != Coding::None && self.head.method != "HEAD" {
            out.extend_from_slice(body.as_bytes());
        }
        self.conn.send(out).await
    }

    async fn start(
        &mut self,
        status: u16,
        fields: &[(&str, &str)],
        coding: Coding,
    ) -> io::Result<()> {
        let head = self.response_head(status, fields, coding);
        self.conn.send(head).await
    }

    /// A body without a known length. HTTP/1.0 knows no chunks.
    fn streamed(&mut self) -> Coding {
        if self.head.http10 {
            self.head.keep_alive = false;
            Coding::UntilClose
        } else {
            Coding::Chunked
        }
    }

    async fn payload(&mut self, piece: Vec<u8>, coding: Coding) -> io::Result<()> {
        if coding != Coding::Chunked {
            return self.conn.send(piece).await;
        }
        let mut chunk = format!("{:x}\r\n", piece.len()).into_bytes();
        chunk.extend_from_slice(&piece);
        chunk.extend_from_slice(b"\r\n");
        self.conn.send(chunk).await
    }

    async fn finish(&mut self, coding: Coding) -> io::Result<()> {
        if coding == Coding::Chunked && self.head.method != "HEAD" {
            return self.conn.send(&b"0\r\n\r\n"[..]).await;
        }
        Ok(())
    }

    fn response_head(&self, status: u16, fields: &[(&str, &str)], coding: Coding) -> Vec<u8> {
        let reason = http::StatusCode::from_u16(status)
            .ok()
            .and_then(|status| status.canonical_reason());
        let name = &self.behaviour.args.name;
        let mut out = format!(
            "HTTP/1.1 {status} {}\r\nX-Backend: {name}\r\n",
            reason.unwrap_or_default()
        );
        let wanted = self.fields.iter().map(|(name, value)| (&**name, &**value));
        for (name, value) in fields.iter().copied().chain(wanted) {
            out.push_str(&format!("{name}: {value}\r\n"));
        }
        match coding {
            Coding::None | Coding::UntilClose => {}
            Coding::Length(length) => out.push_str(&format!("Content-Length: {length}\r\n")),
            Coding::Chunked => out.push_str("Transfer-Encoding: chunked\r\n"),
        }
        if !self.head.keep_alive {
            out.push_str("Connection: close\r\n");
        } else if self.head.http10 {
            out.push_str("Connection: keep-alive\r\n");
        }
        out.push_str("\r\n");
        out.into_bytes()
    }
}
