//! A control plane of scripted messages: it publishes one snapshot, and what else it says is the test's.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use api::kv::{Entries, Entry, Rank, Said, Trust, Update};
use api::proto::data_plane_server::{DataPlane, DataPlaneServer};
use api::proto::from_data_plane::Message as Asked;
use api::proto::to_data_plane::Message as Told;
use api::proto::{ConfigUpdate, FromDataPlane, KvDigests, Subscribe, ToDataPlane, Welcome};
use api::snapshot::{Snapshot, Version};
use futures_util::stream::unfold;
use futures_util::{Stream, StreamExt};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};

use super::until;

/// Messages that a test may be ahead of the data plane.
const OUTBOX: usize = 1_024;

/// A running control plane; dropping it ends its streams.
pub(crate) struct Control {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

struct Shared {
    snapshot: Mutex<Snapshot>,
    /// To the stream that was opened last.
    out: Mutex<Option<mpsc::Sender<ToDataPlane>>>,
    subscriptions: Mutex<Vec<Subscribe>>,
    digests: Mutex<Vec<KvDigests>>,
}

impl Control {
    /// Publishes this under an epoch, at the first version.
    pub(crate) fn start(epoch: u64, snapshot: &Value) -> Self {
        Self::at(([127, 0, 0, 1], 0).into(), epoch, snapshot)
    }

    /// The same at this address.
    pub(crate) fn at(address: SocketAddr, epoch: u64, snapshot: &Value) -> Self {
        let snapshot = api::json::snapshot_from_json(snapshot.to_string().as_bytes()).unwrap();
        let snapshot = Snapshot { version: Version { epoch, version: 1 }, ..snapshot };
        let (subscriptions, digests) = Default::default();
        let shared = Arc::new(Shared { snapshot: Mutex::new(snapshot), out: Mutex::default(), subscriptions, digests });
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind(address)).unwrap();
        let address = listener.local_addr().unwrap();
        let incoming = unfold(listener, |listener| async { Some((listener.accept().await.map(|a| a.0), listener)) });
        let service = DataPlaneServer::new(Service(shared.clone()));
        runtime.spawn(tonic::transport::Server::builder().serve_with_incoming(service, incoming));
        Self { address, shared, runtime: Some(runtime) }
    }

    /// Ends with all its streams, as kill -9 does, and begins anew at the same address.
    pub(crate) fn restart(&mut self, epoch: u64, snapshot: &Value) {
        self.runtime.take().unwrap().shutdown_timeout(super::PATIENCE);
        *self = Self::at(self.address, epoch, snapshot);
    }

    /// Says something to the data plane.
    pub(crate) fn say(&self, update: Update) {
        until("a stream", || self.shared.out.lock().unwrap().is_some());
        let out = self.shared.out.lock().unwrap().clone().unwrap();
        out.try_send(ToDataPlane { message: Some(Told::Kv(update.into())) }).unwrap();
    }

    /// The subscriptions so far.
    pub(crate) fn subscriptions(&self) -> Vec<Subscribe> {
        self.shared.subscriptions.lock().unwrap().clone()
    }

    /// Waits for the `n`th digests.
    pub(crate) fn digests(&self, n: usize) -> KvDigests {
        until("digests", || self.shared.digests.lock().unwrap().len() >= n);
        self.shared.digests.lock().unwrap()[n - 1].clone()
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

struct Service(Arc<Shared>);

type Out = Pin<Box<dyn Stream<Item = Result<ToDataPlane, Status>> + Send>>;

#[tonic::async_trait]
impl DataPlane for Service {
    type StreamStream = Out;

    async fn stream(&self, request: Request<Streaming<FromDataPlane>>) -> Result<Response<Out>, Status> {
        let shared = self.0.clone();
        let (out, queue) = mpsc::channel(OUTBOX);
        let snapshot = shared.snapshot.lock().unwrap().clone();
        let epoch = snapshot.version.epoch;
        let welcome = Welcome { epoch, load_interval_ms: 20, ..Welcome::default() };
        let config = ConfigUpdate { nonce: 1, more: false, delta: Some(api::delta::full(&snapshot)) };
        for message in [Told::Welcome(welcome), Told::Config(config)] {
            out.try_send(ToDataPlane { message: Some(message) }).unwrap();
        }
        *shared.out.lock().unwrap() = Some(out);
        tokio::spawn(listen(shared, request.into_inner()));
        let messages = unfold(queue, |mut queue| async { Some((Ok(queue.recv().await?), queue)) });
        Ok(Response::new(messages.boxed()))
    }
}

async fn listen(shared: Arc<Shared>, mut inbound: Streaming<FromDataPlane>) {
    while let Ok(Some(FromDataPlane { message })) = inbound.message().await {
        match message {
            Some(Asked::Subscribe(subscribe)) => shared.subscriptions.lock().unwrap().push(subscribe),
            Some(Asked::Kv(digests)) => shared.digests.lock().unwrap().push(digests),
            _ => {}
        }
    }
}

/// What a control plane tells of model `m`, message by message.
pub(crate) struct Story {
    epoch: u64,
    sequence: u64,
}

impl Story {
    /// Of a generation that begins with the next message.
    pub(crate) fn new(epoch: u64) -> Self {
        Self { epoch, sequence: 0 }
    }

    /// As if so many messages were lost.
    pub(crate) fn skip(&mut self, messages: u64) {
        self.sequence += messages;
    }

    pub(crate) fn tell(&mut self, ranks: Vec<Rank>, entries: impl IntoIterator<Item = Entry>) -> Update {
        self.sequence += 1;
        let (epoch, sequence) = (self.epoch, self.sequence);
        let entries = Entries::pack(entries);
        Update { epoch, model: "m".into(), generation: 1, sequence, reset: sequence == 1, level: 0, ranks, entries }
    }
}

/// Each block of a chain at an endpoint.
pub(crate) fn at(handle: u32, hashes: &[u64], said: Said) -> impl Iterator<Item = Entry> {
    let entry = move |(position, hash): (u16, &u64)| Entry { hash: *hash, handle, position, said };
    (0..).zip(hashes).map(entry)
}

/// An endpoint that is believed so far.
pub(crate) fn believed(handle: u32, trust: Trust) -> Rank {
    Rank { handle, trust, forget: false, emptied: false, capacity_tokens: None }
}
