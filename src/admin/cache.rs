//! The cache as an operator sees and empties it: `/cache`.
//!
//! Decides: which figures there are, and what is said of a purge. May not know: sockets, which keys are meant.
//! Invariant: a purge is said once, with who asked for it; its answer comes when no shard finds any more what was purged.

use std::fmt::{Display, Write};
use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use crate::cache::Cache;
use crate::cache::purge::{Purge, purge as forget};
use crate::config::plan::Level;
use crate::json::Object;
use crate::log::event_json;
use crate::metrics::Counter;

use super::AdminState;
use super::parse::{Form, Refusal};

/// What the cache did with requests.
const RESULTS: [(&str, Counter); 7] = [
    ("hit", Counter::CacheHit),
    ("stale", Counter::CacheStale),
    ("revalidated", Counter::CacheRevalidated),
    ("collapsed", Counter::CacheCollapsed),
    ("expired", Counter::CacheExpired),
    ("miss", Counter::CacheMiss),
    ("bypass", Counter::CacheBypass),
];

fn cache(state: &AdminState) -> Result<&Cache, Refusal> {
    let off = "no route caches: cache.enabled = true, at the top level or in a route, turns it on";
    let cache = state.shared.cache.as_deref();
    cache.ok_or_else(|| Refusal::new(409, off))
}

pub(super) fn figures(state: &AdminState, form: Form) -> Result<String, Refusal> {
    let figures = cache(state)?.table.figures();
    let shards = &state.shared.metrics;
    let sum = |counter| -> u64 { shards.iter().map(|shard| shard.counter(counter)).sum() };
    let entries_max = state.shared.plan.cache.map(|budget| budget.entries_max);
    let stock = [
        ("entries", figures.entries),
        ("entries_max", u64::from(entries_max.unwrap_or_default())),
        ("bytes", figures.bytes),
        ("bytes_max", figures.bytes_max),
        ("evictions", figures.evictions),
        ("purged", state.shared.purged.load(Ordering::Relaxed)),
        ("stored", sum(Counter::CacheStored)),
        ("unstorable", sum(Counter::CacheUnstorable)),
        ("invalidated", sum(Counter::CacheInvalidated)),
    ];
    let results = RESULTS.map(|(name, counter)| (name, sum(counter)));
    Ok(match form {
        Form::Text => lines(&stock, &results),
        Form::Json => {
            let (mut out, mut requests) = (Object::default(), Object::default());
            for (name, number) in stock {
                out.number(name, number);
            }
            for (name, number) in results {
                requests.number(name, number);
            }
            out.raw("requests", &requests.finish());
            out.finish() + "\n"
        }
    })
}

fn lines(stock: &[(&str, u64)], results: &[(&str, u64)]) -> String {
    let mut out = String::new();
    for (name, number) in stock {
        let _ = writeln!(out, "{name:14} {number}");
    }
    let requests: u64 = results.iter().map(|(_, number)| number).sum();
    let _ = writeln!(out, "requests       {requests}");
    for (name, number) in results {
        let percent = *number as f64 * 100.0 / requests.max(1) as f64;
        let _ = writeln!(out, "  {name:12} {number} ({percent:.1} %)");
    }
    out
}

/// Does it, and says so. How many entries it were.
pub(super) fn purge(state: &AdminState, from: SocketAddr, what: &Purge) -> Result<u64, Refusal> {
    let cache = cache(state)?;
    let shared = &state.shared;
    let purged = forget(cache, &shared.plan, what);
    let purged = purged.map_err(|text| {
        let (name, value) = (what.name(), super::parse::shown(what.value()));
        Refusal::new(400, format!("{name} {value}: {text}"))
    })?;
    shared.purged.fetch_add(purged, Ordering::Relaxed);
    let value = what.value();
    let fields: [(&str, &dyn Display); 3] =
        [("peer", &from), (what.name(), &value), ("purged", &purged)];
    let (text, unix_ms) = ("the operator purges the cache", state.moment().unix_ms);
    state.events.say(unix_ms, Level::Info, text, &fields);
    let line = event_json(unix_ms, Level::Info, text, &fields);
    state.ledger.tell(&line.into());
    Ok(purged)
}

/// The answer to a purge.
pub(super) fn purged(state: &AdminState, count: u64, form: Form) -> String {
    let shards = state.shared.shards();
    match form {
        Form::Text => format!("purged {count}, from all {shards} shards\n"),
        Form::Json => {
            let mut out = Object::default();
            out.number("purged", count);
            out.number("shards", shards);
            out.finish() + "\n"
        }
    }
}
