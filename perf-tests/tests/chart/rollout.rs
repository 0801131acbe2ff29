//! What a roll-out replaces, and where the next pods come to be.

use serde_json::{Value, json};

use crate::copies::of_version;
use crate::object::{Object, find, items, selects};
use crate::values::with;

/// Pinned, so that a version of the chart brings no other.
const SET: [&str; 4] = ["node.enabled=true", "controlplane.image.tag=v1", "gateway.image.tag=v1", "node.image.tag=v1"];

/// The workloads of a copy of the chart with this version of chart and programs.
fn workloads(version: &str) -> Vec<Object> {
    let objects = of_version(version, &SET).into_iter();
    objects.filter(|object| ["Deployment", "DaemonSet"].contains(&object.kind())).collect()
}

#[test]
fn a_new_version_of_the_chart_replaces_no_pod_of_which_nothing_else_changed() {
    let (before, after) = (workloads("1.2.3"), workloads("1.2.4"));
    assert_eq!(before.len(), 3);
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(before.at("/spec/template"), after.at("/spec/template"), "{before}");
        assert_eq!(before.at("/spec/selector"), after.at("/spec/selector"), "{before}");
        assert_eq!(after.at("/metadata/labels")["app.kubernetes.io/version"], "1.2.4", "of the object itself");
        // What has to be known of pods stays known.
        let labels = after.at("/spec/template/metadata/labels");
        assert!(
            selects(after.at("/spec/selector/matchLabels"), labels) && labels["app.kubernetes.io/part-of"] == "kthena"
        );
    }
}

/// Else the pods of the old revision count, and those of the new one are on few nodes once the old ones are gone.
#[test]
fn the_pods_of_a_revision_are_spread_among_themselves() {
    let objects = with(&[]);
    for name in ["kthena-router", "kthena-controlplane"] {
        let constraints =
            find(&objects, "Deployment", name).at("/spec/template/spec/topologySpreadConstraints").clone();
        assert_eq!(items(&constraints).count(), 2);
        for constraint in items(&constraints) {
            assert_eq!(constraint["matchLabelKeys"], json!(["pod-template-hash"]), "{name}: {constraint}");
            assert_ne!(constraint["labelSelector"]["matchLabels"], Value::Null);
        }
    }
}
