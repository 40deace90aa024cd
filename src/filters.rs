//! A request on its way through its route's filters.
//!
//! Decides: nothing but what a filter's verdict means for the request. May not know: sockets, how anything is waited
//! for. Invariant: a request meets each filter once, in the order of the route; what it met before it had to wait
//! is not met again.

mod access;

use crate::config::plan::Route;
use crate::decide::{Job, Pause, Reply};
use crate::h1::answer::line;
use crate::h1::cookie;
use crate::h1::head::Request;
use crate::io::Io;
use crate::metrics::{LimitCount, Reason};
use crate::policy::Nanos;
use crate::policy::filter::Filter;
use crate::policy::filter::compress::Choice;
use crate::policy::filter::cors::{Cors, Judged};
use crate::policy::filter::request_id::{self, RequestId};
use crate::policy::limit::{
    Action, Decision, Hasher, KeyPart, LimitId, RateLimit, WhenFull, fields,
};
use crate::shard::{Peer, Shard};

/// Longest part of a limit's key: hashing more would cost more than the request.
const KEY_BYTES_MAX: usize = 1024;

/// What the filters have found out about a request. Used again and again, so that it allocates only while it grows.
#[derive(Debug, Default)]
pub struct Found {
    /// The filter that is next.
    pub next: usize,
    /// When a limit looked at the clock: the request has just begun.
    pub started: Option<Nanos>,
    /// Fields of the response, whoever makes it; each with its line end.
    pub to_client: Vec<u8>,
    /// Fields that the backend gets.
    pub to_backend: Vec<u8>,
    /// Empty: none.
    pub request_id: String,
    /// The trace of `traceparent`; empty: none.
    pub trace_id: String,
    /// Who asks; empty: nobody known.
    pub user: String,
    /// The client's own trace is replaced.
    pub replaces_trace: bool,
    /// The backend's own CORS fields do not pass.
    pub cors: bool,
    /// The limit that has refused it.
    pub limit: Option<LimitId>,
    /// Of a refusal, where it is not the reason's; 0: it is.
    pub status: u16,
    /// The coding that the client likes best.
    pub coding: Option<Choice>,
    /// The password that was looked at belongs to its user.
    pub password: Option<bool>,
}

impl Found {
    pub fn clear(&mut self) {
        let Found {
            next,
            started,
            to_client,
            to_backend,
            request_id,
            trace_id,
            user,
            replaces_trace,
            cors,
            limit,
            status,
            coding,
            password,
        } = self;
        to_client.clear();
        to_backend.clear();
        for text in [request_id, trace_id, user] {
            text.clear();
        }
        (*next, *started, *status) = (0, None, 0);
        (*replaces_trace, *cors) = (false, false);
        (*coding, *password, *limit) = (None, None, None);
    }
}

/// What becomes of a request.
pub enum Step {
    Continue,
    Refuse(Reason),
    Answer(Reply),
    Pause(Pause),
}

/// Walks the route's filters from where the request stands.
pub fn run<I: Io>(
    shard: &Shard<I>,
    peer: &Peer,
    rules: &Route,
    request: &Request<'_, '_>,
    job: &mut Job,
) -> Step {
    if rules.filters.is_empty() {
        return Step::Continue;
    }
    let mut found = job.found.take().unwrap_or_else(|| shard.found());
    let mut asked = Asked {
        shard,
        peer,
        request,
        job,
        found: &mut found,
    };
    let mut step = Step::Continue;
    while let Some(filter) = rules.filters.get(asked.found.next) {
        step = asked.meet(filter, rules);
        if !matches!(step, Step::Continue) {
            break;
        }
    }
    job.found = Some(found);
    step
}

/// One request before its filters.
struct Asked<'a, 'h, 'b, I: Io> {
    shard: &'a Shard<I>,
    peer: &'a Peer,
    request: &'a Request<'h, 'b>,
    job: &'a Job,
    found: &'a mut Found,
}

impl<I: Io> Asked<'_, '_, '_, I> {
    fn meet(&mut self, filter: &Filter, rules: &Route) -> Step {
        let at = self.found.next;
        self.found.next += 1;
        match filter {
            Filter::RequestId(ids) => {
                self.identify(ids);
                Step::Continue
            }
            Filter::Address(address) if address.admits(self.job.client_ip) => Step::Continue,
            Filter::Address(_) => Step::Refuse(Reason::AddressDenied),
            Filter::Cors(cors) => self.cors(cors),
            Filter::Limit(id) | Filter::UserLimit(id) => self.limit(*id),
            Filter::Basic(_) | Filter::ApiKey(_) | Filter::Jwt(_) => {
                let group = group(&rules.filters[at..]);
                self.found.next = at + group.len();
                access::known(self, group, at)
            }
            Filter::ForwardAuth(_) => Step::Pause(Pause::ForwardAuth(at)),
            Filter::Headers(_) => Step::Continue,
            Filter::Compress(compress) => {
                self.found.coding = compress.negotiate(self.request);
                Step::Continue
            }
        }
    }

    /// Gives the request its id and its place in a trace.
    fn identify(&mut self, ids: &RequestId) {
        let found = &mut *self.found;
        let brought = ids.judge(self.request, self.peer.trusted);
        let random = || self.shard.random();
        if let Some(name) = &ids.header {
            match brought.id {
                Some(id) => found.request_id.push_str(id),
                None => {
                    let mut id = [0; request_id::ID_BYTES];
                    request_id::write_id([random(), random()], &mut id);
                    let id = std::str::from_utf8(&id);
                    found.request_id.push_str(id.expect("digits are text"));
                }
            }
            line(&mut found.to_backend, name, &found.request_id);
            if ids.respond {
                line(&mut found.to_client, name, &found.request_id);
            }
        }
        if ids.traceparent {
            match brought.trace {
                Some(parent) => found.trace_id.push_str(parent.trace_id),
                None => {
                    let mut parent = [0; request_id::TRACEPARENT_BYTES];
                    request_id::write_traceparent([random(), random(), random()], &mut parent);
                    let parent: String = parent.map(char::from).iter().collect();
                    let own = request_id::parse_traceparent(parent.as_bytes());
                    found.trace_id.push_str(own.map_or("", |own| own.trace_id));
                    found.replaces_trace = true;
                    line(&mut found.to_backend, "traceparent", &parent);
                }
            }
        }
    }

    fn cors(&mut self, cors: &Cors) -> Step {
        self.found.cors = true;
        let judged = cors.judge(self.request);
        cors.fields(judged, &mut self.found.to_client);
        match judged {
            Judged::NoOrigin | Judged::Allowed { .. } => Step::Continue,
            Judged::Denied => Step::Refuse(Reason::OriginDenied),
            Judged::Preflight { .. } => Step::Answer(Reply {
                status: 204,
                reason: None,
                content_type: Box::default(),
                body: Vec::new(),
            }),
        }
    }

    fn limit(&mut self, id: LimitId) -> Step {
        let shard = self.shard;
        let limit = &shard.plan.rate_limits[id.0 as usize];
        let Some(key) = self.key(limit) else {
            return Step::Refuse(Reason::KeyTooLong);
        };
        let now = shard.io.now();
        self.found.started.get_or_insert(now);
        let decision = shard.take(id, key, now);
        if !limit.shadow {
            let lines = &shard.shared.tables.lines[id.0 as usize];
            lines.write(&mut self.found.to_client, &decision);
        }
        let count = |what: LimitCount| shard.metrics.limit(id).count(what);
        let refused = match decision {
            Decision::Admitted { wait_ns, .. } => {
                if limit.action == Action::Delay && wait_ns > 0 && !limit.shadow {
                    count(LimitCount::Delayed);
                    return Step::Pause(Pause::Until(now + wait_ns));
                }
                count(LimitCount::Admitted);
                return Step::Continue;
            }
            Decision::Limited { retry_ns } => {
                if !limit.shadow {
                    fields::write_retry_after(&mut self.found.to_client, retry_ns);
                }
                LimitCount::Limited
            }
            Decision::Full if limit.when_full == WhenFull::Allow => {
                count(LimitCount::Full);
                return Step::Continue;
            }
            Decision::Full => LimitCount::Full,
        };
        if limit.shadow {
            count(LimitCount::Shadow);
            return Step::Continue;
        }
        count(refused);
        self.found.status = limit.status;
        self.found.limit = Some(id);
        Step::Refuse(if refused == LimitCount::Full {
            Reason::RateLimitFull
        } else {
            Reason::RateLimited
        })
    }

    /// What the limit counts this request under; `None`: a part of it is too long.
    fn key(&self, limit: &RateLimit) -> Option<u64> {
        let mut hasher = Hasher::new(self.shard.shared.tables.seed);
        for part in &limit.key {
            let bytes = match part {
                KeyPart::Ip => {
                    hasher = hasher.ip(self.job.client_ip);
                    continue;
                }
                KeyPart::Route => {
                    let route = self.job.route.map_or(0, |route| route.0);
                    hasher = hasher.bytes(&route.to_le_bytes());
                    continue;
                }
                KeyPart::Path => {
                    let path = self.request.path.as_bytes();
                    if path.len() > KEY_BYTES_MAX {
                        return None;
                    }
                    hasher = hasher.path(path);
                    continue;
                }
                KeyPart::Header(name) => self.field(name).unwrap_or_default(),
                KeyPart::Cookie(name) => {
                    cookie::value(self.request.headers, name).unwrap_or_default()
                }
                KeyPart::User => self.found.user.as_bytes(),
            };
            if bytes.len() > KEY_BYTES_MAX {
                return None;
            }
            hasher = hasher.bytes(bytes);
        }
        Some(hasher.finish())
    }

    /// The first field of this name.
    fn field(&self, name: &str) -> Option<&[u8]> {
        let mut named = self.request.headers.iter();
        named
            .find(|field| field.name.eq_ignore_ascii_case(name))
            .map(|field| field.value)
    }
}

/// The filters at the beginning that each may tell who asks.
fn group(filters: &[Filter]) -> &[Filter] {
    let end = filters.iter().position(|filter| !filter.is_identity());
    &filters[..end.unwrap_or(filters.len())]
}
