//! Blocks that no other follows, oldest first.

use std::collections::BTreeSet;

/// By age, then by slot.
#[derive(Debug, Default)]
pub(super) struct Leaves(BTreeSet<(u32, u32)>);

impl Leaves {
    pub(super) fn insert(&mut self, stamp: u32, slot: u32) {
        self.0.insert((stamp, slot));
    }

    pub(super) fn remove(&mut self, stamp: u32, slot: u32) {
        self.0.remove(&(stamp, slot));
    }

    pub(super) fn oldest(&self) -> Option<u32> {
        self.0.first().map(|(_, slot)| *slot)
    }

    /// All are half as old.
    pub(super) fn halve(&mut self) {
        self.0 = self.0.iter().map(|(stamp, slot)| (stamp / 2, *slot)).collect();
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
        self.0.len() * 2 * (size_of::<(u32, u32)>() + 4)
    }
}
