//! A delta in one message or several, turned into domain types as they come: after the last one little is left to be done.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use prost::Message as _;

use super::{ApplyError, domain_version, endpoints, list};
use crate::decode::path::{Path, Problems};
use crate::decode::{self, Reason};
use crate::id::BackendName;
use crate::limits::MAX_SNAPSHOT_BYTES;
use crate::proto::{self, ConfigDelta};
use crate::snapshot::{Backend, Endpoint, Profile, Route, Snapshot};

/// What has come so far of one delta.
#[derive(Default)]
pub struct Incoming {
    bytes: usize,
    version: Option<proto::Version>,
    base: Option<proto::Version>,
    fleet_seed: u64,
    routes: list::Edit<Route>,
    backends: list::Edit<Backend>,
    profiles: list::Edit<Profile>,
    endpoint_edits: Vec<proto::EndpointsEdit>,
    resource_versions: BTreeMap<String, String>,
    all_resource_versions: bool,
    problems: Problems,
    /// Where the endpoints of the last message begin: the backend, and the place in there.
    newest: (usize, usize),
}

impl Incoming {
    /// Takes the next message; false where all of them together are larger than a snapshot can be: then it is to be given up.
    pub fn add(&mut self, part: ConfigDelta) -> bool {
        self.bytes = self.bytes.saturating_add(part.encoded_len());
        let fits = self.bytes <= MAX_SNAPSHOT_BYTES;
        if fits {
            self.take(part);
        }
        fits
    }

    /// The backends that the last message placed or went on with, and their endpoints in it: what can be made ready for them before
    /// the last message is there is not waited for after it.
    pub fn newest(&self) -> impl Iterator<Item = (&BackendName, &[Arc<Endpoint>])> {
        let (first, from) = self.newest;
        let backends = self.backends.upserts.get(first..).unwrap_or_default().iter().enumerate();
        backends.map(move |(n, (_, backend))| (&backend.name, &backend.endpoints[if n == 0 { from } else { 0 }..]))
    }

    pub(super) fn take(&mut self, part: ConfigDelta) {
        self.newest = match self.backends.upserts.last() {
            Some((_, backend)) => (self.backends.upserts.len() - 1, backend.endpoints.len()),
            None => (0, 0),
        };
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
        } = part;
        (self.version, self.base, self.fleet_seed) = (version, base, fleet_seed);
        self.take_routes(route_upserts);
        self.take_backends(backend_upserts);
        self.take_profiles(profile_upserts);
        self.routes.removals.extend(route_removals.into_iter().map(Into::into));
        self.backends.removals.extend(backend_removals.into_iter().map(Into::into));
        self.profiles.removals.extend(profile_removals.into_iter().map(Into::into));
        self.endpoint_edits.extend(endpoint_edits);
        self.resource_versions.extend(resource_versions);
        self.all_resource_versions = all_resource_versions;
    }

    fn take_routes(&mut self, upserts: Vec<proto::RouteUpsert>) {
        let root = Path::root();
        for proto::RouteUpsert { position, route } in upserts {
            let at = root.item("routes", position as usize);
            let route = decode::route(&mut self.problems, &at, route.unwrap_or_default());
            self.routes.upserts.push((position, route));
        }
    }

    /// The first one may go on with the last one of the message before.
    fn take_backends(&mut self, upserts: Vec<proto::BackendUpsert>) {
        let (root, before) = (Path::root(), self.backends.upserts.len());
        for (n, proto::BackendUpsert { position, backend }) in upserts.into_iter().enumerate() {
            let (at, wire) = (root.item("backends", position as usize), backend.unwrap_or_default());
            match self.backends.upserts.last_mut() {
                Some((last, backend))
                    if n == 0 && before > 0 && *last == position && *backend.name.as_str() == *wire.name =>
                {
                    decode::more_endpoints(&mut self.problems, &at, backend, wire.endpoints);
                }
                _ => {
                    let backend = decode::backend(&mut self.problems, &at, wire);
                    self.backends.upserts.push((position, backend));
                }
            }
        }
    }

    fn take_profiles(&mut self, upserts: Vec<proto::ProfileUpsert>) {
        let root = Path::root();
        for proto::ProfileUpsert { position, profile } in upserts {
            let at = root.item("profiles", position as usize);
            let profile = decode::profile(&mut self.problems, &at, profile.unwrap_or_default());
            self.profiles.upserts.push((position, profile));
        }
    }

    /// `held` after the change, once all of it has come.
    pub fn apply(self, held: &Snapshot) -> Result<Snapshot, ApplyError> {
        let Self {
            bytes: _,
            version,
            base,
            fleet_seed,
            routes,
            backends,
            profiles,
            endpoint_edits,
            resource_versions,
            all_resource_versions,
            mut problems,
            newest: _,
        } = self;
        let nothing = Snapshot::default();
        let base = match base {
            None => &nothing,
            Some(wire) if domain_version(wire) == held.version => held,
            Some(wire) => return Err(ApplyError::Base { held: held.version, wanted: domain_version(wire) }),
        };
        let (root, problems_of) = (Path::root(), &mut problems);
        if version.is_none() {
            problems_of.add(&root.field("version"), Reason::Missing("a delta says what version it leads to"));
        }
        let changes = !base.backends.is_empty();
        let placed_whole = backends.upserts.iter().filter(|_| changes).flat_map(|(_, backend)| &backend.endpoints);
        let mut brought: Vec<Arc<Endpoint>> = placed_whole.cloned().collect();
        let placed = match endpoint_edits.is_empty() {
            true => HashSet::new(),
            false => backends.upserts.iter().map(|(_, backend)| backend.name.clone()).collect(),
        };
        let mut backends = backends.apply(problems_of, &root.field("backends"), &base.backends);
        brought.extend(endpoints::apply(problems_of, &mut backends, endpoint_edits, placed));
        let fresh = if changes { decode::Fresh::of(&brought) } else { None };
        let mut snapshot = Snapshot {
            version: version.map(domain_version).unwrap_or_default(),
            fleet_seed,
            routes: routes.apply(problems_of, &root.field("routes"), &base.routes),
            backends,
            profiles: profiles.apply(problems_of, &root.field("profiles"), &base.profiles),
            seen: match all_resource_versions {
                true => resource_versions.into_iter().collect(),
                false => base.seen.with(resource_versions),
            },
        };
        decode::whole(problems_of, &mut snapshot, fresh.as_ref());
        problems.finish(snapshot).map_err(ApplyError::Refused)
    }
}

impl std::fmt::Debug for Incoming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Incoming").field("version", &self.version).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::delta::{self, split};
    use crate::sample;

    #[test]
    fn the_place_of_what_is_wrong_counts_through_all_messages() {
        let endpoint = |n: u32| proto::Endpoint { handle: n, name: format!("d/{n}"), ..Default::default() };
        let upsert = |endpoints| proto::BackendUpsert {
            position: 0,
            backend: Some(proto::Backend { name: "d/b".into(), endpoints, ..Default::default() }),
        };
        let good = proto::Endpoint { address: "10.0.0.1:80".into(), ..endpoint(1) };
        let part = |backend| ConfigDelta {
            version: Some(proto::Version::default()),
            backend_upserts: vec![backend],
            ..ConfigDelta::default()
        };
        let mut incoming = Incoming::default();
        assert!(incoming.add(part(upsert(vec![good]))) && incoming.add(part(upsert(vec![endpoint(2)]))));
        let Err(ApplyError::Refused(problems)) = incoming.apply(&Snapshot::default()) else { panic!("no address") };
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(problems[0].path, "backends[0].endpoints[1].address");
        assert_eq!(problems[0].object, Some(decode::Object::Backend("d/b".into())));
    }

    #[test]
    fn more_than_a_snapshot_can_be_is_given_up() {
        let part = || ConfigDelta { route_removals: vec!["x".repeat(MAX_SNAPSHOT_BYTES / 4)], ..Default::default() };
        let mut incoming = Incoming::default();
        assert_eq!((0..4).map(|_| incoming.add(part())).collect::<Vec<_>>(), [true, true, true, false]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        #[test]
        fn in_however_many_messages_it_comes_it_leads_to_the_same((old, new) in sample::edit(), max_bytes in 1usize..2_000) {
            for whole in [delta::diff(&old, &new), delta::full(&new)] {
                let (mut incoming, mut newest) = (Incoming::default(), Vec::new());
                for part in split(whole, max_bytes) {
                    prop_assert!(incoming.add(part));
                    newest.extend(incoming.newest().flat_map(|(_, endpoints)| endpoints).cloned());
                }
                let placed = incoming.backends.upserts.iter().flat_map(|(_, backend)| &backend.endpoints);
                prop_assert!(placed.eq(&newest), "each message's endpoints are its newest, once");
                prop_assert_eq!(&incoming.apply(&old).unwrap(), &new);
            }
        }
    }
}
