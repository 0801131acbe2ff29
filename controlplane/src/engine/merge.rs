//! The one place where what an engine says and what the data planes count become one load.
//!
//! Triton and TorchServe do not tell how many requests they run, nor how long the first token takes. The data planes know
//! both: they count what they sent and what has come back, and measure when a stream begins.

use api::proto::EngineLoad;

use super::reading::Said;
use crate::publish::serve::Load;

/// An endpoint's load as data planes are told it. What the fleet has outstanding there contains what waits.
pub(super) fn merge(handle: u32, said: Said, fleet: Load) -> EngineLoad {
    let Said { running, waiting, cache_usage, ttft, tpot } = said;
    EngineLoad {
        handle,
        age_ms: 0,
        running: running.unwrap_or_else(|| fleet.running.saturating_sub(waiting)),
        waiting,
        cache_usage,
        ttft: ttft.unwrap_or(fleet.ttft),
        tpot,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLEET: Load = Load { queued_tokens: 500, running: 9, ttft: 0.5, queue_depth: 4 };

    #[test]
    fn what_an_engine_does_not_tell_is_what_the_fleet_counts() {
        let triton = Said { waiting: 3, ..Said::default() };
        let load = merge(7, triton, FLEET);
        assert_eq!((load.handle, load.running, load.waiting, load.ttft), (7, 6, 3, 0.5));
        let others = Said { waiting: 12, ..Said::default() };
        assert_eq!(merge(7, others, FLEET).running, 0, "others send to it, too");
    }

    #[test]
    fn what_an_engine_tells_is_its_own() {
        let vllm = Said { running: Some(2), waiting: 1, ttft: Some(0.25), tpot: 0.01, cache_usage: 0.75 };
        let load = merge(7, vllm, FLEET);
        assert_eq!((load.running, load.waiting, load.ttft, load.tpot, load.cache_usage), (2, 1, 0.25, 0.01, 0.75));
        let idle = Said { running: Some(0), ttft: Some(0.0), ..Said::default() };
        assert_eq!(merge(7, idle, FLEET).ttft, 0.0, "it has not measured any yet");
    }
}
