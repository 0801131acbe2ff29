//! What an API server asks a node's kubelet for when somebody wants the log of a container: `/containerLogs/NAMESPACE/POD/CONTAINER`. All of it
//! is told, whatever else is asked: nothing is followed, and nothing left out.

use std::convert::Infallible;
use std::path::{Path, PathBuf};

use anyhow::Result;
use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kubelet::{LOGS, log_in};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// For ever, in the network in which it is called. `pods` is the kubelet's folder of logs.
pub(super) async fn serve(acceptor: TlsAcceptor, pods: PathBuf) -> Result<Infallible> {
    // Of both families, where the machine has both.
    let listener = match TcpListener::bind(("::", LOGS)).await {
        Ok(both) => both,
        Err(_) => TcpListener::bind(("0.0.0.0", LOGS)).await?,
    };
    loop {
        // An error is of the connection that was about to come.
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (acceptor, pods) = (acceptor.clone(), pods.clone());
        tokio::spawn(async move {
            // However it ends: who asked sees it.
            let _ = converse(stream, acceptor, &pods).await;
        });
    }
}

async fn converse(stream: TcpStream, acceptor: TlsAcceptor, pods: &Path) -> Result<()> {
    let stream = acceptor.accept(stream).await?;
    let service = service_fn(|request: http::Request<hyper::body::Incoming>| async move {
        let log = log(pods, request.uri().path()).and_then(|path| std::fs::read(path).ok());
        let status = if log.is_some() { StatusCode::OK } else { StatusCode::NOT_FOUND };
        let mut response = Response::new(Full::new(Bytes::from(log.unwrap_or_default())));
        *response.status_mut() = status;
        Ok::<_, Infallible>(response)
    });
    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await?;
    Ok(())
}

/// Where a log is that is asked for so.
fn log(pods: &Path, asked: &str) -> Option<PathBuf> {
    let mut parts = asked.strip_prefix("/containerLogs/")?.split('/');
    let (namespace, pod, container) = (parts.next()?, parts.next()?, parts.next()?);
    parts.next().is_none().then(|| log_in(pods, namespace, pod, container))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_a_container_of_a_pod() {
        let check = |asked: &str, expected: Option<&str>| {
            assert_eq!(log(Path::new("/pods"), asked), expected.map(PathBuf::from), "{asked}");
        };
        check("/containerLogs/models/chat-0/main", Some("/pods/models/chat-0/main.log"));
        check("/containerLogs/models/chat-0", None);
        check("/containerLogs/models/chat-0/main/more", None);
        check("/pods", None);
    }
}
