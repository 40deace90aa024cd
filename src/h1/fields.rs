//! What each field of a head means to a forwarder.
//!
//! Decides: the [`Kind`] of each field, and what the fields say together about framing, persistence
//! and upgrades. May not know: methods, status codes, what is sent on. Invariant: two fields that
//! could be read as two different lengths of one body are refused here, in requests and in
//! responses alike.

use super::{Reject, syntax};

/// What a field name means to a forwarder; found once, at parse time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Passes as it stands.
    EndToEnd,
    Host,
    ContentLength,
    TransferEncoding,
    Connection,
    Upgrade,
    /// For the next hop only: registered ones, `Proxy-*`, and those that Connection nominates.
    HopByHop,
    /// Hop by hop too; a response's may say how long its connection is kept.
    KeepAlive,
    XForwardedFor,
    XForwardedHost,
    XForwardedProto,
    XForwardedPort,
    XRealIp,
    Forwarded,
    MaxForwards,
    Expect,
    Date,
    /// `Content_Length`, `X_Forwarded_For` and the like. CGI, WSGI and Rack turn a dash into an
    /// underscore, and would take such a field for the real one that we checked. Dropped. Other
    /// underscores pass.
    Disguised,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Request,
    Response,
}

/// Most options of all Connection fields together: each is compared with every field.
const CONNECTION_OPTIONS_MAX: usize = 64;

/// What the fields say together.
#[derive(Debug, Default)]
pub(super) struct Fields<'b> {
    pub(super) host: Option<&'b [u8]>,
    pub(super) content_length: Option<u64>,
    pub(super) coding: Option<&'b [u8]>,
    /// The value of the only Upgrade field.
    pub(super) upgrade: Option<&'b [u8]>,
    upgrade_repeated: bool,
    pub(super) expect: Option<Expect>,
    pub(super) max_forwards: Option<u32>,
    /// Connection names `close`.
    pub(super) close: bool,
    /// The value of the last Keep-Alive field.
    pub(super) keep_alive_text: Option<&'b [u8]>,
    /// Connection names `keep-alive`.
    pub(super) keep_alive: bool,
    /// Connection names `upgrade`.
    pub(super) upgrade_named: bool,
    /// Connection names something else.
    pub(super) nominates: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expect {
    Continue,
    Unknown,
}

/// Finds the kind of each field and gathers what the framing rules need, in one pass.
/// `head` is the buffer that the fields lie in.
pub(super) fn gather<'b>(
    head: &'b [u8],
    headers: &[httparse::Header<'b>],
    kinds: &mut [Kind],
    side: Side,
) -> Result<Fields<'b>, Reject> {
    let mut fields = Fields::default();
    for (header, kind) in headers.iter().zip(&mut *kinds) {
        // The parser takes a bare LF for a line end; we do not. What stands before a name is the
        // end of a line.
        let at = offset_in(head, header.name.as_bytes());
        if head.get(at.wrapping_sub(2)) != Some(&b'\r') {
            return Err(Reject::BareLf);
        }
        *kind = classify(header.name.as_bytes());
        if *kind == Kind::EndToEnd {
            continue;
        }
        if side == Side::Response {
            *kind = in_response(*kind);
        }
        fields.take(*kind, header.value)?;
    }
    if fields.coding.is_some() && fields.content_length.is_some() {
        return Err(Reject::LengthAndChunked);
    }
    if fields.nominates {
        mark_nominated(headers, kinds)?;
    }
    Ok(fields)
}

/// Where `part`, a slice of `whole`, begins in it. Addresses are only subtracted, never followed.
pub(super) fn offset_in(whole: &[u8], part: &[u8]) -> usize {
    (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize)
}

impl<'b> Fields<'b> {
    fn take(&mut self, kind: Kind, value: &'b [u8]) -> Result<(), Reject> {
        match kind {
            Kind::Host if self.host.is_some() => return Err(Reject::DuplicateHost),
            Kind::Host => self.host = Some(value),
            // RFC 9112 section 6.3 lets us merge equal repetitions. Nobody honest sends them, and
            // the two ends of a chain may merge them differently: refused.
            Kind::ContentLength if self.content_length.is_some() => {
                return Err(Reject::BadContentLength);
            }
            Kind::ContentLength => {
                // 63 bits, as for a chunk: no recipient can take it for a negative number.
                let length = syntax::number(value).filter(|length| *length < 1 << 63);
                let length = length.ok_or(Reject::BadContentLength)?;
                self.content_length = Some(length);
            }
            Kind::TransferEncoding if self.coding.is_some() => {
                return Err(Reject::BadTransferEncoding);
            }
            Kind::TransferEncoding => self.coding = Some(value),
            Kind::Connection => self.take_connection(value),
            Kind::Upgrade if self.upgrade.is_some() => self.upgrade_repeated = true,
            Kind::Upgrade => self.upgrade = Some(value),
            Kind::Expect => {
                let known = value.eq_ignore_ascii_case(b"100-continue");
                if self.expect != Some(Expect::Unknown) {
                    self.expect = Some(if known {
                        Expect::Continue
                    } else {
                        Expect::Unknown
                    });
                }
            }
            Kind::MaxForwards => {
                let most = u64::from(u32::MAX);
                let value = syntax::number(value).map(|count| count.min(most) as u32);
                self.max_forwards = self.max_forwards.or(value);
            }
            Kind::KeepAlive => self.keep_alive_text = Some(value),
            Kind::EndToEnd
            | Kind::HopByHop
            | Kind::XForwardedFor
            | Kind::XForwardedHost
            | Kind::XForwardedProto
            | Kind::XForwardedPort
            | Kind::XRealIp
            | Kind::Forwarded
            | Kind::Date
            | Kind::Disguised => {}
        }
        Ok(())
    }

    fn take_connection(&mut self, value: &[u8]) {
        for option in syntax::elements(value) {
            match option.len() {
                0 => {}
                5 if option.eq_ignore_ascii_case(b"close") => self.close = true,
                10 if option.eq_ignore_ascii_case(b"keep-alive") => self.keep_alive = true,
                7 if option.eq_ignore_ascii_case(b"upgrade") => self.upgrade_named = true,
                _ => self.nominates = true,
            }
        }
    }

    /// The protocols to change to, if the head asks for it properly: one Upgrade field, a list of
    /// `protocol-name["/"version]`, named by Connection (RFC 9110 section 7.8).
    /// Not h2c (RFC 9113 removed it): its tunnel would carry requests that nobody checks.
    pub(super) fn upgrade_text(&self) -> Option<&'b str> {
        let value = self.upgrade?;
        if !self.upgrade_named || self.upgrade_repeated {
            return None;
        }
        for protocol in syntax::elements(value) {
            let mut parts = protocol.splitn(2, |byte| *byte == b'/');
            if !parts.all(syntax::is_token) || protocol.eq_ignore_ascii_case(b"h2c") {
                return None;
            }
        }
        std::str::from_utf8(value).ok()
    }

    /// `timeout=N` of a Keep-Alive field, in seconds: how long the peer keeps its connection when idle. Never standardised,
    /// but sent by Apache, Node and others (RFC 2068 section 19.7.1.1).
    pub(super) fn keep_alive_s(&self) -> Option<u32> {
        syntax::elements(self.keep_alive_text?).find_map(|element| {
            let (name, value) = element.split_at_checked(b"timeout".len())?;
            let seconds = value.strip_prefix(b"=").and_then(syntax::number);
            seconds
                .filter(|_| name.eq_ignore_ascii_case(b"timeout"))
                .and_then(|seconds| u32::try_from(seconds).ok())
        })
    }

    /// Whether the body is chunked, if there is a Transfer-Encoding at all.
    pub(super) fn is_chunked(&self, is_http10: bool) -> Result<bool, Reject> {
        match self.coding {
            None => Ok(false),
            // RFC 9112 section 6.1: such a message is to be treated as if its framing were faulty.
            Some(_) if is_http10 => Err(Reject::ChunkedInHttp10),
            Some(value) if value.eq_ignore_ascii_case(b"chunked") => Ok(true),
            Some(value) => Err(coding_fault(value)),
        }
    }
}

/// Why a Transfer-Encoding other than exactly `chunked` is refused.
#[cold]
fn coding_fault(value: &[u8]) -> Reject {
    let mut chunked_before = false;
    for coding in syntax::elements(value) {
        if chunked_before || !syntax::is_token(coding) {
            return Reject::BadTransferEncoding;
        }
        chunked_before = coding.eq_ignore_ascii_case(b"chunked");
    }
    Reject::UnknownCoding
}

/// One look at length and first letter rules out nearly every field that passes.
fn classify(name: &[u8]) -> Kind {
    let first = name.first().map_or(0, |byte| byte | 0x20);
    let (wanted, kind): (&[u8], Kind) = match (name.len(), first) {
        (2, b't') => (b"te", Kind::HopByHop),
        (4, b'h') => (b"host", Kind::Host),
        (4, b'd') => (b"date", Kind::Date),
        // Not registered by anyone, but CGI makes HTTP_PROXY of it ("httpoxy").
        (5, b'p') => (b"proxy", Kind::HopByHop),
        (6, b'e') => (b"expect", Kind::Expect),
        (7, b'u') => (b"upgrade", Kind::Upgrade),
        (7, b't') => (b"trailer", Kind::HopByHop),
        (9, b'f') => (b"forwarded", Kind::Forwarded),
        (9, b'x') => (b"x-real-ip", Kind::XRealIp),
        (10, b'c') => (b"connection", Kind::Connection),
        (10, b'k') => (b"keep-alive", Kind::KeepAlive),
        (12, b'm') => (b"max-forwards", Kind::MaxForwards),
        (14, b'c') => (b"content-length", Kind::ContentLength),
        (14, b'h') => (b"http2-settings", Kind::HopByHop),
        (15, b'x') => (b"x-forwarded-for", Kind::XForwardedFor),
        (16, b'x') if name[12] | 0x20 == b'h' => (b"x-forwarded-host", Kind::XForwardedHost),
        (16, b'x') => (b"x-forwarded-port", Kind::XForwardedPort),
        (16, b'p') => (b"proxy-connection", Kind::HopByHop),
        (17, b't') => (b"transfer-encoding", Kind::TransferEncoding),
        (17, b'x') => (b"x-forwarded-proto", Kind::XForwardedProto),
        (18, b'p') => (b"proxy-authenticate", Kind::HopByHop),
        (19, b'p') => (b"proxy-authorization", Kind::HopByHop),
        (25, b'p') => (b"proxy-authentication-info", Kind::HopByHop),
        _ => return Kind::EndToEnd,
    };
    if syntax::folds_to(name, wanted) {
        kind
    } else if syntax::same_name(name, wanted) {
        Kind::Disguised
    } else {
        Kind::EndToEnd
    }
}

/// Kinds that mean something in a request only.
fn in_response(kind: Kind) -> Kind {
    match kind {
        Kind::Host
        | Kind::XForwardedFor
        | Kind::XForwardedHost
        | Kind::XForwardedProto
        | Kind::XForwardedPort
        | Kind::XRealIp
        | Kind::Forwarded
        | Kind::MaxForwards
        | Kind::Expect => Kind::EndToEnd,
        Kind::EndToEnd
        | Kind::ContentLength
        | Kind::TransferEncoding
        | Kind::Connection
        | Kind::Upgrade
        | Kind::HopByHop
        | Kind::KeepAlive
        | Kind::Date
        | Kind::Disguised => kind,
    }
}

/// RFC 9110 section 7.6.1: a field that Connection names is for us alone. Fields with a kind of
/// their own keep it, and so framing, Host and X-Forwarded-* cannot be nominated away.
fn mark_nominated(headers: &[httparse::Header<'_>], kinds: &mut [Kind]) -> Result<(), Reject> {
    let mut options = 0;
    for at in 0..headers.len() {
        if kinds[at] != Kind::Connection {
            continue;
        }
        for option in syntax::elements(headers[at].value) {
            options += 1;
            if options > CONNECTION_OPTIONS_MAX {
                return Err(Reject::BadHeaderValue);
            }
            if is_protected(option) {
                continue;
            }
            for (header, kind) in headers.iter().zip(&mut *kinds) {
                if *kind == Kind::EndToEnd && header.name.as_bytes().eq_ignore_ascii_case(option) {
                    *kind = Kind::HopByHop;
                }
            }
        }
    }
    Ok(())
}

/// Fields intended for all recipients, which a sender must not nominate (RFC 9110 section 7.6.1).
/// Obeying would let a client take from its request what the backend decides by ("hop-by-hop header
/// abuse").
fn is_protected(option: &[u8]) -> bool {
    const PROTECTED: [&[u8]; 8] = [
        b"authorization",
        b"cache-control",
        b"content-encoding",
        b"content-type",
        b"cookie",
        b"set-cookie",
        b"vary",
        b"via",
    ];
    const PREFIX: &[u8] = b"x-forwarded-";
    PROTECTED
        .iter()
        .any(|name| option.eq_ignore_ascii_case(name))
        || option
            .get(..PREFIX.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
}
