//! One request → one line.

use super::escape;
use crate::config::plan::{Format, Nanos};
use crate::h1::Version;

/// What the access log says about one request. Empty text and `None` mean that it is not known.
#[derive(Debug, Clone)]
pub struct AccessLine<'a> {
    /// When the request began, in milliseconds since 1970.
    pub unix_ms: u64,
    /// Address of the client, without its port.
    pub client: &'a str,
    pub method: &'a str,
    pub path: &'a str,
    /// Without `?`.
    pub query: &'a str,
    pub version: Version,
    pub status: u16,
    pub request_body_bytes: u64,
    pub response_body_bytes: u64,
    /// `host[:port]` as the client sent it.
    pub host: &'a str,
    pub user_agent: &'a [u8],
    pub referer: &'a [u8],
    pub duration_ns: Nanos,
    /// `None` when the connection was reused.
    pub connect_ns: Option<Nanos>,
    pub first_byte_ns: Option<Nanos>,
    /// Authority of the backend that answered, or was tried last.
    pub backend: &'a str,
    pub backend_reused: bool,
    pub retries: u32,
    /// Those that failed, in their order.
    pub attempts: &'a [AttemptLine<'a>],
    pub route: &'a str,
    pub shard: u16,
    /// `Reason::label`, if it is one of ours.
    pub reason: &'a str,
    /// `Reason::error_type`.
    pub error_type: &'a str,
    /// How the request ended.
    pub end: &'static str,
    /// Who asked, as `[access]` has found.
    pub user: &'a str,
    pub request_id: &'a str,
    /// Of `traceparent`.
    pub trace_id: &'a str,
    /// What the cache did; empty: there was none.
    pub cache: &'a str,
    /// The rate limit that has refused the request.
    pub limit: &'a str,
}

/// An attempt that gave the client nothing.
#[derive(Debug, Clone, Copy)]
pub struct AttemptLine<'a> {
    /// Authority of the backend.
    pub backend: &'a str,
    /// What went wrong: `retry::Cause::name`.
    pub cause: &'a str,
    /// 0 unless it was a status.
    pub status: u16,
    /// How far it came: `attempt::Progress::name`.
    pub progress: &'a str,
    /// On a connection that was used before.
    pub reused: bool,
}

/// Renders times, and remembers the last second: calendar arithmetic once a second, not once a line.
#[derive(Debug)]
pub struct Clock {
    /// Seconds since 1970.
    second: u64,
    /// `2026-11-20T18:28:03`
    iso: [u8; 19],
    /// `20/Nov/2026:18:28:03 +0000`
    common: [u8; 26],
}

impl Clock {
    pub fn new() -> Clock {
        let mut clock = Clock {
            second: 0,
            iso: [0; 19],
            common: [0; 26],
        };
        clock.render(0);
        clock
    }

    /// The second of `unix_ms` in RFC 3339, without fraction and zone.
    pub(super) fn iso(&mut self, unix_ms: u64) -> &[u8; 19] {
        self.turn_to(unix_ms / 1000);
        &self.iso
    }

    fn common(&mut self, unix_ms: u64) -> &[u8; 26] {
        self.turn_to(unix_ms / 1000);
        &self.common
    }

    fn turn_to(&mut self, second: u64) {
        if second != self.second {
            self.render(second);
        }
    }

    fn render(&mut self, second: u64) {
        const MONTHS: &[u8; 36] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
        self.second = second;
        let (year, month, day) = date_of_day(second / 86_400);
        let (hour, minute, second) = (second / 3600 % 24, second / 60 % 60, second % 60);
        self.iso = *b"0000-00-00T00:00:00";
        self.common = *b"00/Jan/0000:00:00:00 +0000";
        digits(&mut self.iso[0..4], year);
        digits(&mut self.iso[5..7], month);
        digits(&mut self.iso[8..10], day);
        digits(&mut self.iso[11..13], hour);
        digits(&mut self.iso[14..16], minute);
        digits(&mut self.iso[17..19], second);
        let name = (month as usize - 1) * 3;
        digits(&mut self.common[0..2], day);
        self.common[3..6].copy_from_slice(&MONTHS[name..name + 3]);
        digits(&mut self.common[7..11], year);
        self.common[12..20].copy_from_slice(&self.iso[11..19]);
    }
}

impl Default for Clock {
    fn default() -> Clock {
        Clock::new()
    }
}

/// Appends one line with its line end. Allocates only if `out` must grow.
pub fn write_line(out: &mut Vec<u8>, line: &AccessLine<'_>, format: Format, clock: &mut Clock) {
    match format {
        Format::Json => json_line(out, line, clock),
        Format::Combined => combined_line(out, line, clock),
    }
}

fn json_line(out: &mut Vec<u8>, line: &AccessLine<'_>, clock: &mut Clock) {
    out.extend_from_slice(b"{\"timestamp\":\"");
    out.extend_from_slice(clock.iso(line.unix_ms));
    let mut fraction = *b".000Z";
    digits(&mut fraction[1..4], line.unix_ms % 1000);
    out.extend_from_slice(&fraction);
    out.extend_from_slice(b"\",\"level\":\"info\",\"msg\":\"request\"");
    text(out, b",\"http.request.method\":\"", line.method.as_bytes());
    text(out, b",\"url.path\":\"", line.path.as_bytes());
    text(out, b",\"url.query\":\"", line.query.as_bytes());
    number(
        out,
        b",\"http.response.status_code\":",
        u64::from(line.status),
    );
    text(out, b",\"client.address\":\"", line.client.as_bytes());
    let (address, port) = split_authority(line.host);
    text(out, b",\"server.address\":\"", address.as_bytes());
    if let Some(port) = port {
        number(out, b",\"server.port\":", u64::from(port));
    }
    text(out, b",\"user_agent.original\":\"", line.user_agent);
    text(out, b",\"http.request.header.referer\":\"", line.referer);
    text(
        out,
        b",\"network.protocol.version\":\"",
        version(line.version).as_bytes(),
    );
    number(
        out,
        b",\"http.request.body.size\":",
        line.request_body_bytes,
    );
    number(
        out,
        b",\"http.response.body.size\":",
        line.response_body_bytes,
    );
    text(out, b",\"error.type\":\"", line.error_type.as_bytes());
    milliseconds(out, b",\"duration_ms\":", line.duration_ns);
    if line.connect_ns.is_some() || line.first_byte_ns.is_some() {
        out.extend_from_slice(b",\"timings\":{");
        if let Some(connect_ns) = line.connect_ns {
            milliseconds(out, b"\"connect_ms\":", connect_ns);
        }
        if let Some(first_byte_ns) = line.first_byte_ns {
            let comma = usize::from(line.connect_ns.is_none());
            milliseconds(out, &b",\"first_byte_ms\":"[comma..], first_byte_ns);
        }
        out.push(b'}');
    }
    if !line.backend.is_empty() {
        text(out, b",\"upstream.address\":\"", line.backend.as_bytes());
        let reused: &[u8] = if line.backend_reused {
            b"true"
        } else {
            b"false"
        };
        out.extend_from_slice(b",\"upstream.reused\":");
        out.extend_from_slice(reused);
    }
    number(out, b",\"retries\":", u64::from(line.retries));
    attempts(out, line.attempts);
    text(out, b",\"reason\":\"", line.reason.as_bytes());
    text(out, b",\"rate_limit\":\"", line.limit.as_bytes());
    text(out, b",\"end\":\"", line.end.as_bytes());
    text(out, b",\"route\":\"", line.route.as_bytes());
    number(out, b",\"shard\":", u64::from(line.shard));
    text(out, b",\"user.name\":\"", line.user.as_bytes());
    text(out, b",\"request_id\":\"", line.request_id.as_bytes());
    text(out, b",\"trace_id\":\"", line.trace_id.as_bytes());
    text(out, b",\"cache\":\"", line.cache.as_bytes());
    out.extend_from_slice(b"}\n");
}

/// `client - user [time] "request line" status bytes "referer" "user agent"`, nginx's and Apache's `combined`.
fn combined_line(out: &mut Vec<u8>, line: &AccessLine<'_>, clock: &mut Clock) {
    escape::combined(out, or_dash(line.client.as_bytes()));
    out.extend_from_slice(b" - ");
    escape::combined(out, or_dash(line.user.as_bytes()));
    out.extend_from_slice(b" [");
    out.extend_from_slice(clock.common(line.unix_ms));
    out.extend_from_slice(b"] \"");
    escape::combined(out, or_dash(line.method.as_bytes()));
    out.push(b' ');
    escape::combined(out, or_dash(line.path.as_bytes()));
    if !line.query.is_empty() {
        out.push(b'?');
        escape::combined(out, line.query.as_bytes());
    }
    out.extend_from_slice(b" HTTP/");
    out.extend_from_slice(version(line.version).as_bytes());
    number(out, b"\" ", u64::from(line.status));
    number(out, b" ", line.response_body_bytes);
    out.extend_from_slice(b" \"");
    escape::combined(out, or_dash(line.referer));
    out.extend_from_slice(b"\" \"");
    escape::combined(out, or_dash(line.user_agent));
    out.extend_from_slice(b"\"\n");
}

fn attempts(out: &mut Vec<u8>, attempts: &[AttemptLine<'_>]) {
    for (at, attempt) in attempts.iter().enumerate() {
        let opening: &[u8] = match at {
            0 => b",\"attempts\":[{\"upstream.address\":\"",
            _ => b",{\"upstream.address\":\"",
        };
        text(out, opening, attempt.backend.as_bytes());
        text(out, b",\"failed\":\"", attempt.cause.as_bytes());
        if attempt.status > 0 {
            number(out, b",\"status\":", u64::from(attempt.status));
        }
        text(out, b",\"progress\":\"", attempt.progress.as_bytes());
        let reused: &[u8] = match attempt.reused {
            true => b",\"reused\":true}",
            false => b",\"reused\":false}",
        };
        out.extend_from_slice(reused);
    }
    if !attempts.is_empty() {
        out.push(b']');
    }
}

/// `key` ends in the opening quote. Empty text is left out, key and all.
fn text(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    if !value.is_empty() {
        out.extend_from_slice(key);
        escape::json(out, value);
        out.push(b'"');
    }
}

fn number(out: &mut Vec<u8>, key: &[u8], value: u64) {
    out.extend_from_slice(key);
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// With three decimals: whole microseconds, rounded down.
fn milliseconds(out: &mut Vec<u8>, key: &[u8], value_ns: Nanos) {
    number(out, key, value_ns / 1_000_000);
    let mut fraction = *b".000";
    digits(&mut fraction[1..4], value_ns / 1000 % 1000);
    out.extend_from_slice(&fraction);
}

fn or_dash(value: &[u8]) -> &[u8] {
    if value.is_empty() { b"-" } else { value }
}

fn version(version: Version) -> &'static str {
    match version {
        Version::Http10 => "1.0",
        Version::Http11 => "1.1",
    }
}

/// `host:80` → `host`, 80. An IPv6 address keeps its brackets; a port that is no port stays with the address.
fn split_authority(host: &str) -> (&str, Option<u16>) {
    match host.rsplit_once(':') {
        Some((address, port)) if !address.contains(':') || address.ends_with(']') => {
            match port.parse() {
                Ok(port) => (address, Some(port)),
                Err(_) => (host, None),
            }
        }
        Some(_) | None => (host, None),
    }
}

/// Fills `into` with the last digits of `value`.
fn digits(into: &mut [u8], mut value: u64) {
    for digit in into.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// Days since 1970-01-01 → year, month, day in the Gregorian calendar: Howard Hinnant's `civil_from_days`, whose
/// years begin in March so that the leap day comes last.
fn date_of_day(day: u64) -> (u64, u64, u64) {
    let shifted = day + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
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

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: AccessLine<'static> = AccessLine {
        unix_ms: 1_795_199_283_042,
        client: "192.0.2.7",
        method: "GET",
        path: "/a/b",
        query: "x=1",
        version: Version::Http11,
        status: 200,
        request_body_bytes: 0,
        response_body_bytes: 1234,
        host: "example.com:8080",
        user_agent: b"curl/8",
        referer: b"",
        duration_ns: 12_345_678,
        connect_ns: Some(250_000),
        first_byte_ns: Some(9_000_999),
        backend: "127.0.0.1:3001",
        backend_reused: false,
        retries: 1,
        attempts: &[],
        route: "default",
        shard: 3,
        reason: "",
        error_type: "",
        end: "done",
        user: "",
        request_id: "",
        trace_id: "",
        cache: "",
        limit: "",
    };

    fn written(line: &AccessLine<'_>, format: Format) -> String {
        let mut out = Vec::new();
        write_line(&mut out, line, format, &mut Clock::new());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn json_has_the_documented_names() {
        assert_eq!(
            written(&LINE, Format::Json),
            concat!(
                r#"{"timestamp":"2026-11-20T18:28:03.042Z","level":"info","msg":"request","#,
                r#""http.request.method":"GET","url.path":"/a/b","url.query":"x=1","#,
                r#""http.response.status_code":200,"client.address":"192.0.2.7","#,
                r#""server.address":"example.com","server.port":8080,"user_agent.original":"curl/8","#,
                r#""network.protocol.version":"1.1","http.request.body.size":0,"#,
                r#""http.response.body.size":1234,"duration_ms":12.345,"#,
                r#""timings":{"connect_ms":0.250,"first_byte_ms":9.000},"#,
                r#""upstream.address":"127.0.0.1:3001","upstream.reused":false,"retries":1,"#,
                r#""end":"done","route":"default","shard":3}"#,
                "\n"
            )
        );
    }

    #[test]
    fn json_leaves_out_what_is_not_known() {
        let line = AccessLine {
            method: "",
            path: "",
            query: "",
            host: "",
            user_agent: b"",
            status: 400,
            connect_ns: None,
            first_byte_ns: None,
            backend: "",
            route: "",
            reason: "bare_lf",
            error_type: "bare_lf",
            version: Version::Http10,
            ..LINE
        };
        assert_eq!(
            written(&line, Format::Json),
            concat!(
                r#"{"timestamp":"2026-11-20T18:28:03.042Z","level":"info","msg":"request","#,
                r#""http.response.status_code":400,"client.address":"192.0.2.7","#,
                r#""network.protocol.version":"1.0","http.request.body.size":0,"#,
                r#""http.response.body.size":1234,"error.type":"bare_lf","duration_ms":12.345,"#,
                r#""retries":1,"reason":"bare_lf","end":"done","shard":3}"#,
                "\n"
            )
        );
        let reused = AccessLine {
            connect_ns: None,
            ..LINE
        };
        assert!(written(&reused, Format::Json).contains(r#","timings":{"first_byte_ms":9.000},"#));
    }

    #[test]
    fn combined_reads_like_nginx() {
        assert_eq!(
            written(&LINE, Format::Combined),
            "192.0.2.7 - - [20/Nov/2026:18:28:03 +0000] \"GET /a/b?x=1 HTTP/1.1\" 200 1234 \"-\" \"curl/8\"\n"
        );
    }

    #[test]
    fn one_request_is_one_line_whatever_the_client_sends() {
        let hostile = "\"}\r\n{\"level\":\"fake\"\u{0}\u{1b}";
        let line = AccessLine {
            method: hostile,
            path: hostile,
            query: hostile,
            host: hostile,
            user_agent: b"\xff\"\n",
            referer: b"\\\n\x80",
            ..LINE
        };
        for format in [Format::Json, Format::Combined] {
            let text = written(&line, format);
            assert_eq!(
                text.chars()
                    .filter(|character| character.is_control())
                    .count(),
                1,
                "{text}"
            );
            assert!(text.ends_with('\n'));
            assert!(!text.contains("\"level\":\"fake\""));
        }
    }

    #[test]
    fn dates() {
        let mut clock = Clock::new();
        for (unix_ms, iso) in [
            (0, "1970-01-01T00:00:00"),
            (951_782_399_999, "2000-02-28T23:59:59"),
            (951_782_400_000, "2000-02-29T00:00:00"),
            (1_709_251_199_000, "2024-02-29T23:59:59"),
            (1_709_251_200_000, "2024-03-01T00:00:00"),
            (4_107_542_400_000, "2100-03-01T00:00:00"),
            (1_735_689_599_000, "2024-12-31T23:59:59"),
            (0, "1970-01-01T00:00:00"),
        ] {
            assert_eq!(clock.iso(unix_ms), iso.as_bytes(), "{unix_ms}");
        }
        assert_eq!(
            clock.common(1_709_164_800_000),
            b"29/Feb/2024:00:00:00 +0000"
        );
    }

    #[test]
    fn authorities() {
        for (host, split) in [
            ("a", ("a", None)),
            ("a:80", ("a", Some(80))),
            ("[::1]:80", ("[::1]", Some(80))),
            ("[::1]", ("[::1]", None)),
            ("::1", ("::1", None)),
            ("a:99999", ("a:99999", None)),
            ("a:", ("a:", None)),
            ("", ("", None)),
        ] {
            assert_eq!(split_authority(host), split, "{host}");
        }
    }
}
