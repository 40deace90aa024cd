//! A program that is measured: started on one CPU, watched through /proc, ended with all that it started.
//!
//! Decides: what CPU time and memory a program has, children included. May not know: what the program is.
//! Invariant: a `Process` that is dropped has ended, and one whose starter died ends as well.
#![expect(
    unsafe_code,
    reason = "what a child does before it becomes another program: one system call"
)]

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::config::plan::Nanos;

/// How long a program may take until it listens, and until it has ended.
const START_LOOKS: u32 = 500;
const STOP_LOOKS: u32 = 250;
const LOOK: Duration = Duration::from_millis(20);

/// What is started.
pub(super) struct Program<'p> {
    pub(super) name: &'p str,
    pub(super) binary: &'p Path,
    pub(super) arguments: Vec<OsString>,
    pub(super) environment: Vec<(&'static str, String)>,
    /// For what it prints: `NAME.out`, `NAME.err`.
    pub(super) directory: &'p Path,
    /// It has started when it accepts connections there.
    pub(super) listen: SocketAddr,
    pub(super) cpu: usize,
}

pub(super) struct Process {
    name: String,
    child: Child,
    errors: PathBuf,
}

/// CPU time of all threads so far.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cpu {
    pub(super) run_ns: Nanos,
    /// As the kernel's clock tick saw it; only their proportion is used.
    pub(super) user_ticks: u64,
    pub(super) system_ticks: u64,
}

impl Cpu {
    pub(super) fn since(self, before: Cpu) -> Cpu {
        Cpu {
            run_ns: self.run_ns.saturating_sub(before.run_ns),
            user_ticks: self.user_ticks.saturating_sub(before.user_ticks),
            system_ticks: self.system_ticks.saturating_sub(before.system_ticks),
        }
    }
}

/// Runs on these CPUs only what the calling thread starts from now on, and itself.
pub(super) fn pin(cpus: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    for cpu in cpus {
        set.set(*cpu);
    }
    Ok(sched_setaffinity(None, &set)?)
}

/// The CPUs that this process may use.
pub(super) fn allowed_cpus() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU)
        .filter(|cpu| set.is_set(*cpu))
        .collect())
}

impl Process {
    /// Starts a program and waits until it listens. The error is a sentence.
    pub(super) fn start(program: Program<'_>) -> Result<Process, String> {
        let name = program.name;
        let failed = |error: io::Error| format!("{name} does not start: {error}");
        let output = |suffix: &str| program.directory.join(format!("{name}.{suffix}"));
        // Appending: what is truncated while it runs is written from its beginning again.
        let stdout = File::options()
            .create(true)
            .append(true)
            .open(output("out"));
        let stderr = File::create(output("err"));
        let mine = sched_getaffinity(None).map_err(|error| failed(error.into()))?;
        pin(&[program.cpu]).map_err(failed)?;
        let mut command = Command::new(program.binary);
        command
            .args(&program.arguments)
            .envs(program.environment)
            .stdin(Stdio::null())
            .stdout(stdout.map_err(failed)?)
            .stderr(stderr.map_err(failed)?);
        // However we end, by SIGKILL too, nothing is left running.
        let end_with_us = || Ok(set_parent_process_death_signal(Some(Signal::TERM))?);
        // SAFETY: between fork and exec it makes one system call and touches no memory of ours.
        unsafe { command.pre_exec(end_with_us) };
        let spawned = command.spawn();
        sched_setaffinity(None, &mine).map_err(|error| failed(error.into()))?;
        let mut process = Process {
            name: name.to_owned(),
            child: spawned.map_err(failed)?,
            errors: output("err"),
        };
        process.wait_for(program.listen)?;
        Ok(process)
    }

    fn wait_for(&mut self, listen: SocketAddr) -> Result<(), String> {
        for _ in 0..START_LOOKS {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return Err(self.complaint(" ended at once"));
            }
            if TcpStream::connect_timeout(&listen, LOOK).is_ok() {
                return Ok(());
            }
            sleep(LOOK);
        }
        Err(self.complaint(&format!(" does not listen on {listen}")))
    }

    /// Its name and what it did wrong, with the last of what it said about it.
    pub(super) fn complaint(&self, what: &str) -> String {
        let text = fs::read_to_string(&self.errors).unwrap_or_default();
        let last = text.trim_end().lines().rev().take(5).collect::<Vec<_>>();
        let mut out = format!("{}{what}", self.name);
        for line in last.into_iter().rev() {
            out.push_str("\n  ");
            out.push_str(line);
        }
        out
    }

    /// The process and its descendants: nginx's worker, Varnish's child.
    fn ids(&self) -> Vec<u32> {
        let mut ids = vec![self.child.id()];
        let mut at = 0;
        while let Some(id) = ids.get(at) {
            at += 1;
            for task in tasks(*id) {
                let children = fs::read_to_string(task.join("children")).unwrap_or_default();
                ids.extend(children.split_whitespace().flat_map(str::parse::<u32>));
            }
        }
        ids
    }

    pub(super) fn cpu(&self) -> Cpu {
        let mut cpu = Cpu::default();
        for id in self.ids() {
            for task in tasks(id) {
                let text = fs::read_to_string(task.join("schedstat")).unwrap_or_default();
                let run_ns = text.split_whitespace().next();
                cpu.run_ns += run_ns.and_then(|ns| ns.parse().ok()).unwrap_or(0);
            }
            let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
            let (user, system) = ticks(&stat);
            cpu.user_ticks += user;
            cpu.system_ticks += system;
        }
        cpu
    }

    /// Proportional set size: what several processes share counts once.
    pub(super) fn memory_bytes(&self) -> u64 {
        let of = |id: &u32| kibibytes(&format!("/proc/{id}/smaps_rollup"), "Pss:");
        self.ids().iter().map(of).sum::<u64>() * 1024
    }

    /// The most that was resident since `forget_peak`; what processes share counts for each.
    pub(super) fn peak_bytes(&self) -> u64 {
        let of = |id: &u32| kibibytes(&format!("/proc/{id}/status"), "VmHWM:");
        self.ids().iter().map(of).sum::<u64>() * 1024
    }

    pub(super) fn forget_peak(&self) {
        for id in self.ids() {
            // Not allowed everywhere; the peak then is that of its whole life.
            let _ = fs::write(format!("/proc/{id}/clear_refs"), "5");
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let ids = self.ids();
        let Some(id) = Pid::from_raw(self.child.id().cast_signed()) else {
            return;
        };
        let _ = kill_process(id, Signal::TERM);
        for _ in 0..STOP_LOOKS {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            sleep(LOOK);
        }
        // Its children too: nobody else would end them.
        for id in ids.iter().rev() {
            if let Some(id) = Pid::from_raw(id.cast_signed()) {
                let _ = kill_process(id, Signal::KILL);
            }
        }
        let _ = self.child.wait();
    }
}

fn tasks(id: u32) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(format!("/proc/{id}/task")).ok();
    entries
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
}

/// utime and stime of /proc/PID/stat; the name before them may contain anything.
fn ticks(stat: &str) -> (u64, u64) {
    let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
    let mut fields = after
        .split_whitespace()
        .skip(11)
        .flat_map(str::parse::<u64>);
    (fields.next().unwrap_or(0), fields.next().unwrap_or(0))
}

fn kibibytes(path: &str, key: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let digits = line.and_then(|rest| rest.split_whitespace().next());
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_stand_behind_any_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 100 0 0 0 31 42 0 0 20 0 1 0 5 6 7";
        assert_eq!(ticks(stat), (31, 42));
        assert_eq!(ticks(""), (0, 0));
    }

    #[test]
    fn a_program_that_ends_says_why() {
        let directory =
            std::env::temp_dir().join(format!("corelane-process-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let program = |script: &str| Program {
            name: "shell",
            binary: Path::new("/bin/sh"),
            arguments: vec!["-c".into(), script.into()],
            environment: vec![("WORD", "said".to_owned())],
            directory: &directory,
            listen: "127.0.0.1:1".parse().unwrap(),
            cpu: allowed_cpus().unwrap()[0],
        };
        let before = allowed_cpus().unwrap();
        let error = Process::start(program("echo it $WORD so >&2; exit 3"))
            .err()
            .unwrap();
        assert_eq!(error, "shell ended at once\n  it said so");
        assert_eq!(allowed_cpus().unwrap(), before, "our own CPUs stay ours");
        fs::remove_dir_all(&directory).unwrap();
    }
}
