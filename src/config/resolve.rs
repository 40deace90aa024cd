//! A checked `File` → `Plan`.
//!
//! Decides: which value counts (route over cluster over top level over default), indexes for names.
//! May not know: TOML, the environment, problems. Invariant: it is called only for a file without problems.

use std::collections::HashMap;

use super::file::{Backend as FileBackend, File, Found, Settings};
use super::keys::{ENGINES, FORMATS, Key, LEVELS};
use super::plan::{Backend, Cluster, Forwarding, Log, Nanos, Plan, Pool, Route, Server, Timeouts};
use super::value::Value;
use crate::h1::Limits;
use crate::policy::balance::{Algorithm, Balance};
use crate::policy::route::{PathPattern, Router, Rule};
use crate::policy::{BackendId, ClusterId, RouteId};

/// The name of the cluster and of the route that the short form makes.
const SHORT_NAME: &str = "default";

/// The rules of all routes that could be read, each with its route's index.
pub(super) fn rules(file: &File) -> (Vec<Rule>, Vec<usize>) {
    let rule = |at: usize, route: &super::file::Route| {
        Some(Rule {
            hosts: route.hosts.clone()?,
            path: route.path.clone()?,
            methods: route.methods.clone()?,
            route: RouteId(index(at)),
        })
    };
    let each = file.routes.iter().enumerate();
    each.filter_map(|(at, route)| Some((rule(at, route)?, at)))
        .unzip()
}

pub(super) fn plan(file: &File, defaults: &Settings) -> Plan {
    let top = Chain(vec![&file.settings, defaults]);
    let mut clusters = Clusters::default();
    let (rules, routes) = match &file.backends {
        Some(backends) => {
            let cluster = clusters.add(SHORT_NAME, &backends.value, &top);
            let everything = Rule {
                hosts: Vec::new(),
                path: PathPattern::Prefix("/".into()),
                methods: Vec::new(),
                route: RouteId(0),
            };
            (
                vec![everything],
                vec![top.route(SHORT_NAME.into(), cluster)],
            )
        }
        None => {
            let names = long_clusters(file, &top, &mut clusters);
            (rules(file).0, long_routes(file, &top, &names))
        }
    };
    Plan {
        server: top.server(),
        admin: if let Value::Socket(address) = top.value(Key::AdminListen) {
            Some(*address)
        } else {
            None
        },
        log: Log {
            level: LEVELS[top.choice(Key::LogLevel)],
            access: top.flag(Key::LogAccess),
            format: FORMATS[top.choice(Key::LogFormat)],
        },
        limits: Limits {
            header_bytes: top.count(Key::HeaderBytes),
            header_count: top.count(Key::HeaderCount),
            request_line: top.count(Key::RequestLine),
        },
        connections_max: top.small(Key::Connections),
        connection_requests_max: top.small(Key::ConnectionRequests),
        client_header_ns: top.number(Key::ClientHeader),
        keepalive_ns: top.number(Key::Keepalive),
        forwarding: Forwarding {
            trusted_proxies: match top.value(Key::TrustedProxies) {
                Value::Cidrs(cidrs) => cidrs.clone(),
                other => unreachable!("trusted_proxies are blocks, found {other:?}"),
            },
            via: top.text(Key::Via).unwrap_or_default(),
        },
        router: Router::build(rules),
        routes,
        clusters: clusters.clusters,
        backends: clusters.backends,
    }
}

/// Adds the clusters and gives each name's index with its settings.
fn long_clusters<'a>(
    file: &'a File,
    top: &Chain<'a>,
    clusters: &mut Clusters,
) -> HashMap<&'a str, (ClusterId, &'a Settings)> {
    let mut names = HashMap::new();
    for cluster in &file.clusters {
        let (Some(name), Some(backends)) = (&cluster.name, &cluster.backends) else {
            continue;
        };
        let id = clusters.add(&name.value, &backends.value, &top.over(&cluster.settings));
        names.insert(name.value.as_str(), (id, &cluster.settings));
    }
    names
}

fn long_routes(
    file: &File,
    top: &Chain<'_>,
    names: &HashMap<&str, (ClusterId, &Settings)>,
) -> Vec<Route> {
    let route = |(at, route): (usize, &super::file::Route)| {
        let cluster = route.cluster.as_ref()?.value.as_str();
        let (cluster, settings) = names.get(cluster)?;
        let name = route
            .name
            .as_ref()
            .map_or_else(|| format!("routes[{at}]"), |name| name.value.clone());
        Some(
            top.over(settings)
                .over(&route.settings)
                .route(name.into(), *cluster),
        )
    };
    file.routes.iter().enumerate().filter_map(route).collect()
}

#[derive(Default)]
struct Clusters {
    clusters: Vec<Cluster>,
    backends: Vec<Backend>,
}

impl Clusters {
    fn add(&mut self, name: &str, backends: &[FileBackend], chain: &Chain<'_>) -> ClusterId {
        let cluster = ClusterId(index(self.clusters.len()));
        let mut members = Vec::with_capacity(backends.len());
        for backend in backends {
            let Some((address, authority)) = &backend.address else {
                continue;
            };
            let weight = backend.weight.unwrap_or(1);
            let id = BackendId(index(self.backends.len()));
            members.push((id, backend.url.as_str(), weight));
            self.backends.push(Backend {
                cluster,
                url: backend.url.as_str().into(),
                address: address.clone(),
                authority: authority.clone(),
                weight,
            });
        }
        self.clusters.push(Cluster {
            name: name.into(),
            backends: members.iter().map(|(id, _, _)| *id).collect(),
            // Both algorithms that exist are this one.
            balance: Balance::new(Algorithm::RoundRobin, &members)
                .expect("a checked cluster has a backend with a weight"),
            pool: chain.pool(),
        });
        cluster
    }
}

/// Settings in the order in which they count.
struct Chain<'a>(Vec<&'a Settings>);

impl<'a> Chain<'a> {
    fn over(&self, nearer: &'a Settings) -> Chain<'a> {
        Chain(
            std::iter::once(nearer)
                .chain(self.0.iter().copied())
                .collect(),
        )
    }

    fn value(&self, key: Key) -> &'a Value {
        let found: Option<&Found<Value>> = self.0.iter().find_map(|settings| settings.get(&key));
        &found.expect("the defaults have every key").value
    }

    fn number(&self, key: Key) -> u64 {
        match self.value(key) {
            Value::Number(number) => *number,
            other => unreachable!("{key:?} is read as a number, found {other:?}"),
        }
    }

    fn choice(&self, key: Key) -> usize {
        match self.value(key) {
            Value::Choice(at) => *at,
            other => unreachable!("{key:?} is read as a choice, found {other:?}"),
        }
    }

    fn flag(&self, key: Key) -> bool {
        matches!(self.value(key), Value::Flag(true))
    }

    fn count(&self, key: Key) -> usize {
        usize::try_from(self.number(key)).expect("the key's bound fits")
    }

    fn small(&self, key: Key) -> u32 {
        u32::try_from(self.number(key)).expect("the key's bound fits")
    }

    fn text(&self, key: Key) -> Option<Box<str>> {
        if let Value::Text(text) = self.value(key) {
            Some(text.clone())
        } else {
            None
        }
    }

    fn server(&self) -> Server {
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

    fn pool(&self) -> Pool {
        Pool {
            idle_max: self.count(Key::PoolIdlePerShard),
            idle_process_max: self.count(Key::PoolIdleTotal),
            idle_ns: self.number(Key::PoolIdleTimeout),
            tcp_congestion: self.text(Key::PoolTcpCongestion),
        }
    }

    fn route(&self, name: Box<str>, cluster: ClusterId) -> Route {
        Route {
            name,
            cluster,
            body_bytes_max: if let Value::Number(bytes) = self.value(Key::Body) {
                Some(*bytes)
            } else {
                None
            },
            body_rate_min: self.number(Key::BodyRate),
            host: match self.value(Key::Host) {
                Value::Host(policy) => policy.clone(),
                other => unreachable!("forwarding.host is a policy, found {other:?}"),
            },
            timeouts: self.timeouts(),
        }
    }

    fn timeouts(&self) -> Timeouts {
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

fn index(at: usize) -> u32 {
    u32::try_from(at).expect("the number of clusters, routes and backends is bounded")
}
