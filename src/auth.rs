//! Forward auth: another server says whether a request may pass.
//!
//! Decides: what the server is told and what its answer means. May not know: how it is reached. Invariant: whoever gets
//! no good answer does not pass.

use crate::config::plan::Route;
use crate::conn::Busy;
use crate::decide::{Job, Reply};
use crate::filters::Found;
use crate::h1::answer::line;
use crate::h1::forward::{self, Edit, Forward};
use crate::h1::head::{Kind, Request, Slots, parse_request, parse_response};
use crate::h1::{Framing, Method};
use crate::io::Io;
use crate::metrics::Reason;
use crate::policy::filter::Filter;
use crate::policy::filter::forward_auth::ForwardAuth;
use crate::policy::filter::headers::is_named;
use crate::policy::rewrite::Rewrite;
use crate::shard::{Peer, Shard};
use crate::subrequest::{self, Answer, Question};

/// A longer answer of the auth server is not passed on.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// Fields of a refusal that the client gets.
const TOLD: [&str; 7] = [
    "www-authenticate",
    "location",
    "set-cookie",
    "cache-control",
    "retry-after",
    "content-encoding",
    "content-language",
];

/// Why a request does not pass.
pub enum Denied {
    /// The server's own words.
    Reply(Reply),
    /// It has none.
    Unavailable,
}

/// Asks the server of the filter at this place. Its answer's fields for the backend are in `found` afterwards.
pub async fn ask<I: Io>(conn: &Busy<'_, I>, job: &mut Job, at: usize) -> Result<(), Denied> {
    let shard = conn.shard;
    let route = job.route.expect("a request is routed before it waits");
    let rules = &shard.plan.routes[route.0 as usize];
    let Some(Filter::ForwardAuth(auth)) = rules.filters.get(at) else {
        return Err(Denied::Unavailable);
    };
    let input = conn.input.pending();
    let found = job.found.as_deref();
    let question = Question {
        cluster: auth.cluster,
        method: Method::Get,
        until: shard.timers.after(auth.timeout_ns),
        body_bytes_max: BODY_BYTES_MAX,
        write: &|authority, out| {
            let asked = Asked {
                auth,
                rules,
                found,
                input,
            };
            asked.write(shard, conn.peer, authority, out);
        },
    };
    let answer = subrequest::ask(shard, &question).await;
    judge(shard, auth, job, &answer.map_err(|_| Denied::Unavailable)?)
}

/// Fields of the client that would be answered for the wrong thing (ranges, conditions), or taken for ours.
const DROPPED: [&str; 8] = [
    "x-forwarded-method",
    "x-forwarded-uri",
    "range",
    "if-none-match",
    "if-modified-since",
    "if-match",
    "if-unmodified-since",
    "if-range",
];

/// What the server is told of.
struct Asked<'a> {
    auth: &'a ForwardAuth,
    rules: &'a Route,
    found: Option<&'a Found>,
    /// Begins with the request.
    input: &'a [u8],
}

impl Asked<'_> {
    /// The request's own fields, without its body, for the auth server's path.
    fn write<I: Io>(&self, shard: &Shard<I>, peer: &Peer, authority: &str, out: &mut Vec<u8>) {
        let mut slots = Slots::new();
        let parsed = parse_request(self.input, &shard.plan.limits, &mut slots);
        let Ok(Some(request)) = parsed else {
            debug_assert!(false, "the same bytes were a request before");
            return;
        };
        let asked = Request {
            method: Method::Get,
            method_text: "GET",
            target: &self.auth.path,
            framing: Framing::None,
            content_length: None,
            expect_continue: false,
            upgrade: None,
            max_forwards: None,
            ..request
        };
        let drops = |name: &str| self.drops(name);
        let write = |out: &mut Vec<u8>| {
            line(out, "X-Forwarded-Method", request.method_text);
            // As its backend sees it: a rule for `/admin` must not miss `http://host/admin`.
            out.extend_from_slice(b"X-Forwarded-Uri: ");
            if self.rules.rewrite.is_some() {
                // The backend gets a normal path, so that is what is judged.
                Rewrite::default().apply(request.path, request.query, out);
            } else {
                forward::origin_form(out, &request);
            }
            out.extend_from_slice(b"\r\n");
            if let Some(found) = self.found {
                out.extend_from_slice(&found.to_backend);
            }
        };
        let with = Forward {
            client_ip: &peer.ip_text,
            trusted: peer.trusted,
            proto: "http",
            port: &peer.port_text,
            host: Some(authority),
            via: &shard.plan.forwarding.via,
            keep_expect: false,
            target: None,
            edit: Some(Edit {
                drops: &drops,
                write: &write,
            }),
        };
        forward::request(out, &asked, &with);
    }

    fn drops(&self, name: &str) -> bool {
        let is = |known: &str| is_named(name, known);
        let trace_goes_on = !self.found.is_some_and(|found| found.replaces_trace);
        DROPPED.into_iter().any(is)
            || self.auth.copy.iter().any(|name| is(name))
            || self.rules.filters.iter().any(
                |filter| matches!(filter, Filter::RequestId(ids) if ids.drops(name, trace_goes_on)),
            )
    }
}

fn judge<I: Io>(
    shard: &Shard<I>,
    auth: &ForwardAuth,
    job: &mut Job,
    answer: &Answer,
) -> Result<(), Denied> {
    let mut slots = Slots::new();
    let parsed = parse_response(&answer.head, &shard.plan.limits, Method::Get, &mut slots);
    let Ok(Some(response)) = parsed else {
        return Err(Denied::Unavailable);
    };
    let Some(found) = &mut job.found else {
        return Err(Denied::Unavailable);
    };
    let fields = response.headers.iter().zip(response.kinds);
    let fields = fields
        .filter(|(_, kind)| **kind == Kind::EndToEnd)
        .map(|(field, _)| field);
    match response.status {
        200..=299 => {
            for field in fields {
                let mut names = auth.copy.iter();
                if names.any(|name| field.name.eq_ignore_ascii_case(name)) {
                    copy(field, &mut found.to_backend);
                }
            }
            Ok(())
        }
        300..=499 => {
            let mut content_type = Box::default();
            for field in fields {
                if TOLD
                    .iter()
                    .any(|name| field.name.eq_ignore_ascii_case(name))
                {
                    copy(field, &mut found.to_client);
                }
                if field.name.eq_ignore_ascii_case("content-type") {
                    content_type = String::from_utf8_lossy(field.value).into();
                }
            }
            Err(Denied::Reply(Reply {
                status: response.status,
                reason: Some(Reason::AuthDenied),
                content_type,
                body: if answer.cut {
                    Vec::new()
                } else {
                    answer.body.clone()
                },
            }))
        }
        _ => Err(Denied::Unavailable),
    }
}

fn copy(field: &httparse::Header<'_>, out: &mut Vec<u8>) {
    for part in [field.name.as_bytes(), b": ", field.value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}
