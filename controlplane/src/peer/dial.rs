//! One connection to each other replica, for as long as it is listed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::proto::PeerReport;
use api::proto::peers_client::PeersClient;
use futures_util::stream::unfold;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Status};

use super::names::Index;
use super::tell::tell;
use super::{MOST, Member, Members, Way};
use crate::chance::{jittered, random};
use crate::publish::serve::{Lane, Loads, Predictions, Progress};
use crate::status::Standings;
use crate::world::{Differing, Engines};

/// To connect, the handshake included.
const CONNECT: Duration = Duration::from_secs(2);
/// After the first failure; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// A stream that lasted for so long was one: only then failures count anew.
const STEADY: Duration = Duration::from_secs(1);
/// Pings, so that a connection whose other end has vanished is not waited for.
const PING_EVERY: Duration = Duration::from_secs(1);
const PING_ANSWER: Duration = Duration::from_secs(2);
/// To say why a stream has ended.
const FAREWELL: Duration = Duration::from_secs(1);

/// What all others are told from.
#[derive(Debug)]
pub(super) struct Voice {
    pub(super) epoch: u64,
    pub(super) loads: Arc<Loads>,
    pub(super) predictions: Arc<Predictions>,
    pub(super) index: Arc<Index>,
    pub(super) load_interval: Duration,
    /// What our engines said.
    pub(super) facts: watch::Receiver<Engines>,
    /// What our data planes are to run.
    pub(super) standings: watch::Receiver<Arc<Standings>>,
    /// What they have of it.
    pub(super) progress: watch::Receiver<Arc<Progress>>,
    /// What the engines that we hear have cached.
    pub(super) caches: Arc<Lane>,
    /// Which of them write chats otherwise than data planes do.
    pub(super) differing: watch::Receiver<Differing>,
}

#[derive(Debug, thiserror::Error)]
enum DialError {
    #[error("the token {}: {why}", path.display())]
    Token { path: PathBuf, why: String },
    #[error("there is no CA to trust yet")]
    NoBundle,
    #[error("no connection within {CONNECT:?}")]
    Late,
    #[error("{}", with_cause(.0))]
    Connect(#[from] tonic::transport::Error),
    #[error("{}", .0.message())]
    Refused(#[from] Status),
}

/// tonic says only that there is a "transport error".
fn with_cause(error: &tonic::transport::Error) -> String {
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Dials all others. Where nobody changes the members any more they stay.
pub(super) async fn all(mut members: watch::Receiver<Members>, way: Way, voice: Arc<Voice>) {
    let mut dialling = JoinSet::new();
    let mut dialled = BTreeMap::<Member, AbortHandle>::new();
    loop {
        let Members { me, all } = members.borrow_and_update().clone();
        dialled.retain(|member, task| {
            let listed = all.contains(member);
            if !listed {
                task.abort();
            }
            listed
        });
        for member in all.into_iter().filter(|member| member.name != me).take(MOST) {
            let (way, voice, me) = (way.clone(), voice.clone(), me.clone());
            let dial = |member: &Member| dialling.spawn(keep(member.clone(), way, voice, me));
            if !dialled.contains_key(&member) {
                dialled.insert(member.clone(), dial(&member));
            }
        }
        while dialling.try_join_next().is_some() {}
        if members.changed().await.is_err() {
            // Until this is dropped.
            while dialling.join_next().await.is_some() {}
            return;
        }
    }
}

/// Tells one again and again; it does not end.
async fn keep(member: Member, way: Way, voice: Arc<Voice>, me: Arc<str>) {
    let (mut pause, mut told) = (FIRST_PAUSE, String::new());
    loop {
        let begun = Instant::now();
        let ended = once(&member, &way, &voice, &me).await;
        if begun.elapsed() >= STEADY {
            (pause, told) = (FIRST_PAUSE, String::new());
        }
        if let Err(error) = ended {
            let sentence = error.to_string();
            if told != sentence {
                tracing::warn!(peer = &*member.name, address = %member.address, %error, "a replica cannot be told our load");
                told = sentence;
            }
        }
        sleep(jittered(pause, random())).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn once(member: &Member, way: &Way, voice: &Voice, me: &str) -> Result<(), DialError> {
    let authorization = way.authorization()?;
    let channel = timeout(CONNECT, way.endpoint(member)?.connect()).await.map_err(|_| DialError::Late)??;
    let (out, queue) = mpsc::channel::<PeerReport>(1);
    let reports = unfold(queue, |mut queue| async { Some((queue.recv().await?, queue)) });
    let mut request = Request::new(reports);
    if let Some(authorization) = authorization {
        request.metadata_mut().insert("authorization", authorization);
    }
    let mut client = PeersClient::new(channel);
    let mut answer = std::pin::pin!(client.tell(request));
    tokio::select! {
        answer = &mut answer => drop(answer?),
        () = tell(voice, me, out) => match timeout(FAREWELL, answer).await {
            Ok(answer) => drop(answer?),
            Err(_) => return Err(DialError::Late),
        },
    }
    Ok(())
}

impl Way {
    fn endpoint(&self, member: &Member) -> Result<Endpoint, DialError> {
        let address = member.address;
        let endpoint = match self {
            Self::Plain => Channel::from_shared(format!("http://{address}")),
            Self::Tls { .. } => Channel::from_shared(format!("https://{address}")),
        };
        let endpoint = endpoint.expect("an address makes a URI").tcp_nodelay(true).connect_timeout(CONNECT);
        let endpoint = endpoint.http2_keep_alive_interval(PING_EVERY).keep_alive_timeout(PING_ANSWER);
        let Self::Tls { bundle, domain, .. } = self else { return Ok(endpoint) };
        let bundle = bundle.borrow().clone();
        if bundle.is_empty() {
            return Err(DialError::NoBundle);
        }
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&*bundle)).domain_name(domain);
        Ok(endpoint.tls_config(tls)?)
    }

    /// The token as it is now, which the kubelet renews.
    fn authorization(&self) -> Result<Option<MetadataValue<Ascii>>, DialError> {
        let Self::Tls { token: path, .. } = self else { return Ok(None) };
        let failed = |why: String| DialError::Token { path: path.clone(), why };
        let token = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
        let mut value: MetadataValue<Ascii> =
            format!("Bearer {}", token.trim()).parse().map_err(|_| failed("it is no token".to_owned()))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}
