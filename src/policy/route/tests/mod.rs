//! Tables of requests, and random rules against the plainest reading of them.

mod lookup;
mod normal;
mod random;
mod unreachable;

use std::net::Ipv4Addr;

use super::*;
use crate::h1::{Framing, Version};
use crate::policy::cidr::Cidr;

/// `host path conditions`: a host of `*` is any, `*.x` a suffix, a path with `=` before it exact. A condition is a method,
/// a field `x-beta:` or `x-beta:1`, a parameter `?debug` or `?v=2`, a block of addresses `@10`, a priority `!5`.
fn rule(text: &str, route: u32) -> Rule {
    let mut parts = text.split(' ');
    let hosts = parts.next().unwrap().split(',').filter(|host| *host != "*");
    let hosts = hosts.map(|host| match host.strip_prefix("*.") {
        Some(suffix) => HostPattern::Suffix(suffix.into()),
        None => HostPattern::Exact(host.into()),
    });
    let path = parts.next().unwrap();
    let path = match path.strip_prefix('=') {
        Some(exact) => PathPattern::Exact(exact.into()),
        None => PathPattern::Prefix(path.into()),
    };
    let mut rule = Rule {
        hosts: hosts.collect(),
        path,
        methods: Vec::new(),
        conditions: Conditions::default(),
        priority: 0,
        route: RouteId(route),
    };
    let (mut headers, mut query, mut clients) = (Vec::new(), Vec::new(), Vec::new());
    for part in parts {
        if let Some(parameter) = part.strip_prefix('?') {
            let (name, value) = match parameter.split_once('=') {
                Some((name, value)) => (name, Some(value.into())),
                None => (parameter, None),
            };
            query.push((name.into(), value));
        } else if let Some((name, value)) = part.split_once(':') {
            let value = (!value.is_empty()).then(|| value.into());
            headers.push((name.into(), value));
        } else if let Some(octet) = part.strip_prefix('@') {
            clients.push(block(octet.parse().unwrap()));
        } else if let Some(priority) = part.strip_prefix('!') {
            rule.priority = priority.parse().unwrap();
        } else {
            rule.methods.push(match method(part) {
                Method::Other => MethodName::Custom(part.into()),
                known => MethodName::Known(known),
            });
        }
    }
    rule.conditions = Conditions {
        headers: headers.into(),
        query: query.into(),
        clients: clients.into(),
    };
    rule
}

/// `10` is 10.0.0.0/8; `0` are all addresses of IPv4.
fn block(octet: u8) -> Cidr {
    Cidr {
        network: Ipv4Addr::new(octet, 0, 0, 0).into(),
        prefix: if octet == 0 { 0 } else { 8 },
    }
}

fn rules(texts: &[impl AsRef<str>]) -> Vec<Rule> {
    texts
        .iter()
        .enumerate()
        .map(|(at, text)| rule(text.as_ref(), at as u32))
        .collect()
}

fn method(text: &str) -> Method {
    match text {
        "GET" => Method::Get,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        _ => Method::Other,
    }
}

/// A request as the parser would give it; hosts that it would refuse are possible.
fn request<'h, 'b>(
    method_text: &'b str,
    host: &'b str,
    target: &'b str,
    headers: &'h [httparse::Header<'b>],
) -> Request<'h, 'b> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    Request {
        method: method(method_text),
        method_text,
        target,
        path,
        query,
        version: Version::Http11,
        host,
        framing: Framing::None,
        content_length: None,
        keep_alive: true,
        expect_continue: false,
        upgrade: None,
        nominates: false,
        max_forwards: None,
        head_len: 0,
        head: &[],
        headers,
        kinds: &[],
    }
}

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3));

fn find(router: &Router, method: &str, host: &str, target: &str) -> Result<RouteId, Miss> {
    router.lookup(&request(method, host, target, &[]), CLIENT)
}
