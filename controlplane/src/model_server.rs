//! ModelServer: what one means once it is checked, with the defaults of its engine.

mod validate;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::id::ModelName;
use api::snapshot::Engine;
use api::template::ChatTemplate;

use crate::crd::KvConnectorType;

pub use validate::validate;

/// A server that can be programmed as it is.
#[derive(Debug, Clone, PartialEq)]
pub struct ValidServer {
    /// What runs in its pods.
    pub engine: Engine,
    /// Replaces the request's model.
    pub model: Option<ModelName>,
    /// Pods of its namespace that have all of these; at least one.
    pub labels: BTreeMap<String, String>,
    /// Prefill and decode apart.
    pub disaggregation: Option<Disaggregation>,
    /// Where its pods take inference requests.
    pub port: u16,
    /// Whether they speak TLS there.
    pub tls: bool,
    /// Where they expose metrics.
    pub metrics: MetricsAt,
    /// TorchServe's management API; none for other engines.
    pub management_port: Option<u16>,
    /// From connecting to the head of the answer; none is the data plane's default.
    pub first_byte: Option<Duration>,
    /// When a failed attempt is repeated; none is the data plane's default.
    pub retry: Option<ValidRetry>,
    /// How its engines write a conversation; not probed yet.
    pub chat_template: Option<ChatTemplate>,
}

/// How prefill and decode pods are told apart, paired and connected.
#[derive(Debug, Clone, PartialEq)]
pub struct Disaggregation {
    /// Pods pair only if they share the value of this label.
    pub group_key: Arc<str>,
    /// Pods that have all of these are prefill, unless they are decode.
    pub prefill: BTreeMap<String, String>,
    /// Pods that have all of these are decode.
    pub decode: BTreeMap<String, String>,
    /// The protocol between them.
    pub connector: Connector,
}

/// The protocol between prefill and decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connector {
    /// As `kvConnector.type` says.
    Of(KvConnectorType),
    /// SGLang's bootstrap.
    Sglang,
}

/// Where pods expose metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricsAt {
    /// The port.
    pub port: u16,
    /// The path.
    pub path: Arc<str>,
}

/// When a failed attempt is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValidRetry {
    /// Attempts beyond the first.
    pub attempts: u8,
    /// Pause before each of them.
    pub interval: Duration,
}
