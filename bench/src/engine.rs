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
pub mod kv;
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
pub use kv::{KvCommand, KvConfig};
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
    /// Usage says how many of a prompt's tokens were cached, as vLLM's does under `--enable-prompt-tokens-details`.
    pub prompt_tokens_details: bool,
    /// How long an idle keep-alive connection is kept; uvicorn's default is 5 s.
    pub keep_alive: Duration,
    /// Largest request body in bytes.
    pub max_body_bytes: usize,
    /// Answer POSTs from precomputed bytes, without the model.
    pub fast: Option<FastConfig>,
    /// Publish what the cache holds.
    pub kv: Option<KvConfig>,
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
            prompt_tokens_details: false,
            keep_alive: Duration::from_secs(5),
            max_body_bytes: 64 << 20,
            fast: None,
            kv: None,
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
        let publishing = match &config.kv {
            Some(kv) => Some(kv::Publishing::start(kv).await?),
            None => None,
        };
        let feed = publishing.as_ref().map(|publishing| publishing.feed.clone());
        let (jobs, driver) = driver::start(config.engine.clone(), feed);
        let load = match config.kv.as_ref().and_then(|kv| Some((kv.load?, kv.rank))) {
            Some((place, rank)) => Some(kv::LoadPublishing::start(place, rank, &config.engine, jobs.clone()).await?),
            None => None,
        };
        let published = config.kv.as_ref().zip(publishing.as_ref());
        let published = published.map(|(kv, publishing)| kv::Published::new(kv, publishing, load.as_ref()));
        let shared = Arc::new(server::Shared::new(config, jobs, published));
        let accept = tokio::spawn(server::accept(listener, Arc::clone(&shared)));
        Ok(Running { addr, shared, accept, driver, _publishing: (publishing, load) })
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
    _publishing: (Option<kv::Publishing>, Option<kv::LoadPublishing>),
}

impl Running {
    /// Counters so far, the same as `GET /sim/stats`.
    pub fn stats(&self) -> StatsView {
        self.shared.stats_view()
    }

    /// The chained hashes of all cached blocks, in no order.
    pub fn cached_blocks(&self) -> Vec<u64> {
        self.shared.jobs.cached()
    }

    /// Where it publishes KV events and where it repeats them, if it does.
    pub fn kv_places(&self) -> Option<(SocketAddr, Option<SocketAddr>)> {
        self.shared.published.as_ref().map(|published| (published.publish, published.replay))
    }

    /// Does something to those who follow its KV events, the same as `POST /sim/kv`, and waits until that is done.
    pub async fn kv(&self, command: KvCommand) {
        self.shared.kv(command).await;
    }

    /// Waits until all that happened so far is published; says how many messages there were in this life.
    pub async fn kv_settled(&self) -> u64 {
        match &self.shared.published {
            Some(published) => published.feed.settle().await,
            None => 0,
        }
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
