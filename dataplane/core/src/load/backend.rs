//! Live numbers of a backend as a whole.

use std::sync::atomic::{AtomicI64, AtomicU32, Ordering::Relaxed};

use super::{DEFAULT_BYTES_PER_TOKEN, DEFAULT_SPEED, Live};
use api::snapshot::Ejection;

use crate::health::{self, Effect, Event, Pool};

/// Retries that may be made before any request has earned one.
const FIRST_RETRIES: i64 = 100;
/// Retries that can be saved up at most.
const MAX_RETRIES: i64 = 1_000;
/// The budget counts in hundredths of a retry: a request earns its backend's percent.
const RETRY: i64 = 100;

/// One backend's numbers; they survive table swaps by its name.
#[derive(Debug)]
pub struct BackendLive {
    /// f32 bits.
    median_speed: AtomicU32,
    /// f32 bits.
    bytes_per_token: AtomicU32,
    endpoints: AtomicU32,
    /// Ejected at once; exact after each refresh. Between two it may count some that are back already, and lack those that
    /// were ejected by way of another backend of theirs.
    ejected: AtomicU32,
    retry_hundredths: AtomicI64,
}

impl Default for BackendLive {
    fn default() -> Self {
        Self {
            median_speed: AtomicU32::new(DEFAULT_SPEED.to_bits()),
            bytes_per_token: AtomicU32::new(DEFAULT_BYTES_PER_TOKEN.to_bits()),
            endpoints: AtomicU32::new(0),
            ejected: AtomicU32::new(0),
            retry_hundredths: AtomicI64::new(FIRST_RETRIES * RETRY),
        }
    }
}

impl BackendLive {
    /// A backend of which nothing is known.
    pub fn new() -> Self {
        Self::default()
    }

    /// The median of the endpoints' measured prefill speeds in tokens/s.
    pub fn median_speed(&self) -> f32 {
        f32::from_bits(self.median_speed.load(Relaxed))
    }

    /// Bytes of prompt text per token, learned from usage.
    pub fn bytes_per_token(&self) -> f32 {
        f32::from_bits(self.bytes_per_token.load(Relaxed))
    }

    /// Learns from one answer's usage. Short prompts say little and are ignored; so is what cannot be text.
    pub fn learn_bytes_per_token(&self, prompt_bytes: u64, prompt_tokens: u64) {
        if prompt_bytes < 256 || prompt_tokens == 0 {
            return;
        }
        let sample = (prompt_bytes as f32 / prompt_tokens as f32).clamp(0.5, 16.0);
        let old = self.bytes_per_token();
        self.bytes_per_token.store((old + (sample - old) / 16.0).to_bits(), Relaxed);
    }

    /// Recomputes what needs a look at all endpoints: once a second and after a table swap, off the cores.
    pub fn refresh<'a>(&self, endpoints: impl Iterator<Item = &'a Live>, now_ms: u64) {
        let (mut speeds, mut ejected, mut count) = (Vec::new(), 0, 0);
        for live in endpoints {
            count += 1;
            ejected += u32::from(live.health().is_ejected(now_ms));
            speeds.extend(live.measured_speed());
        }
        self.endpoints.store(count, Relaxed);
        self.ejected.store(ejected, Relaxed);
        if !speeds.is_empty() {
            let middle = speeds.len() / 2;
            let (_, median, _) = speeds.select_nth_unstable_by(middle, f32::total_cmp);
            self.median_speed.store(median.max(1.0).to_bits(), Relaxed);
        }
    }

    /// Takes in how an attempt at an endpoint went.
    pub fn observe(&self, live: &Live, event: Event, ejection: &Ejection, now_ms: u64) -> Effect {
        let pool =
            Pool { ejection: *ejection, endpoints: self.endpoints.load(Relaxed), ejected: self.ejected.load(Relaxed) };
        let effect = health::observe(live.health(), event, pool, now_ms);
        if matches!(effect, Effect::Ejected { .. }) {
            self.ejected.fetch_add(1, Relaxed);
        }
        effect
    }

    /// A request arrived and earns its share of a retry.
    pub fn earn_retry(&self, budget_percent: u8) {
        let earn = |saved: i64| Some((saved + i64::from(budget_percent)).min(MAX_RETRIES * RETRY));
        let _ = self.retry_hundredths.fetch_update(Relaxed, Relaxed, earn);
    }

    /// Takes one retry from the budget; false where it is spent.
    pub fn spend_retry(&self) -> bool {
        let spend = |saved: i64| (saved >= RETRY).then_some(saved - RETRY);
        self.retry_hundredths.fetch_update(Relaxed, Relaxed, spend).is_ok()
    }
}
