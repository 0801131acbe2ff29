//! vLLM's HTTP API: which path does what, and the shapes of its errors.

mod extra;
mod failing;
mod generate;
mod kv;
mod models;
mod stream;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue, SERVER, VARY};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::fail::FailMode;
use super::metrics;
use super::server::{AnswerBody, Shared};
use super::stats::Flight;

/// An answer that hyper sends.
pub(crate) type Answer = Response<AnswerBody>;

/// The handler has said all there was to say on the socket itself; hyper must close it.
#[derive(Debug, thiserror::Error)]
#[error("closed on command")]
pub(crate) struct Closed;

/// A request with its body read.
struct Asked {
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

/// An error in vLLM's shape.
#[derive(Debug)]
struct ApiError {
    status: u16,
    kind: &'static str,
    message: String,
    param: Option<&'static str>,
}

impl ApiError {
    fn bad_request(message: String, param: Option<&'static str>) -> Self {
        Self { status: 400, kind: "BadRequestError", message, param }
    }

    fn into_answer(self) -> Answer {
        let Self { status, kind, message, param } = self;
        let body = json!({"error": {"message": message, "type": kind, "param": param, "code": status}});
        with_status(status, json_answer(&body))
    }
}

/// Answers one request.
pub(crate) async fn handle(
    shared: Arc<Shared>,
    raw: Arc<TcpStream>,
    request: Request<Incoming>,
) -> Result<Answer, Closed> {
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, shared.config.max_body_bytes).collect().await else {
        return Ok(with_status(413, json_answer(&json!({"detail": "Request body too large"}))));
    };
    let asked = Asked { path: head.uri.path().to_owned(), headers: head.headers, body: body.to_bytes() };
    if head.method != Method::POST {
        return Ok(get(&shared, &head.method, &asked.path));
    }
    if asked.path == "/sim/kv" {
        return Ok(kv::command(&shared, &asked.body).await.unwrap_or_else(ApiError::into_answer));
    }
    if let Some(answer) = control(&shared, &asked) {
        return Ok(answer);
    }
    let flight = Flight::begin(Arc::clone(&shared.stats));
    match fail_mode(&shared, &asked.headers) {
        Some(mode) => failing::perform(mode, &asked, &raw, flight).await,
        None => Ok(inference(&shared, &asked, flight).await),
    }
}

fn get(shared: &Shared, method: &Method, path: &str) -> Answer {
    if method != Method::GET {
        return with_status(405, json_answer(&json!({"detail": "Method Not Allowed"})));
    }
    match path {
        "/health" | "/ping" => whole("", None),
        "/version" => json_answer(&json!({"version": "0.32.0"})),
        "/load" => json_answer(&json!({"server_load": shared.stats.view().in_flight})),
        "/is_sleeping" => json_answer(&json!({"is_sleeping": false})),
        "/v1/models" => json_answer(&models::list(shared)),
        "/metrics" => {
            let subject = metrics::Subject {
                model: &shared.config.model,
                config: &shared.config.engine,
                max_loras: shared.loras().len(),
                now_s: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64(),
            };
            let page = metrics::render(&subject, &shared.jobs.read());
            whole(page, Some("text/plain; version=1.0.0; charset=utf-8"))
        }
        "/kv_event_sources" => kv::sources(shared),
        "/server_info" => kv::server_info(shared),
        "/sim/stats" => json_answer(&json!(shared.stats_view())),
        _ => not_found(),
    }
}

/// POSTs that are not inference; failures on command do not touch them.
fn control(shared: &Shared, asked: &Asked) -> Option<Answer> {
    let result = match asked.path.as_str() {
        "/v1/load_lora_adapter" => models::load_lora(shared, &asked.body),
        "/v1/unload_lora_adapter" => models::unload_lora(shared, &asked.body),
        "/tokenize" => models::tokenize(shared, &asked.body),
        "/detokenize" => models::detokenize(&asked.body),
        "/ping" => Ok(whole("", None)),
        "/reset_prefix_cache" => {
            shared.jobs.reset_cache();
            Ok(json_answer(&json!({"success": true})))
        }
        "/sim/fail" => arm(shared, &asked.body),
        _ => return None,
    };
    Some(result.unwrap_or_else(ApiError::into_answer))
}

async fn inference(shared: &Arc<Shared>, asked: &Asked, flight: Flight) -> Answer {
    let result = match asked.path.as_str() {
        "/v1/chat/completions" | "/v1/completions" => return generate::answer(shared, asked, flight).await,
        "/v1/messages" => return extra::messages(shared, asked, flight).await,
        "/v1/responses" => extra::responses(shared, asked).await,
        "/v1/embeddings" => extra::embeddings(shared, &asked.body),
        "/rerank" | "/v1/rerank" | "/v2/rerank" => extra::rerank(shared, &asked.body),
        "/score" | "/v1/score" => extra::score(shared, &asked.body),
        "/classify" => extra::classify(shared, &asked.body),
        "/v1/audio/transcriptions" => extra::transcription(asked),
        _ => Ok(not_found()),
    };
    flight.finish();
    result.unwrap_or_else(ApiError::into_answer)
}

fn fail_mode(shared: &Shared, headers: &HeaderMap) -> Option<FailMode> {
    let named = headers.get("x-sim-fail").and_then(|value| value.to_str().ok()?.parse().ok());
    named.or_else(|| shared.fails.take())
}

/// `{"mode": "die:3", "count": 2}`; `{"mode": "none"}` disarms.
fn arm(shared: &Shared, body: &[u8]) -> Result<Answer, ApiError> {
    let body = parse(body)?;
    let mode = body.get("mode").and_then(Value::as_str).unwrap_or_default();
    if mode == "none" {
        shared.fails.clear();
        return Ok(json_answer(&json!({"armed": 0})));
    }
    let mode = mode.parse().map_err(|error| ApiError::bad_request(format!("{error}"), Some("mode")))?;
    let count = body.get("count").and_then(Value::as_u64).unwrap_or(1).min(u64::from(u32::MAX)) as u32;
    shared.fails.arm(mode, count);
    Ok(json_answer(&json!({"armed": count})))
}

fn parse(body: &[u8]) -> Result<Value, ApiError> {
    match serde_json::from_slice(body) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err(invalid("Input should be a valid dictionary".to_owned(), "body")),
        Err(error) => Err(invalid(format!("JSON decode error: {error}"), "body")),
    }
}

fn invalid(message: String, param: &'static str) -> ApiError {
    ApiError {
        status: 400,
        kind: "Bad Request",
        message: format!("1 validation error:\n  {message}"),
        param: Some(param),
    }
}

fn json_answer(body: &Value) -> Answer {
    whole(body.to_string(), Some("application/json"))
}

fn whole(body: impl Into<Bytes>, content_type: Option<&'static str>) -> Answer {
    let bytes: Bytes = body.into();
    answer(AnswerBody::Whole((!bytes.is_empty()).then_some(bytes)), content_type)
}

fn answer(body: AnswerBody, content_type: Option<&'static str>) -> Answer {
    let mut answer = Response::new(body);
    let headers = answer.headers_mut();
    headers.insert(SERVER, HeaderValue::from_static("uvicorn"));
    headers.insert(VARY, HeaderValue::from_static("Origin"));
    if let Some(content_type) = content_type {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    answer
}

fn with_status(status: u16, mut answer: Answer) -> Answer {
    *answer.status_mut() = StatusCode::from_u16(status).expect("statuses are written as valid numbers");
    answer
}

fn not_found() -> Answer {
    with_status(404, json_answer(&json!({"detail": "Not Found"})))
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
