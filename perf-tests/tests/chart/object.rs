//! An object as it was rendered, and what tests ask of it.

use std::fmt;

use serde_json::Value;

pub struct Object(pub Value);

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind(), self.name())
    }
}

impl Object {
    pub fn kind(&self) -> &str {
        self.0["kind"].as_str().unwrap()
    }

    pub fn name(&self) -> &str {
        self.0["metadata"]["name"].as_str().unwrap()
    }

    pub fn at(&self, pointer: &str) -> &Value {
        self.0.pointer(pointer).unwrap_or_else(|| panic!("{self} has no {pointer}"))
    }

    /// The pod of a workload, or the pod itself: its labels and its spec.
    pub fn pod(&self) -> Option<(&Value, &Value)> {
        match self.kind() {
            "Deployment" | "DaemonSet" | "Job" => {
                let template = &self.0["spec"]["template"];
                Some((&template["metadata"]["labels"], &template["spec"]))
            }
            "Pod" => Some((&self.0["metadata"]["labels"], &self.0["spec"])),
            _ => None,
        }
    }

    pub fn containers(&self) -> Vec<&Value> {
        let Some((_, spec)) = self.pod() else { return Vec::new() };
        ["initContainers", "containers"].into_iter().flat_map(|list| items(&spec[list])).collect()
    }

    pub fn is_hook(&self) -> bool {
        !self.0["metadata"]["annotations"]["helm.sh/hook"].is_null()
    }
}

/// The entries of a list, none where there is no list.
pub fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

pub fn find<'a>(objects: &'a [Object], kind: &str, name: &str) -> &'a Object {
    let found = objects.iter().find(|object| object.kind() == kind && object.name() == name);
    found.unwrap_or_else(|| {
        let all: Vec<_> = objects.iter().map(ToString::to_string).collect();
        panic!("no {kind} {name} among {all:?}")
    })
}

pub fn has(objects: &[Object], kind: &str, name: &str) -> bool {
    objects.iter().any(|object| object.kind() == kind && object.name() == name)
}

/// Whether labels have all that a selector asks for.
pub fn selects(selector: &Value, labels: &Value) -> bool {
    let wanted = selector.as_object().expect("a selector is a map");
    !wanted.is_empty() && wanted.iter().all(|(key, value)| labels[key.as_str()] == *value)
}
