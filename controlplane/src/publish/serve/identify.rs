//! Who subscribes.

use std::fmt;
use std::time::Duration;

use api::proto::Subscribe;
use futures_util::future::{BoxFuture, ready};
use jiff::Timestamp;
use tokio::sync::watch;
use tonic::Status;
use tonic::metadata::MetadataMap;

use crate::identity::Asked;

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
    /// What proves it; none where nothing has to.
    pub proof: Option<Proof>,
}

/// What proves who somebody is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proof {
    /// When it ends, by which one is told from the one before it.
    pub ends: Timestamp,
    /// How long it holds from now on.
    pub holds: Holds,
}

/// How long a proof holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// Until it ends.
    For(Duration),
    /// It has ended, and counts for as long as it cannot be renewed, which [`Identify::asked`] tells.
    PastItsEnd,
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

    /// What the API server was asked, by which a proof counts past its end. None where proofs have no end.
    fn asked(&self) -> Option<watch::Receiver<Asked>> {
        None
    }
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
