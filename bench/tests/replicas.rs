//! Four proxies, spread over two replicas of the control plane, decide as they do with one.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bench::engine::{self, Engine, ModelConfig, Pace};
use bench::show::client::{self, Question};
use controlplane::peer::{Member, Members, Peering};
use controlplane::run::{Listen, Options, Plane, Source};
use dataplane::config::{Config, ControlPlane};
use dataplane::process;
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
async fn engines() -> (Vec<engine::Running>, u16) {
    let addresses: Vec<Ipv4Addr> = (0..ENGINES as u8).map(|n| Ipv4Addr::new(127, 0, 9, n + 1)).collect();
    let free = || {
        let port = TcpListener::bind((addresses[0], 0)).ok()?.local_addr().ok()?.port();
        addresses.iter().all(|ip| TcpListener::bind((*ip, port)).is_ok()).then_some(port)
    };
    let port = (0..100).find_map(|_| free()).expect("one of a hundred ports is free on all");
    let mut running = Vec::new();
    for ip in addresses {
        let engine = ModelConfig { pace: Pace::Batch(200_000), ..ModelConfig::default() };
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
    async fn start(folder: &Path, count: usize) -> Self {
        let (mut planes, mut tellers, mut all) = (Vec::new(), Vec::new(), Vec::new());
        for n in 0..count {
            let listen = Listen::Plain(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
            let options = Options { source: Source::Directory(folder.to_owned()), listen, fleet_seed: 1 };
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

/// Requests that last, one after another, each by the next proxy once all know of the one before. How many each engine has, after
/// each of them.
async fn decide(replicas: usize) -> Vec<Vec<u32>> {
    let (engines, port) = engines().await;
    let folder = manifests(&format!("replicas-{replicas}"), port);
    let control = Replicas::start(&folder, replicas).await;
    let proxy = |n: usize| {
        let address = control.addresses[n * replicas / PROXIES];
        process::start(Config::loopback(ControlPlane::at(address))).unwrap()
    };
    let proxies: Vec<process::Running> = (0..PROXIES).map(proxy).collect();
    until("ready proxies", || proxies.iter().all(|proxy| proxy.shared().ready() && known(proxy).len() == ENGINES))
        .await;

    let (mut open, mut counts) = (JoinSet::new(), Vec::new());
    for n in 0..REQUESTS {
        let target = proxies[n % PROXIES].listen();
        let (model, limit) = (MODEL.to_owned(), Duration::from_secs(300));
        let question = Question { target, model, stream: true, max_tokens: 1_000, limit };
        let (began, begun) = oneshot::channel();
        open.spawn(async move { client::ask(&question, || began.send(()).unwrap()).await });
        begun.await.expect("an answer begins");
        let true_ones = || engines.iter().map(|engine| engine.stats().in_flight as u32).collect::<Vec<_>>();
        until("all know of it", || proxies.iter().all(|proxy| known(proxy) == true_ones())).await;
        let now = true_ones();
        assert_eq!(now.iter().sum::<u32>(), n as u32 + 1);
        counts.push(now);
    }
    until("all know how many they are", || sharing(&proxies) == [PROXIES as u32; PROXIES]).await;
    open.shutdown().await;
    for proxy in proxies {
        proxy.shutdown(|| true);
    }
    std::fs::remove_dir_all(folder).unwrap();
    counts
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
