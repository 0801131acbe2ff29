//! Which endpoints can take a request at all.

mod available;
mod least_request;
mod lora_affinity;

use api::snapshot::Filter;

use super::{NoEndpoint, Rng, Scene};
use crate::table::Bitset;

/// What the filters say of one endpoint, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    /// It can take the request.
    Ready,
    /// It failed lately: taken only where nobody is ready.
    Unwell,
    /// It has as many requests as it may have.
    Full,
    /// The profile's filter removes it.
    Filtered(&'static str),
    /// It does not serve whole requests, or has failed for this one.
    Out,
}

/// The filters of one decision.
pub(super) struct Admission<'a> {
    scene: &'a Scene<'a>,
    tried: &'a [u32],
    adapter: Option<&'a Bitset>,
    max_waiting: Option<u32>,
}

impl<'a> Admission<'a> {
    pub(super) fn new(scene: &'a Scene<'a>, tried: &'a [u32]) -> Self {
        let mut admission = Self { scene, tried, adapter: None, max_waiting: None };
        for filter in &scene.backend.profile.filters {
            match filter {
                Filter::LeastRequest { max_waiting } => {
                    admission.max_waiting = Some(admission.max_waiting.map_or(*max_waiting, |m| m.min(*max_waiting)));
                }
                Filter::LoraAffinity => admission.adapter = lora_affinity::members(scene),
            }
        }
        admission
    }

    /// The smallest set of slots known beforehand.
    pub(super) fn slots(&self) -> &'a Bitset {
        self.adapter.unwrap_or(self.scene.backend.serving())
    }

    /// Looks at one endpoint's live numbers. Endpoints in slow start are ready as often as their share.
    pub(super) fn standing(&self, slot: u32, rng: &mut Rng) -> Standing {
        if !self.scene.backend.serving().contains(slot) || self.tried.contains(&slot) {
            return Standing::Out;
        }
        if self.adapter.is_some_and(|members| !members.contains(slot)) {
            return Standing::Filtered(lora_affinity::NAME);
        }
        let live = &self.scene.backend.slots[slot as usize].live;
        if self.max_waiting.is_some_and(|max| !least_request::keeps(live, max, self.scene.now_ms)) {
            return Standing::Filtered(least_request::NAME);
        }
        available::standing(live, self.scene, rng)
    }

    /// How often the endpoint has failed in a row.
    pub(super) fn failures(&self, slot: u32) -> u32 {
        self.scene.backend.slots[slot as usize].live.health().failures()
    }

    /// What to say when nobody can take the request; `best` is the best standing that was seen.
    pub(super) fn refusal(&self, best: Standing) -> NoEndpoint {
        match best {
            Standing::Filtered(name) => NoEndpoint::FilteredOut(name),
            Standing::Full | Standing::Ready | Standing::Unwell => NoEndpoint::Saturated,
            Standing::Out if self.scene.backend.serving().is_empty() => NoEndpoint::Empty,
            Standing::Out if self.slots().is_empty() => NoEndpoint::FilteredOut(lora_affinity::NAME),
            Standing::Out => NoEndpoint::AllTried,
        }
    }
}
