//! The load generator as a program; its report is JSON on stdout.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use bench::load::hold::{self, Hold, HoldPlan};
use bench::load::plan::{Conversations, Process};
use bench::load::workload::Workload;
use bench::load::{self, Arrival, Pace, Plan, Reuse, Shape};
use clap::{Args, Parser, Subcommand};

/// Sends OpenAI-shaped load and reports what came of it.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Requests: closed loop, open loop (--rate), conversations (--conversations), a trace (--trace).
    Run(Box<Run>),
    /// Holds connections: idle ones, or clients that are slow on purpose.
    Hold(HoldArgs),
    /// Holds idle connections after one request each: `hold --hold idle`.
    Idle(HoldArgs),
    /// Slow heads, unless --hold says otherwise.
    Slow(HoldArgs),
}

#[derive(Debug, Args)]
struct Run {
    #[arg(long)]
    target: SocketAddr,
    #[arg(long, default_value = "sim")]
    model: String,
    #[arg(long, default_value = "/v1/chat/completions")]
    path: String,
    #[arg(long, default_value_t = 16)]
    connections: usize,
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Requests per second of an open loop; without it the loop is closed.
    #[arg(long, conflicts_with = "trace")]
    rate: Option<f64>,
    #[arg(long, value_enum, default_value = "poisson")]
    arrival: Arrival,
    #[arg(long, value_enum, default_value = "keep-alive")]
    reuse: Reuse,
    /// Bytes of each request's body.
    #[arg(long, default_value_t = 1024)]
    bytes: usize,
    /// The same prompt each time.
    #[arg(long)]
    same: bool,
    #[arg(long)]
    stream: bool,
    #[arg(long, default_value_t = 16)]
    max_tokens: u32,
    /// A Mooncake trace (jsonl).
    #[arg(long)]
    trace: Option<PathBuf>,
    /// How many times as fast as it was recorded.
    #[arg(long, default_value_t = 1.0)]
    speed: f64,
    /// Requests taken of the trace.
    #[arg(long, default_value_t = 100_000)]
    limit: usize,
    /// Active conversations; 0 sends single prompts.
    #[arg(long, default_value_t = 0)]
    conversations: usize,
    #[arg(long, default_value_t = 32)]
    systems: usize,
    #[arg(long, default_value_t = 1.0)]
    zipf: f64,
    #[arg(long, default_value_t = 4096)]
    system_bytes: usize,
    #[arg(long, default_value_t = 512)]
    turn_bytes: usize,
    #[arg(long, default_value_t = 1024)]
    answer_bytes: usize,
    #[arg(long, default_value_t = 8)]
    turns: usize,
    #[arg(long, default_value_t = 0)]
    ramp_ms: u64,
    #[arg(long, default_value_t = 1000)]
    warmup_ms: u64,
    #[arg(long, default_value_t = 5000)]
    duration_ms: u64,
    #[arg(long, default_value_t = 60_000)]
    timeout_ms: u64,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A local address to connect from; repeat for more.
    #[arg(long = "source")]
    sources: Vec<IpAddr>,
    /// A process to measure, `LABEL=PID` or `PID`; repeat for more.
    #[arg(long = "pid", value_parser = process)]
    processes: Vec<Process>,
}

#[derive(Debug, Args)]
struct HoldArgs {
    #[arg(long)]
    target: SocketAddr,
    /// The process whose memory is measured.
    #[arg(long)]
    pid: u32,
    #[arg(long, value_enum)]
    hold: Option<Hold>,
    #[arg(long, default_value_t = 1000)]
    connections: usize,
    #[arg(long, default_value = "sim")]
    model: String,
    #[arg(long, default_value_t = 5000)]
    time_ms: u64,
    /// Between two bytes of a slow client.
    #[arg(long, default_value_t = 500)]
    drip_ms: u64,
    /// Tokens of the answers that are not read.
    #[arg(long, default_value_t = 16)]
    max_tokens: u32,
}

fn process(text: &str) -> Result<Process, String> {
    let (label, pid) = text.split_once('=').unwrap_or(("process", text));
    let pid = pid.parse().map_err(|_| format!("{pid:?} is not a process id"))?;
    Ok(Process { label: label.to_owned(), pid })
}

fn main() -> anyhow::Result<()> {
    let report = match Cli::parse().command {
        Command::Run(run) => serde_json::to_string_pretty(&load::run(&plan(*run)?)?)?,
        Command::Hold(args) => held(&args, Hold::Idle)?,
        Command::Idle(args) => held(&args, Hold::Idle)?,
        Command::Slow(args) => held(&args, Hold::SlowHead)?,
    };
    println!("{report}");
    Ok(())
}

fn plan(run: Run) -> anyhow::Result<Plan> {
    anyhow::ensure!(run.connections > 0, "--connections must be positive");
    let pace = match (&run.trace, run.rate) {
        (Some(_), _) => Pace::Trace { speed: run.speed },
        (None, Some(rate)) => Pace::Open { rate, arrival: run.arrival },
        (None, None) => Pace::Closed,
    };
    let shape = match run.trace {
        Some(file) => Shape::Trace { file, limit: run.limit },
        None if run.conversations > 0 => Shape::Conversations(Conversations {
            systems: run.systems,
            zipf: run.zipf,
            system_bytes: run.system_bytes,
            turn_bytes: run.turn_bytes,
            answer_bytes: run.answer_bytes,
            turns: run.turns,
            active: run.conversations,
        }),
        None if run.same => Shape::Same { bytes: run.bytes },
        None => Shape::Fixed { bytes: run.bytes },
    };
    Ok(Plan {
        target: run.target,
        model: run.model,
        path: run.path,
        connections: run.connections,
        threads: run.threads.clamp(1, run.connections),
        pace,
        reuse: run.reuse,
        shape,
        stream: run.stream,
        max_tokens: run.max_tokens,
        ramp: Duration::from_millis(run.ramp_ms),
        warmup: Duration::from_millis(run.warmup_ms),
        duration: Duration::from_millis(run.duration_ms),
        timeout: Duration::from_millis(run.timeout_ms),
        seed: run.seed,
        sources: run.sources,
        processes: run.processes,
    })
}

fn held(args: &HoldArgs, default: Hold) -> anyhow::Result<String> {
    let hold = args.hold.unwrap_or(default);
    let plan = Plan {
        stream: hold == Hold::NoRead,
        max_tokens: args.max_tokens,
        ..Plan::small(args.target, &args.model, 1024)
    };
    let mut request = Vec::new();
    Workload::new(&plan, 0)?.next(&mut request);
    let time = Duration::from_millis(args.time_ms);
    let drip = Duration::from_millis(args.drip_ms.max(1));
    let plan =
        HoldPlan { target: args.target, pid: args.pid, hold, connections: args.connections, request, time, drip };
    Ok(serde_json::to_string_pretty(&hold::run(&plan).context("holding connections")?)?)
}
