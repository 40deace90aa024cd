//! The admin listener: `/healthz`, `/readyz`, `/metrics`.
//!
//! Decides: what an operator's or orchestrator's request gets. Runs on its own thread, so that neither a scrape
//! nor whoever stalls it costs a shard anything. May not know: how shards work; it reads their counters.
//! Invariant: a bounded number of connections, each with a bounded head and a deadline for each step. No request
//! body is ever read: a request that announces one is answered, and its connection closed.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener, TcpStream as StdStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::net::{TcpListener, TcpStream};
use monoio::time::{sleep, timeout};
use monoio::{LegacyDriver, RuntimeBuilder};

use crate::metrics::{self, Info, ShardMetrics};

/// Scrapers, probes and a person or two need a handful.
const CONNECTIONS_MAX: usize = 64;
const HEAD_BYTES_MAX: usize = 8 * 1024;
const HEADER_COUNT_MAX: usize = 64;
/// For a whole head to arrive (idle time included), and for an answer to be taken.
const STEP_TIMEOUT: Duration = Duration::from_secs(5);
/// After an accept that failed, mostly for want of descriptors: it would fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the admin thread may see.
#[derive(Debug)]
pub struct AdminState {
    pub shards: Vec<Arc<ShardMetrics>>,
    pub info: Info,
    /// Written by the server's control thread, read here.
    phase: AtomicU8,
}

/// Where the process stands between its start and its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Starting,
    Ready,
    Draining,
}

impl AdminState {
    /// In `Phase::Starting`.
    pub fn new(shards: Vec<Arc<ShardMetrics>>, info: Info) -> AdminState {
        AdminState {
            shards,
            info,
            phase: AtomicU8::new(Phase::Starting as u8),
        }
    }

    pub fn phase(&self) -> Phase {
        let stored = self.phase.load(Ordering::Acquire);
        [Phase::Starting, Phase::Ready, Phase::Draining]
            .into_iter()
            .find(|phase| *phase as u8 == stored)
            .expect("only set_phase writes the phase")
    }

    pub fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }
}

/// The running admin thread.
#[derive(Debug)]
pub struct Admin {
    address: SocketAddr,
    stopping: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Admin {
    /// Where it listens, with the port that a configured port of 0 became.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends the thread and its connections.
    pub fn stop(self) {
        self.stopping.store(true, Ordering::Release);
        // The runtime cannot be woken from another thread; a connection does it. If none can be made, the thread
        // ends with the process instead.
        if StdStream::connect(self.address).is_ok() {
            let _ = self.thread.join();
        }
    }
}

/// Binds, so that an error is fatal at the start, then serves on a thread of its own.
pub fn start(address: SocketAddr, state: Arc<AdminState>) -> io::Result<Admin> {
    let listener = StdListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let stopping = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&stopping);
    let (report, built) = sync_channel(1);
    let thread = Builder::new().name("admin".to_owned()).spawn(move || {
        // Epoll, whatever the shards run on: it works everywhere, and nobody counts microseconds here.
        let runtime = RuntimeBuilder::<LegacyDriver>::new().enable_timer().build();
        match runtime {
            Ok(mut runtime) => {
                let _ = report.send(Ok(()));
                runtime.block_on(accept(listener, state, &stop));
            }
            Err(error) => {
                let _ = report.send(Err(error));
            }
        }
    })?;
    built
        .recv()
        .expect("the thread reports before it does anything else")?;
    Ok(Admin {
        address,
        stopping,
        thread,
    })
}

async fn accept(listener: StdListener, state: Arc<AdminState>, stopping: &AtomicBool) {
    let listener =
        TcpListener::from_std(listener).expect("the listener is open and the runtime new");
    // One count per connection task and one here.
    let connections = Rc::new(());
    while !stopping.load(Ordering::Acquire) {
        match listener.accept().await {
            Ok((stream, _)) if Rc::strong_count(&connections) <= CONNECTIONS_MAX => {
                let (state, connection) = (Arc::clone(&state), Rc::clone(&connections));
                monoio::spawn(async move {
                    // An error here is the client's: it left, or was too slow.
                    let _ = serve(stream, &state).await;
                    drop(connection);
                });
            }
            Ok((stream, _)) => drop(stream),
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn serve(mut stream: TcpStream, state: &AdminState) -> io::Result<()> {
    let mut received = Vec::with_capacity(1024);
    loop {
        let asked = match timeout(STEP_TIMEOUT, read_head(&mut stream, &mut received)).await {
            Ok(asked) => asked?,
            Err(_) if received.is_empty() => return Ok(()),
            Err(_) => Some(Asked::bad(408)),
        };
        let Some(asked) = asked else {
            return Ok(());
        };
        let answer = Answer::to(&asked, state).into_bytes(&asked);
        timeout(STEP_TIMEOUT, stream.write_all(answer)).await?.0?;
        if asked.close {
            return Ok(());
        }
    }
}

/// What we understood of a request.
#[derive(Debug)]
struct Asked {
    path: Path,
    head_only: bool,
    /// Whether the connection ends with the answer.
    close: bool,
}

#[derive(Debug)]
enum Path {
    Healthz,
    Readyz,
    Metrics,
    Unknown,
    /// One of ours with a method other than GET and HEAD.
    WrongMethod,
    /// Refused before we looked at the path.
    Bad(u16),
}

impl Asked {
    fn bad(status: u16) -> Asked {
        Asked {
            path: Path::Bad(status),
            head_only: false,
            close: true,
        }
    }
}

/// The next request, or `None` at the end of the connection. What follows its head stays in `received`.
async fn read_head(stream: &mut TcpStream, received: &mut Vec<u8>) -> io::Result<Option<Asked>> {
    loop {
        if let Some((asked, head_bytes)) = parse(received) {
            received.drain(..head_bytes);
            return Ok(Some(asked));
        }
        if received.len() >= HEAD_BYTES_MAX {
            return Ok(Some(Asked::bad(431)));
        }
        let room = HEAD_BYTES_MAX - received.len();
        let (result, chunk) = stream.read(Vec::with_capacity(room.min(4096))).await;
        if result? == 0 {
            return Ok(None);
        }
        received.extend_from_slice(&chunk);
    }
}

/// A request and the length of its head; `None` while the head is not complete.
fn parse(bytes: &[u8]) -> Option<(Asked, usize)> {
    let mut headers = [httparse::EMPTY_HEADER; HEADER_COUNT_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let head_bytes = match request.parse(bytes) {
        Ok(httparse::Status::Complete(head_bytes)) => head_bytes,
        Ok(httparse::Status::Partial) => return None,
        Err(httparse::Error::TooManyHeaders) => return Some((Asked::bad(431), bytes.len())),
        Err(_) => return Some((Asked::bad(400), bytes.len())),
    };
    let method = request.method.unwrap_or_default();
    let target = request.path.unwrap_or_default();
    let path = match target.split('?').next().unwrap_or_default() {
        "/healthz" => Path::Healthz,
        "/readyz" => Path::Readyz,
        "/metrics" => Path::Metrics,
        _ => Path::Unknown,
    };
    let has = |name: &str| {
        request
            .headers
            .iter()
            .any(|header| header.name.eq_ignore_ascii_case(name))
    };
    // A token list may hold more than `close`; to close too often is harmless here.
    let asks_close = request.headers.iter().any(|header| {
        header.name.eq_ignore_ascii_case("connection")
            && !header.value.eq_ignore_ascii_case(b"keep-alive")
    });
    let asked = Asked {
        path: match path {
            Path::Healthz | Path::Readyz | Path::Metrics if method != "GET" && method != "HEAD" => {
                Path::WrongMethod
            }
            Path::Healthz
            | Path::Readyz
            | Path::Metrics
            | Path::Unknown
            | Path::WrongMethod
            | Path::Bad(_) => path,
        },
        head_only: method == "HEAD",
        close: asks_close
            || request.version != Some(1)
            || has("content-length")
            || has("transfer-encoding"),
    };
    Some((asked, head_bytes))
}

/// What the client gets.
struct Answer {
    status: u16,
    content_type: &'static str,
    body: String,
}

impl Answer {
    fn to(asked: &Asked, state: &AdminState) -> Answer {
        match asked.path {
            Path::Healthz => Answer::text(200, "ok"),
            Path::Readyz => match state.phase() {
                Phase::Starting => Answer::text(503, "not ready: starting"),
                Phase::Ready => Answer::text(200, "ok"),
                Phase::Draining => Answer::text(503, "not ready: draining"),
            },
            Path::Metrics => {
                let mut body = String::with_capacity(16 * 1024);
                metrics::render(&mut body, &state.shards, &state.info);
                Answer {
                    status: 200,
                    content_type: metrics::CONTENT_TYPE,
                    body,
                }
            }
            Path::Unknown => {
                Answer::text(404, "not found; here are /healthz, /readyz and /metrics")
            }
            Path::WrongMethod => Answer::text(405, "method not allowed"),
            Path::Bad(status) => Answer::text(status, "bad request"),
        }
    }

    fn text(status: u16, line: &str) -> Answer {
        Answer {
            status,
            content_type: "text/plain; charset=utf-8",
            body: format!("{line}\n"),
        }
    }

    fn into_bytes(self, asked: &Asked) -> Vec<u8> {
        let reason = http::StatusCode::from_u16(self.status)
            .ok()
            .and_then(|status| status.canonical_reason());
        let allow = if self.status == 405 {
            "Allow: GET, HEAD\r\n"
        } else {
            ""
        };
        let connection = if asked.close {
            "Connection: close\r\n"
        } else {
            ""
        };
        let mut out = format!(
            "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n{allow}{connection}\r\n",
            self.status,
            reason.unwrap_or_default(),
            self.content_type,
            self.body.len(),
        );
        if !asked.head_only {
            out.push_str(&self.body);
        }
        out.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;
    use crate::metrics::Counter;

    fn started() -> (Admin, Arc<AdminState>) {
        let state = Arc::new(AdminState::new(
            vec![Arc::new(ShardMetrics::new(0))],
            Info::default(),
        ));
        let admin = start("127.0.0.1:0".parse().unwrap(), Arc::clone(&state)).unwrap();
        (admin, state)
    }

    /// Sends all, then reads to the end; `input` must make the server close.
    fn exchange(admin: &Admin, input: &[u8]) -> String {
        let mut stream = StdStream::connect(admin.address()).unwrap();
        stream.write_all(input).unwrap();
        let mut output = String::new();
        stream.read_to_string(&mut output).unwrap();
        output
    }

    fn ask(admin: &Admin, method: &str, path: &str) -> String {
        exchange(
            admin,
            format!("{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").as_bytes(),
        )
    }

    #[test]
    fn each_path_has_its_answer() {
        let (admin, state) = started();
        state.shards[0].add(Counter::ClientConnections, 7);
        for (phase, method, path, status, body) in [
            (Phase::Starting, "GET", "/healthz", 200, "ok\n"),
            (
                Phase::Starting,
                "GET",
                "/readyz",
                503,
                "not ready: starting\n",
            ),
            (Phase::Ready, "GET", "/readyz?x=1", 200, "ok\n"),
            (
                Phase::Draining,
                "GET",
                "/readyz",
                503,
                "not ready: draining\n",
            ),
            (Phase::Draining, "GET", "/healthz", 200, "ok\n"),
            (Phase::Ready, "HEAD", "/healthz", 200, ""),
            (
                Phase::Ready,
                "POST",
                "/metrics",
                405,
                "method not allowed\n",
            ),
            (
                Phase::Ready,
                "GET",
                "/",
                404,
                "not found; here are /healthz, /readyz and /metrics\n",
            ),
        ] {
            state.set_phase(phase);
            let answer = ask(&admin, method, path);
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{method} {path}: {answer}"
            );
            assert!(
                answer.ends_with(&format!("\r\n\r\n{body}")),
                "{method} {path}: {answer}"
            );
            assert_eq!(answer.contains("\r\nAllow: GET, HEAD\r\n"), status == 405);
        }
        let metrics = ask(&admin, "GET", "/metrics");
        assert!(metrics.contains("\r\nContent-Type: text/plain; version=0.0.4"));
        assert!(
            metrics.contains("\ncorelane_client_connections_total 7\n"),
            "{metrics}"
        );
        admin.stop();
    }

    #[test]
    fn requests_in_one_write_are_answered_in_order() {
        let (admin, _) = started();
        let answers = exchange(
            &admin,
            b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\nHEAD /x HTTP/1.1\r\nHost: a\r\n\r\nGET /readyz HTTP/1.0\r\n\r\n",
        );
        let statuses: Vec<&str> = answers
            .split("HTTP/1.1 ")
            .skip(1)
            .map(|answer| &answer[..3])
            .collect();
        assert_eq!(statuses, ["200", "404", "503"], "{answers}");
        admin.stop();
    }

    #[test]
    fn what_could_cost_memory_is_refused() {
        let (admin, _) = started();
        let long = format!("GET /healthz HTTP/1.1\r\nX: {}", "x".repeat(HEAD_BYTES_MAX));
        let many = format!(
            "GET /healthz HTTP/1.1\r\n{}\r\n",
            "X: y\r\n".repeat(HEADER_COUNT_MAX + 1)
        );
        for (input, status) in [
            (&long.as_bytes()[..HEAD_BYTES_MAX], "431"),
            (many.as_bytes(), "431"),
            (b"\x16\x03\x01\r\n\r\n", "400"),
            (
                b"GET /healthz HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n",
                "200",
            ),
            (
                b"GET /healthz HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
                "200",
            ),
        ] {
            let answer = exchange(&admin, input);
            assert_eq!(answer.get(9..12), Some(status), "{answer}");
            assert_eq!(answer.matches("HTTP/1.1").count(), 1);
        }
        admin.stop();
    }

    #[test]
    fn connections_beyond_the_bound_are_closed_and_others_live_on() {
        let (admin, _) = started();
        let probe = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
        let mut held = Vec::new();
        for _ in 0..CONNECTIONS_MAX {
            let mut stream = StdStream::connect(admin.address()).unwrap();
            stream.write_all(probe).unwrap();
            assert!(stream.read(&mut [0; 1024]).unwrap() > 0);
            held.push(stream);
        }
        let mut refused = StdStream::connect(admin.address()).unwrap();
        assert_eq!(refused.read(&mut [0; 16]).unwrap_or(0), 0);
        held[0].write_all(probe).unwrap();
        assert!(held[0].read(&mut [0; 1024]).unwrap() > 0);
        admin.stop();
    }

    #[test]
    fn a_taken_address_is_an_error_at_once() {
        let (admin, state) = started();
        let error = start(admin.address(), state).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        admin.stop();
    }
}
