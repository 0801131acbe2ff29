//! Passive health: an endpoint whose requests fail in a row is left alone for a while, longer each time, and its share
//! grows back slowly. Pure functions of state, event and time over atomics.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use api::snapshot::Ejection;

/// The share that an endpoint begins with after an ejection.
const FIRST_SHARE: f32 = 0.05;

/// How an attempt went, as far as it says something about the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// It answered.
    Success,
    /// It could not be reached, broke off or said 502, 503 or 504.
    Failure,
}

/// What an event changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing that others see.
    None,
    /// The endpoint gets no requests until then.
    Ejected {
        /// The end of the ejection.
        until_ms: u64,
    },
    /// It would have been ejected, but too many others are.
    Spared,
}

/// The backend around an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    /// Its rules.
    pub ejection: Ejection,
    /// Endpoints in it.
    pub endpoints: u32,
    /// Of these, ejected now.
    pub ejected: u32,
}

/// One endpoint's passive health.
#[derive(Debug, Default)]
pub struct Health {
    failures: AtomicU32,
    /// Ejections in a row.
    ejections: AtomicU32,
    /// 0: never ejected, or healthy again for long.
    ejected_until_ms: AtomicU64,
}

impl Health {
    /// Whether it is to get no requests.
    pub fn is_ejected(&self, now_ms: u64) -> bool {
        now_ms < self.ejected_until_ms.load(Relaxed)
    }

    /// Its part of a full share: 0 while ejected, then growing to 1 over the slow start, and little while its requests
    /// fail. One that fails at once looks idle, and would draw all requests where it cannot be ejected.
    pub fn share(&self, ejection: &Ejection, now_ms: u64) -> f32 {
        self.share_by_ejection(ejection, now_ms).min(self.share_by_failures())
    }

    fn share_by_failures(&self) -> f32 {
        let failures = self.failures.load(Relaxed) as f32;
        (1.0 / (1.0 + failures).powi(2)).max(FIRST_SHARE)
    }

    fn share_by_ejection(&self, ejection: &Ejection, now_ms: u64) -> f32 {
        let until_ms = self.ejected_until_ms.load(Relaxed);
        if until_ms == 0 {
            return 1.0;
        }
        let Some(since_ms) = now_ms.checked_sub(until_ms) else { return 0.0 };
        let slow_start_ms = ejection.slow_start.as_millis() as u64;
        if since_ms >= slow_start_ms {
            return 1.0;
        }
        (since_ms as f32 / slow_start_ms as f32).max(FIRST_SHARE)
    }

    /// Failures in a row.
    pub fn failures(&self) -> u32 {
        self.failures.load(Relaxed)
    }
}

/// Takes in how an attempt went. What ends while its endpoint is ejected began before and changes nothing.
pub fn observe(health: &Health, event: Event, pool: Pool, now_ms: u64) -> Effect {
    if health.is_ejected(now_ms) {
        return Effect::None;
    }
    match event {
        Event::Success => {
            succeed(health, &pool.ejection, now_ms);
            Effect::None
        }
        Event::Failure => fail(health, pool, now_ms),
    }
}

fn succeed(health: &Health, ejection: &Ejection, now_ms: u64) {
    // A plain load first: nearly every request succeeds, and a store would take the cache line from other cores.
    if health.failures.load(Relaxed) != 0 {
        health.failures.store(0, Relaxed);
    }
    if health.ejections.load(Relaxed) != 0 && health.share(ejection, now_ms) >= 1.0 {
        health.ejections.store(0, Relaxed);
        health.ejected_until_ms.store(0, Relaxed);
    }
}

fn fail(health: &Health, pool: Pool, now_ms: u64) -> Effect {
    let before_ms = health.ejected_until_ms.load(Relaxed);
    let failures = health.failures.fetch_add(1, Relaxed).saturating_add(1);
    if failures < pool.ejection.failures.max(1) {
        return Effect::None;
    }
    if pool.ejected >= ejectable(pool) {
        return Effect::Spared;
    }
    // The count stays, so that the first failure after the ejection ejects again.
    let earlier = health.ejections.load(Relaxed);
    let until_ms = now_ms.saturating_add(length_ms(&pool.ejection, earlier)).max(1);
    // Many requests fail at once; only one of them ejects.
    if health.ejected_until_ms.compare_exchange(before_ms, until_ms, Relaxed, Relaxed).is_err() {
        return Effect::None;
    }
    health.ejections.store(earlier.saturating_add(1), Relaxed);
    Effect::Ejected { until_ms }
}

/// The base, doubled by each earlier ejection in a row.
fn length_ms(ejection: &Ejection, earlier: u32) -> u64 {
    let base_ms = ejection.base.as_millis() as u64;
    let doubled = base_ms.saturating_mul(1u64 << earlier.min(30));
    doubled.min(ejection.max.as_millis() as u64).max(1)
}

/// How many may be ejected at once: the share, but one where there is another to take over.
fn ejectable(pool: Pool) -> u32 {
    let share = u64::from(pool.endpoints) * u64::from(pool.ejection.max_percent) / 100;
    let least = u64::from(pool.endpoints >= 2 && pool.ejection.max_percent > 0);
    share.max(least) as u32
}

#[cfg(test)]
mod tests;
