//! The Forwarded field (RFC 7239).
//!
//! Decides: what trusted proxies tell of the client, and how we tell it. May not know: which proxies are trusted
//! (given). Invariant: what a client wrote to the left never changes how an element to the right of it is read.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::fields::Kind;
use super::head::Request;
use super::syntax;

/// The client, as trusted proxies tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client {
    pub ip: IpAddr,
    /// `http` or `https`: how it asked the proxy that tells of it; `None` if that is not said.
    pub proto: Option<&'static str>,
}

/// The right-most hop that is no trusted proxy, if the peer is one; else the peer. A hop without an address (`unknown`,
/// `_hidden`) or with a fault ends the search at the last one that had one.
pub fn client(request: &Request<'_, '_>, peer: IpAddr, trusts: impl Fn(IpAddr) -> bool) -> Client {
    let mut client = Client {
        ip: peer.to_canonical(),
        proto: None,
    };
    let fields = request.headers.iter().zip(request.kinds);
    let lists = fields.filter(|(_, kind)| **kind == Kind::Forwarded).rev();
    for element in lists.flat_map(|(header, _)| Elements::of(header.value)) {
        if !trusts(client.ip) {
            return client;
        }
        match Hop::parse(element) {
            Some(Hop {
                ip: Some(ip),
                proto,
            }) => client = Client { ip, proto },
            Some(Hop { ip: None, .. }) | None => return client,
        }
    }
    client
}

/// The elements of one field, the last one first.
///
/// They are cut off from the right, because what stands there is written by the proxy next to us: an unmatched quote of
/// a client's, further left, would swallow it if it were read from the left. For a well-formed field both ways yield the
/// same: outside of quotes neither a quote nor a backslash may stand.
struct Elements<'a> {
    rest: Option<&'a [u8]>,
}

impl<'a> Elements<'a> {
    fn of(list: &'a [u8]) -> Self {
        Elements { rest: Some(list) }
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a [u8];

    /// Empty elements are passed over (RFC 9110 section 5.6.1.2).
    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            let list = self.rest?;
            let comma = last_unquoted(list, b',');
            self.rest = comma.map(|at| &list[..at]);
            let element = syntax::trim(&list[comma.map_or(0, |at| at + 1)..]);
            if !element.is_empty() {
                return Some(element);
            }
        }
    }
}

fn last_unquoted(bytes: &[u8], wanted: u8) -> Option<usize> {
    let mut is_quoted = false;
    for (at, byte) in bytes.iter().enumerate().rev() {
        if *byte == b'"' {
            let before = &bytes[..at];
            let backslashes = before.iter().rev().take_while(|byte| **byte == b'\\');
            let is_escaped = backslashes.count() % 2 == 1;
            is_quoted ^= !is_escaped;
        } else if *byte == wanted && !is_quoted {
            return Some(at);
        }
    }
    None
}

/// What an element tells.
struct Hop {
    ip: Option<IpAddr>,
    proto: Option<&'static str>,
}

impl Hop {
    /// RFC 7239 section 4: pairs of a token and a value, between semicolons, each name once; white space around the
    /// semicolons is found in the wild. `None` if it is anything else.
    fn parse(element: &[u8]) -> Option<Hop> {
        let (mut node, mut proto) = (None, None);
        let mut rest = Some(element);
        while let Some(pairs) = rest {
            let semicolon = last_unquoted(pairs, b';');
            rest = semicolon.map(|at| &pairs[..at]);
            let pair = syntax::trim(&pairs[semicolon.map_or(0, |at| at + 1)..]);
            if pair.is_empty() {
                continue;
            }
            let equals = memchr::memchr(b'=', pair)?;
            let (name, value) = (&pair[..equals], value(&pair[equals + 1..])?);
            let place = if name.eq_ignore_ascii_case(b"for") {
                &mut node
            } else if name.eq_ignore_ascii_case(b"proto") {
                &mut proto
            } else if syntax::is_token(name) {
                continue;
            } else {
                return None;
            };
            if place.replace(value).is_some() {
                return None;
            }
        }
        Some(Hop {
            ip: node.and_then(node_address),
            proto: proto.and_then(known_proto),
        })
    }
}

/// The text of a token or a quoted string, its escapes left as they are: neither an address nor a scheme has any.
/// Unquoted, a few more bytes than a token's are let through, because `for=[::1]:80` and `for=1.2.3.4:80` are found in
/// the wild.
fn value(text: &[u8]) -> Option<&[u8]> {
    let Some(inside) = text.strip_prefix(b"\"") else {
        let is_bare = |byte: &u8| syntax::is_token_byte(*byte) || b"[]:".contains(byte);
        return (!text.is_empty() && text.iter().all(is_bare)).then_some(text);
    };
    let inside = inside.strip_suffix(b"\"")?;
    let mut bytes = inside.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return None,
            b'\\' => {
                bytes.next()?;
            }
            _ => {}
        }
    }
    Some(inside)
}

/// RFC 7239 section 6: an IPv6 address stands in brackets, and a port may follow, also a hidden one (`_port`).
fn node_address(node: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(node).ok()?;
    let (address, port): (IpAddr, _) = if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        (address.parse::<Ipv6Addr>().ok()?.into(), port)
    } else {
        let end = text.find(':').unwrap_or(text.len());
        let (address, port) = text.split_at(end);
        (address.parse::<Ipv4Addr>().ok()?.into(), port)
    };
    let is_port = port.is_empty() || port.strip_prefix(':').is_some_and(is_node_port);
    is_port.then(|| address.to_canonical())
}

fn is_node_port(port: &str) -> bool {
    let is_hidden_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    match port.strip_prefix('_') {
        Some(hidden) => !hidden.is_empty() && hidden.bytes().all(is_hidden_byte),
        None => (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

fn known_proto(text: &[u8]) -> Option<&'static str> {
    ["https", "http"]
        .into_iter()
        .find(|known| text.eq_ignore_ascii_case(known.as_bytes()))
}

/// Appends an element of our own: `for="[2001:db8::1]";host=example.org;proto=http`. `client_ip` is an address as text,
/// `host` an authority, or empty for a client of HTTP/1.0 that sends none.
pub fn write_element(out: &mut Vec<u8>, client_ip: &str, host: &str, proto: &str) {
    debug_assert!(client_ip.parse::<IpAddr>().is_ok());
    // So there is nothing in it to escape.
    debug_assert!(host.is_empty() || syntax::is_authority(host.as_bytes()));
    out.extend_from_slice(b"for=");
    if client_ip.contains(':') {
        out.extend_from_slice(b"\"[");
        out.extend_from_slice(client_ip.as_bytes());
        out.extend_from_slice(b"]\"");
    } else {
        out.extend_from_slice(client_ip.as_bytes());
    }
    if !host.is_empty() {
        out.extend_from_slice(b";host=");
        // A port's colon and an address's brackets stand in no token (RFC 9110 section 5.6.2).
        let quote: &[u8] = if syntax::is_token(host.as_bytes()) {
            b""
        } else {
            b"\""
        };
        out.extend_from_slice(quote);
        out.extend_from_slice(host.as_bytes());
        out.extend_from_slice(quote);
    }
    out.extend_from_slice(b";proto=");
    out.extend_from_slice(proto.as_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::h1::Limits;
    use crate::h1::head::{Slots, parse_request};

    /// 10.0.0.0/8 and fd00::/8 are ours, and 10.0.0.1 asks.
    fn found(fields: &[&str]) -> String {
        let trusts = |ip: IpAddr| match ip {
            IpAddr::V4(ip) => ip.octets()[0] == 10,
            IpAddr::V6(ip) => ip.octets()[0] == 0xfd,
        };
        let fields: String = fields
            .iter()
            .map(|field| format!("Forwarded: {field}\r\n"))
            .collect();
        let text = format!("GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 9.9.9.9\r\n{fields}\r\n");
        let mut slots = Slots::new();
        let parsed = parse_request(text.as_bytes(), &Limits::DEFAULT, &mut slots);
        let peer = IpAddr::from([10, 0, 0, 1]);
        let client = client(&parsed.unwrap().unwrap(), peer, trusts);
        format!("{} {}", client.ip, client.proto.unwrap_or("-"))
    }

    #[test]
    fn clients_that_proxies_tell_of() {
        for (fields, expected) in [
            (&[][..], "10.0.0.1 -"),
            (&["for=192.0.2.43"], "192.0.2.43 -"),
            (
                &["For=192.0.2.43;Proto=HTTPS;by=203.0.113.60;host=\"a;b,c\""],
                "192.0.2.43 https",
            ),
            (&["for=\"[2001:db8:cafe::17]:4711\""], "2001:db8:cafe::17 -"),
            (
                &["for=\"[2001:db8:cafe::17]\";proto=http"],
                "2001:db8:cafe::17 http",
            ),
            (&["for=\"192.0.2.43:_secret.port-1\""], "192.0.2.43 -"),
            (&["for=\"[::ffff:192.0.2.43]\""], "192.0.2.43 -"),
            // The right-most that is not ours; how it asked the proxy that tells of it.
            (
                &["for=1.1.1.1;proto=https, for=2.2.2.2;proto=http"],
                "2.2.2.2 http",
            ),
            (
                &["for=2.2.2.2;proto=https, for=10.0.0.2;proto=http"],
                "2.2.2.2 https",
            ),
            (
                &[
                    "for=1.1.1.1",
                    "for=2.2.2.2",
                    "for=10.0.0.2, for=\"[fd00::1]\"",
                ],
                "2.2.2.2 -",
            ),
            (&["for=10.0.0.3, for=10.0.0.2"], "10.0.0.3 -"),
            (&["for=2.2.2.2, , ,"], "2.2.2.2 -"),
            (&[""], "10.0.0.1 -"),
            // Hidden: the search ends.
            (&["for=2.2.2.2, for=unknown"], "10.0.0.1 -"),
            (&["for=2.2.2.2, for=_hidden, for=10.0.0.2"], "10.0.0.2 -"),
            (&["for=2.2.2.2, proto=https"], "10.0.0.1 -"),
            // Found in the wild.
            (&["for=[2001:db8::1]:80; proto=https"], "2001:db8::1 https"),
            (&["for=2.2.2.2:80 ;\tproto=https;"], "2.2.2.2 https"),
            (&["for=2.2.2.2;proto=ws"], "2.2.2.2 -"),
        ] {
            assert_eq!(found(fields), expected, "{fields:?}");
        }
    }

    #[test]
    fn what_is_malformed_ends_the_search() {
        for element in [
            "2.2.2.2",
            "for",
            "for=",
            "for=2.2.2.2;for=3.3.3.3",
            "for=2.2.2.2;proto=http;proto=https",
            "for =2.2.2.2",
            "for= 2.2.2.2",
            "for=\"2.2.2.2",
            "for=2.2.2.2\"",
            "for=\"2.2.2.2\"x",
            "for=\"2.2.2.2\\\"",
            "for=2.2.2.2 proto=http",
            "for=2.2.2.2;a b=c",
            "for=2.2.2.2;=c",
            "for=2.2.2.2;x=a\"b\"",
            "for=\"2001:db8::1\"",
            "for=\"[2001:db8::1\"",
            "for=\"[2.2.2.2]\"",
            "for=\"2.2.2.2:\"",
            "for=\"2.2.2.2:123456\"",
            "for=\"2.2.2.2:_\"",
            "for=\"2.2.2.2:+80\"",
            "for=\"2.2.2.\\2\"",
            "for=2.2.2",
            "for=example.org",
            "for=2.2.2.2;x=\u{e9}",
        ] {
            assert_eq!(
                found(&[&format!("for=1.1.1.1, {element}")]),
                "10.0.0.1 -",
                "{element}"
            );
            assert_eq!(
                found(&[&format!("{element}, for=10.0.0.2")]),
                "10.0.0.2 -",
                "{element}"
            );
        }
    }

    /// A client sends a quote that it does not close, and the proxy before us appends to that.
    #[test]
    fn an_open_quote_hides_nobody() {
        for forged in [
            "for=1.1.1.1;x=\"",
            "for=1.1.1.1;x=\"\\",
            "\"",
            "for=\"",
            "for=1.1.1.1;x=\"a\\\"",
            "for=1.1.1.1, x=\",",
            "\\",
        ] {
            for own in [
                "for=2.2.2.2",
                "for=2.2.2.2;host=\"a:80\"",
                "for=\"2.2.2.2:80\";x=\"a\\\"b\\\\\"",
            ] {
                assert_eq!(
                    found(&[&format!("{forged}, {own}")]),
                    "2.2.2.2 -",
                    "{forged}, {own}"
                );
            }
        }
    }

    #[test]
    fn what_we_write() {
        for (ip, host, proto, expected) in [
            (
                "192.0.2.1",
                "example.org",
                "http",
                "for=192.0.2.1;host=example.org;proto=http",
            ),
            (
                "2001:db8::1",
                "a:80",
                "https",
                "for=\"[2001:db8::1]\";host=\"a:80\";proto=https",
            ),
            (
                "192.0.2.1",
                "[::1]",
                "http",
                "for=192.0.2.1;host=\"[::1]\";proto=http",
            ),
            ("192.0.2.1", "", "http", "for=192.0.2.1;proto=http"),
        ] {
            let mut out = b"Forwarded: ".to_vec();
            write_element(&mut out, ip, host, proto);
            assert_eq!(
                String::from_utf8(out).unwrap(),
                format!("Forwarded: {expected}")
            );
        }
    }

    fn any_ip() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            any::<[u8; 4]>().prop_map(IpAddr::from),
            any::<[u8; 16]>().prop_map(|bytes| IpAddr::from(bytes).to_canonical()),
        ]
    }

    proptest! {
        #[test]
        fn what_we_write_is_read(
            forged in "([a-z0-9=;,\"\\\\ .:\\[\\]]{0,20}, ?)?",
            ip in any_ip(),
            host in "([a-z.()!;=*']{1,9}|\\[::1\\])(:[0-9]{0,4})?",
            https in any::<bool>(),
        ) {
            let mut out = forged.clone().into_bytes();
            let proto = if https { "https" } else { "http" };
            write_element(&mut out, &ip.to_string(), &host, proto);
            let element = Elements::of(&out).next().unwrap();
            prop_assert_eq!(element, &out[forged.len()..]);
            let hop = Hop::parse(element).unwrap();
            prop_assert_eq!((hop.ip, hop.proto), (Some(ip), Some(proto)));
            for element in Elements::of(&out) {
                Hop::parse(element);
            }
        }
    }
}
