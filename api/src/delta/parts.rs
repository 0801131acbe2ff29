//! A delta in several messages: what one message cannot hold is split, and joined again before anything is decoded.

use prost::Message as _;

#[cfg(any(test, feature = "testing"))]
use crate::limits::MAX_SNAPSHOT_BYTES;
use crate::proto::{BackendUpsert, ConfigDelta};

/// Deltas of about `max_bytes` that [`Incoming`](super::Incoming) takes for `delta`. A single route or profile that is larger stays whole.
pub fn split(delta: ConfigDelta, max_bytes: usize) -> Vec<ConfigDelta> {
    let ConfigDelta {
        version,
        base,
        fleet_seed,
        route_upserts,
        route_removals,
        backend_upserts,
        backend_removals,
        profile_upserts,
        profile_removals,
        endpoint_edits,
        resource_versions,
        all_resource_versions,
    } = delta;
    let blank = ConfigDelta { version, base, fleet_seed, all_resource_versions, ..ConfigDelta::default() };
    let mut split = Split { done: Vec::new(), open: blank.clone(), bytes: 0, blank, max_bytes };
    if !resource_versions.is_empty() {
        let bytes = resource_versions.iter().map(|(list, version)| list.len() + version.len()).sum();
        split.place(bytes, |part| part.resource_versions = resource_versions);
    }
    for name in route_removals {
        split.place(name.len(), |part| part.route_removals.push(name));
    }
    for name in backend_removals {
        split.place(name.len(), |part| part.backend_removals.push(name));
    }
    for name in profile_removals {
        split.place(name.len(), |part| part.profile_removals.push(name));
    }
    for upsert in profile_upserts {
        split.place(upsert.encoded_len(), |part| part.profile_upserts.push(upsert));
    }
    for upsert in backend_upserts {
        for (n, piece) in pieces(upsert, max_bytes).into_iter().enumerate() {
            if n > 0 {
                split.next();
            }
            split.place(piece.encoded_len(), |part| part.backend_upserts.push(piece));
        }
    }
    for edit in endpoint_edits {
        split.place(edit.encoded_len(), |part| part.endpoint_edits.push(edit));
    }
    for upsert in route_upserts {
        split.place(upsert.encoded_len(), |part| part.route_upserts.push(upsert));
    }
    split.done.push(split.open);
    split.done
}

struct Split {
    done: Vec<ConfigDelta>,
    open: ConfigDelta,
    bytes: usize,
    blank: ConfigDelta,
    max_bytes: usize,
}

impl Split {
    fn place(&mut self, bytes: usize, add: impl FnOnce(&mut ConfigDelta)) {
        if self.bytes > 0 && self.bytes + bytes > self.max_bytes {
            self.next();
        }
        add(&mut self.open);
        self.bytes += bytes;
    }

    fn next(&mut self) {
        self.done.push(std::mem::replace(&mut self.open, self.blank.clone()));
        self.bytes = 0;
    }
}

/// A backend with many endpoints, some at a time. Each but the first begins a message.
fn pieces(upsert: BackendUpsert, max_bytes: usize) -> Vec<BackendUpsert> {
    if upsert.encoded_len() <= max_bytes {
        return vec![upsert];
    }
    let BackendUpsert { position, backend } = upsert;
    let mut head = backend.unwrap_or_default();
    let endpoints = std::mem::take(&mut head.endpoints);
    let name = head.name.clone();
    let mut bytes = head.encoded_len();
    let mut pieces = vec![BackendUpsert { position, backend: Some(head) }];
    for endpoint in endpoints {
        let size = endpoint.encoded_len();
        if bytes > 0 && bytes + size > max_bytes {
            let next = crate::proto::Backend { name: name.clone(), ..Default::default() };
            pieces.push(BackendUpsert { position, backend: Some(next) });
            bytes = 0;
        }
        bytes += size;
        if let Some(last) = pieces.last_mut().and_then(|piece| piece.backend.as_mut()) {
            last.endpoints.push(endpoint);
        }
    }
    pieces
}

/// A delta of which not all messages have come, joined as it came: tests look at what goes over the wire by it. A data plane takes
/// messages by [`Incoming`](super::Incoming).
#[cfg(any(test, feature = "testing"))]
#[derive(Debug, Default)]
pub struct Parts {
    joined: Option<ConfigDelta>,
    bytes: usize,
}

#[cfg(any(test, feature = "testing"))]
impl Parts {
    /// Adds the next message's; false where all of them together are larger than a snapshot can be, and nothing is kept.
    pub fn add(&mut self, part: ConfigDelta) -> bool {
        self.bytes = self.bytes.saturating_add(part.encoded_len());
        if self.bytes > MAX_SNAPSHOT_BYTES {
            self.joined = None;
            return false;
        }
        match &mut self.joined {
            None => self.joined = Some(part),
            Some(joined) => join(joined, part),
        }
        true
    }

    /// The whole, after the last message.
    pub fn take(&mut self) -> ConfigDelta {
        self.bytes = 0;
        self.joined.take().unwrap_or_default()
    }
}

#[cfg(any(test, feature = "testing"))]
fn join(joined: &mut ConfigDelta, part: ConfigDelta) {
    let ConfigDelta {
        version,
        base,
        fleet_seed,
        route_upserts,
        route_removals,
        mut backend_upserts,
        backend_removals,
        profile_upserts,
        profile_removals,
        endpoint_edits,
        resource_versions,
        all_resource_versions,
    } = part;
    (joined.version, joined.base, joined.fleet_seed) = (version, base, fleet_seed);
    joined.all_resource_versions = all_resource_versions;
    joined.route_upserts.extend(route_upserts);
    joined.route_removals.extend(route_removals);
    if let (Some(last), Some(first)) = (joined.backend_upserts.last_mut(), backend_upserts.first_mut())
        && last.position == first.position
        && let (Some(last), Some(first)) = (&mut last.backend, &mut first.backend)
        && last.name == first.name
    {
        last.endpoints.append(&mut first.endpoints);
        backend_upserts.remove(0);
    }
    joined.backend_upserts.extend(backend_upserts);
    joined.backend_removals.extend(backend_removals);
    joined.profile_upserts.extend(profile_upserts);
    joined.profile_removals.extend(profile_removals);
    joined.endpoint_edits.extend(endpoint_edits);
    joined.resource_versions.extend(resource_versions);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{delta, sample};

    fn joined(parts: Vec<ConfigDelta>) -> ConfigDelta {
        let mut all = Parts::default();
        assert!(parts.into_iter().all(|part| all.add(part)));
        all.take()
    }

    #[test]
    fn a_backend_larger_than_a_message_goes_on_in_the_next() {
        let endpoint = |n: u32| crate::proto::Endpoint { handle: n, name: "x".repeat(100), ..Default::default() };
        let backend = crate::proto::Backend {
            name: "d/b".into(),
            endpoints: (0..100).map(endpoint).collect(),
            ..Default::default()
        };
        let upsert = BackendUpsert { position: 3, backend: Some(backend) };
        let whole = ConfigDelta { backend_upserts: vec![upsert.clone(), upsert.clone()], ..Default::default() };
        let parts = split(ConfigDelta { backend_upserts: vec![upsert], ..whole.clone() }, 1_000);
        assert!(parts.len() > 8 && parts.iter().all(|part| part.encoded_len() < 1_200), "{}", parts.len());
        assert_eq!(joined(parts).backend_upserts, whole.backend_upserts[..1]);
        assert_eq!(joined(vec![whole.clone()]), whole, "within one message nothing is merged");
    }

    #[test]
    fn more_than_a_snapshot_can_be_is_given_up() {
        let mut parts = Parts::default();
        let part = || ConfigDelta { route_removals: vec!["x".repeat(MAX_SNAPSHOT_BYTES / 4)], ..Default::default() };
        assert_eq!((0..4).map(|_| parts.add(part())).collect::<Vec<_>>(), [true, true, true, false]);
        assert_eq!(parts.take(), ConfigDelta::default());
        assert!(parts.add(part()));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        #[test]
        fn what_is_split_joins_to_the_same((old, new) in sample::edit(), max_bytes in 1usize..2_000) {
            for whole in [delta::diff(&old, &new), delta::full(&new)] {
                prop_assert_eq!(joined(split(whole.clone(), max_bytes)), whole);
            }
        }
    }
}
