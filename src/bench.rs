//! The load generator: `corelane bench`, and a library for what compares.
//!
//! Decides: how a run is made of arguments, and its exit code. Knows nothing of the proxy's request path, so that
//! a mistake there is not mirrored here. Invariant: every run is bounded in time, connections and memory.
//!
//! Reading order: `load` (what a run is), `run`, `worker`, `open`, `wire`, `answer`, `tally`, `outcome`; then
//! `scenario` (a file becomes a load), `verdict`, and what shows results: `text`, `json`, `chart`, `html`.

pub mod address;
mod alarm;
mod answer;
mod chart;
pub mod compare;
pub mod html;
pub mod json;
pub mod load;
mod open;
pub mod outcome;
pub mod relay;
pub mod run;
pub mod scenario;
pub mod tally;
mod text;
pub mod verdict;
mod wire;
mod worker;

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::cli::Exit;
use crate::config::plan::{Engine, Nanos};
use crate::engine;
use crate::io::unix_ms;

use load::{Config, Target};
use outcome::{Outcome, Point};
use run::RunError;
use scenario::{Key, Scenario, Wrong};

/// Longest scenario file that is read.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// The progress line is written at most so often.
const PROGRESS_NS: Nanos = 200_000_000;
/// No stage gets shorter than this.
const STAGE_NS_MIN: Nanos = 10_000_000;

/// The arguments of `corelane bench`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Args {
    pub scenario: Option<PathBuf>,
    /// Of the stages' durations.
    pub scale: Option<f64>,
    pub json: Option<PathBuf>,
    pub html: Option<PathBuf>,
    pub settings: Vec<(Key, String)>,
}

/// Runs one load test and shows its result.
pub fn command(args: &Args) -> Exit {
    match prepare(args).and_then(|scenario| perform(args, &scenario)) {
        Ok(exit) => exit,
        Err((exit, message)) => {
            eprintln!("{message}");
            exit
        }
    }
}

type Refusal = (Exit, String);

fn prepare(args: &Args) -> Result<Scenario, Refusal> {
    let text = match &args.scenario {
        Some(path) => Some((path.display().to_string(), read(path)?)),
        None => None,
    };
    let file = text
        .as_ref()
        .map(|(name, text)| (name.as_str(), text.as_str()));
    let mut scenario = scenario::load(file, &args.settings).map_err(|wrong| match wrong {
        Wrong::Flags(problems) => (Exit::Usage, problems.to_string()),
        Wrong::File(problems) => (Exit::Config, problems.to_string()),
    })?;
    if let Some(scale) = args.scale {
        for stage in &mut scenario.stages {
            let scaled = (stage.duration_ns as f64 * scale) as Nanos;
            stage.duration_ns = scaled.max(STAGE_NS_MIN);
        }
        scenario.warm_up_ns = (scenario.warm_up_ns as f64 * scale) as Nanos;
    }
    Ok(scenario)
}

fn read(path: &Path) -> Result<String, Refusal> {
    let failed = |error: io::Error| {
        let message = format!("corelane: {}: {error}", path.display());
        (Exit::Config, message)
    };
    let length = fs::metadata(path).map_err(failed)?.len();
    if length > FILE_BYTES_MAX {
        return Err(failed(io::ErrorKind::FileTooLarge.into()));
    }
    fs::read_to_string(path).map_err(failed)
}

fn perform(args: &Args, scenario: &Scenario) -> Result<Exit, Refusal> {
    let config = resolve(scenario)?;
    let os = |error: io::Error| (Exit::Os, format!("corelane: bench: {error}"));
    let (engine, _) = engine::choose(Engine::Auto).map_err(os)?;
    let stop = Arc::new(AtomicBool::new(false));
    // A second Ctrl-C ends the process at once: the flag is only set by the first.
    signal_hook::flag::register_conditional_default(signal_hook::consts::SIGINT, Arc::clone(&stop))
        .and_then(|_| signal_hook::flag::register(signal_hook::consts::SIGINT, Arc::clone(&stop)))
        .map_err(os)?;
    let mut progress = Progress::new(config.duration_ns());
    let ran = run::run(&config, engine, &stop, &mut |point| progress.show(point));
    progress.clear();
    let outcome = ran.map_err(|error| {
        let exit = match error {
            RunError::Unreachable { .. } | RunError::Descriptors { .. } | RunError::System(_) => {
                Exit::Os
            }
        };
        (exit, format!("corelane: bench: {error}"))
    })?;
    finish(args, scenario, &outcome, stop.load(Ordering::Relaxed))
}

fn finish(
    args: &Args,
    scenario: &Scenario,
    outcome: &Outcome,
    is_interrupted: bool,
) -> Result<Exit, Refusal> {
    let verdicts = verdict::judge(outcome, &scenario.thresholds);
    let save = |path: &Option<PathBuf>, content: &dyn Fn() -> String| match path {
        Some(path) => fs::write(path, content()).map_err(|error| {
            let message = format!("corelane: bench: {}: {error}", path.display());
            (Exit::Os, message)
        }),
        None => Ok(()),
    };
    let table = text::table(scenario, outcome, &verdicts);
    // Nobody may be reading any more; the exit code and the files still count.
    let _ = io::stdout().write_all(table.as_bytes());
    save(&args.json, &|| {
        json::render(scenario, outcome, &verdicts, unix_ms())
    })?;
    save(&args.html, &|| html::render(scenario, outcome, &verdicts))?;
    let missed = verdicts.iter().any(|verdict| !verdict.is_met);
    // Without thresholds, a run in which nothing went well is still no success.
    Ok(if is_interrupted {
        Exit::Signal(2)
    } else if missed || outcome.total.good == 0 {
        Exit::Failure
    } else {
        Exit::Clean
    })
}

/// A scenario on this machine: addresses and CPUs.
fn resolve(scenario: &Scenario) -> Result<Config, Refusal> {
    let mut targets = Vec::with_capacity(scenario.urls.len());
    for url in &scenario.urls {
        let address = url.resolve().map_err(|error| {
            let message = format!("corelane: bench: {}: {error}", url.host);
            (Exit::Os, message)
        })?;
        targets.push(Target {
            url: url.clone(),
            address,
        });
    }
    Ok(Config {
        targets,
        message: scenario.message.clone(),
        load: scenario.load,
        stages: scenario.stages.clone(),
        keep_alive: scenario.keep_alive,
        client_addresses: scenario.client_addresses,
        idle_connections: scenario.idle_connections,
        cores: run::cores(scenario.threads),
        warm_up_ns: scenario.warm_up_ns,
        timeout_ns: scenario.timeout_ns,
        requests_max: scenario.requests_max,
        expect: scenario.expect.clone(),
    })
}

/// The line on a terminal while a run goes on.
struct Progress {
    is_shown: bool,
    duration_ns: Nanos,
    errors: u64,
    shown_ns: Nanos,
}

impl Progress {
    fn new(duration_ns: Nanos) -> Progress {
        Progress {
            is_shown: io::stderr().is_terminal(),
            duration_ns,
            errors: 0,
            shown_ns: 0,
        }
    }

    fn show(&mut self, point: &Point) {
        self.errors += point.errors;
        if self.is_shown && point.at_ns >= self.shown_ns + PROGRESS_NS {
            self.shown_ns = point.at_ns;
            let line = text::progress(point, self.errors, self.duration_ns);
            eprint!("\r\x1b[2K{line}");
        }
    }

    fn clear(&self) {
        if self.is_shown {
            eprint!("\r\x1b[2K");
        }
    }
}
