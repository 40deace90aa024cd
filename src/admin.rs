//! The admin listener: health, metrics, and what an operator sees and does of the backends and of the cache.
//!
//! Decides: what an operator's or orchestrator's request gets. Runs on its own thread, so that neither a scrape
//! nor whoever stalls it costs a shard anything. May not know: how shards work; it reads their counters.
//! Invariant: a bounded number of connections, each with a bounded head and a deadline for each step. No request
//! body is ever read: a request that announces one is answered, and its connection closed.
//!
//! Reading order: `serve` below, `parse` (what is asked), `answer`, `backends`, `why` and `cache` (what is told), `stream`
//! (events); `client` is the other end, `corelane backends` and
//! `corelane cache`.

mod answer;
mod backends;
mod cache;
pub mod client;
mod parse;
mod stream;
mod why;

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

use crate::config::plan::Nanos;
use crate::io::{Io, MonoioIo};
use crate::ledger::Ledger;
use crate::log::Events;
use crate::metrics::Info;
use crate::policy::BackendId;
use crate::shared::Shared;

use answer::Answer;
use parse::{Ask, Asked, Refusal, parse};

/// Scrapers, probes and a person or two need a handful.
const CONNECTIONS_MAX: usize = 64;
const HEAD_BYTES_MAX: usize = 8 * 1024;
/// For a whole head to arrive (idle time included), and for an answer to be taken.
const STEP_TIMEOUT: Duration = Duration::from_secs(5);
/// After an accept that failed, mostly for want of descriptors: it would fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often and how many times to look whether the health thread has reported a change; it does so within 50 ms.
const REPORT_PAUSE: Duration = Duration::from_millis(5);
const REPORT_LOOKS: u32 = 100;

/// What the admin thread may see, and change of backends and of the cache.
pub struct AdminState {
    pub shared: Arc<Shared>,
    pub ledger: Arc<Ledger>,
    pub info: Info,
    events: Events,
    clock: MonoioIo,
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

/// One point in time on both clocks.
#[derive(Debug, Clone, Copy)]
struct Moment {
    now: Nanos,
    unix_ms: u64,
}

impl AdminState {
    /// In `Phase::Starting`. The clock has to be that of the shards.
    pub fn new(
        shared: Arc<Shared>,
        ledger: Arc<Ledger>,
        info: Info,
        events: Events,
        clock: MonoioIo,
    ) -> AdminState {
        AdminState {
            shared,
            ledger,
            info,
            events,
            clock,
            phase: AtomicU8::new(Phase::Starting as u8),
        }
    }

    fn moment(&self) -> Moment {
        Moment {
            now: self.clock.now(),
            unix_ms: self.clock.unix_ms(),
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
            Ok((stream, from)) if Rc::strong_count(&connections) <= CONNECTIONS_MAX => {
                let (state, connection) = (Arc::clone(&state), Rc::clone(&connections));
                monoio::spawn(async move {
                    // An error here is the client's: it left, or was too slow.
                    let _ = serve(stream, from, &state).await;
                    drop(connection);
                });
            }
            Ok((stream, _)) => drop(stream),
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn serve(mut stream: TcpStream, from: SocketAddr, state: &AdminState) -> io::Result<()> {
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
        let answer = match &asked.ask {
            Ask::Look(look) => Answer::to(look, asked.form, state),
            Ask::Change(which, order) => match backends::change(state, from, which, *order) {
                Ok(id) => {
                    reported(state, id).await;
                    Answer::of(asked.form, backends::one(state, id, asked.form))
                }
                Err(refusal) => Answer::refused(refusal),
            },
            Ask::Purge(what) => match cache::purge(state, from, what) {
                Ok(count) => Answer::of(asked.form, cache::purged(state, count, asked.form)),
                Err(refusal) => Answer::refused(refusal),
            },
            Ask::Events if asked.head_only => {
                return stream::send(&mut stream, stream::HEAD.to_owned()).await;
            }
            Ask::Events => match state.ledger.listen() {
                Some(listener) => return stream::stream(stream, &listener).await,
                None => Answer::refused(Refusal::new(503, "too many listen already")),
            },
            Ask::Refused(refusal) => Answer::refused(refusal.clone()),
        };
        let bytes = answer.into_bytes(asked.head_only, asked.close);
        timeout(STEP_TIMEOUT, stream.write_all(bytes)).await?.0?;
        if asked.close {
            return Ok(());
        }
    }
}

/// Waits until what an operator did has been reported; not for ever, since the health thread ends before this one.
async fn reported(state: &AdminState, id: BackendId) {
    for _ in 0..REPORT_LOOKS {
        if backends::is_reported(state, id) {
            return;
        }
        sleep(REPORT_PAUSE).await;
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

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;
    use crate::config::plan::Level;
    use crate::config::{Source, load};
    use crate::io::process_start;
    use crate::metrics::{Counter, ShardMetrics};
    use crate::policy::health::{Event, Mode};

    const ONE: &str = "backends = [\"http://127.0.0.1:3001\"]";

    /// Two clusters that share a backend; failing once ejects.
    const TWO: &str = r#"
[passive_health]
errors = 1
[[clusters]]
name = "web"
backends = ["http://127.0.0.1:3001", { url = "http://127.0.0.1:3002", weight = 3 }]
[[clusters]]
name = "api"
backends = ["http://127.0.0.1:3001", { url = "unix:/run/Api.sock", backup = true }]
[[routes]]
path = "/api"
cluster = "api"
[[routes]]
cluster = "web"
"#;

    fn state(text: &str) -> Arc<AdminState> {
        let loaded = load(Source::of("test", text));
        let (_, plan) = loaded.unwrap_or_else(|problems| panic!("{problems}"));
        let backends = plan.backends.len();
        let metrics = vec![Arc::new(ShardMetrics::new(backends))];
        let (shared, changes) = Shared::new(Arc::new(plan), metrics, 1, [7; 32]);
        let ledger = Arc::new(Ledger::new(backends));
        let told = Arc::clone(&ledger);
        // What the health thread does of this.
        std::thread::spawn(move || {
            for change in changes {
                if change.before.standing() != change.after.standing() {
                    told.changed(&change, 1_700_000_000_000);
                }
            }
        });
        let info = Info {
            start_unix_ms: 1_600_000_000_000,
            ..Info::default()
        };
        Arc::new(AdminState::new(
            Arc::new(shared),
            ledger,
            info,
            Events::to_stderr(Level::Error),
            MonoioIo::new(process_start()),
        ))
    }

    fn started_with(text: &str) -> (Admin, Arc<AdminState>) {
        let state = state(text);
        let admin = start("127.0.0.1:0".parse().unwrap(), Arc::clone(&state)).unwrap();
        (admin, state)
    }

    fn started() -> (Admin, Arc<AdminState>) {
        started_with(ONE)
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
            format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                .as_bytes(),
        )
    }

    #[test]
    fn each_path_has_its_answer() {
        let (admin, state) = started();
        state.shared.metrics[0].add(Counter::ClientConnections, 7);
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
                "not found; there are /healthz, /readyz, /metrics, /backends, /why, /events, /cache, /cache/purge\n",
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
            "X: y\r\n".repeat(parse::HEADER_COUNT_MAX + 1)
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

    /// The status and the body.
    fn asked(admin: &Admin, method: &str, path: &str) -> (u16, String) {
        let answer = ask(admin, method, path);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), body.to_owned())
    }

    #[test]
    fn backends_are_listed_and_asked_about() {
        let (admin, state) = started_with(TWO);
        let row = |standing: &str, mode: &str, more: &str| {
            format!(
                "{{\"cluster\":\"web\",\"backend\":\"http://127.0.0.1:3002\",\
                 \"standing\":\"{standing}\",\"mode\":\"{mode}\",\"checks\":\"unknown\",\
                 {more},\"configured_weight\":3,\"backup\":false,\"inflight\":1,\"connections\":1,\
                 \"idle_timeout_ms\":5000,\"left_ms\":null}}"
            )
        };
        let id = BackendId(1);
        state.shared.metrics[0].backend(id).inflight_add();
        state.shared.backends.connection_opens(id);
        state.shared.backends.learn_idle(id, 5_000_000_000);
        let list = "/backends?format=json&backend=127.0.0.1:3002/";
        let before = "\"since\":\"2020-09-13T12:26:40.000Z\",\"cause\":\"start\",\"weight\":3";
        let expected = format!("[{}]\n", row("available", "auto", before));
        assert_eq!(asked(&admin, "GET", list), (200, expected));
        let change =
            "/backends?format=json&backend=HTTP://127.0.0.1:3002&cluster=web&mode=drain&weight=0";
        let change = change.replace("HTTP", "http");
        let after = "\"since\":\"2023-11-14T22:13:20.000Z\",\"cause\":\"operator\",\"weight\":0";
        let expected = row("draining", "drain", after) + "\n";
        assert_eq!(asked(&admin, "POST", &change), (200, expected));
        let (_, table) = asked(&admin, "GET", "/backends?cluster=web");
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 3, "{table}");
        assert_eq!(lines[0].find("STANDING"), lines[2].find("draining"));
        assert!(lines[2].contains("  0, configured 3  "), "{table}");
        let (_, why) = asked(&admin, "GET", "/why?backend=127.0.0.1:3002");
        for part in [
            "http://127.0.0.1:3002 of cluster web: gets no new clients, decided by: operator\n",
            "by itself it would be available",
            "checks        off\n",
            "requests      0 of 1 failures in succession\n",
            "history       2023-11-14T22:13:20.000Z  available → draining, operator\n",
        ] {
            assert!(why.contains(part), "{part} is not in\n{why}");
        }
        let (_, why) = asked(&admin, "GET", "/why?format=json&backend=127.0.0.1:3002");
        assert!(why.contains("\"decided_by\":\"operator\",\"by_itself\":\"available\""));
        admin.stop();
    }

    #[test]
    fn what_cannot_be_done_is_refused_and_changes_nothing() {
        let (admin, state) = started_with(TWO);
        let both = "http://127.0.0.1:3001";
        for (method, path, status, text) in [
            (
                "GET",
                "/why?backend=http://127.0.0.1:3001",
                400,
                "\"http://127.0.0.1:3001\" is in more than one cluster: add cluster=web or cluster=api\n",
            ),
            (
                "GET",
                "/why?backend=http://127.0.0.1:3003&cluster=web",
                404,
                "cluster web has no backend \"http://127.0.0.1:3003\": did you mean http://127.0.0.1:3001?\n\
                 there are:\n  http://127.0.0.1:3001\n  http://127.0.0.1:3002\n",
            ),
            (
                "GET",
                "/why?backend=unix:/run/api.sock",
                404,
                "there is no backend \"unix:/run/api.sock\": did you mean unix:/run/Api.sock?\n\
                 there are:\n  unix:/run/Api.sock\n  http://127.0.0.1:3001\n  http://127.0.0.1:3002\n\
                 \u{20} http://127.0.0.1:3001\n",
            ),
            (
                "GET",
                "/backends?cluster=wbe",
                404,
                "there is no cluster \"wbe\": did you mean web?\nthere are:\n  web\n  api\n",
            ),
            (
                "POST",
                "/backends?backend=127.0.0.1:3001&cluster=api&mode=up&weight=0",
                409,
                "no backend of cluster api but its backups would have a weight: to take this one out, drain it\n",
            ),
        ] {
            let found = asked(&admin, method, path);
            assert_eq!(found, (status, text.to_owned()), "{path}");
        }
        let (_, rows) = asked(
            &admin,
            "GET",
            &format!("/backends?format=json&backend={both}"),
        );
        assert_eq!(
            rows.matches("\"standing\":\"available\",\"mode\":\"auto\"")
                .count(),
            2
        );
        assert_eq!(rows.matches("\"weight\":1").count(), 2);
        // A backup may go to 0, and one of two.
        for path in [
            "/backends?backend=unix:/run/Api.sock&weight=0",
            "/backends?backend=127.0.0.1:3001&cluster=web&weight=0",
        ] {
            assert_eq!(asked(&admin, "POST", path).0, 200, "{path}");
        }
        assert_eq!(state.shared.backends.weights_changed(), 2);
        admin.stop();
    }

    #[test]
    fn ready_is_who_can_serve_at_least_one_route() {
        let (admin, state) = started_with(TWO);
        state.set_phase(Phase::Ready);
        let ok = (200, "ok\n".to_owned());
        assert_eq!(asked(&admin, "GET", "/readyz"), ok);
        let modes = |modes: [Mode; 4]| {
            for (id, mode) in (0..).map(BackendId).zip(modes) {
                state.shared.backends.set_mode(id, mode, 0);
            }
            asked(&admin, "GET", "/readyz")
        };
        let (auto, drain) = (Mode::Auto, Mode::Drain);
        assert_eq!(modes([auto, drain, drain, auto]), ok, "a backup will do");
        assert_eq!(
            modes([auto, drain, drain, drain]),
            (200, "ok, but no backend is available in: api\n".to_owned())
        );
        assert_eq!(
            modes([drain, drain, drain, drain]),
            (
                503,
                "not ready: no route has a backend, none is available in: api, web\n".to_owned()
            )
        );
        admin.stop();
    }

    #[test]
    fn a_failover_serves_and_so_does_who_fails_open() {
        let failover = r#"
[[clusters]]
name = "a"
failover = "b"
backends = ["http://127.0.0.1:3001"]
[[clusters]]
name = "b"
backends = ["http://127.0.0.1:3002"]
[[routes]]
cluster = "a"
"#;
        let open = "load_balancer.all_down = \"open\"\nbackends = [\"http://127.0.0.1:3001\"]";
        let down = Event::Check { passed: false };
        for (text, events, status) in [
            (failover, vec![down], 200),
            (failover, vec![down, down], 503),
            (ONE, vec![down], 503),
            (ONE, vec![down, Event::Mode(Mode::Up)], 200),
            (open, vec![down], 200),
            (open, vec![Event::Mode(Mode::Maintenance)], 503),
            // What is on trial gets requests.
            (ONE, vec![Event::Trip], 503),
            (ONE, vec![Event::Trip, Event::Elapsed], 200),
        ] {
            let (admin, state) = started_with(text);
            state.set_phase(Phase::Ready);
            let backends = state.shared.plan.backends.len() as u32;
            for (number, event) in (0..).zip(&events) {
                let id = BackendId(number % backends);
                let now = u64::from(number) * 60_000_000_000;
                let why = || crate::backends::Why::Operator;
                state.shared.backends.apply(id, *event, now, why);
            }
            assert_eq!(
                asked(&admin, "GET", "/readyz").0,
                status,
                "{text} {events:?}"
            );
            admin.stop();
        }
    }

    #[test]
    fn events_reach_who_listens_and_who_leaves_makes_room() {
        let (admin, state) = started();
        // More than may listen at a time.
        for number in 0..20 {
            let (mut stream, mut seen) = listening(&admin);
            let mut buf = [0; 1024];
            assert!(
                seen.contains("\r\nContent-Type: text/event-stream\r\n"),
                "{seen}"
            );
            state
                .ledger
                .tell(&format!("{{\"number\":{number}}}").into());
            let expected = format!("data: {{\"number\":{number}}}\n\n");
            while !seen.ends_with(&expected) {
                let count = stream.read(&mut buf).unwrap();
                assert!(count > 0, "{seen}");
                seen.push_str(std::str::from_utf8(&buf[..count]).unwrap());
            }
        }
        let answer = ask(&admin, "HEAD", "/events");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(answer.contains("\r\nContent-Type: text/event-stream\r\n"));
        admin.stop();
    }

    #[test]
    fn an_ejected_backend_says_for_how_long_and_why() {
        let (admin, state) = started_with(TWO);
        let failed = Event::Failed { may_eject: true };
        let cause = || crate::backends::Why::Request(crate::policy::retry::Cause::Timeout);
        let now = state.moment().now;
        state
            .shared
            .backends
            .apply(BackendId(1), failed, now, cause);
        reported_for(&state, BackendId(1));
        let (_, table) = asked(&admin, "GET", "/backends?backend=127.0.0.1:3002");
        assert!(table.contains("  ejected, "), "{table}");
        assert!(table.trim_end().ends_with("requests: timeout"), "{table}");
        let (_, why) = asked(&admin, "GET", "/why?backend=127.0.0.1:3002");
        for part in [
            "gets no requests, decided by: requests\n",
            "; ejected for another ",
            "; was out 1 times of late\n",
            "available → ejected, requests: timeout\n",
        ] {
            assert!(why.contains(part), "{part} is not in\n{why}");
        }
        admin.stop();
    }

    /// A stream of events with what came of it. Until the server notices who has left, it may be full.
    fn listening(admin: &Admin) -> (StdStream, String) {
        for _ in 0..10_000 {
            let mut stream = StdStream::connect(admin.address()).unwrap();
            stream
                .write_all(b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n")
                .unwrap();
            let mut seen = String::new();
            let mut buf = [0; 1024];
            while !seen.contains("\r\n\r\n") {
                let count = stream.read(&mut buf).unwrap();
                seen.push_str(std::str::from_utf8(&buf[..count]).unwrap());
            }
            if !seen.starts_with("HTTP/1.1 503 ") {
                return (stream, seen);
            }
        }
        panic!("there is never room");
    }

    fn reported_for(state: &AdminState, id: BackendId) {
        while !backends::is_reported(state, id) {
            std::thread::yield_now();
        }
    }
}
