//! What the other proxies have probably decided since their last report. Without it all proxies run to the same
//! minimum, and a hot prefix makes the herd.

use super::Live;

/// Token rates of one backend over the last 10 s, in tokens/s.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Rates {
    /// Of this proxy.
    pub own: f64,
    /// Of all others that have traffic to the backend.
    pub others: f64,
}

/// By how much an own decision that no report has covered yet is counted beyond itself.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Echo {
    factor: f64,
}

impl Echo {
    /// `unreported_tokens` is the sum over all endpoints of own decisions since the others' last report, which is
    /// `age_ms` old. The sum of all echoes never exceeds what the others can have decided in that time.
    pub fn new(rates: Rates, unreported_tokens: u64, age_ms: u64) -> Self {
        if rates.own <= 0.0 || rates.others <= 0.0 || unreported_tokens == 0 {
            return Self::default();
        }
        let bound = rates.others * age_ms as f64 / 1_000.0 / unreported_tokens as f64;
        Self { factor: (rates.others / rates.own).min(bound) }
    }

    /// Tokens to add for so many unreported own tokens at one endpoint.
    pub fn of(self, unreported_tokens: u64) -> u64 {
        (unreported_tokens as f64 * self.factor) as u64
    }
}

/// Decisions that the others' last report does not cover.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Unheard {
    echo: Echo,
    since_ms: u64,
    /// What the others have probably decided since, in tokens.
    tokens: f64,
}

impl Unheard {
    /// `since_ms` is when the others were last heard of, `unreported_tokens` what was decided here since.
    pub(super) fn new(rates: Rates, unreported_tokens: u64, since_ms: u64, now_ms: u64) -> Self {
        let age_ms = now_ms.saturating_sub(since_ms);
        let tokens = rates.others.max(0.0) * age_ms as f64 / 1_000.0;
        Self { echo: Echo::new(rates, unreported_tokens, age_ms), since_ms, tokens }
    }

    /// A guess at what the others have sent to one of so many endpoints since they were heard of: between nothing and twice
    /// its share, by `chance` from 0 to 1. Proxies that know the same guess differently, and so do not all choose the same
    /// endpoint.
    pub fn guess(&self, endpoints: usize, chance: f32) -> u64 {
        (2.0 * self.tokens / endpoints.max(1) as f64 * f64::from(chance)) as u64
    }

    /// A guess at what the others have sent in all since they were heard of: the time between requests is drawn like that.
    pub fn drawn(&self, chance: f32) -> f64 {
        -(1.0 - f64::from(chance)).max(f64::EPSILON).ln() * self.tokens
    }

    /// Tokens of the others that wait at an endpoint: what they said, less what it has prefilled since at `speed` tokens/s,
    /// for what was true a second ago sends all proxies the same way; and what they have probably sent since. Of the
    /// latter nothing is taken off: it makes the own decisions alternate, which is all that can be done unseen.
    pub fn waiting_at(&self, live: &Live, speed: f32, now_ms: u64) -> u64 {
        let sent = self.echo.of(live.recent.since(self.since_ms, now_ms));
        let done = now_ms.saturating_sub(self.since_ms) as f32 / 1_000.0 * speed;
        live.peer_tokens().saturating_sub(done as u64).saturating_add(sent)
    }

    /// Requests of all proxies at an endpoint. Of the others' as many are over by now as its mean time of a request says;
    /// those that came since are in [`Self::waiting_at`].
    pub fn running_at(&self, live: &Live, now_ms: u64) -> u32 {
        let others = live.routed().saturating_sub(live.in_flight());
        let age_ms = now_ms.saturating_sub(self.since_ms) as f32;
        let left = match live.mean_service_ms() {
            0 => 1.0,
            service_ms => (1.0 - age_ms / service_ms as f32).max(0.0),
        };
        live.at_least_reported(live.in_flight().saturating_add((others as f32 * left) as u32), now_ms)
    }
}
