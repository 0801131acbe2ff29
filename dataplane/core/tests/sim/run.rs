//! The virtual clock: arrivals are decided, first events and ends are told to their proxy when they happen, and proxies
//! hear of each other as late as the setup says.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};

use dataplane_core::scheduler::{Held, Matches, Rng, Uses};

use super::engine::{CACHE_UNITS, Cache, Engine};
use super::policy::Policy;
use super::proxy::{Heard, Proxy, Said};
use super::report::{Report, Request};
use super::workload::{Arrival, UNIT_TOKENS};

pub(crate) const ENGINES: u32 = 4;
const BLOCKS_PER_UNIT: u32 = 16;
const USES_HALF_LIFE_MS: f32 = 30_000.0;
const REFRESH_MS: u64 = 1_000;
const REPORT_MS: u64 = 20;

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
    /// How late the others' reports come, one every 20 ms; none: never.
    pub(crate) delay_ms: Option<u64>,
    pub(crate) counts: Counts,
    pub(crate) seed: u64,
}

impl Setup {
    /// One proxy.
    pub(crate) fn one(policy: Policy, seed: u64) -> Self {
        Self { policy, proxies: 1, delay_ms: Some(0), counts: Counts::Fleet, seed }
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
    for (at, arrival) in arrivals.iter().enumerate() {
        world.advance(arrival.at_ms);
        let proxy = world.spreader.below(setup.proxies as u32) as usize;
        let matches = world.matches(arrival, proxy);
        let slot = world.proxies[proxy].decide(arrival, at, &matches, &world.engines);
        world.count_uses(arrival, proxy);
        let served = world.engines[slot].serve(arrival);
        world.events.push(Reverse((served.first_ms, at, Happens::FirstEvent(proxy))));
        world.events.push(Reverse((served.last_ms, at, Happens::End(proxy))));
        let ttft_ms = served.first_ms - arrival.at_ms;
        report.requests.push(Request { proxy, hit_tokens: served.hit_tokens, ttft_ms });
    }
    world.drain();
    report.busy_ms = world.engines.iter().map(|engine| engine.busy_ms).collect();
    for entry in world.proxies.iter().flat_map(|proxy| &proxy.backend.slots) {
        assert_eq!(entry.live.in_flight(), 0, "seed {}: all are released", setup.seed);
    }
    report
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
            proxies: seeds.map(|seed| Proxy::new(ENGINES, setup.policy, seed)).collect(),
            engines: (0..ENGINES).map(|_| Engine::new()).collect(),
            events: BinaryHeap::new(),
            uses: vec![HashMap::new(); counts],
            spreader: Rng::new(!setup.seed),
            on_the_way: VecDeque::new(),
            reported_ms: 0,
            refreshed_ms: 0,
        }
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

    /// What goes on every 20 ms: engines' metrics, reports, and once a second what each proxy recomputes.
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
