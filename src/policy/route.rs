//! Host and path → route.
//!
//! Decides: which route a request belongs to. May not know: what a route does. Invariant: the
//! answer does not depend on how a client spells a path: escapes of letters and slashes, repeated
//! slashes and dot segments are resolved before the comparison, so that `/public/../admin`, `//admin`
//! and `/admin%2Fx` belong to the route of `/admin`. The bytes that are forwarded stay as they were.
//!
//! Order: rules of a higher priority before all lower ones; within one priority exact host, longest suffix, any host;
//! within a host the exact path, then the longest prefix; within a path the rules in their order. What does not match,
//! by its method or its conditions too, falls through to the next.

mod conditions;
pub(super) mod normal;
mod unreachable;

#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::net::IpAddr;

pub use self::conditions::Conditions;
use self::normal::{is_border, with_normal};
pub use self::unreachable::unreachable;
use super::RouteId;
use crate::h1::Method;
use crate::h1::head::Request;

/// What leads to a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Empty: any host.
    pub hosts: Vec<HostPattern>,
    pub path: PathPattern,
    /// Empty: any method.
    pub methods: Vec<MethodName>,
    pub conditions: Conditions,
    /// Rules of a higher one go before all of a lower one, however specific those are.
    pub priority: i32,
    pub route: RouteId,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostPattern {
    Exact(Box<str>),
    /// `*.example.org`, stored as `example.org`: one label or more before it.
    Suffix(Box<str>),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PathPattern {
    Exact(Box<str>),
    /// At segment borders: `/api` matches `/api` and `/api/x`, but not `/apix`; `/api/` only what
    /// is below it.
    Prefix(Box<str>),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum MethodName {
    Known(Method),
    Custom(Box<str>),
}

/// Why no route was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Miss {
    /// 404.
    NoRoute,
    /// 405: some rule wanted another method, and nothing else.
    Method,
}

/// Hosts longer than a DNS name (RFC 1035 section 2.3.4) match no pattern.
const HOST_BYTES_MAX: usize = 255;

/// The keys come from the configuration, so nobody can make them collide: no random seed is needed.
type Map<V> = HashMap<Box<[u8]>, V, BuildHasherDefault<DefaultHasher>>;

/// The routing table. A lookup costs a few hashes per segment of the configured patterns, however many rules there are;
/// only those of the same host and path are tried one by one.
#[derive(Debug, Default)]
pub struct Router {
    /// The route, if there is only one rule and it matches everything.
    catch_all: Option<RouteId>,
    exact: Map<Paths>,
    suffix: Map<Paths>,
    /// Lengths of the keys of `suffix`, longest first.
    suffix_lengths: Vec<usize>,
    any: Paths,
    /// The highest priority of all rules: what is found there needs no comparison with what is less specific.
    highest: i32,
}

/// The paths of one host.
#[derive(Debug, Default)]
struct Paths {
    /// The entries of a path begin with those of the highest priority.
    exact: Map<Vec<Entry>>,
    prefix: Map<Vec<Entry>>,
    /// Lengths of the keys of `prefix`, longest first.
    prefix_lengths: Vec<usize>,
}

#[derive(Debug, Clone)]
struct Entry {
    methods: Vec<MethodName>,
    /// `None` for most, so that a look at one word tells.
    conditions: Option<Box<Conditions>>,
    priority: i32,
    route: RouteId,
}

impl Router {
    pub fn build(mut rules: Vec<Rule>) -> Router {
        rules.sort_by_key(|rule| Reverse(rule.priority));
        let mut router = Router {
            catch_all: catch_all(&rules),
            highest: rules.first().map_or(0, |rule| rule.priority),
            ..Router::default()
        };
        for rule in rules {
            let has_conditions = rule.conditions != Conditions::default();
            let entry = Entry {
                methods: rule.methods,
                conditions: has_conditions.then(|| Box::new(rule.conditions)),
                priority: rule.priority,
                route: rule.route,
            };
            if rule.hosts.is_empty() {
                router.any.insert(&rule.path, entry);
                continue;
            }
            for host in &rule.hosts {
                let paths = match host {
                    HostPattern::Exact(name) => router.exact.entry(host_key(name)).or_default(),
                    HostPattern::Suffix(name) => router.suffix.entry(host_key(name)).or_default(),
                };
                paths.insert(&rule.path, entry.clone());
            }
        }
        router.suffix_lengths = lengths(&router.suffix);
        for paths in router.exact.values_mut().chain(router.suffix.values_mut()) {
            paths.prefix_lengths = lengths(&paths.prefix);
        }
        router.any.prefix_lengths = lengths(&router.any.prefix);
        router
    }

    /// The route of a request. `client_ip` is the client as trusted proxies tell it.
    pub fn lookup(&self, request: &Request<'_, '_>, client_ip: IpAddr) -> Result<RouteId, Miss> {
        if let Some(route) = self.catch_all {
            return Ok(route);
        }
        let mut miss = Miss::NoRoute;
        let mut best: Option<&Entry> = None;
        self.walk(request, &mut |entries| {
            for entry in entries {
                if best.is_some_and(|best| best.priority >= entry.priority) {
                    break;
                }
                if !entry.meets(request, client_ip) {
                    continue;
                }
                if entry.allows(request.method, request.method_text) {
                    best = Some(entry);
                    break;
                }
                miss = Miss::Method;
            }
            best.is_some_and(|best| best.priority == self.highest)
        });
        best.map(|entry| entry.route).ok_or(miss)
    }

    /// Appends the methods that some rule allows for a request that is the same but for its method: the Allow field of
    /// a 405 (RFC 9110 section 15.5.6).
    pub fn allow(&self, request: &Request<'_, '_>, client_ip: IpAddr, out: &mut String) {
        self.walk(request, &mut |entries| {
            let met = entries
                .iter()
                .filter(|entry| entry.meets(request, client_ip));
            for method in met.flat_map(|entry| &entry.methods) {
                let text = method.text();
                if out.split(", ").any(|known| known == text) {
                    continue;
                }
                if !out.is_empty() {
                    out.push_str(", ");
                }
                out.push_str(text);
            }
            false
        });
    }

    /// Shows `visit` the entries of each matching path, most specific first, until it is content.
    fn walk<'r>(&'r self, request: &Request<'_, '_>, visit: &mut impl FnMut(&'r [Entry]) -> bool) {
        with_normal(request.path.as_bytes(), |path| {
            self.walk_hosts(request.host, path, visit);
        });
    }

    fn walk_hosts<'r>(
        &'r self,
        host: &str,
        path: &[u8],
        visit: &mut impl FnMut(&'r [Entry]) -> bool,
    ) {
        if self.exact.is_empty() && self.suffix.is_empty() {
            self.any.walk(path, visit);
            return;
        }
        let mut lower = [0; HOST_BYTES_MAX];
        if let Some(host) = lower_host(host, &mut lower) {
            let exact = self.exact.get(host);
            if exact.is_some_and(|paths| paths.walk(path, visit))
                || self.walk_suffixes(host, path, visit)
            {
                return;
            }
        }
        self.any.walk(path, visit);
    }

    fn walk_suffixes<'r>(
        &'r self,
        host: &[u8],
        path: &[u8],
        visit: &mut impl FnMut(&'r [Entry]) -> bool,
    ) -> bool {
        self.suffix_lengths.iter().any(|length| {
            let dot = host.len().checked_sub(length + 1);
            let Some(dot) = dot.filter(|dot| *dot > 0 && host[*dot] == b'.') else {
                return false;
            };
            let paths = self.suffix.get(&host[dot + 1..]);
            paths.is_some_and(|paths| paths.walk(path, visit))
        })
    }
}

impl Paths {
    fn insert(&mut self, path: &PathPattern, entry: Entry) {
        let entries = match path {
            PathPattern::Exact(path) => self.exact.entry(path_key(path)).or_default(),
            PathPattern::Prefix(path) => self.prefix.entry(path_key(path)).or_default(),
        };
        entries.push(entry);
    }

    fn walk<'r>(&'r self, path: &[u8], visit: &mut impl FnMut(&'r [Entry]) -> bool) -> bool {
        // Most hosts have prefixes only; looking at an empty map costs no hash.
        if self.exact.get(path).is_some_and(|entries| visit(entries)) {
            return true;
        }
        self.prefix_lengths.iter().any(|length| {
            let prefix = path.get(..*length);
            let prefix = prefix.filter(|_| is_border(path, *length));
            let entries = prefix.and_then(|prefix| self.prefix.get(prefix));
            entries.is_some_and(|entries| visit(entries))
        })
    }
}

impl Entry {
    fn meets(&self, request: &Request<'_, '_>, client_ip: IpAddr) -> bool {
        let mut conditions = self.conditions.iter();
        conditions.all(|conditions| conditions.hold(request, client_ip))
    }

    fn allows(&self, method: Method, text: &str) -> bool {
        self.methods.is_empty()
            || self.methods.iter().any(|name| match name {
                MethodName::Known(Method::Other) => false,
                MethodName::Known(known) => *known == method,
                MethodName::Custom(custom) => **custom == *text,
            })
    }
}

impl MethodName {
    fn text(&self) -> &str {
        match self {
            MethodName::Custom(text) => text,
            MethodName::Known(method) => match method {
                Method::Get => "GET",
                Method::Head => "HEAD",
                Method::Post => "POST",
                Method::Put => "PUT",
                Method::Delete => "DELETE",
                Method::Options => "OPTIONS",
                Method::Patch => "PATCH",
                Method::Connect => "CONNECT",
                Method::Trace => "TRACE",
                Method::Other => "",
            },
        }
    }
}

fn catch_all(rules: &[Rule]) -> Option<RouteId> {
    let [
        Rule {
            hosts,
            path: PathPattern::Prefix(path),
            methods,
            conditions,
            priority: _,
            route,
        },
    ] = rules
    else {
        return None;
    };
    let everything = hosts.is_empty()
        && methods.is_empty()
        && *conditions == Conditions::default()
        && *path_key(path) == *b"/";
    everything.then_some(*route)
}

/// The distinct lengths of the keys, longest first.
fn lengths<V>(map: &Map<V>) -> Vec<usize> {
    let mut lengths: Vec<usize> = map.keys().map(|key| key.len()).collect();
    lengths.sort_unstable_by(|a, b| b.cmp(a));
    lengths.dedup();
    lengths
}

fn host_key(name: &str) -> Box<[u8]> {
    name.strip_suffix('.')
        .unwrap_or(name)
        .to_ascii_lowercase()
        .into_bytes()
        .into()
}

/// A pattern's path, spelled as a request's path is before it is compared.
fn path_key(path: &str) -> Box<[u8]> {
    if path.is_empty() {
        return b"/".as_slice().into();
    }
    with_normal(path.as_bytes(), |path| path.into())
}

/// The host in lower case, without port and final dot. `None` if it is empty or too long.
fn lower_host<'a>(host: &str, lower: &'a mut [u8; HOST_BYTES_MAX]) -> Option<&'a [u8]> {
    let bytes = host.as_bytes();
    let name = match (bytes.first(), memchr::memrchr(b':', bytes)) {
        (Some(b'['), _) => &bytes[..=memchr::memchr(b']', bytes)?],
        (_, Some(colon)) => &bytes[..colon],
        (_, None) => bytes,
    };
    let name = name.strip_suffix(b".").unwrap_or(name);
    let lower = lower
        .get_mut(..name.len())
        .filter(|lower| !lower.is_empty())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    Some(lower)
}
