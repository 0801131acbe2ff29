//! The custom resources as users write them: data and schema only, one file per kind.
//!
//! Kinds, groups, versions and fields are Kthena's. A field that the API server would default is not an `Option` here:
//! the default is said once, on the field, and both the schema and our own reader take it from there.

// The derive of KubeSchema copies each type into a function, where `pub` reaches nobody.
#![allow(unreachable_pub)]

mod condition;
mod duration;
mod matching;
mod model_route;
mod model_server;

pub use condition::{ConditionStatus, Programming};
pub use matching::{BodyMatch, ModelMatch, StringMatch};
pub use model_route::{
    GlobalRateLimit, ModelRoute, ModelRouteSpec, ModelRouteStatus, ParentReference, RateLimit, RateLimitUnit, Redis,
    RouteRule, TargetModel,
};
pub use model_server::{
    InferenceEngine, KvConnector, KvConnectorType, MetricsEndpoint, ModelServer, ModelServerSpec, ModelServerStatus,
    PdGroup, PortProtocol, RetryPolicy, TrafficPolicy, WorkloadPort, WorkloadSelector,
};

/// The group of ModelRoute, ModelServer and ExternalModelProvider.
pub const NETWORKING: &str = "networking.serving.volcano.sh";
/// The group of ModelServing, ModelBooster, AutoscalingPolicy and AutoscalingPolicyBinding.
pub const WORKLOAD: &str = "workload.serving.volcano.sh";
