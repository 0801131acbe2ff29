//! The simulated engine as a program.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use bench::engine::{Config, Engine, FastConfig, FastPace, KvConfig, ModelConfig, Pace};
use clap::Parser;

/// A simulated inference engine with vLLM's HTTP API.
#[derive(Debug, Parser)]
struct Args {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:8000")]
    listen: SocketAddr,
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
    /// Requests that may wait.
    #[arg(long, default_value_t = 10_000)]
    max_queue: usize,
    /// Time between a stream's tokens in microseconds.
    #[arg(long, default_value_t = 20_000)]
    gap_us: u64,
    /// Gaps per stream instead of steps that all streams share.
    #[arg(long)]
    spread: bool,
    /// Idle keep-alive connections are closed after this many milliseconds.
    #[arg(long, default_value_t = 5_000)]
    keep_alive_ms: u64,
    /// Publish KV events here, as in tcp://127.0.0.1:5557.
    #[arg(long, value_parser = place)]
    kv_events: Option<SocketAddr>,
    /// Repeat KV events here.
    #[arg(long, value_parser = place, requires = "kv_events")]
    kv_replay: Option<SocketAddr>,
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
            listen: self.listen,
            model: self.model.clone(),
            loras: self.loras.clone(),
            max_model_len: self.max_model_len,
            keep_alive: Duration::from_millis(self.keep_alive_ms),
            engine: ModelConfig {
                cache_blocks: self.cache_blocks,
                prefill_tokens_per_s: self.prefill_tokens_per_s,
                max_num_seqs: self.max_num_seqs,
                max_queue: self.max_queue,
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
                topic: self.kv_topic.clone(),
                ..KvConfig::default()
            }),
            ..Config::default()
        }
    }
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
    runtime.block_on(async {
        let running = Engine::start(args.config()).await.with_context(|| format!("listening on {}", args.listen))?;
        println!("engine-sim listens on {}", running.addr);
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! {
            _ = terminate.recv() => {}
            result = tokio::signal::ctrl_c() => result?,
        }
        running.stop(Duration::from_secs(30)).await;
        Ok(())
    })
}
