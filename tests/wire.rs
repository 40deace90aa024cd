//! Raw bytes in, raw bytes out: every case of tests/cases against the real binary.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of a test may fail as the test itself may"
)]

mod support;
#[path = "support/case.rs"]
mod case;
#[path = "support/decode.rs"]
mod decode;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicUsize, Ordering};

use corelane::h1::Reject;
use corelane::metrics::Reason;
use corelane::policy::filter::compress::Coding;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, SockAddr, Socket, Type};

use case::{Act, Case, Check, Deed, Message, State, Step};
use support::peer::{Body, Closed, Head, Peer, show};
use support::{ENGINES, PATIENCE, Proxy, blackhole};

/// Proxies at work at the same time.
const WORKERS: usize = 3;

/// The client's first bytes are cut at every position of a message up to this length, of longer ones at so many.
const CUTS_MAX: usize = 600;

/// Connections with a first part that wait for their second at the same time.
const CUTS_AT_ONCE: usize = 200;

#[test]
fn cases() {
    let chosen = std::env::var("CASE").unwrap_or_default();
    let mut groups: BTreeMap<(String, Option<String>), Vec<Case>> = BTreeMap::new();
    for case in case::all() {
        if case.name.contains(&chosen) {
            let own = case.alone.then(|| case.name.clone());
            let group = groups.entry((case.config.clone(), own));
            group.or_default().push(case);
        }
    }
    // Long groups first, or the last worker would be alone with one.
    let mut jobs: Vec<(&str, &[Case])> = Vec::new();
    for cases in groups.values() {
        for part in cases.chunks(12) {
            jobs.extend(ENGINES.map(|engine| (engine, part)));
        }
    }
    let next = AtomicUsize::new(0);
    let failures: Vec<String> = std::thread::scope(|scope| {
        let work = || {
            let mut failures = Vec::new();
            while let Some((engine, cases)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                failures.extend(run_group(engine, cases));
            }
            failures
        };
        let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().unwrap())
            .collect()
    });
    assert!(
        failures.is_empty(),
        "{} failures:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

/// Refusals that no bytes on a wire bring about within a test, and why.
const NOT_ON_THE_WIRE: [(&str, &str); 6] = [
    (
        "bad_status",
        "a rule for responses, which count as bad_response",
    ),
    (
        "internal",
        "our own faults only; a test that can bring one about has found a bug",
    ),
    (
        "connections_max",
        "needs many connections: tests/e2e.rs, connections_limit_answers_503",
    ),
    (
        "rate_limit_full",
        "needs thousands of keys: tests/traffic.rs, a_flood_of_keys_frees_nobody_and_takes_no_memory",
    ),
    (
        "access_busy",
        "needs hundreds of passwords: src/password.rs, the_queue_is_bounded_and_its_end_answers_all",
    ),
    ("draining", "needs a signal: tests/e2e.rs, sigterm_drains"),
];

#[test]
fn every_reason_has_a_case() {
    let cases = case::all();
    let seen: BTreeSet<&str> = cases.iter().flat_map(Case::reasons).collect();
    for reason in Reason::all() {
        let label = reason.label();
        let excused = NOT_ON_THE_WIRE.iter().any(|(excused, _)| *excused == label);
        assert!(
            seen.contains(label) != excused,
            "{label}: excused {excused}, and seen {}",
            seen.contains(label)
        );
    }
    for label in seen {
        assert!(
            Reason::all().any(|reason| reason.label() == label),
            "{label} is no reason"
        );
    }
}

/// Rules that only requests can break, or that no backend can break towards us.
const NOT_IN_RESPONSES: [Reject; 11] = [
    Reject::BadTarget,
    Reject::RequestLineTooLong,
    Reject::MissingHost,
    Reject::DuplicateHost,
    Reject::BadHost,
    Reject::BadExpect,
    Reject::ConnectRefused,
    Reject::TraceRefused,
    Reject::BadVersion,
    Reject::ChunkedInHttp10,
    Reject::ObsFold,
];

#[test]
fn every_rule_for_responses_has_a_case() {
    let cases = case::all();
    let seen: BTreeSet<&str> = cases.iter().flat_map(Case::log_texts).collect();
    for reject in Reject::ALL
        .iter()
        .filter(|reject| !NOT_IN_RESPONSES.contains(reject))
    {
        let wanted = format!("\"error.type\":\"{}\"", reject.label());
        assert!(seen.contains(&*wanted), "no case logs {wanted}");
    }
}

/// Each row of the conformance table names tests that exist, or says why there is none.
#[test]
fn conformance_table_names_tests_that_exist() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = std::fs::read_to_string(root.join("docs/CONFORMANCE.md")).unwrap();
    let cases = case::all();
    let mut known: BTreeSet<String> = cases.into_iter().map(|case| case.name).collect();
    for file in [
        "tests/wire.rs",
        "tests/e2e.rs",
        "src/h1/answer.rs",
        "src/h1/tests/request.rs",
    ] {
        let text = std::fs::read_to_string(root.join(file)).unwrap();
        let functions = text
            .lines()
            .filter_map(|line| line.trim().strip_prefix("fn "));
        known.extend(functions.filter_map(|rest| Some(rest.split_once('(')?.0.to_owned())));
    }
    let mut rows = 0;
    for line in table
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| ---"))
    {
        let shown = line
            .trim_end_matches([' ', '|'])
            .rsplit(" | ")
            .next()
            .unwrap();
        if shown == "Shown by" {
            continue;
        }
        rows += 1;
        let names: Vec<&str> = shown.split('`').skip(1).step_by(2).collect();
        for name in &names {
            assert!(known.contains(*name), "{name} does not exist: {line}");
        }
        let excused = shown.starts_with("none: ") && shown.len() > "none: ".len() + 10;
        assert!(
            !names.is_empty() || excused,
            "neither test nor reason: {line}"
        );
    }
    assert!(rows > 120, "{rows} rows");
}

#[test]
fn names_are_unique() {
    let cases = case::all();
    let names: BTreeSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names.len(), cases.len());
    assert!(cases.len() > 150, "{} cases", cases.len());
}

/// Runs the cases of one configuration against one proxy.
fn run_group(engine: &str, cases: &[Case]) -> Vec<String> {
    let backends = Backends::new();
    let mut proxy = Proxy::start(&config(engine, &cases[0].config, &backends));
    let mut failures = Vec::new();
    for case in cases {
        let failed = run_case(&mut proxy, &backends, case, engine);
        failures.extend(
            failed
                .err()
                .map(|error| format!("{} ({engine}): {error}", case.name)),
        );
    }
    match failures.is_empty() {
        true => drop(proxy.stop()),
        // It may have something to say to that; its own faults would hide what failed.
        false => failures.push(proxy.all_said()),
    }
    failures
}

/// The addresses that a configuration may name.
struct Backends {
    scripted: Vec<Scripted>,
    refused: Socket,
    blackhole: SocketAddr,
    /// What keeps its queue full.
    _held: Vec<Socket>,
}

/// A backend that a case plays.
struct Scripted {
    address: SocketAddr,
    door: RefCell<Door>,
}

enum Door {
    Open(TcpListener),
    /// Bound, so that the port is nobody else's.
    Shut(Socket),
}

/// Backends that a case may play.
const SCRIPTED: usize = 3;

fn bound(address: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&SockAddr::from(address)).unwrap();
    socket
}

fn address_of(socket: &Socket) -> SocketAddr {
    socket.local_addr().unwrap().as_socket().unwrap()
}

impl Backends {
    fn new() -> Backends {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let refused = bound(any);
        let (blackhole, _held) = blackhole();
        let scripted = || {
            let listener = TcpListener::bind(any).unwrap();
            Scripted {
                address: listener.local_addr().unwrap(),
                door: RefCell::new(Door::Open(listener)),
            }
        };
        Backends {
            scripted: (0..SCRIPTED).map(|_| scripted()).collect(),
            refused,
            blackhole,
            _held,
        }
    }

    /// Puts the addresses in place of their names.
    fn named(&self, text: &str) -> String {
        let mut text = text
            .replace("{refused}", &address_of(&self.refused).to_string())
            .replace("{blackhole}", &self.blackhole.to_string())
            .replace("{backend}", &self.scripted[0].address.to_string());
        for (at, scripted) in self.scripted.iter().enumerate() {
            let name = format!("{{backend{}}}", at + 1);
            text = text.replace(&name, &scripted.address.to_string());
        }
        text
    }
}

impl Scripted {
    fn down(&self) {
        // Two sockets cannot have the address at once.
        let placeholder = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        drop(self.door.replace(Door::Shut(placeholder)));
        self.door.replace(Door::Shut(bound(self.address)));
    }

    fn up(&self) {
        let placeholder = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let Door::Shut(socket) = self.door.replace(Door::Shut(placeholder)) else {
            panic!("it was not down");
        };
        socket.listen(128).unwrap();
        self.door.replace(Door::Open(socket.into()));
    }

    /// A connection that waits to be accepted.
    fn accept(&self) -> Option<Peer> {
        let Door::Open(listener) = &*self.door.borrow() else {
            return None;
        };
        listener.set_nonblocking(true).unwrap();
        let (stream, _) = listener.accept().ok()?;
        stream.set_nonblocking(false).unwrap();
        Some(Peer::new(stream))
    }
}

/// What every proxy has, overridden key by key, then the raw lines.
fn config(engine: &str, own: &str, backends: &Backends) -> String {
    let mut keys = BTreeMap::from([
        ("backends", "[\"http://{backend}\"]".to_owned()),
        ("server.listen", "\"{listen}\"".to_owned()),
        ("server.shards", "2".to_owned()),
        ("server.pin", "false".to_owned()),
        ("server.engine", format!("\"{engine}\"")),
        ("admin.listen", "\"127.0.0.1:0\"".to_owned()),
        ("pool.idle_per_shard", "0".to_owned()),
    ]);
    let mut raw = String::new();
    for line in own.lines() {
        if raw.is_empty() && !line.starts_with('[') {
            let (key, value) = line.split_once(" = ").expect(line);
            keys.insert(key, value.to_owned());
        } else {
            raw.push_str(line);
            raw.push('\n');
        }
    }
    if raw.contains("[[clusters]]") || raw.contains("[[routes]]") {
        keys.remove("backends");
    }
    let mut text = String::new();
    for (key, value) in keys {
        text.push_str(&format!("{key} = {value}\n"));
    }
    backends.named(&(text + &raw))
}

fn run_case(
    proxy: &mut Proxy,
    backends: &Backends,
    case: &Case,
    engine: &str,
) -> Result<(), String> {
    let client = Peer::new(TcpStream::connect(proxy.address).unwrap());
    Run::new(proxy, backends, client, case, false).all(&case.steps_of_run(run_number()))?;
    let steps = case.steps_of_run(run_number());
    let Some(first) = first_bytes(&steps).filter(|_| !case.whole && !case.alone) else {
        return Ok(());
    };
    let head_len = first
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .map_or(first.len(), |at| at + 4);
    // The engines take turns: reading is the same code.
    let stride = (first.len() / CUTS_MAX).max(1) * ENGINES.len();
    let offset = 1 + usize::from(engine == ENGINES[1]);
    let cuts: Vec<usize> = (offset..first.len()).step_by(stride).collect();
    let (in_head, behind): (Vec<usize>, Vec<usize>) = cuts.iter().partition(|cut| **cut < head_len);
    // A cut within the head leaves the backends alone, so many may wait for their second part at once.
    let batches = in_head.chunks(CUTS_AT_ONCE).chain(behind.chunks(1));
    for batch in batches {
        let runs: Vec<Vec<Step>> = batch
            .iter()
            .map(|_| case.steps_of_run(run_number()))
            .collect();
        let parts = batch.iter().zip(&runs).map(|(cut, steps)| {
            let first = first_bytes(steps).expect("each run begins as the others");
            first.split_at(*cut)
        });
        let parts: Vec<(&[u8], &[u8])> = parts.collect();
        let clients = first_parts(proxy, parts.iter().map(|(part, _)| *part))?;
        for (((cut, client), (_, second)), steps) in
            batch.iter().zip(clients).zip(&parts).zip(&runs)
        {
            let mut run = Run::new(proxy, backends, client, case, true);
            run.deed(0, &Deed::ClientSends(second.to_vec()))
                .and_then(|()| run.all(&steps[1..]))
                .map_err(|error| format!("cut at {cut}: {error}"))?;
        }
    }
    Ok(())
}

/// Of the next run of a case.
fn run_number() -> usize {
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    RUNS.fetch_add(1, Ordering::Relaxed)
}

/// What the client sends before anything else happens.
fn first_bytes(steps: &[Step]) -> Option<&[u8]> {
    match &steps.first()?.deed {
        Deed::ClientSends(first) => Some(first),
        Deed::Client(_)
        | Deed::ClientGets(_)
        | Deed::ClientRaw(_)
        | Deed::ClientSees(_)
        | Deed::BackendSends(_)
        | Deed::Backend(_)
        | Deed::BackendGets(_)
        | Deed::BackendRaw(_)
        | Deed::BackendSees(_)
        | Deed::Counted(_)
        | Deed::Logged(_)
        | Deed::Until(..) => None,
    }
}

/// Connections on which the proxy has read these first parts.
fn first_parts<'p>(
    proxy: &Proxy,
    parts: impl Iterator<Item = &'p [u8]>,
) -> Result<Vec<Peer>, String> {
    const READ: &str = "corelane_client_received_bytes_total";
    let before = proxy.metric(READ);
    let mut clients = Vec::new();
    let mut sum = 0;
    for part in parts {
        let mut client = Peer::new(TcpStream::connect(proxy.address).unwrap());
        client.send(part);
        clients.push(client);
        sum += part.len() as u64;
    }
    proxy.wait_for_metric(READ, |now| now >= before + sum)?;
    Ok(clients)
}

/// One pass through a case.
struct Run<'r> {
    proxy: &'r mut Proxy,
    backends: &'r Backends,
    clients: Vec<Client>,
    sides: Vec<Side>,
    /// What the client got last, and the backend.
    last: [Head; 2],
    lines_before: usize,
    /// The log is flushed at each tick only: looked at once per case, not once per cut.
    is_cut: bool,
    rejected_before: BTreeMap<String, u64>,
}

/// A client's end of its connection.
#[derive(Default)]
struct Client {
    peer: Option<Peer>,
    /// Name and value of the last cookie that it was given.
    cookie: String,
}

/// A backend's end of the connections to it.
#[derive(Default)]
struct Side {
    /// The connection of the last exchange, and those before.
    peer: Option<Peer>,
    earlier: Vec<Peer>,
}

impl<'r> Run<'r> {
    fn new(
        proxy: &'r mut Proxy,
        backends: &'r Backends,
        client: Peer,
        case: &Case,
        is_cut: bool,
    ) -> Run<'r> {
        let counted = case.steps.iter().filter_map(|step| match &step.deed {
            Deed::Counted(label) => Some((label.clone(), proxy.metric(&rejected(label)))),
            _ => None,
        });
        let rejected_before = counted.collect();
        let most = case.steps.iter().map(|step| step.number).max();
        let mut clients: Vec<Client> = Vec::new();
        clients.resize_with(most.unwrap_or_default() + 1, Client::default);
        clients[0].peer = Some(client);
        Run {
            lines_before: proxy.logged().len(),
            is_cut,
            proxy,
            backends,
            clients,
            sides: backends.scripted.iter().map(|_| Side::default()).collect(),
            last: Default::default(),
            rejected_before,
        }
    }

    fn all(&mut self, steps: &[Step]) -> Result<(), String> {
        for (at, step) in steps.iter().enumerate() {
            self.deed(step.number, &step.deed).map_err(|error| {
                let mut shown = format!("{step:?}");
                shown.truncate(200);
                format!("step {at}, {shown}: {error}")
            })?;
        }
        self.nothing_left()
    }

    fn deed(&mut self, number: usize, deed: &Deed) -> Result<(), String> {
        match deed {
            Deed::ClientSends(bytes) => self.client_sends(number, bytes),
            Deed::BackendSends(bytes) => self.backend(number)?.send(bytes),
            Deed::Client(act) => act_on(&mut self.clients[number].peer, *act),
            Deed::Backend(Act::Down) => self.backends.scripted[number].down(),
            Deed::Backend(Act::Up) => self.backends.scripted[number].up(),
            Deed::Backend(act) => act_on(&mut self.sides[number].peer, *act),
            Deed::ClientGets(message) => {
                let last = self.last[1].clone();
                let head = gets(self.client(number), message, false, &last)?;
                if let Some(cookie) = head.all("Set-Cookie").last() {
                    let pair = cookie.split(';').next().unwrap_or_default();
                    self.clients[number].cookie = pair.to_owned();
                }
                self.last[0] = head;
            }
            Deed::BackendGets(message) => {
                let is_new = self.next_backend(number)?;
                if message.is_new.is_some_and(|wanted| wanted != is_new) {
                    return Err(format!("on a new connection: {is_new}"));
                }
                let last = self.last[0].clone();
                self.last[1] = gets(self.backend(number)?, message, true, &last)?;
            }
            Deed::ClientRaw(bytes) => self.client(number).raw(bytes)?,
            Deed::BackendRaw(bytes) => {
                if self.sides[number].peer.is_none() {
                    self.next_backend(number)?;
                }
                self.backend(number)?.raw(bytes)?;
            }
            Deed::ClientSees(State::Open) => self.still_open(number)?,
            Deed::ClientSees(state) => sees(self.client(number), *state)?,
            Deed::BackendSees(state) => sees(self.backend(number)?, *state)?,
            Deed::Counted(label) => {
                let before = self.rejected_before[label];
                self.proxy
                    .wait_for_metric(&rejected(label), |now| now > before)?;
            }
            Deed::Until(metric, value) => {
                self.proxy.wait_for_metric(metric, |now| now == *value)?;
            }
            Deed::Logged(_) if self.is_cut => {}
            Deed::Logged(text) => {
                let text = self.backends.named(text);
                self.proxy.wait_for_line(self.lines_before, &text)?;
            }
        }
        Ok(())
    }

    /// On its connection; one that has none opens one.
    fn client_sends(&mut self, number: usize, bytes: &[u8]) {
        let client = &mut self.clients[number];
        let cookie = std::mem::take(&mut client.cookie);
        let address = self.proxy.address;
        let connect = || Peer::new(TcpStream::connect(address).unwrap());
        let peer = client.peer.get_or_insert_with(connect);
        match find(bytes, b"{cookie}") {
            Some(at) => {
                let (before, rest) = bytes.split_at(at);
                let after = &rest[b"{cookie}".len()..];
                peer.send(&[before, cookie.as_bytes(), after].concat());
            }
            None => peer.send(bytes),
        }
        client.cookie = cookie;
    }

    fn client(&mut self, number: usize) -> &mut Peer {
        let peer = self.clients[number].peer.as_mut();
        peer.expect("the client has a connection")
    }

    fn backend(&mut self, number: usize) -> Result<&mut Peer, String> {
        let peer = self.sides[number].peer.as_mut();
        peer.ok_or("there is no backend connection".to_owned())
    }

    /// Waits for bytes on the backend's connection, or for a new one. Whether it is new.
    fn next_backend(&mut self, number: usize) -> Result<bool, String> {
        let (scripted, side) = (&self.backends.scripted[number], &mut self.sides[number]);
        loop {
            if let Some(peer) = &mut side.peer {
                match peer.at_hand() {
                    Some([]) => {}
                    Some(_) => return Ok(false),
                    None => side.peer = None,
                }
            }
            if let Some(peer) = scripted.accept() {
                side.earlier.extend(side.peer.replace(peer));
                return Ok(true);
            }
            let door = scripted.door.borrow();
            let listener = match &*door {
                Door::Open(listener) => Some(listener.as_fd()),
                Door::Shut(_) => None,
            };
            let stream = side.peer.as_ref().map(|peer| peer.stream.as_fd());
            let fds = listener.into_iter().chain(stream);
            let mut fds: Vec<_> = fds
                .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
                .collect();
            let patience = Timespec::try_from(PATIENCE).unwrap();
            if poll(&mut fds, Some(&patience)).unwrap() == 0 {
                return Err("nothing came to the backend".to_owned());
            }
        }
    }

    /// One more exchange, which shows that both sides agree on where the last one ended.
    fn still_open(&mut self, client: usize) -> Result<(), String> {
        let request = b"GET /still-open HTTP/1.1\r\nHost: a\r\n\r\n".to_vec();
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nopen".to_vec();
        let seen = Message {
            start: "GET /still-open HTTP/1.1".to_owned(),
            ..Message::default()
        };
        let got = Message {
            start: "200".to_owned(),
            body: b"open".to_vec(),
            ..Message::default()
        };
        self.deed(client, &Deed::ClientSends(request))?;
        self.deed(0, &Deed::BackendGets(seen))?;
        self.deed(0, &Deed::BackendSends(answer))?;
        self.deed(client, &Deed::ClientGets(got))
    }

    fn nothing_left(&mut self) -> Result<(), String> {
        let clients = self.clients.iter_mut().map(|client| &mut client.peer);
        let backends = self.sides.iter_mut().map(|side| &mut side.peer);
        let clients = clients.map(|peer| ("client", peer));
        for (who, peer) in clients.chain(backends.map(|peer| ("backend", peer))) {
            if let Some(left) = peer
                .as_mut()
                .and_then(Peer::at_hand)
                .filter(|left| !left.is_empty())
            {
                return Err(format!("left at the {who}: {}", show(left)));
            }
        }
        if self
            .backends
            .scripted
            .iter()
            .any(|one| one.accept().is_some())
        {
            return Err("a connection to the backend that the case does not name".to_owned());
        }
        Ok(())
    }
}

fn find(bytes: &[u8], text: &[u8]) -> Option<usize> {
    bytes.windows(text.len()).position(|some| some == text)
}

fn rejected(label: &str) -> String {
    format!("corelane_rejected_total{{reason=\"{label}\"}}")
}

fn act_on(peer: &mut Option<Peer>, act: Act) {
    match act {
        Act::End => {
            let open = peer.as_ref().expect("there is a connection");
            let _ = open.stream.shutdown(std::net::Shutdown::Write);
        }
        Act::Close => *peer = None,
        Act::Reset => peer.take().expect("there is a connection").reset(),
        Act::Down | Act::Up => unreachable!("not of a connection"),
    }
}

fn sees(peer: &mut Peer, state: State) -> Result<(), String> {
    let closed = peer.closed()?;
    let right = match state {
        State::Closed => closed == Closed::End,
        State::Reset => closed == Closed::Reset,
        State::Gone => true,
        State::Open => false,
    };
    if right {
        Ok(())
    } else {
        Err(format!("{closed:?}"))
    }
}

/// `last` is the head that the other side got last.
fn gets(peer: &mut Peer, message: &Message, is_request: bool, last: &Head) -> Result<Head, String> {
    let head = peer.head()?;
    check_head(&head, message, last)?;
    let interim = head.status().is_some_and(|status| status < 200);
    let bodiless = matches!(head.status(), Some(204 | 304));
    if message.head_only || interim || bodiless {
        return Ok(head);
    }
    let body = peer.body(&head, is_request)?;
    check_body(&head, &body, message)?;
    Ok(head)
}

fn check_head(head: &Head, message: &Message, last: &Head) -> Result<(), String> {
    let right = if message
        .start
        .starts_with(|first: char| first.is_ascii_digit())
    {
        head.status()
            .is_some_and(|status| status.to_string() == message.start)
    } else {
        head.start == message.start
    };
    if !right {
        return Err(format!("{head:?}"));
    }
    for check in &message.checks {
        let right = match check {
            Check::Field(name, value) => head.all(name) == [value.as_str()],
            Check::Present(name) => !head.all(name).is_empty(),
            Check::Absent(name) => head.all(name).is_empty(),
            Check::Among(name, value) => head.all(name).contains(&value.as_str()),
            Check::Begins(name, start) => {
                matches!(head.all(name)[..], [value] if value.starts_with(start.as_str()))
            }
            Check::Same(name) => !head.all(name).is_empty() && head.all(name) == last.all(name),
        };
        if !right {
            return Err(format!("{check:?} in {head:?}"));
        }
    }
    Ok(())
}

/// What the Content-Encoding says of the body, which must be whole if it came whole.
fn decoded(head: &Head, bytes: &[u8]) -> Result<Vec<u8>, String> {
    let named = head.all("Content-Encoding");
    let mut codings = Coding::ALL.into_iter();
    let coding = codings.find(|coding| named == [coding.name()]);
    let coding = coding.ok_or(format!("no coding of ours: {head:?}"))?;
    let (decoded, is_whole) = decode::decode(coding, bytes);
    if is_whole {
        Ok(decoded)
    } else {
        Err(format!(
            "{} of {} are not the whole",
            decoded.len(),
            show(bytes)
        ))
    }
}

fn check_body(head: &Head, body: &Body, message: &Message) -> Result<(), String> {
    let right = match &message.reason {
        Some(label) => {
            let text = String::from_utf8_lossy(&body.bytes).into_owned();
            text.ends_with(&format!(": {label}\n"))
                || text.ends_with(&format!("\"reason\":\"{label}\"}}"))
        }
        None if message.coded => decoded(head, &body.bytes)? == message.body,
        None => body.bytes == message.body,
    };
    let ended = match message.cut {
        None => body.complete,
        Some(by_reset) => !body.complete && body.reset == by_reset,
    };
    if right && ended && body.trailers == message.trailers {
        Ok(())
    } else {
        let Body {
            bytes,
            trailers,
            complete,
            reset,
        } = body;
        let bytes = show(bytes);
        Err(format!(
            "{head:?}, body {bytes}, {trailers:?}, complete {complete}, reset {reset}"
        ))
    }
}
