//! ModelRoute: what one means once it is checked.

mod validate;

use std::collections::BTreeMap;
use std::sync::Arc;

use api::id::ModelName;
use api::snapshot::StringMatch;

use crate::crd::{ParentReference, RateLimitUnit};

pub use validate::{transition, validate};

pub(crate) use validate::check_match;

/// A route that can be programmed as it is.
#[derive(Debug, Clone, PartialEq)]
pub struct ValidRoute {
    /// The model that clients ask for.
    pub model: Option<ModelName>,
    /// Further names that clients ask for.
    pub adapters: Vec<ModelName>,
    /// The Gateways that it attaches to.
    pub parents: Vec<ParentReference>,
    /// In order; the first that matches is used.
    pub rules: Vec<ValidRule>,
    /// Tokens that the model may take.
    pub rate_limit: Option<ValidRateLimit>,
}

/// Conditions, and where the request goes when all of them hold.
#[derive(Debug, Clone, PartialEq)]
pub struct ValidRule {
    /// A label for people.
    pub name: String,
    /// By lower-case header name. Conditions that always hold are left out.
    pub headers: BTreeMap<String, StringMatch>,
    /// On the path; none where it always holds.
    pub uri: Option<StringMatch>,
    /// The request's model.
    pub body_model: Option<ModelName>,
    /// At least one, with a positive sum of weights.
    pub targets: Vec<ValidTarget>,
}

/// One weighted choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidTarget {
    /// Where it goes.
    pub to: TargetName,
    /// Relative to the sum of the rule's weights.
    pub weight: u32,
}

/// Where a request goes: an object of the route's namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetName {
    /// A ModelServer.
    ModelServer(Arc<str>),
    /// An ExternalModelProvider.
    ExternalModelProvider(Arc<str>),
}

/// Token buckets over all requests for the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidRateLimit {
    /// Prompt tokens per unit.
    pub input: Option<u32>,
    /// Answer tokens per unit.
    pub output: Option<u32>,
    /// What they are per.
    pub unit: RateLimitUnit,
    /// Host and port of the Redis server that counts for all data planes; none counts in each.
    pub redis: Option<(Arc<str>, u16)>,
}
