//! Edits of an ordered list of named things: removals by name, upserts by position.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;

use ahash::AHashSet;

use crate::decode::Reason;
use crate::decode::path::{Path, Problems};
use crate::id::{BackendName, ProfileName, RouteName};
use crate::snapshot::{Backend, Endpoint, Profile, Route};

/// What is unique in its list by a key.
pub(super) trait Keyed {
    type Key: Clone + Eq + Hash;

    fn key(&self) -> Self::Key;
}

impl Keyed for Route {
    type Key = RouteName;

    fn key(&self) -> RouteName {
        self.name.clone()
    }
}

impl Keyed for Backend {
    type Key = BackendName;

    fn key(&self) -> BackendName {
        self.name.clone()
    }
}

impl Keyed for Profile {
    type Key = ProfileName;

    fn key(&self) -> ProfileName {
        self.name.clone()
    }
}

impl Keyed for Arc<Endpoint> {
    type Key = u32;

    fn key(&self) -> u32 {
        self.handle
    }
}

/// How one list differs from another.
pub(super) struct Change<'a, T: Keyed> {
    placed: Vec<(u32, &'a T)>,
    pub(super) removals: Vec<T::Key>,
    /// What stays in its place: old and new.
    pub(super) kept: Vec<(&'a T, &'a T)>,
}

impl<T: Keyed> Change<'_, T> {
    pub(super) fn upserts<W>(&self, encode: impl Fn(u32, &T) -> W) -> Vec<W> {
        self.placed.iter().map(|(position, value)| encode(*position, value)).collect()
    }

    /// How many places it touches.
    pub(super) fn len(&self) -> usize {
        self.placed.len() + self.removals.len()
    }
}

impl<T: Keyed<Key: ToString>> Change<'_, T> {
    pub(super) fn removed_names(&self) -> Vec<String> {
        self.removals.iter().map(ToString::to_string).collect()
    }
}

/// The least that makes `old` into `new`: what is the same and in the same order stays, as much of it as possible.
pub(super) fn diff<'a, T: Keyed>(old: &'a [T], new: &'a [T], same: impl Fn(&T, &T) -> bool) -> Change<'a, T> {
    let places: HashMap<T::Key, usize> = old.iter().enumerate().map(|(i, value)| (value.key(), i)).collect();
    let unchanged: Vec<(usize, usize)> = (new.iter().enumerate())
        .filter_map(|(i, value)| places.get(&value.key()).filter(|&&o| same(&old[o], value)).map(|&o| (o, i)))
        .collect();
    let rise: HashSet<usize> = longest_rise(&unchanged).into_iter().collect();
    let keys: HashSet<T::Key> = new.iter().map(Keyed::key).collect();
    Change {
        placed: (0u32..).zip(new).filter(|(i, _)| !rise.contains(&(*i as usize))).collect(),
        removals: old.iter().map(Keyed::key).filter(|key| !keys.contains(key)).collect(),
        kept: unchanged.iter().filter(|(_, i)| rise.contains(i)).map(|(o, i)| (&old[*o], &new[*i])).collect(),
    }
}

/// Of pairs in order of their second part, the second parts of a longest choice whose first parts rise.
fn longest_rise(pairs: &[(usize, usize)]) -> Vec<usize> {
    // ends[k]: the index of the pair with the least first part that ends a rise of length k + 1.
    let mut ends: Vec<usize> = Vec::new();
    let mut before: Vec<Option<usize>> = Vec::with_capacity(pairs.len());
    for (i, (first, _)) in pairs.iter().enumerate() {
        let length = ends.partition_point(|&end| pairs[end].0 < *first);
        before.push(length.checked_sub(1).map(|k| ends[k]));
        match ends.get_mut(length) {
            Some(end) => *end = i,
            None => ends.push(i),
        }
    }
    let mut rise: Vec<usize> =
        std::iter::successors(ends.last().copied(), |&i| before[i]).map(|i| pairs[i].1).collect();
    rise.reverse();
    rise
}

/// What a delta does to one list.
pub(super) struct Edit<T: Keyed> {
    pub(super) upserts: Vec<(u32, T)>,
    pub(super) removals: Vec<T::Key>,
}

impl<T: Keyed> Default for Edit<T> {
    fn default() -> Self {
        Self { upserts: Vec::new(), removals: Vec::new() }
    }
}

impl<T: Clone + Keyed> Edit<T> {
    /// `held` after the edit. Whatever does not fit is reported.
    pub(super) fn apply(self, problems: &mut Problems, at: &Path<'_>, held: &[T]) -> Vec<T> {
        let Self { mut upserts, removals } = self;
        let many = removals.len();
        let gone: AHashSet<T::Key> = removals.into_iter().collect();
        if gone.len() != many || (many > 0 && held.iter().filter(|v| gone.contains(&v.key())).count() != many) {
            problems.add(at, Reason::Unfit("it removes a name twice, or one that is not held"));
        }
        // The full state is placed on nothing, and is the larger the longer this would take.
        let placed: AHashSet<T::Key> = match held.is_empty() && gone.is_empty() {
            true => AHashSet::new(),
            false => upserts.iter().map(|(_, value)| value.key()).collect(),
        };
        let stays = |value: &&T| !gone.contains(&value.key()) && !placed.contains(&value.key());
        let mut kept = held.iter().filter(stays).cloned().collect::<Vec<_>>().into_iter();
        if placed.iter().any(|key| gone.contains(key)) {
            problems.add(at, Reason::Unfit("it removes and places the same name"));
        }
        upserts.sort_by_key(|(position, _)| *position);
        let mut result = Vec::with_capacity(kept.len() + upserts.len());
        for (position, value) in upserts {
            let missing = (position as usize).saturating_sub(result.len());
            if missing > kept.len() || result.len() > position as usize {
                problems.add(at, Reason::Unfit("two are placed at one position, or one beyond the end"));
            }
            result.extend(kept.by_ref().take(missing));
            result.push(value);
        }
        result.extend(kept);
        result
    }
}
