//! The simulated engines as a program, linked static (`.ci/rustc`).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context;
use bench::engine::{Config, Engine, FastConfig, FastPace, KvConfig, ModelConfig, Pace, torchserve, triton};
use clap::{Parser, ValueEnum};

/// Whose APIs it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Vllm,
    Triton,
    Torchserve,
}

/// A simulated inference engine: vLLM, or Triton or TorchServe with the models of their recordings. Options that do not
/// name a kind are vLLM's.
#[derive(Debug, Parser)]
#[command(name = "engine-sim", version)]
struct Args {
    /// Whose APIs it has.
    #[arg(long, value_enum, default_value = "vllm")]
    kind: Kind,
    /// Address to listen on; by default 127.0.0.1 with the kind's port: 8000, of TorchServe 8080.
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// Triton, TorchServe: address of the metrics; by default the listening IP with port 8002, of TorchServe 8082.
    #[arg(long)]
    metrics_listen: Option<SocketAddr>,
    /// TorchServe: address of the management API; by default the listening IP with port 8081.
    #[arg(long)]
    management_listen: Option<SocketAddr>,
    /// Triton: models that answer once, beside the one that streams.
    #[arg(long, value_delimiter = ',')]
    unary_models: Vec<String>,
    /// TorchServe: workers of the model.
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// TorchServe: inference and management want this token, as they do by default.
    #[arg(long)]
    token: Option<String>,
    /// TorchServe: metrics are an empty page, as they are by default.
    #[arg(long)]
    log_metrics: bool,
    /// Served model name.
    #[arg(long, default_value = "sim")]
    model: String,
    /// LoRA adapters loaded from the start.
    #[arg(long, value_delimiter = ',')]
    loras: Vec<String>,
    /// Longest prompt plus output, in tokens.
    #[arg(long, default_value_t = 131_072)]
    max_model_len: u32,
    /// Prefix cache size in blocks of 16 tokens.
    #[arg(long, default_value_t = 25_000)]
    cache_blocks: usize,
    /// Uncached prompt tokens computed per second.
    #[arg(long, default_value_t = 20_000)]
    prefill_tokens_per_s: u64,
    /// Requests in prefill or decode at once.
    #[arg(long, default_value_t = 256)]
    max_num_seqs: usize,
    /// Requests that may wait; of Triton's unary models and TorchServe's, too, where it is 100 by default.
    #[arg(long)]
    max_queue: Option<usize>,
    /// Time between a stream's tokens in microseconds.
    #[arg(long, default_value_t = 20_000)]
    gap_us: u64,
    /// Gaps per stream instead of steps that all streams share.
    #[arg(long)]
    spread: bool,
    /// Usage says how many of a prompt's tokens were cached.
    #[arg(long)]
    enable_prompt_tokens_details: bool,
    /// Idle keep-alive connections are closed after this many milliseconds.
    #[arg(long, default_value_t = 5_000)]
    keep_alive_ms: u64,
    /// Publish KV events here, as in tcp://127.0.0.1:5557.
    #[arg(long, value_parser = place)]
    kv_events: Option<SocketAddr>,
    /// Repeat KV events here.
    #[arg(long, value_parser = place, requires = "kv_events")]
    kv_replay: Option<SocketAddr>,
    /// Push load events here, as SGLang does.
    #[arg(long, value_parser = place, requires = "kv_events")]
    load_events: Option<SocketAddr>,
    /// The topic of KV events.
    #[arg(long, default_value = "", requires = "kv_events")]
    kv_topic: String,
    /// Answer from precomputed bytes, without the model.
    #[arg(long)]
    fast: bool,
    /// Fast: events per stream when the request has no max_tokens.
    #[arg(long, default_value_t = 100)]
    events: u32,
    /// Fast: bytes of text per event.
    #[arg(long, default_value_t = 4)]
    event_text_bytes: usize,
    /// Fast: bytes of a unary answer's body.
    #[arg(long, default_value_t = 1024)]
    unary_bytes: usize,
    /// Fast: no gaps, this many events in each write; overrides --gap-us.
    #[arg(long)]
    burst: Option<u32>,
    /// Fast: events say when they were sent.
    #[arg(long)]
    stamp: bool,
    /// Threads; 1 runs everything on the calling one.
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

impl Args {
    fn config(&self) -> Config {
        let gap = Duration::from_micros(self.gap_us);
        let fast_pace = match (self.burst, self.spread) {
            (Some(per_write), _) => FastPace::Immediate { per_write },
            (None, true) => FastPace::Gap(gap),
            (None, false) => FastPace::Batch(gap.max(Duration::from_micros(1))),
        };
        Config {
            listen: self.listen(),
            model: self.model.clone(),
            loras: self.loras.clone(),
            max_model_len: self.max_model_len,
            keep_alive: Duration::from_millis(self.keep_alive_ms),
            prompt_tokens_details: self.enable_prompt_tokens_details,
            engine: ModelConfig {
                cache_blocks: self.cache_blocks,
                prefill_tokens_per_s: self.prefill_tokens_per_s,
                max_num_seqs: self.max_num_seqs,
                max_queue: self.max_queue.unwrap_or(10_000),
                pace: if self.spread { Pace::Stream(self.gap_us) } else { Pace::Batch(self.gap_us) },
            },
            fast: self.fast.then_some(FastConfig {
                events: self.events,
                event_text_bytes: self.event_text_bytes,
                unary_bytes: self.unary_bytes,
                pace: fast_pace,
                stamp: self.stamp,
            }),
            kv: self.kv_events.map(|publish| KvConfig {
                publish,
                replay: self.kv_replay,
                load: self.load_events,
                topic: self.kv_topic.clone(),
                ..KvConfig::default()
            }),
            ..Config::default()
        }
    }

    fn listen(&self) -> SocketAddr {
        let port = if self.kind == Kind::Torchserve { 8080 } else { 8000 };
        self.listen.unwrap_or(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port))
    }

    /// Where it was asked to be, else the port beside the listening one.
    fn beside(&self, wanted: Option<SocketAddr>, port: u16) -> SocketAddr {
        wanted.unwrap_or(SocketAddr::new(self.listen().ip(), port))
    }

    fn triton(&self) -> triton::Config {
        let queue = self.max_queue.unwrap_or(usize::MAX);
        let unary = self.unary_models.iter().map(|name| triton::Model { queue, ..triton::Model::unary(name) });
        let models = std::iter::once(triton::Model::streaming(&self.model)).chain(unary).collect();
        triton::Config { listen: self.listen(), metrics: self.beside(self.metrics_listen, 8002), models }
    }

    fn torchserve(&self) -> torchserve::Config {
        let model = torchserve::Model::new(&self.model);
        let queue = self.max_queue.unwrap_or(model.queue);
        torchserve::Config {
            inference: self.listen(),
            management: self.beside(self.management_listen, 8081),
            metrics: self.beside(self.metrics_listen, 8082),
            models: vec![torchserve::Model { workers: self.workers, queue, ..model }],
            token: self.token.clone(),
            prometheus: !self.log_metrics,
        }
    }
}

/// Serves until it is told to end. vLLM and Triton finish what runs, TorchServe does not.
async fn serve(args: &Args) -> anyhow::Result<()> {
    const DRAIN: Duration = Duration::from_secs(30);
    let listening = || format!("listening on {}", args.listen());
    match args.kind {
        Kind::Vllm => {
            let running = Engine::start(args.config()).await.with_context(listening)?;
            println!("engine-sim listens on {}", running.addr);
            told_to_end().await?;
            running.stop(DRAIN).await;
        }
        Kind::Triton => {
            let running = triton::start(args.triton()).await.with_context(listening)?;
            println!("engine-sim listens on {}", running.addr);
            told_to_end().await?;
            running.stop(DRAIN).await;
        }
        Kind::Torchserve => {
            let running = torchserve::start(args.torchserve()).await.with_context(listening)?;
            println!("engine-sim listens on {}", running.addr);
            told_to_end().await?;
            drop(running);
        }
    }
    Ok(())
}

async fn told_to_end() -> anyhow::Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => {}
        result = tokio::signal::ctrl_c() => result?,
    }
    Ok(())
}

fn place(text: &str) -> Result<SocketAddr, String> {
    let place = text.strip_prefix("tcp://").ok_or("it is not of the form tcp://ADDRESS:PORT")?;
    place.parse().map_err(|error| format!("{error}"))
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let mut builder = if args.threads > 1 {
        tokio::runtime::Builder::new_multi_thread()
    } else {
        tokio::runtime::Builder::new_current_thread()
    };
    let runtime = builder.worker_threads(args.threads.max(1)).enable_all().build()?;
    runtime.block_on(serve(&args))
}
