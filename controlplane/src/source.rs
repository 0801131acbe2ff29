//! Where the world comes from. Each source fills a [`crate::world::World`]; nothing past here knows which one it was.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use api::seen::Seen;

use self::manifest::{Identity, Manifest};
use crate::world::World;

pub mod directory;
mod fault;
pub mod kubernetes;
pub mod manifest;
mod reached;

pub use fault::Fault;
pub use reached::Reached;
pub(crate) use reached::is_as_late;

/// What a source says.
#[derive(Debug, Clone, Default)]
pub struct Reading {
    /// The objects that count.
    pub world: World,
    /// All that is wrong, by place or by object.
    pub faults: Vec<Fault>,
    /// Objects of kinds that do not count here.
    pub others: usize,
    /// Forms that count though what is written now in the place of them cannot be taken: they are lost with the process, unless
    /// somebody keeps them. An object of a cluster has its own in its status.
    pub former: Forms,
    /// How far it had been read; empty of a directory.
    pub seen: Seen,
}

/// Objects of a directory, by file.
pub type Forms = BTreeMap<Arc<Path>, Vec<Form>>;

/// An object as it was when it was good.
#[derive(Debug, Clone)]
pub struct Form {
    /// Its place in the file, from 0.
    pub position: u32,
    /// What it is and is called.
    pub identity: Identity,
    /// What it said.
    pub manifest: Manifest,
}

/// Faults that are listed; of more nobody reads on.
const MAX_FAULTS: usize = 1_000;

#[cfg(test)]
pub(crate) mod testing {
    use super::Reached;
    use super::reached::Reach;

    /// Pods of which one counts, the last of those that were heard of at a later version.
    pub(crate) fn reached(counts: u128, heard: u128) -> Reached {
        let mut reached = Reached::of(std::iter::once("Pod".into()));
        reached.hear(0, Reach::Up(counts), true);
        reached.hear(0, Reach::Up(heard), false);
        reached
    }
}
