//! Clients of a cache: they ask, leave, read slowly, and look at every byte that they get.
//!
//! Decides: whether a response may be sent to who asked. May not know: what the proxy has stored.

use std::rc::Rc;

use corelane::config::plan::Nanos;
use corelane::wait::{Race, race};

use super::origin::Origin;
use super::said::{SLACK_NS, Said, Sort};
use crate::http::{Body, Gone, Head, Wire};
use crate::net::SimStream;
use crate::world::{MS, Rng, SECOND};

/// When a client goes away, by a reset or not.
#[derive(Debug, Clone, Copy)]
pub enum Leave {
    Never,
    /// So long after it has asked.
    After(Nanos, bool),
    /// When so much of the body has come.
    Within(usize, bool),
}

#[derive(Debug, Clone)]
pub struct Want {
    pub method: &'static str,
    pub host: &'static str,
    pub sort: Sort,
    pub variant: &'static str,
    pub user: &'static str,
    /// Further fields of the request.
    pub fields: &'static str,
    pub range: Option<(u64, u64)>,
    pub http10: bool,
    /// Asks whether what it got last of this key has changed.
    pub asks_again: bool,
    pub leave: Leave,
    pub slow_ns: Nanos,
}

/// Fields with which a request is not answered for others, or not from what is stored.
const ALONE: [&str; 5] = [
    "Cache-Control: no-store\r\n",
    "Cache-Control: no-cache\r\n",
    "Cache-Control: max-age=1\r\n",
    "Authorization: Bearer me\r\n",
    "If-Match: \"0\"\r\n",
];

const SHARED: [&str; 2] = ["Cache-Control: only-if-cached\r\n", "Accept: text/*\r\n"];

impl Want {
    pub fn plain(host: &'static str, sort: Sort) -> Want {
        Want {
            method: "GET",
            host,
            sort,
            variant: "a",
            user: "ann",
            fields: "",
            range: None,
            http10: false,
            asks_again: false,
            leave: Leave::Never,
            slow_ns: 0,
        }
    }

    /// `oddness`: percent of requests that are more than a plain GET; `leaves`: that are not read to their end.
    pub fn some(rng: &mut Rng, sorts: &[Sort], oddness: u64, leaves: u64) -> Want {
        let hosts: [&str; 2] = ["one.test", "two.test"];
        let mut want = Want::plain(rng.pick(&hosts), rng.pick(sorts));
        want.variant = rng.pick(&["a", "b", "c"]);
        want.user = rng.pick(&["ann", "bob", "eve"]);
        if rng.chance(oddness) {
            match rng.below(7) {
                0 => want.method = "HEAD",
                1 => want.method = "POST",
                2 => want.range = Some((rng.below(500), 500 + rng.below(500))),
                3 => want.fields = rng.pick(&ALONE),
                4 => want.http10 = true,
                5 => want.asks_again = true,
                _ => want.fields = rng.pick(&SHARED),
            }
        }
        if rng.chance(leaves) {
            let reset = rng.chance(50);
            want.leave = match rng.chance(50) {
                true => Leave::After(rng.below(400 * MS), reset),
                false => Leave::Within(rng.below(9_000) as usize, reset),
            };
        }
        want
    }

    fn key(&self) -> String {
        format!("{}{}", self.host, self.sort.path())
    }

    fn is_alone(&self) -> bool {
        self.method != "GET" || self.range.is_some() || ALONE.contains(&self.fields)
    }

    fn render(&self, ask: u64, tag: Option<&str>) -> String {
        let version = if self.http10 { "1.0" } else { "1.1" };
        let mut text = format!(
            "{} {} HTTP/{version}\r\nHost: {}\r\nX-Ask: {ask}\r\nX-Variant: {}\r\nX-User: {}\r\n{}",
            self.method,
            self.sort.path(),
            self.host,
            self.variant,
            self.user,
            self.fields,
        );
        if self.method == "POST" {
            text += "Content-Length: 0\r\n";
        }
        if self.is_alone() {
            text += "X-Alone: yes\r\n";
        }
        if let Some((from, to)) = self.range {
            text += &format!("Range: bytes={from}-{to}\r\n");
        }
        if let Some(tag) = tag {
            text += &format!("If-None-Match: {tag}\r\n");
        }
        text + "\r\n"
    }
}

/// One request as it went.
struct Asked {
    want: Want,
    ask: u64,
    tag: Option<String>,
    began: u64,
    began_ns: Nanos,
}

/// What came: a head, and as much of the body as came.
pub struct Got {
    pub head: Head,
    pub body: Vec<u8>,
    pub ended: Result<(), Gone>,
}

/// How one request went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Went {
    Whole(u16),
    Refused(u16),
    Cut,
    Nothing,
    Left,
}

pub struct Asker {
    pub origin: Rc<Origin>,
    pub connect: Box<dyn Fn() -> SimStream>,
    pub who: u64,
    /// Nothing goes wrong, so everything is answered.
    pub calm: bool,
}

impl Asker {
    /// Asks for all of it, one after the other.
    pub async fn run(self, wants: Vec<Want>, pause_ns: Nanos) -> Vec<Went> {
        let world = &self.origin.world;
        let mut wents = Vec::new();
        let mut held: Option<SimStream> = None;
        let mut last: Option<Said> = None;
        for want in wants {
            let stream = held.take().unwrap_or_else(|| (self.connect)());
            let again = last.as_ref().filter(|said| {
                want.asks_again && said.key == want.key() && said.variant == want.variant
            });
            let asked = Asked {
                ask: self.origin.event(),
                tag: again.map(Said::tag),
                began: self.origin.event(),
                began_ns: world.now(),
                want,
            };
            let (went, said, lives_on) = self.ask(&asked, &stream).await;
            wents.push(went);
            last = said.filter(|said| !said.is_private).or(last);
            if lives_on {
                held = Some(stream);
            }
            world.sleep(world.below(pause_ns + 1)).await;
        }
        wents
    }

    async fn ask(&self, asked: &Asked, stream: &SimStream) -> (Went, Option<Said>, bool) {
        let world = &self.origin.world;
        let mut wire = Wire::new(world, stream, self.who);
        wire.slow_ns = asked.want.slow_ns;
        let text = asked.want.render(asked.ask, asked.tag.as_deref());
        let talk = async {
            if stream.send(text.as_bytes()).await.is_err() {
                return (Went::Nothing, None, false);
            }
            self.receive(asked, stream, &mut wire).await
        };
        match asked.want.leave {
            Leave::Never | Leave::Within(..) => talk.await,
            Leave::After(ns, reset) => match race(Box::pin(talk), world.sleep(ns)).await {
                Race::First(came) => came,
                Race::Second(()) => {
                    if reset {
                        stream.abort();
                    }
                    (Went::Left, None, false)
                }
            },
        }
    }

    async fn receive(
        &self,
        asked: &Asked,
        stream: &SimStream,
        wire: &mut Wire<'_>,
    ) -> (Went, Option<Said>, bool) {
        let want = &asked.want;
        let head = match wire.head().await {
            Ok(head) => head,
            Err(Gone::Hang) => panic!("no response and no end: {want:?}"),
            Err(Gone::End | Gone::Reset) => {
                assert!(!self.calm, "nothing came: {want:?}");
                return (Went::Nothing, None, false);
            }
        };
        let framing = framing(want, &head);
        let mut body = Vec::new();
        let mut ended = Ok(());
        let most = match want.leave {
            Leave::Within(bytes, _) => bytes as u64,
            Leave::Never | Leave::After(..) => u64::MAX,
        };
        if most < u64::MAX && framing != Body::None {
            // Looks at what it has, whole or not.
            let all = wire.body(framing, &mut body);
            let _ = race(Box::pin(all), world_sleep(&self.origin, most)).await;
            let got = Got {
                head,
                body,
                ended: Err(Gone::Reset),
            };
            self.check(asked, &got, true);
            if let Leave::Within(_, true) = want.leave {
                stream.abort();
            }
            return (Went::Left, None, false);
        }
        if let Err(gone) = wire.body(framing, &mut body).await {
            assert_ne!(gone, Gone::Hang, "a response without an end: {want:?}");
            ended = Err(gone);
        }
        let closes = head.is("Connection", "close") || framing == Body::UntilClose;
        let lives_on = ended.is_ok() && !closes && !want.http10;
        if ended.is_ok() && !closes {
            assert!(wire.bytes.is_empty(), "behind the end: {:?}", wire.bytes);
        }
        let got = Got { head, body, ended };
        let (went, said) = self.check(asked, &got, false);
        (went, said, lives_on)
    }

    fn check(&self, asked: &Asked, got: &Got, left: bool) -> (Went, Option<Said>) {
        let (want, head) = (&asked.want, &got.head);
        let status = status(head);
        if let Some(event) = head.number("X-Posted") {
            assert_eq!(want.method, "POST");
            if got.ended.is_ok() {
                self.origin.raise(&want.key(), event);
            }
            return (Went::Whole(status), None);
        }
        let serial = match (head.number("X-Serial"), status) {
            (Some(serial), _) => Some(serial),
            (None, 304) => head.one("ETag").map(number),
            (None, _) => None,
        };
        let Some(serial) = serial else {
            let is_wanted = status == 504 && want.fields.contains("only-if-cached")
                || status == 416 && want.range.is_some();
            assert!(!self.calm || is_wanted, "{want:?}: {head:?}");
            assert!(matches!(status, 416 | 502..=504), "{want:?}: {head:?}");
            return (Went::Refused(status), None);
        };
        let said = self.origin.said(serial);
        self.check_whose(asked, &said, head);
        self.check_when(asked, &said, head);
        match status {
            304 => {
                assert_eq!(asked.tag, Some(said.tag()), "{want:?}: {head:?}");
                return (Went::Whole(304), Some(said));
            }
            206 => check_part(want, &said, got),
            _ => {
                assert_eq!(status, said.status, "{want:?}: {head:?}");
                if want.method != "HEAD" {
                    self.check_body(want, &said, got, left);
                }
            }
        }
        match got.ended {
            Ok(()) => (Went::Whole(status), Some(said)),
            Err(_) if left => (Went::Left, None),
            Err(_) => (Went::Cut, None),
        }
    }

    /// Key, variant and user.
    fn check_whose(&self, asked: &Asked, said: &Said, head: &Head) {
        let want = &asked.want;
        assert_eq!(said.key, want.key(), "another key: {want:?}: {head:?}");
        if let Some(key) = head.one("X-Key") {
            assert_eq!(key, said.key);
            let whose = format!("{} {}", said.variant, said.user);
            assert_eq!(head.one("X-For"), Some(&*whose));
        }
        if want.sort == Sort::Varied {
            assert_eq!(said.variant, want.variant, "another variant: {head:?}");
        }
        if said.is_private {
            assert_eq!(said.ask, asked.ask, "another's own: {want:?}: {head:?}");
            assert_eq!(said.user, want.user);
        }
    }

    /// Not older than it may be.
    fn check_when(&self, asked: &Asked, said: &Said, head: &Head) {
        let floor = self.origin.floor(&said.key, asked.began);
        assert!(said.came >= floor, "older than a purge: {said:?}: {head:?}");
        if said.ask == asked.ask {
            return;
        }
        if said.must_confirm {
            assert!(
                said.confirmed > asked.began,
                "not asked for: {said:?}: {head:?}"
            );
        }
        let until_ns = said.confirmed_ns + said.usable_ns + SLACK_NS;
        assert!(asked.began_ns <= until_ns, "stale: {said:?}: {head:?}");
    }

    fn check_body(&self, want: &Want, said: &Said, got: &Got, left: bool) {
        let expected = said.body();
        let shown = || format!("{want:?}: {said:?}: {:?}", got.head);
        match got.ended {
            Ok(()) => {
                assert!(
                    said.is_whole,
                    "a truncated response looks whole: {}",
                    shown()
                );
                assert!(got.body == expected, "other bytes: {}", shown());
            }
            Err(_) => {
                assert!(expected.starts_with(&got.body), "other bytes: {}", shown());
                assert!(left || !self.calm, "cut: {}", shown());
            }
        }
    }
}

/// A while that grows with how much a client wants.
async fn world_sleep(origin: &Origin, bytes: u64) {
    origin.world.sleep(bytes * 10_000).await;
}

fn check_part(want: &Want, said: &Said, got: &Got) {
    let shown = || format!("{want:?}: {said:?}: {:?}", got.head);
    let (from, to) = want.range.unwrap_or_else(|| panic!("{}", shown()));
    let body = said.body();
    let to = (to as usize).min(body.len() - 1);
    let expected = &body[from as usize..=to];
    match got.ended {
        Ok(()) => {
            let range = format!("bytes {from}-{to}/{}", body.len());
            let unknown = format!("bytes {from}-{to}/*");
            let told = got.head.one("Content-Range").expect("it has one");
            assert!(told == range || told == unknown, "{}", shown());
            assert!(got.body == expected, "other bytes: {}", shown());
        }
        Err(_) => assert!(expected.starts_with(&got.body), "other bytes: {}", shown()),
    }
}

fn framing(want: &Want, head: &Head) -> Body {
    let length = head.number("Content-Length");
    let coding = head.one("Transfer-Encoding");
    match (length, coding) {
        _ if want.method == "HEAD" || matches!(status(head), 204 | 304) => Body::None,
        (Some(length), None) => Body::Length(length),
        (None, Some("chunked")) => Body::Chunked,
        (None, None) => Body::UntilClose,
        (_, Some(_)) => panic!("{head:?}"),
    }
}

fn number(tag: &str) -> u64 {
    let digits = tag.trim_matches('"').parse();
    digits.unwrap_or_else(|_| panic!("{tag}"))
}

fn status(head: &Head) -> u16 {
    let rest = head.line.strip_prefix("HTTP/1.1 ").expect("our version");
    rest[..3].parse().expect("three digits")
}

/// A client that asks once for each key when all is over: nothing stands in its way.
pub fn at_last(sorts: &[Sort]) -> Vec<Want> {
    let both = sorts
        .iter()
        .flat_map(|sort| ["one.test", "two.test"].map(|host| Want::plain(host, *sort)));
    both.collect()
}

/// The longest that one client may take for one request.
pub const REQUEST_NS_MAX: Nanos = 45 * SECOND;
