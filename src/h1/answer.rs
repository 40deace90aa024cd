//! Responses that we make ourselves.
//!
//! Decides: their form and wording. May not know: why one is made, beyond a label. Invariant: a
//! response holds nothing that the client sent, and is complete and framed by Content-Length.

use std::fmt::Write;

use super::fields::Kind;
use super::head::Request;
use super::{Version, syntax};

/// A response of our own. What stands in it is ours, or checked: never bytes of a client as they came.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    pub status: u16,
    pub content_type: &'a str,
    pub body: &'a [u8],
    /// Further fields, each with its line end.
    pub fields: &'a [u8],
    /// The request was HEAD.
    pub head_request: bool,
    /// The client's connection lives on.
    pub keep_alive: bool,
    pub version: Version,
    /// IMF-fixdate.
    pub date: &'a str,
}

/// Appends the whole response; says how long its head is. A 204 or 304 has no body, and no length of one (RFC 9110
/// section 8.6).
pub fn write(out: &mut Vec<u8>, answer: &Answer<'_>) -> usize {
    let begin = out.len();
    let bodiless = matches!(answer.status, 204 | 304);
    let mut put = |text: &str| out.extend_from_slice(text.as_bytes());
    let mut digits = itoa::Buffer::new();
    put("HTTP/1.1 ");
    put(digits.format(answer.status));
    put(" ");
    put(reason_phrase(answer.status));
    put("\r\nDate: ");
    put(answer.date);
    if !bodiless {
        if !answer.content_type.is_empty() {
            put("\r\nContent-Type: ");
            put(answer.content_type);
        }
        put("\r\nContent-Length: ");
        put(digits.format(answer.body.len()));
    }
    put("\r\n");
    out.extend_from_slice(answer.fields);
    match (answer.keep_alive, answer.version) {
        (false, _) => out.extend_from_slice(b"Connection: close\r\n"),
        (true, Version::Http10) => out.extend_from_slice(b"Connection: keep-alive\r\n"),
        (true, Version::Http11) => {}
    }
    out.extend_from_slice(b"\r\n");
    let head_len = out.len() - begin;
    if !answer.head_request && !bodiless {
        out.extend_from_slice(answer.body);
    }
    head_len
}

/// Appends the body of a refusal and says its media type. `reason` is a label such as `bad_host`.
pub fn refusal_body(out: &mut Vec<u8>, status: u16, reason: &str, json: bool) -> &'static str {
    let phrase = reason_phrase(status);
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(status);
    let (parts, content_type) = if json {
        let parts = [
            "{\"status\":",
            digits,
            ",\"error\":\"",
            phrase,
            "\",\"reason\":\"",
            reason,
            "\"}",
        ];
        (parts, "application/json")
    } else {
        let parts = [digits, " ", phrase, ": ", reason, "\n", ""];
        (parts, "text/plain; charset=utf-8")
    };
    for part in parts {
        out.extend_from_slice(part.as_bytes());
    }
    content_type
}

/// Appends one field's line.
pub fn line(out: &mut Vec<u8>, name: &str, value: &str) {
    for part in [name, ": ", value, "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}

/// The client names JSON and likes it no less than text or HTML.
pub fn wants_json(request: &Request<'_, '_>) -> bool {
    let mut json = 0;
    let mut text = 0;
    for (header, kind) in request.headers.iter().zip(request.kinds) {
        if *kind != Kind::EndToEnd || !header.name.eq_ignore_ascii_case("accept") {
            continue;
        }
        // Every request comes here, and most accept pages and pictures: no JSON without a J.
        if memchr::memchr2(b'j', b'J', header.value).is_none() {
            continue;
        }
        for range in syntax::elements(header.value) {
            let mut parts = range.split(|byte| *byte == b';').map(syntax::trim);
            let media = parts.next().unwrap_or_default();
            let weight = parts.find_map(weight_of).unwrap_or(1000);
            if is_json(media) {
                json = json.max(weight);
            } else if media.eq_ignore_ascii_case(b"text/html")
                || media.eq_ignore_ascii_case(b"text/plain")
            {
                text = text.max(weight);
            }
        }
    }
    json > 0 && json >= text
}

fn is_json(media: &[u8]) -> bool {
    const SUFFIX: &[u8] = b"+json";
    let end = &media[media.len().saturating_sub(SUFFIX.len())..];
    media.eq_ignore_ascii_case(b"application/json") || end.eq_ignore_ascii_case(SUFFIX)
}

/// A `q` parameter in thousandths (RFC 9110 section 12.4.2); what is no weight counts as 0.
fn weight_of(parameter: &[u8]) -> Option<u32> {
    let [b'q' | b'Q', b'=', value @ ..] = parameter else {
        return None;
    };
    match value {
        [b'1', ..] => Some(1000),
        [b'0', b'.', digits @ ..] if digits.len() <= 3 => {
            let value = syntax::number(digits).unwrap_or(0) as u32;
            Some(value * 10_u32.pow(3 - digits.len() as u32))
        }
        _ => Some(0),
    }
}

/// The phrase of a registered status, `Unknown` for others.
pub fn reason_phrase(status: u16) -> &'static str {
    if status == 413 {
        // RFC 9110 renamed it.
        return "Content Too Large";
    }
    let status = http::StatusCode::from_u16(status).ok();
    status
        .and_then(|status| status.canonical_reason())
        .unwrap_or("Unknown")
}

/// Appends a decimal number; `write!` costs several times as much.
pub(super) fn write_number(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// Appends an IMF-fixdate (RFC 9110 section 5.6.7) for a count of seconds since 1970, UTC.
pub fn http_date(out: &mut String, unix_seconds: u64) {
    // The form has four digits for the year: 9999-12-31T23:59:59 is its end.
    let seconds = unix_seconds.min(253_402_300_799);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil_date(days);
    let _ = write!(
        out,
        "{}, {day:02} {} {year:04} {:02}:{:02}:{:02} GMT",
        DAYS[(days % 7) as usize],
        MONTHS[(month - 1) as usize],
        second / 3600,
        second / 60 % 60,
        second % 60
    );
}

/// Year, month and day of a day since 1970. Counts in years that begin in March, so that a leap day
/// comes last, and in eras of 400 years, which are all equally long (146,097 days).
fn civil_date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // from 1 March of the year 0
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}
