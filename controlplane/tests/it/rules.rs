//! The CEL rules in the definitions, run in process: an API server alone refuses what the corpus says that it refuses, and nothing
//! else. So a rule and its twin in `validate` cannot drift apart.

use controlplane::crd;
use controlplane::object::{Kind, Unknown, conform};
use kube_cel::{compile_schema, validate_compiled};
use serde_json::Value;

use crate::corpus::{By, corpus};

#[test]
fn the_schema_refuses_what_the_corpus_says() {
    let mut wrong = Vec::new();
    for kind in Kind::ALL {
        let rules = compile_schema(&crd::schema(kind));
        for (file, case) in corpus().into_iter().filter(|(_, case)| Kind::of(&case.object) == Some(kind)) {
            let (mut object, mut old) = (case.object, case.old);
            let mut found: Vec<String> =
                conform(kind, &mut object, Unknown::Refuse).iter().map(ToString::to_string).collect();
            old.iter_mut().for_each(|old| assert!(conform(kind, old, Unknown::Refuse).is_empty()));
            // An API server does not run the rules of an object whose schema does not fit.
            if found.is_empty()
                && let Err(errors) = validate_compiled(&rules, &object, old.as_ref())
            {
                found.extend(errors.as_slice().iter().map(ToString::to_string));
            }
            if found.is_empty() != (case.expect.refused_by != Some(By::Schema)) {
                wrong.push(format!("{file}: {}: expected {:?}, found {found:?}", case.name, case.expect.refused_by));
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_rule_is_one_that_some_object_breaks() {
    let mut unbroken = Vec::new();
    for kind in Kind::ALL {
        let schema = crd::schema(kind);
        let compiled = compile_schema(&schema);
        let mut said = Vec::new();
        for (_, case) in corpus().into_iter().filter(|(_, case)| Kind::of(&case.object) == Some(kind)) {
            let (mut object, mut old) = (case.object, case.old);
            conform(kind, &mut object, Unknown::Refuse);
            old.iter_mut().for_each(|old| drop(conform(kind, old, Unknown::Refuse)));
            if let Err(errors) = validate_compiled(&compiled, &object, old.as_ref()) {
                said.extend(errors.as_slice().iter().map(|error| error.rule.clone()));
            }
        }
        let mut rules = Vec::new();
        collect(&schema, &mut rules);
        unbroken.extend(rules.into_iter().filter(|rule| !said.contains(rule)).map(|rule| format!("{kind}: {rule}")));
    }
    assert!(unbroken.is_empty(), "no object of the corpus breaks these rules:\n{}", unbroken.join("\n"));
}

fn collect(node: &Value, rules: &mut Vec<String>) {
    for rule in node["x-kubernetes-validations"].as_array().into_iter().flatten() {
        rules.extend(rule["rule"].as_str().map(str::to_owned));
    }
    match node {
        Value::Object(fields) => fields.values().for_each(|child| collect(child, rules)),
        Value::Array(items) => items.iter().for_each(|child| collect(child, rules)),
        _ => {}
    }
}
