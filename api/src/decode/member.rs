//! Endpoints over all backends: one may be a member of several, which then agree about it; and the handles that a file
//! leaves out.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::sync::Arc;

use ahash::{AHashMap, AHashSet};

use super::path::{Path, Problems};
use super::{Object, Reason};
use crate::id::EndpointKey;
use crate::snapshot::{Backend, Endpoint};

#[cfg(test)]
mod tests;

/// Where an endpoint is written out: the backend's position, and its own in there.
type Place = (usize, usize);

/// What a change brings: whatever it contradicts has its handle or its key. All others agree already, and to note ten thousand of them
/// is most of what a change would cost.
#[derive(Default)]
pub(crate) struct Fresh {
    handles: AHashSet<u32>,
    keys: AHashSet<EndpointKey>,
}

impl Fresh {
    /// None where one of them is still to be given a handle, which depends on all.
    pub(crate) fn of(endpoints: &[Arc<Endpoint>]) -> Option<Self> {
        let mut fresh = Self::default();
        for endpoint in endpoints {
            fresh.handles.insert(endpoint.handle);
            fresh.keys.insert(endpoint.key.clone());
        }
        (!fresh.handles.contains(&0)).then_some(fresh)
    }

    /// Whether this is one of them, or may contradict one.
    fn concerns(&self, endpoint: &Endpoint) -> bool {
        self.handles.contains(&endpoint.handle) || self.keys.contains(&endpoint.key)
    }
}

/// Gives handles to endpoints that have none, then checks that handle and key name the same endpoint everywhere.
pub(super) fn members(problems: &mut Problems, backends: &mut [Backend], fresh: Option<&Fresh>) {
    if fresh.is_none() {
        give_handles(backends);
    }
    let all = backends.iter().map(|backend| backend.endpoints.len()).sum();
    let room = if fresh.is_none() { all } else { 0 };
    let (mut handles, mut keys) = (AHashMap::with_capacity(room), AHashMap::with_capacity(room));
    let concerned = |(_, endpoint): &(usize, &Arc<Endpoint>)| fresh.is_none_or(|fresh| fresh.concerns(endpoint));
    for (i, backend) in backends.iter().enumerate() {
        for (j, endpoint) in backend.endpoints.iter().enumerate().filter(concerned) {
            let (key, place) = (&endpoint.key, (i, j));
            let holder = *handles.entry(endpoint.handle).or_insert(place);
            if !may_be_one(key, &at(backends, holder).key) {
                let found = endpoint.handle.to_string();
                problems.object = Some(Object::Backend(backend.name.clone()));
                duplicate(problems, place, holder, ("the handle", found));
            }
            // Port 0 stands for an address that was refused.
            if key.port == 0 {
                continue;
            }
            match keys.entry(key) {
                Entry::Vacant(slot) => {
                    slot.insert((place, i));
                }
                Entry::Occupied(mut slot) => {
                    let (first, last) = slot.get_mut();
                    problems.object = Some(Object::Backend(backend.name.clone()));
                    if std::mem::replace(last, i) == i {
                        let found = format!("({:?}, {}, {}) in one backend", key.uid, key.port, key.rank);
                        duplicate(problems, place, *first, ("the endpoint (uid, port, rank)", found));
                    }
                    agree(problems, place, (endpoint, at(backends, *first)), *first);
                }
            }
        }
    }
    problems.object = None;
}

fn at(backends: &[Backend], (backend, member): Place) -> &Endpoint {
    &backends[backend].endpoints[member]
}

/// Whether two keys can be one endpoint's, where an address may have been refused.
fn may_be_one(a: &EndpointKey, b: &EndpointKey) -> bool {
    a.uid == b.uid && a.rank == b.rank && (a.port == b.port || a.port == 0 || b.port == 0)
}

/// The lowest free numbers from 1, in the order of the endpoints: the same file gives the same handles.
fn give_handles(backends: &mut [Backend]) {
    let all = || backends.iter().flat_map(|b| &b.endpoints);
    if all().all(|e| e.handle != 0) {
        return;
    }
    let taken: HashSet<u32> = all().map(|e| e.handle).collect();
    let mut of_key: HashMap<EndpointKey, u32> = HashMap::new();
    for endpoint in all().filter(|e| e.handle != 0) {
        of_key.entry(endpoint.key.clone()).or_insert(endpoint.handle);
    }
    let mut free = (1..=u32::MAX).filter(|handle| !taken.contains(handle));
    let mut next = || free.next().expect("a snapshot that fits in memory has fewer than 2^32");
    for endpoint in backends.iter_mut().flat_map(|b| &mut b.endpoints).filter(|e| e.handle == 0) {
        Arc::make_mut(endpoint).handle = *of_key.entry(endpoint.key.clone()).or_insert_with(&mut next);
    }
}

/// What is the endpoint's own is the same wherever it is a member.
fn agree(problems: &mut Problems, place: Place, (found, other): (&Endpoint, &Endpoint), first: Place) {
    // Those left aside are how a backend sees its member.
    let Endpoint {
        key: _,
        labels: _,
        role: _,
        group: _,
        revision: _,
        handle,
        name,
        address,
        node,
        zone,
        adapters,
        cache_tokens,
    } = found;
    let mut agreement = Agreement { problems, place, first };
    agreement.check("handle", Some(handle), Some(&other.handle));
    agreement.check("name", Some(name), Some(&other.name));
    agreement.check("address", Some(address), Some(&other.address));
    agreement.check("node", node.as_ref(), other.node.as_ref());
    agreement.check("zone", zone.as_ref(), other.zone.as_ref());
    agreement.check("adapters", adapters.as_ref(), other.adapters.as_ref());
    agreement.check("cacheTokens", cache_tokens.as_ref(), other.cache_tokens.as_ref());
}

struct Agreement<'a> {
    problems: &'a mut Problems,
    place: Place,
    first: Place,
}

impl Agreement<'_> {
    fn check<T: PartialEq + Debug>(&mut self, field: &'static str, found: Option<&T>, other: Option<&T>) {
        if found == other {
            return;
        }
        let reason = Reason::Contradiction { found: told(found), other: told(other), first: path(self.first) };
        let root = Path::root();
        let backend = root.item("backends", self.place.0);
        self.problems.add(&backend.item("endpoints", self.place.1).field(field), reason);
    }
}

/// A value as a sentence shows it: not more than a line of a list of adapters.
fn told<T: Debug>(value: Option<&T>) -> String {
    let Some(value) = value else { return "nothing".to_owned() };
    let text = format!("{value:?}");
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn duplicate(problems: &mut Problems, place: Place, first: Place, (what, found): (&'static str, String)) {
    let root = Path::root();
    let backend = root.item("backends", place.0);
    problems.add(&backend.item("endpoints", place.1), Reason::Duplicate { what, found, first: path(first) });
}

fn path((backend, member): Place) -> String {
    format!("backends[{backend}].endpoints[{member}]")
}
