//! A request's place at an endpoint, held from the decision until the answer has ended.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::{Live, subtract};

/// How the answer comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// As events: the first one says that prefill has ended.
    Stream,
    /// In one piece: the end of prefill is predicted.
    Unary,
}

/// What a request asks of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Demand {
    /// Predicted tokens that the endpoint has to prefill.
    pub uncached_tokens: u32,
    /// How the answer comes.
    pub answer: Answer,
    /// The endpoint's prefill speed in tokens/s.
    pub speed: f32,
    /// The most requests that may be in flight at the endpoint.
    pub max_in_flight: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// A stream without a first event holds tokens in the queue.
    Prefill { tokens: u32 },
    /// A unary request holds predicted work, which ends by itself.
    Predicted { work_us: u64, ends_us: u64 },
    /// Only the place is held.
    Decode,
}

/// Counts at one endpoint until it is finished or dropped.
#[derive(Debug)]
#[must_use = "dropping it releases the endpoint"]
pub struct Reservation {
    live: Arc<Live>,
    since_ms: u64,
    stage: Stage,
}

impl Reservation {
    /// Counts the request at once; none where the endpoint is full.
    pub fn try_new(live: &Arc<Live>, demand: Demand, now_ms: u64) -> Option<Self> {
        let before = live.in_flight.fetch_add(1, Relaxed);
        if before >= demand.max_in_flight {
            live.in_flight.fetch_sub(1, Relaxed);
            return None;
        }
        let stage = match demand.answer {
            Answer::Stream => enqueue(live, demand.uncached_tokens, now_ms),
            Answer::Unary => predict(live, demand, now_ms),
        };
        Some(Self { live: Arc::clone(live), since_ms: now_ms, stage })
    }

    /// The endpoint's numbers.
    pub fn live(&self) -> &Arc<Live> {
        &self.live
    }

    /// The first event of the answer arrived, so prefill has ended: how long that took is learned. Later calls change
    /// nothing.
    pub fn first_event(&mut self, now_ms: u64) {
        if let Stage::Prefill { tokens } = self.stage {
            self.live.speed.complete(u64::from(tokens), now_ms);
            self.live.observe_ttft(now_ms.saturating_sub(self.since_ms));
        }
        self.answered(now_ms);
    }

    /// An answer arrived, so nothing waits any more; nothing is learned, for an endpoint that refuses at once would seem the
    /// quickest of all. Later calls change nothing.
    pub fn answered(&mut self, now_ms: u64) {
        match std::mem::replace(&mut self.stage, Stage::Decode) {
            Stage::Prefill { tokens } => dequeue(&self.live, tokens),
            Stage::Predicted { work_us, ends_us } => {
                let left_us = ends_us.saturating_sub(now_ms.saturating_mul(1_000)).min(work_us);
                subtract(&self.live.unary_until_us, left_us);
                uncount(&self.live, work_us);
            }
            Stage::Decode => {}
        }
    }

    /// The answer has ended well: releases the endpoint and learns the time that a request takes there.
    pub fn finish(mut self, now_ms: u64) {
        self.answered(now_ms);
        self.live.observe_service(now_ms.saturating_sub(self.since_ms));
    }

    /// Until when the endpoint is taken to work on a request whose client left: the mean time of a request, from its
    /// start. For engines that do not notice (Triton and TorchServe on unary and queued work).
    pub fn abandoned_until_ms(&self) -> u64 {
        self.since_ms.saturating_add(u64::from(self.live.mean_service_ms()))
    }
}

impl Drop for Reservation {
    /// Without a time nothing is learned; predicted work ends by itself.
    fn drop(&mut self) {
        match self.stage {
            Stage::Prefill { tokens } => dequeue(&self.live, tokens),
            Stage::Predicted { work_us, .. } => uncount(&self.live, work_us),
            Stage::Decode => {}
        }
        self.live.in_flight.fetch_sub(1, Relaxed);
    }
}

fn enqueue(live: &Live, tokens: u32, now_ms: u64) -> Stage {
    if live.prefilling.fetch_add(1, Relaxed) == 0 {
        live.speed.begin(now_ms);
    }
    live.queued_tokens.fetch_add(u64::from(tokens), Relaxed);
    Stage::Prefill { tokens }
}

fn dequeue(live: &Live, tokens: u32) {
    live.prefilling.fetch_sub(1, Relaxed);
    subtract(&live.queued_tokens, u64::from(tokens));
}

fn predict(live: &Live, demand: Demand, now_ms: u64) -> Stage {
    let work_us = (f64::from(demand.uncached_tokens) * 1e6 / f64::from(demand.speed.max(1.0))) as u64;
    let now_us = now_ms.saturating_mul(1_000);
    let extended = |until: u64| until.max(now_us).saturating_add(work_us);
    let before =
        live.unary_until_us.fetch_update(Relaxed, Relaxed, |until| Some(extended(until))).unwrap_or_else(|until| until);
    live.unary.fetch_add(1, Relaxed);
    live.unary_work_ms.fetch_add(work_ms(work_us), Relaxed);
    Stage::Predicted { work_us, ends_us: extended(before) }
}

fn uncount(live: &Live, work_us: u64) {
    live.unary.fetch_sub(1, Relaxed);
    live.unary_work_ms.fetch_sub(work_ms(work_us), Relaxed);
}

fn work_ms(work_us: u64) -> u32 {
    work_us.div_ceil(1_000).try_into().unwrap_or(u32::MAX)
}
