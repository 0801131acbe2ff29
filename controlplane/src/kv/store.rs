//! Which engine rank holds which blocks of tokens: what events add up to. Pure; one writer.
//!
//! An engine's hashes are its own: a restart or another replica names the same tokens differently. So each block gets a
//! [`Key`] here, chained over its tokens, its adapter and its salt, that is equal for equal prompts on all engines. A rank
//! keeps its engine's hashes to find blocks again that are removed; what others learn is keys, gained and lost.

mod chain;
mod leaves;
mod rank;
mod reach;
mod texts;

pub use chain::{Key, root};
pub use rank::{Rank, Tally};
pub use texts::Digest;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::event::{Batch, Event, Tier};
use super::text::Reading;

/// One data-parallel rank of one endpoint; the caller's number, never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RankId(pub u32);

/// A block that a rank has, or no longer has, in a tier. Said once, however often the engine says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// Which block.
    pub key: Key,
    /// Where.
    pub tier: Tier,
    /// Its place in the prompt, 0 for the first.
    pub position: u32,
    /// Whether it is there now.
    pub held: bool,
}

/// A block of text that a rank has, or no longer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TextBlock {
    /// As data planes hash it, see [`api::prefix`].
    pub hash: u64,
    /// Its place in the prompt, 0 for the first.
    pub position: u16,
    /// Whether it is there now.
    pub held: bool,
}

impl TextBlock {
    /// Whether it is told at a sampling level.
    pub fn is_at(&self, level: u8) -> bool {
        self.position & ((1 << level.min(15)) - 1) == 0
    }
}

/// What became of a rank's text since it was last asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct News {
    /// Nothing of what was told before holds.
    pub forgotten: bool,
    /// What holds since, in this order.
    pub blocks: Vec<TextBlock>,
}

/// All ranks.
#[derive(Debug, Default)]
pub struct Store {
    ranks: BTreeMap<RankId, Rank>,
}

impl Store {
    /// Nothing is known of any rank.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a rank in that holds so many blocks at most; one that is known keeps what it has and takes the new bound at
    /// its next event.
    pub fn admit(&mut self, rank: RankId, most_blocks: usize) {
        self.ranks.entry(rank).or_insert_with(|| Rank::new(most_blocks)).bound(most_blocks);
    }

    /// What a rank's engine says. A rank that was never taken in, or was dismissed, is not heard.
    pub fn apply(&mut self, rank: RankId, batch: &Batch, changes: &mut Vec<Change>) {
        let Some(rank) = self.ranks.get_mut(&rank) else { return };
        for event in &batch.events {
            match event {
                Event::Stored(stored) => rank.stored(stored, changes),
                Event::Removed(removed) => rank.removed(removed, changes),
                Event::Cleared => rank.clear(changes),
            }
        }
    }

    /// Nothing of what a rank was held to have may be believed.
    pub fn forget(&mut self, rank: RankId, changes: &mut Vec<Change>) {
        if let Some(rank) = self.ranks.get_mut(&rank) {
            rank.clear(changes);
        }
    }

    /// A rank is gone for good.
    pub fn dismiss(&mut self, rank: RankId, changes: &mut Vec<Change>) {
        self.forget(rank, changes);
        self.ranks.remove(&rank);
    }

    /// How a rank's tokens are read; what it has already stays unread.
    pub fn read_as(&mut self, rank: RankId, reading: Reading) {
        if let Some(rank) = self.ranks.get_mut(&rank) {
            rank.read_as(Arc::new(reading));
        }
    }

    /// What became of a rank's text since the last call.
    pub fn news(&mut self, rank: RankId) -> News {
        self.ranks.get_mut(&rank).map(Rank::take_news).unwrap_or_default()
    }

    /// See [`Rank::settle`].
    pub fn settle(&mut self, rank: RankId) {
        if let Some(rank) = self.ranks.get_mut(&rank) {
            rank.settle();
        }
    }

    /// One rank.
    pub fn rank(&self, rank: RankId) -> Option<&Rank> {
        self.ranks.get(&rank)
    }

    /// Bytes of memory in all.
    pub fn bytes(&self) -> usize {
        self.ranks.values().map(Rank::bytes).sum()
    }
}

#[cfg(test)]
mod tests;
