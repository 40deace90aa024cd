//! Addresses as text: listeners, backends, blocks, hosts, paths.
//!
//! Decides: which spellings are accepted. May not know: keys, files, DNS.
//! Invariant: what is returned needs no further parsing; no message repeats the user information of a URL.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use super::plan::{Address, Cidr, Listen, Webhook};
use super::report::Fault;
use crate::h1::Method;
use crate::policy::route::{HostPattern, MethodName};

/// `sun_path` has 108 bytes, one of them for the final NUL.
const UNIX_PATH_MAX: usize = 107;
const PATH_MAX: usize = 4096;

pub(super) fn listen(text: &str) -> Result<Listen, Fault> {
    match text.strip_prefix("unix:") {
        Some(path) => unix_path(path).map(Listen::Unix),
        None => socket(text).map(Listen::Tcp),
    }
}

pub(super) fn socket(text: &str) -> Result<SocketAddr, Fault> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(address);
    }
    let fault = Fault::new(format!("\"{text}\" is no address with a port"));
    let port = text
        .rsplit(':')
        .next()
        .and_then(|port| port.parse::<u16>().ok());
    Err(match (text.rsplit_once(':').map(|(host, _)| host), port) {
        (Some("" | "*") | None, Some(port)) => fault.hint(format!(
            "write \"0.0.0.0:{port}\", or \"[::]:{port}\" for IPv6 too"
        )),
        (Some("localhost"), Some(port)) => fault.hint(format!("write \"127.0.0.1:{port}\"")),
        (Some(host), Some(port)) if host.parse::<Ipv6Addr>().is_ok() => {
            fault.hint(format!("write \"[{host}]:{port}\""))
        }
        (Some(_), Some(_)) => fault.hint("an IP address, not a name: \"127.0.0.1:8080\""),
        (Some(_) | None, None) => {
            fault.hint("write \"127.0.0.1:8080\" or \"[::1]:8080\", port 0 to 65535")
        }
    })
}

/// A backend's address and the authority that its Host field has.
pub(super) fn backend(url: &str) -> Result<(Address, Box<str>), Fault> {
    if let Some(path) = url.strip_prefix("unix:") {
        return Ok((Address::Unix(unix_path(path)?), "localhost".into()));
    }
    let Some((scheme, rest)) = url.split_once("://") else {
        let fault = Fault::new(format!("\"{url}\" is no URL"));
        return Err(match authority(url) {
            Ok(_) if !url.is_empty() => fault.hint(format!("write \"http://{url}\"")),
            Ok(_) | Err(_) => fault.hint("write \"http://host:port\" or \"unix:/path\""),
        });
    };
    match scheme.to_ascii_lowercase().as_str() {
        "http" => {}
        "https" => {
            return Err(
                Fault::new("TLS to backends is not supported yet").hint("use http:// for now")
            );
        }
        _ => {
            let fault = Fault::new(format!("scheme \"{scheme}\" is not supported"));
            return Err(fault.hint("backends are http:// or unix:/path"));
        }
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (place, tail) = rest.split_at(end);
    if rest.contains('@') {
        return Err(
            Fault::new("a user name or password in a backend's URL is not supported")
                .hint("remove what stands before the @"),
        );
    }
    if !matches!(tail, "" | "/") {
        let fault = Fault::new(format!(
            "a backend's URL has no path, query or fragment, found \"{tail}\""
        ));
        return Err(fault.hint("requests keep the path that the client sent"));
    }
    origin(place)
}

/// What stands between `http://` and the path.
fn origin(place: &str) -> Result<(Address, Box<str>), Fault> {
    let (host, port) = authority(place)?;
    let port = port.unwrap_or(80);
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let resolved = bare
        .parse::<IpAddr>()
        .map(|ip| vec![SocketAddr::new(ip, port)])
        .unwrap_or_default();
    let authority = if port == 80 {
        host.clone()
    } else {
        format!("{host}:{port}")
    };
    Ok((
        Address::Tcp {
            host: bare.into(),
            port,
            resolved,
        },
        authority.into(),
    ))
}

/// `http://host:port/path`, to which events are posted.
pub(super) fn webhook(url: &str) -> Result<Webhook, Fault> {
    let hint = "write \"http://host:port/path\"";
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err(Fault::new(format!("\"{url}\" is no URL")).hint(hint));
    };
    if scheme.eq_ignore_ascii_case("https") {
        let fault = Fault::new("TLS to a webhook is not supported yet");
        return Err(fault.hint("use http:// for now, to a proxy of its own if need be"));
    }
    if !scheme.eq_ignore_ascii_case("http") {
        return Err(Fault::new(format!("scheme \"{scheme}\" is not supported")).hint(hint));
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (place, path) = rest.split_at(end);
    if place.contains('@') {
        let fault = Fault::new("a user name or password in a webhook's URL is not supported");
        return Err(fault.hint("remove what stands before the @"));
    }
    let (address, authority) = origin(place)?;
    let path = if path.is_empty() {
        "/".into()
    } else {
        target(path)?
    };
    Ok(Webhook {
        url: url.into(),
        address,
        authority,
        path,
    })
}

/// One address, or a block whose host bits are zero.
pub(super) fn cidr(text: &str) -> Result<Cidr, Fault> {
    let fault = || {
        Fault::new(format!("\"{text}\" is no address block"))
            .hint("write \"10.0.0.0/8\", \"::1\" or \"fd00::/8\"")
    };
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| fault())?;
    let bits: u8 = if address.is_ipv4() { 32 } else { 128 };
    let digits = prefix.filter(|prefix| prefix.bytes().all(|b| b.is_ascii_digit()));
    let prefix: u8 = match (prefix, digits) {
        (None, _) => bits,
        (Some(_), Some(digits)) => digits.parse().map_err(|_| fault())?,
        (Some(_), None) => return Err(fault()),
    };
    if prefix > bits {
        return Err(Fault::new(format!(
            "\"{text}\" has a prefix longer than {bits} bits"
        )));
    }
    let network = network(address, prefix);
    if network != address {
        let fault = Fault::new(format!("\"{text}\" has bits set after its prefix"));
        return Err(fault.hint(format!("did you mean \"{network}/{prefix}\"?")));
    }
    Ok(canonical(network, prefix))
}

/// A fixed Host: `host[:port]`.
pub(super) fn fixed_host(text: &str) -> Result<Box<str>, Fault> {
    if let Some((_, rest)) = text.split_once("://") {
        // Not the password.
        let host = rest.rsplit('@').next().unwrap_or(rest);
        let host = &host[..host.find('/').unwrap_or(host.len())];
        let fault = Fault::new(format!("\"{text}\" is a URL, not a host"));
        return Err(fault.hint(format!("did you mean \"{host}\"?")));
    }
    let (host, port) = authority(text)?;
    Ok(port
        .map_or(host.clone(), |port| format!("{host}:{port}"))
        .into())
}

/// `example.org`, `*.example.org` or an IP literal.
pub(super) fn host_pattern(text: &str) -> Result<HostPattern, Fault> {
    let suffix = text.strip_prefix("*.");
    if text == "*" {
        return Err(Fault::new("\"*\" is no host").hint("leave hosts out to match any"));
    }
    let (host, port) = authority(suffix.unwrap_or(text))?;
    if port.is_some() {
        return Err(Fault::new(format!("\"{text}\" has a port")).hint("hosts match on any port"));
    }
    Ok(match suffix {
        Some(_) => HostPattern::Suffix(host.into()),
        None => HostPattern::Exact(host.into()),
    })
}

/// A path as it stands in a request: from `/`, no query, percent-encoded.
pub(super) fn path(text: &str) -> Result<Box<str>, Fault> {
    let no_path = "no query, no fragment; other characters percent-encoded, as in a request";
    written_path(text, false, no_path)
}

/// A path that may have a query.
pub(super) fn target(text: &str) -> Result<Box<str>, Fault> {
    written_path(
        text,
        true,
        "other characters percent-encoded, as in a request",
    )
}

fn written_path(text: &str, query: bool, help: &str) -> Result<Box<str>, Fault> {
    if !text.starts_with('/') {
        return Err(Fault::new(format!("\"{text}\" does not begin with /"))
            .hint(format!("did you mean \"/{text}\"?")));
    }
    if text.len() > PATH_MAX {
        return Err(Fault::new(format!("longer than {PATH_MAX} bytes")));
    }
    let bytes = text.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        let encoded = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_hexdigit);
        let fine = match byte {
            b'%' => encoded(at + 1) && encoded(at + 2),
            b'?' => query,
            b'#' | b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' => false,
            byte => byte.is_ascii_graphic(),
        };
        if !fine {
            let fault = Fault::new(format!(
                "\"{text}\" has a character that no path has, at byte {}",
                at + 1
            ));
            return Err(fault.hint(help));
        }
    }
    Ok(text.into())
}

pub(super) fn method(text: &str) -> Result<MethodName, Fault> {
    let known = match text {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "OPTIONS" => Method::Options,
        "PATCH" => Method::Patch,
        "CONNECT" | "TRACE" => {
            return Err(Fault::new(format!(
                "{text} is always refused, no route gets it"
            )));
        }
        _ if !is_token(text) => return Err(Fault::new(format!("\"{text}\" is no method"))),
        _ if text.bytes().any(|b| b.is_ascii_lowercase()) => {
            let fault = Fault::new(format!(
                "\"{text}\" would never match: methods are upper case"
            ));
            return Err(fault.hint(format!("did you mean \"{}\"?", text.to_ascii_uppercase())));
        }
        _ => return Ok(MethodName::Custom(text.into())),
    };
    Ok(MethodName::Known(known))
}

/// RFC 9110 section 5.6.2, up to 64 characters.
pub(super) fn is_token(text: &str) -> bool {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    (1..=64).contains(&text.len()) && text.bytes().all(token)
}

fn unix_path(path: &str) -> Result<PathBuf, Fault> {
    if !path.starts_with('/') {
        let fault = Fault::new(format!("\"{path}\" is no absolute path"));
        return Err(fault.hint("write \"unix:/run/corelane.sock\""));
    }
    if path.len() > UNIX_PATH_MAX {
        return Err(Fault::new(format!(
            "a socket's path has at most {UNIX_PATH_MAX} bytes, found {}",
            path.len()
        )));
    }
    if path.contains('\0') {
        return Err(Fault::new("a socket's path has no NUL"));
    }
    Ok(path.into())
}

/// `host[:port]`, the host in lower case, an IPv6 address in its brackets.
fn authority(text: &str) -> Result<(String, Option<u16>), Fault> {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) => {
            let Ok(address) = address.parse::<Ipv6Addr>() else {
                return Err(Fault::new(format!("\"{address}\" is no IPv6 address")));
            };
            let port = match rest.strip_prefix(':') {
                Some(port) => Some(port),
                None if rest.is_empty() => None,
                None => {
                    return Err(Fault::new(format!(
                        "\"{rest}\" after an address is no port"
                    )));
                }
            };
            (format!("[{address}]"), port)
        }
        None if text.matches(':').count() > 1 => {
            let fault = Fault::new(format!("\"{text}\" is no host"));
            return Err(fault.hint("an IPv6 address stands in brackets: \"[::1]:8080\""));
        }
        None => match text.split_once(':') {
            Some((host, port)) => (name(host)?, Some(port)),
            None => (name(text)?, None),
        },
    };
    let port = match port {
        None => None,
        Some(text) => match text.parse::<u16>() {
            Ok(port) if port > 0 && text.bytes().all(|b| b.is_ascii_digit()) => Some(port),
            Ok(_) | Err(_) => {
                return Err(Fault::new(format!("port \"{text}\" is not in 1 to 65535")));
            }
        },
    };
    Ok((host, port))
}

/// A DNS name or an IPv4 address, in lower case.
fn name(text: &str) -> Result<String, Fault> {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    if text.is_empty() {
        return Err(Fault::new("the host is missing"));
    }
    if !text.is_ascii() {
        return Err(Fault::new(format!("\"{text}\" is not ASCII"))
            .hint("write the name as DNS has it: xn--…"));
    }
    if text.len() > 253 || !text.split('.').all(label) {
        return Err(Fault::new(format!("\"{text}\" is no host name")));
    }
    let last = text.rsplit('.').next().unwrap_or("");
    if last.bytes().all(|b| b.is_ascii_digit()) && text.parse::<Ipv4Addr>().is_err() {
        return Err(Fault::new(format!("\"{text}\" is no IPv4 address")));
    }
    Ok(text.to_ascii_lowercase())
}

fn network(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            Ipv4Addr::from(u32::from(ip) & mask).into()
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            Ipv6Addr::from(u128::from(ip) & mask).into()
        }
    }
}

/// An IPv4-mapped block counts as its IPv4 block, as `Cidr::contains` does with addresses.
fn canonical(network: IpAddr, prefix: u8) -> Cidr {
    match network.to_canonical() {
        IpAddr::V4(ip) if network.is_ipv6() && prefix >= 96 => Cidr {
            network: ip.into(),
            prefix: prefix - 96,
        },
        IpAddr::V4(_) | IpAddr::V6(_) => Cidr { network, prefix },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backends_as_addresses_and_authorities() {
        let cases = [
            (
                "http://127.0.0.1:3001",
                "127.0.0.1:3001 -> [127.0.0.1:3001]",
            ),
            ("http://Example.org/", "example.org -> []"),
            ("HTTP://app:80", "app -> []"),
            ("http://[::1]:8080", "[::1]:8080 -> [[::1]:8080]"),
            ("http://[::1]", "[::1] -> [[::1]:80]"),
            ("unix:/run/app.sock", "localhost -> /run/app.sock"),
            ("https://a", "TLS to backends is not supported yet"),
            ("ftp://a", "scheme \"ftp\" is not supported"),
            ("127.0.0.1:3001", "\"127.0.0.1:3001\" is no URL"),
            ("http://", "the host is missing"),
            ("http://:80", "the host is missing"),
            ("http://a:0", "port \"0\" is not in 1 to 65535"),
            ("http://a:+1", "port \"+1\" is not in 1 to 65535"),
            ("http://a:65536", "port \"65536\" is not in 1 to 65535"),
            ("http://a:", "port \"\" is not in 1 to 65535"),
            ("http://::1:80", "\"::1:80\" is no host"),
            ("http://[::g]:80", "\"::g\" is no IPv6 address"),
            ("http://[::1]80", "\"80\" after an address is no port"),
            ("http://999.1.1.1", "\"999.1.1.1\" is no IPv4 address"),
            ("http://a b", "\"a b\" is no host name"),
            ("http://-a", "\"-a\" is no host name"),
            (
                "http://a/x",
                "a backend's URL has no path, query or fragment, found \"/x\"",
            ),
            (
                "http://me:secret@a",
                "a user name or password in a backend's URL is not supported",
            ),
            (
                "http://me:sec/ret@a",
                "a user name or password in a backend's URL is not supported",
            ),
            ("unix:app.sock", "\"app.sock\" is no absolute path"),
        ];
        for (url, expected) in cases {
            let found = match backend(url) {
                Ok((Address::Tcp { resolved, .. }, authority)) => {
                    format!("{authority} -> {resolved:?}")
                }
                Ok((Address::Unix(path), authority)) => {
                    format!("{authority} -> {}", path.display())
                }
                Err(fault) => fault.message,
            };
            assert_eq!(found, expected, "{url}");
        }
    }

    #[test]
    fn blocks_have_no_host_bits_and_mapped_ones_are_ipv4() {
        let cases = [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("10.1.2.3", "10.1.2.3/32"),
            ("::1", "::1/128"),
            ("::/0", "::/0"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("10.0.0.1/8", "did you mean \"10.0.0.0/8\"?"),
            ("10.0.0.0/33", ""),
            (
                "10.0.0.0/+8",
                "write \"10.0.0.0/8\", \"::1\" or \"fd00::/8\"",
            ),
            ("10.0.0.0/", "write \"10.0.0.0/8\", \"::1\" or \"fd00::/8\""),
            ("ten", "write \"10.0.0.0/8\", \"::1\" or \"fd00::/8\""),
        ];
        for (text, expected) in cases {
            let found = match cidr(text) {
                Ok(cidr) => format!("{}/{}", cidr.network, cidr.prefix),
                Err(fault) => fault.hint.unwrap_or_default(),
            };
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn paths_stand_as_in_a_request() {
        for good in ["/", "/a/b", "/a%20b", "/a;b=c", "/~x"] {
            assert_eq!(path(good).ok().as_deref(), Some(good));
        }
        for bad in [
            "", "a", "/a b", "/ä", "/a?b", "/a#b", "/%", "/%zz", "/%2", "/\u{7f}",
        ] {
            assert!(path(bad).is_err(), "{bad}");
        }
        assert!(target("/a?b=c&d").is_ok() && target("/?/?").is_ok());
        for bad in ["", "a", "?a", "/a?b c", "/a?\r\n", "/a?b#c"] {
            assert!(target(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn webhooks_have_an_address_and_a_path() {
        let cases = [
            ("http://a", "a /"),
            ("http://A.example:80/x?y", "a.example /x?y"),
            ("http://[::1]:9/x", "[::1]:9 /x"),
            ("https://a/x", "TLS to a webhook is not supported yet"),
            ("unix:/run/x", "\"unix:/run/x\" is no URL"),
            ("ftp://a", "scheme \"ftp\" is not supported"),
            ("http:///x", "the host is missing"),
            ("http://a?x", "\"?x\" does not begin with /"),
            (
                "http://a/#x",
                "\"/#x\" has a character that no path has, at byte 2",
            ),
            (
                "http://me:secret@a/",
                "a user name or password in a webhook's URL is not supported",
            ),
        ];
        for (url, expected) in cases {
            let found = match webhook(url) {
                Ok(webhook) => format!("{} {}", webhook.authority, webhook.path),
                Err(fault) => fault.message,
            };
            assert_eq!(found, expected, "{url}");
        }
    }
}
