//! Values of a chart that did not have all of ours, as `helm upgrade --reuse-values` leaves them: each key that is missing has its default.

use perf_tests::helm::{Render, chart};
use serde_json::{Map, Value};

use crate::copies::copy;

/// What may be missing for good: whoever takes it away wants none.
const MAY_LACK: [&str; 8] = [
    "affinity",
    "nodeSelector",
    "podSecurityContext",
    "priorityClassName",
    "resources",
    "securityContext",
    "tolerations",
    "topologySpreadConstraints",
];

/// Everything that can be asked for.
const SET: [&str; 6] = [
    "node.enabled=true",
    "networkPolicy.enabled=true",
    "monitoring.monitors=true",
    "monitoring.alerts=true",
    "monitoring.dashboards=true",
    "gateway.autoscaling.enabled=true",
];

fn values() -> Value {
    serde_norway::from_str(&std::fs::read_to_string(chart().join("values.yaml")).unwrap()).unwrap()
}

fn rendered(without: &[String]) -> Vec<Value> {
    rendered_of("", without)
}

/// Of a copy of the chart; of the chart itself where there is none.
fn rendered_of(folder: &str, without: &[String]) -> Vec<Value> {
    let nulls: Vec<_> = without.iter().map(|path| format!("{path}=null")).collect();
    let set: Vec<_> = SET.iter().copied().chain(nulls.iter().map(String::as_str)).collect();
    let render = Render { folder, set: &set, api_versions: &["monitoring.coreos.com/v1"], ..Render::default() };
    render.objects().unwrap_or_else(|error| panic!("without {without:?}: {error:#}"))
}

/// Paths of all blocks, and of all values that are in none but may not be missing.
fn paths(map: &Map<String, Value>, above: &str, blocks: &mut Vec<String>, single: &mut Vec<String>) {
    for (key, value) in map {
        let path = if above.is_empty() { key.clone() } else { format!("{above}.{key}") };
        if SET.iter().any(|set| set.starts_with(&format!("{path}="))) || MAY_LACK.contains(&key.as_str()) {
            continue;
        }
        match value.as_object() {
            Some(map) if !map.is_empty() => {
                paths(map, &path, blocks, single);
                // One with a setting in it would be taken away with it.
                if !SET.iter().any(|set| set.starts_with(&format!("{path}."))) {
                    blocks.push(path);
                }
            }
            _ => single.push(path),
        }
    }
}

#[test]
fn a_key_that_an_older_charts_values_lack_has_its_default() {
    let (mut blocks, mut single) = (Vec::new(), Vec::new());
    paths(values().as_object().unwrap(), "", &mut blocks, &mut single);
    assert!(blocks.len() > 20 && single.len() > 80, "{blocks:?} {single:?}");
    let expected = rendered(&[]);
    for block in &blocks {
        assert!(rendered(std::slice::from_ref(block)) == expected, "without {block} it is another chart");
    }
    // All at once, so that nothing stands in for what is taken away.
    let found = rendered(&single);
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.len(), expected.len());
}

/// `--reuse-values` puts what the last release came to in place of the chart's own values: a null takes nothing away then, and is one.
#[test]
fn what_was_taken_away_is_null_once_the_values_are_used_again_and_does_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("kthena");
    copy(&folder);
    std::fs::write(folder.join("values.yaml"), "{}\n").unwrap();
    let folder = folder.to_str().unwrap();
    let (mut blocks, mut nulls) = (Vec::new(), Vec::new());
    paths(values().as_object().unwrap(), "", &mut blocks, &mut nulls);
    let of = |block| MAY_LACK.map(|key| format!("{block}.{key}"));
    let may_lack: Vec<_> = ["controlplane", "gateway", "node"].into_iter().flat_map(of).collect();
    let there = |path: &String| values().pointer(&format!("/{}", path.replace('.', "/"))).is_some();
    let may_lack: Vec<_> = may_lack.into_iter().filter(there).collect();
    nulls.extend(may_lack.iter().cloned());
    assert!(rendered_of(folder, &nulls) == rendered(&may_lack), "all of these are null: {nulls:?}");
    let expected = rendered(&may_lack);
    // Of blocks those that hold none of these.
    for block in blocks.into_iter().filter(|block| !may_lack.iter().any(|path| path.starts_with(&format!("{block}."))))
    {
        let nulls = [&may_lack[..], &[block]].concat();
        assert!(rendered_of(folder, &nulls) == expected, "these are null: {nulls:?}");
    }
}

#[test]
fn a_part_that_was_taken_away_of_what_is_the_users_alone_is_null_then_and_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("kthena");
    copy(&folder);
    std::fs::write(folder.join("values.yaml"), "{}\n").unwrap();
    let set = [
        "gateway.resources.limits.cpu=null",
        "gateway.resources.limits.memory=1Gi",
        "gateway.podLabels.team=null",
        "gateway.nodeSelector.disk=null",
        "gateway.config.limits.connections=null",
        "gateway.config.access_log.format=json",
        "global.commonLabels.owner=null",
    ];
    let objects = Render { folder: folder.to_str().unwrap(), set: &set, ..Render::default() }.objects().unwrap();
    let text = serde_json::to_string(&objects).unwrap();
    assert!(!text.contains("null"), "{}", &text[text.find("null").unwrap().saturating_sub(200)..][..300]);
    assert!(text.contains(r#""limits":{"memory":"1Gi"}"#), "{text}");
}

#[test]
fn what_somebody_takes_away_stays_away() {
    let set = [
        "gateway.resources=null",
        "gateway.priorityClassName=null",
        "gateway.podSecurityContext=null",
        "node.enabled=true",
        "node.tolerations=null",
        "node.securityContext=null",
    ];
    let objects = Render { set: &set, ..Render::default() }.objects().unwrap();
    let pod = |kind: &str, name: &str| {
        let mut named = objects.iter().filter(|object| object["kind"] == kind && object["metadata"]["name"] == name);
        named.next().unwrap()["spec"]["template"]["spec"].clone()
    };
    let gateway = pod("Deployment", "kthena-router");
    assert_eq!((&gateway["priorityClassName"], &gateway["containers"][0]["resources"]), (&Value::Null, &Value::Null));
    assert_eq!(gateway["securityContext"], Value::Null);
    let node = pod("DaemonSet", "kthena-node");
    assert_eq!(node["tolerations"], Value::Null);
    let of_container = &node["containers"][0]["securityContext"];
    assert_eq!((&of_container["capabilities"], of_container["seccompProfile"].is_object()), (&Value::Null, true));
}

#[test]
fn the_readme_names_all_that_stays_away() {
    let readme = std::fs::read_to_string(chart().join("README.md")).unwrap();
    let (_, upgrades) = readme.split_once("- **Upgrades** take").unwrap();
    let (upgrades, _) = upgrades.split_once("\n- **").unwrap();
    for key in MAY_LACK {
        assert!(upgrades.contains(&format!("`{key}`")), "{key} is not in: {upgrades}");
    }
}
