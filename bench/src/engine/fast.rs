//! Answers from precomputed bytes, for benchmarks in which the engine must not be the bottleneck. A connection whose
//! request is anything but a plain POST goes on under the full server.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use memchr::memmem;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::conn::{peer_left, write_all};
use super::server::Shared;
use super::stats::Flight;

const HEAD_LIMIT: usize = 64 << 10;

/// When the events of a stream go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FastPace {
    /// One after the other, this many per write.
    Immediate {
        /// Events in one write, at least 1.
        per_write: u32,
    },
    /// Each stream has its own clock.
    Gap(Duration),
    /// One clock for all streams: each step emits one event on every stream.
    Batch(Duration),
}

/// Shape of the precomputed answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FastConfig {
    /// Events of a stream when the request has no `max_tokens`; `[DONE]` comes on top.
    pub events: u32,
    /// Bytes of generated text in an event.
    pub event_text_bytes: usize,
    /// Size of a unary answer's body in bytes; the envelope is the least.
    pub unary_bytes: usize,
    /// Pace of streams.
    pub pace: FastPace,
}

impl Default for FastConfig {
    fn default() -> Self {
        Self { events: 100, event_text_bytes: 4, unary_bytes: 1024, pace: FastPace::Immediate { per_write: 1 } }
    }
}

#[derive(Debug)]
pub(crate) struct Fast {
    unary: Bytes,
    head: Bytes,
    event: Bytes,
    tail: Bytes,
    events: u32,
    pace: FastPace,
}

struct Ask {
    stream: bool,
    events: u32,
}

enum Arrived {
    Request { end: usize },
    Other,
    Closed,
}

impl Fast {
    pub(crate) fn new(config: &FastConfig, model: &str) -> Self {
        let chunk = |payload: &str| format!("{:x}\r\n{payload}\r\n", payload.len());
        let event = json!({"id": "chatcmpl-fast", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": model,
            "choices": [{"index": 0, "delta": {"content": "x".repeat(config.event_text_bytes)}, "logprobs": null, "finish_reason": null}]});
        Self {
            unary: unary(config.unary_bytes, model),
            head: "HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n".into(),
            event: chunk(&format!("data: {event}\n\n")).into(),
            tail: format!("{}0\r\n\r\n", chunk("data: [DONE]\n\n")).into(),
            events: config.events,
            pace: config.pace,
        }
    }

    /// The step of the common clock, if there is one.
    pub(crate) fn step(&self) -> Option<Duration> {
        if let FastPace::Batch(step) = self.pace { Some(step) } else { None }
    }

    /// Serves the connection; `Some` are bytes already read, with which the full server goes on.
    pub(crate) async fn serve(
        &self,
        stream: &TcpStream,
        shared: &Shared,
        mut ticked: watch::Receiver<()>,
    ) -> Option<Bytes> {
        let mut bytes = BytesMut::with_capacity(16 << 10);
        loop {
            let end = match arrive(stream, &mut bytes, shared).await {
                Ok(Arrived::Request { end }) => end,
                Ok(Arrived::Other) => return Some(bytes.freeze()),
                Ok(Arrived::Closed) | Err(_) => return None,
            };
            let ask = self.ask(&bytes.split_to(end));
            let flight = Flight::begin(Arc::clone(&shared.stats));
            let sent = if ask.stream {
                self.stream(stream, ask.events, &mut ticked).await
            } else {
                write_all(stream, &self.unary).await
            };
            // A failed write means that the client left: the flight, dropped unfinished, counts it.
            sent.ok()?;
            flight.finish();
        }
    }

    fn ask(&self, request: &[u8]) -> Ask {
        let value = |key: &[u8]| {
            let at = memmem::rfind(request, key)? + key.len();
            Some(request[at..].trim_ascii_start())
        };
        let events = value(b"\"max_tokens\":").and_then(|value| {
            let digits = value.iter().take_while(|byte| byte.is_ascii_digit()).count();
            std::str::from_utf8(&value[..digits]).ok()?.parse().ok()
        });
        Ask {
            stream: value(b"\"stream\":").is_some_and(|value| value.starts_with(b"true")),
            events: events.unwrap_or(self.events).max(1),
        }
    }

    async fn stream(&self, stream: &TcpStream, events: u32, ticked: &mut watch::Receiver<()>) -> io::Result<()> {
        if let FastPace::Immediate { per_write } = self.pace {
            return self.stream_at_once(stream, events, per_write.max(1)).await;
        }
        let gap = if let FastPace::Gap(gap) = self.pace { gap } else { Duration::MAX };
        let mut due = tokio::time::Instant::now();
        write_all(stream, &[&self.head[..], &self.event].concat()).await?;
        ticked.mark_unchanged();
        for _ in 1..events {
            due += gap.min(Duration::from_secs(3600));
            let next = async {
                match self.pace {
                    // The sender lives as long as the connections.
                    FastPace::Batch(_) => drop(ticked.changed().await),
                    _ => tokio::time::sleep_until(due).await,
                }
            };
            tokio::select! {
                () = next => {}
                () = peer_left(stream) => return Err(io::ErrorKind::ConnectionAborted.into()),
            }
            write_all(stream, &self.event).await?;
        }
        write_all(stream, &self.tail).await
    }

    async fn stream_at_once(&self, stream: &TcpStream, events: u32, per_write: u32) -> io::Result<()> {
        write_all(stream, &self.head).await?;
        let burst = self.event.repeat(per_write as usize);
        for _ in 0..events / per_write {
            write_all(stream, &burst).await?;
        }
        let rest = self.event.repeat((events % per_write) as usize);
        write_all(stream, &[&rest[..], &self.tail].concat()).await
    }
}

/// Waits for one whole POST with a content-length; all else is `Other`, with its bytes still in the buffer.
async fn arrive(stream: &TcpStream, bytes: &mut BytesMut, shared: &Shared) -> io::Result<Arrived> {
    let head_end = loop {
        if let Some(at) = memmem::find(bytes, b"\r\n\r\n") {
            break at + 4;
        }
        if bytes.len() > HEAD_LIMIT {
            return Ok(Arrived::Other);
        }
        if read(stream, bytes).await? == 0 {
            return Ok(Arrived::Closed);
        }
    };
    let head = &bytes[..head_end];
    let length = content_length(head);
    let plain =
        head.starts_with(b"POST /v1/") && memmem::find(head, b"x-sim-fail").is_none() && shared.fails.is_empty();
    let Some(length) = length.filter(|length| plain && *length <= shared.config.max_body_bytes) else {
        return Ok(Arrived::Other);
    };
    let end = head_end + length;
    bytes.reserve(end.saturating_sub(bytes.len()));
    while bytes.len() < end {
        if read(stream, bytes).await? == 0 {
            return Ok(Arrived::Closed);
        }
    }
    Ok(Arrived::Request { end })
}

async fn read(stream: &TcpStream, bytes: &mut BytesMut) -> io::Result<usize> {
    bytes.reserve(4096);
    loop {
        match stream.try_read_buf(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => stream.readable().await?,
            result => return result,
        }
    }
}

fn content_length(head: &[u8]) -> Option<usize> {
    head.split(|byte| *byte == b'\n').find_map(|line| {
        let (name, value) = line.split_at_checked(15)?;
        let digits = name.eq_ignore_ascii_case(b"content-length:").then(|| value.trim_ascii())?;
        std::str::from_utf8(digits).ok()?.parse().ok()
    })
}

fn unary(size: usize, model: &str) -> Bytes {
    let body = |text: String| {
        json!({"id": "chatcmpl-fast", "object": "chat.completion", "created": 1_700_000_000, "model": model,
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "logprobs": null, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 16, "total_tokens": 32, "completion_tokens": 16}})
        .to_string()
    };
    let envelope = body(String::new()).len();
    let body = body("x".repeat(size.saturating_sub(envelope)));
    format!(
        "HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-length: {}\r\ncontent-type: application/json\r\n\r\n{body}",
        body.len()
    )
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unary_answers_have_the_asked_size() {
        let check = |size: usize| {
            let answer = unary(size, "m");
            let body = &answer[memmem::find(&answer, b"\r\n\r\n").unwrap() + 4..];
            assert_eq!((body.len(), content_length(&answer)), (size, Some(size)));
        };
        check(1024);
        check(65_536);
    }

    #[test]
    fn a_request_says_stream_and_events() {
        let fast = Fast::new(&FastConfig::default(), "m");
        let check = |body: &str, expected: (bool, u32)| {
            let ask = fast.ask(body.as_bytes());
            assert_eq!((ask.stream, ask.events), expected, "{body}");
        };
        check("{}", (false, 100));
        check(r#"{"stream":true,"max_tokens":7}"#, (true, 7));
        check(r#"{"max_tokens" :3,"stream": false}"#, (false, 100));
        check(r#"{"stream": true}"#, (true, 100));
    }
}
