//! What the tests of the real binary share: the process, and the two ends of a connection that are ours.
//!
//! Decides: how the binary is started, watched and stopped. Knows nothing of the proxy's code, so that a mistake
//! there is not mirrored here. Invariant: every wait is bounded, and a process that a test started is gone when the
//! test is over.

#![allow(dead_code, reason = "each test binary uses its own part of it")]

pub(crate) mod chromium;
pub(crate) mod compression;
pub(crate) mod load;
pub(crate) mod peer;
pub(crate) mod site;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use socket2::{Domain, Socket, Type};

/// Longest wait for anything that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Looks at a metric until it must have its value: several seconds' worth.
const METRIC_LOOKS: u32 = 20_000;

/// An address that takes no connection: its queue is full as long as these sockets live.
pub(crate) fn blackhole() -> (SocketAddr, Vec<Socket>) {
    let full = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    full.bind(&any.into()).unwrap();
    full.listen(0).unwrap();
    let address = full.local_addr().unwrap();
    let mut held = vec![full];
    for _ in 0..4 {
        let one = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        one.set_nonblocking(true).unwrap();
        let _ = one.connect(&address);
        held.push(one);
    }
    (address.as_socket().unwrap(), held)
}

/// The two engines, as the configuration names them.
pub(crate) const ENGINES: [&str; 2] = ["io_uring", "epoll"];

static STARTED: AtomicU32 = AtomicU32::new(0);

/// A directory that goes away with the value.
pub(crate) struct TempDir(pub(crate) PathBuf);

impl TempDir {
    pub(crate) fn new() -> TempDir {
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let name = format!("corelane-test-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        TempDir(path)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// An address that nothing else uses: listeners share ports (SO_REUSEPORT), so that two proxies on one port would
/// go unnoticed. Each gets an address of 127.0.0.0/8 of its own.
pub(crate) fn free_address() -> SocketAddr {
    let number = STARTED.fetch_add(1, Ordering::Relaxed);
    let place = std::process::id().wrapping_mul(251).wrapping_add(number);
    let [_, a, b, c] = place.to_be_bytes();
    let ip = Ipv4Addr::new(127, 100 + (a % 100), b, c.clamp(1, 254));
    let probe = TcpListener::bind((ip, 0)).unwrap();
    probe.local_addr().unwrap()
}

/// A running `corelane`.
pub(crate) struct Proxy {
    child: Child,
    /// Where clients connect.
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
    logged: Vec<String>,
    said: Vec<String>,
    _directory: TempDir,
}

impl Proxy {
    /// Starts it with a configuration in which `{listen}` and `{port}` stand for its own address.
    pub(crate) fn start(config: &str) -> Proxy {
        Proxy::start_with(config, Command::new(env!("CARGO_BIN_EXE_corelane")))
    }

    /// The same by another command, to which `run -c FILE` is added.
    pub(crate) fn start_with(config: &str, mut command: Command) -> Proxy {
        let address = free_address();
        let directory = TempDir::new();
        let config = config
            .replace("{listen}", &address.to_string())
            .replace("{port}", &address.port().to_string());
        let file = directory.0.join("config.toml");
        std::fs::write(&file, config).unwrap();
        let mut child = command
            .args(["run", "-c"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = lines(child.stdout.take().unwrap());
        let stderr = lines(child.stderr.take().unwrap());
        let mut proxy = Proxy {
            child,
            address,
            admin: address,
            stdout,
            stderr,
            logged: Vec::new(),
            said: Vec::new(),
            _directory: directory,
        };
        let banner = proxy.wait_for_message("corelane is ready");
        let admin = banner.split("\"admin\":\"").nth(1).unwrap_or_default();
        let admin = admin.split('"').next().unwrap_or_default();
        proxy.admin = admin.parse().unwrap_or(address);
        proxy
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line of stderr that holds `text`.
    pub(crate) fn wait_for_message(&mut self, text: &str) -> String {
        wait_for(&self.stderr, &mut self.said, 0, text).unwrap_or_else(|| {
            panic!("not said: {text:?}; said was:\n{}", self.said.join("\n"));
        })
    }

    /// A line of stderr up to the banner.
    pub(crate) fn said(&mut self, text: &str) -> String {
        let found = self.said.iter().find(|line| line.contains(text));
        found.cloned().unwrap_or_default()
    }

    /// How many lines of stderr so far hold `text`.
    pub(crate) fn times_said(&mut self, text: &str) -> usize {
        self.said.extend(self.stderr.try_iter());
        let found = self.said.iter().filter(|line| line.contains(text));
        found.count()
    }

    /// Waits for an access line that holds `text`, after the first `after` ones.
    pub(crate) fn wait_for_line(&mut self, after: usize, text: &str) -> Result<String, String> {
        let found = wait_for(&self.stdout, &mut self.logged, after, text);
        found.ok_or_else(|| format!("not logged: {text:?}; last was {:?}", self.logged.last()))
    }

    /// All of stderr so far.
    pub(crate) fn all_said(&mut self) -> String {
        self.said.extend(self.stderr.try_iter());
        self.said.join("\n")
    }

    /// The access lines so far.
    pub(crate) fn logged(&mut self) -> &[String] {
        self.logged.extend(self.stdout.try_iter());
        &self.logged
    }

    /// Everything of `/metrics`.
    pub(crate) fn metrics(&self) -> String {
        let mut stream = TcpStream::connect(self.admin).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    /// The sum of the samples whose line begins with `sample`.
    pub(crate) fn metric(&self, sample: &str) -> u64 {
        let text = self.metrics();
        let found = text.lines().filter_map(|line| line.strip_prefix(sample));
        found
            .filter_map(|rest| rest.rsplit(' ').next()?.parse::<u64>().ok())
            .sum()
    }

    /// Waits until the metric is as wanted.
    pub(crate) fn wait_for_metric(
        &self,
        sample: &str,
        wanted: impl Fn(u64) -> bool,
    ) -> Result<(), String> {
        for _ in 0..METRIC_LOOKS {
            if wanted(self.metric(sample)) {
                return Ok(());
            }
            std::thread::yield_now();
        }
        Err(format!("{sample} stays at {}", self.metric(sample)))
    }

    /// Peak of resident memory in KiB.
    pub(crate) fn peak_memory_kib(&self) -> u64 {
        self.kib("VmHWM:")
    }

    /// Resident memory in KiB.
    pub(crate) fn memory_kib(&self) -> u64 {
        self.kib("VmRSS:")
    }

    fn kib(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits for its end; the exit status, and all that it wrote to stdout and stderr.
    pub(crate) fn wait(&mut self) -> (ExitStatus, Vec<String>, Vec<String>) {
        // Both pipes end with the process.
        while let Ok(line) = self.stderr.recv_timeout(PATIENCE) {
            self.said.push(line);
        }
        while let Ok(line) = self.stdout.recv_timeout(PATIENCE) {
            self.logged.push(line);
        }
        let status = self.child.try_wait().unwrap();
        let status = status.or_else(|| {
            std::thread::yield_now();
            self.child.wait().ok()
        });
        (
            status.expect("the process ends when its output ends"),
            std::mem::take(&mut self.logged),
            std::mem::take(&mut self.said),
        )
    }

    /// Stops it as an operator would, and checks that it ended well.
    pub(crate) fn stop(mut self) -> Vec<String> {
        assert_eq!(
            self.metric("corelane_panics_total"),
            0,
            "a request panicked"
        );
        self.signal(Signal::TERM);
        let (status, logged, said) = self.wait();
        let said = said.join("\n");
        assert_eq!(status.code(), Some(0), "{said}");
        assert!(!said.contains("panic"), "{said}");
        logged
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A thread that passes on what is written, line by line, until the pipe ends.
fn lines(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).split(b'\n') {
            let Ok(line) = line else { return };
            if sender
                .send(String::from_utf8_lossy(&line).into_owned())
                .is_err()
            {
                return;
            }
        }
    });
    receiver
}

fn wait_for(
    from: &Receiver<String>,
    seen: &mut Vec<String>,
    after: usize,
    text: &str,
) -> Option<String> {
    let mut at = after;
    loop {
        while at < seen.len() {
            if seen[at].contains(text) {
                return Some(seen[at].clone());
            }
            at += 1;
        }
        seen.push(from.recv_timeout(PATIENCE).ok()?);
    }
}
