//! Where the world comes from. Each source fills a [`crate::world::World`]; nothing past here knows which one it was.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use self::manifest::{Identity, Manifest};
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
    /// Forms that count though what is written now in the place of them cannot be taken: they are lost with the process, unless
    /// somebody keeps them. An object of a cluster has its own in its status.
    pub former: Forms,
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
