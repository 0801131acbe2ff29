//! Route, hash, look up, schedule: from what a request asks for to a plan. No waiting, but for a helper thread that
//! hashes a very large prompt.

use std::sync::Arc;

use api::id::ModelName;
use api::prefix::{Salt, seed};
use api::snapshot::UsageInjection;
use dataplane_core::index::{Placement, Query, Seat};
use dataplane_core::inspect::{Splices, plan_splices};
use dataplane_core::load::Answer;
use dataplane_core::plan::{Again, Plan};
use dataplane_core::route::{HeaderLookup, RouteMiss, RouteQuery, Routed, route};
use dataplane_core::scheduler::{Held, Matches, NoEndpoint, Request, Uses, schedule_timed, session_hash};
use dataplane_core::table::{BackendTable, RouteTable, Table};

use super::Ended;
use super::ask::Ask;
use super::finish::Flight;
use super::prompt::Prompt;
use super::read::Received;
use super::times::Times;
use crate::metrics::Limit;
use crate::refusal::{Reason, Refusal};
use crate::server::connection::Connection;
use crate::worker::Worker;

/// What was decided: the plan, and what a further decision needs. Of the table only what the plan names is held.
#[derive(Debug)]
pub(crate) struct Decided {
    pub(crate) plan: Plan,
    pub(crate) backend: Arc<BackendTable>,
    pub(crate) served: Option<ModelName>,
    pub(crate) splices: Splices,
    adapter: Option<ModelName>,
    chain: Vec<u64>,
    prompt_bytes: u32,
    answer: Answer,
    session: Option<u64>,
    matches: Matches,
}

/// Where a request goes, independent of the table.
struct Target {
    route: Arc<RouteTable>,
    backend: Arc<BackendTable>,
    served: Option<ModelName>,
    adapter: Option<ModelName>,
    fleet_seed: u64,
}

/// Decides. The request's body comes back.
pub(crate) async fn decide(
    connection: &mut Connection,
    flight: &mut Flight,
    received: Received,
    ask: &Ask,
) -> Result<(Received, Box<Decided>), Ended> {
    let worker = &*connection.worker.clone();
    let target = find(worker, flight, &received, ask)?;
    let usage = inject(worker, ask, &target);
    let splices = plan_splices(&ask.inspected, received.body(), target.served.as_ref().map(ModelName::as_str), usage);
    let (received, chain, prompt_bytes) = hash(connection, received, ask, &target).await?;
    flight.prompt(ask.inspected.token_estimate(), chain.len());
    let Target { backend, served, adapter, .. } = target;
    let answer = if ask.streams() { Answer::Stream } else { Answer::Unary };
    let mut times = Times::begin();
    let matches = look_up(worker, &chain, &backend);
    let session = session(&received, &backend);
    let adapter_name = adapter.as_ref().map(ModelName::as_str);
    let request = Request { adapter: adapter_name, prompt_bytes, answer, peers: backend.live.proxies(), session };
    times.next();
    let planned = {
        let mut ended = |stage| times.ended(stage);
        let rng = &mut worker.rng.borrow_mut();
        schedule_timed(&request, (&backend, &matches), rng, worker.now_ms(), &mut ended)
    };
    let plan = planned.map_err(|none| no_endpoint(none, &backend))?;
    flight.decided(&plan.decision, &backend, &times);
    let decided = Decided { plan, backend, served, splices, adapter, chain, prompt_bytes, answer, session, matches };
    decided.mark(worker);
    Ok((received, Box::new(decided)))
}

impl Decided {
    /// Decides anew after a failure; false when nobody is left.
    pub(crate) fn again(&mut self, worker: &Worker, flight: &mut Flight) -> bool {
        let adapter = self.adapter.as_ref().map(ModelName::as_str);
        let (peers, session) = (self.backend.live.proxies(), self.session);
        let request = Request { adapter, prompt_bytes: self.prompt_bytes, answer: self.answer, peers, session };
        let again = Again { request: &request, backend: &self.backend, matches: &self.matches };
        let mut times = Times::begin();
        let next = dataplane_core::plan::next(&mut self.plan, &again, &mut worker.rng.borrow_mut(), worker.now_ms());
        if next.is_err() {
            return false;
        }
        times.next();
        flight.decided(&self.plan.decision, &self.backend, &times);
        self.mark(worker);
        true
    }

    /// A decision leaves its marks at once, so that the next one knows of it.
    fn mark(&self, worker: &Worker) {
        if self.chain.is_empty() {
            return;
        }
        let Some(seat) = self.backend.slots[self.plan.endpoint.slot as usize].seat.map(Seat) else { return };
        let tokens_per_block = api::limits::BLOCK_BYTES as f32 / self.backend.live.bytes_per_token();
        let matched = self.plan.endpoint.matched_blocks;
        worker.index.borrow_mut().place(&Placement { chain: &self.chain, seat, matched, tokens_per_block });
    }

    /// Bytes of the rendered prompt, to learn from usage.
    pub(crate) fn prompt_bytes(&self) -> u32 {
        self.prompt_bytes
    }
}

fn find(worker: &Worker, flight: &mut Flight, received: &Received, ask: &Ask) -> Result<Target, Refusal> {
    // Asked first: a table that comes between the two would be taken for one that lacks the model.
    let loaded = worker.shared.loaded();
    let table = worker.table();
    flight.model(&ask.model, table.known_model(&ask.model));
    let random = worker.rng.borrow_mut().next_u64();
    let headers = Headers(received);
    let query = RouteQuery { model: &ask.model, path: received.path(), headers: &headers, random };
    let routed = route(&table, &query).map_err(|miss| match loaded {
        true => missed(&table, &ask.model, miss),
        false => unconfigured(),
    })?;
    let target = target(&table, &routed);
    flight.bound(&target.route.name, &target.backend.name, target.served.as_ref());
    Ok(target)
}

fn target(table: &Table, routed: &Routed<'_>) -> Target {
    Target {
        route: routed.route.clone(),
        backend: routed.backend.clone(),
        served: routed.served_model.cloned(),
        adapter: routed.adapter.cloned(),
        fleet_seed: table.fleet_seed(),
    }
}

/// The control plane has never said anything, nor is there anything on disk: what exists is not known.
fn unconfigured() -> Refusal {
    let text = "This proxy has no routes yet: it waits for its control plane.";
    Refusal::new(503, Reason::RouteNotFound, text).retry_after(1)
}

fn missed(table: &Table, model: &str, miss: RouteMiss) -> Refusal {
    match miss {
        RouteMiss::BackendMissing(_) => Refusal::new(404, Reason::PodDiscovery, miss.to_string()),
        RouteMiss::NoRoute if table.known_model(model).is_some() => Refusal::new(
            404,
            Reason::RouteNotFound,
            "route not found: no rule of this model's routes matches the request",
        ),
        RouteMiss::NoRoute => {
            let shown: String = model.chars().take(128).collect();
            Refusal::new(404, Reason::RouteNotFound, format!("route not found: the model `{shown}` does not exist"))
                .code("model_not_found")
                .param("model")
        }
    }
}

fn no_endpoint(none: NoEndpoint, backend: &BackendTable) -> Refusal {
    let name = backend.name.as_str();
    match none {
        NoEndpoint::Empty => {
            Refusal::new(503, Reason::PodDiscovery, format!("no available pods for model server: {name}"))
                .retry_after(1)
        }
        NoEndpoint::Saturated => Refusal::new(503, Reason::Scheduling, format!("model server {name}: {none}"))
            .code("overloaded")
            .retry_after(1)
            .limit(Limit::InFlight),
        NoEndpoint::FilteredOut(_) | NoEndpoint::AllTried => {
            Refusal::new(503, Reason::Scheduling, format!("model server {name}: {none}")).retry_after(1)
        }
    }
}

/// Whether usage is asked for in the client's place: the process's setting, narrowed by the backend's.
fn inject(worker: &Worker, ask: &Ask, target: &Target) -> bool {
    let wanted = |setting| match setting {
        UsageInjection::Always => true,
        UsageInjection::Policy => target.route.counts_tokens(),
        UsageInjection::Never => false,
    };
    ask.api.takes_stream_options() && wanted(worker.shared.config.usage_inject) && wanted(target.backend.usage)
}

/// The chain of the prompt's blocks, and the bytes of its text.
async fn hash(
    connection: &mut Connection,
    received: Received,
    ask: &Ask,
    target: &Target,
) -> Result<(Received, Vec<u64>, u32), Ended> {
    if !target.backend.profile.asks_for_prefixes() {
        return Ok((received, Vec::new(), 0));
    }
    let model = target.served.as_ref().map_or(ask.model.as_str(), ModelName::as_str);
    let adapter = target.adapter.as_ref().map_or("", ModelName::as_str);
    let cache_salt = ask.cache_salt(received.body());
    let seed = seed(&Salt { fleet_seed: target.fleet_seed, model, adapter, cache_salt: &cache_salt });
    let prompt = Prompt::new(seed, target.backend.chat.clone());
    prompt.hash(connection, received, ask).await
}

/// The client's session, where the backend's profile asks for it.
fn session(received: &Received, backend: &BackendTable) -> Option<u64> {
    let header = backend.profile.session_header()?;
    Headers(received).first(header).filter(|name| !name.is_empty()).map(session_hash)
}

/// What the prefix table knows of the prompt, by the backend's slots.
fn look_up(worker: &Worker, chain: &[u64], backend: &BackendTable) -> Matches {
    let mut index = worker.index.borrow_mut();
    index.turn();
    if chain.is_empty() {
        return Matches::default();
    }
    let query = Query { chain, now_ms: worker.now_ms(), tie: worker.rng.borrow_mut().next_u64() };
    let found = index.lookup(&query, |seat| backend.slot_of_seat(seat.0).is_some());
    let held =
        found.best().iter().filter_map(|m| Some(Held { slot: backend.slot_of_seat(m.seat.0)?, blocks: m.blocks }));
    let uses = found.uses().iter().map(|u| Uses { end: u.end, uses: u.uses });
    Matches { blocks: found.blocks, held: held.collect(), uses: uses.collect() }
}

/// A request's fields, as routing asks for them.
struct Headers<'a>(&'a Received);

impl HeaderLookup for Headers<'_> {
    fn first(&self, lower_name: &str) -> Option<&[u8]> {
        self.0.head.header(self.0.input.bytes(), lower_name)
    }
}
