//! Predictions: which paths lead to a model, and what the recordings' handler makes of a body.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::{After, Asked, CACHE_CONTROL, EXPIRES, Model, TorchServe, Whole, request_id};
use crate::engine::seats::{Refused, Seats};
use crate::engine::stats::Flight;
use crate::engine::wire::{chunk, head};

pub(super) const VERSION: &str = "1.0";

/// A model and its workers.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) config: Model,
    pub(super) seats: Seats,
}

impl Served {
    pub(super) fn new(config: Model) -> Self {
        let seats = Seats::new(config.workers, config.queue);
        Self { config, seats }
    }
}

/// What the handler reads of a body. It takes whatever comes.
#[derive(Debug)]
struct Wanted {
    prompt: String,
    max_tokens: u64,
    itl: Duration,
    stream: bool,
    kind: Option<String>,
    status: u16,
}

impl TorchServe {
    /// The answer, or what becomes of the connection where it has been written already.
    pub(super) async fn infer(
        &self,
        asked: &Asked,
        path: &str,
        stream: &mut TcpStream,
    ) -> io::Result<Result<Whole, After>> {
        let (model, version) = match self.place(path) {
            Ok(place) => place,
            Err(refusal) => return Ok(Ok(refusal)),
        };
        let flight = Flight::begin(Arc::clone(&self.stats));
        // Refused ones count as well, under the version that was asked for.
        self.meters.came(&model.config.name, version);
        let came = Instant::now();
        let seat = match model.seats.sit().await {
            Ok(seat) => seat,
            Err(Refused::Full | Refused::NoSeats) => {
                flight.finish();
                return Ok(Ok(no_worker(&model.config.name)));
            }
        };
        let waited = seat.waited;
        let wanted = wanted(asked);
        let answer = match wanted.stream && wanted.prompt != "raise" {
            true => Err(streamed(&wanted, stream).await),
            false => Ok(whole(&wanted, model.config.response_timeout).await),
        };
        drop(seat);
        self.meters.finished(&model.config.name, version, waited, came.elapsed());
        flight.finish();
        match answer {
            Ok(whole) => Ok(Ok(whole)),
            Err(after) => {
                self.meters.answered(200);
                after.map(Err)
            }
        }
    }

    /// The model that a path leads to, and the version in it as metrics call it.
    fn place<'p>(&self, path: &'p str) -> Result<(&Served, &'p str), Whole> {
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        let (name, version) = match parts[..] {
            ["predictions" | "explanations", name] | ["v2", "models", name, "infer"] => (name, None),
            ["predictions" | "explanations", name, version, ..] => (name, Some(version)),
            ["v1", "models", last] => (last.strip_suffix(":predict").ok_or_else(Whole::not_found)?, None),
            _ => return Err(Whole::not_found()),
        };
        let model = self.model(name)?;
        if let Some(version) = version.filter(|version| *version != VERSION) {
            let message = format!("Model version: {version} does not exist for model: {name}");
            return Err(Whole::error(404, "ModelVersionNotFoundException", &message));
        }
        Ok((model, version.unwrap_or("default")))
    }
}

fn no_worker(model: &str) -> Whole {
    let message = format!(
        "Model \"{model}\" has no worker to serve inference request. Please use scale workers API to add workers. If \
         this is a sequence inference, please check if it is closed, or expired; or exceeds maxSequenceJobQueueSize"
    );
    Whole::error(503, "ServiceUnavailableException", &message)
}

async fn whole(wanted: &Wanted, response_timeout: Duration) -> Whole {
    match wanted.prompt.as_str() {
        "raise" => return Whole::error(503, "InternalServerException", "Prediction failed"),
        "status" => {
            let answer = Whole::handlers(wanted.status, "slow down".to_owned());
            return Whole { retry_after: Some("7"), ..answer };
        }
        _ => {}
    }
    let time = wanted.itl.saturating_mul(u32::try_from(wanted.max_tokens).unwrap_or(u32::MAX));
    tokio::time::sleep(time.min(response_timeout)).await;
    if time > response_timeout {
        return Whole::error(500, "InternalServerException", "Worker died.");
    }
    Whole::handlers(200, (0..wanted.max_tokens).map(|n| format!("tok{n} ")).collect())
}

/// One chunk a token, and the handler's last word. A client that has gone is not noticed: the handler runs on.
async fn streamed(wanted: &Wanted, stream: &mut TcpStream) -> io::Result<After> {
    let mut head = Some(stream_head(wanted));
    let mut sent = Ok(());
    for n in 0..wanted.max_tokens {
        tokio::time::sleep(wanted.itl).await;
        let bytes = head.take().unwrap_or_default() + &chunk(&format!("tok{n} "));
        if sent.is_ok() {
            sent = stream.write_all(bytes.as_bytes()).await;
        }
        if wanted.prompt == "fail" && n == 1 {
            return Ok(After::Reset);
        }
    }
    sent?;
    let last = head.take().unwrap_or_default() + &chunk("end") + &chunk("");
    stream.write_all(last.as_bytes()).await?;
    Ok(After::Next)
}

fn stream_head(wanted: &Wanted) -> String {
    let text = |text: &str| Some(text.to_owned());
    let fields = [
        ("ts_stream_next", text("true")),
        ("content-type", wanted.kind.clone()),
        ("x-request-id", Some(request_id())),
        ("Pragma", text("no-cache")),
        ("Cache-Control", text(CACHE_CONTROL)),
        ("Expires", text(EXPIRES)),
        ("transfer-encoding", text("chunked")),
        ("connection", text("keep-alive")),
    ];
    head("HTTP/1.1", (200, ""), &fields)
}

fn wanted(asked: &Asked) -> Wanted {
    let body: Value = serde_json::from_slice(&asked.body).unwrap_or_default();
    let text = |key: &str| body.get(key).and_then(Value::as_str).map(str::to_owned);
    let number = |key: &str, default: u64| body.get(key).and_then(Value::as_u64).unwrap_or(default);
    Wanted {
        prompt: text("prompt").unwrap_or_else(|| String::from_utf8_lossy(&asked.body).into_owned()),
        max_tokens: number("max_tokens", 3).min(100_000),
        itl: Duration::from_millis(number("itl_ms", 20)),
        stream: body.get("stream") == Some(&Value::Bool(true)),
        kind: text("content_type"),
        status: u16::try_from(number("code", 429)).unwrap_or(429),
    }
}
