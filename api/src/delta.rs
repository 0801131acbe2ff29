//! One state as a change to another; `proto/config.proto` says how it is applied.

use crate::decode::Problem;
use crate::proto;
use crate::snapshot::{Snapshot, Version};

/// Why a delta was not applied.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ApplyError {
    /// The delta is to another state than is held: ask for the full one.
    #[error("the delta is to {wanted:?}, held is {held:?}: resync")]
    Base {
        /// What is held.
        held: Version,
        /// What the delta is to.
        wanted: Version,
    },
    /// The result is not a valid snapshot: keep what is held and say why.
    #[error("{} problems, first: {}", .0.len(), .0[0])]
    Refused(Vec<Problem>),
}

/// What makes `old` into `new`.
pub fn diff(_old: &Snapshot, _new: &Snapshot) -> proto::ConfigDelta {
    unimplemented!()
}

/// The full state: a change to nothing.
pub fn full(_new: &Snapshot) -> proto::ConfigDelta {
    unimplemented!()
}

/// `held` after the change. A delta without a base replaces everything.
pub fn apply(_held: &Snapshot, _delta: proto::ConfigDelta) -> Result<Snapshot, ApplyError> {
    unimplemented!()
}
