//! A request to the admin listener, as bytes → what it asks for.
//!
//! Decides: which paths, methods and parameters there are, and from whom a change is taken. May not know: backends,
//! what is cached, sockets. Invariant: a parameter that is not understood is refused, never ignored; nothing that a page in somebody's
//! browser can send changes anything.

use std::net::IpAddr;

use crate::cache::purge::Purge;
use crate::config::kinds::WEIGHT_MAX;
use crate::config::report::nearest;
use crate::policy::health::Mode;

pub(super) const HEADER_COUNT_MAX: usize = 64;

/// Longest value that is repeated in an answer.
const SHOWN_MAX: usize = 200;

const MODES: &str = "auto, up, drain or maintenance";

/// What we understood of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) ask: Ask,
    pub(super) form: Form,
    pub(super) head_only: bool,
    /// Whether the connection ends with the answer.
    pub(super) close: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ask {
    Look(Look),
    Change(Which, Order),
    Purge(Purge),
    /// To be told what happens from now on.
    Events,
    Refused(Refusal),
}

/// What changes nothing.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look {
    Healthz,
    Readyz,
    Metrics,
    Backends(Which),
    Why(Which),
    Cache,
}

/// The backends that are meant; all that fit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Which {
    pub(super) backend: Option<String>,
    pub(super) cluster: Option<String>,
}

/// What the operator wants of one backend. At least one of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) mode: Option<Mode>,
    pub(super) weight: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Text,
    Json,
}

/// Why a request gets nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) text: String,
    /// The methods that there are instead.
    pub(super) allow: Option<&'static str>,
}

impl Refusal {
    pub(super) fn new(status: u16, text: impl Into<String>) -> Refusal {
        Refusal {
            status,
            text: text.into(),
            allow: None,
        }
    }

    fn method(allow: &'static str) -> Refusal {
        Refusal {
            allow: Some(allow),
            ..Refusal::new(405, "method not allowed")
        }
    }
}

impl Asked {
    /// What cannot be read, or takes too long.
    pub(super) fn bad(status: u16) -> Asked {
        Asked {
            ask: Ask::Refused(Refusal::new(status, "bad request")),
            form: Form::Text,
            head_only: false,
            close: true,
        }
    }
}

/// The paths there are.
#[derive(Clone, Copy)]
enum Place {
    Healthz,
    Readyz,
    Metrics,
    Backends,
    Why,
    Events,
    Cache,
    Purge,
}

const PLACES: [(&str, Place); 8] = [
    ("/healthz", Place::Healthz),
    ("/readyz", Place::Readyz),
    ("/metrics", Place::Metrics),
    ("/backends", Place::Backends),
    ("/why", Place::Why),
    ("/events", Place::Events),
    ("/cache", Place::Cache),
    ("/cache/purge", Place::Purge),
];

impl Place {
    fn allow(self) -> &'static str {
        match self {
            Place::Backends => "GET, HEAD, POST",
            Place::Purge => "POST",
            Place::Healthz
            | Place::Readyz
            | Place::Metrics
            | Place::Why
            | Place::Events
            | Place::Cache => "GET, HEAD",
        }
    }
}

/// A request and the length of its head; `None` while the head is not complete.
pub(super) fn parse(bytes: &[u8]) -> Option<(Asked, usize)> {
    let mut headers = [httparse::EMPTY_HEADER; HEADER_COUNT_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let head_bytes = match request.parse(bytes) {
        Ok(httparse::Status::Complete(head_bytes)) => head_bytes,
        Ok(httparse::Status::Partial) => return None,
        Err(httparse::Error::TooManyHeaders) => return Some((Asked::bad(431), bytes.len())),
        Err(_) => return Some((Asked::bad(400), bytes.len())),
    };
    let fields = Fields(request.headers);
    let method = request.method.unwrap_or_default();
    let (ask, form) = match read(method, request.path.unwrap_or_default(), &fields) {
        Ok(read) => read,
        Err(refusal) => (Ask::Refused(refusal), Form::Text),
    };
    // A token list may hold more than `close`; to close too often is harmless here.
    let asks_close = fields
        .all("connection")
        .any(|value| !value.eq_ignore_ascii_case("keep-alive"));
    let asked = Asked {
        ask,
        form,
        head_only: method == "HEAD",
        close: asks_close
            || request.version != Some(1)
            || fields.has("content-length")
            || fields.has("transfer-encoding"),
    };
    Some((asked, head_bytes))
}

struct Fields<'a>(&'a [httparse::Header<'a>]);

impl Fields<'_> {
    /// The values of a field; what is not UTF-8 is empty.
    fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        let same = self
            .0
            .iter()
            .filter(move |field| field.name.eq_ignore_ascii_case(name));
        same.map(|field| std::str::from_utf8(field.value).unwrap_or_default())
    }

    fn has(&self, name: &str) -> bool {
        self.all(name).next().is_some()
    }
}

fn read(method: &str, target: &str, fields: &Fields<'_>) -> Result<(Ask, Form), Refusal> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let Some((_, place)) = PLACES.iter().find(|(name, _)| *name == path) else {
        let names = PLACES.map(|(name, _)| name).join(", ");
        return Err(Refusal::new(404, format!("not found; there are {names}")));
    };
    let changes = match method {
        "GET" | "HEAD" if !matches!(place, Place::Purge) => false,
        "POST" if matches!(place, Place::Backends | Place::Purge) => true,
        _ => return Err(Refusal::method(place.allow())),
    };
    match place {
        // Probes and scrapers may have parameters of their own.
        Place::Healthz => Ok((Ask::Look(Look::Healthz), Form::Text)),
        Place::Readyz => Ok((Ask::Look(Look::Readyz), Form::Text)),
        Place::Metrics => Ok((Ask::Look(Look::Metrics), Form::Text)),
        Place::Events => {
            Parameters::read(query, &[])?;
            Ok((Ask::Events, Form::Json))
        }
        Place::Backends if changes => {
            trust(fields)?;
            let known = ["backend", "cluster", "mode", "weight", "format"];
            let mut parameters = Parameters::read(query, &known)?;
            let form = parameters.form(fields)?;
            let which = parameters.one()?;
            Ok((Ask::Change(which, parameters.order()?), form))
        }
        Place::Backends => {
            let mut parameters = Parameters::read(query, &WHICH)?;
            let form = parameters.form(fields)?;
            Ok((Ask::Look(Look::Backends(parameters.which())), form))
        }
        Place::Why => {
            let mut parameters = Parameters::read(query, &WHICH)?;
            let form = parameters.form(fields)?;
            Ok((Ask::Look(Look::Why(parameters.one()?)), form))
        }
        Place::Cache => {
            let form = Parameters::read(query, &["format"])?.form(fields)?;
            Ok((Ask::Look(Look::Cache), form))
        }
        Place::Purge => {
            trust(fields)?;
            let known = ["url", "prefix", "tag", "all", "format"];
            let mut parameters = Parameters::read(query, &known)?;
            let form = parameters.form(fields)?;
            Ok((Ask::Purge(parameters.purge()?), form))
        }
    }
}

/// A page that a browser of the operator's shows may send requests here, too. It cannot leave out what gives it away:
/// Origin, Sec-Fetch-Site, and the Host of its own name when that has been pointed at this address (DNS rebinding).
fn trust(fields: &Fields<'_>) -> Result<(), Refusal> {
    let refused = |text: String| Err(Refusal::new(403, text));
    if fields.has("origin") {
        return refused("changes are not taken from web pages: the request has an Origin".into());
    }
    let mut sites = fields.all("sec-fetch-site");
    if let Some(site) = sites.find(|site| !matches!(*site, "none" | "same-origin")) {
        let site = shown(site);
        return refused(format!(
            "changes are not taken from web pages: Sec-Fetch-Site is {site}"
        ));
    }
    let mut hosts = fields.all("host");
    let (host, second) = (hosts.next(), hosts.next());
    match (host, second) {
        (Some(host), None) if is_own_address(host) => Ok(()),
        (Some(host), None) => {
            let host = shown(host);
            refused(format!(
                "changes are taken only by address: Host is {host}, not an IP address or localhost, \
                 and any name may have been pointed here by a web page"
            ))
        }
        (_, _) => Err(Refusal::new(400, "one Host is wanted")),
    }
}

fn is_own_address(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        Some(_) | None => host,
    };
    let bare = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'));
    name.eq_ignore_ascii_case("localhost") || bare.unwrap_or(name).parse::<IpAddr>().is_ok()
}

/// The parameters of those that only look.
const WHICH: [&str; 3] = ["backend", "cluster", "format"];

/// What stands behind the question mark.
struct Parameters(Vec<(String, String)>);

impl Parameters {
    fn read(query: &str, known: &[&str]) -> Result<Parameters, Refusal> {
        let mut found = Parameters(Vec::new());
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (Some(name), Some(value)) = (decoded(name), decoded(value)) else {
                return Err(Refusal::new(400, "bad percent-encoding in the query"));
            };
            if !known.contains(&name.as_str()) {
                return Err(unknown(&name, known));
            }
            if found.0.iter().any(|(other, _)| *other == name) {
                return Err(Refusal::new(400, format!("{name} is given twice")));
            }
            found.0.push((name, value));
        }
        Ok(found)
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.swap_remove(at).1)
    }

    fn which(&mut self) -> Which {
        Which {
            backend: self.take("backend"),
            cluster: self.take("cluster"),
        }
    }

    fn one(&mut self) -> Result<Which, Refusal> {
        let which = self.which();
        match which.backend {
            Some(_) => Ok(which),
            None => Err(Refusal::new(400, "which one? add backend=URL")),
        }
    }

    /// JSON when it is asked for, by parameter or by Accept; else text, since people ask with curl.
    fn form(&mut self, fields: &Fields<'_>) -> Result<Form, Refusal> {
        let wants_json = |value: &str| value.to_ascii_lowercase().contains("application/json");
        match self.take("format").as_deref() {
            Some("json") => Ok(Form::Json),
            Some("text") => Ok(Form::Text),
            Some(other) => {
                let other = shown(other);
                let text = format!("format {other} is neither text nor json");
                Err(Refusal::new(400, text))
            }
            None if fields.all("accept").any(wants_json) => Ok(Form::Json),
            None => Ok(Form::Text),
        }
    }

    fn order(&mut self) -> Result<Order, Refusal> {
        let refused = |text: String| Refusal::new(400, text);
        let mode = self.take("mode").map(|name| {
            let found = Mode::ALL.into_iter().find(|mode| mode.name() == name);
            found.ok_or_else(|| refused(format!("mode {} is none of {MODES}", shown(&name))))
        });
        let weight = self.take("weight").map(|text| {
            let number = text.parse::<u32>().ok();
            let number = number.filter(|number| u64::from(*number) <= WEIGHT_MAX);
            let text = shown(&text);
            number.ok_or_else(|| refused(format!("weight {text} is not in 0 to {WEIGHT_MAX}")))
        });
        let (mode, weight) = (mode.transpose()?, weight.transpose()?);
        if mode.is_none() && weight.is_none() {
            let text = format!("what shall change? add mode= ({MODES}) or weight=N");
            return Err(refused(text));
        }
        Ok(Order { mode, weight })
    }

    fn purge(&mut self) -> Result<Purge, Refusal> {
        let refused = |text: String| Err(Refusal::new(400, text));
        let mut found: Vec<Purge> = Vec::new();
        found.extend(self.take("url").map(Purge::Url));
        found.extend(self.take("prefix").map(Purge::Prefix));
        found.extend(self.take("tag").map(Purge::Tag));
        match self.take("all").as_deref() {
            Some("true") => found.push(Purge::All),
            Some(other) => return refused(format!("all {} is not true", shown(other))),
            None => {}
        }
        match (found.pop(), found.is_empty()) {
            (Some(purge), true) => Ok(purge),
            (Some(_), false) => refused("one of url, prefix, tag and all is wanted".to_owned()),
            (None, _) => {
                refused("what shall be purged? add url=, prefix=, tag= or all=true".to_owned())
            }
        }
    }
}

fn unknown(name: &str, known: &[&str]) -> Refusal {
    let hint = match nearest(name, known.iter().copied()) {
        Some(near) => format!("did you mean {near}?"),
        None if matches!(name, "mode" | "weight") => "a change wants POST /backends".to_owned(),
        None if known.is_empty() => "there are none here".to_owned(),
        None => format!("there are {}", known.join(", ")),
    };
    Refusal::new(400, format!("unknown parameter {}: {hint}", shown(name)))
}

/// Without the percent-encoding. A plus sign stands for itself: paths of sockets may have one.
fn decoded(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        let (high, low) = (digit()?, digit()?);
        out.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(out).ok()
}

/// What a client sent, harmless for a terminal and of bounded length.
pub(super) fn shown(text: &str) -> String {
    let start: String = text.chars().take(SHOWN_MAX).collect();
    format!("{start:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn which(backend: &str, cluster: &str) -> Which {
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Which {
            backend: text(backend),
            cluster: text(cluster),
        }
    }

    fn order(mode: Option<Mode>, weight: Option<u32>) -> Order {
        Order { mode, weight }
    }

    /// A whole request from its first line and further lines.
    fn asked(line: &str, more: &str) -> Asked {
        let bytes = format!("{line} HTTP/1.1\r\n{more}\r\n");
        for cut in 0..bytes.len() {
            assert_eq!(parse(&bytes.as_bytes()[..cut]), None, "{line} cut at {cut}");
        }
        let (asked, head_bytes) = parse(bytes.as_bytes()).unwrap();
        assert_eq!(head_bytes, bytes.len());
        asked
    }

    const HOST: &str = "Host: 127.0.0.1:2112\r\n";

    #[test]
    fn what_is_asked() {
        let url = "http://127.0.0.1:3001";
        let drain = order(Some(Mode::Drain), None);
        for (line, ask) in [
            ("GET /healthz", Ask::Look(Look::Healthz)),
            ("HEAD /readyz?x=%", Ask::Look(Look::Readyz)),
            ("GET /metrics?name[]=up", Ask::Look(Look::Metrics)),
            ("GET /backends", Ask::Look(Look::Backends(which("", "")))),
            (
                "GET /backends?cluster=a%20b&",
                Ask::Look(Look::Backends(which("", "a b"))),
            ),
            (
                "GET /why?backend=http%3A%2f%2F127.0.0.1:3001",
                Ask::Look(Look::Why(which(url, ""))),
            ),
            (
                "GET /why?backend=unix:/run/a+b.sock&cluster=c",
                Ask::Look(Look::Why(which("unix:/run/a+b.sock", "c"))),
            ),
            ("GET /events", Ask::Events),
            ("HEAD /cache?format=text", Ask::Look(Look::Cache)),
            (
                "POST /cache/purge?url=http://a/%2520?b=c%26d",
                Ask::Purge(Purge::Url("http://a/%20?b=c&d".to_owned())),
            ),
            (
                "POST /cache/purge?prefix=http://a/b/",
                Ask::Purge(Purge::Prefix("http://a/b/".to_owned())),
            ),
            (
                "POST /cache/purge?tag=a+b",
                Ask::Purge(Purge::Tag("a+b".to_owned())),
            ),
            (
                "POST /cache/purge?all=true&format=json",
                Ask::Purge(Purge::All),
            ),
            (
                "POST /backends?backend=http://127.0.0.1:3001&mode=drain",
                Ask::Change(which(url, ""), drain),
            ),
            (
                "POST /backends?weight=65535&mode=auto&cluster=c&backend=x",
                Ask::Change(which("x", "c"), order(Some(Mode::Auto), Some(65_535))),
            ),
        ] {
            assert_eq!(asked(line, HOST).ask, ask, "{line}");
        }
    }

    fn assert_refused(line: &str, status: u16, text: &str) {
        let Ask::Refused(refusal) = asked(line, HOST).ask else {
            panic!("{line} is not refused");
        };
        assert_eq!((refusal.status, &*refusal.text), (status, text), "{line}");
        assert_eq!(refusal.allow.is_some(), status == 405);
    }

    #[test]
    fn a_change_is_refused_unless_it_is_clear() {
        for (line, text) in [
            ("POST /backends?mode=up", "which one? add backend=URL"),
            (
                "POST /backends?backend=a",
                "what shall change? add mode= (auto, up, drain or maintenance) or weight=N",
            ),
            (
                "POST /backends?backend=a&mode=down",
                "mode \"down\" is none of auto, up, drain or maintenance",
            ),
            (
                "POST /backends?backend=a&weight=65536",
                "weight \"65536\" is not in 0 to 65535",
            ),
            (
                "POST /backends?backend=a&weight=-1",
                "weight \"-1\" is not in 0 to 65535",
            ),
            (
                "POST /cache/purge",
                "what shall be purged? add url=, prefix=, tag= or all=true",
            ),
            (
                "POST /cache/purge?tag=a&all=true",
                "one of url, prefix, tag and all is wanted",
            ),
            ("POST /cache/purge?all=false", "all \"false\" is not true"),
            ("POST /cache/purge?tag=a&tag=b", "tag is given twice"),
            (
                "POST /cache/purge?tags=a",
                "unknown parameter \"tags\": did you mean tag?",
            ),
        ] {
            assert_refused(line, 400, text);
        }
    }

    #[test]
    fn what_is_refused_says_why() {
        for (line, status, text) in [
            (
                "GET /",
                404,
                "not found; there are /healthz, /readyz, /metrics, /backends, /why, /events, /cache, /cache/purge",
            ),
            ("POST /metrics", 405, "method not allowed"),
            ("DELETE /backends", 405, "method not allowed"),
            ("POST /events", 405, "method not allowed"),
            ("POST /cache", 405, "method not allowed"),
            ("GET /cache/purge?all=true", 405, "method not allowed"),
            (
                "GET /cache?url=a",
                400,
                "unknown parameter \"url\": there are format",
            ),
            (
                "GET /backends?clutser=a",
                400,
                "unknown parameter \"clutser\": did you mean cluster?",
            ),
            (
                "GET /backends?x=a",
                400,
                "unknown parameter \"x\": there are backend, cluster, format",
            ),
            (
                "GET /backends?mode=drain",
                400,
                "unknown parameter \"mode\": a change wants POST /backends",
            ),
            (
                "GET /events?a=%1b",
                400,
                "unknown parameter \"a\": there are none here",
            ),
            (
                "GET /events?%1b",
                400,
                "unknown parameter \"\\u{1b}\": there are none here",
            ),
            (
                "GET /backends?cluster=a&cluster=b",
                400,
                "cluster is given twice",
            ),
            (
                "GET /backends?cluster=%4",
                400,
                "bad percent-encoding in the query",
            ),
            (
                "GET /backends?cluster=%+1",
                400,
                "bad percent-encoding in the query",
            ),
            (
                "GET /backends?cluster=%ff",
                400,
                "bad percent-encoding in the query",
            ),
            (
                "GET /backends?format=xml",
                400,
                "format \"xml\" is neither text nor json",
            ),
            ("GET /why", 400, "which one? add backend=URL"),
        ] {
            assert_refused(line, status, text);
        }
    }

    #[test]
    fn changes_are_taken_only_from_programs_that_know_the_address() {
        for (more, status) in [
            ("Host: 127.0.0.1:2112\r\n", 200),
            ("Host: 10.1.2.3\r\n", 200),
            ("Host: [::1]:2112\r\n", 200),
            ("Host: [::1]\r\n", 200),
            ("host: LocalHost:2112\r\n", 200),
            ("Host: localhost\r\nSec-Fetch-Site: none\r\n", 200),
            ("Host: localhost\r\nSec-Fetch-Site: same-origin\r\n", 200),
            ("Host: localhost\r\nSec-Fetch-Site: same-site\r\n", 403),
            ("Host: localhost\r\nSec-Fetch-Site: cross-site\r\n", 403),
            (
                "Host: localhost\r\nSec-Fetch-Site: none\r\nSec-Fetch-Site: cross-site\r\n",
                403,
            ),
            ("Host: localhost\r\nOrigin: http://evil.example\r\n", 403),
            ("Host: localhost\r\nORIGIN: null\r\n", 403),
            ("Host: evil.example:2112\r\n", 403),
            ("Host: localhost.evil.example\r\n", 403),
            ("Host: 127.0.0.1.evil.example:80\r\n", 403),
            ("Host: \r\n", 403),
            ("Host: localhost\r\nHost: evil.example\r\n", 400),
            ("", 400),
        ] {
            for line in [
                "POST /backends?backend=a&mode=up",
                "POST /cache/purge?all=true",
            ] {
                let found = match asked(line, more).ask {
                    Ask::Change(_, _) | Ask::Purge(_) => 200,
                    Ask::Refused(refusal) => refusal.status,
                    Ask::Look(_) | Ask::Events => 0,
                };
                assert_eq!(found, status, "{line} {more}");
            }
            assert!(
                matches!(asked("GET /backends", more).ask, Ask::Look(_)),
                "{more}"
            );
        }
    }

    #[test]
    fn json_is_for_those_who_ask_for_it() {
        for (query, more, form) in [
            ("", "", Form::Text),
            ("", "Accept: */*\r\n", Form::Text),
            ("", "Accept: text/html,*/*;q=0.8\r\n", Form::Text),
            ("", "Accept: Application/JSON\r\n", Form::Json),
            ("?format=json", "", Form::Json),
            ("?format=text", "Accept: application/json\r\n", Form::Text),
        ] {
            let asked = asked(&format!("GET /backends{query}"), more);
            assert_eq!(asked.form, form, "{query} {more}");
        }
    }

    #[test]
    fn a_connection_goes_on_unless_a_body_or_its_end_is_announced() {
        for (more, close) in [
            ("", false),
            ("Connection: keep-alive\r\n", false),
            ("Connection: close\r\n", true),
            ("Content-Length: 0\r\n", true),
            ("Transfer-Encoding: chunked\r\n", true),
        ] {
            assert_eq!(asked("GET /healthz", more).close, close, "{more}");
        }
        let (old, _) = parse(b"GET /healthz HTTP/1.0\r\n\r\n").unwrap();
        assert!(old.close);
    }
}
