//! How far the source of a state had been read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// By list, as `Pod` or `ModelRoute/namespace`: the resourceVersion of the last change that counts. To whoever holds a state they are
/// opaque; they are compared where the same lists are read. Empty where the source has no such thing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen(Arc<BTreeMap<String, String>>);

impl Seen {
    /// The resourceVersion of a list.
    pub fn of(&self, list: &str) -> Option<&str> {
        self.0.get(list).map(String::as_str)
    }

    /// Its lists.
    pub fn lists(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(list, version)| (list.as_str(), version.as_str()))
    }

    /// As it goes over the wire.
    pub fn wire(&self) -> BTreeMap<String, String> {
        (*self.0).clone()
    }

    /// With what differs.
    pub(crate) fn with(&self, news: BTreeMap<String, String>) -> Self {
        let mut all = self.wire();
        all.extend(news);
        Self(Arc::new(all))
    }

    /// Lists of which the two do not say the same.
    fn apart<'s>(&'s self, other: &'s Self) -> impl Iterator<Item = &'s str> {
        let differs = |(list, version): &(&'s str, &str)| other.of(list) != Some(version);
        let gone = other.lists().filter(|(list, _)| self.of(list).is_none());
        self.lists().filter(differs).chain(gone).map(|(list, _)| list)
    }

    /// What of this is to be said to those who hold what was made of `base`, and whether that is all of it: a list can only go where the
    /// rest is said.
    pub(crate) fn told(&self, base: &Self, news: News<'_>) -> (BTreeMap<String, String>, bool) {
        let News::Since(moved) = news else { return (self.wire(), true) };
        let lists = self.apart(base).chain(moved.0.iter().map(String::as_str));
        let told: Option<BTreeMap<_, _>> =
            lists.map(|list| Some((list.to_owned(), self.of(list)?.to_owned()))).collect();
        told.map_or_else(|| (self.wire(), true), |told| (told, false))
    }
}

/// Lists of which those who hold one content may have been told different versions, because it was told to some before more had been seen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Moved(BTreeSet<String>);

impl Moved {
    /// The content stayed while what had been seen went from one to the other.
    pub fn note(&mut self, before: &Seen, after: &Seen) {
        self.0.extend(before.apart(after).map(str::to_owned));
    }
}

/// Which versions a change tells.
#[derive(Debug, Clone, Copy)]
pub enum News<'m> {
    /// All: it is not known what the receiver was told.
    All,
    /// Those that differ from the base's, and those that moved while it stood.
    Since(&'m Moved),
}

impl FromIterator<(String, String)> for Seen {
    fn from_iter<T: IntoIterator<Item = (String, String)>>(lists: T) -> Self {
        Self(Arc::new(lists.into_iter().collect()))
    }
}
