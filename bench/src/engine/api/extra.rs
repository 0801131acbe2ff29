//! The other APIs that an engine offers, as plausible echoes.

use std::sync::Arc;

use serde_json::{Value, json};

use super::stream::{Style, Template};
use super::{Answer, ApiError, Asked, generate, json_answer, models, parse, stream, unix_seconds, with_status};
use crate::engine::server::Shared;
use crate::engine::stats::Flight;
use crate::engine::text;

/// Documents of a rerank or score request.
const DOCUMENT_LIMIT: usize = 10_000;
const EMBEDDING_SIZE: usize = 8;

/// Anthropic's Messages API, whole or as its own kind of events.
pub(super) async fn messages(shared: &Arc<Shared>, asked: &Asked, flight: Flight) -> Answer {
    let submitted =
        generate::want(shared, asked, Style::Chat).and_then(|wanted| Ok((generate::submit(shared, &wanted)?, wanted)));
    let (ticket, wanted) = match submitted {
        Ok(submitted) => submitted,
        Err(ApiError { status, kind, message, .. }) => {
            flight.finish();
            let body = json!({"type": "error", "error": {"type": kind, "message": message}});
            return with_status(status, json_answer(&body));
        }
    };
    let template = wanted.template;
    if wanted.stream {
        let last = template.max_tokens;
        return stream::pump(ticket, flight, last, move |from, progress| {
            message_events(&template, from, progress.tokens)
        });
    }
    generate::wait(ticket).await;
    flight.finish();
    let text: String = (0..template.max_tokens).map(generate::token_text).collect();
    json_answer(&json!({"id": template.id, "type": "message", "role": "assistant",
        "content": [{"type": "text", "text": text}], "model": template.model, "stop_reason": "max_tokens",
        "usage": {"input_tokens": template.prompt_tokens, "output_tokens": template.max_tokens}}))
}

fn message_events(template: &Template, from: u32, to: u32) -> String {
    let frame = |event: Value| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or_default());
    let mut text = String::new();
    if from == 0 {
        let usage = json!({"input_tokens": template.prompt_tokens, "output_tokens": 0});
        let message = json!({"id": template.id, "type": "message", "role": "assistant", "content": [],
            "model": template.model, "stop_reason": null, "stop_sequence": null, "usage": usage});
        text += &frame(json!({"type": "message_start", "message": message}));
        text +=
            &frame(json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}));
    }
    for n in from..to {
        let delta = json!({"type": "text_delta", "text": generate::token_text(n)});
        text += &frame(json!({"type": "content_block_delta", "index": 0, "delta": delta}));
    }
    if to == template.max_tokens {
        text += &frame(json!({"type": "content_block_stop", "index": 0}));
        let usage = json!({"input_tokens": template.prompt_tokens, "output_tokens": to});
        text += &frame(json!({"type": "message_delta", "delta": {"stop_reason": "max_tokens"}, "usage": usage}));
        text += &frame(json!({"type": "message_stop"}));
    }
    text
}

/// OpenAI's Responses API, whole answers only.
pub(super) async fn responses(shared: &Shared, asked: &Asked) -> Result<Answer, ApiError> {
    let mut body = parse(&asked.body)?;
    let input = body.get("input").cloned().unwrap_or_default();
    body["messages"] = if input.is_array() { input } else { json!([{"role": "user", "content": input}]) };
    let as_chat = Asked { path: asked.path.clone(), headers: asked.headers.clone(), body: body.to_string().into() };
    let wanted = generate::want(shared, &as_chat, Style::Chat)?;
    let cached = generate::wait(generate::submit(shared, &wanted)?).await;
    let Template { id, model, prompt_tokens, max_tokens, .. } = wanted.template;
    let text: String = (0..max_tokens).map(generate::token_text).collect();
    let content = json!([{"annotations": [], "text": text, "type": "output_text", "logprobs": null}]);
    let output = json!([{"id": format!("msg_{id}"), "content": content, "role": "assistant", "status": "completed",
        "type": "message", "phase": null}]);
    let usage = json!({"input_tokens": prompt_tokens,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0, "input_tokens_per_turn": [], "cached_tokens_per_turn": []},
        "output_tokens": max_tokens,
        "output_tokens_details": {"reasoning_tokens": 0, "tool_output_tokens": 0, "output_tokens_per_turn": [], "tool_output_tokens_per_turn": []},
        "total_tokens": prompt_tokens + max_tokens});
    let mut answer = json!({"id": format!("resp_{id}"), "created_at": unix_seconds(), "model": model,
        "object": "response", "output": output, "usage": usage, "status": "incomplete",
        "incomplete_details": {"reason": "max_output_tokens"}, "max_output_tokens": max_tokens,
        "parallel_tool_calls": true, "temperature": 1.0, "tool_choice": "none", "tools": [], "top_p": 1.0,
        "background": false, "service_tier": "auto", "truncation": "disabled", "presence_penalty": 0.0,
        "frequency_penalty": 0.0});
    const NULLS: [&str; 13] = [
        "instructions",
        "metadata",
        "max_tool_calls",
        "previous_response_id",
        "prompt",
        "reasoning",
        "text",
        "top_logprobs",
        "user",
        "kv_transfer_params",
        "ec_transfer_params",
        "input_messages",
        "output_messages",
    ];
    NULLS.iter().for_each(|key| answer[*key] = Value::Null);
    Ok(json_answer(&answer))
}

pub(super) fn embeddings(shared: &Shared, body: &[u8]) -> Result<Answer, ApiError> {
    let (body, model) = named(shared, body)?;
    let inputs = texts(body.get("input"));
    let data: Vec<Value> = inputs
        .iter()
        .enumerate()
        .map(|(index, input)| json!({"index": index, "object": "embedding", "embedding": vec![relevance(input); EMBEDDING_SIZE]}))
        .collect();
    let tokens = count(&inputs);
    let usage = json!({"prompt_tokens": tokens, "total_tokens": tokens, "completion_tokens": 0});
    Ok(json_answer(
        &json!({"id": "embd-sim", "object": "list", "created": unix_seconds(), "model": model, "data": data, "usage": usage}),
    ))
}

pub(super) fn rerank(shared: &Shared, body: &[u8]) -> Result<Answer, ApiError> {
    let (body, model) = named(shared, body)?;
    let documents = texts(body.get("documents"));
    let results: Vec<Value> = documents
        .iter()
        .enumerate()
        .map(|(index, text)| json!({"index": index, "document": {"text": text}, "relevance_score": relevance(text)}))
        .collect();
    Ok(json_answer(
        &json!({"id": "rerank-sim", "model": model, "results": results, "usage": {"total_tokens": count(&documents)}}),
    ))
}

pub(super) fn score(shared: &Shared, body: &[u8]) -> Result<Answer, ApiError> {
    let (body, model) = named(shared, body)?;
    let texts = texts(body.get("text_2").or_else(|| body.get("data_2")));
    let data: Vec<Value> = texts
        .iter()
        .enumerate()
        .map(|(index, text)| json!({"index": index, "object": "score", "score": relevance(text)}))
        .collect();
    let usage = json!({"prompt_tokens": count(&texts), "total_tokens": count(&texts)});
    Ok(json_answer(
        &json!({"id": "score-sim", "object": "list", "created": unix_seconds(), "model": model, "data": data, "usage": usage}),
    ))
}

pub(super) fn classify(shared: &Shared, body: &[u8]) -> Result<Answer, ApiError> {
    let (body, model) = named(shared, body)?;
    let inputs = texts(body.get("input"));
    let data: Vec<Value> = (0..inputs.len())
        .map(|index| json!({"index": index, "label": "LABEL_0", "probs": [0.75, 0.25], "num_classes": 2}))
        .collect();
    Ok(json_answer(
        &json!({"id": "classify-sim", "object": "list", "created": unix_seconds(), "model": model, "data": data}),
    ))
}

/// A multipart upload; the transcript says how large it was.
pub(super) fn transcription(asked: &Asked) -> Result<Answer, ApiError> {
    let content_type = asked.headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let boundary = content_type.strip_prefix("multipart/form-data").and_then(|rest| rest.split_once("boundary="));
    let Some((_, boundary)) = boundary else {
        return Err(ApiError::bad_request("multipart/form-data expected".to_owned(), Some("file")));
    };
    let end = format!("--{}--", boundary.trim_matches('"'));
    if memchr::memmem::find(&asked.body, end.as_bytes()).is_none() {
        return Err(ApiError::bad_request("the multipart body has no end".to_owned(), Some("file")));
    }
    Ok(json_answer(
        &json!({"text": format!("{} bytes of sound", asked.body.len()), "usage": {"type": "duration", "seconds": 1}}),
    ))
}

fn named(shared: &Shared, body: &[u8]) -> Result<(Value, String), ApiError> {
    let body = parse(body)?;
    let model = body.get("model").and_then(Value::as_str).unwrap_or(&shared.config.model).to_owned();
    models::check_name(shared, &model)?;
    Ok((body, model))
}

fn texts(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Array(items)) => {
            let text =
                |item: &Value| item.as_str().or_else(|| item.get("text")?.as_str()).unwrap_or_default().to_owned();
            items.iter().take(DOCUMENT_LIMIT).map(text).collect()
        }
        _ => Vec::new(),
    }
}

fn count(texts: &[String]) -> u32 {
    texts.iter().map(|text| text::token_count(text.as_bytes())).sum()
}

/// A number in 0..1 that depends on the text alone.
fn relevance(text: &str) -> f64 {
    (xxhash_rust::xxh3::xxh3_64(text.as_bytes()) >> 40) as f64 / f64::from(1 << 24)
}
