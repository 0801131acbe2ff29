//! What was typed (flags, environment, YAML) and what it means. All problems are reported at once; unknown keys are
//! refused.

mod address;
mod duration;
mod source;
mod typed;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use dataplane_core::http::HeadLimits;

use crate::rt::DriverChoice;

pub use address::{Address, Scheme};
pub use duration::parse_duration;
pub use source::{ControlPlane, Source, Tls, Transport};
pub use typed::{Args, Environment, Problem, Typed, resolve};

/// The meaning: every value present, checked and in its unit.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where clients connect.
    pub listen: SocketAddr,
    /// From when on.
    pub listen_when: ListenWhen,
    /// Who connects before there is any snapshot waits so long for one, and then is answered without.
    pub hold: Duration,
    /// Where operators and probes look.
    pub admin: AdminPlaces,
    /// Where the snapshot comes from.
    pub source: Source,
    /// io_uring, epoll, or the best that works.
    pub driver: DriverChoice,
    /// The CPUs to run on, one thread each.
    pub cores: Cores,
    /// Bounds on what a client may send and how long it may take.
    pub limits: Limits,
    /// Shutdown.
    pub drain: Drain,
    /// One line per request.
    pub access_log: AccessLog,
    /// Optional response headers for debugging.
    pub expose: Expose,
    /// Whether usage is asked for on streams; a backend's own setting narrows it.
    pub usage_inject: api::snapshot::UsageInjection,
}

/// From when on clients can connect.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ListenWhen {
    /// From the start: who comes before there are routes is held for [`Config::hold`], and then told so by a 503.
    #[default]
    Started,
    /// From the first snapshot: before that another process that listens at the same address takes all of its connections, as the pod
    /// does that is to go, where two share their node's port.
    Loaded,
}

/// Where operators and probes look. There is at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminPlaces {
    /// Where `/metrics`, `/healthz` and `/readyz` are served.
    pub metrics: Option<SocketAddr>,
    /// Where these and `/debug` are served; loopback unless set otherwise.
    pub debug: Option<SocketAddr>,
    /// A unix socket where all of it is served, to this user alone.
    pub socket: Option<PathBuf>,
}

/// Which CPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cores {
    /// All that `sched_getaffinity` allows, each thread pinned to its own.
    All,
    /// So many threads, wherever the kernel puts them.
    First(usize),
}

/// Bounds on clients. Each has a metric that counts when it is hit.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Size of a head, its fields and its target.
    pub head: HeadLimits,
    /// Bytes of one body.
    pub body_bytes: usize,
    /// Bytes of all bodies that the process holds at once.
    pub buffered_bytes: usize,
    /// Client connections of the process.
    pub connections: usize,
    /// From the first byte of a head to its last.
    pub header_time: Duration,
    /// For the next 64 KiB of a body, or its rest; ten times as long for the whole.
    pub body_idle: Duration,
    /// How long a client may take to read what was written at once, at most 64 KiB.
    pub write_idle: Duration,
    /// How long a connection may wait for its next request.
    pub keep_alive_idle: Duration,
    /// Idle engine connections per core and endpoint.
    pub pool_size: usize,
    /// How long an engine connection may idle; below the engines' keep-alive.
    pub pool_idle: Duration,
    /// Bodies over this are inspected on a helper thread.
    pub offload_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head: HeadLimits::default(),
            body_bytes: 32 << 20,
            buffered_bytes: 256 << 20,
            connections: 100_000,
            header_time: Duration::from_secs(10),
            body_idle: Duration::from_secs(30),
            write_idle: Duration::from_secs(60),
            keep_alive_idle: Duration::from_secs(60),
            pool_size: 256,
            // uvicorn closes at 5 s; a connection that it closes under a request costs a retry.
            pool_idle: Duration::from_secs(4),
            offload_bytes: 128 << 10,
        }
    }
}

/// Shutdown on SIGTERM.
#[derive(Debug, Clone, Copy)]
pub struct Drain {
    /// How long listeners go on accepting after readiness turned false.
    pub lead: Duration,
    /// When what is left is cut.
    pub deadline: Duration,
    /// Whether readiness turns false at all.
    pub readiness: DrainReadiness,
}

/// What `/readyz` says while draining.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrainReadiness {
    /// 503 at once.
    False,
    /// Stays 200: Kubernetes takes a terminating pod out of Services by itself.
    Keep,
}

impl Default for Drain {
    fn default() -> Self {
        Self { lead: Duration::from_secs(5), deadline: Duration::from_secs(300), readiness: DrainReadiness::False }
    }
}

/// Where the access log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessLog {
    /// Nowhere at all when false.
    pub enabled: bool,
    /// Text or JSON.
    pub format: LogFormat,
    /// Standard output, standard error or a file.
    pub output: LogOutput,
}

/// The two forms of the access log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One line of `key=value`.
    Text,
    /// One JSON object a line.
    Json,
}

/// Where log lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogOutput {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// Appended to a file.
    File(PathBuf),
}

/// Response headers that say what the proxy decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Expose {
    /// `x-kthena-endpoint`: who served it.
    pub endpoint: bool,
    /// `x-kthena-decision`: why.
    pub decision: bool,
}

impl Config {
    /// A configuration for tests and tools: loopback, ports chosen by the kernel, one core.
    pub fn loopback(source: impl Into<Source>) -> Self {
        let any = SocketAddr::new(IpAddr::from([127, 0, 0, 1]), 0);
        Self {
            listen: any,
            listen_when: ListenWhen::default(),
            hold: Duration::ZERO,
            admin: AdminPlaces { metrics: Some(any), debug: Some(any), socket: None },
            source: source.into(),
            driver: DriverChoice::Auto,
            cores: Cores::First(1),
            limits: Limits::default(),
            drain: Drain { lead: Duration::ZERO, ..Drain::default() },
            access_log: AccessLog { enabled: false, format: LogFormat::Text, output: LogOutput::Stdout },
            expose: Expose::default(),
            usage_inject: api::snapshot::UsageInjection::Always,
        }
    }
}
