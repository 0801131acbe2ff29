//! The content hash, by which a data plane says what it holds.

use crate::snapshot::Snapshot;

/// The same for equal contents on every machine and in every release; the version is not content, handles are.
pub fn content_hash(_snapshot: &Snapshot) -> u64 {
    unimplemented!()
}
