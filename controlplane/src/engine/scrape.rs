//! Gets the text of one place, within a time and a size.
//!
//! Each time on a connection of its own: uvicorn closes idle ones after 5 s, and Triton goes on answering on old ones
//! while it shuts down.

use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::targets::Place;

/// vLLM with a histogram for each model and rank stays below a tenth of it.
const MOST_BYTES: usize = 1 << 20;

/// Why there is no text.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScrapeError {
    #[error("cannot connect: {0}")]
    Connect(#[source] std::io::Error),
    #[error("the path of its metrics is not one of HTTP: {0}")]
    Path(#[source] hyper::http::Error),
    #[error("no answer of HTTP/1.1: {0}")]
    Http(#[source] hyper::Error),
    #[error("it answers {0}")]
    Status(StatusCode),
    #[error("its answer broke off or is larger than 1 MiB: {0}")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("its answer is not UTF-8")]
    Text,
    #[error("it has not answered in time")]
    Late,
}

/// The text that is there now, if all of it comes within a time.
pub(crate) async fn scrape(place: &Place, time: Duration) -> Result<String, ScrapeError> {
    timeout(time, ask(place)).await.unwrap_or(Err(ScrapeError::Late))
}

async fn ask(place: &Place) -> Result<String, ScrapeError> {
    let request = Request::get(&*place.path).header(HOST, place.address.to_string()).header(CONNECTION, "close");
    let request = request.body(String::new()).map_err(ScrapeError::Path)?;
    let stream = TcpStream::connect(place.address).await.map_err(ScrapeError::Connect)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(ScrapeError::Http)?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(ScrapeError::Http)?;
        if response.status() != StatusCode::OK {
            return Err(ScrapeError::Status(response.status()));
        }
        let body = Limited::new(response.into_body(), MOST_BYTES).collect().await.map_err(ScrapeError::Body)?;
        String::from_utf8(body.to_bytes().into()).map_err(|_| ScrapeError::Text)
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
