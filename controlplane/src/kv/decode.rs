//! From an engine's bytes to events: pure, bounded, and never a panic, whatever the bytes are.
//!
//! Three shapes of events are in the field and all are taken: arrays by position, maps by name, and SGLang's older, shorter
//! arrays. What makes us know less is passed over and counted: a store of a strange kind, an event of a new type. What might
//! make us believe too much is an error of the whole batch: a removal that cannot be read, bytes that are not MessagePack.

mod batch;
mod fields;
mod load;
mod reader;
mod replay;
mod stored;

pub use batch::batch;
pub use load::load;
pub use reader::Fault;
pub use replay::{Answer, FramingError, answer, live};

/// Bytes of one message. vLLM batches one scheduler step: 100k tokens of prompt are below 1 MB.
pub const MOST_BYTES: usize = 16 << 20;
/// Events of one batch.
const MOST_EVENTS: usize = 1 << 16;
/// Hashes of one event.
const MOST_HASHES: usize = 1 << 16;
/// Tokens of one event.
const MOST_TOKENS: usize = 1 << 22;
/// Extra keys of one block.
const MOST_EXTRAS: usize = 64;
/// Bytes of a name, a salt or a digest.
const MOST_NAME_BYTES: usize = 1_024;
/// Values within values.
const MOST_DEPTH: u32 = 16;

#[cfg(test)]
pub(crate) mod tests;
