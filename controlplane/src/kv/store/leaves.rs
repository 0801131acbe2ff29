//! Blocks that no other follows, oldest first.

use std::collections::BTreeSet;

/// By age, then by slot.
#[derive(Debug, Default)]
pub(super) struct Leaves(BTreeSet<(u64, u32)>);

impl Leaves {
    pub(super) fn insert(&mut self, stamp: u64, slot: u32) {
        self.0.insert((stamp, slot));
    }

    pub(super) fn remove(&mut self, stamp: u64, slot: u32) {
        self.0.remove(&(stamp, slot));
    }

    pub(super) fn oldest(&self) -> Option<u32> {
        self.0.first().map(|(_, slot)| *slot)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// An estimate from above: the tree's nodes are half full or more, eleven entries, links and a head each.
    pub(super) fn bytes(&self) -> usize {
        self.0.len() * 2 * (size_of::<(u64, u32)>() + 4)
    }
}
