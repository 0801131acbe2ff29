//! The one writer of both tables: what the `tables` thread drives. It takes the cores' events, keeps every owner's
//! marks within its cache, and gives ended owners' ids back when nothing can name them.

mod fleet;

use std::collections::HashMap;
use std::sync::Arc;

use api::id::EndpointKey;
use api::limits::PREDICTION_UNDER_EVENTS;

use super::holders::{Holders, Inserted};
use super::link::Link;
use super::lives::sweep;
use super::map::{Cursor, SEGMENT_BITS};
use super::owners::{OwnerView, Owners};
use super::predicted::News;
use super::reader::{Parts, Reader};
use super::recency::{Recency, ticks};
use super::reported::Reported;
use super::sync::AtomicU64;
use super::terms::Terms;
use super::types::{Config, Event, OwnerId, Seat, Stats};
use super::uses::Uses;

/// Events that are taken from a ring at once.
const BATCH: usize = 64;

/// See the module.
#[derive(Debug)]
pub struct Writer {
    config: Config,
    holders: Holders,
    reported: Reported,
    uses: Uses,
    owners: Owners,
    /// By living owner, once it has a mark.
    recency: HashMap<OwnerId, Recency, ahash::RandomState>,
    /// Of endpoints of which someone said something.
    terms: HashMap<Seat, Terms, ahash::RandomState>,
    marks: usize,
    links: Vec<Arc<Link>>,
    turn: Arc<AtomicU64>,
    cursor: Cursor,
    /// Events on their way from a ring; empty between two calls.
    batch: Vec<Event>,
    /// What others are to be told.
    news: News,
    evictions: u64,
    expired: u64,
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
            reported: Reported::new(config.max_reported, config.max_owners),
            uses: Uses::new(SEGMENT_BITS, config.max_uses),
            owners: Owners::new(config.max_seats, config.max_owners),
            recency: HashMap::default(),
            terms: HashMap::default(),
            marks: 0,
            links: Vec::new(),
            turn: Arc::new(AtomicU64::new(1)),
            cursor: Cursor::default(),
            batch: Vec::with_capacity(BATCH),
            news: News::default(),
            evictions: 0,
            expired: 0,
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
            reported: self.reported.reader(),
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

    /// The endpoint left: what it was predicted to hold is masked at once.
    pub fn release(&mut self, key: &EndpointKey) {
        if let Some(seat) = self.owners.seat_of(key) {
            self.terms.remove(&seat);
        }
        let ended = self.owners.release(key);
        self.forget(ended);
    }

    /// The endpoint lost its cache: what it was predicted to hold is masked at once, and it goes on under a new owner id.
    pub fn clear(&mut self, seat: Seat) {
        let ended = self.owners.clear(seat);
        self.forget(ended);
    }

    /// What engines report.
    pub fn reported(&mut self) -> &mut Reported {
        &mut self.reported
    }

    /// How many tokens the endpoint's cache takes, by the snapshot. Until someone says, it is
    /// [`CACHE_TOKENS`](api::limits::CACHE_TOKENS).
    pub fn set_cache_tokens(&mut self, key: &EndpointKey, tokens: u64) {
        let Some(seat) = self.owners.seat_of(key) else { return };
        self.terms.entry(seat).or_default().configured = Some(tokens);
        self.resize(seat);
    }

    /// What the KV lane tells of the endpoint: how many tokens its cache takes, which counts for more than what the snapshot
    /// says, and whether predictions live only until their event has come.
    pub fn tell(&mut self, seat: Seat, cache_tokens: Option<u64>, brief: bool) {
        let terms = self.terms.entry(seat).or_default();
        (terms.reported, terms.brief) = (cache_tokens, brief);
        self.resize(seat);
    }

    /// Ends predictions whose event should have come: up to `budget` of each endpoint's.
    pub fn expire(&mut self, budget: usize, now_ms: u64) {
        let before = ticks(now_ms.saturating_sub(PREDICTION_UNDER_EVENTS.as_millis() as u64));
        let Self { terms, owners, recency, holders, marks, expired, .. } = self;
        let brief = terms.iter().filter(|(_, terms)| terms.brief);
        for owner in brief.filter_map(|(seat, _)| owners.view().owner(*seat)) {
            let Some(recency) = recency.get_mut(&owner) else { continue };
            for key in std::iter::from_fn(|| recency.pop_before(before)).take(budget).filter(|key| *key != 0) {
                holders.remove(key, owner);
                *marks -= 1;
                *expired += 1;
            }
        }
    }

    /// Takes what the cores have sent: every few ms while there is traffic. At most a ring's length of each core's.
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
                    self.mark(owner, (key.max(1), parent), tokens, now_ms);
                    self.evict(owner);
                }
            }
            Event::Seen { owner, key, tokens } => {
                if self.is_alive(owner) {
                    let Self { recency, uses, .. } = self;
                    if let Some(recency) = recency.get_mut(&owner) {
                        recency.set_now(now_ms);
                        recency.push_loose(tokens);
                        recency.touch(key, |key| uses.add(key, now_ms));
                        self.evict(owner);
                    }
                }
            }
        }
    }

    /// A slice of the standing work: drops use counts that have decayed. Looks at up to `budget` cells; a few thousand
    /// take some ten microseconds.
    pub fn sweep_slice(&mut self, budget: usize, now_ms: u64) {
        self.uses.sweep(budget, now_ms);
    }

    /// A slice of what ended owners leave behind: takes them out of up to `budget` cells of each table, and frees their ids
    /// once every core has turned since. False where nothing is left to do.
    pub fn retire_slice(&mut self, budget: usize, now_ms: u64) -> bool {
        if self.retiring() == 0 {
            return false;
        }
        self.drop_left_links();
        let seen_by_all = self.links.iter().map(|link| link.turn_seen()).min().unwrap_or(u64::MAX);
        self.reported.sweep(budget, &self.turn, seen_by_all);
        let lives = &mut self.owners.lives;
        sweep(lives, (&mut self.holders, &mut self.cursor), budget, &self.turn);
        if lives.rests_since().is_some_and(|since| seen_by_all >= since) {
            // A core's ring has no event that names them: those from before its turn are taken here.
            self.drain(now_ms);
            self.owners.lives.free_rested();
        }
        true
    }

    fn retiring(&self) -> usize {
        self.owners.lives.retiring() + self.reported.lives().retiring()
    }

    /// Counters and sizes.
    pub fn stats(&mut self) -> Stats {
        Stats {
            keys: self.holders.keys(),
            marks: self.marks,
            uses: self.uses.len(),
            bytes: self.holders.bytes() + self.uses.bytes(),
            recency_bytes: self.recency.values().map(Recency::bytes).sum(),
            reported_keys: self.reported.keys(),
            reported_bytes: self.reported.bytes(),
            evictions: self.evictions,
            expired: self.expired,
            overflow: self.overflow + self.links.iter().map(|link| link.overflow()).sum::<u64>(),
            refused: self.refused + self.uses.refused(),
            untold: self.news.lost(),
            rebuilds: self.holders.rebuilds() + self.reported.rebuilds() + self.uses.rebuilds(),
            retiring: self.retiring(),
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

    fn mark(&mut self, owner: OwnerId, (key, parent): (u64, u64), tokens: u32, now_ms: u64) {
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
        recency.set_now(now_ms);
        self.marks += usize::from(recency.push(key, parent, tokens));
    }

    fn capacity(&self, owner: OwnerId) -> u64 {
        let terms = self.owners.view().seat(owner).and_then(|seat| self.terms.get(&seat));
        terms.copied().unwrap_or_default().capacity()
    }

    fn resize(&mut self, seat: Seat) {
        let Some(owner) = self.owners.view().owner(seat) else { return };
        let capacity = self.capacity(owner);
        if let Some(recency) = self.recency.get_mut(&owner) {
            recency.capacity = capacity;
            self.evict(owner);
        }
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
