//! Live numbers of a backend as a whole.

use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering::Relaxed};

use super::echo::{Rates, Unheard};
use super::recent::{RECENT_MS, Recent};
use super::{DEFAULT_BYTES_PER_TOKEN, DEFAULT_SPEED, Live};
use api::snapshot::Ejection;

use crate::health::{self, Effect, Event, Pool};

/// Retries that may be made before any request has earned one.
const FIRST_RETRIES: i64 = 100;
/// Retries that can be saved up at most.
const MAX_RETRIES: i64 = 1_000;
/// The budget counts in hundredths of a retry: a request earns its backend's percent.
const RETRY: i64 = 100;

/// The time over which token rates are told.
const RATE_MS: f64 = 10_000.0;
/// Others who were not heard of for so long are not guessed at.
const OTHERS_GONE_MS: u64 = 10_000;

/// What the other proxies that share a backend say of themselves, all together.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Others {
    /// How many they are.
    pub proxies: u32,
    /// Tokens per second that they decide for the backend: see [`BackendLive::token_rate`].
    pub token_rate: f64,
    /// The age of the oldest of their reports in ms.
    pub age_ms: u32,
}

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
    /// Uncached tokens decided here since the last refresh.
    decided_tokens: AtomicU64,
    refreshed_ms: AtomicU64,
    /// f64 bits, tokens/s.
    own_rate: AtomicU64,
    /// f64 bits, tokens/s.
    others_rate: AtomicU64,
    /// Other proxies.
    others: AtomicU32,
    /// When what is known of the others was true; 0: never.
    heard_ms: AtomicU64,
    recent: Recent,
}

impl Default for BackendLive {
    fn default() -> Self {
        Self {
            median_speed: AtomicU32::new(DEFAULT_SPEED.to_bits()),
            bytes_per_token: AtomicU32::new(DEFAULT_BYTES_PER_TOKEN.to_bits()),
            endpoints: AtomicU32::new(0),
            ejected: AtomicU32::new(0),
            retry_hundredths: AtomicI64::new(FIRST_RETRIES * RETRY),
            decided_tokens: AtomicU64::new(0),
            refreshed_ms: AtomicU64::new(0),
            own_rate: AtomicU64::new(0),
            others_rate: AtomicU64::new(0),
            others: AtomicU32::new(0),
            heard_ms: AtomicU64::new(0),
            recent: Recent::default(),
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
        self.refresh_rate(now_ms);
        self.endpoints.store(count, Relaxed);
        self.ejected.store(ejected, Relaxed);
        if !speeds.is_empty() {
            let middle = speeds.len() / 2;
            let (_, median, _) = speeds.select_nth_unstable_by(middle, f32::total_cmp);
            self.median_speed.store(median.max(1.0).to_bits(), Relaxed);
        }
    }

    /// Moves the own token rate by what was decided since the last time.
    fn refresh_rate(&self, now_ms: u64) {
        let before_ms = self.refreshed_ms.swap(now_ms, Relaxed);
        let elapsed_ms = now_ms.saturating_sub(before_ms) as f64;
        // A table swap refreshes too: what a moment holds is no rate.
        if elapsed_ms < 100.0 {
            self.refreshed_ms.store(before_ms, Relaxed);
            return;
        }
        let sample = self.decided_tokens.swap(0, Relaxed) as f64 * 1_000.0 / elapsed_ms;
        let old = self.token_rate();
        let new = if old == 0.0 { sample } else { old + (sample - old) * (1.0 - (-elapsed_ms / RATE_MS).exp()) };
        self.own_rate.store(new.to_bits(), Relaxed);
    }

    /// Tokens per second decided here for the backend, over the last 10 s: what the others are told. Uncached ones, and for
    /// each request as many as it costs the others while it runs.
    pub fn token_rate(&self) -> f64 {
        f64::from_bits(self.own_rate.load(Relaxed))
    }

    /// Proxies that share the backend, this one included.
    pub fn proxies(&self) -> u32 {
        self.others.load(Relaxed).saturating_add(1)
    }

    /// Tokens per second that the other proxies decide for the backend, as last heard.
    pub fn others_rate(&self) -> f64 {
        f64::from_bits(self.others_rate.load(Relaxed))
    }

    /// Takes in what the others say; [`Others::default`] where they are gone.
    pub fn hear(&self, others: Others, now_ms: u64) {
        let Others { proxies, token_rate, age_ms } = others;
        self.others_rate.store(token_rate.to_bits(), Relaxed);
        self.heard_ms.store(now_ms.saturating_sub(u64::from(age_ms)).max(1), Relaxed);
        self.others.store(proxies, Relaxed);
    }

    /// A request was sent to an endpoint, where it is a load of so many tokens.
    pub(crate) fn decided(&self, live: &Live, tokens: u64, now_ms: u64) {
        self.decided_tokens.fetch_add(tokens, Relaxed);
        if self.others.load(Relaxed) > 0 {
            live.recent.add(tokens, now_ms);
            self.recent.add(tokens, now_ms);
        }
    }

    /// What the others have probably decided since they were heard of; none for a proxy that is alone.
    pub(crate) fn unheard(&self, now_ms: u64) -> Option<Unheard> {
        if self.others.load(Relaxed) == 0 {
            return None;
        }
        let heard_ms = self.heard_ms.load(Relaxed);
        if now_ms.saturating_sub(heard_ms) > OTHERS_GONE_MS {
            return None;
        }
        let since_ms = heard_ms.max(now_ms.saturating_sub(RECENT_MS));
        let rates = Rates { own: self.token_rate(), others: self.others_rate() };
        Some(Unheard::new(rates, self.recent.since(since_ms, now_ms), since_ms, now_ms))
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
