//! Many who ask for the same at once, with the real binary: one asks the backend, and nobody waits for anybody else.
//!
//! The backend is ours and goes on when the test says so, so nothing here hangs on how fast the machine is.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

mod support;

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use socket2::{Domain, Socket, Type};
use support::peer::{Head, Peer};
use support::{ENGINES, PATIENCE, Proxy, free_address};

const CLIENTS: usize = 1_000;

/// Enough to wait for one another, and few enough to be there within the time that a request waits for another's.
const FEW: usize = 64;

/// Requests that go on at once when the one that they have waited for was of no use to them.
const TURNS: usize = 8;

/// How far the test lets backends go.
#[derive(Default)]
struct Gate {
    steps: Mutex<usize>,
    opened: Condvar,
}

impl Gate {
    fn open(&self, step: usize) {
        *self.steps.lock().unwrap() = step;
        self.opened.notify_all();
    }

    fn pass(&self, step: usize) {
        let steps = self.steps.lock().unwrap();
        let is_closed = |steps: &mut usize| *steps < step;
        let waited = self.opened.wait_timeout_while(steps, PATIENCE, is_closed);
        assert!(!waited.unwrap().1.timed_out(), "step {step} never comes");
    }
}

/// A backend that does `answer` for each request on a connection of its own.
struct Backend {
    address: SocketAddr,
    gate: Arc<Gate>,
    asked: Arc<Asked>,
}

#[derive(Default)]
struct Asked {
    all: Mutex<usize>,
    came: Condvar,
    answered: AtomicUsize,
}

impl Asked {
    fn add(&self) -> usize {
        let mut all = self.all.lock().unwrap();
        *all += 1;
        self.came.notify_all();
        *all
    }

    fn now(&self) -> usize {
        *self.all.lock().unwrap()
    }
}

impl Backend {
    /// `answer` gets the connection, the gate, how many requests came before this one, and the request.
    fn start(answer: fn(&mut Peer, &Gate, usize, &Head)) -> Backend {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (gate, asked) = (Arc::new(Gate::default()), Arc::new(Asked::default()));
        let (opened, counted) = (Arc::clone(&gate), Arc::clone(&asked));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (gate, asked) = (Arc::clone(&opened), Arc::clone(&counted));
                let mut peer = Peer::new(stream.unwrap());
                std::thread::spawn(move || {
                    let Ok(head) = peer.head() else { return };
                    let before = asked.add() - 1;
                    answer(&mut peer, &gate, before, &head);
                    asked.answered.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        Backend {
            address,
            gate,
            asked,
        }
    }

    fn wait_for(&self, requests: usize) {
        let all = self.asked.all.lock().unwrap();
        let is_less = |all: &mut usize| *all < requests;
        let waited = self.asked.came.wait_timeout_while(all, PATIENCE, is_less);
        let (all, timeout) = waited.unwrap();
        assert!(!timeout.timed_out(), "{} of {requests} came", *all);
    }
}

fn proxy(backend: SocketAddr, engine: &str, more: &str) -> Proxy {
    Proxy::start(&format!(
        "backends = [\"http://{backend}\"]\n{more}\nlog.access = false\nretry.attempts = 0\n\
         [cache]\nenabled = true\nmax_object = \"16MiB\"\n\
         [server]\nlisten = \"{{listen}}\"\nshards = 2\npin = false\nengine = \"{engine}\"\n\
         [admin]\nlisten = \"127.0.0.1:0\"\n"
    ))
}

/// A connection on which the same has been asked for; each is told apart by a field.
fn asks(proxy: &Proxy, number: usize) -> Peer {
    let mut client = Peer::new(TcpStream::connect(proxy.address).unwrap());
    ask_on(&mut client, number);
    client
}

fn ask_on(client: &mut Peer, number: usize) {
    let request = format!("GET /page HTTP/1.1\r\nHost: test\r\nX-Number: {number}\r\n\r\n");
    client.send(request.as_bytes());
}

fn all_ask(proxy: &Proxy, clients: usize) -> Vec<Peer> {
    (0..clients).map(|number| asks(proxy, number)).collect()
}

/// So many connections are open, and what was sent on them has been read: both shards have served somebody since.
fn all_wait(proxy: &Proxy, connections: usize) {
    let is_all = |now| now == connections as u64;
    let opened = proxy.wait_for_metric("corelane_client_connections ", is_all);
    opened.unwrap_or_else(|error| panic!("{error} of {connections}"));
    for _ in 0..2 * FEW {
        let mut other = Peer::new(TcpStream::connect(proxy.address).unwrap());
        other.send(b"NONSENSE\r\n\r\n");
        assert_eq!(other.head().unwrap().status(), Some(400));
    }
}

const HALF_BYTES: usize = 4_096;

fn body(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at % 251) as u8).collect()
}

fn head_of(bytes: usize) -> String {
    format!("HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\nContent-Length: {bytes}\r\n\r\n")
}

/// Sends half, and the rest at the first step.
fn by_halves(peer: &mut Peer, gate: &Gate, _: usize, _: &Head) {
    let body = body(2 * HALF_BYTES);
    peer.send(head_of(body.len()).as_bytes());
    peer.send(&body[..HALF_BYTES]);
    gate.pass(1);
    peer.send(&body[HALF_BYTES..]);
}

/// Sends nothing before the first step, and half before the second.
fn late_and_by_halves(peer: &mut Peer, gate: &Gate, _: usize, _: &Head) {
    let body = body(2 * HALF_BYTES);
    gate.pass(1);
    peer.send(head_of(body.len()).as_bytes());
    peer.send(&body[..HALF_BYTES]);
    gate.pass(2);
    peer.send(&body[HALF_BYTES..]);
}

fn gets_half(client: &mut Peer) {
    let head = client.head().unwrap();
    assert_eq!(head.status(), Some(200), "{head:?}");
    assert_eq!(head.all("content-length"), ["8192"], "{head:?}");
    client.raw(&body(HALF_BYTES)).unwrap();
}

fn gets_the_rest(client: &mut Peer) {
    client.raw(&body(2 * HALF_BYTES)[HALF_BYTES..]).unwrap();
}

#[test]
fn a_thousand_misses_are_one_fetch_that_all_see_while_it_arrives() {
    for engine in ENGINES {
        let backend = Backend::start(by_halves);
        let proxy = proxy(backend.address, engine, "");
        let mut clients = all_ask(&proxy, CLIENTS);
        clients.iter_mut().for_each(gets_half);
        assert_eq!(backend.asked.answered.load(Ordering::SeqCst), 0);
        backend.gate.open(1);
        clients.iter_mut().for_each(gets_the_rest);
        assert_eq!(backend.asked.now(), 1, "{engine}");
        for shard in 0..2 {
            let sample = format!("corelane_shard_requests_total{{shard=\"{shard}\"}}");
            assert!(proxy.metric(&sample) > 0, "{engine}: all on one shard");
        }
        // And it is stored.
        ask_on(&mut clients[0], 0);
        gets_half(&mut clients[0]);
        gets_the_rest(&mut clients[0]);
        assert_eq!(backend.asked.now(), 1, "{engine}");
        proxy.stop();
    }
}

#[test]
fn a_first_client_that_leaves_before_the_head_is_not_missed() {
    let backend = Backend::start(late_and_by_halves);
    let proxy = proxy(backend.address, "auto", "");
    let first = asks(&proxy, 0);
    backend.wait_for(1);
    let mut clients = all_ask(&proxy, FEW);
    all_wait(&proxy, FEW + 1);
    first.reset();
    backend.gate.open(1);
    clients.iter_mut().for_each(gets_half);
    backend.gate.open(2);
    clients.iter_mut().for_each(gets_the_rest);
    assert_eq!(backend.asked.now(), 1);
    proxy.stop();
}

#[test]
fn a_first_client_that_leaves_in_the_body_is_not_missed() {
    let backend = Backend::start(late_and_by_halves);
    let proxy = proxy(backend.address, "auto", "");
    let mut first = asks(&proxy, 0);
    backend.gate.open(1);
    gets_half(&mut first);
    first.reset();
    // Nobody is left who reads it.
    all_wait(&proxy, 0);
    let mut clients = all_ask(&proxy, FEW);
    clients.iter_mut().for_each(gets_half);
    backend.gate.open(2);
    clients.iter_mut().for_each(gets_the_rest);
    assert_eq!(backend.asked.now(), 1);
    proxy.stop();
}

const LONG_BYTES: usize = 8 << 20;

fn long(peer: &mut Peer, _: &Gate, _: usize, _: &Head) {
    peer.send(head_of(LONG_BYTES).as_bytes());
    peer.send(&body(LONG_BYTES));
}

#[test]
fn a_first_client_that_does_not_read_holds_nobody_up() {
    let backend = Backend::start(long);
    let proxy = proxy(backend.address, "auto", "timeouts.client_write = \"1m\"");
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    // Most of the body has no room on its way to it.
    socket.set_recv_buffer_size(4_096).unwrap();
    socket.connect(&proxy.address.into()).unwrap();
    let mut first = Peer::new(socket.into());
    ask_on(&mut first, 0);
    backend.wait_for(1);
    let whole = body(LONG_BYTES);
    for number in 1..=4 {
        let mut client = asks(&proxy, number);
        let head = client.head().unwrap();
        let got = client.body(&head, false).unwrap();
        assert!(got.complete && got.bytes == whole, "{number}: {head:?}");
    }
    let head = first.head().unwrap();
    let got = first.body(&head, false).unwrap();
    assert!(got.complete && got.bytes == whole, "{head:?}");
    assert_eq!(backend.asked.now(), 1);
    proxy.stop();
}

fn closes(_: &mut Peer, gate: &Gate, _: usize, _: &Head) {
    gate.pass(1);
}

fn closes_in_the_head(peer: &mut Peer, gate: &Gate, _: usize, _: &Head) {
    peer.send(b"HTTP/1.1 200 OK\r\nCache-Co");
    gate.pass(1);
}

#[test]
fn a_fetch_that_fails_answers_all_who_wait() {
    for answer in [closes, closes_in_the_head] {
        let backend = Backend::start(answer);
        let proxy = proxy(backend.address, "auto", "");
        let mut clients = all_ask(&proxy, FEW);
        all_wait(&proxy, FEW);
        backend.gate.open(1);
        for client in &mut clients {
            let head = client.head().unwrap();
            assert_eq!(head.status(), Some(502), "{head:?}");
            client.body(&head, false).unwrap();
        }
        assert_eq!(backend.asked.now(), 1);
        proxy.stop();
    }
}

#[test]
fn nobody_waits_for_a_backend_that_takes_no_connection() {
    let proxy = proxy(free_address(), "auto", "");
    for client in &mut all_ask(&proxy, FEW) {
        let head = client.head().unwrap();
        assert!(matches!(head.status(), Some(502 | 503)), "{head:?}");
    }
    proxy.stop();
}

fn cut(peer: &mut Peer, gate: &Gate, _: usize, _: &Head) {
    peer.send(head_of(2 * HALF_BYTES).as_bytes());
    peer.send(&body(HALF_BYTES));
    gate.pass(1);
}

#[test]
fn a_body_that_is_cut_looks_cut_to_all_and_is_not_stored() {
    let backend = Backend::start(cut);
    let proxy = proxy(backend.address, "auto", "");
    let mut clients = all_ask(&proxy, FEW);
    clients.iter_mut().for_each(gets_half);
    assert_eq!(backend.asked.now(), 1);
    backend.gate.open(1);
    for client in &mut clients {
        let mut rest = Vec::new();
        let _ = client.stream.read_to_end(&mut rest);
        assert_eq!(rest, b"", "behind a half");
    }
    gets_half(&mut asks(&proxy, 0));
    assert_eq!(backend.asked.now(), 2);
    proxy.stop();
}

/// Answers each with its own number: the first at the first step, all others at the second.
fn echoes(peer: &mut Peer, gate: &Gate, before: usize, head: &Head, start: &str) {
    gate.pass(if before == 0 { 1 } else { 2 });
    let number = head.all("x-number")[0];
    let length = number.len();
    peer.send(format!("HTTP/1.1 {start}\r\nContent-Length: {length}\r\n\r\n{number}").as_bytes());
}

#[test]
fn an_answer_for_one_lets_the_others_go_a_few_at_a_time() {
    let busy = |peer: &mut Peer, gate: &Gate, before: usize, head: &Head| {
        echoes(peer, gate, before, head, "503 Busy");
    };
    let private = |peer: &mut Peer, gate: &Gate, before: usize, head: &Head| {
        echoes(peer, gate, before, head, "200 OK\r\nCache-Control: private");
    };
    let cookie = |peer: &mut Peer, gate: &Gate, before: usize, head: &Head| {
        let start = "200 OK\r\nCache-Control: max-age=600\r\nSet-Cookie: a=b";
        echoes(peer, gate, before, head, start);
    };
    for (answer, status) in [
        (busy as fn(&mut Peer, &Gate, usize, &Head), 503),
        (private, 200),
        (cookie, 200),
    ] {
        let backend = Backend::start(answer);
        let proxy = proxy(backend.address, "auto", "");
        let mut clients = all_ask(&proxy, FEW);
        all_wait(&proxy, FEW);
        assert_eq!(backend.asked.now(), 1);
        backend.gate.open(1);
        backend.wait_for(1 + TURNS);
        all_wait(&proxy, FEW);
        assert_eq!(backend.asked.now(), 1 + TURNS);
        backend.gate.open(2);
        for (number, client) in clients.iter_mut().enumerate() {
            let head = client.head().unwrap();
            assert_eq!(head.status(), Some(status), "{head:?}");
            let got = client.body(&head, false).unwrap();
            assert_eq!(got.bytes, number.to_string().as_bytes(), "{head:?}");
        }
        assert_eq!(backend.asked.now(), FEW);
        proxy.stop();
    }
}
