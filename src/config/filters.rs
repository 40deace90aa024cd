//! The settings that count for a route → its filters.
//!
//! Decides: which filters a route has, and what each does. May not know: TOML, the environment, problems, names of
//! clusters. Invariant: filters stand in the order of their ranks; what is off is not there.

use super::chain::Chain;
use super::keys::Key;
use super::kinds::ACCEPTS;
use super::message::Edit;
use super::value::Value;
use crate::policy::filter::Filter;
use crate::policy::filter::cors::Cors;
use crate::policy::filter::headers::{Edits, Headers, hsts_value};
use crate::policy::filter::request_id::RequestId;

const SECOND: u64 = 1_000_000_000;
/// Any field that a browser asks for.
pub(super) const ANY: &str = "*";

/// All filters of a route; `limits` are those of its rate limits.
pub(super) fn filters(chain: &Chain<'_>, limits: Vec<Filter>) -> Box<[Filter]> {
    let mut filters = limits;
    filters.extend(request_id(chain).map(Filter::RequestId));
    filters.extend(cors(chain).map(Filter::Cors));
    filters.extend(headers(chain).map(Filter::Headers));
    // Stable: limits stay in the order in which they were written.
    filters.sort_by_key(Filter::rank);
    filters.into()
}

fn request_id(chain: &Chain<'_>) -> Option<RequestId> {
    let id = RequestId {
        header: chain.text(Key::IdHeader),
        accept: ACCEPTS[chain.choice(Key::IdAccept)],
        respond: chain.flag(Key::IdRespond),
        traceparent: chain.flag(Key::Traceparent),
    };
    (id.header.is_some() || id.traceparent).then_some(id)
}

fn cors(chain: &Chain<'_>) -> Option<Cors> {
    let Value::Origins(origins) = chain.value(Key::CorsOrigins) else {
        unreachable!("cors.origins are origins")
    };
    if origins.is_empty() {
        return None;
    }
    let headers = chain.words(Key::CorsHeaders);
    let is_any = headers.iter().any(|name| **name == *ANY);
    let max_age_s = chain.number(Key::CorsMaxAge) / SECOND;
    Some(Cors {
        origins: origins.clone().into(),
        methods: chain.words(Key::CorsMethods).join(", ").into(),
        headers: (!is_any).then(|| headers.join(", ").into()),
        exposed: chain.words(Key::CorsExposedHeaders).join(", ").into(),
        credentials: chain.flag(Key::CorsCredentials),
        max_age_s: (max_age_s > 0).then_some(max_age_s),
    })
}

fn headers(chain: &Chain<'_>) -> Option<Headers> {
    let hsts_s = chain.number(Key::Hsts) / SECOND;
    let value = || {
        let (subdomains, preload) = (
            chain.flag(Key::HstsSubdomains),
            chain.flag(Key::HstsPreload),
        );
        hsts_value(hsts_s, subdomains, preload).into()
    };
    let headers = Headers {
        request: edits(
            chain,
            [Key::RequestSet, Key::RequestAdd, Key::RequestRemove],
        ),
        response: edits(
            chain,
            [Key::ResponseSet, Key::ResponseAdd, Key::ResponseRemove],
        ),
        hsts: (hsts_s > 0).then(value),
        security: chain.flag(Key::Security),
    };
    let does_nothing = |edits: &Edits| edits.drop.is_empty() && edits.write.is_empty();
    let is_idle = does_nothing(&headers.request)
        && does_nothing(&headers.response)
        && headers.hsts.is_none()
        && !headers.security;
    (!is_idle).then_some(headers)
}

fn edits(chain: &Chain<'_>, [set, add, remove]: [Key; 3]) -> Edits {
    let (set, add) = (chain.edits(set), chain.edits(add));
    let lower = |name: &str| Box::from(name.to_ascii_lowercase());
    let removed = chain.words(remove).iter().map(|name| lower(name));
    let replaced = set.iter().map(|edit| lower(&edit.name));
    let write = |edit: &Edit| (edit.name.clone(), edit.value.clone());
    Edits {
        drop: removed.chain(replaced).collect(),
        write: set.iter().chain(add).map(write).collect(),
    }
}
