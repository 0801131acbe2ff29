//! What the writer tells other proxies, by way of the control plane, and what it hears from them: how often marks are asked
//! for, and what decisions left at endpoints.

use super::Writer;
use crate::index::types::Predicted;

/// What a mark of another proxy's weighs in a cache, where a token has 4 bytes.
const MARK_TOKENS: u32 = (api::limits::MARK_EVERY_BLOCKS * api::limits::BLOCK_BYTES / 4) as u32;

impl Writer {
    /// From now on what the cores decide is noted, for [`Self::take_uses`] and [`Self::take_predicted`].
    pub fn note_news(&mut self) {
        self.uses.tell();
        self.news.turn_on();
    }

    /// What the cores' decisions left at endpoints since the last time.
    pub fn take_predicted(&mut self) -> Vec<Predicted> {
        self.news.take(self.owners.view())
    }

    /// What is new is old by now, and nobody is told of it.
    pub fn drop_news(&mut self) {
        self.uses.take_news(usize::MAX);
        self.news.take(self.owners.view());
    }

    /// Takes in what other proxies' decisions left at endpoints. Their uses are told apart: see [`Self::raise_use`].
    pub fn hear(&mut self, marks: &[Predicted], now_ms: u64) {
        let mut before: Option<Predicted> = None;
        for (at, mark) in marks.iter().enumerate() {
            let follows = |one: &Predicted, other: &Predicted| {
                one.seat == other.seat && Some(one.position) == other.position.checked_add(1)
            };
            let parent = before.filter(|before| follows(mark, before)).map_or(0, |before| before.key);
            before = Some(*mark);
            let Some(owner) = self.owners.view().owner(mark.seat) else { continue };
            self.mark(owner, (mark.key.max(1), parent), MARK_TOKENS, now_ms);
            // At a run's end all of its chain was asked for.
            if !marks.get(at + 1).is_some_and(|next| follows(next, mark))
                && let Some(recency) = self.recency.get_mut(&owner)
            {
                recency.set_now(now_ms);
                recency.touch(mark.key.max(1), |_| {});
            }
            self.evict(owner);
        }
    }

    /// How often marks were asked for here since the last time: of at most so many, those used most.
    pub fn take_uses(&mut self, most: usize) -> Vec<(u64, f32)> {
        self.uses.take_news(most)
    }

    /// A mark's use count is at least this: what the whole fleet has counted.
    pub fn raise_use(&mut self, key: u64, count: f32, now_ms: u64) {
        self.uses.raise(key, count, now_ms);
    }
}
