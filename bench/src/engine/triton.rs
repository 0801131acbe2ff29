//! A simulated Triton: HTTP on one port, metrics on another, and the quirks of both.
//!
//! Its models are those of the recordings: a unary one answers `echo: TEXT` after `delay_ms`, with instances and a queue;
//! a decoupled one streams `max_tokens` tokens, `itl_ms` apart, from a thread of its own, so that it never waits and no
//! metric tells how many streams run. The prompts `fail`, `raise` and `unavailable` fail as they do there.

mod infer;
mod metrics;
mod repository;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::stats::{Stats, StatsView};
use super::wire::{self, After, Asked, Fault, Limits, Site, head};
use repository::Loaded;

/// What it serves and where.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where its metrics are.
    pub metrics: SocketAddr,
    /// Its repository.
    pub models: Vec<Model>,
}

/// One model of the repository.
#[derive(Debug, Clone)]
pub struct Model {
    /// Its name.
    pub name: String,
    /// Whether it answers with as many responses as it likes.
    pub decoupled: bool,
    /// Requests that run at once; a decoupled model has no such bound.
    pub instances: usize,
    /// Requests that may wait; more are refused.
    pub queue: usize,
    /// What has waited longer is refused when its turn comes.
    pub queue_timeout: Option<Duration>,
    /// Whether it can be loaded.
    pub loads: bool,
}

impl Model {
    /// A unary model with one instance.
    pub fn unary(name: &str) -> Self {
        let name = name.to_owned();
        Self { name, decoupled: false, instances: 1, queue: usize::MAX, queue_timeout: None, loads: true }
    }

    /// A model that streams.
    pub fn streaming(name: &str) -> Self {
        Self { decoupled: true, ..Self::unary(name) }
    }
}

/// A Triton that serves. Dropping it closes its ports and connections, as a killed process would.
#[derive(Debug)]
pub struct Running {
    /// Where it answers.
    pub addr: SocketAddr,
    /// Where its metrics are.
    pub metrics: SocketAddr,
    triton: Arc<Triton>,
    tasks: [JoinHandle<()>; 2],
}

impl Running {
    /// Counters so far.
    pub fn stats(&self) -> StatsView {
        self.triton.stats.view()
    }

    /// Waits until no request is in flight or `limit` has passed, then ends. Says whether all requests finished.
    pub async fn stop(self, limit: Duration) -> bool {
        tokio::time::timeout(limit, self.triton.stats.idle()).await.is_ok()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Binds and serves until the returned value is dropped. Must be called within a tokio runtime.
pub async fn start(config: Config) -> io::Result<Running> {
    let http = TcpListener::bind(config.listen).await?;
    let metrics = TcpListener::bind(config.metrics).await?;
    let (addr, metrics_addr) = (http.local_addr()?, metrics.local_addr()?);
    let models = config.models.into_iter().map(Loaded::new).collect();
    let triton = Arc::new(Triton { models, stats: Arc::new(Stats::new()) });
    let tasks = [
        tokio::spawn(wire::accept(http, Arc::clone(&triton), Port::Http)),
        tokio::spawn(wire::accept(metrics, Arc::clone(&triton), Port::Metrics)),
    ];
    Ok(Running { addr, metrics: metrics_addr, triton, tasks })
}

#[derive(Debug)]
struct Triton {
    models: Vec<Loaded>,
    stats: Arc<Stats>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Port {
    Http,
    Metrics,
}

/// An answer with a length.
#[derive(Debug)]
struct Whole {
    status: u16,
    media: Media,
    body: String,
}

/// Its type, and the order of its headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Media {
    Json,
    /// JSON, too, but the server does not say so.
    Text,
    /// The metrics'.
    Exposition,
}

impl Whole {
    fn json(status: u16, body: impl Into<String>) -> Self {
        Self { status, media: Media::Json, body: body.into() }
    }

    fn text(status: u16, body: impl Into<String>) -> Self {
        Self { status, media: Media::Text, body: body.into() }
    }

    /// As an error object.
    fn error(status: u16, media: Media, message: &str) -> Self {
        Self { status, media, body: format!("{{\"error\":{}}}", serde_json::Value::from(message)) }
    }

    fn not_allowed(media: Media) -> Self {
        Self::error(405, media, "Method Not Allowed")
    }
}

impl Site for Triton {
    type Port = Port;
    // A line's name and colon come on top of the 8,191 bytes of value that are taken.
    const LIMITS: Limits = Limits { request_line: 8_191, field_line: 8_191 + 64, fields: 1 << 20, body: 256 << 20 };

    async fn answer(&self, port: Port, asked: Result<Asked, Fault>, stream: &mut TcpStream) -> io::Result<After> {
        // What it cannot read it closes without a word; a method in lower case is such.
        let Ok(asked) = asked else { return Ok(After::Close) };
        if asked.method.bytes().any(|byte| !byte.is_ascii_uppercase()) {
            return Ok(After::Close);
        }
        let manner = Manner::of(&asked);
        let whole = match port {
            Port::Metrics if asked.method != "GET" => Whole::not_allowed(Media::Text),
            Port::Metrics => {
                let known = matches!(asked.path(), "/metrics" | "/metrics/");
                let body = if known { metrics::render(&self.models) } else { String::new() };
                Whole { status: 200, media: Media::Exposition, body }
            }
            Port::Http => match self.http(&asked, manner, stream).await? {
                Some(whole) => whole,
                None => return Ok(manner.after),
            },
        };
        manner.send(whole, stream).await
    }
}

/// How the client wants to be spoken to.
#[derive(Debug, Clone, Copy)]
struct Manner {
    version: &'static str,
    /// Whether the answer says `Connection: close`.
    says_close: bool,
    after: After,
}

impl Manner {
    fn of(asked: &Asked) -> Self {
        let (close, old) = (asked.wants_close(), asked.is_http10);
        Self {
            version: if old { "HTTP/1.0" } else { "HTTP/1.1" },
            says_close: close && !old,
            after: if close || old { After::Close } else { After::Next },
        }
    }

    async fn send(self, Whole { status, media, body }: Whole, stream: &mut TcpStream) -> io::Result<After> {
        let length = ("Content-Length", Some(body.len().to_string()));
        let kind = |text: &str| ("Content-Type", Some(text.to_owned()));
        let close = ("Connection", self.says_close.then(|| "close".to_owned()));
        let fields = match media {
            Media::Json => [kind("application/json"), length, close],
            Media::Text => [length, kind("text/plain"), close],
            Media::Exposition => [kind("text/plain; charset=utf-8"), length, close],
        };
        let answer = head(self.version, (status, reason(status)), &fields) + &body;
        stream.write_all(answer.as_bytes()).await?;
        Ok(self.after)
    }

    /// The head of an answer in chunks.
    fn chunked(self, status: u16, kind: &str) -> String {
        let fields = [
            ("Content-Type", Some(kind.to_owned())),
            ("Transfer-Encoding", Some("chunked".to_owned())),
            ("Connection", self.says_close.then(|| "close".to_owned())),
        ];
        head(self.version, (status, reason(status)), &fields)
    }
}

impl Triton {
    /// The answer; none where it has been written already.
    async fn http(&self, asked: &Asked, manner: Manner, stream: &mut TcpStream) -> io::Result<Option<Whole>> {
        let path: Vec<&str> = asked.path().trim_start_matches("http://").split('/').skip(1).collect();
        let get = |whole: Whole| if asked.method == "GET" { whole } else { Whole::not_allowed(Media::Text) };
        Ok(Some(match path[..] {
            ["v2", "health", "live"] => get(Whole::text(200, "")),
            ["v2", "health", "ready"] => get(Whole::text(if self.is_ready() { 200 } else { 400 }, "")),
            ["v2"] => get(Whole::json(200, repository::SERVER)),
            ["v2", "repository", "index"] => self.index(asked),
            ["v2", "repository", "models", model, verb @ ("load" | "unload")] => {
                self.load(asked, model, verb == "load")
            }
            ["v2", "models", model] => get(self.metadata(model)),
            ["v2", "models", model, "ready"] | ["v2", "models", model, "versions", _, "ready"] => {
                let ready = self.model(model).is_some_and(Loaded::is_ready);
                get(if ready {
                    Whole::text(200, "")
                } else {
                    Whole::error(400, Media::Text, "Model version not ready")
                })
            }
            ["v2", "models", model, "versions", version, verb @ ("infer" | "generate" | "generate_stream")] => {
                return self.run(asked, (model, Some(version), verb), manner, stream).await;
            }
            ["v2", "models", model, verb @ ("infer" | "generate" | "generate_stream")] => {
                return self.run(asked, (model, None, verb), manner, stream).await;
            }
            _ => Whole::error(404, Media::Text, "Not Found"),
        }))
    }

    fn model(&self, name: &str) -> Option<&Loaded> {
        self.models.iter().find(|model| model.config.name == name)
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Not Allowed",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        _ => "Internal Server Error",
    }
}
