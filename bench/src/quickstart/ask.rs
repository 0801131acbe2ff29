//! One streamed chat completion, printed as it comes.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

/// For the whole answer.
const LIMIT: Duration = Duration::from_secs(30);

/// Who answered, and why it was that one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// What was said.
    pub text: String,
    /// `x-kthena-endpoint`
    pub endpoint: String,
    /// `x-kthena-decision`
    pub decision: String,
    /// `x-request-id`
    pub request_id: String,
}

/// Asks, and writes the words of the answer to `out` as they come.
pub async fn ask(proxy: SocketAddr, model: &str, question: &str, out: &mut impl Write) -> anyhow::Result<Served> {
    let asked = tokio::time::timeout(LIMIT, stream(proxy, model, question, out)).await;
    asked.with_context(|| format!("the answer did not end within {LIMIT:?}"))?
}

async fn stream(proxy: SocketAddr, model: &str, question: &str, out: &mut impl Write) -> anyhow::Result<Served> {
    let socket = TcpStream::connect(proxy).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
    // What the connection has to say is in the answer's own errors.
    tokio::spawn(connection);
    let mut answer = sender.send_request(request(proxy, model, question)?).await?;
    let status = answer.status();
    let header = |name: &str| answer.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let mut served = Served {
        text: String::new(),
        endpoint: header("x-kthena-endpoint"),
        decision: header("x-kthena-decision"),
        request_id: header("x-request-id"),
    };
    let (mut pending, mut done) = (Vec::new(), false);
    while let Some(frame) = answer.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        pending.extend_from_slice(&data);
        while let Some(end) = memchr::memmem::find(&pending, b"\n\n") {
            let event: Vec<u8> = pending.drain(..end + 2).collect();
            done |= event.starts_with(b"data: [DONE]");
            let word = word(&event);
            write!(out, "{word}")?;
            out.flush()?;
            served.text += &word;
        }
    }
    ensure!(status.is_success(), "the proxy answered {status}: {}", String::from_utf8_lossy(&pending));
    ensure!(done, "the stream ended early");
    Ok(served)
}

fn request(proxy: SocketAddr, model: &str, question: &str) -> anyhow::Result<Request<Full<Bytes>>> {
    let body = json!({"model": model, "stream": true, "max_tokens": 16,
        "messages": [{"role": "user", "content": question}]});
    let request = Request::post("/v1/chat/completions")
        .header("host", proxy.to_string())
        .header("content-type", "application/json")
        .body(Full::from(body.to_string()))?;
    Ok(request)
}

/// The text that an event adds.
fn word(event: &[u8]) -> String {
    let data = event.strip_prefix(b"data: ").unwrap_or_default();
    let event: Value = serde_json::from_slice(data).unwrap_or_default();
    event["choices"][0]["delta"]["content"].as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_become_words() {
        let check = |event: &str, expected: &str| assert_eq!(word(event.as_bytes()), expected, "{event}");
        check("data: {\"choices\":[{\"delta\":{\"content\":\" the\"}}]}\n\n", " the");
        check("data: {\"choices\":[]}\n\n", "");
        check("data: [DONE]\n\n", "");
        check(": a comment\n\n", "");
    }
}
