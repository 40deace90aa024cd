//! A reader of HTTP/1.1 messages for the scripted ends: strict, simple and nothing of the proxy's own.
//!
//! Decides: whether what an end receives is a well-formed message. May not know: who sent it.

use corelane::config::plan::Nanos;

use crate::net::SimStream;
use crate::world::{SECOND, World};

/// Nobody waits longer than this for a byte: all deadlines of the simulated proxy are shorter.
pub const PATIENCE: Nanos = 60 * SECOND;

#[derive(Debug, Clone)]
pub struct Head {
    pub line: String,
    pub fields: Vec<(String, String)>,
}

impl Head {
    pub fn all(&self, name: &str) -> Vec<&str> {
        let fields = self.fields.iter();
        fields
            .filter(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| &**value)
            .collect()
    }

    /// The value of a field that stands there at most once.
    pub fn one(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() <= 1, "{name} stands there twice: {self:?}");
        all.first().copied()
    }

    pub fn number(&self, name: &str) -> Option<u64> {
        let value = self.one(name)?;
        let digits = value.bytes().all(|byte| byte.is_ascii_digit());
        assert!(digits, "{name}: {value}");
        value.parse().ok()
    }

    pub fn is(&self, name: &str, value: &str) -> bool {
        self.all(name).iter().any(|v| v.eq_ignore_ascii_case(value))
    }
}

/// The head at the start of `bytes` and its length. Panics on what no head may be.
fn parse(bytes: &[u8]) -> Option<(Head, usize)> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&bytes[..end - 4]).expect("a head is ASCII here");
    let mut lines = text.split("\r\n");
    let line = lines.next().expect("split gives one").to_owned();
    let mut fields = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("{line:?}"));
        let token = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        assert!(!name.is_empty() && name.bytes().all(token), "{name:?}");
        assert!(!value.bytes().any(|byte| byte < b' '), "{value:?}");
        fields.push((name.to_owned(), value.to_owned()));
    }
    Some((Head { line, fields }, end))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    None,
    Length(u64),
    Chunked,
    UntilClose,
}

/// How a connection stopped giving bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// An orderly end.
    End,
    Reset,
    /// Not a byte for as long as anybody may wait.
    Hang,
}

/// One end's incoming bytes.
pub struct Wire<'s> {
    pub world: World,
    pub stream: &'s SimStream,
    /// Received and not looked at.
    pub bytes: Vec<u8>,
    /// Names this end in the trace.
    pub who: u64,
    /// Longest pause before a read.
    pub slow_ns: Nanos,
    pub read_max: u64,
}

impl<'s> Wire<'s> {
    pub fn new(world: &World, stream: &'s SimStream, who: u64) -> Self {
        Wire {
            world: world.clone(),
            stream,
            bytes: Vec::new(),
            who,
            slow_ns: 0,
            read_max: 64 * 1024,
        }
    }

    /// Waits for more bytes.
    pub async fn more(&mut self) -> Result<(), Gone> {
        self.more_within(PATIENCE).await
    }

    pub async fn more_within(&mut self, ns: Nanos) -> Result<(), Gone> {
        if self.slow_ns > 0 {
            let ns = self.world.below(self.slow_ns);
            self.world.sleep(ns).await;
        }
        let most = 1 + self.world.below(self.read_max) as usize;
        let received = {
            let receive = self.stream.receive(most);
            let wait = patience(&self.world, ns);
            match corelane::wait::race(receive, wait).await {
                corelane::wait::Race::First(received) => received,
                corelane::wait::Race::Second(()) => return Err(Gone::Hang),
            }
        };
        match received {
            Ok(bytes) if bytes.is_empty() => {
                self.world.note(self.who, b"end");
                Err(Gone::End)
            }
            Ok(bytes) => {
                self.world.note(self.who, &bytes);
                self.bytes.extend_from_slice(&bytes);
                Ok(())
            }
            Err(_) => {
                self.world.note(self.who, b"reset");
                Err(Gone::Reset)
            }
        }
    }

    pub async fn head(&mut self) -> Result<Head, Gone> {
        loop {
            if let Some((head, len)) = parse(&self.bytes) {
                self.bytes.drain(..len);
                return Ok(head);
            }
            self.more().await?;
        }
    }

    /// Appends the payload to `payload` as it comes, so that a cut body can be looked at too.
    pub async fn body(&mut self, body: Body, payload: &mut Vec<u8>) -> Result<(), Gone> {
        match body {
            Body::None => Ok(()),
            Body::Length(n) => self.exactly(n, payload).await,
            Body::Chunked => self.chunks(payload).await,
            Body::UntilClose => loop {
                payload.append(&mut self.bytes);
                match self.more().await {
                    Ok(()) => {}
                    Err(Gone::End) => return Ok(()),
                    Err(gone) => return Err(gone),
                }
            },
        }
    }

    async fn exactly(&mut self, n: u64, payload: &mut Vec<u8>) -> Result<(), Gone> {
        let mut left = n as usize;
        loop {
            let taken = left.min(self.bytes.len());
            payload.extend(self.bytes.drain(..taken));
            left -= taken;
            if left == 0 {
                return Ok(());
            }
            self.more().await?;
        }
    }

    async fn line(&mut self) -> Result<String, Gone> {
        loop {
            if let Some(at) = self.bytes.windows(2).position(|two| two == b"\r\n") {
                let line: Vec<u8> = self.bytes.drain(..at + 2).take(at).collect();
                return Ok(String::from_utf8(line).expect("lines of a chunked body are ASCII"));
            }
            assert!(self.bytes.len() < 1000, "an endless line in a chunked body");
            self.more().await?;
        }
    }

    async fn chunks(&mut self, payload: &mut Vec<u8>) -> Result<(), Gone> {
        loop {
            let line = self.line().await?;
            // Extensions end at us (RFC 9112 section 7.1.1), so none may arrive here.
            let size = u64::from_str_radix(&line, 16);
            let size = size.unwrap_or_else(|_| panic!("bad chunk size {line:?}"));
            if size == 0 {
                while !self.line().await?.is_empty() {}
                return Ok(());
            }
            self.exactly(size, payload).await?;
            assert_eq!(self.line().await?, "", "a chunk is longer than its size");
        }
    }
}

/// Ends after so much time that nobody jumped over.
pub async fn patience(world: &World, ns: Nanos) {
    let until = world.waited() + ns;
    while world.waited() < until {
        world.sleep(until - world.waited()).await;
    }
}
