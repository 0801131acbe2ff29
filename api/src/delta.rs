//! One state as a change to another; `proto/config.proto` says how it is applied.

use crate::decode::path::{Path, Problems};
use crate::decode::{self, Problem, Reason};
use crate::snapshot::{Backend, Profile, Route, Snapshot, Version};
use crate::{encode, proto};

mod endpoints;
mod list;
mod parts;
#[cfg(test)]
mod tests;

pub use parts::{Parts, split};

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
    proto::ConfigDelta { base: Some(wire_version(old.version)), ..change(old, new) }
}

/// The full state: a change to nothing.
pub fn full(new: &Snapshot) -> proto::ConfigDelta {
    change(&Snapshot::default(), new)
}

/// `held` after the change. A delta without a base replaces everything.
pub fn apply(held: &Snapshot, delta: proto::ConfigDelta) -> Result<Snapshot, ApplyError> {
    let nothing = Snapshot::default();
    let base = match delta.base {
        None => &nothing,
        Some(wire) if domain_version(wire) == held.version => held,
        Some(wire) => return Err(ApplyError::Base { held: held.version, wanted: domain_version(wire) }),
    };
    let mut problems = Problems::default();
    if delta.version.is_none() {
        problems.add(&Path::root().field("version"), Reason::Missing("a delta says what version it leads to"));
    }
    let placed = delta.backend_upserts.iter().filter_map(|u| Some(u.backend.as_ref()?.name.as_str().into())).collect();
    let mut backends = backends(&mut problems, &base.backends, delta.backend_upserts, delta.backend_removals);
    endpoints::apply(&mut problems, &mut backends, delta.endpoint_edits, placed);
    let mut snapshot = Snapshot {
        version: delta.version.map(domain_version).unwrap_or_default(),
        fleet_seed: delta.fleet_seed,
        routes: routes(&mut problems, &base.routes, delta.route_upserts, delta.route_removals),
        backends,
        profiles: profiles(&mut problems, &base.profiles, delta.profile_upserts, delta.profile_removals),
    };
    decode::whole(&mut problems, &mut snapshot);
    problems.finish(snapshot).map_err(ApplyError::Refused)
}

fn change(old: &Snapshot, new: &Snapshot) -> proto::ConfigDelta {
    let routes = list::diff(&old.routes, &new.routes, PartialEq::eq);
    let backends =
        list::diff(&old.backends, &new.backends, |old, new| old == new || endpoints::edit(old, new).is_some());
    let profiles = list::diff(&old.profiles, &new.profiles, PartialEq::eq);
    proto::ConfigDelta {
        version: Some(wire_version(new.version)),
        base: None,
        fleet_seed: new.fleet_seed,
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

fn routes(
    problems: &mut Problems,
    held: &[Route],
    upserts: Vec<proto::RouteUpsert>,
    removals: Vec<String>,
) -> Vec<Route> {
    let root = Path::root();
    let mut decoded = Vec::new();
    for proto::RouteUpsert { position, route } in upserts {
        let at = root.item("routes", position as usize);
        decoded.push((position, decode::route(problems, &at, route.unwrap_or_default())));
    }
    let edit = list::Edit { upserts: decoded, removals: removals.into_iter().map(Into::into).collect() };
    edit.apply(problems, &root.field("routes"), held)
}

fn backends(
    problems: &mut Problems,
    held: &[Backend],
    upserts: Vec<proto::BackendUpsert>,
    removals: Vec<String>,
) -> Vec<Backend> {
    let root = Path::root();
    let mut decoded = Vec::new();
    for proto::BackendUpsert { position, backend } in upserts {
        let at = root.item("backends", position as usize);
        decoded.push((position, decode::backend(problems, &at, backend.unwrap_or_default())));
    }
    let edit = list::Edit { upserts: decoded, removals: removals.into_iter().map(Into::into).collect() };
    edit.apply(problems, &root.field("backends"), held)
}

fn profiles(
    problems: &mut Problems,
    held: &[Profile],
    upserts: Vec<proto::ProfileUpsert>,
    removals: Vec<String>,
) -> Vec<Profile> {
    let root = Path::root();
    let mut decoded = Vec::new();
    for proto::ProfileUpsert { position, profile } in upserts {
        let at = root.item("profiles", position as usize);
        decoded.push((position, decode::profile(problems, &at, profile.unwrap_or_default())));
    }
    let edit = list::Edit { upserts: decoded, removals: removals.into_iter().map(Into::into).collect() };
    edit.apply(problems, &root.field("profiles"), held)
}

fn wire_version(version: Version) -> proto::Version {
    proto::Version { epoch: version.epoch, version: version.version }
}

fn domain_version(wire: proto::Version) -> Version {
    Version { epoch: wire.epoch, version: wire.version }
}
