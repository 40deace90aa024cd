//! The table against the plainest reading of its rules.

use std::cmp::Reverse;

use proptest::prelude::*;
use proptest::sample::select;

use super::*;

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
            let found = find(&router, "GET", host, path);
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

const PLACES: &[&str] = &[
    "* /",
    "* /x",
    "* =/x",
    "* /x/y",
    "a /",
    "a /x",
    "a =/x",
    "a /x/",
    "*.a /",
    "*.a /x/y",
    "*.a =/",
    "*.b.a /x",
    "a,*.b.a /x",
    "c.b.a,a =/x",
    "b.a /",
];
const METHODS: &[&str] = &["", "", " GET", " POST", " GET POST", " PURGE"];
const CONDITIONS: &[&str] = &[
    "",
    "",
    "",
    " x-beta:",
    " x-beta:1",
    " ?v",
    " ?v=2",
    " @10",
    " @11",
    " @0",
    " x-beta: ?v",
    " @10 @11",
];
const PRIORITIES: &[&str] = &["", "", " !1", " !-1"];

/// A rule, and what it wants besides the place, as text.
#[derive(Debug, Clone)]
struct Drawn {
    rule: Rule,
    methods: &'static str,
    conditions: &'static str,
}

fn any_rule() -> impl Strategy<Value = Drawn> {
    let parts = (
        select(PLACES),
        select(METHODS),
        select(CONDITIONS),
        select(PRIORITIES),
    );
    parts.prop_map(|(place, methods, conditions, priority)| Drawn {
        rule: rule(&format!("{place}{methods}{conditions}{priority}"), 0),
        methods,
        conditions,
    })
}

#[derive(Debug, Clone)]
struct Asked {
    method: &'static str,
    host: &'static str,
    path: &'static str,
    query: &'static str,
    beta: Option<&'static str>,
    octet: u8,
}

fn any_request() -> impl Strategy<Value = Asked> {
    let target = (
        select(&["GET", "POST", "PURGE", "PUT"][..]),
        select(&["a", "b.a", "c.b.a", "d.b.a", "z"][..]),
        select(&["/", "/x", "/x/", "/x/y", "/x/y/z", "/xy"][..]),
        select(&["", "v", "v=2", "u&v=3", "w"][..]),
    );
    let rest = (
        select(&[None, Some("1"), Some("2")][..]),
        select(&[10, 11, 12][..]),
    );
    (target, rest).prop_map(|((method, host, path, query), (beta, octet))| Asked {
        method,
        host,
        path,
        query,
        beta,
        octet,
    })
}

impl Drawn {
    fn allows(&self, asked: &Asked) -> bool {
        self.methods.is_empty() || self.methods.split(' ').any(|method| method == asked.method)
    }

    fn holds(&self, asked: &Asked) -> bool {
        match self.conditions.trim() {
            "" | "@0" => true,
            "x-beta:" => asked.beta.is_some(),
            "x-beta:1" => asked.beta == Some("1"),
            "?v" => asked.query.contains('v'),
            "?v=2" => asked.query == "v=2",
            "@10" => asked.octet == 10,
            "@11" => asked.octet == 11,
            "@10 @11" => asked.octet < 12,
            "x-beta: ?v" => asked.beta.is_some() && asked.query.contains('v'),
            other => panic!("no meaning of {other}"),
        }
    }
}

/// All rules are looked at; those of the highest priority, then of the highest rank, then the first counts.
fn plain(rules: &[Drawn], asked: &Asked) -> Result<RouteId, Miss> {
    let fitting = rules.iter().filter_map(|drawn| {
        let rank = rank(&drawn.rule, asked.host, asked.path)?;
        drawn
            .holds(asked)
            .then_some((drawn.rule.priority, rank, drawn))
    });
    let fitting: Vec<_> = fitting.collect();
    let allowed = fitting.iter().filter(|(_, _, drawn)| drawn.allows(asked));
    let best =
        allowed.max_by_key(|(priority, rank, drawn)| (*priority, *rank, Reverse(drawn.rule.route)));
    match best {
        Some((_, _, drawn)) => Ok(drawn.rule.route),
        None if fitting.is_empty() => Err(Miss::NoRoute),
        None => Err(Miss::Method),
    }
}

proptest! {
    #[test]
    fn agrees_with_a_plain_search_and_unreachable_rules_are_never_found(
        mut drawn in proptest::collection::vec(any_rule(), 0..12),
        requests in proptest::collection::vec(any_request(), 1..40),
    ) {
        for (at, drawn) in drawn.iter_mut().enumerate() {
            drawn.rule.route = RouteId(at as u32);
        }
        let rules: Vec<Rule> = drawn.iter().map(|drawn| drawn.rule.clone()).collect();
        let unreachable = unreachable(&rules);
        let router = Router::build(rules);
        for asked in &requests {
            let target = format!("{}?{}", asked.path, asked.query);
            let headers = asked.beta.map(|value| httparse::Header {
                name: "X-Beta",
                value: value.as_bytes(),
            });
            let request = request(asked.method, asked.host, &target, headers.as_slice());
            let client_ip = IpAddr::from([asked.octet, 0, 0, 1]);
            let found = router.lookup(&request, client_ip);
            prop_assert_eq!(found, plain(&drawn, asked), "{:?}", asked);
            let is_reported = |route: RouteId| unreachable.iter().any(|(rule, _)| *rule == route.0 as usize);
            prop_assert!(!found.is_ok_and(is_reported), "{:?}", asked);
            let mut allow = String::new();
            router.allow(&request, client_ip, &mut allow);
            if found == Err(Miss::Method) {
                prop_assert!(!allow.is_empty() && !allow.split(", ").any(|method| method == asked.method));
            }
        }
    }
}
