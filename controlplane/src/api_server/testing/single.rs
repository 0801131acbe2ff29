//! Requests about one object, as those make that elect a leader and write statuses.

use http::Method;
use serde_json::{Value, json};

use super::{Answer, Server, Write, at, objects, refusal, whole};
use crate::object::Kind;

/// What a path names: a list, or an object of it.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) plural: String,
    name: Option<String>,
    /// Its status alone.
    status: bool,
}

/// Lists of which objects are written here.
fn written() -> impl Iterator<Item = &'static str> {
    ["leases", "configmaps", "serviceaccounts"].into_iter().chain(Kind::ALL.map(Kind::plural))
}

impl Place {
    pub(super) fn of(path: &str) -> Self {
        let parts: Vec<_> = path.split('/').filter(|part| !part.is_empty()).collect();
        let rest = if parts.first() == Some(&"api") { &parts[2..] } else { &parts[3..] };
        let rest = if rest.len() > 2 && rest[0] == "namespaces" { &rest[2..] } else { rest };
        let name = rest.get(1).map(|name| (*name).to_owned());
        Self { plural: rest[0].to_owned(), name, status: rest.get(2) == Some(&"status") }
    }

    /// What is of no list.
    pub(super) fn page() -> Self {
        Self { plural: "pages".to_owned(), name: None, status: false }
    }

    /// How it is called among the requests that have come.
    pub(super) fn asked(&self) -> String {
        if self.name.is_some() { format!("one of {}", self.plural) } else { self.plural.clone() }
    }

    /// Whether a request is about all of the list.
    pub(super) fn is_list(&self, method: &Method) -> bool {
        self.name.is_none() && *method == Method::GET
    }
}

impl Server {
    pub(super) fn one(&self, method: &Method, place: &Place, body: &Value) -> Answer {
        let named = place.name.as_deref().or_else(|| body["metadata"]["name"].as_str()).unwrap_or_default();
        let Some(plural) = written().find(|plural| *plural == place.plural) else {
            return refusal(404, None);
        };
        let held = self.held(plural, named);
        match (method, held) {
            (&Method::GET, Some(held)) => whole(200, &held),
            (&Method::POST, None) => self.put(plural, named, body.clone()),
            (&Method::PUT | &Method::PATCH, Some(held)) => {
                if body["metadata"]["resourceVersion"] != held["metadata"]["resourceVersion"] {
                    return refusal(409, None);
                }
                self.put(plural, named, after(method, place, held, body))
            }
            (&Method::POST, Some(_)) => refusal(409, None),
            _ => refusal(404, None),
        }
    }

    fn put(&self, plural: &'static str, name: &str, object: Value) -> Answer {
        self.write(Write { plural, name: name.to_owned(), object: Some(object.into()) });
        whole(200, &self.held(plural, name).unwrap_or(json!(null)))
    }

    /// One with the version in which it was written last.
    pub(crate) fn held(&self, plural: &str, name: &str) -> Option<Value> {
        let inner = self.inner();
        let revision = inner.log.iter().rposition(|write| write.plural == plural && write.name == name)? + 1;
        let held = objects(&inner.log, plural, revision as u64).remove(name)?;
        Some(at(&held, revision as u64))
    }
}

/// The object as it is written: all of it, its status alone, or its annotations, of which nobody else has any here.
fn after(method: &Method, place: &Place, mut held: Value, body: &Value) -> Value {
    if place.status {
        held["status"] = body["status"].clone();
    } else if place.plural == "configmaps" && *method == Method::PATCH {
        held["metadata"]["annotations"] = body["metadata"]["annotations"].clone();
    } else {
        return body.clone();
    }
    held
}
