//! Inference: one tensor of text in, one or several out.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::repository::{Loaded, unknown};
use super::{Asked, Manner, Media, Triton, Whole};
use crate::engine::stats::Flight;
use crate::engine::wire::{chunk, left_within};

const EVENT_STREAM: &str = "text/event-stream; charset=utf-8";
const ONE_RESPONSE: &str = "generate expects model to produce exactly 1 response, use generate stream for model that generates various number of responses";

/// Model, version and verb of a path.
type Place<'p> = (&'p str, Option<&'p str>, &'p str);

/// What is asked of a model.
#[derive(Debug, Default)]
struct Wanted {
    id: Option<String>,
    text: String,
    delay: Duration,
    max_tokens: u64,
    itl: Duration,
    /// Instead of the model's time-out in the queue.
    timeout: Option<Duration>,
}

/// The model's own error.
#[derive(Debug, Clone, Copy)]
struct Said(u16, &'static str);

impl Triton {
    /// The answer; none where it has been written already.
    pub(super) async fn run(
        &self,
        asked: &Asked,
        place: Place<'_>,
        manner: Manner,
        stream: &mut TcpStream,
    ) -> io::Result<Option<Whole>> {
        let flight = Flight::begin(Arc::clone(&self.stats));
        let answer = match self.check(asked, place) {
            Err(refusal) => Some(refusal),
            Ok((model, wanted)) => match (model.config.decoupled, place.2) {
                (true, "generate_stream") => return self.stream(model, &wanted, (flight, manner), stream).await,
                (true, _) => {
                    many(model, &wanted, manner, stream).await?;
                    None
                }
                (false, verb) => one(model, &wanted, verb, manner, stream).await?,
            },
        };
        flight.finish();
        Ok(answer)
    }

    fn check(&self, asked: &Asked, (name, version, verb): Place<'_>) -> Result<(&Loaded, Wanted), Whole> {
        // Errors of /infer say that they are text.
        let media = if verb == "infer" { Media::Text } else { Media::Json };
        if asked.method != "POST" {
            return Err(Whole::not_allowed(media));
        }
        let not_found = |what: &str| Whole::error(404, media, &unknown(name, what));
        let model = self.model(name).ok_or_else(|| not_found("is not found"))?;
        if let Some(version) = version.filter(|version| *version != "1") {
            return Err(not_found(&format!("version {version} is not found")));
        }
        if !model.is_ready() {
            return Err(not_found("has no available versions"));
        }
        if verb == "infer" && model.config.decoupled {
            let sentence = "HTTP end point doesn't support models with decoupled transaction policy";
            return Err(Whole::error(501, media, sentence));
        }
        Ok((model, wanted(model, asked, verb)?))
    }

    async fn stream(
        &self,
        model: &Loaded,
        wanted: &Wanted,
        (flight, manner): (Flight, Manner),
        stream: &mut TcpStream,
    ) -> io::Result<Option<Whole>> {
        // The function returns when the thread has begun: that is what is counted, whatever becomes of the stream.
        model.counters.executed.fetch_add(1, Relaxed);
        model.counters.success.fetch_add(1, Relaxed);
        let mut head = Some(manner.chunked(200, EVENT_STREAM));
        for n in 0..wanted.max_tokens {
            // Before its first byte it does not see that the client has left.
            match head.is_some() {
                true => tokio::time::sleep(wanted.itl).await,
                false if left_within(stream, wanted.itl).await => return Err(io::ErrorKind::BrokenPipe.into()),
                false => {}
            }
            let event = if wanted.text == "fail" && n == 2 {
                json!({"error": "mid-stream failure"}).to_string()
            } else {
                text_output(model, wanted, &format!("tok{n} "))
            };
            let bytes = head.take().unwrap_or_default() + &chunk(&format!("data: {event}\n\n"));
            stream.write_all(bytes.as_bytes()).await?;
        }
        stream.write_all((head.take().unwrap_or_default() + &chunk("")).as_bytes()).await?;
        flight.finish();
        Ok(None)
    }
}

/// A decoupled model behind /generate, which takes exactly one response and says so in a 200.
async fn many(model: &Loaded, wanted: &Wanted, manner: Manner, stream: &mut TcpStream) -> io::Result<()> {
    model.counters.executed.fetch_add(1, Relaxed);
    model.counters.success.fetch_add(1, Relaxed);
    let tokens = u32::try_from(wanted.max_tokens).unwrap_or(u32::MAX);
    tokio::time::sleep(wanted.itl.saturating_mul(tokens)).await;
    let body = match wanted.max_tokens {
        1 => text_output(model, wanted, "tok0 "),
        _ => json!({"error": ONE_RESPONSE}).to_string(),
    };
    in_chunks((200, "application/json"), &body, manner, stream).await
}

/// A unary model: it waits for an instance, and runs to its end whether the client is there or not. The answer; none where
/// it has been written already.
async fn one(
    model: &Loaded,
    wanted: &Wanted,
    verb: &str,
    manner: Manner,
    stream: &mut TcpStream,
) -> io::Result<Option<Whole>> {
    let Ok(seat) = model.seats.sit().await else {
        let sentence = "[request id: <id_unknown>] Exceeds maximum queue size";
        return Ok(Some(Whole::error(503, Media::Json, sentence)));
    };
    let counters = &model.counters;
    if wanted.timeout.or(model.config.queue_timeout).is_some_and(|timeout| seat.waited > timeout) {
        counters.rejected.fetch_add(1, Relaxed);
        return Ok(Some(Whole::error(503, Media::Text, "Request timeout expired")));
    }
    tokio::time::sleep(wanted.delay).await;
    counters.executed.fetch_add(1, Relaxed);
    let result = match wanted.text.as_str() {
        "fail" => Err(Said(500, "the model said no")),
        "unavailable" => Err(Said(503, "try later")),
        "raise" => Err(Said(500, "boom")),
        text => Ok(format!("echo: {text}")),
    };
    if wanted.text == "raise" {
        counters.backend.fetch_add(1, Relaxed);
    } else {
        // An error that the model returns is a success, too.
        counters.success.fetch_add(1, Relaxed);
        counters.queue_us.fetch_add(seat.waited.as_micros() as u64, Relaxed);
        counters.infer_us.fetch_add(wanted.delay.as_micros() as u64, Relaxed);
    }
    drop(seat);
    let (status, kind, body) = match (result, verb) {
        (Ok(text), "infer") => return Ok(Some(Whole::json(200, tensors(model, wanted, &text)))),
        (Err(said), "infer") => return Ok(Some(Whole::error(said.0, Media::Text, &said.sentence(model)))),
        (Err(said), "generate") => return Ok(Some(Whole::error(400, Media::Json, &said.sentence(model)))),
        (Ok(text), "generate") => (200, "application/json", text_output(model, wanted, &text)),
        (Ok(text), _) => (200, EVENT_STREAM, format!("data: {}\n\n", text_output(model, wanted, &text))),
        (Err(said), _) => (400, EVENT_STREAM, format!("data: {}\n\n", json!({"error": said.sentence(model)}))),
    };
    in_chunks((status, kind), &body, manner, stream).await?;
    Ok(None)
}

impl Said {
    fn sentence(self, model: &Loaded) -> String {
        let name = &model.config.name;
        match self.1 {
            "boom" => format!(
                "Failed to process the request(s) for model '{name}_0_0', message: RuntimeError: boom\n\nAt:\n  \
                 MODEL_REPO/{name}/1/model.py(14): execute\n"
            ),
            sentence => sentence.to_owned(),
        }
    }
}

/// Writes a whole answer in one chunk and its end.
async fn in_chunks((status, kind): (u16, &str), body: &str, manner: Manner, stream: &mut TcpStream) -> io::Result<()> {
    let bytes = manner.chunked(status, kind) + &chunk(body) + &chunk("");
    stream.write_all(bytes.as_bytes()).await
}

fn wanted(model: &Loaded, asked: &Asked, verb: &str) -> Result<Wanted, Whole> {
    let name = &model.config.name;
    if asked.body.is_empty() {
        let sentence = format!(
            "[request id: <id_unknown>] Raw request must only have 1 input (found 1) to be deduced but got {} inputs in \
             '{name}' model configuration",
            model.inputs().len()
        );
        return Err(Whole::error(400, Media::Json, &sentence));
    }
    let body: Value = serde_json::from_slice(&asked.body).map_err(|_| {
        let what = if asked.body.first() == Some(&b'{') {
            "Missing a name for object member. at 1"
        } else {
            "Invalid value. at 0"
        };
        Whole::error(500, Media::Json, &format!("failed to parse the request JSON buffer: {what}"))
    })?;
    let inputs = if verb == "infer" { tensors_in(&body) } else { body.as_object().cloned().unwrap_or_default() };
    let number = |key: &str, default: u64| inputs.get(key).and_then(Value::as_u64).unwrap_or(default);
    let id = body.get("id").and_then(Value::as_str).map(str::to_owned);
    let Some(text) = inputs.get("text_input").and_then(Value::as_str) else {
        let sentence = format!(
            "[request id: <id_unknown>] expected number of inputs between 1 and {} but got 0 inputs for model '{name}'. \
             Got input(s) [], but missing required input(s) ['text_input']. Please provide all required input(s).",
            model.inputs().len()
        );
        return Err(Whole::error(400, Media::Json, &sentence));
    };
    Ok(Wanted {
        id,
        text: text.to_owned(),
        delay: Duration::from_millis(number("delay_ms", 0)),
        max_tokens: number("max_tokens", 5).min(100_000),
        itl: Duration::from_millis(number("itl_ms", 50)),
        timeout: body["parameters"]["timeout"].as_u64().map(Duration::from_micros),
    })
}

/// The first element of each tensor, by name.
fn tensors_in(body: &Value) -> Map<String, Value> {
    let inputs = body.get("inputs").and_then(Value::as_array).into_iter().flatten();
    let first = |input: &Value| Some((input.get("name")?.as_str()?.to_owned(), input.get("data")?.get(0)?.clone()));
    inputs.filter_map(first).collect()
}

fn id(wanted: &Wanted) -> String {
    wanted.id.as_ref().map(|id| format!("\"id\":{},", Value::from(id.as_str()))).unwrap_or_default()
}

fn text_output(model: &Loaded, wanted: &Wanted, text: &str) -> String {
    let (name, text) = (Value::from(model.config.name.as_str()), Value::from(text));
    format!("{{{}\"model_name\":{name},\"model_version\":\"1\",\"text_output\":{text}}}", id(wanted))
}

fn tensors(model: &Loaded, wanted: &Wanted, text: &str) -> String {
    let (name, text) = (Value::from(model.config.name.as_str()), Value::from(text));
    format!(
        "{{{}\"model_name\":{name},\"model_version\":\"1\",\"outputs\":[{{\"name\":\"text_output\",\"datatype\":\"BYTES\",\
         \"shape\":[1],\"data\":[{text}]}}]}}",
        id(wanted)
    )
}
