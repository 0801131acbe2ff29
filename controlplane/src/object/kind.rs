//! The kinds, by what an object says of itself.

use std::fmt;
use std::sync::OnceLock;

use serde_json::Value;

use crate::crd;

/// A kind of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Kind {
    ModelRoute,
    ModelServer,
    ExternalModelProvider,
    ModelServing,
    ModelBooster,
    AutoscalingPolicy,
    AutoscalingPolicyBinding,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::ModelRoute,
        Self::ModelServer,
        Self::ExternalModelProvider,
        Self::ModelServing,
        Self::ModelBooster,
        Self::AutoscalingPolicy,
        Self::AutoscalingPolicyBinding,
    ];

    /// Whether what it says is told to data planes, or decides what they are told. Of the others it is known whether they are valid.
    pub fn is_published(self) -> bool {
        self.group() == crd::NETWORKING
    }

    /// The kind of an object by its apiVersion and kind; none where it is not ours.
    pub fn of(object: &Value) -> Option<Self> {
        let (group, version) = object["apiVersion"].as_str()?.split_once('/')?;
        let kind = object["kind"].as_str()?;
        Self::ALL.into_iter().find(|k| k.name() == kind && k.group() == group && version == crd::VERSION)
    }

    /// As in `kind`.
    pub fn name(self) -> &'static str {
        match self {
            Self::ModelRoute => "ModelRoute",
            Self::ModelServer => "ModelServer",
            Self::ExternalModelProvider => "ExternalModelProvider",
            Self::ModelServing => "ModelServing",
            Self::ModelBooster => "ModelBooster",
            Self::AutoscalingPolicy => "AutoscalingPolicy",
            Self::AutoscalingPolicyBinding => "AutoscalingPolicyBinding",
        }
    }

    /// As in URLs.
    pub fn plural(self) -> &'static str {
        match self {
            Self::ModelRoute => "modelroutes",
            Self::ModelServer => "modelservers",
            Self::ExternalModelProvider => "externalmodelproviders",
            Self::ModelServing => "modelservings",
            Self::ModelBooster => "modelboosters",
            Self::AutoscalingPolicy => "autoscalingpolicies",
            Self::AutoscalingPolicyBinding => "autoscalingpolicybindings",
        }
    }

    /// Its API group.
    pub fn group(self) -> &'static str {
        match self {
            Self::ModelRoute | Self::ModelServer | Self::ExternalModelProvider => crd::NETWORKING,
            Self::ModelServing | Self::ModelBooster | Self::AutoscalingPolicy | Self::AutoscalingPolicyBinding => {
                crd::WORKLOAD
            }
        }
    }

    /// The schema of its objects, made once.
    pub fn schema(self) -> &'static Value {
        static SCHEMAS: [OnceLock<Value>; 7] = [const { OnceLock::new() }; 7];
        SCHEMAS[self as usize].get_or_init(|| crd::schema(self))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
