//! Runs contenders interleaved (A B C … A B C …) over the rows of the performance budget, so that a slow minute of the
//! machine hits all alike, and compares within a round.

pub mod child;
pub mod contender;
pub mod machine;
pub mod row;
pub mod stats;
pub mod table;
pub mod warm;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use serde::Serialize;

use crate::load;
use crate::load::hold::{self, Hold, HoldPlan};
use crate::load::plan::{Plan, Process};
use crate::load::workload::Workload;
use child::{Child, Cpus};
use contender::{Contender, Setting};
use row::{Row, Scale, Unit};
use warm::Warm;

/// The label of processes that are not measured for themselves: engines and this one.
pub const OTHER: &str = "other";

/// Everything that a run of the bench is.
#[derive(Debug, Clone, Serialize)]
pub struct Options {
    /// Names the result files.
    pub name: String,
    /// Who takes part, in this order in every round.
    pub contenders: Vec<Contender>,
    /// Which rows.
    pub rows: Vec<Row>,
    /// How large they are.
    pub scale: Scale,
    /// Interleaved rounds of each row.
    pub rounds: usize,
    /// The simulated engine's program.
    pub engine: PathBuf,
    /// Further arguments of the engine, for every row.
    pub engine_args: Vec<String>,
    /// Where engines listen.
    pub engines: Vec<SocketAddr>,
    /// The model that engines serve.
    pub model: String,
    /// Contender `n` listens here plus `10 n`.
    pub first_port: u16,
    /// Which CPUs the proxies and everything else run on; empty leaves it to the kernel.
    pub proxy_cpus: Cpus,
    /// See `proxy_cpus`.
    pub other_cpus: Cpus,
    /// Marks that our proxy's prefix table must have before it is measured.
    pub marks: u64,
    /// Where results are written.
    pub results: PathBuf,
}

/// One measurement of one contender.
#[derive(Debug, Clone, Serialize)]
pub struct Sample {
    /// Who.
    pub contender: String,
    /// In the row's unit; `None` where the run failed, with the reason in `detail`.
    pub value: Option<f64>,
    /// Hop or inter-arrival time, 99th percentile.
    pub p99_us: f64,
    /// Failed requests.
    pub errors: u64,
    /// The whole report.
    pub detail: serde_json::Value,
}

/// A row's samples, round by round.
#[derive(Debug, Clone, Serialize)]
pub struct RowResult {
    /// Which row.
    pub row: Row,
    /// Each with one sample per contender.
    pub rounds: Vec<Vec<Sample>>,
    /// The load average before each round.
    pub loads: Vec<String>,
    /// The marks that each contender with a prefix table had before the first round.
    pub marks: Vec<(String, u64)>,
}

/// All of it, as it is written to the raw file.
#[derive(Debug, Serialize)]
pub struct Results {
    /// The machine, the revision, the command line.
    pub machine: machine::Machine,
    /// What was asked for.
    pub options: Options,
    /// The versions that the contenders name.
    pub versions: Vec<(String, String)>,
    /// What came of it.
    pub rows: Vec<RowResult>,
}

/// Runs everything, writes `<date>-<name>.json` and `.md`, and returns the table.
pub fn run(options: Options) -> anyhow::Result<String> {
    // Before this process is pinned, for it counts the CPUs.
    let machine = machine::look();
    child::pin_self(&options.other_cpus)?;
    let versions = options.contenders.iter().map(|one| (one.name.clone(), one.version())).collect();
    let mut results = Results { machine, options: options.clone(), versions, rows: Vec::new() };
    let scratch = Scratch::new()?;
    for &row in &options.rows {
        eprintln!("{}", row.title());
        let result = run_row(&options, row, &scratch.0).with_context(|| format!("row {row:?}"))?;
        results.rows.push(result);
        // After every row, so that an interrupted run leaves what it has.
        write(&results)?;
    }
    Ok(table::markdown(&results))
}

fn write(results: &Results) -> anyhow::Result<()> {
    let Options { results: folder, name, .. } = &results.options;
    fs::create_dir_all(folder)?;
    let stem = format!("{}-{name}", results.machine.date);
    fs::write(folder.join(format!("{stem}.json")), serde_json::to_vec(results)?)?;
    fs::write(folder.join(format!("{stem}.md")), table::markdown(results))?;
    Ok(())
}

/// A folder for configurations and logs, gone at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("bench-run-{}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A leftover in /tmp is no reason to fail a run that is over.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn run_row(options: &Options, row: Row, scratch: &Path) -> anyhow::Result<RowResult> {
    let engines = start_engines(options, row, scratch)?;
    let mut result = RowResult { row, rounds: Vec::new(), loads: Vec::new(), marks: Vec::new() };
    let idle = row.unit() == Unit::Idle;
    // The direct way has no process whose memory could be looked at.
    let takes_part = |&index: &usize| !(idle && matches!(options.contenders[index].kind, contender::Kind::Direct));
    let indexes: Vec<usize> = (0..options.contenders.len()).filter(takes_part).collect();
    let mut running = Vec::new();
    if !idle {
        for &index in &indexes {
            running.push(start(options, row, scratch, index)?);
        }
    }
    let marks = |one: &Running| Some((options.contenders[one.index].name.clone(), one.marks?));
    result.marks = running.iter().filter_map(marks).collect();
    for round in 0..options.rounds {
        result.loads.push(machine::load());
        let mut samples = Vec::new();
        for (at, &index) in indexes.iter().enumerate() {
            if idle {
                // Memory is measured on a fresh process: what was freed by the last round would hide the growth.
                let fresh = start(options, row, scratch, index)?;
                samples.push(sample(options, row, &Turn { round, running: &fresh, engines: &engines }));
            } else {
                samples.push(sample(options, row, &Turn { round, running: &running[at], engines: &engines }));
            }
        }
        result.rounds.push(samples);
        eprintln!("  round {} of {}", round + 1, options.rounds);
    }
    Ok(result)
}

fn start_engines(options: &Options, row: Row, scratch: &Path) -> anyhow::Result<Vec<Child>> {
    let one = |address: &SocketAddr| {
        let mut args = vec!["--listen".to_owned(), address.to_string(), "--model".to_owned(), options.model.clone()];
        args.extend(row.engine_args());
        args.extend(options.engine_args.iter().cloned());
        let log = scratch.join(format!("engine-{}.log", address.ip()));
        let mut child = Child::start(&options.engine, &args, &options.other_cpus, &log)?;
        child.wait_ready(*address)?;
        Ok(child)
    };
    options.engines.iter().map(one).collect()
}

/// A contender under test; the direct way has no process.
struct Running {
    index: usize,
    address: SocketAddr,
    child: Option<Child>,
    /// In its prefix table, where that was filled.
    marks: Option<u64>,
}

/// One contender's turn in a round.
struct Turn<'a> {
    round: usize,
    running: &'a Running,
    engines: &'a [Child],
}

/// Seeds of the prompts that fill a table lie apart from those that are measured.
const FILLING: u64 = 1 << 32;

fn start(options: &Options, row: Row, scratch: &Path, index: usize) -> anyhow::Result<Running> {
    let contender = &options.contenders[index];
    let port = options.first_port + 10 * u16::try_from(index)?;
    let setting = Setting {
        port,
        engines: &options.engines,
        model: &options.model,
        dir: &scratch.join(&contender.name),
        streams: row.streams(),
    };
    let Some((program, args)) = contender.command(&setting)? else {
        return Ok(Running { index, address: options.engines[0], child: None, marks: None });
    };
    let log = setting.dir.join("out.log");
    let mut child = Child::start(&program, &args, &options.proxy_cpus, &log)?;
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    child.wait_ready(address).with_context(|| contender.name.clone())?;
    // Connections that rest do not ask the table.
    let fills = contender.fills(port).filter(|_| options.marks > 0 && row.unit() != Unit::Idle);
    let marks = match fills {
        Some(metrics) => {
            // Its admin listener opens by a thread of its own, sooner or later than the port of requests.
            child.wait_ready(metrics).with_context(|| contender.name.clone())?;
            let warm = Warm { target: address, metrics, model: &options.model, marks: options.marks, seed: FILLING };
            let marks = warm::fill(&warm, &mut child).with_context(|| contender.name.clone())?;
            eprintln!("  {} has {marks} marks", contender.name);
            Some(marks)
        }
        None => None,
    };
    Ok(Running { index, address, child: Some(child), marks })
}

/// A failed measurement is a result too: it is shown, and the others go on.
fn sample(options: &Options, row: Row, turn: &Turn<'_>) -> Sample {
    let name = &options.contenders[turn.running.index].name;
    measure(options, row, turn).unwrap_or_else(|error| {
        eprintln!("  {name} failed: {error:#}");
        Sample {
            contender: name.clone(),
            value: None,
            p99_us: 0.0,
            errors: 0,
            detail: serde_json::json!({ "error": format!("{error:#}") }),
        }
    })
}

fn measure(options: &Options, row: Row, turn: &Turn<'_>) -> anyhow::Result<Sample> {
    let running = turn.running;
    let name = options.contenders[running.index].name.as_str();
    let mut plan = row.plan(running.address, &options.model, &options.scale);
    // No two samples of a row share a prompt, or a later round would find what an earlier one left in the table.
    plan.seed = 1 + (turn.round * options.contenders.len() + running.index) as u64;
    let own = running.child.as_ref().map(|child| Process { label: name.to_owned(), pid: child.pid() });
    let others = turn.engines.iter().map(Child::pid).chain([std::process::id()]);
    let others = others.map(|pid| Process { label: OTHER.to_owned(), pid });
    plan.processes = own.into_iter().chain(others).collect();
    if row.unit() == Unit::Idle {
        return idle(&plan, name, options.scale.idle);
    }
    let report = load::run(&plan)?;
    let process = report.processes.iter().find(|one| one.label == name);
    let value = match row.unit() {
        Unit::PerRequest => process.map(|one| one.cpu_us_per_request),
        Unit::PerEvent => process.map(|one| one.cpu_us_per_event),
        Unit::Latency => Some(report.latency.p50_us),
        Unit::Idle => None,
    };
    let spread = if report.hop.count > 0 { report.hop } else { report.gap };
    let p99_us = if row.streams() { spread.p99_us } else { report.latency.p99_us };
    let (errors, detail) = (report.errors.total(), serde_json::to_value(&report)?);
    anyhow::ensure!(report.requests + report.events > 0, "nothing was answered: {:?}", report.errors);
    if errors > 0 {
        eprintln!("  {name}: {:?}", report.errors);
    }
    Ok(Sample { contender: name.to_owned(), value, p99_us, errors, detail })
}

fn idle(plan: &Plan, name: &str, connections: usize) -> anyhow::Result<Sample> {
    let pid = plan.processes.first().context("the direct way has no process to measure")?.pid;
    let mut request = Vec::new();
    Workload::new(plan, 0)?.next(&mut request);
    // Looked at when whoever gives back what idle connections held has done so, for which some take seconds.
    let (time, drip) = (Duration::from_secs(6), Duration::from_secs(1));
    let report = hold::run(&HoldPlan { target: plan.target, pid, hold: Hold::Idle, connections, request, time, drip })?;
    Ok(Sample {
        contender: name.to_owned(),
        value: Some(report.rss_bytes_per_connection),
        p99_us: 0.0,
        errors: (report.asked - report.held + report.ended_by_peer) as u64,
        detail: serde_json::to_value(&report)?,
    })
}
