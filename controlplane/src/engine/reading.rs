//! From a text to what an engine says. Counts of several series (models, ranks) and the sizes of their caches add up; their cache use is the mean.

use std::time::Duration;

use super::exposition::{Fault, Sample, samples};
use super::families::Families;

/// All that a histogram has seen since its engine started.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Total {
    sum: f64,
    count: f64,
}

impl Total {
    /// The mean of what came after `before`; none where nothing did. One that fell has begun anew.
    fn mean_since(self, before: Self) -> Option<f32> {
        let restarted = self.count < before.count || self.sum < before.sum;
        let before = if restarted { Self::default() } else { before };
        let count = self.count - before.count;
        (count > 0.0).then(|| ((self.sum - before.sum) / count) as f32)
    }
}

/// One answer's numbers; none where it does not have them.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Reading {
    running: Option<f64>,
    waiting: Option<f64>,
    cache_usage: Option<f64>,
    ttft: Option<Total>,
    tpot: Option<Total>,
    waited_us: Option<f64>,
    cache_tokens: Option<u64>,
}

/// What an engine says; none, or else 0, is what it does not tell.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Said {
    pub(super) running: Option<u32>,
    pub(super) waiting: u32,
    pub(super) cache_usage: f32,
    /// Seconds, of the requests since the reading before; where there were none, of the last ones. None where the engine
    /// does not measure it.
    pub(super) ttft: Option<f32>,
    pub(super) tpot: f32,
}

/// The reading before: what it read, what that meant, and how long ago it was.
#[derive(Debug, Clone, Copy)]
pub(super) struct Before {
    pub(super) reading: Reading,
    pub(super) said: Said,
    pub(super) ago: Duration,
}

impl Reading {
    pub(super) fn of(families: &Families, text: &str) -> Result<Self, Fault> {
        let mut reading = Self::default();
        let mut caches = 0.0;
        for sample in samples(text) {
            let sample = sample?;
            let (name, value) = (sample.name, sample.value);
            if !value.is_finite() || value < 0.0 {
                continue;
            }
            if families.running == Some(name) {
                *reading.running.get_or_insert_default() += value;
            } else if families.waiting == Some(name) {
                *reading.waiting.get_or_insert_default() += value;
            } else if families.cache_usage == Some(name) {
                caches += 1.0;
                *reading.cache_usage.get_or_insert_default() += value;
            } else if families.waited_us == Some(name) {
                *reading.waited_us.get_or_insert_default() += value;
            } else if families.cache_config == Some(name) {
                if let Some(tokens) = cache_tokens(&sample) {
                    let known = reading.cache_tokens.get_or_insert_default();
                    *known = known.saturating_add(tokens);
                }
            } else {
                add(&mut reading.ttft, families.ttft, name, value);
                add(&mut reading.tpot, families.tpot, name, value);
            }
        }
        reading.cache_usage = reading.cache_usage.map(|sum| (sum / caches).min(1.0));
        Ok(reading)
    }

    /// Of an engine that says how many requests wait, and nothing else.
    pub(super) fn of_queue(waiting: f64) -> Self {
        Self { waiting: Some(waiting), ..Self::default() }
    }

    /// The engine told nothing, as one does that has loaded no model.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self { cache_tokens: self.cache_tokens, ..Self::default() }
    }

    /// What the caches of all its ranks take.
    pub(super) fn cache_tokens(&self) -> Option<u64> {
        self.cache_tokens
    }

    /// What that means, given the reading before.
    pub(super) fn said(&self, before: Option<&Before>) -> Said {
        let whole = |count: f64| count as u32;
        let last = before.map(|before| before.said).unwrap_or_default();
        let mean = |of: fn(&Self) -> Option<Total>| of(self)?.mean_since(of(&before?.reading)?);
        let waiting = self.waiting.or_else(|| self.waited_since(before?));
        Said {
            running: self.running.map(whole),
            waiting: waiting.map_or(0, whole),
            cache_usage: self.cache_usage.unwrap_or_default() as f32,
            ttft: self.ttft.map(|_| mean(|reading| reading.ttft).or(last.ttft).unwrap_or_default()),
            tpot: mean(|reading| reading.tpot).unwrap_or(last.tpot),
        }
    }

    /// How many waited on average: the time that all have waited in a time, over that time. Where the reading before was of something
    /// else, as of a management API that is silent now, nothing can be said yet, and what was said before stays.
    fn waited_since(&self, before: &Before) -> Option<f64> {
        let Some(earlier) = before.reading.waited_us else {
            return self.waited_us.map(|_| f64::from(before.said.waiting));
        };
        let waited_us = self.waited_us? - earlier;
        (waited_us > 0.0 && !before.ago.is_zero()).then(|| (waited_us / before.ago.as_micros() as f64).round())
    }
}

/// vLLM says it in tokens; before 0.11 in blocks alone, of which there are none where it has not looked at its memory yet.
fn cache_tokens(sample: &Sample<'_>) -> Option<u64> {
    let number = |name: &str| sample.label(name)?.parse::<u64>().ok();
    let tokens =
        number("kv_cache_size_tokens").or_else(|| number("num_gpu_blocks")?.checked_mul(number("block_size")?));
    tokens.filter(|&tokens| tokens > 0)
}

fn add(total: &mut Option<Total>, family: Option<&str>, name: &str, value: f64) {
    match family.and_then(|family| name.strip_prefix(family)) {
        Some("_sum") => total.get_or_insert_default().sum += value,
        Some("_count") => total.get_or_insert_default().count += value,
        _ => {}
    }
}

#[cfg(test)]
mod tests;
