//! Many that subscribe to a control plane as data planes do, in one process. They acknowledge what comes without looking into
//! it, so that what is measured is the control plane; when a stream ends they subscribe again, with empty hands. They want all lanes, and
//! come in plain text, or by TLS with a token each, as data planes of other machines do.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use api::proto::config_ack::Result as Answer;
use api::proto::from_data_plane::Message as Said;
use api::proto::{Applied, ConfigAck, FromDataPlane, Subscribe, Version};
use futures_util::stream::unfold;
use prost::Message;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Certificate, Channel, ClientTlsConfig};
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

const STREAM: &str = "/kthena.dataplane.v1.DataPlane/Stream";
/// Before another attempt, give or take: a data plane's first one is as long.
const AGAIN: Duration = Duration::from_millis(50);
const MESSAGE_BYTES: usize = 4 << 20;

/// As much of a `ToDataPlane` as is looked at.
#[derive(Clone, PartialEq, Message)]
struct Told {
    #[prost(message, optional, tag = "2")]
    config: Option<Update>,
}

#[derive(Clone, PartialEq, Message)]
struct Update {
    #[prost(uint64, tag = "1")]
    nonce: u64,
    #[prost(bool, tag = "2")]
    more: bool,
    #[prost(message, optional, tag = "3")]
    delta: Option<Delta>,
}

#[derive(Clone, PartialEq, Message)]
struct Delta {
    #[prost(message, optional, tag = "1")]
    version: Option<Version>,
}

/// By what data planes of other machines know a control plane, and prove who they are.
#[derive(Debug, Clone)]
pub struct Trust {
    /// The CA bundle, as PEM.
    pub bundle: String,
    /// The name on the control plane's certificate.
    pub server_name: String,
    /// Those of their pods: as many as there are subscribers.
    pub tokens: Vec<String>,
}

/// All of them. Dropped, they are gone.
#[derive(Debug)]
pub struct Subscribers {
    tasks: JoinSet<()>,
    acknowledged: Arc<AtomicU64>,
}

impl Subscribers {
    /// So many, which subscribe at once in plain text.
    pub fn start(count: usize, control: SocketAddr) -> Self {
        Self::all(count, control, None)
    }

    /// One for each token, which subscribe at once by TLS.
    pub fn by_tls(trust: Trust, control: SocketAddr) -> Self {
        Self::all(trust.tokens.len(), control, Some(trust))
    }

    fn all(count: usize, control: SocketAddr, trust: Option<Trust>) -> Self {
        let (mut tasks, acknowledged) = (JoinSet::new(), Arc::<AtomicU64>::default());
        let trust = trust.map(Arc::new);
        for n in 0..count {
            let (acknowledged, trust) = (acknowledged.clone(), trust.clone());
            tasks.spawn(async move {
                loop {
                    // Whatever ended it, it is tried again.
                    let _ = subscribe(n, control, trust.as_deref(), &acknowledged).await;
                    sleep(AGAIN + Duration::from_millis(n as u64 % 50)).await;
                }
            });
        }
        Self { tasks, acknowledged }
    }

    /// Changes that were acknowledged, of all streams.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Relaxed)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.tasks.len()
    }
}

async fn subscribe(
    n: usize,
    control: SocketAddr,
    trust: Option<&Trust>,
    acknowledged: &AtomicU64,
) -> anyhow::Result<()> {
    let channel = connect(control, trust).await?;
    let (outbound, queue) = mpsc::channel(4);
    let hello =
        Subscribe { node: format!("node-{n}"), load: true, kv: true, instance: n as u64 + 1, ..Subscribe::default() };
    outbound.send(FromDataPlane { message: Some(Said::Subscribe(hello)) }).await?;
    let messages = unfold(queue, |mut queue| async { Some((queue.recv().await?, queue)) });
    let mut grpc = Grpc::new(channel).max_decoding_message_size(MESSAGE_BYTES);
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let codec = ProstCodec::<FromDataPlane, Told>::default();
    let mut request = Request::new(messages);
    if let Some(trust) = trust {
        request.metadata_mut().insert("authorization", format!("Bearer {}", trust.tokens[n]).parse()?);
    }
    let answer = grpc.streaming(request, PathAndQuery::from_static(STREAM), codec).await?;
    let mut inbound = answer.into_inner();
    while let Some(Told { config }) = inbound.message().await? {
        let Some(Update { nonce, more: false, delta }) = config else { continue };
        let version = delta.and_then(|delta| delta.version);
        let result = Some(Answer::Applied(Applied { version, content_hash: 0 }));
        outbound.send(FromDataPlane { message: Some(Said::Config(ConfigAck { nonce, result })) }).await?;
        acknowledged.fetch_add(1, Relaxed);
    }
    Ok(())
}

async fn connect(control: SocketAddr, trust: Option<&Trust>) -> anyhow::Result<Channel> {
    let endpoint = |scheme| Channel::from_shared(format!("{scheme}://{control}"));
    let endpoint = match trust {
        None => endpoint("http")?,
        Some(Trust { bundle, server_name, tokens: _ }) => {
            let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(bundle)).domain_name(server_name);
            endpoint("https")?.tls_config(tls)?
        }
    };
    Ok(endpoint.tcp_nodelay(true).connect().await?)
}
