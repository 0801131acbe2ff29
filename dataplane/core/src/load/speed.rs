//! How fast an endpoint prefills: uncached tokens over the time in which at least one request awaited its first event.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// Below this many tokens and ms nothing is said.
const ENOUGH_TOKENS: u64 = 1_000;
const ENOUGH_MS: u32 = 20;
/// After this much busy time the sums are halved, so that old times fade.
const FADE_MS: u32 = 20_000;
/// No prefill counts as longer, a day, so that the sum fits.
const LONGEST_MS: u64 = 86_400_000;

/// Cumulated over many requests, so that the clock's ms add up to the right time.
#[derive(Debug, Default)]
pub(super) struct SpeedMeter {
    tokens: AtomicU64,
    busy_ms: AtomicU32,
    /// Up to here busy time is accounted for.
    mark_ms: AtomicU64,
    /// f32 bits; 0 where unknown.
    value: AtomicU32,
}

impl SpeedMeter {
    /// The first request of a busy time arrives.
    pub(super) fn begin(&self, now_ms: u64) {
        self.mark_ms.store(now_ms, Relaxed);
    }

    /// A request's prefill ended.
    pub(super) fn complete(&self, tokens: u64, now_ms: u64) {
        let since_ms = self.mark_ms.swap(now_ms, Relaxed);
        let elapsed_ms = now_ms.saturating_sub(since_ms).min(LONGEST_MS) as u32;
        let tokens = self.tokens.fetch_add(tokens, Relaxed) + tokens;
        let busy_ms = self.busy_ms.fetch_add(elapsed_ms, Relaxed) + elapsed_ms;
        if tokens < ENOUGH_TOKENS || busy_ms < ENOUGH_MS {
            return;
        }
        self.value.store((tokens as f32 * 1_000.0 / busy_ms as f32).to_bits(), Relaxed);
        if busy_ms > FADE_MS {
            self.tokens.store(tokens / 2, Relaxed);
            self.busy_ms.store(busy_ms / 2, Relaxed);
        }
    }

    pub(super) fn value(&self) -> Option<f32> {
        let bits = self.value.load(Relaxed);
        (bits != 0).then(|| f32::from_bits(bits))
    }
}
