//! URLs as text, and the head of a request.
//!
//! Decides: which URLs are taken and what a request for one looks like. May not know: what is done with them.
//! Invariant: nothing of a URL or a field reaches the wire that could end its line.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

use crate::config::report::Fault;

use super::load::{Message, Target};

/// In a path or the value of a field, stands for the number of the request.
const NUMBER: &str = "{n}";
/// More requests than a run ever sends.
const NUMBER_DIGITS: usize = 12;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// With its port, when one was given.
    pub authority: String,
    pub host: String,
    pub port: u16,
    /// Path and query.
    pub path: String,
}

impl Url {
    pub fn parse(text: &str) -> Result<Url, Fault> {
        let visible = |byte: u8| (0x21..0x7f).contains(&byte);
        if !text.bytes().all(visible) {
            return Err(Fault::new(format!("{text:?} is no URL"))
                .hint("spaces and other special characters are written as %20 and the like"));
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(Fault::new(format!("\"{text}\" is no URL"))
                .hint(format!("write \"http://{text}\"")));
        };
        match scheme {
            "http" => {}
            "https" => return Err(Fault::new("https is not spoken").hint("use http://")),
            _ => return Err(Fault::new(format!("\"{scheme}\" is not http"))),
        }
        let rest = rest.split('#').next().unwrap_or_default();
        let split = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(split);
        if authority.contains('@') {
            return Err(Fault::new("a URL with a user name is not taken")
                .hint("give an Authorization header instead"));
        }
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()),
            Some(_) | None => (authority, Some(80)),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        match port {
            Some(port) if !host.is_empty() && port > 0 => Ok(Url {
                authority: authority.to_owned(),
                host: host.to_owned(),
                port,
                path: if path.starts_with('/') {
                    path.to_owned()
                } else {
                    format!("/{path}")
                },
            }),
            Some(_) | None => Err(Fault::new(format!("\"{authority}\" is no host and port"))
                .hint("write \"http://127.0.0.1:8080/\"")),
        }
    }

    /// Looks the host up; the first address counts.
    pub fn resolve(&self) -> io::Result<SocketAddr> {
        let mut found = (self.host.as_str(), self.port).to_socket_addrs()?;
        found.next().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// `Name: value`, checked.
pub fn field(text: &str) -> Result<(String, String), Fault> {
    let Some((name, value)) = text.split_once(':') else {
        return Err(Fault::new(format!("{text:?} is no header")).hint("write \"Name: value\""));
    };
    let value = value.trim();
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(token) {
        return Err(Fault::new(format!("{name:?} is no name of a header")));
    }
    if !value.bytes().all(|byte| byte == b'\t' || byte >= b' ') {
        return Err(Fault::new(format!("{value:?} is no value of a header")));
    }
    let ours = ["content-length", "transfer-encoding", "connection"];
    if ours.contains(&name.to_ascii_lowercase().as_str()) {
        return Err(
            Fault::new(format!("{name} is written by the load generator"))
                .hint("body, chunked and keep_alive decide it"),
        );
    }
    Ok((name.to_owned(), value.to_owned()))
}

/// The head of the requests for a target.
pub(super) struct Head {
    /// With zeros where each has its own number.
    bytes: Vec<u8>,
    /// Where those are.
    numbers: Vec<usize>,
}

impl Head {
    pub(super) fn new(target: &Target, message: &Message, keep_alive: bool) -> Head {
        let mut head = format!("{} {} HTTP/1.1\r\n", message.method, target.url.path);
        let is_host = |name: &str| name.eq_ignore_ascii_case("host");
        if !message.fields.iter().any(|(name, _)| is_host(name)) {
            head += &format!("Host: {}\r\n", target.url.authority);
        }
        for (name, value) in &message.fields {
            head += &format!("{name}: {value}\r\n");
        }
        if message.is_chunked {
            head += "Transfer-Encoding: chunked\r\n";
        } else if message.body_bytes > 0 || ["POST", "PUT"].contains(&message.method.as_str()) {
            head += &format!("Content-Length: {}\r\n", message.body_bytes);
        }
        if !keep_alive {
            head += "Connection: close\r\n";
        }
        head += "\r\n";
        let mut pieces = head.split(NUMBER);
        let mut bytes = pieces.next().unwrap_or_default().as_bytes().to_vec();
        let mut numbers = Vec::new();
        for piece in pieces {
            numbers.push(bytes.len());
            bytes.extend_from_slice(&[b'0'; NUMBER_DIGITS]);
            bytes.extend_from_slice(piece.as_bytes());
        }
        Head { bytes, numbers }
    }

    /// Appends the head of the request with this number.
    pub(super) fn write(&self, out: &mut Vec<u8>, mut number: u64) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        if self.numbers.is_empty() {
            return;
        }
        let mut digits = [b'0'; NUMBER_DIGITS];
        for digit in digits.iter_mut().rev() {
            *digit += (number % 10) as u8;
            number /= 10;
        }
        for place in &self.numbers {
            let place = start + place;
            out[place..place + NUMBER_DIGITS].copy_from_slice(&digits);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let cases = [
            ("http://a", Ok(("a", "a", 80, "/"))),
            ("http://a:81/x?y#z", Ok(("a:81", "a", 81, "/x?y"))),
            ("http://a?y", Ok(("a", "a", 80, "/?y"))),
            ("http://[::1]:9/", Ok(("[::1]:9", "::1", 9, "/"))),
            ("http://[::1]", Ok(("[::1]", "::1", 80, "/"))),
            ("localhost:80", Err("\"localhost:80\" is no URL")),
            ("https://a", Err("https is not spoken")),
            ("ftp://a", Err("\"ftp\" is not http")),
            ("http://", Err("\"\" is no host and port")),
            ("http://a:0/", Err("\"a:0\" is no host and port")),
            ("http://a:b/", Err("\"a:b\" is no host and port")),
            ("http://u:p@a/", Err("a URL with a user name is not taken")),
            ("http://a/ b", Err("\"http://a/ b\" is no URL")),
            (
                "http://a/\r\nX: y",
                Err("\"http://a/\\r\\nX: y\" is no URL"),
            ),
        ];
        for (text, expected) in cases {
            let found = Url::parse(text);
            let found = found
                .as_ref()
                .map(|url| {
                    let (authority, host) = (url.authority.as_str(), url.host.as_str());
                    (authority, host, url.port, url.path.as_str())
                })
                .map_err(|fault| fault.message.as_str());
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn fields() {
        assert_eq!(field("A: b ").unwrap(), ("A".into(), "b".into()));
        for text in [
            "A",
            ": b",
            "A b: c",
            "A: b\r\nC: d",
            "Content-Length: 5",
            "connection: close",
        ] {
            assert!(field(text).is_err(), "{text}");
        }
    }

    #[test]
    fn heads() {
        let target = Target {
            url: Url::parse("http://a:81/x").unwrap(),
            address: ([127, 0, 0, 1], 81).into(),
        };
        let message = |method: &str, field: Option<(&str, &str)>, body_bytes, is_chunked| Message {
            method: method.into(),
            fields: field
                .map(|(name, value)| (name.into(), value.into()))
                .into_iter()
                .collect(),
            body_bytes,
            is_chunked,
        };
        let cases = [
            (
                message("GET", None, 0, false),
                true,
                "GET /x HTTP/1.1\r\nHost: a:81\r\n\r\n",
            ),
            (
                message("GET", Some(("host", "b")), 0, false),
                true,
                "GET /x HTTP/1.1\r\nhost: b\r\n\r\n",
            ),
            (
                message("PUT", None, 0, false),
                false,
                "PUT /x HTTP/1.1\r\nHost: a:81\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            ),
            (
                message("PUT", None, 9, true),
                true,
                "PUT /x HTTP/1.1\r\nHost: a:81\r\nTransfer-Encoding: chunked\r\n\r\n",
            ),
        ];
        for (message, keep_alive, expected) in cases {
            let mut head = Vec::new();
            Head::new(&target, &message, keep_alive).write(&mut head, 0);
            assert_eq!(String::from_utf8(head).unwrap(), expected);
        }
    }

    #[test]
    fn each_request_has_its_number() {
        let target = Target {
            url: Url::parse("http://a/{n}?{n}{n}").unwrap(),
            address: ([127, 0, 0, 1], 80).into(),
        };
        let message = Message {
            method: "GET".into(),
            fields: vec![("B".into(), "<{n}>{m}".into())],
            body_bytes: 0,
            is_chunked: false,
        };
        let head = Head::new(&target, &message, true);
        let mut out = b"before".to_vec();
        for (number, digits) in [
            (0, "000000000000"),
            (120, "000000000120"),
            (999_999_999_999, "999999999999"),
        ] {
            out.truncate("before".len());
            head.write(&mut out, number);
            let expected = format!(
                "beforeGET /{digits}?{digits}{digits} HTTP/1.1\r\nHost: a\r\nB: <{digits}>{{m}}\r\n\r\n"
            );
            assert_eq!(String::from_utf8_lossy(&out), expected);
        }
    }
}
