//! The head that we send on.
//!
//! Decides: which fields of a checked head reach the other side, which we write ourselves, and in
//! which order. May not know: sockets, routes, which backend. Invariant: what we write has exactly
//! one length rule and one Host, and every other byte of it was checked at parse time; nothing from
//! a field is ever unescaped or folded.

use std::net::IpAddr;

use super::fields::{Kind, offset_in};
use super::head::{Request, Response};
use super::{Framing, Method, Version, answer, syntax};

/// Room for the fields that we add to a head, so that one reservation is enough.
const ADDED_BYTES: usize = 512;

/// What a route changes of a head.
#[derive(Clone, Copy)]
pub struct Edit<'a> {
    /// These fields do not pass, nor are they written by us.
    pub drops: &'a dyn Fn(&str) -> bool,
    /// Appends further fields, each with its line end.
    pub write: Write<'a>,
}

/// Appends a part of a head.
pub type Write<'a> = &'a dyn Fn(&mut Vec<u8>);

/// What a request head needs besides the request.
#[derive(Clone, Copy)]
pub struct Forward<'a> {
    /// The peer's IP, as text.
    pub client_ip: &'a str,
    /// The peer is one of the trusted proxies: what it says of the client is kept.
    pub trusted: bool,
    /// `http` or `https`: how the client reached us.
    pub proto: &'a str,
    /// Our listening port, as text.
    pub port: &'a str,
    /// Replaces Host.
    pub host: Option<&'a str>,
    /// Our name in Via.
    pub via: &'a str,
    /// Pass `Expect: 100-continue` on.
    pub keep_expect: bool,
    /// Appends path and query, where they are not those of the request.
    pub target: Option<Write<'a>>,
    pub edit: Option<Edit<'a>>,
}

/// Appends the request head for a backend. Always HTTP/1.1 and origin-form (RFC 9112 sections 2.3
/// and 3.2). Inlined where nothing is edited, and small there.
#[inline(always)]
pub fn request(out: &mut Vec<u8>, request: &Request<'_, '_>, with: &Forward<'_>) {
    out.reserve(request.head_len + ADDED_BYTES);
    request_line(out, request, with.target);
    // Empty for HTTP/1.0 without Host, as RFC 9112 section 3.2 wants it.
    field(out, "Host: ", with.host.unwrap_or(request.host).as_bytes());
    let passes = |kind: Kind| passes_in_request(kind, request.method, with.trusted);
    match with.edit {
        None => {
            let passes = |_: &str, kind| passes(kind);
            copy_fields(out, request.head, request.headers, request.kinds, passes);
        }
        Some(edit) => {
            let passes = |name: &str, kind| passes(kind) && !(edit.drops)(name);
            copy_fields(out, request.head, request.headers, request.kinds, passes);
        }
    }
    client_fields(out, request, with);
    if let Some(edit) = with.edit {
        (edit.write)(out);
    }
    via(out, request.version, with.via);
    match request.framing {
        // Some servers want a length for methods that usually have a body, even if it is 0; RFC
        // 9110 section 8.6.
        Framing::None if request.content_length.is_some() => field(out, "Content-Length: ", b"0"),
        Framing::None | Framing::UntilClose => {}
        Framing::Length(length) => number_field(out, "Content-Length: ", length),
        Framing::Chunked => field(out, "Transfer-Encoding: ", b"chunked"),
    }
    if let Some(protocol) = request.upgrade {
        upgrade(out, protocol);
    }
    if with.keep_expect && request.expect_continue {
        field(out, "Expect: ", b"100-continue");
    }
    if let Some(hops) = request.max_forwards {
        number_field(out, "Max-Forwards: ", u64::from(hops.saturating_sub(1)));
    }
    out.extend_from_slice(b"\r\n");
}

fn request_line(out: &mut Vec<u8>, request: &Request<'_, '_>, target: Option<Write<'_>>) {
    out.extend_from_slice(request.method_text.as_bytes());
    out.push(b' ');
    if let Some(target) = target {
        target(out);
    } else {
        origin_form(out, request);
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
}

/// Appends the target as a backend gets it: path and query, or `*`.
pub fn origin_form(out: &mut Vec<u8>, request: &Request<'_, '_>) {
    if request.target.starts_with(['/', '*']) {
        out.extend_from_slice(request.target.as_bytes());
    } else {
        absolute_as_origin(out, request);
    }
}

/// RFC 9112 section 3.2.1; without a path it is `/`, for OPTIONS `*` (section 3.2.4).
fn absolute_as_origin(out: &mut Vec<u8>, request: &Request<'_, '_>) {
    let authority = request.target.find("://").map_or(0, |at| at + 3);
    let rest = &request.target[authority..];
    let rest = &rest[rest.find(['/', '?']).unwrap_or(rest.len())..];
    match rest.as_bytes().first() {
        None if request.method == Method::Options => out.push(b'*'),
        None => out.push(b'/'),
        Some(b'/') => out.extend_from_slice(rest.as_bytes()),
        Some(_) => {
            out.push(b'/');
            out.extend_from_slice(rest.as_bytes());
        }
    }
}

/// X-Forwarded-For, -Host, -Proto, -Port and X-Real-IP. The kept ones have been copied by now.
fn client_fields(out: &mut Vec<u8>, request: &Request<'_, '_>, with: &Forward<'_>) {
    let mut kept = with.edit.map_or(Kept::default(), Kept::dropped);
    if with.trusted {
        for kind in request.kinds {
            kept.note(*kind);
        }
    }
    if !kept.list {
        forwarded_for(out, request, with);
    }
    if !kept.host && !request.host.is_empty() {
        field(out, "X-Forwarded-Host: ", request.host.as_bytes());
    }
    if !kept.proto {
        field(out, "X-Forwarded-Proto: ", with.proto.as_bytes());
    }
    // A unix socket has none.
    if !kept.port && !with.port.is_empty() {
        field(out, "X-Forwarded-Port: ", with.port.as_bytes());
    }
    if !kept.real_ip {
        field(out, "X-Real-IP: ", with.client_ip.as_bytes());
    }
}

/// The hops so far, if the peer may tell them, and the peer.
fn forwarded_for(out: &mut Vec<u8>, request: &Request<'_, '_>, with: &Forward<'_>) {
    out.extend_from_slice(b"X-Forwarded-For: ");
    if with.trusted {
        for (header, kind) in request.headers.iter().zip(request.kinds) {
            if *kind == Kind::XForwardedFor && !header.value.is_empty() {
                out.extend_from_slice(header.value);
                out.extend_from_slice(b", ");
            }
        }
    }
    out.extend_from_slice(with.client_ip.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Which fields about the client we do not write: a trusted peer has set them, or the route drops them.
#[derive(Default)]
struct Kept {
    list: bool,
    host: bool,
    proto: bool,
    port: bool,
    real_ip: bool,
}

impl Kept {
    fn dropped(edit: Edit<'_>) -> Kept {
        Kept {
            list: (edit.drops)("X-Forwarded-For"),
            host: (edit.drops)("X-Forwarded-Host"),
            proto: (edit.drops)("X-Forwarded-Proto"),
            port: (edit.drops)("X-Forwarded-Port"),
            real_ip: (edit.drops)("X-Real-IP"),
        }
    }

    fn note(&mut self, kind: Kind) {
        match kind {
            Kind::XForwardedHost => self.host = true,
            Kind::XForwardedProto => self.proto = true,
            Kind::XForwardedPort => self.port = true,
            Kind::XRealIp => self.real_ip = true,
            Kind::EndToEnd
            | Kind::Host
            | Kind::ContentLength
            | Kind::TransferEncoding
            | Kind::Connection
            | Kind::Upgrade
            | Kind::HopByHop
            | Kind::KeepAlive
            | Kind::XForwardedFor
            | Kind::Forwarded
            | Kind::MaxForwards
            | Kind::Expect
            | Kind::Date
            | Kind::Disguised => {}
        }
    }
}

fn passes_in_request(kind: Kind, method: Method, trusted: bool) -> bool {
    match kind {
        Kind::EndToEnd | Kind::Date => true,
        // Forwarded (RFC 7239) tells what X-Forwarded-* tell, and is as easily forged.
        Kind::XForwardedHost
        | Kind::XForwardedProto
        | Kind::XForwardedPort
        | Kind::XRealIp
        | Kind::Forwarded => trusted,
        // Means something for OPTIONS only (and TRACE, which we refuse); there we write it anew.
        Kind::MaxForwards => method != Method::Options,
        Kind::Host
        | Kind::ContentLength
        | Kind::TransferEncoding
        | Kind::Connection
        | Kind::Upgrade
        | Kind::HopByHop
        | Kind::KeepAlive
        | Kind::XForwardedFor
        | Kind::Expect
        | Kind::Disguised => false,
    }
}

/// A field of this kind reaches the client, and stays with a response that is stored (RFC 9111 section 3.1).
pub(crate) fn passes_in_response(kind: Kind) -> bool {
    match kind {
        Kind::EndToEnd
        | Kind::Date
        | Kind::Host
        | Kind::XForwardedFor
        | Kind::XForwardedHost
        | Kind::XForwardedProto
        | Kind::XForwardedPort
        | Kind::XRealIp
        | Kind::Forwarded
        | Kind::MaxForwards
        | Kind::Expect => true,
        Kind::ContentLength
        | Kind::TransferEncoding
        | Kind::Connection
        | Kind::Upgrade
        | Kind::HopByHop
        | Kind::KeepAlive
        | Kind::Disguised => false,
    }
}

/// Copies the passing fields with their line ends. Neighbours that pass are neighbours in the
/// buffer too, so that a whole run of them is one copy.
fn copy_fields(
    out: &mut Vec<u8>,
    head: &[u8],
    headers: &[httparse::Header<'_>],
    kinds: &[Kind],
    passes: impl Fn(&str, Kind) -> bool,
) {
    let mut run_start = None;
    for (header, kind) in headers.iter().zip(kinds) {
        match (run_start, passes(header.name, *kind)) {
            (None, true) => run_start = Some(offset_in(head, header.name.as_bytes())),
            (Some(start), false) => {
                out.extend_from_slice(&head[start..offset_in(head, header.name.as_bytes())]);
                run_start = None;
            }
            (None, false) | (Some(_), true) => {}
        }
    }
    if let Some(start) = run_start {
        // All but the empty line.
        out.extend_from_slice(&head[start..head.len() - 2]);
    }
}

/// Inlined, so that names are stores of constants instead of copies.
#[inline(always)]
fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn number_field(out: &mut Vec<u8>, name: &str, value: u64) {
    out.extend_from_slice(name.as_bytes());
    answer::write_number(out, value);
    out.extend_from_slice(b"\r\n");
}

/// RFC 9110 section 7.6.3: the version is the one that we received.
fn via(out: &mut Vec<u8>, received: Version, name: &str) {
    let prefix = match received {
        Version::Http10 => "Via: 1.0 ",
        Version::Http11 => "Via: 1.1 ",
    };
    field(out, prefix, name.as_bytes());
}

fn upgrade(out: &mut Vec<u8>, protocol: &str) {
    out.extend_from_slice(b"Connection: Upgrade\r\n");
    field(out, "Upgrade: ", protocol.as_bytes());
}

/// The last proxy says that the client came to it by https.
pub fn came_by_https(request: &Request<'_, '_>) -> bool {
    let fields = request.headers.iter().zip(request.kinds).rev();
    let mut told = fields.filter(|(_, kind)| **kind == Kind::XForwardedProto);
    let last = told
        .next()
        .and_then(|(header, _)| header.value.rsplit(|byte| *byte == b',').next());
    last.is_some_and(|scheme| syntax::trim(scheme).eq_ignore_ascii_case(b"https"))
}

/// The client's address: the right-most hop of X-Forwarded-For that is no trusted proxy, if the
/// peer is one; else the peer. A hop that is no address ends the search at the last one that was.
pub fn client_ip(
    request: &Request<'_, '_>,
    peer: IpAddr,
    trusts: impl Fn(IpAddr) -> bool,
) -> IpAddr {
    let mut client = peer.to_canonical();
    let fields = request.headers.iter().zip(request.kinds);
    let lists = fields
        .filter(|(_, kind)| **kind == Kind::XForwardedFor)
        .rev();
    for hop in lists.flat_map(|(header, _)| header.value.rsplit(|byte| *byte == b',')) {
        if !trusts(client) {
            return client;
        }
        match hop_address(syntax::trim(hop)) {
            Some(address) => client = address,
            None => return client,
        }
    }
    client
}

/// `1.2.3.4`, `1.2.3.4:567`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:567`: all are found in
/// the wild.
fn hop_address(hop: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(hop).ok()?;
    let address = if let Some(rest) = text.strip_prefix('[') {
        rest.split_once(']')?.0
    } else {
        match text.split_once(':') {
            Some((address, port)) if !port.contains(':') => address,
            Some(_) | None => text,
        }
    };
    address.parse::<IpAddr>().ok().map(|ip| ip.to_canonical())
}

/// What a response head needs besides the response.
#[derive(Clone, Copy)]
pub struct Reply<'a> {
    pub client_version: Version,
    /// The client's connection lives on after this response.
    pub keep_alive: bool,
    /// As we send it, by [`reply_framing`].
    pub framing: Framing,
    /// The request was HEAD.
    pub head_request: bool,
    /// Our name in Via.
    pub via: &'a str,
    /// IMF-fixdate, for a response without Date (RFC 9110 section 6.6.1).
    pub date: &'a str,
    /// A Set-Cookie field of ours.
    pub set_cookie: Option<&'a str>,
    /// Further fields of ours, each with its line end.
    pub lines: &'a [u8],
    pub edit: Option<Edit<'a>>,
}

/// Appends the final response head for the client.
pub fn response(out: &mut Vec<u8>, response: &Response<'_, '_>, with: &Reply<'_>) {
    out.reserve(response.head_len + ADDED_BYTES);
    status_line(out, response);
    copy_response_fields(out, response, with.edit);
    if response.status >= 200 && !response.kinds.contains(&Kind::Date) {
        field(out, "Date: ", with.date.as_bytes());
    }
    if let Some(cookie) = with.set_cookie {
        field(out, "Set-Cookie: ", cookie.as_bytes());
    }
    if let Some(edit) = with.edit {
        (edit.write)(out);
    }
    out.extend_from_slice(with.lines);
    via(out, response.version, with.via);
    match with.framing {
        Framing::None => bodiless_length(out, response, with.head_request),
        Framing::Length(length) => number_field(out, "Content-Length: ", length),
        Framing::Chunked => field(out, "Transfer-Encoding: ", b"chunked"),
        Framing::UntilClose => {}
    }
    if let Some(protocol) = response.upgrade {
        upgrade(out, protocol);
    } else if !with.keep_alive {
        field(out, "Connection: ", b"close");
    } else if with.client_version == Version::Http10 {
        field(out, "Connection: ", b"keep-alive");
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends the head under which a response is stored: what says how the message was sent is left out, and so is its age,
/// which will be another. `date`: of its arrival, if it has none.
pub fn stored(out: &mut Vec<u8>, response: &Response<'_, '_>, date: &str) {
    status_line(out, response);
    let (head, headers, kinds) = (response.head, response.headers, response.kinds);
    copy_fields(out, head, headers, kinds, |name, kind| {
        passes_in_response(kind) && !name.eq_ignore_ascii_case("age")
    });
    if !response.kinds.contains(&Kind::Date) {
        field(out, "Date: ", date.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

fn copy_response_fields(out: &mut Vec<u8>, response: &Response<'_, '_>, edit: Option<Edit<'_>>) {
    let (head, headers, kinds) = (response.head, response.headers, response.kinds);
    match edit {
        None => copy_fields(out, head, headers, kinds, |_, kind| {
            passes_in_response(kind)
        }),
        Some(edit) => copy_fields(out, head, headers, kinds, |name, kind| {
            passes_in_response(kind) && !(edit.drops)(name)
        }),
    }
}

/// The Content-Length of a response without body: for HEAD and 304 it is what the backend said of
/// the body that it did not send, for 1xx and 204 it is forbidden (RFC 9110 section 8.6), for all
/// others it must be 0.
fn bodiless_length(out: &mut Vec<u8>, response: &Response<'_, '_>, head_request: bool) {
    match response.status {
        100..=199 | 204 => {}
        status if status == 304 || head_request => {
            if let Some(length) = response.content_length {
                number_field(out, "Content-Length: ", length);
            }
        }
        _ => field(out, "Content-Length: ", b"0"),
    }
}

/// Appends an interim response (100, 103) for the client: end-to-end fields and Via.
pub fn interim(out: &mut Vec<u8>, response: &Response<'_, '_>, via_name: &str) {
    out.reserve(response.head_len + ADDED_BYTES);
    status_line(out, response);
    copy_response_fields(out, response, None);
    via(out, response.version, via_name);
    out.extend_from_slice(b"\r\n");
}

fn status_line(out: &mut Vec<u8>, response: &Response<'_, '_>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    answer::write_number(out, u64::from(response.status));
    out.push(b' ');
    field(out, "", response.reason.as_bytes());
}

/// How a response's body goes to the client. HTTP/1.0 has no chunks. A body that the backend ends
/// by closing becomes chunked for HTTP/1.1 even if the connection is closed after it, because only
/// then can the client tell its end from a failure; so the decision does not depend on keep-alive.
pub fn reply_framing(response_framing: Framing, client: Version, _keep_alive: bool) -> Framing {
    match (response_framing, client) {
        (Framing::None, _) => Framing::None,
        (Framing::Length(length), _) => Framing::Length(length),
        (Framing::Chunked | Framing::UntilClose, Version::Http10) => Framing::UntilClose,
        (Framing::Chunked | Framing::UntilClose, Version::Http11) => Framing::Chunked,
    }
}
