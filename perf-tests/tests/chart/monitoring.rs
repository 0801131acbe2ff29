//! Dashboards and alerts ask for metrics that the programs have, in a language that Prometheus speaks.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use perf_tests::helm::{Render, chart};
use perf_tests::missing;
use serde_json::Value;

use crate::object::{find, items};
use crate::values::rendered;

/// The words of Prometheus's names in a text.
fn metrics(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let prefixes = ["kthena_router_", "kthena_controlplane_", "process_"];
    let ours = words.filter(|word| prefixes.iter().any(|prefix| word.starts_with(prefix)));
    ours.map(str::to_owned).collect()
}

/// What the programs export, by the names in their source.
fn exported() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let sources = [
        "dataplane/src/metrics/export.rs",
        "dataplane/src/metrics/export/kv.rs",
        "controlplane/src/metrics.rs",
        "process-metrics/src/lib.rs",
    ];
    sources.iter().flat_map(|path| metrics(&fs::read_to_string(root.join(path)).unwrap())).collect()
}

fn dashboards() -> Vec<(PathBuf, Value)> {
    let entries = fs::read_dir(chart().join("files/dashboards")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.map(|path| (path.clone(), serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap())).collect()
}

fn expressions(dashboard: &Value) -> Vec<String> {
    let targets = items(&dashboard["panels"]).flat_map(|panel| items(&panel["targets"]));
    targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect()
}

#[track_caller]
fn check_exported(what: &str, text: &str) {
    let exported = exported();
    assert!(exported.len() > 40, "the sources were not found: {exported:?}");
    for name in metrics(text) {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
        assert!(
            exported.contains(base) || exported.contains(&name),
            "{what} asks for {name}, which no program exports"
        );
    }
}

#[test]
fn every_metric_that_is_asked_for_is_exported() {
    check_exported("alerts.yaml", &fs::read_to_string(chart().join("files/alerts.yaml")).unwrap());
    for (path, dashboard) in dashboards() {
        let expressions = expressions(&dashboard);
        assert!(expressions.len() > 5, "{}", path.display());
        expressions.iter().for_each(|expression| check_exported(&path.display().to_string(), expression));
    }
}

/// What operators are to see, and what of it a panel has to ask for.
const SUBJECTS: [(&str, &[&str]); 9] = [
    ("traffic by model", &["sum by (model) (rate(kthena_router_requests_total"]),
    ("traffic by endpoint", &["sum by (endpoint_name) (rate(kthena_router_endpoint_attempts_total"]),
    ("time to the first token", &["kthena_router_time_to_first_token_seconds_bucket"]),
    ("gaps", &["kthena_router_inter_event_gap_seconds_bucket"]),
    ("errors by side", &["sum by (side) (rate(kthena_router_errors_total"]),
    (
        "cache hits, predicted and real",
        &["kthena_router_predicted_cached_tokens_total", "kthena_router_reported_cached_tokens_total"],
    ),
    ("spread of the configuration's version", &["count_values by (epoch) (\"version\", kthena_router_config_version"]),
    ("the proxy's own cost", &["kthena_router_added_latency_seconds_bucket", "rate(process_cpu_seconds_total"]),
    (
        "saturation",
        &["kthena_router_core_loop_lag_seconds_bucket", "process_open_fds", "kthena_router_limit_hits_total"],
    ),
];

#[test]
fn every_subject_has_its_panel() {
    let panels: Vec<_> = dashboards().iter().flat_map(|(_, dashboard)| items(&dashboard["panels"]).cloned()).collect();
    let texts: Vec<_> =
        panels.iter().map(|panel| expressions(&serde_json::json!({"panels": [panel]})).concat()).collect();
    for (subject, parts) in SUBJECTS {
        for part in parts {
            assert!(texts.iter().any(|text| text.contains(part)), "no panel shows {subject}: none asks for {part}");
        }
    }
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["title"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "each panel has a title of its own");
}

#[test]
fn the_operators_objects_hold_the_files_whole() {
    let set = ["monitoring.alerts=true", "monitoring.dashboards=true"];
    let with = |api_versions| rendered(&Render { set: &set, api_versions, ..Render::default() });
    let objects = with(&["monitoring.coreos.com/v1"]);
    let alerts: Value =
        serde_norway::from_str(&fs::read_to_string(chart().join("files/alerts.yaml")).unwrap()).unwrap();
    assert_eq!(*find(&objects, "PrometheusRule", "kthena").at("/spec"), alerts);
    for (path, dashboard) in dashboards() {
        let stem = path.file_stem().unwrap().to_str().unwrap();
        let map = find(&objects, "ConfigMap", &format!("kthena-dashboard-{stem}"));
        assert_eq!(map.at("/metadata/labels/grafana_dashboard"), "1");
        let held: Value = serde_json::from_str(map.0["data"][format!("{stem}.json")].as_str().unwrap()).unwrap();
        assert_eq!(held, dashboard);
    }
    assert!(
        !with(&[]).iter().any(|object| object.kind() == "PrometheusRule"),
        "a cluster without the kind takes no such object"
    );
}

/// Without ports Prometheus makes a target of each container, init containers too, and each would be the same proxy.
#[test]
fn a_proxy_of_the_nodes_network_is_scraped_once() {
    let set = ["monitoring.monitors=true", "node.enabled=true", "node.exposure=hostNetwork"];
    let objects = rendered(&Render { set: &set, api_versions: &["monitoring.coreos.com/v1"], ..Render::default() });
    let first = find(&objects, "PodMonitor", "kthena-node").at("/spec/podMetricsEndpoints/0/relabelings/0").clone();
    let name = "__meta_kubernetes_pod_container_name";
    assert_eq!(first, serde_json::json!({"sourceLabels": [name], "action": "keep", "regex": "dataplane"}));
    let containers = find(&objects, "DaemonSet", "kthena-node").containers();
    assert!(containers.len() > 1, "there is one besides");
    assert_eq!(containers.iter().filter(|container| container["name"] == first["regex"]).count(), 1);
}

/// Else nobody can tell which proxy of a DaemonSet it is.
#[test]
fn every_target_says_its_node_and_so_do_the_versions_that_differ() {
    let set = ["monitoring.monitors=true", "node.enabled=true"];
    let objects = rendered(&Render { set: &set, api_versions: &["monitoring.coreos.com/v1"], ..Render::default() });
    let monitors: Vec<_> = objects.iter().filter(|object| object.kind().ends_with("Monitor")).collect();
    assert_eq!(monitors.len(), 3);
    for monitor in monitors {
        let spec = monitor.at("/spec");
        let endpoints = items(&spec["endpoints"]).chain(items(&spec["podMetricsEndpoints"]));
        let relabelings: Vec<_> = endpoints.flat_map(|endpoint| items(&endpoint["relabelings"])).collect();
        assert!(relabelings.iter().any(|relabeling| relabeling["targetLabel"] == "node"), "{monitor}");
    }
    let dashboards = dashboards();
    let panels = dashboards.iter().flat_map(|(_, dashboard)| items(&dashboard["panels"]));
    let mut of_versions = panels.filter(|panel| panel["title"] == "Configuration: versions behind the newest");
    assert_eq!(of_versions.next().unwrap()["targets"][0]["legendFormat"], "{{node}} {{pod}}");
}

/// promtool, from `$KTHENA_PROMTOOL` or the path. `.ci/run helm` installs it where it can.
fn promtool(folder: &Path, arguments: &[&str]) {
    let program = env::var_os("KTHENA_PROMTOOL").unwrap_or_else(|| "promtool".into());
    match Command::new(program).current_dir(folder).args(arguments).output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            missing::skip("promtool, of Debian's package prometheus,");
        }
        output => {
            let output = output.unwrap();
            let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "promtool {arguments:?}: {said}");
        }
    }
}

#[test]
fn each_alert_fires_in_its_scenario_and_is_silent_in_the_quiet_one() {
    let files = chart().join("files");
    promtool(&files, &["check", "rules", "alerts.yaml"]);
    promtool(&files, &["test", "rules", "alerts_test.yaml"]);
    let alerts: Value = serde_norway::from_str(&fs::read_to_string(files.join("alerts.yaml")).unwrap()).unwrap();
    let tests: Value = serde_norway::from_str(&fs::read_to_string(files.join("alerts_test.yaml")).unwrap()).unwrap();
    let tested: BTreeSet<_> = items(&tests["tests"]).map(|test| test["name"].as_str().unwrap()).collect();
    for alert in items(&alerts["groups"][0]["rules"]) {
        assert!(tested.contains(alert["alert"].as_str().unwrap()), "{} has no scenario", alert["alert"]);
    }
    assert!(tested.contains("quiet"));
}

#[test]
fn every_query_of_the_dashboards_is_one_that_prometheus_takes() {
    let folder = tempfile::tempdir().unwrap();
    let rules: Vec<_> = dashboards()
        .iter()
        .flat_map(|(_, dashboard)| expressions(dashboard))
        .enumerate()
        .map(|(n, expression)| {
            // What Grafana puts in.
            let expression = expression.replace("$__rate_interval", "5m").replace("$namespace", ".*");
            serde_json::json!({"record": format!("dashboard:query:{n}"), "expr": expression})
        })
        .collect();
    let file = serde_json::json!({"groups": [{"name": "dashboards", "rules": rules}]});
    fs::write(folder.path().join("queries.yaml"), file.to_string()).unwrap();
    promtool(folder.path(), &["check", "rules", "queries.yaml"]);
}
