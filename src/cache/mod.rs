//! The response cache: one for the process, read by all shards without a lock.
//!
//! Decides: what of a request is answered from what is stored, who fetches what is not, and who is told. May not know:
//! the rules of HTTP caching (`policy::cache`). Invariant: what a client gets was stored, or is being fetched, under the
//! key and the variant of its own request.

pub mod bell;
pub mod caching;
pub mod coded;
pub mod consult;
pub mod deliver;
pub mod entry;
pub mod fill;
pub mod filling;
pub mod keep;
pub mod lead;
pub mod note;
mod partition;
pub mod purge;
pub mod refresh;
pub mod render;
pub mod serve;
pub mod table;
pub mod watch;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bell::Bell;
use entry::Entry;
use fill::Fills;
use table::Table;

use crate::config::plan::Route;
use crate::policy::cache::Budget;

/// What all shards share.
pub struct Cache {
    pub table: Table,
    pub fills: Fills,
    /// Of the next list of fields that responses vary by.
    epochs: AtomicU64,
}

impl Cache {
    pub fn new(budget: Budget, shards: usize, secret: &[u8; 32]) -> Cache {
        let bells: Arc<[Bell]> = (0..shards).map(|_| Bell::new()).collect();
        Cache {
            table: Table::new(budget, secret),
            fills: Fills::new(bells),
            epochs: AtomicU64::new(1),
        }
    }

    /// The place of a key. What a route answers is not for those of another, who may have come by other conditions.
    pub fn hash(&self, route: &Route, key: &[u8]) -> u128 {
        self.table.hash_within(route.name.as_bytes(), key)
    }

    /// Forgets a key, whatever its variants. Whether something was there. What is being fetched for it is not stored.
    pub fn invalidate(&self, hash: u128) -> bool {
        // First, so that nothing is stored behind it.
        self.fills.outdate(hash);
        // Most often nothing is there, and no lock is needed to see it.
        self.table.get(hash).is_some() && self.table.remove(hash)
    }

    /// Forgets all that match; nothing of what is being fetched meanwhile is stored. How many there were.
    pub fn purge(&self, matches: impl Fn(&Entry) -> bool) -> u64 {
        // First, so that nothing is stored behind the sweep.
        self.fills.outdate_all();
        self.table.sweep(matches)
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("figures", &self.table.figures())
            .finish_non_exhaustive()
    }
}
