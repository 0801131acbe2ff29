//! Clients in pods: what they ask there and what came of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Only a request that is never answered fails by time: a machine that is busy elsewhere is slow, and nothing else.
pub const WHOLE: Duration = Duration::from_secs(60);
const STREAMED: Duration = Duration::from_secs(180);
const EVENT: &[u8] = b"data: {";

/// All that is answered to one request; it says that the connection ends with it.
pub async fn exchange(address: &str, request: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// A request for so many tokens, whole or streamed, that ends its connection.
pub fn completion(model: &str, prompt: &str, what: (u32, bool)) -> String {
    request(model, prompt, what, "close")
}

/// What becomes of its connection is its last part.
pub fn request(model: &str, prompt: &str, (tokens, stream): (u32, bool), connection: &str) -> String {
    let body = json!({"model": model, "max_tokens": tokens, "stream": stream,
        "messages": [{"role": "user", "content": prompt}]});
    let body = body.to_string();
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: {connection}\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// One that is answered whole. An error is what came instead.
pub async fn ask(address: &str, model: &str) -> Result<(), String> {
    let answer = timeout(WHOLE, exchange(address, &completion(model, "hi", (2, false)))).await;
    judged(answer.map_err(|_| format!("no answer after {WHOLE:?}"))?.map_err(|error| error.to_string())?)
}

/// Whether it is a whole answer, else what it is.
pub fn judged(answer: String) -> Result<(), String> {
    let body = answer.split_once("\r\n\r\n").and_then(|(_, body)| serde_json::from_str::<Value>(body).ok());
    let is_good = answer.starts_with("HTTP/1.1 200 ") && body.is_some_and(|body| body["choices"].is_array());
    if is_good { Ok(()) } else { Err(answer) }
}

/// How many streams are open.
#[derive(Clone, Debug, Default)]
pub struct Gauge(Arc<AtomicUsize>);

impl Gauge {
    pub fn now(&self) -> usize {
        self.0.load(Relaxed)
    }

    fn open(&self) -> IsOpen {
        self.0.fetch_add(1, Relaxed);
        IsOpen(self.0.clone())
    }
}

/// A stream, until this is dropped.
struct IsOpen(Arc<AtomicUsize>);

impl Drop for IsOpen {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// An answer whose body came in chunks, to the last one: they may end anywhere, in the midst of an event too.
fn unchunked(answer: &str) -> Option<String> {
    let (head, mut rest) = answer.split_once("\r\n\r\n")?;
    let mut whole = format!("{head}\r\n\r\n");
    loop {
        let (size, chunk) = rest.split_once("\r\n")?;
        let size = usize::from_str_radix(size, 16).ok()?;
        if size == 0 {
            return (chunk == "\r\n").then_some(whole);
        }
        whole.push_str(chunk.get(..size)?);
        rest = chunk.get(size..)?.strip_prefix("\r\n")?;
    }
}

/// One that is streamed to its end.
pub async fn stream(address: &str, model: &str, tokens: u32) -> Result<(), String> {
    streamed((address, model, tokens), &Gauge::default()).await
}

/// It is open from its first event to its end.
pub async fn streamed((address, model, tokens): (&str, &str, u32), gauge: &Gauge) -> Result<(), String> {
    let mut answer = Vec::new();
    let reading = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(completion(model, "hi", (tokens, true)).as_bytes()).await?;
        while !answer.windows(EVENT.len()).any(|bytes| bytes == EVENT) {
            if stream.read_buf(&mut answer).await? == 0 {
                return Ok(0);
            }
        }
        let _open = gauge.open();
        stream.read_to_end(&mut answer).await
    };
    let broke = match timeout(STREAMED, reading).await {
        Ok(Ok(_)) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some(format!("no end after {STREAMED:?}")),
    };
    let answer = String::from_utf8_lossy(&answer);
    let whole = unchunked(&answer);
    let is_whole = whole.as_ref().is_some_and(|text| text.trim_end().ends_with("data: [DONE]"));
    let answer = whole.unwrap_or(answer.into_owned());
    let events = answer.matches("data: {").count();
    let is_good = answer.starts_with("HTTP/1.1 200 ") && is_whole && events >= tokens as usize;
    let end = || answer.chars().skip(answer.chars().count().saturating_sub(300)).collect::<String>();
    let said = || format!("{events} of {tokens} events: … {}{}", end(), broke.as_deref().unwrap_or_default());
    if is_good && broke.is_none() { Ok(()) } else { Err(said()) }
}

/// Where a client is and whom it asks.
#[derive(Clone)]
pub struct Place {
    /// Of a pod, as `ip netns` knows it.
    pub namespace: String,
    pub address: String,
}
