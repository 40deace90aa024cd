//! The head of a response out of the cache.
//!
//! Decides: which of the stored fields the client gets, and what is added. May not know: sockets, where the body is.
//! Invariant: a head is written from one stored head and one request; nothing of another request's is in it.

use super::coded;
use super::note::Note;
use crate::edits::ToClient;
use crate::h1::answer::{line, reason_phrase};
use crate::h1::head::{Request, Response, Slots};
use crate::h1::{Framing, Method, Version};
use crate::policy::cache::conditional::{self, Validators};
use crate::policy::cache::range::{self, Ranged};
use crate::policy::cache::update;
use crate::policy::filter::compress::{Choice, Compress, Treatment};

/// What of a response the client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    Whole,
    /// From the first byte to the one behind the last.
    Part {
        from: u64,
        to: u64,
    },
    /// It has it already.
    NotModified,
    /// A part behind its end.
    Unsatisfiable,
}

/// What the request wants of a stored response. `length`: of its body, if it is known.
pub fn wanted(request: &Request<'_, '_>, status: u16, head: &[u8], length: Option<u64>) -> Want {
    if status != 200 || !asks(request) {
        return Want::Whole;
    }
    let mut slots = Slots::new();
    let Some(stored) = coded::parse(head, length, &mut slots) else {
        return Want::Whole;
    };
    let validators = Validators::of(&stored);
    if conditional::is_not_modified(request, &validators) {
        return Want::NotModified;
    }
    let Some(length) = length else {
        return Want::Whole;
    };
    if request.method != Method::Get || !conditional::range_holds(request, &validators) {
        return Want::Whole;
    }
    match range::of(request, length) {
        Ranged::Whole => Want::Whole,
        Ranged::Part { from, to } => Want::Part { from, to },
        Ranged::Unsatisfiable => Want::Unsatisfiable,
    }
}

/// The request has a condition, or wants a range. Most do not, and cost no look at the stored head.
pub fn asks(request: &Request<'_, '_>) -> bool {
    request.headers.iter().any(|field| {
        let name = field.name;
        (name.len() > 4 && name.as_bytes()[0] | 0x20 == b'i' && name.as_bytes()[2] == b'-')
            || name.eq_ignore_ascii_case("range")
    })
}

/// What a head is written from.
pub struct Stored<'a> {
    pub head: &'a [u8],
    pub status: u16,
    /// Of the whole body, if it is known.
    pub length: Option<u64>,
    pub age_s: u32,
    pub ttl_s: i64,
    /// It was kept for a while, or came with an age: Age is sent.
    pub is_aged: bool,
}

/// What the route's filters change of the head.
pub struct Changes<'a> {
    pub edits: Option<ToClient<'a>>,
    pub compress: Option<&'a Compress>,
    pub choice: Option<Choice>,
    /// The body goes through an encoder on its way.
    pub encodes: bool,
}

/// Who it is for.
pub struct Client<'a> {
    pub version: Version,
    pub keep_alive: bool,
    pub want: Want,
    pub note: Note,
    /// `None`: no Cache-Status.
    pub status_name: Option<&'a str>,
    pub via: &'a str,
    /// What the route changes; `None`: nothing.
    pub changes: Option<Changes<'a>>,
    pub framing: Framing,
}

/// Appends the head; the status that it has.
pub fn head(out: &mut Vec<u8>, stored: &Stored<'_>, client: &Client<'_>) -> u16 {
    out.reserve(stored.head.len() + 512);
    let status = match client.want {
        Want::Whole => stored.status,
        Want::Part { .. } => 206,
        Want::NotModified => 304,
        Want::Unsatisfiable => 416,
    };
    match (client.want, &client.changes) {
        // All but the empty line.
        (Want::Whole, None) => out.extend_from_slice(&stored.head[..stored.head.len() - 2]),
        (_, _) => fields(out, stored, client, status),
    }
    if stored.is_aged {
        line(out, "Age", itoa::Buffer::new().format(stored.age_s));
    }
    if let Some(name) = client.status_name {
        let ttl_s = Some(stored.ttl_s);
        client.note.write(name, ttl_s, 0, out);
    }
    out.extend_from_slice(b"Via: 1.1 ");
    out.extend_from_slice(client.via.as_bytes());
    out.extend_from_slice(b"\r\n");
    length(out, stored, client);
    match (client.keep_alive, client.version) {
        (false, _) => line(out, "Connection", "close"),
        (true, Version::Http10) => line(out, "Connection", "keep-alive"),
        (true, Version::Http11) => {}
    }
    out.extend_from_slice(b"\r\n");
    status
}

/// The stored fields one by one.
fn fields(out: &mut Vec<u8>, stored: &Stored<'_>, client: &Client<'_>, status: u16) {
    let mut slots = Slots::new();
    let Some(response) = coded::parse(stored.head, stored.length, &mut slots) else {
        return;
    };
    let edits = client
        .changes
        .as_ref()
        .and_then(|changes| changes.edits.as_ref());
    let treatment = treatment(client.changes.as_ref(), client.want, &response);
    match client.want {
        Want::Whole => {
            let end = stored.head.iter().position(|byte| *byte == b'\n');
            out.extend_from_slice(&stored.head[..end.map_or(0, |end| end + 1)]);
        }
        Want::Part { .. } | Want::NotModified | Want::Unsatisfiable => {
            out.extend_from_slice(b"HTTP/1.1 ");
            out.extend_from_slice(itoa::Buffer::new().format(status).as_bytes());
            out.push(b' ');
            out.extend_from_slice(reason_phrase(status).as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }
    for field in response.headers {
        let passes = match client.want {
            Want::Whole | Want::Part { .. } => true,
            Want::NotModified => update::stands_in_not_modified(field.name),
            Want::Unsatisfiable => field.name.eq_ignore_ascii_case("date"),
        };
        let mut dropped = treatment.drops().iter();
        let is_dropped = dropped.any(|name| field.name.eq_ignore_ascii_case(name))
            || edits.is_some_and(|edits| edits.drops(field.name));
        if passes && !is_dropped {
            out.extend_from_slice(field.name.as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(field.value);
            out.extend_from_slice(b"\r\n");
        }
    }
    treatment.lines(&response, out);
    if let Some(edits) = edits {
        edits.write(Some(&response), out);
    }
}

/// What the filter makes of the response. What goes out as it is stored would have another form for others; and a 304 says
/// of that form what a 200 would (RFC 9110 section 15.4.5).
fn treatment(changes: Option<&Changes<'_>>, want: Want, response: &Response<'_, '_>) -> Treatment {
    let Some((changes, compress)) = changes.and_then(|it| Some((it, it.compress?))) else {
        return Treatment::None;
    };
    let has_weak = changes.choice.is_some_and(|choice| choice.has_weak);
    match compress.treat(response, Method::Get, changes.choice) {
        encodes @ Treatment::Encodes { .. } if changes.encodes => encodes,
        Treatment::Encodes { .. } if want == Want::NotModified && has_weak => Treatment::Confirms,
        Treatment::Encodes { .. } => Treatment::Varies,
        other @ (Treatment::None | Treatment::Varies | Treatment::Confirms) => other,
    }
}

/// What says how long the body is.
fn length(out: &mut Vec<u8>, stored: &Stored<'_>, client: &Client<'_>) {
    let mut digits = itoa::Buffer::new();
    match client.want {
        Want::Part { from, to } => {
            out.extend_from_slice(b"Content-Range: bytes ");
            for part in [digits.format(from), "-"] {
                out.extend_from_slice(part.as_bytes());
            }
            out.extend_from_slice(digits.format(to - 1).as_bytes());
            out.push(b'/');
            let length = stored.length.unwrap_or(to);
            out.extend_from_slice(digits.format(length).as_bytes());
            out.extend_from_slice(b"\r\n");
            line(out, "Content-Length", digits.format(to - from));
        }
        Want::Unsatisfiable => {
            let length = stored.length.unwrap_or(0);
            out.extend_from_slice(b"Content-Range: bytes */");
            out.extend_from_slice(digits.format(length).as_bytes());
            out.extend_from_slice(b"\r\n");
            line(out, "Content-Length", "0");
        }
        Want::NotModified => {}
        Want::Whole => match (client.framing, stored.length) {
            (Framing::Chunked, _) => line(out, "Transfer-Encoding", "chunked"),
            (Framing::Length(length), _) => line(out, "Content-Length", digits.format(length)),
            // RFC 9110 section 8.6: a 204 has none.
            (Framing::None, Some(length)) if stored.status != 204 => {
                line(out, "Content-Length", digits.format(length));
            }
            (Framing::None | Framing::UntilClose, _) => {}
        },
    }
}
