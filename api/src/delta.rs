//! One state as a change to another; `proto/config.proto` says how it is applied.

use crate::decode::Problem;
use crate::seen::{Moved, News};
use crate::snapshot::{Snapshot, Version};
use crate::{encode, proto};

mod endpoints;
mod incoming;
mod list;
mod parts;
#[cfg(test)]
mod tests;

pub use incoming::Incoming;
#[cfg(any(test, feature = "testing"))]
pub use parts::Parts;
pub use parts::split;

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
    /// The result is not a valid snapshot: keep what is held and say why. There is at least one problem.
    #[error("{} problems, first: {}", .0.len(), .0[0])]
    Refused(Vec<Problem>),
}

/// What makes `old` into `new`.
pub fn diff(old: &Snapshot, new: &Snapshot) -> proto::ConfigDelta {
    diff_for(old, new, News::Since(&Moved::default()))
}

/// The same for those who hold the content of `old`, and may have been told less or more of what had been seen.
pub fn diff_for(old: &Snapshot, new: &Snapshot, news: News<'_>) -> proto::ConfigDelta {
    proto::ConfigDelta { base: Some(wire_version(old.version)), ..change(old, new, news) }
}

/// The full state: a change to nothing.
pub fn full(new: &Snapshot) -> proto::ConfigDelta {
    change(&Snapshot::default(), new, News::All)
}

/// `held` after the change. A delta without a base replaces everything.
pub fn apply(held: &Snapshot, delta: proto::ConfigDelta) -> Result<Snapshot, ApplyError> {
    let mut incoming = Incoming::default();
    incoming.take(delta);
    incoming.apply(held)
}

fn change(old: &Snapshot, new: &Snapshot, news: News<'_>) -> proto::ConfigDelta {
    let (resource_versions, all_resource_versions) = new.seen.told(&old.seen, news);
    let routes = list::diff(&old.routes, &new.routes, PartialEq::eq);
    let backends =
        list::diff(&old.backends, &new.backends, |old, new| old == new || endpoints::edit(old, new).is_some());
    let profiles = list::diff(&old.profiles, &new.profiles, PartialEq::eq);
    proto::ConfigDelta {
        version: Some(wire_version(new.version)),
        base: None,
        fleet_seed: new.fleet_seed,
        resource_versions,
        all_resource_versions,
        route_upserts: routes.upserts(|position, r| proto::RouteUpsert { position, route: Some(encode::route(r)) }),
        route_removals: routes.removed_names(),
        backend_upserts: (backends)
            .upserts(|position, b| proto::BackendUpsert { position, backend: Some(encode::backend(b)) }),
        backend_removals: backends.removed_names(),
        profile_upserts: (profiles)
            .upserts(|position, p| proto::ProfileUpsert { position, profile: Some(encode::profile(p)) }),
        profile_removals: profiles.removed_names(),
        endpoint_edits: (backends.kept.iter())
            .filter(|(old, new)| old != new)
            .filter_map(|(old, new)| endpoints::edit(old, new))
            .collect(),
    }
}

fn wire_version(version: Version) -> proto::Version {
    proto::Version { epoch: version.epoch, version: version.version }
}

fn domain_version(wire: proto::Version) -> Version {
    Version { epoch: wire.epoch, version: wire.version }
}
