//! Cache-Control of requests and responses.
//!
//! Decides: what the directives say together. May not know: whether anybody follows them. Invariant: of directives that
//! contradict each other, or that nobody can read, the stricter counts.

use super::fields::named;
use super::fresh::SECONDS_MAX;
use super::targeted;
use crate::h1::head::{Request, Response};

/// What a request wants of a cache (RFC 9111 section 5.2.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Asked {
    pub no_store: bool,
    /// Also `Pragma: no-cache` of a request without Cache-Control.
    pub no_cache: bool,
    pub only_if_cached: bool,
    pub max_age_s: Option<u32>,
    pub min_fresh_s: u32,
    /// `u32::MAX`: however stale.
    pub max_stale_s: u32,
    pub stale_if_error_s: Option<u32>,
}

impl Asked {
    /// RFC 9111 section 5.2.1.1. Ages are cut to whole seconds, so 0 has to refuse all.
    pub(super) fn refuses_age(&self, age_s: u32) -> bool {
        self.max_age_s
            .is_some_and(|most_s| age_s > most_s || most_s == 0)
    }

    /// RFC 9111 section 5.2.1.2.
    pub(super) fn takes_stale(&self, staleness_s: u32) -> bool {
        self.max_stale_s > 0 && staleness_s <= self.max_stale_s
    }
}

/// What a response lets a shared cache do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Directives {
    pub no_store: bool,
    /// Also a lifetime that cannot be read: it must not be worth more than none.
    pub no_cache: bool,
    pub private: bool,
    pub public: bool,
    pub must_understand: bool,
    /// `must-revalidate` or `proxy-revalidate`.
    pub must_revalidate: bool,
    /// `s-maxage`, else `max-age`; 0 where it cannot be read.
    pub lifetime_s: Option<u32>,
    pub s_maxage: bool,
    pub stale_while_revalidate_s: Option<u32>,
    pub stale_if_error_s: Option<u32>,
    /// Requests with Authorization may be answered with it: `public`, `s-maxage` or `must-revalidate`, but not
    /// `proxy-revalidate` (RFC 9111 section 3.5).
    pub for_authorized: bool,
    /// CDN-Cache-Control says all this, so Expires says nothing (RFC 9213 section 2.2).
    pub targeted: bool,
}

pub fn asked(request: &Request<'_, '_>) -> Asked {
    let mut asked = Asked::default();
    let mut max_stale_s = None;
    let mut has_control = false;
    for line in named(request.headers, "cache-control") {
        has_control = true;
        for (name, argument) in List(line) {
            let Some(wish) = Wish::of(name) else {
                continue;
            };
            match wish {
                Wish::NoStore => asked.no_store = true,
                Wish::NoCache => asked.no_cache = true,
                Wish::OnlyIfCached => asked.only_if_cached = true,
                Wish::MaxAge => shorten(&mut asked.max_age_s, argument),
                Wish::MinFresh => {
                    let seconds = argument.seconds().unwrap_or(u32::MAX);
                    asked.min_fresh_s = asked.min_fresh_s.max(seconds);
                }
                Wish::MaxStale if argument == Argument::None => {
                    max_stale_s = max_stale_s.or(Some(u32::MAX));
                }
                Wish::MaxStale => shorten(&mut max_stale_s, argument),
                Wish::StaleIfError => shorten(&mut asked.stale_if_error_s, argument),
            }
        }
    }
    asked.max_stale_s = max_stale_s.unwrap_or(0);
    if !has_control {
        // RFC 9111 section 5.4.
        let mut pragmas = named(request.headers, "pragma").flat_map(List);
        asked.no_cache = pragmas.any(|(name, _)| name.eq_ignore_ascii_case(b"no-cache"));
    }
    asked
}

/// `targeted`: CDN-Cache-Control counts in place of Cache-Control, where there is a valid one (RFC 9213 section 2.2).
pub fn directives(response: &Response<'_, '_>, targeted: bool) -> Directives {
    if targeted && let Some(said) = targeted::read(response) {
        return Directives {
            targeted: true,
            ..said.together()
        };
    }
    let mut said = Said::default();
    for (name, argument) in named(response.headers, "cache-control").flat_map(List) {
        if let Some(directive) = Directive::of(name) {
            said.take(directive, argument);
        }
    }
    said.together()
}

/// The directives of a response that mean something to a shared cache (RFC 9111 section 5.2.2, RFC 5861). The forms with
/// field names of `no-cache` and `private` count as those without, as sections 5.2.2.4 and 5.2.2.7 let caches do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Directive {
    NoStore,
    NoCache,
    Private,
    Public,
    MustUnderstand,
    MustRevalidate,
    ProxyRevalidate,
    MaxAge,
    SMaxage,
    StaleWhileRevalidate,
    StaleIfError,
}

impl Directive {
    const ALL: [(&[u8], Directive); 11] = [
        (b"max-age", Directive::MaxAge),
        (b"public", Directive::Public),
        (b"private", Directive::Private),
        (b"no-cache", Directive::NoCache),
        (b"no-store", Directive::NoStore),
        (b"s-maxage", Directive::SMaxage),
        (b"must-revalidate", Directive::MustRevalidate),
        (b"proxy-revalidate", Directive::ProxyRevalidate),
        (b"must-understand", Directive::MustUnderstand),
        (b"stale-while-revalidate", Directive::StaleWhileRevalidate),
        (b"stale-if-error", Directive::StaleIfError),
    ];

    pub(super) fn of(name: &[u8]) -> Option<Directive> {
        find(&Directive::ALL, name)
    }

    /// Its argument is a count of seconds.
    pub(super) fn has_seconds(self) -> bool {
        match self {
            Directive::MaxAge
            | Directive::SMaxage
            | Directive::StaleWhileRevalidate
            | Directive::StaleIfError => true,
            Directive::NoStore
            | Directive::NoCache
            | Directive::Private
            | Directive::Public
            | Directive::MustUnderstand
            | Directive::MustRevalidate
            | Directive::ProxyRevalidate => false,
        }
    }
}

/// The directives of a request (RFC 9111 section 5.2.1, RFC 5861).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    NoStore,
    NoCache,
    OnlyIfCached,
    MaxAge,
    MinFresh,
    MaxStale,
    StaleIfError,
}

impl Wish {
    const ALL: [(&[u8], Wish); 7] = [
        (b"max-age", Wish::MaxAge),
        (b"no-cache", Wish::NoCache),
        (b"no-store", Wish::NoStore),
        (b"min-fresh", Wish::MinFresh),
        (b"max-stale", Wish::MaxStale),
        (b"only-if-cached", Wish::OnlyIfCached),
        (b"stale-if-error", Wish::StaleIfError),
    ];

    fn of(name: &[u8]) -> Option<Wish> {
        find(&Wish::ALL, name)
    }
}

fn find<T: Copy>(all: &[(&[u8], T)], name: &[u8]) -> Option<T> {
    let mut all = all.iter();
    let found = all.find(|(wanted, _)| name.eq_ignore_ascii_case(wanted));
    found.map(|(_, value)| *value)
}

/// What follows a directive's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Argument {
    None,
    Seconds(u32),
    /// Anything else.
    Other,
}

impl Argument {
    fn of(text: &[u8]) -> Argument {
        seconds(text).map_or(Argument::Other, Argument::Seconds)
    }

    fn seconds(self) -> Option<u32> {
        match self {
            Argument::Seconds(seconds) => Some(seconds),
            Argument::None | Argument::Other => None,
        }
    }
}

/// RFC 9111 section 1.2.2: digits only; more than 2^31 - 1 is that.
pub(super) fn seconds(text: &[u8]) -> Option<u32> {
    if text.is_empty() {
        return None;
    }
    let seconds = text.iter().try_fold(0_u32, |seconds, byte| {
        let digit = u32::from(byte.wrapping_sub(b'0'));
        (digit < 10).then(|| seconds.saturating_mul(10).saturating_add(digit))
    })?;
    Some(seconds.min(SECONDS_MAX))
}

/// The shorter of what stands there and the argument; one that cannot be read is 0.
fn shorten(place: &mut Option<u32>, argument: Argument) {
    let seconds = argument.seconds().unwrap_or(0);
    *place = Some(place.map_or(seconds, |other| other.min(seconds)));
}

/// What a response has said so far.
#[derive(Debug, Default)]
pub(super) struct Said {
    directives: Directives,
    max_age_s: Option<u32>,
    s_maxage_s: Option<u32>,
}

impl Said {
    /// What forbids counts whatever its argument; what allows only as it should be.
    pub(super) fn take(&mut self, directive: Directive, argument: Argument) {
        let is_plain = argument == Argument::None;
        let said = &mut self.directives;
        match directive {
            Directive::NoStore => said.no_store = true,
            Directive::NoCache => said.no_cache = true,
            Directive::Private => said.private = true,
            Directive::Public => {
                said.public |= is_plain;
                said.for_authorized |= is_plain;
            }
            Directive::MustUnderstand => said.must_understand = true,
            Directive::MustRevalidate => {
                said.must_revalidate = true;
                said.for_authorized |= is_plain;
            }
            Directive::ProxyRevalidate => said.must_revalidate = true,
            Directive::MaxAge => {
                said.no_cache |= argument.seconds().is_none();
                shorten(&mut self.max_age_s, argument);
            }
            Directive::SMaxage => {
                said.no_cache |= argument.seconds().is_none();
                said.s_maxage = true;
                said.for_authorized |= argument.seconds().is_some();
                shorten(&mut self.s_maxage_s, argument);
            }
            Directive::StaleWhileRevalidate => {
                shorten(&mut said.stale_while_revalidate_s, argument);
            }
            Directive::StaleIfError => shorten(&mut said.stale_if_error_s, argument),
        }
    }

    fn together(self) -> Directives {
        Directives {
            lifetime_s: self.s_maxage_s.or(self.max_age_s),
            ..self.directives
        }
    }
}

/// The directives of one line, with their arguments: `1#( token [ "=" ( token / quoted-string ) ] )`.
///
/// Semicolons are found in place of commas: they end a directive too, so that none behind them is overlooked, but what
/// stands before one is not trusted. So with a string that has no end.
struct List<'b>(&'b [u8]);

impl<'b> Iterator for List<'b> {
    type Item = (&'b [u8], Argument);

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let name_end = self
            .0
            .iter()
            .position(|byte| matches!(byte, b',' | b';' | b'='));
        let (name, rest) = self.0.split_at(name_end.unwrap_or(self.0.len()));
        let (value, has_argument) = match rest {
            [b'=', value @ ..] => (value, true),
            [] | [_, ..] => (rest, false),
        };
        let quoted = if has_argument { string(value) } else { None };
        let quoted_end = quoted.map_or(0, |inside| inside.len() + 2);
        let behind = &value[quoted_end..];
        let end = behind.iter().position(|byte| matches!(byte, b',' | b';'));
        let end = quoted_end + end.unwrap_or(behind.len());
        self.0 = value.get(end + 1..).unwrap_or_default();
        // RFC 9111 section 5.2 has no white space around the `=`.
        let is_sound =
            value.get(end) != Some(&b';') && (!has_argument || !matches!(name, [.., b' ' | b'\t']));
        let argument = match quoted {
            _ if !is_sound => Argument::Other,
            Some(inside) if value[quoted_end..end].trim_ascii().is_empty() => Argument::of(inside),
            Some(_) => Argument::Other,
            None if has_argument => Argument::of(value[..end].trim_ascii_end()),
            None => Argument::None,
        };
        Some((name.trim_ascii(), argument))
    }
}

/// What stands between the quotes at the beginning, with its escapes (RFC 9110 section 5.6.4).
fn string(text: &[u8]) -> Option<&[u8]> {
    let text = text.strip_prefix(b"\"")?;
    let mut is_escaped = false;
    let end = text.iter().position(|byte| {
        let ends = *byte == b'"' && !is_escaped;
        is_escaped = *byte == b'\\' && !is_escaped;
        ends
    })?;
    Some(&text[..end])
}
