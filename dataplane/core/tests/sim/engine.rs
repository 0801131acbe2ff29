//! An engine: an LRU cache of prefixes, one prefill at a time, decode slots.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};

use dataplane_core::load::Report;

use super::workload::{Arrival, UNIT_TOKENS};

/// Units that an engine's cache holds: 400k tokens.
pub(crate) const CACHE_UNITS: usize = 1_562;
pub(crate) const PREFILL_TOKENS_PER_S: f64 = 8_000.0;
/// Requests that an engine decodes at once.
pub(crate) const DECODE_SLOTS: usize = 64;
/// Of a step, what one decoding request takes from prefill.
const DECODE_SHARE: f64 = 0.01;
const TOKEN_MS: f64 = 15.0;
/// Of a request, whatever its prompt.
const FIXED_MS: f64 = 5.0;

/// Least recently used units go first, of one chain the last one.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    capacity: usize,
    tick: u64,
    used: HashMap<u64, u64>,
    order: BTreeMap<u64, u64>,
}

impl Cache {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity, ..Self::default() }
    }

    /// Leading units that are cached.
    pub(crate) fn held(&self, chain: &[u64]) -> u32 {
        chain.iter().take_while(|unit| self.used.contains_key(unit)).count() as u32
    }

    pub(crate) fn insert(&mut self, chain: &[u64]) {
        for unit in chain.iter().rev() {
            self.tick += 1;
            if let Some(before) = self.used.insert(*unit, self.tick) {
                self.order.remove(&before);
            }
            self.order.insert(self.tick, *unit);
        }
        while self.used.len() > self.capacity {
            let (_, unit) = self.order.pop_first().expect("as many ticks as units");
            self.used.remove(&unit);
        }
    }
}

/// When a request's first token comes and when its last.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Served {
    pub(crate) hit_tokens: u64,
    pub(crate) first_ms: u64,
    pub(crate) last_ms: u64,
}

#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) cache: Cache,
    /// Of prefill, in all.
    pub(crate) busy_ms: f64,
    prefill_free_ms: f64,
    decoding: BinaryHeap<Reverse<u64>>,
    /// (first token, last token, units) of what is not over, for reports.
    active: Vec<(u64, u64, usize)>,
    ttft_ms: f64,
    slots: usize,
}

impl Engine {
    /// Of so many units of cache and decode slots.
    pub(crate) fn new(cache_units: usize, slots: usize) -> Self {
        Self {
            cache: Cache::new(cache_units),
            busy_ms: 0.0,
            prefill_free_ms: 0.0,
            decoding: BinaryHeap::new(),
            active: Vec::new(),
            ttft_ms: 0.0,
            slots,
        }
    }

    /// Requests are served in order of arrival, so their times are known at once.
    pub(crate) fn serve(&mut self, arrival: &Arrival) -> Served {
        let hit = self.cache.held(&arrival.chain);
        self.cache.insert(&arrival.chain);
        self.run(arrival, hit)
    }

    /// When it has prefilled all that waits.
    pub(crate) fn free_ms(&self) -> f64 {
        self.prefill_free_ms
    }

    /// Serves where so many leading units are cached.
    pub(crate) fn run(&mut self, arrival: &Arrival, hit: u32) -> Served {
        let mut start_ms = self.prefill_free_ms.max(arrival.at_ms as f64);
        while self.decoding.peek().is_some_and(|Reverse(end_ms)| *end_ms as f64 <= start_ms) {
            self.decoding.pop();
        }
        if self.decoding.len() == self.slots {
            let Reverse(free_ms) = self.decoding.pop().expect("the slots are taken");
            start_ms = start_ms.max(free_ms as f64);
        }
        let uncached = f64::from((arrival.chain.len() as u32 - hit) * UNIT_TOKENS);
        // Every step carries the tokens of those that decode, so prefill slows down with them.
        let slowed = 1.0 + self.decoding.len() as f64 * DECODE_SHARE;
        let first_ms = start_ms + FIXED_MS + uncached * 1_000.0 / PREFILL_TOKENS_PER_S * slowed;
        let last_ms = first_ms + f64::from(arrival.answer_tokens) * TOKEN_MS;
        self.busy_ms += first_ms - start_ms;
        self.prefill_free_ms = first_ms;
        self.decoding.push(Reverse(last_ms as u64));
        self.active.push((first_ms as u64, last_ms as u64, arrival.chain.len()));
        self.ttft_ms += (first_ms - arrival.at_ms as f64 - self.ttft_ms) / 16.0;
        Served { hit_tokens: u64::from(hit * UNIT_TOKENS), first_ms: first_ms as u64, last_ms: last_ms as u64 }
    }

    /// What its metrics say.
    pub(crate) fn report(&mut self, now_ms: u64) -> Report {
        self.active.retain(|(_, last_ms, _)| *last_ms > now_ms);
        let waiting = self.active.iter().filter(|(first_ms, ..)| *first_ms > now_ms).count().saturating_sub(1);
        let units: usize = self.active.iter().map(|(.., units)| units).sum();
        Report {
            waiting: waiting as u32,
            running: (self.active.len() - waiting) as u32,
            kv_usage: (units as f32 / CACHE_UNITS as f32).min(1.0),
            ttft_us: (self.ttft_ms * 1e3) as u32,
            tpot_us: (TOKEN_MS * 1e3) as u32,
        }
    }
}
