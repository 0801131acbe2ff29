//! Snapshots as words.

use std::net::SocketAddr;

use serde_json::{Value, json};

/// A route of this model to one backend.
pub(crate) fn route(model: &str, backend: &str) -> Value {
    json!({"name": format!("t/{}", model.replace('/', "-")), "model": model, "rules": [{"targets": [{"backend": backend}]}]})
}

/// A backend with these endpoints, named `t/<backend>-<n>`.
pub(crate) fn backend(name: &str, addresses: &[SocketAddr]) -> Value {
    let endpoints = addresses.iter().enumerate();
    let endpoints: Vec<_> =
        endpoints.map(|(n, a)| json!({"name": format!("{name}-{n}"), "address": a.to_string()})).collect();
    json!({"name": name, "endpoints": endpoints})
}

/// The whole.
pub(crate) fn snapshot(routes: Vec<Value>, backends: Vec<Value>) -> Value {
    json!({"fleetSeed": "42", "routes": routes, "backends": backends})
}

/// Model `m` served by these endpoints.
pub(crate) fn serving(addresses: &[SocketAddr]) -> Value {
    snapshot(vec![route("m", "t/b")], vec![backend("t/b", addresses)])
}

/// A value with some fields set.
pub(crate) fn with(mut value: Value, fields: Value) -> Value {
    for (key, field) in fields.as_object().unwrap() {
        value[key] = field.clone();
    }
    value
}

/// Model `m` served by these endpoints, the backend with further fields.
pub(crate) fn serving_with(addresses: &[SocketAddr], fields: Value) -> Value {
    snapshot(vec![route("m", "t/b")], vec![with(backend("t/b", addresses), fields)])
}
