//! What is counted per client, or per any other key, in the whole process.
//!
//! Decides: nothing but which keys are whose. May not know: requests. Invariant: no table grows, and none takes a lock
//! for a key that it knows.

use std::cell::RefCell;
use std::fmt;
use std::net::IpAddr;

use crate::config::plan::{Nanos, Plan};
use crate::io::Io;
use crate::policy::RouteId;
use crate::policy::limit::fields::Lines;
use crate::policy::limit::{
    Counts, Decision, Entered, Hasher, Leases, LimitId, Mode, Quota, RateLimit, Seed, Table,
};
use crate::shard::Shard;

/// Addresses with open connections, and clients with requests in flight, per shard.
const KEYS_PER_SHARD: usize = 65_536;

const SECOND_NS: Nanos = 1_000_000_000;

/// Written by all shards, a word at a time; see `policy::limit`.
pub struct Tables {
    /// Nobody outside knows it, so nobody can choose keys that share a cell.
    pub seed: Seed,
    /// Indexed by `LimitId`.
    pub limits: Box<[Table]>,
    /// What responses say of them; never written.
    pub lines: Box<[Lines]>,
    /// `None`: not limited.
    accepts: Option<Table>,
    connections: Option<Counts>,
    requests: Option<Counts>,
}

impl Tables {
    pub fn new(plan: &Plan, shards: usize, secret: &[u8; 32]) -> Tables {
        let half = |at: usize| {
            let bytes = secret[at..].first_chunk().expect("a secret is longer");
            u64::from_le_bytes(*bytes)
        };
        let seed = Seed(half(0), half(8));
        let each = u32::try_from(shards).unwrap_or(u32::MAX);
        let limits = plan.rate_limits.iter();
        let keys = KEYS_PER_SHARD.saturating_mul(shards);
        let accepts = plan.accepts_per_ip_max;
        let quota = Quota {
            interval_ns: SECOND_NS.div_ceil(u64::from(accepts.max(1))),
            burst: accepts.max(1),
            period_ns: SECOND_NS,
            requests: accepts,
        };
        let counts_requests = |most: u32| (most > 0).then(|| Counts::new(keys));
        let requests = plan.routes.iter().map(|route| route.requests_per_ip_max);
        let line = |limit: &RateLimit| Lines::new(limit.fields, &limit.name, &limit.quota);
        Tables {
            seed,
            lines: plan.rate_limits.iter().map(line).collect(),
            limits: limits
                .map(|limit| Table::new(&limit.quota, limit.keys_max, each))
                .collect(),
            accepts: (accepts > 0).then(|| Table::new(&quota, KEYS_PER_SHARD, each)),
            connections: counts_requests(plan.connections_per_ip_max),
            requests: counts_requests(requests.max().unwrap_or(0)),
        }
    }

    /// Those of one shard, for the limits that are leased.
    pub fn leases(&self, plan: &Plan, shards: usize) -> Vec<Option<RefCell<Leases>>> {
        let shards = u32::try_from(shards).unwrap_or(u32::MAX);
        let each = plan.rate_limits.iter().zip(&self.limits);
        let each = each.map(|(limit, table)| match limit.mode {
            Mode::Exact => None,
            Mode::Leased { lease } => Some(RefCell::new(Leases::new(table, lease, shards))),
        });
        each.collect()
    }

    fn key(&self, ip: IpAddr) -> u64 {
        Hasher::new(self.seed).ip(ip).finish()
    }

    /// The address may open one more connection now.
    pub fn may_connect(&self, ip: IpAddr, now: Nanos) -> bool {
        let Some(accepts) = &self.accepts else {
            return true;
        };
        match accepts.take(self.key(ip), now) {
            Decision::Admitted { .. } => true,
            Decision::Limited { .. } | Decision::Full => false,
        }
    }

    /// One more connection of the address, unless it has its most; then `connection_closed` is due.
    pub fn connection_opens(&self, ip: IpAddr, most: u32) -> bool {
        enters(self.connections.as_ref(), self.key(ip), most)
    }

    pub fn connection_closed(&self, ip: IpAddr) {
        if let Some(connections) = &self.connections {
            connections.leave(self.key(ip));
        }
    }

    /// One more request of the client in the route, unless it has its most; then `request_leaves` is due.
    pub fn request_enters(&self, route: RouteId, ip: IpAddr, most: u32) -> bool {
        enters(self.requests.as_ref(), self.request_key(route, ip), most)
    }

    pub fn request_leaves(&self, route: RouteId, ip: IpAddr) {
        if let Some(requests) = &self.requests {
            requests.leave(self.request_key(route, ip));
        }
    }

    fn request_key(&self, route: RouteId, ip: IpAddr) -> u64 {
        let hasher = Hasher::new(self.seed).ip(ip);
        hasher.bytes(&route.0.to_le_bytes()).finish()
    }

    /// Forgets what no longer says anything. Every shard calls it at its tick.
    pub fn sweep(&self, now: Nanos) {
        for table in self.limits.iter().chain(&self.accepts) {
            table.sweep(now);
        }
    }
}

impl fmt::Debug for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the seed.
        f.debug_struct("Tables")
            .field("limits", &self.limits.len())
            .finish_non_exhaustive()
    }
}

/// A table without room refuses: what cannot be counted cannot be bounded.
fn enters(counts: Option<&Counts>, key: u64, most: u32) -> bool {
    match counts.map(|counts| counts.enter(key, most)) {
        Some(Entered::Yes) => true,
        Some(Entered::TooMany | Entered::Full) | None => false,
    }
}

impl<I: Io> Shard<I> {
    /// Whether a request with this key may pass the limit now.
    pub fn take(&self, id: LimitId, key: u64, now: Nanos) -> Decision {
        let table = &self.shared.tables.limits[id.0 as usize];
        match &self.leases[id.0 as usize] {
            None => table.take(key, now),
            Some(leases) => leases.borrow_mut().take(table, key, now),
        }
    }

    /// Gives back what was taken ahead, and forgets keys that say nothing any more.
    pub fn sweep_limits(&self) {
        let now = self.io.now();
        for (leases, table) in self.leases.iter().zip(&self.shared.tables.limits) {
            if let Some(leases) = leases {
                leases.borrow_mut().expire(table, now);
            }
        }
        self.shared.tables.sweep(now);
    }
}
