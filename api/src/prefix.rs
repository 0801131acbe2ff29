//! The block-hash chain that both planes compute alike: `h = xxh3(block, seed = previous h)` over full blocks of the
//! rendered prompt's text bytes, begun with a seed salted by model, adapter, the request's `cache_salt` and the fleet.
//!
//! A hash is a hint: a collision costs a worse choice of endpoint, never a wrong answer. Vectors (`fleet_seed` 7, model
//! `m`, nothing else): the seed is `0x7c662d460d11726a`; the text `A`×64 `B`×64 `C`×10 has the blocks
//! `0xfaab503ac52e77ec, 0x6a59d3cfb7fa332e` (computed with the C library).

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::limits::{BLOCK_BYTES, MAX_BLOCKS};

/// What separates the key spaces of two prompts with the same text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Salt<'a> {
    /// The snapshot's secret, so that tenants cannot construct collisions.
    pub fleet_seed: u64,
    /// The model that the engine serves, after the rename.
    pub model: &'a str,
    /// The LoRA adapter; empty where there is none.
    pub adapter: &'a str,
    /// The body's `cache_salt`; empty where there is none.
    pub cache_salt: &'a str,
}

/// The value that a chain starts with. The parts are hashed one after the other, each seeded by the one before, so that
/// (`ab`, `c`) and (`a`, `bc`) differ.
pub fn seed(salt: &Salt<'_>) -> u64 {
    let model = xxh3_64_with_seed(salt.model.as_bytes(), salt.fleet_seed);
    let adapter = xxh3_64_with_seed(salt.adapter.as_bytes(), model);
    xxh3_64_with_seed(salt.cache_salt.as_bytes(), adapter)
}

/// The hash of one full block behind `previous`, which is the seed for the first block.
#[inline]
pub fn next(previous: u64, block: &[u8; BLOCK_BYTES]) -> u64 {
    xxh3_64_with_seed(block, previous)
}

/// The hashes of the full blocks of `text`, appended to `blocks`.
pub fn chain(seed: u64, text: &[u8], blocks: &mut Vec<u64>) {
    Hasher::new(seed).push(text, blocks);
}

/// Hashes a text that arrives in pieces. How the text is cut makes no difference.
#[derive(Debug, Clone)]
pub struct Hasher {
    previous: u64,
    /// The beginning of a block that is not full yet.
    partial: [u8; BLOCK_BYTES],
    filled: usize,
}

impl Hasher {
    /// Starts a chain with the value of [`seed`].
    pub fn new(seed: u64) -> Self {
        Self { previous: seed, partial: [0; BLOCK_BYTES], filled: 0 }
    }

    /// Takes the next bytes of the text and appends the hash of each block that they complete. Once `blocks` holds
    /// [`MAX_BLOCKS`] the rest of the text is not looked at.
    pub fn push(&mut self, mut text: &[u8], blocks: &mut Vec<u64>) {
        if self.filled > 0 {
            let take = text.len().min(BLOCK_BYTES - self.filled);
            self.partial[self.filled..self.filled + take].copy_from_slice(&text[..take]);
            self.filled += take;
            text = &text[take..];
            if self.filled < BLOCK_BYTES {
                return;
            }
            self.filled = 0;
            if blocks.len() < MAX_BLOCKS {
                self.previous = next(self.previous, &self.partial);
                blocks.push(self.previous);
            }
        }
        let (full, rest) = text.as_chunks::<BLOCK_BYTES>();
        let room = MAX_BLOCKS.saturating_sub(blocks.len());
        let mut previous = self.previous;
        blocks.extend(full.iter().take(room).map(|block| {
            previous = next(previous, block);
            previous
        }));
        self.previous = previous;
        self.partial[..rest.len()].copy_from_slice(rest);
        self.filled = rest.len();
    }

    /// Bytes of the block that is not full yet: text that no hash covers.
    pub fn pending(&self) -> usize {
        self.filled
    }
}

#[cfg(test)]
mod tests;
