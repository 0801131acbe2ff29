//! Simulated inference engines: vLLM's HTTP API over a discrete model of an engine, with failures on command; [`triton`]
//! and [`torchserve`] with the quirks of theirs.
//!
//! [`Engine::start`] runs one on the caller's tokio runtime; several may run in a process, each on its own 127.x
//! address. [`raw`] plays scripted bytes for the quirks that no well-behaved server would show.

mod api;
mod conn;
mod driver;
pub mod fail;
mod fast;
mod metrics;
pub mod model;
pub mod raw;
mod seats;
mod server;
pub mod stats;
pub mod text;
pub mod torchserve;
pub mod triton;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub use fail::FailMode;
pub use fast::{FastConfig, FastPace};
pub use model::{ModelConfig, Pace};
pub use stats::StatsView;

/// What an engine serves and how.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Served model name.
    pub model: String,
    /// LoRA adapters loaded from the start.
    pub loras: Vec<String>,
    /// Longest prompt plus output, in tokens.
    pub max_model_len: u32,
    /// Output tokens when a request names none.
    pub default_max_tokens: u32,
    /// The engine's size and speed.
    pub engine: ModelConfig,
    /// How long an idle keep-alive connection is kept; uvicorn's default is 5 s.
    pub keep_alive: Duration,
    /// Largest request body in bytes.
    pub max_body_bytes: usize,
    /// Answer POSTs from precomputed bytes, without the model.
    pub fast: Option<FastConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            model: "sim".to_owned(),
            loras: Vec::new(),
            max_model_len: 131_072,
            default_max_tokens: 16,
            engine: ModelConfig::default(),
            keep_alive: Duration::from_secs(5),
            max_body_bytes: 64 << 20,
            fast: None,
        }
    }
}

/// Starts engines.
#[derive(Debug)]
pub struct Engine;

impl Engine {
    /// Binds and serves until the returned value is stopped or dropped. Must be called within a tokio runtime.
    pub async fn start(config: Config) -> std::io::Result<Running> {
        let listener = TcpListener::bind(config.listen).await?;
        let addr = listener.local_addr()?;
        let (jobs, driver) = driver::start(config.engine.clone());
        let shared = Arc::new(server::Shared::new(config, jobs));
        let accept = tokio::spawn(server::accept(listener, Arc::clone(&shared)));
        Ok(Running { addr, shared, accept, driver })
    }
}

/// An engine that serves. Dropping it closes its port and all its connections, as a killed process would.
#[derive(Debug)]
pub struct Running {
    /// The bound address.
    pub addr: SocketAddr,
    shared: Arc<server::Shared>,
    accept: JoinHandle<()>,
    driver: JoinHandle<()>,
}

impl Running {
    /// Counters so far, the same as `GET /sim/stats`.
    pub fn stats(&self) -> StatsView {
        self.shared.stats_view()
    }

    /// Fails the next `count` inference requests in this way, the same as `POST /sim/fail`.
    pub fn fail(&self, mode: FailMode, count: u32) {
        self.shared.fails.arm(mode, count);
    }

    /// Closes the port and every connection at once, as kill -9 does, and waits until that is done.
    pub async fn kill(mut self) {
        self.accept.abort();
        // The task ends as cancelled, which is what was asked for.
        let _ = (&mut self.accept).await;
    }

    /// Waits until no request is in flight or `limit` has passed, then does as [`Self::kill`]. Says whether all
    /// requests finished.
    pub async fn stop(self, limit: Duration) -> bool {
        let drained = tokio::time::timeout(limit, self.shared.stats.idle()).await.is_ok();
        self.kill().await;
        drained
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.accept.abort();
        self.driver.abort();
    }
}
