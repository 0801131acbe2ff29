//! The model list, LoRA adapters, and the tokenizer's endpoints.

use serde_json::{Value, json};

use super::{Answer, ApiError, json_answer, parse, unix_seconds, whole};
use crate::engine::server::Shared;
use crate::engine::text;

/// Adapters that may be loaded at once.
const LORA_LIMIT: usize = 1024;

pub(super) fn list(shared: &Shared) -> Value {
    let entry = |id: &str, root: &str, parent: Option<&str>, max_model_len: Option<u32>| {
        json!({"id": id, "object": "model", "created": unix_seconds(), "owned_by": "vllm", "root": root,
            "parent": parent, "max_model_len": max_model_len, "permission": [{
                "id": format!("modelperm-{id}"), "object": "model_permission", "created": unix_seconds(),
                "allow_create_engine": false, "allow_sampling": true, "allow_logprobs": true,
                "allow_search_indices": false, "allow_view": true, "allow_fine_tuning": false,
                "organization": "*", "group": null, "is_blocking": false}]})
    };
    let base = shared.config.model.as_str();
    let mut data = vec![entry(base, &format!("/models/{base}"), None, Some(shared.config.max_model_len))];
    data.extend(shared.loras().iter().map(|(name, path)| entry(name, path, Some(base), None)));
    json!({"object": "list", "data": data})
}

/// Ok with whether the name is an adapter.
pub(super) fn check_name(shared: &Shared, name: &str) -> Result<bool, ApiError> {
    if name.is_empty() || name == shared.config.model {
        return Ok(false);
    }
    if shared.loras().contains_key(name) {
        return Ok(true);
    }
    let message = format!("The model `{name}` does not exist. Valid aliases: {}.", shared.config.model);
    Err(ApiError { status: 404, kind: "NotFoundError", message, param: Some("model") })
}

pub(super) fn load_lora(shared: &Shared, body: &[u8]) -> Result<Answer, ApiError> {
    let body = parse(body)?;
    let text = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default();
    let (name, path) = (text("lora_name"), text("lora_path"));
    if name.is_empty() || path.is_empty() {
        return Err(user_error("Both 'lora_name' and 'lora_path' must be provided.".to_owned()));
    }
    if path.starts_with("/nonexistent") {
        return Err(missing(format!("Loading lora {name} failed: No adapter found for {path}")));
    }
    let mut loras = shared.loras();
    if loras.contains_key(name) && body.get("load_inplace") != Some(&json!(true)) {
        return Err(user_error(format!(
            "The lora adapter '{name}' has already been loaded. If you want to load the adapter in place, set 'load_inplace' to True."
        )));
    }
    if loras.len() >= LORA_LIMIT {
        return Err(user_error("Too many adapters.".to_owned()));
    }
    loras.insert(name.to_owned(), path.to_owned());
    Ok(whole(format!("Success: LoRA adapter '{name}' added successfully."), None))
}

pub(super) fn unload_lora(shared: &Shared, body: &[u8]) -> Result<Answer, ApiError> {
    let body = parse(body)?;
    let name = body.get("lora_name").and_then(Value::as_str).unwrap_or_default();
    if name.is_empty() {
        return Err(user_error("'lora_name' needs to be provided to unload a LoRA adapter.".to_owned()));
    }
    if shared.loras().remove(name).is_none() {
        return Err(missing(format!("The lora adapter '{name}' cannot be found.")));
    }
    Ok(whole(format!("Success: LoRA adapter '{name}' removed successfully."), None))
}

pub(super) fn tokenize(shared: &Shared, body: &[u8]) -> Result<Answer, ApiError> {
    let body = parse(body)?;
    check_name(shared, body.get("model").and_then(Value::as_str).unwrap_or_default())?;
    let bytes = match body.get("prompt") {
        Some(prompt) => text::prompt_bytes(prompt),
        None => text::render_chat(&body).into_bytes(),
    };
    let tokens = text::tokenize(&bytes);
    let strings = (body.get("return_token_strs") == Some(&json!(true)))
        .then(|| tokens.iter().map(|token| text::detokenize(&[*token])).collect::<Vec<_>>());
    let max_model_len = shared.config.max_model_len;
    Ok(json_answer(
        &json!({"count": tokens.len(), "max_model_len": max_model_len, "tokens": tokens, "token_strs": strings}),
    ))
}

pub(super) fn detokenize(body: &[u8]) -> Result<Answer, ApiError> {
    let body = parse(body)?;
    let tokens: Vec<u32> = body
        .get("tokens")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|token| token.as_u64().unwrap_or(0) as u32)
        .collect();
    Ok(json_answer(&json!({"prompt": text::detokenize(&tokens)})))
}

fn user_error(message: String) -> ApiError {
    ApiError { status: 400, kind: "InvalidUserInput", message, param: None }
}

fn missing(message: String) -> ApiError {
    ApiError { status: 404, kind: "NotFoundError", message, param: None }
}
