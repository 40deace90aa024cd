//! Texts with variables in braces: values of header fields, locations, bodies.
//!
//! Decides: which variables exist, how a text is read, what it becomes. May not know: where the text stands. Invariant:
//! what a client sent never brings a line end or a control character into a field.

use std::fmt;

/// A text, cut at its variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    pub parts: Box<[Part]>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    Text(Box<str>),
    Variable(Variable),
}

/// What stands between braces, in lower case: `{client_ip}`. A brace itself is doubled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variable {
    /// The client as trusted proxies tell it.
    ClientIp,
    /// `http` or `https`: how the client asked, as trusted proxies tell it.
    Scheme,
    Method,
    /// As the client sent it, with its port.
    Host,
    /// The same without its port.
    Hostname,
    /// Without the query.
    Path,
    /// With its `?`; empty if there is none.
    Query,
    RequestId,
    /// Who the request comes from, as `[access]` has found.
    User,
    /// The route's name.
    Route,
    /// The authority of the backend that was chosen.
    Backend,
    /// The status of our own answer, and the reason's label.
    Status,
    Reason,
}

impl Variable {
    pub const ALL: &'static [Variable] = &[
        Variable::ClientIp,
        Variable::Scheme,
        Variable::Method,
        Variable::Host,
        Variable::Hostname,
        Variable::Path,
        Variable::Query,
        Variable::RequestId,
        Variable::User,
        Variable::Route,
        Variable::Backend,
        Variable::Status,
        Variable::Reason,
    ];

    /// As it stands between the braces.
    pub fn name(self) -> &'static str {
        match self {
            Variable::ClientIp => "client_ip",
            Variable::Scheme => "scheme",
            Variable::Method => "method",
            Variable::Host => "host",
            Variable::Hostname => "hostname",
            Variable::Path => "path",
            Variable::Query => "query",
            Variable::RequestId => "request_id",
            Variable::User => "user",
            Variable::Route => "route",
            Variable::Backend => "backend",
            Variable::Status => "status",
            Variable::Reason => "reason",
        }
    }
}

/// What variables become. Empty where there is nothing; a status of 0 is nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Values<'a> {
    pub client_ip: &'a str,
    pub scheme: &'a str,
    pub method: &'a str,
    pub host: &'a str,
    pub path: &'a str,
    pub query: &'a str,
    pub request_id: &'a str,
    pub user: &'a str,
    pub route: &'a str,
    pub backend: &'a str,
    pub status: u16,
    pub reason: &'a str,
}

/// Why a text is no template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// No variable has this name.
    Unknown {
        name: Box<str>,
        allowed: Box<[Variable]>,
    },
    /// The variable has no value where the text stands.
    NotHere {
        variable: Variable,
        allowed: Box<[Variable]>,
    },
    /// A `{` that no `}` follows.
    Open,
    /// A `}` that follows no `{`.
    Close,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DOUBLED: &str = "a brace that stands for itself is doubled";
        match self {
            Problem::Unknown { name, allowed } => {
                write!(f, "there is no variable {{{name}}}; ")?;
                list(f, allowed)?;
                write!(f, "; {DOUBLED}")
            }
            Problem::NotHere { variable, allowed } => {
                write!(f, "{{{}}} has no value here; ", variable.name())?;
                list(f, allowed)
            }
            Problem::Open => write!(f, "a \"{{\" is not closed; {DOUBLED}"),
            Problem::Close => write!(f, "a \"}}\" closes nothing; {DOUBLED}"),
        }
    }
}

fn list(f: &mut fmt::Formatter<'_>, allowed: &[Variable]) -> fmt::Result {
    if allowed.is_empty() {
        return f.write_str("no variable has a value here");
    }
    for (at, variable) in allowed.iter().enumerate() {
        let before = if at == 0 { "known here: " } else { ", " };
        write!(f, "{before}{{{}}}", variable.name())?;
    }
    Ok(())
}

impl Template {
    /// `allowed` are the variables that have a value where the text stands.
    pub fn parse(text: &str, allowed: &[Variable]) -> Result<Template, Problem> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            plain.push_str(&rest[..at]);
            rest = &rest[at..];
            if let Some(after) = rest.strip_prefix("{{") {
                plain.push('{');
                rest = after;
            } else if let Some(after) = rest.strip_prefix("}}") {
                plain.push('}');
                rest = after;
            } else if let Some(inside) = rest.strip_prefix('{') {
                let (name, after) = inside.split_once('}').ok_or(Problem::Open)?;
                let variable = variable(name, allowed)?;
                if !plain.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut plain).into()));
                }
                parts.push(Part::Variable(variable));
                rest = after;
            } else {
                return Err(Problem::Close);
            }
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain.into()));
        }
        Ok(Template {
            parts: parts.into(),
        })
    }

    /// As `parse`, for bodies, where braces of their own (JSON, style sheets) are common: only a name in lower case
    /// between two braces is a variable, everything else stands for itself. Such a name with doubled braces is a text.
    pub fn parse_body(text: &str, allowed: &[Variable]) -> Result<Template, Problem> {
        let mut doubled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            doubled.push_str(&rest[..at]);
            rest = &rest[at..];
            let named = |opening: &str, closing: &str| {
                let inside = rest.strip_prefix(opening)?;
                let end = inside.find(|c: char| !c.is_ascii_lowercase() && c != '_')?;
                let closes = end > 0 && inside[end..].starts_with(closing);
                closes.then_some(opening.len() + end + closing.len())
            };
            match named("{{", "}}").or_else(|| named("{", "}")) {
                Some(length) => {
                    doubled.push_str(&rest[..length]);
                    rest = &rest[length..];
                }
                None => {
                    doubled.push_str(&rest[..1].repeat(2));
                    rest = &rest[1..];
                }
            }
        }
        doubled.push_str(rest);
        Template::parse(&doubled, allowed)
    }

    /// The text that it was parsed from.
    pub fn show(&self) -> String {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(plain) => {
                    text.push_str(&plain.replace('{', "{{").replace('}', "}}"));
                }
                Part::Variable(variable) => {
                    text.push('{');
                    text.push_str(variable.name());
                    text.push('}');
                }
            }
        }
        text
    }

    /// Whether it becomes the same for every request.
    pub fn is_constant(&self) -> bool {
        self.parts.iter().all(|part| match part {
            Part::Text(_) => true,
            Part::Variable(_) => false,
        })
    }

    /// Appends the text with its values as they are: for bodies, where every byte is allowed.
    pub fn render(&self, values: &Values<'_>, out: &mut Vec<u8>) {
        self.pieces(values, |piece| out.extend_from_slice(piece));
    }

    /// Appends the text as a field's value. Values come from checked heads, so this is a second belt: a control
    /// character becomes a space, as RFC 9110 section 5.5 has it.
    pub fn render_field(&self, values: &Values<'_>, out: &mut Vec<u8>) {
        self.pieces(values, |piece| {
            let start = out.len();
            out.extend_from_slice(piece);
            for byte in &mut out[start..] {
                if byte.is_ascii_control() && *byte != b'\t' {
                    *byte = b' ';
                }
            }
        });
    }

    fn pieces(&self, values: &Values<'_>, mut take: impl FnMut(&[u8])) {
        for part in &self.parts {
            match part {
                Part::Text(text) => take(text.as_bytes()),
                Part::Variable(Variable::Status) if values.status == 0 => {}
                Part::Variable(Variable::Status) => {
                    take(itoa::Buffer::new().format(values.status).as_bytes());
                }
                Part::Variable(variable) => take(values.text(*variable).as_bytes()),
            }
        }
    }
}

impl<'a> Values<'a> {
    fn text(&self, variable: Variable) -> &'a str {
        match variable {
            Variable::ClientIp => self.client_ip,
            Variable::Scheme => self.scheme,
            Variable::Method => self.method,
            Variable::Host => self.host,
            Variable::Hostname => hostname(self.host),
            Variable::Path => self.path,
            Variable::Query => self.query,
            Variable::RequestId => self.request_id,
            Variable::User => self.user,
            Variable::Route => self.route,
            Variable::Backend => self.backend,
            // A number, which `pieces` writes.
            Variable::Status => "",
            Variable::Reason => self.reason,
        }
    }
}

fn variable(name: &str, allowed: &[Variable]) -> Result<Variable, Problem> {
    let found = Variable::ALL.iter().find(|known| known.name() == name);
    match found {
        Some(variable) if allowed.contains(variable) => Ok(*variable),
        Some(variable) => Err(Problem::NotHere {
            variable: *variable,
            allowed: allowed.into(),
        }),
        None => Err(Problem::Unknown {
            name: name.into(),
            allowed: allowed.into(),
        }),
    }
}

/// An authority without its port. An IPv6 address keeps its brackets.
fn hostname(host: &str) -> &str {
    let port = host
        .rfind(':')
        .filter(|colon| !host[*colon..].contains(']'));
    port.map_or(host, |colon| &host[..colon])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VALUES: Values<'static> = Values {
        client_ip: "192.0.2.1",
        scheme: "https",
        method: "GET",
        host: "example.org:8443",
        path: "/a b\u{e9}",
        query: "?x=1",
        request_id: "0af7",
        user: "ann",
        route: "api",
        backend: "10.0.0.1:80",
        status: 503,
        reason: "no_backend",
    };

    fn rendered(text: &str, values: &Values<'_>) -> String {
        let template = Template::parse(text, Variable::ALL).unwrap();
        let mut out = b"before ".to_vec();
        template.render(values, &mut out);
        String::from_utf8(out.split_off(7)).unwrap()
    }

    #[test]
    fn bodies_have_braces_of_their_own() {
        let values = Values {
            client_ip: "192.0.2.1",
            host: "[2001:db8::1]:8080",
            ..Values::default()
        };
        for (text, expected) in [
            ("{\"a\":{\"b\":1}}", "{\"a\":{\"b\":1}}"),
            ("body { color: red } p{}", "body { color: red } p{}"),
            ("{client_ip}{{client_ip}}", "192.0.2.1{client_ip}"),
            ("{{{client_ip}}}", "{{client_ip}}"),
            ("} {", "} {"),
            ("{hostname}|{host}", "[2001:db8::1]|[2001:db8::1]:8080"),
        ] {
            let template = Template::parse_body(text, Variable::ALL).unwrap();
            let mut out = Vec::new();
            template.render(&values, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected, "{text}");
        }
        assert!(Template::parse_body("{clientip}", Variable::ALL).is_err());
    }

    #[test]
    fn a_hostname_has_no_port() {
        for (host, expected) in [
            ("a.example:80", "a.example"),
            ("a.example", "a.example"),
            ("[::1]", "[::1]"),
            ("[::1]:80", "[::1]"),
            ("", ""),
        ] {
            assert_eq!(hostname(host), expected);
        }
    }

    #[test]
    fn texts_become() {
        for (text, expected) in [
            ("", ""),
            ("plain \u{e9}", "plain \u{e9}"),
            ("{client_ip}", "192.0.2.1"),
            (
                "https://{host}{path}{query}",
                "https://example.org:8443/a b\u{e9}?x=1",
            ),
            ("{{}}", "{}"),
            ("{{client_ip}}", "{client_ip}"),
            ("{{{client_ip}}}", "{192.0.2.1}"),
            ("a{{{{b", "a{{b"),
            ("{status} {reason}\n", "503 no_backend\n"),
            (
                "{scheme},{method},{request_id},{user},{route},{backend}",
                "https,GET,0af7,ann,api,10.0.0.1:80",
            ),
        ] {
            assert_eq!(rendered(text, &VALUES), expected, "{text}");
        }
        for variable in Variable::ALL {
            let text = format!("<{{{}}}>", variable.name());
            assert_eq!(
                rendered(&text, &Values::default()),
                "<>",
                "nothing is empty"
            );
            assert_ne!(rendered(&text, &VALUES), "<>");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let here = [Variable::Host, Variable::User];
        for (text, allowed, problem) in [
            (
                "{hots}",
                &here[..],
                "there is no variable {hots}; known here: {host}, {user}; a brace that stands for itself is doubled",
            ),
            (
                "p { color: red }",
                &[],
                "there is no variable { color: red }; no variable has a value here; a brace that stands for itself is \
                 doubled",
            ),
            (
                "{Host}",
                &here,
                "there is no variable {Host}; known here: {host}, {user}; a brace",
            ),
            (
                "{}",
                &here,
                "there is no variable {}; known here: {host}, {user}; a brace",
            ),
            ("{{{}", &here, "there is no variable {}"),
            (
                "{status}",
                &here,
                "{status} has no value here; known here: {host}, {user}",
            ),
            (
                "{status}",
                &[],
                "{status} has no value here; no variable has a value here",
            ),
            (
                "a{",
                &here,
                "a \"{\" is not closed; a brace that stands for itself is doubled",
            ),
            ("{host", &here, "a \"{\" is not closed; a brace"),
            ("{{{host", &here, "a \"{\" is not closed; a brace"),
            (
                "{host}}",
                &here,
                "a \"}\" closes nothing; a brace that stands for itself is doubled",
            ),
            ("}", &here, "a \"}\" closes nothing"),
        ] {
            let found = Template::parse(text, allowed).unwrap_err().to_string();
            assert!(found.starts_with(problem), "{text}: {found}");
        }
    }

    #[test]
    fn constants() {
        for (text, is_constant) in [
            ("", true),
            ("a {{b}}", true),
            ("{host}", false),
            ("a {host}", false),
        ] {
            let template = Template::parse(text, Variable::ALL).unwrap();
            assert_eq!(template.is_constant(), is_constant, "{text}");
        }
    }

    #[test]
    fn a_field_gets_no_line_end() {
        let template = Template::parse("a\r\n{user}\u{7f}", Variable::ALL).unwrap();
        let values = Values {
            user: "x\r\nSet-Cookie: a=b\0\t\u{e9}\u{1b}",
            ..Values::default()
        };
        let mut out = b"X: \r\n".to_vec();
        template.render_field(&values, &mut out);
        assert_eq!(out, "X: \r\na  x  Set-Cookie: a=b \t\u{e9}  ".as_bytes());
    }

    fn any_text() -> impl Strategy<Value = String> {
        let names = Variable::ALL
            .iter()
            .map(|variable| format!("{{{}}}", variable.name()));
        let pieces: Vec<String> = names
            .chain(["{", "}", "{{", "}}", "a", "\u{e9}", "\r\n", "\0"].map(String::from))
            .collect();
        proptest::collection::vec(proptest::sample::select(pieces), 0..12)
            .prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn what_is_read_is_shown_again(text in any_text()) {
            let Ok(template) = Template::parse(&text, Variable::ALL) else {
                return Ok(());
            };
            prop_assert_eq!(template.show(), text.as_str());
            let neighbours = template.parts.windows(2);
            let is_text = |part: &Part| matches!(part, Part::Text(_));
            prop_assert!(neighbours.into_iter().all(|pair| !pair.iter().all(is_text)));
            let mut out = Vec::new();
            let values = Values { user: &text, ..VALUES };
            template.render_field(&values, &mut out);
            prop_assert!(out.iter().all(|byte| !byte.is_ascii_control() || *byte == b'\t'));
        }
    }
}
