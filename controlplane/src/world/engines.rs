//! What engines say of themselves that decides who is published, and with what.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::id::{EndpointKey, ModelName};

/// What is known of engines, by endpoint. An endpoint that is not in it has said nothing, or not lately. Cheap to clone.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Engines(Arc<BTreeMap<EndpointKey, Arc<Facts>>>);

/// What one engine said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// LoRA adapters that it has loaded, by name; none where it does not say.
    pub adapters: Option<Vec<ModelName>>,
    /// What it said that it does not serve now.
    pub unready: Unready,
    /// Tokens that its cache takes, of all its ranks; none where it does not say.
    pub cache_tokens: Option<u64>,
}

impl Facts {
    /// Nothing of what it serves, and of its readiness, was asked.
    pub fn is_size_alone(&self) -> bool {
        *self == Self { cache_tokens: self.cache_tokens, ..Self::default() } && self.cache_tokens.is_some()
    }

    /// With what it says elsewhere, where it says nothing here.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self {
            adapters: self.adapters.as_ref().or(other.adapters.as_ref()).cloned(),
            unready: self.unready.and(&other.unready),
            cache_tokens: self.cache_tokens.or(other.cache_tokens),
        }
    }
}

/// For what an engine is not ready, by its own word.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Unready {
    /// It said nothing of the kind.
    #[default]
    Nothing,
    /// These models.
    Models(BTreeSet<ModelName>),
    /// Anything.
    All,
}

impl Unready {
    /// Whether requests for the model are not to be sent there; none is any model.
    pub fn is_for(&self, model: Option<&ModelName>) -> bool {
        match self {
            Self::Nothing => false,
            Self::Models(models) => model.is_some_and(|model| models.contains(model)),
            Self::All => true,
        }
    }

    /// Not ready for what either says.
    fn and(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::All, _) | (_, Self::All) => Self::All,
            (Self::Nothing, other) => other.clone(),
            (one, Self::Nothing) => one.clone(),
            (Self::Models(one), Self::Models(other)) => Self::Models(one.union(other).cloned().collect()),
        }
    }
}

impl Engines {
    /// What the endpoint's engine said.
    pub fn of(&self, endpoint: &EndpointKey) -> Option<&Arc<Facts>> {
        self.0.get(endpoint)
    }

    /// All of it, by endpoint.
    pub fn iter(&self) -> impl Iterator<Item = (&EndpointKey, &Arc<Facts>)> {
        self.0.iter()
    }
}

impl FromIterator<(EndpointKey, Arc<Facts>)> for Engines {
    fn from_iter<T: IntoIterator<Item = (EndpointKey, Arc<Facts>)>>(said: T) -> Self {
        Self(Arc::new(said.into_iter().collect()))
    }
}
