//! Which of a rank's blocks a request can hit: those that are near, with all before them.
//!
//! A hit is the longest beginning of a prompt that is there, so a block behind one that is gone is of no use until that
//! one is back; and data planes look for the end of what is held by halves, so it must not be told either. Engines drop
//! children first, as a rule. Where one does not, all blocks of the rank are looked at once, see [`Rank::settle`].

use std::sync::Arc;

use super::rank::Rank;
use super::{Digest, News, TextBlock};
use crate::kv::text::Reading;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    Unknown,
    Yes,
    No,
}

impl Rank {
    pub(super) fn read_as(&mut self, reading: Arc<Reading>) {
        self.texts.read_as(reading);
    }

    pub(super) fn take_news(&mut self) -> News {
        std::mem::take(self.texts.news())
    }

    /// Whether [`Self::settle`] has anything to do.
    pub fn is_unsettled(&self) -> bool {
        self.holes || self.texts.is_sparse()
    }

    /// Tells and takes back what comes of blocks that went before their children, or came back. Looks at all blocks, so
    /// it is called every now and then only; until it is, blocks that cannot be reached may be told, for that long.
    pub(super) fn settle(&mut self) {
        if std::mem::take(&mut self.holes) {
            for (slot, reach) in self.reached().into_iter().enumerate() {
                let told = reach == Reach::Yes;
                if self.nodes[slot].told != told {
                    self.turn(slot as u32, told);
                }
            }
        }
        if self.texts.is_sparse() {
            self.texts.gather(self.nodes.iter_mut().map(|node| (&mut node.text, node.told)));
        }
    }

    fn reached(&self) -> Vec<Reach> {
        let mut reached = vec![Reach::Unknown; self.nodes.len()];
        let mut path = Vec::new();
        for slot in 0..self.nodes.len() as u32 {
            let mut at = slot;
            let reach = loop {
                match self.nodes.get(at as usize) {
                    // No slot: the one before begins a prompt.
                    None => break Reach::Yes,
                    Some(_) if reached[at as usize] != Reach::Unknown => break reached[at as usize],
                    Some(node) => {
                        path.push(at);
                        if !node.is_near() {
                            break Reach::No;
                        }
                        at = node.parent;
                    }
                }
            };
            path.drain(..).for_each(|at| reached[at as usize] = reach);
        }
        reached
    }

    /// What is told at a sampling level: of the positions that are multiples of 2^level.
    pub fn sampled(&self, level: u8) -> Digest {
        let told = self.nodes.iter().filter(|node| node.told);
        self.texts.sampled(level, told.map(|node| node.text))
    }

    /// Whether a block of text is told.
    pub fn tells(&self, hash: u64) -> bool {
        self.texts.tells(hash)
    }

    /// What is told at a sampling level, from this place on and until there are so many; the place to go on from, none at the
    /// end. What comes or goes meanwhile is news, whichever side of the place it is on. A block may come twice.
    pub fn page(&self, level: u8, from: u32, most: usize, blocks: &mut Vec<TextBlock>) -> Option<u32> {
        for slot in from as usize..self.nodes.len() {
            if blocks.len() >= most {
                return Some(slot as u32);
            }
            let node = &self.nodes[slot];
            if node.told {
                self.texts.list(node.text, level, blocks);
            }
        }
        None
    }
}
