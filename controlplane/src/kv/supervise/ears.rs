//! What every engine holds, in one place: takes in what is heard, and says what of it comes and goes.
//!
//! An endpoint has one seat. Where several data-parallel ranks speak for it, what any of them holds counts as held, and it
//! is never told as more than gapped: which rank a request meets is the engine's choice.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use api::id::EndpointKey;
use api::proto::KvTrust;

use super::board::{Board, Held};
use crate::kv::store::{Change, Digest, News, Rank, RankId, Store, TextBlock};
use crate::kv::subscribe::{Heard, What};
use crate::kv::text::Reading;
use crate::kv::trust::Trust;
use crate::publish::serve::{Lane, Shelf, Standing};

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

#[derive(Debug)]
struct Taken {
    seat: Seat,
    /// How far those who speak for it can be relied on.
    speakers: BTreeMap<RankId, Trust>,
}

impl Taken {
    fn trust(&self) -> Trust {
        let order = [Trust::Cold, Trust::Replaying, Trust::Gapped, Trust::Trusted];
        let rank = |trust: &Trust| order.iter().position(|known| known == trust).unwrap_or(0);
        let least = self.speakers.values().copied().min_by_key(rank).unwrap_or(Trust::Cold);
        if least == Trust::Trusted && self.seat.ranks > 1 { Trust::Gapped } else { least }
    }

    fn standing(&self, digest: Digest) -> Standing {
        let trust = match self.trust() {
            Trust::Cold => KvTrust::Cold,
            Trust::Replaying => KvTrust::Replaying,
            Trust::Trusted => KvTrust::Trusted,
            Trust::Gapped => KvTrust::Gapped,
        };
        Standing { trust, capacity_tokens: self.seat.capacity_tokens, digest }
    }
}

#[derive(Debug, Default)]
struct Inner {
    store: Store,
    seats: HashMap<RankId, Taken>,
    /// The seat of whom who speaks speaks for.
    speakers: HashMap<RankId, RankId>,
    places: HashMap<(Arc<str>, u32), RankId>,
    unsettled: BTreeSet<RankId>,
    settle_at: Option<Instant>,
    /// The one whose blocks were looked at last.
    settled: Option<RankId>,
    /// Endpoints that may be admitted: the task of one that is gone may not have ended yet.
    expected: HashSet<RankId>,
    /// What blocks of tokens came and went, which nobody is told.
    changes: Vec<Change>,
}

/// All engines.
#[derive(Debug)]
pub struct Ears {
    inner: Mutex<Inner>,
    lane: Arc<Lane>,
    board: Arc<Board>,
}

impl Ears {
    /// Nobody is heard yet.
    pub fn new(lane: Arc<Lane>, board: Arc<Board>) -> Self {
        Self { inner: Mutex::default(), lane, board }
    }

    /// An endpoint may be admitted by this number, which was never used, until it is let go of.
    pub fn expect(&self, rank: RankId) {
        self.inner().expected.insert(rank);
    }

    /// An endpoint is gone.
    pub fn let_go(&self, rank: RankId) {
        self.inner().expected.remove(&rank);
        self.dismiss(rank);
    }

    /// An endpoint that is expected is heard from here on.
    pub fn admit(&self, rank: RankId, seat: Seat, most_blocks: usize, reading: Reading) {
        let mut inner = self.inner();
        if !inner.expected.contains(&rank) {
            return;
        }
        let Inner { store, seats, places, .. } = &mut *inner;
        store.admit(rank, most_blocks);
        store.read_as(rank, reading);
        let level = self.lane.level(&seat.model);
        store.resample(rank, level);
        places.insert((seat.model.clone(), seat.handle), rank);
        let (model, handle) = (seat.model.clone(), seat.handle);
        let taken = Taken { seat, speakers: BTreeMap::new() };
        self.lane.stand(&model, handle, taken.standing(Digest::default()));
        seats.insert(rank, taken);
    }

    /// This one speaks for an endpoint that was admitted.
    pub fn hear(&self, speaker: RankId, rank: RankId) {
        let mut inner = self.inner();
        if let Some(taken) = inner.seats.get_mut(&rank) {
            taken.speakers.insert(speaker, Trust::Cold);
            inner.speakers.insert(speaker, rank);
        }
    }

    /// An endpoint is heard no longer. It stays on the lane as one of which nothing is known.
    pub fn dismiss(&self, rank: RankId) {
        let mut inner = self.inner();
        let Inner { store, seats, speakers, places, unsettled, changes, .. } = &mut *inner;
        store.dismiss(rank, changes);
        changes.clear();
        unsettled.remove(&rank);
        speakers.retain(|_, seat| *seat != rank);
        let Some(Taken { seat, .. }) = seats.remove(&rank) else { return };
        places.retain(|_, known| *known != rank);
        let news = News { forgotten: true, blocks: Vec::new() };
        let unknown = Standing { trust: KvTrust::Unspecified, capacity_tokens: 0, digest: Digest::default() };
        self.lane.stand(&seat.model, seat.handle, unknown);
        self.lane.tell(&seat.model, seat.handle, &news, Digest::default());
        self.lane.flush();
    }

    /// Whether blocks have to be looked at though nothing is heard.
    pub fn is_unsettled(&self) -> bool {
        !self.inner().unsettled.is_empty()
    }

    /// Takes in what was heard, and lets data planes have it.
    pub fn take(&self, heard: impl Iterator<Item = Heard>, now: Instant) {
        let mut inner = self.inner();
        let mut touched = BTreeSet::new();
        for Heard { rank, what } in heard {
            if let Some(seat) = inner.one(rank, what, &self.lane) {
                touched.insert(seat);
            }
        }
        touched.extend(inner.settle(now, &self.lane));
        let models: BTreeSet<Arc<str>> =
            touched.iter().filter_map(|rank| inner.seats.get(rank)).map(|taken| taken.seat.model.clone()).collect();
        models.iter().for_each(|model| inner.sample(model, &self.lane));
        self.lane.flush();
        for rank in touched {
            inner.note(rank, &self.board);
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no thread panics while it holds the ears")
    }
}

impl Inner {
    /// The seat that it was about.
    fn one(&mut self, speaker: RankId, what: What, lane: &Lane) -> Option<RankId> {
        let rank = *self.speakers.get(&speaker)?;
        match what {
            What::Apply(batch) => self.store.apply(rank, &batch, &mut self.changes),
            What::Forget => self.store.forget(rank, &mut self.changes),
            What::Trust(trust) => {
                self.seats.get_mut(&rank)?.speakers.insert(speaker, trust);
            }
        }
        self.changes.clear();
        if self.store.rank(rank).is_some_and(Rank::is_unsettled) {
            self.unsettled.insert(rank);
        }
        self.tell(rank, lane);
        Some(rank)
    }

    fn tell(&mut self, rank: RankId, lane: &Lane) {
        let Some(taken) = self.seats.get(&rank) else { return };
        let (news, digest) = (self.store.news(rank), self.digest(rank));
        let (model, handle) = (&*taken.seat.model, taken.seat.handle);
        if news.forgotten || !news.blocks.is_empty() {
            lane.tell(model, handle, &news, digest);
        }
        lane.stand(model, handle, taken.standing(digest));
    }

    fn digest(&self, rank: RankId) -> Digest {
        self.store.rank(rank).map(Rank::digest).unwrap_or_default()
    }

    /// Looks at all blocks of a rank of which some may not be reached, if it is time for that.
    fn settle(&mut self, now: Instant, lane: &Lane) -> BTreeSet<RankId> {
        if self.unsettled.is_empty() || self.settle_at.is_some_and(|at| at > now) {
            return BTreeSet::new();
        }
        let begun = Instant::now();
        // One at a time, in turn, for all others wait meanwhile.
        let after = self.settled.map_or(Unbounded, Excluded);
        let next = self.unsettled.range((after, Unbounded)).next().or(self.unsettled.first()).copied();
        let Some(rank) = next else { return BTreeSet::new() };
        self.unsettled.remove(&rank);
        self.settled = Some(rank);
        self.store.settle(rank);
        self.tell(rank, lane);
        self.settle_at = Some(now + REST.max(begun.elapsed() * SETTLING));
        BTreeSet::from([rank])
    }

    /// Sees to it that what is told of a model stays within what those who join can be told in time.
    fn sample(&mut self, model: &Arc<str>, lane: &Lane) {
        let of_model = |taken: &&RankId| self.seats.get(*taken).is_some_and(|taken| taken.seat.model == *model);
        let ranks: Vec<RankId> = self.seats.keys().filter(of_model).copied().collect();
        let told: u64 = ranks.iter().map(|rank| self.digest(*rank).blocks).sum();
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
        let mut digests = Vec::with_capacity(ranks.len());
        for rank in ranks {
            self.store.resample(rank, wanted);
            digests.extend(self.seats.get(&rank).map(|taken| (taken.seat.handle, self.digest(rank))));
        }
        lane.begin_anew(model, wanted, &digests);
    }

    fn note(&self, rank: RankId, board: &Board) {
        let (Some(taken), Some(known)) = (self.seats.get(&rank), self.store.rank(rank)) else { return };
        let held = Held {
            blocks: known.len() as u64,
            told: known.digest().blocks,
            bytes: known.bytes() as u64,
            unread: known.unread(),
            tally: known.tally(),
        };
        board.note(&taken.seat.key, taken.trust(), held);
    }
}

impl Shelf for Ears {
    fn page(&self, model: &str, handle: u32, from: u32, blocks: &mut Vec<TextBlock>, most: usize) -> Option<u32> {
        let inner = self.inner();
        let rank = inner.places.get(&(Arc::from(model), handle))?;
        inner.store.rank(*rank)?.page(from, most, blocks)
    }
}
