//! From the bytes of a head to what is done with the request, in one go and without waiting.
//!
//! Decides: refused or forwarded, by which route, to which backend, with which head. May not know: sockets.
//! Invariant: nothing borrowed from the input outlives this call; what later steps need is in [`Job`].

mod routing;

use std::net::IpAddr;

use crate::buf::Buf;
use crate::cache::caching::Caching;
use crate::cache::consult::{Consulted, Serving, consult, instead};
use crate::choose::{Tried, Wish};
use crate::config::plan::{Destination, HashKey, HostPolicy, Plan, Route, Sticky};
use crate::edits;
use crate::filters::{self, Found, Step};
use crate::h1::body::{Decoder, Sink};
use crate::h1::forward::{self, Forward};
use crate::h1::head::{Request, Slots, parse_request};
use crate::h1::{Framing, Method, Reject, Version, answer, cookie};
use crate::io::Io;
use crate::metrics::Reason;
use crate::password::Ticket;
use crate::policy::balance::hash;
use crate::policy::cache::key;
use crate::policy::health::Trial;
use crate::policy::{BackendId, ClusterId, Nanos, RouteId};
use crate::record::Note;
use crate::shard::{Peer, Shard};

/// What a request is, once its head has been read.
#[derive(Debug)]
pub struct Job {
    pub method: Method,
    pub version: Version,
    pub framing: Framing,
    /// Bytes of the head at the start of the input.
    pub head_len: usize,
    /// Bytes of the body behind it, if all of it has already come.
    pub held: Option<usize>,
    /// Payload bytes of a held body: without the chunked coding.
    pub held_payload: u64,
    /// The client's connection may live on.
    pub keep_alive: bool,
    /// The client itself wants its connection closed after this request.
    pub closes: bool,
    /// An Upgrade was asked for and passed on.
    pub upgrade: bool,
    /// Trailers do not pass.
    pub drops_trailers: bool,
    /// Refusals are typed as JSON.
    pub json: bool,
    /// For a 503: seconds after which somebody may be there.
    pub retry_after_s: u64,
    /// For a 405: what would have been allowed.
    pub allow: Option<Box<str>>,
    /// The client as told by trusted proxies.
    pub client_ip: IpAddr,
    /// The client came by https, as told by trusted proxies.
    pub https: bool,
    /// Once it is known.
    pub route: Option<RouteId>,
    /// What the route's filters have found; `None` where there is none.
    pub found: Option<Box<Found>>,
    /// What the access log wants of the head.
    pub note: Option<Box<Note>>,
    /// What the cache has to do with it; `None`: nothing.
    pub cache: Option<Box<Caching>>,
}

impl Job {
    /// Bytes of head and held body in the input.
    pub fn whole_len(&self) -> usize {
        self.head_len + self.held.unwrap_or(0)
    }
}

/// Where a request goes.
#[derive(Debug, Clone, Copy)]
pub struct Way {
    pub route: RouteId,
    /// Where backends are looked for; it may stand in for it that another cluster serves.
    pub entry: ClusterId,
    pub wish: Wish,
    pub backend: BackendId,
    /// One of the trials of a half-open backend.
    pub trial: Option<Trial>,
}

pub enum Decided {
    /// The head is not complete.
    More,
    /// Forward it; the buffer holds the head (and the body, if held) as the backend shall see it.
    Forward(Job, Way, Buf),
    Refuse(Reason, Option<Job>),
    /// The route, or one of its filters, answers by itself.
    Answer(Job, Reply),
    /// The cache answers.
    Serve(Job, Serving),
    /// Something has to be waited for; then `decide_on` goes on.
    Pause(Job, Pause),
}

/// An answer that no backend gave.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    /// Why it is a refusal, if it is one.
    pub reason: Option<Reason>,
    pub content_type: Box<str>,
    pub body: Vec<u8>,
}

/// What a request waits for before it is decided upon.
#[derive(Debug)]
pub enum Pause {
    /// Its turn.
    Until(Nanos),
    /// The verdict on its password.
    Password(Ticket),
    /// The verdict of the auth server, which the filter at this place knows.
    ForwardAuth(usize),
    /// A change, since this version, of what another request fetches.
    Fill(u32),
    /// Its body.
    Body {
        bytes_max: u64,
        /// The client waits for a word that it may send it (`Expect: 100-continue`).
        expects: bool,
    },
}

/// Parses, checks, routes and rewrites the request at the start of `input`. `last`: its response shall be the
/// connection's last.
pub fn decide<I: Io>(shard: &Shard<I>, peer: &Peer, input: &[u8], last: bool) -> Decided {
    let mut slots = Slots::new();
    let request = match parse_request(input, &shard.plan.limits, &mut slots) {
        Ok(Some(request)) => request,
        Ok(None) => return Decided::More,
        Err(reject) => return Decided::Refuse(Reason::Protocol(reject), None),
    };
    let mut job = job(shard, peer, &request, last);
    if let Err(reject) = hold(&mut job, &request, input) {
        return Decided::Refuse(Reason::Protocol(reject), Some(job));
    }
    if let Err(reason) = routing::route(shard, &request, &mut job) {
        return Decided::Refuse(reason, Some(job));
    }
    match proceed(shard, peer, &request, input, &mut job) {
        Ok((way, head)) => Decided::Forward(job, way, head),
        Err(other) => other.of(job),
    }
}

/// Goes on with a request that has waited for something: `input` still begins with it.
pub fn decide_on<I: Io>(shard: &Shard<I>, peer: &Peer, input: &[u8], mut job: Job) -> Decided {
    let mut slots = Slots::new();
    let parsed = parse_request(input, &shard.plan.limits, &mut slots);
    let Ok(Some(request)) = parsed else {
        debug_assert!(false, "the same bytes were a request before");
        return Decided::Refuse(Reason::Internal, Some(job));
    };
    // More of its body may have come.
    if job.held.is_none()
        && let Err(reject) = hold(&mut job, &request, input)
    {
        return Decided::Refuse(Reason::Protocol(reject), Some(job));
    }
    match proceed(shard, peer, &request, input, &mut job) {
        Ok((way, head)) => Decided::Forward(job, way, head),
        Err(other) => other.of(job),
    }
}

/// What becomes of a request that is not forwarded now.
enum Other {
    Refuse(Reason),
    Answer(Reply),
    Serve(Serving),
    Pause(Pause),
}

impl Other {
    fn of(self, job: Job) -> Decided {
        match self {
            Other::Refuse(reason) => Decided::Refuse(reason, Some(job)),
            Other::Answer(reply) => Decided::Answer(job, reply),
            Other::Serve(serving) => Decided::Serve(job, serving),
            Other::Pause(pause) => Decided::Pause(job, pause),
        }
    }
}

/// Everything behind the route: its filters, then its own answer or a backend. The job stays where it is: moving it
/// costs more than most filters.
fn proceed<I: Io>(
    shard: &Shard<I>,
    peer: &Peer,
    request: &Request<'_, '_>,
    input: &[u8],
    job: &mut Job,
) -> Result<(Way, Buf), Other> {
    let route = job.route.expect("a request is routed before it goes on");
    let rules = &shard.plan.routes[route.0 as usize];
    job.drops_trailers |= !rules.filters.is_empty() && edits::drops_trailers(rules);
    match filters::run(shard, peer, rules, request, job) {
        Step::Continue => {}
        Step::Refuse(reason) => return Err(Other::Refuse(reason)),
        Step::Answer(reply) => return Err(Other::Answer(reply)),
        Step::Pause(pause) => return Err(Other::Pause(pause)),
    }
    body_fits(rules, request, job).map_err(Other::Refuse)?;
    if let Destination::Own(own) = &rules.destination {
        let reply = edits::own(own, rules, request, job);
        return Err(reply.map_or_else(Other::Refuse, Other::Answer));
    }
    if let Some(bytes_max) = rules.buffer_bytes_max
        && job.held.is_none()
    {
        return Err(Other::Pause(Pause::Body {
            bytes_max,
            expects: request.expect_continue,
        }));
    }
    if shard.shared.cache.is_some() {
        match consult(shard, peer, rules, request, job) {
            Consulted::Forward => {}
            Consulted::Serve(serving) => return Err(Other::Serve(serving)),
            Consulted::Wait(version) => return Err(Other::Pause(Pause::Fill(version))),
            Consulted::Refuse(reason) => return Err(Other::Refuse(reason)),
        }
    }
    let way = way(shard, request, route, job).map_err(|reason| {
        instead(shard, request, job, reason).map_or(Other::Refuse(reason), Other::Serve)
    })?;
    let mut head = shard.buf();
    render(shard, peer, request, job, way, input, &mut head);
    Ok((way, head))
}

/// The head for another attempt, perhaps at another backend: `input` still begins with the same request.
pub fn render_again<I: Io>(
    shard: &Shard<I>,
    peer: &Peer,
    input: &[u8],
    job: &Job,
    way: Way,
    head: &mut Buf,
) {
    let mut slots = Slots::new();
    head.clear();
    let parsed = parse_request(input, &shard.plan.limits, &mut slots);
    let Ok(Some(request)) = parsed else {
        debug_assert!(false, "the same bytes were a request before");
        return;
    };
    render(shard, peer, &request, job, way, input, head);
}

fn job<I: Io>(shard: &Shard<I>, peer: &Peer, request: &Request<'_, '_>, last: bool) -> Job {
    let (client_ip, https) = routing::client(shard, peer, request);
    Job {
        method: request.method,
        version: request.version,
        framing: request.framing,
        head_len: request.head_len,
        held: None,
        held_payload: 0,
        keep_alive: request.keep_alive && !last,
        closes: !request.keep_alive,
        upgrade: request.upgrade.is_some(),
        drops_trailers: request.nominates,
        json: answer::wants_json(request),
        retry_after_s: 0,
        allow: None,
        client_ip,
        https,
        route: None,
        found: None,
        note: shard.note().map(|mut note| {
            note.take_down(request);
            note
        }),
        cache: None,
    }
}

/// Notes how much of the body is there, if all of it is.
fn hold(job: &mut Job, request: &Request<'_, '_>, input: &[u8]) -> Result<(), Reject> {
    match held(request, &input[request.head_len..]) {
        Ok(None) => {}
        Ok(Some((bytes, payload))) => {
            job.held = Some(bytes);
            job.held_payload = payload;
        }
        Err(reject) => {
            job.keep_alive = false;
            return Err(reject);
        }
    }
    Ok(())
}

/// Length of the body as it was sent, and of its payload, if all of it is in `behind`, the bytes after the head.
fn held(request: &Request<'_, '_>, behind: &[u8]) -> Result<Option<(usize, u64)>, Reject> {
    match request.framing {
        Framing::None => Ok(Some((0, 0))),
        Framing::Length(n) => {
            let length = usize::try_from(n).ok().filter(|n| *n <= behind.len());
            Ok(length.map(|length| (length, n)))
        }
        Framing::Chunked if behind.is_empty() => Ok(None),
        Framing::Chunked => {
            let step = Decoder::new(Framing::Chunked).step(behind, Sink::Check)?;
            Ok(step.done.then_some((step.consumed, step.payload as u64)))
        }
        Framing::UntilClose => Ok(None),
    }
}

/// What is known of the body's length is checked before a backend sees anything.
fn body_fits(rules: &Route, request: &Request<'_, '_>, job: &Job) -> Result<(), Reason> {
    let bytes = match request.framing {
        Framing::Length(n) => n,
        Framing::None | Framing::Chunked | Framing::UntilClose => job.held_payload,
    };
    if rules.body_bytes_max.is_some_and(|most| bytes > most) {
        return Err(Reason::BodyTooLarge);
    }
    if rules.buffer_bytes_max.is_some_and(|most| bytes > most) {
        return Err(Reason::BufferFull);
    }
    Ok(())
}

fn way<I: Io>(
    shard: &Shard<I>,
    request: &Request<'_, '_>,
    route: RouteId,
    job: &mut Job,
) -> Result<Way, Reason> {
    let plan = &*shard.plan;
    let rules = &plan.routes[route.0 as usize];
    let Some(entry) = shard.destination(route, named(rules, request)) else {
        return Err(Reason::NoBackend);
    };
    let wish = wish(plan, entry, request, job.client_ip);
    let Some(picked) = shard.pick(entry, wish, &Tried::default()) else {
        job.retry_after_s = shard
            .shared
            .backends
            .retry_after_s(entry, shard.timers.now());
        return Err(Reason::NoBackend);
    };
    Ok(Way {
        route,
        entry,
        wish,
        backend: picked.backend,
        trial: picked.trial,
    })
}

/// The cluster that the request itself asks for, where its route lets it.
pub fn named<'b>(rules: &Route, request: &Request<'_, 'b>) -> Option<&'b [u8]> {
    let Destination::Split(split) = &rules.destination else {
        return None;
    };
    field(request, split.header.as_deref()?)
}

/// What of the request has a say in the choice of a backend.
fn wish(plan: &Plan, entry: ClusterId, request: &Request<'_, '_>, client_ip: IpAddr) -> Wish {
    let cluster = &plan.clusters[entry.0 as usize];
    // The first that hashes, of those that may stand in for one another.
    let mut chain = plan.chain(entry).map(|id| &plan.clusters[id.0 as usize]);
    let hashing = chain.find(|cluster| cluster.balance.needs_key());
    let key = match hashing.map(|cluster| &cluster.hash_key) {
        None => 0,
        Some(key) => key_of(key, request, client_ip),
    };
    let sticky = cluster.sticky.as_ref();
    let tag =
        sticky.and_then(|sticky| Sticky::tag(cookie::value(request.headers, &sticky.cookie)?));
    Wish { key, tag }
}

/// What a consistent hash goes by.
fn key_of(key: &HashKey, request: &Request<'_, '_>, client_ip: IpAddr) -> u64 {
    match key {
        HashKey::Ip => match client_ip.to_canonical() {
            IpAddr::V4(ip) => hash(&ip.octets()),
            IpAddr::V6(ip) => hash(&ip.octets()),
        },
        HashKey::Path => hash(request.path.as_bytes()),
        HashKey::Header(name) => hash(field(request, name).unwrap_or_default()),
        HashKey::Cookie(name) => hash(cookie::value(request.headers, name).unwrap_or_default()),
    }
}

/// The first field of a lower-case name.
fn field<'b>(request: &Request<'_, 'b>, name: &str) -> Option<&'b [u8]> {
    let mut named = request.headers.iter();
    named
        .find(|header| header.name.eq_ignore_ascii_case(name))
        .map(|header| header.value)
}

fn render<I: Io>(
    shard: &Shard<I>,
    peer: &Peer,
    request: &Request<'_, '_>,
    job: &Job,
    way: Way,
    input: &[u8],
    out: &mut Buf,
) {
    let plan = &*shard.plan;
    let rules = &plan.routes[way.route.0 as usize];
    let authority = &*plan.backends[way.backend.0 as usize].authority;
    let out = out.append();
    write(shard, peer, request, job, rules, authority, out);
    let Some(held @ 1..) = job.held else { return };
    let body = &input[request.head_len..request.head_len + held];
    let mut decoder = Decoder::new(request.framing).dropping_trailers(job.drops_trailers);
    let verbatim = decoder
        .clone()
        .step(body, Sink::Check)
        .is_ok_and(|step| step.verbatim);
    if verbatim || request.framing != Framing::Chunked {
        out.extend_from_slice(body);
    } else {
        let step = decoder.step(body, Sink::Chunked(out));
        debug_assert!(
            step.is_ok_and(|step| step.done),
            "a held body has been checked"
        );
    }
}

/// Appends the request's head as the backend with this authority gets it.
pub fn write<I: Io>(
    shard: &Shard<I>,
    peer: &Peer,
    request: &Request<'_, '_>,
    job: &Job,
    rules: &Route,
    authority: &str,
    out: &mut Vec<u8>,
) {
    let plan = &*shard.plan;
    let host = match &rules.host {
        // A client of HTTP/1.0 may send none, which most backends refuse.
        HostPolicy::Pass if request.host.is_empty() => Some(authority),
        HostPolicy::Pass => None,
        HostPolicy::Backend => Some(authority),
        HostPolicy::Fixed(host) => Some(&**host),
    };
    let with = Forward {
        client_ip: &peer.ip_text,
        trusted: peer.trusted,
        proto: "http",
        port: &peer.port_text,
        host,
        via: &plan.forwarding.via,
        keep_expect: job.held.is_none(),
        target: None,
        edit: None,
    };
    if job.cache.as_deref().is_some_and(Caching::fetches) {
        let host = key::host(request, job.https);
        let request = &Request {
            host: &host,
            ..*request
        };
        edits::request(out, request, with, shard, peer, rules, job, authority);
    } else if rules.filters.is_empty() && rules.rewrite.is_none() && !plan.forwarding.forwarded {
        forward::request(out, request, &with);
    } else {
        edits::request(out, request, with, shard, peer, rules, job, authority);
    }
}
