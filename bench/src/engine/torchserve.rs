//! A simulated TorchServe: inference, management and metrics on three ports, and the quirks of all.
//!
//! Its models run the handler of the recordings: `max_tokens` tokens, `itl_ms` apart, whole or streamed, by workers behind
//! a queue. The prompts `raise`, `fail` and `status` fail as they do there. An error answer is followed by a reset,
//! `Connection: close` is not listened to, and nothing that the client does stops what runs.

mod management;
mod metrics;
mod predict;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::stats::{Stats, StatsView};
use super::wire::{self, After, Asked, Fault, Limits, Site, head};
use metrics::Meters;
use predict::Served;

/// What it serves and where.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where it answers; port 0 takes a free one.
    pub inference: SocketAddr,
    /// Its management API.
    pub management: SocketAddr,
    /// Its metrics.
    pub metrics: SocketAddr,
    /// What is registered.
    pub models: Vec<Model>,
    /// The token that inference and management want; none asks for none. (The real one has two of them.)
    pub token: Option<String>,
    /// Without `metrics_mode=prometheus`, which is not the default, metrics are an empty page.
    pub prometheus: bool,
}

/// A registered model.
#[derive(Debug, Clone)]
pub struct Model {
    /// Its name.
    pub name: String,
    /// Processes that run its handler.
    pub workers: usize,
    /// Requests that may wait; the real default is 100.
    pub queue: usize,
    /// A handler that takes longer loses its worker, and the request is answered 500.
    pub response_timeout: Duration,
}

impl Model {
    /// One worker, and the defaults.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), workers: 1, queue: 100, response_timeout: Duration::from_secs(120) }
    }
}

/// A TorchServe that serves. Dropping it closes its ports and connections, as a killed process would.
#[derive(Debug)]
pub struct Running {
    /// Where it answers.
    pub addr: SocketAddr,
    /// Its management API.
    pub management: SocketAddr,
    /// Its metrics.
    pub metrics: SocketAddr,
    torchserve: Arc<TorchServe>,
    tasks: [JoinHandle<()>; 3],
}

impl Running {
    /// Counters so far.
    pub fn stats(&self) -> StatsView {
        self.torchserve.stats.view()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Binds and serves until the returned value is dropped. Must be called within a tokio runtime.
pub async fn start(config: Config) -> io::Result<Running> {
    let Config { inference, management, metrics, models, token, prometheus } = config;
    let inference = TcpListener::bind(inference).await?;
    let management = TcpListener::bind(management).await?;
    let metrics = TcpListener::bind(metrics).await?;
    let models = models.into_iter().map(Served::new).collect();
    let meters = Meters::default();
    let torchserve = Arc::new(TorchServe { models, token, prometheus, meters, stats: Arc::new(Stats::new()) });
    let (addr, management_addr, metrics_addr) =
        (inference.local_addr()?, management.local_addr()?, metrics.local_addr()?);
    let serve = |listener, port| tokio::spawn(wire::accept(listener, Arc::clone(&torchserve), port));
    let tasks = [serve(inference, Port::Inference), serve(management, Port::Management), serve(metrics, Port::Metrics)];
    Ok(Running { addr, management: management_addr, metrics: metrics_addr, torchserve, tasks })
}

#[derive(Debug)]
struct TorchServe {
    models: Vec<Served>,
    token: Option<String>,
    prometheus: bool,
    meters: Meters,
    stats: Arc<Stats>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Port {
    Inference,
    Management,
    Metrics,
}

/// An answer with a length.
#[derive(Debug)]
struct Whole {
    status: u16,
    reason: &'static str,
    kind: Option<&'static str>,
    retry_after: Option<&'static str>,
    body: String,
}

impl Whole {
    fn json(body: impl Into<String>) -> Self {
        let kind = Some("application/json");
        Self { status: 200, reason: "OK", kind, retry_after: None, body: body.into() }
    }

    /// What a handler answers: no reason, no type.
    fn handlers(status: u16, body: String) -> Self {
        Self { status, reason: "", kind: None, retry_after: None, body }
    }

    fn error(status: u16, kind: &str, message: &str) -> Self {
        let message = serde_json::Value::from(message);
        let body = format!("{{\n  \"code\": {status},\n  \"type\": \"{kind}\",\n  \"message\": {message}\n}}\n");
        Self { status, reason: reason(status), ..Self::json(body) }
    }

    fn too_large() -> Self {
        Self { status: 413, reason: reason(413), kind: None, retry_after: None, body: String::new() }
    }

    fn not_found() -> Self {
        let message = "Requested resource is not found, please refer to API document.";
        Self::error(404, "ResourceNotFoundException", message)
    }

    fn not_allowed() -> Self {
        let message = "Requested method is not allowed, please refer to API document.";
        Self::error(405, "MethodNotAllowedException", message)
    }

    /// Its head, and its body unless only the head was asked for.
    fn bytes(&self, only_head: bool) -> String {
        let text = |text: &str| Some(text.to_owned());
        let fields = [
            ("content-type", self.kind.and_then(text)),
            ("retry-after", self.retry_after.and_then(text)),
            ("x-request-id", Some(request_id())),
            ("Pragma", text("no-cache")),
            ("Cache-Control", text(CACHE_CONTROL)),
            ("Expires", text(EXPIRES)),
            ("content-length", Some(self.body.len().to_string())),
            ("connection", text(if self.status >= 400 { "close" } else { "keep-alive" })),
        ];
        let head = head("HTTP/1.1", (self.status, self.reason), &fields);
        if only_head { head } else { head + &self.body }
    }
}

const CACHE_CONTROL: &str = "no-cache; no-store, must-revalidate, private";
const EXPIRES: &str = "Thu, 01 Jan 1970 00:00:00 UTC";

impl Site for TorchServe {
    type Port = Port;
    const LIMITS: Limits = Limits { request_line: 4_096, field_line: 8_191, fields: 24 << 10, body: 6_553_500 };

    async fn answer(&self, port: Port, asked: Result<Asked, Fault>, stream: &mut TcpStream) -> io::Result<After> {
        let (whole, only_head) = match asked {
            Err(Fault::Body) => (Whole::too_large(), false),
            Err(_) => (Whole::error(400, "BadRequestException", "Invalid HTTP message."), false),
            Ok(mut asked) => {
                asked.method.make_ascii_uppercase();
                let only_head = asked.method == "HEAD";
                match self.port(port, &asked, stream).await? {
                    Ok(whole) => (whole, only_head),
                    Err(after) => return Ok(after),
                }
            }
        };
        self.meters.answered(whole.status);
        stream.write_all(whole.bytes(only_head).as_bytes()).await?;
        Ok(if whole.status >= 400 { After::Reset } else { After::Next })
    }
}

impl TorchServe {
    /// The answer, or what becomes of the connection where it has been written already.
    async fn port(&self, port: Port, asked: &Asked, stream: &mut TcpStream) -> io::Result<Result<Whole, After>> {
        if port != Port::Metrics && !self.may(asked) {
            let message = "Token Authorization failed. Token either incorrect, expired, or not provided correctly";
            return Ok(Ok(Whole::error(400, "InvalidKeyException", message)));
        }
        let path = asked.path().strip_suffix('/').unwrap_or(asked.path());
        Ok(Ok(match port {
            Port::Management => self.manage(asked, path),
            Port::Metrics if path == "/metrics" => {
                let body = if self.prometheus { self.meters.render(&self.models) } else { String::new() };
                Whole { kind: Some("text/plain; version=0.0.4; charset=utf-8"), ..Whole::json(body) }
            }
            Port::Metrics => Whole::not_found(),
            // It says so while models load, and while they fail to.
            Port::Inference if path == "/ping" => Whole::json("{\n  \"status\": \"Healthy\"\n}\n"),
            Port::Inference if path.is_empty() => Whole::not_allowed(),
            Port::Inference => return self.infer(asked, path, stream).await,
        }))
    }

    fn may(&self, asked: &Asked) -> bool {
        let given = asked.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        self.token.as_deref().is_none_or(|token| given == Some(token))
    }

    fn model(&self, name: &str) -> Result<&Served, Whole> {
        let found = self.models.iter().find(|model| model.config.name == name);
        found.ok_or_else(|| Whole::error(404, "ModelNotFoundException", &format!("Model not found: {name}")))
    }
}

/// A UUID: it takes the place of the client's.
fn request_id() -> String {
    use std::hash::{BuildHasher, RandomState};
    let (a, b) = (RandomState::new().hash_one(0), RandomState::new().hash_one(1));
    let (group, variant) = (a >> 16 & 0xffff, 0x8000 | (b >> 48 & 0x3fff));
    format!("{:08x}-{group:04x}-4{:03x}-{variant:04x}-{:012x}", a >> 32, a & 0xfff, b & 0xffff_ffff_ffff)
}

fn reason(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        413 => "Request Entity Too Large",
        503 => "Service Unavailable",
        _ => "Internal Server Error",
    }
}
