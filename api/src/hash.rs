//! The content hash, by which a data plane says what it holds.

use prost::Message as _;
use xxhash_rust::xxh3::Xxh3;

use crate::snapshot::Snapshot;
use crate::{encode, proto};

/// The same for equal contents on every machine: xxh3 of the wire form, whose maps are sorted, with version 0 of epoch 0 and
/// no resourceVersions. These and the version are not content; handles are, for the load and KV lanes depend on them.
pub fn content_hash(snapshot: &Snapshot) -> u64 {
    let Snapshot { version: _, fleet_seed, routes, backends, profiles, seen: _ } = snapshot;
    let nothing = proto::Snapshot::default;
    let mut bytes = Bytes::default();
    bytes.add(&proto::Snapshot { fleet_seed: *fleet_seed, ..nothing() });
    for route in routes {
        bytes.add(&proto::Snapshot { routes: vec![encode::route(route)], ..nothing() });
    }
    for backend in backends {
        bytes.add(&proto::Snapshot { backends: vec![encode::backend(backend)], ..nothing() });
    }
    for profile in profiles {
        bytes.add(&proto::Snapshot { profiles: vec![encode::profile(profile)], ..nothing() });
    }
    bytes.hash.digest()
}

/// The wire form, piece by piece: a message's fields one after the other are the message, and the wire form of ten thousand
/// endpoints at once is as much as the snapshot itself.
#[derive(Default)]
struct Bytes {
    hash: Xxh3,
    piece: Vec<u8>,
}

impl Bytes {
    fn add(&mut self, piece: &proto::Snapshot) {
        self.piece.clear();
        piece.encode(&mut self.piece).expect("a vector grows");
        self.hash.update(&self.piece);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use xxhash_rust::xxh3::xxh3_64;

    use super::*;
    use crate::sample;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        #[test]
        fn it_is_that_of_the_wire_form(snapshot in sample::snapshot()) {
            let content = Snapshot { version: Default::default(), seen: Default::default(), ..snapshot.clone() };
            let wire = encode::snapshot(&content);
            prop_assert_eq!(content_hash(&snapshot), xxh3_64(&wire.encode_to_vec()));
        }
    }
}
