//! What a peer tells of one endpoint's cache: a copy that is as good as the peer, for as long as that is heard.
//!
//! A block takes 12 bytes, its place in the index 4 to 9: a third of what the replica keeps that hears the engine itself.

use std::time::Instant;

use hashbrown::HashTable;

use crate::kv::store::{Digest, TextBlock};
use crate::kv::trust::Trust;

/// Blocks of one endpoint: as many as of an engine that is heard here.
const MOST: usize = 1 << 23;
const NONE: u32 = u32::MAX;
/// Slots are added by this part of those there are.
const GROWTH: usize = 16;

#[derive(Debug, Clone, Copy)]
struct Slot {
    /// Of the hash; in a free slot the first word is the next free one.
    words: [u32; 2],
    position: u16,
    held: bool,
}

impl Slot {
    fn hash(&self) -> u64 {
        u64::from(self.words[0]) | u64::from(self.words[1]) << 32
    }
}

/// What one peer tells of one endpoint.
#[derive(Debug)]
pub(super) struct Mirror {
    /// The stream by which it is told.
    pub(super) stream: u64,
    /// Its own number among all mirrors of an endpoint.
    pub(super) id: u64,
    pub(super) trust: Trust,
    pub(super) capacity_tokens: u64,
    /// Nobody tells of it any more, and it counts for so long.
    pub(super) orphan_until: Option<Instant>,
    slots: Vec<Slot>,
    free: u32,
    by_hash: HashTable<u32>,
    digest: Digest,
}

impl Mirror {
    pub(super) fn new(stream: u64, id: u64) -> Self {
        Self {
            stream,
            id,
            trust: Trust::Cold,
            capacity_tokens: 0,
            orphan_until: None,
            slots: Vec::new(),
            free: NONE,
            by_hash: HashTable::new(),
            digest: Digest::default(),
        }
    }

    pub(super) fn is_live(&self) -> bool {
        self.orphan_until.is_none()
    }

    /// A block came or went; whether that changes anything.
    pub(super) fn set(&mut self, TextBlock { hash, position, held }: TextBlock) -> bool {
        if held == self.tells(hash) || (held && self.by_hash.len() >= MOST) {
            return false;
        }
        if held {
            let slot = self.take(Slot { words: [hash as u32, (hash >> 32) as u32], position, held });
            let slots = &self.slots;
            self.by_hash.insert_unique(hash, slot, |slot| slots[*slot as usize].hash());
        } else {
            let slots = &self.slots;
            let Ok(entry) = self.by_hash.find_entry(hash, |slot| slots[*slot as usize].hash() == hash) else {
                return false;
            };
            let slot = entry.remove().0;
            self.slots[slot as usize] = Slot { words: [self.free, 0], position: 0, held };
            self.free = slot;
        }
        self.digest.turn(hash, held);
        true
    }

    fn take(&mut self, slot: Slot) -> u32 {
        if let Some(free) = self.slots.get_mut(self.free as usize) {
            let at = std::mem::replace(&mut self.free, free.words[0]);
            *free = slot;
            return at;
        }
        if self.slots.len() == self.slots.capacity() {
            self.slots.reserve_exact(self.slots.len() / GROWTH + 16);
        }
        self.slots.push(slot);
        (self.slots.len() - 1) as u32
    }

    /// Nothing is there any longer.
    pub(super) fn clear(&mut self) {
        let Self { stream, id, trust, capacity_tokens, orphan_until, .. } = *self;
        *self = Self { trust, capacity_tokens, orphan_until, ..Self::new(stream, id) };
    }

    pub(super) fn tells(&self, hash: u64) -> bool {
        self.by_hash.find(hash, |slot| self.slots[*slot as usize].hash() == hash).is_some()
    }

    /// See `Rank::page`.
    pub(super) fn page(&self, level: u8, from: u32, most: usize, blocks: &mut Vec<TextBlock>) -> Option<u32> {
        for at in from as usize..self.slots.len() {
            if blocks.len() >= most {
                return Some(at as u32);
            }
            let slot = &self.slots[at];
            let block = TextBlock { hash: slot.hash(), position: slot.position, held: true };
            blocks.extend((slot.held && block.is_at(level)).then_some(block));
        }
        None
    }

    /// What is told at a sampling level.
    pub(super) fn sampled(&self, level: u8) -> Digest {
        let mut digest = Digest::default();
        if level == 0 {
            return self.digest;
        }
        for slot in self.slots.iter().filter(|slot| slot.held) {
            let block = TextBlock { hash: slot.hash(), position: slot.position, held: true };
            if block.is_at(level) {
                digest.turn(block.hash, true);
            }
        }
        digest
    }

    /// Bytes of memory.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() + self.slots.capacity() * size_of::<Slot>() + self.by_hash.allocation_size()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// As a hash is: spread over all bits.
    fn mixed(n: u64) -> u64 {
        let n = (n ^ (n >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (n ^ (n >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    }

    #[test]
    fn it_holds_what_came_and_did_not_go_and_tells_each_once() {
        let (mut mirror, mut model) = (Mirror::new(1, 1), BTreeMap::new());
        for n in 0..20_000_u64 {
            let (hash, held) = (mixed(n % 3_001), !mixed(n + 7).is_multiple_of(3));
            let block = TextBlock { hash, position: (n % 3_001) as u16, held };
            let before = if held { model.insert(hash, block.position) } else { model.remove(&hash) };
            assert_eq!(mirror.set(block), before.is_some() != held);
        }
        for level in [0, 2] {
            let (mut told, mut from) = (Vec::new(), Some(0));
            while let Some(at) = from {
                let mut page = Vec::new();
                from = mirror.page(level, at, 7, &mut page);
                told.extend(page.iter().map(|block| (block.hash, block.position)));
            }
            told.sort_unstable();
            let expected = model.iter().filter(|(_, position)| **position % (1 << level) == 0);
            let expected: Vec<(u64, u16)> = expected.map(|(hash, position)| (*hash, *position)).collect();
            let xor = expected.iter().fold(0, |xor, (hash, _)| xor ^ hash);
            assert_eq!(mirror.sampled(level), Digest { xor, blocks: expected.len() as u64 });
            assert_eq!(told, expected);
        }
        mirror.clear();
        assert_eq!((mirror.sampled(0), mirror.tells(mixed(1))), (Digest::default(), false));
    }

    #[test]
    fn a_block_takes_at_most_32_bytes_at_any_fill() {
        let (mut mirror, mut worst) = (Mirror::new(1, 1), 0.0_f64);
        for n in 0..300_000 {
            mirror.set(TextBlock { hash: mixed(n), position: 0, held: true });
            if n > 20_000 {
                worst = worst.max(mirror.bytes() as f64 / (n + 1) as f64);
            }
        }
        println!("{worst:.1} bytes per block at worst");
        assert!(worst <= 32.0, "{worst}");
    }
}
