//! Header fields that are set, added and removed, in requests and responses; the security preset; HSTS.
//!
//! Decides: which fields of a message are dropped and which are written. May not know: when. Invariant: fields that
//! frame a message, or that belong to one connection, are never touched: the configuration refuses them.

use super::template::{Template, Values};

#[derive(Debug, Default)]
pub struct Headers {
    pub request: Edits,
    pub response: Edits,
    /// `Strict-Transport-Security`, for clients that came by https (RFC 6797 section 7.2); its value.
    pub hsts: Option<Box<str>>,
    /// Fields that make browsers careful, each where the backend does not send it.
    preset: Box<[Preset]>,
}

/// A field that is written where the backend does not send it.
#[derive(Debug)]
struct Preset {
    name: &'static str,
    line: Box<[u8]>,
}

/// What happens to the fields of one direction.
#[derive(Debug, Default)]
pub struct Edits {
    /// Dropped: what is removed, and what is set anew. Lower case.
    pub drop: Box<[Box<str>]>,
    /// Written behind the others: what is set and what is added.
    pub write: Box<[(Box<str>, Template)]>,
    /// The same in their order, with neighbours that are the same for all messages as one.
    lines: Box<[Line]>,
    /// Of the names in `drop`: most fields have another, and need no comparison.
    lengths: Lengths,
}

#[derive(Debug)]
enum Line {
    Fixed(Vec<u8>),
    Made(Box<str>, Template),
}

/// Which lengths some names have, one bit each.
#[derive(Debug, Clone, Copy, Default)]
pub struct Lengths(u64);

impl Lengths {
    pub fn of<'n>(names: impl Iterator<Item = &'n str>) -> Lengths {
        Lengths(names.fold(0, |bits, name| bits | Lengths::bit(name)))
    }

    /// False only if no name is as long as this one.
    pub fn have(self, name: &str) -> bool {
        self.0 & Lengths::bit(name) != 0
    }

    /// The last bit is for all that are longer.
    fn bit(name: &str) -> u64 {
        1 << name.len().min(63)
    }
}

impl Headers {
    /// `security`: with fields that make browsers careful; those that the configuration edits are its own affair.
    pub fn new(request: Edits, response: Edits, hsts: Option<Box<str>>, security: bool) -> Headers {
        let preset = SECURITY.into_iter();
        let preset = preset.filter(|(name, _)| security && !response.touches(name));
        let preset = preset.map(|(name, value)| Preset {
            name,
            line: format!("{name}: {value}\r\n").into_bytes().into(),
        });
        let preset = preset.collect();
        Headers {
            request,
            response,
            hsts,
            preset,
        }
    }

    /// Appends what a response gets beside the backend's fields. `sent` tells whether the backend sends a field of this
    /// name, `https` whether the client came by https. A field that the configuration drops or writes is its own affair:
    /// the preset and HSTS leave it alone.
    pub fn write_response(
        &self,
        values: &Values<'_>,
        https: bool,
        sent: impl Fn(&str) -> bool,
        out: &mut Vec<u8>,
    ) {
        for preset in self.preset.iter().filter(|preset| !sent(preset.name)) {
            out.extend_from_slice(&preset.line);
        }
        let is_free = |name: &str| !sent(name) && !self.response.touches(name);
        if let Some(value) = self.hsts.as_deref().filter(|_| https && is_free(HSTS)) {
            line(out, HSTS, value);
        }
        self.response.write(values, out);
    }
}

const HSTS: &str = "Strict-Transport-Security";

/// Of the list of the OWASP Secure Headers Project, what ordinary sites can bear: no foreign page frames them, no type
/// is guessed, a referrer to another site has no path, no plug-in's policy file counts. The rest of that list (CSP,
/// Permissions-Policy, Cross-Origin-*-Policy) breaks sites that were not made for it: log-in windows, embedded content.
/// Browsers that know CSP's `frame-ancestors` obey it before X-Frame-Options.
const SECURITY: [(&str, &str); 4] = [
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "SAMEORIGIN"),
    ("Referrer-Policy", "strict-origin-when-cross-origin"),
    ("X-Permitted-Cross-Domain-Policies", "none"),
];

impl Edits {
    pub fn new(drop: Box<[Box<str>]>, write: Box<[(Box<str>, Template)]>) -> Edits {
        let mut lines: Vec<Line> = Vec::new();
        for (name, template) in &write {
            if !template.is_constant() {
                lines.push(Line::Made(name.clone(), template.clone()));
                continue;
            }
            if !matches!(lines.last(), Some(Line::Fixed(_))) {
                lines.push(Line::Fixed(Vec::new()));
            }
            if let Some(Line::Fixed(fixed)) = lines.last_mut() {
                write_one(name, template, &Values::default(), fixed);
            }
        }
        Edits {
            lengths: Lengths::of(drop.iter().map(|name| &**name)),
            drop,
            write,
            lines: lines.into(),
        }
    }

    /// Whether a field that came is left out.
    pub fn drops(&self, name: &str) -> bool {
        self.lengths.have(name) && self.drop.iter().any(|dropped| is_named(name, dropped))
    }

    /// Appends the lines that are set and added. One whose value comes to nothing is left out: a variable that is empty
    /// makes no empty field. (If it is set, what came under its name is dropped all the same.)
    pub fn write(&self, values: &Values<'_>, out: &mut Vec<u8>) {
        for line in &self.lines {
            match line {
                Line::Fixed(lines) => out.extend_from_slice(lines),
                Line::Made(name, template) => write_one(name, template, values, out),
            }
        }
    }

    fn touches(&self, name: &str) -> bool {
        self.drops(name)
            || self
                .write
                .iter()
                .any(|(written, _)| is_named(name, written))
    }
}

fn write_one(name: &str, template: &Template, values: &Values<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    let value_start = out.len();
    template.render_field(values, out);
    if out.len() == value_start {
        out.truncate(start);
    } else {
        out.extend_from_slice(b"\r\n");
    }
}

/// Whether a field is the one that the configuration means. Case does not count, and an underscore passes for a dash:
/// CGI, WSGI and Rack read `X_User` and `X-User` as the same, so what is dropped must be dropped in both spellings.
pub fn is_named(name: &str, wanted: &str) -> bool {
    let alike =
        |(byte, want): (u8, u8)| byte.eq_ignore_ascii_case(&want) || (byte == b'_' && want == b'-');
    name.len() == wanted.len() && name.bytes().zip(wanted.bytes()).all(alike)
}

pub(super) fn line(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// The value of Strict-Transport-Security (RFC 6797 section 6.1). `preload` is what the browsers' list asks for.
pub fn hsts_value(max_age_s: u64, subdomains: bool, preload: bool) -> String {
    let subdomains = if subdomains {
        "; includeSubDomains"
    } else {
        ""
    };
    let preload = if preload { "; preload" } else { "" };
    format!("max-age={max_age_s}{subdomains}{preload}")
}

/// Whether the configuration may set, add or remove a field of this name, and if not, why.
pub fn is_editable(name: &str, request: bool) -> Result<(), &'static str> {
    if !is_token(name.as_bytes()) {
        return Err("it is no field name");
    }
    let fixed = FIXED.iter().find(|(fixed, _)| is_named(name, fixed));
    match fixed {
        Some((_, why)) => Err(why),
        // RFC 9110 section 6.6.1: a response has a Date, and caches reckon its age by the backend's.
        None if !request && is_named(name, "date") => {
            Err("caches reckon by it; a response without one gets ours")
        }
        None => Ok(()),
    }
}

const FRAMES: &str = "it says where the message ends, which the proxy does itself";
const NEXT_HOP: &str =
    "it belongs to one connection and is never passed on (RFC 9110 section 7.6.1)";

/// Fields that are ours alone, in both directions.
const FIXED: [(&str, &str); 17] = [
    ("content-length", FRAMES),
    ("transfer-encoding", FRAMES),
    ("trailer", FRAMES),
    ("connection", NEXT_HOP),
    ("keep-alive", NEXT_HOP),
    ("te", NEXT_HOP),
    ("upgrade", NEXT_HOP),
    ("http2-settings", NEXT_HOP),
    ("proxy-connection", NEXT_HOP),
    ("proxy-authenticate", NEXT_HOP),
    ("proxy-authorization", NEXT_HOP),
    ("proxy-authentication-info", NEXT_HOP),
    (
        "proxy",
        "CGI makes HTTP_PROXY of it, which programs take for their proxy",
    ),
    ("host", "the key `forwarding.host` sets it"),
    (
        "via",
        "the proxy writes it itself; the key `forwarding.via` has our name",
    ),
    (
        "expect",
        "the proxy answers it itself (RFC 9110 section 10.1.1)",
    ),
    (
        "max-forwards",
        "the proxy counts it down itself (RFC 9110 section 7.6.2)",
    ),
];

/// RFC 9110 section 5.6.2.
pub(super) fn is_token(text: &[u8]) -> bool {
    let is_token_byte =
        |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !text.is_empty() && text.iter().all(is_token_byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::filter::template::Variable;

    fn edits(drop: &[&str], write: &[(&str, &str)]) -> Edits {
        let template = |text: &str| Template::parse(text, Variable::ALL).unwrap();
        let write = write
            .iter()
            .map(|(name, text)| ((*name).into(), template(text)));
        let drop = drop.iter().map(|name| (*name).into());
        Edits::new(drop.collect(), write.collect())
    }

    #[test]
    fn fields_that_are_dropped() {
        let some = edits(&["x-user", "server", "x_under"], &[]);
        for (name, expected) in [
            ("X-User", true),
            ("x-user", true),
            // CGI would take it for X-User.
            ("X_User", true),
            ("SERVER", true),
            ("X_Under", true),
            ("X-Under", false),
            ("X-Users", false),
            ("X-Use", false),
            ("XxUser", false),
            ("", false),
        ] {
            assert_eq!(some.drops(name), expected, "{name}");
            assert!(!Edits::default().drops(name));
        }
    }

    #[test]
    fn lines_that_are_written() {
        let some = edits(
            &["x-user"],
            &[
                ("X-User", "{user}"),
                ("X-Id", "r {request_id}"),
                ("X-Id", "2"),
            ],
        );
        for (user, expected) in [
            ("ann", "X-User: ann\r\nX-Id: r 7\r\nX-Id: 2\r\n"),
            ("", "X-Id: r 7\r\nX-Id: 2\r\n"),
            (
                "a\r\nX-Admin: 1",
                "X-User: a  X-Admin: 1\r\nX-Id: r 7\r\nX-Id: 2\r\n",
            ),
        ] {
            let values = Values {
                user,
                request_id: "7",
                ..Values::default()
            };
            let mut out = b"A: b\r\n".to_vec();
            some.write(&values, &mut out);
            let text = String::from_utf8(out).unwrap();
            assert_eq!(text, format!("A: b\r\n{expected}"));
        }
    }

    #[test]
    fn browsers_are_made_careful_where_the_backend_does_not() {
        let all = "X-Content-Type-Options: nosniff\r\nX-Frame-Options: SAMEORIGIN\r\n\
            Referrer-Policy: strict-origin-when-cross-origin\r\nX-Permitted-Cross-Domain-Policies: none\r\n";
        let without = |name: &str| -> String {
            let lines = all.split_inclusive('\n');
            lines.filter(|line| !line.starts_with(name)).collect()
        };
        let hsts = "Strict-Transport-Security: max-age=60\r\n";
        let (drop, write) = (
            &["x-frame-options"][..],
            &[("Referrer-Policy", "no-referrer")][..],
        );
        let headers = |security, has_hsts: bool, edits| {
            let hsts = has_hsts.then(|| "max-age=60".into());
            Headers::new(Edits::default(), edits, hsts, security)
        };
        let none = || edits(&[], &[]);
        for (headers, https, sent, expected) in [
            (headers(false, false, none()), true, "", String::new()),
            (headers(true, false, none()), true, "", all.into()),
            (
                headers(true, false, none()),
                true,
                "referrer-policy",
                without("Referrer"),
            ),
            (
                headers(true, true, none()),
                true,
                "",
                format!("{all}{hsts}"),
            ),
            // RFC 6797 section 7.2.
            (headers(true, true, none()), false, "", all.into()),
            (
                headers(false, true, none()),
                true,
                "strict-transport-security",
                String::new(),
            ),
            (
                headers(false, true, edits(&["strict-transport-security"], &[])),
                true,
                "",
                String::new(),
            ),
            // What the configuration removes stays away.
            (
                headers(true, false, edits(drop, &[])),
                true,
                "x-frame-options",
                without("X-Frame"),
            ),
            (
                headers(true, false, edits(drop, &[])),
                true,
                "",
                without("X-Frame"),
            ),
            // What it adds is not there twice.
            (
                headers(true, false, edits(&[], write)),
                true,
                "",
                without("Referrer") + "Referrer-Policy: no-referrer\r\n",
            ),
        ] {
            let mut out = Vec::new();
            let is_sent = |name: &str| name.eq_ignore_ascii_case(sent);
            headers.write_response(&Values::default(), https, is_sent, &mut out);
            assert_eq!(
                String::from_utf8(out).unwrap(),
                expected,
                "{headers:?} {https} {sent}"
            );
        }
    }

    #[test]
    fn hsts_values() {
        assert_eq!(hsts_value(0, false, false), "max-age=0");
        assert_eq!(hsts_value(60, true, false), "max-age=60; includeSubDomains");
        assert_eq!(
            hsts_value(31_536_000, true, true),
            "max-age=31536000; includeSubDomains; preload"
        );
    }

    #[test]
    fn names_that_may_be_edited() {
        for (name, in_request, in_response) in [
            ("X-Forwarded-For", true, true),
            ("X-Real-IP", true, true),
            ("Authorization", true, true),
            ("Cookie", true, true),
            ("Set-Cookie", true, true),
            ("Server", true, true),
            ("Cache-Control", true, true),
            ("Access-Control-Allow-Origin", true, true),
            ("Date", true, false),
            ("Content-Length", false, false),
            // CGI would take it for Content-Length.
            ("content_LENGTH", false, false),
            ("Transfer-Encoding", false, false),
            ("Trailer", false, false),
            ("Connection", false, false),
            ("Keep-Alive", false, false),
            ("TE", false, false),
            ("Upgrade", false, false),
            ("HTTP2-Settings", false, false),
            ("Proxy-Connection", false, false),
            ("Proxy-Authorization", false, false),
            ("Proxy", false, false),
            ("Host", false, false),
            ("Via", false, false),
            ("Expect", false, false),
            ("Max-Forwards", false, false),
            ("", false, false),
            ("X A", false, false),
            ("X:", false, false),
            ("X\r\nY", false, false),
            ("\u{e9}", false, false),
        ] {
            assert_eq!(is_editable(name, true).is_ok(), in_request, "{name}");
            assert_eq!(is_editable(name, false).is_ok(), in_response, "{name}");
        }
        assert_eq!(
            is_editable("host", true),
            Err("the key `forwarding.host` sets it")
        );
    }
}
