//! Arguments, the configuration, the command, the exit code.

use std::io::Write;
use std::process::ExitCode;

use corelane::cli::text::{ConfigText, environment};
use corelane::cli::{self, Command, Exit, RunArgs};
use corelane::config::plan::Plan;
use corelane::config::{self, Source};
use corelane::{admin, bench, demo, mock, server, version};

fn main() -> ExitCode {
    let code = match cli::parse(std::env::args_os().skip(1)) {
        Ok(command) => dispatch(command),
        Err(usage) => {
            eprintln!("{usage}");
            Exit::Usage.code()
        }
    };
    ExitCode::from(code)
}

fn dispatch(command: Command) -> u8 {
    match command {
        Command::Run(args) => match load(&args) {
            Ok((_, plan)) => server::run(plan).code(),
            Err(exit) => exit.code(),
        },
        Command::Check(args) => check(&args).code(),
        Command::Show { run, origins } => show(&run, origins).code(),
        Command::Demo(args) => demo::run(args.listen, args.backends, run_text),
        Command::Mock(args) => mock::run(args),
        Command::Bench(args) => bench::command(&args).code(),
        Command::Compare(args) => bench::compare::command(&args).code(),
        Command::Relay { listen, to } => bench::relay::command(listen, to).code(),
        Command::Backends(args) | Command::Cache(args) => admin::client::command(&args).code(),
        Command::Version => print(&format!("{}\n", version::line())).code(),
        Command::Help => print(cli::HELP).code(),
    }
}

fn load(args: &RunArgs) -> Result<(ConfigText, Plan), Exit> {
    let text = read(args)?;
    match config::load(text.source()) {
        Ok((_, plan)) => Ok((text, plan)),
        Err(problems) => {
            eprintln!("{problems}");
            Err(Exit::Config)
        }
    }
}

fn read(args: &RunArgs) -> Result<ConfigText, Exit> {
    ConfigText::read(args, environment()).map_err(|message| {
        eprintln!("corelane: {message}");
        Exit::Config
    })
}

fn check(args: &RunArgs) -> Exit {
    match load(args) {
        Ok((text, plan)) => print(&format!("{}: {}\n", text.name, plan.summary())),
        Err(exit) => exit,
    }
}

fn show(args: &RunArgs, origins: bool) -> Exit {
    let text = match read(args) {
        Ok(text) => text,
        Err(exit) => return exit,
    };
    match config::show(text.source(), origins) {
        Ok(shown) => print(&shown),
        Err(problems) => {
            eprintln!("{problems}");
            Exit::Config
        }
    }
}

/// Not `println!`, which panics when the reader has gone.
fn print(text: &str) -> Exit {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => Exit::Clean,
        Err(_) => Exit::Failure,
    }
}

/// Runs the proxy from a text that no file holds.
fn run_text(text: String) -> u8 {
    match config::load(Source::of("demo", &text)) {
        Ok((_, plan)) => server::run(plan).code(),
        Err(problems) => {
            eprintln!("{problems}");
            Exit::Config.code()
        }
    }
}
