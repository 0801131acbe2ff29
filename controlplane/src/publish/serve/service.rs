//! The gRPC service of `stream.proto`, written out by hand because its codec sends bytes that were encoded for all
//! subscribers at once.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use api::proto::peers_server::PeersServer;
use api::proto::{FromDataPlane, ToDataPlane};
use bytes::{BufMut, Bytes};
use futures_util::future::BoxFuture;
use futures_util::{Stream, StreamExt, stream::unfold};
use prost::Message as _;
use tokio::sync::mpsc;
use tonic::body::Body;
use tonic::codec::{BufferSettings, Codec, EncodeBuf, Encoder};
use tonic::codegen::{Service, http};
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstDecoder;

use super::transport::{Link, Listener};
use super::{Hub, door, peers, stream};
use crate::peer::Ear;

const NAME: &str = "kthena.dataplane.v1.DataPlane";
/// From a data plane: an answer lists at most 1,000 refusals, a load report at most 16,384 endpoints.
const MESSAGE_BYTES: usize = 1 << 20;
/// Pings, so that a data plane that vanished is noticed.
const PING_EVERY: Duration = Duration::from_secs(10);
const PING_ANSWER: Duration = Duration::from_secs(5);
/// What a connection's peer may send ahead of being read.
const WINDOW: u32 = 256 << 10;
/// A data plane needs one stream, and two while one takes over.
const STREAMS_PER_CONNECTION: u32 = 4;
/// Messages between a stream's task and its socket.
const OUTBOX: usize = 1;

/// Lets connections in until `stop`, then waits for the streams to end.
pub(super) async fn serve(
    listener: Listener,
    hub: Arc<Hub>,
    ear: Option<Arc<Ear>>,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let (admitted, connections) = mpsc::channel(1);
    let incoming = unfold(connections, |mut connections| async {
        connections.recv().await.map(|connection| (Ok::<_, io::Error>(connection), connections))
    });
    let (room, closing) = (hub.options.strangers.max(1), hub.closing.subscribe());
    let door = async {
        door::open(listener, admitted, room, closing).await;
        // Those who came in may be here for long.
        std::future::pending().await
    };
    let server = tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(PING_EVERY))
        .http2_keepalive_timeout(Some(PING_ANSWER))
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_concurrent_streams(STREAMS_PER_CONNECTION);
    let services = Services::new(hub, ear);
    tokio::select! {
        served = server.serve_with_incoming_shutdown(services, incoming, stop) => served.map_err(io::Error::other),
        never = door => never,
    }
}

/// A message to a data plane.
#[derive(Debug)]
pub(super) enum Frame {
    /// Encoded once for many.
    Shared(Bytes),
    /// For one.
    Own(Box<ToDataPlane>),
    /// A head for one, and what many share.
    Two(Bytes, Bytes),
}

impl Frame {
    /// Its bytes.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Shared(bytes) => bytes.len(),
            Self::Own(message) => message.encoded_len(),
            Self::Two(head, shared) => head.len() + shared.len(),
        }
    }
}

#[derive(Debug, Default)]
struct Wire;

impl Codec for Wire {
    type Encode = Frame;
    type Decode = FromDataPlane;
    type Encoder = FrameEncoder;
    type Decoder = ProstDecoder<FromDataPlane>;

    fn encoder(&mut self) -> Self::Encoder {
        FrameEncoder
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::new(BufferSettings::default())
    }
}

#[derive(Debug)]
struct FrameEncoder;

impl Encoder for FrameEncoder {
    type Item = Frame;
    type Error = Status;

    fn encode(&mut self, item: Frame, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        match item {
            Frame::Shared(bytes) => {
                buf.reserve(bytes.len());
                buf.put(bytes);
                Ok(())
            }
            Frame::Two(head, shared) => {
                buf.reserve(head.len() + shared.len());
                buf.put(head);
                buf.put(shared);
                Ok(())
            }
            Frame::Own(message) => message.encode(buf).map_err(|error| Status::internal(error.to_string())),
        }
    }
}

#[derive(Debug, Clone)]
struct DataPlanes {
    hub: Arc<Hub>,
}

/// What is served here: data planes, and replicas where there are others.
#[derive(Debug, Clone)]
pub(super) struct Services {
    hub: Arc<Hub>,
    peers: Option<PeersServer<peers::Door>>,
}

impl Services {
    pub(super) fn new(hub: Arc<Hub>, ear: Option<Arc<Ear>>) -> Self {
        let peers = ear.map(|ear| {
            let door = peers::Door { ear, closing: hub.closing.subscribe(), counts: hub.counts.clone() };
            PeersServer::new(door).max_decoding_message_size(peers::MESSAGE_BYTES)
        });
        Self { hub, peers }
    }
}

impl NamedService for Services {
    const NAME: &'static str = NAME;
}

impl Service<http::Request<Body>> for Services {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let service = DataPlanes { hub: self.hub.clone() };
        let called = |name| request.uri().path().strip_prefix('/').and_then(|path| path.strip_prefix(name));
        if let (Some(peers), Some("/Tell")) = (&self.peers, called(peers::NAME)) {
            return peers.clone().call(request);
        }
        Box::pin(async move {
            let stream = request.uri().path().strip_prefix('/').and_then(|path| path.strip_prefix(NAME));
            if stream != Some("/Stream") {
                return Ok(Status::unimplemented(format!("only {NAME}/Stream is served here")).into_http());
            }
            let mut grpc = Grpc::new(Wire).max_decoding_message_size(MESSAGE_BYTES);
            Ok(grpc.streaming(service, request).await)
        })
    }
}

type Outgoing = Pin<Box<dyn Stream<Item = Result<Frame, Status>> + Send>>;

impl StreamingService<FromDataPlane> for DataPlanes {
    type Response = Frame;
    type ResponseStream = Outgoing;
    type Future = BoxFuture<'static, Result<Response<Outgoing>, Status>>;

    fn call(&mut self, request: Request<Streaming<FromDataPlane>>) -> Self::Future {
        let hub = self.hub.clone();
        Box::pin(async move {
            let (metadata, extensions, inbound) = request.into_parts();
            let link = extensions.get::<Link>().cloned().ok_or_else(|| Status::internal("no connection"))?;
            let (outbound, queue) = mpsc::channel(OUTBOX);
            tokio::spawn(stream::run(hub, stream::Call { metadata, inbound, outbound, link }));
            let frames = unfold(queue, |mut queue| async { Some((queue.recv().await?, queue)) });
            Ok(Response::new(frames.boxed()))
        })
    }
}
