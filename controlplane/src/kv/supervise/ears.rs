//! What every engine holds, in one place: takes in what is heard, here and by peers, and says what of it comes and goes.
//!
//! An endpoint has one place. Where several data-parallel ranks speak for it, what any of them holds counts as held, and it
//! is never told as more than gapped: which rank a request meets is the engine's choice. Data planes are told what the
//! endpoint's best source says; peers are told what is heard here, and nothing that was heard of them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use api::id::EndpointKey;
use tokio::sync::Notify;

use super::board::{Board, Held};
use super::place::{Own, Place, Source, View, difference};
use crate::kv::store::{Change, Digest, News, Rank, RankId, Store, TextBlock};
use crate::kv::subscribe::{Heard, What};
use crate::kv::text::Reading;
use crate::kv::trust::Trust;
use crate::publish::serve::{Lane, Shelf};

mod lanes;
mod peers;

use lanes::Lanes;
pub use peers::PeerNews;

/// Looking at all blocks of a rank takes at most this part of the time.
const SETTLING: u32 = 20;
/// Between two such looks.
const REST: Duration = Duration::from_millis(50);
/// Blocks of a model that are told, beyond which only every second one of these is, and below which twice as many are.
/// 16 bytes each: those who join are told all of it within 5 s.
const TOLD: (u64, u64) = (48 << 10, 256 << 10);
/// The highest sampling level: every 64th block, 4 KiB of text.
const HIGHEST: u8 = 6;

/// An endpoint that is heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seat {
    /// Which.
    pub key: EndpointKey,
    /// What requests call its model.
    pub model: Arc<str>,
    /// Its number on the lane.
    pub handle: u32,
    /// Tokens that its cache takes; 0 where that is not known.
    pub capacity_tokens: u64,
    /// Ranks that speak for it.
    pub ranks: usize,
}

/// An endpoint of a model: those of one model are beside each other.
type Id = (Arc<str>, EndpointKey);

#[derive(Debug, Default)]
struct Inner {
    store: Store,
    places: BTreeMap<Id, Place>,
    /// Blocks that are told, by model.
    told: HashMap<Arc<str>, u64>,
    /// Whose blocks a rank's are.
    seats: HashMap<RankId, Id>,
    /// The rank for which who speaks speaks.
    speakers: HashMap<RankId, RankId>,
    handles: HashMap<(Arc<str>, u32), Id>,
    unsettled: BTreeSet<RankId>,
    settle_at: Option<Instant>,
    /// The one whose blocks were looked at last.
    settled: Option<RankId>,
    /// Endpoints that may be admitted: the task of one that is gone may not have ended yet.
    expected: HashSet<RankId>,
    /// When the first word of a lost peer is over.
    over: Option<Instant>,
    /// What blocks of tokens came and went, which nobody is told.
    changes: Vec<Change>,
}

/// All engines.
#[derive(Debug)]
pub struct Ears {
    inner: Mutex<Inner>,
    lanes: Lanes,
    board: Arc<Board>,
    /// Something may be over earlier than was thought.
    moved: Notify,
}

impl Ears {
    /// Nobody is heard yet.
    pub fn new(lane: Arc<Lane>, board: Arc<Board>) -> Self {
        let lanes = Lanes { data_planes: lane, peers: None };
        Self { inner: Mutex::default(), lanes, board, moved: Notify::new() }
    }

    /// Peers are told by this lane what is heard here. Its pages are read of [`Own`].
    #[must_use]
    pub fn with_peers(mut self, lane: Arc<Lane>) -> Self {
        self.lanes.peers = Some(lane);
        self
    }

    /// An endpoint may be admitted by this number, which was never used, until it is let go of.
    pub fn expect(&self, rank: RankId) {
        self.inner().expected.insert(rank);
    }

    /// An endpoint is not heard here any more.
    pub fn let_go(&self, rank: RankId) {
        self.inner().expected.remove(&rank);
        self.dismiss(rank);
    }

    /// The config has an endpoint, whoever hears it.
    pub fn place(&self, key: &EndpointKey, model: &Arc<str>, handle: u32) {
        let mut inner = self.inner();
        inner.place(key, model, handle);
        self.reconsider(&mut inner, &(model.clone(), key.clone()), Instant::now());
        self.lanes.flush();
    }

    /// The config has it no longer. What peers tell of it is kept for as long as they do: it is told once, and the config of
    /// theirs may have it all the while.
    pub fn leave(&self, key: &EndpointKey, model: &Arc<str>) {
        let (mut inner, id) = (self.inner(), (model.clone(), key.clone()));
        let Some(place) = inner.places.get_mut(&id) else { return };
        let Some(handle) = place.handle.take() else { return };
        (place.own, place.force, place.told) = (None, None, Digest::default());
        inner.count(&id);
        inner.forget_nothing(&id);
        inner.handles.remove(&(model.clone(), handle));
        self.lanes.data_planes.leave(model, handle);
        if let Some(peers) = &self.lanes.peers {
            peers.leave(model, handle);
        }
        self.lanes.flush();
    }

    /// An endpoint that is expected is heard from here on.
    pub fn admit(&self, rank: RankId, seat: Seat, most_blocks: usize, reading: Reading) {
        let mut inner = self.inner();
        if !inner.expected.contains(&rank) {
            return;
        }
        let Seat { key, model, handle, capacity_tokens, ranks } = seat;
        inner.store.admit(rank, most_blocks);
        inner.store.read_as(rank, reading);
        let id = inner.place(&key, &model, handle);
        if let Some(place) = inner.places.get_mut(&id) {
            let own = Own { rank, capacity_tokens, ranks, speakers: BTreeMap::new() };
            // What an earlier life of it told is over, and a peer begins to take it down.
            self.lanes.withdraw_from_peers(place);
            self.lanes.stand_for_peers(place, &own, Digest::default());
            place.own = Some(own);
        }
        inner.seats.insert(rank, id.clone());
        self.reconsider(&mut inner, &id, Instant::now());
    }

    /// It is known how much the cache of one that was admitted takes, or known no longer.
    pub fn size(&self, rank: RankId, capacity_tokens: u64, most_blocks: usize) {
        let mut inner = self.inner();
        let Some(id) = inner.seats.get(&rank).cloned() else { return };
        inner.store.admit(rank, most_blocks);
        if let Some(own) = inner.own(rank) {
            own.capacity_tokens = capacity_tokens;
        }
        self.tell(&mut inner, rank, &id);
        self.lanes.flush();
    }

    /// This one speaks for an endpoint that was admitted.
    pub fn hear(&self, speaker: RankId, rank: RankId) {
        let mut inner = self.inner();
        if let Some(own) = inner.own(rank) {
            own.speakers.insert(speaker, Trust::Cold);
            inner.speakers.insert(speaker, rank);
        }
    }

    /// An endpoint is heard no longer. Where no peer knows it, it stays on the lane as one of which nothing is known.
    pub fn dismiss(&self, rank: RankId) {
        let mut inner = self.inner();
        inner.unsettled.remove(&rank);
        inner.speakers.retain(|_, seat| *seat != rank);
        if let Some(id) = inner.seats.remove(&rank) {
            // It may be heard by another number already.
            let place =
                inner.places.get_mut(&id).filter(|place| place.own.as_ref().is_some_and(|own| own.rank == rank));
            if let Some(place) = place {
                place.own = None;
                self.lanes.withdraw_from_peers(place);
                self.reconsider_after(&mut inner, &id, Some(rank), Instant::now());
            }
        }
        let Inner { store, changes, .. } = &mut *inner;
        store.dismiss(rank, changes);
        changes.clear();
        self.lanes.flush();
    }

    /// Whether nothing is lost where an endpoint is heard here no longer: nothing was heard of it, or a peer knows as much.
    pub fn may_be_let_go(&self, key: &EndpointKey, model: &Arc<str>) -> bool {
        self.inner().places.get(&(model.clone(), key.clone())).is_none_or(Place::may_be_let_go)
    }

    /// When something has to be looked at though nothing is heard.
    pub fn looks(&self) -> Option<Instant> {
        let inner = self.inner();
        let settle = (!inner.unsettled.is_empty()).then(|| inner.settle_at.unwrap_or_else(Instant::now));
        inner.over.into_iter().chain(settle).min()
    }

    /// Until that may have changed.
    pub async fn moved(&self) {
        self.moved.notified().await;
    }

    /// Takes in what was heard, and lets data planes and peers have it.
    pub fn take(&self, heard: impl Iterator<Item = Heard>, now: Instant) {
        let mut inner = self.inner();
        let mut touched = BTreeSet::new();
        for Heard { rank, what } in heard {
            touched.extend(self.one(&mut inner, rank, what, now));
        }
        touched.extend(self.settle(&mut inner, now));
        if inner.over.is_some_and(|over| over <= now) {
            let over = inner.places.iter().filter(|(_, place)| place.over().is_some_and(|over| over <= now));
            let over: Vec<Id> = over.map(|(id, _)| id.clone()).collect();
            over.iter().for_each(|id| self.reconsider(&mut inner, id, now));
            touched.extend(over);
            inner.over = inner.places.values().filter_map(Place::over).min();
        }
        self.finish(&mut inner, &touched);
    }

    /// What was said of these is let go, at a level at which those who join can be told in time, and noted.
    fn finish(&self, inner: &mut Inner, touched: &BTreeSet<Id>) {
        touched.iter().for_each(|id| inner.count(id));
        let models: BTreeSet<&Arc<str>> = touched.iter().map(|(model, _)| model).collect();
        models.into_iter().for_each(|model| inner.sample(model, &self.lanes.data_planes));
        self.lanes.flush();
        touched.iter().for_each(|id| inner.note(id, &self.board));
        touched.iter().for_each(|id| inner.forget_nothing(id));
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no thread panics while it holds the ears")
    }

    /// Whom it was about.
    fn one(&self, inner: &mut Inner, speaker: RankId, what: What, now: Instant) -> Option<Id> {
        let rank = *inner.speakers.get(&speaker)?;
        let id = inner.seats.get(&rank)?.clone();
        match what {
            What::Apply(batch) => inner.store.apply(rank, &batch, &mut inner.changes),
            What::Forget => inner.store.forget(rank, &mut inner.changes),
            What::Trust(trust) => {
                inner.own(rank)?.speakers.insert(speaker, trust);
                self.reconsider(inner, &id, now);
            }
        }
        inner.changes.clear();
        if inner.store.rank(rank).is_some_and(Rank::is_unsettled) {
            inner.unsettled.insert(rank);
        }
        self.tell(inner, rank, &id);
        Some(id)
    }

    /// What became of a rank's blocks goes to peers, and where it is in force to data planes.
    fn tell(&self, inner: &mut Inner, rank: RankId, id: &Id) {
        let News { forgotten, mut blocks } = inner.store.news(rank);
        let Inner { store, places, .. } = inner;
        let Some(place) = places.get_mut(id) else { return };
        // What an earlier life of it says is nobody's any more.
        let Some(own) = place.own.as_ref().filter(|own| own.rank == rank) else { return };
        let digest = store.rank(rank).map(Rank::digest).unwrap_or_default();
        if let (Some(peers), Some(handle)) = (&self.lanes.peers, place.handle) {
            self.lanes.stand_for_peers(place, own, digest);
            let news = News { forgotten, blocks };
            if news.forgotten || !news.blocks.is_empty() {
                peers.tell(&place.model, handle, &news, digest);
            }
            blocks = news.blocks;
        }
        if place.force == Some(Source::Own) {
            self.lanes.news(place, forgotten, blocks);
        }
    }

    /// Looks at all blocks of a rank of which some may not be reached, if it is time for that.
    fn settle(&self, inner: &mut Inner, now: Instant) -> Option<Id> {
        if inner.unsettled.is_empty() || inner.settle_at.is_some_and(|at| at > now) {
            return None;
        }
        let begun = Instant::now();
        // One at a time, in turn, for all others wait meanwhile.
        let after = inner.settled.map_or(Unbounded, Excluded);
        let next = inner.unsettled.range((after, Unbounded)).next().or(inner.unsettled.first()).copied();
        let rank = next?;
        inner.unsettled.remove(&rank);
        inner.settled = Some(rank);
        inner.store.settle(rank);
        let id = inner.seats.get(&rank)?.clone();
        self.tell(inner, rank, &id);
        inner.settle_at = Some(now + REST.max(begun.elapsed() * SETTLING));
        Some(id)
    }

    /// Puts the best source in force.
    fn reconsider(&self, inner: &mut Inner, id: &Id, now: Instant) {
        self.reconsider_after(inner, id, None, now);
    }

    /// The same, where the engine was heard by this rank until now.
    fn reconsider_after(&self, inner: &mut Inner, id: &Id, gone: Option<RankId>, now: Instant) {
        let level = self.lanes.data_planes.level(&id.0);
        let Inner { store, places, .. } = inner;
        let Some(place) = places.get_mut(id) else { return };
        let next = place.choose(now);
        if next != place.force {
            let rank = gone.or(place.own.as_ref().map(|own| own.rank));
            let view = |source: Option<Source>| match source {
                None => View::Nothing,
                Some(Source::Own) => rank.and_then(|rank| store.rank(rank)).map_or(View::Nothing, View::Own),
                Some(Source::Mirror(id)) => place.at(id).map_or(View::Nothing, View::Mirror),
            };
            let blocks = if next.is_some() { difference(view(place.force), view(next), level) } else { Vec::new() };
            if place.force.is_none() {
                // Who did not look since the config had it before may hold what was told of it then.
                self.lanes.stand(place);
                self.lanes.news(place, true, Vec::new());
            }
            place.force = next;
            if let Some(handle) = place.handle {
                self.lanes.data_planes.renew(&place.model, handle);
            }
            self.lanes.stand(place);
            self.lanes.news(place, next.is_none(), blocks);
        } else if next.is_some() {
            self.lanes.stand(place);
        }
        place.tidy(now);
        inner.count(id);
    }
}

impl Inner {
    fn own(&mut self, rank: RankId) -> Option<&mut Own> {
        let id = self.seats.get(&rank)?;
        self.places.get_mut(id)?.own.as_mut().filter(|own| own.rank == rank)
    }

    fn place(&mut self, key: &EndpointKey, model: &Arc<str>, handle: u32) -> Id {
        let id = (model.clone(), key.clone());
        let place = self.places.entry(id.clone());
        let place = place.or_insert_with(|| Place::new(key.clone(), model.clone()));
        place.handle = Some(handle);
        self.handles.insert((model.clone(), handle), id.clone());
        id
    }

    /// What is in force.
    fn view<'v>(&'v self, place: &'v Place) -> View<'v> {
        match place.force {
            None => View::Nothing,
            Some(Source::Mirror(id)) => place.at(id).map_or(View::Nothing, View::Mirror),
            Some(Source::Own) => {
                let rank = place.own.as_ref().and_then(|own| self.store.rank(own.rank));
                rank.map_or(View::Nothing, View::Own)
            }
        }
    }

    /// What is told of it counts in its model's sum.
    fn count(&mut self, id: &Id) {
        let Some(place) = self.places.get_mut(id) else { return };
        let before = std::mem::replace(&mut place.counted, place.told.blocks);
        if before == place.counted {
            return;
        }
        let sum = self.told.entry(id.0.clone()).or_default();
        *sum = *sum + place.counted - before;
        if *sum == 0 {
            self.told.remove(&id.0);
        }
    }

    fn forget_nothing(&mut self, id: &Id) {
        if self.places.get(id).is_some_and(Place::is_nothing) {
            self.places.remove(id);
        }
    }

    /// The places of a model, or all.
    fn places(&self, model: Option<&Arc<str>>) -> impl Iterator<Item = (&Id, &Place)> {
        let first = |model: &Arc<str>| (model.clone(), EndpointKey { uid: "".into(), port: 0, rank: 0 });
        let from = model.map_or(Unbounded, |model| Included(first(model)));
        self.places.range((from, Unbounded)).take_while(move |(id, _)| model.is_none_or(|model| id.0 == *model))
    }

    /// Sees to it that what is told of a model stays within what those who join can be told in time.
    fn sample(&mut self, model: &Arc<str>, lane: &Lane) {
        let told = self.told.get(model).copied().unwrap_or(0);
        let level = lane.level(model);
        let wanted = match level {
            level if told > TOLD.1 && level < HIGHEST => level + 1,
            level if told < TOLD.0 && level > 0 => level - 1,
            level => level,
        };
        if wanted == level {
            return;
        }
        tracing::info!(%model, level = wanted, told, "blocks are told at another level");
        let places = self.places(Some(model)).filter(|(_, place)| place.handle.is_some());
        let digests: Vec<(Id, Digest)> =
            places.map(|(id, place)| (id.clone(), self.view(place).sampled(wanted))).collect();
        let mut told = Vec::with_capacity(digests.len());
        for (id, digest) in digests {
            let Some(place) = self.places.get_mut(&id) else { continue };
            place.told = digest;
            told.extend(place.handle.map(|handle| (handle, digest)));
            self.count(&id);
        }
        lane.begin_anew(model, wanted, &told);
    }

    fn note(&self, id: &Id, board: &Board) {
        let Some(place) = self.places.get(id) else { return };
        let trust = place.force.and_then(|source| place.trust(source)).map_or(Trust::Cold, |(trust, _)| trust);
        let mirrors: usize = place.mirrors.iter().map(super::mirror::Mirror::bytes).sum();
        let mut held = Held { told: place.told.blocks, bytes: mirrors as u64, ..Held::default() };
        if let Some(known) = place.own.as_ref().and_then(|own| self.store.rank(own.rank)) {
            held = Held {
                blocks: known.len() as u64,
                bytes: held.bytes + known.bytes() as u64,
                unread: known.unread(),
                tally: known.tally(),
                ..held
            };
        }
        board.note(&place.key, trust, held);
    }
}

impl Shelf for Ears {
    fn page(&self, model: &str, handle: u32, from: u32, blocks: &mut Vec<TextBlock>, most: usize) -> Option<u32> {
        let inner = self.inner();
        let place = inner.places.get(inner.handles.get(&(Arc::from(model), handle))?)?;
        inner.view(place).page(self.lanes.data_planes.level(model), from, most, blocks)
    }
}

/// What is heard here, for peers.
#[derive(Debug)]
pub struct OwnShelf(pub Arc<Ears>);

impl Shelf for OwnShelf {
    fn page(&self, model: &str, handle: u32, from: u32, blocks: &mut Vec<TextBlock>, most: usize) -> Option<u32> {
        let inner = self.0.inner();
        let place = inner.places.get(inner.handles.get(&(Arc::from(model), handle))?)?;
        inner.store.rank(place.own.as_ref()?.rank)?.page(0, from, most, blocks)
    }
}
