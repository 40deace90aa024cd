//! What routes change of heads, and the values that stand in for variables.
//!
//! Decides: which fields and values count where. May not know: sockets, what a filter decides. Invariant: what a filter
//! has found is in the head whoever answers: a backend or the proxy.

use std::io::Write as _;
use std::net::IpAddr;

use crate::cache::caching::Caching;
use crate::config::plan::{Plan, Route};
use crate::decide::{Job, Reply};
use crate::filters::Found;
use crate::h1::forward::{self, Edit, Forward, Write};
use crate::h1::forwarded;
use crate::h1::head::{Kind, Request, Response};
use crate::h1::{Method, Reject};
use crate::io::Io;
use crate::metrics::Reason;
use crate::policy::cache::key;
use crate::policy::filter::Filter;
use crate::policy::filter::cors::is_cors_field;
use crate::policy::filter::forward_auth::ForwardAuth;
use crate::policy::filter::headers::{Edits, Headers, Lengths, is_named};
use crate::policy::filter::request_id::RequestId;
use crate::policy::filter::template::{Part, Template, Values, Variable};
use crate::policy::rewrite::{self, Own};
use crate::shard::{Peer, Shard};

/// The filters of a route that change heads.
#[derive(Clone, Copy, Default)]
struct Editors<'r> {
    headers: Option<&'r Headers>,
    ids: Option<&'r RequestId>,
    auth: Option<&'r ForwardAuth>,
    cors: bool,
}

impl<'r> Editors<'r> {
    fn of(rules: &'r Route) -> Self {
        let mut editors = Editors::default();
        for filter in &rules.filters {
            match filter {
                Filter::Headers(headers) => editors.headers = Some(headers),
                Filter::RequestId(ids) => editors.ids = Some(ids),
                Filter::ForwardAuth(auth) => editors.auth = Some(auth),
                Filter::Cors(_) => editors.cors = true,
                Filter::Address(_)
                | Filter::Limit(_)
                | Filter::Basic(_)
                | Filter::ApiKey(_)
                | Filter::Jwt(_)
                | Filter::UserLimit(_)
                | Filter::Compress(_) => {}
            }
        }
        editors
    }
}

/// Trailers do not pass where fields are edited: a backend may take `X-User` behind the body for the one before it.
pub fn drops_trailers(rules: &Route) -> bool {
    let editors = Editors::of(rules);
    let edits = editors.headers.is_some() || editors.ids.is_some();
    edits || editors.auth.is_some() || editors.cors
}

/// Fields of this name that a backend gets are not the client's: the route writes them, or takes them from others.
pub fn writes_to_backend(rules: &Route, name: &str) -> bool {
    let Editors {
        headers, ids, auth, ..
    } = Editors::of(rules);
    let mut written = headers.iter().flat_map(|headers| &headers.request.write);
    written.any(|(known, _)| is_named(name, known))
        || ids.is_some_and(|ids| ids.drops(name, false))
        || auth.is_some_and(|auth| auth.copy.iter().any(|known| is_named(name, known)))
}

/// What a request's head is changed by on its way to a backend.
struct ToBackend<'a> {
    editors: Editors<'a>,
    found: Option<&'a Found>,
    values: Values<'a>,
    /// RFC 7239: the peer, how and for whom it came.
    forwarded: Option<&'a str>,
    /// It is asked for all who want the same.
    fetch: Option<&'a Caching>,
}

impl<'a> ToBackend<'a> {
    fn of<I: Io>(
        shard: &'a Shard<I>,
        peer: &'a Peer,
        rules: &'a Route,
        request: &Request<'_, 'a>,
        job: &'a Job,
        client_ip: &'a str,
        authority: &'a str,
    ) -> Self {
        let forwarded = shard.plan.forwarding.forwarded;
        ToBackend {
            editors: Editors::of(rules),
            found: job.found.as_deref(),
            values: Values {
                backend: authority,
                ..request_values(rules, request, job, client_ip)
            },
            forwarded: forwarded.then_some(&*peer.ip_text),
            fetch: job.cache.as_deref().filter(|caching| caching.fetches()),
        }
    }

    fn drops(&self, name: &str) -> bool {
        let is = |known: &str| is_named(name, known);
        let Editors {
            headers, ids, auth, ..
        } = self.editors;
        let trace_goes_on = !self.found.is_some_and(|found| found.replaces_trace);
        headers.is_some_and(|headers| headers.request.drops(name))
            || ids.is_some_and(|ids| ids.drops(name, trace_goes_on))
            || auth.is_some_and(|auth| auth.copy.iter().any(|known| is(known)))
            || self.fetch.is_some_and(|caching| caching.drops(name))
    }

    fn write(&self, out: &mut Vec<u8>) {
        if let Some(ip) = self.forwarded {
            out.extend_from_slice(b"Forwarded: ");
            forwarded::write_element(out, ip, self.values.host, "http");
            out.extend_from_slice(b"\r\n");
        }
        if let Some(found) = self.found {
            out.extend_from_slice(&found.to_backend);
        }
        if let Some(headers) = self.editors.headers {
            headers.request.write(&self.values, out);
        }
        if let Some(caching) = self.fetch {
            caching.ask(out);
        }
    }
}

/// Appends the request's head for a backend, as the route's filters want it. A function of its own, so that requests
/// without filters have a fast one.
#[expect(
    clippy::too_many_arguments,
    reason = "each is one independent fact; a struct would only rename them"
)]
#[inline(never)]
pub fn request<'a, I: Io>(
    out: &mut Vec<u8>,
    request: &Request<'_, 'a>,
    with: Forward<'_>,
    shard: &'a Shard<I>,
    peer: &'a Peer,
    rules: &'a Route,
    job: &'a Job,
    authority: &'a str,
) {
    let told;
    let client_ip = if job.client_ip == peer.ip {
        &*peer.ip_text
    } else {
        told = AddressText::of(job.client_ip);
        told.as_str()
    };
    let mut edits = ToBackend::of(shard, peer, rules, request, job, client_ip, authority);
    // What is not in the key must not reach what is stored under it, by whatever way.
    let keyed = match (&rules.cache, edits.fetch) {
        (Some(cache), Some(_)) => key::query(&cache.key, request.query),
        (_, _) => None,
    };
    if let Some(keyed) = &keyed {
        edits.values.query = keyed;
    }
    let query = edits.values.query;
    let query = query.strip_prefix('?').unwrap_or(query);
    let drops = |name: &str| edits.drops(name);
    let write = |out: &mut Vec<u8>| edits.write(out);
    let target = |out: &mut Vec<u8>| match &rules.rewrite {
        Some(rewrite) => rewrite.apply(request.path, query, out),
        None => {
            out.extend_from_slice(request.path.as_bytes());
            if !query.is_empty() {
                out.push(b'?');
                out.extend_from_slice(query.as_bytes());
            }
        }
    };
    // `OPTIONS *`, also as an absolute target without a path, asks about the server and not a path.
    let has_path = request.target.starts_with('/') || request.method != Method::Options;
    let rewrites = (rules.rewrite.is_some() || keyed.is_some()) && has_path;
    let with = Forward {
        target: rewrites.then_some(&target as Write<'_>),
        edit: Some(Edit {
            drops: &drops,
            write: &write,
        }),
        ..with
    };
    forward::request(out, request, &with);
}

/// What a response's head is changed by on its way to the client.
pub struct ToClient<'a> {
    headers: Option<&'a Headers>,
    ids: Option<&'a RequestId>,
    found: &'a Found,
    /// Where a field has it.
    client_ip: Option<AddressText>,
    values: Values<'a>,
    https: bool,
}

impl<'a> ToClient<'a> {
    /// `None`: by nothing. `backend`: the authority of the one that answers; empty: we do.
    pub fn of(plan: &'a Plan, job: &'a Job, backend: &'a str) -> Option<Self> {
        let rules = &plan.routes[job.route?.0 as usize];
        let found = job.found.as_deref()?;
        let Editors { headers, ids, .. } = Editors::of(rules);
        let edits = headers.map(|headers| &headers.response);
        Some(ToClient {
            headers,
            ids,
            found,
            client_ip: edits
                .is_some_and(names_client)
                .then(|| AddressText::of(job.client_ip)),
            values: Values {
                backend,
                ..values(rules, job, "")
            },
            https: job.https,
        })
    }

    pub fn drops(&self, name: &str) -> bool {
        self.headers
            .is_some_and(|headers| headers.response.drops(name))
            || self.found.cors && is_cors_field(name)
            // A backend that sends the id back too would double it.
            || self.ids.is_some_and(|ids| {
                ids.respond && ids.header.as_deref().is_some_and(|id| is_named(name, id))
            })
    }

    /// `response`: the backend's, if it is one's.
    pub fn write(&self, response: Option<&Response<'_, '_>>, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.found.to_client);
        let Some(headers) = self.headers else { return };
        let values = Values {
            client_ip: self.client_ip.as_ref().map_or("", AddressText::as_str),
            ..self.values
        };
        let fields = response.map_or(&[][..], |response| response.headers);
        let lengths = Lengths::of(fields.iter().map(|field| field.name));
        let sent = |name: &str| {
            lengths.have(name)
                && response.is_some_and(|response| {
                    // What Connection nominates does not reach the client.
                    let mut fields = response.headers.iter().zip(response.kinds);
                    fields.any(|(field, kind)| {
                        *kind == Kind::EndToEnd && field.name.eq_ignore_ascii_case(name)
                    })
                })
        };
        headers.write_response(&values, self.https, sent, out);
    }
}

fn names_client(edits: &Edits) -> bool {
    let mut parts = edits.write.iter().flat_map(|(_, value)| &value.parts);
    parts.any(|part| *part == Part::Variable(Variable::ClientIp))
}

/// An address as text, without an allocation.
struct AddressText {
    bytes: [u8; ADDRESS_BYTES_MAX],
    length: usize,
}

/// The longest address: IPv6 with an IPv4 address in it.
const ADDRESS_BYTES_MAX: usize = 45;

impl AddressText {
    fn of(address: IpAddr) -> Self {
        let mut bytes = [0; ADDRESS_BYTES_MAX];
        let mut rest = &mut bytes[..];
        let written = write!(rest, "{address}");
        debug_assert!(written.is_ok(), "no address is longer");
        let length = ADDRESS_BYTES_MAX - rest.len();
        AddressText { bytes, length }
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.length]).unwrap_or_default()
    }
}

/// The values that any message of a request has.
fn values<'a>(rules: &'a Route, job: &'a Job, client_ip: &'a str) -> Values<'a> {
    let found = job.found.as_deref();
    Values {
        client_ip,
        scheme: scheme(job.https),
        request_id: found.map_or("", |found| &found.request_id),
        user: found.map_or("", |found| &found.user),
        route: &rules.name,
        ..Values::default()
    }
}

fn request_values<'a>(
    rules: &'a Route,
    request: &Request<'_, 'a>,
    job: &'a Job,
    client_ip: &'a str,
) -> Values<'a> {
    Values {
        method: request.method_text,
        host: request.host,
        path: request.path,
        query: with_mark(request),
        ..values(rules, job, client_ip)
    }
}

/// The query with its `?`.
fn with_mark<'a>(request: &Request<'_, 'a>) -> &'a str {
    match request.query.is_empty() {
        true => "",
        false => &request.target[request.target.len() - request.query.len() - 1..],
    }
}

/// The fields that a response of ours has by its route.
pub fn own_fields<I: Io>(shard: &Shard<I>, job: &Job, out: &mut Vec<u8>) {
    if let Some(edits) = ToClient::of(&shard.plan, job, "") {
        edits.write(None, out);
    }
}

/// A page for one of our refusals. Nothing in it is a client's word.
pub fn render<I: Io>(
    shard: &Shard<I>,
    job: Option<&Job>,
    template: &Template,
    status: u16,
    reason: &str,
    out: &mut Vec<u8>,
) {
    let client_ip = job.map_or(String::new(), |job| job.client_ip.to_string());
    let found = job.and_then(|job| job.found.as_deref());
    let route = job.and_then(|job| job.route);
    let values = Values {
        client_ip: &client_ip,
        scheme: scheme(job.is_some_and(|job| job.https)),
        request_id: found.map_or("", |found| &found.request_id),
        route: route.map_or("", |route| &shard.plan.routes[route.0 as usize].name),
        status,
        reason,
        ..Values::default()
    };
    template.render(&values, out);
}

fn scheme(https: bool) -> &'static str {
    if https { "https" } else { "http" }
}

/// The answer of a route that has no backend.
pub fn own(
    own: &Own,
    rules: &Route,
    request: &Request<'_, '_>,
    job: &mut Job,
) -> Result<Reply, Reason> {
    let client_ip = job.client_ip.to_string();
    let values = request_values(rules, request, job, &client_ip);
    let mut body = Vec::new();
    match own {
        Own::Answer {
            status,
            content_type,
            body: template,
        } => {
            let values = Values {
                status: *status,
                ..values
            };
            template.render(&values, &mut body);
            Ok(Reply {
                status: *status,
                reason: None,
                content_type: content_type.clone(),
                body,
            })
        }
        Own::Redirect { status, location } => {
            let (mut rendered, mut to) = (Vec::new(), b"Location: ".to_vec());
            location.render(&values, &mut rendered);
            // A client of HTTP/1.0 may not say which host it means.
            let safe = rewrite::location(&rendered, &mut to);
            safe.map_err(|_| Reason::Protocol(Reject::MissingHost))?;
            to.extend_from_slice(b"\r\n");
            let found = job.found.get_or_insert_default();
            found.to_client.extend_from_slice(&to);
            Ok(Reply {
                status: *status,
                reason: None,
                content_type: Box::default(),
                body,
            })
        }
    }
}

/// The status of a refusal, where a filter does not want another.
pub fn status(reason: Reason, job: Option<&Job>) -> u16 {
    let found = job.and_then(|job| job.found.as_deref());
    match found.map_or(0, |found| found.status) {
        0 => reason.status(),
        status => status,
    }
}
