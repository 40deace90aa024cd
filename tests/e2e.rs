//! The real binary as an operator meets it: large bodies, slow readers, signals, limits, exit codes.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of a test may fail as the test itself may"
)]

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use corelane::mock;
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use support::peer::Peer;
use support::{ENGINES, PATIENCE, Proxy, TempDir};

const MIB: usize = 1024 * 1024;

/// Two shards on an engine; more keys and `backends` are added.
fn config(engine: &str, more: &str) -> String {
    format!(
        "{more}\nserver.listen = \"{{listen}}\"\nserver.shards = 2\nserver.pin = false\n\
         server.engine = \"{engine}\"\nadmin.listen = \"127.0.0.1:0\"\n"
    )
}

fn backend_key(addresses: &[String]) -> String {
    let urls: Vec<String> = addresses
        .iter()
        .map(|address| format!("\"http://{address}\""))
        .collect();
    format!("backends = [{}]", urls.join(", "))
}

/// A mock backend in this process.
fn mock_backend(name: &str) -> String {
    let (address, _) = mock::spawn(mock::Args::named(name)).unwrap();
    address.to_string()
}

/// One request on a connection that goes on; status and body.
fn get(client: &mut Peer, path: &str) -> (u16, String) {
    client.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes());
    let head = client.head().unwrap();
    let body = client.body(&head, false).unwrap();
    assert!(body.complete);
    (
        head.status().unwrap(),
        String::from_utf8_lossy(&body.bytes).into_owned(),
    )
}

fn client(proxy: &Proxy) -> Peer {
    client_of(proxy.address)
}

fn client_of(address: SocketAddr) -> Peer {
    Peer::new(TcpStream::connect(address).unwrap())
}

/// A backend that answers each connection by `serve`, on threads of its own, until the process ends.
fn backend(serve: impl Fn(TcpStream) + Send + Clone + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let serve = serve.clone();
            std::thread::spawn(move || serve(stream));
        }
    });
    address
}

/// A payload of which every MiB differs, made and checked without much work per byte.
struct Payload {
    block: Vec<u8>,
    number: u64,
    offset: usize,
}

impl Payload {
    fn new() -> Payload {
        let block = (0..MIB).map(|i| (i % 251) as u8).collect();
        let mut payload = Payload {
            block,
            number: 0,
            offset: 0,
        };
        payload.stamp();
        payload
    }

    fn stamp(&mut self) {
        self.block[..8].copy_from_slice(&self.number.to_le_bytes());
    }

    fn next(&mut self) {
        self.number += 1;
        self.offset = 0;
        self.stamp();
    }

    /// Checks the next bytes.
    fn check(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let count = bytes.len().min(MIB - self.offset);
            let expected = &self.block[self.offset..self.offset + count];
            assert!(
                bytes[..count] == *expected,
                "wrong bytes in MiB {}",
                self.number
            );
            bytes = &bytes[count..];
            self.offset += count;
            if self.offset == MIB {
                self.next();
            }
        }
    }

    fn send(mut self, to: &mut impl Write, mib: u64, chunked: bool) {
        while self.number < mib {
            if chunked {
                to.write_all(b"100000\r\n").unwrap();
            }
            to.write_all(&self.block).unwrap();
            if chunked {
                to.write_all(b"\r\n").unwrap();
            }
            self.next();
        }
        if chunked {
            to.write_all(b"0\r\n\r\n").unwrap();
        }
    }

    fn receive(mut self, from: &mut impl BufRead, mib: u64, chunked: bool) {
        let mut piece = vec![0; MIB];
        loop {
            let mut left = mib as usize * MIB;
            if chunked {
                let mut line = String::new();
                from.read_line(&mut line).unwrap();
                left = usize::from_str_radix(line.trim_end(), 16).expect("a chunk's size");
            }
            let last = !chunked || left == 0;
            while left > 0 {
                let count = left.min(MIB);
                from.read_exact(&mut piece[..count]).unwrap();
                self.check(&piece[..count]);
                left -= count;
            }
            if chunked {
                from.read_exact(&mut piece[..2]).unwrap();
                assert_eq!(&piece[..2], b"\r\n");
            }
            if last {
                break;
            }
        }
        assert_eq!(
            (self.number, self.offset),
            (mib, 0),
            "the length of the body"
        );
    }
}

/// Reads a head; its lines.
fn read_head(from: &mut impl BufRead) -> Vec<String> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if from.read_line(&mut line).unwrap() == 0 || line == "\r\n" {
            return lines;
        }
        lines.push(line.trim_end().to_owned());
    }
}

fn framing(mib: u64, chunked: bool) -> String {
    if chunked {
        "Transfer-Encoding: chunked".to_owned()
    } else {
        format!("Content-Length: {}", mib * MIB as u64)
    }
}

/// `GET /MIB/chunked` gets a payload, `POST` of the same path checks one.
fn serve_payloads(stream: TcpStream) {
    let mut to = stream.try_clone().unwrap();
    let mut from = BufReader::with_capacity(256 * 1024, stream);
    loop {
        let head = read_head(&mut from);
        let Some(line) = head.first() else { return };
        let mut parts = line.split([' ', '/']);
        let is_post = parts.next() == Some("POST");
        let mib: u64 = parts.nth(1).unwrap().parse().unwrap();
        let chunked = parts.next() == Some("chunked");
        if is_post {
            Payload::new().receive(&mut from, mib, chunked);
            to.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                .unwrap();
        } else {
            write!(to, "HTTP/1.1 200 OK\r\n{}\r\n\r\n", framing(mib, chunked)).unwrap();
            Payload::new().send(&mut to, mib, chunked);
        }
    }
}

/// Sends and receives a payload through the proxy.
fn payload_both_ways(proxy: &Proxy, mib: u64, form: &str) {
    let chunked = form == "chunked";
    let mut to = TcpStream::connect(proxy.address).unwrap();
    let mut from = BufReader::with_capacity(256 * 1024, to.try_clone().unwrap());
    write!(
        to,
        "POST /{mib}/{form} HTTP/1.1\r\nHost: a\r\n{}\r\n\r\n",
        framing(mib, chunked)
    )
    .unwrap();
    Payload::new().send(&mut to, mib, chunked);
    assert_eq!(read_head(&mut from)[0], "HTTP/1.1 200 OK");
    let mut ok = [0; 2];
    from.read_exact(&mut ok).unwrap();
    assert_eq!(&ok, b"ok");
    write!(to, "GET /{mib}/{form} HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(read_head(&mut from)[0], "HTTP/1.1 200 OK");
    Payload::new().receive(&mut from, mib, chunked);
}

#[test]
fn a_gibibyte_each_way_in_flat_memory() {
    let backend = backend(serve_payloads);
    for engine in ENGINES {
        let proxy = Proxy::start(&config(
            engine,
            &backend_key(std::slice::from_ref(&backend)),
        ));
        payload_both_ways(&proxy, 1024, "length");
        payload_both_ways(&proxy, 256, "chunked");
        let peak_kib = proxy.peak_memory_kib();
        assert!(peak_kib < 64 * 1024, "{engine}: {peak_kib} KiB");
        proxy.stop();
    }
}

#[test]
fn a_slow_reader_stalls_nobody() {
    let backends = [backend(serve_payloads)];
    for engine in ENGINES {
        let proxy = Proxy::start(
            &config(engine, &backend_key(&backends)).replace("shards = 2", "shards = 1"),
        );
        let mut slow = client(&proxy);
        slow.send(b"GET /200/length HTTP/1.1\r\nHost: a\r\n\r\n");
        let (done, finished) = channel::<()>();
        let reader = std::thread::spawn(move || {
            let mut piece = [0; 1024];
            let mut got = 0;
            // 10 KiB/s until the others are done.
            while finished.recv_timeout(Duration::from_millis(100))
                == Err(RecvTimeoutError::Timeout)
            {
                got += slow.stream.read(&mut piece).unwrap();
            }
            got
        });
        proxy
            .wait_for_metric("corelane_client_received_bytes_total", |bytes| bytes > 0)
            .unwrap();
        for _ in 0..200 {
            let mut quick = client(&proxy);
            quick.send(b"GET /1/length HTTP/1.1\r\nHost: a\r\n\r\n");
            let head = quick.head().unwrap();
            let body = quick.body(&head, false).unwrap();
            assert!(body.complete);
        }
        drop(done);
        reader.join().unwrap();
        let peak_kib = proxy.peak_memory_kib();
        assert!(peak_kib < 64 * 1024, "{engine}: {peak_kib} KiB");
        proxy.stop();
    }
}

#[test]
fn two_thousand_connections_against_512_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).unwrap();
    let backend = mock_backend("a");
    for engine in ENGINES {
        let mut command = Command::new("sh");
        command.args([
            "-c",
            "ulimit -n 512; exec \"$0\" \"$@\"",
            env!("CARGO_BIN_EXE_corelane"),
        ]);
        let text = config(engine, &backend_key(std::slice::from_ref(&backend)));
        let proxy = Proxy::start_with(&text, command);
        let mut held = Vec::new();
        for _ in 0..2000 {
            let mut one = client(&proxy);
            one.send(b"GET / HTTP/1.1\r\n");
            held.push(one);
        }
        proxy
            .wait_for_metric("corelane_accept_paused_total", |times| times > 0)
            .unwrap();
        // Those that were taken are served.
        let first = &mut held[0];
        first.send(b"Host: a\r\n\r\n");
        let head = first.head().unwrap();
        assert_eq!(head.status(), Some(200), "{head:?}");
        drop(held);
        for _ in 0..100 {
            assert_eq!(get(&mut client(&proxy), "/").0, 200);
        }
        proxy
            .wait_for_metric("corelane_client_connections ", |open| open < 10)
            .unwrap();
        proxy.stop();
    }
}

/// A backend of one connection: its request has come, and its answer is still owed.
fn pending_request(proxy: &Proxy, listener: &TcpListener) -> (Peer, Peer) {
    let mut waiting = client(proxy);
    waiting.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    let (stream, _) = listener.accept().unwrap();
    let mut backend = Peer::new(stream);
    assert_eq!(backend.head().unwrap().start, "GET /slow HTTP/1.1");
    (waiting, backend)
}

#[test]
fn sigterm_drains() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let backends = backend_key(&[listener.local_addr().unwrap().to_string()]);
    for engine in ENGINES {
        let mut proxy = Proxy::start(&config(engine, &backends));
        let mut idle = client(&proxy);
        let (mut waiting, mut backend) = pending_request(&proxy, &listener);
        proxy.signal(Signal::HUP);
        proxy.wait_for_message("SIGHUP");
        proxy.signal(Signal::TERM);
        proxy.wait_for_message("draining");
        // New connections are refused, and idle ones closed, while the request in flight goes on.
        let refused = (0..100_000).any(|_| TcpStream::connect(proxy.address).is_err());
        assert!(refused, "{engine}: still accepting");
        idle.closed().unwrap();
        backend.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone");
        let head = waiting.head().unwrap();
        assert_eq!(
            (head.status(), head.all("connection")),
            (Some(200), vec!["close"])
        );
        assert_eq!(waiting.body(&head, false).unwrap().bytes, b"done");
        waiting.closed().unwrap();
        let (status, _, said) = proxy.wait();
        assert_eq!(status.code(), Some(0), "{said:?}");
    }
}

/// One shard, so that everything of a test meets in it.
fn one_shard(engine: &str, backends: &str) -> String {
    config(engine, backends).replace("shards = 2", "shards = 1")
}

#[test]
fn no_new_connection_hangs_in_a_drain() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let backends = backend_key(&[listener.local_addr().unwrap().to_string()]);
    for engine in ENGINES {
        let mut proxy = Proxy::start(&one_shard(engine, &backends));
        let mut idle = client(&proxy);
        let (_waiting, mut backend) = pending_request(&proxy, &listener);
        proxy.signal(Signal::TERM);
        // The shard has seen the drain.
        idle.closed().unwrap();
        for _ in 0..5 {
            if let Ok(stream) = TcpStream::connect(proxy.address) {
                Peer::new(stream).closed().unwrap();
            }
        }
        assert!(TcpStream::connect(proxy.address).is_err(), "{engine}");
        backend.send(b"HTTP/1.1 204 No Content\r\n\r\n");
        assert_eq!(proxy.wait().0.code(), Some(0));
    }
}

#[test]
fn a_drain_takes_no_connection_that_it_will_not_serve() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let slow = listener.local_addr().unwrap().to_string();
    let more = format!(
        "clusters = [{{ name = \"slow\", {} }}, {{ name = \"fast\", {} }}]\n\
         routes = [{{ path = \"/slow\", cluster = \"slow\" }}, {{ cluster = \"fast\" }}]",
        backend_key(&[slow]),
        backend_key(&[mock_backend("fast")])
    );
    for engine in ENGINES {
        let mut proxy = Proxy::start(&config(engine, &more));
        let (mut waiting, mut backend) = pending_request(&proxy, &listener);
        proxy.signal(Signal::TERM);
        proxy.wait_for_message("draining");
        while let Ok(mut late) = TcpStream::connect(proxy.address) {
            // Its request takes a while to come.
            let pause = Duration::from_millis(50);
            late.set_read_timeout(Some(pause)).unwrap();
            let mut answer = [0; 12];
            match late.read(&mut answer) {
                Ok(_) => panic!("{engine}: taken and closed at once"),
                // Nobody took it: it came when the listener was being closed.
                Err(error) if error.kind() == ErrorKind::ConnectionReset => continue,
                Err(_) => {}
            }
            late.set_read_timeout(Some(PATIENCE)).unwrap();
            let _ = late.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            match late.read_exact(&mut answer) {
                Ok(()) => assert_eq!(&answer, b"HTTP/1.1 200", "{engine}"),
                Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{engine}"),
            }
        }
        backend.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(waiting.head().unwrap().status(), Some(200));
        let (status, _, said) = proxy.wait();
        assert_eq!(status.code(), Some(0), "{said:?}");
    }
}

#[test]
fn a_second_signal_forces() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let backends = backend_key(&[listener.local_addr().unwrap().to_string()]);
    for engine in ENGINES {
        for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
            let mut proxy = Proxy::start(&config(engine, &backends));
            let (mut waiting, _backend) = pending_request(&proxy, &listener);
            proxy.signal(Signal::TERM);
            proxy.wait_for_message("draining");
            proxy.signal(signal);
            let (status, _, said) = proxy.wait();
            assert_eq!(status.code(), Some(code), "{said:?}");
            waiting.closed().unwrap();
        }
    }
}

#[test]
fn a_drain_ends_at_its_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let backends = backend_key(&[listener.local_addr().unwrap().to_string()]);
    for engine in ENGINES {
        let text = config(
            engine,
            &format!("{backends}\nserver.drain_timeout = \"200ms\""),
        );
        let mut proxy = Proxy::start(&text);
        let (_waiting, _backend) = pending_request(&proxy, &listener);
        proxy.signal(Signal::TERM);
        let (status, _, said) = proxy.wait();
        assert_eq!(status.code(), Some(75), "{said:?}");
        assert!(
            said.join("\n").contains("\"connections\":\"1\""),
            "{said:?}"
        );
    }
}

#[test]
fn unix_sockets_on_both_sides() {
    for engine in ENGINES {
        let directory = TempDir::new();
        let path = |name: &str| directory.0.join(name);
        let listener = UnixListener::bind(path("backend.sock")).unwrap();
        let served = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut from = BufReader::new(stream.try_clone().unwrap());
            let head = read_head(&mut from);
            (&stream)
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nunix")
                .unwrap();
            head
        });
        let (front, back) = (path("front.sock"), path("backend.sock"));
        let more = format!("backends = [\"unix:{}\"]", back.display());
        let listen = format!("[\"{{listen}}\", \"unix:{}\"]", front.display());
        let proxy = Proxy::start(&config(engine, &more).replace("\"{listen}\"", &listen));
        let mut stream = UnixStream::connect(&front).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
            .write_all(b"GET /u HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert!(
            text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with("\r\n\r\nunix"),
            "{text}"
        );
        let head = served.join().unwrap();
        assert_eq!(head[0], "GET /u HTTP/1.1");
        assert!(head.contains(&"Host: a".to_owned()), "{head:?}");
        proxy.stop();
    }
}

#[test]
fn ipv6_on_both_sides() {
    for engine in ENGINES {
        let listener = TcpListener::bind("[::1]:0").unwrap();
        let back = listener.local_addr().unwrap();
        let probe = TcpListener::bind("[::1]:0").unwrap();
        let front = probe.local_addr().unwrap();
        drop(probe);
        let more = backend_key(&[back.to_string()]);
        let listen = format!("[\"{{listen}}\", \"{front}\"]");
        let proxy = Proxy::start(&config(engine, &more).replace("\"{listen}\"", &listen));
        let mut client = Peer::new(TcpStream::connect(front).unwrap());
        client.send(b"GET / HTTP/1.1\r\nHost: [::1]\r\n\r\n");
        let mut backend = Peer::new(listener.accept().unwrap().0);
        let head = backend.head().unwrap();
        assert_eq!(head.all("x-forwarded-for"), ["::1"]);
        assert_eq!(head.all("host"), ["[::1]"]);
        backend.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nv6");
        let head = client.head().unwrap();
        assert_eq!(client.body(&head, false).unwrap().bytes, b"v6");
        proxy.stop();
    }
}

/// What curl prints.
fn curl(arguments: &[&str]) -> String {
    let output = Command::new("curl")
        .args(["-sS", "--max-time", "20"])
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn curl_is_served() {
    let directory = TempDir::new();
    let file = directory.0.join("body");
    std::fs::write(&file, vec![b'x'; 3 * MIB]).unwrap();
    let upload = format!("@{}", file.display());
    for engine in ENGINES {
        let proxy = Proxy::start(&config(engine, &backend_key(&[mock_backend("mock")])));
        let url = |path: &str| format!("http://{}{path}", proxy.address);
        let code = [
            "-o",
            "/dev/null",
            "-w",
            "%{http_code} %{http_version} %{size_download}",
        ];
        let with = |more: &[&str]| curl(&[&code, more].concat());
        assert!(curl(&[&url("/")]).contains("mock"));
        assert_eq!(with(&[&url("/bytes/1000000")]), "200 1.1 1000000");
        assert_eq!(with(&["--http1.0", &url("/bytes/1000")]), "200 1.1 1000");
        assert_eq!(with(&["-I", &url("/bytes/1000")]), "200 1.1 0");
        assert_eq!(with(&[&url("/status/418")]).split(' ').next(), Some("418"));
        // Expect: 100-continue, and then chunks.
        assert!(
            with(&[
                "-H",
                "Expect: 100-continue",
                "--data-binary",
                &upload,
                &url("/")
            ])
            .starts_with("200")
        );
        assert!(
            with(&[
                "-H",
                "Transfer-Encoding: chunked",
                "--data-binary",
                &upload,
                &url("/")
            ])
            .starts_with("200")
        );
        assert!(with(&["-T", file.to_str().unwrap(), &url("/x")]).starts_with("200"));
        proxy.stop();
    }
}

/// Requests per backend, as the proxy counts them.
fn shares(proxy: &Proxy, backends: &[String], requests: u64) -> Vec<u64> {
    // A request is counted just after its response has gone out.
    proxy
        .wait_for_metric("corelane_requests_total{code=\"2xx\"}", |count| {
            count >= requests
        })
        .unwrap();
    let of = |address: &String| {
        let text = proxy.metrics();
        let wanted = format!("backend=\"http://{address}\"");
        let lines = text.lines().filter(|line| {
            line.starts_with("corelane_backend_requests_total") && line.contains(&wanted)
        });
        lines
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
            .sum()
    };
    backends.iter().map(of).collect()
}

/// Sends `count` requests from each of `connections` connections at the same time.
fn send_many(proxy: &Proxy, connections: usize, count: usize) {
    let address = proxy.address;
    std::thread::scope(|scope| {
        for _ in 0..connections {
            scope.spawn(|| {
                let mut client = client_of(address);
                for _ in 0..count {
                    assert_eq!(get(&mut client, "/").0, 200);
                }
            });
        }
    });
}

#[test]
fn round_robin_is_fair_over_shards() {
    let backends = ["a", "b", "c"].map(mock_backend);
    let proxy = Proxy::start(&config("auto", &backend_key(&backends)));
    send_many(&proxy, 10, 1000);
    let shares = shares(&proxy, &backends, 10_000);
    assert_eq!(shares.iter().sum::<u64>(), 10_000);
    let (most, least) = (shares.iter().max().unwrap(), shares.iter().min().unwrap());
    assert!(most - least <= 33, "{shares:?}");
    proxy.stop();
}

#[test]
fn weights_are_kept() {
    let backends = ["a", "b", "c"].map(mock_backend);
    let urls = [5, 1, 1].iter().zip(&backends);
    let urls: Vec<String> = urls
        .map(|(weight, address)| format!("{{ url = \"http://{address}\", weight = {weight} }}"))
        .collect();
    let more = format!(
        "backends = [{}]\nload_balancer.algorithm = \"weighted_round_robin\"",
        urls.join(", ")
    );
    let proxy = Proxy::start(&config("auto", &more));
    send_many(&proxy, 4, 350);
    let shares = shares(&proxy, &backends, 1400);
    assert_eq!(shares.iter().sum::<u64>(), 1400);
    // Each shard is at most one round of seven off.
    for (share, exact) in shares.iter().zip([1000_u64, 200, 200]) {
        assert!(share.abs_diff(exact) <= 14, "{shares:?}");
    }
    proxy.stop();
}

#[test]
fn connections_limit_answers_503() {
    for engine in ENGINES {
        let more = format!(
            "{}\nlimits.connections = 2",
            backend_key(&[mock_backend("a")])
        );
        let proxy = Proxy::start(&config(engine, &more));
        let mut held = [client(&proxy), client(&proxy)];
        for one in &mut held {
            assert_eq!(get(one, "/").0, 200);
        }
        let mut third = client(&proxy);
        let head = third.head().unwrap();
        assert_eq!(
            (head.status(), head.all("connection")),
            (Some(503), vec!["close"])
        );
        let body = third.body(&head, false).unwrap();
        assert_eq!(body.bytes, b"503 Service Unavailable: connections_max\n");
        third.closed().unwrap();
        drop(held);
        proxy
            .wait_for_metric("corelane_client_connections ", |open| open == 0)
            .unwrap();
        assert_eq!(get(&mut client(&proxy), "/").0, 200);
        assert!(proxy.metric("corelane_rejected_total{reason=\"connections_max\"}") >= 1);
        proxy.stop();
    }
}

#[test]
fn a_trickled_body_is_refused() {
    let silent = backend(|mut stream| {
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    });
    // Spliced, and twice not: short, and in chunks.
    let bodies = [
        ("Content-Length: 20000", "x"),
        ("Content-Length: 9000", "x"),
        ("Transfer-Encoding: chunked", "1\r\nx\r\n"),
    ];
    for engine in ENGINES {
        let more = backend_key(std::slice::from_ref(&silent))
            + "\ntimeouts.client_body = \"200ms\"\nlimits.body_rate = \"1000B\"";
        let proxy = Proxy::start(&config(engine, &more));
        for (framing, piece) in bodies {
            let mut client = TcpStream::connect(proxy.address).unwrap();
            // The wait between two pieces, each of which would be soon enough by itself.
            let pause = Duration::from_millis(20);
            client.set_read_timeout(Some(pause)).unwrap();
            let head = format!("POST / HTTP/1.1\r\nHost: test\r\n{framing}\r\n\r\n");
            client.write_all(head.as_bytes()).unwrap();
            let mut answer = [0; 13];
            let pieces = (0..500).take_while(|_| {
                client.write_all(piece.as_bytes()).unwrap();
                client.read_exact(&mut answer).is_err()
            });
            assert!(pieces.count() < 500, "{engine}: {framing} trickled on");
            assert_eq!(&answer, b"HTTP/1.1 408 ", "{engine}: {framing}");
        }
        proxy.stop();
    }
}

#[test]
fn an_urgent_byte_in_a_long_upload_ends_it() {
    let backend = backend(|mut stream| {
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let backends = backend_key(&[backend]);
    for engine in ENGINES {
        let mut proxy = Proxy::start(&config(engine, &backends));
        let mut sender = client(&proxy);
        sender.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n");
        sender.send(&[b'a'; 50_000]);
        rustix::net::send(&sender.stream, b"!", rustix::net::SendFlags::OOB).unwrap();
        sender.send(b"more");
        // Within a splice, the byte cannot be passed over: it was waited for on a socket that was always ready.
        let line = proxy.wait_for_line(0, "\"end\"").unwrap();
        assert!(line.contains("client_abort"), "{engine}: {line}");
        drop(sender);
        proxy.stop();
    }
}

#[test]
fn a_client_that_fails_is_no_error_of_its_backend() {
    let silent = backend(|mut stream| {
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    });
    for engine in ENGINES {
        let proxy = Proxy::start(&config(engine, &backend_key(std::slice::from_ref(&silent))));
        for (request, rejected) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "client_abort"),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx",
                "client_abort",
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n",
                "bad_chunk",
            ),
        ] {
            let opened = format!(
                "corelane_backend_connections_opened_total{{cluster=\"default\",backend=\"http://{silent}\"}}"
            );
            let reject = format!("corelane_rejected_total{{reason=\"{rejected}\"}}");
            let (connections, before) = (proxy.metric(&opened), proxy.metric(&reject));
            let mut client = client(&proxy);
            client.send(request.as_bytes());
            proxy
                .wait_for_metric(&opened, |now| now > connections)
                .unwrap();
            if rejected == "bad_chunk" {
                client.send(b"x");
                assert_eq!(client.head().unwrap().status(), Some(400));
            }
            drop(client);
            proxy.wait_for_metric(&reject, |now| now > before).unwrap();
        }
        let errors = format!(
            "corelane_backend_requests_total{{cluster=\"default\",backend=\"http://{silent}\",code=\"error\"}}"
        );
        assert_eq!(proxy.metric(&errors), 0, "{engine}");
        proxy.stop();
    }
}

#[test]
fn the_admin_pages_are_not_on_the_proxys_port() {
    let proxy = Proxy::start(&config("auto", &backend_key(&[mock_backend("behind")])));
    for path in ["/metrics", "/healthz", "/readyz"] {
        let (_, body) = get(&mut client(&proxy), path);
        assert!(!body.contains("corelane_requests_total"), "{body}");
        assert!(body.contains("behind"), "{path}: {body}");
    }
    proxy.stop();
}

/// A proxy that is its own backend: each round adds to Via, until the head is too large.
#[test]
fn a_loop_ends() {
    let proxy = Proxy::start(&config("auto", "backends = [\"http://{listen}\"]"));
    let (status, body) = get(&mut client(&proxy), "/");
    assert_eq!(
        (status, body.contains("too_many_headers")),
        (431, true),
        "{body}"
    );
    proxy.stop();
}

#[test]
fn one_json_line_per_request() {
    let hostile: [&[u8]; 7] = [
        b"GET /\"quo\\ted\"?a=\"b\" HTTP/1.1\r\nHost: a\r\nUser-Agent: \"x\"\\\r\nReferer: \xff\xfe\xc3\x28\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: \xe2\x80\xa8 \x80 {\"a\":1}\r\n\r\n",
        b"GET /%0a%0d{} HTTP/1.1\r\nHost: a\r\nUser-Agent: \t tab\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: \"evil\r\n\r\n",
        b"\x16\x03\x01\"\n{}\r\n\r\n",
        b"G\"ET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"BREW!#$%&'*+-.^_`|~ /x HTTP/1.1\r\nHost: a\r\nUser-Agent: \xed\xa0\x80\r\n\r\n",
    ];
    let proxy = Proxy::start(&config("auto", &backend_key(&[mock_backend("a")])));
    let mut addresses = Vec::new();
    for bytes in hostile {
        let mut client = client(&proxy);
        client.send(bytes);
        let head = client.head().unwrap();
        addresses.push(head.status().unwrap());
        client.body(&head, false).unwrap();
    }
    let logged = proxy.stop();
    assert_eq!(logged.len(), hostile.len(), "{logged:#?}");
    for line in &logged {
        let rest = json_value(line.as_bytes()).unwrap_or_else(|| panic!("no JSON: {line}"));
        assert!(
            line.starts_with('{') && rest.is_empty(),
            "no JSON object: {line}"
        );
    }
    for status in addresses {
        let text = format!("\"http.response.status_code\":{status}");
        assert!(logged.iter().any(|line| line.contains(&text)), "{status}");
    }
}

/// Reads one JSON value (RFC 8259) and gives what follows it.
fn json_value(text: &[u8]) -> Option<&[u8]> {
    match text.first()? {
        b'{' => json_list(&text[1..], b'}', |text| {
            json_value(json_string(text)?.strip_prefix(b":")?)
        }),
        b'[' => json_list(&text[1..], b']', json_value),
        b'"' => json_string(text),
        b't' => text.strip_prefix(b"true"),
        b'f' => text.strip_prefix(b"false"),
        b'n' => text.strip_prefix(b"null"),
        _ => {
            let end = text
                .iter()
                .position(|b| !matches!(b, b'0'..=b'9' | b'.' | b'-'));
            let (number, rest) = text.split_at(end.unwrap_or(text.len()));
            let number = std::str::from_utf8(number).ok()?;
            number.parse::<f64>().ok().map(|_| rest)
        }
    }
}

fn json_list(mut text: &[u8], end: u8, item: impl Fn(&[u8]) -> Option<&[u8]>) -> Option<&[u8]> {
    if text.first() == Some(&end) {
        return Some(&text[1..]);
    }
    loop {
        text = item(text)?;
        match text.split_first()? {
            (b',', rest) => text = rest,
            (last, rest) if *last == end => return Some(rest),
            (_, _) => return None,
        }
    }
}

fn json_string(text: &[u8]) -> Option<&[u8]> {
    let mut rest = text.strip_prefix(b"\"")?;
    loop {
        rest = match rest {
            [b'"', rest @ ..] => return Some(rest),
            [
                b'\\',
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't',
                rest @ ..,
            ] => rest,
            [b'\\', b'u', a, b, c, d, rest @ ..]
                if [a, b, c, d].iter().all(|x| x.is_ascii_hexdigit()) =>
            {
                rest
            }
            [0..=0x1f | b'\\', ..] | [] => return None,
            [_, rest @ ..] => rest,
        };
    }
}

#[test]
fn a_backend_may_be_named() {
    let address = mock_backend("named");
    let port = address.rsplit(':').next().unwrap();
    for engine in ENGINES {
        let proxy = Proxy::start(&config(
            engine,
            &backend_key(&[format!("localhost:{port}")]),
        ));
        let mut client = client(&proxy);
        assert_eq!(get(&mut client, "/").0, 200, "{engine}");
        proxy.stop();
    }
}

#[test]
fn a_backend_that_dies_and_comes_back() {
    for engine in ENGINES {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let proxy = Proxy::start(&config(engine, &backend_key(&[address.to_string()])));
        let mut client = client(&proxy);
        let serve = |listener: &TcpListener, client: &mut Peer| {
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            let mut backend = Peer::new(listener.accept().unwrap().0);
            backend.head().unwrap();
            backend.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            assert_eq!(client.head().unwrap().status(), Some(200));
            backend
        };
        let pooled = serve(&listener, &mut client);
        drop(listener);
        drop(pooled);
        assert_eq!(get(&mut client, "/").0, 502);
        let listener = TcpListener::bind(address).unwrap();
        serve(&listener, &mut client);
        proxy.stop();
    }
}

/// Forbids io_uring_setup (425) by a seccomp filter, then becomes the program that it is given. In Perl, which
/// every Debian has: the filter needs two system calls that no shell makes.
const WITHOUT_IO_URING: &str = r#"
my $filter = pack("SCCL" x 4,
    0x20, 0, 0, 0,            # load the number of the system call
    0x15, 0, 1, 425,          # another one: skip the next line
    0x06, 0, 0, 0x00050001,   # EPERM
    0x06, 0, 0, 0x7fff0000);  # allowed
my $program = pack("S x6 P", 4, $filter);
my $prctl = `uname -m` =~ /aarch64/ ? 167 : 157;
syscall($prctl, 38, 1, 0, 0, 0) == 0 or die "no_new_privs: $!";
syscall($prctl, 22, 2, $program) == 0 or die "seccomp: $!";
exec @ARGV;
"#;

#[test]
fn without_io_uring_it_says_so_and_serves() {
    let backends = backend_key(&[mock_backend("a")]);
    let mut command = Command::new("perl");
    command.args(["-e", WITHOUT_IO_URING, env!("CARGO_BIN_EXE_corelane")]);
    let mut proxy = Proxy::start_with(&config("auto", &backends), command);
    let warning = proxy.said("a faster engine is not available");
    assert!(warning.contains("Operation not permitted"), "{warning}");
    assert!(warning.contains("\"engine\":\"epoll\""), "{warning}");
    assert_eq!(get(&mut client(&proxy), "/").0, 200);
    assert!(
        proxy
            .metrics()
            .contains("corelane_engine_info{engine=\"epoll\"")
    );
    proxy.stop();
    // Asked for by name, it is an error.
    let output = fail(&config("io_uring", &backends), |file| {
        let mut command = Command::new("perl");
        command.args([
            "-e",
            WITHOUT_IO_URING,
            env!("CARGO_BIN_EXE_corelane"),
            "run",
            "-c",
            file,
        ]);
        command
    });
    assert_eq!(output.0, Some(77), "{output:?}");
}

/// Runs a command that must not stay; its exit code and what it said.
fn fail(config: &str, command: impl Fn(&str) -> Command) -> (Option<i32>, String) {
    let directory = TempDir::new();
    let file = directory.0.join("config.toml");
    std::fs::write(
        &file,
        config.replace("{listen}", &support::free_address().to_string()),
    )
    .unwrap();
    let output = command(file.to_str().unwrap()).output().unwrap();
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

fn plain(file: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
    command.args(["run", "-c", file]);
    command
}

#[test]
fn exit_codes_of_a_start_that_fails() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let used = taken.local_addr().unwrap().to_string();
    let backends = "backends = [\"http://127.0.0.1:1\"]";
    let (code, said) = fail(&config("auto", backends).replace("{listen}", &used), plain);
    assert_eq!(code, Some(71), "{said}");
    assert!(said.contains(&used), "{said}");

    let (code, said) = fail(&config("auto", "backend = 1"), plain);
    assert_eq!(code, Some(78), "{said}");

    let (code, _) = fail("", |_| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
        command.arg("--nonsense");
        command
    });
    assert_eq!(code, Some(2));

    let directory = TempDir::new();
    std::fs::set_permissions(&directory.0, std::fs::Permissions::from_mode(0o555)).unwrap();
    let socket = format!("unix:{}", directory.0.join("s").display());
    let text = config("auto", backends).replace("{listen}", &socket);
    let (code, said) = fail(&text, |file| {
        if !rustix::process::geteuid().is_root() {
            return plain(file);
        }
        // Root may write anywhere unless it gives that up.
        let mut command = Command::new("setpriv");
        command.args([
            "--bounding-set",
            "-dac_override",
            env!("CARGO_BIN_EXE_corelane"),
            "run",
            "-c",
            file,
        ]);
        command
    });
    assert_eq!(code, Some(77), "{said}");
    std::fs::set_permissions(&directory.0, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// Random bytes and mutated requests, from many connections: no panic, no hang, no byte of another client.
#[test]
fn noise_harms_nobody() {
    let proxy = Proxy::start(&config("auto", &backend_key(&[mock_backend("a")])));
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let address = proxy.address;
            scope.spawn(move || noise(address, thread));
        }
        let mut honest = client(&proxy);
        for number in 0..500 {
            let (status, body) = get(&mut honest, &format!("/honest-{number}"));
            assert_eq!(status, 200);
            assert!(
                body.contains(&format!("/honest-{number}")),
                "another client's answer: {body}"
            );
        }
    });
    proxy.stop();
}

fn noise(address: SocketAddr, seed: u64) {
    const SEED: &[u8] = b"POST /noise?x=1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\n3\r\nabc\r\n0\r\n\r\nGET /noise HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab";
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    for _ in 0..400 {
        let mut bytes = SEED.to_vec();
        for _ in 0..=random(4) {
            let at = random(bytes.len().max(1));
            if bytes.is_empty() {
                break;
            }
            match random(4) {
                0 => bytes[at] = random(256) as u8,
                1 => drop(bytes.remove(at)),
                2 => bytes.insert(at, [b'\r', b'\n', b' ', 0, b':', b';', b'0'][random(7)]),
                _ => bytes.truncate(at + 1),
            }
        }
        let mut client = client_of(address);
        client.send(&bytes);
        let _ = client.stream.shutdown(std::net::Shutdown::Write);
        let mut answers = Vec::new();
        // Ends with the connection; a reset is an end too.
        let ended = client.stream.read_to_end(&mut answers);
        assert!(
            !matches!(&ended, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock),
            "hangs: {}",
            bytes.escape_ascii()
        );
        let text = String::from_utf8_lossy(&answers);
        assert!(!text.contains("honest"), "another client's bytes: {text}");
    }
}

#[test]
fn shards_share_the_work() {
    let proxy = Proxy::start(&config("auto", &backend_key(&[mock_backend("a")])));
    send_many(&proxy, 40, 5);
    let text = proxy.metrics();
    let per_shard: BTreeMap<&str, u64> = text
        .lines()
        .filter_map(|line| {
            line.strip_prefix("corelane_shard_requests_total")?
                .split_once(' ')
        })
        .map(|(shard, count)| (shard, count.parse().unwrap()))
        .collect();
    assert_eq!(per_shard.len(), 2, "{per_shard:?}");
    assert!(per_shard.values().all(|count| *count > 0), "{per_shard:?}");
    proxy.stop();
}
