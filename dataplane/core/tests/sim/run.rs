//! The virtual clock: arrivals are decided, first events and ends are told to the scheduler when they happen.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use api::id::EndpointKey;
use api::snapshot::{
    Backend, Credentials, Ejection, Endpoint, Engine as Kind, Retry, Role, Snapshot, Timeouts, UsageInjection,
};
use dataplane_core::load::{Answer, LiveRegistry};
use dataplane_core::plan::Plan;
use dataplane_core::scheduler::{Held, Matches, Request, Rng, Uses, schedule};
use dataplane_core::table::{BackendTable, Table};

use super::engine::{CACHE_UNITS, Cache, Engine};
use super::workload::{Arrival, UNIT_TOKENS};

const ENGINES: u32 = 4;
const BLOCKS_PER_UNIT: u32 = 16;
const BYTES_PER_UNIT: u32 = 1_024;
const USES_HALF_LIFE_MS: f32 = 30_000.0;
const REFRESH_MS: u64 = 1_000;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Policy {
    LocalityCost,
    RoundRobin,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Report {
    pub(crate) hit_tokens: u64,
    pub(crate) ttft_ms: Vec<u64>,
}

impl Report {
    /// Without the first fifth, in which the caches fill.
    pub(crate) fn mean_ttft_s(&self) -> f64 {
        let warm = &self.ttft_ms[self.ttft_ms.len() / 5..];
        warm.iter().sum::<u64>() as f64 / warm.len() as f64 / 1_000.0
    }
}

/// What one cache as large as all engines' together would hit.
pub(crate) fn pooled_hits(arrivals: &[Arrival]) -> u64 {
    let mut cache = Cache::new(CACHE_UNITS * ENGINES as usize);
    let mut hits = 0;
    for arrival in arrivals {
        hits += u64::from(cache.held(&arrival.chain) * UNIT_TOKENS);
        cache.insert(&arrival.chain);
    }
    hits
}

pub(crate) fn run(arrivals: &[Arrival], policy: Policy, seed: u64) -> Report {
    let mut world = World::new(seed);
    let mut report = Report::default();
    for (at, arrival) in arrivals.iter().enumerate() {
        world.advance(arrival.at_ms);
        let slot = match policy {
            Policy::RoundRobin => at as u32 % ENGINES,
            Policy::LocalityCost => world.decide(arrival, at),
        };
        let served = world.engines[slot as usize].serve(arrival);
        world.events.push(Reverse((served.first_ms, at, Happens::FirstEvent)));
        world.events.push(Reverse((served.last_ms, at, Happens::End)));
        report.hit_tokens += served.hit_tokens;
        report.ttft_ms.push(served.first_ms - arrival.at_ms);
    }
    world.advance(u64::MAX);
    assert!(world.backend.slots.iter().all(|entry| entry.live.in_flight() == 0), "seed {seed}: all are released");
    report
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Happens {
    FirstEvent,
    End,
}

struct World {
    backend: Arc<BackendTable>,
    engines: Vec<Engine>,
    plans: HashMap<usize, Plan>,
    events: BinaryHeap<Reverse<(u64, usize, Happens)>>,
    uses: HashMap<u64, (f32, u64)>,
    rng: Rng,
    refreshed_ms: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let snapshot = Snapshot { backends: vec![backend()], ..Snapshot::default() };
        let table = Table::compile(&snapshot, &mut LiveRegistry::new());
        Self {
            backend: Arc::clone(table.backends().next().expect("the snapshot has one")),
            engines: (0..ENGINES).map(|_| Engine::new()).collect(),
            plans: HashMap::new(),
            events: BinaryHeap::new(),
            uses: HashMap::new(),
            rng: Rng::new(seed),
            refreshed_ms: 0,
        }
    }

    /// Everything that happens up to a time, in order.
    fn advance(&mut self, now_ms: u64) {
        while self.events.peek().is_some_and(|Reverse((at_ms, ..))| *at_ms <= now_ms) {
            let Reverse((at_ms, request, happens)) = self.events.pop().expect("it was peeked at");
            match happens {
                Happens::FirstEvent => {
                    if let Some(plan) = self.plans.get_mut(&request) {
                        plan.endpoint.reservation.first_event(at_ms);
                    }
                }
                Happens::End => {
                    if let Some(plan) = self.plans.remove(&request) {
                        plan.endpoint.reservation.finish(at_ms);
                    }
                }
            }
        }
        if now_ms - self.refreshed_ms >= REFRESH_MS {
            self.backend.refresh(now_ms);
            self.refreshed_ms = now_ms;
        }
    }

    fn decide(&mut self, arrival: &Arrival, at: usize) -> u32 {
        let matches = self.matches(arrival);
        let request = Request {
            adapter: None,
            prompt_bytes: arrival.chain.len() as u32 * BYTES_PER_UNIT,
            answer: Answer::Stream,
            peers: 1,
        };
        let plan = schedule(&request, &self.backend, &matches, &mut self.rng, arrival.at_ms).expect("all are ready");
        let slot = plan.endpoint.slot;
        self.plans.insert(at, plan);
        self.count_uses(arrival);
        slot
    }

    fn matches(&self, arrival: &Arrival) -> Matches {
        let held = self
            .engines
            .iter()
            .zip(0..)
            .map(|(engine, slot)| Held { slot, blocks: engine.cache.held(&arrival.chain) * BLOCKS_PER_UNIT });
        let units = arrival.chain.len();
        let step = units.div_ceil(16);
        let uses = (step..=units).step_by(step).map(|end| Uses {
            end: end as u32 * BLOCKS_PER_UNIT,
            uses: self.uses.get(&arrival.chain[end - 1]).map_or(0.0, |use_| decayed(*use_, arrival.at_ms)),
        });
        Matches {
            blocks: units as u32 * BLOCKS_PER_UNIT,
            held: held.filter(|held| held.blocks > 0).collect(),
            uses: uses.collect(),
        }
    }

    fn count_uses(&mut self, arrival: &Arrival) {
        for unit in &arrival.chain {
            let entry = self.uses.entry(*unit).or_default();
            *entry = (decayed(*entry, arrival.at_ms) + 1.0, arrival.at_ms);
        }
    }
}

fn decayed((uses, since_ms): (f32, u64), now_ms: u64) -> f32 {
    uses * (-((now_ms - since_ms) as f32) / USES_HALF_LIFE_MS).exp2()
}

fn backend() -> Backend {
    let forever = Duration::from_secs(3_600);
    Backend {
        name: "d/sim".into(),
        engine: Kind::Vllm,
        model: None,
        endpoints: (0..ENGINES).map(|number| Arc::new(endpoint(number))).collect(),
        profile: None,
        timeouts: Timeouts { connect: forever, first_byte: forever, idle: forever, total: forever },
        retry: Retry { attempts: 0, interval: Duration::ZERO, budget_percent: 0 },
        ejection: Ejection { failures: 5, base: forever, max: forever, max_percent: 50, slow_start: Duration::ZERO },
        max_in_flight: 4_096,
        usage: UsageInjection::Never,
        credentials: Credentials::Pass,
    }
}

fn endpoint(number: u32) -> Endpoint {
    Endpoint {
        handle: number,
        key: EndpointKey { uid: format!("engine-{number}").into(), port: 8_000, rank: 0 },
        name: format!("engine-{number}").into(),
        address: ([127, 0, 0, number as u8 + 1], 8_000).into(),
        labels: BTreeMap::new(),
        role: Role::Both,
        group: None,
        revision: None,
        node: None,
        zone: None,
        adapters: None,
        cache_tokens: None,
    }
}
