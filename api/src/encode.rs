//! Domain to wire. What the decoder would take as a default is written out, so that a snapshot shows its values.

use crate::decode::Problem;
use crate::{proto, snapshot};

/// The wire form; `decode::snapshot` gives the same value back.
pub fn snapshot(_snapshot: &snapshot::Snapshot) -> proto::Snapshot {
    unimplemented!()
}

/// The wire form of a refusal, as a data plane answers it.
pub fn refusals(_problems: &[Problem]) -> Vec<proto::Refusal> {
    unimplemented!()
}
