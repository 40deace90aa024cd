//! The settings that count for a route → its filters, and how it caches.
//!
//! Decides: which filters a route has, what each does, and which routes share them. May not know: TOML, the environment, problems. Invariant:
//! filters stand in the order of their ranks; what is off is not there; routes that inherit the same settings share what
//! was made of them.

use std::collections::HashMap;
use std::sync::Arc;

use super::access;
use super::cache;
use super::chain::Chain;
use super::keys::Key;
use super::kinds::{ACCEPTS, CODINGS};
use super::message::Edit;
use super::value::Value;
use crate::policy::ClusterId;
use crate::policy::cache::Rules;
use crate::policy::filter::Filter;
use crate::policy::filter::address::Address;
use crate::policy::filter::api_key::ApiKey;
use crate::policy::filter::basic::Basic;
use crate::policy::filter::compress::{Coding, Compress};
use crate::policy::filter::cors::Cors;
use crate::policy::filter::forward_auth::ForwardAuth;
use crate::policy::filter::headers::{Edits, Headers, hsts_value};
use crate::policy::filter::jwt::Jwt;
use crate::policy::filter::request_id::RequestId;

const SECOND: u64 = 1_000_000_000;
/// Any field that a browser asks for.
pub(super) const ANY: &str = "*";

/// The filters of all routes. There may be 50,000 routes, and 10,000 users of one list.
pub(super) struct Filters {
    /// Keys by section.
    sections: HashMap<&'static str, Vec<Key>>,
    address: Shared<Address>,
    cors: Shared<Cors>,
    basic: Shared<Basic>,
    api_key: Shared<ApiKey>,
    jwt: Shared<Jwt>,
    forward_auth: Shared<ForwardAuth>,
    headers: Shared<Headers>,
    compress: Shared<Compress>,
    cache: Shared<Rules>,
}

/// What was made of one section, by the places of the values that count.
type Shared<T> = HashMap<Vec<usize>, Option<Arc<T>>>;

impl Default for Filters {
    fn default() -> Self {
        let mut sections: HashMap<_, Vec<_>> = HashMap::new();
        for key in Key::settings() {
            sections.entry(key.section()).or_default().push(key);
        }
        Filters {
            sections,
            address: Shared::new(),
            cors: Shared::new(),
            basic: Shared::new(),
            api_key: Shared::new(),
            jwt: Shared::new(),
            forward_auth: Shared::new(),
            headers: Shared::new(),
            compress: Shared::new(),
            cache: Shared::new(),
        }
    }
}

impl Filters {
    /// All filters of a route; `limits` are those of its rate limits.
    pub(super) fn of(
        &mut self,
        chain: &Chain<'_>,
        limits: Vec<Filter>,
        cluster: &dyn Fn(&str) -> Option<ClusterId>,
    ) -> Box<[Filter]> {
        let mut filters = limits;
        filters.extend(request_id(chain).map(Filter::RequestId));
        let access = self.places("access", chain);
        let found = shared(&mut self.address, &access, || address(chain));
        filters.extend(found.map(Filter::Address));
        let found = shared(&mut self.basic, &access, || access::basic(chain));
        filters.extend(found.map(Filter::Basic));
        let found = shared(&mut self.api_key, &access, || access::api_key_of(chain));
        filters.extend(found.map(Filter::ApiKey));
        let found = shared(&mut self.jwt, &access, || access::jwt(chain));
        filters.extend(found.map(Filter::Jwt));
        let make = || forward_auth(chain, cluster);
        let found = shared(&mut self.forward_auth, &access, make);
        filters.extend(found.map(Filter::ForwardAuth));
        let places = self.places("cors", chain);
        let found = shared(&mut self.cors, &places, || cors(chain));
        filters.extend(found.map(Filter::Cors));
        let places = self.places("headers", chain);
        let found = shared(&mut self.headers, &places, || headers(chain));
        filters.extend(found.map(Filter::Headers));
        let places = self.places("compression", chain);
        let found = shared(&mut self.compress, &places, || compress(chain));
        filters.extend(found.map(Filter::Compress));
        // Stable: limits stay in the order in which they were written.
        filters.sort_by_key(Filter::rank);
        filters.into()
    }

    /// How a route caches, if it does.
    pub(super) fn cache(&mut self, chain: &Chain<'_>) -> Option<Arc<Rules>> {
        let places = self.places(cache::SECTION, chain);
        shared(&mut self.cache, &places, || cache::rules(chain))
    }

    /// Two routes have the same value if it stands in the same place.
    fn places(&self, section: &str, chain: &Chain<'_>) -> Vec<usize> {
        let place = |key: &Key| std::ptr::from_ref(chain.value(*key)).addr();
        self.sections[section].iter().map(place).collect()
    }
}

fn shared<T>(
    made: &mut Shared<T>,
    places: &[usize],
    make: impl FnOnce() -> Option<T>,
) -> Option<Arc<T>> {
    if let Some(found) = made.get(places) {
        return found.clone();
    }
    let found = make().map(Arc::new);
    made.insert(places.to_vec(), found.clone());
    found
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

fn address(chain: &Chain<'_>) -> Option<Address> {
    let (allow, deny) = (chain.cidrs(Key::Allow), chain.cidrs(Key::Deny));
    let is_open = allow.is_empty() && deny.is_empty();
    (!is_open).then(|| Address::new(allow, deny))
}

fn forward_auth(
    chain: &Chain<'_>,
    cluster: &dyn Fn(&str) -> Option<ClusterId>,
) -> Option<ForwardAuth> {
    let lower = |name: &str| Box::from(name.to_ascii_lowercase());
    let copied = chain.words(Key::AuthCopy).iter();
    Some(ForwardAuth {
        cluster: cluster(&chain.text(Key::AuthCluster)?)?,
        path: chain.text(Key::AuthPath)?,
        copy: copied.map(|name| lower(name)).collect(),
        timeout_ns: chain.number(Key::AuthTimeout),
    })
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
    let request = [Key::RequestSet, Key::RequestAdd, Key::RequestRemove];
    let response = [Key::ResponseSet, Key::ResponseAdd, Key::ResponseRemove];
    let (request, response) = (edits(chain, request), edits(chain, response));
    let (hsts, security) = ((hsts_s > 0).then(value), chain.flag(Key::Security));
    let does_nothing = |edits: &Edits| edits.drop.is_empty() && edits.write.is_empty();
    let is_idle = does_nothing(&request) && does_nothing(&response) && hsts.is_none() && !security;
    (!is_idle).then(|| Headers::new(request, response, hsts, security))
}

fn edits(chain: &Chain<'_>, [set, add, remove]: [Key; 3]) -> Edits {
    let (set, add) = (chain.edits(set), chain.edits(add));
    let lower = |name: &str| Box::from(name.to_ascii_lowercase());
    let removed = chain.words(remove).iter().map(|name| lower(name));
    let replaced = set.iter().map(|edit| lower(&edit.name));
    let write = |edit: &Edit| (edit.name.clone(), edit.value.clone());
    Edits::new(
        removed.chain(replaced).collect(),
        set.iter().chain(add).map(write).collect(),
    )
}

fn compress(chain: &Chain<'_>) -> Option<Compress> {
    let Value::Choices(codings) = chain.value(Key::Codings) else {
        unreachable!("compression.codings are choices")
    };
    let level = |at: &usize| {
        let coding = CODINGS[*at];
        let level = chain.number(match coding {
            Coding::Gzip => Key::GzipLevel,
            Coding::Brotli => Key::BrotliLevel,
            Coding::Zstd => Key::ZstdLevel,
        });
        (coding, u8::try_from(level).expect("the key's bound fits"))
    };
    chain.flag(Key::Compression).then(|| Compress {
        codings: codings.iter().map(level).collect(),
        min_bytes: chain.number(Key::CompressMinSize),
        types: chain.words(Key::MediaTypes).into(),
    })
}
