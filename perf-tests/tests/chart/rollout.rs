//! What a roll-out replaces, and where the next pods come to be.

use std::fs;
use std::path::Path;
use std::process::Command;

use perf_tests::helm::{chart, documents, helm};
use serde_json::{Value, json};

use crate::object::{Object, find, items, selects};
use crate::values::with;

/// Pinned, so that a version of the chart brings no other.
const SET: [&str; 4] = ["node.enabled=true", "controlplane.image.tag=v1", "gateway.image.tag=v1", "node.image.tag=v1"];

/// The workloads of a copy of the chart with this version of chart and programs.
fn of_version(version: &str) -> Vec<Object> {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("kthena");
    assert!(Command::new("cp").arg("-r").arg(chart()).arg(&copy).status().unwrap().success());
    set_version(&copy.join("Chart.yaml"), version);
    let mut arguments = vec!["template", "kthena", copy.to_str().unwrap()];
    SET.iter().for_each(|set| arguments.extend(["--set", set]));
    let output = helm(&arguments).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let objects = documents(&String::from_utf8(output.stdout).unwrap()).unwrap();
    let workloads =
        objects.into_iter().map(Object).filter(|object| ["Deployment", "DaemonSet"].contains(&object.kind()));
    workloads.collect()
}

fn set_version(file: &Path, version: &str) {
    let text = fs::read_to_string(file).unwrap();
    let lines = text.lines().map(|line| match line.split_once(": ") {
        Some((key @ ("version" | "appVersion"), _)) => format!("{key}: {version}\n"),
        _ => format!("{line}\n"),
    });
    fs::write(file, lines.collect::<String>()).unwrap();
}

#[test]
fn a_new_version_of_the_chart_replaces_no_pod_of_which_nothing_else_changed() {
    let (before, after) = (of_version("1.2.3"), of_version("1.2.4"));
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
