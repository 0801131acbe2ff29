//! What every data plane has at least: under steady change the newest version is never everywhere, an older one is.

use std::collections::{BTreeMap, VecDeque};

use api::snapshot::Version;

/// Versions whose names are known. Whoever is further behind has nothing that could be named.
const NAMED: usize = 1024;

/// Versions that data planes have acknowledged, and what their source calls them.
#[derive(Debug, Default)]
pub(super) struct Floor {
    /// How many data planes have it; by epoch and version, none where they have acknowledged nothing.
    held: BTreeMap<Option<(u64, u64)>, usize>,
    /// Oldest first, of one epoch.
    names: VecDeque<(Version, Version)>,
}

impl Floor {
    /// There is a new version, or its source has another name for it.
    pub(super) fn name(&mut self, version: Version, source: Version) {
        match self.names.back_mut() {
            Some((newest, name)) if *newest == version => *name = source,
            _ => self.names.push_back((version, source)),
        }
        if self.names.len() > NAMED {
            self.names.pop_front();
        }
    }

    /// A data plane has acknowledged this.
    pub(super) fn count(&mut self, applied: Option<Version>) {
        *self.held.entry(key(applied)).or_default() += 1;
    }

    /// It is gone, or has something else now.
    pub(super) fn uncount(&mut self, applied: Option<Version>) {
        if let Some(count) = self.held.get_mut(&key(applied)) {
            *count -= 1;
            if *count == 0 {
                self.held.remove(&key(applied));
            }
        }
    }

    /// The source's name of the newest version that all have, or have a newer one than; none where nobody is connected, or
    /// somebody has nothing of this epoch.
    pub(super) fn reached(&self) -> Option<Version> {
        let epoch = self.names.back()?.0.epoch;
        let (least, most) = (*self.held.first_key_value()?.0, *self.held.last_key_value()?.0);
        let [(first, version), (last, _)] = [least?, most?];
        if first != epoch || last != epoch {
            return None;
        }
        let after = self.names.partition_point(|(named, _)| named.version <= version);
        self.names.get(after.checked_sub(1)?).map(|(_, source)| *source)
    }
}

fn key(applied: Option<Version>) -> Option<(u64, u64)> {
    applied.map(|version| (version.epoch, version.version))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(version: u64) -> Version {
        Version { epoch: 7, version }
    }

    fn source(version: u64) -> Version {
        Version { epoch: 0, version }
    }

    fn floor(named: &[(u64, u64)], applied: &[Option<Version>]) -> Option<u64> {
        let mut floor = Floor::default();
        named.iter().for_each(|(ours, theirs)| floor.name(version(*ours), source(*theirs)));
        applied.iter().for_each(|applied| floor.count(*applied));
        floor.reached().map(|source| source.version)
    }

    #[test]
    fn the_slowest_decides() {
        let named = [(1, 10), (2, 13), (3, 14)];
        let check = |applied: &[Option<Version>], expected| assert_eq!(floor(&named, applied), expected, "{applied:?}");
        check(&[], None);
        check(&[Some(version(3)), Some(version(1))], Some(10));
        check(&[Some(version(3)), Some(version(3))], Some(14));
        check(&[Some(version(3)), None], None);
        for other in [Version { epoch: 6, version: 3 }, Version { epoch: 8, version: 3 }] {
            check(&[Some(version(3)), Some(other)], None);
        }
    }

    #[test]
    fn an_equal_version_takes_the_newest_name() {
        assert_eq!(floor(&[(1, 10), (1, 11)], &[Some(version(1))]), Some(11));
    }

    #[test]
    fn who_moves_on_or_leaves_no_longer_holds_back() {
        let mut floor = Floor::default();
        (1..=3).for_each(|n| floor.name(version(n), source(n)));
        floor.count(Some(version(1)));
        floor.count(Some(version(3)));
        floor.uncount(Some(version(1)));
        floor.count(Some(version(2)));
        assert_eq!(floor.reached(), Some(source(2)));
        floor.uncount(Some(version(2)));
        assert_eq!(floor.reached(), Some(source(3)));
    }

    #[test]
    fn names_are_bounded_and_who_is_behind_all_of_them_has_none() {
        let named: Vec<_> = (1..=2000).map(|n| (n, n)).collect();
        assert_eq!(floor(&named, &[Some(version(976))]), None);
        assert_eq!(floor(&named, &[Some(version(977))]), Some(977));
    }
}
