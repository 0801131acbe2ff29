//! The one writer of a prefix table: what the `tables` thread drives. It takes the cores' events, keeps every owner's
//! marks within its cache, and gives ended owners' ids back when nothing can name them.

use std::collections::HashMap;
use std::sync::Arc;

use api::id::EndpointKey;
use api::limits::CACHE_TOKENS;

use super::holders::{Holders, Inserted};
use super::link::Link;
use super::map::{Cursor, SEGMENT_BITS};
use super::owners::{OwnerView, Owners};
use super::predicted::News;
use super::reader::{Parts, Reader};
use super::recency::Recency;
use super::sync::{AtomicU64, Ordering};
use super::types::{Config, Event, OwnerId, Predicted, Seat, Stats};
use super::uses::Uses;

/// Events that are taken from a ring at once.
const BATCH: usize = 64;
/// What a mark of another proxy's weighs in a cache, where a token has 4 bytes.
const MARK_TOKENS: u32 = (api::limits::MARK_EVERY_BLOCKS * api::limits::BLOCK_BYTES / 4) as u32;

/// See the module.
#[derive(Debug)]
pub struct Writer {
    config: Config,
    holders: Holders,
    uses: Uses,
    owners: Owners,
    /// By living owner, once it has a mark.
    recency: HashMap<OwnerId, Recency, ahash::RandomState>,
    /// Cache sizes that someone named.
    cache_tokens: HashMap<Seat, u64, ahash::RandomState>,
    marks: usize,
    links: Vec<Arc<Link>>,
    turn: Arc<AtomicU64>,
    cursor: Cursor,
    /// Events on their way from a ring; empty between two calls.
    batch: Vec<Event>,
    /// What others are to be told.
    news: News,
    evictions: u64,
    refused: u64,
    /// Of readers that are gone.
    overflow: u64,
}

impl Writer {
    /// An empty table.
    pub fn new(config: Config) -> Self {
        let config = Config { max_owners: config.max_owners.min(1 << 20), ..config };
        Self {
            holders: Holders::new(SEGMENT_BITS),
            uses: Uses::new(SEGMENT_BITS, config.max_uses),
            owners: Owners::new(config.max_seats, config.max_owners),
            recency: HashMap::default(),
            cache_tokens: HashMap::default(),
            marks: 0,
            links: Vec::new(),
            turn: Arc::new(AtomicU64::new(1)),
            cursor: Cursor::default(),
            batch: Vec::with_capacity(BATCH),
            news: News::default(),
            evictions: 0,
            refused: 0,
            overflow: 0,
            config,
        }
    }

    /// A view for one core. Ids of ended owners are held back until it turns, or is dropped.
    pub fn reader(&mut self) -> Reader {
        let link = Link::new(self.config.ring);
        self.links.push(Arc::clone(&link));
        Reader::new(Parts {
            table: self.holders.reader(),
            uses: self.uses.reader(),
            view: Arc::clone(self.owners.view()),
            link,
            turn: Arc::clone(&self.turn),
        })
    }

    /// Seat ↔ owner, for anyone.
    pub fn owners(&self) -> Arc<OwnerView> {
        Arc::clone(self.owners.view())
    }

    /// The endpoint's seat: the same for the same key, until it is released. None when the bound is reached.
    pub fn seat(&mut self, key: &EndpointKey) -> Option<Seat> {
        self.owners.seat(key)
    }

    /// The endpoint left: what it held is masked at once.
    pub fn release(&mut self, key: &EndpointKey) {
        if let Some(seat) = self.owners.seat_of(key) {
            self.cache_tokens.remove(&seat);
        }
        let ended = self.owners.release(key);
        self.forget(ended);
    }

    /// The endpoint lost its cache: what it held is masked at once, and it goes on under a new owner id.
    pub fn clear(&mut self, key: &EndpointKey) {
        let ended = self.owners.clear(key);
        self.forget(ended);
    }

    /// How many tokens the endpoint's cache holds. Until someone says, it is [`CACHE_TOKENS`].
    pub fn set_cache_tokens(&mut self, key: &EndpointKey, tokens: u64) {
        let Some(seat) = self.owners.seat_of(key) else { return };
        self.cache_tokens.insert(seat, tokens);
        let Some(owner) = self.owners.view().owner(seat) else { return };
        if let Some(recency) = self.recency.get_mut(&owner) {
            recency.capacity = tokens;
            self.evict(owner);
        }
    }

    /// Takes what the cores have sent: each ms while there is traffic. At most a ring's length of each core's.
    /// Returns the number of events.
    pub fn drain(&mut self, now_ms: u64) -> usize {
        let mut drained = 0;
        let mut batch = std::mem::take(&mut self.batch);
        for at in 0..self.links.len() {
            let link = Arc::clone(&self.links[at]);
            let mut left = link.capacity();
            while left > 0 {
                batch.extend(std::iter::from_fn(|| link.take()).take(left.min(BATCH)));
                if batch.is_empty() {
                    break;
                }
                self.warm(&batch);
                left -= batch.len();
                drained += batch.len();
                for event in batch.drain(..) {
                    self.news.note(&event);
                    self.apply(event, now_ms);
                }
            }
            link.add_applied((link.capacity() - left) as u64);
        }
        self.batch = batch;
        self.drop_left_links();
        drained
    }

    /// Reads the cells that a batch of events is about to change. One after the other each would be waited for, and a mark
    /// touches half a dozen places in tables of many megabytes; these reads do not depend on each other, so the core does
    /// ten at a time.
    fn warm(&self, batch: &[Event]) {
        let marks = batch.iter().filter_map(|event| match *event {
            Event::Mark { owner, key, tokens, .. } => Some((owner, key, tokens)),
            Event::Seen { .. } => None,
        });
        let Some((owner, ..)) = marks.clone().next() else { return };
        let mut read = marks.clone().fold(0, |read, (_, key, _)| read ^ self.holders.warm(key) ^ self.uses.warm(key));
        // Of one owner as a rule: a batch is a prompt's.
        if let Some(recency) = self.recency.get(&owner) {
            read = marks.clone().fold(read, |read, (_, key, _)| read ^ recency.warm(key));
            if recency.is_full_with(marks.clone().map(|(.., tokens)| u64::from(tokens)).sum()) {
                let leaving = recency.oldest(marks.count());
                read = leaving.fold(read, |read, key| read ^ self.holders.warm(key) ^ recency.warm(key));
            }
        }
        std::hint::black_box(read);
    }

    /// One event, from a ring or from another proxy.
    pub fn apply(&mut self, event: Event, now_ms: u64) {
        match event {
            Event::Mark { owner, key, parent, tokens } => {
                if self.is_alive(owner) {
                    self.mark(owner, (key.max(1), parent), tokens);
                    self.evict(owner);
                }
            }
            Event::Seen { owner, key, tokens } => {
                if self.is_alive(owner) {
                    let Self { recency, uses, .. } = self;
                    if let Some(recency) = recency.get_mut(&owner) {
                        recency.push_loose(tokens);
                        recency.touch(key, |key| uses.add(key, now_ms));
                        self.evict(owner);
                    }
                }
            }
        }
    }

    /// The owner holds the block with this key, by its own account: it stays until it is removed. False when the
    /// owner has ended or a bound is reached.
    pub fn insert(&mut self, owner: OwnerId, key: u64) -> bool {
        if !self.is_alive(owner) || !self.has_room(key) || self.holders.insert(key, owner) == Inserted::Refused {
            self.refused += 1;
            return false;
        }
        true
    }

    /// The owner holds the block no longer. Whether it was known to.
    pub fn remove(&mut self, owner: OwnerId, key: u64) -> bool {
        self.holders.remove(key, owner)
    }

    /// From now on what the cores decide is noted, for [`Self::take_uses`] and [`Self::take_predicted`].
    pub fn tell(&mut self) {
        self.uses.tell();
        self.news.turn_on();
    }

    /// What the cores' decisions left at endpoints since the last time.
    pub fn take_predicted(&mut self) -> Vec<Predicted> {
        self.news.take(self.owners.view())
    }

    /// Takes in what other proxies' decisions left at endpoints. Their uses are told apart: see [`Self::raise_use`].
    pub fn hear(&mut self, marks: &[Predicted]) {
        let mut before: Option<Predicted> = None;
        for (at, mark) in marks.iter().enumerate() {
            let follows = |one: &Predicted, other: &Predicted| {
                one.seat == other.seat && Some(one.position) == other.position.checked_add(1)
            };
            let parent = before.filter(|before| follows(mark, before)).map_or(0, |before| before.key);
            before = Some(*mark);
            let Some(owner) = self.owners.view().owner(mark.seat) else { continue };
            self.mark(owner, (mark.key.max(1), parent), MARK_TOKENS);
            // At a run's end all of its chain was asked for.
            if !marks.get(at + 1).is_some_and(|next| follows(next, mark))
                && let Some(recency) = self.recency.get_mut(&owner)
            {
                recency.touch(mark.key.max(1), |_| {});
            }
            self.evict(owner);
        }
    }

    /// How often marks were asked for here since the last time: of at most so many, those used most.
    pub fn take_uses(&mut self, most: usize) -> Vec<(u64, f32)> {
        self.uses.take_news(most)
    }

    /// A mark's use count is at least this: what the whole fleet has counted.
    pub fn raise_use(&mut self, key: u64, count: f32, now_ms: u64) {
        self.uses.raise(key, count, now_ms);
    }

    /// A slice of the standing work: drops old use counts, takes ended owners out of the cells, and frees their ids.
    /// Looks at up to `budget` cells of each table; a few thousand take some ten microseconds.
    pub fn sweep_slice(&mut self, budget: usize, now_ms: u64) {
        self.uses.sweep(budget, now_ms);
        if self.owners.begin_sweep() {
            let view = Arc::clone(self.owners.view());
            if self.holders.sweep(&mut self.cursor, budget, |owner| view.seat(owner).is_some()) {
                self.owners.end_sweep();
                self.turn.fetch_add(1, Ordering::Release);
            }
        } else if self.owners.resting() {
            self.free_ids(now_ms);
        }
    }

    /// Counters and sizes.
    pub fn stats(&mut self) -> Stats {
        Stats {
            keys: self.holders.keys(),
            marks: self.marks,
            uses: self.uses.len(),
            bytes: self.holders.bytes() + self.uses.bytes(),
            recency_bytes: self.recency.values().map(Recency::bytes).sum(),
            evictions: self.evictions,
            overflow: self.overflow + self.links.iter().map(|link| link.overflow()).sum::<u64>(),
            refused: self.refused + self.uses.refused(),
            untold: self.news.lost(),
            rebuilds: self.holders.rebuilds() + self.uses.rebuilds(),
            retiring: self.owners.retiring(),
        }
    }

    /// Ids are free once every core has turned since the sweep's end: it reads no cell that named them, and its ring
    /// has no event that names them, for those from before that turn are taken here.
    fn free_ids(&mut self, now_ms: u64) {
        self.drop_left_links();
        let turn = self.turn.load(Ordering::Relaxed);
        if self.links.iter().all(|link| link.turn_seen() >= turn) {
            self.drain(now_ms);
            self.owners.free_rested();
        }
    }

    fn drop_left_links(&mut self) {
        let overflow = &mut self.overflow;
        self.links.retain(|link| {
            let left = Arc::strong_count(link) == 1;
            *overflow += if left { link.overflow() } else { 0 };
            !left
        });
    }

    fn mark(&mut self, owner: OwnerId, (key, parent): (u64, u64), tokens: u32) {
        if self.marks >= self.config.max_marks || !self.has_room(key) {
            self.evict_one(owner);
            if self.marks >= self.config.max_marks || !self.has_room(key) {
                self.refused += 1;
                return;
            }
        }
        // Of a key with too many holders the owner still keeps the order: the marks behind it are found by it.
        if self.holders.insert(key, owner) == Inserted::Refused {
            self.refused += 1;
        }
        let capacity = self.capacity(owner);
        let recency = self.recency.entry(owner).or_insert_with(|| Recency::new(capacity));
        self.marks += usize::from(recency.push(key, parent, tokens));
    }

    fn capacity(&self, owner: OwnerId) -> u64 {
        let named = self.owners.view().seat(owner).and_then(|seat| self.cache_tokens.get(&seat));
        named.copied().unwrap_or(CACHE_TOKENS)
    }

    fn evict(&mut self, owner: OwnerId) {
        let Some(recency) = self.recency.get_mut(&owner) else { return };
        while let Some(key) = recency.pop_over() {
            if key != 0 {
                self.holders.remove(key, owner);
                self.marks -= 1;
                self.evictions += 1;
            }
        }
    }

    /// Makes room for a mark at the cost of the owner's own oldest.
    fn evict_one(&mut self, owner: OwnerId) {
        let Some(recency) = self.recency.get_mut(&owner) else { return };
        while let Some(key) = recency.pop() {
            if key != 0 {
                self.holders.remove(key, owner);
                self.marks -= 1;
                self.evictions += 1;
                return;
            }
        }
    }

    fn forget(&mut self, ended: Option<OwnerId>) {
        if let Some(recency) = ended.and_then(|owner| self.recency.remove(&owner)) {
            self.marks -= recency.marks();
        }
    }

    fn is_alive(&self, owner: OwnerId) -> bool {
        self.owners.view().seat(owner).is_some()
    }

    fn has_room(&self, key: u64) -> bool {
        self.holders.keys() < self.config.max_keys || self.holders.holds_key(key)
    }
}
