//! Which owners hold a key. Up to three are in the cell's value; more are in a chain of records that the value names,
//! up to 144: of a prefix that more endpoints hold, the rest are taken to lack it.

use super::arena::{Arena, ArenaReader, Three};
use super::map::{Cursor, Map, MapReader};
use super::types::OwnerId;

/// The tag that says that the value names a record. Inline, the fourth bit is 0.
const CHAINED: u64 = 0b1000;
/// A chain with no more owners than this goes back into the cell; one less than fit, so that it does not flap.
const INLINE_AGAIN: usize = 2;

enum Value {
    Inline(Three),
    Chained(u32),
}

fn parse(value: u64) -> Value {
    if value & CHAINED == 0 { Value::Inline(Three(value)) } else { Value::Chained((value >> 4) as u32) }
}

fn chained(first: u32) -> u64 {
    u64::from(first) << 4 | CHAINED
}

/// The writer's side.
#[derive(Debug)]
pub(super) struct Holders {
    map: Map,
    arena: Arena,
}

/// What became of an insert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// The owner is now one of the key's.
    New,
    /// It already was.
    Known,
    /// The key has as many owners as can be kept.
    Refused,
}

/// One reader's side.
#[derive(Debug, Clone)]
pub(super) struct HoldersReader {
    map: MapReader,
    arena: ArenaReader,
}

impl HoldersReader {
    /// Calls `each` with every owner of the key, until it returns false.
    pub(super) fn owners(&mut self, key: u64, mut each: impl FnMut(OwnerId) -> bool) {
        match parse(self.map.value_of(key)) {
            Value::Inline(three) => {
                three.owners().all(each);
            }
            Value::Chained(first) => self.arena.owners(first, key.max(1), &mut each),
        }
    }

    pub(super) fn refresh(&mut self) {
        self.map.refresh();
        self.arena.refresh();
    }
}

impl Holders {
    pub(super) fn new(segment_bits: u32) -> Self {
        Self { map: Map::new(segment_bits), arena: Arena::new() }
    }

    pub(super) fn reader(&self) -> HoldersReader {
        HoldersReader { map: self.map.reader(), arena: self.arena.reader() }
    }

    pub(super) fn keys(&self) -> usize {
        self.map.live()
    }

    pub(super) fn rebuilds(&self) -> u64 {
        self.map.rebuilds()
    }

    pub(super) fn bytes(&mut self) -> usize {
        self.map.bytes() + self.arena.bytes()
    }

    pub(super) fn holds_key(&self, key: u64) -> bool {
        self.map.value_of(key) != 0
    }

    /// See [`Map::warm`].
    pub(super) fn warm(&self, key: u64) -> u64 {
        self.map.warm(key)
    }

    pub(super) fn insert(&mut self, key: u64, owner: OwnerId) -> Inserted {
        match parse(self.map.value_of(key)) {
            Value::Inline(three) if three.holds(owner) => Inserted::Known,
            Value::Inline(three) => {
                if let Some(more) = three.with(owner) {
                    self.map.set(key, more.0);
                } else {
                    let first = self.arena.start(key.max(1), three);
                    self.arena.add(first, key.max(1), owner);
                    self.map.set(key, chained(first));
                }
                Inserted::New
            }
            Value::Chained(first) if self.arena.owners(first).any(|found| found == owner) => Inserted::Known,
            Value::Chained(first) if self.arena.add(first, key.max(1), owner) => Inserted::New,
            Value::Chained(_) => Inserted::Refused,
        }
    }

    /// Whether the owner was one of the key's.
    pub(super) fn remove(&mut self, key: u64, owner: OwnerId) -> bool {
        match parse(self.map.value_of(key)) {
            Value::Inline(three) if !three.holds(owner) => false,
            Value::Inline(three) => {
                self.map.set(key, three.without(owner).0);
                true
            }
            Value::Chained(first) => {
                let held = self.arena.owners(first).any(|found| found == owner);
                if held {
                    self.arena.drop_owner(first, owner);
                    self.map.set(key, settled(&self.arena, first));
                    self.free_unless_chained(key, first);
                }
                held
            }
        }
    }

    /// Takes every owner that is not alive out of up to `budget` cells. True when the last cell was reached.
    pub(super) fn sweep(&mut self, cursor: &mut Cursor, budget: usize, alive: impl Fn(OwnerId) -> bool) -> bool {
        let Self { map, arena } = self;
        // A chain is freed only when the cell no longer names it, and the cell is written after this closure.
        let mut ended = Vec::new();
        let done = map.sweep(cursor, budget, |_, value| match parse(value) {
            Value::Inline(three) => {
                three.owners().filter(|owner| !alive(*owner)).fold(three, |left, owner| left.without(owner)).0
            }
            Value::Chained(first) => {
                let dead: Vec<_> = arena.owners(first).filter(|owner| !alive(*owner)).collect();
                dead.into_iter().for_each(|owner| arena.drop_owner(first, owner));
                let value = settled(arena, first);
                if value & CHAINED == 0 {
                    ended.push(first);
                }
                value
            }
        });
        ended.into_iter().for_each(|first| arena.end(first));
        done
    }

    fn free_unless_chained(&mut self, key: u64, first: u32) {
        if self.map.value_of(key) & CHAINED == 0 {
            self.arena.end(first);
        }
    }
}

/// The value for a chain: its few owners themselves, once they are few.
fn settled(arena: &Arena, first: u32) -> u64 {
    if arena.owners(first).nth(INLINE_AGAIN).is_some() {
        return chained(first);
    }
    arena.owners(first).fold(Three(0), |three, owner| three.with(owner).unwrap_or(three)).0
}
