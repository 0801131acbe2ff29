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
}

const VLLM: Families = Families {
    running: Some("vllm:num_requests_running"),
    waiting: Some("vllm:num_requests_waiting"),
    cache_usage: Some("vllm:kv_cache_usage_perc"),
    ttft: Some("vllm:time_to_first_token_seconds"),
    tpot: Some("vllm:inter_token_latency_seconds"),
};

const SGLANG: Families = Families {
    running: Some("sglang:num_running_reqs"),
    waiting: Some("sglang:num_queue_reqs"),
    cache_usage: Some("sglang:token_usage"),
    ttft: Some("sglang:time_to_first_token_seconds"),
    tpot: Some("sglang:inter_token_latency_seconds"),
};

/// Its counters of time end when a model's function returns, which says nothing of a stream's length.
const TRITON: Families = Families {
    running: None,
    waiting: Some("nv_inference_pending_request_count"),
    cache_usage: None,
    ttft: None,
    tpot: None,
};

/// None for TorchServe, whose metrics tell nothing of this: it is not asked.
pub(super) fn families(engine: Engine) -> Option<&'static Families> {
    match engine {
        Engine::Vllm => Some(&VLLM),
        Engine::Sglang => Some(&SGLANG),
        Engine::Triton => Some(&TRITON),
        Engine::Torchserve => None,
    }
}
