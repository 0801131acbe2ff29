//! The snapshot file: the JSON form of `proto::Snapshot`, decoded like any other.

use crate::decode::Problem;
use crate::snapshot::Snapshot;

/// Reads a snapshot file, or says everything that is wrong with it.
pub fn snapshot_from_json(_bytes: &[u8]) -> Result<Snapshot, Vec<Problem>> {
    unimplemented!()
}

/// The snapshot as an indented file.
pub fn snapshot_to_json(_snapshot: &Snapshot) -> String {
    unimplemented!()
}
