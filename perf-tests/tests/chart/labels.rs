//! Labels that the user gives in two places: what is said of fewer objects counts there, and no key is rendered twice, which `documents` would
//! refuse.

use perf_tests::helm::Render;
use serde_json::Value;

use crate::values::rendered;

#[test]
fn a_label_of_pods_or_monitors_comes_before_the_same_one_of_all_objects() {
    let set = [
        "node.enabled=true",
        "monitoring.monitors=true",
        "monitoring.alerts=true",
        "monitoring.dashboards=true",
        "global.commonLabels.team=all",
        "controlplane.podLabels.team=pods",
        "gateway.podLabels.team=pods",
        "node.podLabels.team=pods",
        "monitoring.labels.team=monitors",
    ];
    let api_versions = &["monitoring.coreos.com/v1"];
    let mut seen = [0, 0, 0];
    for object in rendered(&Render { set: &set, api_versions, ..Render::default() }) {
        let is_monitor = ["PodMonitor", "ServiceMonitor", "PrometheusRule"].contains(&object.kind());
        let expected = if is_monitor { "monitors" } else { "all" };
        assert_eq!(object.0["metadata"]["labels"]["team"], expected, "{object}");
        let of_pods = &object.0["spec"]["template"]["metadata"]["labels"]["team"];
        let is_workload = ["Deployment", "DaemonSet"].contains(&object.kind());
        assert!(!is_workload || of_pods == "pods", "{object}: {of_pods}");
        seen = [seen[0] + 1, seen[1] + u32::from(is_monitor), seen[2] + u32::from(of_pods != &Value::Null)];
    }
    assert!(seen[0] > 30 && seen[1..] == [4, 4], "{seen:?}");
}
