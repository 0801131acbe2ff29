//! An object of ours, from JSON to a typed value that its kind's `validate` accepts.

mod kind;
mod structural;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::crd;
use crate::problem::{At, Problem, Problems, SPEC};
use crate::{
    autoscaling_policy, autoscaling_policy_binding, external_model_provider, model_booster, model_route, model_server,
    model_serving, naming,
};

pub use kind::Kind;

/// What happens to fields that the schema does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// They are problems: a person wrote them just now, and nothing would come of them.
    Refuse,
    /// They are dropped: the API server took them, so its schema is newer than ours.
    Drop,
}

/// An object that was admitted: its schema and its kind's `validate` have no objection. Routes and servers are many, the large
/// kinds few: those are boxed.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum Object {
    ModelRoute(crd::ModelRoute),
    ModelServer(crd::ModelServer),
    ExternalModelProvider(crd::ExternalModelProvider),
    ModelServing(Box<crd::ModelServing>),
    ModelBooster(Box<crd::ModelBooster>),
    AutoscalingPolicy(Box<crd::AutoscalingPolicy>),
    AutoscalingPolicyBinding(Box<crd::AutoscalingPolicyBinding>),
}

impl Object {
    /// Its metadata.
    pub fn meta(&self) -> &ObjectMeta {
        match self {
            Self::ModelRoute(object) => object.meta(),
            Self::ModelServer(object) => object.meta(),
            Self::ExternalModelProvider(object) => object.meta(),
            Self::ModelServing(object) => object.meta(),
            Self::ModelBooster(object) => object.meta(),
            Self::AutoscalingPolicy(object) => object.meta(),
            Self::AutoscalingPolicyBinding(object) => object.meta(),
        }
    }

    /// What its kind says against it.
    fn judge(&self) -> Vec<Problem> {
        let name = self.meta().name.as_deref().unwrap_or_default();
        let namespace = self.meta().namespace.as_deref().unwrap_or("default");
        let verdict = match self {
            Self::ModelRoute(object) => model_route::validate(&object.spec).map(drop),
            Self::ModelServer(object) => model_server::validate(&object.spec).map(drop),
            Self::ExternalModelProvider(object) => external_model_provider::validate(&object.spec).map(drop),
            Self::ModelServing(object) => model_serving::validate(name, &object.spec).map(drop),
            Self::ModelBooster(object) => model_booster::validate(name, &object.spec).map(drop),
            Self::AutoscalingPolicy(object) => autoscaling_policy::validate(namespace, &object.spec).map(drop),
            Self::AutoscalingPolicyBinding(object) => {
                autoscaling_policy_binding::validate(namespace, &object.spec).map(drop)
            }
        };
        verdict.err().unwrap_or_default()
    }

    /// What is wrong with putting it in the place of an older self.
    pub fn replaces(&self, old: &Self) -> Vec<Problem> {
        match (old, self) {
            (Self::ModelRoute(old), Self::ModelRoute(new)) => model_route::transition(&old.spec, &new.spec),
            (Self::ModelServing(old), Self::ModelServing(new)) => model_serving::transition(&old.spec, &new.spec),
            _ => Vec::new(),
        }
    }
}

/// What an API server does alone, but for CEL: applies nulls and defaults to the object, and checks its schema.
pub fn conform(kind: Kind, value: &mut Value, unknown: Unknown) -> Vec<Problem> {
    let mut problems = Problems::default();
    if let Value::Object(fields) = &mut *value {
        // A status, as `kubectl get -o yaml` prints it, is not the user's to say; API servers drop it too. In what they say
        // themselves it is another's, and its form is nothing against the object.
        fields.remove("status");
        if unknown == Unknown::Refuse {
            top_level(fields, &mut problems);
        }
    }
    metadata(value, &mut problems);
    let schema = &kind.schema()["properties"]["spec"];
    match value.get_mut("spec") {
        Some(spec) if !spec.is_null() => structural::conform(schema, spec, unknown, &SPEC, &mut problems),
        _ => problems.add(&SPEC, format!("is missing: write what the {kind} is to be")),
    }
    problems.into_vec()
}

/// Checks all of an object: its schema, and what the kind itself requires. `kind` is what [`Kind::of`] found. Where a value has the
/// wrong type the kind cannot be asked, and only the schema's objections are said.
pub fn admit(kind: Kind, mut value: Value, unknown: Unknown) -> Result<Object, Vec<Problem>> {
    let mut problems = Problems::default();
    problems.extend(conform(kind, &mut value, unknown));
    match typed(kind, value) {
        // Judged even where the schema has objections, so that all problems are said at once.
        Ok(object) => {
            problems.extend(object.judge());
            problems.or(object)
        }
        Err(error) => {
            let mut problems = problems.into_vec();
            if problems.is_empty() {
                problems.push(Problem { path: "spec".to_owned(), sentence: error.to_string() });
            }
            Err(problems)
        }
    }
}

fn top_level(fields: &Map<String, Value>, problems: &mut Problems) {
    let known = |name: &str| ["apiVersion", "kind", "metadata", "spec"].contains(&name);
    for name in fields.keys().filter(|name| !known(name)) {
        problems.add(&At::Root.field(name), "no such field: an object has metadata and spec");
    }
}

fn metadata(value: &Value, problems: &mut Problems) {
    let at = At::Field(&At::Root, "metadata");
    let name = value["metadata"]["name"].as_str();
    let generated = value["metadata"]["generateName"].is_string();
    let sentence = "must be lower-case letters, digits, '-' and '.', and begin and end with a letter or digit";
    match name {
        Some(name) => problems.require(naming::is_subdomain(name), &at.field("name"), sentence),
        None => problems.require(generated, &at.field("name"), "is missing: an object needs a name"),
    }
}

fn typed(kind: Kind, value: Value) -> Result<Object, serde_json::Error> {
    fn of<T: DeserializeOwned>(value: Value) -> Result<T, serde_json::Error> {
        serde_json::from_value(value)
    }
    Ok(match kind {
        Kind::ModelRoute => Object::ModelRoute(of(value)?),
        Kind::ModelServer => Object::ModelServer(of(value)?),
        Kind::ExternalModelProvider => Object::ExternalModelProvider(of(value)?),
        Kind::ModelServing => Object::ModelServing(Box::new(of(value)?)),
        Kind::ModelBooster => Object::ModelBooster(Box::new(of(value)?)),
        Kind::AutoscalingPolicy => Object::AutoscalingPolicy(Box::new(of(value)?)),
        Kind::AutoscalingPolicyBinding => Object::AutoscalingPolicyBinding(Box::new(of(value)?)),
    })
}
