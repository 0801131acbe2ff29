//! The contract's decoder as the judge of single objects: what it refuses is never published.

use api::decode::{self, Problem};
use api::proto;
use api::snapshot::{Backend, Profile, Route};

/// A route in its checked form.
pub(super) fn route(wire: proto::Route) -> Result<Route, Vec<String>> {
    let alone = proto::Snapshot { routes: vec![wire], ..Default::default() };
    let decoded = decode::snapshot(alone).map_err(|problems| sentences(&problems, "routes[0]."))?;
    Ok(decoded.routes.into_iter().next().expect("one went in and none was refused"))
}

/// A backend in its checked form.
pub(super) fn backend(wire: proto::Backend) -> Result<Backend, Vec<String>> {
    let alone = proto::Snapshot { backends: vec![wire], ..Default::default() };
    let decoded = decode::snapshot(alone).map_err(|problems| sentences(&problems, "backends[0]."))?;
    Ok(decoded.backends.into_iter().next().expect("one went in and none was refused"))
}

/// A profile, checked as the receiver will.
pub(super) fn profile(profile: Profile) -> Result<Profile, Vec<String>> {
    let alone = api::snapshot::Snapshot { profiles: vec![profile], ..Default::default() };
    let decoded =
        decode::snapshot(api::encode::snapshot(&alone)).map_err(|problems| sentences(&problems, "profiles[0]."))?;
    Ok(decoded.profiles.into_iter().next().expect("one went in and none was refused"))
}

/// Without the place that the object had in the list of one.
pub(super) fn sentences(problems: &[Problem], list: &str) -> Vec<String> {
    let sentence = |problem: &Problem| {
        let text = problem.to_string();
        text.strip_prefix(list).map(str::to_owned).unwrap_or(text)
    };
    problems.iter().map(sentence).collect()
}
