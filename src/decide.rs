//! From the bytes of a head to what is done with the request, in one go and without waiting.
//!
//! Decides: refused or forwarded, by which route, to which backend, with which head. May not know: sockets.
//! Invariant: nothing borrowed from the input outlives this call; what later steps need is in [`Job`].

use std::net::IpAddr;

use crate::buf::Buf;
use crate::choose::{Tried, Wish};
use crate::config::plan::{Destination, HashKey, HostPolicy, Plan, Route, Sticky};
use crate::h1::body::{Decoder, Sink};
use crate::h1::forward::{self, Forward};
use crate::h1::head::{Request, Slots, parse_request};
use crate::h1::{Framing, Method, Reject, Version, answer, cookie};
use crate::io::Io;
use crate::metrics::Reason;
use crate::policy::balance::hash;
use crate::policy::health::Trial;
use crate::policy::route::Miss;
use crate::policy::{BackendId, ClusterId, RouteId};
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
    /// What the access log wants of the head.
    pub note: Option<Box<Note>>,
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
    match held(&request, &input[request.head_len..]) {
        Ok(None) => {}
        Ok(Some((bytes, payload))) => {
            job.held = Some(bytes);
            job.held_payload = payload;
        }
        Err(reject) => {
            job.keep_alive = false;
            return Decided::Refuse(Reason::Protocol(reject), Some(job));
        }
    }
    let way = match way(shard, &request, &mut job) {
        Ok(way) => way,
        Err(reason) => {
            if reason == Reason::MethodNotAllowed {
                let mut allow = String::new();
                shard
                    .plan
                    .router
                    .allow(request.host, request.path, &mut allow);
                job.allow = Some(allow.into());
            }
            return Decided::Refuse(reason, Some(job));
        }
    };
    let mut head = shard.buf();
    render(shard, peer, &request, &job, way, input, &mut head);
    Decided::Forward(job, way, head)
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
    let client_ip = if peer.trusted {
        forward::client_ip(request, peer.ip, |ip| shard.plan.forwarding.trusts(ip))
    } else {
        peer.ip
    };
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
        note: shard.note().map(|mut note| {
            note.take_down(request);
            note
        }),
    }
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

fn way<I: Io>(shard: &Shard<I>, request: &Request<'_, '_>, job: &mut Job) -> Result<Way, Reason> {
    let plan = &*shard.plan;
    if request.method == Method::Options && request.max_forwards == Some(0) {
        return Err(Reason::MaxForwards);
    }
    let found = plan.router.lookup(
        request.host,
        request.path,
        request.method,
        request.method_text,
    );
    let route = found.map_err(|miss| match miss {
        Miss::NoRoute => Reason::NoRoute,
        Miss::Method => Reason::MethodNotAllowed,
    })?;
    let rules = &plan.routes[route.0 as usize];
    let body_bytes = match request.framing {
        Framing::Length(n) => n,
        Framing::None | Framing::Chunked | Framing::UntilClose => job.held_payload,
    };
    if rules.body_bytes_max.is_some_and(|most| body_bytes > most) {
        return Err(Reason::BodyTooLarge);
    }
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
fn named<'b>(rules: &Route, request: &Request<'_, 'b>) -> Option<&'b [u8]> {
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
    let host = match &plan.routes[way.route.0 as usize].host {
        // A client of HTTP/1.0 may send none, which most backends refuse.
        HostPolicy::Pass if request.host.is_empty() => {
            Some(&*plan.backends[way.backend.0 as usize].authority)
        }
        HostPolicy::Pass => None,
        HostPolicy::Backend => Some(&*plan.backends[way.backend.0 as usize].authority),
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
    };
    let out = out.append();
    forward::request(out, request, &with);
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
