//! Clients that each make a connection, ask once and say precisely how it ended: before the answer began, or within it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::ensure;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Reasons kept of requests that failed.
const REASONS: usize = 10;

/// What is asked, and of whom.
#[derive(Debug, Clone)]
pub struct Question {
    /// The proxy.
    pub target: SocketAddr,
    /// The model.
    pub model: String,
    /// Whether the answer is a stream.
    pub stream: bool,
    /// Its length.
    pub max_tokens: u32,
    /// For the whole exchange.
    pub limit: Duration,
}

/// How an exchange ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Well.
    Whole,
    /// The answer began and did not end as it should.
    Cut(String),
    /// No answer of success began.
    Failed(String),
}

/// How many ended how.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Counts {
    /// Sent.
    pub sent: u64,
    /// Ended well.
    pub whole: u64,
    /// Broke off after the answer had begun.
    pub cut: u64,
    /// Got no answer of success.
    pub failed: u64,
    /// The first reasons of both.
    pub reasons: Vec<String>,
}

impl Counts {
    /// Counts those that have ended.
    pub(super) fn collect(&mut self, open: &mut JoinSet<End>) {
        while let Some(end) = open.try_join_next() {
            self.add(end.unwrap_or_else(|error| End::Failed(error.to_string())));
        }
    }

    fn add(&mut self, end: End) {
        let reason = match end {
            End::Whole => {
                self.whole += 1;
                return;
            }
            End::Cut(reason) => {
                self.cut += 1;
                format!("cut: {reason}")
            }
            End::Failed(reason) => {
                self.failed += 1;
                format!("failed: {reason}")
            }
        };
        if self.reasons.len() < REASONS {
            self.reasons.push(reason);
        }
    }
}

/// Asks once, on a connection of its own. `begun` is called when a good head has come.
pub async fn ask(question: &Question, begun: impl FnOnce()) -> End {
    let mut had_begun = false;
    let begun = || {
        had_begun = true;
        begun();
    };
    let ended = tokio::time::timeout(question.limit, exchange(question, begun)).await;
    let ended = ended.unwrap_or_else(|_| Err(anyhow::anyhow!("not ended after {:?}", question.limit)));
    match ended {
        Ok(()) => End::Whole,
        Err(error) if had_begun => End::Cut(format!("{error:#}")),
        Err(error) => End::Failed(format!("{error:#}")),
    }
}

async fn exchange(question: &Question, begun: impl FnOnce()) -> anyhow::Result<()> {
    let mut answer = send(question.target, request(question)?).await?;
    if answer.status().is_success() {
        begun();
    }
    let (mut last, status) = (Bytes::new(), answer.status());
    while let Some(frame) = answer.frame().await {
        last = frame?.into_data().unwrap_or(last);
    }
    ensure!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&last));
    ensure!(!question.stream || last.ends_with(b"data: [DONE]\n\n"), "a stream without its [DONE]");
    Ok(())
}

async fn send(target: SocketAddr, request: Request<Full<Bytes>>) -> anyhow::Result<Response<hyper::body::Incoming>> {
    Ok(connect(target).await?.send_request(request).await?)
}

async fn connect(target: SocketAddr) -> anyhow::Result<http1::SendRequest<Full<Bytes>>> {
    let socket = TcpStream::connect(target).await?;
    socket.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
    // What the connection has to say is in the answer's own errors.
    tokio::spawn(connection);
    Ok(sender)
}

fn request(question: &Question) -> anyhow::Result<Request<Full<Bytes>>> {
    let body = json!({"model": question.model, "stream": question.stream, "max_tokens": question.max_tokens,
        "messages": [{"role": "user", "content": "What does an inference router do?"}]});
    Ok(Request::post("/v1/chat/completions")
        .header("host", question.target.to_string())
        .header("content-type", "application/json")
        .body(Full::from(body.to_string()))?)
}

/// A connection that is kept from question to question.
#[derive(Debug)]
pub struct Kept {
    target: SocketAddr,
    sender: http1::SendRequest<Full<Bytes>>,
}

impl Kept {
    /// Connects.
    pub async fn open(target: SocketAddr) -> anyhow::Result<Self> {
        Ok(Self { target, sender: connect(target).await? })
    }

    /// The status and body of a GET. An error where the connection has ended: it is not opened again.
    pub async fn get(&mut self, path: &str) -> anyhow::Result<(u16, Bytes)> {
        let request = Request::get(path).header("host", self.target.to_string()).body(Full::default())?;
        self.sender.ready().await?;
        let answer = self.sender.send_request(request).await?;
        Ok((answer.status().as_u16(), answer.into_body().collect().await?.to_bytes()))
    }
}

/// The status and body of a GET.
pub async fn get(target: SocketAddr, path: &str) -> anyhow::Result<(u16, Bytes)> {
    let request = Request::get(path).header("host", target.to_string()).body(Full::default())?;
    let answer = send(target, request).await?;
    Ok((answer.status().as_u16(), answer.into_body().collect().await?.to_bytes()))
}

/// Asks these questions in turn, `rate` times a second, on schedule whatever the answers do, until `stop` says so; then waits for what is open.
pub async fn open_loop(questions: &[Question], rate: f64, mut stop: impl FnMut() -> bool) -> Counts {
    let (mut counts, mut open) = (Counts::default(), JoinSet::new());
    let start = Instant::now();
    for question in questions.iter().cycle() {
        let due = start + Duration::from_secs_f64(counts.sent as f64 / rate);
        tokio::time::sleep_until(due.into()).await;
        if stop() {
            break;
        }
        counts.sent += 1;
        let question = question.clone();
        open.spawn(async move { ask(&question, || ()).await });
        counts.collect(&mut open);
    }
    finish(open, &mut counts).await;
    counts
}

/// Starts `count` exchanges at once and calls `begun` as each begins; the value is waited for with [`finish`].
pub fn together(question: &Question, count: usize, begun: impl Fn() + Clone + Send + 'static) -> JoinSet<End> {
    let mut open = JoinSet::new();
    for _ in 0..count {
        let (question, begun) = (question.clone(), begun.clone());
        open.spawn(async move { ask(&question, begun).await });
    }
    open
}

/// Waits for what is open and counts how it ends.
pub async fn finish(mut open: JoinSet<End>, counts: &mut Counts) {
    while let Some(end) = open.join_next().await {
        counts.add(end.unwrap_or_else(|error| End::Failed(error.to_string())));
    }
}
