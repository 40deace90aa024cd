//! What this binary is: its version, the commit and the profile it was built from.

pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Twelve digits, or `unknown` for a build without git.
pub const COMMIT: &str = env!("BUILT_COMMIT");

/// `release` or `debug`.
pub const PROFILE: &str = env!("BUILT_PROFILE");

/// One line for people and scripts: `corelane 0.1.0 (d9c1e880a3b1, release)`.
pub fn line() -> String {
    format!("corelane {VERSION} ({COMMIT}, {PROFILE})")
}
