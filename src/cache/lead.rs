//! Fetching for all who wait for the same.
//!
//! Decides: what a response means for them. May not know: sockets. Invariant: a lead that is dropped ends its fill.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::Cache;
use super::caching::Caching;
use super::entry::{self, Charge, Entry, Parts};
use super::fill::{Begun, Ended, Fill, Outdated};
use super::note::Forwarded;
use crate::h1::answer::line;
use crate::h1::forward;
use crate::h1::head::{Kind, Response, Slots, parse_request, parse_response};
use crate::h1::{Framing, HEADER_COUNT_MAX, Limits, Method};
use crate::policy::Nanos;
use crate::policy::cache::control::Asked;
use crate::policy::cache::fresh::Standing;
use crate::policy::cache::store::{self, Came};
use crate::policy::cache::{Rules, Terms, Unstorable, update, vary};

/// For so long requests of a key whose response was for its asker alone do not wait for one another. They may still be
/// stored.
const PASS_S: u32 = 120;

/// A stored head has been checked when it came; since then we have added a date to it.
pub const STORED: Limits = Limits {
    header_bytes: 1024 * 1024,
    header_count: HEADER_COUNT_MAX,
    request_line: 64 * 1024,
};

/// What a response means for those who wait.
pub enum Judged {
    /// It is stored, and goes to all of them.
    Stored,
    /// What is stored still holds, perhaps with other fields.
    Holds(Arc<Entry>),
    /// It is an error, and what is stored is sent in its place.
    StandsIn,
    /// It is for its asker only.
    Passes(Unstorable),
}

#[derive(Debug)]
pub struct Lead {
    /// `None`: nobody waits, and no response has begun.
    fill: RefCell<Option<Arc<Fill>>>,
    /// Of the key.
    hash: u128,
    outdated: Outdated,
    cache: Arc<Cache>,
}

impl Lead {
    /// For all who join the fill.
    pub fn new(cache: &Arc<Cache>, fill: Arc<Fill>) -> Lead {
        Lead {
            hash: fill.hash,
            outdated: Arc::clone(fill.outdated()),
            fill: RefCell::new(Some(fill)),
            cache: Arc::clone(cache),
        }
    }

    /// For one request alone.
    pub fn alone(cache: &Arc<Cache>, hash: u128) -> Lead {
        let outdated = Outdated::default();
        cache.fills.lead_begins(hash, &outdated);
        Lead {
            fill: RefCell::new(None),
            hash,
            outdated,
            cache: Arc::clone(cache),
        }
    }

    /// What has begun.
    pub fn fill(&self) -> Option<Arc<Fill>> {
        self.fill.borrow().clone()
    }

    pub fn cache(&self) -> &Arc<Cache> {
        &self.cache
    }

    pub fn end(&self, ended: Ended) {
        if let Some(fill) = &*self.fill.borrow() {
            fill.end(ended);
            self.cache.fills.leave(fill);
        }
    }

    /// Those who wait go on by themselves.
    fn part(&self) {
        self.end(Ended::Passed);
        self.fill.take();
    }

    /// The response is for its asker alone.
    fn passes(&self, caching: &Caching, why: Unstorable, status: u16, came: Came) {
        // An error says nothing of the next response, nor does a refusal for the sake of this one request. What is
        // forwarded as a bypass is known already.
        let says = match why {
            Unstorable::Authorization => false,
            Unstorable::NoStore
            | Unstorable::Private
            | Unstorable::SetCookie
            | Unstorable::Vary
            | Unstorable::Status
            | Unstorable::Lifetime
            | Unstorable::TooLarge => status < 400,
        };
        if says && caching.forwarded != Forwarded::Bypass && !self.is_taken(caching, came.at) {
            let terms = Terms {
                at: came.at,
                age_s: 0,
                lifetime_s: PASS_S,
                stale_while_revalidate_s: 0,
                stale_if_error_s: 0,
                must_revalidate: true,
                no_cache: false,
            };
            self.mark(caching, entry::Kind::Pass, &[], terms);
        }
        self.end(Ended::Passed);
    }

    /// Something that is good for others stands at the place of the key.
    fn is_taken(&self, caching: &Caching, now: Nanos) -> bool {
        let stored = self.cache.table.get(caching.hash);
        stored.is_some_and(|entry| match entry.kind() {
            entry::Kind::Varies { .. } => true,
            entry::Kind::Response | entry::Kind::Pass => {
                entry.terms().standing(&Asked::default(), now) == Standing::Fresh
            }
        })
    }

    /// Puts a note of ours at the place of the key, if there is room.
    fn mark(&self, caching: &Caching, kind: entry::Kind, head: &[u8], terms: Terms) {
        let bytes = Entry::cost_bytes(caching.key.len(), head.len(), 0);
        // Without room nothing is lost but the note.
        let Some(charge) = self.cache.table.reserve(bytes) else {
            return;
        };
        let parts = Parts {
            hash: caching.hash,
            key: &caching.key,
            head,
            body: Bytes::new(),
            kind,
            status: 0,
            terms,
        };
        self.cache.table.put(Entry::new(parts, charge));
    }

    /// Stores the whole response, if there is room and nobody has made it invalid meanwhile. `paid`: for the body.
    pub fn store(&self, body: Bytes, mut paid: Charge) -> Option<Arc<Entry>> {
        let fill = self.fill()?;
        let begun = fill.begun()?;
        let cost = Entry::cost_bytes(fill.key.len(), begun.head.len(), body.len());
        let rest = self
            .cache
            .table
            .reserve(cost.saturating_sub(paid.bytes()))?;
        paid.add(rest);
        paid.shrink_to(cost);
        let parts = Parts {
            hash: begun.at,
            key: &fill.key,
            head: &begun.head,
            body,
            kind: entry::Kind::Response,
            status: begun.status,
            terms: begun.terms,
        };
        self.put(Entry::new(parts, paid))
    }

    /// Puts it into the table, unless its key was made invalid since the backend was asked.
    fn put(&self, entry: Entry) -> Option<Arc<Entry>> {
        if self.outdated.load(Ordering::SeqCst) {
            return None;
        }
        let at = entry.hash();
        let entry = self.cache.table.put(entry);
        // Between the look and the put: nobody may find it from now on.
        if self.outdated.load(Ordering::SeqCst) {
            self.cache.table.remove_if(at, &entry);
            return None;
        }
        Some(entry)
    }

    /// Tells all that the response has begun.
    fn begins(
        &self,
        caching: &Caching,
        head: Vec<u8>,
        response: &Response<'_, '_>,
        terms: Terms,
        length: Option<u64>,
    ) {
        if terms.standing(&Asked::default(), terms.at) == Standing::Stale {
            self.part();
        }
        let vary = vary::names(response).unwrap_or_default();
        let (at, values) = self.place(caching, &vary, terms);
        let shared = self.fill();
        let fill = shared.clone().unwrap_or_else(|| {
            let bells = self.cache.fills.bells();
            let outdated = Arc::clone(&self.outdated);
            Fill::new(at, caching.hash, outdated, &caching.key, bells)
        });
        self.fill.replace(Some(Arc::clone(&fill)));
        fill.begin(Begun {
            at,
            head: head.into(),
            status: response.status,
            terms,
            length,
            vary: vary.into(),
            values: values.into(),
        });
        if shared.is_some_and(|fill| fill.at != at) {
            self.cache.fills.also(at, &fill);
        }
    }

    /// Where a response that varies so is stored, and the values that it depends on.
    fn place(&self, caching: &Caching, vary: &str, terms: Terms) -> (u128, Vec<u8>) {
        let (table, mut values) = (&self.cache.table, Vec::new());
        if vary.is_empty() {
            return (caching.hash, values);
        }
        let mut slots = Slots::new();
        if let Ok(Some(request)) = parse_request(&caching.request, &STORED, &mut slots) {
            vary::write(vary, &request, &mut values);
        }
        let known = table
            .get(caching.hash)
            .and_then(|entry| match entry.kind() {
                entry::Kind::Varies { epoch } if entry.head() == vary.as_bytes() => Some(epoch),
                entry::Kind::Varies { .. } | entry::Kind::Response | entry::Kind::Pass => None,
            });
        let epoch = known.unwrap_or_else(|| {
            let epoch = self.cache.epochs.fetch_add(1, Ordering::Relaxed);
            self.mark(
                caching,
                entry::Kind::Varies { epoch },
                vary.as_bytes(),
                terms,
            );
            epoch
        });
        (table.hash_variant(caching.hash, epoch, &values), values)
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        self.cache.fills.lead_ends(self.hash, &self.outdated);
        self.end(Ended::Released);
    }
}

impl Caching {
    /// The response depends on a field that the route has written: what clients send of that name says nothing.
    fn varies_by_ours(response: &Response<'_, '_>, ours: &dyn Fn(&str) -> bool) -> bool {
        let names = vary::names(response).unwrap_or_default();
        names.split(',').any(ours)
    }

    /// Judges the final response to a request that leads, which changes what others get to see. `ours`: the route writes
    /// this field of requests.
    pub fn judge(
        &self,
        lead: &Lead,
        rules: &Rules,
        response: &Response<'_, '_>,
        came: Came,
        date: &str,
        ours: &dyn Fn(&str) -> bool,
    ) -> Judged {
        if let Some(stale) = &self.stale {
            if response.status == 304 {
                return self.validated(lead, rules, stale, response, came, date);
            }
            if matches!(response.status, 500 | 502 | 503 | 504) && self.stands_in(came.at).is_some()
            {
                lead.end(Ended::Erred);
                return Judged::StandsIn;
            }
        }
        let length = match response.framing {
            Framing::None => Some(0),
            Framing::Length(length) => Some(length),
            Framing::Chunked | Framing::UntilClose => None,
        };
        let admitted = store::admit(rules, self.authorized, response, came);
        let admitted = match admitted {
            Ok(_) if Caching::varies_by_ours(response, ours) => Err(Unstorable::Vary),
            Ok(_) if length.is_some_and(|length| length > rules.object_bytes_max) => {
                Err(Unstorable::TooLarge)
            }
            admitted => admitted,
        };
        let terms = match admitted {
            Ok(terms) => terms,
            Err(why) => {
                lead.passes(self, why, response.status, came);
                return Judged::Passes(why);
            }
        };
        let mut head = Vec::with_capacity(response.head_len + 64);
        forward::stored(&mut head, response, date);
        lead.begins(self, head, response, terms, length);
        Judged::Stored
    }

    /// The backend says that what is stored still holds (RFC 9111 section 4.3.4).
    fn validated(
        &self,
        lead: &Lead,
        rules: &Rules,
        stale: &Arc<Entry>,
        fresh: &Response<'_, '_>,
        came: Came,
        date: &str,
    ) -> Judged {
        let mut slots = Slots::new();
        let stored = parse_response(stale.head(), &STORED, Method::Get, &mut slots);
        let Ok(Some(stored)) = stored else {
            debug_assert!(false, "what is stored was a head when it came");
            lead.end(Ended::Released);
            return Judged::Passes(Unstorable::Status);
        };
        let mut head = Vec::with_capacity(stale.head().len() + 64);
        update::write(&stored, fresh, &mut head);
        let mut slots = Slots::new();
        let updated = parse_response(&head, &STORED, Method::Get, &mut slots);
        let admitted = match updated {
            // Its place is that of the fields that it varied by.
            Ok(Some(updated)) if vary::names(&updated) != vary::names(&stored) => {
                Err(Unstorable::Vary)
            }
            Ok(Some(updated)) => store::admit(rules, self.authorized, &updated, came),
            Ok(None) | Err(_) => Err(Unstorable::Lifetime),
        };
        // Behind the look at it: our clock is a tick behind the time of its arrival.
        if !fresh.kinds.contains(&Kind::Date) {
            head.truncate(head.len() - 2);
            line(&mut head, "Date", date);
            head.extend_from_slice(b"\r\n");
        }
        let table = &lead.cache.table;
        let terms = admitted.unwrap_or(Terms {
            at: came.at,
            no_cache: true,
            ..stale.terms()
        });
        let bytes = Entry::cost_bytes(self.key.len(), head.len(), stale.body.len());
        let Some(charge) = table.reserve(bytes) else {
            lead.end(Ended::Passed);
            return Judged::Holds(Arc::clone(stale));
        };
        let parts = Parts {
            hash: stale.hash(),
            key: &self.key,
            head: &head,
            body: stale.body.clone(),
            kind: entry::Kind::Response,
            status: stale.status,
            terms,
        };
        let entry = Entry::new(parts, charge);
        if let Err(why) = admitted {
            // Good for who asked, and for nobody else.
            if why != Unstorable::Authorization {
                table.remove(stale.hash());
            }
            lead.end(Ended::Passed);
            return Judged::Holds(Arc::new(entry));
        }
        let Some(entry) = lead.put(entry) else {
            lead.end(Ended::Passed);
            return Judged::Holds(Arc::clone(stale));
        };
        let alone = terms.standing(&Asked::default(), came.at) == Standing::Stale;
        lead.end(match alone {
            true => Ended::Passed,
            false => Ended::Whole(Arc::clone(&entry)),
        });
        Judged::Holds(entry)
    }
}
