//! Stamps the binary with its commit and build profile, for `corelane version` and the metrics.

use std::process::Command;

fn main() {
    // A build without a git directory (a container, a tarball) may pass its commit in GIT_COMMIT.
    println!("cargo:rerun-if-env-changed=GIT_COMMIT");
    // HEAD names the branch, its log moves with every commit on it.
    for file in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--git-path", file]) {
            if std::path::Path::new(&path).exists() {
                println!("cargo:rerun-if-changed={path}");
            }
        }
    }
    println!("cargo:rerun-if-changed=scripts/build.rs");
    let commit = std::env::var("GIT_COMMIT")
        .ok()
        .filter(|commit| !commit.is_empty())
        .or_else(|| git(&["rev-parse", "--short=12", "HEAD"]))
        .unwrap_or_else(|| "unknown".to_owned());
    let profile = std::env::var("PROFILE").unwrap_or_else(|_| "unknown".to_owned());
    // Not CORELANE_…: cargo run passes them on, and we refuse variables of that name that we do not know.
    println!("cargo:rustc-env=BUILT_COMMIT={commit}");
    println!("cargo:rustc-env=BUILT_PROFILE={profile}");
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let text = text.trim();
    (output.status.success() && !text.is_empty()).then(|| text.to_owned())
}
