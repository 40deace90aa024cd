//! What a client of the admin listener gets.
//!
//! Decides: how an answer looks on the wire, and whether the process should get traffic. May not know: sockets.
//! Invariant: an answer is whole, with its length; only the event stream is not one.

use crate::config::plan::{Destination, Plan};
use crate::metrics;
use crate::policy::ClusterId;
use crate::policy::health::{Mode, Standing};
use crate::shared::Shared;

use super::parse::{Form, Look, Refusal};
use super::{AdminState, Phase, backends, cache, why};

/// What the client gets.
#[derive(Debug)]
pub(super) struct Answer {
    status: u16,
    content_type: &'static str,
    /// The methods that there are instead of the one that was used.
    allow: Option<&'static str>,
    body: String,
}

impl Answer {
    pub(super) fn to(look: &Look, form: Form, state: &AdminState) -> Answer {
        let found = match look {
            Look::Healthz => Ok(Answer::text(200, "ok")),
            Look::Readyz => Ok(readiness(state.phase(), &state.shared)),
            Look::Metrics => {
                let mut body = String::with_capacity(16 * 1024);
                let now = state.moment().now;
                metrics::render(&mut body, &state.shared, &state.ledger, &state.info, now);
                Ok(Answer {
                    status: 200,
                    content_type: metrics::CONTENT_TYPE,
                    allow: None,
                    body,
                })
            }
            Look::Backends(which) => {
                backends::list(state, which, form).map(|body| Answer::of(form, body))
            }
            Look::Cache => cache::figures(state, form).map(|body| Answer::of(form, body)),
            Look::Why(which) => why::tell(state, which, form).map(|body| Answer::of(form, body)),
        };
        found.unwrap_or_else(Answer::refused)
    }

    /// A good one in the form that was asked for.
    pub(super) fn of(form: Form, body: String) -> Answer {
        Answer {
            status: 200,
            content_type: match form {
                Form::Text => "text/plain; charset=utf-8",
                Form::Json => "application/json",
            },
            allow: None,
            body,
        }
    }

    pub(super) fn refused(refusal: Refusal) -> Answer {
        Answer {
            allow: refusal.allow,
            ..Answer::text(refusal.status, &refusal.text)
        }
    }

    fn text(status: u16, text: &str) -> Answer {
        Answer {
            status,
            ..Answer::of(Form::Text, format!("{text}\n"))
        }
    }

    pub(super) fn into_bytes(self, head_only: bool, close: bool) -> Vec<u8> {
        let reason = http::StatusCode::from_u16(self.status)
            .ok()
            .and_then(|status| status.canonical_reason());
        let allow = self.allow.map(|methods| format!("Allow: {methods}\r\n"));
        let connection = if close { "Connection: close\r\n" } else { "" };
        // Texts repeat what the client sent: no browser may take one for a page.
        let mut out = format!(
            "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nServer: corelane-admin\r\nCache-Control: no-store\r\n\
             X-Content-Type-Options: nosniff\r\n{}{connection}\r\n",
            self.status,
            reason.unwrap_or_default(),
            self.content_type,
            self.body.len(),
            allow.unwrap_or_default(),
        );
        if !head_only {
            out.push_str(&self.body);
        }
        out.into_bytes()
    }
}

/// Not ready is only who can serve no route at all: a cluster that is down is down for every proxy, and must not take
/// the whole fleet out of service for the others.
fn readiness(phase: Phase, shared: &Shared) -> Answer {
    match phase {
        Phase::Starting => return Answer::text(503, "not ready: starting"),
        Phase::Draining => return Answer::text(503, "not ready: draining"),
        Phase::Ready => {}
    }
    let (mut gone, mut serves_one) = (Vec::new(), shared.plan.routes.is_empty());
    for route in &shared.plan.routes {
        let clusters = match &route.destination {
            Destination::One(cluster) => std::slice::from_ref(cluster),
            Destination::Split(split) => &split.clusters,
            Destination::Own(_) => {
                serves_one = true;
                continue;
            }
        };
        for id in clusters {
            if serves(shared, *id) {
                serves_one = true;
            } else if !gone.contains(id) {
                gone.push(*id);
            }
        }
    }
    let names: Vec<&str> = gone.iter().map(|id| name(&shared.plan, *id)).collect();
    let names = names.join(", ");
    match (serves_one, gone.is_empty()) {
        (true, true) => Answer::text(200, "ok"),
        (true, false) => Answer::text(200, &format!("ok, but no backend is available in: {names}")),
        (false, _) => {
            let text = format!("not ready: no route has a backend, none is available in: {names}");
            Answer::text(503, &text)
        }
    }
}

fn name(plan: &Plan, id: ClusterId) -> &str {
    &plan.clusters[id.0 as usize].name
}

/// The cluster, or one that stands in for it, has a backend that gets requests.
fn serves(shared: &Shared, id: ClusterId) -> bool {
    let clusters = &shared.plan.clusters;
    let uses = |id: ClusterId| {
        let mut members = clusters[id.0 as usize].backends.iter();
        members.any(|id| {
            let word = shared.backends.word(*id);
            let is_in = word.is_available() || word.standing() == Standing::HalfOpen;
            is_in && shared.backends.weight(*id) > 0
        })
    };
    shared.plan.chain(id).any(uses) || fails_open(shared, id)
}

/// The operator would rather ask backends that are down than nobody.
fn fails_open(shared: &Shared, id: ClusterId) -> bool {
    let cluster = &shared.plan.clusters[id.0 as usize];
    let mode = |id| shared.backends.word(id).mode();
    cluster.fail_open && cluster.backends.iter().any(|id| mode(*id) == Mode::Auto)
}
