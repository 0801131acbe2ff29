//! The content hash, by which a data plane says what it holds.

use prost::Message as _;
use xxhash_rust::xxh3::xxh3_64;

use crate::encode;
use crate::snapshot::Snapshot;

/// The same for equal contents on every machine: xxh3 of the wire form, whose maps are sorted, with version 0 of epoch 0.
/// The version is not content; handles are, for the load and KV lanes depend on them.
pub fn content_hash(snapshot: &Snapshot) -> u64 {
    let mut wire = encode::snapshot(snapshot);
    (wire.epoch, wire.version) = (0, 0);
    xxh3_64(&wire.encode_to_vec())
}
