//! Requests from a seed or from a trace. Text comes in units of 16 blocks: 1 KiB, 256 tokens.

pub(crate) mod trace;

use dataplane_core::scheduler::Rng;

use super::engine::PREFILL_TOKENS_PER_S;
use super::run::{ENGINES, pooled_hits};

/// Tokens of one unit.
pub(crate) const UNIT_TOKENS: u32 = 256;

/// One request: when, its prompt as a chain of units, and how long the answer is.
#[derive(Debug, Clone)]
pub(crate) struct Arrival {
    pub(crate) at_ms: u64,
    pub(crate) chain: Vec<u64>,
    pub(crate) answer_tokens: u32,
}

/// Makes the requests of one kind.
pub(crate) type Workload = fn(u64, usize) -> Vec<Arrival>;

/// Stretches time until what a pooled cache would leave to prefill is this share of what the engines can do.
pub(crate) fn at_load(mut arrivals: Vec<Arrival>, load: f64) -> Vec<Arrival> {
    let hits: u64 = pooled_hits(&arrivals).iter().sum();
    let tokens: u64 = arrivals.iter().map(|arrival| arrival.chain.len() as u64 * u64::from(UNIT_TOKENS)).sum();
    let work_ms = (tokens - hits) as f64 * 1_000.0 / PREFILL_TOKENS_PER_S / f64::from(ENGINES);
    let lasted_ms = arrivals.last().map_or(0, |arrival| arrival.at_ms) as f64;
    let factor = work_ms / load / lasted_ms;
    arrivals.iter_mut().for_each(|arrival| arrival.at_ms = (arrival.at_ms as f64 * factor) as u64);
    arrivals
}

/// Conversations of several turns, each of which asks with all that was said before.
pub(crate) fn conversations(seed: u64, count: usize) -> Vec<Arrival> {
    sessions(
        seed,
        count,
        &Session { every_ms: 620.0, first: (8, 40), turns: (1, 9), grows: (2, 10), pause_ms: 8_000.0 },
    )
}

/// Agents: long sessions that come back at once with what a tool has said.
pub(crate) fn agents(seed: u64, count: usize) -> Vec<Arrival> {
    sessions(
        seed,
        count,
        &Session { every_ms: 3_000.0, first: (16, 16), turns: (10, 30), grows: (1, 8), pause_ms: 1_500.0 },
    )
}

/// Everybody shares 32 units and adds one to three of their own.
pub(crate) fn hot_prefix(seed: u64, count: usize) -> Vec<Arrival> {
    let mut rng = Rng::new(seed);
    let mut at_ms = 0.0;
    (1..=count as u64)
        .map(|id| {
            at_ms += exponential(&mut rng, 23.0);
            let units = 33 + u64::from(rng.below(3));
            arrival(&mut rng, at_ms, units, |unit| if unit < 32 { unit } else { id << 20 | unit })
        })
        .collect()
}

/// System prompts of 8 to 63 units, one of 400 by Zipf's law, and one to six units of one's own.
pub(crate) fn zipf(seed: u64, count: usize) -> Vec<Arrival> {
    const PROMPTS: u64 = 400;
    let mut rng = Rng::new(seed);
    let whole: f64 = (1..=PROMPTS).map(|rank| 1.0 / rank as f64).sum();
    let mut at_ms = 0.0;
    (1..=count as u64)
        .map(|id| {
            at_ms += exponential(&mut rng, 50.0);
            let mut left = f64::from(rng.unit()) * whole;
            let rank = (1..PROMPTS).find(|rank| {
                left -= 1.0 / *rank as f64;
                left < 0.0
            });
            let rank = rank.unwrap_or(PROMPTS);
            let shared = 8 + rank * 37 % 56;
            let units = shared + 1 + u64::from(rng.below(6));
            arrival(&mut rng, at_ms, units, |unit| if unit < shared { rank << 40 | unit } else { id << 20 | unit })
        })
        .collect()
}

/// A new prefix of 40 units every few seconds, for which 40 requests come at once.
pub(crate) fn bursts(seed: u64, count: usize) -> Vec<Arrival> {
    let mut rng = Rng::new(seed);
    let mut arrivals = Vec::with_capacity(count);
    let (mut begin_ms, mut burst) = (0.0, 0u64);
    while arrivals.len() < count {
        begin_ms += exponential(&mut rng, 3_000.0);
        burst += 1;
        let mut at_ms = begin_ms;
        for id in 0..40 {
            at_ms += exponential(&mut rng, 50.0);
            let units = 41 + u64::from(rng.below(4));
            let key = |unit| if unit < 40 { burst << 40 | unit } else { burst << 40 | (id + 1) << 20 | unit };
            arrivals.push(arrival(&mut rng, at_ms, units, key));
        }
    }
    ordered(arrivals, count)
}

/// Nobody shares anything.
pub(crate) fn unshared(seed: u64, count: usize) -> Vec<Arrival> {
    let mut rng = Rng::new(seed);
    let mut at_ms = 0.0;
    (1..=count as u64)
        .map(|id| {
            at_ms += exponential(&mut rng, 300.0);
            let units = 1 + u64::from(rng.below(64));
            arrival(&mut rng, at_ms, units, |unit| id << 20 | unit)
        })
        .collect()
}

/// Means, and (least, spread) of what is uniform.
struct Session {
    every_ms: f64,
    first: (u64, u32),
    turns: (u32, u32),
    grows: (u64, u32),
    pause_ms: f64,
}

fn sessions(seed: u64, count: usize, session: &Session) -> Vec<Arrival> {
    let mut rng = Rng::new(seed);
    let mut arrivals = Vec::with_capacity(count);
    let (mut begin_ms, mut id) = (0.0, 0u64);
    // Those that begin later than the last that is kept leave nothing behind.
    while arrivals.len() < 2 * count {
        begin_ms += exponential(&mut rng, session.every_ms);
        id += 1;
        let mut at_ms = begin_ms;
        let mut units = session.first.0 + u64::from(rng.below(session.first.1));
        for _ in 0..session.turns.0 + rng.below(session.turns.1) {
            arrivals.push(arrival(&mut rng, at_ms, units, |unit| id << 20 | unit));
            units += session.grows.0 + u64::from(rng.below(session.grows.1));
            at_ms += session.pause_ms / 4.0 + exponential(&mut rng, session.pause_ms);
        }
    }
    ordered(arrivals, count)
}

fn ordered(mut arrivals: Vec<Arrival>, count: usize) -> Vec<Arrival> {
    arrivals.sort_by_key(|arrival| arrival.at_ms);
    arrivals.truncate(count);
    arrivals
}

fn arrival(rng: &mut Rng, at_ms: f64, units: u64, key: impl Fn(u64) -> u64) -> Arrival {
    Arrival { at_ms: at_ms as u64, chain: (0..units).map(key).collect(), answer_tokens: 20 + rng.below(100) }
}

fn exponential(rng: &mut Rng, mean: f64) -> f64 {
    -mean * f64::from(1.0 - rng.unit()).ln()
}
