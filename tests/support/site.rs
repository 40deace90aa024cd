//! A proxy with two shards before one backend, for tests that want the whole machine.
//!
//! Decides: what all their configurations have in common. Knows nothing of the proxy's code. Invariant: one site is up
//! at a time.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};

use socket2::{Domain, Socket, Type};

use super::load::{Load, Mock, Report};
use super::peer::{Body, Head, Peer};
use super::{PATIENCE, Proxy, TempDir};

static ALONE: Mutex<()> = Mutex::new(());

/// Waits until it is this test's turn.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    // A test that failed has ended what it started.
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) struct Site {
    pub(crate) mock: Mock,
    pub(crate) proxy: Proxy,
    pub(crate) folder: TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl Site {
    /// Starts it. In `config`, `{backend}` stands for the backend's address, beside what `Proxy` knows.
    pub(crate) fn start(config: &str) -> Site {
        Site::start_with(&[], config)
    }

    /// The same with flags for the mock.
    pub(crate) fn start_with(flags: &[&str], config: &str) -> Site {
        let alone = alone();
        let folder = TempDir::new();
        let mock = Mock::start("mock", &folder.0, flags);
        let config = config.replace("{backend}", &mock.address.to_string());
        // Keys with dots, so that they can stand before whatever sections there are.
        let config = format!(
            "server.listen = \"{{listen}}\"\nserver.shards = 2\nserver.pin = false\n\
             admin.listen = \"127.0.0.1:0\"\n{config}"
        );
        Site {
            mock,
            proxy: Proxy::start(&config),
            folder,
            _alone: alone,
        }
    }

    pub(crate) fn load(&self, path: &str, flags: &[&str]) -> Load {
        let url = format!("http://{}{path}", self.proxy.address);
        Load::start(&url, flags)
    }

    pub(crate) fn run(&self, path: &str, flags: &[&str]) -> Report {
        self.load(path, flags).finish()
    }

    /// One request on a connection of its own; `lines` are further fields, each with its line end.
    pub(crate) fn ask(&self, line: &str, lines: &str) -> (Head, Body) {
        ask(
            &mut Peer::new(connect(self.proxy.address, None)),
            line,
            lines,
        )
    }

    pub(crate) fn get(&self, path: &str) -> (Head, Body) {
        self.ask(&format!("GET {path}"), "")
    }

    /// Requests that the shards have answered, of each.
    pub(crate) fn shard_requests(&self) -> [u64; 2] {
        [0, 1].map(|shard| {
            let sample = format!("corelane_shard_requests_total{{shard=\"{shard}\"}}");
            self.proxy.metric(&sample)
        })
    }

    /// What became of requests at a limit.
    pub(crate) fn limit_metric(&self, limit: &str, result: &str) -> u64 {
        self.proxy.metric(&format!(
            "corelane_rate_limit_requests_total{{limit=\"{limit}\",result=\"{result}\"}}"
        ))
    }

    pub(crate) fn rejected(&self, reason: &str) -> u64 {
        self.proxy
            .metric(&format!("corelane_rejected_total{{reason=\"{reason}\"}}"))
    }

    pub(crate) fn stop(self) {
        self.proxy.stop();
    }
}

/// Connects, from an address of choice.
pub(crate) fn connect(to: SocketAddr, from: Option<IpAddr>) -> std::net::TcpStream {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).unwrap();
    if let Some(from) = from {
        socket.bind(&SocketAddr::new(from, 0).into()).unwrap();
    }
    socket.connect_timeout(&to.into(), PATIENCE).unwrap();
    socket.into()
}

/// One request on a connection that goes on.
pub(crate) fn ask(client: &mut Peer, line: &str, lines: &str) -> (Head, Body) {
    client.send(format!("{line} HTTP/1.1\r\nHost: test\r\n{lines}\r\n").as_bytes());
    let head = client.head().unwrap();
    let is_bodiless = line.starts_with("HEAD") || matches!(head.status(), Some(204 | 304));
    let body = if is_bodiless {
        Body::default()
    } else {
        client.body(&head, false).unwrap()
    };
    (head, body)
}
