//! Backends and load as processes of their own, for tests that end backends and count what their clients noticed.
//!
//! Decides: how a backend is ended and started again at its address, and how load is run beside a test. Knows nothing
//! of the proxy's code. Invariant: a process that was started here is gone when its value is.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::peer::Peer;
use super::{PATIENCE, TempDir, free_address};

/// Between two looks at what must happen, so that looking does not slow it down.
const LOOK: Duration = Duration::from_millis(10);
/// Half a minute's worth.
const LOOKS: u32 = 3000;

/// Waits until it is so.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..LOOKS {
        if is_so() {
            return;
        }
        std::thread::park_timeout(LOOK);
    }
    panic!("waited in vain until {what}");
}

fn send_signal(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// A request as a backend wrote it down.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Logged {
    pub(crate) method: String,
    pub(crate) target: String,
}

/// A backend process at an address that is its own.
pub(crate) struct Mock {
    name: String,
    pub(crate) address: SocketAddr,
    log: PathBuf,
    child: Option<Child>,
}

impl Mock {
    /// Starts one with flags of `corelane mock`; its log is in `folder`.
    pub(crate) fn start(name: &str, folder: &Path, flags: &[&str]) -> Mock {
        let mut mock = Mock {
            name: name.to_owned(),
            address: free_address(),
            log: folder.join(name),
            child: None,
        };
        mock.start_again(flags);
        mock
    }

    /// Starts the process at the same address. Its log goes on, its counts begin anew.
    pub(crate) fn start_again(&mut self, flags: &[&str]) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let mut child = Command::new(env!("CARGO_BIN_EXE_corelane"))
            .args(["mock", "--name", &self.name])
            .args(["--listen", &self.address.to_string(), "--log"])
            .arg(&self.log)
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        self.child = Some(child);
        stdout.read_line(&mut said).unwrap();
        assert!(said.contains("listens on"), "{} did not start", self.name);
    }

    /// Ends it as a crash does: SIGKILL.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            send_signal(&child, Signal::KILL);
            child.wait().unwrap();
        }
    }

    fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(
            stream,
            "{request} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        answer
    }

    /// What it has counted under a name since it was started: `requests`, `failed`, `health`, a method.
    pub(crate) fn count(&self, name: &str) -> u64 {
        let answer = self.ask("GET /__count");
        let mut lines = answer.lines().filter_map(|line| line.split_once(' '));
        let found = lines.find(|(known, _)| *known == name);
        found.expect("a name that it counts").1.parse().unwrap()
    }

    /// Changes what `/health` answers.
    pub(crate) fn set_health(&self, status: u16) {
        self.ask(&format!("POST /__health/{status}"));
    }

    /// All requests that ever came to this address, in order.
    pub(crate) fn logged(&self) -> Vec<Logged> {
        let text = std::fs::read_to_string(&self.log).unwrap();
        let lines = text.lines().filter_map(|line| line.split_once(' '));
        let logged = lines.map(|(method, target)| Logged {
            method: method.to_owned(),
            target: target.to_owned(),
        });
        logged.collect()
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A load test that is going on.
pub(crate) struct Load {
    child: Child,
    flags: String,
    folder: TempDir,
}

impl Load {
    /// Starts one with flags of `corelane bench`.
    pub(crate) fn start(url: &str, flags: &[&str]) -> Load {
        let folder = TempDir::new();
        let child = Command::new(env!("CARGO_BIN_EXE_corelane"))
            .args(["bench", "--url", url, "--json"])
            .arg(folder.0.join("report"))
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let flags = format!("{url} {}", flags.join(" "));
        Load {
            child,
            flags,
            folder,
        }
    }

    /// Ends it in order: what is under way is answered, and counts.
    pub(crate) fn stop(self) -> Report {
        send_signal(&self.child, Signal::INT);
        self.finish()
    }

    /// Waits for its end.
    pub(crate) fn finish(mut self) -> Report {
        let status = self.child.wait().unwrap();
        let text = std::fs::read_to_string(self.folder.0.join("report"));
        let text = text.unwrap_or_else(|error| panic!("{} ({status}): {error}", self.flags));
        Report { text }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a load came to.
#[derive(Debug)]
pub(crate) struct Report {
    text: String,
}

impl Report {
    /// A number of the report itself: `requests`, `good`, `errors`.
    pub(crate) fn number(&self, name: &str) -> u64 {
        number(&self.text, name).unwrap_or_else(|| panic!("no {name} in {}", self.text))
    }

    fn object(&self, name: &str) -> &str {
        let begin = format!("\"{name}\":{{");
        let (_, rest) = self.text.split_once(&begin).expect("a name of the report");
        rest.split('}').next().unwrap()
    }

    /// Requests that ended with such a trouble.
    pub(crate) fn trouble(&self, name: &str) -> u64 {
        number(self.object("errors_by_kind"), name).expect("a kind of trouble")
    }

    /// Answers with a status.
    pub(crate) fn status(&self, status: u16) -> u64 {
        number(self.object("statuses"), &status.to_string()).unwrap_or(0)
    }

    /// A quantile, such as `p99`, or `max`.
    pub(crate) fn latency_ms(&self, quantile: &str) -> u64 {
        number(self.object("latency_ns"), quantile).expect("a quantile") / 1_000_000
    }

    /// What to show when a claim about it does not hold: its errors and statuses.
    pub(crate) fn summary(&self) -> String {
        format!(
            "{} requests, {} good, errors {{{}}}, statuses {{{}}}, p99 {} ms",
            self.number("requests"),
            self.number("good"),
            self.object("errors_by_kind"),
            self.object("statuses"),
            self.latency_ms("p99")
        )
    }
}

/// The first number with a name.
fn number(text: &str, name: &str) -> Option<u64> {
    let (_, rest) = text.split_once(&format!("\"{name}\":"))?;
    let end = rest.find(|byte: char| !byte.is_ascii_digit());
    rest[..end.unwrap_or(rest.len())].parse().ok()
}

/// A client that looks at what it gets, while load generators only count: each answer must be that to its own
/// request.
pub(crate) struct Witness {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Seen>,
}

/// What a witness saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) statuses: BTreeMap<u16, u64>,
    /// Connections that ended before a whole answer.
    pub(crate) cut: u64,
}

impl Seen {
    /// Nothing but whole answers of 200.
    pub(crate) fn check_all_good(&self) {
        assert_eq!(self.cut, 0, "{self:?}");
        let statuses: Vec<_> = self.statuses.keys().collect();
        assert_eq!(statuses, [&200], "{self:?}");
    }
}

impl Witness {
    /// Starts one. Its requests are `GET /witness-NAME-NUMBER`.
    pub(crate) fn start(proxy: SocketAddr, name: &'static str) -> Witness {
        let stop = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut seen = Seen::default();
            let mut connection = None;
            let mut number = 0;
            while !is_over.load(Ordering::Relaxed) {
                number += 1;
                let target = format!("/witness-{name}-{number}");
                let client = connection.get_or_insert_with(|| connect(proxy));
                match ask(client, &target) {
                    Ok(status) => *seen.statuses.entry(status).or_default() += 1,
                    Err(_) => {
                        seen.cut += 1;
                        connection = None;
                    }
                }
                // A few hundred per second are enough.
                std::thread::park_timeout(Duration::from_millis(2));
            }
            seen
        });
        Witness { stop, thread }
    }

    /// Ends it. Fails if it ever got an answer that was not its own.
    pub(crate) fn finish(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("each answer is its own")
    }
}

pub(crate) fn connect(proxy: SocketAddr) -> Peer {
    Peer::new(TcpStream::connect(proxy).unwrap())
}

/// One request of a witness; the status of its answer.
fn ask(client: &mut Peer, target: &str) -> Result<u16, String> {
    client.send(format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes());
    let head = client.head()?;
    let body = client.body(&head, false)?;
    if !body.complete {
        return Err("cut".to_owned());
    }
    let status = head.status().expect("a status");
    let text = String::from_utf8_lossy(&body.bytes);
    // A good answer describes its request. Others may come from the proxy, which does not.
    let is_own = text.contains(&format!("\nGET {target} HTTP/1.1\n"));
    assert!(is_own || status != 200, "{target} got {text}");
    if head.all("connection").contains(&"close") {
        *client = connect(client.stream.peer_addr().map_err(|e| e.to_string())?);
    }
    Ok(status)
}
