//! Sends one request and gets the answer, within a time and a size.
//!
//! Each time on a connection of its own: uvicorn closes idle ones after 5 s, and Triton goes on answering on old ones
//! while it shuts down.

use std::net::SocketAddr;

use http_body_util::{BodyExt, Limited};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// vLLM with a histogram for each model and rank stays below a tenth of it.
const MOST_BYTES: usize = 1 << 20;

/// Why there is no text.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScrapeError {
    #[error("cannot connect: {0}")]
    Connect(#[source] std::io::Error),
    #[error("the path is not one of HTTP: {0}")]
    Path(#[source] hyper::http::Error),
    #[error("no answer of HTTP/1.1: {0}")]
    Http(#[source] hyper::Error),
    #[error("it answers {0}")]
    Status(StatusCode),
    #[error("its answer broke off or is larger than 1 MiB: {0}")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("its answer is not UTF-8")]
    Text,
}

/// What was answered, whatever the status.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(super) status: StatusCode,
    pub(super) text: String,
}

impl Reply {
    /// The text of a success.
    pub(crate) fn ok(self) -> Result<String, ScrapeError> {
        if self.status == StatusCode::OK { Ok(self.text) } else { Err(ScrapeError::Status(self.status)) }
    }
}

/// GET.
pub(crate) async fn get(address: SocketAddr, path: &str) -> Result<Reply, ScrapeError> {
    exchange(address, Method::GET, path, String::new()).await
}

/// POST of a JSON document.
pub(crate) async fn post(address: SocketAddr, path: &str, body: impl Into<String>) -> Result<Reply, ScrapeError> {
    exchange(address, Method::POST, path, body.into()).await
}

async fn exchange(address: SocketAddr, method: Method, path: &str, body: String) -> Result<Reply, ScrapeError> {
    let mut request = Request::builder().method(method).uri(path).header(HOST, address.to_string());
    request = request.header(CONNECTION, "close");
    if !body.is_empty() {
        request = request.header(CONTENT_TYPE, "application/json");
    }
    let request = request.body(body).map_err(ScrapeError::Path)?;
    let stream = TcpStream::connect(address).await.map_err(ScrapeError::Connect)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(ScrapeError::Http)?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(ScrapeError::Http)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MOST_BYTES).collect().await.map_err(ScrapeError::Body)?;
        let text = String::from_utf8(body.to_bytes().into()).map_err(|_| ScrapeError::Text)?;
        Ok(Reply { status, text })
    };
    tokio::pin!(answer);
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        // All that came has been handed over, the error included.
        _ = connection => answer.await,
    }
}

#[cfg(test)]
mod tests;
