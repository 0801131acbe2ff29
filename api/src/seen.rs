//! How far the source of a state had been read.

use std::collections::BTreeMap;

/// By list, as `Pod` or `ModelRoute/namespace`: the resourceVersion of the last change that counts. To whoever holds a state they are
/// opaque; they are compared where the same lists are read. Empty where the source has no such thing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen(BTreeMap<String, String>);

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
        self.0.clone()
    }

    /// With what differs, as control planes of before `all_resource_versions` tell it.
    pub(crate) fn with(&self, news: BTreeMap<String, String>) -> Self {
        let mut all = self.clone();
        all.0.extend(news);
        all
    }
}

impl FromIterator<(String, String)> for Seen {
    fn from_iter<T: IntoIterator<Item = (String, String)>>(lists: T) -> Self {
        Self(lists.into_iter().collect())
    }
}
