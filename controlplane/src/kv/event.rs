//! What engines say of their blocks, whichever of the wire's shapes it came in.

use std::collections::BTreeSet;

/// An engine's own name for a block: opaque, equal within one engine's life only. Longer ones are cut to 64 bits.
pub type BlockHash = u64;

/// The events that one message carries.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Batch {
    /// When the engine made it, in seconds since the epoch.
    pub time_s: f64,
    /// The data-parallel rank that it speaks of, where it says so.
    pub rank: Option<u32>,
    /// In the order in which they happened.
    pub events: Vec<Event>,
    /// Events that were left out because nothing can be learnt from them. Never a removal.
    pub passed_over: u32,
}

impl Batch {
    /// Whether the engine's cache was empty at some time within this batch.
    pub fn clears(&self) -> bool {
        self.events.contains(&Event::Cleared)
    }
}

/// One change of an engine's cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Blocks were added.
    Stored(Stored),
    /// Blocks were dropped.
    Removed(Removed),
    /// All blocks of all tiers were dropped.
    Cleared,
}

/// Consecutive blocks of one prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// At least one; none twice.
    pub hashes: Vec<BlockHash>,
    /// The block before the first one; none where that begins the prompt.
    pub parent: Option<BlockHash>,
    /// The tokens of all blocks; empty where blocks that are known already come to another tier.
    pub tokens: Vec<u32>,
    /// Tokens of one block.
    pub block_size: u32,
    /// Where they lie.
    pub tier: Tier,
    /// The KV group of a hybrid model; 0 where the engine names none.
    pub group: u32,
    /// What kind of attention reads that group, where the engine says so.
    pub attention: Option<Attention>,
    /// The adapter that computed them.
    pub adapter: Adapter,
    /// The request's `cache_salt`, where the engine names it as such.
    pub salt: Option<Box<str>>,
    /// What else the blocks' hashes stand for, block by block; empty where there is nothing.
    pub extras: Vec<Box<[Extra]>>,
}

impl Stored {
    /// In the device's memory, of no group, no adapter and no salt.
    pub fn plain(hashes: Vec<BlockHash>, parent: Option<BlockHash>, tokens: Vec<u32>, block_size: u32) -> Self {
        Self {
            hashes,
            parent,
            tokens,
            block_size,
            tier: Tier::Device,
            group: 0,
            attention: None,
            adapter: Adapter::None,
            salt: None,
            extras: Vec::new(),
        }
    }
}

/// Blocks that are no longer there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// Which.
    pub hashes: Vec<BlockHash>,
    /// Where they lay.
    pub tier: Tier,
    /// The KV group; 0 where the engine names none.
    pub group: u32,
}

/// Where a block lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Tier {
    /// The accelerator's memory.
    Device = 0,
    /// The host's memory.
    Host = 1,
    /// A disk of the host.
    Disk = 2,
    /// A store outside the host.
    External = 3,
}

impl Tier {
    /// All, by their number.
    pub const ALL: [Self; 4] = [Self::Device, Self::Host, Self::Disk, Self::External];

    /// By the names of the wire. None for any other: it is not known how near such a block is.
    pub fn from_medium(medium: &str) -> Option<Self> {
        match medium {
            "" | "GPU" => Some(Self::Device),
            "CPU" | "CPU_PINNED" => Some(Self::Host),
            "DISK" | "FS" => Some(Self::Disk),
            "EXTERNAL" | "STORAGE" | "OBJ" => Some(Self::External),
            _ => None,
        }
    }
}

/// What reads a KV group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attention {
    /// All tokens before: what a prefix hit needs.
    Full,
    /// A window, a state, a chunk: such blocks come and go by rules of their own.
    Partial,
}

impl Attention {
    /// By the name of the group's specification.
    pub fn from_spec_kind(kind: &str) -> Self {
        match kind {
            "full_attention" | "mla_attention" | "sink_full_attention" => Self::Full,
            _ => Self::Partial,
        }
    }
}

/// Who computed a block.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum Adapter {
    /// The model itself.
    #[default]
    None,
    /// By name.
    Name(Box<str>),
    /// An engine that tells only its own number of it.
    Number(i64),
}

/// Something besides the tokens that a block's hash stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Extra {
    /// An adapter's name, a salt, or the hash of a picture: engines do not say which.
    Text(Box<str>),
    /// A picture or the like, and its place.
    Media(Box<str>, i64),
    /// The digest of embeddings.
    Bytes(Box<[u8]>),
}

/// Whose requests may meet a chain of blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Salting<'s> {
    /// Everybody's.
    None,
    /// Those with this `cache_salt`.
    Salt(&'s str),
    /// It cannot be told: nobody's.
    Unclear,
}

impl Stored {
    /// What its first block says of a salt; meaningful where that begins a prompt. A text among the extra keys that is not
    /// the adapter's name is a salt, if there is only one and no media.
    pub fn salting(&self) -> Salting<'_> {
        if let Some(salt) = &self.salt {
            return Salting::Salt(salt);
        }
        let mut salting = Salting::None;
        for extra in self.extras.first().into_iter().flatten() {
            salting = match (extra, salting) {
                (Extra::Text(text), before) if self.adapter == Adapter::Name(text.clone()) => before,
                (Extra::Text(text), Salting::None) => Salting::Salt(text),
                _ => Salting::Unclear,
            };
        }
        salting
    }

    /// How many of its first blocks are of text alone.
    pub fn text_blocks(&self) -> usize {
        let of_text = |extras: &[Extra]| extras.iter().all(|extra| matches!(extra, Extra::Text(_)));
        let with_media = self.extras.iter().position(|extras| !of_text(extras));
        with_media.unwrap_or(self.hashes.len())
    }

    /// Whether no hash comes twice, the parent's included.
    pub(super) fn is_a_chain(&self) -> bool {
        let mut seen: BTreeSet<BlockHash> = self.parent.into_iter().collect();
        self.hashes.iter().all(|hash| seen.insert(*hash))
    }
}

/// An engine's load, as SGLang publishes it. A number that is not known is 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Requests in a batch.
    pub running: u64,
    /// Requests that wait.
    pub waiting: u64,
    /// Tokens that the cache holds for requests.
    pub used_tokens: u64,
    /// Tokens that the cache can hold.
    pub max_tokens: u64,
    /// The data-parallel rank, where it says so.
    pub rank: Option<u32>,
    /// Tokens of waiting requests that are not cached.
    pub waiting_uncached_tokens: u64,
    /// Tokens of all requests.
    pub total_tokens: u64,
    /// The most requests in a batch.
    pub max_running: u64,
    /// Uncached tokens that were prefilled since the engine started.
    pub prefilled_tokens: u64,
    /// Microseconds that this took.
    pub prefill_busy_us: u64,
}
