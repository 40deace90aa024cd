//! The `process_*` figures, from /proc.
//!
//! Called by the admin thread only: reading files would stall a shard. What cannot be read is left out.

use std::fs;

/// What the kernel says about this process.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub(super) struct Process {
    pub(super) cpu_seconds: Option<f64>,
    pub(super) resident_bytes: Option<u64>,
    pub(super) open_descriptors: Option<u64>,
}

impl Process {
    pub(super) fn read() -> Process {
        Process {
            cpu_seconds: fs::read_to_string("/proc/self/stat")
                .ok()
                .and_then(|stat| cpu_seconds(&stat)),
            resident_bytes: fs::read_to_string("/proc/self/statm")
                .ok()
                .and_then(|statm| resident_bytes(&statm)),
            // The listing holds its own descriptor for as long as it is read.
            open_descriptors: fs::read_dir("/proc/self/fd")
                .ok()
                .map(|list| (list.count() as u64).saturating_sub(1)),
        }
    }
}

/// Fields 14 and 15 of proc(5) stat, user and system time. The name in field 2 may hold spaces and parentheses.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, after_name) = stat.rsplit_once(") ")?;
    let mut ticks = after_name.split_ascii_whitespace().skip(11);
    let user: u64 = ticks.next()?.parse().ok()?;
    let system: u64 = ticks.next()?.parse().ok()?;
    Some((user + system) as f64 / rustix::param::clock_ticks_per_second() as f64)
}

fn resident_bytes(statm: &str) -> Option<u64> {
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_stat_whatever_the_name() {
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        for (stat, seconds) in [
            (
                "1 (a) S 0 1 1 0 -1 4 5 6 7 8 150 50 0 0 20",
                Some(200.0 / ticks),
            ),
            (
                "1 (a b) c) S 0 1 1 0 -1 4 5 6 7 8 1 2 0 0 20",
                Some(3.0 / ticks),
            ),
            ("1 (a) S 0", None),
            ("", None),
        ] {
            assert_eq!(cpu_seconds(stat), seconds, "{stat}");
        }
    }

    #[test]
    fn this_process_has_figures() {
        let process = Process::read();
        assert!(process.cpu_seconds.is_some());
        assert!(process.resident_bytes > Some(100_000));
        assert!(process.open_descriptors >= Some(3));
    }
}
