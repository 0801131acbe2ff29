//! The contract's decoder as the judge of single objects: what it refuses is never published.

use api::decode::{self, Problem};
use api::encode;
use api::snapshot::{Backend, Profile, Route, Snapshot};

/// A route in the form that receivers will have.
pub(super) fn route(route: Route) -> Result<Route, Vec<String>> {
    let decoded = decoded(Snapshot { routes: vec![route], ..Snapshot::default() }, "routes[0].")?;
    Ok(decoded.routes.into_iter().next().expect("one went in and none was refused"))
}

/// A backend in the form that receivers will have.
pub(super) fn backend(backend: Backend) -> Result<Backend, Vec<String>> {
    let decoded = decoded(Snapshot { backends: vec![backend], ..Snapshot::default() }, "backends[0].")?;
    Ok(decoded.backends.into_iter().next().expect("one went in and none was refused"))
}

/// A profile in the form that receivers will have.
pub(super) fn profile(profile: Profile) -> Result<Profile, Vec<String>> {
    let decoded = decoded(Snapshot { profiles: vec![profile], ..Snapshot::default() }, "profiles[0].")?;
    Ok(decoded.profiles.into_iter().next().expect("one went in and none was refused"))
}

fn decoded(alone: Snapshot, list: &str) -> Result<Snapshot, Vec<String>> {
    decode::snapshot(encode::snapshot(&alone)).map_err(|problems| sentences(&problems, list))
}

/// Without the place that the object had in the list of one.
pub(super) fn sentences(problems: &[Problem], list: &str) -> Vec<String> {
    let sentence = |problem: &Problem| {
        let text = problem.to_string();
        text.strip_prefix(list).map(str::to_owned).unwrap_or(text)
    };
    problems.iter().map(sentence).collect()
}
