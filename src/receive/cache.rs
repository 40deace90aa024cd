//! A response on its way past the cache.
//!
//! Decides: whether the client gets it from the backend or from what is stored. May not know: how either is sent.
//! Invariant: a response that goes to the client directly is not stored.

use super::Receive;
use crate::cache::caching::{Caching, Role};
use crate::cache::lead::Judged;
use crate::cache::note::{Did, Note};
use crate::edits;
use crate::h1::head::{Response, Slots, parse_request};
use crate::io::Io;
use crate::metrics::Counter;
use crate::policy::cache::key;
use crate::policy::cache::store::Came;

impl<I: Io> Receive<'_, I> {
    /// What the response means for what is stored. `None`: it goes to the client as always, with `lines` in its head.
    pub(super) fn cache(
        &self,
        caching: &Caching,
        response: &Response<'_, '_>,
        lines: &mut Vec<u8>,
    ) -> Option<Judged> {
        let shard = self.shard;
        let route = &shard.plan.routes[self.job.route?.0 as usize];
        // RFC 9111 section 4.4.
        if matches!(caching.role, Role::Invalidates) && matches!(response.status, 200..=399) {
            self.invalidate(caching);
        }
        let rules = route.cache.as_ref()?;
        let mut note = Note::of(Did::Forwarded(caching.forwarded));
        match &caching.role {
            Role::New | Role::Passes | Role::Invalidates | Role::Refreshes | Role::Follows(_) => {}
            Role::Leads(lead) => {
                let now = shard.io.now();
                let came = Came {
                    at: now,
                    unix_s: shard.unix_ms_at(now) / 1000,
                    delay_ns: self.record.since_start(&shard.io),
                };
                let lead = lead.borrow();
                let ours = |name: &str| edits::writes_to_backend(route, name);
                let date = &shard.date();
                match caching.judge(lead.as_ref()?, rules, response, came, date, &ours) {
                    Judged::Passes(why) => {
                        shard.metrics.add(Counter::CacheUnstorable, 1);
                        note.detail = why.label();
                    }
                    judged @ (Judged::Stored | Judged::Holds(_) | Judged::StandsIn) => {
                        return Some(judged);
                    }
                }
            }
        }
        let (result, counter) = note.result();
        shard.metrics.add(counter, 1);
        self.record.cache.set(result);
        if rules.status_field {
            let name = &shard.plan.forwarding.via;
            note.write(name, None, response.status, lines);
        }
        None
    }

    /// Under which key another route has stored it is for that route to say. Where fields and cookies are in keys, what is
    /// stored under the values of this request goes.
    fn invalidate(&self, caching: &Caching) {
        let shard = self.shard;
        let mut slots = Slots::new();
        let request = parse_request(&caching.request, &shard.plan.limits, &mut slots);
        let (Some(cache), Ok(Some(request))) = (&shard.shared.cache, request) else {
            return;
        };
        let (mut text, mut gone) = (Vec::new(), 0);
        for route in &shard.plan.routes {
            let Some(rules) = &route.cache else { continue };
            text.clear();
            key::write(&rules.key, &request, self.job.https, &mut text);
            gone += u64::from(cache.invalidate(cache.hash(route, &text)));
        }
        shard.metrics.add(Counter::CacheInvalidated, gone);
    }
}
