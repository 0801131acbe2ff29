//! Where a number was measured.

use std::fs;
use std::process::Command;

use serde::Serialize;

/// The machine, the revision and the command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// The CPU's name for itself.
    pub cpu: String,
    /// CPUs that this process may use.
    pub cores: usize,
    /// Kernel release.
    pub kernel: String,
    /// Load average when the run began: a busy machine is worth knowing about.
    pub load: String,
    /// `git describe --always --dirty`.
    pub revision: String,
    /// Of the start, YYYY-MM-DD.
    pub date: String,
    /// The command line.
    pub command: Vec<String>,
}

/// Looks; what cannot be found is `unknown`.
pub fn look() -> Machine {
    let read = |path: &str| fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let cpu = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown");
    Machine {
        cpu: cpu.trim_start_matches(['\t', ':', ' ']).to_owned(),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        kernel: read("/proc/sys/kernel/osrelease"),
        load: load(),
        revision: said("git", &["describe", "--always", "--dirty"]),
        date: said("date", &["-u", "+%Y-%m-%d"]),
        command: std::env::args().collect(),
    }
}

/// The load average now.
pub fn load() -> String {
    fs::read_to_string("/proc/loadavg").map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}

fn said(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().ok().filter(|output| output.status.success());
    output.map_or_else(|| "unknown".to_owned(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
