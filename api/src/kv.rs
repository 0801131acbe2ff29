//! The KV lane's messages as domain types: what is said of one model's blocks, and what a receiver holds of them. Wire to
//! domain and back is here alone; entries stay packed, as they came, and are read one by one.

mod entries;
mod wire;

pub use entries::{ENTRY_BYTES, Entries, Entry, Said};

use thiserror::Error;

use crate::id::ModelName;

/// A change to what is known about one model's blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// The epoch that its handles belong to.
    pub epoch: u64,
    /// The model whose chain the hashes belong to, as the engine calls it.
    pub model: ModelName,
    /// What sequence counts within.
    pub generation: u64,
    /// Counts up by one.
    pub sequence: u64,
    /// Begins the generation: what was held of the model is dropped first.
    pub reset: bool,
    /// Only chain positions that are multiples of 2^level are sent, the first block's being 0.
    pub level: u8,
    /// What holds of endpoints from here on, where that changed. Taken before the entries.
    pub ranks: Vec<Rank>,
    /// Which blocks are where.
    pub entries: Entries,
}

/// How far what is said of one endpoint's cache may be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rank {
    /// The endpoint.
    pub handle: u32,
    /// How far.
    pub trust: Trust,
    /// What was held of the endpoint in this model is dropped first.
    pub forget: bool,
    /// Its engine lost what it held: predictions of it are dropped as well.
    pub emptied: bool,
    /// How many tokens its cache takes, where the engine says so.
    pub capacity_tokens: Option<u64>,
}

/// See the wire's `KvTrust`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Trust {
    /// Nobody hears its engine's events.
    #[default]
    Predicted,
    /// Heard from now on; what it held before is not known.
    Cold,
    /// What it held before is being read.
    Replaying,
    /// What is said is what it holds.
    Trusted,
    /// Blocks that are named are likely there, others may be.
    Gapped,
}

impl Trust {
    /// All, with the names that metrics and debug pages show.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::Predicted, "predicted"),
        (Self::Cold, "cold"),
        (Self::Replaying, "replaying"),
        (Self::Trusted, "trusted"),
        (Self::Gapped, "gapped"),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }
}

/// What a receiver holds of one model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digests {
    /// The epoch that the handles belong to.
    pub epoch: u64,
    /// The model.
    pub model: ModelName,
    /// The generation that was heard last.
    pub generation: u64,
    /// Of each endpoint of which something is held.
    pub endpoints: Vec<Digest>,
}

/// What is held of one endpoint; predictions do not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Digest {
    /// The endpoint.
    pub handle: u32,
    /// The exclusive or of the hashes held.
    pub xor: u64,
    /// How many.
    pub blocks: u64,
}

/// Why a message of the KV lane is refused as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Fault {
    /// It names no model, or too long a one.
    #[error("a model's name has 1 to {max} bytes, this one has {0}", max = crate::limits::MAX_MODEL_NAME_BYTES)]
    Model(usize),
    /// Entries that are not a whole number of 16 bytes.
    #[error("{0} bytes of entries are no multiple of {ENTRY_BYTES}")]
    Ragged(usize),
    /// More of something than is taken.
    #[error("{found} {what}, at most {max} are allowed")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// The bound.
        max: usize,
    },
    /// A sampling level out of range.
    #[error("sampling level {0}, at most {max} is allowed", max = crate::limits::MAX_KV_LEVEL)]
    Level(u32),
    /// Flags that this version does not know.
    #[error("entry {at} has the flags {flags:#x}, of which only the lowest is known")]
    Flags {
        /// Which entry, from 0.
        at: usize,
        /// Its flags.
        flags: u16,
    },
    /// A trust that this version does not know.
    #[error("trust {0} is not a value that this version knows")]
    Trust(i32),
}

#[cfg(test)]
mod tests;
