//! One measurement: a load on one subject while its CPU time is watched; or its memory with idle connections.
//!
//! Decides: when counting begins and ends. May not know: rounds, other subjects. Invariant: the requests that
//! the CPU time is divided by were counted by the backend itself, unless it is not to see them.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::sleep;
use std::time::Duration;

use crate::bench::address::Url;
use crate::bench::load::{Config, Expect, Load, Message, Stage, Target};
use crate::bench::outcome::Bottleneck;
use crate::bench::run::{self, RunError};
use crate::config::plan::Nanos;
use crate::engine::Chosen;

use super::peer::Feature;
use super::process::{Cpu, Process};
use super::proof::prove_load;
use super::sample::{Metric, Sample};
use super::scenario::{IDLE_CONNECTIONS, Variant};

const SECOND: f64 = 1e9;
const TIMEOUT: Duration = Duration::from_secs(10);
/// Pools open, caches fill, thousands of connections are opened.
const WARM_UP_NS: Nanos = 500_000_000;
/// Source addresses of new or many connections: one has some 28,000 ports, and some of them rest from before.
const CLIENT_ADDRESSES: u32 = 32;
/// Memory has settled when it has moved by less than this for so many looks.
const STEADY_BYTES: u64 = 16 * 1024;
const STEADY_LOOKS: u32 = 20;
const LOOKS_MAX: u32 = 120;
const LOOK: Duration = Duration::from_millis(250);

/// What does the measuring.
pub(super) struct Meter {
    pub(super) engine: Chosen,
    /// CPUs of the generator.
    pub(super) cores: Vec<usize>,
    /// What the proxies have to themselves.
    pub(super) proxy_cpu: usize,
    pub(super) seconds: f64,
    pub(super) stop: Arc<AtomicBool>,
}

/// What is measured.
pub(super) struct Subject<'s> {
    pub(super) process: &'s Process,
    pub(super) address: SocketAddr,
    /// Where the backend counts what it has answered.
    pub(super) backend: SocketAddr,
}

/// How hard.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Pressure {
    /// The variant's users ask again as soon as they have an answer.
    Saturation,
    /// So many requests per second on the variant's connections.
    Rate(f64),
}

/// What the counters said at one moment.
struct Reading {
    at_ns: Nanos,
    cpu: Cpu,
    counted: u64,
    machine: Ticks,
}

impl Meter {
    /// Puts a load on a subject. The error is a sentence.
    pub(super) fn load(
        &self,
        subject: &Subject<'_>,
        variant: &Variant,
        pressure: Pressure,
    ) -> Result<(Sample, Vec<Bottleneck>), String> {
        let config = self.config(subject, variant, pressure);
        subject.process.forget_peak();
        let mut first: Option<Result<Reading, String>> = None;
        let ran = run::run(&config, self.engine, &self.stop, &mut |point| {
            if first.is_none() && point.at_ns >= WARM_UP_NS {
                first = Some(subject.read(point.at_ns, self.proxy_cpu));
            }
        });
        let outcome = ran.map_err(|error: RunError| error.to_string())?;
        let first = first.ok_or("the load was over before it was measured")??;
        let last = subject.read(config.duration_ns(), self.proxy_cpu)?;
        let seen = last.counted - first.counted;
        let counted = prove_load(variant.feature, &outcome, seen)?;
        let mut sample = Sample::default();
        let cpu = last.cpu.since(first.cpu);
        let elapsed = (last.at_ns - first.at_ns) as f64;
        let cpu_us = cpu.run_ns as f64 / 1e3 / counted as f64;
        match pressure {
            Pressure::Saturation => {
                let ticks = (cpu.user_ticks + cpu.system_ticks) as f64;
                let user = cpu_us * cpu.user_ticks as f64 / ticks;
                sample.set(Metric::Cpu, cpu_us);
                sample.set(Metric::User, user);
                sample.set(Metric::System, cpu_us - user);
                sample.set(
                    Metric::PerSecond,
                    outcome.per_second(outcome.total.answered()),
                );
                if variant.answer_bytes.is_none() {
                    let answers = outcome.total.answered() as f64;
                    sample.set(Metric::Answer, outcome.total.bytes_in as f64 / answers);
                }
                sample.set(Metric::Busy, cpu.run_ns as f64 / elapsed);
                let per_second = rustix::param::clock_ticks_per_second() as f64;
                let all_ticks = elapsed / SECOND * per_second;
                let machine = last.machine.since(first.machine);
                // What ran on the proxy's CPU without being the proxy.
                let others = machine.busy as f64 - ticks;
                sample.set(Metric::Others, (others / all_ticks).max(0.0));
                sample.set(Metric::Stolen, machine.stolen as f64 / all_ticks);
                sample.set(Metric::Peak, subject.process.peak_bytes() as f64);
                Ok((sample, Vec::new()))
            }
            Pressure::Rate(_) => {
                sample.set(Metric::RatedCpu, cpu_us);
                for (quantile, metric) in [
                    (0.5, Metric::P50),
                    (0.99, Metric::P99),
                    (0.999, Metric::P999),
                ] {
                    sample.set(metric, outcome.latency_ns(quantile) as f64 / 1e3);
                }
                Ok((sample, outcome.bottlenecks))
            }
        }
    }

    fn config(&self, subject: &Subject<'_>, variant: &Variant, pressure: Pressure) -> Config {
        let address = subject.address;
        let level = match pressure {
            Pressure::Saturation => variant.users.into(),
            Pressure::Rate(rate) => rate,
        };
        let many = !variant.keep_alive || variant.connections + variant.idle > 10_000;
        Config {
            targets: vec![Target {
                url: Url {
                    authority: "bench.example".to_owned(),
                    host: address.ip().to_string(),
                    port: address.port(),
                    path: variant.path.clone(),
                },
                address,
            }],
            message: Message {
                method: if variant.body_bytes > 0 {
                    "POST"
                } else {
                    "GET"
                }
                .to_owned(),
                fields: variant.fields.clone(),
                body_bytes: variant.body_bytes,
                is_chunked: variant.is_chunked,
            },
            load: match pressure {
                Pressure::Saturation => Load::Closed {
                    think_ns: 0,
                    pipeline: 1,
                    connections: variant.connections,
                },
                Pressure::Rate(_) => Load::Open {
                    connections: variant.connections,
                },
            },
            stages: vec![Stage {
                from: level,
                to: level,
                duration_ns: WARM_UP_NS + (self.seconds * SECOND) as Nanos,
            }],
            keep_alive: variant.keep_alive,
            client_addresses: if many { CLIENT_ADDRESSES } else { 0 },
            idle_connections: variant.idle,
            cores: self.cores.clone(),
            warm_up_ns: WARM_UP_NS,
            timeout_ns: TIMEOUT.as_nanos() as Nanos,
            requests_max: None,
            expect: Expect {
                statuses: statuses(variant),
                body_bytes: variant.answer_bytes,
            },
        }
    }

    /// Memory above that of the empty process when each connection has made one request and then says nothing.
    pub(super) fn idle(&self, subject: &Subject<'_>, variant: &Variant) -> Result<Sample, String> {
        // Not before a worker process is there and its start is over.
        let empty = settled(subject.process, STEADY_LOOKS / 4);
        let before = count(subject.backend)?;
        let mut connections = Vec::with_capacity(IDLE_CONNECTIONS as usize);
        for number in 0..IDLE_CONNECTIONS {
            connections.push(idle_connection(subject.address, number, variant)?);
        }
        let full = settled(subject.process, STEADY_LOOKS);
        for connection in &connections {
            let looked = connection
                .set_nonblocking(true)
                .and_then(|()| connection.peek(&mut [0]));
            match looked {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(_) | Err(_) => return Err("an idle connection was closed or spoken to".into()),
            }
        }
        let counted = count(subject.backend)? - before;
        if counted != u64::from(IDLE_CONNECTIONS) {
            return Err(format!(
                "the backend saw {counted} requests of {IDLE_CONNECTIONS}"
            ));
        }
        let mut sample = Sample::default();
        let more = full.saturating_sub(empty) as f64;
        sample.set(Metric::Idle, more / f64::from(IDLE_CONNECTIONS));
        sample.set(Metric::Empty, empty as f64);
        sample.set(Metric::Peak, subject.process.peak_bytes() as f64);
        Ok(sample)
    }
}

impl Subject<'_> {
    fn read(&self, at_ns: Nanos, cpu_number: usize) -> Result<Reading, String> {
        let cpu = self.process.cpu();
        let counted = count(self.backend)?;
        Ok(Reading {
            at_ns,
            cpu,
            counted,
            machine: Ticks::read(cpu_number),
        })
    }
}

/// A limit lets one request through now and then, and that one is answered: `prove_load` says how many may be.
fn statuses(variant: &Variant) -> Vec<u16> {
    match variant.feature {
        Feature::Limit => vec![variant.status, 200],
        Feature::Plain
        | Feature::AccessLog
        | Feature::Cache
        | Feature::Filters
        | Feature::Gzip
        | Feature::GzipAlike => vec![variant.status],
    }
}

/// One answer, read to the end of its body.
pub(super) struct Answer {
    pub(super) status: u16,
    /// As it came, with the empty line.
    pub(super) head: Vec<u8>,
    pub(super) body: Vec<u8>,
}

/// Asks for a path on a connection of its own.
pub(super) fn get(
    address: SocketAddr,
    path: &str,
    fields: &[(String, String)],
) -> Result<Answer, String> {
    let more = fields
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"));
    let lines = more.collect::<String>() + "Connection: close\r\n";
    let asked = || -> io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        ask(&mut stream, path, &lines)?;
        read_answer(&mut stream)
    };
    let bytes = asked().map_err(|error| format!("{address} gave no answer: {error}"))?;
    let head_end = memchr::memmem::find(&bytes, b"\r\n\r\n").map(|at| at + 4);
    let status = bytes.get(9..12).map(String::from_utf8_lossy);
    match (head_end, status.and_then(|digits| digits.parse().ok())) {
        (Some(head_end), Some(status)) => {
            let (head, body) = bytes.split_at(head_end);
            let body = if is_chunked(head) {
                unchunked(body).ok_or_else(|| format!("{address} sent chunks that are none"))?
            } else {
                body.to_vec()
            };
            Ok(Answer {
                status,
                head: head.to_vec(),
                body,
            })
        }
        (_, _) => Err(format!("{address} gave no HTTP/1.1 answer to {path}")),
    }
}

fn ask(stream: &mut TcpStream, path: &str, fields: &str) -> io::Result<()> {
    // In one write: a second one would wait for the acknowledgement of the first.
    let request = format!("GET {path} HTTP/1.1\r\nHost: bench.example\r\n{fields}\r\n");
    stream.write_all(request.as_bytes())
}

/// Reads a head and the body that its Content-Length announces, or until the end.
fn read_answer(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut piece = [0; 16 * 1024];
    let mut wanted = usize::MAX;
    let mut chunked = false;
    while bytes.len() < wanted && !(chunked && bytes.ends_with(b"\r\n0\r\n\r\n")) {
        let count = stream.read(&mut piece)?;
        if count == 0 {
            break;
        }
        bytes.extend_from_slice(&piece[..count]);
        if wanted == usize::MAX
            && !chunked
            && let Some(head_end) = memchr::memmem::find(&bytes, b"\r\n\r\n")
        {
            chunked = is_chunked(&bytes[..head_end + 2]);
            if let Some(length) = content_length(&bytes[..head_end]) {
                wanted = head_end + 4 + length;
            }
        }
    }
    Ok(bytes)
}

fn is_chunked(head: &[u8]) -> bool {
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    head.contains("\r\ntransfer-encoding: chunked\r\n")
}

/// The data of chunks; `None` if they are not whole.
fn unchunked(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut data = Vec::new();
    loop {
        let line_end = memchr::memmem::find(rest, b"\r\n")?;
        let size = std::str::from_utf8(&rest[..line_end]).ok()?;
        let size = usize::from_str_radix(size, 16).ok()?;
        if size == 0 {
            return Some(data);
        }
        data.extend_from_slice(rest.get(line_end + 2..line_end + 2 + size)?);
        rest = rest.get(line_end + 2 + size + 2..)?;
    }
}

fn content_length(head: &[u8]) -> Option<usize> {
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let line = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"))?;
    line.trim().parse().ok()
}

/// Requests that the backend has answered so far.
fn count(backend: SocketAddr) -> Result<u64, String> {
    let answer = get(backend, "/__count", &[])?;
    let digits = String::from_utf8_lossy(&answer.body).into_owned();
    digits
        .parse()
        .map_err(|_| format!("the backend counts {digits:?}"))
}

fn idle_connection(
    address: SocketAddr,
    number: u32,
    variant: &Variant,
) -> Result<TcpStream, String> {
    let opened = || -> io::Result<(TcpStream, Vec<u8>)> {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        let client = SocketAddr::from(([127, 0, 0, 2 + (number % 8) as u8], 0));
        socket.bind(&client.into())?;
        socket.connect(&address.into())?;
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(TIMEOUT))?;
        ask(&mut stream, &variant.path, "")?;
        let bytes = read_answer(&mut stream)?;
        Ok((stream, bytes))
    };
    let (stream, bytes) =
        opened().map_err(|error| format!("idle connection {number} failed: {error}"))?;
    if bytes.starts_with(b"HTTP/1.1 200") {
        Ok(stream)
    } else {
        Err(format!("idle connection {number} was refused"))
    }
}

/// Memory once it has not moved for so many looks, or after thirty seconds.
fn settled(process: &Process, steady_looks: u32) -> u64 {
    let mut memory = process.memory_bytes();
    let mut steady = 0;
    for _ in 0..LOOKS_MAX {
        sleep(LOOK);
        let now = process.memory_bytes();
        if now.abs_diff(memory) > STEADY_BYTES {
            (memory, steady) = (now, 0);
        } else {
            steady += 1;
        }
        if steady >= steady_looks {
            break;
        }
    }
    process.memory_bytes()
}

/// What the kernel's clock tick saw on a CPU.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Ticks {
    /// In user mode and in the kernel, without interrupts: those are counted to nobody.
    busy: u64,
    /// Given to other machines by the one below us.
    stolen: u64,
}

impl Ticks {
    fn read(cpu: usize) -> Ticks {
        Ticks::of(
            &std::fs::read_to_string("/proc/stat").unwrap_or_default(),
            cpu,
        )
    }

    fn of(stat: &str, cpu: usize) -> Ticks {
        let name = format!("cpu{cpu} ");
        let line = stat.lines().find_map(|line| line.strip_prefix(&name));
        let numbers = line.unwrap_or("").split_whitespace();
        match *numbers.flat_map(str::parse::<u64>).collect::<Vec<_>>() {
            [user, nice, system, _idle, _io, _irq, _softirq, stolen, ..] => Ticks {
                busy: user + nice + system,
                stolen,
            },
            _ => Ticks::default(),
        }
    }

    fn since(self, before: Ticks) -> Ticks {
        Ticks {
            busy: self.busy.saturating_sub(before.busy),
            stolen: self.stolen.saturating_sub(before.stolen),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_of_one_cpu() {
        let stat = "cpu  9 9 9 9\ncpu0 1 2 3 4 5 6 7 8 0 0\ncpu10 7 7 7 7 7 7 7 9 0 0\n";
        let ticks = |busy, stolen| Ticks { busy, stolen };
        assert_eq!(Ticks::of(stat, 0), ticks(6, 8));
        assert_eq!(Ticks::of(stat, 10), ticks(21, 9));
        assert_eq!(Ticks::of(stat, 1), Ticks::default());
    }

    #[test]
    fn chunks_are_put_together() {
        let whole = b"3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n";
        assert_eq!(unchunked(whole).unwrap(), b"abc0123456789");
        for end in 0..whole.len() - 4 {
            assert_eq!(unchunked(&whole[..end]), None, "{end}");
        }
        assert_eq!(unchunked(b"x\r\n"), None);
    }
}
