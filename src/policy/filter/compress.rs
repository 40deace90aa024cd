//! Compression of responses.
//!
//! Decides: which coding a client likes best of those that we have, and what becomes of a response's head and body.
//! May not know: codecs. Invariant: a response that has a coding, is a range, or forbids it (no-transform) is left
//! alone; whoever could have got another form of a response is told so (Vary).

use super::Filter;
use crate::h1::head::{Request, Response};
use crate::h1::{Framing, Method, Version};

#[derive(Debug)]
pub struct Compress {
    /// In order of preference, each with its level.
    pub codings: Box<[(Coding, u8)]>,
    /// Smaller responses are left alone, where their length is known.
    pub min_bytes: u64,
    /// Media types, lower case: `text/html`, or `text/*`.
    pub types: Box<[Box<str>]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    Gzip,
    Brotli,
    Zstd,
}

/// What a client takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    pub coding: Coding,
    pub level: u8,
    /// The client asks whether its copy with a weak tag is still good. That may be one of ours.
    pub has_weak: bool,
}

/// Whether a response is worth it, whatever the client takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Worth {
    Yes,
    /// The status does not promise the whole of something.
    Status,
    /// There is no body.
    Empty,
    /// It has a coding.
    Coded,
    /// It is a part of something.
    Range,
    /// Its server forbids changes.
    NoTransform,
    /// A digest tells the bytes that its server sent, so that they can be checked at the end of the way.
    Digest,
    /// Its type is not among ours, or not told.
    Type,
    Small,
}

/// What becomes of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Treatment {
    /// It passes as it is.
    None,
    /// Another client would have got it with a coding.
    Varies,
    /// 304: it is said of the form that we made of it before.
    Confirms,
    Encodes {
        coding: Coding,
        level: u8,
        /// Its reader waits for each piece: nothing is held back.
        streams: bool,
    },
}

/// Elements of all Accept-Encoding fields together; those behind are not looked at. Browsers send about five.
const ELEMENTS_MAX: usize = 64;

/// A weight of 1, in thousandths.
const WHOLE: u16 = 1000;

impl Coding {
    pub const ALL: [Coding; 3] = [Coding::Gzip, Coding::Brotli, Coding::Zstd];

    /// As it stands in Content-Encoding (RFC 9110 section 8.4.1, RFC 7932, RFC 8878).
    pub fn name(self) -> &'static str {
        match self {
            Coding::Gzip => "gzip",
            Coding::Brotli => "br",
            Coding::Zstd => "zstd",
        }
    }

    fn of(name: &[u8]) -> Option<Coding> {
        // RFC 9110 section 8.4.1.3: x-gzip is the same.
        if name.eq_ignore_ascii_case(b"x-gzip") {
            return Some(Coding::Gzip);
        }
        let is_named = |coding: &Coding| name.eq_ignore_ascii_case(coding.name().as_bytes());
        Coding::ALL.into_iter().find(is_named)
    }
}

impl Compress {
    /// The one of a route.
    pub fn of(filters: &[Filter]) -> Option<&Compress> {
        // None has a higher rank.
        let Filter::Compress(compress) = filters.last()? else {
            return None;
        };
        Some(compress)
    }

    /// The coding that the client likes best, with its level; `None`: responses go to it as they are. HTTP/1.0 has no
    /// chunks, and only a closing connection could end a body whose length nobody knows.
    pub fn negotiate(&self, request: &Request<'_, '_>) -> Option<Choice> {
        if request.version == Version::Http10 || forbids(request.headers) {
            return None;
        }
        let weights = Weights::of(request.headers);
        let mut best: Option<((Coding, u8), u16)> = None;
        for (coding, level) in &self.codings {
            let weight = weights.of_coding(*coding);
            if weight > best.map_or(0, |(_, best)| best) {
                best = Some(((*coding, *level), weight));
            }
        }
        let ((coding, level), weight) = best?;
        let has_weak = || {
            let mut tags = named(request.headers, "if-none-match").flat_map(elements);
            tags.any(|tag| tag.starts_with(b"W/"))
        };
        (weight >= weights.identity()).then(|| Choice {
            coding,
            level,
            has_weak: has_weak(),
        })
    }

    /// What becomes of a response for a client that takes `choice`. An answer to HEAD is told as one to GET would be
    /// (RFC 9110 section 9.3.2).
    pub fn treat(
        &self,
        response: &Response<'_, '_>,
        method: Method,
        choice: Option<Choice>,
    ) -> Treatment {
        if response.status == 304 {
            // RFC 9110 section 15.4.5: with the tag and the Vary that the response itself would have. It does not
            // tell its type, but the client's tag tells that we changed it; or that it was weak before.
            return match choice {
                Some(choice) if choice.has_weak => Treatment::Confirms,
                Some(_) | None => Treatment::None,
            };
        }
        match (self.worth(response, method), choice) {
            (Worth::Yes, Some(Choice { coding, level, .. })) => Treatment::Encodes {
                coding,
                level,
                streams: streams(response),
            },
            (Worth::Yes, None) => Treatment::Varies,
            (
                Worth::Status
                | Worth::Empty
                | Worth::Coded
                | Worth::Range
                | Worth::NoTransform
                | Worth::Digest
                | Worth::Type
                | Worth::Small,
                _,
            ) => Treatment::None,
        }
    }

    pub fn worth(&self, response: &Response<'_, '_>, method: Method) -> Worth {
        let fields = response.headers;
        let has = |name| named(fields, name).next().is_some();
        // 226: a delta is made of the coded form (RFC 3229 section 10.5.3). 206 is a range, and 204 is empty.
        if !matches!(response.status, 200..=205 | 207..=225 | 227..=299) {
            return Worth::Status;
        }
        let length = response.content_length;
        if length == Some(0) || response.framing == Framing::None && method != Method::Head {
            return Worth::Empty;
        }
        let mut codings = named(fields, "content-encoding").flat_map(elements);
        if codings.any(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity")) {
            return Worth::Coded;
        }
        if has("content-range") {
            return Worth::Range;
        }
        // RFC 9110 section 7.7.
        if forbids(fields) {
            return Worth::NoTransform;
        }
        // RFC 9530: both depend on the coding; so do their forerunners.
        if DIGESTS.into_iter().any(has) {
            return Worth::Digest;
        }
        if !media_type(response).is_some_and(|found| self.has_type(found)) {
            return Worth::Type;
        }
        match length {
            Some(length) if length < self.min_bytes => Worth::Small,
            Some(_) | None => Worth::Yes,
        }
    }

    fn has_type(&self, found: &[u8]) -> bool {
        self.types
            .iter()
            .any(|wanted| match wanted.strip_suffix('*') {
                None => found.eq_ignore_ascii_case(wanted.as_bytes()),
                Some(start) => {
                    let found = found.get(..start.len());
                    found.is_some_and(|found| found.eq_ignore_ascii_case(start.as_bytes()))
                }
            })
    }
}

impl Treatment {
    pub fn encodes(&self) -> bool {
        match self {
            Treatment::None | Treatment::Varies | Treatment::Confirms => false,
            Treatment::Encodes { .. } => true,
        }
    }

    /// Fields of the response that are left out, because they would be wrong or stand in [`Treatment::lines`].
    pub fn drops(&self) -> &'static [&'static str] {
        match self {
            Treatment::None | Treatment::Varies => &[],
            Treatment::Confirms => &["etag"],
            // Ranges would be counted in the form without coding.
            Treatment::Encodes { .. } => &["etag", "accept-ranges", "content-encoding"],
        }
    }

    /// Appends the lines that the response gets instead.
    pub fn lines(&self, response: &Response<'_, '_>, out: &mut Vec<u8>) {
        let mut line = |parts: [&[u8]; 2]| {
            out.extend_from_slice(parts[0]);
            out.extend_from_slice(parts[1]);
            out.extend_from_slice(b"\r\n");
        };
        match self {
            Treatment::None => return,
            Treatment::Varies => {}
            Treatment::Confirms | Treatment::Encodes { .. } => {
                if let Treatment::Encodes { coding, .. } = self {
                    line([b"Content-Encoding: ", coding.name().as_bytes()]);
                }
                // RFC 9110 section 8.8.1: a strong tag is one of the bytes, and these are others. What is no tag
                // would be taken for a strong one by those who do not look.
                match named(response.headers, "etag").next() {
                    Some(tag) if tag.starts_with(b"\"") => line([b"ETag: W/", tag]),
                    Some(tag) if tag.starts_with(b"W/\"") => line([b"ETag: ", tag]),
                    Some(_) | None => {}
                }
            }
        }
        let mut varies = named(response.headers, "vary").flat_map(elements);
        let is_told = |name: &[u8]| name == b"*" || name.eq_ignore_ascii_case(b"accept-encoding");
        if !varies.any(is_told) {
            line([b"Vary: ", b"Accept-Encoding"]);
        }
    }
}

const DIGESTS: [&str; 4] = ["content-digest", "repr-digest", "digest", "content-md5"];

/// The weights of Accept-Encoding in thousandths; `None`: not named.
#[derive(Debug, Default)]
struct Weights {
    codings: [Option<u16>; Coding::ALL.len()],
    identity: Option<u16>,
    others: Option<u16>,
}

impl Weights {
    /// RFC 9110 section 12.5.3. What is malformed is passed over. Of several weights the lowest counts, so that no
    /// refusal is overlooked.
    fn of(fields: &[httparse::Header<'_>]) -> Weights {
        let mut weights = Weights::default();
        let all = named(fields, "accept-encoding").flat_map(elements);
        for element in all.take(ELEMENTS_MAX) {
            let mut parts = element.splitn(2, |byte| *byte == b';');
            let name = parts.next().unwrap_or_default().trim_ascii_end();
            let Some(weight) = parts.next().map_or(Some(WHOLE), weight) else {
                continue;
            };
            let place = match Coding::of(name) {
                Some(coding) => &mut weights.codings[coding as usize],
                None if name == b"*" => &mut weights.others,
                None if name.eq_ignore_ascii_case(b"identity") => &mut weights.identity,
                None => continue,
            };
            *place = Some(place.map_or(weight, |other| other.min(weight)));
        }
        weights
    }

    fn of_coding(&self, coding: Coding) -> u16 {
        let own = self.codings[coding as usize];
        own.or(self.others).unwrap_or(0)
    }

    /// Without coding; that is what is left when nothing better is, and so has no weight unless it is given one.
    fn identity(&self) -> u16 {
        self.identity.or(self.others).unwrap_or(0)
    }
}

/// RFC 9110 section 12.4.2: `q=`, then 0 or 1 with at most three decimals.
fn weight(parameter: &[u8]) -> Option<u16> {
    let [b'q' | b'Q', b'=', whole @ (b'0' | b'1'), rest @ ..] = parameter.trim_ascii() else {
        return None;
    };
    let decimals = match rest {
        [] => rest,
        [b'.', decimals @ ..] if decimals.len() <= 3 => decimals,
        [_, ..] => return None,
    };
    let mut weight = u16::from(whole - b'0');
    for place in 0..3 {
        let digit = decimals.get(place).unwrap_or(&b'0');
        if !digit.is_ascii_digit() {
            return None;
        }
        weight = weight * 10 + u16::from(digit - b'0');
    }
    (weight <= WHOLE).then_some(weight)
}

/// Cache-Control: no-transform, in a request (RFC 9111 section 5.2.1.6) or a response (section 5.2.2.6).
fn forbids(fields: &[httparse::Header<'_>]) -> bool {
    let mut directives = named(fields, "cache-control").flat_map(elements);
    directives.any(|directive| directive.eq_ignore_ascii_case(b"no-transform"))
}

/// Types whose readers act on each piece as it comes.
fn streams(response: &Response<'_, '_>) -> bool {
    let streaming: [&[u8]; 2] = [b"text/event-stream", b"application/x-ndjson"];
    let found = media_type(response).unwrap_or_default();
    streaming
        .iter()
        .any(|wanted| found.eq_ignore_ascii_case(wanted))
}

/// Without parameters.
fn media_type<'b>(response: &Response<'_, 'b>) -> Option<&'b [u8]> {
    let value = named(response.headers, "content-type").next()?;
    let end = memchr::memchr(b';', value).unwrap_or(value.len());
    Some(value[..end].trim_ascii_end())
}

/// The values of all fields of this name.
fn named<'h, 'b>(
    fields: &'h [httparse::Header<'b>],
    name: &'h str,
) -> impl Iterator<Item = &'b [u8]> + use<'h, 'b> {
    let named = fields
        .iter()
        .filter(move |field| field.name.eq_ignore_ascii_case(name));
    named.map(|field| field.value)
}

/// The elements of a comma-separated list, trimmed; empty ones included.
fn elements(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::h1::Limits;
    use crate::h1::head::{Slots, parse_request, parse_response};

    fn compress() -> Compress {
        Compress {
            codings: [(Coding::Zstd, 3), (Coding::Brotli, 4), (Coding::Gzip, 5)].into(),
            min_bytes: 100,
            types: ["text/*", "application/json"].map(Box::from).into(),
        }
    }

    fn negotiated(fields: &str, version: &str, compress: &Compress) -> Option<Choice> {
        let head = format!("GET / HTTP/{version}\r\nHost: a\r\n{fields}\r\n");
        let mut slots = Slots::new();
        let parsed = parse_request(head.as_bytes(), &Limits::DEFAULT, &mut slots);
        compress.negotiate(&parsed.unwrap().unwrap())
    }

    #[test]
    fn the_coding_with_the_highest_weight_wins() {
        let long = format!("{}gzip", "x, ".repeat(ELEMENTS_MAX));
        let almost = format!("{}gzip", "x, ".repeat(ELEMENTS_MAX - 1));
        let cases: &[(&str, &str)] = &[
            // Ours decides between equals.
            ("gzip, deflate, br, zstd", "zstd"),
            ("gzip, deflate, br", "br"),
            ("gzip", "gzip"),
            ("GZip", "gzip"),
            ("x-gzip", "gzip"),
            ("deflate", ""),
            ("", ""),
            ("identity", ""),
            // Weights.
            ("gzip;q=1.0, br;q=0.9, zstd;q=0.8", "gzip"),
            ("gzip;q=0.001, br;q=0", "gzip"),
            ("gzip;q=0", ""),
            ("gzip;q=0.000", ""),
            ("gzip ; q=0.5 , br\t;\tQ=0.501", "br"),
            // All others.
            ("*", "zstd"),
            ("*;q=0", ""),
            ("zstd;q=0, *;q=0.1", "br"),
            ("gzip;q=0.5, *;q=0.1", "gzip"),
            ("gzip;q=0.1, *;q=0.5", "zstd"),
            // None at all.
            ("identity;q=1, gzip;q=0.5", ""),
            ("identity;q=0.5, gzip;q=0.5", "gzip"),
            ("identity;q=0, gzip;q=0.1", "gzip"),
            ("identity;q=0", ""),
            // Malformed: passed over.
            ("gzip;q=2, br;q=0.1", "br"),
            ("gzip;q=1.001", ""),
            ("gzip;q=0.1234", ""),
            ("gzip;q=.5", ""),
            ("gzip;q", ""),
            ("gzip;q=", ""),
            ("gzip;q=-1", ""),
            ("gzip;q=0.x", ""),
            ("gzip;level=3", ""),
            ("gzip;q=1;q=1", ""),
            (";q=1, , ,,gzip", "gzip"),
            ("gzip br", ""),
            ("gzip;q=1.", "gzip"),
            ("gzip;q=0.", ""),
            // Twice: the lowest.
            ("gzip, gzip;q=0", ""),
            ("gzip;q=0, x-gzip", ""),
            (&long, ""),
            (&almost, "gzip"),
        ];
        for (value, expected) in cases {
            let field = format!("Accept-Encoding: {value}\r\n");
            let found = negotiated(&field, "1.1", &compress());
            let found = found.map_or("", |choice| choice.coding.name());
            assert_eq!(found, *expected, "{value}");
        }
    }

    #[test]
    fn negotiation_looks_at_all_fields() {
        let gzip = |level, has_weak| {
            Some(Choice {
                coding: Coding::Gzip,
                level,
                has_weak,
            })
        };
        let cases = [
            ("", None),
            ("Accept-Encoding: gzip\r\n", gzip(5, false)),
            (
                "Accept-Encoding: br;q=0.1\r\nX: y\r\naccept-encoding: gzip\r\n",
                gzip(5, false),
            ),
            (
                "Accept-Encoding: gzip\r\nCache-Control: max-age=0, No-Transform\r\n",
                None,
            ),
            (
                "Accept-Encoding: gzip\r\nIf-None-Match: \"a\", \"b\"\r\n",
                gzip(5, false),
            ),
            (
                "Accept-Encoding: gzip\r\nIf-None-Match: \"a\", W/\"b\"\r\n",
                gzip(5, true),
            ),
        ];
        for (fields, expected) in cases {
            let found = negotiated(fields, "1.1", &compress());
            assert_eq!(found, expected, "{fields}");
            assert_eq!(negotiated(fields, "1.0", &compress()), None, "{fields}");
        }
        let only = Compress {
            codings: [(Coding::Gzip, 9)].into(),
            ..compress()
        };
        let accept = "Accept-Encoding: zstd, gzip;q=0.5\r\n";
        assert_eq!(negotiated(accept, "1.1", &only), gzip(9, false));
        // `*` stands for no coding too, which is then liked better.
        let accept = "Accept-Encoding: *, gzip;q=0.5\r\n";
        assert_eq!(negotiated(accept, "1.1", &only), None);
    }

    fn with_response<T>(head: &str, method: Method, test: impl Fn(&Response<'_, '_>) -> T) -> T {
        let mut slots = Slots::new();
        let parsed = parse_response(head.as_bytes(), &Limits::DEFAULT, method, &mut slots);
        test(&parsed.unwrap().unwrap())
    }

    const TEXT: &str = "Content-Type: text/html; charset=utf-8\r\n";

    fn worth_of(status: &str, fields: &str) -> Worth {
        let head = format!("HTTP/1.1 {status}\r\n{fields}\r\n");
        let worth = |response: &Response<'_, '_>| compress().worth(response, Method::Get);
        with_response(&head, Method::Get, worth)
    }

    #[test]
    fn a_status_promises_the_whole_or_not() {
        let long = format!("{TEXT}Content-Length: 100\r\n");
        for (status, expected) in [
            ("200 OK", Worth::Yes),
            ("203 Non-Authoritative", Worth::Yes),
            ("207 Multi-Status", Worth::Yes),
            ("206 Partial Content", Worth::Status),
            ("226 IM Used", Worth::Status),
            ("301 Moved Permanently", Worth::Status),
            ("404 Not Found", Worth::Status),
            ("500 Internal Server Error", Worth::Status),
        ] {
            assert_eq!(worth_of(status, &long), expected, "{status}");
        }
        assert_eq!(worth_of("204 No Content", TEXT), Worth::Empty);
    }

    #[test]
    fn only_listed_types_are_worth_it() {
        for (media_type, expected) in [
            ("TEXT/css", Worth::Yes),
            ("Application/JSON ;x", Worth::Yes),
            ("image/png", Worth::Type),
            ("text", Worth::Type),
            ("application/jsonp", Worth::Type),
            ("; text/html", Worth::Type),
        ] {
            let field = format!("Content-Type: {media_type}\r\n");
            assert_eq!(worth_of("200 OK", &field), expected, "{media_type}");
        }
        assert_eq!(worth_of("200 OK", ""), Worth::Type);
    }

    #[test]
    fn a_response_is_worth_it_or_its_fields_say_why_not() {
        for (fields, expected) in [
            ("Transfer-Encoding: chunked", Worth::Yes),
            ("Content-Encoding: Identity", Worth::Yes),
            ("Content-Encoding: ", Worth::Yes),
            ("Content-Length: 100", Worth::Yes),
            ("Content-Length: 99", Worth::Small),
            ("Content-Length: 0", Worth::Empty),
            ("Content-Encoding: gzip", Worth::Coded),
            ("Content-Encoding: identity, br", Worth::Coded),
            ("Content-Encoding: aes128gcm", Worth::Coded),
            ("Content-Range: bytes 0-99/200", Worth::Range),
            (
                "Cache-Control: public\r\ncache-control: no-transform",
                Worth::NoTransform,
            ),
            ("Content-Digest: sha-256=:AA==:", Worth::Digest),
            ("Repr-Digest: sha-256=:AA==:", Worth::Digest),
            ("Digest: sha-256=AA==", Worth::Digest),
            ("Content-MD5: AA==", Worth::Digest),
        ] {
            let worth = worth_of("200 OK", &format!("{TEXT}{fields}\r\n"));
            assert_eq!(worth, expected, "{fields}");
        }
    }

    #[test]
    fn an_answer_to_head_is_judged_by_its_length() {
        let cases = [
            ("Content-Length: 100\r\n", Worth::Yes),
            ("", Worth::Yes),
            ("Content-Length: 99\r\n", Worth::Small),
            ("Content-Length: 0\r\n", Worth::Empty),
        ];
        for (length, expected) in cases {
            let head = format!("HTTP/1.1 200 OK\r\n{TEXT}{length}\r\n");
            let worth = |response: &Response<'_, '_>| compress().worth(response, Method::Head);
            assert_eq!(
                with_response(&head, Method::Head, worth),
                expected,
                "{head}"
            );
        }
    }

    fn choice(has_weak: bool) -> Option<Choice> {
        Some(Choice {
            coding: Coding::Brotli,
            level: 4,
            has_weak,
        })
    }

    fn is_dropped(treatment: Treatment, name: &str) -> bool {
        let mut drops = treatment.drops().iter();
        drops.any(|drop| name.eq_ignore_ascii_case(drop))
    }

    /// The names that are left out of those in the head, and the lines that are added.
    fn treated(status: u16, fields: &str, choice: Option<Choice>) -> (Treatment, String, String) {
        let head = format!("HTTP/1.1 {status} Some\r\n{fields}\r\n");
        with_response(&head, Method::Get, |response| {
            let treatment = compress().treat(response, Method::Get, choice);
            let names = response.headers.iter().map(|header| header.name);
            let dropped: Vec<&str> = names.filter(|name| is_dropped(treatment, name)).collect();
            let mut lines = Vec::new();
            treatment.lines(response, &mut lines);
            (
                treatment,
                dropped.join(" "),
                String::from_utf8(lines).unwrap(),
            )
        })
    }

    #[test]
    fn a_response_that_gets_a_coding_tells_so() {
        let encodes = |streams| Treatment::Encodes {
            coding: Coding::Brotli,
            level: 4,
            streams,
        };
        let (treatment, dropped, lines) = treated(
            200,
            "Content-Type: text/html\r\nETag: \"a\"\r\nAccept-Ranges: bytes\r\nContent-Encoding: identity\r\n",
            choice(false),
        );
        assert_eq!(treatment, encodes(false));
        assert_eq!(dropped, "ETag Accept-Ranges Content-Encoding");
        assert_eq!(
            lines,
            "Content-Encoding: br\r\nETag: W/\"a\"\r\nVary: Accept-Encoding\r\n"
        );
        for (fields, expected) in [
            (
                "ETag: W/\"a\"\r\n",
                "ETag: W/\"a\"\r\nVary: Accept-Encoding\r\n",
            ),
            ("etag: a\r\n", "Vary: Accept-Encoding\r\n"),
            ("Vary: Origin\r\n", "Vary: Accept-Encoding\r\n"),
            ("Vary: Origin, accept-encoding\r\n", ""),
            ("Vary: Origin\r\nVary: *\r\n", ""),
        ] {
            let (_, _, lines) = treated(200, &format!("{TEXT}{fields}"), choice(false));
            assert_eq!(
                lines,
                format!("Content-Encoding: br\r\n{expected}"),
                "{fields}"
            );
        }
        for (media_type, streams) in [
            ("text/event-stream", true),
            ("Text/Event-Stream; charset=utf-8", true),
            ("text/plain", false),
        ] {
            let fields = format!("Content-Type: {media_type}\r\n");
            assert_eq!(treated(200, &fields, choice(false)).0, encodes(streams));
        }
    }

    #[test]
    fn a_client_without_codings_is_told_that_others_get_one() {
        let fields = format!("{TEXT}ETag: \"a\"\r\nAccept-Ranges: bytes\r\n");
        let vary = "Vary: Accept-Encoding\r\n".to_owned();
        assert_eq!(
            treated(200, &fields, None),
            (Treatment::Varies, String::new(), vary)
        );
        let none = (Treatment::None, String::new(), String::new());
        assert_eq!(treated(404, &fields, choice(true)), none);
        assert_eq!(treated(206, &fields, choice(true)), none);
        let image = "Content-Type: image/png\r\nETag: \"a\"\r\n";
        assert_eq!(treated(200, image, choice(true)), none);
    }

    #[test]
    fn a_304_speaks_of_the_form_that_the_client_has() {
        let fields = "ETag: \"a\"\r\nAccept-Ranges: bytes\r\n";
        let lines = "ETag: W/\"a\"\r\nVary: Accept-Encoding\r\n".to_owned();
        assert_eq!(
            treated(304, fields, choice(true)),
            (Treatment::Confirms, "ETag".to_owned(), lines)
        );
        let none = (Treatment::None, String::new(), String::new());
        assert_eq!(treated(304, fields, choice(false)), none);
        assert_eq!(treated(304, fields, None), none);
    }
}
