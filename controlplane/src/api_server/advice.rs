//! What an API server advises in a header: `Retry-After`, put into the body where kube and all of us look for it. Under load its first answer is
//! plain text with that header, and no Status at all.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::body::Body;
use kube::core::Status;
use serde_json::{Value, json};
use tower::BoxError;

/// Of the body of a refusal; what is longer is no sentence.
const MOST_BYTES: usize = 64 << 10;

/// The answer, with its advice where everyone looks for it.
pub(super) async fn heard<B>(answer: Response<B>) -> Result<Response<Either<B, Full<Bytes>>>, BoxError>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let status = answer.status();
    let refused = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
    let seconds = answer.headers().get(RETRY_AFTER).filter(|_| refused).and_then(seconds);
    let Some(seconds) = seconds else { return Ok(answer.map(Either::Left)) };
    let (mut head, body) = answer.into_parts();
    let body = Limited::new(body, MOST_BYTES).collect().await?.to_bytes();
    let body = with_pause(&body, status, seconds);
    head.headers.remove(CONTENT_LENGTH);
    head.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(Response::from_parts(head, Either::Right(Full::new(body))))
}

/// The other form of the header, a date, is not of API servers, and depends on two clocks.
fn seconds(header: &HeaderValue) -> Option<u32> {
    header.to_str().ok()?.parse().ok()
}

fn with_pause(body: &[u8], code: StatusCode, seconds: u32) -> Bytes {
    let said = serde_json::from_slice::<Value>(body).ok().filter(|said| said["kind"] == "Status");
    let mut said = said.unwrap_or_else(|| {
        let sentence = String::from_utf8_lossy(body);
        let status = Status::failure(sentence.trim(), code.canonical_reason().unwrap_or_default());
        serde_json::to_value(status.with_code(code.as_u16())).unwrap_or_default()
    });
    if !said["details"].is_object() {
        said["details"] = json!({});
    }
    said["details"]["retryAfterSeconds"] = seconds.into();
    said.to_string().into()
}
