//! `corelane bench compare`: corelane beside other proxies, on the same core, with the same load.
//!
//! Decides: which subjects take part, in which order, and when a run says nothing. May not know: how one
//! measurement is made, how results look. Invariant: every round visits all subjects, each round beginning with
//! another one; nothing that was started is left running.
//!
//! Reading order: `scenario` (what is compared), `peer` (the proxies and their configurations), `rounds`, `process`,
//! `proof`, `measure`, `sample`, `comparison`, `verdict`; then what shows results: `about`, `text`, `json`.

mod about;
mod comparison;
mod json;
mod measure;
pub mod peer;
mod process;
mod proof;
mod rounds;
mod sample;
mod scenario;
mod text;
mod verdict;

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::cli::Exit;
use crate::config::report::nearest;

use about::About;
use peer::{Kind, Setup};
use rounds::Bench;
use scenario::{Method, Scenario, Variant};

/// Connections that a proxy is configured for beside those of the load.
const CONNECTIONS_SPARE: u32 = 1024;

/// The arguments of `corelane bench compare`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Args {
    /// Names of scenarios; empty: all.
    pub only: Vec<String>,
    /// Names of peers; empty: all that are installed.
    pub peers: Vec<String>,
    /// Other corelane binaries with names of their own.
    pub extra: Vec<(String, PathBuf)>,
    pub rounds: u32,
    /// Of one load, without its warm-up.
    pub seconds: f64,
    pub json: Option<PathBuf>,
    /// Print the configurations instead.
    pub show_config: bool,
    /// Print the scenarios instead.
    pub list: bool,
}

/// Why there is no result, with the exit code.
type Refusal = (Exit, String);

fn refuse<T>(exit: Exit, message: impl Into<String>) -> Result<T, Refusal> {
    Err((exit, message.into()))
}

/// Compares, and shows the result.
pub fn command(args: &Args) -> Exit {
    match perform(args) {
        Ok(exit) => exit,
        Err((exit, message)) => {
            eprintln!("corelane: bench compare: {message}");
            exit
        }
    }
}

fn perform(args: &Args) -> Result<Exit, Refusal> {
    let scenarios = chosen(&args.only)?;
    if args.list {
        let _ = io::stdout().write_all(text::list(&scenarios).as_bytes());
        return Ok(Exit::Clean);
    }
    let contestants = contestants(args)?;
    if args.show_config {
        let shown = show_config(&scenarios, &contestants);
        let _ = io::stdout().write_all(shown.as_bytes());
        return Ok(Exit::Clean);
    }
    if let Some(path) = &args.json {
        // Better now than after an hour; and no empty file in place of a result.
        let is_new = !path.exists();
        let opened = fs::File::options().create(true).append(true).open(path);
        opened.or_else(|error| refuse(Exit::Os, format!("{}: {error}", path.display())))?;
        if is_new {
            let _ = fs::remove_file(path);
        }
    }
    let about = About::read(args, &contestants);
    let bench = Bench::new(args, contestants)?;
    let _ = io::stdout().write_all(text::about(&about).as_bytes());
    let mut results = Vec::new();
    let mut failed = None;
    for scenario in scenarios {
        if bench.is_stopped() {
            break;
        }
        match bench.compare(scenario) {
            Ok(Some(result)) => {
                let _ = io::stdout().write_all(text::result(&result).as_bytes());
                results.push(result);
            }
            Ok(None) => break,
            Err(refusal) => {
                failed = Some(refusal);
                break;
            }
        }
    }
    // What a failure cuts short is kept: the scenarios before it may have taken an hour.
    if let Some(path) = args.json.as_ref().filter(|_| !results.is_empty()) {
        let text = json::render(&about, &results);
        fs::write(path, text)
            .or_else(|error| refuse(Exit::Os, format!("{}: {error}", path.display())))?;
    }
    if let Some(refusal) = failed {
        return Err(refusal);
    }
    let missed = results
        .iter()
        .flat_map(|result| &result.verdicts)
        .any(|verdict| !verdict.is_met);
    Ok(if bench.is_stopped() {
        Exit::Signal(2)
    } else if missed {
        Exit::Failure
    } else {
        Exit::Clean
    })
}

fn chosen(names: &[String]) -> Result<Vec<Scenario>, Refusal> {
    let all = scenario::all();
    for name in names {
        if let Some((_, what)) = scenario::WAITING.iter().find(|(known, _)| known == name) {
            return refuse(Exit::Usage, format!("scenario \"{name}\" waits for {what}"));
        }
        if !all.iter().any(|scenario| scenario.name == name) {
            let known = nearest(name, all.iter().map(|scenario| scenario.name));
            let hint = known.map(|known| format!("\n  did you mean {known}?"));
            let hint = hint.unwrap_or_else(|| "\n  --list shows them".to_owned());
            return refuse(Exit::Usage, format!("unknown scenario \"{name}\"{hint}"));
        }
    }
    let is_chosen = |name: &str| names.is_empty() || names.iter().any(|known| known == name);
    Ok(all
        .into_iter()
        .filter(|scenario| is_chosen(scenario.name))
        .collect())
}

/// A program that takes part.
struct Contestant {
    name: String,
    kind: Kind,
    binary: PathBuf,
    version: String,
}

fn contestants(args: &Args) -> Result<Vec<Contestant>, Refusal> {
    for name in &args.peers {
        let names = Kind::ALL.map(Kind::name);
        if !names.contains(&name.as_str()) {
            let list = names.join(", ");
            return refuse(
                Exit::Usage,
                format!("unknown peer \"{name}\": there are {list}"),
            );
        }
    }
    let mut found = Vec::new();
    for kind in Kind::ALL {
        let name = kind.name();
        let is_named = args.peers.iter().any(|known| known == name);
        let is_wanted = args.peers.is_empty() || is_named || kind == Kind::Corelane;
        match kind.find().filter(|_| is_wanted) {
            Some(binary) => found.push(Contestant {
                name: name.to_owned(),
                version: kind.version(&binary),
                kind,
                binary,
            }),
            None if is_named => {
                return refuse(
                    Exit::Os,
                    format!(
                        "{name} is not installed\n  scripts/install-peers installs what Debian has"
                    ),
                );
            }
            None => {}
        }
        if kind == Kind::Corelane {
            for (name, binary) in &args.extra {
                found.push(extra(name, binary)?);
            }
        }
    }
    Ok(found)
}

fn extra(name: &str, binary: &Path) -> Result<Contestant, Refusal> {
    if Kind::ALL.iter().any(|kind| kind.name() == name) || name.is_empty() {
        return refuse(
            Exit::Usage,
            format!("--extra {name}: another name is needed"),
        );
    }
    let version = Kind::Corelane.version(binary);
    if !version.starts_with("corelane ") {
        let path = binary.display();
        return refuse(
            Exit::Usage,
            format!("--extra {name}: {path} is no corelane"),
        );
    }
    Ok(Contestant {
        name: name.to_owned(),
        kind: Kind::Corelane,
        binary: binary.to_owned(),
        version,
    })
}

/// The configurations of all variants, with the ports and paths of an example.
fn show_config(scenarios: &[Scenario], contestants: &[Contestant]) -> String {
    let mut out = String::new();
    for scenario in scenarios {
        for variant in &scenario.variants {
            let port = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            let directory = PathBuf::from("/tmp/corelane-compare");
            let setup = setup(scenario, variant, [port(8080), port(2112)], 3001, directory);
            for contestant in contestants {
                if contestant.kind.refusal(&setup).is_some() {
                    continue;
                }
                for (file, text) in contestant.kind.files(&setup) {
                    let (name, label) = (scenario.name, variant.label);
                    let _ = writeln!(
                        out,
                        "# ---- {}, scenario {name} {label}: {file}\n{text}",
                        contestant.name
                    );
                }
            }
        }
    }
    out
}

fn setup(
    scenario: &Scenario,
    variant: &Variant,
    [listen, admin]: [SocketAddr; 2],
    backend_port: u16,
    directory: PathBuf,
) -> Setup {
    // One address each; behind all of them stands one process.
    let address = |number: u32| match number {
        0 => SocketAddr::from((Ipv4Addr::LOCALHOST, backend_port)),
        _ => {
            let [_, _, high, low] = number.to_be_bytes();
            SocketAddr::from(([127, 1, high, low], backend_port))
        }
    };
    let open = match scenario.method {
        Method::Load | Method::Saturation => variant.connections + variant.idle,
        Method::Idle => scenario::IDLE_CONNECTIONS,
    };
    Setup {
        listen,
        admin,
        backends: (0..variant.backends).map(address).collect(),
        routes: variant.routes,
        connections_max: open + CONNECTIONS_SPARE,
        feature: variant.feature,
        directory,
    }
}
