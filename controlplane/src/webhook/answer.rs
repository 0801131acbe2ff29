//! One HTTP request, answered.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request as HttpRequest, Response, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::review::Request;
use super::serve::Counts;

/// Where reviews are answered.
const PATH: &str = "/validate";
/// An API server takes no larger object.
const MAX_BODY: usize = 3 << 20;
/// For the body to arrive: the API server waits no longer for the whole answer.
const BODY_TIME: Duration = Duration::from_secs(5);
/// Reviews that are read and judged at once: each takes a thread, and several times its size in memory.
const JUDGED_AT_ONCE: usize = 4;

/// What answering needs.
#[derive(Debug)]
pub(super) struct Judge {
    turns: Arc<Semaphore>,
    pub(super) counts: Arc<Counts>,
}

impl Default for Judge {
    fn default() -> Self {
        Self { turns: Arc::new(Semaphore::new(JUDGED_AT_ONCE)), counts: Arc::default() }
    }
}

impl Judge {
    pub(super) async fn answer(&self, request: HttpRequest<Incoming>) -> Response<Full<Bytes>> {
        let failed = match self.review(request).await {
            Ok(response) => return response,
            Err(failed) => failed,
        };
        self.counts.malformed.fetch_add(1, Relaxed);
        tracing::debug!(status = failed.0.as_u16(), sentence = failed.1, "an admission review was not answered");
        let mut response = Response::new(Full::from(failed.1 + "\n"));
        *response.status_mut() = failed.0;
        if failed.0 == StatusCode::METHOD_NOT_ALLOWED {
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        }
        response
    }

    async fn review(&self, request: HttpRequest<Incoming>) -> Result<Response<Full<Bytes>>, Failed> {
        if request.uri().path() != PATH {
            return failed(StatusCode::NOT_FOUND, format!("nothing is here: reviews are answered at {PATH}"));
        }
        if request.method() != Method::POST {
            return failed(StatusCode::METHOD_NOT_ALLOWED, "a review is sent with POST".to_owned());
        }
        let body = read(request.into_body()).await?;
        let turn = self.turns.clone().acquire_owned().await.expect("the semaphore is never closed");
        let counts = self.counts.clone();
        // Judging a large object takes longer than a stream may be held up.
        let judging = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let answer = Request::read(&body).map_err(|malformed| malformed.to_string())?.judge();
            let counter = if answer.is_allowed() { &counts.allowed } else { &counts.refused };
            counter.fetch_add(1, Relaxed);
            serde_json::to_vec(&answer).map_err(|error| error.to_string())
        });
        match judging.await {
            Ok(Ok(answer)) => {
                let mut response = Response::new(Full::from(answer));
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                Ok(response)
            }
            Ok(Err(malformed)) => failed(StatusCode::BAD_REQUEST, malformed),
            Err(panic) => failed(
                StatusCode::INTERNAL_SERVER_ERROR,
                format!(
                    "kthena-controlplane failed while it judged the object; please report it with the object: {panic}"
                ),
            ),
        }
    }
}

type Failed = (StatusCode, String);

fn failed<T>(status: StatusCode, sentence: String) -> Result<T, Failed> {
    Err((status, sentence))
}

async fn read(body: Incoming) -> Result<Bytes, Failed> {
    let too_large = || failed(StatusCode::PAYLOAD_TOO_LARGE, format!("a review has at most {MAX_BODY} bytes"));
    if body.size_hint().lower() > MAX_BODY as u64 {
        return too_large();
    }
    match timeout(BODY_TIME, Limited::new(body, MAX_BODY).collect()).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => too_large(),
        Ok(Err(error)) => failed(StatusCode::BAD_REQUEST, format!("the review did not arrive: {error}")),
        Err(_) => failed(StatusCode::REQUEST_TIMEOUT, format!("the review did not arrive within {BODY_TIME:?}")),
    }
}
