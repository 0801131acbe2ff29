//! What peers hear, taken in: a mirror of each of their endpoints, which counts like any other source.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use api::id::EndpointKey;
use api::kv;
use api::limits::MAX_ENDPOINTS;

use super::{Ears, Id, Inner};
use crate::kv::store::TextBlock;
use crate::kv::supervise::place::{Place, Source};
use crate::kv::trust::Trust;

/// Endpoints in all, with those that only a peer's config has: it tells of each once, and it will be in ours soon or leave it.
const MOST: usize = 2 * MAX_ENDPOINTS;

/// A message of a peer's.
#[derive(Debug, Default)]
pub struct PeerNews {
    /// By which stream: a number of its own.
    pub stream: u64,
    /// Of which model.
    pub model: Arc<str>,
    /// What this stream told of the model is told anew.
    pub reset: bool,
    /// How endpoints stand, before the blocks.
    pub ranks: Vec<(EndpointKey, kv::Rank)>,
    /// What came and went, in this order.
    pub blocks: Vec<(EndpointKey, Vec<TextBlock>)>,
}

impl Ears {
    /// A peer says what it hears.
    pub fn of_peer(&self, news: PeerNews, now: Instant) {
        let PeerNews { stream, model, reset, ranks, blocks } = news;
        let mut inner = self.inner();
        let mut touched = BTreeSet::new();
        if reset {
            touched.extend(inner.orphan(stream, now, Some(&model)));
        }
        for (key, rank) in ranks {
            touched.extend(self.rank(&mut inner, stream, (model.clone(), key), &rank, now));
        }
        for (key, blocks) in blocks {
            touched.extend(self.blocks(&mut inner, stream, (model.clone(), key), blocks));
        }
        self.settle_peers(&mut inner, &touched, now);
    }

    /// Nothing more comes by a stream.
    pub fn peer_is_gone(&self, stream: u64, now: Instant) {
        let mut inner = self.inner();
        let touched = inner.orphan(stream, now, None);
        self.settle_peers(&mut inner, &touched, now);
    }

    fn settle_peers(&self, inner: &mut Inner, touched: &BTreeSet<Id>, now: Instant) {
        touched.iter().for_each(|id| self.reconsider(inner, id, now));
        let over = touched.iter().filter_map(|id| inner.places.get(id)?.over()).min();
        if let Some(over) = over.filter(|over| inner.over.is_none_or(|known| known > *over)) {
            inner.over = Some(over);
            self.moved.notify_one();
        }
        self.finish(inner, touched);
    }

    fn rank(&self, inner: &mut Inner, stream: u64, id: Id, rank: &kv::Rank, now: Instant) -> Option<Id> {
        let kv::Rank { handle: _, trust, forget, emptied, capacity_tokens } = *rank;
        let trust = match trust {
            kv::Trust::Predicted => None,
            kv::Trust::Cold => Some(Trust::Cold),
            kv::Trust::Replaying => Some(Trust::Replaying),
            kv::Trust::Trusted => Some(Trust::Trusted),
            kv::Trust::Gapped => Some(Trust::Gapped),
        };
        let Some(trust) = trust else {
            inner.places.get_mut(&id)?.orphan(stream, now);
            return Some(id);
        };
        let place = inner.known_or_new(&id)?;
        // Told anew: until it is told to its end, what was told before counts.
        if forget && !emptied {
            place.orphan(stream, now);
        }
        let force = place.force;
        // It is told of from its beginning on or not at all: the rest alone would be taken for all of it.
        let mirror = if forget { place.mirror_or_new(stream)? } else { place.mirror(stream)? };
        (mirror.trust, mirror.capacity_tokens) = (trust, capacity_tokens.unwrap_or(0));
        if forget && emptied {
            mirror.clear();
            if force == Some(Source::Mirror(mirror.id)) {
                self.lanes.stand(place);
                self.lanes.news(place, true, Vec::new());
            }
        }
        Some(id)
    }

    fn blocks(&self, inner: &mut Inner, stream: u64, id: Id, mut blocks: Vec<TextBlock>) -> Option<Id> {
        let place = inner.places.get_mut(&id)?;
        let force = place.force;
        let mirror = place.mirror(stream)?;
        blocks.retain(|block| mirror.set(*block));
        if force == Some(Source::Mirror(mirror.id)) {
            self.lanes.news(place, false, blocks);
        }
        Some(id)
    }
}

impl Inner {
    fn known_or_new(&mut self, id: &Id) -> Option<&mut Place> {
        let full = self.places.len() >= MOST;
        if full && !self.places.contains_key(id) {
            return None;
        }
        Some(self.places.entry(id.clone()).or_insert_with(|| Place::new(id.1.clone(), id.0.clone())))
    }

    /// Nothing more comes by a stream, of one model or of all.
    fn orphan(&mut self, stream: u64, now: Instant, model: Option<&Arc<str>>) -> BTreeSet<Id> {
        let tells = |place: &Place| place.mirrors.iter().any(|mirror| mirror.stream == stream && mirror.is_live());
        let touched = self.places(model).filter(|(_, place)| tells(place)).map(|(id, _)| id.clone());
        let touched: BTreeSet<Id> = touched.collect();
        for id in &touched {
            self.places.get_mut(id).into_iter().for_each(|place| place.orphan(stream, now));
        }
        touched
    }
}
