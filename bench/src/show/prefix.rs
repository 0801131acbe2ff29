//! Conversations over engines with small caches: how much of what one pooled cache would have held was found.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use serde::Serialize;
use serde_json::Value;

use super::client;
use crate::engine::model::{Model, ModelConfig, Totals};
use crate::engine::{Pace as TokenPace, text};
use crate::load::plan::Conversations;
use crate::load::workload::Workload;
use crate::load::{Arrival, Pace, Plan, Shape};

/// Blocks that the cache of one engine holds.
pub const CACHE_BLOCKS: usize = 8_000;
/// How fast an engine computes what it has not cached.
pub const PREFILL_TOKENS_PER_S: u64 = 20_000;

/// What was looked up and found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Hits {
    /// Requests.
    pub requests: u64,
    /// Prompt tokens looked up.
    pub query_tokens: u64,
    /// Prompt tokens found.
    pub hit_tokens: u64,
}

impl Hits {
    /// What engines have looked up and found, by their own count.
    pub async fn of(engines: &[SocketAddr]) -> anyhow::Result<Self> {
        let mut hits = Self::default();
        for &address in engines {
            let (_, body) = client::get(address, "/sim/stats").await?;
            let stats: Value = serde_json::from_slice(&body)?;
            let number = |key: &str| stats[key].as_u64().unwrap_or(0);
            hits.requests += number("requests");
            hits.query_tokens += number("query_tokens");
            hits.hit_tokens += number("hit_tokens");
        }
        Ok(hits)
    }

    /// Found of looked up.
    pub fn share(&self) -> f64 {
        self.hit_tokens as f64 / self.query_tokens as f64
    }
}

/// The conversations: 32 system prompts of 1k tokens, 160 at a time, 8 turns of 384 tokens each.
pub fn plan(target: SocketAddr, model: &str, rate: f64, duration: Duration) -> Plan {
    Plan {
        connections: 512,
        pace: Pace::Open { rate, arrival: Arrival::Poisson },
        shape: Shape::Conversations(Conversations {
            systems: 32,
            zipf: 1.0,
            system_bytes: 4096,
            turn_bytes: 512,
            answer_bytes: 1024,
            turns: 8,
            active: 160,
        }),
        stream: true,
        max_tokens: 16,
        duration,
        timeout: Duration::from_secs(60),
        ..Plan::small(target, model, 1024)
    }
}

/// What one engine with a cache of so many blocks would have found in the plan's first `requests` requests.
pub fn pooled(plan: &Plan, cache_blocks: usize, requests: u64) -> anyhow::Result<Hits> {
    let mut workload = Workload::new(plan, 0)?;
    let mut model = Model::new(ModelConfig {
        cache_blocks,
        prefill_tokens_per_s: u64::MAX / 2_000_000,
        pace: TokenPace::Stream(1),
        ..ModelConfig::default()
    });
    let (mut bytes, mut events) = (Vec::new(), Vec::new());
    for n in 0..requests {
        workload.next(&mut bytes);
        let at = memchr::memmem::find(&bytes, b"\r\n\r\n").context("a request has a head")?;
        let body: Value = serde_json::from_slice(&bytes[at + 4..])?;
        let prompt = text::render_chat(&body);
        // As the engine salts: the model and no cache salt.
        let job = text::job(prompt.as_bytes(), &format!("{}\0", plan.model), plan.max_tokens);
        // A second apart, so that each has ended before the next.
        let now = (n + 1) * 1_000_000;
        model.advance(now, &mut events);
        model.submit(now, job).context("a prompt fits the pooled cache")?;
        model.advance(now + 999_999, &mut events);
        events.clear();
    }
    let Totals { query_tokens, hit_tokens, .. } = model.totals();
    Ok(Hits { requests, query_tokens, hit_tokens })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_cache_finds_what_was_said_before() {
        let plan = plan(([127, 0, 0, 1], 1).into(), "m", 1.0, Duration::ZERO);
        let first = pooled(&plan, CACHE_BLOCKS, 1).unwrap();
        assert_eq!((first.requests, first.hit_tokens), (1, 0));
        let many = pooled(&plan, 4 * CACHE_BLOCKS, 1500).unwrap();
        assert!((0.7..0.99).contains(&many.share()), "{many:?}");
        assert!(pooled(&plan, CACHE_BLOCKS, 1500).unwrap().share() < many.share(), "a smaller cache finds less");
    }
}
