//! Small forms of the runs that must show something, in one process.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bench::engine::{self, Engine};
use bench::load::Report;
use bench::load::hold::Hold;
use bench::show::client::Question;
use bench::show::held::{self, Subject, Windows};
use bench::show::site::{self, MODEL, locality};
use bench::show::{abort, drain, kill};
use dataplane::config::{Config, Drain};
use dataplane::process;

/// Engines of one process, and the proxy on a thread of its own.
struct Stage {
    engines: Vec<Option<engine::Running>>,
    proxy: process::Running,
    snapshot: PathBuf,
}

impl Stage {
    /// Engine `n` serves `model-0`, or, `apart`, `model-n`.
    async fn start(name: &str, count: usize, apart: bool) -> Self {
        let mut engines = Vec::new();
        for n in 0..count {
            engines.push(Some(start_engine(([127, 0, 0, 2 + n as u8], 0).into(), if apart { n } else { 0 }).await));
        }
        let addresses: Vec<SocketAddr> = engines.iter().flatten().map(|engine| engine.addr).collect();
        let lists: Vec<&[SocketAddr]> = if apart { addresses.chunks(1).collect() } else { vec![&addresses] };
        let snapshot = std::env::temp_dir().join(format!("show-{name}-{}.json", std::process::id()));
        site::write_snapshot(&snapshot, &site::snapshot(&lists, &locality(), 400_000)).unwrap();
        let lead = Duration::from_secs(1);
        let drain = Drain { lead, deadline: Duration::from_secs(20), ..Drain::default() };
        let proxy = process::start(Config { drain, ..Config::loopback(snapshot.clone()) }).unwrap();
        Self { engines, proxy, snapshot }
    }

    fn question(&self, max_tokens: u32) -> Question {
        let (target, model) = (self.proxy.listen(), MODEL.to_owned());
        Question { target, model, stream: false, max_tokens, limit: Duration::from_secs(15) }
    }

    fn end(self) -> u64 {
        let _ = std::fs::remove_file(&self.snapshot);
        self.proxy.shutdown(|| true)
    }
}

async fn start_engine(listen: SocketAddr, n: usize) -> engine::Running {
    let config = engine::Config { listen, model: format!("model-{n}"), ..engine::Config::default() };
    Engine::start(config).await.unwrap()
}

struct Victims<'a>(&'a mut [Option<engine::Running>], Vec<SocketAddr>);

impl kill::Victims for Victims<'_> {
    async fn kill(&mut self, n: usize) -> anyhow::Result<()> {
        self.0[n].take().unwrap().kill().await;
        Ok(())
    }

    async fn restart(&mut self, n: usize) -> anyhow::Result<()> {
        self.0[n] = Some(start_engine(self.1[n], 0).await);
        Ok(())
    }
}

#[tokio::test]
async fn killed_engines_cost_no_request_whose_answer_had_not_begun() {
    let mut stage = Stage::start("kill", 3, false).await;
    let question = stage.question(8);
    let addresses = stage.engines.iter().flatten().map(|engine| engine.addr).collect();
    let ms = Duration::from_millis;
    let plan = kill::Plan { rate: 100.0, time: ms(4000), every: ms(600), down: ms(300) };
    let seen = kill::run(&question, plan, 3, &mut Victims(&mut stage.engines, addresses)).await.unwrap();
    assert!(seen.kills >= 5 && seen.unary.whole > 100 && seen.streams.whole > 50, "{seen:?}");
    assert_eq!(seen.failed(), 0, "{seen:?}");
    stage.end();
}

#[tokio::test]
async fn a_shutdown_under_load_drops_nothing() {
    let stage = Stage::start("drain", 2, false).await;
    let (question, metrics) = (stage.question(1), stage.proxy.metrics());
    // At 20 ms a token the streams end after the lead time.
    let plan = drain::Plan { streams: 20, stream_tokens: 120, rate: 100.0, before: Duration::from_millis(500) };
    let Stage { engines, proxy, snapshot } = stage;
    let mut ended = None;
    let terminate = || ended = Some(std::thread::spawn(move || proxy.shutdown(|| false)));
    let seen = drain::run(&question, metrics, plan, terminate).await;
    assert_eq!((seen.outlived, seen.streams.whole), (20, 20), "{seen:?}");
    assert!(seen.requests.sent >= 50 && seen.unready_after_ms < 900.0, "{seen:?}");
    assert_eq!(seen.dropped(), 0, "{seen:?}");
    let cut = tokio::task::spawn_blocking(|| ended.unwrap().join().unwrap()).await.unwrap();
    assert_eq!(cut, 0, "connections that had to be cut");
    drop(engines);
    let _ = std::fs::remove_file(snapshot);
}

#[tokio::test]
async fn engines_see_that_a_client_left() {
    let stage = Stage::start("abort", 2, true).await;
    let lane = |n: usize| abort::Lane { engine: stage.engines[n].as_ref().unwrap(), model: format!("model-{n}") };
    let (first, second) = (lane(0), lane(1));
    let proxy = stage.proxy.listen();
    let (a, b) = tokio::join!(abort::lane(proxy, &first, 24, 1), abort::lane(proxy, &second, 24, 2));
    let leaves = [a.unwrap(), b.unwrap()].concat();
    let spread = abort::Spread::of(leaves.iter());
    // Each was seen. How fast is measured in a release build; a busy machine must not fail this one.
    assert!(spread.count == 48 && spread.p50_ms < 500.0, "{leaves:?}");
    assert_eq!(stage.engines.iter().flatten().map(|engine| engine.stats().in_flight).sum::<u64>(), 0);
    drop((first, second));
    stage.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_are_looked_at_alone_and_beside_slow_clients_in_turn() {
    let stage = Stage::start("slow", 1, false).await;
    let subject = Subject { target: stage.proxy.listen(), pid: std::process::id(), model: MODEL.to_owned() };
    let windows = Windows { count: 3, each: Duration::from_millis(1000), settle: Duration::from_millis(200) };
    let look = move || held::beside(&subject, Hold::SlowHead, 20, windows).unwrap();
    let beside = tokio::task::spawn_blocking(look).await.unwrap();
    assert_eq!((beside.0.len(), beside.held(), beside.errors()), (3, 20, 0), "{beside:?}");
    let answered = |report: &Report| report.requests > 20 && report.latency.p99_us > 0.0;
    assert!(beside.0.iter().all(|window| answered(&window.quiet) && answered(&window.during)), "{beside:?}");
    assert!(beside.p99_over_quiet() > 0.0 && beside.answered() > 0.1 && beside.kib_each() < 1024.0);
    stage.end();
}
