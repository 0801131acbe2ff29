//! The engine of the scheduler's simulation (dataplane/core/tests/sim), as it is, for its cache.

/// What it is asked with there.
pub(crate) mod workload {
    pub(crate) const UNIT_TOKENS: u32 = 256;

    #[derive(Debug, Clone)]
    pub(crate) struct Arrival {
        pub(crate) at_ms: u64,
        pub(crate) chain: Vec<u64>,
        pub(crate) answer_tokens: u32,
    }
}

#[allow(dead_code, reason = "only its cache is asked")]
#[path = "../../../dataplane/core/tests/sim/engine.rs"]
mod engine;

use engine::Engine;
use workload::{Arrival, UNIT_TOKENS};

/// Serves requests one after the other; a chain of units stands for a prompt's blocks.
pub(crate) struct Simulation {
    engine: Engine,
    /// The number of a block is its place here: it is that of the text up to its end.
    texts: Vec<String>,
}

impl Simulation {
    pub(crate) fn new(blocks: usize) -> Self {
        Self { engine: Engine::new(blocks, 1), texts: Vec::new() }
    }

    /// How many leading blocks were cached.
    pub(crate) fn serve(&mut self, prompt: &str) -> usize {
        let chain = (1..=prompt.len() / 64).map(|blocks| self.number(&prompt[..blocks * 64])).collect();
        let served = self.engine.serve(&Arrival { at_ms: 0, chain, answer_tokens: 1 });
        served.hit_tokens as usize / UNIT_TOKENS as usize
    }

    fn number(&mut self, text: &str) -> u64 {
        let known = self.texts.iter().position(|one| one == text);
        let place = known.unwrap_or_else(|| {
            self.texts.push(text.to_owned());
            self.texts.len() - 1
        });
        place as u64
    }
}
