//! Scripted backends.
//!
//! Decides: how each request is answered, and what is wrong with the answer. Checks: every request is whole,
//! its own and alone; nothing comes on a connection that must not be used any more.

use std::rc::Rc;

use corelane::config::plan::Nanos;
use corelane::wait::{Race, race};

use crate::http::{Body, Gone, Wire};
use crate::model::{Answer, Ask, Ledger, chunked, payload, request_body};
use crate::net::{Break, How, SimStream};
use crate::world::{SECOND, World};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    Length,
    Chunked,
    UntilClose,
    /// 204, with no body.
    Bodiless,
}

/// What is wrong with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    None,
    /// A second response that nobody asked for, right behind.
    Extra,
    /// Ends after so many thousandths of its bytes; by a reset or not.
    Cut(u64, bool),
    /// Falls silent after so many thousandths.
    Hang(u64),
    /// A head that is not to be trusted.
    BadHead(&'static str),
    /// A chunked body that ends in nonsense.
    BadChunk,
}

pub const BAD_HEADS: [&str; 6] = [
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\nX-A: b\r\n folded\r\nContent-Length: 5\r\n\r\nhello",
    "Nonsense from a machine\r\n\r\n",
    "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: evil\r\n\r\nevil",
];

/// Behind a response: what would be taken for the next one.
const EXTRA: &[u8] = b"HTTP/1.1 200 OK\r\nX-Id: 0\r\nX-Serial: 0\r\nContent-Length: 4\r\n\r\nevil";

#[derive(Debug, Clone)]
pub struct Reply {
    pub shape: Shape,
    /// Of all but what has no body.
    pub status: u16,
    pub len: u64,
    pub interims: u64,
    pub flaw: Flaw,
    pub close: bool,
    pub http10: bool,
    /// Answers before the request's body is read, and then reads on or not.
    pub early: Option<bool>,
    /// Before the answer.
    pub think_ns: Nanos,
    /// Longest pause between two pieces.
    pub pause_ns: Nanos,
    /// The tunnel stays open until the proxy ends it.
    pub tunnel_hangs: bool,
}

impl Reply {
    pub fn plain(shape: Shape, len: u64) -> Reply {
        Reply {
            shape,
            status: 200,
            len,
            interims: 0,
            flaw: Flaw::None,
            close: false,
            http10: false,
            early: None,
            think_ns: 0,
            pause_ns: 0,
            tunnel_hangs: false,
        }
    }

    fn bytes(&self, ask: &Ask, serial: u64, status: u16) -> Vec<u8> {
        let version = if self.http10 { "1.0" } else { "1.1" };
        let id = ask.id;
        let mut head = format!(
            "HTTP/{version} {status} Sure\r\nX-Id: {id}\r\nX-Serial: {serial}\r\n\
             Keep-Alive: timeout=5\r\nConnection: {}\r\n",
            match (self.close || self.shape == Shape::UntilClose, self.http10) {
                (true, _) => "close",
                (false, true) => "keep-alive",
                (false, false) => "Keep-Alive",
            }
        );
        let body = payload(id, serial, self.len);
        match self.shape {
            Shape::Length => head += &format!("Content-Length: {}\r\n", self.len),
            Shape::Chunked => head += "Transfer-Encoding: chunked\r\n",
            Shape::UntilClose | Shape::Bodiless => {}
        }
        head += "\r\n";
        let mut bytes = head.into_bytes();
        if ask.method == "HEAD" {
            return bytes;
        }
        match self.shape {
            Shape::Length | Shape::UntilClose => bytes.extend(body),
            Shape::Chunked => bytes.extend(chunked(&body, serial)),
            Shape::Bodiless => {}
        }
        bytes
    }
}

/// What the health checks of a plan ask for.
pub const CHECK: &str = "GET /healthz HTTP/1.1";
const HEALTHY: &[u8] = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";

/// What is special about the backend's connections.
#[derive(Clone)]
pub struct Manner {
    pub reply: Rc<dyn Fn(&Ask) -> Reply>,
    /// How long an idle connection is kept, if it is closed at all.
    pub idle_ns: Rc<dyn Fn() -> Option<Nanos>>,
    pub breaks: Rc<dyn Fn() -> [Option<Break>; 2]>,
    /// The answer to a health check.
    pub check: Rc<dyn Fn() -> &'static [u8]>,
}

impl Manner {
    pub fn plain(reply: impl Fn(&Ask) -> Reply + 'static) -> Manner {
        Manner {
            reply: Rc::new(reply),
            idle_ns: Rc::new(|| None),
            breaks: Rc::new(|| [None, None]),
            check: Rc::new(|| HEALTHY),
        }
    }
}

/// Serves one connection from the proxy.
pub async fn serve(
    world: World,
    ledger: Ledger,
    stream: SimStream,
    manner: Manner,
    number: usize,
    who: u64,
) {
    let breaks = (manner.breaks)();
    let [toward_us, from_us] = breaks;
    if let Some(breaks) = from_us {
        stream.break_at(breaks);
    }
    if let Some(breaks) = toward_us {
        stream.peer_breaks_at(breaks);
    }
    let mut wire = Wire::new(&world, &stream, who);
    let mut reused = false;
    loop {
        if let Some(ns) = (manner.idle_ns)()
            && wire.bytes.is_empty()
        {
            match race(wire.more(), world.sleep(ns)).await {
                Race::First(Ok(())) => {}
                Race::First(Err(_)) | Race::Second(()) => return,
            }
        }
        let Ok(head) = wire.head().await else { return };
        if head.line == CHECK {
            // Asked to close, as a check asks for.
            let _ = stream.send((manner.check)()).await;
            return;
        }
        let (ask, serial) = ledger.deliver(&head, &stream, number, reused);
        let mut reply = (manner.reply)(&ask);
        let fragile = stream.will_break() || (manner.idle_ns)().is_some();
        if fragile && reply.shape == Shape::UntilClose {
            // Nobody could tell a broken one from a whole one.
            reply.shape = Shape::Chunked;
        }
        if ask.upgrade && reply.flaw == Flaw::None {
            return tunnel(&world, &ledger, wire, &ask, serial, &reply, fragile).await;
        }
        let body = request_body(&head);
        if !exchange(
            &world, &ledger, &mut wire, &ask, serial, &reply, body, fragile,
        )
        .await
        {
            return;
        }
        reused = true;
    }
}

#[expect(clippy::too_many_arguments, reason = "one script's state, used once")]
async fn exchange(
    world: &World,
    ledger: &Ledger,
    wire: &mut Wire<'_>,
    ask: &Ask,
    serial: u64,
    reply: &Reply,
    body: Body,
    fragile: bool,
) -> bool {
    let mut got = Vec::new();
    if reply.early.is_none() {
        if wire.body(body, &mut got).await.is_err() {
            return false;
        }
        ledger.delivered(ask, &got);
        world.sleep(reply.think_ns).await;
    }
    let status = if reply.shape == Shape::Bodiless {
        204
    } else {
        reply.status
    };
    ledger.answer(
        ask.id,
        serial,
        Answer {
            status,
            len: if reply.shape == Shape::Bodiless {
                0
            } else {
                reply.len
            },
            whole: matches!(reply.flaw, Flaw::None | Flaw::Extra),
            excused: fragile
                || reply.early == Some(false)
                // Its end comes after the request's, and the silence before it may be too long.
                || reply.early.is_some() && reply.shape == Shape::UntilClose
                || !matches!(reply.flaw, Flaw::None | Flaw::Extra),
            early: reply.early.is_some(),
            sending: true,
        },
    );
    let sent = send(world, wire.stream, ask, reply, serial, status).await;
    ledger.sent(ask.id, serial);
    if !sent {
        return false;
    }
    match reply.early {
        Some(false) => return false,
        Some(true) => {
            if wire.body(body, &mut got).await.is_err() {
                return false;
            }
            ledger.delivered(ask, &got);
        }
        None => {}
    }
    let closes =
        reply.close || reply.flaw != Flaw::None || matches!(reply.shape, Shape::UntilClose);
    if closes && (reply.shape == Shape::UntilClose || world.chance(50)) {
        return false;
    }
    if closes {
        // A connection on which no request may come any more.
        match wire.more_within(20 * SECOND).await {
            Ok(()) => panic!("used again after {reply:?}: {:?}", wire.bytes),
            Err(Gone::Hang | Gone::End | Gone::Reset) => return false,
        }
    }
    true
}

/// Sends the answer. `false`: the connection is over.
async fn send(
    world: &World,
    stream: &SimStream,
    ask: &Ask,
    reply: &Reply,
    serial: u64,
    status: u16,
) -> bool {
    for i in 0..reply.interims {
        let interim: &[u8] = if i == 0 {
            b"HTTP/1.1 100 Continue\r\n\r\n"
        } else {
            b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
        };
        if stream.send(interim).await.is_err() {
            return false;
        }
        let ns = world.below(reply.pause_ns + 1);
        world.sleep(ns).await;
    }
    let mut bytes = reply.bytes(ask, serial, status);
    let mut end = bytes.len();
    match reply.flaw {
        Flaw::None | Flaw::Extra => {}
        Flaw::Cut(at, _) | Flaw::Hang(at) => end = (bytes.len() - 1) * at as usize / 1000,
        Flaw::BadHead(text) => {
            bytes = text.as_bytes().to_vec();
            end = bytes.len();
        }
        Flaw::BadChunk => {
            for last in [&b"0\r\nX-Sum: 17\r\n\r\n"[..], b"0\r\n\r\n"] {
                if bytes.ends_with(last) {
                    bytes.truncate(bytes.len() - last.len());
                }
            }
            bytes.extend(b"zz\r\n\r\n");
            end = bytes.len();
        }
    }
    let last = if reply.flaw == Flaw::Extra { 40 } else { 0 };
    let end = end.saturating_sub(last);
    let mut at = 0;
    while at < end {
        let piece = if reply.pause_ns == 0 {
            end
        } else {
            1 + world.below(2_000) as usize
        };
        let to = end.min(at + piece);
        if stream.send(&bytes[at..to]).await.is_err() {
            return false;
        }
        at = to;
        if at < end {
            let ns = world.below(reply.pause_ns + 1);
            world.sleep(ns).await;
        }
    }
    match reply.flaw {
        Flaw::None | Flaw::BadHead(_) | Flaw::BadChunk => true,
        Flaw::Extra => {
            // In one piece with the end of the response: later ones cannot be told from the next response.
            let mut rest = bytes[end..].to_vec();
            rest.extend(EXTRA);
            stream.put(&rest);
            true
        }
        Flaw::Cut(_, reset) => {
            if reset {
                stream.abort();
            }
            false
        }
        Flaw::Hang(_) => {
            world.sleep(15 * SECOND).await;
            // An orderly end could complete a response without a length.
            stream.abort();
            false
        }
    }
}

async fn tunnel(
    world: &World,
    ledger: &Ledger,
    mut wire: Wire<'_>,
    ask: &Ask,
    serial: u64,
    reply: &Reply,
    fragile: bool,
) {
    let answer = Answer {
        status: 101,
        len: reply.len,
        whole: true,
        excused: fragile || reply.tunnel_hangs,
        early: false,
        sending: false,
    };
    ledger.answer(ask.id, serial, answer);
    let id = ask.id;
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: sim\r\n\
         X-Id: {id}\r\nX-Serial: {serial}\r\n\r\n"
    );
    let mut bytes = head.into_bytes();
    bytes.extend(payload(id, serial, reply.len));
    let down = async {
        for piece in bytes.chunks(700) {
            if wire.stream.send(piece).await.is_err() {
                return;
            }
            let ns = world.below(reply.pause_ns + 1);
            world.sleep(ns).await;
        }
        if reply.tunnel_hangs {
            world.sleep(20 * SECOND).await;
        }
        wire.stream.finish();
    };
    let mut up = Wire::new(world, wire.stream, wire.who);
    up.bytes.append(&mut wire.bytes);
    let mut got = Vec::new();
    let upward = up.body(Body::UntilClose, &mut got);
    let (_, ended) = both(down, upward).await;
    let sent = payload(id, 0, TUNNEL_UP_BYTES);
    assert!(sent.starts_with(&got), "foreign bytes in a tunnel");
    if ledger.calm && ended.is_ok() {
        assert_eq!(got.len(), sent.len(), "a tunnel lost its end");
    }
}

/// What a client sends up through its tunnel.
pub const TUNNEL_UP_BYTES: u64 = 3000;

/// Both outputs, once both are there.
pub async fn both<A, B>(a: impl Future<Output = A>, b: impl Future<Output = B>) -> (A, B) {
    let (mut a, mut b) = (Box::pin(a), Box::pin(b));
    match race(a.as_mut(), b.as_mut()).await {
        Race::First(first) => (first, b.await),
        Race::Second(second) => (a.await, second),
    }
}

/// Where and how something may break.
pub fn some_break(world: &World, how: &[How]) -> Break {
    let at = match world.below(3) {
        0 => world.below(60),
        1 => world.below(600),
        _ => world.below(20_000),
    };
    Break {
        at,
        how: how[world.below(how.len() as u64) as usize],
    }
}
