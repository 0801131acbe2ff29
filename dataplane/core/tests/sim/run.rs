//! The virtual clock: arrivals are decided, first events and ends are told to their proxy when they happen, and proxies
//! hear of each other as late as the setup says.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};

use dataplane_core::scheduler::{Held, Matches, Rng, Uses};

use super::engine::{CACHE_UNITS, Cache, DECODE_SLOTS, Engine, Served};
use super::policy::Policy;
use super::proxy::{Heard, Proxy, Said};
use super::report::{Report, Request};
use super::workload::{Arrival, UNIT_TOKENS};

pub(crate) const ENGINES: u32 = 4;
const BLOCKS_PER_UNIT: u32 = 16;
const USES_HALF_LIFE_MS: f32 = 30_000.0;
const REFRESH_MS: u64 = 1_000;
const REPORT_MS: u64 = 5;

/// Whose use counts a proxy knows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Counts {
    Fleet,
    Own,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup {
    pub(crate) policy: Policy,
    pub(crate) proxies: usize,
    /// How late the others' reports come, one every 5 ms; none: never.
    pub(crate) delay_ms: Option<u64>,
    pub(crate) counts: Counts,
    pub(crate) seed: u64,
    pub(crate) engines: Engines,
}

/// How many engines there are, and of what kind.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Engines {
    pub(crate) count: u32,
    pub(crate) cache_units: usize,
    pub(crate) slots: usize,
}

impl Setup {
    /// One proxy.
    pub(crate) fn one(policy: Policy, seed: u64) -> Self {
        let engines = Engines { count: ENGINES, cache_units: CACHE_UNITS, slots: DECODE_SLOTS };
        Self { policy, proxies: 1, delay_ms: Some(0), counts: Counts::Fleet, seed, engines }
    }
}

/// What one cache as large as all engines' together would hit, of each request.
pub(crate) fn pooled_hits(arrivals: &[Arrival]) -> Vec<u64> {
    let mut cache = Cache::new(CACHE_UNITS * ENGINES as usize);
    let mut hits = |arrival: &Arrival| {
        let held = cache.held(&arrival.chain);
        cache.insert(&arrival.chain);
        u64::from(held * UNIT_TOKENS)
    };
    arrivals.iter().map(&mut hits).collect()
}

pub(crate) fn run(arrivals: &[Arrival], setup: Setup) -> Report {
    let mut world = World::new(setup);
    let mut report = Report::default();
    for arrival in arrivals {
        world.take(arrival, &mut report);
    }
    world.end(report)
}

/// Clients that wait: the first `clients` prompts come at `per_second`, and each further one when an answer has ended. How
/// long all of it took, in ms, beside the report.
pub(crate) fn run_closed(prompts: &[Arrival], clients: usize, per_second: f64, setup: Setup) -> (Report, u64) {
    let mut world = World::new(setup);
    let mut report = Report::default();
    let begun = (0..clients).map(|n| Reverse((n as f64 * 1_000.0 / per_second) as u64));
    let mut free: BinaryHeap<Reverse<u64>> = begun.collect();
    let mut last_ms = 0;
    for prompt in prompts {
        let Reverse(at_ms) = free.pop().expect("there are clients");
        let served = world.take(&Arrival { at_ms, ..prompt.clone() }, &mut report);
        free.push(Reverse(served.last_ms));
        last_ms = last_ms.max(served.last_ms);
    }
    (world.end(report), last_ms)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Happens {
    FirstEvent(usize),
    End(usize),
}

struct World {
    setup: Setup,
    proxies: Vec<Proxy>,
    engines: Vec<Engine>,
    /// Of all engines, for the policy that has it.
    pool: Cache,
    events: BinaryHeap<Reverse<(u64, usize, Happens)>>,
    /// One for the fleet, or one for each proxy.
    uses: Vec<HashMap<u64, (f32, u64)>>,
    spreader: Rng,
    /// Reports on their way, with the time at which they were made.
    on_the_way: VecDeque<(u64, Vec<Said>)>,
    reported_ms: u64,
    refreshed_ms: u64,
}

impl World {
    fn new(setup: Setup) -> Self {
        let seeds = (0..setup.proxies as u64).map(|proxy| setup.seed << 16 | proxy);
        let counts = if setup.counts == Counts::Fleet { 1 } else { setup.proxies };
        Self {
            setup,
            proxies: seeds.map(|seed| Proxy::new(setup.engines.count, setup.policy, seed)).collect(),
            engines: (0..setup.engines.count)
                .map(|_| Engine::new(setup.engines.cache_units, setup.engines.slots))
                .collect(),
            pool: Cache::new(setup.engines.cache_units * setup.engines.count as usize),
            events: BinaryHeap::new(),
            uses: vec![HashMap::new(); counts],
            spreader: Rng::new(!setup.seed),
            on_the_way: VecDeque::new(),
            reported_ms: 0,
            refreshed_ms: 0,
        }
    }

    /// A request comes and is decided.
    fn take(&mut self, arrival: &Arrival, report: &mut Report) -> Served {
        let at = report.requests.len();
        self.advance(arrival.at_ms);
        let proxy = self.spreader.below(self.setup.proxies as u32) as usize;
        let matches = self.matches(arrival, proxy);
        let slot = self.proxies[proxy].decide(arrival, at, &matches, &self.engines);
        self.count_uses(arrival, proxy);
        let served = match self.setup.policy {
            Policy::Pooled => {
                let hit = self.pool.held(&arrival.chain);
                self.pool.insert(&arrival.chain);
                self.engines[slot].run(arrival, hit)
            }
            _ => self.engines[slot].serve(arrival),
        };
        self.events.push(Reverse((served.first_ms, at, Happens::FirstEvent(proxy))));
        self.events.push(Reverse((served.last_ms, at, Happens::End(proxy))));
        let ttft_ms = served.first_ms - arrival.at_ms;
        report.requests.push(Request { proxy, hit_tokens: served.hit_tokens, ttft_ms });
        served
    }

    /// All that runs ends.
    fn end(mut self, mut report: Report) -> Report {
        self.drain();
        report.busy_ms = self.engines.iter().map(|engine| engine.busy_ms).collect();
        for entry in self.proxies.iter().flat_map(|proxy| &proxy.backend.slots) {
            assert_eq!(entry.live.in_flight(), 0, "seed {}: all are released", self.setup.seed);
        }
        report
    }

    /// Everything that happens up to a time, in order.
    fn advance(&mut self, now_ms: u64) {
        while self.reported_ms + REPORT_MS <= now_ms {
            self.reported_ms += REPORT_MS;
            self.events_until(self.reported_ms);
            self.tell(self.reported_ms);
        }
        self.events_until(now_ms);
        self.hear(now_ms);
    }

    fn drain(&mut self) {
        self.events_until(u64::MAX);
    }

    fn events_until(&mut self, now_ms: u64) {
        while self.events.peek().is_some_and(|Reverse((at_ms, ..))| *at_ms <= now_ms) {
            let Reverse((at_ms, request, happens)) = self.events.pop().expect("it was peeked at");
            match happens {
                Happens::FirstEvent(proxy) => self.proxies[proxy].first_event(request, at_ms),
                Happens::End(proxy) => self.proxies[proxy].end(request, at_ms),
            }
        }
    }

    /// What goes on every 5 ms: engines' metrics, reports, and once a second what each proxy recomputes.
    fn tell(&mut self, now_ms: u64) {
        if self.setup.policy == Policy::Kthena {
            for (slot, engine) in self.engines.iter_mut().enumerate() {
                let report = engine.report(now_ms);
                self.proxies.iter().for_each(|proxy| proxy.backend.slots[slot].live.set_report(report, now_ms));
            }
        }
        if self.setup.proxies > 1 && self.setup.delay_ms.is_some() {
            let said = self.proxies.iter().map(|proxy| proxy.say(now_ms)).collect();
            self.on_the_way.push_back((now_ms, said));
            self.hear(now_ms);
        }
        if now_ms - self.refreshed_ms >= REFRESH_MS {
            self.proxies.iter().for_each(|proxy| proxy.backend.refresh(now_ms));
            self.refreshed_ms = now_ms;
        }
    }

    fn hear(&mut self, now_ms: u64) {
        let delay_ms = self.setup.delay_ms.unwrap_or(0);
        let mut last = None;
        while self.on_the_way.front().is_some_and(|(made_ms, _)| made_ms + delay_ms <= now_ms) {
            last = self.on_the_way.pop_front();
        }
        let Some((made_ms, said)) = last else { return };
        for (own, proxy) in self.proxies.iter().enumerate() {
            proxy.hear(&Heard::sum(&said, own, now_ms - made_ms), now_ms);
        }
    }

    fn matches(&self, arrival: &Arrival, proxy: usize) -> Matches {
        let blocks = |engine: &Engine| engine.cache.held(&arrival.chain) * BLOCKS_PER_UNIT;
        let held = self.engines.iter().zip(0..).map(|(engine, slot)| Held { slot, blocks: blocks(engine) });
        let units = arrival.chain.len();
        let step = units.div_ceil(16);
        let counted = &self.uses[proxy % self.uses.len()];
        let uses_of = |end: usize| {
            let true_one = || counted.get(&arrival.chain[end - 1]).map_or(0.0, |use_| decayed(*use_, arrival.at_ms));
            self.setup.policy.uses().unwrap_or_else(true_one)
        };
        let ends = (step..=units).step_by(step).chain((!units.is_multiple_of(step)).then_some(units));
        Matches {
            blocks: units as u32 * BLOCKS_PER_UNIT,
            held: held.filter(|held| held.blocks > 0).collect(),
            uses: ends.map(|end| Uses { end: end as u32 * BLOCKS_PER_UNIT, uses: uses_of(end) }).collect(),
        }
    }

    fn count_uses(&mut self, arrival: &Arrival, proxy: usize) {
        let at = proxy % self.uses.len();
        for unit in &arrival.chain {
            let entry = self.uses[at].entry(*unit).or_default();
            *entry = (decayed(*entry, arrival.at_ms) + 1.0, arrival.at_ms);
        }
    }
}

fn decayed((uses, since_ms): (f32, u64), now_ms: u64) -> f32 {
    uses * (-((now_ms - since_ms) as f32) / USES_HALF_LIFE_MS).exp2()
}
