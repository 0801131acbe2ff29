//! Wire to domain, once and for all: whatever leaves here needs no further check. All problems are reported, not only the
//! first, up to `limits::MAX_PROBLEMS`.

use prost::Message as _;

use crate::{proto, snapshot};

mod backend;
mod endpoint;
mod field;
mod kthena;
mod member;
pub(crate) mod path;
mod pattern;
mod problem;
mod profile;
mod rate;
mod route;
mod template;
#[cfg(test)]
mod tests;
mod whole;

pub(crate) use backend::{backend, more_endpoints};
pub(crate) use endpoint::endpoint;
pub use kthena::{KthenaProfile, kthena_profile};
pub(crate) use member::Fresh;
pub use pattern::compile;
pub use problem::{Object, Problem, Reason};
pub(crate) use profile::profile;
pub(crate) use route::route;
pub(crate) use whole::whole;

use path::{Path, Problems};

/// Checks a snapshot and fills in its defaults.
pub fn snapshot(wire: proto::Snapshot) -> Result<snapshot::Snapshot, Vec<Problem>> {
    let mut problems = Problems::default();
    let mut snapshot = objects(&mut problems, wire);
    whole(&mut problems, &mut snapshot, None);
    problems.finish(snapshot)
}

/// Checks objects each for itself: how they fit together, and into which state, is not looked at.
pub fn objects_alone(wire: proto::Snapshot) -> Result<snapshot::Snapshot, Vec<Problem>> {
    let mut problems = Problems::default();
    let snapshot = objects(&mut problems, wire);
    problems.finish(snapshot)
}

fn objects(problems: &mut Problems, wire: proto::Snapshot) -> snapshot::Snapshot {
    let proto::Snapshot { epoch, version, fleet_seed, routes, backends, profiles, resource_versions } = wire;
    let root = Path::root();
    snapshot::Snapshot {
        version: snapshot::Version { epoch, version },
        fleet_seed,
        routes: (routes.into_iter().enumerate())
            .map(|(i, wire)| route(problems, &root.item("routes", i), wire))
            .collect(),
        backends: (backends.into_iter().enumerate())
            .map(|(i, wire)| backend(problems, &root.item("backends", i), wire))
            .collect(),
        profiles: (profiles.into_iter().enumerate())
            .map(|(i, wire)| profile(problems, &root.item("profiles", i), wire))
            .collect(),
        seen: resource_versions.into_iter().collect(),
    }
}

/// `snapshot` from protobuf bytes, as kept on disk; unknown fields are ignored.
pub fn snapshot_from_bytes(bytes: &[u8]) -> Result<snapshot::Snapshot, Vec<Problem>> {
    let refuse = |reason| vec![Problem { object: None, path: String::new(), reason }];
    let max = crate::limits::MAX_SNAPSHOT_BYTES;
    if bytes.len() > max {
        return Err(refuse(Reason::TooLong { found: bytes.len(), max }));
    }
    let wire = proto::Snapshot::decode(bytes).map_err(|error| refuse(Reason::Wire(error.to_string())))?;
    snapshot(wire)
}
