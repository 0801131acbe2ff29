//! A server on a free port, and data planes that answer when they are told to.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use api::decode::{Object, Problem, Reason};
use api::predictions::Mark;
use api::proto::config_ack::Result as Answer;
use api::proto::data_plane_client::DataPlaneClient;
use api::proto::from_data_plane::Message as Said;
use api::proto::refusal::Kind;
use api::proto::to_data_plane::Message as Told;
use api::proto::{
    Applied, ConfigAck, ConfigDelta, EndpointLoad, EngineLoad, FromDataPlane, KvDigests, KvUpdate, LoadReport,
    Predictions, Refused, Resync, Subscribe, ToDataPlane, UseCounts, Version, Welcome,
};
use api::snapshot::Snapshot;
use api::{delta, encode, hash};
use futures_util::stream::unfold;
use prost::Message as _;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

use super::super::*;
use super::{snapshot, words};

const PATIENCE: Duration = Duration::from_secs(10);
/// Long enough for what should not come to come.
const QUIET: Duration = Duration::from_millis(150);

/// Waits for a condition; what it waits for is said when it does not come.
pub(super) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// A running server and what it is fed with.
pub(super) struct Site {
    pub(super) address: SocketAddr,
    pub(super) epoch: u64,
    pub(super) zones: watch::Sender<Arc<Zones>>,
    pub(super) reached: watch::Sender<Reached>,
    pub(super) progress: watch::Receiver<Arc<Progress>>,
    pub(super) counts: Arc<Counts>,
    pub(super) loads: Arc<Loads>,
    pub(super) lane: Arc<Lane>,
    snapshots: watch::Sender<Option<Arc<Snapshot>>>,
    registry: Arc<Registry>,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<io::Result<()>>,
}

impl Site {
    pub(super) async fn start(options: Options) -> Self {
        Self::behind(Listener::plain("127.0.0.1:0".parse().unwrap()).await.unwrap(), options)
    }

    pub(super) fn behind(listener: Listener, options: Options) -> Self {
        Self::of(listener, options, |_| ())
    }

    /// With something done before it serves.
    pub(super) fn of(listener: Listener, options: Options, prepare: impl FnOnce(&mut Server)) -> Self {
        let (snapshots, zones) = (watch::channel(None).0, watch::channel(Arc::default()).0);
        let reached = watch::channel(Reached::default()).0;
        let inputs =
            Inputs { snapshots: snapshots.subscribe(), zones: zones.subscribe(), reached: reached.subscribe() };
        let mut server = Server::new(listener, inputs, options);
        prepare(&mut server);
        let (stop, stopped) = oneshot::channel();
        Self {
            address: server.address(),
            epoch: server.epoch(),
            zones,
            reached,
            progress: server.progress(),
            counts: server.counts(),
            loads: server.loads(),
            lane: server.kv(),
            snapshots,
            registry: server.hub.registry.clone(),
            stop: Some(stop),
            serving: tokio::spawn(server.serve(async { drop(stopped.await) })),
        }
    }

    pub(super) fn publish(&self, words: &str) {
        self.send(snapshot(words));
    }

    pub(super) fn send(&self, snapshot: Snapshot) {
        self.snapshots.send_replace(Some(Arc::new(snapshot)));
    }

    pub(super) fn version(&self, version: u64) -> Version {
        Version { epoch: self.epoch, version }
    }

    pub(super) fn data_planes(&self) -> Vec<DataPlane> {
        self.registry.list()
    }

    pub(super) fn streams(&self) -> usize {
        self.registry.streams()
    }

    /// Waits until so many data planes are there and all have the newest version.
    pub(super) async fn complete(&self, planes: usize) -> Arc<Progress> {
        let mut progress = self.progress.clone();
        let complete = progress.wait_for(|p| p.connected == planes && p.complete());
        timeout(PATIENCE, complete).await.expect("all of them acknowledge").unwrap().clone()
    }

    pub(super) async fn join(&self) -> Plane {
        self.subscribe(|_| {}).await
    }

    pub(super) async fn subscribe(&self, edit: impl FnOnce(&mut Subscribe)) -> Plane {
        let mut subscribe = Subscribe { node: "n".into(), load: true, instance: random(), ..Subscribe::default() };
        edit(&mut subscribe);
        Plane::open(self.address, Some(subscribe)).await.unwrap()
    }

    /// Another stream of the same process.
    pub(super) async fn rejoin(&self, plane: &Plane) -> Plane {
        let mut joined = self
            .subscribe(|subscribe| {
                subscribe.instance = plane.instance;
                subscribe.held = Some(wire(plane.held.version));
                subscribe.content_hash = hash::content_hash(&plane.held);
                subscribe.resource_versions = plane.held.seen.wire();
            })
            .await;
        joined.held = plane.held.clone();
        joined
    }

    pub(super) fn has_ended(&self) -> bool {
        self.serving.is_finished()
    }

    pub(super) async fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// A change that was received and not answered.
pub(super) struct Update {
    pub(super) nonce: u64,
    pub(super) delta: ConfigDelta,
}

/// A data plane.
#[derive(Debug)]
pub(super) struct Plane {
    pub(super) welcome: Welcome,
    pub(super) held: Snapshot,
    /// It says with a refusal what it holds.
    pub(super) tells: bool,
    pub(super) instance: u64,
    /// What the others have, by endpoint.
    pub(super) loads: HashMap<u32, (u64, u32)>,
    pub(super) load_bytes: usize,
    /// What was said of caches.
    pub(super) kv: Vec<KvUpdate>,
    /// What engines say, by endpoint.
    pub(super) engines: HashMap<u32, EngineLoad>,
    /// How often the fleet asks for blocks.
    pub(super) uses: HashMap<u64, f32>,
    /// What others predict.
    pub(super) predicted: Vec<Mark>,
    inbound: Streaming<ToDataPlane>,
    outbound: mpsc::Sender<FromDataPlane>,
}

impl Plane {
    /// Subscribes, or says something else first.
    pub(super) async fn open(address: SocketAddr, subscribe: Option<Subscribe>) -> Result<Self, Status> {
        let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        Self::over(channel, None, subscribe).await
    }

    /// By a connection that is there, with an authorization.
    pub(super) async fn over(
        channel: Channel,
        authorization: Option<&str>,
        subscribe: Option<Subscribe>,
    ) -> Result<Self, Status> {
        let instance = subscribe.as_ref().map_or(0, |s| s.instance);
        let first = subscribe.map_or(Said::Load(LoadReport::default()), Said::Subscribe);
        let mut client = DataPlaneClient::new(channel);
        let (outbound, queue) = mpsc::channel(16);
        outbound.try_send(FromDataPlane { message: Some(first) }).unwrap();
        let messages = unfold(queue, |mut queue| async { Some((queue.recv().await?, queue)) });
        let mut request = Request::new(messages);
        if let Some(authorization) = authorization {
            request.metadata_mut().insert("authorization", authorization.parse().unwrap());
        }
        let mut inbound = client.stream(request).await?.into_inner();
        let Some(ToDataPlane { message: Some(Told::Welcome(welcome)) }) = inbound.message().await? else {
            panic!("the first message is a welcome")
        };
        let (held, loads, engines) = (Snapshot::default(), HashMap::new(), HashMap::new());
        let (kv, uses, predicted) = (Vec::new(), HashMap::new(), Vec::new());
        Ok(Self {
            welcome,
            held,
            tells: true,
            instance,
            loads,
            load_bytes: 0,
            kv,
            engines,
            uses,
            predicted,
            inbound,
            outbound,
        })
    }

    /// Opens a stream and says nothing; ends with what the server says to that.
    pub(super) async fn say_nothing(address: SocketAddr) -> Status {
        let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        let silence = futures_util::stream::pending::<FromDataPlane>();
        match DataPlaneClient::new(channel).stream(silence).await {
            Err(status) => status,
            Ok(stream) => stream.into_inner().message().await.unwrap_err(),
        }
    }

    pub(super) fn words(&self) -> String {
        words(&self.held)
    }

    /// The next message that is neither about load nor about predictions.
    async fn next(&mut self) -> Result<Option<Told>, Status> {
        loop {
            match self.inbound.message().await?.map(|told| told.message.unwrap()) {
                Some(Told::Load(sum)) => {
                    self.load_bytes += sum.encoded_len();
                    let of = |e: &EndpointLoad| (e.handle, (e.queued_tokens, e.running));
                    self.loads.extend(sum.endpoints.iter().map(of));
                    self.engines.extend(sum.engines.iter().map(|said| (said.handle, *said)));
                    let uses = sum.uses.iter().flat_map(|uses| api::uses::unpack(&uses.entries).unwrap());
                    self.uses.extend(uses);
                }
                Some(Told::Predictions(said)) => {
                    assert_eq!(said.epoch, self.welcome.epoch);
                    self.predicted.extend(api::predictions::unpack(&said.entries).unwrap());
                }
                Some(Told::Kv(update)) => self.kv.push(update),
                other => return Ok(other),
            }
        }
    }

    pub(super) async fn digests(&self, digests: KvDigests) {
        self.outbound.send(FromDataPlane { message: Some(Said::Kv(digests)) }).await.unwrap();
    }

    /// Takes what comes for some time, of which nothing may be config.
    pub(super) async fn drain(&mut self, time: Duration) {
        let came = timeout(time, self.next()).await;
        assert!(came.is_err(), "{came:?}");
    }

    pub(super) async fn quiet(&mut self) -> bool {
        timeout(QUIET, self.next()).await.is_err()
    }

    /// Waits for a change without answering it.
    pub(super) async fn receive(&mut self) -> Update {
        let mut parts = delta::Parts::default();
        loop {
            let told = timeout(PATIENCE, self.next()).await.expect("a change comes").unwrap();
            let Some(Told::Config(update)) = told else { panic!("the stream goes on: {told:?}") };
            assert!(parts.add(update.delta.unwrap()));
            if !update.more {
                return Update { nonce: update.nonce, delta: parts.take() };
            }
        }
    }

    pub(super) async fn acknowledge(&mut self, update: Update) -> ConfigDelta {
        self.held = delta::apply(&self.held, update.delta.clone()).unwrap();
        let applied = Applied { version: Some(wire(self.held.version)), content_hash: hash::content_hash(&self.held) };
        self.answer(update.nonce, Answer::Applied(applied)).await;
        update.delta
    }

    /// Applies the next change.
    pub(super) async fn apply(&mut self) -> ConfigDelta {
        let update = self.receive().await;
        self.acknowledge(update).await
    }

    /// Refuses the next change because of these objects.
    pub(super) async fn refuse(&mut self, objects: &[(Kind, &str)]) {
        let update = self.receive().await;
        self.refuse_update(update, objects).await;
    }

    pub(super) async fn refuse_update(&mut self, update: Update, objects: &[(Kind, &str)]) {
        let problem = |&(kind, name): &(Kind, &str)| {
            let object = match kind {
                Kind::Snapshot => None,
                Kind::Route => Some(Object::Route(name.into())),
                Kind::Backend => Some(Object::Backend(name.into())),
                Kind::Profile => Some(Object::Profile(name.into())),
            };
            Problem { object, path: "here".into(), reason: Reason::Unfit("poison") }
        };
        let held = if self.tells { &self.held } else { &Snapshot::default() };
        let refused = Refused { refusals: encode::refusals(&objects.iter().map(problem).collect::<Vec<_>>(), held) };
        self.answer(update.nonce, Answer::Refused(refused)).await;
    }

    /// Says of the next change that it is to something else than is held.
    pub(super) async fn resync(&mut self) {
        let update = self.receive().await;
        assert!(update.delta.base.is_some());
        self.answer(update.nonce, Answer::Resync(Resync { held: Some(wire(self.held.version)) })).await;
    }

    async fn answer(&self, nonce: u64, answer: Answer) {
        let ack = ConfigAck { nonce, result: Some(answer) };
        self.outbound.send(FromDataPlane { message: Some(Said::Config(ack)) }).await.unwrap();
    }

    pub(super) async fn report(&self, loads: &[(u32, u64, u32)]) {
        let load = |&(handle, queued_tokens, running)| EndpointLoad {
            handle,
            queued_tokens,
            running,
            ..EndpointLoad::default()
        };
        let endpoints = loads.iter().map(load).collect();
        let report = LoadReport { epoch: self.welcome.epoch, endpoints, ..LoadReport::default() };
        self.outbound.send(FromDataPlane { message: Some(Said::Load(report)) }).await.unwrap();
    }

    /// So often more it was asked for blocks.
    pub(super) async fn use_blocks(&self, uses: &[(u64, f32)]) {
        let uses = vec![UseCounts { model: String::new(), entries: api::uses::pack(uses.iter().copied()) }];
        let report = LoadReport { epoch: self.welcome.epoch, uses, ..LoadReport::default() };
        self.outbound.send(FromDataPlane { message: Some(Said::Load(report)) }).await.unwrap();
    }

    /// It sent a prompt of these marks to an endpoint.
    pub(super) async fn predict(&self, handle: u32, marks: &[u64]) {
        let mark = |(position, hash): (u16, &u64)| Mark { hash: *hash, handle, position };
        let entries = api::predictions::pack((0..).zip(marks).map(mark));
        let said = Said::Predictions(Predictions { epoch: self.welcome.epoch, entries });
        self.outbound.send(FromDataPlane { message: Some(said) }).await.unwrap();
    }

    /// The hashes that others predict at an endpoint, once there are so many, in the order in which they were told.
    pub(super) async fn predicted_at(&mut self, handle: u32, count: usize) -> Vec<u64> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let at = self.predicted.iter().filter(|mark| mark.handle == handle);
            let hashes: Vec<u64> = at.map(|mark| mark.hash).collect();
            if hashes.len() >= count {
                return hashes;
            }
            assert!(Instant::now() < deadline, "of {count} marks at {handle} there are only {hashes:?}");
            self.drain(Duration::from_millis(10)).await;
        }
    }

    /// Waits until the fleet has asked for a block about so often.
    pub(super) async fn used(&mut self, hash: u64, about: f32) {
        let deadline = Instant::now() + PATIENCE;
        while !self.uses.get(&hash).is_some_and(|uses| (uses - about).abs() < 0.2 * about) {
            assert!(Instant::now() < deadline, "{hash} is not used {about} times: {:?}", self.uses);
            self.drain(Duration::from_millis(10)).await;
        }
    }

    /// What the others have at an endpoint, once that is anything.
    pub(super) async fn hear(&mut self, handle: u32) -> (u64, u32) {
        let deadline = Instant::now() + PATIENCE;
        while !self.loads.contains_key(&handle) {
            assert!(Instant::now() < deadline, "nothing is heard of {handle}");
            self.drain(Duration::from_millis(10)).await;
        }
        self.loads[&handle]
    }

    /// How the stream ends.
    pub(super) async fn ended(&mut self) -> Result<(), Status> {
        match timeout(PATIENCE, self.next()).await.expect("the stream ends")? {
            None => Ok(()),
            Some(told) => panic!("the stream goes on: {told:?}"),
        }
    }
}

fn wire(version: api::snapshot::Version) -> Version {
    Version { epoch: version.epoch, version: version.version }
}
