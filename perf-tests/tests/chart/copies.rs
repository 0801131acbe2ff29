//! Copies of the chart: of other versions, and as a part of another chart.

use std::path::Path;
use std::process::Command;

use perf_tests::helm::{Render, chart};
use serde_json::Value;
use tempfile::TempDir;

use crate::object::Object;
use crate::values::rendered;

/// Puts a copy of the chart into a folder that is not there yet.
pub fn copy(to: &Path) {
    let copied = Command::new("cp").arg("-r").arg(chart()).arg(to).status().unwrap();
    assert!(copied.success(), "the chart could not be copied to {}", to.display());
}

/// The objects of the chart with this version of chart and programs.
pub fn of_version(version: &str, set: &[&str]) -> Vec<Object> {
    let folder = TempDir::new().unwrap();
    let folder = folder.path().join("kthena");
    copy(&folder);
    let file = folder.join("Chart.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let lines = text.lines().map(|line| match line.split_once(": ") {
        Some((key @ ("version" | "appVersion"), _)) => format!("{key}: {version}\n"),
        _ => format!("{line}\n"),
    });
    std::fs::write(&file, lines.collect::<String>()).unwrap();
    rendered(&Render { folder: folder.to_str().unwrap(), set, ..Render::default() })
}

/// What Kubernetes takes as a label's value.
fn is_label(value: &str) -> bool {
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let inner = value.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    value.is_empty() || (value.len() <= 63 && inner && ends(value.chars().next()) && ends(value.chars().last()))
}

#[test]
fn a_version_with_what_labels_and_tags_cannot_have_makes_objects_all_the_same() {
    // Of a build of a fork, and one that is cut where a label may not end.
    let long = format!("1.2.3-{}.-.rest", "a".repeat(48));
    for (version, written) in [("1.2.3+build.7", "1.2.3_build.7"), (&long, &long)] {
        for object in of_version(version, &["node.enabled=true", "monitoring.dashboards=true"]) {
            let labels = [&object.0["metadata"]["labels"], &object.0["spec"]["template"]["metadata"]["labels"]];
            let values = labels.into_iter().filter_map(Value::as_object).flatten();
            for (key, value) in values {
                assert!(is_label(value.as_str().unwrap()), "{object}: {key}: {value}");
            }
            assert_eq!(object.0["metadata"]["labels"]["app.kubernetes.io/version"], written, "{object}");
            for container in object.containers() {
                let image = container["image"].as_str().unwrap();
                assert!(image.ends_with(&format!(":{written}")), "{object}: {image}");
            }
        }
    }
}

/// A chart that has ours as a dependency, as a user's own has it.
fn around() -> TempDir {
    let folder = TempDir::new().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let ours = "{name: kthena, version: '*', repository: 'https://charts.example.com', condition: kthena.enabled}";
    write("Chart.yaml", &format!("apiVersion: v2\nname: platform\nversion: 1.0.0\ndependencies:\n- {ours}\n"));
    write(
        "values.yaml",
        "global: {storageClass: fast, imageRegistry: registry.example.com, webhook: {port: 9}}\nkthena: {enabled: true}\n",
    );
    std::fs::create_dir(folder.path().join("charts")).unwrap();
    copy(&folder.path().join("charts/kthena"));
    folder
}

#[test]
fn another_chart_takes_ours_as_a_part_with_globals_of_its_own() {
    let around = around();
    let render = |set: &[&str]| Render { folder: around.path().to_str().unwrap(), set, ..Render::default() }.objects();
    let alone = Render { set: &["global.imageRegistry=registry.example.com"], ..Render::default() };
    assert_eq!(render(&[]).unwrap(), alone.objects().unwrap());
    assert_eq!(render(&["kthena.enabled=false"]).unwrap(), Vec::<Value>::new());
    for (set, expected) in [
        ("kthena.gatewy.replicas=2", "additional properties 'gatewy' not allowed"),
        ("kthena.node.name=kthena-router,kthena.node.enabled=true", "gateway.name and node.name are the same"),
    ] {
        let said = render(&[set]).map(|objects| objects.len()).expect_err("it is refused").to_string();
        assert!(said.contains(expected), "{set}: {said}");
    }
}
