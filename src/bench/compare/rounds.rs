//! One scenario, all subjects, round by round.
//!
//! Decides: what runs on which CPU and when. May not know: how a load is measured, what is to be reached.
//! Invariant: all processes of a scenario run from before its first round to after its last, and then none.

use std::fs::{self, DirBuilder};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::cli::Exit;
use crate::config::plan::Engine;
use crate::engine;

use super::comparison::{Absent, Comparison, Measured};
use super::measure::{Meter, Pressure, Subject};
use super::peer::{Feature, Kind};
use super::process::{Process, Program, allowed_cpus, pin};
use super::proof::{prove, prove_logs, truncate_logs};
use super::sample::Metric;
use super::scenario::{Method, Scenario, Variant};
use super::{Args, Contestant, Refusal, refuse, setup, text};

/// Of the generator; more are seldom needed.
const LOAD_CPUS_MAX: usize = 4;

pub(super) struct Bench {
    contestants: Vec<Contestant>,
    meter: Meter,
    backend_cpu: usize,
    rounds: u32,
    directory: Directory,
}

/// A proxy that runs, for one variant.
struct Runner<'b> {
    contestant: &'b Contestant,
    variant: usize,
    process: Process,
    address: SocketAddr,
    directory: PathBuf,
}

struct Backend {
    process: Process,
    address: SocketAddr,
}

impl Bench {
    pub(super) fn new(args: &Args, contestants: Vec<Contestant>) -> Result<Bench, Refusal> {
        let os = |error: io::Error| (Exit::Os, error.to_string());
        let allowed = allowed_cpus().map_err(os)?;
        let [proxy_cpu, backend_cpu, ref rest @ ..] = *allowed.as_slice() else {
            return refuse(Exit::Os, "two CPUs are needed, one for the proxy alone");
        };
        let cores = match rest {
            [] => vec![backend_cpu],
            rest => rest.iter().copied().take(LOAD_CPUS_MAX).collect(),
        };
        // What looks at the counters must not run on the proxy's CPU.
        pin(&cores).map_err(os)?;
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register_conditional_default(signal, Arc::clone(&stop))
                .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)))
                .map_err(os)?;
        }
        let (engine, _) = engine::choose(Engine::Auto).map_err(os)?;
        Ok(Bench {
            contestants,
            meter: Meter {
                engine,
                cores,
                proxy_cpu,
                seconds: args.seconds,
                stop,
            },
            backend_cpu,
            rounds: args.rounds,
            directory: Directory::new().map_err(os)?,
        })
    }

    /// Ctrl-C has been pressed.
    pub(super) fn is_stopped(&self) -> bool {
        self.meter.stop.load(Ordering::Relaxed)
    }

    /// `None`: it was cut short.
    pub(super) fn compare(&self, scenario: Scenario) -> Result<Option<Comparison>, Refusal> {
        let named = |message: String| (Exit::Failure, format!("{}: {message}", scenario.name));
        let backend = self.start_backend(&scenario)?;
        let (runners, absent) = match scenario.method {
            Method::Load | Method::Saturation => self.start_all(&scenario, &backend)?,
            // Each alone, freshly started: what was allocated before would hide what connections need.
            Method::Idle => (Vec::new(), self.absent(&scenario, &backend)),
        };
        for runner in &runners {
            let variant = &scenario.variants[runner.variant];
            let proved = prove(runner.address, backend.address, variant);
            proved.map_err(|message| named(runner.complaint(&message)))?;
        }
        let mut comparison = Comparison {
            variants: self.empty(&scenario, &runners),
            verdicts: Vec::new(),
            warnings: Vec::new(),
            absent,
            scenario,
        };
        let measured = match comparison.scenario.method {
            Method::Load => self
                .saturate(&mut comparison, &runners, &backend)
                .and_then(|()| self.rate(&mut comparison, &runners, &backend)),
            Method::Saturation => self.saturate(&mut comparison, &runners, &backend),
            Method::Idle => self.idle(&mut comparison, &backend),
        };
        if self.is_stopped() {
            return Ok(None);
        }
        measured.map_err(|message| {
            let name = comparison.scenario.name;
            (Exit::Failure, format!("{name}: {message}"))
        })?;
        comparison.judge();
        Ok(Some(comparison))
    }

    fn start_backend(&self, scenario: &Scenario) -> Result<Backend, Refusal> {
        let [address, _] = free_addresses()?;
        let many = scenario.variants.iter().any(|variant| variant.backends > 1);
        let listen = if many {
            SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()))
        } else {
            address
        };
        let ours = Kind::Corelane.find();
        let ours = ours.ok_or((Exit::Os, "our own binary is gone".to_owned()))?;
        let directory = self
            .directory
            .fresh(&format!("{}-backend", scenario.name))?;
        let arguments = ["mock", "--fast", "--listen", &listen.to_string()];
        let process = Process::start(Program {
            name: "backend",
            binary: &ours,
            arguments: arguments.map(Into::into).to_vec(),
            environment: Vec::new(),
            directory: &directory,
            listen: address,
            cpu: self.backend_cpu,
        });
        let process = process.or_else(|message| refuse(Exit::Os, message))?;
        Ok(Backend { process, address })
    }

    fn absent(&self, scenario: &Scenario, backend: &Backend) -> Absent {
        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let refusal = |contestant: &Contestant| {
            let variants = scenario.variants.iter();
            let mut refusals = variants.filter_map(|variant| {
                let ports = [nowhere, nowhere];
                let port = backend.address.port();
                let setup = setup(scenario, variant, ports, port, PathBuf::new());
                contestant.kind.refusal(&setup)
            });
            Some((contestant.name.clone(), refusals.next()?))
        };
        self.contestants.iter().filter_map(refusal).collect()
    }

    /// Starts everybody who can do all variants.
    fn start_all(
        &self,
        scenario: &Scenario,
        backend: &Backend,
    ) -> Result<(Vec<Runner<'_>>, Absent), Refusal> {
        let absent = self.absent(scenario, backend);
        let mut runners = Vec::new();
        for at in 0..scenario.variants.len() {
            for contestant in &self.contestants {
                if absent.iter().all(|(name, _)| *name != contestant.name) {
                    runners.push(self.start(contestant, scenario, at, backend)?);
                }
            }
        }
        Ok((runners, absent))
    }

    fn start<'b>(
        &'b self,
        contestant: &'b Contestant,
        scenario: &Scenario,
        variant: usize,
        backend: &Backend,
    ) -> Result<Runner<'b>, Refusal> {
        let name = format!("{}-{variant}-{}", scenario.name, contestant.name);
        let directory = self.directory.fresh(&name)?;
        let listens = free_addresses()?;
        let [address, _] = listens;
        let setup = setup(
            scenario,
            &scenario.variants[variant],
            listens,
            backend.address.port(),
            directory.clone(),
        );
        for (file, text) in contestant.kind.files(&setup) {
            let path = directory.join(file);
            fs::write(&path, text)
                .or_else(|error| refuse(Exit::Os, format!("{}: {error}", path.display())))?;
        }
        let (arguments, environment) = contestant.kind.command(&setup);
        let process = Process::start(Program {
            name: &contestant.name,
            binary: &contestant.binary,
            arguments,
            environment,
            directory: &directory,
            listen: address,
            cpu: self.meter.proxy_cpu,
        });
        Ok(Runner {
            contestant,
            variant,
            process: process.or_else(|message| refuse(Exit::Os, message))?,
            address,
            directory,
        })
    }

    fn empty(&self, scenario: &Scenario, runners: &[Runner<'_>]) -> Vec<Measured> {
        let measured = |(at, variant): (usize, &Variant)| {
            let mine = runners.iter().filter(|runner| runner.variant == at);
            Measured {
                label: variant.label,
                rate: None,
                subjects: mine
                    .map(|runner| (runner.contestant.name.clone(), Vec::new()))
                    .collect(),
                backend: Vec::new(),
            }
        };
        scenario.variants.iter().enumerate().map(measured).collect()
    }

    /// All rounds at saturation.
    fn saturate(
        &self,
        comparison: &mut Comparison,
        runners: &[Runner<'_>],
        backend: &Backend,
    ) -> Result<(), String> {
        for round in 0..self.rounds {
            for runner in in_turn(runners, round) {
                let variant = &comparison.scenario.variants[runner.variant];
                let is_logged = variant.feature == Feature::AccessLog;
                if is_logged {
                    truncate_logs(&runner.directory);
                }
                let subject = runner.subject(backend);
                let sample = self.meter.load(&subject, variant, Pressure::Saturation);
                let (sample, _) = sample.map_err(|message| runner.complaint(&message))?;
                if is_logged {
                    let requests =
                        sample.get(Metric::PerSecond).unwrap_or(0.0) * self.meter.seconds;
                    prove_logs(&runner.directory, requests)
                        .map_err(|message| runner.complaint(&message))?;
                }
                let name = &runner.contestant.name;
                text::progress(&comparison.scenario, variant, name, round, &sample);
                comparison.add(runner.variant, name, sample);
            }
            // What the backend costs: only where it is asked the same as the proxies are.
            let variant = &comparison.scenario.variants[0];
            if variant.feature.asks_backend() {
                let subject = Subject {
                    process: &backend.process,
                    address: backend.address,
                    backend: backend.address,
                };
                let (sample, _) = self.meter.load(&subject, variant, Pressure::Saturation)?;
                comparison.variants[0].backend.push(sample);
            }
        }
        comparison.judge_backend();
        Ok(())
    }

    /// All rounds at half of nginx's rate.
    fn rate(
        &self,
        comparison: &mut Comparison,
        runners: &[Runner<'_>],
        backend: &Backend,
    ) -> Result<(), String> {
        let Some(rate) = comparison.variants[0].half_rate() else {
            return Ok(());
        };
        comparison.variants[0].rate = Some(rate);
        comparison.note_overload(rate);
        for round in 0..self.rounds {
            for runner in in_turn(runners, round) {
                let variant = &comparison.scenario.variants[runner.variant];
                let subject = runner.subject(backend);
                let sample = self.meter.load(&subject, variant, Pressure::Rate(rate));
                let (sample, bottlenecks) = sample.map_err(|message| runner.complaint(&message))?;
                let name = &runner.contestant.name;
                text::progress(&comparison.scenario, variant, name, round, &sample);
                for bottleneck in bottlenecks {
                    comparison.note_bottleneck(name, bottleneck);
                }
                comparison.join(name, round, sample);
            }
        }
        Ok(())
    }

    fn idle(&self, comparison: &mut Comparison, backend: &Backend) -> Result<(), String> {
        let can = |contestant: &&Contestant| {
            let mut absent = comparison.absent.iter();
            absent.all(|(name, _)| *name != contestant.name)
        };
        let present: Vec<&Contestant> = self.contestants.iter().filter(can).collect();
        for contestant in &present {
            let name = contestant.name.clone();
            comparison.variants[0].subjects.push((name, Vec::new()));
        }
        for round in 0..self.rounds {
            for contestant in in_turn(&present, round) {
                if self.is_stopped() {
                    return Ok(());
                }
                let scenario = &comparison.scenario;
                let started = self.start(contestant, scenario, 0, backend);
                let runner = started.map_err(|(_, message)| message)?;
                let subject = runner.subject(backend);
                let sample = self.meter.idle(&subject, &scenario.variants[0]);
                let sample = sample.map_err(|message| runner.complaint(&message))?;
                let name = &contestant.name;
                text::progress(scenario, &scenario.variants[0], name, round, &sample);
                comparison.add(0, name, sample);
            }
        }
        Ok(())
    }
}

impl Runner<'_> {
    fn subject<'s>(&'s self, backend: &Backend) -> Subject<'s> {
        Subject {
            process: &self.process,
            address: self.address,
            backend: backend.address,
        }
    }

    fn complaint(&self, message: &str) -> String {
        self.process.complaint(&format!(": {message}"))
    }
}

/// All of them, each round beginning with another.
fn in_turn<T>(all: &[T], round: u32) -> impl Iterator<Item = &T> {
    let first = round as usize % all.len().max(1);
    all[first..].iter().chain(&all[..first])
}

/// Two addresses on which nothing listens.
fn free_addresses() -> Result<[SocketAddr; 2], Refusal> {
    let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    // The first is held until the second is known: else both can be the same, which a proxy refuses.
    let both = bind().and_then(|one| Ok([one.local_addr()?, bind()?.local_addr()?]));
    both.or_else(|error| refuse(Exit::Os, format!("no free port: {error}")))
}

/// A temporary directory that goes when we go.
struct Directory(PathBuf);

impl Directory {
    fn new() -> io::Result<Directory> {
        let name = format!("corelane-compare-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        // Not one that is there already, and for nobody else: root's proxies take their orders from files in it.
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
        Ok(Directory(path))
    }

    /// One inside, empty.
    fn fresh(&self, name: &str) -> Result<PathBuf, Refusal> {
        let path = self.0.join(name);
        let made = match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => fs::create_dir_all(&path),
        };
        made.or_else(|error| refuse(Exit::Os, format!("{}: {error}", path.display())))?;
        Ok(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_and_its_admin_never_get_one_port() {
        for _ in 0..1000 {
            let [proxy, admin] = free_addresses().unwrap();
            assert_ne!(proxy, admin);
        }
    }
}
