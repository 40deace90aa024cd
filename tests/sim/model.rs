//! What is asked and answered in a run, and what the two ends must therefore see.
//!
//! Decides: which outcomes are right. May not know: the proxy. Invariant: every message carries its id, and every
//! body is derived from it, so that a byte in the wrong place shows.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use corelane::config::plan::Plan;
use corelane::policy::retry::Statuses;

use crate::http::{Body, Head};
use crate::net::{SimStream, Watch};
use crate::world::mix;

/// The payload of request `id` (serial 0) or of an answer to it.
pub fn payload(id: u64, serial: u64, len: u64) -> Vec<u8> {
    let key = mix(id << 20 ^ serial);
    let words = (0..len.div_ceil(8)).flat_map(|i| mix(key ^ i).to_le_bytes());
    words.take(len as usize).collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    None,
    Length(u64),
    Chunked(u64),
}

impl Load {
    pub fn bytes(self) -> u64 {
        match self {
            Load::None => 0,
            Load::Length(n) | Load::Chunked(n) => n,
        }
    }
}

/// What the client does with its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Whole,
    /// Sends it, then ends its half.
    HalfClose,
    /// Falls silent after so many bytes.
    Stall(usize),
    /// Closes, or resets, after so many bytes.
    Abort(usize, bool),
}

/// Bytes that are no request that may pass.
#[derive(Debug, Clone, Copy)]
pub struct Garbage {
    pub bytes: &'static str,
    pub statuses: &'static [u16],
}

#[derive(Debug, Clone)]
pub struct Ask {
    pub id: u64,
    pub method: &'static str,
    pub http10: bool,
    pub load: Load,
    pub upgrade: bool,
    pub close: bool,
    pub expect: bool,
    pub fate: Fate,
    pub garbage: Option<Garbage>,
}

impl Ask {
    pub fn get() -> Ask {
        Ask {
            id: 0,
            method: "GET",
            http10: false,
            load: Load::None,
            upgrade: false,
            close: false,
            expect: false,
            fate: Fate::Whole,
            garbage: None,
        }
    }

    pub fn post(load: Load) -> Ask {
        Ask {
            method: "POST",
            load,
            ..Ask::get()
        }
    }

    /// RFC 9110 section 9.2.2.
    pub fn is_idempotent(&self) -> bool {
        !matches!(self.method, "POST" | "PATCH")
    }

    pub fn render(&self) -> Vec<u8> {
        if let Some(garbage) = self.garbage {
            return garbage.bytes.as_bytes().to_vec();
        }
        let version = if self.http10 { "1.0" } else { "1.1" };
        let id = self.id;
        let mut head = format!(
            "{} /r/{id} HTTP/{version}\r\nHost: sim.example\r\nX-Id: {id}\r\n\
             Connection: {}\r\nTE: trailers\r\n",
            self.method,
            match (self.upgrade, self.close, self.http10) {
                (true, _, _) => "Upgrade",
                (false, true, _) => "close",
                (false, false, true) => "keep-alive",
                (false, false, false) => "TE",
            }
        );
        if self.upgrade {
            head += "Upgrade: sim\r\n";
        }
        if self.expect {
            head += "Expect: 100-continue\r\n";
        }
        match self.load {
            Load::None => {}
            Load::Length(n) => head += &format!("Content-Length: {n}\r\n"),
            Load::Chunked(_) => head += "Transfer-Encoding: chunked\r\n",
        }
        head += "\r\n";
        let mut bytes = head.into_bytes();
        let body = payload(id, 0, self.load.bytes());
        match self.load {
            Load::None => {}
            Load::Length(_) => bytes.extend(body),
            Load::Chunked(_) => bytes.extend(chunked(&body, id)),
        }
        bytes
    }

    pub fn head_len(&self) -> usize {
        let bytes = self.render();
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        end.map_or(bytes.len(), |at| at + 4)
    }
}

/// A chunked form with chunks of many sizes, some with extensions, some bodies with a trailer.
pub fn chunked(body: &[u8], key: u64) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = body;
    let mut i = key;
    while !rest.is_empty() {
        i += 1;
        let most = [1, 7, 100, 1000, 20_000][(mix(i) % 5) as usize];
        let (piece, left) = rest.split_at(rest.len().min(most));
        let extension = if mix(i) >> 8 & 7 == 0 {
            ";name=value"
        } else {
            ""
        };
        out.extend(format!("{:x}{extension}\r\n", piece.len()).bytes());
        out.extend(piece);
        out.extend(b"\r\n");
        rest = left;
    }
    out.extend(b"0\r\n");
    if mix(key) & 7 == 0 {
        out.extend(b"X-Sum: 17\r\n");
    }
    out.extend(b"\r\n");
    out
}

/// What a backend answered.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub len: u64,
    /// The client may take it for complete.
    pub whole: bool,
    /// It may get lost on the way.
    pub excused: bool,
    /// It may come before the request has been sent, which ends the client's connection.
    pub early: bool,
    /// The backend has not come to its end.
    pub sending: bool,
}

struct Delivery {
    backend: usize,
    serial: u64,
    watch: Watch,
    taken: u64,
    /// It was not the first on its connection.
    reused: bool,
}

#[derive(Default)]
struct Facts {
    asks: BTreeMap<u64, Rc<Ask>>,
    deliveries: BTreeMap<u64, Vec<Delivery>>,
    answers: BTreeMap<(u64, u64), Answer>,
}

/// Everything that is known about a run.
#[derive(Clone, Default)]
pub struct Ledger {
    facts: Rc<RefCell<Facts>>,
    serial: Rc<Cell<u64>>,
    /// Nothing goes wrong in this run, so everything must go right.
    pub calm: bool,
    /// Whatever happens to backends, who may be repeated is answered.
    pub firm: bool,
    /// Further attempts that a request may have.
    attempts: usize,
    /// Each of them may have a second one beside it.
    hedges: bool,
    /// Statuses that are tried again.
    statuses: Statuses,
}

impl Ledger {
    /// What the plan's first route may do.
    pub fn new(calm: bool, plan: &Plan) -> Ledger {
        let retry = &plan.routes[0].retry;
        Ledger {
            calm,
            attempts: retry.attempts as usize,
            hedges: plan.clusters[0].hedge_percentile.is_some(),
            statuses: retry.on.statuses.clone(),
            ..Ledger::default()
        }
    }

    pub fn ask(&self, mut ask: Ask) -> Rc<Ask> {
        let mut facts = self.facts.borrow_mut();
        ask.id = facts.asks.len() as u64 + 1;
        let ask = Rc::new(ask);
        facts.asks.insert(ask.id, Rc::clone(&ask));
        ask
    }

    /// A backend has a request's head: who asked, and which serial its answer has.
    pub fn deliver(
        &self,
        head: &Head,
        stream: &SimStream,
        backend: usize,
        reused: bool,
    ) -> (Rc<Ask>, u64) {
        let id = head
            .number("X-Id")
            .unwrap_or_else(|| panic!("who? {head:?}"));
        let mut facts = self.facts.borrow_mut();
        let ask = Rc::clone(facts.asks.get(&id).expect("somebody asked"));
        assert!(ask.garbage.is_none(), "{head:?}");
        check_forwarded(&ask, head);
        self.serial.set(self.serial.get() + 1);
        let watch = stream.watch();
        let delivery = Delivery {
            backend,
            serial: self.serial.get(),
            taken: watch.taken(),
            watch,
            reused,
        };
        let mut before = facts.deliveries.remove(&id).unwrap_or_default();
        if !before.is_empty() {
            assert!(!self.calm, "{id} came twice for no reason");
            assert!(ask.is_idempotent(), "{ask:?} was repeated");
            self.check_repeated(&facts, id, &before, &delivery);
        }
        before.push(delivery);
        facts.deliveries.insert(id, before);
        (ask, self.serial.get())
    }

    /// Nothing is repeated after a byte of a response that could have reached the client, nothing at the same backend
    /// but on a fresh connection after one that had been idle, and nothing too often.
    fn check_repeated(&self, facts: &Facts, id: u64, before: &[Delivery], now: &Delivery) {
        let withheld = |delivery: &Delivery| {
            let answer = facts.answers.get(&(id, delivery.serial));
            answer.is_some_and(|answer| self.statuses.has(answer.status))
        };
        let same = before.iter().filter(|d| d.backend == now.backend).count();
        if self.hedges {
            assert!(same <= 1, "{id} came to one backend too often");
            let most = 2 * (1 + self.attempts);
            assert!(before.len() <= most, "{id} was repeated too often");
            return;
        }
        for delivery in before {
            let silent = delivery.taken == delivery.watch.taken();
            assert!(
                silent || withheld(delivery),
                "{id} repeated after a response"
            );
        }
        let last = before.last().expect("it was repeated");
        if last.backend == now.backend && !withheld(last) {
            assert!(last.reused && !now.reused, "{id} at the same backend again");
            assert_eq!(same, 1, "{id} came to one backend too often");
        } else if last.backend != now.backend {
            assert_eq!(same, 0, "{id} came back to a backend");
        }
        let pairs = before.iter().zip(before[1..].iter().chain([now]));
        let paid = pairs.filter(|(one, next)| !one.reused && one.backend != next.backend);
        assert!(paid.count() <= self.attempts, "{id} was repeated too often");
    }

    /// The backend has sent all that it will of this answer.
    pub fn sent(&self, id: u64, serial: u64) {
        let mut facts = self.facts.borrow_mut();
        if let Some(answer) = facts.answers.get_mut(&(id, serial)) {
            answer.sending = false;
        }
    }

    /// The backend has gone: what it was sending breaks off.
    pub fn gone(&self, backend: usize) {
        let mut facts = self.facts.borrow_mut();
        let Facts {
            deliveries,
            answers,
            ..
        } = &mut *facts;
        for ((id, serial), answer) in answers.iter_mut().filter(|(_, answer)| answer.sending) {
            let here = deliveries[id].iter().find(|one| one.serial == *serial);
            if here.is_some_and(|one| one.backend == backend) {
                (answer.excused, answer.whole, answer.sending) = (true, false, false);
            }
        }
    }

    /// A backend has a whole request.
    pub fn delivered(&self, ask: &Ask, body: &[u8]) {
        assert_eq!(body, payload(ask.id, 0, ask.load.bytes()), "{ask:?}");
        let sent = ask.render().len();
        match ask.fate {
            Fate::Whole | Fate::HalfClose => {}
            Fate::Stall(n) | Fate::Abort(n, _) => {
                assert!(n >= sent, "{ask:?} was cut and looks whole");
            }
        }
    }

    pub fn answer(&self, id: u64, serial: u64, answer: Answer) {
        self.facts.borrow_mut().answers.insert((id, serial), answer);
    }

    /// Some attempt at this request may have come to nothing by a backend's fault.
    pub fn excused(&self, id: u64) -> bool {
        let facts = self.facts.borrow();
        let mut answers = facts.answers.range((id, 0)..(id + 1, 0));
        answers.any(|(_, answer)| answer.excused)
    }

    /// Some answer to this request did not wait for its end.
    pub fn answered_early(&self, id: u64) -> bool {
        let facts = self.facts.borrow();
        let mut answers = facts.answers.range((id, 0)..(id + 1, 0));
        answers.any(|(_, answer)| answer.early)
    }

    pub fn answer_to(&self, id: u64, serial: u64) -> Option<Answer> {
        self.facts.borrow().answers.get(&(id, serial)).cloned()
    }

    /// A response of a backend, whole or in part, has come to the client that sent `ask`.
    pub fn check_response(&self, ask: &Ask, head: &Head, status: u16, got: &[u8], whole: bool) {
        let id = head.number("X-Id");
        assert_eq!(id, Some(ask.id), "{head:?} answers {ask:?}");
        let serial = head.number("X-Serial").expect("every answer has one");
        let facts = self.facts.borrow();
        let answer = facts.answers.get(&(ask.id, serial));
        let answer = answer.unwrap_or_else(|| panic!("nobody answered {head:?}"));
        assert_eq!(status, answer.status, "{head:?}");
        let bodiless = ask.method == "HEAD" || matches!(status, 204 | 304);
        let sent = payload(ask.id, serial, if bodiless { 0 } else { answer.len });
        assert!(sent.starts_with(got), "{ask:?}: foreign bytes, {answer:?}");
        if whole {
            assert!(answer.whole, "cut, and looks complete: {answer:?} {head:?}");
            assert_eq!(got.len(), sent.len(), "{ask:?} {answer:?} {head:?}");
        }
    }
}

/// The request as a backend may see it.
fn check_forwarded(ask: &Ask, head: &Head) {
    assert_eq!(head.line, format!("{} /r/{} HTTP/1.1", ask.method, ask.id));
    assert_eq!(head.one("Host"), Some("sim.example"), "{head:?}");
    assert_eq!(head.one("X-Forwarded-For"), Some("192.0.2.1"), "{head:?}");
    assert!(head.one("Via").is_some(), "{head:?}");
    assert!(head.all("TE").is_empty(), "{head:?}");
    let upgrade = ask.upgrade.then_some("Upgrade");
    assert_eq!(head.one("Connection"), upgrade, "{head:?}");
    let framing = request_body(head);
    match ask.load {
        Load::None => assert_eq!(framing, Body::None, "{head:?}"),
        Load::Length(n) => assert_eq!(framing, Body::Length(n), "{head:?}"),
        Load::Chunked(_) => assert_eq!(framing, Body::Chunked, "{head:?}"),
    }
}

pub fn request_body(head: &Head) -> Body {
    match (head.number("Content-Length"), head.one("Transfer-Encoding")) {
        (None, None) => Body::None,
        (Some(n), None) => Body::Length(n),
        (None, Some("chunked")) => Body::Chunked,
        (_, Some(_)) => panic!("ambiguous: {head:?}"),
    }
}

pub fn response_body(ask: &Ask, status: u16, head: &Head) -> Body {
    let length = head.number("Content-Length");
    let coding = head.one("Transfer-Encoding");
    assert!(length.is_none() || coding.is_none(), "ambiguous: {head:?}");
    if ask.method == "HEAD" || matches!(status, 100..=199 | 204 | 304) {
        return Body::None;
    }
    match (length, coding) {
        (Some(n), _) => Body::Length(n),
        (None, Some("chunked")) if !ask.http10 => Body::Chunked,
        (None, Some(_)) => panic!("{head:?} to {ask:?}"),
        (None, None) => {
            assert!(ask.http10, "only HTTP/1.0 knows no better end: {head:?}");
            Body::UntilClose
        }
    }
}
