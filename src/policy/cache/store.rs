//! Whether a response may be stored.
//!
//! Decides: by RFC 9111 section 3 and the route's rules. May not know: whether there is room. Invariant: a response that
//! is meant for one user is refused whatever else it says.

use super::conditional::Validators;
use super::control::{self, Directives};
use super::fields::named;
use super::fresh::{self, Terms};
use super::{Rules, date, vary};
use crate::h1::head::{Request, Response};
use crate::policy::Nanos;

/// A day: longer guesses should be told as such (RFC 9111 section 4.2.2), and there is no field for that any more.
const HEURISTIC_MAX_S: u64 = 86_400;

const SECOND_NS: Nanos = 1_000_000_000;

/// Why a response is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unstorable {
    NoStore,
    Private,
    /// The request had Authorization, and the response does not say that it is for all (RFC 9111 section 3.5).
    Authorization,
    SetCookie,
    /// `Vary: *`, or one that nobody can read.
    Vary,
    /// 206, 304, or a status without explicit freshness that is not cacheable by default.
    Status,
    /// No lifetime, and nothing to validate it by.
    Lifetime,
    /// Longer than the route stores.
    TooLarge,
}

impl Unstorable {
    /// As it stands in Cache-Status and in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Unstorable::NoStore => "no_store",
            Unstorable::Private => "private",
            Unstorable::Authorization => "authorization",
            Unstorable::SetCookie => "set_cookie",
            Unstorable::Vary => "vary",
            Unstorable::Status => "status",
            Unstorable::Lifetime => "lifetime",
            Unstorable::TooLarge => "too_large",
        }
    }
}

/// When a response came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Came {
    pub at: Nanos,
    /// Seconds since 1970.
    pub unix_s: u64,
    /// Between the request and the response.
    pub delay_ns: Nanos,
}

/// The terms on which the response to a GET is stored. `authorized`: the request had Authorization.
pub fn admit(
    rules: &Rules,
    authorized: bool,
    response: &Response<'_, '_>,
    came: Came,
) -> Result<Terms, Unstorable> {
    let says = control::directives(response, rules.cdn_cache_control);
    refuse(rules, authorized, response, &says)?;
    let validators = Validators::of(response);
    let lifetime_s = lifetime_s(rules, response, &says, &validators, came)?;
    // RFC 9111 section 5.2.2.10: s-maxage says what proxy-revalidate says. Where the same response names a time for
    // stale use, that was meant: `s-maxage=60, stale-while-revalidate=600` is what many frameworks send.
    let window_s = |said: Option<u32>, rule: u32| match (says.must_revalidate, says.s_maxage) {
        (true, _) => 0,
        (false, true) => fresh::capped_s(said.unwrap_or(0).into()),
        (false, false) => fresh::capped_s(said.unwrap_or(rule).into()),
    };
    let terms = Terms {
        at: came.at,
        age_s: age_s(response, &validators, came),
        lifetime_s: lifetime_s.unwrap_or(0),
        stale_while_revalidate_s: window_s(
            says.stale_while_revalidate_s,
            rules.stale_while_revalidate_s,
        ),
        stale_if_error_s: window_s(says.stale_if_error_s, rules.stale_if_error_s),
        must_revalidate: says.must_revalidate || says.s_maxage,
        no_cache: says.no_cache || lifetime_s.is_none(),
    };
    if terms.serves_unasked() || validators.can_ask() {
        Ok(terms)
    } else {
        Err(Unstorable::Lifetime)
    }
}

/// The request had Authorization.
pub fn is_authorized(request: &Request<'_, '_>) -> bool {
    named(request.headers, "authorization").next().is_some()
}

/// What forbids storing, whatever the lifetime.
fn refuse(
    rules: &Rules,
    authorized: bool,
    response: &Response<'_, '_>,
    says: &Directives,
) -> Result<(), Unstorable> {
    // RFC 9111 section 5.2.2.3: where the status is known, `no-store` is for caches that do not know `must-understand`.
    let is_excepted = says.must_understand && is_understood(response.status);
    let has_cookie = || named(response.headers, "set-cookie").next().is_some();
    if says.no_store && !is_excepted {
        Err(Unstorable::NoStore)
    } else if says.private {
        Err(Unstorable::Private)
    } else if authorized && !says.for_authorized {
        Err(Unstorable::Authorization)
    } else if !rules.set_cookie && has_cookie() {
        Err(Unstorable::SetCookie)
    } else if vary::is_anything(response) {
        Err(Unstorable::Vary)
    } else if matches!(response.status, ..200 | 206 | 304)
        || says.must_understand && !is_understood(response.status)
    {
        Err(Unstorable::Status)
    } else {
        Ok(())
    }
}

/// RFC 9110 section 15.1, without 206: we store no parts.
fn is_cacheable_by_default(status: u16) -> bool {
    matches!(
        status,
        200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501
    )
}

/// What these statuses ask of caches is what we do (RFC 9111 section 3).
fn is_understood(status: u16) -> bool {
    is_cacheable_by_default(status) || matches!(status, 302 | 303 | 307)
}

/// RFC 9111 section 4.2.1, then what the route says; `None`: there is none that can be read.
fn lifetime_s(
    rules: &Rules,
    response: &Response<'_, '_>,
    says: &Directives,
    validators: &Validators<'_>,
    came: Came,
) -> Result<Option<u32>, Unstorable> {
    let date_s = validators.date_s.unwrap_or(came.unix_s);
    if says.lifetime_s.is_some() {
        return Ok(says.lifetime_s);
    }
    if !says.targeted && named(response.headers, "expires").next().is_some() {
        return Ok(expires_in_s(response, date_s));
    }
    let mut by_status = rules.status_ttls.iter();
    if let Some((_, ttl_s)) = by_status.find(|(status, _)| *status == response.status) {
        return Ok(Some(fresh::capped_s(u64::from(*ttl_s))));
    }
    // RFC 9111 section 4.2.2: `public` makes any status cacheable.
    let by_default = is_cacheable_by_default(response.status);
    if !by_default && !says.public {
        return Err(Unstorable::Status);
    }
    let guess = validators.last_modified_s.filter(|_| rules.heuristics);
    let guess = guess.map(|modified_s| {
        let tenth_s = date_s.saturating_sub(modified_s) / 10;
        tenth_s.min(HEURISTIC_MAX_S) as u32
    });
    let default = rules.default_ttl_s.filter(|_| by_default);
    Ok(guess.or(default.map(|ttl_s| fresh::capped_s(u64::from(ttl_s)))))
}

/// Expires less Date; `None`: it cannot be read, or several lines differ. That is as good as past (RFC 9111 sections 5.3
/// and 4.2.1), and must not be worth more than no Expires.
fn expires_in_s(response: &Response<'_, '_>, date_s: u64) -> Option<u32> {
    let mut lines = named(response.headers, "expires");
    let first = lines.next()?;
    if !lines.all(|line| line == first) {
        return None;
    }
    Some(fresh::capped_s(date::parse(first)?.saturating_sub(date_s)))
}

/// RFC 9111 section 4.2.3: corrected_initial_age.
fn age_s(response: &Response<'_, '_>, validators: &Validators<'_>, came: Came) -> u32 {
    // Date in the future: the clocks differ.
    let apparent_s = validators
        .date_s
        .map_or(0, |date_s| came.unix_s.saturating_sub(date_s));
    let told_s = u64::from(told_age_s(response).unwrap_or(0));
    let delay_s = came.delay_ns / SECOND_NS;
    fresh::capped_s(apparent_s.max(told_s.saturating_add(delay_s)))
}

/// RFC 9111 section 5.1: of a list the first member counts, and what is no count of seconds does not. Parameters, which
/// it cannot have, take nothing from its value: to ignore them with it would make the response younger.
fn told_age_s(response: &Response<'_, '_>) -> Option<u32> {
    let line = named(response.headers, "age").next()?;
    let first = line.split(|byte| matches!(byte, b',' | b';')).next()?;
    control::seconds(first.trim_ascii())
}
