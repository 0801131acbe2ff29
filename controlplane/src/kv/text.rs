//! From an engine's blocks of tokens to the blocks of text that data planes hash, see [`api::prefix`].
//!
//! A block of tokens goes on where its parent's text ended: with the hash of the last full block of text, and the bytes,
//! fewer than 64, that were left over. It completes some blocks of text, none where it is short, and leaves bytes over in
//! its turn. Its tokens become bytes by the model's vocabulary, exactly; where one is not in it, as the stand-ins for
//! pictures are not, the text ends, and nothing behind it is told.

use std::sync::Arc;

use api::limits::BLOCK_BYTES;
use api::prefix::{Salt, chain, seed};

use super::event::{Adapter, Salting};
use super::vocabulary::Vocabulary;

/// Blocks of text that one block of tokens completes at most: 16 KiB.
const MOST_COMPLETED: usize = 255;
/// Blocks of text of one prompt: as many as data planes hash, less one, so that a position fits 16 bits.
const MOST_POSITIONS: usize = u16::MAX as usize;

/// How an engine's tokens are read.
#[derive(Debug, Clone)]
pub struct Reading {
    /// What tokens stand for.
    pub vocabulary: Arc<Vocabulary>,
    /// See [`Salt::fleet_seed`].
    pub fleet_seed: u64,
    /// What requests call the model, after the rename.
    pub model: Arc<str>,
}

impl Reading {
    /// What the chain of a prompt begins with; none where no request can be told to meet it. A request for an adapter
    /// names it in the model's place, and the data plane hashes it so.
    pub fn seed(&self, adapter: &Adapter, salting: &Salting<'_>) -> Option<u64> {
        let cache_salt = match salting {
            Salting::None => "",
            Salting::Salt(salt) => salt,
            Salting::Unclear => return None,
        };
        let (model, adapter) = match adapter {
            Adapter::None => (&*self.model, ""),
            Adapter::Name(name) => (&**name, &**name),
            Adapter::Number(_) => return None,
        };
        Some(seed(&Salt { fleet_seed: self.fleet_seed, model, adapter, cache_salt }))
    }
}

/// Where a text stands.
#[derive(Debug, Clone, Copy)]
pub struct Tail<'t> {
    /// The hash of its last full block; the chain's seed where there is none yet.
    pub previous: u64,
    /// How many full blocks it has.
    pub blocks: usize,
    /// The bytes behind them, fewer than 64.
    pub rest: &'t [u8],
}

/// Where a text stands after some more tokens; kept between calls, so that nothing is allocated.
#[derive(Debug, Default)]
pub struct Grown {
    hashes: Vec<u64>,
    text: Vec<u8>,
}

impl Grown {
    /// Goes on with these tokens. False where they cannot be read, or the text is longer than data planes look at.
    pub fn grow(&mut self, tail: &Tail<'_>, tokens: &[u32], vocabulary: &Vocabulary) -> bool {
        self.text.clear();
        self.hashes.clear();
        self.text.extend_from_slice(tail.rest);
        let known = tokens.iter().all(|token| {
            vocabulary.read(*token, &mut self.text) && self.text.len() < (MOST_COMPLETED + 1) * BLOCK_BYTES
        });
        if known {
            chain(tail.previous, &self.text, &mut self.hashes);
        }
        known && tail.blocks + self.hashes.len() <= MOST_POSITIONS
    }

    /// The blocks of text that were completed.
    pub fn completed(&self) -> &[u64] {
        &self.hashes
    }

    /// The bytes behind them.
    pub fn rest(&self) -> &[u8] {
        &self.text[self.hashes.len() * BLOCK_BYTES..]
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        self.hashes.capacity() * size_of::<u64>() + self.text.capacity()
    }
}

#[cfg(test)]
mod tests;
