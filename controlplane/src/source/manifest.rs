//! One object as `kubectl apply` takes it, read as an API server would: defaults filled in, unknown fields and bad names
//! refused with all that is wrong.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::crd::{ModelRouteSpec, ModelServerSpec};
use crate::world::{ObjectName, Pod};

mod name;
mod pod;

/// Kthena's group of ModelRoute, ModelServer and ExternalModelProvider.
const NETWORKING: &str = "networking.serving.volcano.sh/v1alpha1";
/// The scheduler's ConfigMap and its entry, as Kthena's chart names them.
const SCHEDULER: (&str, &str) = ("kthena-router-config", "routerConfiguration");
const CREDENTIAL_LABEL: &str = "networking.serving.volcano.sh/external-model-provider-credential";

/// An object that counts here.
#[derive(Debug, Clone)]
pub enum Manifest {
    /// A ModelRoute.
    Route(Custom<ModelRouteSpec>),
    /// A ModelServer.
    Server(Custom<ModelServerSpec>),
    /// A pod.
    Pod(Arc<Pod>),
    /// A node's labels.
    Node(Arc<str>, Arc<BTreeMap<String, String>>),
    /// A Secret with credentials for an external provider; what it holds has been let go.
    Secret(ObjectName),
    /// The scheduler's configuration, as text.
    Scheduler(ObjectName, Arc<str>),
}

/// A custom resource of one of our kinds.
#[derive(Debug)]
pub struct Custom<T> {
    /// `namespace/name`.
    pub name: ObjectName,
    /// `metadata.generation`, 0 where it is absent.
    pub generation: i64,
    /// What it asks for.
    pub spec: Arc<T>,
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

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
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
    /// It is of a kind that counts and cannot be read; named where its name could be.
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
    name: String,
    namespace: Option<String>,
    uid: Option<String>,
    generation: Option<i64>,
    deletion_timestamp: Option<String>,
    labels: Option<BTreeMap<String, String>>,
}

/// Reads one object.
pub fn read(value: Value) -> Read {
    let head = match Head::deserialize(&value) {
        Ok(head) => head,
        Err(error) => return Read::Refused(None, vec![error.to_string()]),
    };
    let Some((kind, namespaced)) = counted(&head) else {
        // A file of something else may lie in the directory; half of it is a slip.
        return match head.kind.is_empty() == head.api_version.is_empty() {
            true => Read::Other,
            false => Read::Refused(None, vec!["an object has both apiVersion and kind".to_owned()]),
        };
    };
    let namespace = if namespaced { head.metadata.namespace.as_deref().unwrap_or("default") } else { "" };
    let identity = Identity { kind, namespace: namespace.into(), name: head.metadata.name.as_str().into() };
    let problems = name::check(&identity, head.metadata.labels.as_ref());
    if !problems.is_empty() {
        return Read::Refused((!head.metadata.name.is_empty()).then_some(identity), problems);
    }
    let object = ObjectName::new(Arc::clone(&identity.namespace), Arc::clone(&identity.name));
    match typed(kind, object, head.metadata, value) {
        Ok(Some(manifest)) => Read::Object(identity, manifest),
        Ok(None) => Read::Other,
        Err(problems) => Read::Refused(Some(identity), problems),
    }
}

/// The kind, and whether it lives in a namespace.
fn counted(head: &Head) -> Option<(&'static str, bool)> {
    match (head.api_version.as_str(), head.kind.as_str()) {
        (NETWORKING, "ModelRoute") => Some(("ModelRoute", true)),
        (NETWORKING, "ModelServer") => Some(("ModelServer", true)),
        ("v1", "Pod") => Some(("Pod", true)),
        ("v1", "Node") => Some(("Node", false)),
        ("v1", "Secret") => Some(("Secret", true)),
        ("v1", "ConfigMap") => Some(("ConfigMap", true)),
        _ => None,
    }
}

fn typed(kind: &str, name: ObjectName, metadata: Metadata, value: Value) -> Result<Option<Manifest>, Vec<String>> {
    let generation = metadata.generation.unwrap_or_default();
    let labels = metadata.labels.unwrap_or_default();
    Ok(Some(match kind {
        "ModelRoute" => Manifest::Route(Custom { name, generation, spec: spec(value)? }),
        "ModelServer" => Manifest::Server(Custom { name, generation, spec: spec(value)? }),
        "Pod" => {
            let identity = pod::Identity { name, uid: metadata.uid, labels, deleted: metadata.deletion_timestamp };
            Manifest::Pod(Arc::new(pod::trim(identity, value)?))
        }
        "Node" => Manifest::Node(name.name, Arc::new(labels)),
        "Secret" if labels.get(CREDENTIAL_LABEL).is_some_and(|value| value == "true") => Manifest::Secret(name),
        "ConfigMap" if &*name.name == SCHEDULER.0 => {
            match value.pointer("/data").and_then(|data| data.get(SCHEDULER.1)) {
                Some(Value::String(text)) => Manifest::Scheduler(name, text.as_str().into()),
                _ => return Err(vec![format!("data.{}: is missing", SCHEDULER.1)]),
            }
        }
        _ => return Ok(None),
    }))
}

/// The spec alone: a status, as `kubectl get -o yaml` has it, is not the user's to say.
fn spec<T: DeserializeOwned>(mut value: Value) -> Result<Arc<T>, Vec<String>> {
    let spec = value.get_mut("spec").map(Value::take).unwrap_or(Value::Object(Default::default()));
    let mut unknown = Vec::new();
    let mut track = serde_path_to_error::Track::new();
    let reader = serde_path_to_error::Deserializer::new(&spec, &mut track);
    let read = serde_ignored::deserialize(reader, |path| {
        unknown.push(format!("spec{}: there is no such field", field(&path)));
    });
    match read {
        Err(error) => {
            let path = track.path().to_string();
            let at = if path == "." { "spec".to_owned() } else { format!("spec.{path}") };
            Err(vec![format!("{at}: {error}")])
        }
        Ok(_) if !unknown.is_empty() => Err(unknown),
        Ok(spec) => Ok(Arc::new(spec)),
    }
}

/// As `.rules[0].targetModels`.
fn field(path: &serde_ignored::Path<'_>) -> String {
    use serde_ignored::Path;
    match path {
        Path::Root => String::new(),
        Path::Seq { parent, index } => format!("{}[{index}]", field(parent)),
        Path::Map { parent, key } => format!("{}.{key}", field(parent)),
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => field(parent),
    }
}
