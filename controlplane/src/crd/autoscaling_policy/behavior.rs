//! How fast an AutoscalingPolicy scales. What Kthena's mutating webhook filled in are defaults of the schema here, so that
//! an object means the same with and without a webhook.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How fast things are scaled.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Behavior {
    /// Downwards.
    #[serde(default)]
    pub scale_down: ScaleDown,
    /// Upwards.
    #[serde(default)]
    pub scale_up: ScaleUp,
}

/// How fast things are scaled down.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScaleDown {
    /// Instances per period at most.
    #[serde(default = "step::instances")]
    #[schemars(range(min = 0))]
    pub instances: i32,
    /// Share per period at most.
    #[serde(default = "step::percent")]
    #[schemars(range(min = 0, max = 1000))]
    pub percent: i32,
    /// Looked back over, up to 30 minutes.
    #[serde(default = "step::period")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = super::super::duration::rule())]
    pub period: String,
    /// Whether the larger or the smaller of the two steps counts.
    #[serde(default)]
    pub select_policy: SelectPolicy,
    /// The highest recommendation of this time counts, up to 30 minutes.
    #[serde(default = "step::five_minutes")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = super::super::duration::rule())]
    pub stabilization_window: String,
}

impl Default for ScaleDown {
    /// What an absent `scaleDown` means. An empty one has the defaults of its fields, as it has in Kthena.
    fn default() -> Self {
        Self {
            instances: 0,
            percent: 100,
            period: "1m".to_owned(),
            select_policy: SelectPolicy::Or,
            stabilization_window: step::five_minutes(),
        }
    }
}

/// How fast things are scaled up.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScaleUp {
    /// As a rule.
    #[serde(default)]
    pub stable_policy: StablePolicy,
    /// When demand outruns it.
    #[serde(default)]
    pub panic_policy: PanicPolicy,
}

/// How fast things are scaled up as a rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct StablePolicy {
    /// Instances per period at most.
    #[serde(default = "step::instances")]
    #[schemars(range(min = 0))]
    pub instances: i32,
    /// Share per period at most.
    #[serde(default = "step::percent")]
    #[schemars(range(min = 0, max = 1000))]
    pub percent: i32,
    /// Looked back over, up to 30 minutes.
    #[serde(default = "step::period")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = super::super::duration::rule())]
    pub period: String,
    /// Whether the larger or the smaller of the two steps counts.
    #[serde(default)]
    pub select_policy: SelectPolicy,
    /// The lowest recommendation of this time counts, up to 30 minutes.
    #[serde(default = "step::zero")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = super::super::duration::rule())]
    pub stabilization_window: String,
}

impl Default for StablePolicy {
    /// What an absent `stablePolicy` means. An empty one has the defaults of its fields, as it has in Kthena.
    fn default() -> Self {
        Self {
            instances: 4,
            percent: 100,
            period: "1m".to_owned(),
            select_policy: SelectPolicy::Or,
            stabilization_window: step::zero(),
        }
    }
}

/// The defaults of a step limit's fields.
mod step {
    pub(super) fn instances() -> i32 {
        1
    }

    pub(super) fn percent() -> i32 {
        100
    }

    pub(super) fn period() -> String {
        "15s".to_owned()
    }

    pub(super) fn five_minutes() -> String {
        "5m".to_owned()
    }

    pub(super) fn zero() -> String {
        "0s".to_owned()
    }
}

/// Which of two steps counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum SelectPolicy {
    /// The larger one.
    #[default]
    Or,
    /// The smaller one.
    And,
}

/// How fast things are scaled up when demand outruns the stable policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PanicPolicy {
    /// Share per period at most.
    #[serde(default = "PanicPolicy::default_percent")]
    #[schemars(range(min = 0, max = 1000))]
    pub percent: i32,
    /// Looked back over, up to 30 minutes.
    #[schemars(length(max = 64))]
    #[x_kube(validation = super::super::duration::rule())]
    pub period: String,
    /// Panic begins when the recommendation is this share of what runs.
    #[serde(default = "PanicPolicy::default_threshold")]
    #[schemars(range(min = 110, max = 1000))]
    pub panic_threshold_percent: i32,
    /// How long panic lasts after its last cause; 0 switches it off.
    #[serde(default = "PanicPolicy::default_hold")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = super::super::duration::rule())]
    pub panic_mode_hold: String,
}

impl PanicPolicy {
    fn default_percent() -> i32 {
        1000
    }

    fn default_threshold() -> i32 {
        200
    }

    fn default_hold() -> String {
        "60s".to_owned()
    }
}

impl Default for PanicPolicy {
    /// What an absent `panicPolicy` means: no panic.
    fn default() -> Self {
        Self { percent: 0, period: step::zero(), panic_threshold_percent: 200, panic_mode_hold: step::zero() }
    }
}
