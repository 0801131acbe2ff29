//! One object as `kubectl apply` takes it, read as an API server would, with all that is wrong.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use crate::crd::{ExternalModelProviderSpec, ModelRouteSpec, ModelServerSpec};
use crate::object::{self, Kind, Object, Unknown};
use crate::quarantine;
use crate::world::{Credentials, LastGood, ObjectName, Pod};

mod name;
mod pod;
mod secret;
mod written;

pub(crate) use written::{custom as written_custom, scheduler as written_scheduler, written};

/// The scheduler's ConfigMap and its entry, as Kthena's chart names them.
pub(crate) const SCHEDULER: (&str, &str) = ("kthena-router-config", "routerConfiguration");
/// Its annotation in which its last good form is kept, for it has no status: JSON of that text, of the
/// resourceVersion that had it, and of the ConfigMap's UID.
pub(crate) const SCHEDULER_LAST_GOOD: &str = "networking.serving.volcano.sh/last-good-router-configuration";
/// Marks the Secrets that are read, with the value `true`.
pub(super) const CREDENTIAL_LABEL: &str = "networking.serving.volcano.sh/external-model-provider-credential";

/// An object that counts here.
#[derive(Debug, Clone)]
pub enum Manifest {
    /// A ModelRoute.
    Route(Custom<ModelRouteSpec>),
    /// A ModelServer.
    Server(Custom<ModelServerSpec>),
    /// An ExternalModelProvider.
    Provider(Custom<ExternalModelProviderSpec>),
    /// A pod.
    Pod(Arc<Pod>),
    /// A node's labels.
    Node(Arc<str>, Arc<BTreeMap<String, String>>),
    /// A Secret with credentials for an external provider; what it holds has been let go.
    Secret(ObjectName, Credentials),
    /// The scheduler's configuration, as text.
    Scheduler(Custom<String>),
}

impl Manifest {
    /// The ModelRoute that it is.
    pub(super) fn route(&self) -> Option<&Custom<ModelRouteSpec>> {
        if let Self::Route(custom) = self { Some(custom) } else { None }
    }

    /// The ModelServer that it is.
    pub(super) fn server(&self) -> Option<&Custom<ModelServerSpec>> {
        if let Self::Server(custom) = self { Some(custom) } else { None }
    }

    /// The configuration that it is.
    pub(super) fn scheduler(&self) -> Option<&Custom<String>> {
        if let Self::Scheduler(custom) = self { Some(custom) } else { None }
    }
}

/// A custom resource that was admitted, or a text in the place of one.
#[derive(Debug)]
pub struct Custom<T> {
    /// `namespace/name`.
    pub name: ObjectName,
    /// `metadata.generation`, 0 where it is absent.
    pub generation: i64,
    /// What it asks for.
    pub spec: Arc<T>,
}

impl<T> Custom<T> {
    /// As a form that was good before a newer one.
    pub(super) fn former(&self) -> Arc<LastGood<T>> {
        Arc::new(LastGood { generation: self.generation, spec: Arc::clone(&self.spec) })
    }
}

impl<T> Clone for Custom<T> {
    fn clone(&self) -> Self {
        Self { name: self.name.clone(), generation: self.generation, spec: Arc::clone(&self.spec) }
    }
}

/// What an object is and is called; unique among the objects of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// As in the object.
    pub kind: &'static str,
    /// Empty where the kind has none.
    pub namespace: Arc<str>,
    /// Within the namespace.
    pub name: Arc<str>,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.namespace {
            "" => write!(f, "{} {}", self.kind, self.name),
            namespace => write!(f, "{} {namespace}/{}", self.kind, self.name),
        }
    }
}

/// What became of one object.
#[derive(Debug, Clone)]
pub enum Read {
    /// It counts.
    Object(Identity, Manifest),
    /// It is of a kind that does not count here, or no object at all.
    Other,
    /// It cannot be taken; named where its name could be read.
    Refused(Option<Identity>, Vec<String>),
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Head {
    api_version: String,
    kind: String,
    metadata: Metadata,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    generation: Option<i64>,
    deletion_timestamp: Option<String>,
    labels: Option<BTreeMap<String, String>>,
}

/// The kinds that are read: those that Kthena defines, and those of Kubernetes that the publisher needs.
#[derive(Clone, Copy)]
enum Known {
    Ours(Kind),
    Pod,
    Node,
    Secret,
    ConfigMap,
}

impl Known {
    fn of(head: &Head, value: &Value) -> Option<Self> {
        if let Some(kind) = Kind::of(value) {
            return Some(Self::Ours(kind));
        }
        match (head.api_version.as_str(), head.kind.as_str()) {
            ("v1", "Pod") => Some(Self::Pod),
            ("v1", "Node") => Some(Self::Node),
            ("v1", "Secret") => Some(Self::Secret),
            ("v1", "ConfigMap") => Some(Self::ConfigMap),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Ours(kind) => kind.name(),
            Self::Pod => "Pod",
            Self::Node => "Node",
            Self::Secret => "Secret",
            Self::ConfigMap => "ConfigMap",
        }
    }
}

/// Reads one object. Fields that our schemas do not have are refused in a file that somebody wrote, and dropped from what an
/// API server took.
pub fn read(value: Value, unknown: Unknown) -> Read {
    read_by(value, |known, identity, metadata, value| manifest(known, identity, metadata, value, unknown))
}

/// None where the object is one of those of its kind that do not count.
type Says = Result<Option<Manifest>, Vec<String>>;

fn read_by(value: Value, manifest: impl FnOnce(Known, &Identity, Metadata, Value) -> Says) -> Read {
    let head = match Head::deserialize(&value) {
        Ok(head) => head,
        Err(error) => return Read::Refused(None, vec![error.to_string()]),
    };
    let Some(known) = Known::of(&head, &value) else {
        // A file of something else may lie in the directory; half of it is a slip.
        return match head.kind.is_empty() == head.api_version.is_empty() {
            true => Read::Other,
            false => Read::Refused(None, vec!["an object has both apiVersion and kind".to_owned()]),
        };
    };
    let namespace = match known {
        Known::Node => "",
        _ => head.metadata.namespace.as_deref().unwrap_or("default"),
    };
    let name = head.metadata.name.as_deref().unwrap_or_default();
    let identity = Identity { kind: known.name(), namespace: namespace.into(), name: name.into() };
    let mut problems = name::check(&identity, head.metadata.labels.as_ref());
    let said = quarantine::guarded(&identity, || manifest(known, &identity, head.metadata, value));
    match said.unwrap_or_else(|sentence| Err(vec![sentence])) {
        Ok(Some(manifest)) if problems.is_empty() => return Read::Object(identity, manifest),
        Ok(None) if problems.is_empty() => return Read::Other,
        Ok(_) => {}
        Err(more) => {
            // What is wrong with a name by itself is said by both.
            let of_the_name = |problem: &String| problem.starts_with("metadata.name:");
            let said_already = problems.iter().any(of_the_name);
            problems.extend(more.into_iter().filter(|problem| !(said_already && of_the_name(problem))));
        }
    }
    Read::Refused((!identity.name.is_empty()).then_some(identity), problems)
}

fn manifest(known: Known, identity: &Identity, metadata: Metadata, value: Value, unknown: Unknown) -> Says {
    let name = ObjectName::new(Arc::clone(&identity.namespace), Arc::clone(&identity.name));
    let labels = metadata.labels.unwrap_or_default();
    Ok(Some(match known {
        Known::Ours(kind) => return custom(kind, name, metadata.generation.unwrap_or_default(), value, unknown),
        Known::Pod => {
            let identity = pod::Identity { name, uid: metadata.uid, labels, deleted: metadata.deletion_timestamp };
            Manifest::Pod(Arc::new(pod::trim(identity, value)?))
        }
        Known::Node => Manifest::Node(name.name, Arc::new(labels)),
        Known::Secret if labels.get(CREDENTIAL_LABEL).is_some_and(|value| value == "true") => {
            Manifest::Secret(name, secret::trim(&value)?)
        }
        Known::ConfigMap if &*name.name == SCHEDULER.0 => match &value["data"][SCHEDULER.1] {
            Value::String(text) => {
                let (generation, spec) = (metadata.generation.unwrap_or_default(), Arc::new(text.clone()));
                Manifest::Scheduler(Custom { name, generation, spec })
            }
            _ => return Err(vec![format!("data.{}: is missing", SCHEDULER.1)]),
        },
        Known::Secret | Known::ConfigMap => return Ok(None),
    }))
}

/// One of Kthena's kinds; those that the publisher does not read are checked all the same.
fn custom(
    kind: Kind,
    name: ObjectName,
    generation: i64,
    value: Value,
    unknown: Unknown,
) -> Result<Option<Manifest>, Vec<String>> {
    let object = object::admit(kind, value, unknown)
        .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    Ok(match object {
        Object::ModelRoute(o) => Some(Manifest::Route(Custom { name, generation, spec: Arc::new(o.spec) })),
        Object::ModelServer(o) => Some(Manifest::Server(Custom { name, generation, spec: Arc::new(o.spec) })),
        Object::ExternalModelProvider(o) => {
            Some(Manifest::Provider(Custom { name, generation, spec: Arc::new(o.spec) }))
        }
        Object::ModelServing(_)
        | Object::ModelBooster(_)
        | Object::AutoscalingPolicy(_)
        | Object::AutoscalingPolicyBinding(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn c09_an_object_that_makes_us_panic_is_a_refused_one() {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "d"}});
        let Read::Refused(Some(identity), problems) = read_by(pod, |_, _, _, _| panic!("of the test")) else {
            panic!("it counts")
        };
        assert_eq!(identity.to_string(), "Pod d/p");
        assert!(problems.len() == 1 && problems[0].contains("please report it"), "{problems:?}");
    }
}
