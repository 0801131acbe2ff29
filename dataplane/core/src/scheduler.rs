//! Which endpoint takes a request: filter → score → pick. The cost does not grow with the fleet: the best matches and
//! a few random endpoints are looked at.

mod filter;
mod guess;
mod pick;
mod rng;
mod sample;
mod score;
mod stage;

pub use rng::Rng;
pub use stage::{Ended, Stage};

use std::sync::Arc;

use api::limits::BLOCK_BYTES;
use api::snapshot::Scorers;
use smallvec::SmallVec;
use thiserror::Error;

use crate::load::{Answer, Demand, Live, Reservation, Unheard};
use crate::plan::{Considered, Decision, Plan, Verdict};
use crate::table::BackendTable;
use filter::Admission;

/// Best matches that are scored.
pub const MATCHED_CANDIDATES: usize = 4;
/// Random endpoints that are scored.
pub const RANDOM_CANDIDATES: usize = 8;
/// Random endpoints where many proxies share the backend: fewer, so that they do not all run to the same one.
pub const RANDOM_CANDIDATES_OF_MANY: usize = 2;
/// More proxies than this are many.
pub const MANY_PROXIES: u32 = 16;
/// Kthena's scorers see all endpoints of a backend up to this size.
pub const SCORE_ALL_UP_TO: usize = 64;

/// What the scheduler has to know of a request.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The adapter that is asked for; none for a base model.
    pub adapter: Option<&'a str>,
    /// Bytes of the rendered prompt.
    pub prompt_bytes: u32,
    /// How the answer comes.
    pub answer: Answer,
    /// Proxies that share the backend, this one included.
    pub peers: u32,
    /// The hash of what names the client's session, where the profile asks for it: see [`session_hash`].
    pub session: Option<u64>,
}

/// The hash of a session's name. It is the same on every proxy.
pub fn session_hash(name: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(name)
}

/// An endpoint and how much of the prompt it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Held {
    /// The endpoint's slot in the backend's table.
    pub slot: u32,
    /// Leading blocks.
    pub blocks: u32,
}

/// How often blocks were asked for lately.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Uses {
    /// The blocks from the sample before to this one, exclusive.
    pub end: u32,
    /// The fleet's count, decayed with a half-life of 30 s; it never grows along a chain.
    pub uses: f32,
}

/// What the prefix tables know of a prompt.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Matches {
    /// Full blocks of the prompt.
    pub blocks: u32,
    /// The endpoints that hold most of it.
    pub held: SmallVec<[Held; 8]>,
    /// A step function along the chain; behind its last sample nothing was asked for.
    pub uses: SmallVec<[Uses; 16]>,
}

impl Matches {
    /// Leading blocks that an endpoint holds.
    pub fn of(&self, slot: u32) -> u32 {
        self.held.iter().find(|held| held.slot == slot).map_or(0, |held| held.blocks)
    }
}

/// Why no endpoint takes the request: 503.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NoEndpoint {
    /// The backend has no endpoint that serves whole requests.
    #[error("the backend has no endpoints")]
    Empty,
    /// A filter of the profile removed all.
    #[error("all endpoints have been filtered out by \"{0}\"")]
    FilteredOut(&'static str),
    /// Each has as many requests in flight as it may have.
    #[error("all endpoints are at their limit of requests in flight")]
    Saturated,
    /// Each that could take it has failed for this request.
    #[error("request to all endpoints failed")]
    AllTried,
}

/// Chooses an endpoint and counts the request there at once.
pub fn schedule(
    request: &Request<'_>,
    backend: &Arc<BackendTable>,
    matches: &Matches,
    rng: &mut Rng,
    now_ms: u64,
) -> Result<Plan, NoEndpoint> {
    schedule_timed(request, (backend, matches), rng, now_ms, &mut |_| {})
}

/// The same, and tells of each step's end.
pub fn schedule_timed(
    request: &Request<'_>,
    (backend, matches): (&Arc<BackendTable>, &Matches),
    rng: &mut Rng,
    now_ms: u64,
    ended: &mut Ended<'_>,
) -> Result<Plan, NoEndpoint> {
    backend.live.earn_retry(backend.retry.budget_percent);
    let scene = Scene::new(request, backend, matches, now_ms);
    let (chosen, decision) = decide(&scene, &[], rng, ended)?;
    Ok(Plan::new(backend, chosen, decision, now_ms))
}

/// A decision's result before it becomes part of a plan.
pub(crate) struct Pick {
    pub(crate) slot: u32,
    pub(crate) uncached_tokens: u32,
    pub(crate) matched_blocks: u32,
    pub(crate) reservation: Reservation,
}

/// All that a decision looks at.
pub(crate) struct Scene<'a> {
    pub(crate) request: &'a Request<'a>,
    pub(crate) backend: &'a BackendTable,
    pub(crate) matches: &'a Matches,
    pub(crate) now_ms: u64,
    bytes_per_token: f32,
    median_speed: f32,
    unheard: Option<Unheard>,
}

impl<'a> Scene<'a> {
    pub(crate) fn new(request: &'a Request<'a>, backend: &'a BackendTable, matches: &'a Matches, now_ms: u64) -> Self {
        let bytes_per_token = backend.live.bytes_per_token();
        let median_speed = backend.live.median_speed();
        let unheard = backend.live.unheard(now_ms);
        Self { request, backend, matches, now_ms, bytes_per_token, median_speed, unheard }
    }

    /// Reads an endpoint's numbers once.
    fn consider(&self, slot: u32) -> Considered {
        let entry = &self.backend.slots[slot as usize];
        let live = &entry.live;
        // Where others share the endpoint, what is measured here is its speed less their part, which differs at every moment:
        // times the locality weight that would send prompts away from what holds them.
        let speed = if self.unheard.is_some() { self.median_speed } else { live.speed(self.median_speed) };
        Considered {
            slot,
            matched_blocks: self.matches.of(slot),
            queued_tokens: live.own_queued_tokens(speed, self.now_ms).saturating_add(self.others_tokens(live, speed)),
            running: self.running(live),
            speed,
            distance: entry.distance,
            ..Considered::default()
        }
    }

    /// Requests there, as far as can be known.
    fn running(&self, live: &Live) -> u32 {
        self.unheard.map_or_else(|| live.running(self.now_ms), |unheard| unheard.running_at(live, self.now_ms))
    }

    /// Tokens of the others' requests that wait there, as far as can be known.
    fn others_tokens(&self, live: &Live, speed: f32) -> u64 {
        self.unheard.map_or_else(|| live.peer_tokens(), |unheard| unheard.waiting_at(live, speed, self.now_ms))
    }

    /// Predicted tokens that an endpoint has to prefill.
    fn uncached_tokens(&self, matched_blocks: u32) -> u32 {
        let cached = u64::from(matched_blocks) * BLOCK_BYTES as u64;
        let bytes = u64::from(self.request.prompt_bytes).saturating_sub(cached);
        (bytes as f32 / self.bytes_per_token) as u32
    }
}

/// Filters, scores and picks, without those already tried.
pub(crate) fn decide(
    scene: &Scene<'_>,
    tried: &[u32],
    rng: &mut Rng,
    ended: &mut Ended<'_>,
) -> Result<(Pick, Decision), NoEndpoint> {
    let admission = Admission::new(scene, tried);
    let mut drawn = sample::draw(scene, &admission, rng)?;
    ended(Stage::Filters);
    match &scene.backend.profile.scorers {
        Scorers::LocalityCost => {
            score::locality_cost::score(scene, &mut drawn.candidates);
            ended(Stage::LocalityCost);
        }
        Scorers::Weighted(scorers) => score::weighted(scene, scorers, &mut drawn, (rng, ended)),
    }
    let (mut candidates, health) = (drawn.candidates, drawn.health);
    let verdict = match &scene.backend.profile.scorers {
        Scorers::LocalityCost => Verdict::LeastCost,
        Scorers::Weighted(_) => Verdict::HighestScore,
    };
    loop {
        let at = pick::best(&candidates, verdict, rng).ok_or(NoEndpoint::Saturated)?;
        let Some(pick) = reserve(scene, &candidates[at]) else {
            // Another core took the last place since it was looked at.
            candidates.swap_remove(at);
            continue;
        };
        let decision = Decision::new(candidates, at, verdict, health);
        return Ok((pick, decision));
    }
}

fn reserve(scene: &Scene<'_>, chosen: &Considered) -> Option<Pick> {
    let uncached_tokens = scene.uncached_tokens(chosen.matched_blocks);
    let demand = Demand {
        uncached_tokens,
        answer: scene.request.answer,
        speed: chosen.speed,
        max_in_flight: scene.backend.max_in_flight,
    };
    let live = &scene.backend.slots[chosen.slot as usize].live;
    let reservation = Reservation::try_new(live, demand, scene.now_ms)?;
    let load = u64::from(uncached_tokens) + score::locality_cost::RUNNING_TOKENS as u64;
    scene.backend.live.decided(live, load, scene.now_ms);
    Some(Pick { slot: chosen.slot, uncached_tokens, matched_blocks: chosen.matched_blocks, reservation })
}

#[cfg(test)]
mod tests;
