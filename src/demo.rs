//! `corelane demo`: three backends and the proxy before them, in one process.
//!
//! Decides: what a first look shows. The proxy is started by the caller, from a text like any other
//! configuration, so that the demo runs what everybody runs.

use std::io;
use std::net::SocketAddr;

use crate::mock;

/// More come as `b4`, `b5` …
const NAMES: [&str; 3] = ["red", "green", "blue"];

/// Starts `backends` mock backends (at least one), prints what to try, and runs the proxy until it ends. Returns
/// its exit code.
pub fn run(listen: SocketAddr, backends: u8, start_proxy: impl FnOnce(String) -> u8) -> u8 {
    let started: io::Result<Vec<(String, SocketAddr)>> =
        (0..backends.max(1)).map(start_backend).collect();
    match started {
        Ok(backends) => {
            print!("{}", guide(listen, &backends));
            start_proxy(config(listen, &backends))
        }
        Err(error) => {
            eprintln!("corelane: demo backend: {error}");
            71
        }
    }
}

fn start_backend(index: u8) -> io::Result<(String, SocketAddr)> {
    let name = NAMES
        .get(usize::from(index))
        .map_or_else(|| format!("b{}", index + 1), |name| (*name).to_owned());
    let (address, _) = mock::spawn(mock::Args::named(&name))?;
    Ok((name, address))
}

/// One shard: several take turns each for itself, which is fair in the sum but no strict order to look at.
fn config(listen: SocketAddr, backends: &[(String, SocketAddr)]) -> String {
    let urls: Vec<String> = backends
        .iter()
        .map(|(_, address)| format!("\"http://{address}\""))
        .collect();
    format!(
        "backends = [{}]\n\n[server]\nlisten = \"{listen}\"\nshards = 1\n",
        urls.join(", ")
    )
}

fn guide(listen: SocketAddr, backends: &[(String, SocketAddr)]) -> String {
    let backends: Vec<String> = backends
        .iter()
        .map(|(name, address)| format!("{name} ({address})"))
        .collect();
    format!(
        "Corelane on http://{listen} before {backends}. Try:

  for i in 1 2 3 4 5 6; do curl -s http://{listen}/ | head -1; done   # each backend in turn
  curl http://{listen}/any/path?x=1                  # what a backend sees, X-Forwarded-* among it
  curl -d 'hello' http://{listen}/echo               # a body there and back
  curl http://{listen}/chunked/1000?size=100         # a chunked response
  curl http://{listen}/delay/500                     # a slow backend
  curl -N http://{listen}/sse                        # an event each second
  curl -i http://{listen}/status/503                 # a failing one
  curl -s http://127.0.0.1:2112/metrics | grep corelane_   # what the proxy counts

Ctrl-C ends it.

",
        backends = backends.join(", "),
    )
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn the_proxy_gets_a_configuration_whose_backends_answer_with_their_names() {
        let mut names = Vec::new();
        let code = run("127.0.0.1:8080".parse().unwrap(), 4, |text| {
            let config: toml::Table = text.parse().unwrap();
            assert_eq!(config["server"]["listen"].as_str(), Some("127.0.0.1:8080"));
            for url in config["backends"].as_array().unwrap() {
                let authority = url.as_str().unwrap().strip_prefix("http://").unwrap();
                let mut stream = TcpStream::connect(authority).unwrap();
                stream
                    .write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                    .unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).unwrap();
                let body = answer.split_once("\r\n\r\n").unwrap().1;
                names.push(body.lines().next().unwrap().to_owned());
            }
            42
        });
        assert_eq!(code, 42);
        assert_eq!(names, ["red", "green", "blue", "b4"]);
    }
}
