//! What engines say that they hold. The same cells and owner ids as the predictions have, in a table of their own: what is
//! reported stays until it is taken back, and each endpoint has one life here for each model that it is told of.

use std::sync::Arc;

use super::best::{Best, Points, Source};
use super::holders::{Holders, HoldersReader, Inserted};
use super::lives::{LifeView, Lives, sweep};
use super::map::{Cursor, SEGMENT_BITS};
use super::sync::{AtomicU32, AtomicU64, Ordering};
use super::types::{OwnerId, Query, Seat};

/// The writer's side; part of a [`Writer`](super::Writer).
#[derive(Debug)]
pub struct Reported {
    blocks: Holders,
    lives: Lives,
    levels: Arc<Levels>,
    max_keys: usize,
    cursor: Cursor,
}

/// The finest and the coarsest level at which anything was sampled.
#[derive(Debug, Default)]
struct Levels(AtomicU32);

impl Levels {
    /// None while nothing was ever told.
    fn load(&self) -> Option<(u8, u8)> {
        let [told, finest, coarsest, _] = self.0.load(Ordering::Acquire).to_le_bytes();
        (told != 0).then_some((finest, coarsest))
    }

    fn store(&self, levels: Option<(u8, u8)>) {
        let word = levels.map_or(0, |(finest, coarsest)| u32::from_le_bytes([1, finest, coarsest, 0]));
        self.0.store(word, Ordering::Release);
    }
}

impl Reported {
    pub(super) fn new(max_keys: usize, max_lives: u32) -> Self {
        Self {
            blocks: Holders::new(SEGMENT_BITS),
            lives: Lives::new(max_lives),
            levels: Arc::default(),
            max_keys,
            cursor: Cursor::default(),
        }
    }

    pub(super) fn reader(&self) -> ReportedReader {
        let (lives, levels) = (Arc::clone(self.lives.view()), Arc::clone(&self.levels));
        ReportedReader { blocks: self.blocks.reader(), lives, levels }
    }

    /// Between which levels look-ups search, both inclusive; none while nothing is told, which costs them nothing.
    pub fn set_levels(&mut self, levels: Option<(u8, u8)>) {
        self.levels.store(levels);
    }

    /// A new life of an endpoint's cache; without a seat it is kept, and found by nobody, until it is bound to one. None
    /// where no id is free.
    pub fn begin(&mut self, seat: Option<Seat>) -> Option<OwnerId> {
        self.lives.begin(seat)
    }

    /// It is known whose it is.
    pub fn bind(&mut self, owner: OwnerId, seat: Seat) {
        self.lives.bind(owner, Some(seat));
    }

    /// The life ends: what it held is masked at once.
    pub fn end(&mut self, owner: OwnerId) {
        self.lives.end(owner);
    }

    /// The owner holds the block with this key. Refused where it has ended: the sweep may have been there already.
    pub fn insert(&mut self, owner: OwnerId, key: u64) -> Inserted {
        if !self.lives.view().is_alive(owner) {
            return Inserted::Refused;
        }
        if self.blocks.keys() >= self.max_keys && !self.blocks.holds_key(key) {
            return Inserted::Refused;
        }
        self.blocks.insert(key, owner)
    }

    /// It holds the block no longer. Whether it was known to.
    pub fn remove(&mut self, owner: OwnerId, key: u64) -> bool {
        self.blocks.remove(key, owner)
    }

    /// Reads the cells that are about to be changed: one after the other each would be waited for.
    pub fn warm(&self, keys: impl Iterator<Item = u64>) {
        std::hint::black_box(keys.fold(0, |read, key| read ^ self.blocks.warm(key)));
    }

    /// Bytes that readers see, with the generations that one of them still pins.
    pub fn bytes(&mut self) -> usize {
        self.blocks.bytes()
    }

    /// Keys with a holder, also with one that was masked and not swept yet.
    pub fn keys(&self) -> usize {
        self.blocks.keys()
    }

    pub(super) fn rebuilds(&self) -> u64 {
        self.blocks.rebuilds()
    }

    pub(super) fn lives(&self) -> &Lives {
        &self.lives
    }

    /// A slice of the sweep that takes ended lives out of the cells, and gives their ids back once all cores have turned.
    pub(super) fn sweep(&mut self, budget: usize, turn: &AtomicU64, seen_by_all: u64) {
        let Self { blocks, lives, cursor, .. } = self;
        sweep(lives, (blocks, cursor), budget, turn);
        if lives.rests_since().is_some_and(|since| seen_by_all >= since) {
            lives.free_rested();
        }
    }
}

/// One reader's side.
#[derive(Debug, Clone)]
pub(super) struct ReportedReader {
    blocks: HoldersReader,
    lives: Arc<LifeView>,
    levels: Arc<Levels>,
}

impl ReportedReader {
    /// Whether anything was ever told.
    pub(super) fn is_told(&self) -> bool {
        self.levels.load().is_some()
    }

    pub(super) fn best(&mut self, query: &Query<'_>, eligible: impl Fn(Seat) -> bool) -> Best {
        let Some((finest, coarsest)) = self.levels.load() else { return Best::none() };
        let mut best = Best::of(self, Points::sampled(query.chain, coarsest), query, eligible);
        best.refine(self, query.chain, (finest, coarsest));
        best
    }

    pub(super) fn refresh(&mut self) {
        self.blocks.refresh();
    }
}

impl Source for ReportedReader {
    fn each(&mut self, key: u64, mut each: impl FnMut(OwnerId, Seat) -> bool) {
        let Self { blocks, lives, .. } = self;
        blocks.owners(key, |owner| lives.seat(owner).is_none_or(|seat| each(owner, seat)));
    }
}
