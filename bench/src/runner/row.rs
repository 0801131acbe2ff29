//! The rows of the performance budget, as data.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::Serialize;

use crate::load::plan::{Arrival, Pace, Plan, Reuse, Shape};

/// How large the rows are; the defaults suit two cores.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Scale {
    /// Connections of closed loops, and of open ones at most.
    pub connections: usize,
    /// Requests per second of the per-request rows.
    pub rates: Rates,
    /// Streams at a time in the paced rows.
    pub streams: usize,
    /// Streams at a time at full speed.
    pub full_speed: usize,
    /// Requests per second of the latency row: about half of what the floor can do.
    pub half_load: f64,
    /// Idle connections.
    pub idle: usize,
    /// Measured time of each sample.
    pub duration: Duration,
    /// Before it.
    pub warmup: Duration,
}

/// Requests per second that are offered to every contender alike: a closed loop would load a slow one more than a fast one,
/// and a loaded event loop does more for each system call. 0 makes the loop closed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Rates {
    /// 1 KB requests.
    pub small: f64,
    /// 64 KB prompts.
    pub prompt: f64,
    /// 1 KB requests, each on a new connection.
    pub new_connection: f64,
}

/// What a row's number is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// CPU µs of the proxy per request.
    PerRequest,
    /// CPU µs of the proxy per SSE event.
    PerEvent,
    /// p50 µs; what the direct way takes is subtracted.
    Latency,
    /// Bytes of resident memory per connection.
    Idle,
}

/// A row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Row {
    /// 1 KB request, 1 KB answer.
    Small,
    /// 64 KB prompt, 1 KB answer.
    Prompt,
    /// One stream after another at full speed.
    FullSpeed,
    /// Many streams of 50 events/s, spread in time.
    Spread,
    /// The same, all streams in one step.
    Batch,
    /// A new connection for every request.
    NewConnection,
    /// Latency at half load.
    HalfLoad,
    /// Idle keep-alive connections.
    Idle,
}

/// What a row must meet: a ratio to the floor (idle: bytes), and a ratio to the better rival.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Budget {
    /// Ratio to the floor, or bytes for idle connections.
    pub floor: f64,
    /// Ratio to the better of nginx and haproxy; none where it is not asked for.
    pub rival: Option<f64>,
}

impl Row {
    /// All, in the order of the budget table.
    pub const ALL: [Self; 8] = [
        Self::Small,
        Self::Prompt,
        Self::FullSpeed,
        Self::Spread,
        Self::Batch,
        Self::NewConnection,
        Self::HalfLoad,
        Self::Idle,
    ];

    /// For people.
    pub fn title(self) -> &'static str {
        match self {
            Self::Small => "1 KB request / 1 KB answer, CPU µs per request",
            Self::Prompt => "64 KB prompt, CPU µs per request",
            Self::FullSpeed => "stream at full speed, CPU µs per event",
            Self::Spread => "streams of 50 events/s spread in time, CPU µs per event",
            Self::Batch => "streams of 50 events/s in batch steps, CPU µs per event",
            Self::NewConnection => "new connection per request, CPU µs per request",
            Self::HalfLoad => "latency added at half load, p50 µs",
            Self::Idle => "idle keep-alive connection, bytes",
        }
    }

    /// What its number is.
    pub fn unit(self) -> Unit {
        match self {
            Self::Small | Self::Prompt | Self::NewConnection => Unit::PerRequest,
            Self::FullSpeed | Self::Spread | Self::Batch => Unit::PerEvent,
            Self::HalfLoad => Unit::Latency,
            Self::Idle => Unit::Idle,
        }
    }

    /// Its answers are streams.
    pub fn streams(self) -> bool {
        self.unit() == Unit::PerEvent
    }

    /// What it is held to.
    pub fn budget(self) -> Budget {
        let of = |floor, rival| Budget { floor, rival: Some(rival) };
        match self {
            Self::Small => of(1.25, 0.85),
            Self::Prompt => of(1.35, 0.85),
            Self::FullSpeed => of(0.80, 1.05),
            Self::Spread => of(1.10, 0.85),
            Self::Batch => of(1.15, 0.85),
            Self::NewConnection => of(0.95, 1.05),
            Self::HalfLoad => of(1.30, 0.85),
            Self::Idle => of(1536.0, 0.85),
        }
    }

    /// Flags of the simulated engine, whose answers must not be what limits the run.
    pub fn engine_args(self) -> Vec<String> {
        let pace: &[&str] = match self {
            Self::Spread => &["--gap-us", "20000", "--spread", "--stamp"],
            Self::Batch => &["--gap-us", "20000", "--stamp"],
            Self::FullSpeed => &["--burst", "1", "--stamp"],
            _ => &["--burst", "1"],
        };
        ["--fast", "--keep-alive-ms", "600000"].iter().chain(pace).map(|&word| word.to_owned()).collect()
    }

    /// The load.
    pub fn plan(self, target: SocketAddr, model: &str, scale: &Scale) -> Plan {
        let bytes = if self == Self::Prompt { 64 * 1024 } else { 1024 };
        let mut plan = Plan::small(target, model, bytes);
        (plan.connections, plan.warmup, plan.duration) = (scale.connections, scale.warmup, scale.duration);
        plan.stream = self.streams();
        match self {
            Self::Small => plan.pace = pace(scale.rates.small),
            Self::Prompt => plan.pace = pace(scale.rates.prompt),
            Self::Idle => {}
            Self::FullSpeed => {
                plan.connections = scale.full_speed;
                plan.max_tokens = 1000;
            }
            Self::Spread | Self::Batch => {
                plan.connections = scale.streams;
                // Streams last as long as the sample, so starts and ends weigh little.
                let seconds = (scale.warmup + scale.duration).as_secs_f64();
                plan.max_tokens = (seconds * 50.0).ceil().max(50.0) as u32;
                plan.ramp = scale.warmup / 2;
            }
            Self::NewConnection => {
                (plan.reuse, plan.pace) = (Reuse::NewConnection, pace(scale.rates.new_connection));
                // One address has too few ports for what waits in TIME_WAIT after some rounds.
                plan.sources = (1..=16).map(|last| IpAddr::from([127, 0, 2, last])).collect();
            }
            Self::HalfLoad => plan.pace = pace(scale.half_load),
        }
        debug_assert!(matches!(plan.shape, Shape::Fixed { .. }), "prompts are distinct");
        plan
    }
}

fn pace(rate: f64) -> Pace {
    if rate > 0.0 { Pace::Open { rate, arrival: Arrival::Poisson } } else { Pace::Closed }
}
