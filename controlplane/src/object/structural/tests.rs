//! One line of schema, one value, what becomes of it.

use serde_json::{Value, json};

use super::*;
use crate::problem::SPEC;

fn run(schema: &Value, mut value: Value, unknown: Unknown) -> (Value, Vec<String>) {
    let mut problems = Problems::default();
    conform(schema, &mut value, unknown, &SPEC, &mut problems);
    (value, problems.into_vec().iter().map(ToString::to_string).collect())
}

fn becomes(schema: Value, value: Value, expected: Value) {
    let (found, problems) = run(&schema, value.clone(), Unknown::Refuse);
    assert_eq!((found, problems), (expected, Vec::new()), "{value}");
}

fn refused(schema: Value, value: Value, expected: &[&str]) {
    let (_, problems) = run(&schema, value.clone(), Unknown::Refuse);
    let agree = problems.len() == expected.len() && problems.iter().zip(expected).all(|(p, e)| p.starts_with(e));
    assert!(agree, "{value}: {problems:?}, not {expected:?}");
}

fn fields(properties: Value) -> Value {
    json!({"type": "object", "properties": properties})
}

#[test]
fn a_null_is_an_absent_field_and_gets_the_default() {
    let schema = || fields(json!({"a": {"type": "string", "default": "x"}, "b": {"type": "string"}}));
    becomes(schema(), json!({"a": null, "b": null}), json!({"a": "x"}));
    becomes(schema(), json!({"a": ""}), json!({"a": ""}));
}

#[test]
fn a_default_gets_the_defaults_of_its_fields() {
    let inner = json!({"type": "object", "default": {}, "properties": {"n": {"type": "integer", "default": 3}}});
    becomes(fields(json!({"inner": inner})), json!({}), json!({"inner": {"n": 3}}));
}

#[test]
fn a_null_in_place_of_something_required_is_missing() {
    let schema = json!({"type": "object", "required": ["a"], "properties": {"a": {"type": "string"}}});
    refused(schema, json!({"a": null}), &["spec.a: is missing"]);
}

#[test]
fn types_are_not_converted() {
    refused(json!({"type": "string"}), json!(5), &["spec: must be a string, not 5: put it in quotes"]);
    refused(json!({"type": "integer"}), json!("5"), &["spec: must be an integer, not \"5\""]);
    refused(json!({"type": "integer"}), json!(1.5), &["spec: must be an integer"]);
    refused(json!({"type": "array", "items": {"type": "string"}}), json!("a"), &["spec: must be a list"]);
    refused(json!({"type": "boolean"}), json!("true"), &["spec: must be a boolean"]);
    refused(json!({"type": "object"}), json!([]), &["spec: must be an object with fields"]);
    becomes(json!({"x-kubernetes-int-or-string": true}), json!(5), json!(5));
    becomes(json!({"x-kubernetes-int-or-string": true}), json!("5%"), json!("5%"));
    refused(json!({"x-kubernetes-int-or-string": true}), json!(0.5), &["spec: must be an integer or a string"]);
}

#[test]
fn unknown_fields_are_refused_or_dropped_or_kept() {
    let schema = fields(json!({"modelName": {"type": "string"}}));
    refused(schema.clone(), json!({"modelname": "x"}), &["spec.modelname: no such field: write modelName"]);
    assert_eq!(run(&schema, json!({"new": 1}), Unknown::Drop), (json!({}), Vec::new()));
    let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    becomes(open, json!({"new": {"a": null}}), json!({"new": {"a": null}}));
    becomes(json!({"x-kubernetes-preserve-unknown-fields": true}), json!([1, null]), json!([1, null]));
}

#[test]
fn numbers_have_bounds() {
    let port = || json!({"type": "integer", "format": "int32", "minimum": 1, "maximum": 65535});
    becomes(port(), json!(65535), json!(65535));
    refused(port(), json!(0), &["spec: 0 is out of range, use 1 to 65535"]);
    refused(json!({"type": "integer", "minimum": 1}), json!(0), &["spec: 0 is too small, use at least 1"]);
    refused(
        json!({"type": "integer", "format": "int32"}),
        json!(3_000_000_000_u64),
        &["spec: 3000000000 is too large"],
    );
}

#[test]
fn lists_with_keys_hold_each_key_once() {
    let map = json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
        "items": fields(json!({"name": {"type": "string"}}))});
    refused(map, json!([{"name": "a"}, {"name": "b"}, {"name": "a"}]), &["spec[2]: \"a\" is there twice"]);
    let set = json!({"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}});
    refused(set, json!(["a", "a"]), &["spec[1]: \"a\" is there twice"]);
}

#[test]
fn all_problems_are_said_at_once() {
    let schema = json!({"type": "object", "required": ["z"], "properties": {
        "a": {"type": "string", "enum": ["x", "y"]}, "b": {"type": "array", "maxItems": 1, "items": {"type": "integer"}}}});
    refused(
        schema,
        json!({"a": "w", "b": [1, "2"]}),
        &[
            "spec.z: is missing",
            "spec.a: \"w\" is not known: use one of x, y",
            "spec.b: has 2 items",
            "spec.b[1]: must be",
        ],
    );
}
