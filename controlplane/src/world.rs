//! What the sources say, as plain values: the objects that decide what data planes do, trimmed to what that needs.
//!
//! A source fills one, from a cluster or from a directory; everything else reads it. Nothing in it has been judged:
//! whether an object is valid, or in conflict with another, is `publish`'s to say.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use api::id::EndpointKey;

use crate::crd::{ExternalModelProviderSpec, ModelRouteSpec, ModelServerSpec};
use crate::object;

mod credential;
mod engines;
mod pod;

pub use credential::{Credential, Credentials};
pub use engines::{Engines, Facts, Unready};
pub use pod::{Life, Pod};

/// Everything that was read. Cheap to clone: what is large is behind an `Arc`.
#[derive(Debug, Clone, Default)]
pub struct World {
    /// ModelRoutes.
    pub routes: Kind<ModelRouteSpec>,
    /// ModelServers.
    pub servers: Kind<ModelServerSpec>,
    /// ExternalModelProviders.
    pub providers: Kind<ExternalModelProviderSpec>,
    /// Objects of the kinds that decide nothing in data planes: whether each is valid.
    pub judged: BTreeMap<(object::Kind, ObjectName), Held<()>>,
    /// Pods, of all namespaces that are watched.
    pub pods: BTreeMap<ObjectName, Arc<Pod>>,
    /// Labels of nodes, by node name.
    pub nodes: BTreeMap<Arc<str>, Arc<BTreeMap<String, String>>>,
    /// Secrets that are labelled as credentials of external providers. What they hold is not here.
    pub secrets: BTreeMap<ObjectName, Credentials>,
    /// Kthena's scheduler configuration, as text.
    pub scheduler: Option<Scheduler>,
    /// What the engines said of themselves lately. No source fills this: the engine watchers do.
    pub engines: Engines,
    /// Engines that write chats otherwise than is taken here. No source fills this: who hears them does.
    pub differing: Differing,
}

impl World {
    /// Whether the other one comes to the same tables: no more differs than what decides nothing of them.
    pub fn publishes_as(&self, other: &Self) -> bool {
        let Self { routes, servers, providers, judged: _, pods, nodes, secrets, scheduler, engines, differing } = self;
        *routes == other.routes
            && *servers == other.servers
            && *providers == other.providers
            && *pods == other.pods
            && *nodes == other.nodes
            && *secrets == other.secrets
            && *scheduler == other.scheduler
            && *engines == other.engines
            && *differing == other.differing
    }
}

/// How each of these engines writes chats, in a sentence.
pub type Differing = Arc<BTreeMap<EndpointKey, Arc<str>>>;

/// The objects of one kind.
pub type Kind<T> = BTreeMap<ObjectName, Held<T>>;

/// One custom resource as its source last said it.
#[derive(Debug)]
pub struct Held<T> {
    /// Which of all that ever had its name it is; empty where the source does not say.
    pub uid: Arc<str>,
    /// Counts the edits of its spec; of a ConfigMap, which counts none, its resourceVersion; 0 where the source has neither.
    pub generation: i64,
    /// Who was there first.
    pub seniority: Seniority,
    /// What it says, or in sentences why that cannot even be read.
    pub spec: Result<Arc<T>, Arc<[String]>>,
    /// A form of it that was good, where its source keeps one: it may have been accepted by another process, or in another life of
    /// this one. It counts only while the newest form is refused.
    pub last_good: Option<Arc<LastGood<T>>>,
}

/// A form of an object that was good before its newest one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastGood<T> {
    /// The generation that had it, as of [`Held`].
    pub generation: i64,
    /// What it said then.
    pub spec: Arc<T>,
}

impl<T: PartialEq> PartialEq for Held<T> {
    fn eq(&self, other: &Self) -> bool {
        let Self { uid, generation, seniority, spec, last_good } = self;
        let theirs = (&other.uid, &other.generation, &other.seniority, &other.last_good);
        // Most of a world is what it was: nothing is gone through that is the same value.
        let shared = matches!((spec, &other.spec), (Ok(ours), Ok(others)) if Arc::ptr_eq(ours, others));
        (uid, generation, seniority, last_good) == theirs && (shared || *spec == other.spec)
    }
}

impl<T> Clone for Held<T> {
    fn clone(&self) -> Self {
        let Self { uid, generation, seniority, spec, last_good } = self;
        let (uid, seniority, spec, last_good) = (uid.clone(), seniority.clone(), spec.clone(), last_good.clone());
        Self { uid, generation: *generation, seniority, spec, last_good }
    }
}

/// Which of two objects was there first: the lesser one. Ties are broken by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Seniority {
    /// `creationTimestamp`, in seconds since 1970.
    Created(i64),
    /// In a directory nothing has an age: the place counts.
    Listed {
        /// Relative to the directory.
        file: Arc<Path>,
        /// Of the object in the file, from 0.
        position: u32,
    },
}

/// The ConfigMap entry that configures the scheduler.
#[derive(Debug, Clone, PartialEq)]
pub struct Scheduler {
    /// The ConfigMap.
    pub name: ObjectName,
    /// Its entry `routerConfiguration`.
    pub held: Held<String>,
}

/// `namespace/name`; nodes have none of these, for they have no namespace.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectName {
    /// Where it lives.
    pub namespace: Arc<str>,
    /// What it is called there.
    pub name: Arc<str>,
}

impl ObjectName {
    /// Both parts.
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// Another object of the same namespace.
    pub fn sibling(&self, name: &str) -> Self {
        Self { namespace: Arc::clone(&self.namespace), name: name.into() }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl fmt::Debug for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
