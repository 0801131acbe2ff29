//! What can be checked only of the whole: bounds, uniqueness, references.

use std::collections::HashSet;
use std::collections::hash_map::Entry;
use std::hash::Hash;

use ahash::AHashMap;

use super::field::count;
use super::member::{Fresh, members};
use super::path::{Path, Problems};
use super::{Object, Reason};
use crate::id::ProfileName;
use crate::limits::{
    MAX_BACKENDS, MAX_ENDPOINTS, MAX_LISTS, MAX_NAME_BYTES, MAX_PROFILES, MAX_RESOURCE_VERSION_BYTES, MAX_ROUTES,
};
use crate::seen::Seen;
use crate::snapshot::Snapshot;

/// Checks what `snapshot`'s parts cannot know of each other, and fills in what depends on it. Where all but `fresh` endpoints are of a state
/// that has been checked, only these are checked against all.
pub(crate) fn whole(problems: &mut Problems, snapshot: &mut Snapshot, fresh: Option<&Fresh>) {
    let root = Path::root();
    let endpoints = snapshot.backends.iter().map(|b| b.endpoints.len()).sum();
    count(problems, &root.field("routes"), snapshot.routes.len(), ("routes", MAX_ROUTES));
    count(problems, &root.field("backends"), snapshot.backends.len(), ("backends", MAX_BACKENDS));
    count(problems, &root.field("backends"), endpoints, ("endpoints", MAX_ENDPOINTS));
    count(problems, &root.field("profiles"), snapshot.profiles.len(), ("profiles", MAX_PROFILES));

    let routes = snapshot.routes.iter().map(|r| (r.name.as_str(), Object::Route(r.name.clone())));
    unique_names(problems, "routes", routes);
    let backends = snapshot.backends.iter().map(|b| (b.name.as_str(), Object::Backend(b.name.clone())));
    unique_names(problems, "backends", backends);
    let profiles = snapshot.profiles.iter().map(|p| (p.name.as_str(), Object::Profile(p.name.clone())));
    unique_names(problems, "profiles", profiles);

    known_profiles(problems, snapshot);
    seen(problems, &snapshot.seen);
    members(problems, &mut snapshot.backends, fresh);
}

fn unique_names<'a>(problems: &mut Problems, list: &'static str, names: impl Iterator<Item = (&'a str, Object)>) {
    let root = Path::root();
    let mut first = AHashMap::new();
    for (i, (name, object)) in names.enumerate().filter(|(_, (name, _))| !name.is_empty()) {
        if let Some(first) = first_seen(&mut first, name, i) {
            problems.object = Some(object);
            let first = root.item(list, first).to_string();
            let reason = Reason::Duplicate { what: "the name", found: format!("{name:?}"), first };
            problems.add(&root.item(list, i).field("name"), reason);
        }
    }
    problems.object = None;
}

fn known_profiles(problems: &mut Problems, snapshot: &Snapshot) {
    let root = Path::root();
    let known: HashSet<&ProfileName> = snapshot.profiles.iter().map(|p| &p.name).collect();
    for (i, backend) in snapshot.backends.iter().enumerate() {
        if let Some(profile) = &backend.profile
            && !known.contains(profile)
        {
            problems.object = Some(Object::Backend(backend.name.clone()));
            let at = root.item("backends", i);
            problems.add(&at.field("profile"), Reason::UnknownProfile(profile.to_string()));
        }
    }
}

fn seen(problems: &mut Problems, seen: &Seen) {
    let root = Path::root();
    let at = root.field("resourceVersions");
    count(problems, &at, seen.lists().len(), ("lists", MAX_LISTS));
    for (list, version) in seen.lists().take(MAX_LISTS) {
        for (text, max) in [(list, MAX_NAME_BYTES), (version, MAX_RESOURCE_VERSION_BYTES)] {
            if text.len() > max {
                problems.add(&at, Reason::TooLong { found: text.len(), max });
            }
        }
    }
}

/// Where `key` was seen first, if it was seen before.
fn first_seen<K: Hash + Eq, P: Copy>(first: &mut AHashMap<K, P>, key: K, place: P) -> Option<P> {
    match first.entry(key) {
        Entry::Occupied(first) => Some(*first.get()),
        Entry::Vacant(slot) => {
            slot.insert(place);
            None
        }
    }
}
