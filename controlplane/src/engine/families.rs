//! Which families of an engine's metrics say what.

use api::snapshot::Engine;

/// The names of what is read; none where the engine has no such metric. Times are histograms in seconds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Families {
    pub(super) running: Option<&'static str>,
    pub(super) waiting: Option<&'static str>,
    /// A share, 0 to 1.
    pub(super) cache_usage: Option<&'static str>,
    pub(super) ttft: Option<&'static str>,
    pub(super) tpot: Option<&'static str>,
    /// Counters of the time that requests have waited, in µs: what waits, where nothing better tells it.
    pub(super) waited_us: Option<&'static str>,
    /// Of whose labels one says how much its cache takes.
    pub(super) cache_config: Option<&'static str>,
}

const VLLM: Families = Families {
    running: Some("vllm:num_requests_running"),
    waiting: Some("vllm:num_requests_waiting"),
    cache_usage: Some("vllm:kv_cache_usage_perc"),
    ttft: Some("vllm:time_to_first_token_seconds"),
    tpot: Some("vllm:inter_token_latency_seconds"),
    waited_us: None,
    cache_config: Some("vllm:cache_config_info"),
};

const SGLANG: Families = Families {
    running: Some("sglang:num_running_reqs"),
    waiting: Some("sglang:num_queue_reqs"),
    cache_usage: Some("sglang:token_usage"),
    ttft: Some("sglang:time_to_first_token_seconds"),
    tpot: Some("sglang:inter_token_latency_seconds"),
    waited_us: None,
    cache_config: None,
};

/// Its counters of time end when a model's function returns, which says nothing of a stream's length.
const TRITON: Families = Families {
    running: None,
    waiting: Some("nv_inference_pending_request_count"),
    cache_usage: None,
    ttft: None,
    tpot: None,
    waited_us: None,
    cache_config: None,
};

/// It is read where the management API cannot be, which tells the queue itself. The counter grows when a request ends, and
/// takes in all of its time where a model batches continuously.
const TORCHSERVE: Families = Families {
    running: None,
    waiting: None,
    cache_usage: None,
    ttft: None,
    tpot: None,
    waited_us: Some("ts_queue_latency_microseconds"),
    cache_config: None,
};

/// The families of an engine.
pub(super) fn families(engine: Engine) -> &'static Families {
    match engine {
        Engine::Vllm => &VLLM,
        Engine::Sglang => &SGLANG,
        Engine::Triton => &TRITON,
        Engine::Torchserve => &TORCHSERVE,
    }
}
