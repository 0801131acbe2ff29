//! Watching answers as they pass: events, the first one, errors, the end, usage. The [`Tap`] never alters a byte and
//! fails open: what it does not understand it does not count. [`UsageFilter`] takes out the one event that exists only
//! because we asked for usage in the client's place, and [`write_cut_event`] tells a client that its stream was cut.

mod cut;
mod filter;
mod tap;
mod usage;

pub use cut::{CutError, write_cut_event};
pub use filter::{Passed, UsageFilter};
pub use tap::{Place, Seen, Tap, Watch, begins_as_error};
pub use usage::{Usage, last_usage};

/// Bytes at the end of an answer that are kept to find usage in.
pub const TAIL_BYTES: usize = 2 << 10;
/// Bytes at the start of an Anthropic stream that are kept: its first event carries the input tokens.
pub const HEAD_BYTES: usize = 1 << 10;
/// Bytes of one event that the filter holds back at most; a longer one passes.
pub const MAX_HELD_BYTES: usize = 64 << 10;

#[cfg(test)]
mod tests;
