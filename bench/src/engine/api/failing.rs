//! Carries out failures on command. What hyper would not send is written to the socket past it; while a request is in
//! the handler's hands hyper has nothing to write.

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::stream::{EVENT_STREAM, Style, Template, frame};
use super::{Answer, ApiError, Asked, Closed, answer, generate, unix_seconds};
use crate::engine::conn::{linger_zero, write_all};
use crate::engine::fail::FailMode;
use crate::engine::server::AnswerBody;
use crate::engine::stats::Flight;

const EVENTS: u32 = 8;

/// Fails the request. The model never sees it.
pub(super) async fn perform(mode: FailMode, asked: &Asked, raw: &TcpStream, flight: Flight) -> Result<Answer, Closed> {
    let would_be = WouldBe::of(asked);
    let bytes = match mode {
        FailMode::Status(status) => {
            flight.finish();
            let message = format!("simulated {status}");
            return Ok(ApiError { status, kind: "InternalServerError", message, param: None }.into_answer());
        }
        FailMode::ErrorEvent(events) => {
            flight.finish();
            return Ok(would_be.with_error_event(events));
        }
        FailMode::Die(events) => would_be.part(events),
        FailMode::Reset(0) | FailMode::Hang | FailMode::Drop => Vec::new(),
        FailMode::Reset(events) | FailMode::Stall(events) => would_be.part(events),
        FailMode::CloseAfter => would_be.whole(),
        FailMode::Garbage => b"\x16\x03\x01\x00garbage, not HTTP\r\n\r\n".to_vec(),
        FailMode::LongLength => would_be.long_length(),
        FailMode::Extra => [would_be.whole(), b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nbad".to_vec()].concat(),
    };
    // A client that has gone by now has nothing to fail.
    let _ = write_all(raw, &bytes).await;
    match mode {
        // Hyper watches the socket meanwhile and drops this future, and the flight, when the client leaves.
        FailMode::Stall(_) | FailMode::Hang => return std::future::pending().await,
        FailMode::Extra => {
            flight.finish();
            return std::future::pending().await;
        }
        // Without the option the close sends FIN, which is the best that can be done then.
        FailMode::Reset(_) => drop(linger_zero(raw)),
        _ => {}
    }
    flight.finish();
    Err(Closed)
}

/// The answer that a healthy engine would have given, in raw bytes.
struct WouldBe {
    stream: bool,
    template: Template,
}

impl WouldBe {
    fn of(asked: &Asked) -> Self {
        let body: Value = serde_json::from_slice(&asked.body).unwrap_or_default();
        let max_tokens = body.get("max_tokens").and_then(Value::as_u64).unwrap_or(u64::from(EVENTS));
        let template = Template {
            style: if asked.path == "/v1/completions" { Style::Completion } else { Style::Chat },
            id: "chatcmpl-failing".to_owned(),
            created: unix_seconds(),
            model: body.get("model").and_then(Value::as_str).unwrap_or_default().to_owned(),
            prompt_tokens: 1,
            max_tokens: max_tokens.clamp(1, 4096) as u32,
            include_usage: false,
            continuous: false,
            details: false,
        };
        Self { stream: body.get("stream") == Some(&json!(true)), template }
    }

    fn events(&self, count: u32) -> String {
        let tokens = (0..count.min(self.template.max_tokens)).map(|n| chunk(&self.template.token(n)));
        chunk(&self.template.opening()) + &tokens.collect::<String>()
    }

    /// Head and `events` events, or head and half the body.
    fn part(&self, events: u32) -> Vec<u8> {
        if self.stream {
            return (stream_head() + &self.events(events)).into_bytes();
        }
        let body = self.unary_body();
        (unary_head(body.len()) + &body[..body.len() / 2]).into_bytes()
    }

    fn whole(&self) -> Vec<u8> {
        if self.stream {
            let closing = chunk(&self.template.closing(0)) + "0\r\n\r\n";
            return (stream_head() + &self.events(u32::MAX) + &closing).into_bytes();
        }
        let body = self.unary_body();
        (unary_head(body.len()) + &body).into_bytes()
    }

    fn long_length(&self) -> Vec<u8> {
        let body = self.unary_body();
        (unary_head(body.len() + 100) + &body).into_bytes()
    }

    fn with_error_event(&self, events: u32) -> Answer {
        let tokens = (0..events.min(self.template.max_tokens)).map(|n| self.template.token(n));
        let error =
            json!({"error": {"message": "simulated", "type": "InternalServerError", "param": null, "code": 500}});
        let text = self.template.opening() + &tokens.collect::<String>() + &frame(&error) + "data: [DONE]\n\n";
        let (sender, pieces) = mpsc::channel(1);
        sender.try_send(Bytes::from(text)).expect("the channel is new and has room for one");
        answer(AnswerBody::Stream(pieces), Some(EVENT_STREAM))
    }

    fn unary_body(&self) -> String {
        let content: String = (0..self.template.max_tokens).map(generate::token_text).collect();
        let choice =
            json!({"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "length"});
        json!({"id": self.template.id, "object": "chat.completion", "created": self.template.created,
            "model": self.template.model, "choices": [choice], "usage": self.template.full_usage(0)})
        .to_string()
    }
}

fn chunk(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("{:x}\r\n{text}\r\n", text.len()) }
}

fn stream_head() -> String {
    format!("HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-type: {EVENT_STREAM}\r\ntransfer-encoding: chunked\r\n\r\n")
}

fn unary_head(length: usize) -> String {
    format!("HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n")
}
