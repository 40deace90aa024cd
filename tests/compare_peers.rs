//! The programs that we compare with, as they are set up for it, in front of the fast backend.
//!
//! Each listens on a loopback address of its own, so that no other test and no outgoing connection has its port.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use corelane::bench::compare::peer::{Feature, Kind, ORIGIN, Setup};
use corelane::mock;
use rustix::process::{Pid, Signal, getpid, kill_process_group};

/// Longest time for anything to happen; Varnish compiles its configuration.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at what has no way to tell us, and how many looks are that long.
const LOOK: Duration = Duration::from_millis(5);
const LOOKS_MAX: u128 = PATIENCE.as_millis() / LOOK.as_millis();

/// Looks until it is done; `false` if it never is.
fn eventually(mut is_done: impl FnMut() -> bool) -> bool {
    (0..LOOKS_MAX).any(|_| {
        is_done() || {
            thread::park_timeout(LOOK);
            false
        }
    })
}

/// Its binary; `None` only if this Debian release does not have it.
fn binary(kind: Kind) -> Option<PathBuf> {
    let package = match kind {
        Kind::Corelane | Kind::Relay => return Some(env!("CARGO_BIN_EXE_corelane").into()),
        Kind::Nginx => "nginx-light",
        Kind::Haproxy => "haproxy",
        Kind::Caddy => "caddy",
        Kind::Varnish => "varnish",
    };
    let found = kind.find();
    if found.is_none() {
        let lists = fs::read_dir("/var/lib/apt/lists").unwrap();
        let mut names = lists.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let knows_packages = names.any(|name| name.contains("_Packages"));
        let policy = Command::new("apt-cache").args(["policy", package]).output();
        let policy = String::from_utf8(policy.unwrap().stdout).unwrap();
        let is_in_debian = policy.contains("Candidate:") && !policy.contains("Candidate: (none)");
        assert!(
            knows_packages && !is_in_debian,
            "{kind:?} is missing: scripts/install-peers installs it"
        );
    }
    found
}

/// A started target; dropping it ends it and all that it started.
struct Target {
    child: Child,
    address: SocketAddr,
    directory: PathBuf,
    output: Receiver<String>,
}

impl Target {
    fn start(kind: Kind, binary: &Path, setup: Setup) -> Target {
        fs::create_dir_all(&setup.directory).unwrap();
        for (name, text) in kind.files(&setup) {
            fs::write(setup.directory.join(name), text).unwrap();
        }
        let (arguments, environment) = kind.command(&setup);
        let mut child = Command::new(binary)
            .args(arguments)
            .envs(environment)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(setup.directory.join("stderr")).unwrap())
            .process_group(0)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (sender, output) = channel();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                // The test may have seen enough.
                let _ = sender.send(line);
            }
        });
        let mut target = Target {
            child,
            address: setup.listen,
            directory: setup.directory,
            output,
        };
        target.wait_until_it_listens(kind);
        target
    }

    fn wait_until_it_listens(&mut self, kind: Kind) {
        let mut ended = None;
        let is_over = eventually(|| {
            ended = self.child.try_wait().unwrap();
            ended.is_some() || TcpStream::connect(self.address).is_ok()
        });
        if !is_over || ended.is_some() {
            let said = ["stderr", "error.log"]
                .map(|name| fs::read_to_string(self.directory.join(name)).unwrap_or_default());
            panic!("{kind:?} does not listen: {ended:?} {said:?}");
        }
    }

    fn connect(&self) -> Client {
        Client::connect(self.address)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let group = Pid::from_child(&self.child);
        // In order first, so that a master takes its workers along.
        let _ = kill_process_group(group, Signal::TERM);
        eventually(|| !matches!(self.child.try_wait(), Ok(None)));
        let _ = kill_process_group(group, Signal::KILL);
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn plain_request(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: peers.test\r\n\r\n")
}

struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Client(BufReader::new(stream))
    }

    /// Status and body. The connection goes on.
    fn get(&mut self, path: &str) -> (u16, String) {
        self.exchange(plain_request(path).as_bytes())
    }

    fn exchange(&mut self, request: &[u8]) -> (u16, String) {
        let (status, _, body) = self.exchange_all(request);
        (status, body)
    }

    /// Status, head and body.
    fn exchange_all(&mut self, request: &[u8]) -> (u16, String, String) {
        self.0.get_mut().write_all(request).unwrap();
        let (mut status, mut length) = (0, None);
        let mut head = String::new();
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).unwrap();
            head.push_str(&line);
            if let Some(rest) = line.strip_prefix("HTTP/1.1 ") {
                status = rest[..3].parse().unwrap();
            }
            match line.trim_end().split_once(": ") {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = Some(value.parse().unwrap());
                }
                Some(_) => {}
                None if line == "\r\n" => break,
                None => assert!(line.starts_with("HTTP/1.1 "), "cut at {line:?}"),
            }
        }
        let mut body = vec![0; length.expect("every answer here has a length")];
        self.0.read_exact(&mut body).unwrap();
        (status, head, String::from_utf8(body).unwrap())
    }
}

/// Mock backends, and how many requests the fast ones have seen.
struct Backends(Vec<SocketAddr>);

impl Backends {
    fn start(count: usize, fast: bool) -> Backends {
        let start = |_| {
            let args = mock::Args {
                fast,
                ..mock::Args::named("peers")
            };
            mock::spawn(args).unwrap().0
        };
        Backends((0..count).map(start).collect())
    }

    fn count(&self) -> Vec<u64> {
        let count = |address: &SocketAddr| Client::connect(*address).get("/__count").1;
        let counts = self.0.iter().map(count);
        counts.map(|digits| digits.parse().unwrap()).collect()
    }

    fn setup(&self, kind: Kind, routes: u32, feature: Feature) -> Setup {
        static NUMBER: AtomicU8 = AtomicU8::new(1);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let pid = getpid().as_raw_nonzero().get();
        let [.., high, low] = pid.to_be_bytes();
        let ip = Ipv4Addr::new(127, 64 + number, high, low);
        let free = || {
            let listener = TcpListener::bind((ip, 0)).unwrap();
            listener.local_addr().unwrap()
        };
        let directory = format!("corelane-peers-{pid}-{}-{number}", kind.name());
        Setup {
            listen: free(),
            admin: free(),
            backends: self.0.clone(),
            routes,
            connections_max: 64,
            feature,
            directory: std::env::temp_dir().join(directory),
        }
    }
}

/// Starts `kind` if it can do this and is there, and gives it to `check`.
fn with_target(
    kind: Kind,
    backends: &Backends,
    routes: u32,
    feature: Feature,
    check: impl FnOnce(&Target),
) {
    let setup = backends.setup(kind, routes, feature);
    if kind.refusal(&setup).is_none()
        && let Some(binary) = binary(kind)
    {
        check(&Target::start(kind, &binary, setup));
    }
}

#[test]
fn each_says_its_version_in_one_line() {
    for kind in Kind::ALL {
        if let Some(binary) = binary(kind) {
            let version = kind.version(&binary);
            assert!(version.contains('.'), "{kind:?}: {version:?}");
            assert_eq!(version.lines().count(), 1, "{kind:?}: {version:?}");
        }
    }
}

#[test]
fn each_forwards_and_keeps_connections() {
    for kind in Kind::ALL {
        for (backends, routes, paths) in [(1, 1, ["/", "/x/"]), (3, 3, ["/r0/", "/r2/"])] {
            let backends = Backends::start(backends, true);
            with_target(kind, &backends, routes, Feature::Plain, |target| {
                let mut client = target.connect();
                for path in paths.repeat(3) {
                    let (status, body) = client.get(path);
                    assert_eq!((status, body.len()), (200, 100), "{kind:?} {path}");
                }
                // Six requests, evenly spread.
                let expected = vec![6 / backends.0.len() as u64; backends.0.len()];
                assert_eq!(backends.count(), expected, "{kind:?}");
                if routes > 1 {
                    assert_eq!(client.get("/other/").0, 404, "{kind:?}");
                }
            });
        }
    }
}

#[test]
fn each_streams_chunked_uploads() {
    let backends = Backends::start(1, true);
    for kind in Kind::ALL {
        with_target(kind, &backends, 1, Feature::Plain, |target| {
            let chunk = format!("1000\r\n{}\r\n", "c".repeat(0x1000));
            let request = format!(
                "POST /4k HTTP/1.1\r\nHost: peers.test\r\nTransfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n",
                chunk.repeat(16)
            );
            let (status, body) = target.connect().exchange(request.as_bytes());
            assert_eq!((status, body.len()), (200, 4096), "{kind:?}");
        });
    }
}

#[test]
fn each_forwards_the_same_fields() {
    // The full mock answers with the head that it got.
    let backends = Backends::start(1, false);
    // The relay passes on what it gets.
    let proxies = Kind::ALL.into_iter().filter(|kind| *kind != Kind::Relay);
    for kind in proxies {
        let feature = match kind {
            Kind::Varnish => Feature::Cache,
            Kind::Corelane | Kind::Relay | Kind::Nginx | Kind::Haproxy | Kind::Caddy => {
                Feature::Plain
            }
        };
        with_target(kind, &backends, 1, feature, |target| {
            let (_, seen) = target.connect().get("/");
            let seen = seen.to_ascii_lowercase();
            for field in [
                "host: peers.test\n",
                "x-forwarded-for: 127.0.0.1\n",
                "x-forwarded-proto: http\n",
                "x-forwarded-host: peers.test\n",
            ] {
                assert!(seen.contains(field), "{kind:?}: no {field:?} in {seen}");
            }
        });
    }
}

#[test]
fn each_logs_one_line_of_json_per_request() {
    let backends = Backends::start(1, true);
    for kind in Kind::ALL {
        with_target(kind, &backends, 1, Feature::AccessLog, |target| {
            let mut client = target.connect();
            for path in ["/4k?first", "/64k?second"] {
                assert_eq!(client.get(path).0, 200, "{kind:?}");
                let line = target.output.recv_timeout(PATIENCE).unwrap();
                let (name, query) = path.split_once('?').unwrap();
                for part in [name, query, "GET", "200"] {
                    assert!(line.contains(part), "{kind:?}: no {part} in {line}");
                }
                assert!(line.starts_with('{') && line.ends_with('}'), "{line}");
            }
        });
    }
}

#[test]
fn a_cache_asks_the_backend_once() {
    for kind in Kind::ALL {
        let backends = Backends::start(1, true);
        with_target(kind, &backends, 1, Feature::Cache, |target| {
            let mut client = target.connect();
            for (path, length) in [
                ("/cache/a", 100),
                ("/cache/a/4k", 4096),
                ("/cache/a/64k", 65_536),
            ] {
                let counted = backends.count()[0];
                for _ in 0..2 {
                    let (status, body) = client.get(path);
                    assert_eq!((status, body.len()), (200, length), "{kind:?} {path}");
                }
                assert_eq!(backends.count()[0], counted + 1, "{kind:?} {path}");
            }
        });
    }
}

#[test]
fn a_limit_refuses_the_second_request() {
    for kind in Kind::ALL {
        let backends = Backends::start(1, true);
        with_target(kind, &backends, 1, Feature::Limit, |target| {
            let mut client = target.connect();
            assert_eq!(client.get("/").0, 200, "{kind:?}");
            // On the same connection: a refusal must not cost one.
            for _ in 0..3 {
                assert_eq!(client.get("/").0, 429, "{kind:?}");
            }
            assert_eq!(backends.count(), [1], "{kind:?}");
        });
    }
}

/// The value of a field in lines; `None` if it is not there.
fn field<'t>(lines: &'t str, name: &str) -> Option<&'t str> {
    let mut found = lines.lines().filter_map(|line| {
        let (known, value) = line.split_once(": ")?;
        known.eq_ignore_ascii_case(name).then_some(value)
    });
    let value = found.next();
    assert_eq!(found.next(), None, "{name} twice in {lines}");
    value
}

#[test]
fn filters_edit_both_heads_and_refuse_nobody() {
    // The full mock answers with the head that it got.
    let backends = Backends::start(1, false);
    for kind in Kind::ALL {
        with_target(kind, &backends, 1, Feature::Filters, |target| {
            let mut client = target.connect();
            let request = format!(
                "GET / HTTP/1.1\r\nHost: peers.test\r\nOrigin: {ORIGIN}\r\nX-Debug: 1\r\n\r\n"
            );
            let (status, head, seen) = client.exchange_all(request.as_bytes());
            assert_eq!(status, 200, "{kind:?}");
            let id = field(&head, "X-Request-Id");
            assert!(id.is_some_and(|id| id.len() >= 16), "{kind:?}: {head}");
            for (lines, name, value) in [
                (&seen, "X-Request-Id", id),
                (&seen, "X-Client", Some("127.0.0.1")),
                (&seen, "X-Site", Some("bench")),
                (&seen, "X-Debug", None),
                (&head, "Access-Control-Allow-Origin", Some(ORIGIN)),
                (&head, "X-Frame-Options", Some("DENY")),
                (&head, "X-Content-Type-Options", Some("nosniff")),
                (&head, "Vary", Some("Origin")),
                (&head, "X-Backend", None),
            ] {
                assert_eq!(field(lines, name), value, "{kind:?} {name}: {lines}");
            }
            let exposed = field(&head, "Access-Control-Expose-Headers").unwrap_or_default();
            assert!(exposed.eq_ignore_ascii_case("X-Request-Id"), "{kind:?}");
            // Many within a millisecond.
            for _ in 0..200 {
                let (status, head, _) = client.exchange_all(plain_request("/").as_bytes());
                assert_eq!(status, 200, "{kind:?}");
                let other = field(&head, "X-Request-Id");
                assert_ne!(other, field(&seen, "X-Request-Id"), "{kind:?}");
                assert_eq!(field(&head, "Access-Control-Allow-Origin"), None);
            }
        });
    }
}

#[test]
fn nothing_listens_when_a_target_is_dropped() {
    let backends = Backends::start(1, true);
    for kind in Kind::ALL {
        let mut address = None;
        with_target(kind, &backends, 1, Feature::Cache, |target| {
            address = Some(target.address);
        });
        if let Some(address) = address {
            let refused = TcpStream::connect(address).unwrap_err().kind();
            assert_eq!(refused, ErrorKind::ConnectionRefused, "{kind:?}");
        }
    }
}
