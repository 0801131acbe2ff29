//! Replicas in one process, each with data planes, that know of each other what they are told by hand.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

use api::id::EndpointKey;
use api::proto::peers_client::PeersClient;
use api::proto::{PeerKey, PeerLoad, PeerReport};
use futures_util::StreamExt;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::Code;
use tonic::transport::Channel;

use super::*;
use crate::engine::{Shard, Told};
use crate::peer::{Caches, Member, Members, Others, Peering, Shared};
use crate::run::{self, Listen, Round, Source};
use crate::world::Engines;

mod reach;

const VLLM: &str = include_str!("../../../../tests/recorded/vllm-0.32.0.prom");
const MODELS: &str = include_str!("../../../../tests/recorded/vllm-0.32.0-models.json");

/// A replica. Its engines are asked by those who share them.
struct Replica {
    site: Site,
    shard: watch::Receiver<Shard>,
    members: watch::Sender<Members>,
    me: Member,
    rounds: watch::Sender<Option<Arc<Round>>>,
    engines: watch::Receiver<Engines>,
    others: watch::Receiver<Arc<Others>>,
    _tasks: JoinSet<()>,
}

impl Replica {
    async fn start(name: &str, round: &Arc<Round>, handles_from: u32) -> Self {
        let listener = Listener::plain("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let me = Member { name: name.into(), address: listener.address() };
        let members = watch::Sender::new(Members { me: me.name.clone(), all: Vec::new() });
        let peering = Peering::on_loopback(members.subscribe());
        let (known, engines) = watch::channel(Engines::default());
        let (tell_others, others) = watch::channel(Arc::default());
        let (round, rounds) = (renumbered(round, handles_from), watch::Sender::new(None));
        let mut tasks = JoinSet::new();
        let mut shards = watch::channel(Shard::alone()).1;
        let site = Site::of(listener, Options::default(), |server| {
            let Joined { ear: _, shard, hearing: _, own, tasks: talking } = server.join(
                peering,
                Shared { rounds: rounds.subscribe(), engines: known, others: tell_others, caches: Caches::of_nobody() },
            );
            (tasks, shards) = (talking, shard.clone());
            let told = Told {
                loads: server.loads(),
                engines: own,
                first: oneshot::channel().0,
                asked: watch::channel(Vec::new()).0,
            };
            tasks.spawn(crate::engine::watch(rounds.subscribe(), shard, told, crate::engine::PERIOD));
        });
        site.send(Snapshot::clone(&round.snapshot));
        rounds.send_replace(Some(round));
        Self { site, shard: shards, members, me, rounds, engines, others, _tasks: tasks }
    }

    fn knows(&self, others: &[&Self]) {
        let all = others.iter().map(|other| other.me.clone()).chain([self.me.clone()]).collect();
        self.members.send_replace(Members { me: self.me.name.clone(), all });
    }

    fn handle(&self, n: usize) -> u32 {
        let round = self.rounds.borrow().clone().unwrap();
        round.snapshot.backends[0].endpoints[n].handle
    }

    fn load(&self, n: usize) -> (u64, u32) {
        let Load { queued_tokens, running, .. } = self.site.loads.at(self.handle(n));
        (queued_tokens, running)
    }
}

/// With other handles, as every process gives its own.
fn renumbered(round: &Round, from: u32) -> Arc<Round> {
    let mut snapshot = Snapshot::clone(&round.snapshot);
    for endpoint in snapshot.backends.iter_mut().flat_map(|backend| &mut backend.endpoints) {
        let handle = endpoint.handle + from;
        *endpoint = Arc::new(api::snapshot::Endpoint { handle, ..(**endpoint).clone() });
    }
    Arc::new(Round { world: round.world.clone(), verdicts: round.verdicts.clone(), snapshot: Arc::new(snapshot) })
}

/// Engines, and who asked which of them for its metrics: they cannot tell replicas apart, but each counts.
struct Fleet {
    round: Arc<Round>,
    asked: Arc<Mutex<BTreeMap<IpAddr, u32>>>,
}

impl Fleet {
    async fn of(engines: u8) -> Self {
        let asked: Arc<Mutex<BTreeMap<IpAddr, u32>>> = Arc::default();
        let mut port = 0;
        let mut ips = Vec::new();
        for n in 0..engines {
            let ip = IpAddr::from([127, 0, 7, n + 1]);
            let listener = TcpListener::bind(SocketAddr::new(ip, port)).await.unwrap();
            port = listener.local_addr().unwrap().port();
            ips.push(ip);
            tokio::spawn(answer(listener, ip, asked.clone()));
        }
        let spec = json!({"inferenceEngine": "vLLM", "workloadSelector": {"matchLabels": {"app": "x"}},
                          "workloadPort": {"port": port}});
        let round = Arc::new(crate::engine::tests::round(&[("s".to_owned(), spec)], &ips));
        Self { round, asked }
    }

    /// How often each was asked since the last time.
    fn take(&self) -> BTreeMap<IpAddr, u32> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

async fn answer(listener: TcpListener, ip: IpAddr, asked: Arc<Mutex<BTreeMap<IpAddr, u32>>>) {
    let recorded: serde_json::Value = serde_json::from_str(MODELS).unwrap();
    let models = recorded["body"].as_str().unwrap();
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 1024];
        let read = stream.read(&mut request).await.unwrap_or(0);
        let metrics = request[..read].starts_with(b"GET /metrics");
        if metrics {
            *asked.lock().unwrap().entry(ip).or_default() += 1;
        }
        let text = if metrics { VLLM } else { models };
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", text.len());
        let _ = stream.write_all((head + text).as_bytes()).await;
    }
}

async fn joined(replica: &Replica) -> Plane {
    let mut plane = replica.site.join().await;
    plane.apply().await;
    plane
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_planes_of_two_replicas_hear_of_each_others_load() {
    let fleet = Fleet::of(2).await;
    let (a, b) = (Replica::start("a", &fleet.round, 0).await, Replica::start("b", &fleet.round, 100).await);
    a.knows(&[&b]);
    b.knows(&[&a]);
    let (mut of_a, mut of_b) = (joined(&a).await, joined(&b).await);
    assert_eq!((a.handle(0) + 100, b.handle(0)), (b.handle(0), a.handle(0) + 100));
    of_a.report(&[(a.handle(0), 500, 3)]).await;
    assert_eq!(of_b.hear(b.handle(0)).await, (500, 3));
    of_b.report(&[(b.handle(0), 70, 1), (b.handle(1), 5, 1)]).await;
    assert_eq!(of_a.hear(a.handle(1)).await, (5, 1));
    assert_eq!(of_a.hear(a.handle(0)).await, (70, 1), "and nothing of its own comes back");
    until("both know all", || a.load(0) == (570, 4) && b.load(0) == (570, 4)).await;
    // From report to the other replica's book, again and again.
    let mut took = Vec::new();
    for running in 10..60 {
        let begin = Instant::now();
        of_a.report(&[(a.handle(0), 500, running)]).await;
        until("b knows", || b.load(0).1 == running + 1).await;
        took.push(begin.elapsed());
    }
    took.sort_unstable();
    println!("a peer knows after {:?} (median), {:?} (longest of {})", took[25], took[49], took.len());
    assert!(took[25] < Duration::from_millis(60), "{took:?}");
    // What is done is done on both sides, and data planes are counted where they are.
    of_a.report(&[(a.handle(0), 0, 0)]).await;
    until("b knows that it is done", || b.load(0) == (70, 1)).await;
    assert_eq!((a.site.loads.proxies(), b.site.loads.proxies()), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_planes_of_two_replicas_hear_of_each_others_prompts() {
    let fleet = Fleet::of(2).await;
    let (a, b) = (Replica::start("a", &fleet.round, 0).await, Replica::start("b", &fleet.round, 100).await);
    let joined = async |replica: &Replica| {
        let mut plane = replica.site.subscribe(|subscribe| subscribe.kv = true).await;
        plane.apply().await;
        plane
    };
    let (of_a, mut of_b) = (joined(&a).await, joined(&b).await);
    // What was predicted before they knew each other is told, too.
    of_a.predict(a.handle(0), &[10, 11]).await;
    a.knows(&[&b]);
    b.knows(&[&a]);
    assert_eq!(of_b.predicted_at(b.handle(0), 2).await, [10, 11]);
    of_a.predict(a.handle(1), &[20, 21]).await;
    of_a.use_blocks(&[(10, 8.0)]).await;
    assert_eq!(of_b.predicted_at(b.handle(1), 2).await, [20, 21]);
    of_b.used(10, 8.0).await;
    of_b.use_blocks(&[(10, 8.0)]).await;
    of_b.used(10, 16.0).await;
    let mut late = joined(&a).await;
    late.used(10, 16.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_told_on_and_who_is_not_dialled_hears_nothing() {
    let fleet = Fleet::of(1).await;
    let mut replicas = Vec::new();
    for (name, from) in [("a", 0), ("b", 10), ("c", 20)] {
        replicas.push(Replica::start(name, &fleet.round, from).await);
    }
    let [a, b, c] = &replicas[..] else { panic!() };
    // A chain: a tells b, and b tells c.
    a.knows(&[b]);
    b.knows(&[c]);
    let (of_a, of_b) = (joined(a).await, joined(b).await);
    of_a.report(&[(a.handle(0), 500, 3)]).await;
    until("b knows", || b.load(0) == (500, 3)).await;
    of_b.report(&[(b.handle(0), 1, 1)]).await;
    until("c knows what is b's", || c.load(0) == (1, 1)).await;
    assert_eq!(a.load(0), (500, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_dies_is_forgotten_after_two_seconds() {
    let fleet = Fleet::of(1).await;
    let (a, b) = (Replica::start("a", &fleet.round, 0).await, Replica::start("b", &fleet.round, 100).await);
    a.knows(&[&b]);
    b.knows(&[&a]);
    let of_b = joined(&b).await;
    of_b.report(&[(b.handle(0), 500, 3)]).await;
    until("a knows", || a.load(0) == (500, 3)).await;
    let begin = Instant::now();
    drop((of_b, b));
    until("a forgets", || a.load(0) == (0, 0)).await;
    let took = begin.elapsed();
    println!("forgotten after {took:?}");
    assert!(took > Duration::from_millis(1_900) && took < Duration::from_millis(4_500), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_of_an_endpoint_that_comes_later_counts_then() {
    let fleet = Fleet::of(2).await;
    let (a, b) = (Replica::start("a", &fleet.round, 0).await, Replica::start("b", &fleet.round, 100).await);
    let round = b.rounds.borrow().clone().unwrap();
    let mut before = Snapshot::clone(&round.snapshot);
    before.backends[0].endpoints.remove(0);
    b.site.send(before);
    b.knows(&[&a]);
    a.knows(&[&b]);
    let of_a = joined(&a).await;
    of_a.report(&[(a.handle(0), 500, 3), (a.handle(1), 20, 1)]).await;
    until("b knows of the other one", || b.load(1) == (20, 1)).await;
    assert_eq!(b.load(0), (0, 0));
    b.site.send(Snapshot::clone(&round.snapshot));
    until("b knows", || b.load(0) == (500, 3) && b.load(1) == (20, 1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_engine_is_asked_by_one_replica_and_by_another_within_three_seconds_once_that_is_gone() {
    const ENGINES: u8 = 12;
    let fleet = Fleet::of(ENGINES).await;
    let (a, b) = (Replica::start("a", &fleet.round, 0).await, Replica::start("b", &fleet.round, 100).await);
    let both_ask =
        |asked: &BTreeMap<IpAddr, u32>| asked.len() == usize::from(ENGINES) && asked.values().all(|n| *n > 1);
    until("each asks all while they do not know each other", || both_ask(&fleet.asked.lock().unwrap())).await;
    a.knows(&[&b]);
    b.knows(&[&a]);
    until("both know that there are two", || [&a, &b].iter().all(|r| r.shard.borrow().members.len() == 2)).await;
    let whole = |replica: &Replica| replica.engines.borrow().iter().count() == usize::from(ENGINES);
    until("both know the facts of all", || whole(&a) && whole(&b)).await;
    // Shared out: the fourth question comes three periods after the first, and not after one and a half.
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        fleet.take();
        until("each is asked", || fleet.asked.lock().unwrap().len() == usize::from(ENGINES)).await;
        let begin = Instant::now();
        fleet.take();
        until("each is asked again", || *fleet.asked.lock().unwrap().values().max().unwrap_or(&0) >= 3).await;
        let took = begin.elapsed();
        println!("three more questions took {took:?}");
        if took > Duration::from_millis(2_500) {
            break;
        }
        assert!(Instant::now() < deadline, "both ask on");
    }
    assert!(whole(&a) && whole(&b));
    let mut of_a = joined(&a).await;
    of_a.drain(Duration::from_millis(200)).await;
    assert_eq!(of_a.engines.len(), usize::from(ENGINES), "also what b asked");
    let begin = Instant::now();
    drop(b);
    fleet.take();
    until("a asks all", || fleet.asked.lock().unwrap().len() == usize::from(ENGINES)).await;
    let took = begin.elapsed();
    println!("taken over after {took:?}");
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert!(whole(&a), "and nothing was forgotten meanwhile");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_falls_silent_is_taken_for_dead() {
    let fleet = Fleet::of(1).await;
    let a = Replica::start("a", &fleet.round, 0).await;
    let silent = Member { name: "silent".into(), address: "127.0.0.1:1".parse().unwrap() };
    let all = vec![a.me.clone(), silent];
    a.members.send_replace(Members { me: a.me.name.clone(), all });
    let EndpointKey { uid, port, rank } =
        a.rounds.borrow().clone().unwrap().snapshot.backends[0].endpoints[0].key.clone();
    let key = Some(PeerKey { uid: uid.to_string(), port: port.into(), rank: rank.into() });
    let loads = vec![PeerLoad { key, queued_tokens: 500, running: 3, ..PeerLoad::default() }];
    let report = PeerReport { epoch: 5, member: "silent".into(), loads, ..PeerReport::default() };
    let channel = Channel::from_shared(format!("http://{}", a.me.address)).unwrap().connect().await.unwrap();
    let begin = Instant::now();
    let said = futures_util::stream::iter([report]).chain(futures_util::stream::pending());
    let ended = tokio::spawn(async move { PeersClient::new(channel).tell(said).await.unwrap_err().code() });
    until("a hears it", || a.shard.borrow().members.len() == 2 && a.load(0) == (500, 3)).await;
    until("a shares with nobody", || a.shard.borrow().members.len() == 1).await;
    let silence = begin.elapsed();
    assert_eq!(a.load(0), (500, 3), "what it had is kept for a moment");
    assert_eq!(ended.await.unwrap(), Code::DeadlineExceeded);
    until("a forgets what it had", || a.load(0) == (0, 0)).await;
    println!("taken for dead after {silence:?}, forgotten after {:?}", begin.elapsed());
    assert!(silence < Duration::from_millis(2_500), "{silence:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whole_control_planes_join_each_other() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/quickstart");
    let (mut planes, mut tellers) = (Vec::new(), Vec::new());
    for name in ["a", "b"] {
        let listen = Listen::Plain("127.0.0.1:0".parse().unwrap());
        let options = run::Options { source: Source::Directory(root.clone()), listen, fleet_seed: 1 };
        let plane = run::Plane::start(options).await.unwrap();
        let (tell, members) = watch::channel(Members { me: name.into(), all: Vec::new() });
        let member = Member { name: name.into(), address: plane.address() };
        planes.push(plane.with_peers(Peering::on_loopback(members)));
        tellers.push((tell, member));
    }
    let all: Vec<Member> = tellers.iter().map(|(_, member)| member.clone()).collect();
    for (tell, _) in &tellers {
        tell.send_modify(|members| members.all = all.clone());
    }
    let (stop, stopped) = watch::channel(());
    let serve = |plane: run::Plane| {
        let mut stopped = stopped.clone();
        tokio::spawn(plane.serve(async move { while stopped.changed().await.is_ok() {} }))
    };
    let serving: Vec<_> = planes.into_iter().map(serve).collect();
    let mut data_planes = Vec::new();
    for member in &all {
        let subscribe = api::proto::Subscribe { load: true, instance: random(), ..Default::default() };
        let mut plane = Plane::open(member.address, Some(subscribe)).await.unwrap();
        plane.apply().await;
        data_planes.push(plane);
    }
    let handle = |plane: &Plane| plane.held.backends[0].endpoints[0].handle;
    let [of_a, of_b] = &mut data_planes[..] else { panic!() };
    of_a.report(&[(handle(of_a), 500, 3)]).await;
    assert_eq!(of_b.hear(handle(of_b)).await, (500, 3));
    // Neither waits for the other's stream.
    drop((stop, data_planes));
    for plane in serving {
        timeout(Duration::from_secs(10), plane).await.expect("it ends").unwrap().unwrap();
    }
}
