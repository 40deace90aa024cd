//! A checked `File` → `Plan`.
//!
//! Decides: which value counts (route over cluster over top level over default), indexes for names.
//! May not know: TOML, the environment, problems. Invariant: it is called only for a file without problems.

use std::collections::HashMap;

use super::cache;
use super::chain::Chain;
use super::file::{Answering, Backend as FileBackend, File, Route as FileRoute, Settings};
use super::filters::Filters;
use super::keys::Key;
use super::kinds::{ALL_DOWNS, AllDown, CLIENT_FIELDS, FORMATS, LEVELS};
use super::limits;
use super::matching;
use super::pages;
use super::plan::{Backend, Cluster, Destination, Forwarding, Log, Mirror, Plan, Route, Split};
use super::value::Value;
use crate::h1::Limits;
use crate::policy::adaptive;
use crate::policy::balance::{Balance, hash, round};
use crate::policy::filter::Filter;
use crate::policy::filter::template::Template;
use crate::policy::retry::Budget;
use crate::policy::rewrite::Own;
use crate::policy::route::{Conditions, PathPattern, Router, Rule};
use crate::policy::{BackendId, ClusterId, RouteId};

/// The name of the cluster and of the route that the short form makes.
pub(super) const SHORT_NAME: &str = "default";

/// The rules of all routes that could be read, each with its route's index.
pub(super) fn rules(file: &File) -> (Vec<Rule>, Vec<usize>) {
    let rule = |at: usize, route: &FileRoute| {
        Some(Rule {
            hosts: route.hosts.clone()?,
            path: route.path.clone()?,
            methods: route.methods.clone()?,
            conditions: route.conditions.clone()?,
            priority: route.priority.as_ref().map_or(0, |found| found.value),
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
    let mut routes = Routes {
        file,
        defaults,
        names: HashMap::new(),
        limits: limits::Ids::default(),
        filters: Filters::default(),
    };
    let (rules, routes, rate_limits) = match &file.backends {
        Some(backends) => {
            let cluster = clusters.add(SHORT_NAME, &backends.value, &top);
            routes.names.insert(SHORT_NAME, (cluster, &file.settings));
            let everything = Rule {
                hosts: Vec::new(),
                path: PathPattern::Prefix("/".into()),
                methods: Vec::new(),
                conditions: Conditions::default(),
                priority: 0,
                route: RouteId(0),
            };
            let route = routes.short(cluster, &top);
            (vec![everything], vec![route], routes.limits.limits)
        }
        None => {
            routes.names = long_clusters(file, &top, &mut clusters);
            let each = file.routes.iter().enumerate();
            let all = each.filter_map(|(at, route)| routes.long(at, route));
            (rules(file).0, all.collect(), routes.limits.limits)
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
            trusted_proxies: top.cidrs(Key::TrustedProxies).into(),
            via: top.text(Key::Via).unwrap_or_default(),
            forwarded: top.flag(Key::Forwarded),
            client_field: CLIENT_FIELDS[top.choice(Key::ClientField)],
        },
        connections_per_ip_max: top.small(Key::ConnectionsPerIp),
        accepts_per_ip_max: top.small(Key::AcceptsPerIp),
        rate_limits,
        router: Router::build(rules),
        cache: cache::budget(&top, &routes),
        routes,
        error_pages: pages::plan(&file.error_pages).collect(),
        clusters: clusters.clusters,
        backends: clusters.backends,
        budget: Budget {
            percent: top.small(Key::RetryBudget),
            least: top.small(Key::RetryBudgetLeast),
        },
        webhook: top.webhook(),
        stuck_ns: top.number(Key::Stuck),
    }
}

/// Adds the clusters and gives each name's index with its settings.
fn long_clusters<'a>(file: &'a File, top: &Chain<'a>, clusters: &mut Clusters) -> Names<'a> {
    let mut names = HashMap::new();
    for cluster in &file.clusters {
        let (Some(name), Some(backends)) = (&cluster.name, &cluster.backends) else {
            continue;
        };
        let id = clusters.add(&name.value, &backends.value, &top.over(&cluster.settings));
        names.insert(name.value.as_str(), (id, &cluster.settings));
    }
    for cluster in &file.clusters {
        let (Some(name), Some(failover)) = (&cluster.name, &cluster.failover) else {
            continue;
        };
        let id = |name: &str| names.get(name).map(|(id, _)| *id);
        if let (Some(id), Some(failover)) = (id(&name.value), id(&failover.value)) {
            clusters.clusters[id.0 as usize].failover = Some(failover);
        }
    }
    names
}

/// What routes are made of, and what they share.
struct Routes<'a> {
    file: &'a File,
    defaults: &'a Settings,
    names: Names<'a>,
    limits: limits::Ids,
    filters: Filters,
}

impl<'a> Routes<'a> {
    fn short(&mut self, cluster: ClusterId, top: &Chain<'a>) -> Route {
        let filters = self.filters(top, None);
        let destination = Destination::One(cluster);
        let pages = pages::plan(&self.file.error_pages).collect();
        Route {
            cache: self.filters.cache(top),
            ..top.route(SHORT_NAME.into(), destination, filters, pages)
        }
    }

    fn long(&mut self, at: usize, route: &'a FileRoute) -> Option<Route> {
        let top = Chain(vec![&self.file.settings, self.defaults]);
        let (destination, cluster) = match &route.own {
            Some(own) => (Destination::Own(own_answer(&own.value)), None),
            None => {
                let (destination, settings) = destination(route, &self.names)?;
                (destination, Some(settings))
            }
        };
        let chain = cluster.map_or_else(|| Chain(top.0.clone()), |cluster| top.over(cluster));
        let chain = chain.over(&route.settings);
        let name = route
            .name
            .as_ref()
            .map_or_else(|| format!("routes[{at}]"), |name| name.value.clone());
        let filters = self.filters(&chain, Some((at, route)));
        let pages = pages::plan(&route.error_pages).chain(pages::plan(&self.file.error_pages));
        let mirror = route.mirror.as_ref();
        let cache = match destination {
            Destination::One(_) | Destination::Split(_) => self.filters.cache(&chain),
            Destination::Own(_) => None,
        };
        Some(Route {
            cache,
            rewrite: matching::rewrite(route),
            mirror: mirror
                .and_then(|name| self.names.get(name.value.as_str()))
                .map(|(cluster, _)| Mirror {
                    cluster: *cluster,
                    percent: route
                        .mirror_percent
                        .as_ref()
                        .map_or(100, |found| found.value),
                }),
            ..chain.route(name.into(), destination, filters, pages.collect())
        })
    }

    fn filters(
        &mut self,
        chain: &Chain<'_>,
        route: Option<(usize, &'a FileRoute)>,
    ) -> Box<[Filter]> {
        let limits = limits::of_route(self.file, self.defaults, route).into_iter();
        let limits = limits.map(|limit| self.limits.filter(limit)).collect();
        let cluster = |name: &str| self.names.get(name).map(|(cluster, _)| *cluster);
        self.filters.of(chain, limits, &cluster)
    }
}

fn own_answer(own: &Answering) -> Own {
    match own {
        Answering::Redirect { status, location } => Own::Redirect {
            status: *status,
            location: location.clone(),
        },
        Answering::Answer { status, body } => Own::Answer {
            status: *status,
            content_type: body.content_type.clone(),
            body: Template::clone(&body.template),
        },
    }
}

/// With the settings of its cluster. Those of a split agree in all that the route does not set.
fn destination<'a>(route: &FileRoute, names: &Names<'a>) -> Option<(Destination, &'a Settings)> {
    if let Some(cluster) = &route.cluster {
        let (cluster, settings) = names.get(cluster.value.as_str())?;
        return Some((Destination::One(*cluster), settings));
    }
    let mut clusters = Vec::new();
    let mut weights = Vec::new();
    let mut first = None;
    for part in &route.split.as_ref()?.value {
        let (cluster, settings) = names.get(part.cluster.as_ref()?.value.as_str())?;
        first = first.or(Some(*settings));
        clusters.push(*cluster);
        weights.push(part.weight.unwrap_or(1));
    }
    let heavy: Vec<usize> = (0..weights.len()).filter(|at| weights[*at] > 0).collect();
    let order = round(heavy.iter().map(|at| weights[*at]));
    let order = order.iter().map(|at| clusters[heavy[*at as usize]]);
    let split = Split {
        order: order.collect(),
        clusters: clusters.iter().copied().collect(),
        header: route
            .split_header
            .as_ref()
            .map(|header| header.value.as_str().into()),
    };
    Some((Destination::Split(split), first?))
}

/// The clusters by their names.
type Names<'a> = HashMap<&'a str, (ClusterId, &'a Settings)>;

#[derive(Default)]
struct Clusters {
    clusters: Vec<Cluster>,
    backends: Vec<Backend>,
}

impl Clusters {
    fn add(&mut self, name: &str, backends: &[FileBackend], chain: &Chain<'_>) -> ClusterId {
        let cluster = ClusterId(index(self.clusters.len()));
        let begin = self.backends.len();
        let (backups, others): (Vec<_>, Vec<_>) =
            backends.iter().partition(|backend| backend.backup);
        let others = self.members(cluster, &others);
        let backups = self.members(cluster, &backups);
        let algorithm = chain.algorithm();
        self.clusters.push(Cluster {
            name: name.into(),
            backends: (begin..self.backends.len())
                .map(|at| BackendId(index(at)))
                .collect(),
            algorithm,
            balance: Balance::new(algorithm, &others)
                .expect("a checked cluster has a backend with a weight"),
            backup: Balance::new(algorithm, &backups),
            failover: None,
            hash_key: chain.hash_key(),
            sticky: chain.sticky(),
            fail_open: ALL_DOWNS[chain.choice(Key::AllDown)] == AllDown::Open,
            pool: chain.pool(),
            rules: chain.rules(),
            passive: chain.passive(),
            breaker: chain.breaking(),
            check: chain.check(),
            require_healthy: chain.flag(Key::CheckRequired),
            hedge_percentile: chain.small_or_unset(Key::HedgePercentile),
            adaptive: chain.flag(Key::Adaptive).then(|| adaptive::Bounds {
                least: chain.small(Key::AdaptiveLeast),
                most: chain.small(Key::AdaptiveMost),
            }),
            connections_max: chain.small(Key::BackendConnections),
            queue_max: chain.small(Key::QueueLength),
            queue_ns: chain.number(Key::QueueTimeout),
        });
        cluster
    }

    /// Adds backends, and gives each one's index with its name and weight.
    fn members<'a>(
        &mut self,
        cluster: ClusterId,
        backends: &[&'a FileBackend],
    ) -> Vec<(BackendId, &'a str, u32)> {
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
                backup: backend.backup,
                tag: hash(backend.url.as_bytes()),
            });
        }
        members
    }
}

fn index(at: usize) -> u32 {
    u32::try_from(at).expect("the number of clusters, routes and backends is bounded")
}
