//! From a text to what an engine says. Counts of several series (models, ranks) add up; their cache use is the mean.

use super::exposition::{Fault, samples};
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

/// One text's numbers; none where it does not have them.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Reading {
    running: Option<f64>,
    waiting: Option<f64>,
    cache_usage: Option<f64>,
    ttft: Option<Total>,
    tpot: Option<Total>,
}

/// What an engine says; 0 is what it does not tell.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Said {
    pub(super) running: u32,
    pub(super) waiting: u32,
    pub(super) cache_usage: f32,
    /// Seconds, of the requests since the reading before; where there were none, of the last ones.
    pub(super) ttft: f32,
    pub(super) tpot: f32,
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
            } else {
                add(&mut reading.ttft, families.ttft, name, value);
                add(&mut reading.tpot, families.tpot, name, value);
            }
        }
        reading.cache_usage = reading.cache_usage.map(|sum| (sum / caches).min(1.0));
        Ok(reading)
    }

    /// The engine told nothing, as one does that has loaded no model.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What that means, given the reading before and what that meant.
    pub(super) fn said(&self, before: Option<&Self>, last: Said) -> Said {
        let whole = |count: Option<f64>| count.unwrap_or_default() as u32;
        let mean = |of: fn(&Self) -> Option<Total>| of(self)?.mean_since(before.and_then(of)?);
        Said {
            running: whole(self.running),
            waiting: whole(self.waiting),
            cache_usage: self.cache_usage.unwrap_or_default() as f32,
            ttft: mean(|reading| reading.ttft).unwrap_or(last.ttft),
            tpot: mean(|reading| reading.tpot).unwrap_or(last.tpot),
        }
    }
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
