//! What is looked at.

use serde::Serialize;

use super::Page;

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
    /// `net.ipv4.ip_unprivileged_port_start`.
    LowPorts,
    /// CPUs on more than one NUMA node.
    Numa,
    /// The kernel's clock source.
    Clock,
}

impl Knob {
    /// All, in the order of the report.
    pub const ALL: [Self; 11] = [
        Self::Settings,
        Self::IoDriver,
        Self::Kernel,
        Self::CgroupQuota,
        Self::OpenFiles,
        Self::LockedMemory,
        Self::Backlog,
        Self::EphemeralPorts,
        Self::LowPorts,
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
            Self::LowPorts => "low ports",
            Self::Numa => "numa",
            Self::Clock => "clock",
        }
    }

    /// The page about it.
    pub fn page(self) -> Page {
        match self {
            Self::Settings => Page::Settings,
            Self::IoDriver => Page::IoDriver,
            Self::Kernel => Page::Kernel,
            Self::CgroupQuota => Page::CgroupQuota,
            Self::OpenFiles => Page::OpenFiles,
            Self::LockedMemory => Page::Memory,
            Self::Backlog | Self::EphemeralPorts | Self::LowPorts => Page::Sockets,
            Self::Numa => Page::Numa,
            Self::Clock => Page::Clock,
        }
    }
}
