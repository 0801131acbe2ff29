//! The pages of `tuning/` that findings link.

/// What their addresses begin with.
const PAGES: &str = concat!(env!("CARGO_PKG_REPOSITORY"), "/blob/main/");

/// A page of `tuning/` that some finding is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Page {
    /// What the program is started with.
    Settings,
    /// io_uring or epoll.
    IoDriver,
    /// The profile that lets io_uring through.
    Seccomp,
    /// Which kernels have what.
    Kernel,
    /// CPU time against threads.
    CgroupQuota,
    /// RLIMIT_NOFILE.
    OpenFiles,
    /// The control group's memory, and locked memory.
    Memory,
    /// Backlog and ports.
    Sockets,
    /// CPUs on more than one node.
    Numa,
    /// The clock source.
    Clock,
}

impl Page {
    /// Where a browser finds it: logs are read where the repository is not.
    pub fn url(self) -> String {
        format!("{PAGES}{}", self.file())
    }

    /// The file, from the root of the repository.
    pub fn file(self) -> &'static str {
        match self {
            Self::Settings => "tuning/settings.md",
            Self::IoDriver => "tuning/io-driver.md",
            Self::Seccomp => "tuning/seccomp.md",
            Self::Kernel => "tuning/kernel.md",
            Self::CgroupQuota => "tuning/cgroup-quota.md",
            Self::OpenFiles => "tuning/open-files.md",
            Self::Memory => "tuning/memory.md",
            Self::Sockets => "tuning/sockets.md",
            Self::Numa => "tuning/numa.md",
            Self::Clock => "tuning/clock.md",
        }
    }
}
