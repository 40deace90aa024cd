//! The cache's place in the life of a request: behind the filters, before a backend is chosen.
//!
//! Decides: answer, wait, fetch, or go on as if there were no cache. May not know: sockets. Invariant: a request waits
//! for others a bounded number of times, then goes on by itself.

use std::cell::RefCell;
use std::sync::Arc;

use super::Cache;
use super::caching::{Caching, Role, Turn};
use super::entry::{Entry, Kind};
use super::fill::{Ended, Joined, Reader};
use super::lead::Lead;
use super::note::{Did, Forwarded, Note};
use super::refresh::Refresh;
use super::render::{self, Want};
use crate::config::plan::Route;
use crate::decide::{self, Job};
use crate::h1::Method;
use crate::h1::head::{Kind as FieldKind, Request};
use crate::io::Io;
use crate::metrics::Reason;
use crate::policy::Nanos;
use crate::policy::cache::control::{self, Asked};
use crate::policy::cache::fresh::Standing;
use crate::policy::cache::{conditional, key, range, store, vary};
use crate::shard::{Peer, Shard};

/// Fills that a request may have waited for in vain, before it goes on by itself.
const ROUNDS_MAX: u8 = 3;

/// What becomes of a request.
pub enum Consulted {
    /// A backend is asked.
    Forward,
    Serve(Serving),
    /// Until the fill that it follows has changed since then.
    Wait(u32),
    Refuse(Reason),
}

/// An answer out of the cache.
#[derive(Debug)]
pub struct Serving {
    pub from: Source,
    pub want: Want,
    pub note: Note,
    /// To be done beside it: what is sent is stale. Boxed: rare.
    pub refresh: Option<Box<Refresh>>,
}

#[derive(Debug)]
pub enum Source {
    Entry(Arc<Entry>),
    Fill(Reader),
}

/// What was found of a key.
enum Found {
    Nothing(Forwarded),
    /// Its responses were not for all, lately.
    Passes,
    Entry(Arc<Entry>),
}

/// Asks the cache. What it needs to know of the request later stands in `job.cache` then.
pub fn consult<I: Io>(
    shard: &Shard<I>,
    peer: &Peer,
    route: &Route,
    request: &Request<'_, '_>,
    job: &mut Job,
) -> Consulted {
    let Some(cache) = &shard.shared.cache else {
        return Consulted::Forward;
    };
    let mut caching = match job.cache.take() {
        Some(caching) => caching,
        None => match begin(shard, cache, peer, route, request, job) {
            Some(caching) => caching,
            None => return Consulted::Forward,
        },
    };
    let mut asking = Asking {
        cache,
        request,
        caching: &mut caching,
        now: shard.timers.now(),
    };
    let consulted = asking.go_on();
    job.cache = Some(caching);
    consulted
}

/// In place of a refusal, because no backend could be asked: what is stored, if it may stand in for an error.
pub fn instead<I: Io>(
    shard: &Shard<I>,
    request: &Request<'_, '_>,
    job: &Job,
    reason: Reason,
) -> Option<Serving> {
    let caching = job.cache.as_deref()?;
    caching.fails(reason);
    let (entry, note) = caching.stands_in(shard.timers.now())?;
    let from = Source::Entry(entry);
    Some(Serving {
        want: from.wanted(request),
        from,
        note,
        refresh: None,
    })
}

/// `None`: no cache has to do with requests like this.
fn begin<I: Io>(
    shard: &Shard<I>,
    cache: &Cache,
    peer: &Peer,
    route: &Route,
    request: &Request<'_, '_>,
    job: &Job,
) -> Option<Box<Caching>> {
    let is_known = match request.method {
        _ if job.upgrade => return None,
        Method::Options | Method::Trace | Method::Connect => return None,
        // Whatever its route: what it changes may be stored for another.
        Method::Post | Method::Put | Method::Delete | Method::Patch | Method::Other => {
            let mut caching = shard.caching();
            (caching.role, caching.forwarded) = (Role::Invalidates, Forwarded::Method);
            caching.request.extend_from_slice(request.head);
            return Some(caching);
        }
        // A body would have a say in the response, and is in no key.
        Method::Get | Method::Head => job.held == Some(0),
    };
    let rules = route.cache.as_ref()?;
    // The same goes for a cluster that the request names, and for what trusted proxies say of its host.
    let is_keyed = decide::named(route, request).is_none() && !is_told_otherwise(peer, request);
    let mut caching = shard.caching();
    if !is_known || !is_keyed {
        (caching.role, caching.forwarded) = (Role::Passes, Forwarded::Bypass);
        return Some(caching);
    }
    key::write(&rules.key, request, job.https, &mut caching.key);
    caching.hash = cache.hash(route, &caching.key);
    caching.at = caching.hash;
    if rules.request_directives {
        caching.asked = control::asked(request);
    }
    caching.knows_users = route.knows_users();
    caching.authorized = store::is_authorized(request) || caching.knows_users;
    caching.collapse_ns = rules.collapse_ns;
    (caching.is_scheme_keyed, caching.is_host_keyed) = (rules.key.scheme, rules.key.host);
    Some(caching)
}

/// A trusted proxy says that the client asked for another host than the key does.
fn is_told_otherwise(peer: &Peer, request: &Request<'_, '_>) -> bool {
    let mut told = request.headers.iter().zip(request.kinds);
    peer.trusted
        && told.any(|(field, kind)| {
            let host = request.host.as_bytes();
            *kind == FieldKind::XForwardedHost && !field.value.eq_ignore_ascii_case(host)
        })
}

/// One request before the cache.
struct Asking<'a, 'h, 'b> {
    cache: &'a Arc<Cache>,
    request: &'a Request<'h, 'b>,
    caching: &'a mut Caching,
    now: Nanos,
}

impl Asking<'_, '_, '_> {
    fn go_on(&mut self) -> Consulted {
        match std::mem::replace(&mut self.caching.role, Role::Passes) {
            Role::New => self.look(),
            Role::Follows(reader) => self.follow(reader),
            role @ (Role::Passes | Role::Invalidates | Role::Refreshes | Role::Leads(_)) => {
                self.caching.role = role;
                Consulted::Forward
            }
        }
    }

    fn pass(&mut self, forwarded: Forwarded) -> Consulted {
        self.caching.role = Role::Passes;
        self.caching.forwarded = forwarded;
        match self.caching.asked.only_if_cached {
            true => Consulted::Refuse(Reason::OnlyIfCached),
            false => Consulted::Forward,
        }
    }

    /// Answers from what is stored, or says who fetches.
    fn look(&mut self) -> Consulted {
        let asked = self.caching.asked;
        if asked.no_store || conditional::needs_backend(self.request) {
            return self.pass(Forwarded::Request);
        }
        let found = self.find();
        self.caching.forwarded = match &found {
            Found::Nothing(forwarded) => *forwarded,
            Found::Passes => Forwarded::Bypass,
            Found::Entry(_) => Forwarded::Stale,
        };
        if matches!(found, Found::Passes) && render::asks(self.request) {
            // It would not be stored: what the client asks of the backend is for the backend to answer.
            return self.pass(Forwarded::Bypass);
        }
        let mut shares = !matches!(found, Found::Passes);
        if let Found::Entry(entry) = found {
            entry.touch();
            let mut note = Note::of(Did::Hit);
            match entry.terms().standing(&asked, self.now) {
                Standing::Fresh => return self.serve(Source::Entry(entry), note),
                Standing::Accepted => {
                    note.is_stale = true;
                    return self.serve(Source::Entry(entry), note);
                }
                Standing::Revalidating if !self.caching.knows_users => {
                    note.is_stale = true;
                    return self.refreshing(entry, note);
                }
                // A backend that is told who asks is not asked without an asker.
                Standing::Revalidating | Standing::Stale => {
                    if entry.terms().standing(&Asked::default(), self.now) == Standing::Fresh {
                        self.caching.forwarded = Forwarded::Request;
                    }
                    // The answer is good for its asker only.
                    shares = !entry.terms().no_cache;
                    self.caching.stale = Some(entry);
                }
            }
        }
        if asked.only_if_cached {
            return self.pass(Forwarded::Request);
        }
        if self.request.method == Method::Head {
            return self.pass(self.caching.forwarded);
        }
        if range::is_partial(self.request) {
            return self.pass(Forwarded::Partial);
        }
        self.fetch(shares)
    }

    /// Sends what is stale while it is validated, unless somebody already sees to that.
    fn refreshing(&mut self, entry: Arc<Entry>, note: Note) -> Consulted {
        let is_get = self.request.method == Method::Get;
        let refresh = match is_get.then(|| self.join()) {
            None | Some(Joined::Follows(_)) => None,
            Some(Joined::Leads(fill)) => Some(Box::new(Refresh {
                lead: Lead::new(self.cache, fill),
                caching: Box::new(self.caching.for_refresh(&entry, self.request)),
            })),
        };
        let from = Source::Entry(entry);
        Consulted::Serve(Serving {
            want: from.wanted(self.request),
            from,
            note,
            refresh,
        })
    }

    fn fetch(&mut self, shares: bool) -> Consulted {
        if !shares {
            return self.lead(Lead::alone(self.cache, self.caching.hash));
        }
        match self.join_fresh() {
            Joined::Follows(fill) => match Reader::new(&fill) {
                Some(reader) => self.follow(reader),
                None => self.again(),
            },
            Joined::Leads(fill) => {
                let lead = Lead::new(self.cache, fill);
                // It may have been stored between the look and the lead.
                if let Found::Entry(entry) = self.find()
                    && entry.terms().standing(&self.caching.asked, self.now) == Standing::Fresh
                {
                    return self.serve(Source::Entry(entry), Note::of(Did::Hit));
                }
                self.lead(lead)
            }
        }
    }

    fn lead(&mut self, lead: Lead) -> Consulted {
        self.caching.request.extend_from_slice(self.request.head);
        self.caching.role = Role::Leads(RefCell::new(Some(lead)));
        Consulted::Forward
    }

    /// A response that takes long to arrive may be stale before its end: who comes then asks anew.
    fn join_fresh(&self) -> Joined {
        let joined = self.join();
        if let Joined::Follows(fill) = &joined
            && let Some(begun) = fill.begun()
            && begun.terms.standing(&self.caching.asked, self.now) != Standing::Fresh
        {
            self.cache.fills.leave(fill);
            return self.join();
        }
        joined
    }

    fn join(&self) -> Joined {
        let caching = &*self.caching;
        self.cache
            .fills
            .join(caching.at, caching.hash, &caching.key)
    }

    fn find(&mut self) -> Found {
        let hash = self.caching.hash;
        self.caching.at = hash;
        let Some(first) = self.cache.table.get(hash) else {
            return Found::Nothing(Forwarded::UriMiss);
        };
        match first.kind() {
            Kind::Response => Found::Entry(first),
            Kind::Pass => match first.terms().standing(&Asked::default(), self.now) {
                Standing::Fresh => Found::Passes,
                Standing::Accepted | Standing::Revalidating | Standing::Stale => {
                    Found::Nothing(Forwarded::UriMiss)
                }
            },
            Kind::Varies { epoch } => {
                first.touch();
                let names = std::str::from_utf8(first.head()).unwrap_or_default();
                let mut values = Vec::with_capacity(64);
                vary::write(names, self.request, &mut values);
                self.caching.at = self.cache.table.hash_variant(hash, epoch, &values);
                match self.cache.table.get(self.caching.at) {
                    Some(entry) => Found::Entry(entry),
                    None => Found::Nothing(Forwarded::VaryMiss),
                }
            }
        }
    }

    /// Goes on with what another fetches, as far as that has come.
    fn follow(&mut self, reader: Reader) -> Consulted {
        // Before the look at it: a change between the two ends the wait at once.
        let version = reader.fill.version();
        let fill = Arc::clone(&reader.fill);
        if let Some(begun) = fill.begun() {
            let mut values = Vec::new();
            vary::write(&begun.vary, self.request, &mut values);
            if values != *begun.values {
                return self.again();
            }
        }
        if let Some(Ended::Failed(_) | Ended::Erred) = fill.ended()
            && let Some((entry, note)) = self.caching.stands_in(self.now)
        {
            return self.serve(Source::Entry(entry), note);
        }
        match (fill.begun(), fill.ended()) {
            (_, Some(Ended::Whole(entry))) => {
                self.serve(Source::Entry(Arc::clone(entry)), self.collapsed())
            }
            (Some(_), None | Some(Ended::Unstored)) => {
                self.serve(Source::Fill(reader), self.collapsed())
            }
            (None, None) => {
                self.caching.role = Role::Follows(reader);
                Consulted::Wait(version)
            }
            (None, Some(Ended::Failed(reason))) => Consulted::Refuse(*reason),
            (_, Some(Ended::Passed | Ended::Erred)) if fill.takes_turn() => {
                self.caching.turn = Some(Turn(fill));
                self.pass(Forwarded::Bypass)
            }
            (_, Some(Ended::Passed | Ended::Erred)) => {
                self.caching.role = Role::Follows(reader);
                Consulted::Wait(version)
            }
            (Some(_), Some(Ended::Cut(_) | Ended::Failed(_) | Ended::Released))
            | (None, Some(Ended::Cut(_) | Ended::Unstored | Ended::Released)) => self.again(),
        }
    }

    /// What it waited for is not for it.
    fn again(&mut self) -> Consulted {
        self.caching.rounds += 1;
        match self.caching.rounds {
            ..=ROUNDS_MAX => self.look(),
            _ => self.pass(self.caching.forwarded),
        }
    }

    fn serve(&self, from: Source, note: Note) -> Consulted {
        Consulted::Serve(Serving {
            want: from.wanted(self.request),
            from,
            note,
            refresh: None,
        })
    }

    fn collapsed(&self) -> Note {
        Note {
            collapsed: true,
            ..Note::of(Did::Forwarded(self.caching.forwarded))
        }
    }
}
