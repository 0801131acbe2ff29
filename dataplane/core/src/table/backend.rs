//! One backend compiled: endpoints in slots, sets of slots for filters.

use std::collections::HashMap;
use std::sync::Arc;

use api::id::{BackendName, ModelName};
use api::snapshot::{Backend, Credentials, Ejection, Endpoint, Engine, Retry, Role, Timeouts, UsageInjection};

use super::compile::SeatOf;
use super::{Bitset, ChatTable, CompiledProfile, Distance, Maglev};
use crate::load::{BackendLive, Live, LiveRegistry};

/// An endpoint in its slot. Cloning it clones two `Arc`s.
#[derive(Debug, Clone)]
pub struct EndpointEntry {
    /// Its live numbers: the same in every backend that it is a member of. They outlive the table.
    pub live: Arc<Live>,
    /// What the snapshot says of it as a member of this backend.
    pub endpoint: Arc<Endpoint>,
    /// By what the prefix tables know it, where they do; the same in every backend.
    pub seat: Option<u32>,
    /// From this proxy.
    pub distance: Distance,
}

/// A backend and all that a decision for it needs.
#[derive(Debug)]
pub struct BackendTable {
    /// `namespace/name`.
    pub name: BackendName,
    /// Its engine.
    pub engine: Engine,
    /// Replaces the request's model, unless an adapter was asked for.
    pub model: Option<ModelName>,
    /// Endpoints, each once; a slot is a position in here and means nothing in another table or backend.
    pub slots: Box<[EndpointEntry]>,
    /// How to choose among them.
    pub profile: Arc<CompiledProfile>,
    /// Time limits.
    pub timeouts: Timeouts,
    /// When a failed attempt is repeated.
    pub retry: Retry,
    /// Passive health.
    pub ejection: Ejection,
    /// Requests that may be in flight at one endpoint, those of its other backends included.
    pub max_in_flight: u32,
    /// Whether usage is asked for.
    pub usage: UsageInjection,
    /// Whether the client's credentials reach the engine.
    pub credentials: Credentials,
    /// How its engines write a conversation, where known.
    pub chat: Option<Arc<ChatTable>>,
    /// Numbers of the backend as a whole; they outlive the table.
    pub live: Arc<BackendLive>,
    /// Slots that can take a whole request or its decode part.
    serving: Bitset,
    /// Of these, slots that have or may have the adapter loaded.
    adapters: HashMap<ModelName, Bitset, ahash::RandomState>,
    /// Of these, slots whose adapters are unknown.
    adapters_unknown: Bitset,
    /// Whether its endpoints are data-parallel ranks, which the engine has to be told.
    pub ranked: bool,
    /// Whose a session is, where the profile asks.
    sessions: Option<Maglev>,
    /// (seat, slot), sorted.
    seats: Box<[(u32, u32)]>,
}

impl BackendTable {
    pub(super) fn compile(
        backend: &Backend,
        profile: Arc<CompiledProfile>,
        registry: &mut LiveRegistry,
        seat_of: SeatOf<'_>,
    ) -> Self {
        let slots: Box<[EndpointEntry]> = backend
            .endpoints
            .iter()
            .map(|e| {
                let (live, seat) = match registry.take_expected(e) {
                    Some(expected) => (expected.live, expected.seat),
                    None => (registry.endpoint(&e.key), None),
                };
                let seat = seat.or_else(|| seat_of(&e.key));
                EndpointEntry { live, endpoint: Arc::clone(e), seat, distance: registry.place().to(e) }
            })
            .collect();
        let serving = set(&slots, |e| e.role != Role::Prefill);
        let adapters_unknown = set(&slots, |e| e.role != Role::Prefill && e.adapters.is_none());
        let adapters = adapter_sets(&slots, &serving);
        let seats = seats(&slots);
        let keyed = || serving.iter_from(0).map(|slot| (slot, &slots[slot as usize].endpoint.key));
        let sessions = profile.session_header().map(|_| Maglev::new(keyed()));
        Self {
            name: backend.name.clone(),
            engine: backend.engine,
            model: backend.model.clone(),
            slots,
            profile,
            timeouts: backend.timeouts,
            retry: backend.retry,
            ejection: backend.ejection,
            max_in_flight: backend.max_in_flight,
            usage: backend.usage,
            credentials: backend.credentials,
            chat: backend.chat_template.clone().map(|template| Arc::new(ChatTable::new(template))),
            live: registry.backend(&backend.name),
            serving,
            adapters,
            adapters_unknown,
            ranked: backend.endpoints.iter().any(|e| e.key.rank > 0),
            sessions,
            seats,
        }
    }

    /// Slots that can be chosen at all.
    pub fn serving(&self) -> &Bitset {
        &self.serving
    }

    /// Of the serving slots, those that have the adapter loaded or do not say which they have.
    pub fn with_adapter(&self, adapter: &str) -> &Bitset {
        self.adapters.get(adapter).unwrap_or(&self.adapters_unknown)
    }

    /// The slots that a session belongs to, in the order in which they are asked.
    pub fn session_places(&self, session: u64) -> impl Iterator<Item = u32> {
        self.sessions.iter().flat_map(move |sessions| sessions.places(session))
    }

    /// The slot of the endpoint that the prefix tables know by this seat.
    pub fn slot_of_seat(&self, seat: u32) -> Option<u32> {
        let at = self.seats.binary_search_by_key(&seat, |(seat, _)| *seat).ok()?;
        Some(self.seats[at].1)
    }

    /// Recomputes the median speed and the count of ejected endpoints. Once a second, off the cores.
    pub fn refresh(&self, now_ms: u64) {
        self.live.refresh(self.slots.iter().map(|entry| &*entry.live), now_ms);
    }
}

fn seats(slots: &[EndpointEntry]) -> Box<[(u32, u32)]> {
    let mut seats: Vec<(u32, u32)> =
        slots.iter().zip(0..).filter_map(|(entry, slot)| Some((entry.seat?, slot))).collect();
    seats.sort_unstable();
    seats.into()
}

fn set(slots: &[EndpointEntry], member: impl Fn(&Endpoint) -> bool) -> Bitset {
    Bitset::from_fn(slots.len() as u32, |slot| member(&slots[slot as usize].endpoint))
}

fn adapter_sets(slots: &[EndpointEntry], serving: &Bitset) -> HashMap<ModelName, Bitset, ahash::RandomState> {
    let mut owners: HashMap<&ModelName, Vec<u32>> = HashMap::new();
    for slot in serving.iter_from(0) {
        for adapter in slots[slot as usize].endpoint.adapters.iter().flatten() {
            owners.entry(adapter).or_default().push(slot);
        }
    }
    let set_of = |owners: Vec<u32>| {
        let member = |slot: u32| {
            let unknown = slots[slot as usize].endpoint.adapters.is_none() && serving.contains(slot);
            unknown || owners.binary_search(&slot).is_ok()
        };
        Bitset::from_fn(slots.len() as u32, member)
    };
    owners.into_iter().map(|(name, owners)| (name.clone(), set_of(owners))).collect()
}
