//! Cross-origin requests (the Fetch standard's CORS protocol).
//!
//! Decides: whether a page of another origin may ask, and the fields that tell its browser. May not know: how requests
//! without Origin fare: they pass. Invariant: credentials are never allowed to any origin at all; an origin is only
//! named in a response if it was well formed and is on the list.

use std::net::Ipv6Addr;

use super::headers::{is_token, line};
use crate::h1::Method;
use crate::h1::head::Request;

/// Longest list of fields that a preflight may ask for. Browsers name a few; it is echoed.
const ASKED_BYTES_MAX: usize = 1024;

/// Longest name of a host (RFC 1035 section 2.3.4).
const HOST_BYTES_MAX: usize = 253;

#[derive(Debug)]
pub struct Cors {
    pub origins: Box<[Origin]>,
    /// Methods of a preflight's answer, as one list: `GET, POST`.
    pub methods: Box<str>,
    /// Fields that requests may have; `None`: those that are asked for.
    pub headers: Option<Box<str>>,
    /// Fields of responses that pages may read; empty for none.
    pub exposed: Box<str>,
    pub credentials: bool,
    /// How long a browser keeps a preflight's answer; `None` leaves it to the browser.
    pub max_age_s: Option<u64>,
}

/// Whose pages may ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    Any,
    /// `https://app.example.org:8443`, in lower case, without the scheme's own port; or `null`.
    Exact(Box<str>),
    /// `https://*.example.org`, as its scheme and `.example.org`, with a port if there is one; without a scheme, any.
    Suffix {
        scheme: Option<Box<str>>,
        suffix: Box<str>,
    },
}

/// What a request is, as far as origins go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judged<'b> {
    /// It passes: no page of another origin asks. Without Origin (no browser, or a navigation), or with our own: a
    /// browser sends Origin with every POST.
    NoOrigin,
    /// It passes; the page of this origin may read the response.
    Allowed { origin: &'b str },
    /// It does not pass: it is a browser's question whether a request may be sent. The answer is yes, an empty 204 with
    /// [`Cors::fields`].
    Preflight {
        origin: &'b str,
        /// The fields that the browser asks for, a list of tokens or empty.
        asked: &'b str,
    },
    /// Refused with 403.
    Denied,
}

impl Origin {
    /// `*`, `null`, `https://app.example.org:8443`, `https://*.example.org`, `*.example.org`; else what is wrong.
    pub fn parse(text: &str) -> Result<Origin, String> {
        match text {
            "*" => return Ok(Origin::Any),
            "null" => return Ok(Origin::Exact(text.into())),
            _ => {}
        }
        let (scheme, authority) = match text.split_once("://") {
            Some((scheme, authority)) => (Some(scheme), authority),
            None => (None, text),
        };
        if authority.contains(['/', '?', '#']) {
            return Err(format!(
                "\"{text}\" has a path, and an origin has none, not even \"/\""
            ));
        }
        let Some(suffix) = authority.strip_prefix('*') else {
            if scheme.is_none() {
                return Err(format!(
                    "\"{text}\" lacks its scheme, as in \"https://{text}\""
                ));
            }
            let parts = Parts::of(text).ok_or_else(|| no_origin(text))?;
            return Ok(Origin::Exact(parts.normal().into()));
        };
        let (Some(host), true) = (suffix.strip_prefix('.'), scheme.is_none_or(is_scheme)) else {
            return Err(no_origin(text));
        };
        // The rules for what is below are those for what is above, with a scheme of any kind.
        let whole = format!("{}://{host}", scheme.unwrap_or("any"));
        let parts = Parts::of(&whole).ok_or_else(|| no_origin(text))?;
        if scheme.is_none() && !parts.port.is_empty() {
            return Err(format!(
                "\"{text}\" has a port, which needs a scheme before it"
            ));
        }
        let normal = parts.normal();
        let below = normal.split_once("://").map_or("", |(_, below)| below);
        Ok(Origin::Suffix {
            scheme: scheme.map(|scheme| scheme.to_ascii_lowercase().into()),
            suffix: format!(".{below}").into(),
        })
    }
}

impl Origin {
    /// Whether it surely allows this spelling. A quick look: half of what filters cost was taking origins apart.
    fn is_spelled(&self, origin: &str) -> bool {
        match self {
            Origin::Any => false,
            Origin::Exact(known) => **known == *origin,
            Origin::Suffix { scheme, suffix } => {
                let Some(scheme) = scheme else { return false };
                let below = origin
                    .strip_prefix(&**scheme)
                    .and_then(|rest| rest.strip_prefix("://"))
                    .and_then(|rest| rest.strip_suffix(&**suffix));
                let is_plain =
                    |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
                below.is_some_and(|below| {
                    !below.is_empty() && below.len() < 64 && below.as_bytes().iter().all(is_plain)
                })
            }
        }
    }
}

fn no_origin(text: &str) -> String {
    format!("\"{text}\" is no origin, such as \"https://example.org\" or \"https://*.example.org\"")
}

impl Cors {
    /// Reads Origin and, of a preflight, what it asks for. Allocates nothing.
    pub fn judge<'b>(&self, request: &Request<'_, 'b>) -> Judged<'b> {
        let origin = match one(request, "origin") {
            Found::None => return Judged::NoOrigin,
            Found::One(origin) => origin,
            Found::Several => return Judged::Denied,
        };
        if !self.allows(origin) {
            return if is_same_origin(request, origin) {
                Judged::NoOrigin
            } else {
                Judged::Denied
            };
        }
        if request.method != Method::Options {
            return Judged::Allowed { origin };
        }
        match one(request, "access-control-request-method") {
            // An OPTIONS of its own right.
            Found::None => Judged::Allowed { origin },
            Found::One(method) if self.lists_method(method) => self.preflight(request, origin),
            Found::One(_) | Found::Several => Judged::Denied,
        }
    }

    fn preflight<'b>(&self, request: &Request<'_, 'b>, origin: &'b str) -> Judged<'b> {
        let asked = match one(request, "access-control-request-headers") {
            Found::None => "",
            Found::One(asked) => asked,
            Found::Several => return Judged::Denied,
        };
        let lists = |name: &str| match &self.headers {
            Some(headers) => list(headers).any(|listed| listed.eq_ignore_ascii_case(name)),
            None => is_token(name.as_bytes()),
        };
        let is_short = asked.len() < ASKED_BYTES_MAX;
        if asked.is_empty() || is_short && list(asked).all(lists) {
            Judged::Preflight { origin, asked }
        } else {
            Judged::Denied
        }
    }

    fn allows(&self, origin: &str) -> bool {
        if self.is_open() {
            // Nothing is echoed, so all that counts is that there is only one: pages in files and of apps have origins
            // like `null` and `app://`.
            return !origin.is_empty() && !origin.contains([',', ' ', '\t']);
        }
        // As browsers write it, in lower case; anything else is taken apart.
        if self.origins.iter().any(|known| known.is_spelled(origin)) {
            return true;
        }
        let parts = Parts::of(origin);
        self.origins.iter().any(|known| match (known, &parts) {
            (Origin::Any, _) => false,
            (Origin::Exact(known), Some(parts)) => parts.is(known),
            // Sandboxed frames, pages in files, and more: whose it is, nobody knows.
            (Origin::Exact(known), None) => &**known == "null" && origin == "null",
            (Origin::Suffix { scheme, suffix }, Some(parts)) => {
                parts.is_below(scheme.as_deref(), suffix)
            }
            (Origin::Suffix { .. }, None) => false,
        })
    }

    /// The answer is `*`, whoever asks.
    fn is_open(&self) -> bool {
        !self.credentials && self.origins.contains(&Origin::Any)
    }

    /// Case counts (Fetch standard, "CORS-preflight fetch").
    fn lists_method(&self, method: &str) -> bool {
        list(&self.methods).any(|listed| listed == method)
    }

    /// Appends the fields of the response: of the backend's, or of our own to a preflight or a denied request. The
    /// backend's own are to be dropped ([`is_cors_field`]).
    pub fn fields(&self, judged: Judged<'_>, out: &mut Vec<u8>) {
        match judged {
            // Also when no page asks: a cache may give this response to one that does (Fetch standard, "CORS protocol
            // and HTTP caches").
            Judged::NoOrigin | Judged::Denied if self.is_open() => self.readable("*", out),
            Judged::NoOrigin | Judged::Denied => line(out, "Vary", "Origin"),
            Judged::Allowed { origin } => self.readable(origin, out),
            Judged::Preflight { origin, asked } => self.preflight_fields(origin, asked, out),
        }
    }

    fn readable(&self, origin: &str, out: &mut Vec<u8>) {
        self.allow_origin(origin, out);
        if !self.exposed.is_empty() {
            line(out, "Access-Control-Expose-Headers", &self.exposed);
        }
        if !self.is_open() {
            line(out, "Vary", "Origin");
        }
    }

    fn allow_origin(&self, origin: &str, out: &mut Vec<u8>) {
        let origin = if self.is_open() { "*" } else { origin };
        line(out, "Access-Control-Allow-Origin", origin);
        if self.credentials {
            line(out, "Access-Control-Allow-Credentials", "true");
        }
    }

    fn preflight_fields(&self, origin: &str, asked: &str, out: &mut Vec<u8>) {
        const ASKED: &str = "Access-Control-Request-Method, Access-Control-Request-Headers";
        self.allow_origin(origin, out);
        line(out, "Access-Control-Allow-Methods", &self.methods);
        let headers = self.headers.as_deref().unwrap_or(asked);
        if !headers.is_empty() {
            line(out, "Access-Control-Allow-Headers", headers);
        }
        if let Some(seconds) = self.max_age_s {
            let mut digits = itoa::Buffer::new();
            line(out, "Access-Control-Max-Age", digits.format(seconds));
        }
        if !self.is_open() {
            line(out, "Vary", "Origin");
        }
        line(out, "Vary", ASKED);
    }
}

/// Whether a backend's field is one of this protocol. Two answers to one question would be no answer: browsers refuse a
/// response with two Access-Control-Allow-Origin.
pub fn is_cors_field(name: &str) -> bool {
    const PREFIX: &str = "access-control-";
    // Most names are shorter.
    name.len() > PREFIX.len()
        && name
            .get(..PREFIX.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
}

/// How often a request has a field, and its value.
enum Found<'b> {
    None,
    One(&'b str),
    /// Or once, with bytes that no browser sends.
    Several,
}

fn one<'b>(request: &Request<'_, 'b>, name: &str) -> Found<'b> {
    let mut named = request
        .headers
        .iter()
        .filter(|header| header.name.eq_ignore_ascii_case(name));
    match (named.next(), named.next()) {
        (None, _) => Found::None,
        (Some(field), None) => {
            let text = std::str::from_utf8(field.value).ok();
            let text = text.filter(|text| text.is_ascii());
            text.map_or(Found::Several, Found::One)
        }
        (Some(_), Some(_)) => Found::Several,
    }
}

/// The elements of a comma-separated list.
fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',')
        .map(|element| element.trim_matches([' ', '\t']))
}

/// Whether the page is one of the host that is asked. A browser says so itself in Sec-Fetch-Site, which pages cannot set
/// (Fetch Metadata), and which is right also where the origin is `null` or a proxy before us has changed Host; what is no
/// browser needs no Origin at all. Without its word (it is not sent over plain http) the origin's host and port must be
/// those of the request. The scheme is not compared: a proxy before us may have taken off TLS. So a page of the same
/// host with another scheme may get through; its browser still keeps the response from it, for want of
/// Access-Control-Allow-Origin.
fn is_same_origin(request: &Request<'_, '_>, origin: &str) -> bool {
    match one(request, "sec-fetch-site") {
        Found::One("same-origin") => true,
        Found::One("same-site" | "cross-site") | Found::Several => false,
        Found::One(_) | Found::None => Parts::of(origin).is_some_and(|parts| {
            let (host, port) = split_port(request.host);
            let is_own = port.is_empty() || parts.own_port() == Some(port);
            let port = if is_own { "" } else { port };
            parts.host.eq_ignore_ascii_case(host) && parts.port == port
        }),
    }
}

/// A well-formed origin (RFC 6454 section 6.2), cut up.
struct Parts<'a> {
    scheme: &'a str,
    host: &'a str,
    /// Empty for the scheme's own.
    port: &'a str,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Option<Parts<'a>> {
        let (scheme, authority) = text.split_once("://")?;
        let (host, port) = split_port(authority);
        if !is_scheme(scheme) || !is_host(host) || !is_port(authority, port) {
            return None;
        }
        let mut parts = Parts { scheme, host, port };
        if parts.own_port() == Some(port) {
            parts.port = "";
        }
        Some(parts)
    }

    fn own_port(&self) -> Option<&'static str> {
        if self.scheme.eq_ignore_ascii_case("https") {
            Some("443")
        } else if self.scheme.eq_ignore_ascii_case("http") {
            Some("80")
        } else {
            None
        }
    }

    /// `known` is in lower case, and without the scheme's own port.
    fn is(&self, known: &str) -> bool {
        let known = known.split_once("://");
        known.is_some_and(|(scheme, authority)| {
            let (host, port) = split_port(authority);
            self.scheme.eq_ignore_ascii_case(scheme)
                && self.host.eq_ignore_ascii_case(host)
                && self.port == port
        })
    }

    /// `suffix` begins with a dot, which no host does: something stands before it.
    fn is_below(&self, scheme: Option<&str>, suffix: &str) -> bool {
        let (suffix, port) = split_port(suffix);
        let before = self.host.len().checked_sub(suffix.len());
        before.is_some_and(|before| {
            let end = &self.host.as_bytes()[before..];
            end.eq_ignore_ascii_case(suffix.as_bytes())
                && scheme.is_none_or(|scheme| self.scheme.eq_ignore_ascii_case(scheme))
                && self.port == port
        })
    }

    /// As browsers write it: in lower case, without the scheme's own port, an address in its shortest form.
    fn normal(&self) -> String {
        let colon = if self.port.is_empty() { "" } else { ":" };
        let ip = self.host.trim_matches(['[', ']']).parse::<Ipv6Addr>();
        let host = ip.map_or(self.host.into(), |ip| format!("[{ip}]"));
        format!("{}://{host}{colon}{}", self.scheme, self.port).to_ascii_lowercase()
    }
}

/// Host and port, empty if there is none; the colons of an IPv6 address are its own.
fn split_port(authority: &str) -> (&str, &str) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port),
        Some(_) | None => (authority, ""),
    }
}

/// RFC 3986 section 3.1.
fn is_scheme(text: &str) -> bool {
    let is_scheme_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    text.starts_with(|first: char| first.is_ascii_alphabetic()) && text.bytes().all(is_scheme_byte)
}

/// What a browser makes of a host: a name, or an address.
fn is_host(text: &str) -> bool {
    if let Some(ip) = text.strip_prefix('[') {
        let ip = ip.strip_suffix(']');
        return ip.is_some_and(|ip| ip.parse::<Ipv6Addr>().is_ok());
    }
    let is_host_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    (1..=HOST_BYTES_MAX).contains(&text.len())
        && !text.starts_with('.')
        && text.bytes().all(is_host_byte)
}

/// A port as browsers write it, without zeros before it; or none, and no colon.
fn is_port(authority: &str, port: &str) -> bool {
    if port.is_empty() {
        return !authority.ends_with(':');
    }
    let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
    is_number && !port.starts_with('0') && port.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::h1::Limits;
    use crate::h1::head::{Slots, parse_request};

    fn cors(origins: &[&str], headers: Option<&str>, credentials: bool) -> Cors {
        Cors {
            origins: origins
                .iter()
                .map(|text| Origin::parse(text).unwrap())
                .collect(),
            methods: "GET, PUT".into(),
            headers: headers.map(Box::from),
            exposed: "X-Total".into(),
            credentials,
            max_age_s: Some(600),
        }
    }

    /// What becomes of a request, and the fields of its response.
    fn judged(cors: &Cors, line: &str, fields: &[&str]) -> (String, String) {
        let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
        let text = format!("{line} /a HTTP/1.1\r\nHost: own.example:8080\r\n{fields}\r\n");
        let mut slots = Slots::new();
        let request = parse_request(text.as_bytes(), &Limits::DEFAULT, &mut slots)
            .unwrap()
            .unwrap();
        let judged = cors.judge(&request);
        let mut out = Vec::new();
        cors.fields(judged, &mut out);
        let verdict = match judged {
            Judged::NoOrigin => "no origin".to_owned(),
            Judged::Allowed { origin } => format!("allowed {origin}"),
            Judged::Preflight { origin, asked } => format!("preflight {origin} [{asked}]"),
            Judged::Denied => "denied".to_owned(),
        };
        (verdict, String::from_utf8(out).unwrap())
    }

    fn verdict(cors: &Cors, line: &str, fields: &[&str]) -> String {
        judged(cors, line, fields).0
    }

    #[test]
    fn origins_are_read() {
        let exact = |text: &str| Ok(Origin::Exact(text.into()));
        let suffix = |scheme: Option<&str>, suffix: &str| {
            Ok(Origin::Suffix {
                scheme: scheme.map(Box::from),
                suffix: suffix.into(),
            })
        };
        for (text, expected) in [
            ("*", Ok(Origin::Any)),
            ("null", exact("null")),
            ("https://a", exact("https://a")),
            (
                "HTTPS://App.Example.org:8443",
                exact("https://app.example.org:8443"),
            ),
            ("https://a:443", exact("https://a")),
            ("http://a:80", exact("http://a")),
            ("http://a:443", exact("http://a:443")),
            ("http://[2001:DB8:0::1]:80", exact("http://[2001:db8::1]")),
            ("http://127.0.0.1:3000", exact("http://127.0.0.1:3000")),
            ("chrome-extension://abc", exact("chrome-extension://abc")),
            ("*.Example.org", suffix(None, ".example.org")),
            (
                "https://*.example.org",
                suffix(Some("https"), ".example.org"),
            ),
            (
                "https://*.example.org:443",
                suffix(Some("https"), ".example.org"),
            ),
            (
                "http://*.example.org:8080",
                suffix(Some("http"), ".example.org:8080"),
            ),
        ] {
            assert_eq!(Origin::parse(text), expected, "{text}");
        }
        for (text, problem) in [
            ("https://a/", "has a path"),
            ("https://a/b", "has a path"),
            ("https://*.a/", "has a path"),
            ("https://a?b", "has a path"),
            (
                "example.org",
                "\"example.org\" lacks its scheme, as in \"https://example.org\"",
            ),
            ("NULL", "lacks its scheme"),
            (
                "*.a.example:8443",
                "has a port, which needs a scheme before it",
            ),
            ("", "lacks its scheme"),
            ("https://", "is no origin"),
            ("https://u@a", "is no origin"),
            ("https://a:", "is no origin"),
            ("https://a:0", "is no origin"),
            ("https://a:080", "is no origin"),
            ("https://a:65536", "is no origin"),
            ("https://a:+80", "is no origin"),
            ("https://::1", "is no origin"),
            ("https://[::g]", "is no origin"),
            ("https://\u{e9}.example", "is no origin"),
            ("https://*", "is no origin"),
            ("https://*.", "is no origin"),
            ("https://*example.org", "is no origin"),
            ("https://a.*.org", "is no origin"),
            ("https://*.*.org", "is no origin"),
            ("1s://*.example.org", "is no origin"),
            ("**", "is no origin"),
            ("https://a b", "is no origin"),
        ] {
            let found = Origin::parse(text).unwrap_err();
            assert!(found.contains(problem), "{text}: {found}");
        }
    }

    #[test]
    fn who_may_ask() {
        let listed = cors(
            &[
                "https://a.example",
                "http://b.example:8080",
                "https://*.c.example",
                "*.d.example",
            ],
            None,
            true,
        );
        for (origin, passes) in [
            ("https://a.example", true),
            ("https://a.example:443", true),
            ("HTTPS://A.example", true),
            ("http://a.example", false),
            ("https://a.example:8443", false),
            ("https://a.example.evil.example", false),
            ("https://xa.example", false),
            ("http://b.example:8080", true),
            ("http://b.example", false),
            ("https://x.c.example", true),
            ("https://x.y.c.example", true),
            ("https://c.example", false),
            ("https://.c.example", false),
            ("https://xc.example", false),
            ("https://x.c.example:8443", false),
            ("http://x.c.example", false),
            ("http://x.d.example", true),
            ("https://x.d.example", true),
            ("https://x.d.example:8443", false),
            ("null", false),
            ("", false),
            ("*", false),
            ("https://*.c.example", false),
            ("https://a.example/", false),
            ("https://a.example https://b.example", false),
            ("https://a.example, https://b.example", false),
            ("https://u@x.c.example", false),
            ("https://evil.example/.c.example", false),
            ("https://evil.example?.c.example", false),
            ("https://evil.example#.c.example", false),
            ("https://evil.example\\.c.example", false),
            ("https://evil.example%00.c.example", false),
            ("https://evil.example\u{e9}.c.example", false),
            ("https://x.c.example:", false),
            ("https://x.c.example:0443", false),
            ("file://", false),
        ] {
            let expected = if passes {
                format!("allowed {origin}")
            } else {
                "denied".into()
            };
            let field = format!("Origin: {origin}");
            assert_eq!(verdict(&listed, "GET", &[&field]), expected, "{origin}");
        }
        assert_eq!(
            verdict(
                &listed,
                "GET",
                &["Origin: https://a.example", "origin: https://a.example"]
            ),
            "denied"
        );
        assert_eq!(
            verdict(&cors(&["null"], None, false), "GET", &["Origin: null"]),
            "allowed null"
        );
    }

    #[test]
    fn our_own_pages_may_ask() {
        let listed = cors(&["https://a.example"], None, false);
        for (fields, expected) in [
            // A TLS terminator before us: the scheme says nothing.
            (&["Origin: http://own.example:8080"][..], "no origin"),
            (&["Origin: https://OWN.example:8080"], "no origin"),
            (&["Origin: http://own.example"], "denied"),
            (&["Origin: http://own.example:80"], "denied"),
            (&["Origin: http://x.own.example:8080"], "denied"),
            (&["Origin: null"], "denied"),
            // A browser's word counts more than ours.
            (
                &["Origin: null", "Sec-Fetch-Site: same-origin"],
                "no origin",
            ),
            (
                &[
                    "Origin: https://outside.example",
                    "Sec-Fetch-Site: same-origin",
                ],
                "no origin",
            ),
            (
                &[
                    "Origin: http://own.example:8080",
                    "Sec-Fetch-Site: cross-site",
                ],
                "denied",
            ),
            (
                &[
                    "Origin: http://own.example:8080",
                    "Sec-Fetch-Site: same-site",
                ],
                "denied",
            ),
            (
                &["Origin: http://own.example:8080", "Sec-Fetch-Site: none"],
                "no origin",
            ),
            (&["Origin: null", "Sec-Fetch-Site: none"], "denied"),
            (
                &[
                    "Origin: null",
                    "Sec-Fetch-Site: same-origin",
                    "Sec-Fetch-Site: same-origin",
                ],
                "denied",
            ),
            (
                &[
                    "Origin: http://own.example:8080",
                    "Origin: http://own.example:8080",
                ],
                "denied",
            ),
        ] {
            let (found, response) = judged(&listed, "POST", fields);
            assert_eq!(
                (&*found, &*response),
                (expected, "Vary: Origin\r\n"),
                "{fields:?}"
            );
        }
    }

    /// Which port is meant by a Host without one, the origin's scheme says.
    #[test]
    fn own_ports_may_be_left_out() {
        for (host, origin, is_same) in [
            ("own.example", "https://own.example", true),
            ("own.example", "http://own.example", true),
            ("own.example:443", "https://own.example", true),
            ("own.example:80", "http://own.example", true),
            ("own.example:80", "https://own.example", false),
            ("own.example:443", "http://own.example", false),
            ("own.example:", "http://own.example", true),
            ("own.example", "https://own.example:8443", false),
            ("[::1]:8080", "http://[::1]:8080", true),
            ("[::1]", "http://[::1]", true),
            ("[::1]", "http://[::2]", false),
        ] {
            let text = format!("POST / HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\n\r\n");
            let mut slots = Slots::new();
            let request = parse_request(text.as_bytes(), &Limits::DEFAULT, &mut slots);
            let judged = cors(&[], None, false).judge(&request.unwrap().unwrap());
            let expected = if is_same {
                Judged::NoOrigin
            } else {
                Judged::Denied
            };
            assert_eq!(judged, expected, "{host} {origin}");
        }
        let text = b"POST / HTTP/1.0\r\nOrigin: http://own.example\r\n\r\n";
        let mut slots = Slots::new();
        let request = parse_request(text, &Limits::DEFAULT, &mut slots)
            .unwrap()
            .unwrap();
        assert_eq!(cors(&[], None, false).judge(&request), Judged::Denied);
    }

    #[test]
    fn preflights_are_answered_here() {
        const A: &str = "Origin: https://a.example";
        let listed = cors(&["https://a.example"], Some("Content-Type, X-Y"), false);
        let echoing = cors(&["https://a.example"], None, false);
        let long = format!("Access-Control-Request-Headers: {}", "a,".repeat(511) + "b");
        let longer = format!(
            "Access-Control-Request-Headers: {}",
            "a,".repeat(511) + "bc"
        );
        let method = |method: &str| format!("Access-Control-Request-Method: {method}");
        let asked = |asked: &str| format!("Access-Control-Request-Headers: {asked}");
        let put = &*method("PUT");
        for (cors, fields, expected) in [
            (&listed, &[A, put][..], "preflight https://a.example []"),
            (
                &listed,
                &[A, put, &asked("content-type,x-y")],
                "preflight https://a.example [content-type,x-y]",
            ),
            (&listed, &[A, put, &asked("content-type, x-z")], "denied"),
            (&listed, &[A, put, &asked("content-type,,x-y")], "denied"),
            (
                &listed,
                &[A, put, &asked("")],
                "preflight https://a.example []",
            ),
            (
                &echoing,
                &[A, put, &asked("x-any, X-Other")],
                "preflight https://a.example [x-any, X-Other]",
            ),
            (&echoing, &[A, put, &asked("x any")], "denied"),
            (&echoing, &[A, put, &asked("x-a,x\u{e9}")], "denied"),
            (&echoing, &[A, put, &asked("x-a,")], "denied"),
            (&echoing, &[A, put, &asked("a"), &asked("b")], "denied"),
            (&echoing, &[A, put, &longer], "denied"),
            (&listed, &[A, &method("DELETE")], "denied"),
            (&listed, &[A, &method("put")], "denied"),
            (&listed, &[A, &method("")], "denied"),
            (&listed, &[A, &method("GET, PUT")], "denied"),
            (&listed, &[A, put, put], "denied"),
            (&listed, &["Origin: https://b.example", put], "denied"),
            (&listed, &["Origin: null", put], "denied"),
            // No preflight: the backend's.
            (&listed, &[A], "allowed https://a.example"),
            (&listed, &[put], "no origin"),
        ] {
            assert_eq!(verdict(cors, "OPTIONS", fields), expected, "{fields:?}");
        }
        assert!(verdict(&echoing, "OPTIONS", &[A, put, &long]).starts_with("preflight"));
        assert_eq!(
            verdict(&listed, "GET", &[A, put]),
            "allowed https://a.example"
        );
    }

    #[test]
    fn what_browsers_are_told() {
        const A: &str = "Origin: https://a.example";
        let preflight = [
            A,
            "Access-Control-Request-Method: PUT",
            "Access-Control-Request-Headers: x-q",
        ];
        let listed = cors(&["https://a.example"], Some("X-Q, X-R"), true);
        let open = cors(&["*"], None, false);
        let bare = Cors {
            exposed: "".into(),
            max_age_s: None,
            headers: None,
            ..cors(&["https://a.example"], None, false)
        };
        for (cors, line, fields, expected) in [
            (
                &listed,
                "GET",
                &[A][..],
                "Access-Control-Allow-Origin: https://a.example\nAccess-Control-Allow-Credentials: true\n\
                 Access-Control-Expose-Headers: X-Total\nVary: Origin\n",
            ),
            (&listed, "GET", &[], "Vary: Origin\n"),
            (
                &listed,
                "GET",
                &["Origin: https://b.example"],
                "Vary: Origin\n",
            ),
            (
                &listed,
                "OPTIONS",
                &preflight,
                "Access-Control-Allow-Origin: https://a.example\nAccess-Control-Allow-Credentials: true\n\
                 Access-Control-Allow-Methods: GET, PUT\nAccess-Control-Allow-Headers: X-Q, X-R\n\
                 Access-Control-Max-Age: 600\nVary: Origin\n\
                 Vary: Access-Control-Request-Method, Access-Control-Request-Headers\n",
            ),
            (
                &open,
                "OPTIONS",
                &preflight,
                "Access-Control-Allow-Origin: *\nAccess-Control-Allow-Methods: GET, PUT\n\
                 Access-Control-Allow-Headers: x-q\nAccess-Control-Max-Age: 600\n\
                 Vary: Access-Control-Request-Method, Access-Control-Request-Headers\n",
            ),
            (
                &bare,
                "GET",
                &[A],
                "Access-Control-Allow-Origin: https://a.example\nVary: Origin\n",
            ),
            (
                &bare,
                "OPTIONS",
                &preflight[..2],
                "Access-Control-Allow-Origin: https://a.example\nAccess-Control-Allow-Methods: GET, PUT\n\
                 Vary: Origin\nVary: Access-Control-Request-Method, Access-Control-Request-Headers\n",
            ),
        ] {
            let (_, response) = judged(cors, line, fields);
            assert_eq!(
                response.replace("\r\n", "\n"),
                expected,
                "{line} {fields:?}"
            );
        }
    }

    /// Some proxies send an empty Access-Control-Allow-Origin to a request without Origin, and refuse it.
    #[test]
    fn any_origin_is_told_the_same_also_when_there_is_none() {
        let open = cors(&["https://a.example", "*"], None, false);
        let all = "Access-Control-Allow-Origin: *\r\nAccess-Control-Expose-Headers: X-Total\r\n";
        for (fields, expected) in [
            (&[][..], "no origin"),
            (&["Origin: https://b.example"], "allowed https://b.example"),
            // Nothing is echoed and no credentials are taken: whoever it is.
            (&["Origin: null"], "allowed null"),
            (&["Origin: file://"], "allowed file://"),
            (&["Origin: https://a, https://b"], "denied"),
            (&["Origin: "], "denied"),
            (
                &["Origin: https://b.example", "Origin: https://b.example"],
                "denied",
            ),
        ] {
            let (found, response) = judged(&open, "GET", fields);
            assert_eq!((&*found, &*response), (expected, all), "{fields:?}");
        }
    }

    /// The configuration refuses this pair; if it did not, nobody would be let in by it.
    #[test]
    fn credentials_are_never_for_any_origin() {
        let both = cors(&["*", "https://a.example"], None, true);
        assert_eq!(
            judged(&both, "GET", &["Origin: https://b.example"]).0,
            "denied"
        );
        let (_, response) = judged(&both, "GET", &["Origin: https://a.example"]);
        assert!(
            response.contains("Allow-Origin: https://a.example\r\n"),
            "{response}"
        );
    }

    #[test]
    fn fields_of_the_protocol() {
        for (name, expected) in [
            ("Access-Control-Allow-Origin", true),
            ("access-control-max-age", true),
            ("Access-Control-Allow-Private-Network", true),
            ("Access-Control", false),
            ("Access_Control-Allow-Origin", false),
            ("Vary", false),
        ] {
            assert_eq!(is_cors_field(name), expected, "{name}");
        }
    }

    proptest! {
        #[test]
        fn only_what_is_well_formed_and_listed_is_echoed(
            origin in "(https?://)?(evil\\.example[/?#@.:\\\\ ,]?)?[a-z.]{0,3}\\.?(a\\.example)?(:443|:80|:)?[/ ]?",
            asked in "[a-z, \t\u{e9}()]{0,9}",
        ) {
            let listed = cors(&["https://a.example", "https://*.a.example"], None, true);
            let origin_field = format!("Origin: {origin}");
            let asked_field = format!("Access-Control-Request-Headers: {asked}");
            let method = "Access-Control-Request-Method: GET";
            let (verdict, response) = judged(&listed, "OPTIONS", &[&origin_field, &asked_field, method]);
            let allows = "Access-Control-Allow-Origin";
            prop_assert_eq!(verdict.starts_with("preflight"), response.contains(allows));
            if response.contains(allows) {
                let host = origin.trim().strip_prefix("https://").unwrap().trim_end_matches(":443");
                prop_assert!(host == "a.example" || host.ends_with(".a.example"));
                prop_assert!(!host.contains(['/', '?', '#', '@', ':', '\\', ' ', ',']));
                prop_assert!(response.is_ascii() && !response.contains('('));
            }
        }
    }
}
