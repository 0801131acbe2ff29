//! Server-sent events of a generation, one per token as the model emits it.

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{Answer, answer as respond, generate};
use crate::engine::driver::{Progress, Ticket};
use crate::engine::server::AnswerBody;
use crate::engine::stats::Flight;

pub(super) const FINGERPRINT: &str = "vllm-0.32.0-sim";
pub(super) const EVENT_STREAM: &str = "text/event-stream; charset=utf-8";
/// Pieces that wait for a slow reader; the model goes on, the pieces join.
const PIECES: usize = 8;

/// Whose API the events follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Chat,
    Completion,
}

/// What all events of a stream have in common.
#[derive(Debug, Clone)]
pub(super) struct Template {
    pub(super) style: Style,
    pub(super) id: String,
    pub(super) created: u64,
    pub(super) model: String,
    pub(super) prompt_tokens: u32,
    pub(super) max_tokens: u32,
    pub(super) include_usage: bool,
    pub(super) continuous: bool,
    /// Usage says how many tokens of the prompt were cached.
    pub(super) details: bool,
}

impl Template {
    /// What comes before the first token's event.
    pub(super) fn opening(&self) -> String {
        if self.style == Style::Completion {
            return String::new();
        }
        let choice =
            json!({"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": null, "finish_reason": null});
        let mut event = self.event(choice, 0);
        event["prompt_token_ids"] = Value::Null;
        event["prompt_text"] = Value::Null;
        frame(&event)
    }

    /// The event of token `n`, counted from 0.
    pub(super) fn token(&self, n: u32) -> String {
        let last = n + 1 == self.max_tokens;
        let finish = last.then_some("length");
        let mut choice = match self.style {
            Style::Chat => {
                json!({"index": 0, "delta": {"content": generate::token_text(n)}, "logprobs": null, "finish_reason": finish, "token_ids": null})
            }
            Style::Completion => {
                json!({"index": 0, "text": generate::token_text(n), "logprobs": null, "finish_reason": finish,
                    "stop_reason": null, "prompt_token_ids": null, "token_ids": null})
            }
        };
        if last && self.style == Style::Chat {
            choice["stop_reason"] = Value::Null;
        }
        let mut event = self.event(choice, n + 1);
        if last && !self.include_usage {
            event["system_fingerprint"] = json!(FINGERPRINT);
        }
        frame(&event)
    }

    /// Usage, if it was asked for, and `[DONE]`.
    pub(super) fn closing(&self, cached: u32) -> String {
        let mut text = String::new();
        if self.include_usage {
            let mut event = self.envelope(json!([]));
            event["usage"] = self.usage(self.max_tokens);
            if self.details {
                event["usage"]["prompt_tokens_details"] = json!({"cached_tokens": cached});
            }
            event["system_fingerprint"] = json!(FINGERPRINT);
            text = frame(&event);
        }
        text + "data: [DONE]\n\n"
    }

    /// The usage of a whole answer.
    pub(super) fn full_usage(&self, cached: u32) -> Value {
        let mut usage = self.usage(self.max_tokens);
        usage["prompt_tokens_details"] = if self.details { json!({"cached_tokens": cached}) } else { Value::Null };
        usage["completion_tokens_details"] = Value::Null;
        usage
    }

    fn usage(&self, tokens: u32) -> Value {
        let total = u64::from(self.prompt_tokens) + u64::from(tokens);
        json!({"prompt_tokens": self.prompt_tokens, "total_tokens": total, "completion_tokens": tokens})
    }

    fn event(&self, choice: Value, tokens: u32) -> Value {
        let mut event = self.envelope(json!([choice]));
        if self.continuous {
            event["usage"] = self.usage(tokens);
            event["usage"]["completion_tokens_details"] = Value::Null;
        }
        event
    }

    fn envelope(&self, choices: Value) -> Value {
        let object = if self.style == Style::Chat { "chat.completion.chunk" } else { "text_completion" };
        json!({"id": self.id, "object": object, "created": self.created, "model": self.model, "choices": choices})
    }
}

pub(super) fn frame(event: &Value) -> String {
    format!("data: {event}\n\n")
}

/// Streams a submitted generation in the OpenAI form.
pub(super) fn answer(ticket: Ticket, flight: Flight, template: Template) -> Answer {
    let max_tokens = template.max_tokens;
    pump(ticket, flight, max_tokens, move |from, Progress { cached, tokens, .. }| {
        let mut text = if from == 0 { template.opening() } else { String::new() };
        (from..tokens).for_each(|n| text.push_str(&template.token(n)));
        if tokens == max_tokens {
            text.push_str(&template.closing(cached));
        }
        text
    })
}

/// Streams what `events(from, progress)` says of the tokens since `from`, up to `last`, whenever the model has emitted some. All that is due
/// leaves as one piece, and a client that leaves ends the request in the model.
pub(super) fn pump(
    mut ticket: Ticket,
    flight: Flight,
    last: u32,
    events: impl Fn(u32, Progress) -> String + Send + 'static,
) -> Answer {
    let (sender, pieces) = mpsc::channel(PIECES);
    tokio::spawn(async move {
        let mut sent = 0;
        loop {
            let progress = tokio::select! {
                progress = ticket.progress.wait_for(|progress| progress.tokens > sent) => match progress {
                    Ok(progress) => *progress,
                    // The model has gone: the stream is cut, as with a dead engine.
                    Err(_) => return,
                },
                () = sender.closed() => return,
            };
            let piece = Bytes::from(events(sent, progress));
            sent = progress.tokens;
            if sender.send(piece).await.is_err() {
                return;
            }
            if sent == last {
                return flight.finish();
            }
        }
    });
    respond(AnswerBody::Stream(pieces), Some(EVENT_STREAM))
}
