//! u64 → u64 for one writer and many readers, in segments by the top bits of the key. Each segment is a generation of
//! its own behind a swapped pointer: growing by 1.25 copies one segment, which takes less than a millisecond at ten
//! million keys and holds 1/256 of the table twice.

use std::sync::Arc;

use super::cells::{CELL_BYTES, Cells, Found};
use super::sync::{Cached, Swap, cached};

/// log2 of the number of segments.
pub(super) const SEGMENT_BITS: u32 = if cfg!(all(loom, test)) { 0 } else { 8 };
/// A generation is never smaller: what an empty segment costs.
const MIN_CELLS: usize = if cfg!(all(loom, test)) { 2 } else { 8 };
/// Shares of used cells at which segments grow: spread over a factor of 1.25, so that segments, which fill alike, do
/// not all grow at once.
const FULL_FROM: f64 = 0.64;
const GROWTH: f64 = 1.25;
/// Filled up to here while readers still pin too many old generations.
const FULL_AT_MOST: f64 = 0.9;

type Segment = Arc<Swap<Cells>>;

/// The writer's side.
#[derive(Debug)]
pub(super) struct Map {
    segments: Box<[Slot]>,
    bits: u32,
    live: usize,
    cells: usize,
    /// Generations that were replaced and that a reader may still hold.
    retired: Vec<Arc<Cells>>,
    retired_cells: usize,
    rebuilds: u64,
}

#[derive(Debug)]
struct Slot {
    shared: Segment,
    cells: Arc<Cells>,
    live: usize,
    used: usize,
    full: f64,
}

/// One reader's side: a cached pointer to each segment.
#[derive(Debug, Clone)]
pub(super) struct MapReader {
    segments: Box<[Cached<Cells>]>,
    bits: u32,
}

/// Where a sweep stands. It begins a segment again when that was rebuilt meanwhile.
#[derive(Debug, Default)]
pub(super) struct Cursor {
    segment: usize,
    at: usize,
    of: Option<Arc<Cells>>,
}

/// Keys are hashes, so the one that stands for "no key" may as well be another.
fn nonzero(key: u64) -> u64 {
    key.max(1)
}

fn segment_of(key: u64, bits: u32) -> usize {
    if bits == 0 { 0 } else { (key >> (64 - bits)) as usize }
}

impl MapReader {
    /// The value, 0 when absent.
    pub(super) fn value_of(&mut self, key: u64) -> u64 {
        let key = nonzero(key);
        self.segments[segment_of(key, self.bits)].load().value_of(key)
    }

    /// Lets go of every generation that was replaced.
    pub(super) fn refresh(&mut self) {
        for segment in &mut self.segments {
            segment.load();
        }
    }
}

impl Map {
    pub(super) fn new(bits: u32) -> Self {
        let count = 1_usize << bits;
        let slot = |at: usize| {
            let cells = Arc::new(Cells::new(MIN_CELLS, bits));
            // Neighbours get thresholds far apart, for no reason but that a prefix of the key space then looks even.
            let share = (at * 167 % count) as f64 / count as f64;
            let full = FULL_FROM * GROWTH.powf(share);
            Slot { shared: Arc::new(Swap::new(Arc::clone(&cells))), cells, live: 0, used: 0, full }
        };
        Self {
            segments: (0..count).map(slot).collect(),
            bits,
            live: 0,
            cells: count * MIN_CELLS,
            retired: Vec::new(),
            retired_cells: 0,
            rebuilds: 0,
        }
    }

    pub(super) fn reader(&self) -> MapReader {
        MapReader { segments: self.segments.iter().map(|slot| cached(&slot.shared)).collect(), bits: self.bits }
    }

    /// The value, 0 when absent.
    pub(super) fn value_of(&self, key: u64) -> u64 {
        let key = nonzero(key);
        self.segments[segment_of(key, self.bits)].cells.value_of(key)
    }

    /// Reads the cell where a key is looked for first. See [`super::writer::Writer::drain`].
    pub(super) fn warm(&self, key: u64) -> u64 {
        let key = nonzero(key);
        self.segments[segment_of(key, self.bits)].cells.warm(key)
    }

    /// Stores a value; 0 removes the key.
    pub(super) fn set(&mut self, key: u64, value: u64) {
        let key = nonzero(key);
        let at = segment_of(key, self.bits);
        let slot = &self.segments[at];
        match slot.cells.find(key) {
            Found::Here(cell) => self.replace(at, cell, value),
            Found::Free(_) | Found::Full if value == 0 => {}
            Found::Free(cell) if self.has_room(at) => self.occupy(at, cell, (key, value)),
            Found::Free(_) | Found::Full => {
                self.rebuild(at, 1, self.segments[at].full / GROWTH);
                match self.segments[at].cells.find(key) {
                    Found::Free(cell) => self.occupy(at, cell, (key, value)),
                    Found::Here(_) | Found::Full => unreachable!("a rebuilt segment has a cell for one more key"),
                }
            }
        }
    }

    /// Looks at up to `budget` cells and stores what `keep` returns for each pair. True when the last was reached; the
    /// cursor then stands at the beginning again.
    pub(super) fn sweep(
        &mut self,
        cursor: &mut Cursor,
        mut budget: usize,
        mut keep: impl FnMut(u64, u64) -> u64,
    ) -> bool {
        while cursor.segment < self.segments.len() {
            let cells = Arc::clone(&self.segments[cursor.segment].cells);
            if !cursor.of.as_ref().is_some_and(|of| Arc::ptr_eq(of, &cells)) {
                cursor.at = 0;
                cursor.of = Some(Arc::clone(&cells));
            }
            while cursor.at < cells.len() {
                if budget == 0 {
                    return false;
                }
                budget -= 1;
                let (key, value) = cells.pair(cursor.at);
                cursor.at += 1;
                let kept = if value == 0 { 0 } else { keep(key, value) };
                if kept != value {
                    self.set(key, kept);
                }
            }
            // A removal may have rebuilt the segment: that moved cells, but only ones of this generation.
            cursor.segment += 1;
            cursor.of = None;
        }
        *cursor = Cursor::default();
        true
    }

    pub(super) fn live(&self) -> usize {
        self.live
    }

    pub(super) fn rebuilds(&self) -> u64 {
        self.rebuilds
    }

    /// Cells of all generations that anyone holds.
    pub(super) fn bytes(&mut self) -> usize {
        self.reap();
        (self.cells + self.retired_cells) * CELL_BYTES
    }

    fn replace(&mut self, at: usize, cell: usize, value: u64) {
        let slot = &mut self.segments[at];
        let before = slot.cells.pair(cell).1;
        slot.cells.set_value(cell, value);
        let change = usize::from(value != 0);
        slot.live = slot.live + change - usize::from(before != 0);
        self.live = self.live + change - usize::from(before != 0);
        let thin = slot.cells.len() > MIN_CELLS && slot.live * 2 <= slot.cells.len();
        if thin {
            let fill = self.segments[at].full * 0.9;
            self.rebuild(at, 0, fill);
        }
    }

    fn occupy(&mut self, at: usize, cell: usize, (key, value): (u64, u64)) {
        let slot = &mut self.segments[at];
        slot.cells.occupy(cell, key, value);
        slot.used += 1;
        slot.live += 1;
        self.live += 1;
    }

    fn has_room(&mut self, at: usize) -> bool {
        let slot = &self.segments[at];
        let (used, len, full) = ((slot.used + 1) as f64, slot.cells.len() as f64, slot.full);
        if used <= len * full {
            return true;
        }
        if self.retired_cells * 8 > self.cells {
            self.reap();
        }
        used <= len * FULL_AT_MOST && self.retired_cells * 8 > self.cells
    }

    /// The segment's next generation, with room for `more` keys at the given fill.
    fn rebuild(&mut self, at: usize, more: usize, fill: f64) {
        let slot = &mut self.segments[at];
        let len = (((slot.live + more) as f64 / fill) as usize).max(MIN_CELLS);
        let next = Cells::new(len, self.bits);
        let mut used = 0;
        for (key, value) in (0..slot.cells.len()).map(|cell| slot.cells.pair(cell)) {
            if key != 0
                && value != 0
                && let Found::Free(free) = next.find(key)
            {
                next.occupy(free, key, value);
                used += 1;
            }
        }
        let next = Arc::new(next);
        slot.shared.store(Arc::clone(&next));
        let old = std::mem::replace(&mut slot.cells, next);
        slot.used = used;
        self.cells = self.cells + len - old.len();
        self.rebuilds += 1;
        self.retired_cells += old.len();
        self.retired.push(old);
        if self.retired.len() >= self.segments.len() || self.retired_cells * 64 > self.cells {
            self.reap();
        }
    }

    /// Drops the generations that no reader holds any more.
    fn reap(&mut self) {
        self.retired.retain(|cells| Arc::strong_count(cells) > 1);
        self.retired_cells = self.retired.iter().map(|cells| cells.len()).sum();
    }
}
