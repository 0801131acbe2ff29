//! Chat and text completions through the model.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde_json::{Value, json};

use super::stream::{Style, Template};
use super::{Answer, ApiError, Asked, invalid, json_answer, models, parse, stream, unix_seconds};
use crate::engine::driver::Ticket;
use crate::engine::kv::Prompt;
use crate::engine::server::Shared;
use crate::engine::stats::Flight;
use crate::engine::text;

/// Text of the n-th generated token.
pub(super) fn token_text(n: u32) -> &'static str {
    const WORDS: [&str; 8] = [" the", " router", " picks", " the", " longest", " known", " prefix", "."];
    WORDS[n as usize % WORDS.len()]
}

/// A generation that was asked for, checked.
pub(super) struct Wanted {
    pub(super) template: Template,
    pub(super) stream: bool,
    pub(super) lora: Option<Arc<str>>,
    prompt: Vec<u8>,
    cache_salt: Option<Box<str>>,
    salt: String,
    return_token_ids: bool,
}

pub(super) async fn answer(shared: &Arc<Shared>, asked: &Asked, flight: Flight) -> Answer {
    let style = if asked.path == "/v1/completions" { Style::Completion } else { Style::Chat };
    let submitted = want(shared, asked, style).and_then(|wanted| Ok((submit(shared, &wanted)?, wanted)));
    let (ticket, wanted) = match submitted {
        Ok(submitted) => submitted,
        Err(error) => {
            flight.finish();
            return error.into_answer();
        }
    };
    if wanted.stream {
        return stream::answer(ticket, flight, wanted.template);
    }
    let cached = wait(ticket).await;
    flight.finish();
    json_answer(&unary(&wanted, cached))
}

/// Reads and checks the body.
pub(super) fn want(shared: &Shared, asked: &Asked, style: Style) -> Result<Wanted, ApiError> {
    let body = parse(&asked.body)?;
    let model = body.get("model").and_then(Value::as_str).unwrap_or(&shared.config.model).to_owned();
    let lora = models::check_name(shared, &model)?.then(|| Arc::from(model.as_str()));
    let prompt = prompt(&body, style)?;
    let prompt_tokens = text::token_count(&prompt).max(1);
    let max_tokens = max_tokens(&body, shared.config.default_max_tokens)?;
    check_length(shared.config.max_model_len, prompt_tokens, max_tokens)?;
    let flag = |value: Option<&Value>| value == Some(&json!(true));
    let options = body.get("stream_options");
    let include_usage = flag(options.and_then(|options| options.get("include_usage")));
    let continuous = include_usage && flag(options.and_then(|options| options.get("continuous_usage_stats")));
    let cache_salt = body.get("cache_salt").and_then(Value::as_str).filter(|salt| !salt.is_empty()).map(Box::from);
    let salt = format!("{model}\0{}", cache_salt.as_deref().unwrap_or_default());
    let template = Template {
        style,
        id: request_id(asked, style),
        created: unix_seconds(),
        model,
        prompt_tokens,
        max_tokens,
        include_usage,
        continuous,
        details: shared.config.prompt_tokens_details,
    };
    let return_token_ids = flag(body.get("return_token_ids"));
    Ok(Wanted { template, stream: flag(body.get("stream")), lora, prompt, cache_salt, salt, return_token_ids })
}

/// Hands the request to the model.
pub(super) fn submit(shared: &Shared, wanted: &Wanted) -> Result<Ticket, ApiError> {
    let job = text::job(&wanted.prompt, &wanted.salt, wanted.template.max_tokens);
    let Wanted { prompt, lora, cache_salt, .. } = wanted;
    // Only who publishes events needs the text again.
    let bytes = if shared.published.is_some() { prompt.clone() } else { Vec::new() };
    let prompt = Prompt { bytes, lora: lora.clone(), cache_salt: cache_salt.clone() };
    shared.jobs.submit(job, prompt).map_err(|refused| ApiError {
        status: 503,
        kind: "ServiceUnavailableError",
        message: refused.to_string(),
        param: None,
    })
}

/// Waits for the last token; how many of the prompt's were cached.
pub(super) async fn wait(mut ticket: Ticket) -> u32 {
    // The sender goes only after the request has finished.
    let _ = ticket.progress.wait_for(|progress| progress.finished).await;
    ticket.progress.borrow().cached
}

fn prompt(body: &Value, style: Style) -> Result<Vec<u8>, ApiError> {
    if style == Style::Completion {
        let prompt = body.get("prompt").filter(|prompt| prompt.is_string() || prompt.is_array());
        return prompt.map(text::prompt_bytes).ok_or_else(|| required("prompt", "body.prompt"));
    }
    match body.get("messages").and_then(Value::as_array) {
        Some(_) => Ok(text::render_chat(body).into_bytes()),
        None => Err(required("messages", "body.messages")),
    }
}

fn required(name: &str, param: &'static str) -> ApiError {
    invalid(format!("{{'type': 'missing', 'loc': 'body.{name}', 'msg': 'Field required'}}"), param)
}

fn max_tokens(body: &Value, default: u32) -> Result<u32, ApiError> {
    let value = ["max_completion_tokens", "max_tokens", "max_output_tokens"]
        .iter()
        .find_map(|key| body.get(*key).filter(|value| !value.is_null()));
    let Some(value) = value else { return Ok(default) };
    match value.as_u64() {
        Some(0) => Err(ApiError::bad_request("max_tokens must be at least 1, got 0.".to_owned(), Some("max_tokens"))),
        Some(count) => Ok(u32::try_from(count).unwrap_or(u32::MAX)),
        None => Err(invalid(
            format!(
                "{{'type': 'int_parsing', 'loc': 'body.max_tokens', 'msg': 'Input should be a valid integer, unable to parse string as an integer', 'input': {value}}}"
            )
            .replace('"', "'"),
            "body.max_tokens",
        )),
    }
}

fn check_length(limit: u32, prompt: u32, output: u32) -> Result<(), ApiError> {
    if prompt >= limit {
        return Err(ApiError::bad_request(
            format!(
                "This model's maximum context length is {limit} tokens. However, your prompt contains {prompt} input tokens, which exceeds this limit even without any output tokens. Please reduce the length of the input prompt. (parameter=input_tokens, value={prompt})"
            ),
            Some("input_tokens"),
        ));
    }
    if output > limit - prompt {
        return Err(ApiError::bad_request(
            format!(
                "This model's maximum context length is {limit} tokens. However, you requested {output} output tokens and your prompt contains {prompt} input tokens. (parameter=max_tokens, value={output})"
            ),
            Some("max_tokens"),
        ));
    }
    Ok(())
}

fn request_id(asked: &Asked, style: Style) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let prefix = if style == Style::Completion { "cmpl" } else { "chatcmpl" };
    match asked.headers.get("x-request-id").and_then(|id| id.to_str().ok()) {
        Some(id) => format!("{prefix}-{id}"),
        None => format!("{prefix}-{:016x}", NEXT.fetch_add(1, Relaxed)),
    }
}

fn unary(wanted: &Wanted, cached: u32) -> Value {
    let Template { style, id, created, model, max_tokens, .. } = &wanted.template;
    let content: String = (0..*max_tokens).map(token_text).collect();
    let ids = wanted.return_token_ids.then(|| (0..*max_tokens).collect::<Vec<_>>());
    let prompt_ids = wanted.return_token_ids.then(|| text::tokenize(&wanted.prompt));
    let usage = wanted.template.full_usage(cached);
    let (object, choice) = match style {
        Style::Chat => (
            "chat.completion",
            json!({"index": 0, "message": {"role": "assistant", "content": content, "refusal": null,
                "annotations": null, "audio": null, "function_call": null, "reasoning": null}, "logprobs": null,
                "finish_reason": "length", "stop_reason": null, "token_ids": ids, "routed_experts": null}),
        ),
        Style::Completion => (
            "text_completion",
            json!({"index": 0, "text": content, "logprobs": null, "finish_reason": "length", "stop_reason": null,
                "token_ids": ids, "prompt_logprobs": null, "prompt_token_ids": prompt_ids, "routed_experts": null}),
        ),
    };
    let mut answer = json!({"id": id, "object": object, "created": created, "model": model, "choices": [choice],
        "service_tier": null, "system_fingerprint": stream::FINGERPRINT, "usage": usage,
        "kv_transfer_params": null, "ec_transfer_params": null, "metrics": null});
    if *style == Style::Chat {
        answer["prompt_logprobs"] = Value::Null;
        answer["prompt_token_ids"] = json!(prompt_ids);
        answer["prompt_text"] = Value::Null;
    }
    answer
}
