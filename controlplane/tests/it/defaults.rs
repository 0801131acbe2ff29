//! The defaults in the definitions: each is one that some accepted object of the corpus leaves out, so that the comparison with what a real API
//! server fills in (perf-tests, `verdicts`) is of all of them.

use std::collections::BTreeSet;

use controlplane::crd;
use controlplane::object::{Kind, Unknown, conform};
use serde_json::Value;

use crate::corpus::corpus;

#[test]
fn every_default_is_one_that_some_object_leaves_out() {
    let mut never = Vec::new();
    for kind in Kind::ALL {
        let schema = crd::schema(kind);
        let (mut there, mut filled) = (BTreeSet::new(), BTreeSet::new());
        all(&schema, "", &mut there);
        for (_, case) in corpus().into_iter().filter(|(_, case)| Kind::of(&case.object) == Some(kind)) {
            if case.expect.refused_by.is_none() {
                let mut whole = case.object.clone();
                conform(kind, &mut whole, Unknown::Refuse);
                filled_in(&schema, Some(&case.object), &whole, "", &mut filled);
            }
        }
        assert!(!there.is_empty() || kind == Kind::ExternalModelProvider, "{kind} has no defaults");
        // A rule refuses what would have it.
        there.remove(".spec.heterogeneousTarget.params[].target.subTargets.kind");
        never.extend(there.difference(&filled).map(|path| format!("{kind}: {path}")));
    }
    assert!(never.is_empty(), "no accepted object of the corpus leaves these out:\n{}", never.join("\n"));
}

/// What is the API server's, or of Kubernetes' own types, whose defaults are theirs.
const NOT_OURS: [&str; 6] = ["status", "entryTemplate", "workerTemplate", "env", "envFrom", "secretRef"];

/// Where the schema has defaults of ours.
fn all(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        if NOT_OURS.contains(&name.as_str()) {
            continue;
        }
        let path = format!("{path}.{name}");
        if field.get("default").is_some() {
            found.insert(path.clone());
        }
        all(field, &path, found);
    }
    for within in ["items", "additionalProperties"].into_iter().filter_map(|within| schema.get(within)) {
        all(within, &format!("{path}[]"), found);
    }
}

/// Where an object has got them.
fn filled_in(schema: &Value, before: Option<&Value>, after: &Value, path: &str, found: &mut BTreeSet<String>) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let (path, before) = (format!("{path}.{name}"), before.and_then(|before| before.get(name)));
        let Some(after) = after.get(name) else { continue };
        if before.is_none() && field.get("default").is_some() {
            found.insert(path.clone());
        }
        filled_in(field, before, after, &path, found);
    }
    let path = format!("{path}[]");
    for (n, item) in after.as_array().into_iter().flatten().enumerate() {
        filled_in(&schema["items"], before.and_then(|before| before.get(n)), item, &path, found);
    }
    for (key, item) in after.as_object().into_iter().flatten().filter(|_| schema["additionalProperties"].is_object()) {
        filled_in(&schema["additionalProperties"], before.and_then(|before| before.get(key)), item, &path, found);
    }
}
