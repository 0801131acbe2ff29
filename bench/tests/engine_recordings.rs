//! The engine's answers have the status, content type, keys and types of a recorded vLLM 0.32.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "engine/client.rs"]
mod client;

use bench::engine::{Config, Engine};
use client::{Reply, call};
use serde_json::{Value, json};

/// Recordings in the order in which they are played: some change the set of adapters.
const RECORDINGS: [&str; 29] = [
    "health",
    "ping",
    "version",
    "load",
    "is_sleeping",
    "reset_prefix_cache",
    "models",
    "chat",
    "chat_stream",
    "chat_stream_continuous_usage",
    "chat_x_request_id",
    "completion_1",
    "completion_stream",
    "completion_lora",
    "completion_token_ids",
    "messages_anthropic",
    "responses",
    "tokenize_chat",
    "tokenize_prompt",
    "detokenize",
    "err_bad_json_type",
    "err_too_long",
    "err_unknown_model",
    "lora_load",
    "lora_load_again",
    "lora_load_badreq",
    "lora_load_missing",
    "lora_unload",
    "lora_unload_again",
];

#[tokio::test]
async fn answers_have_the_recorded_shape() {
    let config = Config {
        model: "tiny".to_owned(),
        loras: vec!["sql-lora".to_owned()],
        max_model_len: 2048,
        ..Config::default()
    };
    let engine = Engine::start(config).await.unwrap();
    for name in RECORDINGS {
        let recorded = recording(name);
        let request = &recorded["request"];
        let body = if request["body"].is_null() { String::new() } else { request["body"].to_string() };
        let id = request["headers"]["X-Request-Id"].as_str().map(|id| ("x-request-id", id));
        let method = request["method"].as_str().unwrap();
        let reply = call(engine.addr, method, request["path"].as_str().unwrap(), id.as_slice(), &body).await;
        check(name, &reply, &recorded);
    }
}

#[tokio::test]
async fn metrics_have_recorded_names_and_labels() {
    let config = Config { model: "tiny".to_owned(), loras: vec!["sql-lora".to_owned()], ..Config::default() };
    let engine = Engine::start(config).await.unwrap();
    let recorded = recording("metrics_with_lora");
    let reply = call(engine.addr, "GET", "/metrics", &[], "").await;
    assert_eq!(reply.header("content-type"), recorded["headers"]["content-type"].as_str());
    let series = |page: &str| -> std::collections::BTreeSet<String> {
        let name_and_labels = |line: &str| line.rsplit_once(' ').unwrap().0.to_owned();
        page.lines().filter(|line| line.starts_with("vllm:")).map(name_and_labels).collect()
    };
    let known = series(recorded["body"].as_str().unwrap());
    let ours: Vec<String> = series(&reply.body)
        .into_iter()
        .filter(|series| !series.contains("lora_requests_info") && !series.contains("cache_config_info"))
        .collect();
    assert!(ours.len() > 80, "{ours:?}");
    let unknown: Vec<_> = ours.iter().filter(|series| !known.contains(*series)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

fn recording(name: &str) -> Value {
    let path = format!("{}/fixtures/vllm/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))).unwrap()
}

fn check(name: &str, reply: &Reply, recorded: &Value) {
    assert_eq!(json!(reply.status), recorded["status"], "{name}: {}", reply.body);
    let headers = &recorded["headers"];
    assert_eq!(reply.header("content-type"), headers["content-type"].as_str(), "{name}");
    assert_eq!(reply.header("transfer-encoding"), headers["transfer-encoding"].as_str(), "{name}");
    let body = recorded["body"].as_str().unwrap();
    assert_eq!(shapes(&reply.body), shapes(body), "{name}: ours left, recorded right");
    if name.starts_with("err_") || name.starts_with("lora_") {
        assert_eq!(message(&reply.body), message(body), "{name}");
    }
    if name == "chat_x_request_id" {
        assert!(reply.body.contains("\"id\":\"chatcmpl-abc-123\""), "{}", reply.body);
    }
}

/// Error messages are compared to the letter, or the whole body where it is plain text.
fn message(body: &str) -> String {
    match serde_json::from_str::<Value>(body) {
        Ok(value) => value["error"].to_string(),
        Err(_) => body.to_owned(),
    }
}

/// The shape of the body, or of each event of a stream.
fn shapes(body: &str) -> Vec<Value> {
    let events: Vec<&str> = body.split("\n\n").filter_map(|event| event.strip_prefix("data: ")).collect();
    let documents = if events.is_empty() { vec![body] } else { events };
    documents
        .into_iter()
        .map(|text| serde_json::from_str(text).map_or_else(|_| json!("text"), |value| shape(&value)))
        .collect()
}

/// The value with each leaf replaced by its type; a list is its first element's shape.
fn shape(value: &Value) -> Value {
    match value {
        Value::Null => Value::Null,
        Value::Bool(_) => json!("bool"),
        Value::Number(_) => json!("number"),
        Value::String(_) => json!("string"),
        Value::Array(items) => Value::Array(items.first().map(shape).into_iter().collect()),
        Value::Object(fields) => fields.iter().map(|(key, field)| (key.clone(), shape(field))).collect(),
    }
}
