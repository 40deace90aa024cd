//! `corelane bench compare` with the real programs: that it measures, and what it does when it cannot.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process, test_kill_process_group};

/// Between two looks at what has no way to tell us, and how many looks are enough.
const LOOK: Duration = Duration::from_millis(20);
const LOOKS_MAX: usize = 1000;

struct Ran {
    code: i32,
    output: String,
    errors: String,
}

/// Runs it in a process group of its own, of which nothing may be left.
fn compare(arguments: &str, path: &str) -> Ran {
    let child = Command::new(env!("CARGO_BIN_EXE_corelane"))
        .args(["bench", "compare"])
        .args(arguments.split_whitespace())
        .env("PATH", path)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    let group = Pid::from_raw(child.id().cast_signed()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(test_kill_process_group(group), Err(Errno::SRCH));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ran {
        code: output.status.code().unwrap(),
        output: text(&output.stdout),
        errors: text(&output.stderr),
    }
}

fn directory(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}

/// The text between two marks.
fn between<'t>(text: &'t str, before: &str, after: &str) -> &'t str {
    let (_, rest) = text
        .split_once(before)
        .unwrap_or_else(|| panic!("no {before} in {text}"));
    rest.split_once(after).unwrap().0
}

#[test]
fn it_measures_and_saves_what_it_measured() {
    let file = directory("measures").join("result.json");
    let scenarios = "small,log";
    let arguments = format!(
        "--only {scenarios} --peers nginx,haproxy,relay --rounds 1 --seconds 0.2 --json {}",
        file.display()
    );
    let ran = compare(&arguments, "/usr/bin:/bin");
    // Which bounds a debug build meets is not the question here.
    assert!([0, 1].contains(&ran.code), "{}{}", ran.output, ran.errors);
    for part in ["p99", "latencies at", "the relay parses nothing"] {
        assert!(ran.output.contains(part), "no {part} in {}", ran.output);
    }
    let json = fs::read_to_string(file).unwrap();
    for scenario in scenarios.split(',') {
        let subjects = json
            .split_once(&format!("\"name\":\"{scenario}\""))
            .unwrap()
            .1;
        for name in ["corelane", "nginx", "haproxy"] {
            let cpu = between(
                subjects,
                &format!("{{\"name\":\"{name}\",\"cpu_us\":{{"),
                "}",
            );
            let median: f64 = between(cpu, "\"median\":", ",").parse().unwrap();
            assert!(median > 0.5, "{scenario} {name}: {cpu}");
        }
    }
    assert!(json.contains("\"name\":\"relay\""));
    // Neither is a number in JSON; the share of other programs is often zero.
    assert!(!json.contains(":NaN") && !json.contains(":inf"), "{json}");
    assert!(json.contains("\"name\":\"backend\""));
}

#[test]
fn growth_is_that_of_variants() {
    let arguments = "--only connections --peers nginx --rounds 1 --seconds 0.2";
    let ran = compare(arguments, "/usr/bin:/bin");
    assert!([0, 1].contains(&ran.code), "{}{}", ran.output, ran.errors);
    let (_, rest) = ran.output.split_once("5,000 in turn").unwrap();
    assert!(rest.contains("grown "), "{rest}");
    assert!(rest.contains("with 64, 4,936 idle ≤ 1.05"), "{rest}");
}

#[test]
fn refusals_are_measured_beside_each_other() {
    let arguments = "--only rejected --peers nginx,haproxy,caddy --rounds 1 --seconds 0.3";
    let ran = compare(arguments, "/usr/bin:/bin");
    assert!([0, 1].contains(&ran.code), "{}{}", ran.output, ran.errors);
    for part in [
        "latencies at",
        "CPU per request ≤ 0.9 × nginx",
        "haproxy ",
        "Debian's Caddy has no rate limits",
    ] {
        assert!(ran.output.contains(part), "no {part} in {}", ran.output);
    }
}

#[test]
fn filters_are_measured_beside_none() {
    let arguments = "--only filtered --peers nginx,haproxy --rounds 1 --seconds 0.3";
    let ran = compare(arguments, "/usr/bin:/bin");
    assert!([0, 1].contains(&ran.code), "{}{}", ran.output, ran.errors);
    let (_, rest) = ran.output.split_once("\n four filters\n").unwrap();
    for name in ["corelane", "nginx", "haproxy"] {
        let row = rest
            .lines()
            .find(|line| line.trim_start().starts_with(name));
        let row = row.unwrap_or_else(|| panic!("no {name} in {rest}"));
        assert!(row.contains("grown "), "{row}");
    }
    let verdict = "with four filters ≤ 1.05 × that with no filters";
    assert!(rest.contains(verdict), "{rest}");
}

#[test]
fn what_is_compressed_is_measured_with_its_size() {
    let arguments = "--only compressed --peers nginx,haproxy,caddy --rounds 1 --seconds 0.3";
    let ran = compare(arguments, "/usr/bin:/bin");
    assert_eq!(ran.code, 0, "{}{}", ran.output, ran.errors);
    let (_, rest) = ran.output.split_once("\n level 5\n").unwrap();
    for name in ["corelane", "nginx", "haproxy"] {
        let row = rest
            .lines()
            .find(|line| line.trim_start().starts_with(name));
        let row = row.unwrap_or_else(|| panic!("no {name} in {rest}"));
        assert!(row.contains(" KiB an answer"), "{row}");
    }
}

/// The programs of a process group that still run; who has ended may wait for somebody to ask how.
fn running(group: u32) -> Vec<String> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let stats = entries.flat_map(|entry| fs::read_to_string(entry.path().join("stat")));
    stats
        .filter(|stat| {
            let (_, after) = stat.rsplit_once(')').unwrap();
            let fields: Vec<&str> = after.split_whitespace().collect();
            fields[0] != "Z" && fields[2] == group.to_string()
        })
        .collect()
}

#[test]
fn nothing_runs_on_when_a_comparison_is_killed_or_hung_up() {
    for signal in [Signal::KILL, Signal::HUP] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_corelane"))
            .args(["bench", "compare", "--only", "small"])
            .args([
                "--peers",
                "nginx,haproxy",
                "--rounds",
                "50",
                "--seconds",
                "0.3",
            ])
            // What is killed cannot clean up.
            .env("TMPDIR", directory("killed"))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let group = child.id();
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        assert!(line.contains("round 1"), "{line}");
        kill_process(Pid::from_child(&child), signal).unwrap();
        child.wait().unwrap();
        let looks = (0..LOOKS_MAX).take_while(|_| {
            thread::park_timeout(LOOK);
            !running(group).is_empty()
        });
        let looks = looks.count();
        assert!(looks < LOOKS_MAX, "{signal:?}: {:?}", running(group));
    }
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let broken = directory("broken");
    let script = broken.join("haproxy");
    fs::write(&script, "#!/bin/sh\necho \"no, $1\" >&2\nexit 1\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", broken.display());
    for (arguments, code, said) in [
        (
            "--only smal",
            2,
            "unknown scenario \"smal\"\n  did you mean small?",
        ),
        ("--only tls", 2, "\"tls\" waits for TLS"),
        (
            "--peers ngin",
            2,
            "unknown peer \"ngin\": there are corelane, relay, nginx",
        ),
        ("--extra nginx=/bin/true", 2, "another name is needed"),
        ("--extra old=/bin/true", 2, "/bin/true is no corelane"),
        ("--extra old", 2, "--extra wants NAME=BINARY"),
        (
            "--json /nonexistent/x --peers nginx",
            71,
            "/nonexistent/x: No such file",
        ),
        ("--rounds 0", 2, "--rounds 0 is not in 1 to 100"),
        ("--seconds 0.1", 2, "--seconds 0.1 is not in"),
        (
            "--only small --peers haproxy --rounds 1",
            71,
            "haproxy ended at once\n  no, ",
        ),
    ] {
        let ran = compare(arguments, &path);
        assert_eq!(ran.code, code, "{arguments}: {}{}", ran.output, ran.errors);
        assert!(ran.errors.contains(said), "{arguments}: {}", ran.errors);
    }
}

#[test]
fn what_was_measured_before_a_failure_is_saved() {
    let folder = directory("late");
    let (script, file) = (folder.join("haproxy"), folder.join("result.json"));
    let text = "#!/bin/sh\ncase \"$*\" in *log-0*) exit 1;; esac\nexec /usr/sbin/haproxy \"$@\"\n";
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let arguments = format!(
        "--only small,log --peers haproxy --rounds 1 --seconds 0.2 --json {}",
        file.display()
    );
    let ran = compare(&arguments, &format!("{}:/usr/bin:/bin", folder.display()));
    assert_eq!(ran.code, 71, "{}{}", ran.output, ran.errors);
    assert!(
        ran.errors.contains("haproxy ended at once"),
        "{}",
        ran.errors
    );
    let json = fs::read_to_string(file).unwrap();
    assert!(json.contains("\"name\":\"small\""), "{json}");
}

#[test]
fn configurations_and_scenarios_are_shown_without_a_run() {
    let ran = compare("--only small,backends --show-config", "/usr/bin:/bin");
    assert_eq!(ran.code, 0, "{}", ran.errors);
    assert!(
        ran.output
            .contains("# ---- nginx, scenario small : nginx.conf")
    );
    assert!(
        ran.output.contains("server 127.1.3.231:3001"),
        "the thousandth backend"
    );
    assert!(!ran.output.contains("# ---- varnish"), "it is a cache");
    let ran = compare("--list", "/usr/bin:/bin");
    assert!(ran.output.contains("upload-64k"), "{}", ran.output);
}
