//! The configuration, from text to report, and the binary's exit codes.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

mod binary;
mod cache;
mod clusters;
mod filters;
mod problems;
mod reference;
mod routes;
mod secrets;
mod shown;
mod sources;

use std::io;
use std::path::Path;

use corelane::config::file::File;
use corelane::config::files::FILE_BYTES_MAX;
use corelane::config::keys::Key;
use corelane::config::plan::Plan;
use corelane::config::{self, Source};

const REFERENCE: &str = include_str!("../../config.toml");

fn pair((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

fn load(
    toml: &str,
    environment: &[(&str, &str)],
    flags: &[(Key, &'static str, &str)],
) -> Result<(File, Plan), String> {
    let environment: Vec<_> = environment.iter().copied().map(pair).collect();
    let flags: Vec<_> = flags
        .iter()
        .map(|(key, flag, value)| (*key, *flag, (*value).to_owned()))
        .collect();
    let source = Source {
        name: "config.toml",
        text: toml,
        environment: &environment,
        flags: &flags,
        files: &file,
    };
    config::load(source).map_err(|problems| problems.to_string())
}

/// The files that values name in these tests.
fn file(path: &Path) -> io::Result<Vec<u8>> {
    Ok(match path.to_str() {
        Some("/users") => format!("# who\n\nann:{ARGON2}\n  ben:{BCRYPT}\n").into(),
        Some("/wrong-users") => format!("ann:{ARGON2}\nben:hunter2-hunter2\ncat\n").into(),
        Some("/secret") => format!("{SECRET}\n").into(),
        Some("/page.html") => b"<h1>{status}</h1>\n".to_vec(),
        Some("/public.pem") => PUBLIC.as_bytes().to_vec(),
        Some("/large") => vec![b'x'; FILE_BYTES_MAX + 1],
        Some(_) | None => return Err(io::ErrorKind::NotFound.into()),
    })
}

const ARGON2: &str =
    "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";
const BCRYPT: &str = "$2y$05$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC";
const SECRET: &str = "0123456789abcdef0123456789abcdef";
const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAxRqnznF5buWtlHGLIry06eyCd+dHGzkUD6B7+k+00u0=
-----END PUBLIC KEY-----
";

fn plan(toml: &str) -> Plan {
    load(toml, &[], &[])
        .map_err(|report| panic!("{report}"))
        .unwrap()
        .1
}

/// Uncommented and without the short form, so that every key is live.
fn long_reference() -> String {
    let line = |line: &str| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => {
            rest.to_owned()
        }
        Some(_) | None => line.to_owned(),
    };
    REFERENCE
        .lines()
        .filter(|line| !line.starts_with("backends ="))
        .map(|l| line(l) + "\n")
        .collect()
}
