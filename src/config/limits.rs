//! Rate limits: of the section, and of lists.
//!
//! Decides: which limits a route has, what each is, and which could never do anything. May not know: how requests are
//! counted. Invariant: a limit that was written once is one limit, however many routes inherit it.

mod check;

use std::collections::HashMap;

pub(super) use check::check;

use super::chain::Chain;
use super::file::{File, Found, Route, Settings};
use super::keys::Key;
use super::kinds::{ACTIONS, FIELDS, KEY_PARTS_MAX, Kind, WHEN_FULLS};
use super::list::list;
use super::plan::Nanos;
use super::read::{Node, Odd, Raw};
use super::report::{At, Fault, Notes, nearest};
use super::units::parse_millionths;
use super::value::{Value, array, string, wrong_type};
use crate::policy::filter::Filter;
use crate::policy::limit::{KeyPart, LimitId, Mode, Quota, RateLimit};

pub(super) const SECTION: &str = "rate_limit";
pub(super) const LIST: &str = "rate_limits";

const RATES: [(Key, Nanos); 3] = [
    (Key::RatePerSecond, 1_000_000_000),
    (Key::RatePerMinute, 60_000_000_000),
    (Key::RatePerHour, 3_600_000_000_000),
];
const MILLION: u64 = 1_000_000;
const BURST_MAX: u64 = 1_000_000;
/// The word for no part at all.
const ALL: &str = "all";

pub(super) fn read_rate(node: &Node, kind: &Kind, period_s: u64) -> Result<Value, Fault> {
    let text = match &node.raw {
        Raw::Text { text, .. } if text == "off" => return Ok(Value::Unset),
        Raw::Text { text, loose: true } => text.trim().to_owned(),
        Raw::Text { text, loose: false } => {
            let fault = wrong_type(&kind.bounds(), &node.raw);
            return Err(match parse_millionths(text) {
                Some(_) => fault.hint(format!("write {text} without quotes")),
                None => fault.near(text, ["off"]),
            });
        }
        Raw::Integer(number) => number.to_string(),
        Raw::Other(Odd::Fraction(text)) => text.to_string(),
        raw @ (Raw::Flag(_) | Raw::List(_) | Raw::Table(_) | Raw::Other(Odd::Noun(_))) => {
            return Err(wrong_type(&kind.bounds(), raw));
        }
    };
    let (least, most) = Kind::rates(period_s);
    let fault = || Fault::new(format!("{text} is not {}", kind.bounds()));
    match parse_millionths(&text) {
        Some(number) if (least..=most).contains(&number) => Ok(Value::Number(number)),
        Some(0) => Err(fault().hint("write \"off\" for no limit")),
        Some(_) => Err(fault().hint("one request a microsecond at most, one a day at least")),
        None => Err(fault().hint("write digits, and up to six behind a point: 0.5")),
    }
}

/// What one limit counts apart.
pub(super) fn key(
    node: &Node,
    kind: &Kind,
    path: &str,
    notes: &mut Notes,
) -> Option<Box<[KeyPart]>> {
    if let Raw::Text { text, .. } = &node.raw
        && text == ALL
    {
        return Some(Box::default());
    }
    let parts = list(node, kind, path, KEY_PARTS_MAX, part, notes)?;
    if parts.is_empty() {
        let fault = Fault::new("the list is empty");
        notes.add(
            &node.at,
            path,
            fault.hint(format!("write \"{ALL}\" to count all requests as one")),
        );
        return None;
    }
    Some(parts.into())
}

fn part(text: &str) -> Result<KeyPart, Fault> {
    let (kind, name) = match text.split_once(':') {
        Some((kind, name)) => (kind, Some(name)),
        None => (text, None),
    };
    match (kind, name) {
        ("ip", None) => Ok(KeyPart::Ip),
        ("route", None) => Ok(KeyPart::Route),
        ("path", None) => Ok(KeyPart::Path),
        ("user", None) => Ok(KeyPart::User),
        ("header" | "cookie", Some(name)) if !super::address::is_token(name) => {
            Err(Fault::new(format!("\"{name}\" is no name of a {kind}")))
        }
        ("header", Some(name)) => Ok(KeyPart::Header(name.to_ascii_lowercase().into())),
        ("cookie", Some(name)) => Ok(KeyPart::Cookie(name.into())),
        (ALL, None) => Err(Fault::new(format!("\"{ALL}\" stands alone"))
            .hint("leave the other parts out, or this one")),
        (_, None) => Err(no_part(
            text,
            nearest(kind, ["ip", "route", "path", "user"]).map(str::to_owned),
        )),
        (_, Some(name)) => {
            let near = nearest(kind, ["header", "cookie"]);
            Err(no_part(text, near.map(|near| format!("{near}:{name}"))))
        }
    }
}

fn no_part(text: &str, guess: Option<String>) -> Fault {
    Fault::new(format!("\"{text}\" is no part of a key")).hint(match guess {
        Some(guess) => format!("did you mean \"{guess}\"?"),
        None => format!("it is {}", Kind::LimitKey.bounds()),
    })
}

pub(super) fn show_key(parts: &[KeyPart]) -> String {
    let show = |part: &KeyPart| match part {
        KeyPart::Ip => "ip".to_owned(),
        KeyPart::Route => "route".to_owned(),
        KeyPart::Path => "path".to_owned(),
        KeyPart::User => "user".to_owned(),
        KeyPart::Header(name) => format!("header:{name}"),
        KeyPart::Cookie(name) => format!("cookie:{name}"),
    };
    match parts {
        [] => string(ALL),
        [one] => string(&show(one)),
        many => array(many.iter().map(show)),
    }
}

/// A limit, where it was written.
pub(super) struct Written<'a> {
    /// `rate_limit`, `routes[2].rate_limits[0]`: one limit has one.
    path: String,
    at: &'a At,
    limit: RateLimit,
}

/// The limits that hold in a route, or in the one of the short form.
pub(super) fn of_route<'a>(
    file: &'a File,
    defaults: &'a Settings,
    route: Option<(usize, &'a Route)>,
) -> Vec<Written<'a>> {
    let top = Chain(vec![&file.settings, defaults]);
    let (prefix, name) = match route {
        Some((at, route)) => {
            let name = route.name.as_ref().map(|name| format!("{}.", name.value));
            let prefix = format!("routes[{at}].");
            let name = name.unwrap_or_else(|| prefix.clone());
            (prefix, name)
        }
        None => (String::new(), String::new()),
    };
    let own = route.filter(|(_, route)| sets_own(&route.settings));
    let section = match own {
        Some((_, route)) => section(&top.over(&route.settings), &prefix, &name),
        None => section(&top, "", ""),
    };
    let (prefix, name, list) = match route.and_then(|(_, route)| route.rate_limits.as_ref()) {
        Some(own) => (prefix.as_str(), name.as_str(), Some(own)),
        None => ("", "", file.rate_limits.as_ref()),
    };
    let each = list.into_iter().flatten().enumerate();
    let each = each.filter_map(|(at, limit)| {
        let chain = Chain(vec![&limit.settings, defaults]);
        let name = match &limit.name {
            Some(name) => name.value.clone(),
            None => format!("{name}{LIST}[{at}]"),
        };
        Some(Written {
            path: format!("{prefix}{LIST}[{at}]"),
            at: &limit.at,
            limit: rate_limit(&chain, &name)?.0,
        })
    });
    section.into_iter().chain(each).collect()
}

fn sets_own(settings: &Settings) -> bool {
    settings.keys().any(|key| key.section() == SECTION)
}

fn section<'a>(chain: &Chain<'a>, prefix: &str, name: &str) -> Option<Written<'a>> {
    let (limit, at) = rate_limit(chain, &format!("{name}{SECTION}"))?;
    Some(Written {
        path: format!("{prefix}{SECTION}"),
        at,
        limit,
    })
}

/// The rate that counts: the nearest level that names one, or says that there is none.
fn rate<'a>(chain: &Chain<'a>) -> Option<(&'a Found<Value>, u64, Nanos)> {
    for settings in &chain.0 {
        let named: Vec<_> = RATES
            .iter()
            .filter_map(|(key, period_ns)| Some((settings.get(key)?, *period_ns)))
            .collect();
        let rate = named.iter().find_map(|(found, period_ns)| {
            if let Value::Number(millionths) = found.value {
                Some((*found, millionths, *period_ns))
            } else {
                None
            }
        });
        if !named.is_empty() {
            return rate;
        }
    }
    None
}

fn rate_limit<'a>(chain: &Chain<'a>, name: &str) -> Option<(RateLimit, &'a At)> {
    let (found, millionths, period_ns) = rate(chain)?;
    let limit = RateLimit {
        name: name.into(),
        quota: quota(millionths, period_ns, chain.small_or_unset(Key::RateBurst)),
        key: match chain.value(Key::RateKey) {
            Value::LimitKey(parts) => parts.clone(),
            other => unreachable!("rate_limit.key is a key, found {other:?}"),
        },
        mode: match chain.choice(Key::RateMode) {
            // In the order of `MODE_NAMES`.
            0 => Mode::Exact,
            _ => Mode::Leased {
                lease: chain.small(Key::RateLease),
            },
        },
        action: ACTIONS[chain.choice(Key::RateAction)],
        shadow: chain.flag(Key::RateShadow),
        status: u16::try_from(chain.number(Key::RateStatus)).expect("the key's bound fits"),
        fields: FIELDS[chain.choice(Key::RateFields)],
        keys_max: chain.count(Key::RateKeys),
        when_full: WHEN_FULLS[chain.choice(Key::RateWhenFull)],
    };
    Some((limit, &found.at))
}

/// `millionths` of requests in a period. Without a burst it is the requests of one period.
fn quota(millionths: u64, period_ns: Nanos, burst: Option<u32>) -> Quota {
    let interval_ns = (u128::from(period_ns) * u128::from(MILLION)).div_ceil(millionths.into());
    let interval_ns = u64::try_from(interval_ns).expect("the rate's bound: a day at most");
    let auto = millionths.div_ceil(MILLION).min(BURST_MAX);
    let burst = burst.unwrap_or(u32::try_from(auto).expect("the minimum of both"));
    // Clients are told whole requests: of a rate below one, the time in which there is one.
    let (requests, period_ns) = match millionths / MILLION {
        0 => (1, interval_ns),
        requests => (requests, period_ns),
    };
    Quota {
        interval_ns,
        burst,
        period_ns,
        requests: u32::try_from(requests).expect("the rate's bound: 3.6e9 an hour"),
    }
}

/// Gives each limit that some route has one id.
#[derive(Default)]
pub(super) struct Ids {
    pub(super) limits: Vec<RateLimit>,
    ids: HashMap<String, LimitId>,
}

impl Ids {
    pub(super) fn filter(&mut self, written: Written<'_>) -> Filter {
        let is_by_user = written.is_by_user();
        let next = u32::try_from(self.limits.len()).expect("the number of limits is bounded");
        let id = *self.ids.entry(written.path).or_insert_with(|| {
            self.limits.push(written.limit);
            LimitId(next)
        });
        if is_by_user {
            Filter::UserLimit(id)
        } else {
            Filter::Limit(id)
        }
    }
}

impl Written<'_> {
    fn is_by_user(&self) -> bool {
        self.limit.key.contains(&KeyPart::User)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_becomes_a_quota() {
        const SECOND: u64 = 1_000_000_000;
        // Millionths, period in seconds, burst; interval, burst, requests, their period.
        for (millionths, period_s, burst, expected) in [
            (10_000_000, 1, None, (100_000_000, 10, 10, SECOND)),
            (10_000_000, 1, Some(3), (100_000_000, 3, 10, SECOND)),
            (3_000_000, 1, None, (333_333_334, 3, 3, SECOND)),
            (2_500_000, 1, None, (400_000_000, 3, 2, SECOND)),
            (500_000, 1, None, (2 * SECOND, 1, 1, 2 * SECOND)),
            (12, 1, None, (83_333_333_333_334, 1, 1, 83_333_333_333_334)),
            (100_000_000, 60, None, (600_000_000, 100, 100, 60 * SECOND)),
            (1_000_000, 3600, None, (3600 * SECOND, 1, 1, 3600 * SECOND)),
            (
                3_600_000_000_000_000,
                3600,
                None,
                (1000, 1_000_000, 3_600_000_000, 3600 * SECOND),
            ),
        ] {
            let found = quota(millionths, period_s * SECOND, burst);
            let found = (
                found.interval_ns,
                found.burst,
                found.requests,
                found.period_ns,
            );
            assert_eq!(found, expected, "{millionths} in {period_s} s");
        }
    }

    #[test]
    fn every_rate_that_is_taken_has_an_interval_in_bounds() {
        for (_, period_ns) in RATES {
            let (least, most) = Kind::rates(period_ns / 1_000_000_000);
            let interval = |millionths| quota(millionths, period_ns, None).interval_ns;
            assert_eq!(interval(most), 1_000);
            assert!(interval(least) <= 86_400_000_000_000);
            assert!((period_ns / 1_000) * MILLION / (least - 1) > 86_400_000_000);
        }
    }
}
