//! Owner ids of one table: each is one life of an endpoint's cache, and what the table's cells name. A life that has ended
//! is masked at once: readers map its id to no seat. The id is given again only when nothing can name it: after a sweep of
//! the whole table, and after every core has turned since.

use std::collections::VecDeque;
use std::sync::Arc;

use super::holders::Holders;
use super::map::Cursor;
use super::sync::{AtomicU32, AtomicU64, Ordering};
use super::types::{OwnerId, Seat};

const MASKED: u32 = 0;
/// Alive, but nobody's: what is held is kept until it is known whose it is.
const WAITING: u32 = u32::MAX;

/// What readers see.
#[derive(Debug)]
pub(super) struct LifeView(Box<[AtomicU32]>);

impl LifeView {
    /// Whose cache it is; none when that life has ended, or nobody knows yet.
    pub(super) fn seat(&self, owner: OwnerId) -> Option<Seat> {
        let word = self.0.get(owner.0 as usize)?.load(Ordering::Acquire);
        if word == WAITING { None } else { word.checked_sub(1).map(Seat) }
    }

    /// Whether that life has not ended.
    pub(super) fn is_alive(&self, owner: OwnerId) -> bool {
        self.0.get(owner.0 as usize).is_some_and(|word| word.load(Ordering::Acquire) != MASKED)
    }
}

/// The writer's side: which ids are free, and which are on their way to it.
#[derive(Debug)]
pub(super) struct Lives {
    view: Arc<LifeView>,
    free: VecDeque<OwnerId>,
    next: u32,
    /// Masked since the running sweep began, or before it.
    masked: Vec<OwnerId>,
    /// Masked before the running sweep began: it takes them out of every cell.
    sweeping: Vec<OwnerId>,
    /// In no cell any more; free when every core has turned.
    resting: Vec<OwnerId>,
    /// The writer's turn since which they rest.
    rests_since: u64,
}

impl Lives {
    pub(super) fn new(max: u32) -> Self {
        let view = Arc::new(LifeView((0..max).map(|_| AtomicU32::new(MASKED)).collect()));
        let (masked, sweeping, resting) = (Vec::new(), Vec::new(), Vec::new());
        Self { view, free: VecDeque::new(), next: 0, masked, sweeping, resting, rests_since: 0 }
    }

    pub(super) fn view(&self) -> &Arc<LifeView> {
        &self.view
    }

    /// A new life; none where no id is free. Without a seat it waits for one.
    pub(super) fn begin(&mut self, seat: Option<Seat>) -> Option<OwnerId> {
        // Never used ids first, then the one that has rested longest.
        let id = if (self.next as usize) < self.view.0.len() {
            self.next += 1;
            OwnerId(self.next - 1)
        } else {
            self.free.pop_front()?
        };
        self.bind(id, seat);
        Some(id)
    }

    /// It is known whose cache it is.
    pub(super) fn bind(&mut self, owner: OwnerId, seat: Option<Seat>) {
        let word = seat.map_or(WAITING, |seat| seat.0 + 1);
        self.view.0[owner.0 as usize].store(word, Ordering::Release);
    }

    /// The life ends: it is masked from now on.
    pub(super) fn end(&mut self, owner: OwnerId) {
        self.view.0[owner.0 as usize].store(MASKED, Ordering::Release);
        self.masked.push(owner);
    }

    /// Ids that are masked and not yet free.
    pub(super) fn retiring(&self) -> usize {
        self.masked.len() + self.sweeping.len() + self.resting.len()
    }

    /// True while the running sweep has something to take out; begins one if ids wait for it.
    pub(super) fn begin_sweep(&mut self) -> bool {
        if self.sweeping.is_empty() && self.resting.is_empty() {
            std::mem::swap(&mut self.sweeping, &mut self.masked);
        }
        !self.sweeping.is_empty()
    }

    /// Every cell was looked at: what was being swept is named by none. `turn` is the writer's, begun just now.
    pub(super) fn end_sweep(&mut self, turn: u64) {
        self.resting.append(&mut self.sweeping);
        self.rests_since = turn;
    }

    /// The turn that every core must have seen before what rests is free; none where nothing rests.
    pub(super) fn rests_since(&self) -> Option<u64> {
        (!self.resting.is_empty()).then_some(self.rests_since)
    }

    /// Every core has turned since the sweep ended, and nothing older waits in a ring.
    pub(super) fn free_rested(&mut self) {
        self.free.extend(self.resting.drain(..));
    }
}

/// A slice of the sweep that takes ended lives out of the cells: up to `budget` of them are looked at.
pub(super) fn sweep(
    lives: &mut Lives,
    (holders, cursor): (&mut Holders, &mut Cursor),
    budget: usize,
    turn: &AtomicU64,
) {
    if lives.begin_sweep() {
        let view = Arc::clone(lives.view());
        if holders.sweep(cursor, budget, |owner| view.is_alive(owner)) {
            lives.end_sweep(turn.fetch_add(1, Ordering::Release) + 1);
        }
    }
}
