//! A response while it is being fetched.
//!
//! Decides: who fetches and who waits. May not know: sockets, who reads. Invariants: of all requests that ask for one
//! thing at one time, one fetches it; a fill always ends, also when its leader panics; no reader sees a byte before the
//! head that says whose it is.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arc_swap::ArcSwapOption;
use bytes::Bytes;

use super::bell::Bell;
use super::entry::Entry;
use crate::metrics::Reason;
use crate::policy::cache::Terms;

/// Requests that go on at once when what they waited for turns out to be nothing for them. Each that ends lets two more
/// go, so a thousand are through after eight rounds, and a backend that is slow is not hit by all at once.
const TURNS: u32 = 8;

const PLACES: usize = 64;

/// The head of a response that will be stored.
#[derive(Debug)]
pub struct Begun {
    /// Where it will be stored.
    pub at: u128,
    /// As in `Entry::head`.
    pub head: Box<[u8]>,
    pub status: u16,
    pub terms: Terms,
    /// Of the body, if it is known.
    pub length: Option<u64>,
    /// Of the request that fetches it: the fields that Vary names, and their values.
    pub vary: Box<str>,
    pub values: Box<[u8]>,
}

/// How a fill ended.
#[derive(Debug, Clone)]
pub enum Ended {
    /// This is the response; or, without a head before, the stored one that still holds.
    Whole(Arc<Entry>),
    /// The body is whole, and could not be stored.
    Unstored,
    /// The body ended before its end.
    Cut(Reason),
    /// There was no response.
    Failed(Reason),
    /// The response was for its asker only.
    Passed,
    /// The response was an error; what is stored is sent in its place, where it may be.
    Erred,
    /// The one who fetched had to leave: somebody else shall.
    Released,
}

/// A piece of the body, and what comes after it.
#[derive(Debug)]
struct Chunk {
    bytes: Bytes,
    /// Where it ends in the body.
    end: u64,
    next: ArcSwapOption<Chunk>,
    /// What comes after it is not kept for who is still here.
    is_last: AtomicBool,
}

impl Chunk {
    fn new(bytes: Bytes, end: u64) -> Arc<Chunk> {
        Arc::new(Chunk {
            bytes,
            end,
            next: ArcSwapOption::empty(),
            is_last: AtomicBool::new(false),
        })
    }

    fn sever(&self) {
        self.is_last.store(true, Ordering::SeqCst);
        self.next.store(None);
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // One after the other: a chain that drops itself needs a stack as long as it is.
        let mut next = self.next.swap(None);
        while let Some(chunk) = next.and_then(Arc::into_inner) {
            next = chunk.next.swap(None);
        }
    }
}

#[derive(Debug)]
pub struct Fill {
    /// Where it was looked for.
    pub at: u128,
    /// Of its key, whatever the variant.
    pub hash: u128,
    /// The text of its key.
    pub key: Box<[u8]>,
    begun: OnceLock<Begun>,
    ended: OnceLock<Ended>,
    /// An empty chunk before all others; `None` when they are not kept for those who come later.
    root: ArcSwapOption<Chunk>,
    /// How far the fastest reader has come.
    read: AtomicU64,
    /// How many read it, or wait for it to begin.
    readers: AtomicU32,
    /// What was stored under its key when the backend was asked has been made invalid since. Shared with its lead.
    outdated: Outdated,
    /// Grows with each change.
    version: AtomicU32,
    /// By shard: somebody there waits.
    waiting: Box<[AtomicBool]>,
    bells: Arc<[Bell]>,
    turns: AtomicU32,
}

impl Fill {
    pub fn new(
        at: u128,
        hash: u128,
        outdated: Outdated,
        key: &[u8],
        bells: &Arc<[Bell]>,
    ) -> Arc<Fill> {
        Arc::new(Fill {
            at,
            hash,
            key: key.into(),
            begun: OnceLock::new(),
            ended: OnceLock::new(),
            root: ArcSwapOption::new(Some(Chunk::new(Bytes::new(), 0))),
            read: AtomicU64::new(0),
            readers: AtomicU32::new(0),
            outdated,
            version: AtomicU32::new(0),
            waiting: bells.iter().map(|_| AtomicBool::new(false)).collect(),
            bells: Arc::clone(bells),
            turns: AtomicU32::new(TURNS),
        })
    }

    pub fn begun(&self) -> Option<&Begun> {
        self.begun.get()
    }

    pub fn ended(&self) -> Option<&Ended> {
        self.ended.get()
    }

    pub fn outdated(&self) -> &Outdated {
        &self.outdated
    }

    pub fn version(&self) -> u32 {
        self.version.load(Ordering::SeqCst)
    }

    /// Somebody of this shard waits for the next change.
    pub fn wait(&self, shard: usize) {
        self.waiting[shard].store(true, Ordering::SeqCst);
    }

    /// Wakes those who wait; not those of the shard `own`, which does so itself.
    fn changed(&self, own: Option<usize>) {
        self.version.fetch_add(1, Ordering::SeqCst);
        for (shard, (waits, bell)) in self.waiting.iter().zip(&*self.bells).enumerate() {
            let rings = waits.load(Ordering::SeqCst) && waits.swap(false, Ordering::SeqCst);
            if rings && own != Some(shard) {
                bell.ring();
            }
        }
    }

    pub fn begin(&self, begun: Begun) {
        let first = self.begun.set(begun).is_ok();
        debug_assert!(first, "a fill begins once");
        self.changed(None);
    }

    /// The first end counts.
    pub fn end(&self, ended: Ended) {
        if self.ended.set(ended).is_ok() {
            self.changed(None);
        }
    }

    /// From now on chunks live only until they have been read.
    pub fn keep_no_more(&self) {
        self.root.store(None);
    }

    /// How far the fastest reader has come.
    pub fn read(&self) -> u64 {
        self.read.load(Ordering::SeqCst)
    }

    pub fn readers(&self) -> u32 {
        self.readers.load(Ordering::SeqCst)
    }

    /// Lets a request go on by itself, if it is its turn.
    pub fn takes_turn(&self) -> bool {
        let less = |turns: u32| turns.checked_sub(1);
        let taken = self
            .turns
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
        taken.is_ok()
    }

    /// A request that went on by itself is over.
    pub fn turn_ends(&self) {
        self.turns.fetch_add(2, Ordering::SeqCst);
        self.changed(None);
    }
}

/// Adds to a fill. There is one.
#[derive(Debug)]
pub struct Writer {
    fill: Arc<Fill>,
    /// Where it writes; after each piece, the watches of this shard are to be woken.
    shard: usize,
    last: Arc<Chunk>,
    /// Those that are not severed.
    chunks: VecDeque<Arc<Chunk>>,
}

impl Writer {
    pub fn new(fill: &Arc<Fill>, shard: usize) -> Writer {
        Writer {
            fill: Arc::clone(fill),
            shard,
            last: fill.root.load_full().expect("chunks are kept at first"),
            chunks: VecDeque::new(),
        }
    }

    /// Where the body ends, so far.
    pub fn end(&self) -> u64 {
        self.last.end
    }

    pub fn push(&mut self, bytes: Bytes) {
        let end = self.last.end + bytes.len() as u64;
        let chunk = Chunk::new(bytes, end);
        let last = std::mem::replace(&mut self.last, Arc::clone(&chunk));
        self.chunks.push_back(Arc::clone(&chunk));
        last.next.store(Some(chunk));
        self.fill.changed(Some(self.shard));
    }

    /// What ends so far behind the fastest reader is kept no more: who is still there gets no further.
    pub fn forget(&mut self, lag_bytes: u64) {
        let read = self.fill.read();
        while self
            .chunks
            .front()
            .is_some_and(|chunk| chunk.end.saturating_add(lag_bytes) < read)
        {
            if let Some(chunk) = self.chunks.pop_front() {
                chunk.sever();
            }
        }
    }
}

/// Reads a fill from its beginning.
#[derive(Debug)]
pub struct Reader {
    pub fill: Arc<Fill>,
    last: Arc<Chunk>,
}

impl Reader {
    /// `None`: it is too late to begin.
    pub fn new(fill: &Arc<Fill>) -> Option<Reader> {
        let last = fill.root.load_full()?;
        fill.readers.fetch_add(1, Ordering::SeqCst);
        Some(Reader {
            fill: Arc::clone(fill),
            last,
        })
    }

    /// The next piece, if it is there.
    pub fn piece(&mut self) -> Option<Bytes> {
        self.last = self.last.next.load_full()?;
        self.fill.read.fetch_max(self.last.end, Ordering::SeqCst);
        Some(self.last.bytes.clone())
    }

    /// It has fallen behind so far that there is no next piece for it.
    pub fn is_behind(&self) -> bool {
        self.last.is_last.load(Ordering::SeqCst)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.fill.readers.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Set when what is being fetched is not to be stored any more.
pub type Outdated = Arc<AtomicBool>;

/// What is under way for some keys.
#[derive(Debug, Default)]
struct Place {
    /// By where their responses will be stored.
    fills: HashMap<u128, Arc<Fill>>,
    /// Of all who ask a backend, by key: also of those whom nobody joins.
    leads: HashMap<u128, Vec<Outdated>>,
}

/// All fills of the process. Locked on misses only, and by what makes a key invalid that is being fetched.
#[derive(Debug)]
pub struct Fills {
    places: Box<[(AtomicU32, Mutex<Place>)]>,
    bells: Arc<[Bell]>,
}

pub enum Joined {
    Leads(Arc<Fill>),
    Follows(Arc<Fill>),
}

impl Fills {
    pub fn new(bells: Arc<[Bell]>) -> Fills {
        Fills {
            places: (0..PLACES).map(|_| Default::default()).collect(),
            bells,
        }
    }

    fn place(&self, hash: u128) -> MutexGuard<'_, Place> {
        let (_, place) = &self.places[hash as usize % PLACES];
        place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn bells(&self) -> &Arc<[Bell]> {
        &self.bells
    }

    /// Somebody asks a backend for this key, whom nobody joins.
    pub fn lead_begins(&self, hash: u128, outdated: &Outdated) {
        self.enter(&mut self.place(hash), hash, outdated);
    }

    fn enter(&self, place: &mut Place, hash: u128, outdated: &Outdated) {
        place
            .leads
            .entry(hash)
            .or_default()
            .push(Arc::clone(outdated));
        let (leads, _) = &self.places[hash as usize % PLACES];
        leads.fetch_add(1, Ordering::SeqCst);
    }

    pub fn lead_ends(&self, hash: u128, outdated: &Outdated) {
        let mut place = self.place(hash);
        if let Some(leads) = place.leads.get_mut(&hash) {
            leads.retain(|other| !Arc::ptr_eq(other, outdated));
            if leads.is_empty() {
                place.leads.remove(&hash);
            }
        }
        self.places[hash as usize % PLACES]
            .0
            .fetch_sub(1, Ordering::SeqCst);
    }

    /// What is being fetched for the key is not stored, and nobody joins it any more.
    pub fn outdate(&self, hash: u128) {
        let (leads, _) = &self.places[hash as usize % PLACES];
        if leads.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut place = self.place(hash);
        for outdated in place.leads.get(&hash).into_iter().flatten() {
            outdated.store(true, Ordering::SeqCst);
        }
        place.fills.retain(|_, fill| fill.hash != hash);
    }

    /// The same for all keys.
    pub fn outdate_all(&self) {
        for (_, place) in &self.places {
            let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
            for outdated in place.leads.values().flatten() {
                outdated.store(true, Ordering::SeqCst);
            }
            place.fills.clear();
        }
    }

    /// The fill for this place, or a new one; then `lead_ends` is due.
    pub fn join(&self, at: u128, hash: u128, key: &[u8]) -> Joined {
        let mut place = self.place(hash);
        if let Some(fill) = place.fills.get(&at) {
            return Joined::Follows(Arc::clone(fill));
        }
        let fill = Fill::new(at, hash, Outdated::default(), key, &self.bells);
        place.fills.insert(at, Arc::clone(&fill));
        self.enter(&mut place, hash, &fill.outdated);
        Joined::Leads(fill)
    }

    /// The fill is for this variant, as its head has said.
    pub fn also(&self, at: u128, fill: &Arc<Fill>) {
        let mut place = self.place(fill.hash);
        if !fill.outdated.load(Ordering::SeqCst) {
            place.fills.entry(at).or_insert_with(|| Arc::clone(fill));
        }
    }

    /// Nobody joins it any more.
    pub fn leave(&self, fill: &Arc<Fill>) {
        let variant = fill.begun().map(|begun| begun.at);
        let mut place = self.place(fill.hash);
        for at in [Some(fill.at), variant].into_iter().flatten() {
            let found = place.fills.get(&at);
            if found.is_some_and(|found| Arc::ptr_eq(found, fill)) {
                place.fills.remove(&at);
            }
        }
    }
}
