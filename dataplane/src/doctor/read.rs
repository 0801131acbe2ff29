//! Reading the host. Nothing is judged here, and what cannot be read is None.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, getrlimit};

use super::{Host, Kernel, Quota, cgroup};
use crate::{rt, sys};

const CLOCKS: &str = "sys/devices/system/clocksource/clocksource0";
/// Its bit, as linux/capability.h has it.
const CAP_NET_BIND_SERVICE: u32 = 10;
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
            enter_error: sys::enter_nothing(),
            quota: files.quota(),
            open_files: getrlimit(Resource::Nofile).maximum,
            locked_bytes: getrlimit(Resource::Memlock).current,
            somaxconn: files.number("proc/sys/net/core/somaxconn"),
            ports: files.ports(),
            low_ports: files.number("proc/sys/net/ipv4/ip_unprivileged_port_start"),
            takes_low_ports: files.takes_low_ports(),
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

    /// Of this process.
    fn status(&self, name: &str) -> Option<String> {
        let status = self.text("proc/self/status")?;
        let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(value.trim().to_owned())
    }

    pub(super) fn seccomp_filter(&self) -> Option<bool> {
        Some(self.status("Seccomp")? == "2")
    }

    pub(super) fn takes_low_ports(&self) -> Option<bool> {
        let effective = u64::from_str_radix(&self.status("CapEff")?, 16).ok()?;
        Some(effective >> CAP_NET_BIND_SERVICE & 1 == 1)
    }

    /// The least of all limits from this process's control group to the root; None where they cannot be read.
    pub(super) fn quota(&self) -> Option<Quota> {
        let groups = cgroup::folders(&self.text("proc/self/cgroup")?);
        // Every group has this file: where none is seen, no limit could be.
        if !groups.iter().any(|group| self.has(&group.join("cgroup.procs"))) {
            return None;
        }
        groups.iter().try_fold(Quota::Unlimited, |least, group| {
            let here = self.quota_of(group)?;
            Some(if here < least { here } else { least })
        })
    }

    /// A root has no limit, nor has a group whose CPU time nobody divides.
    fn quota_of(&self, group: &Path) -> Option<Quota> {
        let (max, quota) = (group.join("cpu.max"), group.join("cpu.cfs_quota_us"));
        if self.has(&max) {
            cgroup::cpu_max(&self.text(max)?)
        } else if self.has(&quota) {
            cgroup::cpus(&self.text(quota)?, &self.text(group.join("cpu.cfs_period_us"))?)
        } else {
            Some(Quota::Unlimited)
        }
    }

    /// Whether it is there, or may be.
    fn has(&self, path: &Path) -> bool {
        self.0.join(path).try_exists().unwrap_or(true)
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
