//! A run of load as data.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

/// Everything that a run is.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// The proxy, or an engine.
    pub target: SocketAddr,
    /// The model that requests name.
    pub model: String,
    /// The path that is posted to.
    pub path: String,
    /// Connections of all threads together; at least one a thread.
    pub connections: usize,
    /// Event loops.
    pub threads: usize,
    /// When requests are due.
    pub pace: Pace,
    /// How long a connection is kept.
    pub reuse: Reuse,
    /// What is asked.
    pub shape: Shape,
    /// Whether answers are streams.
    pub stream: bool,
    /// `max_tokens` of every request (a trace has its own).
    pub max_tokens: u32,
    /// Connections start spread over this time, so that streams are not in step.
    pub ramp: Duration,
    /// Not measured, at the start.
    pub warmup: Duration,
    /// Measured, after the warm-up.
    pub duration: Duration,
    /// From sending a request to the end of its answer.
    pub timeout: Duration,
    /// Names every random choice.
    pub seed: u64,
    /// Local addresses that connections are bound to in turn; empty leaves it to the kernel.
    pub sources: Vec<IpAddr>,
    /// Processes whose CPU time, memory and descriptors are measured.
    pub processes: Vec<Process>,
}

impl Plan {
    /// A second of closed loop over one connection: what others are made from.
    pub fn small(target: SocketAddr, model: &str, bytes: usize) -> Self {
        Self {
            target,
            model: model.to_owned(),
            path: "/v1/chat/completions".to_owned(),
            connections: 1,
            threads: 1,
            pace: Pace::Closed,
            reuse: Reuse::KeepAlive,
            shape: Shape::Fixed { bytes },
            stream: false,
            max_tokens: 16,
            ramp: Duration::ZERO,
            warmup: Duration::ZERO,
            duration: Duration::from_secs(1),
            timeout: Duration::from_secs(30),
            seed: 1,
            sources: Vec::new(),
            processes: Vec::new(),
        }
    }
}

/// A measured process.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
pub struct Process {
    /// Its name in the report.
    pub label: String,
    /// Its id.
    pub pid: u32,
}

/// When requests are due.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Pace {
    /// Each connection sends the next request when it has the last answer.
    Closed,
    /// By a schedule; latency counts from the scheduled time.
    Open {
        /// Requests per second of all threads together.
        rate: f64,
        /// How they are spread.
        arrival: Arrival,
    },
    /// As in the trace, this many times as fast.
    Trace {
        /// 2 halves the gaps.
        speed: f64,
    },
}

/// The spread of an open loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Arrival {
    /// At equal distances.
    Even,
    /// At random.
    Poisson,
}

/// How long a connection is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Reuse {
    /// As long as the peer lets it.
    KeepAlive,
    /// For one request; the client closes.
    NewConnection,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// Distinct prompts whose requests have this many bytes of body.
    Fixed {
        /// Of the body.
        bytes: usize,
    },
    /// The same prompt each time.
    Same {
        /// Of the body.
        bytes: usize,
    },
    /// Growing conversations over shared system prompts.
    Conversations(Conversations),
    /// A Mooncake trace.
    Trace {
        /// The jsonl file.
        file: PathBuf,
        /// Requests taken of it.
        limit: usize,
    },
}

/// Chats that share system prompts and grow by a turn each time they come up.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Conversations {
    /// Different system prompts.
    pub systems: usize,
    /// Exponent of their popularity.
    pub zipf: f64,
    /// Bytes of a system prompt.
    pub system_bytes: usize,
    /// Bytes of a user's turn.
    pub turn_bytes: usize,
    /// Bytes of the answer that the next turn repeats.
    pub answer_bytes: usize,
    /// Turns until a conversation ends and a new one takes its place.
    pub turns: usize,
    /// Conversations at a time (of each thread).
    pub active: usize,
}
