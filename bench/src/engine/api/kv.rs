//! Where KV events are to be had, and commands to their publisher.

use serde_json::{Value, json};

use super::{Answer, ApiError, json_answer, not_found, parse};
use crate::engine::kv::{KvCommand, LOAD_TOPIC};
use crate::engine::server::Shared;
use crate::engine::text::BLOCK_TOKENS;

/// As vLLM's frontend tells it.
pub(super) fn sources(shared: &Shared) -> Answer {
    let Some(published) = &shared.published else { return not_found() };
    let place = |place: std::net::SocketAddr| format!("tcp://{place}");
    json_answer(&json!([{"data_parallel_rank": published.config.rank, "endpoint": place(published.publish),
        "replay_endpoint": published.replay.map(place), "topic": published.config.topic}]))
}

/// As SGLang tells it.
pub(super) fn server_info(shared: &Shared) -> Answer {
    let events = shared.published.as_ref().map(|published| {
        json!({"publisher": "zmq", "endpoint_host": "*", "endpoint_port_base": published.publish.port(),
            "topic": published.config.topic, "block_size": BLOCK_TOKENS, "dp_size": 1,
            "replay_endpoint_port_base": published.replay.map(|replay| replay.port()),
            "load_endpoint_port_base": published.load.map(|load| load.port()), "load_topic": LOAD_TOPIC})
    });
    json_answer(&json!({"model_path": shared.config.model, "kv_events": events}))
}

/// `{"drop": 3}`, `{"cut": true}` or `{"restart": true}`.
pub(super) async fn command(shared: &Shared, body: &[u8]) -> Result<Answer, ApiError> {
    let body = parse(body)?;
    let flag = |name: &str| body.get(name) == Some(&json!(true));
    let command = match body.get("drop").and_then(Value::as_u64) {
        Some(count) => KvCommand::Drop(u32::try_from(count).unwrap_or(u32::MAX)),
        None if flag("cut") => KvCommand::Cut,
        None if flag("restart") => KvCommand::Restart,
        None => {
            let message = "one of drop (a number), cut and restart (true) is wanted".to_owned();
            return Err(ApiError::bad_request(message, Some("body")));
        }
    };
    shared.kv(command).await;
    Ok(json_answer(&json!({"done": true})))
}
