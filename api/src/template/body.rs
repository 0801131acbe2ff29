//! A chat request's body as its engine hands it to the template: what vLLM does to messages, tools and options before.

use std::collections::BTreeMap;

use minijinja::Value;
use minijinja::value::ValueKind;
use serde::Deserialize;

use super::{ChatTemplate, Clock, ContentForm, RenderError, Renderer, Request};

/// What of a body a template may see.
#[derive(Debug, Deserialize)]
struct Body {
    messages: Vec<BTreeMap<String, Value>>,
    #[serde(default)]
    add_generation_prompt: Option<bool>,
    #[serde(default)]
    continue_final_message: Option<bool>,
    #[serde(default)]
    chat_template: Option<String>,
    #[serde(default)]
    chat_template_kwargs: Option<BTreeMap<String, Value>>,
    #[serde(default)]
    tools: Option<Vec<Value>>,
    #[serde(default)]
    documents: Option<Value>,
    #[serde(default)]
    reasoning_effort: Option<Value>,
}

/// What else of a message reaches the template.
const PASSED_ON: [&str; 3] = ["name", "tool_calls", "tool_call_id"];
/// Names under which engines pass on what an answer thought.
const THOUGHTS: [&str; 3] = ["reasoning_content", "reasoning", "thinking"];

impl Renderer {
    /// The text of a chat request, as far as it is only text: it ends before the first message with a picture or the like.
    ///
    /// # Errors
    /// When the template refuses it or fails; or the body is no chat request.
    pub fn render_body(&self, template: &ChatTemplate, body: &[u8], unix_s: i64) -> Result<String, RenderError> {
        let failed = |what: &str| RenderError::Failed(what.to_owned());
        let body: Body = serde_json::from_slice(body).map_err(|error| failed(&error.to_string()))?;
        // A program from outside is run by nobody here, whatever an engine does with it.
        if body.chat_template.is_some() {
            return Err(failed("the request brings a template of its own"));
        }
        let continued = body.continue_final_message == Some(true);
        let last = body.messages.last().and_then(|message| message.get("content")).and_then(text_of);
        let request =
            request(body, template.content, unix_s).ok_or_else(|| failed("a message that is not only text"))?;
        let text = self.render(&request)?;
        match (continued, last) {
            (false, _) => Ok(text),
            (true, Some(last)) => cut_behind(text, &last).ok_or_else(|| failed("the last message was changed")),
            (true, None) => Err(failed("the last message has no text to go on from")),
        }
    }
}

fn request(body: Body, form: ContentForm, unix_s: i64) -> Option<Request> {
    let mut variables = BTreeMap::new();
    variables.extend(body.tools.map(|tools| ("tools".to_owned(), Value::from_iter(tools.iter().map(tool)))));
    variables.extend(body.documents.map(|documents| ("documents".to_owned(), documents)));
    variables.extend(body.reasoning_effort.map(|effort| ("reasoning_effort".to_owned(), effort)));
    variables.extend(body.chat_template_kwargs.into_iter().flatten());
    let generate = body.add_generation_prompt.unwrap_or(true) && body.continue_final_message != Some(true);
    let messages = body.messages.into_iter().map(|m| message(m, form)).collect::<Option<_>>()?;
    Some(Request { messages, generate, variables, clock: Clock::At(unix_s) })
}

fn message(mut message: BTreeMap<String, Value>, form: ContentForm) -> Option<Value> {
    let role = message.remove("role")?;
    let given = message.remove("content").unwrap_or_default();
    let content = match form {
        ContentForm::Text => Value::from(text_of(&given)?),
        ContentForm::Parts if given.kind() == ValueKind::String => super::conversation::part(given.as_str()?),
        ContentForm::Parts => {
            text_of(&given)?;
            if given.kind() == ValueKind::Seq { given } else { Value::from(Vec::<Value>::new()) }
        }
    };
    let thought = THOUGHTS.iter().find_map(|name| message.get(*name).filter(|value| !value.is_none()).cloned());
    if let Some(calls) = message.get_mut("tool_calls").filter(|calls| !calls.is_none()) {
        *calls = calls.try_iter().ok()?.map(|call| call_with_arguments(&call)).collect();
    }
    let mut pairs = vec![("role".to_owned(), role), ("content".to_owned(), content)];
    pairs.extend(message.into_iter().filter(|(name, value)| !value.is_none() && PASSED_ON.contains(&name.as_str())));
    pairs.extend(thought.into_iter().flat_map(|value| THOUGHTS.map(|name| (name.to_owned(), value.clone()))));
    Some(Value::from_pairs(pairs))
}

/// The texts of a content, joined; none where it holds something else.
fn text_of(content: &Value) -> Option<String> {
    match content.kind() {
        ValueKind::None | ValueKind::Undefined => Some(String::new()),
        ValueKind::String => Some(content.to_string()),
        ValueKind::Seq => {
            let text = |part: Value| {
                let text = part.get_attr("text").ok().filter(|text| text.kind() == ValueKind::String);
                text.map(|text| text.to_string())
            };
            let texts: Vec<String> = content.try_iter().ok()?.map(text).collect::<Option<_>>()?;
            Some(texts.join(ChatTemplate::JOIN))
        }
        _ => None,
    }
}

/// Clients send a call's arguments as a text of JSON; templates are given the object.
fn call_with_arguments(call: &Value) -> Value {
    let with = |map: &Value, name: &str, value: Value| {
        let pairs = map.try_iter().into_iter().flatten().map(|key| {
            let kept = if key.as_str() == Some(name) { value.clone() } else { map.get_item(&key).unwrap_or_default() };
            (key, kept)
        });
        Value::from_pairs(pairs.collect::<Vec<_>>())
    };
    let parsed = || {
        let function = call.get_attr("function").ok()?;
        let arguments = function.get_attr("arguments").ok()?;
        let parsed: Value = serde_json::from_str(arguments.as_str()?).ok()?;
        Some(with(call, "function", with(&function, "arguments", parsed)))
    };
    parsed().unwrap_or_else(|| call.clone())
}

/// vLLM's model of a tool writes out what is not given.
fn tool(given: &Value) -> Value {
    let Ok(function) = given.get_attr("function") else { return given.clone() };
    let known = ["name", "description", "parameters"];
    let or_none = |name: &str| match function.get_attr(name) {
        Ok(value) if !value.is_undefined() => value,
        _ => Value::from(()),
    };
    let more =
        function.try_iter().into_iter().flatten().filter(|key| !key.as_str().is_some_and(|k| known.contains(&k)));
    let mut pairs: Vec<(Value, Value)> = known.iter().map(|name| (Value::from(*name), or_none(name))).collect();
    pairs.extend(more.map(|key| (key.clone(), function.get_item(&key).unwrap_or_default())));
    let kind =
        given.get_attr("type").ok().filter(|kind| !kind.is_undefined()).unwrap_or_else(|| Value::from("function"));
    Value::from_pairs([("type", kind), ("function", Value::from_pairs(pairs))])
}

/// The text up to the end of the last message's content, as transformers cuts it.
fn cut_behind(mut text: String, last: &str) -> Option<String> {
    let trimmed = last.trim_matches(super::is_space);
    let start = text.rfind(trimmed)?;
    let open = last.trim_start_matches(super::is_space);
    let end = if text[start..].starts_with(open) { start + open.len() } else { start + trimmed.len() };
    text.truncate(end);
    Some(text)
}
