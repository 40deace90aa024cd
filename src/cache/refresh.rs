//! Validating what is stored while it is sent to somebody.
//!
//! Decides: nothing beyond what a fetch decides. May not know: who asked. Invariant: at most one for each key and variant
//! at a time; it ends by its deadline.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

use super::caching::Caching;
use super::entry::Charge;
use super::fill::{Ended, Writer};
use super::lead::{Judged, Lead};
use crate::conn::Busy;
use crate::decide::{self, Job};
use crate::edits;
use crate::h1::head::{Slots, parse_request, parse_response};
use crate::h1::{Framing, Method, Version};
use crate::io::Io;
use crate::metrics::{Counter, Reason};
use crate::policy::cache::store::Came;
use crate::policy::{Nanos, RouteId};
use crate::shard::{Peer, Shard};
use crate::subrequest::{Question, ask};

/// The longest that it may take.
const REFRESH_NS: Nanos = 60_000_000_000;

/// By so much, and twice, a body may have grown.
const GROWTH_BYTES: u64 = 64 * 1024;

/// What it takes to ask again.
#[derive(Debug)]
pub struct Refresh {
    pub lead: Lead,
    pub caching: Box<Caching>,
}

impl Job {
    /// What is left of it for a request of ours that validates what its client has got.
    fn for_refresh(&self, caching: Box<Caching>) -> Job {
        Job {
            method: Method::Get,
            version: Version::Http11,
            framing: Framing::None,
            head_len: self.head_len,
            held: Some(0),
            held_payload: 0,
            keep_alive: true,
            closes: false,
            upgrade: false,
            drops_trailers: false,
            json: false,
            retry_after_s: 0,
            allow: None,
            client_ip: self.client_ip,
            https: self.https,
            route: self.route,
            found: None,
            note: None,
            cache: Some(caching),
        }
    }
}

struct Task<I: Io> {
    shard: Rc<Shard<I>>,
    peer: Peer,
    job: Job,
    route: RouteId,
    lead: Lead,
}

/// Starts it beside the request at the beginning of the connection's input.
pub fn start<I: Io>(conn: &Busy<'_, I>, job: &Job, refresh: Refresh) {
    let Some(route) = job.route else { return };
    let shard = conn.shard;
    let task = Task {
        shard: Rc::clone(shard),
        peer: conn.peer.clone(),
        job: job.for_refresh(refresh.caching),
        route,
        lead: refresh.lead,
    };
    let metrics = Arc::clone(&shard.metrics);
    shard.io.spawn(crate::panics::catch(metrics, task.run()));
}

impl<I: Io> Task<I> {
    async fn run(self) {
        let answered = self.asked().await;
        if let Err(reason) = answered {
            self.lead.end(Ended::Failed(reason));
        }
        if let Some(fill) = self.lead.fill() {
            self.shard.watches.wake(&fill);
        }
    }

    async fn asked(&self) -> Result<(), Reason> {
        let shard = &self.shard;
        let route = &shard.plan.routes[self.route.0 as usize];
        let caching = self.job.cache.as_deref().ok_or(Reason::Internal)?;
        let rules = route.cache.as_ref().ok_or(Reason::Internal)?;
        let cluster = shard.destination(self.route, None);
        let begun = shard.io.now();
        let wait_ns = match route.timeouts.request_ns {
            0 => REFRESH_NS,
            request_ns => REFRESH_NS.min(request_ns),
        };
        let write = |authority: &str, out: &mut Vec<u8>| {
            let mut slots = Slots::new();
            let limits = &shard.plan.limits;
            if let Ok(Some(request)) = parse_request(&caching.request, limits, &mut slots) {
                decide::write(
                    shard, &self.peer, &request, &self.job, route, authority, out,
                );
            }
        };
        // A body that has grown beyond this is fetched while its next reader waits.
        let most = caching
            .stale
            .as_ref()
            .map_or(0, |stale| 2 * stale.body.len() as u64 + GROWTH_BYTES);
        let most = most.min(rules.object_bytes_max);
        let table = &self.lead.cache().table;
        let paid = table.reserve(most).ok_or(Reason::Overload)?;
        let question = Question {
            cluster: cluster.ok_or(Reason::NoBackend)?,
            method: Method::Get,
            until: shard.timers.after(wait_ns),
            body_bytes_max: usize::try_from(most).unwrap_or(usize::MAX),
            write: &write,
        };
        let answer = ask(shard, &question).await?;
        let mut slots = Slots::new();
        let response = parse_response(&answer.head, &shard.plan.limits, Method::Get, &mut slots);
        let response = response.ok().flatten().ok_or(Reason::BackendClosed)?;
        let now = shard.io.now();
        let came = Came {
            at: now,
            unix_s: shard.unix_ms_at(now) / 1000,
            delay_ns: now.saturating_sub(begun),
        };
        let ours = |name: &str| edits::writes_to_backend(route, name);
        match caching.judge(&self.lead, rules, &response, came, &shard.date(), &ours) {
            Judged::Stored => self.store(answer.body, answer.cut, paid),
            Judged::Holds(_) | Judged::StandsIn => {}
            Judged::Passes(_) => shard.metrics.add(Counter::CacheUnstorable, 1),
        }
        Ok(())
    }

    fn store(&self, body: Vec<u8>, is_cut: bool, paid: Charge) {
        let lead = &self.lead;
        if is_cut {
            return lead.end(Ended::Released);
        }
        let body = Bytes::from(body.into_boxed_slice());
        if let Some(fill) = lead.fill() {
            Writer::new(&fill, self.shard.number).push(body.clone());
        }
        lead.end(match lead.store(body, paid) {
            Some(entry) => {
                self.shard.metrics.add(Counter::CacheStored, 1);
                Ended::Whole(entry)
            }
            None => Ended::Unstored,
        });
    }
}
