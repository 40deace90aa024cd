//! What the cache has to do with one request, from its head to its end.
//!
//! Decides: what of it goes to a backend when it fetches for others too. May not know: what is stored. Invariant: of what
//! one client says, only that reaches a backend on others' behalf which is in the key, or is a condition of ours.

use std::cell::RefCell;
use std::mem::take;
use std::sync::Arc;

use super::entry::Entry;
use super::fill::{Ended, Fill, Reader};
use super::lead::{Lead, STORED};
use super::note::{Did, Forwarded, Note};
use crate::h1::Method;
use crate::h1::head::{Request, Slots, parse_response};
use crate::metrics::Reason;
use crate::policy::Nanos;
use crate::policy::cache::conditional::{self, Validators};
use crate::policy::cache::control::Asked;

/// What the cache has to do with a request.
#[derive(Debug)]
pub struct Caching {
    /// The text of the key.
    pub key: Vec<u8>,
    /// Of the key, whatever the variant.
    pub hash: u128,
    /// Where its response is looked for: `hash`, or that of its variant.
    pub at: u128,
    pub asked: Asked,
    /// The response may be for one user: only one that says that it is for all is stored.
    pub authorized: bool,
    /// The route's filters want to know who asks.
    pub knows_users: bool,
    pub role: Role,
    /// What is stored, stale: to be validated, or to stand in for an error.
    pub stale: Option<Arc<Entry>>,
    pub forwarded: Forwarded,
    /// Its head, where it is needed after the response: it leads, or it makes invalid.
    pub request: Vec<u8>,
    /// Responses to requests by http and by https, and for different hosts, differ.
    pub is_scheme_keyed: bool,
    pub is_host_keyed: bool,
    pub rounds: u8,
    /// How long it waits for others; 0: it has not begun to.
    pub until: Nanos,
    pub collapse_ns: Nanos,
    /// Goes on by itself after it has waited in vain.
    pub turn: Option<Turn>,
}

#[derive(Debug)]
pub enum Role {
    /// Nothing is known yet.
    New,
    /// As if there were no cache.
    Passes,
    /// Its response makes what is stored invalid.
    Invalidates,
    /// Fetches, perhaps for others too; `None` when another task does the rest.
    Leads(RefCell<Option<Lead>>),
    /// Validates what its client has got already.
    Refreshes,
    /// Waits for what another fetches.
    Follows(Reader),
}

/// The right to go on by itself.
#[derive(Debug)]
pub struct Turn(pub Arc<Fill>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.turn_ends();
    }
}

impl Default for Caching {
    fn default() -> Self {
        Caching::new(Role::New, Forwarded::UriMiss)
    }
}

impl Caching {
    pub fn new(role: Role, forwarded: Forwarded) -> Caching {
        Caching {
            key: Vec::new(),
            hash: 0,
            at: 0,
            asked: Asked::default(),
            authorized: false,
            knows_users: false,
            role,
            stale: None,
            forwarded,
            request: Vec::new(),
            is_scheme_keyed: true,
            is_host_keyed: true,
            rounds: 0,
            until: 0,
            collapse_ns: 0,
            turn: None,
        }
    }

    /// As new. Its memory is used again, so that hits allocate nothing.
    pub fn clear(&mut self) {
        let (mut key, mut request) = (take(&mut self.key), take(&mut self.request));
        key.clear();
        request.clear();
        *self = Caching {
            key,
            request,
            ..Caching::default()
        };
    }

    /// What it waits for, and until when.
    pub fn awaited(&mut self, now: Nanos) -> Option<(Arc<Fill>, Nanos)> {
        let Role::Follows(reader) = &self.role else {
            return None;
        };
        if self.until == 0 {
            self.until = now.saturating_add(self.collapse_ns);
        }
        Some((Arc::clone(&reader.fill), self.until))
    }

    /// It has waited for long enough.
    pub fn gives_up(&mut self) {
        self.role = Role::Passes;
    }

    /// The same for who validates the entry beside a request that has got it.
    pub fn for_refresh(&self, entry: &Arc<Entry>, request: &Request<'_, '_>) -> Caching {
        Caching {
            key: self.key.clone(),
            hash: self.hash,
            at: self.at,
            authorized: self.authorized,
            stale: Some(Arc::clone(entry)),
            request: request.head.to_vec(),
            is_scheme_keyed: self.is_scheme_keyed,
            is_host_keyed: self.is_host_keyed,
            ..Caching::new(Role::Refreshes, Forwarded::Stale)
        }
    }

    /// What is sent in place of an error (RFC 5861 section 4).
    pub fn stands_in(&self, now: Nanos) -> Option<(Arc<Entry>, Note)> {
        let entry = self.stale.as_ref()?;
        let note = Note {
            is_stale: true,
            ..Note::of(Did::Hit)
        };
        let stands_in = entry.terms().stands_in(&self.asked, now);
        stands_in.then(|| (Arc::clone(entry), note))
    }

    /// The request goes to a backend for all who want the same.
    pub fn fetches(&self) -> bool {
        match self.role {
            Role::Leads(_) | Role::Refreshes => true,
            Role::New | Role::Passes | Role::Invalidates | Role::Follows(_) => false,
        }
    }

    /// Fields of the request that do not pass then: conditions and ranges are met from what is stored, and the others
    /// would make another request of it than its key says.
    pub fn drops(&self, name: &str) -> bool {
        // Of the request that has got its answer.
        const NOBODYS: [&str; 2] = ["cache-control", "pragma"];
        const DROPPED: [&str; 19] = [
            "if-none-match",
            "if-modified-since",
            "if-range",
            "range",
            "x-original-url",
            "x-rewrite-url",
            "x-http-method",
            "x-http-method-override",
            "x-method-override",
            "x-forwarded-prefix",
            "x-forwarded-path",
            "x-forwarded-server",
            "x-forwarded-scheme",
            "x-forwarded-ssl",
            "x-url-scheme",
            "front-end-https",
            "x-host",
            "x-http-host-override",
            "x-original-host",
        ];
        let is = |known: &&str| name.eq_ignore_ascii_case(known);
        DROPPED.iter().any(is)
            || !self.leads() && NOBODYS.iter().any(is)
            || !self.is_scheme_keyed && is(&"x-forwarded-proto")
            || !self.is_host_keyed && is(&"x-forwarded-host")
    }

    /// Appends the conditions under which the backend need not send it again.
    pub fn ask(&self, out: &mut Vec<u8>) {
        let Some(stale) = &self.stale else { return };
        let mut slots = Slots::new();
        if let Ok(Some(stored)) = parse_response(stale.head(), &STORED, Method::Get, &mut slots) {
            conditional::write_question(&Validators::of(&stored), out);
        }
    }

    /// Whether it fetches, now or before.
    pub fn leads(&self) -> bool {
        matches!(self.role, Role::Leads(_))
    }

    /// Leaves the rest to another task, or to others who wait.
    pub fn hand_over(&self) -> Option<Lead> {
        match &self.role {
            Role::Leads(lead) => lead.take(),
            Role::New | Role::Passes | Role::Invalidates | Role::Refreshes | Role::Follows(_) => {
                None
            }
        }
    }

    /// No backend gave an answer.
    pub fn fails(&self, reason: Reason) {
        if let Some(lead) = self.hand_over() {
            lead.end(Ended::Failed(reason));
        }
    }
}
