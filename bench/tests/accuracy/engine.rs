//! An engine's prefix cache, as vLLM has it: blocks of 16 tokens, of which the oldest are dropped when there is no room,
//! a prompt's last before its first. What it does it publishes.

use std::collections::{BTreeMap, HashMap};

use controlplane::kv::event::{Batch, Event, Removed, Stored, Tier};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Tokens of a block.
pub(crate) const BLOCK: usize = 16;
/// Blocks of one prompt, for their order.
const MOST: u64 = 1 << 20;

/// See the module.
pub(crate) struct Engine {
    capacity: usize,
    /// When a block was last used.
    ages: HashMap<u64, u64>,
    by_age: BTreeMap<u64, u64>,
    served: u64,
    pub(crate) evicted: usize,
}

impl Engine {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity, ages: HashMap::new(), by_age: BTreeMap::new(), served: 0, evicted: 0 }
    }

    /// Tokens of a prompt that need not be computed. The last token always is, for what follows it is wanted.
    pub(crate) fn cached(&self, prompt: &[u32]) -> usize {
        let blocks = keys(&prompt[..prompt.len() - 1]);
        blocks.iter().take_while(|key| self.ages.contains_key(key)).count() * BLOCK
    }

    /// Computes all of these tokens, and tells what became of its blocks.
    pub(crate) fn serve(&mut self, tokens: &[u32]) -> Batch {
        let keys = keys(tokens);
        assert!(keys.len() <= self.capacity, "a prompt of {} blocks", keys.len());
        self.served += 1;
        let known = keys.iter().take_while(|key| self.ages.contains_key(key)).count();
        keys.iter().enumerate().for_each(|(at, key)| self.touch(*key, at));
        let removed = self.evict();
        let mut events = Vec::new();
        if !removed.is_empty() {
            events.push(Event::Removed(Removed { hashes: removed, tier: Tier::Device, group: 0 }));
        }
        if known < keys.len() {
            events.push(stored(&keys, known, tokens));
        }
        Batch { events, ..Batch::default() }
    }

    fn touch(&mut self, key: u64, at: usize) {
        let age = self.served * MOST + (MOST - 1 - at as u64);
        if let Some(before) = self.ages.insert(key, age) {
            self.by_age.remove(&before);
        }
        self.by_age.insert(age, key);
    }

    fn evict(&mut self) -> Vec<u64> {
        let mut removed = Vec::new();
        while self.ages.len() > self.capacity {
            let (_, key) = self.by_age.pop_first().unwrap();
            self.ages.remove(&key);
            removed.push(key);
        }
        self.evicted += removed.len();
        removed
    }
}

fn stored(keys: &[u64], known: usize, tokens: &[u32]) -> Event {
    let parent = known.checked_sub(1).map(|before| keys[before]);
    let tokens = tokens[known * BLOCK..keys.len() * BLOCK].to_vec();
    Event::Stored(Stored::plain(keys[known..].to_vec(), parent, tokens, BLOCK as u32))
}

/// By which the engine knows its full blocks.
fn keys(tokens: &[u32]) -> Vec<u64> {
    let mut before = 7;
    let blocks = tokens.chunks_exact(BLOCK).map(|block| {
        let bytes: Vec<u8> = block.iter().flat_map(|token| token.to_le_bytes()).collect();
        before = xxh3_64_with_seed(&bytes, before);
        before
    });
    blocks.collect()
}
