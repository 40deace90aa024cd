//! Who asks, and by which route.
//!
//! Decides: the client's address, and the route of a request. May not know: what the route does with it. Invariant: only
//! trusted proxies tell of another client.

use std::net::IpAddr;

use super::{Job, field};
use crate::config::plan::ClientField;
use crate::h1::head::Request;
use crate::h1::{Method, forward, forwarded};
use crate::io::Io;
use crate::metrics::Reason;
use crate::policy::RouteId;
use crate::policy::filter::Filter;
use crate::policy::route::Miss;
use crate::shard::{Peer, Shard};

/// Who the client is and whether it came by https, as trusted proxies tell it.
pub(super) fn client<I: Io>(
    shard: &Shard<I>,
    peer: &Peer,
    request: &Request<'_, '_>,
) -> (IpAddr, bool) {
    if !peer.trusted {
        return (peer.ip, false);
    }
    let forwarding = &shard.plan.forwarding;
    let trusts = |ip| forwarding.trusts(ip);
    match forwarding.client_field {
        ClientField::XForwardedFor => (
            forward::client_ip(request, peer.ip, trusts),
            forward::came_by_https(request),
        ),
        ClientField::Forwarded => {
            let client = forwarded::client(request, peer.ip, trusts);
            (client.ip, client.proto == Some("https"))
        }
    }
}

/// Finds the route.
pub(super) fn route<I: Io>(
    shard: &Shard<I>,
    request: &Request<'_, '_>,
    job: &mut Job,
) -> Result<(), Reason> {
    if request.method == Method::Options && request.max_forwards == Some(0) {
        return Err(Reason::MaxForwards);
    }
    let router = &shard.plan.router;
    // A browser's question belongs to the route of what it asks about.
    job.route = preflighted(shard, request, job.client_ip);
    if job.route.is_some() {
        return Ok(());
    }
    match router.lookup(request, job.client_ip) {
        Ok(route) => {
            job.route = Some(route);
            Ok(())
        }
        Err(Miss::NoRoute) => Err(Reason::NoRoute),
        Err(Miss::Method) => {
            let mut allow = String::new();
            router.allow(request, job.client_ip, &mut allow);
            job.allow = Some(allow.into());
            Err(Reason::MethodNotAllowed)
        }
    }
}

/// The route of the request that a CORS preflight asks about, if that route answers such questions.
fn preflighted<I: Io>(
    shard: &Shard<I>,
    request: &Request<'_, '_>,
    client_ip: IpAddr,
) -> Option<RouteId> {
    if request.method != Method::Options || field(request, "origin").is_none() {
        return None;
    }
    let asked = std::str::from_utf8(field(request, "access-control-request-method")?).ok()?;
    let asked = Request {
        method: Method::of(asked),
        method_text: asked,
        ..*request
    };
    let route = shard.plan.router.lookup(&asked, client_ip).ok()?;
    let mut filters = shard.plan.routes[route.0 as usize].filters.iter();
    let answers = filters.any(|filter| matches!(filter, Filter::Cors(_)));
    answers.then_some(route)
}
