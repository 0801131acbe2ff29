//! Who subscribes.

use std::fmt;
use std::time::Duration;

use api::proto::Subscribe;
use futures_util::future::{BoxFuture, ready};
use tonic::Status;
use tonic::metadata::MetadataMap;

/// Who a subscriber is, as far as it was proved.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    /// The node that it runs on.
    pub node: String,
    /// The namespace of its pod.
    pub namespace: String,
    /// Its pod; empty outside Kubernetes.
    pub pod: String,
    /// The pod's UID; empty outside Kubernetes.
    pub uid: String,
    /// For how long the proof holds from now on. None: without end.
    pub valid_for: Option<Duration>,
    /// When the proof itself ends, in seconds since 1970, by which one is told from the one before it. None: never.
    pub proof_ends_s: Option<i64>,
}

/// Finds out who subscribes.
pub trait Identify: fmt::Debug + Send + Sync + 'static {
    /// From what came with the call and what the subscriber says of itself; a status refuses it. It comes to an end within seconds, whatever
    /// it has to wait for.
    fn identify<'a>(
        &'a self,
        metadata: &'a MetadataMap,
        subscribe: &'a Subscribe,
    ) -> BoxFuture<'a, Result<Identity, Status>>;
}

/// On loopback whoever can connect runs on this machine, and is believed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Local;

impl Identify for Local {
    fn identify<'a>(&'a self, _: &'a MetadataMap, subscribe: &'a Subscribe) -> BoxFuture<'a, Result<Identity, Status>> {
        let (node, namespace) = (subscribe.node.clone(), subscribe.namespace.clone());
        Box::pin(ready(Ok(Identity { node, namespace, ..Identity::default() })))
    }
}
