//! What another process has used: its CPU clock, memory and descriptors.

use std::fs;
use std::time::Duration;

use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;
use serde::Serialize;

/// One look at a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Usage {
    /// User and system time of all its threads, also of those that have ended.
    pub cpu_ns: u64,
    /// Resident now.
    pub rss_kib: u64,
    /// The most it ever had resident.
    pub peak_kib: u64,
    /// Open descriptors.
    pub fds: u64,
}

/// Nanoseconds of CPU that the process has used. `/proc/P/stat` counts ticks of 10 ms; this clock is exact.
pub fn cpu_ns(pid: u32) -> anyhow::Result<u64> {
    let clock = clock_getcpuclockid(Pid::from_raw(i32::try_from(pid)?))?;
    Ok(u64::try_from(Duration::from(clock.now()?).as_nanos())?)
}

/// All of it at once.
pub fn usage(pid: u32) -> anyhow::Result<Usage> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    Ok(Usage {
        cpu_ns: cpu_ns(pid)?,
        rss_kib: kib(&status, "VmRSS:"),
        peak_kib: kib(&status, "VmHWM:"),
        // Another user's descriptors cannot be counted; that is no reason to measure nothing.
        fds: fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, |fds| fds.count() as u64),
    })
}

fn kib(status: &str, key: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or("");
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_of_this_process_runs_while_it_works() {
        let before = usage(std::process::id()).unwrap();
        let (mut work, mut after) = (0u64, before);
        while after.cpu_ns < before.cpu_ns + 1_000_000 {
            work = (0..10_000).fold(work, |sum: u64, n| sum.wrapping_mul(31).wrapping_add(n));
            after = usage(std::process::id()).unwrap();
        }
        assert!(after.rss_kib > 100 && after.peak_kib >= after.rss_kib && after.fds > 0, "{after:?} {work}");
        assert!(usage(u32::MAX / 4).is_err());
    }
}
