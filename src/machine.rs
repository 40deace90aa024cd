//! What the machine gives this process: CPUs and file descriptors.
//!
//! Decides: how many shards "auto" is, and how many client connections the descriptors carry. May not know:
//! the configuration. Invariant: never less than one shard.

use std::path::Path;
use std::{fs, io};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that are not connections: listeners, rings, logs, pipes, the admin's.
const DESCRIPTORS_RESERVED: u64 = 96;

/// min(CPU affinity mask, ceil(cgroup quota)).
pub fn cpus(allowed: usize) -> usize {
    let quota = cgroup_quota(Path::new("/proc/self/cgroup"), Path::new("/sys/fs/cgroup"));
    quota.map_or(allowed, |quota| allowed.min(quota)).max(1)
}

/// The CPUs of our cgroup's quota, rounded up; `None` if there is no quota.
fn cgroup_quota(membership: &Path, root: &Path) -> Option<usize> {
    let membership = fs::read_to_string(membership).ok()?;
    let mut least: Option<usize> = None;
    for (file, path) in quota_files(&membership) {
        // A parent's quota binds its children too.
        let mut folder = root.join(path);
        loop {
            let quota = match file {
                QuotaFile::V2 => fs::read_to_string(folder.join("cpu.max")).ok(),
                QuotaFile::V1 => {
                    let read = |name| fs::read_to_string(folder.join(name)).ok();
                    read("cpu.cfs_quota_us")
                        .zip(read("cpu.cfs_period_us"))
                        .map(|(q, p)| format!("{q} {p}"))
                }
            };
            if let Some(cpus) = quota.as_deref().and_then(quota_cpus) {
                least = Some(least.map_or(cpus, |least| least.min(cpus)));
            }
            if folder == root || !folder.pop() || !folder.starts_with(root) {
                break;
            }
        }
    }
    least
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum QuotaFile {
    V1,
    V2,
}

/// Where quotas of the groups in `/proc/self/cgroup` stand, relative to the mount.
fn quota_files(membership: &str) -> Vec<(QuotaFile, String)> {
    let mut files = Vec::new();
    for line in membership.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(id), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        let path = path.trim_start_matches('/');
        if id == "0" && controllers.is_empty() {
            files.push((QuotaFile::V2, path.to_owned()));
        } else if controllers.split(',').any(|name| name == "cpu") {
            files.push((QuotaFile::V1, format!("{controllers}/{path}")));
        }
    }
    files
}

/// "150000 100000" is two CPUs; "max 100000" and "-1 100000" are none.
fn quota_cpus(text: &str) -> Option<usize> {
    let mut numbers = text.split_whitespace().map(str::parse::<u64>);
    let (Some(Ok(quota)), Some(Ok(period @ 1..))) = (numbers.next(), numbers.next()) else {
        return None;
    };
    usize::try_from(quota.div_ceil(period))
        .ok()
        .map(|cpus| cpus.max(1))
}

/// Raises the soft limit of open files to the hard one; the limit that holds now.
pub fn raise_descriptor_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        };
        // Refused in some sandboxes: the limit we have is then the one that counts.
        let _ = setrlimit(Resource::Nofile, raised);
    }
    getrlimit(Resource::Nofile)
        .current
        .unwrap_or(u64::from(u32::MAX))
}

/// Client connections that the descriptors carry, each with one to a backend. Beyond it accepting waits.
pub fn connections_for(descriptors: u64) -> u32 {
    let usable = descriptors.saturating_sub(DESCRIPTORS_RESERVED) / 2;
    u32::try_from(usable).unwrap_or(u32::MAX).max(1)
}

/// Bytes that nobody can guess.
pub fn secret() -> io::Result<[u8; 32]> {
    let mut secret = [0; 32];
    let mut filled = 0;
    // The kernel gives so few at once, but a signal may come between.
    while filled < secret.len() {
        let flags = rustix::rand::GetRandomFlags::empty();
        match rustix::rand::getrandom(&mut secret[filled..], flags) {
            Ok(more) => filled += more,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_round_up_and_max_is_none() {
        for (text, cpus) in [
            ("max 100000\n", None),
            ("150000 100000\n", Some(2)),
            ("100000 100000", Some(1)),
            ("1000 100000", Some(1)),
            ("-1 100000", None),
            ("100000 0", None),
            ("", None),
            ("800000 100000", Some(8)),
        ] {
            assert_eq!(quota_cpus(text), cpus, "{text:?}");
        }
    }

    #[test]
    fn both_cgroup_versions_are_found() {
        let v1 = "12:memory:/a\n4:cpu,cpuacct:/docker/x\n0::/unified\n";
        assert_eq!(
            quota_files(v1),
            [
                (QuotaFile::V1, "cpu,cpuacct/docker/x".to_owned()),
                (QuotaFile::V2, "unified".to_owned())
            ]
        );
        assert!(quota_files("garbage\n1:cpuset:/x").is_empty());
    }

    #[test]
    fn descriptors_leave_room_for_backends() {
        assert_eq!(connections_for(512), 208);
        assert_eq!(connections_for(10), 1);
    }
}
