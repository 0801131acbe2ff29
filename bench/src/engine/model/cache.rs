//! The prefix cache: blocks by chained hash, least recently used first out, pinned while a running request needs them.
//!
//! Recency is set when a request starts, not when it ends, so what is evicted depends on the order of the starts
//! alone while the running requests are a small part of the cache. What is evicted can be written down, for KV events.

use std::collections::{BTreeMap, HashMap};

#[derive(Debug, Clone, Copy)]
struct Block {
    /// Position in the order of use; larger is more recent.
    used: u64,
    pins: u32,
}

/// Blocks held, their order of use and their pins.
#[derive(Debug)]
pub struct Cache {
    capacity: usize,
    blocks: HashMap<u64, Block>,
    /// Unpinned blocks by recency.
    idle: BTreeMap<u64, u64>,
    /// Blocks set aside for a prefill that has not ended.
    reserved: usize,
    clock: u64,
    /// What was dropped since it was last asked for; none while nobody asks.
    dropped: Option<Vec<u64>>,
}

impl Cache {
    /// An empty cache for `capacity` blocks.
    pub fn new(capacity: usize) -> Self {
        Self { capacity, blocks: HashMap::new(), idle: BTreeMap::new(), reserved: 0, clock: 0, dropped: None }
    }

    /// Blocks that were dropped are written down from now on.
    pub fn record(&mut self) {
        self.dropped = Some(Vec::new());
    }

    /// What was dropped since the last call.
    pub fn take_dropped(&mut self) -> Vec<u64> {
        self.dropped.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// All blocks, in no order.
    pub fn hashes(&self) -> impl Iterator<Item = u64> + '_ {
        self.blocks.keys().copied()
    }

    /// Whether a block is cached.
    pub fn contains(&self, hash: u64) -> bool {
        self.blocks.contains_key(&hash)
    }

    /// Blocks held.
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// True when nothing is cached.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Blocks that a running request holds.
    pub fn pinned(&self) -> usize {
        self.blocks.len() - self.idle.len()
    }

    /// Blocks set aside.
    pub fn reserved(&self) -> usize {
        self.reserved
    }

    /// How many leading blocks of the chain are cached.
    pub fn matched(&self, chain: &[u64]) -> usize {
        chain.iter().take_while(|hash| self.blocks.contains_key(hash)).count()
    }

    /// Whether the whole chain could be held now, given what is pinned.
    pub fn fits(&self, chain: &[u64]) -> bool {
        let hits = self.matched(chain);
        let unpinned_hits = chain[..hits].iter().filter(|hash| self.blocks[hash].pins == 0).count();
        self.pinned() + unpinned_hits + self.reserved + (chain.len() - hits) <= self.capacity
    }

    /// Pins cached blocks and makes them the most recent, the head of the chain last of all.
    pub fn pin(&mut self, chain: &[u64]) {
        for hash in chain.iter().rev() {
            self.clock += 1;
            let block = self.blocks.get_mut(hash).expect("only matched blocks are pinned");
            if block.pins == 0 {
                self.idle.remove(&block.used);
            }
            block.pins += 1;
            block.used = self.clock;
        }
    }

    /// Takes back one pin from each block.
    pub fn unpin(&mut self, chain: &[u64]) {
        for hash in chain {
            let block = self.blocks.get_mut(hash).expect("pinned blocks are never evicted");
            block.pins -= 1;
            if block.pins == 0 {
                self.idle.insert(block.used, *hash);
            }
        }
    }

    /// Sets `count` blocks aside, evicting the least recent idle ones.
    pub fn reserve(&mut self, count: usize) {
        self.reserved += count;
        while self.blocks.len() + self.reserved > self.capacity {
            let Some((_, hash)) = self.idle.pop_first() else { return };
            self.drop_block(hash);
        }
    }

    fn drop_block(&mut self, hash: u64) {
        self.blocks.remove(&hash);
        self.dropped.iter_mut().for_each(|dropped| dropped.push(hash));
    }

    /// Gives back what [`Self::reserve`] set aside.
    pub fn unreserve(&mut self, count: usize) {
        self.reserved -= count;
    }

    /// Adds the blocks of `chain` from index `from` on, pinned once; those before it are pinned already.
    pub fn insert_pinned(&mut self, chain: &[u64], from: usize) {
        for hash in chain[from..].iter().rev() {
            self.clock += 1;
            let used = self.clock;
            let block = self.blocks.entry(*hash).or_insert(Block { used, pins: 0 });
            if block.pins == 0 {
                self.idle.remove(&block.used);
            }
            block.pins += 1;
            block.used = used;
        }
        // The head of the chain outlives its tail.
        for hash in chain[..from].iter().rev() {
            self.clock += 1;
            let block = self.blocks.get_mut(hash).expect("pinned blocks are never evicted");
            block.used = self.clock;
        }
    }

    /// Forgets what no one pins.
    pub fn clear_unpinned(&mut self) {
        for hash in std::mem::take(&mut self.idle).into_values() {
            self.drop_block(hash);
        }
    }
}
