//! What counts of a host, as values.

use std::fmt;
use std::io;

use crate::config::{Config, Cores, Problem};
use crate::rt::{Driver, DriverChoice};

/// A host as this process sees it. None: it could not be read.
#[derive(Debug, Clone, PartialEq)]
pub struct Host {
    /// The kernel's release.
    pub kernel: Option<Kernel>,
    /// What came of trying to build a ring.
    pub ring: Ring,
    /// Whether `MONOIO_FORCE_LEGACY_DRIVER` forbids io_uring.
    pub epoll_forced: bool,
    /// `kernel.io_uring_disabled`, which kernels before 6.6 lack: 0 for nobody, 1 for the unprivileged, 2 for all.
    pub io_uring_disabled: Option<u8>,
    /// Whether a seccomp filter is on.
    pub seccomp_filter: Option<bool>,
    /// The error that `io_uring_enter` has for a descriptor that is none: EBADF unless a filter answers, or a kernel without io_uring.
    pub enter_error: Option<i32>,
    /// CPUs of the affinity mask.
    pub cpus: usize,
    /// The CPU time that the control group may use.
    pub quota: Option<Quota>,
    /// The hard limit on open files; None where there is none.
    pub open_files: Option<u64>,
    /// The limit on locked memory in bytes; None where there is none.
    pub locked_bytes: Option<u64>,
    /// `net.core.somaxconn` of this network namespace.
    pub somaxconn: Option<u64>,
    /// `net.ipv4.ip_local_port_range` of this network namespace, both ends included.
    pub ports: Option<(u16, u16)>,
    /// `net.ipv4.ip_unprivileged_port_start` of this network namespace.
    pub low_ports: Option<u16>,
    /// Whether this process may take a port below that all the same (CAP_NET_BIND_SERVICE).
    pub takes_low_ports: Option<bool>,
    /// NUMA nodes that the CPUs of the affinity mask lie on.
    pub numa_nodes: Option<usize>,
    /// The clock source in use.
    pub clock: Option<String>,
    /// The clock sources to choose from.
    pub clocks: Vec<String>,
}

/// CPU time that a control group may use; less comes first.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub enum Quota {
    /// So many CPUs' worth of it.
    Cpus(f64),
    /// As much as there is.
    Unlimited,
}

/// Major and minor of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kernel(pub u32, pub u32);

/// What came of trying io_uring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ring {
    /// The best rung that works.
    Works(Driver),
    /// The error's number; None where the kernel builds rings but lacks an operation.
    Refused(Option<i32>),
}

/// What is going to be run on it, as flags, environment and file say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// What is wrong with these, for which it would not start. The rest is what they would mean without it.
    pub refused: Vec<Problem>,
    /// `io.driver`
    pub driver: DriverChoice,
    /// `cores`
    pub cores: Cores,
    /// `limits.connections`
    pub connections: usize,
    /// Where it will listen.
    pub ports: Vec<u16>,
}

impl Kernel {
    /// Reads the release that `uname` gives, such as `6.1.0-18-amd64`.
    pub fn parse(release: &str) -> Option<Self> {
        let mut parts = release.split(|c: char| !c.is_ascii_digit());
        Some(Self(parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

impl From<io::Result<Driver>> for Ring {
    fn from(tried: io::Result<Driver>) -> Self {
        match tried {
            Ok(driver) => Self::Works(driver),
            Err(error) => Self::Refused(error.raw_os_error()),
        }
    }
}

impl Wish {
    /// What is wanted where nothing is wrong with it.
    pub fn of(config: &Config) -> Self {
        let Config { driver, cores, limits, listen, admin, .. } = config;
        let places = [Some(*listen), admin.metrics, admin.debug];
        let ports = places.into_iter().flatten().map(|place| place.port()).collect();
        Self { refused: Vec::new(), driver: *driver, cores: *cores, connections: limits.connections, ports }
    }

    /// Threads that will serve.
    pub fn threads(&self, host: &Host) -> usize {
        match self.cores {
            Cores::All => host.cpus,
            Cores::First(n) => n,
        }
    }
}
