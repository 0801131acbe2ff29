//! What became of each object: values from which status, events and `check` are written.

use std::collections::BTreeMap;
use std::fmt;

use super::last_good::Fallback;
use crate::object::Kind;
use crate::world::{Life, ObjectName};

/// The verdicts of one build.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Verdicts {
    /// Of every ModelRoute.
    pub routes: BTreeMap<ObjectName, RouteVerdict>,
    /// Of every ModelServer.
    pub servers: BTreeMap<ObjectName, ServerVerdict>,
    /// Of every ExternalModelProvider.
    pub providers: BTreeMap<ObjectName, ProviderVerdict>,
    /// Of every object of the kinds that decide nothing in data planes.
    pub judged: BTreeMap<(Kind, ObjectName), ObjectVerdict>,
    /// Of the scheduler's ConfigMap, where there is one.
    pub scheduler: Option<SchedulerVerdict>,
}

/// Of a ModelRoute.
#[derive(Debug, Clone, PartialEq)]
pub struct RouteVerdict {
    /// The generation that was judged.
    pub generation: i64,
    /// Whether it is valid, its model names are its own, and all that it asks for can be done.
    pub accepted: Condition,
    /// Whether everything that its rules refer to is there and served.
    pub resolved_refs: Condition,
    /// Whether the snapshot has a form of it; where `accepted` does not hold, that is its last good form or a refusal.
    pub published: bool,
    /// What is in force in the place of a refused form.
    pub fallback: Fallback,
}

/// Of a ModelServer.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerVerdict {
    /// The generation that was judged.
    pub generation: i64,
    /// Whether it is valid and all that it asks for can be done.
    pub accepted: Condition,
    /// Whether requests can be served.
    pub ready: Condition,
    /// How many endpoints it has in the snapshot.
    pub endpoints: usize,
    /// Pods that it selects and that are no endpoints, by name.
    pub left_out: Vec<(ObjectName, LeftOut)>,
    /// What of it has no effect, in sentences.
    pub notes: Vec<String>,
    /// What is in force in the place of a refused form.
    pub fallback: Fallback,
}

/// Of an ExternalModelProvider.
#[derive(Debug, Clone, PartialEq)]
pub struct ProviderVerdict {
    /// The generation that was judged.
    pub generation: i64,
    /// Whether it is valid.
    pub accepted: Condition,
    /// Whether its Secret is there and has the key.
    pub credentials: Condition,
}

/// Of an object of which nothing is published.
#[derive(Debug, Clone, PartialEq)]
pub struct ObjectVerdict {
    /// The generation that was judged.
    pub generation: i64,
    /// Whether it is valid.
    pub accepted: Condition,
}

/// Of Kthena's scheduler configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct SchedulerVerdict {
    /// The ConfigMap.
    pub name: ObjectName,
    /// Whether it can be read.
    pub accepted: Condition,
    /// What of it has no effect, in sentences.
    pub notes: Vec<String>,
    /// What is in force in the place of a refused form.
    pub fallback: Fallback,
}

/// A condition of a status, without its times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// True or False; nothing is Unknown to a pure function.
    pub holds: bool,
    /// One word for programs.
    pub reason: Reason,
    /// Sentences for people.
    pub message: String,
}

impl Condition {
    pub(super) fn yes(reason: Reason, message: impl Into<String>) -> Self {
        Self { holds: true, reason, message: message.into() }
    }

    pub(super) fn no(reason: Reason, message: impl Into<String>) -> Self {
        Self { holds: false, reason, message: message.into() }
    }
}

/// Why a condition is what it is; the name is the condition's `reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Valid and taken.
    Accepted,
    /// All references lead somewhere.
    ResolvedRefs,
    /// It breaks a rule of its kind.
    Invalid,
    /// A model name belongs to another namespace.
    Conflicted,
    /// It asks for what this release's data planes do not do.
    NotServed,
    /// It is attached to Gateways only, and there is no Gateway listener.
    GatewayNotServed,
    /// There are more objects than a snapshot holds.
    TooMany,
    /// The whole that it is part of makes the control plane panic.
    NotBuilt,
    /// A ModelServer that is referred to is not there.
    BackendNotFound,
    /// An ExternalModelProvider that is referred to is not there.
    ProviderNotFound,
    /// There are endpoints.
    Ready,
    /// The selector selects no pod.
    NoPods,
    /// Pods are selected, but none can serve.
    NoReadyPods,
    /// There are prefill and decode pods, but no group has both.
    NoPair,
    /// No credential is configured.
    CredentialNotRequired,
    /// The credential's Secret is there and has the key.
    CredentialResolved,
    /// The credential's Secret is not there, or lacks the label.
    CredentialNotFound,
    /// The credential's Secret does not have the key, or holds nothing there.
    CredentialKeyNotFound,
    /// What the key holds cannot be sent.
    CredentialInvalid,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Why a selected pod is no endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LeftOut {
    /// It may not be sent requests; never `Life::Ready`.
    Life(Life),
    /// Its engine says that it does not serve the server's model now.
    Unready,
    /// It has no address that can be connected to.
    NoAddress,
    /// It has neither the prefill labels nor the decode labels.
    NoRole,
    /// It has no value for the label that pairs prefill with decode.
    NoGroup,
    /// There are more endpoints than a snapshot holds.
    TooMany,
    /// The epoch has no numbers left; a restart begins a new one.
    NoHandle,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Life(Life::Ready) => "ready",
            Self::Life(Life::NotReady) => "not ready",
            Self::Life(Life::Pending) => "not running yet",
            Self::Life(Life::Ended) => "ended",
            Self::Life(Life::Terminating) => "terminating",
            Self::Unready => "not ready, by its engine's own word",
            Self::NoAddress => "without an address",
            Self::NoRole => "with neither the prefill nor the decode labels",
            Self::NoGroup => "without the group label",
            Self::TooMany => "beyond the number of endpoints that a snapshot holds",
            Self::NoHandle => "without a handle, restart the control plane",
        })
    }
}
