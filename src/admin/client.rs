//! The other end of the admin listener: `corelane backends` and `corelane cache`.
//!
//! Decides: whom to ask, and the exit code. May not know: what an answer means, but for one number that `--wait` waits
//! for. Invariant: each step has a deadline, and what is read is bounded; whatever goes wrong is one line.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

use crate::cache::purge::Purge;
use crate::cli::text::{ConfigText, environment};
use crate::cli::{Exit, RunArgs};
use crate::config;
use crate::config::plan::Nanos;
use crate::io::{Io, MonoioIo, process_start};
use crate::policy::health::Mode;

/// To connect, to send, and for each read of most answers.
const STEP_TIMEOUT: Duration = Duration::from_secs(5);

/// A stream of events that is silent for longer than this has lost its other end: there are comments every 15 s.
const EVENT_TIMEOUT: Duration = Duration::from_secs(40);

/// For the answer to a purge: it comes when every entry has been looked at.
const PURGE_TIMEOUT: Duration = Duration::from_secs(120);

/// A table of ten thousand backends has some MiB.
const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Of an event, and of the head before them.
const LINE_BYTES_MAX: usize = 64 * 1024;

const WAIT_PAUSE: Duration = Duration::from_millis(100);

/// What stands in the reference configuration.
const DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 2112);

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Args {
    pub what: What,
    pub cluster: Option<String>,
    /// Address or name, with a port.
    pub admin: Option<String>,
    pub config: Option<PathBuf>,
    pub json: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    List,
    Why(String),
    Mode {
        backend: String,
        mode: Mode,
        /// Until nothing is in flight, for so long at most.
        wait_ns: Option<Nanos>,
    },
    Weight {
        backend: String,
        weight: u32,
    },
    Events,
    Cache,
    Purge(Purge),
}

/// What went wrong, and how the process ends for it.
#[derive(Debug)]
struct Trouble {
    text: String,
    exit: Exit,
}

impl Trouble {
    fn new(text: impl Into<String>) -> Trouble {
        Trouble {
            text: text.into(),
            exit: Exit::Failure,
        }
    }
}

pub fn command(args: &Args) -> Exit {
    match run(args) {
        Ok(()) => Exit::Clean,
        Err(trouble) => {
            eprintln!("corelane: {}", trouble.text);
            trouble.exit
        }
    }
}

fn run(args: &Args) -> Result<(), Trouble> {
    let admin = Admin {
        address: address(args)?,
        json: args.json,
        answer_timeout: match args.what {
            What::Purge(_) => PURGE_TIMEOUT,
            What::List
            | What::Why(_)
            | What::Mode { .. }
            | What::Weight { .. }
            | What::Events
            | What::Cache => STEP_TIMEOUT,
        },
    };
    let cluster = args.cluster.as_deref();
    let target = |path: &str, parameters: &[(&str, Option<&str>)]| {
        target(path, parameters.iter().chain([&("cluster", cluster)]))
    };
    match &args.what {
        What::List => admin.print("GET", &target("/backends", &[])),
        What::Why(backend) => admin.print("GET", &target("/why", &[("backend", Some(backend))])),
        What::Weight { backend, weight } => {
            let weight = weight.to_string();
            let parameters = [("backend", Some(&**backend)), ("weight", Some(&weight))];
            admin.print("POST", &target("/backends", &parameters))
        }
        What::Mode {
            backend,
            mode,
            wait_ns,
        } => {
            let backend = ("backend", Some(&**backend));
            let change = target("/backends", &[backend, ("mode", Some(mode.name()))]);
            let Some(wait_ns) = wait_ns else {
                return admin.print("POST", &change);
            };
            admin.ask("POST", &change, args.json)?;
            let row = target("/backends", &[backend]);
            let left = admin.wait(&row, *wait_ns)?;
            admin.print("GET", &row)?;
            match left {
                0 => Ok(()),
                left => Err(Trouble::new(format!("still in flight: {left}"))),
            }
        }
        What::Events => admin.events(),
        What::Cache => admin.print("GET", "/cache"),
        What::Purge(purge) => {
            let parameters = [(purge.name(), Some(purge.value()))];
            admin.print("POST", &target("/cache/purge", &parameters))
        }
    }
}

/// Whom to ask: who is named, else who the configuration names, else who would be the default.
fn address(args: &Args) -> Result<SocketAddr, Trouble> {
    if let Some(name) = &args.admin {
        let found = name.to_socket_addrs().map(|mut all| all.next());
        return match found {
            Ok(Some(address)) => Ok(address),
            Ok(None) => Err(Trouble::new(format!("{name} has no address"))),
            Err(error) => Err(Trouble::new(format!("{name}: {error}"))),
        };
    }
    let bad = |text: String| Trouble {
        text: format!("{text}\n  --admin ADDRESS names the admin listener without a configuration"),
        exit: Exit::Config,
    };
    let run = RunArgs {
        config: args.config.clone(),
        ..RunArgs::default()
    };
    let Some(text) = ConfigText::find(&run, environment()).map_err(bad)? else {
        return Ok(DEFAULT);
    };
    let (_, plan) = config::load(text.source()).map_err(|problems| bad(problems.to_string()))?;
    let name = &text.name;
    match plan.admin {
        None => Err(Trouble::new(format!("the admin listener is off in {name}"))),
        Some(address) if address.port() == 0 => Err(Trouble::new(format!(
            "the admin listener has any port in {name}: --admin ADDRESS says which"
        ))),
        Some(address) => Ok(reachable(address)),
    }
}

/// Who listens everywhere listens here.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// A path with those parameters that have a value.
fn target<'a>(
    path: &str,
    parameters: impl Iterator<Item = &'a (&'a str, Option<&'a str>)>,
) -> String {
    let mut out = path.to_owned();
    for (name, value) in parameters {
        if let Some(value) = value {
            out.push(if out.contains('?') { '&' } else { '?' });
            out.extend([name, "=", &encoded(value)]);
        }
    }
    out
}

fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b':' | b'/' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// Another server's page would look like an answer.
fn is_admin(answer: &[u8]) -> bool {
    let name = b"\r\nServer: corelane-admin\r\n";
    let head = &answer[..answer.len().min(1024)];
    memchr::memmem::find(head, name).is_some()
}

struct Admin {
    address: SocketAddr,
    json: bool,
    answer_timeout: Duration,
}

impl Admin {
    /// Sends a request; the connection that its answer comes on.
    fn send(&self, method: &str, target: &str, accept: &str) -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect_timeout(&self.address, STEP_TIMEOUT)?;
        stream.set_read_timeout(Some(self.answer_timeout))?;
        stream.set_write_timeout(Some(STEP_TIMEOUT))?;
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: {}\r\nAccept: {accept}\r\nConnection: close\r\n\r\n",
            self.address
        );
        stream.write_all(head.as_bytes())?;
        Ok(stream)
    }

    fn failed(&self, error: &io::Error) -> Trouble {
        let why = match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "no answer in time".to_owned(),
            _ => error.to_string(),
        };
        Trouble::new(format!("the admin listener at {}: {why}", self.address))
    }

    /// The body of a good answer.
    fn ask(&self, method: &str, target: &str, json: bool) -> Result<String, Trouble> {
        let accept = if json {
            "application/json"
        } else {
            "text/plain"
        };
        let answer = self.send(method, target, accept).and_then(|stream| {
            let mut answer = Vec::new();
            stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
            Ok(answer)
        });
        let answer = answer.map_err(|error| self.failed(&error))?;
        let (status, body) = split(&answer)
            .filter(|_| is_admin(&answer))
            .ok_or_else(|| self.stranger())?;
        match status {
            200 => Ok(body),
            _ => Err(Trouble::new(body.trim_end())),
        }
    }

    fn stranger(&self) -> Trouble {
        let text = format!("what answers at {} is no admin listener", self.address);
        Trouble::new(text)
    }

    fn print(&self, method: &str, target: &str) -> Result<(), Trouble> {
        let body = self.ask(method, target, self.json)?;
        // A reader that has gone has seen enough.
        let _ = io::stdout().write_all(body.as_bytes());
        Ok(())
    }

    /// Waits until the backend has no request in flight; how many it has at the end.
    fn wait(&self, row: &str, wait_ns: Nanos) -> Result<u64, Trouble> {
        let clock = MonoioIo::new(process_start());
        loop {
            let body = self.ask("GET", row, true)?;
            let inflight = number(&body, "inflight").ok_or_else(|| self.stranger())?;
            if inflight == 0 || clock.now() >= wait_ns {
                return Ok(inflight);
            }
            sleep(WAIT_PAUSE);
        }
    }

    fn events(&self) -> Result<(), Trouble> {
        let failed = |error: io::Error| self.failed(&error);
        let stream = self
            .send("GET", "/events", "text/event-stream")
            .map_err(failed)?;
        stream
            .set_read_timeout(Some(EVENT_TIMEOUT))
            .map_err(failed)?;
        let mut stream = BufReader::new(stream);
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let count = line(&mut stream, &mut head).map_err(failed)?;
            if count == 0 || head.len() > LINE_BYTES_MAX {
                return Err(self.stranger());
            }
        }
        match split(&head) {
            Some((200, _)) => {}
            Some(_) => {
                let mut body = String::new();
                let read = stream.take(ANSWER_BYTES_MAX).read_to_string(&mut body);
                read.map_err(failed)?;
                return Err(Trouble::new(body.trim_end()));
            }
            None => return Err(self.stranger()),
        }
        let mut out = io::stdout();
        loop {
            let mut event = Vec::new();
            if line(&mut stream, &mut event).map_err(failed)? == 0 {
                return Err(Trouble::new("the proxy has ended the stream"));
            }
            if let Some(event) = event.strip_prefix(b"data: ")
                && out.write_all(event).is_err()
            {
                return Ok(());
            }
        }
    }
}

/// Appends a line, or a bounded part of one.
fn line(stream: &mut impl BufRead, out: &mut Vec<u8>) -> io::Result<usize> {
    stream.take(LINE_BYTES_MAX as u64).read_until(b'\n', out)
}

/// Status and body of a whole answer.
fn split(answer: &[u8]) -> Option<(u16, String)> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head_bytes) = response.parse(answer).ok()? else {
        return None;
    };
    let body = String::from_utf8_lossy(&answer[head_bytes..]).into_owned();
    Some((response.code?, body))
}

/// A whole number of our JSON. Within a text its name would stand behind an escaped quote.
fn number(json: &str, name: &str) -> Option<u64> {
    let (_, rest) = json.split_once(&format!("\"{name}\":"))?;
    let end = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    rest[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_arrive_as_they_were_written() {
        let parameters = [
            ("backend", Some("unix:/run/ä+b&c=d%.sock")),
            ("mode", None),
            ("cluster", Some("a b")),
        ];
        assert_eq!(
            target("/why", parameters.iter()),
            "/why?backend=unix:/run/%C3%A4%2Bb%26c%3Dd%25.sock&cluster=a%20b"
        );
        assert_eq!(target("/backends", [].iter()), "/backends");
    }

    #[test]
    fn a_number_is_found_by_its_name_and_not_in_a_text() {
        let json = r#"[{"cause":"x\"inflight\":7","inflight":12,"connections":3}]"#;
        assert_eq!(number(json, "inflight"), Some(12));
        assert_eq!(number(json, "weight"), None);
        assert_eq!(number("[]", "inflight"), None);
    }

    #[test]
    fn who_listens_everywhere_is_asked_here() {
        for (configured, asked) in [
            ("0.0.0.0:1", "127.0.0.1:1"),
            ("[::]:1", "[::1]:1"),
            ("10.0.0.1:1", "10.0.0.1:1"),
        ] {
            assert_eq!(
                reachable(configured.parse().unwrap()),
                asked.parse().unwrap()
            );
        }
    }

    #[test]
    fn an_answer_has_a_status_and_a_body() {
        assert_eq!(
            split(b"HTTP/1.1 404 Not Found\r\nA: b\r\n\r\nx\n"),
            Some((404, "x\n".to_owned()))
        );
        assert_eq!(split(b"HTTP/1.1 200 OK\r\nA: b\r\n"), None);
        assert_eq!(split(b"SSH-2.0-x\r\n\r\n"), None);
    }
}
