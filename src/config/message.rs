//! Parts of messages as text: header fields, methods, what a hash is taken of.
//!
//! Decides: which spellings are accepted. May not know: keys, files, who sends them.
//! Invariant: what is returned can stand in a head as it is; it holds no line end.

use super::address::{is_token, method};
use super::kinds::{HEADER_BYTES_MAX, Kind};
use super::plan::HashKey;
use super::report::{Fault, nearest};
use super::secrets;
use super::value::Value;
use crate::policy::filter::cors::Origin;
use crate::policy::filter::headers::is_editable;
use crate::policy::filter::template::{Problem, Template, Variable};

/// What we say ourselves of every request, with the key that has a say in it, if there is one.
const OWN_FIELDS: [(&str, Option<&str>); 4] = [
    ("host", Some("health_check.host")),
    ("connection", None),
    ("content-length", None),
    ("transfer-encoding", None),
];

/// `Name: value`, for a request of ours.
pub(super) fn header(text: &str) -> Result<Box<str>, Fault> {
    let hint = "write \"Name: value\"";
    let Some((name, value)) = text.split_once(':') else {
        return Err(Fault::new("a header field without a colon").hint(hint));
    };
    if !is_token(name) {
        return Err(no_name(name).hint(hint));
    }
    let own = OWN_FIELDS
        .iter()
        .find(|(own, _)| name.eq_ignore_ascii_case(own));
    if let Some((_, key)) = own {
        let fault = Fault::new(format!("{name} is set by the check itself"));
        return Err(key
            .iter()
            .fold(fault, |fault, key| fault.hint(format!("set {key}"))));
    }
    let value = value.trim_matches([' ', '\t']);
    if !value
        .bytes()
        .all(|b| b.is_ascii_graphic() || matches!(b, b' ' | b'\t'))
    {
        return Err(Fault::new(format!(
            "the value of {name} has a character that no header field has"
        )));
    }
    let field = format!("{name}: {value}");
    if field.len() > HEADER_BYTES_MAX {
        return Err(Fault::new(format!("longer than {HEADER_BYTES_MAX} bytes")));
    }
    Ok(field.into())
}

/// The method of a check.
pub(super) fn check_method(text: &str) -> Result<Box<str>, Fault> {
    if matches!(text, "CONNECT" | "TRACE") {
        return Err(Fault::new(format!("{text} checks nothing")).hint("write \"GET\" or \"HEAD\""));
    }
    if text.bytes().any(|b| b.is_ascii_lowercase()) {
        let fault = Fault::new(format!("\"{text}\" is no method: methods are upper case"));
        return Err(fault.hint(format!("did you mean \"{}\"?", text.to_ascii_uppercase())));
    }
    method(text).map(|_| text.into())
}

pub(super) fn hash_key(text: &str) -> Result<HashKey, Fault> {
    let (kind, name) = match text.split_once(':') {
        Some((kind, name)) => (kind, Some(name)),
        None => (text, None),
    };
    match (kind, name) {
        ("ip", None) => Ok(HashKey::Ip),
        ("path", None) => Ok(HashKey::Path),
        ("header" | "cookie", Some(name)) if !is_token(name) => {
            Err(Fault::new(format!("\"{name}\" is no name of a {kind}")))
        }
        ("header", Some(name)) => Ok(HashKey::Header(name.to_ascii_lowercase().into())),
        ("cookie", Some(name)) => Ok(HashKey::Cookie(name.into())),
        (_, None) => Err(no_hash_key(
            text,
            nearest(kind, ["ip", "path"]).map(str::to_owned),
        )),
        (_, Some(name)) => {
            let near = nearest(kind, ["header", "cookie"]);
            Err(no_hash_key(text, near.map(|near| format!("{near}:{name}"))))
        }
    }
}

fn no_hash_key(text: &str, guess: Option<String>) -> Fault {
    Fault::new(format!("\"{text}\" is no key of a hash")).hint(match guess {
        Some(guess) => format!("did you mean \"{guess}\"?"),
        None => format!("it is {}", Kind::HashKey.bounds()),
    })
}

pub(super) fn show_hash_key(key: &HashKey) -> String {
    match key {
        HashKey::Ip => "ip".to_owned(),
        HashKey::Path => "path".to_owned(),
        HashKey::Header(name) => format!("header:{name}"),
        HashKey::Cookie(name) => format!("cookie:{name}"),
    }
}

/// A header field that a filter writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// As it was written: `Name: value`.
    pub text: Box<str>,
    pub name: Box<str>,
    pub value: Template,
}

/// The name of a congestion control.
pub(super) fn congestion(text: &str, kind: &Kind) -> Result<Value, Fault> {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-');
    // TCP_CA_NAME_MAX is 16, the final NUL included.
    if text.len() <= 15 && text.bytes().all(good) {
        Ok(Value::Text(text.into()))
    } else {
        Err(Fault::new(format!("\"{text}\" is not {}", kind.bounds())))
    }
}

/// What a field of a request that is passed on may say. Our own answers have more to tell.
const REQUEST_VARIABLES: [Variable; 11] = [
    Variable::ClientIp,
    Variable::Scheme,
    Variable::RequestId,
    Variable::User,
    Variable::Route,
    Variable::Backend,
    Variable::Method,
    Variable::Host,
    Variable::Hostname,
    Variable::Path,
    Variable::Query,
];

/// So many of those are still at hand when the response comes.
const RESPONSE_VARIABLES: usize = 6;

pub(super) fn edit(text: &str, request: bool) -> Result<Edit, Fault> {
    let Some((name, value)) = text.split_once(':') else {
        let fault = Fault::new("a header field without a colon");
        return Err(fault.hint("write \"Name: value\""));
    };
    let name = field_name(name, request)?;
    let value = value.trim_matches([' ', '\t']);
    if text.len() > HEADER_BYTES_MAX {
        return Err(Fault::new(format!("longer than {HEADER_BYTES_MAX} bytes")));
    }
    if !is_field_value(value) {
        return Err(Fault::new(format!(
            "the value of {name} has a character that no header field has"
        )));
    }
    let allowed = match request {
        true => &REQUEST_VARIABLES[..],
        false => &REQUEST_VARIABLES[..RESPONSE_VARIABLES],
    };
    let text: Box<str> = format!("{name}: {value}").into();
    let value = template(value, allowed).map_err(|fault| {
        // It quotes what stands between braces.
        let is_shown = *secrets::field(&text) == *text;
        let unsaid = || Fault::new(format!("the value of {name} has braces without a variable"));
        if is_shown {
            fault
        } else {
            unsaid().hint("a brace that stands for itself is doubled")
        }
    })?;
    Ok(Edit { text, name, value })
}

/// What may stand in a field's value, beside the line's end that follows it.
pub(super) fn is_field_value(value: &str) -> bool {
    let mut bytes = value.bytes();
    bytes.all(|b| b.is_ascii_graphic() || matches!(b, b' ' | b'\t'))
}

pub(super) fn template(text: &str, allowed: &[Variable]) -> Result<Template, Fault> {
    Template::parse(text, allowed).map_err(|problem| fault(&problem))
}

/// A body, whose own braces need not be doubled.
pub(super) fn body(text: &str, allowed: &[Variable]) -> Result<Template, Fault> {
    Template::parse_body(text, allowed).map_err(|problem| fault(&problem))
}

fn fault(problem: &Problem) -> Fault {
    let text = problem.to_string();
    match text.split_once("; ") {
        Some((message, hint)) => Fault::new(message).hint(hint),
        None => Fault::new(text),
    }
}

/// The name of a field that may be written or removed.
pub(super) fn field_name(text: &str, request: bool) -> Result<Box<str>, Fault> {
    let name = cors_field(text)?;
    match is_editable(text, request) {
        Ok(()) => Ok(name),
        Err(why) => Err(Fault::new(format!("{text} stays as it is")).hint(why)),
    }
}

/// A field that we write in requests and in responses.
pub(super) fn own_field(text: &str) -> Result<Box<str>, Fault> {
    field_name(text, true)?;
    field_name(text, false)
}

/// What may stand between quotes in a field.
pub(super) fn word(text: &str, max: usize) -> Result<Box<str>, Fault> {
    let good = |b: u8| matches!(b, b' '..=b'~') && !matches!(b, b'"' | b'\\');
    if (1..=max).contains(&text.len()) && text.bytes().all(good) {
        Ok(text.into())
    } else {
        let bounds = Kind::Word { max }.bounds();
        Err(Fault::new(format!("\"{text}\" is not {bounds}")))
    }
}

/// `text/html`, or `text/*`; in lower case.
pub(super) fn media_type(text: &str) -> Result<Box<str>, Fault> {
    match text.split_once('/') {
        Some((kind, part)) if is_token(kind) && is_token(part) && kind != "*" => {
            Ok(text.to_ascii_lowercase().into())
        }
        Some(_) | None => {
            let fault = Fault::new(format!("\"{text}\" is no media type"));
            Err(fault.hint("write \"text/html\" or \"text/*\""))
        }
    }
}

/// A text that may hold more than a name.
pub(super) fn no_name(text: &str) -> Fault {
    let shown = secrets::field(text);
    Fault::new(format!("\"{shown}\" is no name of a header field"))
}

pub(super) fn cors_field(text: &str) -> Result<Box<str>, Fault> {
    if !is_token(text) {
        return Err(no_name(text));
    }
    Ok(text.into())
}

pub(super) fn cors_method(text: &str) -> Result<Box<str>, Fault> {
    if text == "*" {
        return Err(Fault::new("\"*\" is no method").hint("name each of them"));
    }
    method(text).map(|_| text.into())
}

pub(super) fn origin(text: &str) -> Result<Origin, Fault> {
    Origin::parse(text).map_err(Fault::new)
}

pub(super) fn show_origin(origin: &Origin) -> String {
    match origin {
        Origin::Any => "*".to_owned(),
        Origin::Exact(origin) => origin.to_string(),
        Origin::Suffix { scheme, suffix } => match scheme {
            Some(scheme) => format!("{scheme}://*{suffix}"),
            None => format!("*{suffix}"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_fields_are_ready_to_send() {
        let cases = [
            ("X-Check:yes", "X-Check: yes"),
            ("X-Check: \ta b \t", "X-Check: a b"),
            ("X-Check:", "X-Check: "),
            ("Authorization: Basic a:b=", "Authorization: Basic a:b="),
            ("X-Check", "a header field without a colon"),
            (": x", "\"\" is no name of a header field"),
            ("X Check: x", "\"X Check\" is no name of a header field"),
            ("HOST: x", "HOST is set by the check itself"),
            (
                "Content-Length: 0",
                "Content-Length is set by the check itself",
            ),
            (
                "X-Check: a\r\nX-Other: b",
                "the value of X-Check has a character that no header field has",
            ),
            (
                "X-Check: \u{e4}",
                "the value of X-Check has a character that no header field has",
            ),
        ];
        for (text, expected) in cases {
            let found = header(text).unwrap_or_else(|fault| fault.message.into());
            assert_eq!(&*found, expected, "{text}");
        }
        assert!(header(&format!("a: {}", "x".repeat(HEADER_BYTES_MAX - 3))).is_ok());
        assert!(header(&format!("a: {}", "x".repeat(HEADER_BYTES_MAX - 2))).is_err());
    }

    #[test]
    fn keys_of_a_hash_read_and_show_alike() {
        for good in ["ip", "path", "header:x-user", "cookie:Session"] {
            assert_eq!(show_hash_key(&hash_key(good).unwrap()), good);
        }
        assert_eq!(
            hash_key("header:X-User").unwrap(),
            HashKey::Header("x-user".into())
        );
        for bad in [
            "IP",
            "ip:",
            "ip:x",
            "header",
            "header:",
            "header:a b",
            "cookie:a;",
            "",
            "url",
        ] {
            assert!(hash_key(bad).is_err(), "{bad}");
        }
    }
}
