//! A client that asks for a model once whole and once as a stream, and says in a sentence what is wrong: `helm test`.

use std::fmt;
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use anyhow::Context;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

const PATH: &str = "/v1/chat/completions";
const RETRY_EVERY: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(30);

/// Whom to ask for what.
#[derive(Debug, Clone)]
pub struct Ask {
    /// HOST:PORT.
    pub target: String,
    /// The model.
    pub model: String,
    /// How long it may take until the first good answer: routes and pods come a little after they were applied.
    pub wait: Duration,
}

/// HOST:PORT as it is connected to and put into a URL. An address of IPv6 may come without brackets, as a node's does in a pod's
/// environment: what is behind the last colon is the port all the same.
pub fn target(typed: &str) -> Result<String, String> {
    let (host, port) = typed.rsplit_once(':').filter(|(host, _)| !host.is_empty()).ok_or("no HOST:PORT")?;
    port.parse::<u16>().map_err(|error| format!("{port:?} is no port: {error}"))?;
    Ok(if host.parse::<Ipv6Addr>().is_ok() { format!("[{host}]:{port}") } else { typed.to_owned() })
}

/// What came of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It may be well in a moment.
    NotYet(String),
    /// It will not be well by waiting.
    Wrong(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::NotYet(sentence) | Self::Wrong(sentence)) = self;
        f.write_str(sentence)
    }
}

impl Ask {
    /// Asks whole and streamed; the error says what is wrong, and what it was after how long.
    pub async fn run(&self) -> anyhow::Result<()> {
        let until = Instant::now() + self.wait;
        for stream in [false, true] {
            let how = if stream { "streamed" } else { "whole" };
            self.until_good(stream, until).await.with_context(|| {
                format!("model {} at {}{PATH}, {how}, within {:?}", self.model, self.target, self.wait)
            })?;
            println!("{}: {how}: ok", self.target);
        }
        Ok(())
    }

    async fn until_good(&self, stream: bool, until: Instant) -> anyhow::Result<()> {
        loop {
            let fault = match timeout(PATIENCE, self.once(stream)).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(fault)) => fault,
                Err(_) => Fault::NotYet(format!("no whole answer after {PATIENCE:?}")),
            };
            if matches!(fault, Fault::Wrong(_)) || Instant::now() + RETRY_EVERY > until {
                anyhow::bail!("{fault}");
            }
            sleep(RETRY_EVERY).await;
        }
    }

    async fn once(&self, stream: bool) -> Result<(), Fault> {
        let (status, body) = self.exchange(stream).await?;
        judge(status, &body, stream)
    }

    async fn exchange(&self, stream: bool) -> Result<(StatusCode, Bytes), Fault> {
        let not_yet = |what: &str, error: &dyn fmt::Display| Fault::NotYet(format!("{what}: {error}"));
        let socket = TcpStream::connect(&self.target).await;
        let socket =
            socket.map_err(|error| not_yet("cannot connect (is the Service there, and a pod ready?)", &error))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(socket)).await.map_err(|error| not_yet("no HTTP", &error))?;
        let driven = tokio::spawn(connection);
        let body = json!({"model": self.model, "stream": stream, "max_tokens": 8,
            "messages": [{"role": "user", "content": "Say hello to helm."}]});
        let request = Request::post(PATH).header(HOST, &self.target).header(CONTENT_TYPE, "application/json");
        let request = request.body(Full::new(Bytes::from(body.to_string())));
        let request = request.map_err(|error| Fault::Wrong(format!("{} is no host: {error}", self.target)))?;
        let answer = sender.send_request(request).await.map_err(|error| not_yet("the connection broke", &error))?;
        let status = answer.status();
        let body = answer.into_body().collect().await.map_err(|error| not_yet("the answer was cut off", &error))?;
        driven.abort();
        Ok((status, body.to_bytes()))
    }
}

/// Whether an answer is what was asked for.
pub fn judge(status: StatusCode, body: &[u8], stream: bool) -> Result<(), Fault> {
    let text = String::from_utf8_lossy(body);
    if status != StatusCode::OK {
        return Err(refusal(status, &text));
    }
    let is_whole = |text: &str| {
        let answer: Value = serde_json::from_str(text).unwrap_or_default();
        answer["choices"][0]["message"]["content"].is_string()
    };
    let is_ended = |text: &str| text.trim_end().ends_with("data: [DONE]") && text.contains("\"delta\"");
    match stream {
        false if is_whole(&text) => Ok(()),
        true if is_ended(&text) => Ok(()),
        false => Err(Fault::Wrong(format!("200, but no chat completion: {}", start(&text)))),
        true => {
            Err(Fault::Wrong(format!("200, but the stream has no event or does not end with [DONE]: {}", start(&text))))
        }
    }
}

fn refusal(status: StatusCode, text: &str) -> Fault {
    let hint = match status.as_u16() {
        404 => "no ModelRoute answers for the model; see its conditions: kubectl get modelroutes -A",
        502..=504 => "the route has no engine that answers; see kubectl get modelservers -A and the engines' pods",
        429 => "the engines or a limit are full",
        _ => return Fault::Wrong(format!("{status}: {}", start(text))),
    };
    Fault::NotYet(format!("{status} ({hint}): {}", start(text)))
}

/// As much of an answer as a person reads.
fn start(text: &str) -> String {
    text.chars().take(300).collect()
}
