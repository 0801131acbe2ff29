//! The services without a socket, so that a test's clock holds all of it: a socket's bytes would be waited for by a clock that has gone on.

use std::convert::Infallible;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use api::proto::config_ack::Result as Answer;
use api::proto::data_plane_client::DataPlaneClient;
use api::proto::from_data_plane::Message as Said;
use api::proto::peers_client::PeersClient;
use api::proto::to_data_plane::Message as Told;
use api::proto::{Applied, ConfigAck, FromDataPlane, PeerReport, Subscribe, ToDataPlane, Version};
use api::snapshot::Snapshot;
use api::{delta, hash};
use futures_util::future::BoxFuture;
use futures_util::stream::unfold;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::{Request, Status, Streaming};

use super::service::Services;
use super::transport::Link;
use super::{Identify, Inputs, Listener, Options, Server, publisher};
use crate::peer::{Members, Peering, Shared};
use crate::source::Reached;

/// A server that is called and not connected to.
pub(crate) struct InProcess {
    services: Services,
    beside: TcpListener,
    snapshots: watch::Sender<Option<Arc<Snapshot>>>,
    counts: Arc<super::Counts>,
    _tasks: JoinSet<()>,
}

impl InProcess {
    pub(crate) async fn start(identify: Arc<dyn Identify>, options: Options) -> Self {
        let mut listener = Listener::plain("127.0.0.1:0".parse().unwrap()).await.unwrap();
        listener.identify = identify.clone();
        let (snapshots, reached) = (watch::Sender::new(None), watch::channel(Reached::default()).1);
        let inputs = Inputs { snapshots: snapshots.subscribe(), zones: watch::channel(Arc::default()).1, reached };
        let mut server = Server::new(listener, inputs, options);
        let members = Members { me: "me".into(), all: Vec::new() };
        let peering = Peering { identify, ..Peering::on_loopback(watch::channel(members).1) };
        let mut tasks = server.join(peering, Shared::of_nobody()).tasks;
        let Server { listener: _, inputs, hub, ear } = server;
        tasks.spawn(publisher::run(hub.clone(), inputs.snapshots));
        let (counts, services) = (hub.counts.clone(), Services::new(hub, ear));
        let beside = TcpListener::bind("127.0.0.1:0").unwrap();
        Self { services, beside, snapshots, counts, _tasks: tasks }
    }

    pub(crate) fn publish(&self, snapshot: Arc<Snapshot>) {
        self.snapshots.send_replace(Some(snapshot));
    }

    /// Streams past the end of what proved whose they are.
    pub(crate) fn excused(&self) -> u64 {
        self.counts.excused.load(Relaxed)
    }

    /// A data plane that applies whatever it is told.
    pub(crate) async fn join(&self, token: &str) -> Result<Guest, Status> {
        let (outbound, queue) = mpsc::channel(4);
        let subscribe = Said::Subscribe(Subscribe::default());
        outbound.try_send(FromDataPlane { message: Some(subscribe) }).unwrap();
        let messages = unfold(queue, |mut queue| async { Some((queue.recv().await?, queue)) });
        let answer = DataPlaneClient::new(self.call()).stream(shown(token, messages)).await?;
        let mut inbound = answer.into_inner();
        let first = inbound.message().await?.and_then(|told| told.message);
        assert!(matches!(first, Some(Told::Welcome(_))), "{first:?}");
        let (tell, held) = watch::channel(Snapshot::default());
        let mut living = JoinSet::new();
        living.spawn(async move { live(inbound, outbound, tell).await.expect_err("it says why it ends") });
        Ok(Guest { held, living })
    }

    /// A replica that speaks for as long as it is heard; how that ends.
    pub(crate) fn peer(&self, token: &str, pod: &str) -> JoinHandle<Status> {
        let report = PeerReport { epoch: 5, member: pod.to_owned(), ..PeerReport::default() };
        let reports = unfold(report, |report| async {
            sleep(Duration::from_secs(1)).await;
            Some((report.clone(), report))
        });
        let (mut client, request) = (PeersClient::new(self.call()), shown(token, reports));
        tokio::spawn(async move { client.tell(request).await.expect_err("it says why it ends") })
    }

    fn call(&self) -> Call {
        let link = Link::beside(TcpStream::connect(self.beside.local_addr().unwrap()).unwrap());
        Call { services: self.services.clone(), link }
    }
}

fn shown<T>(token: &str, messages: T) -> Request<T> {
    let mut request = Request::new(messages);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

/// A data plane on a stream, which ends where this is dropped.
pub(crate) struct Guest {
    pub(crate) held: watch::Receiver<Snapshot>,
    living: JoinSet<Status>,
}

impl Guest {
    pub(crate) fn lives(&self) -> bool {
        // It is held by whoever lives.
        self.held.has_changed().is_ok()
    }

    /// How its stream ends.
    pub(crate) async fn ended(mut self) -> Status {
        self.living.join_next().await.expect("it was not waited for").unwrap()
    }
}

async fn live(
    mut inbound: Streaming<ToDataPlane>,
    outbound: mpsc::Sender<FromDataPlane>,
    held: watch::Sender<Snapshot>,
) -> Result<(), Status> {
    let mut parts = delta::Parts::default();
    loop {
        let told = inbound.message().await?.ok_or_else(|| Status::ok("it ended"))?;
        let Some(Told::Config(update)) = told.message else { continue };
        assert!(parts.add(update.delta.unwrap()));
        if update.more {
            continue;
        }
        held.send_modify(|held| *held = delta::apply(held, parts.take()).unwrap());
        let (version, content_hash) = (held.borrow().version, hash::content_hash(&held.borrow()));
        let version = Some(Version { epoch: version.epoch, version: version.version });
        let result = Some(Answer::Applied(Applied { version, content_hash }));
        let ack = Said::Config(ConfigAck { nonce: update.nonce, result });
        // An error means that the stream has ended, which is heard next.
        let _ = outbound.send(FromDataPlane { message: Some(ack) }).await;
    }
}

/// One client's way to the services.
#[derive(Clone)]
struct Call {
    services: Services,
    link: Link,
}

impl Service<http::Request<Body>> for Call {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.services.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        request.extensions_mut().insert(self.link.clone());
        self.services.call(request)
    }
}
