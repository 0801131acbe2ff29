//! The CustomResourceDefinitions: what is committed is what the Rust types say, and a cluster can take it.

use std::path::Path;

use controlplane::crd;
use controlplane::object::Kind;
use serde_json::Value;

#[test]
fn the_committed_files_are_what_the_types_say() {
    for kind in Kind::ALL {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../helm/crds").join(crd::file_name(kind));
        let committed = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(committed == crd::yaml(kind), "{} is out of date. Run: {}", file.display(), crd::GENERATED_BY);
    }
}

#[test]
fn names_are_those_of_the_kind() {
    for kind in Kind::ALL {
        let made = crd::generate(kind);
        assert_eq!(made["metadata"]["name"], format!("{}.{}", kind.plural(), kind.group()));
        assert_eq!(made["spec"]["names"]["kind"], kind.name());
        assert_eq!(made["spec"]["names"]["singular"], kind.name().to_lowercase());
        assert_eq!(made["spec"]["names"].get("shortNames"), None, "Kthena has none");
        assert_eq!(made["spec"]["scope"], "Namespaced");
        assert_eq!(made["spec"]["versions"].as_array().unwrap().len(), 1);
        assert_eq!(made["spec"]["versions"][0]["name"], crd::VERSION);
    }
}

#[test]
fn every_kind_has_a_status_with_conditions_and_an_age() {
    for kind in Kind::ALL {
        let version = crd::generate(kind)["spec"]["versions"][0].take();
        assert!(version["subresources"]["status"].is_object(), "{kind}");
        let conditions = &crd::schema(kind)["properties"]["status"]["properties"]["conditions"];
        assert_eq!(conditions["x-kubernetes-list-map-keys"], serde_json::json!(["type"]), "{kind}");
        let columns = version["additionalPrinterColumns"].as_array().unwrap();
        assert_eq!(columns.last().unwrap()["name"], "Age", "{kind}");
    }
}

#[test]
fn a_model_serving_can_be_scaled_by_kubernetes() {
    let scale = crd::generate(Kind::ModelServing)["spec"]["versions"][0]["subresources"]["scale"].take();
    let wanted = serde_json::json!({
        "specReplicasPath": ".spec.replicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.labelSelector",
    });
    assert_eq!(scale, wanted);
}

/// `kubectl apply` keeps the whole object in an annotation of at most 262,144 bytes.
#[test]
fn kubectl_apply_can_send_them() {
    for kind in Kind::ALL {
        let bytes = crd::generate(kind).to_string().len();
        assert!(bytes < 250_000, "{kind}: {bytes} bytes");
    }
}

#[test]
fn patterns_compile_and_rules_say_what_to_do() {
    fn walk(node: &Value, at: &str) {
        if let Some(pattern) = node["pattern"].as_str() {
            assert!(regex::Regex::new(pattern).is_ok(), "{at}: {pattern}");
        }
        for rule in node["x-kubernetes-validations"].as_array().into_iter().flatten() {
            assert!(rule["message"].as_str().is_some_and(|m| m.len() > 15), "{at}: {rule}");
        }
        assert!(node.get("nullable").is_none(), "{at}: a null must be an absent field");
        match node {
            Value::Object(fields) => fields.iter().for_each(|(name, child)| walk(child, &format!("{at}.{name}"))),
            Value::Array(items) => items.iter().for_each(|child| walk(child, at)),
            _ => {}
        }
    }
    Kind::ALL.iter().for_each(|kind| walk(&crd::schema(*kind)["properties"]["spec"], kind.name()));
}

/// An API server's CEL does not see a field without a type: it refuses the whole definition.
#[test]
fn rules_speak_of_fields_that_cel_sees() {
    fn walk(node: &Value, at: &str) {
        for rule in node["x-kubernetes-validations"].as_array().into_iter().flatten() {
            for (name, property) in node["properties"].as_object().into_iter().flatten() {
                let seen = property["type"].is_string() || property["x-kubernetes-int-or-string"] == true;
                let named = rule["rule"].as_str().unwrap().contains(&format!("self.{name}"));
                assert!(seen || !named, "{at}: {name} has no type, but {rule} speaks of it");
            }
        }
        if let Value::Object(fields) = node {
            fields.iter().for_each(|(name, child)| walk(child, &format!("{at}.{name}")));
        }
    }
    Kind::ALL.iter().for_each(|kind| walk(&crd::schema(*kind), kind.name()));
}

/// What the references say an absent field means, applied without an API server.
#[test]
fn defaults_are_those_of_the_references() {
    use controlplane::object::{Object, Unknown, admit};
    let object = serde_json::json!({
        "apiVersion": "workload.serving.volcano.sh/v1alpha1", "kind": "AutoscalingPolicy", "metadata": {"name": "a"},
        "spec": {"metrics": [{"name": "m", "targetValue": 1}]},
    });
    let check = |behavior: Value, pointer: &str, expected: Value| {
        let mut object = object.clone();
        object["spec"]["behavior"] = behavior.clone();
        let Ok(Object::AutoscalingPolicy(policy)) = admit(Kind::AutoscalingPolicy, object, Unknown::Refuse) else {
            panic!("{behavior} is refused");
        };
        let found = serde_json::to_value(&policy.spec.behavior).unwrap();
        assert_eq!(found.pointer(pointer), Some(&expected), "{behavior}");
    };
    let down = serde_json::json!({
        "instances": 0, "percent": 100, "period": "1m", "selectPolicy": "Or", "stabilizationWindow": "5m",
    });
    let stable = serde_json::json!({
        "instances": 4, "percent": 100, "period": "1m", "selectPolicy": "Or", "stabilizationWindow": "0s",
    });
    let no_panic = serde_json::json!({
        "percent": 0, "period": "0s", "panicThresholdPercent": 200, "panicModeHold": "0s",
    });
    check(Value::Null, "/scaleDown", down.clone());
    check(Value::Null, "/scaleUp/stablePolicy", stable.clone());
    check(serde_json::json!({"scaleUp": {}}), "/scaleUp/panicPolicy", no_panic);
    check(serde_json::json!({"scaleUp": {}}), "/scaleDown", down);
    let own = serde_json::json!({
        "instances": 1, "percent": 100, "period": "15s", "selectPolicy": "Or", "stabilizationWindow": "5m",
    });
    check(serde_json::json!({"scaleDown": {}}), "/scaleDown", own);
    check(serde_json::json!({"scaleDown": {}}), "/scaleUp/stablePolicy", stable);
    let panic = serde_json::json!({
        "percent": 1000, "period": "1m", "panicThresholdPercent": 200, "panicModeHold": "60s",
    });
    check(serde_json::json!({"scaleUp": {"panicPolicy": {"period": "1m"}}}), "/scaleUp/panicPolicy", panic);
}
