//! A core's own marks until the writer has made them visible: 512 entries in sets of four. An entry counts only while
//! its event is on the way, so it outlives neither an eviction nor its owner's id.

use super::types::OwnerId;

const SETS: usize = 128;
const WAYS: usize = 4;

#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    key: u64,
    owner: u32,
    /// The event's number on this core, from 1; 0 in an empty entry.
    event: u64,
}

/// The entries.
#[derive(Debug, Clone)]
pub(super) struct Overlay {
    sets: Box<[[Entry; WAYS]]>,
}

impl Overlay {
    pub(super) fn new() -> Self {
        Self { sets: vec![[Entry::default(); WAYS]; SETS].into_boxed_slice() }
    }

    /// Takes the place of the oldest in its set.
    pub(super) fn add(&mut self, key: u64, owner: OwnerId, event: u64) {
        let set = &mut self.sets[key as usize % SETS];
        let oldest = set.iter_mut().min_by_key(|entry| entry.event).expect("a set has ways");
        *oldest = Entry { key, owner: owner.0, event };
    }

    /// Owners of the key by events after the `applied`-th.
    pub(super) fn owners(&self, key: u64, applied: u64) -> impl Iterator<Item = OwnerId> {
        let set = &self.sets[key as usize % SETS];
        set.iter().filter(move |entry| entry.event > applied && entry.key == key).map(|entry| OwnerId(entry.owner))
    }
}
