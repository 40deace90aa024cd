//! What is compared: each program, its configuration, its command line.
//!
//! Decides: which settings make the programs do the same work, each as its experts would have it do that. May not
//! know: what is measured. Invariant: a target listens on its one address (corelane on its admin's too), runs in the
//! foreground on one thread that serves (Varnish: one pool), and writes only into its directory and its output.

mod template;

use std::env;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a target is. Order = order of tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Corelane,
    Relay,
    Nginx,
    Haproxy,
    Caddy,
    Varnish,
}

/// What a scenario wants of the proxy, apart from forwarding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feature {
    Plain,
    /// One line of JSON per request on standard output, which is a file in the comparison.
    AccessLog,
    /// GETs of answers with `Cache-Control: max-age=3600` are served from memory.
    Cache,
    /// At most one request per client address in the longest time that each can be told (a minute, an hour); 429 to
    /// all others.
    Limit,
    /// A request id, edited heads, CORS for [`ORIGIN`], and a rate limit that refuses nobody.
    Filters,
    /// Answers leave in gzip, where the request takes it; at the level that each has by default.
    Gzip,
    /// The same at corelane's level, where there are levels.
    GzipAlike,
}

impl Feature {
    /// The backend sees every request.
    pub fn asks_backend(self) -> bool {
        match self {
            Feature::Plain
            | Feature::AccessLog
            | Feature::Filters
            | Feature::Gzip
            | Feature::GzipAlike => true,
            Feature::Cache | Feature::Limit => false,
        }
    }
}

/// Whose pages may ask, where CORS is at work.
pub const ORIGIN: &str = "https://app.example";

/// Everything that a configuration depends on.
#[derive(Debug, Clone)]
pub struct Setup {
    pub listen: SocketAddr,
    /// Only corelane has one.
    pub admin: SocketAddr,
    /// At least one.
    pub backends: Vec<SocketAddr>,
    /// One: it matches everything. More: those below `/rN/`, N from 0 on. All lead to all backends.
    pub routes: u32,
    /// Client connections at the same time.
    pub connections_max: u32,
    pub feature: Feature,
    /// Its own, existing, empty; a path without spaces, as not all formats can quote them.
    pub directory: PathBuf,
}

/// Room for those who only ask whether it is up.
const CLIENTS_SPARE: u32 = 64;
/// Listeners, logs and what else is no connection.
const DESCRIPTORS_SPARE: u32 = 256;

impl Setup {
    fn clients_max(&self) -> u32 {
        self.connections_max + CLIENTS_SPARE
    }

    /// Idle backend connections that are kept: so many that this is no limit. Per backend where it is counted
    /// like that, of all backends in nginx.
    fn idle_max(&self) -> u32 {
        let backends = u32::try_from(self.backends.len()).unwrap_or(u32::MAX);
        let wanted = backends.saturating_mul(2).saturating_add(64);
        wanted.max(self.connections_max).clamp(256, 2048)
    }

    /// Clients, and as if each idle connection to a backend were one more.
    fn connections_all(&self) -> u32 {
        self.clients_max() + self.idle_max()
    }

    /// Both sides, and all that idles.
    fn descriptors(&self) -> u32 {
        self.connections_all() + self.clients_max() + DESCRIPTORS_SPARE
    }

    fn file(&self, name: &str) -> OsString {
        self.directory.join(name).into_os_string()
    }

    fn backend(&self) -> SocketAddr {
        *self.backends.first().expect("a setup has a backend")
    }
}

impl Kind {
    pub const ALL: [Kind; 6] = [
        Kind::Corelane,
        Kind::Relay,
        Kind::Nginx,
        Kind::Haproxy,
        Kind::Caddy,
        Kind::Varnish,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Corelane => "corelane",
            Kind::Relay => "relay",
            Kind::Nginx => "nginx",
            Kind::Haproxy => "haproxy",
            Kind::Caddy => "caddy",
            Kind::Varnish => "varnish",
        }
    }

    /// Why it cannot do this; `None` if it can.
    pub fn refusal(self, setup: &Setup) -> Option<&'static str> {
        let is_single = setup.routes == 1 && setup.backends.len() == 1;
        match (self, setup.feature) {
            (Kind::Nginx | Kind::Haproxy, _)
            | (
                Kind::Corelane | Kind::Caddy,
                Feature::Plain | Feature::AccessLog | Feature::Gzip | Feature::GzipAlike,
            )
            | (Kind::Corelane, Feature::Cache | Feature::Limit | Feature::Filters) => None,
            (Kind::Caddy, Feature::Cache) => Some("Debian's Caddy has no cache"),
            (Kind::Caddy, Feature::Limit | Feature::Filters) => {
                Some("Debian's Caddy has no rate limits")
            }
            (Kind::Relay, Feature::Plain) => {
                (!is_single).then_some("the relay has one backend and no routes")
            }
            (
                Kind::Relay,
                Feature::AccessLog
                | Feature::Cache
                | Feature::Limit
                | Feature::Filters
                | Feature::Gzip
                | Feature::GzipAlike,
            ) => Some("the relay parses nothing"),
            (Kind::Varnish, Feature::Cache) => {
                (!is_single).then_some("Varnish is set up for one backend and one route")
            }
            (
                Kind::Varnish,
                Feature::Plain
                | Feature::AccessLog
                | Feature::Limit
                | Feature::Filters
                | Feature::Gzip
                | Feature::GzipAlike,
            ) => Some("Varnish is compared as a cache only"),
        }
    }

    /// The binary. Debian's servers are where the PATH of most users does not lead.
    pub fn find(self) -> Option<PathBuf> {
        let program = match self {
            Kind::Corelane | Kind::Relay => return env::current_exe().ok(),
            Kind::Nginx => "nginx",
            Kind::Haproxy => "haproxy",
            Kind::Caddy => "caddy",
            Kind::Varnish => "varnishd",
        };
        let path = env::var_os("PATH").unwrap_or_default();
        env::split_paths(&path)
            .chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from))
            .map(|folder| folder.join(program))
            .find(|file| is_executable(file))
    }

    /// One line, from the binary itself.
    pub fn version(self, binary: &Path) -> String {
        let argument = match self {
            Kind::Corelane | Kind::Relay | Kind::Caddy => "version",
            Kind::Nginx | Kind::Haproxy => "-v",
            Kind::Varnish => "-V",
        };
        match Command::new(binary).arg(argument).output() {
            Ok(output) => {
                // nginx and Varnish say it on standard error.
                let said = [output.stdout, output.stderr].concat();
                let said = String::from_utf8_lossy(&said);
                let line = said.lines().next().unwrap_or_default();
                line.trim_start_matches("nginx version: ").to_owned()
            }
            Err(error) => format!("unknown: {}: {error}", binary.display()),
        }
    }

    /// The name of its main configuration.
    fn main_file(self) -> &'static str {
        match self {
            Kind::Corelane => "corelane.toml",
            Kind::Relay => "",
            Kind::Nginx => "nginx.conf",
            Kind::Haproxy => "haproxy.cfg",
            Kind::Caddy => "Caddyfile",
            Kind::Varnish => "varnish.vcl",
        }
    }

    /// Files to write into the directory, by name, the main configuration first.
    pub fn files(self, setup: &Setup) -> Vec<(String, String)> {
        let template = match self {
            Kind::Corelane => include_str!("../../../benches/proxies/corelane.toml"),
            Kind::Relay => return Vec::new(),
            Kind::Nginx => include_str!("../../../benches/proxies/nginx.conf"),
            Kind::Haproxy => include_str!("../../../benches/proxies/haproxy.cfg"),
            Kind::Caddy => include_str!("../../../benches/proxies/Caddyfile"),
            Kind::Varnish => include_str!("../../../benches/proxies/varnish.vcl"),
        };
        let main = template::fill(template, setup);
        let mut files = vec![(self.main_file().to_owned(), main)];
        if self == Kind::Haproxy && setup.routes > 1 {
            let lines = (0..setup.routes).map(|number| format!("r{number} backend\n"));
            files.push(("routes.map".to_owned(), lines.collect()));
        }
        files
    }

    /// Arguments and environment.
    pub fn command(self, setup: &Setup) -> (Vec<OsString>, Vec<(&'static str, String)>) {
        let main = setup.file(self.main_file());
        match self {
            Kind::Corelane => (vec!["run".into(), "-c".into(), main], Vec::new()),
            Kind::Relay => {
                let (listen, to) = (setup.listen.to_string(), setup.backend().to_string());
                let arguments = ["bench", "relay", "--listen", &listen, "--to", &to];
                (arguments.map(OsString::from).to_vec(), Vec::new())
            }
            Kind::Nginx => {
                // The log that is open before the configuration is read is a system's own otherwise.
                let (log, prefix) = (setup.file("error.log"), setup.file(""));
                let arguments = ["-e".into(), log, "-p".into(), prefix, "-c".into(), main];
                (arguments.to_vec(), Vec::new())
            }
            Kind::Haproxy => (vec!["-db".into(), "-f".into(), main], Vec::new()),
            Kind::Caddy => {
                let run = ["run", "--adapter", "caddyfile", "--config"];
                let mut arguments = run.map(OsString::from).to_vec();
                arguments.push(main);
                (arguments, caddy_environment(setup))
            }
            Kind::Varnish => (varnish_arguments(setup, main), Vec::new()),
        }
    }
}

fn is_executable(file: &Path) -> bool {
    let executable_bits = 0o111;
    file.metadata()
        .is_ok_and(|data| data.is_file() && data.permissions().mode() & executable_bits != 0)
}

fn caddy_environment(setup: &Setup) -> Vec<(&'static str, String)> {
    // Where Caddy would keep its state, were it to have any.
    let home = setup.directory.display().to_string();
    vec![
        ("GOMAXPROCS", "1".to_owned()),
        // Collects garbage a quarter as often, for more memory: the usual trade of a busy proxy in Go.
        ("GOGC", "400".to_owned()),
        ("HOME", home.clone()),
        ("XDG_CONFIG_HOME", home.clone()),
        ("XDG_DATA_HOME", home),
    ]
}

/// What a hit would record, each taken out: not every release knows a word for all.
const VARNISH_RECORDS: &str = "-Begin,-End,-Link,-SessOpen,-SessClose,-ReqStart,-ReqMethod,-ReqURL,-ReqProtocol,\
    -ReqHeader,-ReqUnset,-ReqAcct,-RespProtocol,-RespStatus,-RespReason,-RespHeader,-RespUnset,-VCL_call,-VCL_return,\
    -Hit,-Timestamp,-Length,-Filters";

fn varnish_arguments(setup: &Setup, main: OsString) -> Vec<OsString> {
    let mut arguments = vec![
        // In the foreground, without a command line port, and as who we are: another user could not open the directory.
        "-F".into(),
        "-T".into(),
        "none".into(),
        "-j".into(),
        "none".into(),
        "-n".into(),
        setup.file("varnish"),
        "-a".into(),
        setup.listen.to_string().into(),
        "-f".into(),
        main,
        "-s".into(),
        "malloc,256m".into(),
    ];
    // A connection holds a thread while it is busy.
    let threads_min = setup.clients_max().clamp(100, 1000);
    for parameter in [
        // One pool per core.
        "thread_pools=1".to_owned(),
        format!("thread_pool_min={threads_min}"),
        "thread_pool_max=5000".to_owned(),
        "listen_depth=4096".to_owned(),
        "timeout_idle=60".to_owned(),
        "backend_idle_timeout=60".to_owned(),
        // No answer of this comparison is compressed, so Accept-Encoding need not be looked at.
        "http_gzip_support=off".to_owned(),
        // No access log: nobody reads what Varnish would write into shared memory for each request.
        format!("vsl_mask={VARNISH_RECORDS}"),
    ] {
        arguments.extend(["-p".into(), parameter.into()]);
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Source};

    const FEATURES: [Feature; 7] = [
        Feature::Plain,
        Feature::AccessLog,
        Feature::Cache,
        Feature::Limit,
        Feature::Filters,
        Feature::Gzip,
        Feature::GzipAlike,
    ];

    fn setup(routes: u32, backends: u8, feature: Feature) -> Setup {
        let backend = |number| SocketAddr::from(([127, 1, 2, number], 3001));
        Setup {
            listen: "127.9.8.7:8081".parse().unwrap(),
            admin: "127.9.8.7:8082".parse().unwrap(),
            backends: (1..=backends).map(backend).collect(),
            routes,
            connections_max: 64,
            feature,
            directory: "/tmp/peer".into(),
        }
    }

    fn setups() -> Vec<Setup> {
        let mut setups = Vec::new();
        for feature in FEATURES {
            for (routes, backends) in [(1, 1), (1, 3), (3, 1), (3, 3)] {
                setups.push(setup(routes, backends, feature));
            }
        }
        setups
    }

    /// `@WORD@`, wherever it stands.
    fn unfilled(text: &str) -> Option<&str> {
        let is_word = |part: &&str| {
            let is_of_words = |byte: u8| byte.is_ascii_uppercase() || byte == b'_';
            !part.is_empty() && part.bytes().all(is_of_words)
        };
        text.split('@').skip(1).find(is_word)
    }

    #[test]
    fn no_word_is_left_and_each_backend_and_route_is_there() {
        for setup in setups() {
            for kind in Kind::ALL {
                let files = kind.files(&setup);
                let all: String = files.iter().map(|(_, text)| text.as_str()).collect();
                assert_eq!(unfilled(&all), None, "{kind:?} {setup:?}: {all}");
                if kind.refusal(&setup).is_some() || kind == Kind::Relay {
                    continue;
                }
                assert_eq!(files[0].0, kind.main_file());
                for backend in &setup.backends {
                    let ip = backend.ip().to_string();
                    assert_eq!(all.matches(&ip).count(), 1, "{kind:?} {setup:?}: {all}");
                }
                for number in 0..setup.routes {
                    // HAProxy has a map of routes, the others a prefix for each.
                    let route = if kind == Kind::Haproxy {
                        format!("r{number} backend\n")
                    } else {
                        format!("/r{number}/")
                    };
                    assert_eq!(all.contains(&route), setup.routes > 1, "{kind:?}: {all}");
                }
            }
        }
    }

    #[test]
    fn corelane_takes_what_is_written_for_it() {
        for setup in setups() {
            let (name, text) = Kind::Corelane.files(&setup).remove(0);
            let (_, plan) = config::load(Source::of(&name, &text)).unwrap();
            assert_eq!(plan.backends.len(), setup.backends.len());
            assert_eq!(plan.log.access, setup.feature == Feature::AccessLog);
        }
    }

    #[test]
    fn each_takes_what_it_can_do() {
        let taken = |kind: Kind| {
            let all = setups();
            let setups = all.iter().filter(|setup| kind.refusal(setup).is_none());
            setups
                .map(|setup| (setup.feature, setup.routes, setup.backends.len()))
                .collect::<Vec<_>>()
        };
        assert_eq!(taken(Kind::Relay), [(Feature::Plain, 1, 1)]);
        assert_eq!(taken(Kind::Varnish), [(Feature::Cache, 1, 1)]);
        assert_eq!(taken(Kind::Caddy).len(), 16);
        assert_eq!(taken(Kind::Corelane).len(), 28);
        assert_eq!(taken(Kind::Nginx).len(), 28);
        assert_eq!(taken(Kind::Haproxy).len(), 28);
    }

    #[test]
    fn the_pool_of_idle_connections_is_no_limit_and_bounded() {
        for (connections_max, backends, idle_max) in
            [(8, 1, 256), (512, 1, 512), (8, 200, 464), (20_000, 1, 2048)]
        {
            let mut setup = setup(1, 1, Feature::Plain);
            setup.connections_max = connections_max;
            setup.backends = vec![setup.backend(); backends];
            assert_eq!(setup.idle_max(), idle_max);
        }
    }
}
