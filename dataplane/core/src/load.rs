//! Live numbers: what each endpoint is doing right now. They are keyed by the endpoint's identity and survive table
//! swaps; a request holds the `Arc` that it incremented, so a pod made anew starts at zero.

mod backend;
mod echo;
mod parking;
mod recent;
mod registry;
mod reservation;
mod speed;

pub use backend::{BackendLive, Others};
pub use echo::{Echo, Rates, Unheard};
pub use parking::{MAX_PARKED, Parking};
pub use registry::LiveRegistry;
pub use reservation::{Answer, Demand, Reservation};

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::health::Health;
use recent::Recent;
use speed::SpeedMeter;

/// Prefill speed in tokens/s where no endpoint of a backend has been measured yet.
pub const DEFAULT_SPEED: f32 = 8_000.0;
/// Bytes of prompt text per token where a model has not been measured yet.
pub const DEFAULT_BYTES_PER_TOKEN: f32 = 4.0;
/// What an engine reported longer ago than this many ms is not looked at.
pub const REPORT_FRESH_MS: u64 = 10_000;

/// What an engine says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Report {
    /// Requests in its queue.
    pub waiting: u32,
    /// Requests that it works on.
    pub running: u32,
    /// Used share of its KV cache, 0 to 1.
    pub kv_usage: f32,
    /// Mean time to first token in µs; 0 where it is not measured.
    pub ttft_us: u32,
    /// Mean time per output token in µs; 0 where it is not measured.
    pub tpot_us: u32,
}

/// One endpoint's numbers: relaxed atomics on cache lines of their own, written by every core and by the agent. In
/// the order of declaration, so that a proxy that is alone never touches the lines of `recent`.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub struct Live {
    /// Reservations that are not released, also parked ones.
    in_flight: AtomicU32,
    /// Streamed requests without a first event.
    prefilling: AtomicU32,
    /// Predicted uncached tokens of streamed requests without a first event.
    queued_tokens: AtomicU64,
    /// When the predicted prefill of all unary requests ends.
    unary_until_us: AtomicU64,
    peer_tokens: AtomicU64,
    peer_running: AtomicU32,
    reported_waiting: AtomicU32,
    reported_running: AtomicU32,
    reported_kv: AtomicU32,
    reported_ttft_us: AtomicU32,
    reported_tpot_us: AtomicU32,
    /// 0: never.
    reported_at_ms: AtomicU64,
    /// Mean time of a whole request in ms; 0 where none has finished.
    service_ms: AtomicU32,
    /// Mean time to a stream's first event in ms, as seen here; 0 where there was none.
    ttft_ms: AtomicU32,
    speed: SpeedMeter,
    health: Health,
    /// Unary requests without an answer, and the predicted work of all of these.
    unary: AtomicU32,
    unary_work_ms: AtomicU32,
    /// Since it is known. It fills the cache line.
    attempts: AtomicU64,
    /// Uncached tokens decided here lately: written only where other proxies share the backend.
    recent: Recent,
}

impl Live {
    /// An endpoint of which nothing is known.
    pub fn new() -> Self {
        Self::default()
    }

    /// Requests of this process at the endpoint, abandoned ones that run on included.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    /// A request of this process is sent there.
    pub fn attempt(&self) {
        self.attempts.fetch_add(1, Relaxed);
    }

    /// Requests of this process that were sent there so far.
    pub fn attempts(&self) -> u64 {
        self.attempts.load(Relaxed)
    }

    /// Those of this process that wait in the engine's queue or for their prefill: streams without a first event and, of unary requests, as
    /// large a part as what is left of their predicted prefill is of all of it.
    pub fn queue_depth(&self, now_ms: u64) -> u32 {
        let left_us = self.unary_until_us.load(Relaxed).saturating_sub(now_ms.saturating_mul(1_000));
        let (unary, all_ms) = (self.unary.load(Relaxed), self.unary_work_ms.load(Relaxed));
        let waiting = match all_ms {
            0 => 0,
            _ => (u128::from(unary) * u128::from(left_us.div_ceil(1_000))).div_ceil(all_ms.into()).min(unary.into())
                as u32,
        };
        self.prefilling.load(Relaxed).saturating_add(waiting)
    }

    /// Requests of all proxies at the endpoint, at least as many as the engine itself reports.
    pub fn running(&self, now_ms: u64) -> u32 {
        self.at_least_reported(self.routed(), now_ms)
    }

    /// Our count, or the engine's where that is more, for it contains our requests.
    fn at_least_reported(&self, ours: u32, now_ms: u64) -> u32 {
        self.report(now_ms).map_or(ours, |r| ours.max(r.running.saturating_add(r.waiting)))
    }

    /// Requests of all proxies at the endpoint, without what the engine reports.
    pub fn routed(&self) -> u32 {
        self.in_flight().saturating_add(self.peer_running.load(Relaxed))
    }

    /// Predicted uncached tokens that wait for their prefill, of all proxies. `speed` is in tokens/s.
    pub fn queued_tokens(&self, speed: f32, now_ms: u64) -> u64 {
        self.own_queued_tokens(speed, now_ms).saturating_add(self.peer_tokens.load(Relaxed))
    }

    /// What the other proxies said to have waiting there when they were last heard of.
    pub fn peer_tokens(&self) -> u64 {
        self.peer_tokens.load(Relaxed)
    }

    /// The same as [`Self::queued_tokens`], of this process alone: what it tells the others.
    pub fn own_queued_tokens(&self, speed: f32, now_ms: u64) -> u64 {
        let unary_us = self.unary_until_us.load(Relaxed).saturating_sub(now_ms.saturating_mul(1_000));
        let unary = unary_us as f64 * f64::from(speed) / 1e6;
        self.queued_tokens.load(Relaxed).saturating_add(unary as u64)
    }

    /// Mean time to a stream's first event in ms, as seen here; 0 where there was none.
    pub fn mean_ttft_ms(&self) -> u32 {
        mean_ms(&self.ttft_ms)
    }

    /// Prefill speed in tokens/s as measured; none before enough was seen.
    pub fn measured_speed(&self) -> Option<f32> {
        self.speed.value()
    }

    /// Prefill speed in tokens/s for a decision: the measured one within ¼ to 4 times the pool's median, which also
    /// stands in for an unknown one.
    pub fn speed(&self, median: f32) -> f32 {
        self.speed.value().map_or(median, |v| v.clamp(median / 4.0, median * 4.0))
    }

    /// Mean time of a whole request in ms, 0 where none has finished: how long an abandoned one may run on.
    pub fn mean_service_ms(&self) -> u32 {
        mean_ms(&self.service_ms)
    }

    /// What the engine last said, unless that is older than [`REPORT_FRESH_MS`].
    pub fn report(&self, now_ms: u64) -> Option<Report> {
        let at_ms = self.reported_at_ms.load(Relaxed);
        if at_ms == 0 || now_ms.saturating_sub(at_ms) > REPORT_FRESH_MS {
            return None;
        }
        Some(Report {
            waiting: self.reported_waiting.load(Relaxed),
            running: self.reported_running.load(Relaxed),
            kv_usage: f32::from_bits(self.reported_kv.load(Relaxed)),
            ttft_us: self.reported_ttft_us.load(Relaxed),
            tpot_us: self.reported_tpot_us.load(Relaxed),
        })
    }

    /// Takes in what the engine says.
    pub fn set_report(&self, report: Report, now_ms: u64) {
        let Report { waiting, running, kv_usage, ttft_us, tpot_us } = report;
        self.reported_waiting.store(waiting, Relaxed);
        self.reported_running.store(running, Relaxed);
        self.reported_kv.store(kv_usage.to_bits(), Relaxed);
        self.reported_ttft_us.store(ttft_us, Relaxed);
        self.reported_tpot_us.store(tpot_us, Relaxed);
        self.reported_at_ms.store(now_ms.max(1), Relaxed);
    }

    /// Replaces the sum of what the other proxies have at the endpoint.
    pub fn set_peers(&self, tokens: u64, running: u32) {
        self.peer_tokens.store(tokens, Relaxed);
        self.peer_running.store(running, Relaxed);
    }

    /// Its passive health.
    pub fn health(&self) -> &Health {
        &self.health
    }

    fn observe_service(&self, elapsed_ms: u64) {
        observe(&self.service_ms, elapsed_ms);
    }

    fn observe_ttft(&self, elapsed_ms: u64) {
        observe(&self.ttft_ms, elapsed_ms);
    }
}

/// Moves a mean, an f32, an eighth of the way. The first sample is the mean; 0 stands for none, so that nothing is below 1.
fn observe(mean: &AtomicU32, elapsed_ms: u64) {
    let sample = elapsed_ms.max(1) as f32;
    let old = f32::from_bits(mean.load(Relaxed));
    let new = if old == 0.0 { sample } else { old + (sample - old) / 8.0 };
    mean.store(new.to_bits(), Relaxed);
}

fn mean_ms(mean: &AtomicU32) -> u32 {
    f32::from_bits(mean.load(Relaxed)).round() as u32
}

/// Takes `amount` off, never below zero: a lost race costs a little accuracy, never a wrap to a huge load.
fn subtract(cell: &AtomicU64, amount: u64) {
    let _ = cell.fetch_update(Relaxed, Relaxed, |value| Some(value.saturating_sub(amount)));
}

#[cfg(test)]
mod tests;
