//! What can be checked only of the whole: bounds, uniqueness, references; and the handles that a file leaves out.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;

use super::field::count;
use super::path::{Path, Problems};
use super::{Object, Reason};
use crate::id::ProfileName;
use crate::limits::{MAX_BACKENDS, MAX_ENDPOINTS, MAX_PROFILES, MAX_ROUTES};
use crate::snapshot::{Backend, Snapshot};

/// Checks what `snapshot`'s parts cannot know of each other, and gives handles to endpoints that have none.
pub(crate) fn whole(problems: &mut Problems, snapshot: &mut Snapshot) {
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
    give_handles(&mut snapshot.backends);
    unique_endpoints(problems, &snapshot.backends);
    problems.object = None;
}

fn unique_names<'a>(problems: &mut Problems, list: &'static str, names: impl Iterator<Item = (&'a str, Object)>) {
    let root = Path::root();
    let mut first = HashMap::new();
    for (i, (name, object)) in names.enumerate().filter(|(_, (name, _))| !name.is_empty()) {
        if let Some(first) = seen(&mut first, name, i) {
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

/// The lowest free numbers from 1, in the order of the endpoints: the same file gives the same handles.
fn give_handles(backends: &mut [Backend]) {
    let all = || backends.iter().flat_map(|b| &b.endpoints);
    if all().all(|e| e.handle != 0) {
        return;
    }
    let taken: HashSet<u32> = all().map(|e| e.handle).collect();
    let mut free = (1..=u32::MAX).filter(|handle| !taken.contains(handle));
    for endpoint in backends.iter_mut().flat_map(|b| &mut b.endpoints).filter(|e| e.handle == 0) {
        Arc::make_mut(endpoint).handle = free.next().expect("a snapshot that fits in memory has fewer than 2^32");
    }
}

fn unique_endpoints(problems: &mut Problems, backends: &[Backend]) {
    let (mut handles, mut keys) = (HashMap::new(), HashMap::new());
    for (i, backend) in backends.iter().enumerate() {
        for (j, endpoint) in backend.endpoints.iter().enumerate() {
            let key = &endpoint.key;
            let same_handle = seen(&mut handles, endpoint.handle, (i, j))
                .map(|first| (first, "the handle", endpoint.handle.to_string()));
            // Port 0 stands for an address that was refused.
            let same_key = (key.port != 0).then(|| seen(&mut keys, key, (i, j))).flatten().map(|first| {
                (first, "the endpoint (uid, port, rank)", format!("({:?}, {}, {})", key.uid, key.port, key.rank))
            });
            for ((k, l), what, found) in same_handle.into_iter().chain(same_key) {
                problems.object = Some(Object::Backend(backend.name.clone()));
                let first = format!("backends[{k}].endpoints[{l}]");
                let at = Path::root();
                let at = at.item("backends", i);
                problems.add(&at.item("endpoints", j), Reason::Duplicate { what, found, first });
            }
        }
    }
}

/// Where `key` was seen first, if it was seen before.
fn seen<K: Hash + Eq, P: Copy>(first: &mut HashMap<K, P>, key: K, place: P) -> Option<P> {
    match first.entry(key) {
        Entry::Occupied(first) => Some(*first.get()),
        Entry::Vacant(slot) => {
            slot.insert(place);
            None
        }
    }
}
