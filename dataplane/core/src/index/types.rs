//! The values that go in and out of the prefix table.

use api::limits::MARK_EVERY_BLOCKS;

/// What a cell names: one life of one endpoint's cache. Below 2^20.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OwnerId(pub u32);

/// An endpoint (pod, port and rank) for as long as any table knows it; small and dense, so that a table maps it to its
/// endpoint slot by a plain array. It survives snapshots and the endpoint's restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seat(pub u32);

/// Every bound of a prefix table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Endpoints known at once.
    pub max_seats: u32,
    /// Owner ids of each of the two tables: live ones and those that still may be named. At most 2^20.
    pub max_owners: u32,
    /// Predicted marks of all owners together.
    pub max_marks: usize,
    /// Keys of predicted marks.
    pub max_keys: usize,
    /// Keys of blocks that engines report.
    pub max_reported: usize,
    /// Marks whose uses are counted.
    pub max_uses: usize,
    /// Events that one core may have on their way to the writer.
    pub ring: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_seats: 1 << 17,
            max_owners: 1 << 18,
            max_marks: 8 << 20,
            max_keys: 16 << 20,
            max_reported: 16 << 20,
            max_uses: 1 << 20,
            ring: 16 << 10,
        }
    }
}

/// One question to the table.
#[derive(Debug, Clone, Copy)]
pub struct Query<'a> {
    /// The prompt's chained block hashes, from its first block.
    pub chain: &'a [u64],
    /// Monotonic milliseconds, the writer's clock.
    pub now_ms: u64,
    /// A random number: which of many equal holders are returned.
    pub tie: u64,
}

/// A decision as the table sees it.
#[derive(Debug, Clone, Copy)]
pub struct Placement<'a> {
    /// The prompt's chained block hashes, from its first block.
    pub chain: &'a [u64],
    /// The endpoint that was chosen.
    pub seat: Seat,
    /// Leading blocks that it was found to hold: no marks are sent for those that are predicted.
    pub matched: u32,
    /// Tokens in a block of the model's text.
    pub tokens_per_block: f32,
}

/// What a core tells the writer. Cores send it by [`Reader::place`](super::Reader::place); the agent feeds what other
/// proxies decided by [`Writer::apply`](super::Writer::apply).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The owner is about to hold the 16 blocks that end at this key.
    Mark {
        /// Who.
        owner: OwnerId,
        /// The chain's hash at the mark.
        key: u64,
        /// The chain's hash at the mark before, 0 at the first.
        parent: u64,
        /// What the 16 blocks weigh in its cache.
        tokens: u32,
    },
    /// Ends a decision: the owner was asked for the whole chain up to this key.
    Seen {
        /// Who.
        owner: OwnerId,
        /// The last mark of the chain, 0 when the prompt is shorter than a mark.
        key: u64,
        /// Tokens that the prompt adds to the owner's cache under no mark.
        tokens: u32,
    },
}

/// A mark that some proxy's decision left at an endpoint. Those of one seat that follow each other with positions one higher
/// are a run: each follows the one before it in their chain, and all of it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Predicted {
    /// The endpoint.
    pub seat: Seat,
    /// The chain's hash at the mark.
    pub key: u64,
    /// Its place in its run.
    pub position: u16,
}

/// An endpoint and how much of the prompt it is predicted or reported to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Match {
    /// The endpoint.
    pub seat: Seat,
    /// Leading blocks.
    pub blocks: u32,
}

/// How often the blocks up to here, from the sample before, were asked for lately.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct UseSample {
    /// The end of the blocks, exclusive; a multiple of 16.
    pub end: u32,
    /// Decayed count, never more than the sample's before.
    pub uses: f32,
}

/// The answer: best first, no two of the same seat.
#[derive(Debug, Clone, Copy)]
pub struct Matches {
    pub(super) best: [Match; Matches::MAX_BEST],
    pub(super) best_len: u8,
    pub(super) uses_len: u8,
    pub(super) uses: [UseSample; Matches::MAX_SAMPLES],
    /// Full blocks of the prompt.
    pub blocks: u32,
}

impl Matches {
    /// Most endpoints returned.
    pub const MAX_BEST: usize = 8;
    /// Most probes of the use counts.
    pub const MAX_SAMPLES: usize = 16;

    pub(super) fn none(blocks: u32) -> Self {
        Self {
            best: [Match { seat: Seat(0), blocks: 0 }; Self::MAX_BEST],
            best_len: 0,
            uses_len: 0,
            uses: [UseSample::default(); Self::MAX_SAMPLES],
            blocks,
        }
    }

    pub(super) fn set_best(&mut self, best: &[Match]) {
        self.best[..best.len()].copy_from_slice(best);
        self.best_len = best.len() as u8;
    }

    /// The endpoints that hold most of the prompt, best first; none that holds nothing.
    pub fn best(&self) -> &[Match] {
        &self.best[..usize::from(self.best_len)]
    }

    /// The use counts along the chain, from its start; a step function.
    pub fn uses(&self) -> &[UseSample] {
        &self.uses[..usize::from(self.uses_len)]
    }

    /// `Σ w(b)` over the blocks from `from` to the prompt's end, `w = 1 + 15 / (1 + uses)`: what an endpoint that
    /// holds `from` leading blocks lacks, in weighted blocks, without what the scheduler takes off for hot ones. Blocks
    /// behind the last mark count as never used.
    pub fn weighted_lack(&self, from: u32) -> f64 {
        let mut sum = 0.0;
        let mut start = 0;
        for sample in self.uses() {
            let blocks = sample.end.saturating_sub(start.max(from));
            sum += f64::from(blocks) * weight(sample.uses);
            start = sample.end;
        }
        sum + f64::from(self.blocks.saturating_sub(start.max(from))) * weight(0.0)
    }
}

/// Work done twice delays everyone behind it, but a block that many ask for repays its copy.
pub(super) fn weight(uses: f32) -> f64 {
    1.0 + 15.0 / (1.0 + f64::from(uses))
}

/// Counters and sizes, for the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Keys with at least one predicted holder.
    pub keys: usize,
    /// Predicted (owner, key) pairs.
    pub marks: usize,
    /// Marks with a use count.
    pub uses: usize,
    /// Bytes of predictions that readers see: cells, records, use counts and generations that a reader still pins.
    pub bytes: usize,
    /// Keys with at least one holder by its engine's report; those of ended lives until they are swept.
    pub reported_keys: usize,
    /// Bytes of those, likewise.
    pub reported_bytes: usize,
    /// Predictions that ended because the engine's event should have come.
    pub expired: u64,
    /// Bytes of the writer's own recency lists.
    pub recency_bytes: usize,
    /// Marks that left because their owner's cache was taken to be full.
    pub evictions: u64,
    /// Events that did not fit a core's ring.
    pub overflow: u64,
    /// Inserts refused because a bound was reached.
    pub refused: u64,
    /// Decisions' events that other proxies are not told of, because nobody took what there was to tell.
    pub untold: u64,
    /// Segments rebuilt.
    pub rebuilds: u64,
    /// Owner ids that are masked and not yet free.
    pub retiring: usize,
}

/// Marks in a chain of that many blocks.
pub(super) fn marks_in(blocks: usize) -> usize {
    blocks / MARK_EVERY_BLOCKS
}

/// The key of the chain's `index`-th mark; never 0, which stands for none.
pub(super) fn mark_key(chain: &[u64], index: usize) -> u64 {
    chain[index * MARK_EVERY_BLOCKS + MARK_EVERY_BLOCKS - 1].max(1)
}

/// Blocks up to and with the `index`-th mark.
pub(super) fn blocks_at(index: usize) -> u32 {
    ((index + 1) * MARK_EVERY_BLOCKS) as u32
}
