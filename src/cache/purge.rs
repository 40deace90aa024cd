//! Forgetting what is stored, because an operator says so.
//!
//! Decides: which keys a URL, the beginning of one, or a tag means. May not know: who asks. Invariant: what was stored
//! when the call began is found by nobody when it has returned, and of what was being fetched nothing that may be meant
//! is stored.

use std::collections::{BTreeSet, HashSet};

use super::Cache;
use crate::config::plan::Plan;
use crate::h1::head::{Request, Slots, parse_request};
use crate::policy::cache::{KeyRule, Rules, key, update};

/// What is to be forgotten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purge {
    /// Whatever a request for this URL may get, in any variant.
    Url(String),
    /// All URLs that begin so; the host is whole.
    Prefix(String),
    /// All responses that name it in Cache-Tag or Surrogate-Key.
    Tag(String),
    All,
}

impl Purge {
    /// As an operator calls it.
    pub fn name(&self) -> &'static str {
        match self {
            Purge::Url(_) => "url",
            Purge::Prefix(_) => "prefix",
            Purge::Tag(_) => "tag",
            Purge::All => "all",
        }
    }

    pub fn value(&self) -> &str {
        match self {
            Purge::Url(text) | Purge::Prefix(text) | Purge::Tag(text) => text,
            Purge::All => "true",
        }
    }
}

const NO_URL: &str = "it is no URL that a request can have: write http://host/path";

/// Forgets it, and says how many entries that were; or why nothing can be meant. All but a URL is found by a look at
/// every entry.
pub fn purge(cache: &Cache, plan: &Plan, what: &Purge) -> Result<u64, &'static str> {
    match what {
        Purge::Url(text) => {
            let url = Url::of(text).ok_or(NO_URL)?;
            url.read(plan, |request| by_key(cache, plan, request, url.https))
        }
        Purge::Prefix(text) => {
            let url = Url::of(text).ok_or(NO_URL)?;
            if !url.has_path {
                return Err("a prefix has a whole host: write http://host/");
            }
            url.read(plan, |request| by_prefix(cache, plan, request, url.https))
        }
        Purge::Tag(tag) if !is_tag(tag) => Err("it is no tag: a tag has neither spaces nor commas"),
        // What is being fetched may turn out to have it.
        Purge::Tag(tag) => Ok(cache.purge(|entry| update::has_tag(entry.head(), tag))),
        Purge::All => Ok(cache.purge(|_| true)),
    }
}

fn is_tag(text: &str) -> bool {
    let good = |byte: u8| !byte.is_ascii_control() && byte != b' ' && byte != b',';
    !text.is_empty() && text.bytes().all(good)
}

/// As a request for it would be.
struct Url {
    https: bool,
    has_path: bool,
    head: String,
}

impl Url {
    fn of(text: &str) -> Option<Url> {
        let (https, rest) = match text.strip_prefix("http://") {
            Some(rest) => (false, rest),
            None => (true, text.strip_prefix("https://")?),
        };
        // Nothing that could end a line of the head, or its target.
        if !rest.bytes().all(|byte| byte.is_ascii_graphic()) {
            return None;
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (host, target) = rest.split_at(end);
        let has_path = target.starts_with('/');
        let root = if has_path { "" } else { "/" };
        let head = format!("GET {root}{target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        (!host.is_empty()).then_some(Url {
            https,
            has_path,
            head,
        })
    }

    fn read(
        &self,
        plan: &Plan,
        then: impl FnOnce(&Request<'_, '_>) -> u64,
    ) -> Result<u64, &'static str> {
        let mut slots = Slots::new();
        match parse_request(self.head.as_bytes(), &plan.limits, &mut slots) {
            Ok(Some(request)) => Ok(then(&request)),
            Ok(None) | Err(_) => Err(NO_URL),
        }
    }
}

fn rules(plan: &Plan) -> impl Iterator<Item = &Rules> {
    let routes = plan.routes.iter();
    routes.filter_map(|route| route.cache.as_deref())
}

/// In every route: which of them gets a request may depend on more than its URL.
fn by_key(cache: &Cache, plan: &Plan, request: &Request<'_, '_>, https: bool) -> u64 {
    let mut count = 0;
    let mut beginnings = HashSet::new();
    for route in &plan.routes {
        let Some(rules) = &route.cache else {
            continue;
        };
        let mut text = Vec::new();
        key::write(&rules.key, request, https, &mut text);
        match memchr::memchr(b' ', &text) {
            None => count += u64::from(cache.invalidate(cache.hash(route, &text))),
            // Nobody knows all values that the fields and cookies behind it have had.
            Some(end) => {
                text.truncate(end);
                beginnings.insert(text);
            }
        }
    }
    if !beginnings.is_empty() {
        let is_meant = |key: &[u8]| {
            let end = memchr::memchr(b' ', key);
            end.is_some_and(|end| beginnings.contains(&key[..end]))
        };
        count += cache.purge(|entry| is_meant(entry.key()));
    }
    count
}

fn by_prefix(cache: &Cache, plan: &Plan, request: &Request<'_, '_>, https: bool) -> u64 {
    // Beginnings differ by these two only.
    let kinds = rules(plan).map(|rules| (rules.key.scheme, rules.key.host));
    let kinds: BTreeSet<(bool, bool)> = kinds.collect();
    let beginning = |(scheme, host)| {
        let rule = KeyRule {
            scheme,
            host,
            ..KeyRule::default()
        };
        let mut text = Vec::new();
        key::write(&rule, request, https, &mut text);
        text
    };
    let beginnings: Vec<Vec<u8>> = kinds.into_iter().map(beginning).collect();
    let is_meant = |key: &[u8]| beginnings.iter().any(|text| key.starts_with(text));
    cache.purge(|entry| is_meant(entry.key()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::cache::entry::{Entry, Kind, Parts};
    use crate::cache::fill::{Fill, Joined};
    use crate::config::{Source, load};
    use crate::policy::cache::Terms;

    const TERMS: Terms = Terms {
        at: 0,
        age_s: 0,
        lifetime_s: 0,
        stale_while_revalidate_s: 0,
        stale_if_error_s: 0,
        must_revalidate: false,
        no_cache: false,
    };

    /// Routes whose keys differ in form.
    const ROUTES: &str = r#"
[cache]
enabled = true
[[clusters]]
name = "a"
backends = ["http://a"]
[[routes]]
name = "plain"
cluster = "a"
[[routes]]
name = "tenant"
cluster = "a"
path = "/t"
cache = { key = ["scheme", "host", "path", "query", "header:X-Tenant", "cookie:sid"] }
[[routes]]
name = "bare"
cluster = "a"
path = "/bare"
cache = { key = ["path", "query"], query_except = ["utm_*"], sort_query = true }
forwarding = { host = "backend" }
[[routes]]
name = "off"
cluster = "a"
path = "/off"
cache = { enabled = false }
"#;

    /// Route, key, head.
    const STORED: [(&str, &str, &str); 9] = [
        (
            "plain",
            "http://h.test/",
            "HTTP/1.1 200 OK\r\nCache-Tag: x, y\r\n\r\n",
        ),
        (
            "plain",
            "http://h.test/a/b",
            "HTTP/1.1 200 OK\r\nSurrogate-Key: y z\r\n\r\n",
        ),
        ("plain", "http://h.test/a/b?", "HTTP/1.1 200 OK\r\n\r\n"),
        ("plain", "http://h.test/a/bc?d=e", "HTTP/1.1 200 OK\r\n\r\n"),
        ("plain", "https://h.test/a/b", "HTTP/1.1 200 OK\r\n\r\n"),
        ("plain", "http://h.test:81/a/b", "HTTP/1.1 200 OK\r\n\r\n"),
        (
            "tenant",
            "http://h.test/a/b x-tenant cookie:sid=1:1",
            "HTTP/1.1 200 OK\r\n\r\n",
        ),
        (
            "tenant",
            "http://h.test/a/b x-tenant=1:v cookie:sid",
            "HTTP/1.1 200 OK\r\n\r\n",
        ),
        ("bare", "*://[*]/a/bc?a=1&d=e", "HTTP/1.1 200 OK\r\n\r\n"),
    ];

    fn filled() -> (Cache, Plan) {
        let (_, plan) = load(Source::of("test", ROUTES)).unwrap_or_else(|found| panic!("{found}"));
        let cache = Cache::new(plan.cache.unwrap(), 2, &[7; 32]);
        for (name, key, head) in STORED {
            let route = plan.routes.iter().find(|route| *route.name == *name);
            let bytes = Entry::cost_bytes(key.len(), head.len(), 0);
            let parts = Parts {
                hash: cache.hash(route.unwrap(), key.as_bytes()),
                key: key.as_bytes(),
                head: head.as_bytes(),
                body: Bytes::new(),
                kind: Kind::Response,
                status: 200,
                terms: TERMS,
            };
            let charge = cache.table.reserve(bytes).unwrap();
            cache.table.put(Entry::new(parts, charge));
        }
        (cache, plan)
    }

    fn is_stored(cache: &Cache, plan: &Plan, at: usize) -> bool {
        let (name, key, _) = STORED[at];
        let route = plan.routes.iter().find(|route| *route.name == *name);
        let hash = cache.hash(route.unwrap(), key.as_bytes());
        cache.table.get(hash).is_some()
    }

    fn url(text: &str) -> Purge {
        Purge::Url(text.to_owned())
    }

    fn prefix(text: &str) -> Purge {
        Purge::Prefix(text.to_owned())
    }

    fn tag(text: &str) -> Purge {
        Purge::Tag(text.to_owned())
    }

    #[test]
    fn what_is_meant_goes_and_nothing_else() {
        for (what, gone) in [
            (url("http://h.test/"), &[0][..]),
            (url("http://H.Test:80"), &[0]),
            (url("http://h.test/a/b"), &[1, 6, 7]),
            (url("http://h.test/a/b?"), &[2]),
            (url("http://h.test?"), &[]),
            (url("http://h.test/A/b"), &[]),
            (url("https://h.test:443/a/b"), &[4]),
            (url("http://h.test:81/a/b"), &[5]),
            (url("http://h.test/a/bc?d=e"), &[3]),
            (url("https://other.test/a/bc?d=e&utm_x=y&a=1"), &[8]),
            (prefix("http://h.test/a/"), &[1, 2, 3, 6, 7, 8]),
            (prefix("http://H.TEST:80/a/b"), &[1, 2, 3, 6, 7, 8]),
            (prefix("http://h.test/a/bc?d"), &[3]),
            (prefix("http://h.test/a/b?"), &[2]),
            (prefix("https://h.test/"), &[4, 8]),
            (prefix("http://h.test:8/"), &[8]),
            (tag("x"), &[0]),
            (tag("y"), &[0, 1]),
            (tag("Y"), &[]),
            (Purge::All, &[0, 1, 2, 3, 4, 5, 6, 7, 8]),
        ] {
            let (cache, plan) = filled();
            let count = purge(&cache, &plan, &what);
            let found: Vec<usize> = (0..STORED.len())
                .filter(|at| !is_stored(&cache, &plan, *at))
                .collect();
            assert_eq!(found, gone, "{what:?}");
            assert_eq!(count, Ok(gone.len() as u64), "{what:?}");
            assert_eq!(purge(&cache, &plan, &what), Ok(0), "{what:?}");
        }
    }

    #[test]
    fn what_can_mean_nothing_is_refused_and_nothing_goes() {
        let (cache, plan) = filled();
        for what in [
            url(""),
            url("h.test/"),
            url("/a/b"),
            url("ftp://h.test/"),
            url("http://"),
            url("http:///a"),
            url("http://h.test/a b"),
            url("http://h.test/\r\nHost:x"),
            url("http://h .test/"),
            url("http://h@x.test/"),
            url("http://h.test/ä"),
            url("*://[*]/a/b"),
            url(&format!("http://h.test/{}", "a".repeat(1 << 20))),
            prefix("http://h.test"),
            prefix("http://h.test?a"),
            prefix("http://h."),
            prefix(""),
            tag(""),
            tag("x, y"),
            tag("y z"),
            tag("x\n"),
        ] {
            assert!(purge(&cache, &plan, &what).is_err(), "{what:?}");
        }
        assert!((0..STORED.len()).all(|at| is_stored(&cache, &plan, at)));
    }

    #[test]
    fn what_is_being_fetched_is_not_stored_where_it_may_be_meant() {
        let lead = |cache: &Cache, plan: &Plan, route: usize, key: &[u8]| -> Arc<Fill> {
            let hash = cache.hash(&plan.routes[route], key);
            match cache.fills.join(hash, hash, key) {
                Joined::Leads(fill) => fill,
                Joined::Follows(_) => panic!("somebody leads already"),
            }
        };
        for (what, is_void) in [
            (url("http://h.test/n"), [true, true, true]),
            (url("http://h.test/t"), [true, true, true]),
            (url("http://h.test/m"), [true, true, true]),
            (prefix("http://h.test/"), [true, true, true]),
            (prefix("http://h.test/n"), [true, true, true]),
            (tag("nobody-has-it"), [true, true, true]),
            (Purge::All, [true, true, true]),
        ] {
            let (cache, plan) = filled();
            let fills = [
                lead(&cache, &plan, 0, b"http://h.test/n"),
                lead(&cache, &plan, 1, b"http://h.test/t x-tenant cookie:sid"),
                lead(&cache, &plan, 2, b"*://[*]/bare"),
            ];
            purge(&cache, &plan, &what).unwrap();
            let found = fills.map(|fill| fill.outdated().load(std::sync::atomic::Ordering::SeqCst));
            assert_eq!(found, is_void, "{what:?}");
        }
    }
}
