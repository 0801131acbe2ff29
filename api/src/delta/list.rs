//! Edits of an ordered list of named things: removals by name, upserts by position.

use std::collections::{HashMap, HashSet};

use crate::decode::Reason;
use crate::decode::path::{Path, Problems};

/// How one list differs from another.
pub(super) struct Change<'a, T> {
    placed: Vec<(u32, &'a T)>,
    pub(super) removals: Vec<String>,
}

impl<T> Change<'_, T> {
    pub(super) fn upserts<W>(&self, encode: impl Fn(u32, &T) -> W) -> Vec<W> {
        self.placed.iter().map(|(position, value)| encode(*position, value)).collect()
    }
}

/// The least that makes `old` into `new`: what is equal and in the same order stays, as much of it as possible.
pub(super) fn diff<'a, T: PartialEq>(old: &[T], new: &'a [T], name: impl Fn(&T) -> &str) -> Change<'a, T> {
    let places: HashMap<&str, usize> = old.iter().enumerate().map(|(i, value)| (name(value), i)).collect();
    let unchanged: Vec<(usize, usize)> = (new.iter().enumerate())
        .filter_map(|(i, value)| places.get(name(value)).filter(|&&o| old[o] == *value).map(|&o| (o, i)))
        .collect();
    let stays: HashSet<usize> = longest_rise(&unchanged).into_iter().collect();
    let names: HashSet<&str> = new.iter().map(&name).collect();
    Change {
        placed: (0u32..).zip(new).filter(|(i, _)| !stays.contains(&(*i as usize))).collect(),
        removals: old.iter().map(&name).filter(|name| !names.contains(name)).map(str::to_owned).collect(),
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
pub(super) struct Edit<'a, T> {
    pub(super) list: &'static str,
    pub(super) upserts: Vec<(u32, T)>,
    pub(super) removals: &'a [String],
}

impl<T: Clone> Edit<'_, T> {
    /// `held` after the edit. Whatever does not fit is reported.
    pub(super) fn apply(self, problems: &mut Problems, held: &[T], name: impl Fn(&T) -> &str) -> Vec<T> {
        let root = Path::root();
        let at = root.field(self.list);
        let gone: HashSet<&str> = self.removals.iter().map(String::as_str).collect();
        if gone.len() != self.removals.len() || held.iter().filter(|v| gone.contains(name(v))).count() != gone.len() {
            problems.add(&at, Reason::Unfit("it removes a name twice, or one that is not held"));
        }
        let replaced: HashSet<&str> = self.upserts.iter().map(|(_, value)| name(value)).collect();
        let mut kept = held
            .iter()
            .filter(|v| !gone.contains(name(v)) && !replaced.contains(name(v)))
            .cloned()
            .collect::<Vec<_>>()
            .into_iter();
        if self.upserts.iter().any(|(_, value)| gone.contains(name(value))) {
            problems.add(&at, Reason::Unfit("it removes and places the same name"));
        }
        drop(replaced);
        let mut upserts = self.upserts;
        upserts.sort_by_key(|(position, _)| *position);
        let mut result = Vec::with_capacity(kept.len() + upserts.len());
        for (position, value) in upserts {
            let missing = (position as usize).saturating_sub(result.len());
            if missing > kept.len() || result.len() > position as usize {
                problems.add(&at, Reason::Unfit("two are placed at one position, or one beyond the end"));
            }
            result.extend(kept.by_ref().take(missing));
            result.push(value);
        }
        result.extend(kept);
        result
    }
}
