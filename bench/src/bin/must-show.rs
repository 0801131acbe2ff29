//! Runs that must show something, each over processes of its own; a table on stdout, raw numbers in files.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use bench::engine::{self, Engine};
use bench::load::hold::Hold;
use bench::load::{self, process};
use bench::show::client::Question;
use bench::show::held::{self, Subject, Windows};
use bench::show::manifests::{Manifests, Size};
use bench::show::prefix::{self, Hits};
use bench::show::replay::{Part, Replay};
use bench::show::site::{self, Child, MODEL, locality};
use bench::show::{Bound, Check, Outcome, Site, abort, drain, edits, fleet, heard, kill, scale, tables};
use clap::{Parser, ValueEnum};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const DRIVERS: [&str; 2] = ["uring", "epoll"];
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs what must be shown. Needs kthena-dataplane, kthena-controlplane and engine-sim beside it.
#[derive(Debug, Parser)]
struct Args {
    /// Which runs; all by default.
    runs: Vec<Run>,
    /// Where results are written.
    #[arg(long, default_value = "bench/results")]
    results: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Run {
    /// One of three engines is killed every 2 s at 500 requests/s.
    Kill,
    /// SIGTERM with 200 streams and 1,000 requests/s.
    Drain,
    /// 10,000 idle connections.
    Idle,
    /// 1,000 slow clients, 200 that read nothing.
    Slow,
    /// 1,200 clients leave.
    Abort,
    /// Conversations over four engines with small caches.
    Prefix,
    /// Mooncake's synthetic trace at four times its speed, by one data plane and by four (shared/traces).
    Replay,
    /// Edits of manifests, until all cores of four data planes see them.
    Edits,
    /// 500 subscribers come, hear of a change, and lose their control plane.
    Fleet,
    /// 10,000 endpoints and 2,000 routes, beside a tenth of that.
    Scale,
    /// A request, until another of 64 data planes hears of it.
    Heard,
    /// The table of what engines report: memory, updates, look-ups beside them.
    Tables,
}

impl Run {
    fn outcome(self, site: &Site) -> anyhow::Result<Outcome> {
        let (name, (checks, numbers)) = match self {
            Self::Kill => ("kill", runtime()?.block_on(kill_engines(site))?),
            Self::Drain => ("drain", runtime()?.block_on(drain_proxy(site))?),
            Self::Idle => ("idle", idle(site)?),
            Self::Slow => ("slow", slow(site, WINDOWS)?),
            Self::Abort => ("abort", runtime()?.block_on(leave(site))?),
            Self::Prefix => ("prefix", prefixes(site)?),
            Self::Replay => ("replay", runtime()?.block_on(replayed(site))?),
            Self::Edits => ("edits", runtime()?.block_on(edit(site))?),
            Self::Fleet => ("fleet", runtime()?.block_on(subscribe(site))?),
            Self::Scale => ("scale", runtime()?.block_on(grow(site))?),
            Self::Heard => ("heard", runtime()?.block_on(hear(site))?),
            Self::Tables => ("tables", reported()?),
        };
        Ok(Outcome::new(name, self.method(), checks, numbers))
    }

    /// How it is measured, for its results. All of it is of release programs on loopback of one machine.
    fn method(self) -> &'static str {
        match self {
            Self::Kill => {
                "Three engines behind one data plane; one is killed every 2 s. A request counts from its connection to its end."
            }
            Self::Drain => "SIGTERM to a data plane that serves; who has been accepted or is streaming counts.",
            Self::Idle => "Resident memory of a data plane with connections, less that without, for each of them.",
            Self::Slow => {
                "Others' latency beside slow clients over that without them, by the median p99 of three windows of 30 s each, in turn; resident memory for \
                 each slow one. A head may take 120 s here, not 10, or there would be no slow ones for most of a window."
            }
            Self::Abort => "From the client's close until the engine sees its request's connection close.",
            Self::Prefix => {
                "Tokens found in engines' caches over those that one pooled cache finds for the same requests."
            }
            Self::Replay => {
                "Mooncake's synthetic trace, sent at four times its speed to engines that are four times as fast: 68,000 tokens of prefill a second, a \
                 token each 3.75 ms, 400,000 tokens of cache. Tokens found in their caches, by their count, over those that one cache of all four finds for the \
                 same requests one after the other. One data plane has a snapshot; four, to which a random spreader sends, have the real control plane over a directory."
            }
            Self::Edits => {
                "The real programs: a control plane over a directory, four data planes of two cores by plain text. The clock starts when a file has                  been replaced and ends when a request on each of 8 connections to each data plane sees its model. The storm replaces other routes'                  files in turn, the edit that is timed is of a route that it leaves alone."
            }
            Self::Fleet => {
                "The real control plane over a directory; subscribers of one process, in plain text, which want all lanes, hold nothing and                  acknowledge all. By TLS, with a token each, and with statuses that are written: cluster-restart."
            }
            Self::Scale => {
                "The real programs: a control plane over a directory and data planes by plain text. From the control plane's start until a request                  finds the last route; in a data plane from the last byte of a state until it is in force on all cores. From disk: killed and started while no control plane is there, until /readyz is 200 and a request finds the last route. At a real API server: cluster-scale."
            }
            Self::Heard => {
                "From before a client connects to a data plane until the sum that has its request arrives at another subscriber."
            }
            Self::Tables => {
                "The table alone, in this process: memory by the allocator, updates and look-ups by the clock."
            }
        }
    }
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    raise_descriptors()?;
    let runs = if args.runs.is_empty() { Run::value_variants() } else { &args.runs };
    let mut met = true;
    for run in runs {
        let site = Site::new()?;
        let outcome = run.outcome(&site).with_context(|| format!("{run:?}"))?;
        outcome.write(&args.results)?;
        print!("{}", outcome.table());
        met &= outcome.met();
    }
    Ok(if met { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// 10,000 connections need as many descriptors here and in the proxy, which inherits the limit.
fn raise_descriptors() -> anyhow::Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}

type Shown = anyhow::Result<(Vec<Check>, Value)>;

fn question(target: std::net::SocketAddr, max_tokens: u32) -> Question {
    Question { target, model: MODEL.to_owned(), stream: false, max_tokens, limit: PATIENCE }
}

/// Engine processes that are killed.
struct Engines<'a> {
    site: &'a Site,
    addresses: Vec<std::net::SocketAddr>,
    children: Vec<Option<Child>>,
}

impl<'a> Engines<'a> {
    fn start(site: &'a Site, count: u8, args: &[&str]) -> anyhow::Result<Self> {
        let addresses = site::addresses(count)?;
        let child = |address: &std::net::SocketAddr| site.engine(*address, MODEL, args).map(Some);
        let children = addresses.iter().map(child).collect::<anyhow::Result<_>>()?;
        Ok(Self { site, addresses, children })
    }
}

impl kill::Victims for Engines<'_> {
    async fn kill(&mut self, n: usize) -> anyhow::Result<()> {
        self.children[n] = None;
        Ok(())
    }

    async fn restart(&mut self, n: usize) -> anyhow::Result<()> {
        self.children[n] = Some(self.site.engine(self.addresses[n], MODEL, &[])?);
        Ok(())
    }
}

async fn kill_engines(site: &Site) -> Shown {
    let seconds = Duration::from_secs;
    let plan = kill::Plan { rate: 500.0, time: seconds(30), every: seconds(2), down: seconds(1) };
    let (mut checks, mut numbers) = (Vec::new(), json!({"plan": plan}));
    for driver in DRIVERS {
        let mut engines = Engines::start(site, 3, &[])?;
        let proxy = site.proxy(&site::snapshot(&[&engines.addresses], &locality(), 400_000), driver)?;
        let seen = kill::run(&question(proxy.listen, 8), plan, 3, &mut engines).await?;
        let sent = (seen.unary.sent + seen.streams.sent) as f64;
        let say = |what: &str| format!("{driver}: {what}");
        checks.push(Check::new(say("kills"), seen.kills as f64, Bound::AtLeast(13.0)));
        checks.push(Check::new(say("requests"), sent, Bound::AtLeast(14_900.0)));
        checks.push(Check::new(say("errors where no answer had begun"), seen.failed() as f64, Bound::AtMost(0.0)));
        numbers[driver] = json!(seen);
    }
    Ok((checks, numbers))
}

async fn drain_proxy(site: &Site) -> Shown {
    let plan = drain::Plan { streams: 200, stream_tokens: 500, rate: 1000.0, before: Duration::from_secs(2) };
    let (mut checks, mut numbers) = (Vec::new(), json!({"plan": plan}));
    for driver in DRIVERS {
        let engines = Engines::start(site, 3, &[])?;
        let mut proxy = site.proxy(&site::snapshot(&[&engines.addresses], &locality(), 400_000), driver)?;
        let mut told = Ok(());
        let terminate = || told = proxy.child.terminate();
        let seen = drain::run(&question(proxy.listen, 1), proxy.metrics, plan, terminate).await;
        told?;
        let code = proxy.child.wait(PATIENCE)?.code().map_or(f64::NAN, f64::from);
        let say = |what: &str| format!("{driver}: {what}");
        checks.push(Check::new(say("streams that outlived SIGTERM"), seen.outlived as f64, Bound::AtLeast(200.0)));
        checks.push(Check::new(say("requests beside them"), seen.requests.sent as f64, Bound::AtLeast(2_000.0)));
        checks.push(Check::new(say("dropped"), seen.dropped() as f64, Bound::AtMost(0.0)));
        checks.push(Check::new(say("exit code"), code, Bound::AtMost(0.0)));
        numbers[driver] = json!(seen);
    }
    Ok((checks, numbers))
}

fn subject(proxy: &site::Proxy) -> Subject {
    Subject { target: proxy.listen, pid: proxy.child.pid(), model: MODEL.to_owned() }
}

fn idle(site: &Site) -> Shown {
    const CONNECTIONS: usize = 10_000;
    let engines = Engines::start(site, 2, &["--fast"])?;
    let (mut checks, mut numbers) = (Vec::new(), json!({}));
    for driver in DRIVERS {
        let proxy = site.proxy(&site::snapshot(&[&engines.addresses], &locality(), 400_000), driver)?;
        held::warm_up(&subject(&proxy))?;
        let report = held::hold(&subject(&proxy), Hold::Idle, CONNECTIONS, Duration::from_secs(3))?;
        let kept = report.held - report.ended_by_peer;
        checks.push(Check::new(format!("{driver}: connections held"), kept as f64, Bound::AtLeast(CONNECTIONS as f64)));
        let kib = report.rss_bytes_per_connection / 1024.0;
        checks.push(Check::new(format!("{driver}: KiB per idle connection"), kib, Bound::AtMost(1.5)));
        numbers[driver] = json!(report);
    }
    Ok((checks, numbers))
}

/// Of each kind of slow clients, on each driver: three minutes and a half.
const WINDOWS: Windows = Windows { count: 3, each: Duration::from_secs(30), settle: Duration::from_secs(2) };

/// By the default a head that takes 10 s is refused, and there would be no slow ones for most of a window.
const SLOW_LIMITS: &str = "limits: {header_time: 120s}";

fn slow(site: &Site, windows: Windows) -> Shown {
    const KINDS: [(Hold, &str, usize); 3] = [
        (Hold::SlowHead, "slow heads", 1000),
        (Hold::SlowBody, "slow bodies", 1000),
        (Hold::NoRead, "readers that read nothing", 200),
    ];
    // Answers of 16 MiB: more than all socket buffers on the way hold.
    let engines = Engines::start(site, 2, &["--fast", "--burst", "16", "--event-text-bytes", "4096"])?;
    let (mut checks, mut numbers) = (Vec::new(), json!({"plan": windows}));
    for driver in DRIVERS {
        for (kind, name, count) in KINDS {
            let snapshot = site::snapshot(&[&engines.addresses], &locality(), 400_000);
            let proxy = site.proxy_by(&snapshot, driver, SLOW_LIMITS)?;
            held::warm_up(&subject(&proxy))?;
            let beside = held::beside(&subject(&proxy), kind, count, windows)?;
            let say = |what: &str| format!("{driver}: {what}, {name}");
            let (held, errors) = (beside.held() as f64, beside.errors() as f64);
            checks.push(Check::new(say("connections"), held, Bound::AtLeast(count as f64)));
            checks.push(Check::new(say("KiB each"), beside.kib_each(), Bound::AtMost(128.0)));
            checks.push(Check::new(say("p99 of others over quiet"), beside.p99_over_quiet(), Bound::AtMost(1.25)));
            checks.push(Check::new(say("answers of others over quiet"), beside.answered(), Bound::AtLeast(0.98)));
            checks.push(Check::new(say("errors of others"), errors, Bound::AtMost(0.0)));
            numbers[format!("{driver} {name}")] = json!(beside);
        }
    }
    Ok((checks, numbers))
}

async fn leave(site: &Site) -> Shown {
    const LANES: u8 = 4;
    const EACH: usize = 300;
    let mut engines = Vec::new();
    for (n, listen) in site::addresses(LANES)?.into_iter().enumerate() {
        let config = engine::Config { listen, model: format!("model-{n}"), ..engine::Config::default() };
        engines.push(Engine::start(config).await?);
    }
    let lists: Vec<[std::net::SocketAddr; 1]> = engines.iter().map(|engine| [engine.addr]).collect();
    let lists: Vec<&[std::net::SocketAddr]> = lists.iter().map(|list| &list[..]).collect();
    let (mut checks, mut numbers) = (Vec::new(), json!({}));
    for driver in DRIVERS {
        let proxy = site.proxy(&site::snapshot(&lists, &locality(), 400_000), driver)?;
        let lanes: Vec<abort::Lane<'_>> = (engines.iter().enumerate())
            .map(|(n, engine)| abort::Lane { engine, model: format!("model-{n}") })
            .collect();
        let run = |n: usize| abort::lane(proxy.listen, &lanes[n], EACH, n as u64 + 1);
        let (a, b, c, d) = tokio::join!(run(0), run(1), run(2), run(3));
        let leaves = [a?, b?, c?, d?].concat();
        let all = abort::Spread::of(leaves.iter());
        checks.push(Check::new(format!("{driver}: clients that left"), all.count as f64, Bound::AtLeast(1000.0)));
        checks.push(Check::new(format!("{driver}: ms until the engine saw it, p99"), all.p99_ms, Bound::AtMost(50.0)));
        let silent = abort::Spread::of(leaves.iter().filter(|leave| leave.point != abort::Point::BetweenEvents));
        checks.push(Check::new(format!("{driver}: the same, silent engine"), silent.p99_ms, Bound::AtMost(50.0)));
        numbers[driver] = json!({"all": all, "silent": silent, "leaves": leaves});
    }
    Ok((checks, numbers))
}

/// The caches are empty at first, and every engine that serves a hot prefix computes it once: in a minute that alone is 2 %
/// of all tokens.
const PREFIX_TIME: Duration = Duration::from_secs(180);

/// One run of the conversations by this profile.
fn conversations(site: &Site, profile: &Value) -> anyhow::Result<(load::Report, Hits)> {
    let blocks = prefix::CACHE_BLOCKS.to_string();
    let speed = prefix::PREFILL_TOKENS_PER_S.to_string();
    let engines = Engines::start(site, 4, &["--cache-blocks", &blocks, "--prefill-tokens-per-s", &speed])?;
    let tokens = prefix::CACHE_BLOCKS as u64 * u64::from(engine::text::BLOCK_TOKENS);
    let proxy = site.proxy(&site::snapshot(&[&engines.addresses], profile, tokens), "auto")?;
    let report = load::run(&prefix::plan(proxy.listen, MODEL, 40.0, PREFIX_TIME))?;
    let hits = runtime()?.block_on(Hits::of(&engines.addresses))?;
    let usage = process::usage(proxy.child.pid())?;
    eprintln!("prefix: {} answers, {} errors, proxy {} KiB", report.requests, report.errors.total(), usage.rss_kib);
    Ok((report, hits))
}

fn prefixes(site: &Site) -> Shown {
    let random = json!({"weighted": {"scorers": [{"random": {}}]}});
    let (mut checks, mut numbers) = (Vec::new(), json!({}));
    let mut ttft = Vec::new();
    for (name, profile) in [("locality", locality()), ("random", random)] {
        let (report, hits) = conversations(site, &profile)?;
        let pooled = prefix::pooled(&report.plan, 4 * prefix::CACHE_BLOCKS, hits.requests)?;
        let share = hits.share() / pooled.share();
        ttft.push(report.ttft.p50_us);
        if name == "locality" {
            checks.push(Check::new("hits, share of one pooled cache's", share, Bound::AtLeast(0.97)));
            checks.push(Check::new("errors", report.errors.total() as f64, Bound::AtMost(0.0)));
        }
        numbers[name] = json!({"hits": hits, "pooled": pooled, "share_of_pooled": share, "report": report});
    }
    checks.push(Check::new("median TTFT over random choice's", ttft[0] / ttft[1], Bound::AtMost(1.0)));
    Ok((checks, numbers))
}

/// Where the trace is, beside this repository.
const TRACE: &str = "../shared/traces/mooncake-synthetic.jsonl";
const REPLAY: Replay = Replay { speed: 4, engines: 4, requests: usize::MAX, seed: 1 };

async fn replayed(site: &Site) -> Shown {
    let seen = REPLAY.run(Path::new(TRACE), site).await?;
    let mut checks = Vec::new();
    for Part { data_planes, hits, reports, .. } in &seen.parts {
        let errors: u64 = reports.iter().map(|report| report.errors.total()).sum();
        let (say, all) = (|what: &str| format!("{what}, {data_planes} data planes"), seen.pooled.requests as f64);
        let share = hits.share() / seen.pooled.share();
        checks.push(Check::new(say("hits, share of one pooled cache's"), share, Bound::AtLeast(0.97)));
        checks.push(Check::new(say("requests"), hits.requests as f64, Bound::AtLeast(all)));
        checks.push(Check::new(say("errors"), errors as f64, Bound::AtMost(0.0)));
    }
    Ok((checks, json!({"plan": REPLAY, "seen": seen})))
}

fn reported() -> Shown {
    let plan = tables::Plan { blocks: 10_000_000, looks: 40_000 };
    let seen = tables::run(plan)?;
    let mb = |at: usize| seen.memory.get(at).map_or(f64::NAN, |(_, bytes)| *bytes as f64 / 1e6);
    let over = |at: usize| seen.beside[at].median_us / seen.beside[0].median_us;
    let checks = vec![
        Check::new("MB for 10 M blocks", mb(2), Bound::AtMost(320.0)),
        Check::new("bytes for a block, at any fill from 100,000 on", seen.worst_bytes_per_block, Bound::AtMost(32.0)),
        Check::new("µs of an update while it grows", seen.grow_ns / 1e3, Bound::AtMost(1.0)),
        Check::new("µs of an update at 10 M blocks", seen.churn_ns / 1e3, Bound::AtMost(1.0)),
        Check::new("µs of a look-up of 100,000 tokens, cold", seen.look_cold_us, Bound::AtMost(100.0)),
        Check::new("median look-up at 100,000 updates/s, over idle", over(1), Bound::AtMost(1.25)),
        Check::new("updates/s beside look-ups", seen.beside[2].written_per_s, Bound::AtLeast(950_000.0)),
        Check::new("median look-up at 1 M updates/s, over idle", over(2), Bound::AtMost(1.25)),
    ];
    Ok((checks, json!({"plan": plan, "seen": seen})))
}

async fn edit(site: &Site) -> Shown {
    let engines = Engines::start(site, 1, &["--fast"])?;
    let folder = site.folder("manifests");
    let manifests = Manifests::new(&folder, engines.addresses[0])?;
    let control = site.control(&folder)?;
    let proxies = (0..4).map(|_| site.programmed(&control)).collect::<anyhow::Result<Vec<_>>>()?;
    let plan = edits::Plan {
        edits: 300,
        storm_routes: 100,
        storm_rate: 1_000.0,
        storm_time: Duration::from_secs(60),
        requests: 50.0,
    };
    let seen = edits::run(plan, &manifests, &proxies, control.metrics).await?;
    let failed = (seen.requests.failed + seen.requests.cut) as f64;
    let checks = vec![
        Check::new("ms from an edit to all cores of 4 data planes, p99", seen.at_rest.p99_ms, Bound::AtMost(50.0)),
        Check::new("cores that were asked", seen.cores as f64, Bound::AtLeast(8.0)),
        Check::new("edits of the storm", seen.storm_edits as f64, Bound::AtLeast(54_000.0)),
        Check::new("the same in the storm, ms", seen.in_storm.p99_ms, Bound::AtMost(500.0)),
        Check::new("snapshots published a second", seen.published_per_s, Bound::AtMost(20.0)),
        Check::new("failed requests", failed, Bound::AtMost(0.0)),
    ];
    Ok((checks, json!({"plan": plan, "seen": seen})))
}

async fn hear(site: &Site) -> Shown {
    let engines = Engines::start(site, 1, &[])?;
    let folder = site.folder("manifests");
    let _manifests = Manifests::new(&folder, engines.addresses[0])?;
    let control = site.control(&folder)?;
    let proxy = site.programmed(&control)?;
    let plan = heard::Plan { data_planes: 64, requests: 300 };
    let question = Question { stream: true, ..question(proxy.listen, 16) };
    let seen = heard::run(plan, &question, control.stream).await?;
    let checks = vec![Check::new("ms until another of 64 data planes hears, p99", seen.p99_ms, Bound::AtMost(10.0))];
    Ok((checks, json!({"plan": plan, "seen": seen})))
}

const LARGE: Size = Size { endpoints: 10_000, routes: 2_000 };
const MIB_512: f64 = 512.0 * 1024.0;

async fn subscribe(site: &Site) -> Shown {
    let plan = fleet::Plan { subscribers: 500, size: LARGE };
    let seen = fleet::run(plan, site).await?;
    let checks = vec![
        Check::new("full states encoded for 500 subscribers", seen.encoded_for_all, Bound::AtMost(1.0)),
        Check::new("changes encoded for them", seen.encoded_for_change, Bound::AtMost(1.0)),
        Check::new("full states encoded after a restart", seen.encoded_for_return, Bound::AtMost(1.0)),
        Check::new("ms from the restart until all are in sync", seen.back_ms, Bound::AtMost(15_000.0)),
        Check::new("KiB of the control plane, the most", seen.peak_kib as f64, Bound::AtMost(MIB_512)),
    ];
    Ok((checks, json!({"plan": plan, "seen": seen})))
}

async fn grow(site: &Site) -> Shown {
    let plan = |size| scale::Plan { size, starts: 7, changes: 30, restarts: 3 };
    let small = scale::run(plan(Size { endpoints: 1_000, routes: 200 }), site).await?;
    let large = scale::run(plan(LARGE), site).await?;
    let mut effective = large.effective_ms.clone();
    effective.sort_by(f64::total_cmp);
    let from_disk = large.from_disk_ms.iter().copied().fold(0.0, f64::max);
    let growth = large.bytes_per_change - small.bytes_per_change;
    let checks = vec![
        Check::new("ms until a data plane serves 10,000 endpoints", large.sync_ms, Bound::AtMost(10_000.0)),
        Check::new("ms from the last byte until it is in force, median", effective[3], Bound::AtMost(10.0)),
        Check::new(
            "ms from one endpoint's change until it is in force, median",
            large.change_effective.p50_ms,
            Bound::AtMost(10.0),
        ),
        Check::new("the same, the most of 30", large.change_effective.most_ms, Bound::AtMost(10.0)),
        Check::new(
            "ms from a start from disk until it is ready and serves, the most of 3",
            from_disk,
            Bound::AtMost(2_000.0),
        ),
        Check::new("KiB of the control plane, the most", large.control_peak_kib as f64, Bound::AtMost(MIB_512)),
        Check::new("bytes for one endpoint's change", large.bytes_per_change, Bound::AtMost(1_000.0)),
        // Numbers with more digits.
        Check::new("of these, more than at 1,000 endpoints", growth, Bound::AtMost(16.0)),
    ];
    Ok((checks, json!({"plan": plan(LARGE), "small": small, "large": large})))
}
