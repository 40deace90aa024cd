//! A backend that remembers what it has said to whom, and writes it into every piece of what it says.
//!
//! Decides: what each response is, and what is wrong with it. Checks: nothing is asked for twice at a time that one
//! answer is enough for; a question about what is stored is about this key and this variant.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use corelane::config::plan::Nanos;

use super::said::{Said, Sort};
use crate::http::{Head, Wire};
use crate::net::{SimStream, Watch};
use crate::world::{Rng, SECOND, World};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Length,
    Chunked,
    UntilClose,
}

/// What is wrong with a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    None,
    /// Ends after so many thousandths; by a reset or not.
    Cut(u64, bool),
    /// Falls silent there.
    Hang(u64),
    /// Bytes behind the end.
    Extra,
    /// Another status, which nobody stores.
    Error,
}

/// What may go wrong, in percent.
#[derive(Debug, Clone, Copy)]
pub struct Odds {
    pub flaws: u64,
    pub hangs: u64,
    pub think_ns: Nanos,
    pub pause_ns: Nanos,
    pub bytes_max: u64,
    /// At most one request at a time for what one answer is enough for.
    pub counts: bool,
}

struct Fetch {
    place: (String, String),
    came_ns: Nanos,
    link: Watch,
}

/// All that a run knows of what was asked and said.
pub struct Origin {
    pub world: World,
    pub odds: Odds,
    rng: RefCell<Rng>,
    events: Cell<u64>,
    said: RefCell<Vec<Said>>,
    fetches: RefCell<Vec<(u64, Fetch)>>,
    /// Keys for which more than one request at a time may come from now on.
    loose: RefCell<Vec<String>>,
    /// From the first event on nothing of this key that came before the second may be sent.
    floors: RefCell<Vec<(String, u64, u64)>>,
    /// The most that were asked for one place at a time, storable or not.
    pub most: Cell<usize>,
}

impl Origin {
    pub fn new(world: &World, odds: Odds) -> Rc<Origin> {
        Rc::new(Origin {
            rng: RefCell::new(world.fork()),
            world: world.clone(),
            odds,
            events: Cell::new(1),
            said: RefCell::default(),
            fetches: RefCell::default(),
            loose: RefCell::default(),
            floors: RefCell::default(),
            most: Cell::new(0),
        })
    }

    /// The next event's place in the order.
    pub fn event(&self) -> u64 {
        self.events.set(self.events.get() + 1);
        self.events.get()
    }

    pub fn said(&self, serial: u64) -> Said {
        self.said.borrow()[serial as usize - 1].clone()
    }

    /// More than one request at a time may come for it.
    pub fn loosen(&self, key: &str) {
        self.loose.borrow_mut().push(key.to_owned());
    }

    /// Whoever asks from now on gets nothing of what was asked for before `came`.
    pub fn raise(&self, key: &str, came: u64) {
        self.loosen(key);
        let from = self.event();
        self.floors.borrow_mut().push((key.to_owned(), from, came));
    }

    /// What a request that began at an event may get of a key must have been asked for after this.
    pub fn floor(&self, key: &str, began: u64) -> u64 {
        let floors = self.floors.borrow();
        let of_key = floors
            .iter()
            .filter(|(name, from, _)| name == key && *from <= began);
        of_key.map(|(_, _, came)| *came).max().unwrap_or(0)
    }

    /// Serves one connection of the proxy.
    pub async fn serve(self: Rc<Self>, stream: SimStream, who: u64) {
        let mut wire = Wire::new(&self.world, &stream, who);
        while let Ok(head) = wire.head().await {
            assert!(!head.is("Cache-Control", "only-if-cached"), "{head:?}");
            let event = self.event();
            if head.line.starts_with("GET ") && head.one("X-Alone").is_none() {
                self.count(&head, &stream, event);
            }
            let lives_on = self.answer(&head, &stream, event).await;
            self.fetches.borrow_mut().retain(|(one, _)| *one != event);
            if !lives_on {
                return;
            }
        }
    }

    /// A request has come for what one answer is enough for, or not.
    fn count(&self, head: &Head, stream: &SimStream, event: u64) {
        let (key, variant) = place(head);
        let sort = Sort::of(path(&key));
        let is_loose = self.loose.borrow().contains(&key);
        let place = match sort {
            Sort::Varied => (key, variant),
            _ => (key, String::new()),
        };
        let mut fetches = self.fetches.borrow_mut();
        fetches.retain(|(_, fetch)| !fetch.link.is_over());
        // What is stale by now, though it still arrives, is asked for again.
        let fresh = |fetch: &Fetch| self.world.now() < fetch.came_ns + sort.fresh_ns();
        let same = fetches.iter();
        let same = same.filter(|(_, fetch)| fetch.place == place && fresh(fetch));
        let now = same.count();
        self.most.set(self.most.get().max(now + 1));
        if self.odds.counts && sort.is_shared() && !is_loose {
            assert_eq!(now, 0, "{place:?} is being fetched: {head:?}");
        }
        let link = stream.watch();
        let fetch = Fetch {
            place,
            came_ns: self.world.now(),
            link,
        };
        fetches.push((event, fetch));
    }

    /// `false`: the connection is over.
    async fn answer(&self, head: &Head, stream: &SimStream, came: u64) -> bool {
        let (key, variant) = place(head);
        let think_ns = self.below(self.odds.think_ns + 1);
        self.world.sleep(think_ns).await;
        if head.line.starts_with("POST ") {
            let event = self.event();
            self.loosen(&key);
            let text =
                format!("HTTP/1.1 200 Done\r\nX-Posted: {event}\r\nContent-Length: 0\r\n\r\n");
            return stream.send(text.as_bytes()).await.is_ok();
        }
        if let Some(tags) = head.one("If-None-Match")
            && let Some(old) = self.asked_about(tags, &key, &variant, head)
        {
            return self.confirm(old, stream, came).await;
        }
        let flaw = self.flaw();
        if flaw == Flaw::Error {
            self.loosen(&key);
        }
        let sort = Sort::of(path(&key));
        let is_public = self.chance(50) && sort == Sort::Plain && flaw != Flaw::Error;
        let authorized = head.one("Authorization").is_some();
        let is_mine = authorized && !is_public && sort != Sort::Varied && sort != Sort::Brief;
        if is_mine {
            self.loosen(&key);
        }
        let said = Said {
            serial: self.said.borrow().len() as u64 + 1,
            user: head.one("X-User").unwrap_or("nobody").to_owned(),
            ask: head.number("X-Ask").expect("each has a number"),
            is_private: !sort.is_shared() && sort != Sort::NoCache
                || is_mine
                || flaw == Flaw::Error,
            status: if flaw == Flaw::Error {
                503
            } else {
                sort.status()
            },
            bytes: self.below(self.odds.bytes_max) as usize,
            is_whole: matches!(flaw, Flaw::None | Flaw::Extra | Flaw::Error),
            came,
            confirmed: came,
            confirmed_ns: self.world.now(),
            usable_ns: sort.usable_ns(),
            must_confirm: sort == Sort::NoCache,
            key,
            variant,
        };
        self.said.borrow_mut().push(said.clone());
        let is_head = head.line.starts_with("HEAD ");
        self.send(&said, said.head(sort, is_public), flaw, is_head, stream)
            .await
    }

    /// What a question is about, if the answer is to be that it still holds.
    fn asked_about(&self, tags: &str, key: &str, variant: &str, head: &Head) -> Option<u64> {
        let serial: u64 = tags.trim_matches('"').parse().expect("a tag of ours");
        let old = self.said(serial);
        assert_eq!(old.key, key, "a question about something else");
        let varies = Sort::of(path(key)) == Sort::Varied;
        assert!(
            !varies || old.variant == variant,
            "about another variant: {head:?}"
        );
        assert!(
            !old.is_private,
            "about what is one's own: {old:?}: {head:?}"
        );
        self.chance(70).then_some(serial)
    }

    async fn confirm(&self, serial: u64, stream: &SimStream, came: u64) -> bool {
        let text = {
            let mut all = self.said.borrow_mut();
            let said = &mut all[serial as usize - 1];
            said.confirmed = said.confirmed.max(came);
            said.confirmed_ns = self.world.now();
            let fields = Sort::of(path(&said.key)).fields();
            format!("HTTP/1.1 304 Same\r\nETag: {}\r\n{fields}\r\n", said.tag())
        };
        stream.send(text.as_bytes()).await.is_ok()
    }

    fn below(&self, n: u64) -> u64 {
        self.rng.borrow_mut().below(n)
    }

    fn chance(&self, percent: u64) -> bool {
        self.rng.borrow_mut().chance(percent)
    }

    fn flaw(&self) -> Flaw {
        let at = self.below(1001);
        if self.chance(self.odds.hangs) {
            return Flaw::Hang(at);
        }
        match self.chance(self.odds.flaws) {
            false => Flaw::None,
            true => match self.below(4) {
                0 => Flaw::Extra,
                1 => Flaw::Error,
                _ => Flaw::Cut(at, self.chance(50)),
            },
        }
    }

    async fn send(
        &self,
        said: &Said,
        mut head: String,
        flaw: Flaw,
        is_head: bool,
        stream: &SimStream,
    ) -> bool {
        let shapes = [
            Shape::Length,
            Shape::Length,
            Shape::Chunked,
            Shape::UntilClose,
        ];
        let mut shape = shapes[self.below(4) as usize];
        if is_head || flaw == Flaw::Extra {
            shape = Shape::Length;
        }
        let mut bytes = said.body();
        match shape {
            Shape::Length => head += &format!("Content-Length: {}\r\n\r\n", bytes.len()),
            Shape::Chunked => {
                head += "Transfer-Encoding: chunked\r\n\r\n";
                bytes = chunked(&bytes, 1 + self.below(3_000) as usize);
            }
            Shape::UntilClose => head += "Connection: close\r\n\r\n",
        }
        if is_head {
            bytes.clear();
        }
        bytes.splice(..0, head.into_bytes());
        let mut end = bytes.len();
        match flaw {
            // The last byte is missing at least.
            Flaw::Cut(at, _) | Flaw::Hang(at) => end = (end - 1) * at as usize / 1000,
            Flaw::Extra => {
                bytes.extend(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
                end = bytes.len();
            }
            Flaw::None | Flaw::Error => {}
        }
        if !self.pieces(&bytes[..end], stream).await {
            return false;
        }
        match flaw {
            Flaw::Hang(_) => {
                self.world.sleep(15 * SECOND).await;
                stream.abort();
                false
            }
            Flaw::Cut(_, reset) => {
                // Else it would look whole.
                if reset || shape == Shape::UntilClose {
                    stream.abort();
                }
                false
            }
            Flaw::None | Flaw::Extra | Flaw::Error => shape != Shape::UntilClose,
        }
    }

    async fn pieces(&self, bytes: &[u8], stream: &SimStream) -> bool {
        let mut rest = bytes;
        while !rest.is_empty() {
            let most = if self.odds.pause_ns == 0 {
                rest.len()
            } else {
                2_000
            };
            let piece = rest.len().min(1 + self.below(most as u64) as usize);
            if stream.send(&rest[..piece]).await.is_err() {
                return false;
            }
            rest = &rest[piece..];
            let ns = self.below(self.odds.pause_ns + 1);
            self.world.sleep(ns).await;
        }
        true
    }
}

/// Key and variant of a request.
fn place(head: &Head) -> (String, String) {
    let path = head.line.split(' ').nth(1).expect("a target");
    let host = head.one("Host").expect("a host");
    let variant = head.one("X-Variant").unwrap_or("none");
    (format!("{host}{path}"), variant.to_owned())
}

fn path(key: &str) -> &str {
    &key[key.find('/').expect("a path")..]
}

fn chunked(bytes: &[u8], most: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in bytes.chunks(most) {
        out.extend(format!("{:x}\r\n", piece.len()).into_bytes());
        out.extend_from_slice(piece);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}
