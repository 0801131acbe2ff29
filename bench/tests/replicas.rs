//! Four proxies, spread over two replicas of the control plane, decide as they do with one.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bench::engine::{self, Engine, ModelConfig, Pace};
use bench::show::client::{self, End, Question};
use controlplane::peer::{Member, Members, Peering};
use controlplane::run::{Listen, Options, Plane, Source};
use dataplane::config::{Config, ControlPlane};
use dataplane::process;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

const PROXIES: usize = 4;
const ENGINES: usize = 4;
const REQUESTS: usize = 40;
const PATIENCE: Duration = Duration::from_secs(30);
const MODEL: &str = "held";

/// Waits until it holds.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Engines whose answers last, each at an address of its own on one port.
async fn engines(seats: usize) -> (Vec<engine::Running>, u16) {
    let addresses: Vec<Ipv4Addr> = (0..ENGINES as u8).map(|n| Ipv4Addr::new(127, 0, 9, n + 1)).collect();
    let free = || {
        let port = TcpListener::bind((addresses[0], 0)).ok()?.local_addr().ok()?.port();
        addresses.iter().all(|ip| TcpListener::bind((*ip, port)).is_ok()).then_some(port)
    };
    let port = (0..100).find_map(|_| free()).expect("one of a hundred ports is free on all");
    let mut running = Vec::new();
    for ip in addresses {
        let pace = Pace::Batch(200_000);
        let engine = ModelConfig { pace, max_num_seqs: seats, ..ModelConfig::default() };
        let listen = SocketAddr::from((ip, port));
        let config = engine::Config { listen, model: MODEL.to_owned(), engine, ..engine::Config::default() };
        running.push(Engine::start(config).await.unwrap());
    }
    (running, port)
}

fn manifests(name: &str, port: u16) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let group = "apiVersion: networking.serving.volcano.sh/v1alpha1";
    let mut text = format!(
        "{group}\nkind: ModelServer\nmetadata: {{name: held}}\n\
         spec: {{inferenceEngine: vLLM, workloadSelector: {{matchLabels: {{app: held}}}}, workloadPort: {{port: {port}}}}}\n---\n\
         {group}\nkind: ModelRoute\nmetadata: {{name: held}}\n\
         spec: {{modelName: {MODEL}, rules: [{{targetModels: [{{modelServerName: held}}]}}]}}\n"
    );
    for n in 0..ENGINES {
        let ip = n + 1;
        text += &format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: held-{n}, labels: {{app: held}}}}\nstatus: {{podIP: 127.0.9.{ip}}}\n"
        );
    }
    std::fs::write(folder.join("all.yaml"), text).unwrap();
    folder
}

/// Replicas that know each other.
struct Replicas {
    addresses: Vec<SocketAddr>,
    _serving: JoinSet<std::io::Result<()>>,
}

impl Replicas {
    async fn start(folder: &Path, count: usize, fleet_seed: u64) -> Self {
        let (mut planes, mut tellers, mut all) = (Vec::new(), Vec::new(), Vec::new());
        for n in 0..count {
            let listen = Listen::Plain(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
            let options = Options { source: Source::Directory(folder.to_owned()), listen, fleet_seed };
            let plane = Plane::start(options).await.unwrap();
            let me: Arc<str> = format!("replica-{n}").into();
            all.push(Member { name: me.clone(), address: plane.address() });
            let (tell, members) = watch::channel(Members { me, all: Vec::new() });
            planes.push(plane.with_peers(Peering::on_loopback(members)));
            tellers.push(tell);
        }
        for tell in &tellers {
            tell.send_modify(|members| members.all.clone_from(&all));
        }
        let mut serving = JoinSet::new();
        for plane in planes {
            serving.spawn(plane.serve(std::future::pending()));
        }
        Self { addresses: all.into_iter().map(|member| member.address).collect(), _serving: serving }
    }
}

/// What one proxy knows of the fleet's load, by engine.
fn known(proxy: &process::Running) -> Vec<u32> {
    let table = proxy.shared().table.load();
    let mut slots: Vec<_> = table.backends().flat_map(|backend| backend.slots.iter()).collect();
    slots.sort_by_key(|slot| slot.endpoint.address);
    slots.iter().map(|slot| slot.live.routed()).collect()
}

/// Proxies that decide for the backend, as each of them knows it.
fn sharing(proxies: &[process::Running]) -> Vec<u32> {
    let count = |proxy: &process::Running| {
        let table = proxy.shared().table.load();
        table.backends().map(|backend| backend.live.proxies()).max().unwrap_or(0)
    };
    proxies.iter().map(count).collect()
}

/// Proxies spread over replicas, in front of engines.
struct Fleet {
    engines: Vec<engine::Running>,
    proxies: Vec<process::Running>,
    /// Requests that last.
    open: JoinSet<End>,
    folder: PathBuf,
    _control: Replicas,
}

impl Fleet {
    /// Each engine has so many seats; who finds none waits.
    async fn start(replicas: usize, seats: usize, fleet_seed: u64) -> Self {
        let (engines, port) = engines(seats).await;
        let folder = manifests(&format!("replicas-{replicas}-{seats}"), port);
        let control = Replicas::start(&folder, replicas, fleet_seed).await;
        let proxy = |n: usize| {
            let address = control.addresses[n * replicas / PROXIES];
            process::start(Config::loopback(ControlPlane::at(address))).unwrap()
        };
        let proxies: Vec<process::Running> = (0..PROXIES).map(proxy).collect();
        let ready = || proxies.iter().all(|proxy| proxy.shared().ready() && known(proxy).len() == ENGINES);
        until("ready proxies", ready).await;
        Self { engines, proxies, open: JoinSet::new(), folder, _control: control }
    }

    /// One more request that lasts, by this proxy.
    fn ask(&mut self, proxy: usize, began: impl FnOnce() + Send + 'static) {
        let target = self.proxies[proxy].listen();
        let (model, limit) = (MODEL.to_owned(), Duration::from_secs(300));
        let question = Question { target, model, stream: true, max_tokens: 1_000, limit };
        self.open.spawn(async move { client::ask(&question, began).await });
    }

    /// How many requests wait, at all engines.
    async fn waiting(&self) -> u32 {
        let mut waiting = 0;
        for engine in &self.engines {
            waiting += queue(engine.addr).await;
        }
        waiting
    }

    /// How many requests each engine has.
    fn counts(&self) -> Vec<u32> {
        self.engines.iter().map(|engine| engine.stats().in_flight as u32).collect()
    }

    /// How many each has once there are so many and all proxies know of all of them.
    async fn settled(&self, requests: usize) -> Vec<u32> {
        let all = || self.counts().iter().sum::<u32>() == requests as u32;
        until("all know of it", || all() && self.proxies.iter().all(|proxy| known(proxy) == self.counts())).await;
        self.counts()
    }

    async fn end(mut self) {
        until("all know how many they are", || sharing(&self.proxies) == [PROXIES as u32; PROXIES]).await;
        self.open.shutdown().await;
        for proxy in self.proxies {
            proxy.shutdown(|| true);
        }
        std::fs::remove_dir_all(self.folder).unwrap();
    }
}

/// Requests that last, one after another, each by the next proxy once all know of the one before. How many each engine has, after
/// each of them.
async fn decide(replicas: usize) -> Vec<Vec<u32>> {
    let mut fleet = Fleet::start(replicas, 256, 1).await;
    let mut counts = Vec::new();
    for n in 0..REQUESTS {
        let (began, begun) = oneshot::channel();
        fleet.ask(n % PROXIES, || began.send(()).unwrap());
        begun.await.expect("an answer begins");
        counts.push(fleet.settled(n + 1).await);
    }
    fleet.end().await;
    counts
}

/// Of each proxy at once: fewer than there are engines, so that none is even by itself.
const AT_ONCE: usize = 3;
const WAVES: usize = 10;
/// Of an engine. Half of all requests wait in the end.
const SEATS: usize = 15;

/// Waves of requests that last, of all proxies at once, and the next one when all know of all. How many each engine has, and how many
/// of these wait, after each wave.
async fn decide_at_once(replicas: usize, fleet_seed: u64) -> Vec<(Vec<u32>, u32)> {
    let mut fleet = Fleet::start(replicas, SEATS, fleet_seed).await;
    let mut waves = Vec::new();
    for wave in 1..=WAVES {
        for n in 0..PROXIES * AT_ONCE {
            fleet.ask(n % PROXIES, || ());
        }
        let counts = fleet.settled(wave * PROXIES * AT_ONCE).await;
        // An engine counts a request a moment before it is in the queue.
        let least = waiting_at_least(wave) as u32;
        let mut waiting = fleet.waiting().await;
        let deadline = Instant::now() + PATIENCE;
        while waiting < least && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(10)).await;
            waiting = fleet.waiting().await;
        }
        waves.push((counts, waiting));
    }
    fleet.end().await;
    waves
}

/// Of so many waves, what no engine has a seat for.
fn waiting_at_least(waves: usize) -> usize {
    (waves * PROXIES * AT_ONCE).saturating_sub(ENGINES * SEATS)
}

/// How many requests wait at an engine, as it says so itself.
async fn queue(engine: SocketAddr) -> u32 {
    let mut stream = TcpStream::connect(engine).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let sample = text.lines().find(|line| line.starts_with("vllm:num_requests_waiting{")).expect("vLLM's metric");
    sample.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u32
}

fn spread(counts: &[u32]) -> u32 {
    counts.iter().max().unwrap() - counts.iter().min().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_proxies_over_two_replicas_decide_as_over_one() {
    for replicas in [1, 2] {
        let counts = decide(replicas).await;
        let worst = counts.iter().map(|counts| spread(counts)).max().unwrap();
        println!(
            "{replicas} replicas: {:?} at the end, {worst} between the busiest and the idlest engine at most",
            counts[REQUESTS - 1]
        );
        assert_eq!(worst, 1, "{counts:?}");
    }
}

/// Who decides knows all but what the others decide in the same moment: at most `UNHEARD` requests, all of which may have gone to the
/// engine that it takes for the idlest. It also guesses where those went, up to twice what they may be, and so may pick an engine that has as many
/// more. So the one that it picks has, with the new request, at most `APART` more than the idlest, and since requests last and no count falls, no two
/// engines are ever farther apart, by however many replicas the others are heard.
const UNHEARD: usize = (PROXIES - 1) * AT_ONCE;
const APART: usize = 2 * UNHEARD + 1;

/// Where some engine has requests that wait, each other one has at most so many free seats: a request waits in vain only for these.
const IN_VAIN: usize = (ENGINES - 1) * APART;

/// Runs of each, of a fleet seed each.
const SEEDS: u64 = 10;
/// How far the busiest engine's share over two replicas may be from that over one, on the mean over all waves of all runs.
const ALIKE: f64 = 0.1;

/// What the busiest engine has of the mean.
fn busiest(counts: &[u32]) -> f64 {
    f64::from(*counts.iter().max().unwrap() * counts.len() as u32) / f64::from(counts.iter().sum::<u32>())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_proxies_that_decide_at_once_are_as_even_over_two_replicas_as_over_one() {
    let mut shares = [Vec::new(), Vec::new()];
    for (seed, replicas) in (1..=SEEDS).flat_map(|seed| [(seed, 1), (seed, 2)]) {
        let waves = decide_at_once(replicas, seed).await;
        let worst = waves.iter().map(|(counts, _)| spread(counts)).max().unwrap();
        println!(
            "seed {seed}, {replicas} replicas: {waves:?}, {worst} between the busiest and the idlest engine at most"
        );
        assert!(worst as usize <= APART, "{waves:?}");
        for (n, (counts, waiting)) in waves.iter().enumerate() {
            let least = waiting_at_least(n + 1);
            let waiting = *waiting as usize;
            assert!((least..=least + IN_VAIN).contains(&waiting), "{waiting} wait of {counts:?}, {least} have to");
        }
        shares[replicas - 1].extend(waves.iter().map(|(counts, _)| busiest(counts)));
    }
    let means = shares.map(|mut shares| {
        shares.sort_by(f64::total_cmp);
        let (count, mean) = (shares.len(), shares.iter().sum::<f64>() / shares.len() as f64);
        let at = |share: f64| shares[(count as f64 * share) as usize];
        println!("the busiest over the mean, {count} waves: mean {mean:.3}, p50 {:.3}, p90 {:.3}", at(0.5), at(0.9));
        mean
    });
    assert!((means[1] / means[0] - 1.0).abs() <= ALIKE, "over one replica and over two: {means:?}");
}
