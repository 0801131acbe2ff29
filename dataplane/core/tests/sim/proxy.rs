//! A proxy: its own live numbers and its own copy of the scheduler's table.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use api::id::EndpointKey;
use api::snapshot::{
    Backend, Credentials, Ejection, Endpoint, Engine as Kind, Retry, Role, Snapshot, Timeouts, UsageInjection,
};
use dataplane_core::load::{Answer, Demand, LiveRegistry, Others, Reservation};
use dataplane_core::scheduler::{Matches, Request, Rng, schedule};
use dataplane_core::table::{BackendTable, Table};

use super::engine::{Engine, PREFILL_TOKENS_PER_S};
use super::policy::{Policy, cache_aware};
use super::workload::{Arrival, UNIT_TOKENS};

pub(crate) const BYTES_PER_UNIT: u32 = 1_024;

pub(crate) struct Proxy {
    pub(crate) backend: Arc<BackendTable>,
    policy: Policy,
    reservations: HashMap<usize, Reservation>,
    turn: usize,
    rng: Rng,
}

/// What a proxy tells the others: uncached tokens that wait and requests at each engine, and its rate.
#[derive(Debug, Clone)]
pub(crate) struct Said {
    loads: Vec<(u64, u32)>,
    token_rate: f64,
}

/// What a proxy hears of all others.
#[derive(Debug, Clone)]
pub(crate) struct Heard {
    loads: Vec<(u64, u32)>,
    others: Others,
}

impl Heard {
    /// The sum of all but the `own`-th.
    pub(crate) fn sum(said: &[Said], own: usize, age_ms: u64) -> Self {
        let mut loads = vec![(0, 0); said[own].loads.len()];
        let others = || said.iter().enumerate().filter(|(at, _)| *at != own).map(|(_, said)| said);
        for other in others() {
            for (sum, (tokens, running)) in loads.iter_mut().zip(&other.loads) {
                *sum = (sum.0 + tokens, sum.1 + running);
            }
        }
        let token_rate = others().map(|said| said.token_rate).sum();
        Self { loads, others: Others { proxies: said.len() as u32 - 1, token_rate, age_ms: age_ms as u32 } }
    }
}

impl Proxy {
    pub(crate) fn new(engines: u32, policy: Policy, seed: u64) -> Self {
        let backend = Backend { profile: Some("sim".into()), ..backend(engines) };
        let snapshot = Snapshot { backends: vec![backend], profiles: vec![policy.profile()], ..Snapshot::default() };
        let table = Table::compile(&snapshot, &mut LiveRegistry::new());
        let backend = Arc::clone(table.backends().next().expect("the snapshot has one"));
        Self { backend, policy, reservations: HashMap::new(), turn: seed as usize, rng: Rng::new(seed) }
    }

    /// Chooses an engine, and keeps the request's place there.
    pub(crate) fn decide(&mut self, arrival: &Arrival, at: usize, matches: &Matches, engines: &[Engine]) -> usize {
        let live = |slot: usize| &self.backend.slots[slot].live;
        let slot = match self.policy {
            Policy::Ours | Policy::Constant(_) | Policy::Kthena => return self.schedule(arrival, at, matches),
            Policy::RoundRobin => {
                self.turn += 1;
                self.turn % engines.len()
            }
            Policy::Pooled => {
                let free = |slot: &usize| engines[*slot].free_ms();
                (0..engines.len()).min_by(|one, other| free(one).total_cmp(&free(other))).expect("there are engines")
            }
            Policy::Random => self.rng.below(engines.len() as u32) as usize,
            Policy::LeastRequest => {
                let loads: Vec<u32> = (0..engines.len()).map(|slot| live(slot).routed()).collect();
                let least = loads.iter().min().copied().unwrap_or(0);
                let idle: Vec<usize> = (0..loads.len()).filter(|slot| loads[*slot] == least).collect();
                idle[self.rng.below(idle.len() as u32) as usize]
            }
            Policy::CacheAware => {
                let seen = |(slot, engine): (usize, &Engine)| (live(slot).routed(), engine.cache.held(&arrival.chain));
                let endpoints: Vec<_> = engines.iter().enumerate().map(seen).collect();
                cache_aware(&endpoints, arrival.chain.len() as u32)
            }
        };
        let uncached = arrival.chain.len() as u32 - engines[slot].cache.held(&arrival.chain);
        let demand = Demand {
            uncached_tokens: uncached * UNIT_TOKENS,
            answer: Answer::Stream,
            speed: PREFILL_TOKENS_PER_S as f32,
            max_in_flight: u32::MAX,
        };
        let reservation = Reservation::try_new(live(slot), demand, arrival.at_ms).expect("nothing is ever full");
        self.reservations.insert(at, reservation);
        slot
    }

    fn schedule(&mut self, arrival: &Arrival, at: usize, matches: &Matches) -> usize {
        let request = Request {
            adapter: None,
            prompt_bytes: arrival.chain.len() as u32 * BYTES_PER_UNIT,
            answer: Answer::Stream,
            peers: self.backend.live.proxies(),
            session: None,
        };
        let plan = schedule(&request, &self.backend, matches, &mut self.rng, arrival.at_ms).expect("all are ready");
        let slot = plan.endpoint.slot;
        self.reservations.insert(at, plan.endpoint.reservation);
        slot as usize
    }

    pub(crate) fn first_event(&mut self, request: usize, now_ms: u64) {
        self.reservations.get_mut(&request).expect("it was decided here").first_event(now_ms);
    }

    pub(crate) fn end(&mut self, request: usize, now_ms: u64) {
        self.reservations.remove(&request).expect("it was decided here").finish(now_ms);
    }

    pub(crate) fn say(&self, now_ms: u64) -> Said {
        let load = |live: &dataplane_core::load::Live| {
            (live.own_queued_tokens(live.speed(self.backend.live.median_speed()), now_ms), live.in_flight())
        };
        let loads = self.backend.slots.iter().map(|entry| load(&entry.live)).collect();
        Said { loads, token_rate: self.backend.live.token_rate() }
    }

    pub(crate) fn hear(&self, heard: &Heard, now_ms: u64) {
        for (entry, (tokens, running)) in self.backend.slots.iter().zip(&heard.loads) {
            entry.live.set_peers(*tokens, *running);
        }
        self.backend.live.hear(heard.others, now_ms);
    }
}

fn backend(engines: u32) -> Backend {
    let forever = Duration::from_secs(3_600);
    Backend {
        name: "d/sim".into(),
        engine: Kind::Vllm,
        model: None,
        endpoints: (0..engines).map(|number| Arc::new(endpoint(number))).collect(),
        profile: None,
        timeouts: Timeouts { connect: forever, first_byte: forever, idle: forever, total: forever },
        retry: Retry { attempts: 0, interval: Duration::ZERO, budget_percent: 0 },
        ejection: Ejection { failures: 5, base: forever, max: forever, max_percent: 50, slow_start: Duration::ZERO },
        max_in_flight: 4_096,
        usage: UsageInjection::Never,
        credentials: Credentials::Pass,
        chat_template: None,
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
