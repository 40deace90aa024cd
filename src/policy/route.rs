//! Host and path → route.
//!
//! Decides: which route a request belongs to. May not know: what a route does. Invariant: the
//! answer does not depend on how a client spells a path: escapes of letters and dot segments are
//! resolved before the comparison, so that `/public/../admin` belongs to the route of `/admin`. The
//! bytes that are forwarded stay as they were.
//!
//! Order: exact host, longest suffix, any host; within a host the exact path, then the longest
//! prefix; within a path the rules in their order. What does not match, by its method too, falls
//! through to the next.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};

use super::RouteId;
use super::cidr::Cidr;
use crate::h1::Method;

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

/// What a request must have beside host, path and method: all of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Conditions {
    /// Fields by lower-case name; without a value, that it is there.
    pub headers: Box<[(Box<str>, Option<Box<str>>)]>,
    /// Parameters of the query as they are written (escapes are not resolved).
    pub query: Box<[(Box<str>, Option<Box<str>>)]>,
    /// The client's address is in one of these; empty for any.
    pub clients: Box<[Cidr]>,
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
    /// 405: a path matched, but no method.
    Method,
}

/// Hosts longer than a DNS name (RFC 1035 section 2.3.4) match no pattern.
const HOST_BYTES_MAX: usize = 255;
/// Normalised paths up to this length need no allocation.
const PATH_STACK_BYTES: usize = 1024;

/// The keys come from the configuration, so nobody can make them collide: no random seed is needed.
type Map<V> = HashMap<Box<[u8]>, V, BuildHasherDefault<DefaultHasher>>;

/// The routing table. A lookup costs a few hashes per segment of the configured patterns, however
/// many rules there are.
#[derive(Debug, Default)]
pub struct Router {
    /// The route, if there is only one rule and it matches everything.
    catch_all: Option<RouteId>,
    exact: Map<Paths>,
    suffix: Map<Paths>,
    /// Lengths of the keys of `suffix`, longest first.
    suffix_lengths: Vec<usize>,
    any: Paths,
}

/// The paths of one host.
#[derive(Debug, Default)]
struct Paths {
    exact: Map<Vec<Entry>>,
    prefix: Map<Vec<Entry>>,
    /// Lengths of the keys of `prefix`, longest first.
    prefix_lengths: Vec<usize>,
}

#[derive(Debug, Clone)]
struct Entry {
    methods: Vec<MethodName>,
    route: RouteId,
}

impl Router {
    pub fn build(rules: Vec<Rule>) -> Router {
        let mut router = Router {
            catch_all: catch_all(&rules),
            ..Router::default()
        };
        for rule in rules {
            let entry = Entry {
                methods: rule.methods,
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

    /// The route of a request. `host` is as received, with its port; `path` is without the query.
    pub fn lookup(
        &self,
        host: &str,
        path: &str,
        method: Method,
        method_text: &str,
    ) -> Result<RouteId, Miss> {
        if let Some(route) = self.catch_all {
            return Ok(route);
        }
        let mut miss = Miss::NoRoute;
        let found = self.walk(host, path, &mut |entries: &[Entry]| {
            miss = Miss::Method;
            let entry = entries
                .iter()
                .find(|entry| entry.allows(method, method_text))?;
            Some(entry.route)
        });
        found.ok_or(miss)
    }

    /// Appends the methods that some rule allows for this host and path: the Allow field of a 405
    /// (RFC 9110 section 15.5.6).
    pub fn allow(&self, host: &str, path: &str, out: &mut String) {
        self.walk(host, path, &mut |entries: &[Entry]| {
            for method in entries.iter().flat_map(|entry| &entry.methods) {
                let text = method.text();
                if out.split(", ").any(|known| known == text) {
                    continue;
                }
                if !out.is_empty() {
                    out.push_str(", ");
                }
                out.push_str(text);
            }
            None
        });
    }

    /// Shows `visit` the entries of each matching path, most specific first, until it is content.
    fn walk(
        &self,
        host: &str,
        path: &str,
        visit: &mut impl FnMut(&[Entry]) -> Option<RouteId>,
    ) -> Option<RouteId> {
        if is_normal(path.as_bytes()) {
            return self.walk_hosts(host, path.as_bytes(), visit);
        }
        let (mut stack, mut heap) = ([0; PATH_STACK_BYTES], Vec::new());
        let path = normalise(path.as_bytes(), &mut stack, &mut heap);
        self.walk_hosts(host, path, visit)
    }

    fn walk_hosts(
        &self,
        host: &str,
        path: &[u8],
        visit: &mut impl FnMut(&[Entry]) -> Option<RouteId>,
    ) -> Option<RouteId> {
        if self.exact.is_empty() && self.suffix.is_empty() {
            return self.any.walk(path, visit);
        }
        let mut lower = [0; HOST_BYTES_MAX];
        if let Some(host) = lower_host(host, &mut lower) {
            let exact = self
                .exact
                .get(host)
                .and_then(|paths| paths.walk(path, visit));
            let found = exact.or_else(|| self.walk_suffixes(host, path, visit));
            if found.is_some() {
                return found;
            }
        }
        self.any.walk(path, visit)
    }

    fn walk_suffixes(
        &self,
        host: &[u8],
        path: &[u8],
        visit: &mut impl FnMut(&[Entry]) -> Option<RouteId>,
    ) -> Option<RouteId> {
        self.suffix_lengths.iter().find_map(|length| {
            let dot = host.len().checked_sub(length + 1)?;
            if dot == 0 || host[dot] != b'.' {
                return None;
            }
            self.suffix.get(&host[dot + 1..])?.walk(path, visit)
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

    fn walk(
        &self,
        path: &[u8],
        visit: &mut impl FnMut(&[Entry]) -> Option<RouteId>,
    ) -> Option<RouteId> {
        // Most hosts have prefixes only; looking at an empty map costs no hash.
        if let Some(found) = self.exact.get(path).and_then(|entries| visit(entries)) {
            return Some(found);
        }
        self.prefix_lengths.iter().find_map(|length| {
            let prefix = path.get(..*length)?;
            let border = path.len() == *length || path[*length] == b'/' || prefix.ends_with(b"/");
            if !border {
                return None;
            }
            visit(self.prefix.get(prefix)?)
        })
    }
}

impl Entry {
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
    let (mut stack, mut heap) = ([0; PATH_STACK_BYTES], Vec::new());
    normalise(path.as_bytes(), &mut stack, &mut heap).into()
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

/// The path with dot segments removed (RFC 3986 section 5.2.4) and escapes of unreserved characters
/// decoded (section 6.2.2.2). The result is never longer than the path, so that long ones alone
/// need the heap.
fn normalise<'a>(
    path: &'a [u8],
    stack: &'a mut [u8; PATH_STACK_BYTES],
    heap: &'a mut Vec<u8>,
) -> &'a [u8] {
    let space = if path.len() <= stack.len() {
        &mut stack[..]
    } else {
        heap.resize(path.len(), 0);
        &mut heap[..]
    };
    let length = write_normal(path, space);
    &space[..length]
}

/// No escape, and no segment that begins with a dot (more than needed, but cheap to see).
fn is_normal(path: &[u8]) -> bool {
    memchr::memchr2_iter(b'%', b'.', path)
        .all(|at| path[at] == b'.' && at.checked_sub(1).is_some_and(|before| path[before] != b'/'))
}

fn write_normal(path: &[u8], out: &mut [u8]) -> usize {
    let mut length = 0;
    let mut segments = path.split(|byte| *byte == b'/').peekable();
    // What stands before the first slash is nothing, in a path that begins with one.
    length += decode(segments.next().unwrap_or_default(), out);
    while let Some(segment) = segments.next() {
        let start = length;
        out[start] = b'/';
        length = start + 1 + decode(segment, &mut out[start + 1..]);
        let up = match &out[start + 1..length] {
            b"." => 0,
            b".." => 1,
            _ => continue,
        };
        length = start;
        if up == 1 {
            length = memchr::memrchr(b'/', &out[..start]).unwrap_or(0);
        }
        // A dot segment at the end leaves its slash: `/a/.` is `/a/`.
        if segments.peek().is_none() {
            out[length] = b'/';
            length += 1;
        }
    }
    length
}

/// Decodes escaped letters, digits, `-`, `.`, `_` and `~`; others stay, because `%2F` is not `/`.
fn decode(segment: &[u8], out: &mut [u8]) -> usize {
    let mut length = 0;
    let mut rest = segment;
    while let [first, tail @ ..] = rest {
        let (byte, tail) = match unreserved_escape(rest) {
            Some(byte) => (byte, &rest[3..]),
            None => (*first, tail),
        };
        out[length] = byte;
        length += 1;
        rest = tail;
    }
    length
}

fn unreserved_escape(bytes: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = bytes else {
        return None;
    };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let byte = u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()?;
    (byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)).then_some(byte)
}

/// For the configuration's checker: pairs of a rule that can never match and one that shadows it. A
/// rule is shadowed when for each of its hosts, and each of its methods, an earlier rule has the
/// same path.
pub fn unreachable(rules: &[Rule]) -> Vec<(usize, usize)> {
    let mut seen: HashMap<Place, Vec<usize>, BuildHasherDefault<DefaultHasher>> =
        HashMap::default();
    let mut pairs = Vec::new();
    for (at, rule) in rules.iter().enumerate() {
        let places = places(rule);
        let shadows = places.iter().map(|place| {
            let earlier = seen.get(place)?;
            shadow_of(rules, earlier, &rule.methods)
        });
        let shadows: Option<Vec<usize>> = shadows.collect();
        pairs.extend(
            shadows
                .and_then(|all| all.into_iter().max())
                .map(|shadow| (at, shadow)),
        );
        for place in places {
            seen.entry(place).or_default().push(at);
        }
    }
    pairs
}

/// Where a rule stands in the table.
#[derive(PartialEq, Eq, Hash)]
struct Place {
    host: PlaceHost,
    is_exact: bool,
    path: Box<[u8]>,
}

#[derive(PartialEq, Eq, Hash)]
enum PlaceHost {
    Any,
    Exact(Box<[u8]>),
    Suffix(Box<[u8]>),
}

fn places(rule: &Rule) -> Vec<Place> {
    let (is_exact, path) = match &rule.path {
        PathPattern::Exact(path) => (true, path_key(path)),
        PathPattern::Prefix(path) => (false, path_key(path)),
    };
    let hosts = rule.hosts.iter().map(|host| match host {
        HostPattern::Exact(name) => PlaceHost::Exact(host_key(name)),
        HostPattern::Suffix(name) => PlaceHost::Suffix(host_key(name)),
    });
    let any = rule.hosts.is_empty().then_some(PlaceHost::Any);
    hosts
        .chain(any)
        .map(|host| Place {
            host,
            is_exact,
            path: path.clone(),
        })
        .collect()
}

/// The last of the earlier rules that it takes to cover all of `methods`; `None` if they do not.
fn shadow_of(rules: &[Rule], earlier: &[usize], methods: &[MethodName]) -> Option<usize> {
    let covers = |at: &&usize, method: &MethodName| {
        rules[**at].methods.is_empty() || rules[**at].methods.contains(method)
    };
    if methods.is_empty() {
        return earlier
            .iter()
            .find(|at| rules[**at].methods.is_empty())
            .copied();
    }
    let mut last = 0;
    for method in methods {
        last = last.max(*earlier.iter().find(|at| covers(at, method))?);
    }
    Some(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `host path methods`: a host of `*` is any, `*.x` a suffix, a path with `=` before it exact.
    fn rule(text: &str, route: u32) -> Rule {
        let mut parts = text.split(' ');
        let hosts = parts.next().unwrap().split(',').filter(|host| *host != "*");
        let hosts = hosts.map(|host| match host.strip_prefix("*.") {
            Some(suffix) => HostPattern::Suffix(suffix.into()),
            None => HostPattern::Exact(host.into()),
        });
        let path = parts.next().unwrap();
        let path = match path.strip_prefix('=') {
            Some(exact) => PathPattern::Exact(exact.into()),
            None => PathPattern::Prefix(path.into()),
        };
        let methods = parts.map(|name| match name {
            "GET" => MethodName::Known(Method::Get),
            "POST" => MethodName::Known(Method::Post),
            other => MethodName::Custom(other.into()),
        });
        Rule {
            hosts: hosts.collect(),
            path,
            methods: methods.collect(),
            conditions: Conditions::default(),
            priority: 0,
            route: RouteId(route),
        }
    }

    fn rules(texts: &[&str]) -> Vec<Rule> {
        texts
            .iter()
            .enumerate()
            .map(|(at, text)| rule(text, at as u32))
            .collect()
    }

    const TABLE: &[&str] = &[
        /* 0 */ "a.example.org /",
        /* 1 */ "a.example.org /api",
        /* 2 */ "a.example.org =/api/exact",
        /* 3 */ "a.example.org /api/deep/",
        /* 4 */ "*.example.org /",
        /* 5 */ "*.b.example.org /only",
        /* 6 */ "* /any",
        /* 7 */ "* /posts POST",
        /* 8 */ "* /posts GET PURGE",
        /* 9 */ "C.Example.ORG. /",
        /* 10 */ "[::1] /",
        /* 11 */ "* =/%7euser",
    ];

    #[test]
    fn lookups() {
        let router = Router::build(rules(TABLE));
        let cases: &[(&str, &str, Result<u32, Miss>)] = &[
            ("a.example.org", "/", Ok(0)),
            ("A.EXAMPLE.org:8080", "/x", Ok(0)),
            ("a.example.org.", "/api", Ok(1)),
            ("a.example.org.:80", "/api/", Ok(1)),
            ("a.example.org", "/api/x/y", Ok(1)),
            ("a.example.org", "/apix", Ok(0)),
            ("a.example.org", "/api/exact", Ok(2)),
            ("a.example.org", "/api/exact/", Ok(1)),
            ("a.example.org", "/api/deep", Ok(1)),
            ("a.example.org", "/api/deep/", Ok(3)),
            ("a.example.org", "/api/deep/x", Ok(3)),
            ("b.example.org", "/", Ok(4)),
            ("x.b.example.org", "/only/x", Ok(5)),
            ("x.b.example.org", "/other", Ok(4)),
            ("b.example.org", "/only", Ok(4)),
            ("example.org", "/", Err(Miss::NoRoute)),
            (".example.org", "/", Err(Miss::NoRoute)),
            ("badexample.org", "/", Err(Miss::NoRoute)),
            ("example.org", "/any/x", Ok(6)),
            ("", "/any", Ok(6)),
            ("c.example.org", "/", Ok(9)),
            ("[::1]:80", "/", Ok(10)),
            ("[::1]", "/", Ok(10)),
            ("h", "/posts", Ok(8)),
            ("h", "/~user", Ok(11)),
            ("h", "/%7Euser", Ok(11)),
            ("h", "/public/../any", Ok(6)),
            ("h", "/public/%2e%2E/any/x", Ok(6)),
            ("h", "/./any", Ok(6)),
            ("h", "/%61ny", Ok(6)),
            ("h", "/any/..", Err(Miss::NoRoute)),
            ("h", "/public/..%2fany", Err(Miss::NoRoute)),
            ("h", "//any", Err(Miss::NoRoute)),
        ];
        for (host, path, expected) in cases {
            let found = router.lookup(host, path, Method::Get, "GET");
            assert_eq!(found, expected.map(RouteId), "{host} {path}");
        }
    }

    #[test]
    fn methods_are_tried_in_order_and_miss_as_405() {
        let router = Router::build(rules(TABLE));
        let lookup = |method, text| router.lookup("h", "/posts/1", method, text);
        assert_eq!(lookup(Method::Post, "POST"), Ok(RouteId(7)));
        assert_eq!(lookup(Method::Get, "GET"), Ok(RouteId(8)));
        assert_eq!(lookup(Method::Other, "PURGE"), Ok(RouteId(8)));
        assert_eq!(lookup(Method::Other, "purge"), Err(Miss::Method));
        assert_eq!(lookup(Method::Put, "PUT"), Err(Miss::Method));
        let mut allow = String::new();
        router.allow("h", "/posts/1", &mut allow);
        assert_eq!(allow, "POST, GET, PURGE");
    }

    #[test]
    fn a_method_that_misses_falls_through_to_less_specific_paths_and_hosts() {
        let table = [
            "a =/x POST",
            "a /x POST",
            "a / POST",
            "*.a / POST",
            "* /x PURGE",
            "* /",
        ];
        let router = Router::build(rules(&table));
        assert_eq!(router.lookup("a", "/x", Method::Get, "GET"), Ok(RouteId(5)));
        assert_eq!(
            router.lookup("a", "/x", Method::Other, "PURGE"),
            Ok(RouteId(4))
        );
    }

    #[test]
    fn one_catch_all_takes_everything() {
        for path in ["/", ""] {
            let router = Router::build(rules(&[&format!("* {path}")]));
            assert!(router.catch_all.is_some());
            assert_eq!(router.lookup("", "*", Method::Other, "X"), Ok(RouteId(0)));
        }
        for table in [
            &["* / GET"][..],
            &["a /"],
            &["* =/"],
            &["* /a"],
            &["* /", "* /"],
            &[],
        ] {
            assert_eq!(Router::build(rules(table)).catch_all, None, "{table:?}");
        }
        assert_eq!(
            Router::default().lookup("a", "/", Method::Get, "GET"),
            Err(Miss::NoRoute)
        );
    }

    #[test]
    fn long_hosts_and_paths_are_bounded() {
        let long = "a".repeat(256);
        let router = Router::build(rules(&["*.a /", &format!("{long} /"), "* /end"]));
        assert_eq!(
            router.lookup(&long, "/x", Method::Get, "GET"),
            Err(Miss::NoRoute)
        );
        let path = format!("{}/../../end", "/%61".repeat(5000));
        let path = format!("{}{}", path, "/..".repeat(5000));
        assert_eq!(
            router.lookup("h", &format!("{path}/end"), Method::Get, "GET"),
            Ok(RouteId(2))
        );
    }

    #[test]
    fn normal_forms() {
        let cases = [
            ("/a/b", "/a/b"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/b/..", "/a/"),
            ("/a/b/.", "/a/b/"),
            ("/..", "/"),
            ("/../../a", "/a"),
            ("/.a/..b/c.", "/.a/..b/c."),
            ("/%2e%2e/%2E/x", "/x"),
            ("/a/.%2e/b", "/b"),
            ("/%41%zz%4", "/A%zz%4"),
            ("/a%2Fb", "/a%2Fb"),
            ("/a//../b", "/a/b"),
            ("/%252e%252e/", "/%252e%252e/"),
            ("/", "/"),
        ];
        for (path, expected) in cases {
            let (mut stack, mut heap) = ([0; PATH_STACK_BYTES], Vec::new());
            let normal = normalise(path.as_bytes(), &mut stack, &mut heap);
            assert_eq!(std::str::from_utf8(normal), Ok(expected), "{path}");
            assert!(path == expected || !is_normal(path.as_bytes()), "{path}");
        }
    }

    /// The table against the plainest reading of its rules, over all small hosts and paths.
    #[test]
    fn agrees_with_a_linear_search() {
        let table = [
            "a /",
            "a /x",
            "a =/x",
            "a /x/",
            "*.a /x",
            "*.b.a /",
            "*.b.a =/x/y",
            "* /x/y",
            "* =/",
        ];
        let all = rules(&table);
        let router = Router::build(all.clone());
        for host in ["a", "b.a", "c.b.a", "z", "b"] {
            for path in ["/", "/x", "/x/", "/x/y", "/x/y/z", "/xy", "/y"] {
                let best = all
                    .iter()
                    .filter_map(|rule| Some((rank(rule, host, path)?, rule.route)));
                let expected = best.max_by_key(|(rank, _)| *rank).map(|(_, route)| route);
                let found = router.lookup(host, path, Method::Get, "GET");
                assert_eq!(found.ok(), expected, "{host} {path}");
            }
        }
    }

    fn rank(rule: &Rule, host: &str, path: &str) -> Option<(usize, bool, usize)> {
        let of_host = |pattern: &HostPattern| match pattern {
            HostPattern::Exact(name) => (**name == *host).then_some(1000),
            HostPattern::Suffix(name) => host.ends_with(&format!(".{name}")).then_some(name.len()),
        };
        let host_rank = match &rule.hosts[..] {
            [] => 0,
            hosts => hosts.iter().filter_map(of_host).max()?,
        };
        match &rule.path {
            PathPattern::Exact(exact) => (**exact == *path).then_some((host_rank, true, 0)),
            PathPattern::Prefix(prefix) => {
                let rest = path.strip_prefix(&**prefix)?;
                let border = rest.is_empty() || rest.starts_with('/') || prefix.ends_with('/');
                border.then_some((host_rank, false, prefix.len()))
            }
        }
    }

    #[test]
    fn shadowed_rules() {
        type Pairs = &'static [(usize, usize)];
        let cases: &[(&[&str], Pairs)] = &[
            (&["a /", "a /"], &[(1, 0)]),
            (&["a /", "A. /"], &[(1, 0)]),
            (&["a /", "a /", "a /"], &[(1, 0), (2, 0)]),
            (&["a / GET", "a /"], &[]),
            (&["a /", "a / GET"], &[(1, 0)]),
            (&["a / GET", "a / POST", "a / POST GET"], &[(2, 1)]),
            (&["a / GET", "a / POST", "a /"], &[]),
            (&["* /", "a /"], &[]),
            (&["a,b /", "a /"], &[(1, 0)]),
            (&["a /", "b /", "a,b /"], &[(2, 1)]),
            (&["a /", "a,b /"], &[]),
            (&["a,a /"], &[]),
            (&["a /", "*.a /"], &[]),
            (&["* /x", "* =/x", "* /x/"], &[]),
            (&["* /x", "* /y/../%78"], &[(1, 0)]),
        ];
        for (table, expected) in cases {
            assert_eq!(unreachable(&rules(table)), *expected, "{table:?}");
        }
    }
}
