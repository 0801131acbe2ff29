//! Wire to domain, once and for all: whatever leaves here needs no further check. All problems are reported, not only the
//! first, up to `limits::MAX_PROBLEMS`.

use crate::{proto, snapshot};

mod kthena;
mod pattern;
mod problem;

pub use kthena::{KthenaProfile, kthena_profile};
pub use pattern::compile;
pub use problem::{Object, Problem, Reason};

/// Checks a snapshot and fills in its defaults.
pub fn snapshot(_wire: proto::Snapshot) -> Result<snapshot::Snapshot, Vec<Problem>> {
    unimplemented!()
}

/// `snapshot` from protobuf bytes, as kept on disk; unknown fields are ignored.
pub fn snapshot_from_bytes(_bytes: &[u8]) -> Result<snapshot::Snapshot, Vec<Problem>> {
    unimplemented!()
}
