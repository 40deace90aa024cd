//! `[cache]`: what a route stores, and what the process has room for.
//!
//! Decides: which parts of a request its key has, how long a status is fresh, and what of the section could never take
//! effect, or would let one client decide what all others get. May not know: requests, responses, what is stored. Invariant: in the rules of a route each status stands once,
//! and parameters are told apart only where the key has the query.

use std::collections::HashSet;

use super::address::is_token;
use super::causes;
use super::chain::Chain;
use super::file::File;
use super::keys::Key;
use super::kinds::{CACHE_PARTS_MAX, CAUSES_MAX, ENTRIES_MAX, Kind, TTL_MAX_NS};
use super::levels::{Levels, Once, Place};
use super::list::list;
use super::plan::{HostPolicy, Nanos, Route};
use super::read::{Node, Raw};
use super::report::{Fault, Notes, nearest};
use super::units::{parse_duration, show_duration};
use super::value::{Value, array, show};
use crate::policy::cache::{Budget, KeyRule, QueryRule, Rules, vary};
use crate::policy::filter::headers::is_named;
use crate::policy::retry::Statuses;

pub(super) const SECTION: &str = "cache";
const SECOND: Nanos = 1_000_000_000;
/// Auto has an entry for so many bytes.
const ENTRY_BYTES: u64 = 1024;
const ENTRIES_LEAST: u64 = 1024;
/// A part of a response, and what renews one: they have no life of their own.
const NEVER_STORED: [(u16, &str); 2] = [
    (206, "a part of a response counts as the whole does"),
    (304, "what it renews counts by its own status"),
];

/// One part of the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    Scheme,
    Host,
    Path,
    Query,
    /// Lower-case name.
    Header(Box<str>),
    Cookie(Box<str>),
}

/// How long responses of some statuses are fresh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusTtl {
    statuses: Statuses,
    ttl_s: u32,
}

impl StatusTtl {
    fn statuses(&self) -> impl Iterator<Item = u16> {
        let ranges = self.statuses.0.iter();
        let each = ranges.flat_map(|(first, last)| *first..=*last);
        each.filter(|status| NEVER_STORED.iter().all(|(never, _)| never != status))
    }
}

pub(super) fn key(node: &Node, kind: &Kind, path: &str, notes: &mut Notes) -> Option<Box<[Part]>> {
    let parts = list(node, kind, path, CACHE_PARTS_MAX, part, notes)?;
    if !parts.contains(&Part::Path) {
        let fault = Fault::new("without \"path\" one page would be served for all");
        notes.add(&node.at, path, fault.hint("add \"path\""));
        return None;
    }
    Some(parts.into())
}

fn part(text: &str) -> Result<Part, Fault> {
    let (kind, name) = match text.split_once(':') {
        Some((kind, name)) => (kind, Some(name)),
        None => (text, None),
    };
    match (kind, name) {
        ("scheme", None) => Ok(Part::Scheme),
        ("host", None) => Ok(Part::Host),
        ("path", None) => Ok(Part::Path),
        ("query", None) => Ok(Part::Query),
        ("header" | "cookie", Some(name)) if !is_token(name) => {
            Err(Fault::new(format!("\"{name}\" is no name of a {kind}")))
        }
        ("header", Some(name)) => field(name),
        ("cookie", Some(name)) => Ok(Part::Cookie(name.into())),
        (_, None) => {
            let near = nearest(kind, ["scheme", "host", "path", "query"]);
            Err(no_part(text, near.map(str::to_owned)))
        }
        (_, Some(name)) => {
            let near = nearest(kind, ["header", "cookie"]);
            Err(no_part(text, near.map(|near| format!("{near}:{name}"))))
        }
    }
}

/// A field that reaches backends as it came.
fn field(name: &str) -> Result<Part, Fault> {
    let lower: Box<str> = name.to_ascii_lowercase().into();
    if &*lower == "host" {
        let fault = Fault::new(format!("{name} has a part of its own"));
        return Err(fault.hint("write \"host\""));
    }
    if vary::is_rewritten(lower.as_bytes()) {
        let fault = format!("Corelane writes {name} itself, by who the client is");
        let hint = "backends do not get what clients say there";
        return Err(Fault::new(fault).hint(hint));
    }
    Ok(Part::Header(lower))
}

fn no_part(text: &str, guess: Option<String>) -> Fault {
    Fault::new(format!("\"{text}\" is no part of a key")).hint(match guess {
        Some(guess) => format!("did you mean \"{guess}\"?"),
        None => format!("it is {}", Kind::CacheKey.bounds()),
    })
}

pub(super) fn show_key(parts: &[Part]) -> String {
    array(parts.iter().map(|part| match part {
        Part::Scheme => "scheme".to_owned(),
        Part::Host => "host".to_owned(),
        Part::Path => "path".to_owned(),
        Part::Query => "query".to_owned(),
        Part::Header(name) => format!("header:{name}"),
        Part::Cookie(name) => format!("cookie:{name}"),
    }))
}

/// A parameter of a query by its name, or by the beginning of it.
pub(super) fn parameter(text: &str) -> Result<Box<str>, Fault> {
    let good = |b: u8| b.is_ascii_graphic() && !matches!(b, b'&' | b'=' | b'#' | b'*');
    let name = text.strip_suffix('*').unwrap_or(text);
    match name.is_empty() {
        true if text == "*" => {
            Err(Fault::new("\"*\" names every parameter").hint("leave \"query\" out of the key"))
        }
        false if name.bytes().all(good) => Ok(text.into()),
        true | false => {
            let fault = Fault::new(format!("\"{text}\" is no name of a parameter"));
            Err(fault.hint("write \"page\" or \"utm_*\", percent-encoded as in a request"))
        }
    }
}

pub(super) fn status_ttls(
    node: &Node,
    kind: &Kind,
    path: &str,
    notes: &mut Notes,
) -> Option<Vec<StatusTtl>> {
    let all = list(node, kind, path, CAUSES_MAX, status_ttl, notes)?;
    let mut seen = HashSet::new();
    let mut good = true;
    for (at, each) in all.iter().enumerate() {
        let before = seen.len();
        seen.extend(each.statuses());
        if seen.len() == before {
            let fault = Fault::new("it never takes effect: its statuses stand before it");
            let (place, path) = match &node.raw {
                Raw::List(nodes) => (&nodes[at].at, &*format!("{path}[{at}]")),
                Raw::Text { .. }
                | Raw::Integer(_)
                | Raw::Flag(_)
                | Raw::Table(_)
                | Raw::Other(_) => (&node.at, path),
            };
            notes.add(
                place,
                path,
                fault.hint("the first that has a status counts"),
            );
            good = false;
        }
    }
    good.then_some(all)
}

/// `404: 10s`, `301 308: 1h`.
fn status_ttl(text: &str) -> Result<StatusTtl, Fault> {
    let hint = "write \"404: 10s\" or \"301 308: 1h\"";
    let Some((statuses, ttl)) = text.split_once(':') else {
        return Err(Fault::new(format!("\"{text}\" has no duration")).hint(hint));
    };
    let mut ranges = Vec::new();
    for word in statuses.split_whitespace() {
        let range = causes::status(word)?;
        if let Some((status, why)) = NEVER_STORED
            .iter()
            .find(|(status, _)| range == (*status, *status))
        {
            return Err(Fault::new(format!("{status} is never stored")).hint(*why));
        }
        ranges.push(range);
    }
    if ranges.is_empty() {
        return Err(Fault::new(format!("\"{text}\" has no status")).hint(hint));
    }
    let ttl = ttl.trim();
    let ttl_ns = parse_duration(ttl)?;
    if !(SECOND..=TTL_MAX_NS).contains(&ttl_ns) {
        let (least, most) = (show_duration(SECOND), show_duration(TTL_MAX_NS));
        return Err(Fault::new(format!("\"{ttl}\" is not in {least} to {most}")));
    }
    if !ttl_ns.is_multiple_of(SECOND) {
        return Err(Fault::new(format!(
            "\"{ttl}\" is no whole number of seconds"
        )));
    }
    Ok(StatusTtl {
        statuses: Statuses(ranges.into()),
        ttl_s: seconds(ttl_ns),
    })
}

pub(super) fn show_status_ttls(all: &[StatusTtl]) -> String {
    array(all.iter().map(|each| {
        let statuses: Vec<String> = causes::show_statuses(&each.statuses).collect();
        let ttl = show_duration(u64::from(each.ttl_s) * SECOND);
        format!("{}: {ttl}", statuses.join(" "))
    }))
}

fn seconds(nanos: Nanos) -> u32 {
    u32::try_from(nanos / SECOND).expect("ten years of seconds fit")
}

/// What a route stores, if it does.
pub(super) fn rules(chain: &Chain<'_>) -> Option<Rules> {
    if !chain.flag(Key::Cache) {
        return None;
    }
    let seconds = |key| seconds(chain.number(key));
    let default_ttl_s = seconds(Key::CacheTtl);
    Some(Rules {
        object_bytes_max: chain.number(Key::CacheMaxObject),
        default_ttl_s: (default_ttl_s > 0).then_some(default_ttl_s),
        status_ttls: each_status(chain),
        heuristics: chain.flag(Key::CacheHeuristics),
        stale_while_revalidate_s: seconds(Key::CacheWhileRevalidate),
        stale_if_error_s: seconds(Key::CacheIfError),
        request_directives: chain.flag(Key::CacheRequestDirectives),
        set_cookie: chain.flag(Key::CacheSetCookie),
        cdn_cache_control: chain.flag(Key::CacheCdnControl),
        status_field: chain.flag(Key::CacheStatusField),
        collapse_ns: chain.number(Key::CacheCollapse),
        key: key_rule(chain),
    })
}

/// Of each status the first.
fn each_status(chain: &Chain<'_>) -> Box<[(u16, u32)]> {
    let Value::StatusTtls(all) = chain.value(Key::CacheStatusTtls) else {
        unreachable!("cache.ttl_by_status has statuses")
    };
    let mut seen = HashSet::new();
    let each = all.iter();
    let each = each.flat_map(|one| one.statuses().map(|status| (status, one.ttl_s)));
    each.filter(|(status, _)| seen.insert(*status)).collect()
}

fn header(part: &Part) -> Option<&str> {
    match part {
        Part::Header(name) => Some(name),
        Part::Scheme | Part::Host | Part::Path | Part::Query | Part::Cookie(_) => None,
    }
}

fn key_rule(chain: &Chain<'_>) -> KeyRule {
    let Value::CacheKey(parts) = chain.value(Key::CacheKey) else {
        unreachable!("cache.key is a key")
    };
    let lists = [Key::CacheQueryOnly, Key::CacheQueryExcept].map(|key| chain.words(key));
    let named =
        |of: fn(&Part) -> Option<&str>| parts.iter().filter_map(of).map(Box::from).collect();
    KeyRule {
        scheme: parts.contains(&Part::Scheme),
        host: parts.contains(&Part::Host),
        query: match lists {
            _ if !parts.contains(&Part::Query) => QueryRule::None,
            [[], []] => QueryRule::All,
            [[], except] => QueryRule::Except(except.into()),
            [only, _] => QueryRule::Only(only.into()),
        },
        sorts_query: chain.flag(Key::CacheSortQuery),
        fields: named(header),
        cookies: named(|part| match part {
            Part::Cookie(name) => Some(name),
            Part::Scheme | Part::Host | Part::Path | Part::Query | Part::Header(_) => None,
        }),
    }
}

/// What all routes share, if one of them caches.
pub(super) fn budget(top: &Chain<'_>, routes: &[Route]) -> Option<Budget> {
    let bytes_max = top.number(Key::CacheMaxBytes);
    let auto = (bytes_max / ENTRY_BYTES).clamp(ENTRIES_LEAST, ENTRIES_MAX);
    let auto = || u32::try_from(auto).expect("the most is bounded");
    let caches = routes.iter().any(|route| route.cache.is_some());
    caches.then(|| Budget {
        bytes_max,
        entries_max: top
            .small_or_unset(Key::CacheMaxEntries)
            .unwrap_or_else(auto),
    })
}

/// Notes what contradicts itself where something is cached. `entries` are the settings that count for each route.
pub(super) fn check(file: &File, entries: &[Levels<'_>], once: &mut Once<'_>) {
    own_answers(file, once);
    let caching: Vec<&Levels<'_>> = entries
        .iter()
        .filter(|levels| levels.is_on(Key::Cache))
        .collect();
    for levels in &caching {
        object(levels, once);
        both_lists(levels, once);
        host(levels, once);
        written(levels, once);
    }
    without_query(&caching, once);
}

/// What a proxy answers itself is at hand already.
fn own_answers(file: &File, once: &mut Once<'_>) {
    let own = file.routes.iter().enumerate();
    for (at, route) in own.filter(|(_, route)| route.own.is_some()) {
        let section = route.settings.iter();
        for (key, found) in section.filter(|(key, _)| key.section() == SECTION) {
            // Written down to be off, it is as it should be.
            if (*key, &found.value) != (Key::Cache, &Value::Flag(false)) {
                let path = format!("routes[{at}].{}", key.spec().path);
                let fault = Fault::new("it never takes effect: no backend answers in this route");
                once.notes.add(&found.at, &path, fault);
            }
        }
    }
}

/// One response must not push out nearly everything.
fn object(levels: &Levels<'_>, once: &mut Once<'_>) {
    let (object, bytes) = (Key::CacheMaxObject, Key::CacheMaxBytes);
    let (Some(one), Some(all)) = (levels.find(object), levels.find(bytes)) else {
        return;
    };
    let (Value::Number(one_bytes), Value::Number(all_bytes)) = (&one.found.value, &all.found.value)
    else {
        return;
    };
    if *one_bytes <= all_bytes / 2 {
        return;
    }
    // The nearer one was written with the other in force.
    if one.level <= all.level {
        let shown = show(bytes, &all.found.value);
        let fault = format!("more than half of cache.max_bytes, which is {shown}");
        once.add(&one, Fault::new(fault));
    } else {
        let shown = show(object, &one.found.value);
        let fault = format!("less than twice cache.max_object, which is {shown}");
        let half = object.spec().kind.number(all_bytes / 2);
        let hint = format!("set cache.max_object to {half} or less");
        once.add(&all, Fault::new(fault).hint(hint));
    }
}

fn is_set(place: &Place<'_>) -> bool {
    match &place.found.value {
        Value::Words(words) => !words.is_empty(),
        value => *value == Value::Flag(true),
    }
}

fn both_lists(levels: &Levels<'_>, once: &mut Once<'_>) {
    let find = |key| levels.find(key).filter(is_set);
    let (Some(only), Some(except)) = (find(Key::CacheQueryOnly), find(Key::CacheQueryExcept))
    else {
        return;
    };
    let (place, other) = if only.level < except.level {
        (&only, Key::CacheQueryExcept)
    } else {
        (&except, Key::CacheQueryOnly)
    };
    let fault = Fault::new(format!("{} is set too", other.spec().path));
    once.add(
        place,
        fault.hint("keep one of them; an empty list takes back what is inherited"),
    );
}

/// The nearer of two was written with the other in force.
fn nearer<'p, 'a>(one: &'p Place<'a>, other: &'p Place<'a>) -> &'p Place<'a> {
    match one.level <= other.level {
        true => one,
        false => other,
    }
}

/// What a backend gets of a client, and the key does not have, decides what all others get.
fn host(levels: &Levels<'_>, once: &mut Once<'_>) {
    let (Some(key), Some(host)) = (levels.find(Key::CacheKey), levels.find(Key::Host)) else {
        return;
    };
    let Value::CacheKey(parts) = &key.found.value else {
        return;
    };
    if !parts.contains(&Part::Host) && host.found.value == Value::Host(HostPolicy::Pass) {
        let fault = "cache.key has no \"host\", but backends get the client's Host: one client's would decide what \
                     all others get";
        let hint =
            "add \"host\" to cache.key, or set forwarding.host to \"backend\" or to a fixed one";
        once.add(nearer(&key, &host), Fault::new(fault).hint(hint));
    }
}

/// A field that the route writes in requests itself, or takes from others than the client.
fn written(levels: &Levels<'_>, once: &mut Once<'_>) {
    let Some(key) = levels.find(Key::CacheKey) else {
        return;
    };
    let Value::CacheKey(parts) = &key.found.value else {
        return;
    };
    let asks = levels.find(Key::AuthCluster);
    let asks = asks.is_some_and(|cluster| cluster.found.value != Value::Unset);
    for writer in [
        Key::RequestSet,
        Key::RequestAdd,
        Key::IdHeader,
        Key::Traceparent,
        Key::AuthCopy,
    ] {
        let Some(place) = levels
            .find(writer)
            .filter(|_| asks || writer != Key::AuthCopy)
        else {
            continue;
        };
        let of_header = parts.iter().filter_map(header);
        let mut written = of_header.filter(|name| writes(&place.found.value, name));
        if let Some(name) = written.next() {
            let path = writer.spec().path;
            let fault = format!("cache.key has \"header:{name}\", which {path} writes");
            let hint = "backends do not get what clients say there: take it out of one of them";
            once.add(nearer(&key, &place), Fault::new(fault).hint(hint));
        }
    }
}

/// Whether a setting writes this field.
fn writes(setting: &Value, name: &str) -> bool {
    let is = |known: &str| is_named(name, known);
    if let Value::Edits(edits) = setting {
        edits.iter().any(|edit| is(&edit.name))
    } else if let Value::Words(names) = setting {
        names.iter().any(|known| is(known))
    } else if let Value::Text(known) = setting {
        is(known)
    } else {
        *setting == Value::Flag(true) && (is("traceparent") || is("tracestate"))
    }
}

/// What says which parameters count, where none does.
fn without_query(caching: &[&Levels<'_>], once: &mut Once<'_>) {
    let mut counting = HashSet::new();
    let mut idle = Vec::new();
    for levels in caching {
        for key in [
            Key::CacheQueryOnly,
            Key::CacheQueryExcept,
            Key::CacheSortQuery,
        ] {
            let Some(place) = levels.find(key).filter(is_set) else {
                continue;
            };
            match levels.find(Key::CacheKey).map(|key| &key.found.value) {
                Some(Value::CacheKey(parts)) if !parts.contains(&Part::Query) => idle.push(place),
                Some(_) | None => drop(counting.insert(place.path)),
            }
        }
    }
    for place in idle {
        if !counting.contains(&place.path) {
            let fault = Fault::new("it never takes effect: cache.key has no \"query\"");
            once.add(&place, fault);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_with_a_time_read_and_show_alike() {
        for good in ["404: 10s", "301 308: 1h", "404 410 5xx: 1s", "500-504: 90s"] {
            let read = status_ttl(good).map_err(|fault| panic!("{good}: {}", fault.message));
            assert_eq!(show_status_ttls(&[read.unwrap()]), format!("[\"{good}\"]"));
        }
        let spaced = status_ttl("  404\t410 :60s ").map(|read| show_status_ttls(&[read]));
        assert_eq!(spaced.unwrap(), "[\"404 410: 1m\"]");
        for (text, message) in [
            ("404", "\"404\" has no duration"),
            ("", "\"\" has no duration"),
            (": 1s", "\": 1s\" has no status"),
            ("404:", "\"\" has no unit"),
            ("404: 10", "\"10\" has no unit"),
            ("404, 410: 10s", "\"404,\" is no status"),
            ("404: 10s: 5s", "\"s: 5s\" is no unit"),
            ("404: 0s", "\"0s\" is not in 1s to 87600h"),
            ("404: 87601h", "\"87601h\" is not in 1s to 87600h"),
            ("404: 1500ms", "\"1500ms\" is no whole number of seconds"),
            ("any: 1s", "\"any\" is no status"),
            ("100: 1s", "\"100\" is not in 200 to 599"),
            ("1xx: 1s", "\"1xx\" is not in 200 to 599"),
            ("200 206: 1s", "206 is never stored"),
            ("304: 1s", "304 is never stored"),
        ] {
            let found = status_ttl(text).map_err(|fault| fault.message);
            assert_eq!(found, Err(message.to_owned()), "{text}");
        }
    }

    #[test]
    fn a_class_leaves_out_what_is_never_stored() {
        for (text, count, never) in [("2xx: 1s", 99, 206), ("3xx: 1s", 99, 304)] {
            let all: Vec<u16> = status_ttl(text).unwrap().statuses().collect();
            assert_eq!((all.len(), all.contains(&never)), (count, false), "{text}");
        }
    }

    #[test]
    fn names_of_parameters() {
        for good in ["page", "utm_*", "a%20b", "a[]", "x"] {
            assert_eq!(
                parameter(good).map_err(|fault| fault.message),
                Ok(good.into())
            );
        }
        for bad in ["", "*", "a=b", "a&b", "a b", "*a", "a**", "ä", "a#"] {
            assert!(parameter(bad).is_err(), "{bad}");
        }
    }
}
