//! The prefix tables: which endpoint holds which prompt prefix, as hints. One writer (a thread of the shell drives a
//! [`Writer`]) updates cells in place; every core reads through its own [`Reader`] without a lock or an allocation.
//! There are two with one key domain: what was predicted, by marks at every 16th block, and what engines report, block by
//! block. A look-up asks both and takes, for each endpoint, what says more.
//!
//! - map: u64 → u64 in 256 segments, each an arc-swapped generation of open-addressed atomic cells.
//! - holders: the owners of a key, three inline in the cell, more in chained records.
//! - owners: [`OwnerId`]s are what cells name; a [`Seat`] is what the rest of the program calls an endpoint. A restart
//!   gives the seat a new owner id and masks the old one, which is reused only when nothing can name it any more (lives).
//! - reported: what engines say, with owner ids of its own.
//! - recency: what each owner was last asked for, so that predictions leave in the order in which its cache evicts.
//! - uses: how often a mark was asked for lately.
//!
//! Keys are hashes: a collision, a lost mark or an eviction too early costs a worse choice, never correctness.
// `loom` is set by hand when the interleavings are checked; no build script says that it exists.

mod arena;
mod best;
mod cells;
mod holders;
mod link;
mod lives;
mod map;
mod overlay;
mod owners;
mod predicted;
mod reader;
mod recency;
mod reported;
mod search;
mod sync;
mod terms;
mod types;
mod uses;
mod writer;

#[cfg(all(test, loom))]
mod model;
#[cfg(all(test, not(loom)))]
mod tests;

pub use holders::Inserted;
pub use owners::OwnerView;
pub use reader::Reader;
pub use reported::Reported;
pub use types::{Config, Event, Match, Matches, OwnerId, Placement, Predicted, Query, Seat, Stats, UseSample};
pub use writer::Writer;
