//! Answers from precomputed bytes, for benchmarks in which the engine must not be the bottleneck. A connection whose
//! request is anything but a plain POST goes on under the full server.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use memchr::memmem;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::conn::{peer_left, write_all};
use super::server::Shared;
use super::stats::Flight;

const HEAD_LIMIT: usize = 64 << 10;
/// Stands for a number in a precomputed text: as many digits as a u64 has.
const BLANK: &str = "10000000000000000000";
/// The keys that matter stand near an end of a body; its middle is prompt.
const EDGE: usize = 512;

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
    /// Events carry `"sent_ns"`, their own send time by CLOCK_MONOTONIC.
    pub stamp: bool,
}

impl Default for FastConfig {
    fn default() -> Self {
        Self {
            events: 100,
            event_text_bytes: 4,
            unary_bytes: 1024,
            pace: FastPace::Immediate { per_write: 1 },
            stamp: false,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Fast {
    unary: Patched,
    head: Bytes,
    event: Patched,
    usage: Patched,
    tail: Bytes,
    events: u32,
    pace: FastPace,
}

/// Precomputed bytes with one number to fill in: digits of a fixed width, led by blanks, so that no length changes.
#[derive(Debug)]
struct Patched {
    bytes: Bytes,
    digits: Option<Range<usize>>,
}

impl Patched {
    /// The number is what stands as [`BLANK`] in the text; none where it does not.
    fn new(text: String) -> Self {
        let digits = memmem::find(text.as_bytes(), BLANK.as_bytes()).map(|at| at..at + BLANK.len());
        Self { bytes: text.into(), digits }
    }

    /// Appends the bytes with this number in its place.
    fn write(&self, out: &mut Vec<u8>, number: impl FnOnce() -> u64) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        let Some(digits) = &self.digits else { return };
        let place = &mut out[start + digits.start..start + digits.end];
        place.fill(b' ');
        let mut left = number();
        for byte in place.iter_mut().rev() {
            *byte = b'0' + (left % 10) as u8;
            left /= 10;
            if left == 0 {
                return;
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ask {
    stream: bool,
    usage: bool,
    events: u32,
    prompt_tokens: u64,
}

enum Arrived {
    Request { end: usize },
    Other,
    Closed,
}

impl Fast {
    pub(crate) fn new(config: &FastConfig, model: &str) -> Self {
        let chunk = |payload: &str| format!("{:x}\r\n{payload}\r\n", payload.len());
        let envelope = |choices: &str| {
            format!(
                "{{\"id\":\"chatcmpl-fast\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":{},\"choices\":[{choices}]",
                json!(model)
            )
        };
        let text = "x".repeat(config.event_text_bytes);
        let event = envelope(&format!(
            "{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}},\"logprobs\":null,\"finish_reason\":null}}"
        ));
        let stamp = if config.stamp { format!(",\"sent_ns\":{BLANK}") } else { String::new() };
        let usage = format!("{},\"usage\":{{\"prompt_tokens\":{BLANK},\"completion_tokens\":16}}}}", envelope(""));
        Self {
            unary: unary(config.unary_bytes, model),
            head: "HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n".into(),
            event: Patched::new(chunk(&format!("data: {event}{stamp}}}\n\n"))),
            usage: Patched::new(chunk(&format!("data: {usage}\n\n"))),
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
        let mut out = Vec::new();
        loop {
            let end = match arrive(stream, &mut bytes, shared).await {
                Ok(Arrived::Request { end }) => end,
                Ok(Arrived::Other) => return Some(bytes.freeze()),
                Ok(Arrived::Closed) | Err(_) => return None,
            };
            let ask = self.ask(&bytes[..end]);
            bytes.advance(end);
            let flight = Flight::begin(Arc::clone(&shared.stats));
            let sent = if ask.stream {
                self.stream(stream, ask, &mut ticked).await
            } else {
                out.clear();
                self.unary.write(&mut out, || ask.prompt_tokens);
                write_all(stream, &out).await
            };
            // A failed write means that the client left: the flight, dropped unfinished, counts it.
            sent.ok()?;
            flight.finish();
        }
    }

    fn ask(&self, request: &[u8]) -> Ask {
        let body = memmem::find(request, b"\r\n\r\n").map_or(request, |at| &request[at + 4..]);
        let value = |key: &[u8]| {
            let edge = body.len().min(EDGE);
            let (first, last) = (&body[..edge], &body[body.len() - edge..]);
            let found = |part: &'_ [u8]| memmem::find(part, key).map(|at| at + key.len());
            let tail = found(first).map(|at| &first[at..]).or_else(|| found(last).map(|at| &last[at..]));
            tail.map(<[u8]>::trim_ascii_start)
        };
        let is_true = |key| value(key).is_some_and(|value| value.starts_with(b"true"));
        let events = value(b"\"max_tokens\":").and_then(|value| {
            let digits = value.iter().take_while(|byte| byte.is_ascii_digit()).count();
            std::str::from_utf8(&value[..digits]).ok()?.parse().ok()
        });
        let stream = is_true(b"\"stream\":");
        Ask {
            stream,
            usage: stream && is_true(b"\"include_usage\":"),
            events: events.unwrap_or(self.events).max(1),
            // As a proxy expects it of text: four bytes a token.
            prompt_tokens: (body.len() / 4).max(1) as u64,
        }
    }

    async fn stream(&self, stream: &TcpStream, ask: Ask, ticked: &mut watch::Receiver<()>) -> io::Result<()> {
        if let FastPace::Immediate { per_write } = self.pace {
            return self.stream_at_once(stream, ask, per_write.max(1)).await;
        }
        let gap = if let FastPace::Gap(gap) = self.pace { gap } else { Duration::MAX };
        let mut due = tokio::time::Instant::now();
        let mut out = self.head.to_vec();
        self.event.write(&mut out, now_ns);
        write_all(stream, &out).await?;
        ticked.mark_unchanged();
        for _ in 1..ask.events {
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
            out.clear();
            self.event.write(&mut out, now_ns);
            write_all(stream, &out).await?;
        }
        out.clear();
        self.end(&mut out, ask);
        write_all(stream, &out).await
    }

    async fn stream_at_once(&self, stream: &TcpStream, ask: Ask, per_write: u32) -> io::Result<()> {
        let mut out = self.head.to_vec();
        let mut left = ask.events;
        while left > 0 {
            let now = left.min(per_write);
            left -= now;
            (0..now).for_each(|_| self.event.write(&mut out, now_ns));
            if left == 0 {
                self.end(&mut out, ask);
            }
            write_all(stream, &out).await?;
            out.clear();
        }
        Ok(())
    }

    fn end(&self, out: &mut Vec<u8>, ask: Ask) {
        if ask.usage {
            self.usage.write(out, || ask.prompt_tokens);
        }
        out.extend_from_slice(&self.tail);
    }
}

/// The clock that the load generator reads.
fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
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

fn unary(size: usize, model: &str) -> Patched {
    let body = |text: &str| {
        format!(
            "{{\"id\":\"chatcmpl-fast\",\"object\":\"chat.completion\",\"created\":1700000000,\"model\":{},\"choices\":[{{\"index\":0,\
             \"message\":{{\"role\":\"assistant\",\"content\":\"{text}\"}},\"logprobs\":null,\"finish_reason\":\"stop\"}}],\
             \"usage\":{{\"prompt_tokens\":{BLANK},\"completion_tokens\":16}}}}",
            json!(model)
        )
    };
    let envelope = body("").len();
    let body = body(&"x".repeat(size.saturating_sub(envelope)));
    Patched::new(format!(
        "HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-length: {}\r\ncontent-type: application/json\r\n\r\n{body}",
        body.len()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unary_answers_have_the_asked_size_and_say_how_long_the_prompt_was() {
        let check = |size: usize, tokens: u64| {
            let mut answer = Vec::new();
            unary(size, "m").write(&mut answer, || tokens);
            let body = &answer[memmem::find(&answer, b"\r\n\r\n").unwrap() + 4..];
            assert_eq!((body.len(), content_length(&answer)), (size, Some(size)));
            let body: serde_json::Value = serde_json::from_slice(body).unwrap();
            assert_eq!(body["usage"]["prompt_tokens"], tokens);
        };
        check(1024, 0);
        check(1024, 250);
        check(65_536, u64::MAX);
    }

    #[test]
    fn events_and_usage_are_chunks_of_json() {
        let check = |stamp: bool, sent: Option<u64>| {
            let fast = Fast::new(&FastConfig { stamp, ..FastConfig::default() }, "m");
            let mut out = Vec::new();
            fast.event.write(&mut out, || 42);
            fast.usage.write(&mut out, || 7);
            let text = String::from_utf8(out).unwrap();
            let data: Vec<serde_json::Value> = (text.lines().filter_map(|line| line.strip_prefix("data: ")))
                .map(|data| serde_json::from_str(data).unwrap())
                .collect();
            assert_eq!(data[0]["sent_ns"].as_u64(), sent);
            assert_eq!(
                (data[1]["usage"]["prompt_tokens"].as_u64(), data[1]["choices"].as_array().unwrap().len()),
                (Some(7), 0)
            );
        };
        check(false, None);
        check(true, Some(42));
    }

    #[test]
    fn a_request_says_stream_usage_and_events() {
        let fast = Fast::new(&FastConfig::default(), "m");
        let check = |body: &str, expected: (bool, bool, u32)| {
            let ask = fast.ask(body.as_bytes());
            assert_eq!((ask.stream, ask.usage, ask.events), expected, "{body}");
        };
        check("{}", (false, false, 100));
        check(r#"{"stream":true,"max_tokens":7}"#, (true, false, 7));
        check(r#"{"max_tokens" :3,"stream": false}"#, (false, false, 100));
        check(r#"{"stream": true}"#, (true, false, 100));
        check(r#"{"stream":true,"stream_options":{"include_usage":true}}"#, (true, true, 100));
        let long = "x".repeat(2000);
        check(
            &format!(r#"{{"stream":true,"p":"{long}","max_tokens":9,"stream_options":{{"include_usage": true}}}}"#),
            (true, true, 9),
        );
    }
}
