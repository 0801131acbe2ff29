//! Connections: TLS on both sides, and what becomes of each request between them.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, watch};
use tokio::time::sleep;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::asked::{Asked, Verb};
use super::rules::Fault;
use super::{State, events};
use crate::cluster::Cluster;

type Body = UnsyncBoxBody<Bytes, hyper::Error>;

/// Where it stands: towards programs as the API server, towards the API server as a client without a certificate.
#[derive(Clone)]
pub(super) struct Ends {
    acceptor: TlsAcceptor,
    connector: TlsConnector,
    server: SocketAddr,
}

impl Ends {
    pub(super) fn of(cluster: &Cluster) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(cluster.authority())?)?;
        let towards_server = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let url = cluster.url()?;
        let server = url.strip_prefix("https://").context("an API server by TLS")?.parse()?;
        Ok(Self { acceptor: cluster.acceptor()?, connector: TlsConnector::from(Arc::new(towards_server)), server })
    }
}

/// For ever.
pub(super) async fn listen(listener: std::net::TcpListener, ends: Ends, state: Arc<State>) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    loop {
        // An error is of the connection that was about to come.
        let Ok((stream, _)) = listener.accept().await else { continue };
        // Before the look at `away`, so that nothing slips in between it and its cut.
        let mut cut = state.cut.subscribe();
        if *state.away.borrow() {
            continue;
        }
        let (ends, state) = (ends.clone(), state.clone());
        tokio::spawn(async move {
            tokio::select! {
                // However it ends: the program sees it.
                _ = converse(stream, ends, &state) => {}
                _ = cut.changed() => {}
            }
        });
    }
}

async fn converse(stream: TcpStream, ends: Ends, state: &Arc<State>) -> Result<()> {
    let stream = ends.acceptor.accept(stream).await?;
    let upstream = Mutex::new(Upstream { ends, sender: None });
    let service = service_fn(|request| answer(request, &upstream, state));
    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await?;
    Ok(())
}

/// An error ends the connection.
async fn answer(request: Request<Incoming>, upstream: &Mutex<Upstream>, state: &Arc<State>) -> Result<Response<Body>> {
    let asked = Asked::of(request.method(), request.uri());
    // Before the look at the faults: whoever sees that one was met may let go at once.
    let go = state.go.subscribe();
    match state.meet(&asked) {
        Some(Fault::Cut) => bail!("cut"),
        Some(Fault::Hold) => {
            let ends = upstream.lock().await.ends.clone();
            return held(request, ends, go).await;
        }
        Some(Fault::Refuse { code, retry_after_s }) => return refuse(code, retry_after_s),
        Some(Fault::OlderList) => {
            let first = state.history().first(request.uri());
            if let Some(body) = first {
                return Ok(Response::builder().header(CONTENT_TYPE, "application/json").body(whole(body))?);
            }
        }
        Some(Fault::CutAnswer) => {
            let answer = upstream.lock().await.ask(request).await?;
            answer.into_body().collect().await?;
            bail!("cut");
        }
        Some(Fault::LastAnswer) => {
            let answer = upstream.lock().await.ask(request).await?;
            answer.into_body().collect().await?;
            state.set_away(true);
            bail!("away");
        }
        Some(Fault::Delay(pause)) => sleep(pause).await,
        // Those of events do not come here.
        Some(Fault::LoseEvent | Fault::Expire) | None => {}
    }
    let uri = request.uri().clone();
    let answer = upstream.lock().await.ask(request).await?;
    let (head, body) = answer.into_parts();
    let body = match asked.verb {
        Verb::Watch if head.status.is_success() => {
            BodyExt::boxed_unsync(StreamBody::new(Box::pin(events::pass(body, state.clone(), asked))))
        }
        Verb::List if head.status.is_success() => {
            let body = body.collect().await?.to_bytes();
            state.history().saw(&uri, &body);
            whole(body)
        }
        _ => body.boxed_unsync(),
    };
    Ok(Response::from_parts(head, body))
}

fn refuse(code: u16, retry_after_s: Option<u32>) -> Result<Response<Body>> {
    let mut answer = Response::builder().status(code).header(CONTENT_TYPE, "application/json");
    if let Some(seconds) = retry_after_s {
        answer = answer.header(RETRY_AFTER, seconds);
    }
    Ok(answer.body(whole(Bytes::from(status(code).to_string())))?)
}

/// As the API server says it.
pub(super) fn status(code: u16) -> serde_json::Value {
    let reason = match code {
        409 => "Conflict",
        410 => "Expired",
        429 => "TooManyRequests",
        500 => "InternalError",
        503 => "ServiceUnavailable",
        _ => "",
    };
    serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": format!("{code} by the fault proxy"), "reason": reason, "code": code,
    })
}

fn whole(body: Bytes) -> Body {
    Full::new(body).map_err(|never| match never {}).boxed_unsync()
}

/// On a way of its own from here on, which its client's leaving does not end.
async fn held(request: Request<Incoming>, ends: Ends, mut go: watch::Receiver<u64>) -> Result<Response<Body>> {
    let (head, body) = request.into_parts();
    let request = Request::from_parts(head, Full::new(body.collect().await?.to_bytes()));
    let late = tokio::spawn(async move {
        go.changed().await?;
        let answer = connect(&ends).await?.send_request(request).await?;
        let (head, body) = answer.into_parts();
        anyhow::Ok(Response::from_parts(head, whole(body.collect().await?.to_bytes())))
    });
    late.await?
}

/// The connection to the API server that belongs to one of a program's.
struct Upstream {
    ends: Ends,
    sender: Option<SendRequest<Incoming>>,
}

impl Upstream {
    async fn ask(&mut self, mut request: Request<Incoming>) -> Result<Response<Incoming>> {
        // Events have to be read on their way.
        request.headers_mut().remove(ACCEPT_ENCODING);
        let sender = match &mut self.sender {
            Some(sender) => sender,
            None => self.sender.insert(connect(&self.ends).await?),
        };
        sender.ready().await?;
        Ok(sender.send_request(request).await?)
    }
}

async fn connect<B>(ends: &Ends) -> Result<SendRequest<B>>
where
    B: hyper::body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: std::error::Error + Send + Sync,
{
    let stream = TcpStream::connect(ends.server).await?;
    let name = ServerName::IpAddress(ends.server.ip().into());
    let stream = ends.connector.connect(name, stream).await?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // It ends with its sender and its last answer, and an error shows there.
    tokio::spawn(connection);
    Ok(sender)
}
