//! Rules with their conditions compiled and their weights summed up.

use std::sync::Arc;

use api::id::{BackendName, ModelName};
use api::snapshot::StringMatch;
use regex::bytes::Regex;

use super::BackendTable;

/// A condition on bytes.
#[derive(Debug, Clone)]
pub enum CompiledMatch {
    /// Equal.
    Exact(Box<[u8]>),
    /// Begins with.
    Prefix(Box<[u8]>),
    /// Found anywhere.
    Regex(Regex),
    /// A pattern that does not compile matches nothing.
    Never,
}

impl CompiledMatch {
    pub(super) fn compile(source: &StringMatch, pattern: impl FnOnce(&str) -> Option<Regex>) -> Self {
        match source {
            StringMatch::Exact(text) => Self::Exact(text.as_bytes().into()),
            StringMatch::Prefix(text) => Self::Prefix(text.as_bytes().into()),
            StringMatch::Regex(text) => pattern(text).map_or(Self::Never, Self::Regex),
        }
    }

    /// Whether the value fulfils the condition.
    pub fn matches(&self, value: &[u8]) -> bool {
        match self {
            Self::Exact(text) => **text == *value,
            Self::Prefix(text) => value.starts_with(text),
            Self::Regex(regex) => regex.is_match(value),
            Self::Never => false,
        }
    }
}

/// One weighted target.
#[derive(Debug, Clone)]
pub struct Destination {
    /// Its name, for the answer when it is missing.
    pub name: BackendName,
    /// None where the snapshot has no such backend.
    pub backend: Option<Arc<BackendTable>>,
    /// The sum of this weight and all before it.
    pub up_to: u32,
}

/// Conditions, all of which must hold, and targets.
#[derive(Debug)]
pub struct CompiledRule {
    /// A label for people.
    pub name: Box<str>,
    /// By lower-case name.
    pub headers: Box<[(Box<str>, CompiledMatch)]>,
    /// On the path without the query.
    pub uri: Option<CompiledMatch>,
    /// On the request's model.
    pub body_model: Option<ModelName>,
    /// In the order of the snapshot.
    pub targets: Box<[Destination]>,
}

impl CompiledRule {
    /// The target that a random number falls on, by weight; none where the weights sum to zero.
    pub fn pick(&self, random: u64) -> Option<&Destination> {
        let sum = u64::from(self.targets.last()?.up_to);
        // The high half of the product is uniform below the sum.
        let point = ((u128::from(random) * u128::from(sum)) >> 64) as u32;
        self.targets.get(self.targets.partition_point(|target| target.up_to <= point))
    }
}
