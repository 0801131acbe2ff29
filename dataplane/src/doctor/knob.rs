//! What is looked at.

use serde::Serialize;

/// What the pages of `tuning/` begin with.
pub(super) const PAGES: &str = concat!(env!("CARGO_PKG_REPOSITORY"), "/blob/main/");

/// Something of the host that can be set. Each has a page in `tuning/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Knob {
    /// Flags, environment and file.
    Settings,
    /// io_uring or epoll.
    IoDriver,
    /// The kernel's version.
    Kernel,
    /// The control group's CPU time against threads.
    CgroupQuota,
    /// RLIMIT_NOFILE.
    OpenFiles,
    /// RLIMIT_MEMLOCK.
    LockedMemory,
    /// `net.core.somaxconn`.
    Backlog,
    /// `net.ipv4.ip_local_port_range`.
    EphemeralPorts,
    /// CPUs on more than one NUMA node.
    Numa,
    /// The kernel's clock source.
    Clock,
}

impl Knob {
    /// All, in the order of the report.
    pub const ALL: [Self; 10] = [
        Self::Settings,
        Self::IoDriver,
        Self::Kernel,
        Self::CgroupQuota,
        Self::OpenFiles,
        Self::LockedMemory,
        Self::Backlog,
        Self::EphemeralPorts,
        Self::Numa,
        Self::Clock,
    ];

    /// As the report calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Settings => "settings",
            Self::IoDriver => "io driver",
            Self::Kernel => "kernel",
            Self::CgroupQuota => "cpu quota",
            Self::OpenFiles => "open files",
            Self::LockedMemory => "locked memory",
            Self::Backlog => "backlog",
            Self::EphemeralPorts => "ephemeral ports",
            Self::Numa => "numa",
            Self::Clock => "clock",
        }
    }

    /// Its page, where a browser finds it: logs are read where the repository is not.
    pub fn url(self) -> String {
        format!("{PAGES}{}", self.page())
    }

    /// Its page, from the root of the repository.
    pub fn page(self) -> &'static str {
        match self {
            Self::Settings => "tuning/settings.md",
            Self::IoDriver => "tuning/io-driver.md",
            Self::Kernel => "tuning/kernel.md",
            Self::CgroupQuota => "tuning/cgroup-quota.md",
            Self::OpenFiles => "tuning/open-files.md",
            Self::LockedMemory => "tuning/memory.md",
            Self::Backlog | Self::EphemeralPorts => "tuning/sockets.md",
            Self::Numa => "tuning/numa.md",
            Self::Clock => "tuning/clock.md",
        }
    }
}
