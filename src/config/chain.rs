//! The values that count in one place, as parts of a plan.
//!
//! Decides: which value counts (route over cluster over top level over default). May not know: TOML, the
//! environment, names, problems. Invariant: every key has a value of its kind, since the defaults come last.

use super::file::{Found, Settings};
use super::keys::Key;
use super::kinds::{CHECK_TYPES, CHOOSINGS, CheckType, Choosing, ENGINES};
use super::message::Edit;
use super::plan::{
    Breaking, Check, CheckKind, Cidr, Destination, HashKey, Nanos, Passive, Pool, Route, Server,
    Sticky, Timeouts, Webhook,
};
use super::value::Value;
use crate::policy::balance::Algorithm;
use crate::policy::filter::Filter;
use crate::policy::health::{Breaker, Rules};
use crate::policy::retry::{Causes, Retry};
use crate::policy::rewrite::ErrorPage;

const SECOND: Nanos = 1_000_000_000;

/// Settings in the order in which they count.
pub(super) struct Chain<'a>(pub(super) Vec<&'a Settings>);

impl<'a> Chain<'a> {
    pub(super) fn over(&self, nearer: &'a Settings) -> Chain<'a> {
        Chain(
            std::iter::once(nearer)
                .chain(self.0.iter().copied())
                .collect(),
        )
    }

    pub(super) fn value(&self, key: Key) -> &'a Value {
        let found: Option<&Found<Value>> = self.0.iter().find_map(|settings| settings.get(&key));
        &found.expect("the defaults have every key").value
    }

    pub(super) fn number(&self, key: Key) -> u64 {
        match self.value(key) {
            Value::Number(number) => *number,
            other => unreachable!("{key:?} is read as a number, found {other:?}"),
        }
    }

    pub(super) fn choice(&self, key: Key) -> usize {
        match self.value(key) {
            Value::Choice(at) => *at,
            other => unreachable!("{key:?} is read as a choice, found {other:?}"),
        }
    }

    pub(super) fn flag(&self, key: Key) -> bool {
        matches!(self.value(key), Value::Flag(true))
    }

    pub(super) fn number_or_unset(&self, key: Key) -> Option<u64> {
        match self.value(key) {
            Value::Unset => None,
            Value::Number(number) => Some(*number),
            other => unreachable!("{key:?} is read as a number or unset, found {other:?}"),
        }
    }

    pub(super) fn small_or_unset(&self, key: Key) -> Option<u32> {
        let number = self.number_or_unset(key)?;
        Some(u32::try_from(number).expect("the key's bound fits"))
    }

    pub(super) fn count(&self, key: Key) -> usize {
        usize::try_from(self.number(key)).expect("the key's bound fits")
    }

    pub(super) fn small(&self, key: Key) -> u32 {
        u32::try_from(self.number(key)).expect("the key's bound fits")
    }

    pub(super) fn text(&self, key: Key) -> Option<Box<str>> {
        if let Value::Text(text) = self.value(key) {
            Some(text.clone())
        } else {
            None
        }
    }

    pub(super) fn cidrs(&self, key: Key) -> &'a [Cidr] {
        match self.value(key) {
            Value::Cidrs(cidrs) => cidrs,
            other => unreachable!("{key:?} is read as blocks, found {other:?}"),
        }
    }

    pub(super) fn words(&self, key: Key) -> &'a [Box<str>] {
        match self.value(key) {
            Value::Words(words) => words,
            other => unreachable!("{key:?} is read as words, found {other:?}"),
        }
    }

    pub(super) fn edits(&self, key: Key) -> &'a [Edit] {
        match self.value(key) {
            Value::Edits(edits) => edits,
            other => unreachable!("{key:?} is read as edits, found {other:?}"),
        }
    }

    pub(super) fn server(&self) -> Server {
        Server {
            listen: match self.value(Key::ServerListen) {
                Value::Listens(listens) => listens.clone(),
                other => unreachable!("server.listen is a list of listeners, found {other:?}"),
            },
            shards: match self.value(Key::ServerShards) {
                Value::Number(shards) => {
                    Some(u16::try_from(*shards).expect("the key's bound fits"))
                }
                _ => None,
            },
            pin: self.flag(Key::ServerPin),
            engine: ENGINES[self.choice(Key::ServerEngine)],
            drain_timeout_ns: self.number(Key::ServerDrainTimeout),
            tcp_congestion: self.text(Key::ServerTcpCongestion),
        }
    }

    pub(super) fn pool(&self) -> Pool {
        Pool {
            idle_max: self.count(Key::PoolIdlePerShard),
            idle_process_max: self.count(Key::PoolIdleTotal),
            idle_ns: self.number(Key::PoolIdleTimeout),
            tcp_congestion: self.text(Key::PoolTcpCongestion),
        }
    }

    pub(super) fn algorithm(&self) -> Algorithm {
        match CHOOSINGS[self.choice(Key::Algorithm)] {
            Choosing::RoundRobin => Algorithm::RoundRobin,
            Choosing::LeastConnections => Algorithm::LeastConnections,
            Choosing::PowerOfTwo => Algorithm::PowerOfTwo,
            // A client stays where it is, however much it asks for.
            Choosing::IpHash => Algorithm::ConsistentHash {
                bound_percent: None,
            },
            Choosing::ConsistentHash => Algorithm::ConsistentHash {
                bound_percent: self.small_or_unset(Key::HashBound),
            },
            Choosing::Random => Algorithm::Random,
            Choosing::PeakEwma => Algorithm::PeakEwma,
        }
    }

    /// Where no key is set, none is looked at, or it is the address.
    pub(super) fn hash_key(&self) -> HashKey {
        match (
            CHOOSINGS[self.choice(Key::Algorithm)],
            self.value(Key::HashKey),
        ) {
            (Choosing::ConsistentHash, Value::HashKey(key)) => key.clone(),
            (
                Choosing::ConsistentHash
                | Choosing::RoundRobin
                | Choosing::LeastConnections
                | Choosing::PowerOfTwo
                | Choosing::IpHash
                | Choosing::Random
                | Choosing::PeakEwma,
                _,
            ) => HashKey::Ip,
        }
    }

    pub(super) fn sticky(&self) -> Option<Sticky> {
        let max_age_s = self.number(Key::StickyMaxAge) / SECOND;
        Some(Sticky {
            cookie: self.text(Key::StickyCookie)?,
            max_age_s: (max_age_s > 0).then_some(max_age_s),
        })
    }

    pub(super) fn rules(&self) -> Rules {
        Rules {
            rise: self.small(Key::CheckRise),
            fall: self.small(Key::CheckFall),
            errors_max: self.small(Key::PassiveErrors),
            eject_ns: self.number(Key::PassiveEjection),
            eject_max_ns: self.number(Key::PassiveEjectionMax),
            open_ns: self.number(Key::BreakerOpen),
            open_max_ns: self.number(Key::BreakerOpenMax),
            trials: self.small(Key::BreakerTrials),
            slow_start_ns: self.number(Key::SlowStart),
        }
    }

    pub(super) fn passive(&self) -> Passive {
        Passive {
            on: self.causes(Key::PassiveOn),
            share_percent: self.small(Key::PassiveShare),
        }
    }

    pub(super) fn breaking(&self) -> Option<Breaking> {
        self.flag(Key::BreakerEnabled).then(|| Breaking {
            on: self.causes(Key::BreakerOn),
            breaker: Breaker {
                percent: self.small(Key::BreakerRatio),
                volume: self.small(Key::BreakerVolume),
                window_ns: self.number(Key::BreakerWindow),
            },
        })
    }

    pub(super) fn check(&self) -> Option<Check> {
        let kind = match CHECK_TYPES[self.choice(Key::CheckType)] {
            CheckType::Off => return None,
            CheckType::Tcp => CheckKind::Tcp,
            CheckType::Http => CheckKind::Http {
                method: self.text(Key::CheckMethod).unwrap_or_default(),
                path: self.text(Key::CheckPath).unwrap_or_default(),
                host: self.text(Key::CheckHost),
                fields: match self.value(Key::CheckHeaders) {
                    Value::Headers(headers) => headers.clone(),
                    other => unreachable!("health_check.headers are fields, found {other:?}"),
                },
                statuses: match self.value(Key::CheckStatus) {
                    Value::Statuses(statuses) => statuses.clone(),
                    other => unreachable!("health_check.status are statuses, found {other:?}"),
                },
                body: self.text(Key::CheckBody).unwrap_or_default(),
            },
        };
        Some(Check {
            kind,
            interval_ns: self.number(Key::CheckInterval),
            timeout_ns: self.number(Key::CheckTimeout),
        })
    }

    pub(super) fn causes(&self, key: Key) -> Causes {
        match self.value(key) {
            Value::Causes(causes) => causes.clone(),
            other => unreachable!("{key:?} is read as causes, found {other:?}"),
        }
    }

    pub(super) fn webhook(&self) -> Option<Webhook> {
        if let Value::Webhook(webhook) = self.value(Key::Webhook) {
            Some(webhook.clone())
        } else {
            None
        }
    }

    pub(super) fn route(
        &self,
        name: Box<str>,
        destination: Destination,
        filters: Box<[Filter]>,
        error_pages: Box<[ErrorPage]>,
    ) -> Route {
        Route {
            name,
            destination,
            requests_max: self.small(Key::Requests),
            retry: Retry {
                on: self.causes(Key::RetryOn),
                attempts: self.small(Key::RetryAttempts),
                backoff_ns: self.number(Key::RetryBackoff),
            },
            body_bytes_max: self.number_or_unset(Key::Body),
            body_rate_min: self.number(Key::BodyRate),
            host: match self.value(Key::Host) {
                Value::Host(policy) => policy.clone(),
                other => unreachable!("forwarding.host is a policy, found {other:?}"),
            },
            timeouts: self.timeouts(),
            filters,
            rewrite: None,
            error_pages,
            mirror: None,
            requests_per_ip_max: self.small(Key::RequestsPerIp),
            buffer_bytes_max: self.number_or_unset(Key::BufferRequest),
            cache: None,
            response_rate_max: self.number(Key::ResponseRate),
            request_rate_max: self.number(Key::RequestRate),
        }
    }

    pub(super) fn timeouts(&self) -> Timeouts {
        let of = |key: Key| -> Nanos { self.number(key) };
        Timeouts {
            client_body_ns: of(Key::ClientBody),
            client_write_ns: of(Key::ClientWrite),
            connect_ns: of(Key::Connect),
            first_byte_ns: of(Key::FirstByte),
            backend_idle_ns: of(Key::BackendIdle),
            request_ns: of(Key::Request),
            tunnel_ns: of(Key::Tunnel),
        }
    }
}
