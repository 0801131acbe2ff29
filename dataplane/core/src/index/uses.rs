//! How often a mark was asked for lately: an f32 that halves every 30 s and the time of which it is true, in one cell.
//!
//! The count is the fleet's. What is asked for here is added at once and, where others are to know of it, noted as news; what
//! the whole fleet has counted raises a count to that, never lowers it: all halve alike, so a message that is lost, comes
//! late or twice, or tells of our own uses, does no harm.

use std::collections::HashMap;

use super::map::{Cursor, Map, MapReader};

const HALF_LIFE_MS: f32 = 30_000.0;
/// Time in a cell is counted in 16 ms: 32 bits last two years.
const TICK_SHIFT: u32 = 4;
/// A count below this is dropped: one use, 150 s ago.
const FLOOR: f32 = 1.0 / 32.0;
/// And below this one when the table is over three quarters full: one use, 30 s ago.
const FLOOR_WHEN_FULL: f32 = 0.5;
/// Marks of which there is news at most, until it is taken; of further ones nothing is told.
const MAX_NEWS: usize = 16 << 10;
/// No count is more: a mark used a hundred thousand times a second is at 4 million.
const MOST: f32 = 1e7;

fn pack(count: f32, now_ms: u64) -> u64 {
    u64::from(count.to_bits()) << 32 | (now_ms >> TICK_SHIFT) & 0xffff_ffff
}

fn decayed(value: u64, now_ms: u64) -> f32 {
    if value == 0 {
        return 0.0;
    }
    let count = f32::from_bits((value >> 32) as u32);
    let ticks = ((now_ms >> TICK_SHIFT) as u32).wrapping_sub(value as u32);
    // A reader's clock may be a little behind the writer's.
    let ticks = if ticks > u32::MAX / 2 { 0 } else { ticks };
    count * (-((ticks as f32) * (1 << TICK_SHIFT) as f32) / HALF_LIFE_MS).exp2()
}

/// The writer's side.
#[derive(Debug)]
pub(super) struct Uses {
    map: Map,
    max: usize,
    cursor: Cursor,
    refused: u64,
    /// Uses since they were last taken, where they are told at all.
    news: Option<HashMap<u64, f32, ahash::RandomState>>,
}

/// One reader's side.
#[derive(Debug, Clone)]
pub(super) struct UsesReader(MapReader);

impl UsesReader {
    pub(super) fn count(&mut self, key: u64, now_ms: u64) -> f32 {
        decayed(self.0.value_of(key), now_ms)
    }

    pub(super) fn refresh(&mut self) {
        self.0.refresh();
    }
}

impl Uses {
    pub(super) fn new(segment_bits: u32, max: usize) -> Self {
        Self { map: Map::new(segment_bits), max, cursor: Cursor::default(), refused: 0, news: None }
    }

    pub(super) fn reader(&self) -> UsesReader {
        UsesReader(self.map.reader())
    }

    pub(super) fn len(&self) -> usize {
        self.map.live()
    }

    pub(super) fn bytes(&mut self) -> usize {
        self.map.bytes()
    }

    pub(super) fn rebuilds(&self) -> u64 {
        self.map.rebuilds()
    }

    pub(super) fn refused(&self) -> u64 {
        self.refused
    }

    /// See [`Map::warm`].
    pub(super) fn warm(&self, key: u64) -> u64 {
        self.map.warm(key)
    }

    /// From now on uses are noted, for others to be told of.
    pub(super) fn tell(&mut self) {
        self.news.get_or_insert_default();
    }

    /// The mark was asked for once more.
    pub(super) fn add(&mut self, key: u64, now_ms: u64) {
        if let Some(news) = &mut self.news
            && (news.len() < MAX_NEWS || news.contains_key(&key))
        {
            *news.entry(key).or_default() += 1.0;
        }
        let before = self.map.value_of(key);
        self.put(key, before, decayed(before, now_ms) + 1.0, now_ms);
    }

    /// The whole fleet has asked for the mark so often.
    pub(super) fn raise(&mut self, key: u64, count: f32, now_ms: u64) {
        let before = self.map.value_of(key);
        // Not a number is no count.
        if count > decayed(before, now_ms) {
            self.put(key, before, count.min(MOST), now_ms);
        }
    }

    fn put(&mut self, key: u64, before: u64, count: f32, now_ms: u64) {
        if before == 0 && self.map.live() >= self.max {
            self.refused += 1;
            return;
        }
        self.map.set(key, pack(count, now_ms));
    }

    /// Uses since the last time, those of the `most` marks that were used most; the rest stays for the next time.
    pub(super) fn take_news(&mut self, most: usize) -> Vec<(u64, f32)> {
        let Some(news) = &mut self.news else { return Vec::new() };
        let mut taken: Vec<(u64, f32)> = news.drain().collect();
        if taken.len() > most {
            taken.select_nth_unstable_by(most, |one, other| other.1.total_cmp(&one.1));
            news.extend(taken.drain(most..));
        }
        taken
    }

    /// Drops what was not asked for lately in up to `budget` cells.
    pub(super) fn sweep(&mut self, budget: usize, now_ms: u64) {
        let full = self.map.live() * 4 > self.max * 3;
        let floor = if full { FLOOR_WHEN_FULL } else { FLOOR };
        let keep = |_, value| if decayed(value, now_ms) < floor { 0 } else { value };
        self.map.sweep(&mut self.cursor, budget, keep);
    }
}
