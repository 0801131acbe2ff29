//! Values, schema, README and the defaults for values of older charts say the same.

use std::collections::BTreeSet;
use std::fs;

use clap::Parser;
use dataplane::config::Typed;
use perf_tests::helm::{Render, chart, readme};
use serde_json::Value;

use crate::object::{find, items};

fn read(name: &str) -> String {
    fs::read_to_string(chart().join(name)).unwrap()
}

/// Set, tests write what is generated instead: `.ci/run gen` does.
const WRITE: &str = "KTHENA_WRITE";

#[test]
fn the_readmes_table_is_generated_from_the_comments_of_the_values() {
    let (values, held) = (read("values.yaml"), read("README.md"));
    let wanted = readme::fill(&held, &values).unwrap();
    if std::env::var_os(WRITE).is_some() {
        fs::write(chart().join("README.md"), &wanted).unwrap();
    }
    assert!(read("README.md") == wanted, "helm/README.md is out of date: `.ci/run gen` writes it");
}

#[test]
fn the_defaults_that_templates_read_are_the_values() {
    // Templates cannot read values.yaml itself.
    let copy = chart().join("files/defaults.yaml");
    if std::env::var_os(WRITE).is_some() {
        fs::copy(chart().join("values.yaml"), &copy).unwrap();
    }
    assert!(
        read("files/defaults.yaml") == read("values.yaml"),
        "{} is out of date: `.ci/run gen` writes it",
        copy.display()
    );
}

/// The example of the README, as it stands there.
#[test]
fn the_readmes_volume_of_vocabularies_is_mounted_where_the_control_plane_looks() {
    let readme = read("README.md");
    let (_, rest) = readme.split_once("```yaml\n# vocabularies.yaml\n").expect("the example");
    let values = tempfile::NamedTempFile::new().unwrap();
    fs::write(values.path(), rest.split_once("```").unwrap().0).unwrap();
    let objects = crate::values::rendered(&Render { values: values.path().to_str().unwrap(), ..Render::default() });
    let (_, spec) = find(&objects, "Deployment", "kthena-controlplane").pod().unwrap();
    let container = &spec["containers"][0];
    let typed: Vec<_> = items(&container["args"]).map(|argument| argument.as_str().unwrap()).collect();
    controlplane::cli::Cli::try_parse_from([&["kthena-controlplane"], &typed[..]].concat()).expect("what it takes");
    let folder = typed.iter().find_map(|argument| argument.strip_prefix("--vocabularies=")).expect("--vocabularies");
    let mut mounts = items(&container["volumeMounts"]);
    let mount = mounts.find(|mount| folder.starts_with(mount["mountPath"].as_str().unwrap())).expect("a mount");
    let volume = items(&spec["volumes"]).find(|volume| volume["name"] == mount["name"]).expect("its volume");
    // One for all replicas, wherever they run.
    assert!(mount["readOnly"] == true && volume["persistentVolumeClaim"]["readOnly"] == true, "{mount} {volume}");
}

#[test]
fn every_value_has_a_comment() {
    let rows = readme::rows(&read("values.yaml")).unwrap();
    assert!(rows.iter().all(|row| row.text.len() > 5), "{rows:?}");
    let described: BTreeSet<_> = rows.iter().map(|row| row.path.clone()).collect();
    let values: Value = serde_norway::from_str(&read("values.yaml")).unwrap();
    let mut missing = Vec::new();
    leaves(&values, "", &described, &mut missing);
    assert_eq!(missing, Vec::<String>::new());
}

/// Paths that neither have a comment nor lie below one that has.
fn leaves(value: &Value, path: &str, described: &BTreeSet<String>, missing: &mut Vec<String>) {
    if described.contains(path) {
        return;
    }
    match value.as_object() {
        Some(map) if !map.is_empty() => {
            for (key, value) in map {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                leaves(value, &path, described, missing);
            }
        }
        _ => missing.push(path.to_owned()),
    }
}

#[test]
fn the_schema_knows_every_value_and_every_value_of_the_schema_has_a_default() {
    let values: Value = serde_norway::from_str(&read("values.yaml")).unwrap();
    let schema: Value = serde_json::from_str(&read("values.schema.json")).unwrap();
    let mut differences = Vec::new();
    both(&schema, &schema, &values, "", &mut differences);
    // Only there so that a template can say where they are now, or whose they are.
    let refused = ["enabled", "global.certManagementMode", "networking", "workload"];
    differences.retain(|path| !refused.contains(&path.trim_start_matches("no default: ")));
    assert_eq!(differences, Vec::<String>::new());
}

/// What the data plane's file may have at a place, by what it says of a key that nobody has; empty where there are no keys.
fn settings(place: &[&str]) -> BTreeSet<String> {
    let nobodys = "nobody-has-this";
    let file = place.iter().rev().fold(format!("{{{nobodys}: 1}}"), |below, key| format!("{{{key}: {below}}}"));
    let said = Typed::from_yaml(&file).expect_err("nobody has it").sentence;
    let keys = said.split_once("expected").filter(|_| said.contains(&format!("unknown field `{nobodys}`")));
    keys.into_iter().flat_map(|(_, keys)| keys.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
}

#[test]
fn the_schema_has_the_settings_that_the_data_plane_takes_and_no_others() {
    let schema: Value = serde_json::from_str(&read("values.schema.json")).unwrap();
    let config = &schema["$defs"]["config"];
    let keys =
        |block: &Value| block["properties"].as_object().map(|keys| keys.keys().cloned().collect()).unwrap_or_default();
    let known: BTreeSet<String> = keys(config);
    assert_eq!(known, settings(&[]));
    let blocks: Vec<_> = known.iter().filter(|key| !settings(&[key]).is_empty()).collect();
    assert!(blocks.len() > 5, "{blocks:?}");
    for key in &known {
        let block = &config["properties"][key];
        assert_eq!(keys(block), settings(&[key]), "{key}");
        assert!(keys(block).is_empty() || block["additionalProperties"] == false, "{key}");
    }
}

fn both(root: &Value, schema: &Value, value: &Value, path: &str, differences: &mut Vec<String>) {
    let schema = match schema["$ref"].as_str() {
        Some(name) => root.pointer(name.trim_start_matches('#')).unwrap(),
        None => schema,
    };
    let Some(properties) = schema["properties"].as_object() else { return };
    // Where this chart is a part of another one there are others' globals, too (copies.rs).
    if schema["additionalProperties"] != false && path != "global" {
        differences.push(format!("takes any key: {path}"));
    }
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    let empty = serde_json::Map::new();
    let held = value.as_object().unwrap_or(&empty);
    for key in held.keys().filter(|key| !properties.contains_key(*key)) {
        differences.push(format!("not in the schema: {}", below(key)));
    }
    for (key, schema) in properties {
        match held.get(key) {
            Some(value) => both(root, schema, value, &below(key), differences),
            // Of Kubernetes' own, requests, limits and claims have no defaults of ours, and settings have the data plane's.
            None if path.ends_with("resources") || path.ends_with(".config") => {}
            None => differences.push(format!("no default: {}", below(key))),
        }
    }
}
