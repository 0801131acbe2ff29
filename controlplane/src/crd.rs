//! The custom resources as users write them: data and schema only, one file per kind.
//!
//! Kinds, groups, versions and fields are Kthena's. A field that the API server would default is not an `Option` here:
//! the default is said once, on the field, and both the schema and our own reader take it from there.

// The derive of KubeSchema copies each type into a function, where `pub` reaches nobody. Printer columns share their type.
#![allow(unreachable_pub, clippy::duplicated_attributes)]

mod autoscaling_policy;
mod autoscaling_policy_binding;
mod condition;
pub mod duration;
mod external_model_provider;
mod generate;
mod last_good;
mod matching;
mod model_booster;
mod model_route;
mod model_server;
mod model_serving;
mod pod;
mod quantity;
mod scaling;

pub use autoscaling_policy::{
    AutoscalingPolicy, AutoscalingPolicySpec, AutoscalingPolicyStatus, Behavior, DisaggregatedStatus,
    DisaggregatedTarget, HeterogeneousParam, HeterogeneousTarget, HomogeneousTarget, Metric, PanicPolicy,
    RatioConstraint, RatioStatus, RoleTarget, ScaleDown, ScaleUp, ScaledTarget, ScalingMode, SelectPolicy,
    StablePolicy, TargetStatus,
};
pub use autoscaling_policy_binding::{
    AutoscalingPolicyBinding, AutoscalingPolicyBindingSpec, BoundHeterogeneousParam, BoundHeterogeneousTarget,
    BoundHomogeneousTarget, BoundTarget, MetricEndpoint, PolicyRef, SubTarget, SubTargetKind,
};
pub use condition::{ConditionStatus, Programming};
pub use external_model_provider::{
    AuthScheme, ExternalModelProvider, ExternalModelProviderSpec, ProviderAuth, ProviderType, SecretKey,
};
pub use generate::{GENERATED_BY, file_name, generate, schema, stream, write, yaml};
pub use last_good::{FormerSpec, LastGoodForm};
pub use matching::{BodyMatch, ModelMatch, StringMatch};
pub use model_booster::{
    BoosterBackend, BoosterBackendType, BoosterWorker, LoraAdapter, ModelBooster, ModelBoosterSpec, WorkerType,
};
pub use model_route::{
    GlobalRateLimit, ModelRoute, ModelRouteSpec, ModelRouteStatus, ParentReference, RateLimit, RateLimitUnit, Redis,
    RouteRule, TargetModel,
};
pub use model_server::{
    ChatTemplate, InferenceEngine, KvConnector, KvConnectorType, MetricsEndpoint, ModelServer, ModelServerSpec,
    ModelServerStatus, PdGroup, PortProtocol, RetryPolicy, TrafficPolicy, WorkloadPort, WorkloadSelector,
};
pub use model_serving::{
    GangPolicy, GroupTopology, ModelServing, ModelServingSpec, ModelServingStatus, NetworkTopology, Plugin,
    PluginScope, PluginTarget, PluginType, RecoveryPolicy, Role, RollingUpdate, RolloutStrategy, RolloutType,
    ServingGroup, TopologyMode,
};
pub use pod::{Affinity, Env, EnvFrom, LabelSelector, PodMetadata, PodSpec, PodTemplate, Resources, Tolerations};
pub use quantity::Quantity;
pub use scaling::{
    MetricSource, MetricSourceType, MetricSources, PodMetric, PrometheusAuth, PrometheusMetric, TargetRef,
};

/// The group of ModelRoute, ModelServer and ExternalModelProvider.
pub const NETWORKING: &str = "networking.serving.volcano.sh";
/// The group of ModelServing, ModelBooster, AutoscalingPolicy and AutoscalingPolicyBinding.
pub const WORKLOAD: &str = "workload.serving.volcano.sh";
/// The one version of all kinds.
pub const VERSION: &str = "v1alpha1";
