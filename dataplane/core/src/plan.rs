//! What was decided, and what may be decided again after a failure.

mod decision;
mod retry;

pub use decision::{Considered, Decision, MAX_CONSIDERED, Regard, Verdict};
pub use retry::{Downstream, Failed, Failure, Refusal, RetryPolicy};

use std::sync::Arc;
use std::time::Duration;

use api::snapshot::{Ejection, Endpoint};
use smallvec::SmallVec;

use crate::health::{Effect, Event};
use crate::load::{BackendLive, Reservation};
use crate::scheduler::{self, Matches, NoEndpoint, Pick, Request, Rng, Scene};
use crate::table::BackendTable;

/// Where a request goes and what may be done when that fails. It pins no table: only the endpoint and live numbers.
#[derive(Debug)]
pub struct Plan {
    /// The endpoint that takes it.
    pub endpoint: Chosen,
    /// How long each wait may take.
    pub deadlines: Deadlines,
    /// What may be tried again.
    pub retry: RetryPolicy,
    /// Why this endpoint. Shared with whoever tells it, for it is large.
    pub decision: Arc<Decision>,
    /// Slots that failed for this request. Fallbacks are all others, looked at afresh when one is needed.
    tried: SmallVec<[u32; 6]>,
}

/// The chosen endpoint, counted there until the reservation goes.
#[derive(Debug)]
pub struct Chosen {
    /// Its slot in the table that the decision was made with.
    pub slot: u32,
    /// Its address and names.
    pub endpoint: Arc<Endpoint>,
    /// The place there.
    pub reservation: Reservation,
    /// Leading blocks of the prompt that it is predicted to hold.
    pub matched_blocks: u32,
    /// Predicted tokens that it has to prefill.
    pub uncached_tokens: u32,
    backend: Arc<BackendLive>,
    ejection: Ejection,
}

impl Chosen {
    fn new(backend: &BackendTable, pick: Pick) -> Self {
        let Pick { slot, uncached_tokens, matched_blocks, reservation } = pick;
        let endpoint = Arc::clone(&backend.slots[slot as usize].endpoint);
        let (live, ejection) = (Arc::clone(&backend.live), backend.ejection);
        Self { slot, endpoint, reservation, matched_blocks, uncached_tokens, backend: live, ejection }
    }

    /// Tells passive health how an attempt went.
    pub fn observe(&self, event: Event, now_ms: u64) -> Effect {
        self.backend.observe(self.reservation.live(), event, &self.ejection, now_ms)
    }

    /// The backend's numbers, to learn from usage.
    pub fn backend(&self) -> &Arc<BackendLive> {
        &self.backend
    }
}

/// The limits of every wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// To connect.
    pub connect: Duration,
    /// From the last byte sent to the first received.
    pub first_byte: Duration,
    /// Between two reads of the answer.
    pub idle: Duration,
    /// When the whole request has to be over; retries do not extend it.
    pub total_at_ms: u64,
}

/// What a further attempt is decided from.
#[derive(Debug, Clone, Copy)]
pub struct Again<'a> {
    /// The request as it was.
    pub request: &'a Request<'a>,
    /// The backend of the first decision, for slots mean nothing in another table.
    pub backend: &'a Arc<BackendTable>,
    /// What the prefix tables said.
    pub matches: &'a Matches,
}

impl Plan {
    pub(crate) fn new(backend: &Arc<BackendTable>, pick: Pick, decision: Decision, now_ms: u64) -> Self {
        let timeouts = &backend.timeouts;
        Self {
            endpoint: Chosen::new(backend, pick),
            deadlines: Deadlines {
                connect: timeouts.connect,
                first_byte: timeouts.first_byte,
                idle: timeouts.idle,
                total_at_ms: now_ms.saturating_add(timeouts.total.as_millis() as u64),
            },
            retry: RetryPolicy::new(backend),
            decision: Arc::new(decision),
            tried: SmallVec::new(),
        }
    }

    /// Attempts begun so far.
    pub fn attempts(&self) -> u8 {
        self.tried.len() as u8 + 1
    }
}

/// Chooses the next endpoint after a failure, never one that failed for this request. The failed one is released. Ask
/// [`RetryPolicy::take`] first.
pub fn next(plan: &mut Plan, again: &Again<'_>, rng: &mut Rng, now_ms: u64) -> Result<(), NoEndpoint> {
    let failed = plan.endpoint.slot;
    let tried: SmallVec<[u32; 6]> = plan.tried.iter().copied().chain([failed]).collect();
    let scene = Scene::new(again.request, again.backend, again.matches, now_ms);
    let (pick, decision) = scheduler::decide(&scene, &tried, rng, &mut |_| {})?;
    plan.endpoint = Chosen::new(again.backend, pick);
    plan.decision = Arc::new(decision);
    plan.tried = tried;
    Ok(())
}
