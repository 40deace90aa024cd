//! The path that a backend sees, and where a client is sent instead.
//!
//! Decides: what becomes of a path; whether a location is safe to send. May not know: routes, what the path is for.
//! Invariant: a path that is rewritten is the normal one (see `route`): no dot segment, second slash or escape of a letter
//! or slash goes round a prefix that is taken off or put on. What comes out begins with one slash: no reader takes the
//! first segment for a host (RFC 3986 section 4.2).

use std::sync::Arc;

use super::filter::template::Template;
use super::route::normal::{is_border, with_normal};

/// What becomes of the path of a request. The texts begin with one `/` and are visible ASCII without `?` and `#`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rewrite {
    /// Taken off, at a segment's border. A final slash means nothing.
    pub strip: Option<Box<str>>,
    /// Put before what is left.
    pub add: Option<Box<str>>,
    /// The whole path in place of it; nothing is taken off or put before it.
    pub replace: Option<Box<str>>,
}

/// A route that answers by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Own {
    Redirect {
        status: u16,
        /// What it becomes goes through [`location`].
        location: Template,
    },
    Answer {
        status: u16,
        content_type: Box<str>,
        body: Template,
    },
}

/// The body of our own error responses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorPage {
    /// First and last status.
    pub statuses: Box<[(u16, u16)]>,
    pub content_type: Box<str>,
    /// Routes that inherit a page share its text, which may be long.
    pub body: Arc<Template>,
}

/// A text that is no location: neither an absolute URI with an authority nor a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadLocation;

impl Rewrite {
    /// Appends the target for the backend: the path that becomes of `request_target_path`, and the query, which stays.
    /// At most as long as both together with what is put on or in place of the path. A target that is no path (`*`,
    /// nothing) stays as it is.
    pub fn apply(&self, request_target_path: &str, query: &str, out: &mut Vec<u8>) {
        let path = request_target_path.as_bytes();
        if path.first() != Some(&b'/') {
            out.extend_from_slice(path);
        } else if let Some(replace) = &self.replace {
            out.extend_from_slice(replace.as_bytes());
        } else {
            with_normal(path, |path| self.exchange_prefix(path, out));
        }
        if !query.is_empty() {
            out.push(b'?');
            out.extend_from_slice(query.as_bytes());
        }
    }

    fn exchange_prefix(&self, path: &[u8], out: &mut Vec<u8>) {
        let rest = match &self.strip {
            Some(strip) => with_normal(strip.as_bytes(), |strip| without(path, strip)),
            None => path,
        };
        let add = self.add.as_deref().unwrap_or_default().as_bytes();
        join(add, rest, out);
    }
}

/// What stands behind the prefix: nothing, or it begins with a slash. All of the path if it does not begin so.
fn without<'p>(path: &'p [u8], strip: &[u8]) -> &'p [u8] {
    let strip = strip.strip_suffix(b"/").unwrap_or(strip);
    match path.strip_prefix(strip) {
        Some(rest) if !strip.is_empty() && is_border(path, strip.len()) => rest,
        Some(_) | None => path,
    }
}

/// One slash between the two, and one at the beginning. `/api` becomes `/v1` and `/api/` becomes `/v1/`: what a relative
/// link means hangs on the final slash.
fn join(add: &[u8], rest: &[u8], out: &mut Vec<u8>) {
    let (base, rest) = match (add, rest) {
        ([], []) => (add, b"/".as_slice()),
        (_, []) => (add, rest),
        (_, [_, ..]) => (add.strip_suffix(b"/").unwrap_or(add), rest),
    };
    out.extend_from_slice(base);
    out.extend_from_slice(rest);
}

/// Appends a rendered location as it may stand in a field: an absolute URI with an authority, or a path that begins with
/// one slash, in visible ASCII. Other bytes are escaped (RFC 3987 section 3.1), so that it may be three times as long;
/// further slashes at the beginning are dropped, because browsers read `//evil.example` and `/\evil.example` as a host.
///
/// A location that begins so goes where its text says: `{host}` in it is what the client sent, whatever that is. To
/// answer for known hosts only, give the route those hosts, or write the host out.
pub fn location(rendered: &[u8], out: &mut Vec<u8>) -> Result<(), BadLocation> {
    let mut rest = rendered;
    if rendered.first() == Some(&b'/') {
        let is_slash = |byte: &&u8| matches!(**byte, b'/' | b'\\');
        let slashes = rendered.iter().take_while(is_slash).count();
        out.push(b'/');
        rest = &rendered[slashes..];
    } else if !is_absolute(rendered) {
        return Err(BadLocation);
    }
    for byte in rest {
        if byte.is_ascii_graphic() {
            out.push(*byte);
        } else {
            let digit = |value: u8| b"0123456789ABCDEF"[usize::from(value)];
            out.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
    Ok(())
}

/// A scheme, `://` and an authority (RFC 3986 section 3). Without a host (of HTTP/1.0, which may name none) browsers would
/// take the first segment of the path for it. User information is refused (RFC 9110 section 4.2.4).
fn is_absolute(text: &[u8]) -> bool {
    let scheme_length = memchr::memchr(b':', text).unwrap_or(text.len());
    let (scheme, rest) = text.split_at(scheme_length);
    let Some(rest) = rest.strip_prefix(b"://") else {
        return false;
    };
    let ends_authority = |byte: &u8| matches!(*byte, b'/' | b'\\' | b'?' | b'#');
    let authority = rest.split(ends_authority).next().unwrap_or_default();
    scheme.first().is_some_and(u8::is_ascii_alphabetic)
        && scheme.iter().all(|byte| is_of_scheme(*byte))
        && !matches!(authority, [] | [b':', ..])
        && !authority.contains(&b'@')
}

fn is_of_scheme(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+-.".contains(&byte)
}

/// The first page for a status.
pub fn page(pages: &[ErrorPage], status: u16) -> Option<&ErrorPage> {
    let is_for = |page: &&ErrorPage| {
        let mut statuses = page.statuses.iter();
        statuses.any(|(first, last)| (*first..=*last).contains(&status))
    };
    pages.iter().find(is_for)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    /// `-/api`, `+/v1`, `=/x`.
    fn rewrite(text: &str) -> Rewrite {
        let mut rewrite = Rewrite::default();
        for part in text.split(' ').filter(|part| !part.is_empty()) {
            let (kind, path) = part.split_at(1);
            let place = match kind {
                "-" => &mut rewrite.strip,
                "+" => &mut rewrite.add,
                "=" => &mut rewrite.replace,
                other => panic!("no meaning of {other}"),
            };
            *place = Some(path.into());
        }
        rewrite
    }

    fn applied(rewrite: &Rewrite, target: &str) -> String {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut out = Vec::new();
        rewrite.apply(path, query, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn targets() {
        let cases = [
            ("-/api", "/api/x", "/x"),
            ("-/api", "/api", "/"),
            ("-/api", "/api/", "/"),
            ("-/api", "/apix", "/apix"),
            ("-/api", "/ap", "/ap"),
            ("-/api", "/x/api", "/x/api"),
            ("-/api", "/api?q=/api", "/?q=/api"),
            ("-/api", "/api/x?a&b=%2e%2e", "/x?a&b=%2e%2e"),
            ("-/api", "/api/x??", "/x??"),
            ("-/api", "/API/x", "/API/x"),
            ("-/api", "/api/api/x", "/api/x"),
            ("-/api", "*", "*"),
            ("-/api", "", ""),
            ("-/api/", "/api", "/"),
            ("-/api/", "/api/x", "/x"),
            ("-/api/", "/apix", "/apix"),
            ("-/", "/x", "/x"),
            ("-/%61pi", "/api/x", "/x"),
            // The normal path is what counts, and what goes on.
            ("-/api", "/%61pi/x", "/x"),
            ("-/api", "/public/%2e%2e/api/x", "/x"),
            ("-/api", "/public/../api/x", "/x"),
            ("-/api", "/api/../x", "/x"),
            ("-/api", "/api/../admin/x", "/admin/x"),
            ("-/api", "/api/%2e%2e", "/"),
            ("-/api", "/api/a/./b/%7ec", "/a/b/~c"),
            ("-/api", "/api/%2fx%3f", "/x%3f"),
            ("-/api", "/api%2fx", "/x"),
            ("-/api", "/api%2f..%2fadmin", "/admin"),
            ("-/api", "/api/a%2Fb", "/a/b"),
            ("-/api//v1%2f", "/api/v1/x", "/x"),
            ("-/api", "/api/%5cevil.example", "/%5cevil.example"),
            ("-/api", "/api/%%32e%%32e/x", "/%%32e%%32e/x"),
            // Never what reads as a host.
            ("-/api", "/api//evil.example/", "/evil.example/"),
            ("-/api", "/api///evil.example/", "/evil.example/"),
            ("-/api", "/api//", "/"),
            ("-/api", "/api/..//evil.example/", "/evil.example/"),
            ("-/api", "//evil.example/", "/evil.example/"),
            ("-/api", "/api%2f/evil.example/", "/evil.example/"),
            ("-/api", "/%2fevil.example/", "/evil.example/"),
            ("-/api", "/api/x//y", "/x/y"),
            ("-/api +/", "/api//evil.example/", "/evil.example/"),
            // What is put on.
            ("+/v1", "/x", "/v1/x"),
            ("+/v1", "/", "/v1/"),
            ("+/v1/", "/x", "/v1/x"),
            ("+/", "/x", "/x"),
            ("+/v1", "/../x", "/v1/x"),
            ("+/v1", "/x/../../../y", "/v1/y"),
            ("+/v1", "//x", "/v1/x"),
            ("+/v1", "*", "*"),
            ("-/api +/v1", "/api/x", "/v1/x"),
            ("-/api +/v1", "/api", "/v1"),
            ("-/api +/v1", "/api/", "/v1/"),
            ("-/api +/v1/", "/api", "/v1/"),
            ("-/api +/v1", "/other", "/v1/other"),
            ("-/api +/v1", "/api/../../x", "/v1/x"),
            ("-/api +/v1", "/api?q", "/v1?q"),
            // The whole path.
            ("=/page", "/api/../x", "/page"),
            ("=/page", "/x?q", "/page?q"),
            ("=/page", "*", "*"),
            ("=/page -/api +/v1", "/api/x", "/page"),
            ("", "/a/../%62", "/b"),
        ];
        for (text, target, expected) in cases {
            assert_eq!(applied(&rewrite(text), target), expected, "{text} {target}");
        }
    }

    proptest! {
        #[test]
        fn nothing_gets_out_of_what_is_put_on(
            strip in select(&["", "-/api", "-/api/", "-/api/x"][..]),
            add in select(&["", "/v1", "/v1/", "/v1/api", "/"][..]),
            segments in proptest::collection::vec(
                select(&["", ".", "..", "%2e", ".%2E", "%2e%2e", "api", "%61pi", "x", "%2f", "..%2F", "%%32e%%32e", "%%32f", "a%"][..]),
                0..8,
            ),
            query in select(&["", "?q=..&/../"][..]),
        ) {
            let add_part = if add.is_empty() { String::new() } else { format!(" +{add}") };
            let rewrite = rewrite(&format!("{strip}{add_part}"));
            let target = format!("/{}{query}", segments.join("/"));
            let out = applied(&rewrite, &target);
            prop_assert!(out.len() <= target.len() + add.len());
            prop_assert!(out.ends_with(query));
            prop_assert!(out.starts_with('/') && !out.starts_with("//"), "{}", out);
            let path = out.split('?').next().unwrap().as_bytes();
            with_normal(path, |normal| {
                assert!(normal.starts_with(add.as_bytes()), "{out} in {add}");
                assert!(is_border(normal, add.trim_end_matches('/').len()), "{out} in {add}");
                assert_eq!(normal, path, "{out} is not normal");
            });
        }
    }

    #[test]
    fn locations() {
        let cases: &[(&str, Option<&str>)] = &[
            ("https://a.example/x?y#z", Some("https://a.example/x?y#z")),
            ("HTTP://a.example:8080", Some("HTTP://a.example:8080")),
            ("https://[::1]:8080/", Some("https://[::1]:8080/")),
            ("app+x://open?a", Some("app+x://open?a")),
            ("https://a.example//x", Some("https://a.example//x")),
            ("/x?to=https://a.example/", Some("/x?to=https://a.example/")),
            ("/", Some("/")),
            ("/x//y", Some("/x//y")),
            // Read as a host by browsers.
            ("//evil.example/x", Some("/evil.example/x")),
            ("///evil.example", Some("/evil.example")),
            ("/\\evil.example", Some("/evil.example")),
            ("/\\/\\evil.example", Some("/evil.example")),
            ("//", Some("/")),
            ("/\t/evil.example", Some("/%09/evil.example")),
            // A host that is missing, or behind something else.
            ("https:///evil.example/x", None),
            ("https://", None),
            ("https://?x", None),
            ("https://:80/x", None),
            ("https://\\evil.example/x", None),
            ("https://a.example@evil.example/", None),
            ("https:/a.example", None),
            ("https:a.example", None),
            ("://a.example", None),
            ("1s://a.example", None),
            ("ja va://a", None),
            ("javascript:alert(1)", None),
            ("a.example:80/x", None),
            ("a.example/x://y", None),
            ("\\\\evil.example", None),
            ("x", None),
            (" /x", None),
            ("?x", None),
            ("", None),
            // Other bytes.
            ("/ü b", Some("/%C3%BC%20b")),
            ("/x\r\nSet-Cookie: a", Some("/x%0D%0ASet-Cookie:%20a")),
            ("/\u{7f}\0%41", Some("/%7F%00%41")),
        ];
        for (rendered, expected) in cases {
            let mut out = Vec::new();
            let done = location(rendered.as_bytes(), &mut out);
            let out = String::from_utf8(out).unwrap();
            assert_eq!(done.map(|()| &*out).ok(), *expected, "{rendered:?}");
            assert!(done.is_ok() || out.is_empty(), "{rendered:?}");
        }
    }

    proptest! {
        #[test]
        fn a_location_is_visible_and_names_no_other_host(
            rendered in "(https?:)?[/\\\\@.a \t\r\nü:]{0,12}",
        ) {
            let mut out = Vec::new();
            if location(rendered.as_bytes(), &mut out).is_ok() {
                prop_assert!(out.iter().all(u8::is_ascii_graphic));
                prop_assert!(out.len() <= 3 * rendered.len());
                let is_host = out.first() != Some(&b'/');
                prop_assert!(is_host || !matches!(out.get(1), Some(b'/' | b'\\')), "{:?}", rendered);
                let mut again = Vec::new();
                prop_assert_eq!(location(&out, &mut again), Ok(()));
                prop_assert_eq!(out, again);
            }
        }
    }

    #[test]
    fn the_first_page_for_a_status_counts() {
        let page_for = |statuses: &[(u16, u16)], name: &str| ErrorPage {
            statuses: statuses.into(),
            content_type: name.into(),
            body: Arc::new(Template { parts: [].into() }),
        };
        let pages = [
            page_for(&[(404, 404), (410, 410)], "gone"),
            page_for(&[], "never"),
            page_for(&[(400, 499)], "client"),
            page_for(&[(503, 599), (404, 404)], "ours"),
        ];
        let cases = [
            (404, Some("gone")),
            (410, Some("gone")),
            (405, Some("client")),
            (400, Some("client")),
            (499, Some("client")),
            (500, None),
            (503, Some("ours")),
            (599, Some("ours")),
        ];
        for (status, expected) in cases {
            let found = page(&pages, status).map(|page| &*page.content_type);
            assert_eq!(found, expected, "{status}");
        }
    }
}
