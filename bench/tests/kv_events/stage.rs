//! One engine, its follower, and the store that what is heard goes to.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use bench::engine::kv::Dial;
use bench::engine::{Config, Engine, KvConfig, ModelConfig, Pace, Running};
use controlplane::kv::endpoint::Endpoint;
use controlplane::kv::store::{Key, RankId, Store, Tally};
use controlplane::kv::subscribe::{At, Heard, Source, Status, What, follow};
use controlplane::kv::trust::Trust;
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use crate::client;

const RANK: RankId = RankId(3);
const CACHE_BLOCKS: usize = 200;
const LIMIT: Duration = Duration::from_secs(30);

pub(crate) struct Stage {
    engine: Running,
    store: Store,
    trust: Trust,
    heard: mpsc::Receiver<Heard>,
    status: watch::Receiver<Status>,
    follower: JoinHandle<()>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

/// SplitMix64.
struct Rng(u64);

impl Rng {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

impl Stage {
    /// The engine is followed from its first message on.
    pub(crate) async fn new(kv: KvConfig) -> Self {
        let mut kv = kv;
        if kv.dial == Dial::Out {
            // Ports that are free now; the engine and its follower agree on them.
            (kv.publish, kv.replay) = (free(), Some(free()));
            let (heard, status, follower) = spawn(source(At::Listen(kv.publish), kv.replay, &kv));
            let engine = start(&kv).await;
            return Self { engine, store: store(), trust: Trust::Cold, heard, status, follower }.connected().await;
        }
        let engine = start(&kv).await;
        Self::follow(engine, &kv).connected().await
    }

    /// Once it is followed.
    async fn connected(mut self) -> Self {
        let followed = |status: &Status| status.connections > 0 && status.fault.is_none();
        timeout_at(Instant::now() + LIMIT, self.status.wait_for(followed))
            .await
            .expect("it is followed in time")
            .unwrap();
        if self.engine.kv_places().unwrap().1.is_some() {
            self.until(Trust::Trusted).await;
        }
        self
    }

    /// The engine has worked for a while already.
    pub(crate) async fn late(kv: KvConfig, seed: u64) -> Self {
        let engine = start(&kv).await;
        traffic(engine.addr, seed, 20).await;
        Self::follow(engine, &kv)
    }

    fn follow(engine: Running, kv: &KvConfig) -> Self {
        let (publish, replay) = engine.kv_places().unwrap();
        let at = At::Connect(Endpoint::of(publish.ip(), publish.port()));
        let (heard, status, follower) = spawn(source(at, replay, kv));
        Self { engine, store: store(), trust: Trust::Cold, heard, status, follower }
    }

    pub(crate) fn engine(&self) -> &Running {
        &self.engine
    }

    pub(crate) fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    pub(crate) fn tally(&self) -> Tally {
        self.store.rank(RANK).unwrap().tally()
    }

    pub(crate) fn held(&self) -> Vec<u64> {
        let mut held: Vec<u64> = self.store.rank(RANK).unwrap().held().map(|(hash, _, _)| hash).collect();
        held.sort_unstable();
        held
    }

    pub(crate) fn keys(&self) -> BTreeSet<Key> {
        self.store.rank(RANK).unwrap().held().map(|(_, key, _)| key).collect()
    }

    pub(crate) fn evicted(&self) -> bool {
        self.engine.cached_blocks().len() == CACHE_BLOCKS
    }

    pub(crate) async fn traffic(&self, seed: u64, requests: u64) {
        traffic(self.engine.addr, seed, requests).await;
    }

    pub(crate) async fn ask(&self, model: &str, text: &str, salt: Option<&str>) {
        ask(self.engine.addr, model, text, salt).await;
    }

    /// Waits until the follower's trust is this and the store holds just what the engine has.
    pub(crate) async fn agree(&mut self, trust: Trust) {
        self.wait(|stage| stage.trust == trust && stage.held() == stage.cached()).await;
    }

    pub(crate) async fn until(&mut self, trust: Trust) {
        self.wait(|stage| stage.trust == trust).await;
    }

    /// Waits until all that the engine said is heard; then nothing is held that it does not have, but something is.
    pub(crate) async fn no_false_hit(&mut self) {
        self.traffic(99, 3).await;
        self.wait(|stage| {
            let (held, cached) = (stage.held(), stage.cached());
            let newest = held.iter().any(|hash| cached.contains(hash));
            newest && held.iter().all(|hash| cached.contains(hash))
        })
        .await;
    }

    fn cached(&self) -> Vec<u64> {
        let mut cached = self.engine.cached_blocks();
        cached.sort_unstable();
        cached
    }

    async fn wait(&mut self, done: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + LIMIT;
        self.engine.kv_settled().await;
        while !done(self) {
            let Ok(heard) = timeout_at(deadline, self.heard.recv()).await else {
                let (held, cached) = (self.held().len(), self.cached().len());
                panic!("{:?} {:?}: {held} held of {cached}", self.trust, self.status());
            };
            let Heard { rank, what } = heard.expect("the follower goes on");
            let mut changes = Vec::new();
            match what {
                What::Apply(batch) => self.store.apply(rank, &batch, &mut changes),
                What::Forget => self.store.forget(rank, &mut changes),
                What::Trust(trust) => self.trust = trust,
            }
        }
    }
}

async fn start(kv: &KvConfig) -> Running {
    let engine = ModelConfig {
        cache_blocks: CACHE_BLOCKS,
        prefill_tokens_per_s: 10_000_000,
        pace: Pace::Stream(10),
        ..ModelConfig::default()
    };
    let loras = vec!["an-adapter".to_owned()];
    Engine::start(Config { engine, loras, kv: Some(kv.clone()), ..Config::default() }).await.unwrap()
}

fn free() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn store() -> Store {
    let mut store = Store::new();
    store.admit(RANK, 10 * CACHE_BLOCKS);
    store
}

fn source(at: At, replay: Option<SocketAddr>, kv: &KvConfig) -> Source {
    let replay = replay.map(|replay| Endpoint::of(replay.ip(), replay.port()));
    Source { rank: RANK, at, topic: kv.topic.clone(), replay }
}

fn spawn(source: Source) -> (mpsc::Receiver<Heard>, watch::Receiver<Status>, JoinHandle<()>) {
    let (heard, receiver) = mpsc::channel(1_024);
    let (status, statuses) = watch::channel(Status::default());
    let follower = tokio::spawn(async move { follow(source, heard, status, || 0.5).await.unwrap() });
    (receiver, statuses, follower)
}

/// Prompts that share beginnings: a walk of 1 to 12 pieces of 64 bytes, each one of a few.
async fn traffic(engine: SocketAddr, seed: u64, requests: u64) {
    let mut rng = Rng(seed);
    for _ in 0..requests {
        let pieces: Vec<String> =
            (0..=rng.below(12)).map(|_| format!("{:<64}", format!("piece {}", rng.below(3)))).collect();
        let (model, salt) = match rng.below(8) {
            0 => ("an-adapter", None),
            1 => ("sim", Some("tenant")),
            _ => ("sim", None),
        };
        ask(engine, model, &pieces.concat(), salt).await;
    }
}

async fn ask(engine: SocketAddr, model: &str, text: &str, salt: Option<&str>) {
    let body = json!({"model": model, "prompt": text, "max_tokens": 1, "cache_salt": salt});
    let reply = client::call(engine, "POST", "/v1/completions", &[], &body.to_string()).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
}
