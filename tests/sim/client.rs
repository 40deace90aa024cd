//! Scripted clients.
//!
//! Decides: what is sent when, and how a connection is ended. Checks: every response belongs to the request at the
//! head of the line, is byte-exact, and comes at all unless something excuses it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use corelane::config::plan::Nanos;
use corelane::wait::{Race, race};

use crate::backend::TUNNEL_UP_BYTES;
use crate::http::{Body, Gone, Head, Wire};
use crate::model::{Ask, Fate, Ledger, payload, response_body};
use crate::net::{Break, SimStream};
use crate::world::{MS, SECOND, World};

/// How often a script looks at what its other half has done.
const GLANCE_NS: Nanos = 10 * MS;

/// What a client does when it has all its responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Close,
    HalfClose,
    /// Waits for the proxy to close.
    Wait,
    Reset,
}

#[derive(Debug, Clone)]
pub struct Script {
    pub asks: Vec<Ask>,
    /// Does not wait for a response before the next request.
    pub pipelined: bool,
    /// Before the first request, and longest between requests.
    pub start_ns: Nanos,
    pub pause_ns: Nanos,
    /// Longest pause between two pieces of a request.
    pub trickle_ns: Nanos,
    /// Longest pause before a read.
    pub slow_ns: Nanos,
    pub read_max: u64,
    pub ending: Ending,
    /// What breaks: the way to the proxy, the way back.
    pub breaks: [Option<Break>; 2],
}

impl Script {
    pub fn of(asks: Vec<Ask>) -> Script {
        Script {
            asks,
            pipelined: false,
            start_ns: 0,
            pause_ns: 0,
            trickle_ns: 0,
            slow_ns: 0,
            read_max: 64 * 1024,
            ending: Ending::Close,
            breaks: [None, None],
        }
    }
}

/// One response, as the client saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// Complete: a backend's.
    Answer(u16),
    /// Complete: the proxy's own.
    Refusal(u16),
    /// It began and did not end.
    Cut(Gone),
    /// Nothing came.
    Nothing(Gone),
}

/// What excuses that something did not come.
pub struct Excuses {
    pub world: World,
    pub draining: Rc<Cell<bool>>,
}

impl Excuses {
    fn any(&self) -> bool {
        self.world.has_jumped() || self.draining.get()
    }
}

/// What both halves of a client know.
struct Chat {
    outstanding: RefCell<VecDeque<Rc<Ask>>>,
    written: Cell<bool>,
    /// The client has gone or may go.
    over: Cell<bool>,
    /// 101 has come.
    tunnel: Cell<bool>,
    /// A response came that did not wait for its request.
    early: Cell<bool>,
}

impl Chat {
    async fn until(&self, world: &World, condition: impl Fn() -> bool) {
        while !condition() {
            world.sleep(GLANCE_NS).await;
        }
    }
}

pub struct Client {
    pub world: World,
    pub ledger: Ledger,
    pub excuses: Excuses,
    pub who: u64,
}

impl Client {
    /// Runs the script; what came for each request, in order.
    pub async fn run(self, stream: SimStream, script: Script) -> Vec<Seen> {
        let [up, down] = script.breaks;
        if let Some(breaks) = up {
            stream.break_at(breaks);
        }
        if let Some(breaks) = down {
            stream.peer_breaks_at(breaks);
        }
        let chat = Chat {
            outstanding: RefCell::default(),
            written: Cell::new(false),
            over: Cell::new(false),
            tunnel: Cell::new(false),
            early: Cell::new(false),
        };
        let over = || chat.over.get();
        let writer = async {
            let write = self.write(&chat, &stream, &script);
            let _ = race(write, chat.until(&self.world, over)).await;
            chat.written.set(true);
        };
        let reader = async {
            let mut seen = Vec::new();
            {
                let read = self.read(&chat, &stream, &script, &mut seen);
                let _ = race(read, chat.until(&self.world, over)).await;
            }
            chat.over.set(true);
            seen
        };
        let ((), seen) = crate::backend::both(writer, reader).await;
        // A tunnel's bytes may still be on their way.
        if script.ending == Ending::Reset && !chat.tunnel.get() {
            stream.abort();
        }
        seen
    }

    async fn write(&self, chat: &Chat, stream: &SimStream, script: &Script) {
        self.world.sleep(script.start_ns).await;
        for (i, ask) in script.asks.iter().enumerate() {
            if i > 0 {
                let ns = self.world.below(script.pause_ns + 1);
                self.world.sleep(ns).await;
            }
            if !script.pipelined || ask.upgrade {
                let idle = || chat.outstanding.borrow().is_empty();
                chat.until(&self.world, idle).await;
            }
            let ask = self.ledger.ask(ask.clone());
            chat.outstanding.borrow_mut().push_back(Rc::clone(&ask));
            if !self.write_one(chat, stream, script, &ask).await {
                return;
            }
        }
    }

    /// `false`: this was the last.
    async fn write_one(&self, chat: &Chat, stream: &SimStream, script: &Script, ask: &Ask) -> bool {
        let bytes = ask.render();
        let end = match ask.fate {
            Fate::Whole | Fate::HalfClose => bytes.len(),
            Fate::Stall(at) | Fate::Abort(at, _) => at.min(bytes.len()),
        };
        let mut at = 0;
        while at < end {
            let piece = match (script.trickle_ns, ask.expect && at == 0) {
                (_, true) => ask.head_len(),
                (0, false) => end,
                (_, false) => 1 + self.world.below(400) as usize,
            };
            let to = end.min(at + piece);
            if stream.send(&bytes[at..to]).await.is_err() {
                // The reader will say what came of it.
                std::future::pending::<()>().await;
            }
            at = to;
            if at < end {
                let ns = self.world.below(script.trickle_ns + 1);
                self.world.sleep(ns).await;
            }
        }
        match ask.fate {
            Fate::Whole => {}
            Fate::HalfClose => {
                stream.finish();
                return false;
            }
            Fate::Stall(_) => return false,
            Fate::Abort(_, reset) => {
                if reset {
                    stream.abort();
                }
                chat.over.set(true);
                return false;
            }
        }
        if ask.garbage.is_some() || ask.close {
            return false;
        }
        if !ask.upgrade {
            return true;
        }
        let settled = || chat.tunnel.get() || chat.outstanding.borrow().is_empty();
        chat.until(&self.world, settled).await;
        if chat.tunnel.get() {
            for piece in payload(ask.id, 0, TUNNEL_UP_BYTES).chunks(500) {
                if stream.send(piece).await.is_err() {
                    return false;
                }
                let ns = self.world.below(script.trickle_ns + 1);
                self.world.sleep(ns).await;
            }
            stream.finish();
        }
        false
    }

    async fn read(
        &self,
        chat: &Chat,
        stream: &SimStream,
        script: &Script,
        seen: &mut Vec<Seen>,
    ) -> Result<(), Gone> {
        let mut wire = Wire::new(&self.world, stream, self.who);
        wire.slow_ns = script.slow_ns;
        wire.read_max = script.read_max;
        loop {
            if chat.outstanding.borrow().is_empty() && wire.bytes.is_empty() {
                if chat.written.get() {
                    return self.end(&mut wire, script).await;
                }
                // Idle: the proxy may close, but must not say anything.
                match race(wire.more(), self.world.sleep(GLANCE_NS)).await {
                    // It came for a request that has been sent meanwhile, and will be told again.
                    Race::First(Err(_)) if !chat.outstanding.borrow().is_empty() => {}
                    Race::First(Err(gone)) => {
                        chat.over.set(true);
                        self.check_idle_end(gone, script, chat.early.get());
                        return Ok(());
                    }
                    Race::First(Ok(())) | Race::Second(()) => {}
                }
                continue;
            }
            let ask = chat.outstanding.borrow().front().cloned();
            let ask = ask.unwrap_or_else(|| panic!("to nothing: {:?}", wire.bytes));
            let (one, goes_on) = self.response(chat, &mut wire, script, &ask).await;
            seen.push(one);
            self.check_absence(&ask, script, one, stream, chat.early.get());
            let early = chat.early.get() || self.ledger.answered_early(ask.id);
            chat.early.set(early);
            chat.outstanding.borrow_mut().pop_front();
            if !goes_on {
                self.last(&mut wire, &ask, one).await;
                chat.over.set(true);
                return Ok(());
            }
        }
    }

    /// One response, and whether another may follow.
    async fn response(
        &self,
        chat: &Chat,
        wire: &mut Wire<'_>,
        script: &Script,
        ask: &Ask,
    ) -> (Seen, bool) {
        let (head, status) = loop {
            let head = match wire.head().await {
                Ok(head) => head,
                Err(gone) if wire.bytes.is_empty() => return (Seen::Nothing(gone), false),
                Err(gone) => return (Seen::Cut(gone), false),
            };
            let status = status(&head);
            if status >= 200 || status == 101 {
                break (head, status);
            }
            assert!(!ask.http10, "an interim response to HTTP/1.0: {head:?}");
        };
        if status == 101 {
            chat.tunnel.set(true);
            let seen = self.tunnel(wire, ask, &head).await;
            // The other direction may still be open.
            let written = chat.until(&self.world, || chat.written.get());
            let _ = race(written, self.world.sleep(10 * SECOND)).await;
            return (seen, false);
        }
        let mut got = Vec::new();
        let body = response_body(ask, status, &head);
        let ended = wire.body(body, &mut got).await;
        let ours = head.one("X-Id").is_none();
        if ours {
            self.check_refusal(ask, script, status, &head);
        } else {
            self.ledger
                .check_response(ask, &head, status, &got, ended.is_ok());
        }
        if let Err(gone) = ended {
            return (Seen::Cut(gone), false);
        }
        let goes_on = if ask.http10 {
            head.is("Connection", "keep-alive") && body != Body::UntilClose
        } else {
            !head.is("Connection", "close")
        };
        let seen = if ours {
            Seen::Refusal(status)
        } else {
            Seen::Answer(status)
        };
        (seen, goes_on)
    }

    async fn tunnel(&self, wire: &mut Wire<'_>, ask: &Ask, head: &Head) -> Seen {
        assert!(ask.upgrade, "{head:?}");
        let serial = head.number("X-Serial").expect("every answer has one");
        let answer = self
            .ledger
            .answer_to(ask.id, serial)
            .expect("it was answered");
        let mut got = Vec::new();
        let ended = wire.body(Body::UntilClose, &mut got).await;
        let sent = payload(ask.id, serial, answer.len);
        assert!(sent.starts_with(&got), "foreign bytes in a tunnel");
        match ended {
            Err(gone) => Seen::Cut(gone),
            Ok(()) if got.len() < sent.len() => Seen::Cut(Gone::End),
            Ok(()) => Seen::Answer(101),
        }
    }

    /// Refusals of the proxy have their reasons.
    fn check_refusal(&self, ask: &Ask, script: &Script, status: u16, head: &Head) {
        if let Some(garbage) = ask.garbage {
            let late = script.trickle_ns > 0 || self.world.has_jumped();
            let expected = garbage.statuses.contains(&status) || status == 408 && late;
            assert!(expected, "{status} to {garbage:?}");
            return;
        }
        let stalled = matches!(ask.fate, Fate::Stall(_)) || script.trickle_ns > 0;
        let excused = self.ledger.excused(ask.id) || self.excuses.any();
        let fine = match status {
            408 => stalled || self.world.has_jumped(),
            // A connection that could not be opened, or broke before a byte came, leaves no answer behind.
            502..=504 if self.ledger.firm => !ask.is_idempotent() || excused,
            502..=504 => !self.ledger.calm,
            400 => script.breaks[0].is_some() || stalled,
            _ => false,
        };
        assert!(fine, "{head:?} to {ask:?}, {excused}");
    }

    /// Whether it may be that this request has no whole response.
    fn check_absence(
        &self,
        ask: &Ask,
        script: &Script,
        seen: Seen,
        stream: &SimStream,
        early: bool,
    ) {
        let gone = match seen {
            Seen::Answer(_) | Seen::Refusal(_) => return,
            Seen::Cut(gone) | Seen::Nothing(gone) => gone,
        };
        assert_ne!(gone, Gone::Hang, "nothing more came to {ask:?}: {seen:?}");
        // The end of a client's half is taken for its leaving.
        let leaves = |ask: &Ask| ask.fate == Fate::HalfClose;
        // To HTTP/1.0 a cut is told by a reset, which may take along the response before it.
        let old = script.pipelined && script.asks.iter().any(|ask| ask.http10);
        let own_fault = stream.will_break()
            || (old && gone == Gone::Reset)
            || ask.fate != Fate::Whole
            || script.asks.iter().any(leaves)
            || ask.garbage.is_some()
            || script.slow_ns > SECOND
            || script.pause_ns > SECOND
            || script.trickle_ns > SECOND;
        // A reset says that the response was cut, and may take all of it along.
        let begun = matches!(seen, Seen::Cut(_) | Seen::Nothing(Gone::Reset));
        let backend = begun && self.ledger.excused(ask.id);
        let fine = own_fault || backend || early || self.excuses.any();
        assert!(fine, "{seen:?} to {ask:?} of {script:?}");
    }

    /// The proxy closes an idle connection.
    fn check_idle_end(&self, gone: Gone, script: &Script, early: bool) {
        // Who takes so long to read a response is idle meanwhile.
        let slow = [script.pause_ns, script.start_ns, script.slow_ns];
        let slow = slow.iter().any(|ns| *ns > SECOND);
        let broken = script.breaks.iter().any(Option::is_some);
        let fine = slow || broken || early || self.excuses.any();
        assert!(fine, "{gone:?} while idle");
    }

    /// After a response that announced the end, or broke off: nothing may come any more.
    async fn last(&self, wire: &mut Wire<'_>, ask: &Ask, seen: Seen) {
        match seen {
            Seen::Cut(_) | Seen::Nothing(_) | Seen::Answer(101) => return,
            Seen::Answer(_) | Seen::Refusal(_) => {}
        }
        if seen == Seen::Refusal(408) && ask.method == "HEAD" {
            // The proxy had not seen the method, so it sends a body.
            return;
        }
        assert!(wire.bytes.is_empty(), "after the end: {:?}", wire.bytes);
        match wire.more().await {
            Ok(()) => panic!("after the end: {:?}", wire.bytes),
            Err(Gone::Hang) => panic!("the connection stays open after its end was announced"),
            Err(Gone::End | Gone::Reset) => {}
        }
    }

    /// All is asked and answered.
    async fn end(&self, wire: &mut Wire<'_>, script: &Script) -> Result<(), Gone> {
        match script.ending {
            Ending::Close | Ending::Reset => return Ok(()),
            Ending::HalfClose => wire.stream.finish(),
            Ending::Wait => {}
        }
        match wire.more().await {
            Ok(()) => panic!("to nothing: {:?}", wire.bytes),
            Err(Gone::Hang) => panic!("an idle connection is never closed"),
            Err(Gone::End | Gone::Reset) => Ok(()),
        }
    }
}

fn status(head: &Head) -> u16 {
    let rest = head.line.strip_prefix("HTTP/1.1 ").expect("our version");
    let digits = rest.get(..3).expect("three digits");
    digits.parse().expect("three digits")
}
