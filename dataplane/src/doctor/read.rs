//! Reading the host. Nothing is judged here, and what cannot be read is None.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, getrlimit};

use super::{Host, Kernel, cgroup};
use crate::rt;

const CLOCKS: &str = "sys/devices/system/clocksource/clocksource0";
const NODES: &str = "sys/devices/system/node";

impl Host {
    /// This host, as this process sees it. Building a ring is tried, on the calling thread.
    pub fn read() -> Self {
        let cpus = rt::cores().unwrap_or_default();
        let files = Files(PathBuf::from("/"));
        Self {
            kernel: Kernel::parse(&rustix::system::uname().release().to_string_lossy()),
            ring: rt::try_uring().into(),
            epoll_forced: rt::epoll_forced(),
            io_uring_disabled: files.number("proc/sys/kernel/io_uring_disabled"),
            seccomp_filter: files.seccomp_filter(),
            quota: files.quota(),
            open_files: getrlimit(Resource::Nofile).maximum,
            locked_bytes: getrlimit(Resource::Memlock).current,
            somaxconn: files.number("proc/sys/net/core/somaxconn"),
            ports: files.ports(),
            numa_nodes: files.numa_nodes(&cpus),
            clock: files.text(format!("{CLOCKS}/current_clocksource")),
            clocks: files.words(&format!("{CLOCKS}/available_clocksource")),
            cpus: cpus.len(),
        }
    }
}

/// The files of a host, under its root.
#[derive(Debug)]
pub(super) struct Files(pub(super) PathBuf);

impl Files {
    fn text(&self, path: impl AsRef<Path>) -> Option<String> {
        fs::read_to_string(self.0.join(path)).ok().map(|text| text.trim().to_owned())
    }

    fn words(&self, path: &str) -> Vec<String> {
        self.text(path).unwrap_or_default().split_whitespace().map(str::to_owned).collect()
    }

    fn number<T: std::str::FromStr>(&self, path: &str) -> Option<T> {
        self.text(path)?.parse().ok()
    }

    pub(super) fn seccomp_filter(&self) -> Option<bool> {
        let status = self.text("proc/self/status")?;
        let mode = status.lines().find_map(|line| line.strip_prefix("Seccomp:"))?;
        Some(mode.trim() == "2")
    }

    /// The least of all limits from this process's control group to the root.
    pub(super) fn quota(&self) -> Option<f64> {
        let groups = cgroup::folders(&self.text("proc/self/cgroup")?);
        groups.iter().filter_map(|folder| self.quota_of(folder)).min_by(f64::total_cmp)
    }

    fn quota_of(&self, folder: &Path) -> Option<f64> {
        if let Some(both) = self.text(folder.join("cpu.max")) {
            return cgroup::cpu_max(&both);
        }
        cgroup::cpus(&self.text(folder.join("cpu.cfs_quota_us"))?, &self.text(folder.join("cpu.cfs_period_us"))?)
    }

    pub(super) fn ports(&self) -> Option<(u16, u16)> {
        let range = self.words("proc/sys/net/ipv4/ip_local_port_range");
        Some((range.first()?.parse().ok()?, range.get(1)?.parse().ok()?))
    }

    /// How many nodes the CPUs lie on; None where the kernel does not tell.
    pub(super) fn numa_nodes(&self, cpus: &[usize]) -> Option<usize> {
        let mut nodes = BTreeSet::new();
        for entry in fs::read_dir(self.0.join(NODES)).ok()?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_node = name.strip_prefix("node").is_some_and(|rest| rest.parse::<u32>().is_ok());
            let list = self.text(format!("{NODES}/{name}/cpulist")).unwrap_or_default();
            if is_node && cpus.iter().any(|cpu| holds(&list, *cpu)) {
                nodes.insert(name);
            }
        }
        (!nodes.is_empty()).then_some(nodes.len())
    }
}

/// Whether a list as `0-3,8` has the CPU.
fn holds(list: &str, cpu: usize) -> bool {
    list.split(',').any(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        first.parse().is_ok_and(|first: usize| first <= cpu) && last.parse().is_ok_and(|last: usize| cpu <= last)
    })
}
