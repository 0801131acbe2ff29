//! Requests from a seed. Text comes in units of 16 blocks: 1 KiB, 256 tokens.

use dataplane_core::scheduler::Rng;

/// Tokens of one unit.
pub(crate) const UNIT_TOKENS: u32 = 256;

/// One request: when, its prompt as a chain of units, and how long the answer is.
#[derive(Debug, Clone)]
pub(crate) struct Arrival {
    pub(crate) at_ms: u64,
    pub(crate) chain: Vec<u64>,
    pub(crate) answer_tokens: u32,
}

/// Conversations of several turns, each of which asks with all that was said before; about .7 of the engines' speed.
pub(crate) fn conversations(seed: u64, count: usize) -> Vec<Arrival> {
    let mut rng = Rng::new(seed);
    let mut arrivals = Vec::with_capacity(count);
    let mut begin_ms = 0.0;
    let mut id = 0u64;
    while arrivals.len() < count {
        begin_ms += exponential(&mut rng, 620.0);
        id += 1;
        let mut at_ms = begin_ms;
        let mut units = 8 + u64::from(rng.below(40));
        for _ in 0..1 + rng.below(9) {
            arrivals.push(arrival(&mut rng, at_ms, units, |unit| id << 20 | unit));
            units += 2 + u64::from(rng.below(10));
            at_ms += 2_000.0 + exponential(&mut rng, 8_000.0);
        }
    }
    arrivals.sort_by_key(|arrival| arrival.at_ms);
    arrivals.truncate(count);
    arrivals
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

fn arrival(rng: &mut Rng, at_ms: f64, units: u64, key: impl Fn(u64) -> u64) -> Arrival {
    Arrival { at_ms: at_ms as u64, chain: (0..units).map(key).collect(), answer_tokens: 20 + rng.below(100) }
}

fn exponential(rng: &mut Rng, mean: f64) -> f64 {
    -mean * f64::from(1.0 - rng.unit()).ln()
}
