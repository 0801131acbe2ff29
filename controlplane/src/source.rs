//! Where the world comes from. Each source fills a [`crate::world::World`]; nothing past here knows which one it was.

use crate::world::World;

pub mod directory;
mod fault;
pub mod kubernetes;
pub mod manifest;

pub use fault::Fault;

/// What a source says.
#[derive(Debug, Clone, Default)]
pub struct Reading {
    /// The objects that count.
    pub world: World,
    /// All that is wrong, by place or by object.
    pub faults: Vec<Fault>,
    /// Objects of kinds that do not count here.
    pub others: usize,
}

/// Faults that are listed; of more nobody reads on.
const MAX_FAULTS: usize = 1_000;
