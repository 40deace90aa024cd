//! The simulated network: links of two ways, and the `Io` and `Stream` on them.
//!
//! Decides: when bytes arrive, in which pieces, and what breaks. May not know: HTTP. Invariants: bytes of one way
//! arrive in order and once; a reset may take unread bytes with it; closing with unread bytes is a reset.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use corelane::cache::bell::Bell;
use corelane::config::plan::Nanos;
use corelane::io::{Io, Target};

use crate::world::{MS, World};

mod stream;

/// How rough the network is.
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    /// Percent of reads and writes that move a few bytes only.
    pub short: u64,
    /// Longest time on the way.
    pub latency_ns: Nanos,
    /// Percent of operations that end later than they could.
    pub late: u64,
    /// Most bytes under way in one direction.
    pub window: usize,
}

impl Weather {
    /// Whole reads and writes, at once.
    pub const STILL: Weather = Weather {
        short: 0,
        latency_ns: 0,
        late: 0,
        window: 64 * 1024,
    };
}

/// What breaks a way: after so many bytes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Break {
    pub at: u64,
    pub how: How,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// The sender seems to end its half there.
    Fin,
    /// Both sides are reset.
    Reset,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    Accept,
    Refuse,
    Hang,
}

struct Host {
    door: Box<dyn Fn() -> Door>,
    accept: Box<dyn Fn(SimStream)>,
    /// Connections to it that the proxy has open.
    count: Count,
}

/// How many there are, and how many there were at most.
#[derive(Clone, Default)]
pub struct Count(Rc<Cell<(usize, usize)>>);

impl Count {
    pub fn now(&self) -> usize {
        self.0.get().0
    }

    pub fn most(&self) -> usize {
        self.0.get().1
    }

    fn add(&self) {
        let (now, most) = self.0.get();
        self.0.set((now + 1, most.max(now + 1)));
    }

    fn sub(&self) {
        let (now, most) = self.0.get();
        self.0.set((now - 1, most));
    }
}

/// One way of a link: what one side has sent.
#[derive(Default)]
struct Way {
    under_way: VecDeque<(Nanos, Vec<u8>)>,
    arrived: VecDeque<u8>,
    sent_bytes: u64,
    read_bytes: u64,
    /// Arrival of the last piece: nothing overtakes.
    last: Nanos,
    fin: Option<Nanos>,
    /// When the receiver learns of a reset.
    reset: Option<Nanos>,
    breaks: Option<Break>,
    readers: Vec<Waker>,
    writers: Vec<Waker>,
}

impl Way {
    fn settle(&mut self, now: Nanos) {
        while self.under_way.front().is_some_and(|(at, _)| *at <= now) {
            let (_, bytes) = self.under_way.pop_front().expect("looked at above");
            self.arrived.extend(bytes);
        }
    }

    fn bytes(&self) -> usize {
        let under_way: usize = self.under_way.iter().map(|(_, bytes)| bytes.len()).sum();
        self.arrived.len() + under_way
    }

    /// When the next thing happens to the receiver.
    fn next(&self) -> Option<Nanos> {
        let piece = self.under_way.front().map(|(at, _)| *at);
        [piece, self.fin, self.reset].into_iter().flatten().min()
    }

    fn keep_first(&mut self, mut bytes: usize) {
        self.arrived.truncate(bytes);
        bytes -= self.arrived.len();
        for (_, piece) in &mut self.under_way {
            piece.truncate(bytes);
            bytes -= piece.len();
        }
        self.under_way.retain(|(_, piece)| !piece.is_empty());
    }

    fn wake(&mut self) {
        for waker in self.readers.drain(..).chain(self.writers.drain(..)) {
            waker.wake();
        }
    }
}

struct Link {
    world: World,
    weather: Weather,
    /// `ways[side]` is what `side` sends.
    ways: [RefCell<Way>; 2],
    closed: [Cell<bool>; 2],
}

impl Link {
    /// Lets `side` learn that its connection is gone; unread bytes may be lost with it.
    fn reset(&self, side: usize) {
        let mut way = self.ways[1 - side].borrow_mut();
        if way.reset.is_some() || self.closed[side].get() {
            return;
        }
        if self.world.chance(50) {
            let bytes = way.bytes();
            let keep = self.world.below(bytes as u64 + 1) as usize;
            way.keep_first(keep);
            if keep < bytes {
                // Behind a gap comes no orderly end.
                way.fin = None;
            }
        }
        let at = self.arrival().max(way.last);
        way.reset = Some(at);
        way.wake();
        self.ways[side].borrow_mut().wake();
    }

    fn arrival(&self) -> Nanos {
        self.world.now() + self.world.below(self.weather.latency_ns + 1)
    }

    fn is_reset(&self, side: usize) -> bool {
        let reset = self.ways[1 - side].borrow().reset;
        reset.is_some_and(|at| at <= self.world.now())
    }

    fn some_of(&self, most: usize) -> usize {
        if most > 1 && self.world.chance(self.weather.short) {
            let few = most.min(if self.world.chance(50) { 8 } else { 600 });
            1 + self.world.below(few as u64) as usize
        } else {
            most
        }
    }

    fn finish(&self, side: usize) {
        let mut way = self.ways[side].borrow_mut();
        if way.fin.is_none() && way.reset.is_none() {
            way.fin = Some(self.arrival().max(way.last));
            way.wake();
        }
    }
}

/// One end of a link. The proxy's ends and those of the scripts are the same thing.
pub struct SimStream {
    link: Rc<Link>,
    side: usize,
    abort: Cell<bool>,
    /// A `read_cancelable` is pending, and perhaps cancelled at a time.
    cancelable: Cell<bool>,
    cancelled: Cell<Option<Nanos>>,
    cancel_waker: RefCell<Option<Waker>>,
    /// Where it is counted: ends that the proxy owns.
    counts: Vec<Count>,
}

/// What the scripts may ask about a link, whose end they may have lost.
#[derive(Clone)]
pub struct Watch {
    link: Rc<Link>,
    side: usize,
}

impl Watch {
    /// Bytes that the other side has read from us.
    pub fn taken(&self) -> u64 {
        self.link.ways[self.side].borrow().read_bytes
    }

    /// The other side has let go of it, or we have.
    pub fn is_over(&self) -> bool {
        self.link.closed.iter().any(Cell::get)
    }
}

fn broken(kind: io::ErrorKind) -> io::Error {
    io::Error::from(kind)
}

impl SimStream {
    pub fn watch(&self) -> Watch {
        Watch {
            link: Rc::clone(&self.link),
            side: self.side,
        }
    }

    /// Breaks what this side sends.
    pub fn break_at(&self, breaks: Break) {
        self.link.ways[self.side].borrow_mut().breaks = Some(breaks);
    }

    /// Breaks what the other side sends.
    pub fn peer_breaks_at(&self, breaks: Break) {
        self.link.ways[1 - self.side].borrow_mut().breaks = Some(breaks);
    }

    pub fn will_break(&self) -> bool {
        let ways = &self.link.ways;
        ways.iter().any(|way| way.borrow().breaks.is_some())
    }

    /// Makes the close of this end a reset.
    pub fn abort(&self) {
        self.abort.set(true);
    }

    /// Sends our end.
    pub fn finish(&self) {
        self.link.finish(self.side);
    }

    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let now = self.link.world.now();
        let mut way = self.link.ways[1 - self.side].borrow_mut();
        way.settle(now);
        if !way.arrived.is_empty() {
            return Poll::Ready(Ok(true));
        }
        if way.reset.is_some_and(|at| at <= now) && way.under_way.is_empty() {
            return Poll::Ready(Err(broken(io::ErrorKind::ConnectionReset)));
        }
        if way.fin.is_some_and(|at| at <= now) && way.under_way.is_empty() {
            return Poll::Ready(Ok(false));
        }
        way.readers.push(cx.waker().clone());
        if let Some(at) = way.next() {
            debug_assert!(at > now, "what has arrived is seen above");
            self.link.world.wake_at(at, cx.waker());
        }
        Poll::Pending
    }

    fn poll_read(&self, cx: &mut Context<'_>, most: usize) -> Poll<io::Result<Vec<u8>>> {
        match self.poll_readable(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(false)) => Poll::Ready(Ok(Vec::new())),
            Poll::Ready(Ok(true)) => Poll::Ready(Ok(self.take(most))),
        }
    }

    fn take(&self, most: usize) -> Vec<u8> {
        let mut way = self.link.ways[1 - self.side].borrow_mut();
        let n = self.link.some_of(most.min(way.arrived.len()));
        let bytes: Vec<u8> = way.arrived.drain(..n).collect();
        way.read_bytes += n as u64;
        for waker in way.writers.drain(..) {
            waker.wake();
        }
        bytes
    }

    /// Whether a write would not wait.
    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let link = &self.link;
        if link.is_reset(self.side) {
            return Poll::Ready(Err(broken(io::ErrorKind::BrokenPipe)));
        }
        let mut way = link.ways[self.side].borrow_mut();
        let room = link.weather.window.saturating_sub(way.bytes());
        if room > 0 {
            return Poll::Ready(Ok(room));
        }
        way.writers.push(cx.waker().clone());
        drop(way);
        if let Some(at) = link.ways[1 - self.side].borrow().reset {
            link.world.wake_at(at, cx.waker());
        }
        Poll::Pending
    }

    fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.poll_room(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(room)) => {
                let n = self.link.some_of(bytes.len().min(room));
                self.put(&bytes[..n]);
                Poll::Ready(Ok(n))
            }
        }
    }

    /// Sends bytes that arrive together, whatever the window.
    pub fn put(&self, bytes: &[u8]) {
        let link = &self.link;
        let mut way = link.ways[self.side].borrow_mut();
        let before = way.sent_bytes;
        way.sent_bytes += bytes.len() as u64;
        let pass = match way.breaks {
            Some(breaks) => breaks.at.saturating_sub(before).min(bytes.len() as u64) as usize,
            None => bytes.len(),
        };
        let lost = link.closed[1 - self.side].get();
        if pass > 0 && !lost && way.fin.is_none() && way.reset.is_none() {
            let at = link.arrival().max(way.last);
            way.last = at;
            way.under_way.push_back((at, bytes[..pass].to_vec()));
            way.settle(link.world.now());
            way.wake();
        }
        let reached = way.breaks.filter(|breaks| way.sent_bytes >= breaks.at);
        drop(way);
        if lost {
            // Nobody is there to take it.
            link.reset(self.side);
        }
        match reached.map(|breaks| breaks.how) {
            Some(How::Fin) => link.finish(self.side),
            Some(How::Reset) => {
                link.reset(0);
                link.reset(1);
            }
            None => {}
        }
    }

    /// Some bytes; none at the end.
    pub async fn receive(&self, most: usize) -> io::Result<Vec<u8>> {
        poll_fn(|cx| self.poll_read(cx, most)).await
    }

    pub async fn send(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let n = poll_fn(|cx| self.poll_write(cx, bytes)).await?;
            bytes = &bytes[n..];
        }
        Ok(())
    }

    /// Operations of a ring end when the ring is looked at, not when they could.
    async fn late(&self) {
        let link = &self.link;
        if link.world.chance(link.weather.late) {
            let ns = link.world.below(3 * MS);
            link.world.sleep(ns).await;
        }
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        for count in &self.counts {
            count.sub();
        }
        let link = &self.link;
        let unread = {
            let mut way = link.ways[1 - self.side].borrow_mut();
            let unread = way.bytes() > 0;
            way.keep_first(0);
            way.wake();
            unread
        };
        link.closed[self.side].set(true);
        if self.abort.get() || unread {
            link.reset(1 - self.side);
        } else {
            link.finish(self.side);
        }
    }
}

/// All hosts of the simulated network.
#[derive(Clone)]
pub struct Net {
    pub world: World,
    pub weather: Weather,
    hosts: Rc<RefCell<BTreeMap<SocketAddr, Host>>>,
    /// Ends that the proxy holds.
    census: Count,
    /// Who connects is counted at the host too.
    counted: bool,
}

impl Net {
    pub fn new(world: &World, weather: Weather) -> Net {
        Net {
            world: world.clone(),
            weather,
            hosts: Rc::default(),
            census: Count::default(),
            counted: true,
        }
    }

    /// The same network for somebody else, whose connections are counted apart.
    pub fn apart(&self) -> Net {
        Net {
            census: Count::default(),
            counted: false,
            ..self.clone()
        }
    }

    pub fn listen(
        &self,
        at: SocketAddr,
        door: impl Fn() -> Door + 'static,
        accept: impl Fn(SimStream) + 'static,
    ) {
        let host = Host {
            door: Box::new(door),
            accept: Box::new(accept),
            count: Count::default(),
        };
        self.hosts.borrow_mut().insert(at, host);
    }

    /// Connections that the proxy has open.
    pub fn census(&self) -> usize {
        self.census.now()
    }

    /// Connections to a host that the proxy has open.
    pub fn count(&self, host: SocketAddr) -> Count {
        let hosts = self.hosts.borrow();
        hosts
            .get(&host)
            .map_or_else(Count::default, |host| host.count.clone())
    }

    /// A link; the first end is the proxy's.
    pub fn link(&self) -> (SimStream, SimStream) {
        self.counted_link(vec![self.census.clone()])
    }

    fn counted_link(&self, counts: Vec<Count>) -> (SimStream, SimStream) {
        let link = Rc::new(Link {
            world: self.world.clone(),
            weather: self.weather,
            ways: Default::default(),
            closed: Default::default(),
        });
        for count in &counts {
            count.add();
        }
        let end = |side, counts| SimStream {
            link: Rc::clone(&link),
            side,
            abort: Cell::new(false),
            cancelable: Cell::new(false),
            cancelled: Cell::new(None),
            cancel_waker: RefCell::default(),
            counts,
        };
        (end(0, counts), end(1, Vec::new()))
    }
}

impl Io for Net {
    type Stream = SimStream;

    fn now(&self) -> Nanos {
        self.world.now()
    }

    fn unix_ms(&self) -> u64 {
        self.world.unix_ms()
    }

    async fn connect(&self, target: Target<'_>) -> io::Result<SimStream> {
        let Target::Tcp(address, _) = target else {
            return Err(broken(io::ErrorKind::NotFound));
        };
        let ns = self.world.below(2 * self.weather.latency_ns + 1);
        self.world.sleep(ns).await;
        let hosts = Rc::clone(&self.hosts);
        let door = hosts.borrow().get(&address).map(|host| (host.door)());
        match door {
            None | Some(Door::Refuse) => Err(broken(io::ErrorKind::ConnectionRefused)),
            Some(Door::Hang) => std::future::pending().await,
            Some(Door::Accept) => {
                let mut counts = vec![self.census.clone()];
                if self.counted {
                    counts.push(self.count(address));
                }
                let (ours, theirs) = self.counted_link(counts);
                (hosts.borrow()[&address].accept)(theirs);
                Ok(ours)
            }
        }
    }

    async fn sleep(&self, ns: Nanos) {
        self.world.sleep(ns).await;
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.world.spawn(task);
    }

    async fn listen(&self, bells: Arc<[Bell]>, shard: usize, hear: impl Fn()) {
        loop {
            if bells[shard].heard() {
                hear();
            }
            self.world.sleep(LISTEN_NS).await;
        }
    }
}

/// Between two looks at a bell: another shard learns of a change a little later.
const LISTEN_NS: Nanos = MS;
