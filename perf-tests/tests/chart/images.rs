//! What the chart starts is what the images hold.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::values;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The paths that a Containerfile's last stage holds, and what it starts.
fn image(name: &str) -> (BTreeSet<String>, String) {
    let path = repository().join(format!("images/{}.Containerfile", name.trim_start_matches("kthena-")));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let (_, last) = text.rsplit_once("\nFROM ").expect("two stages");
    assert!(last.starts_with("scratch\n"), "{name} holds more than is copied into it");
    assert!(last.contains("\nUSER 65532:65532\n"), "{name} runs as root");
    let mut held = BTreeSet::new();
    for line in last.lines().filter_map(|line| line.strip_prefix("COPY --from=build ")) {
        let mut words: Vec<_> = line.split(' ').collect();
        let target = words.pop().unwrap();
        for source in words {
            let file =
                Path::new(source).file_name().map(|file| file.to_string_lossy().into_owned()).unwrap_or_default();
            held.insert(if target.ends_with('/') { format!("{target}{file}") } else { target.to_owned() });
        }
    }
    let entry = last.lines().find_map(|line| line.strip_prefix("ENTRYPOINT ")).expect("an entry point");
    let entry: Vec<String> = serde_json::from_str(entry).unwrap();
    (held, entry[0].clone())
}

#[test]
fn every_command_of_the_chart_is_in_its_image() {
    let mut images = BTreeSet::new();
    for case in values::all() {
        for object in case.objects() {
            for container in object.containers() {
                let name = container["image"].as_str().unwrap().rsplit('/').next().unwrap();
                let name = name.split([':', '@']).next().unwrap();
                let (held, entry) = image(name);
                let command = container["command"][0].as_str().unwrap_or(&entry);
                assert!(held.contains(command), "{object}: {command} is not among {held:?} of {name}");
                for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
                    if let Some(program) = container[probe]["exec"]["command"][0].as_str() {
                        assert!(held.contains(program), "{object}: {program} is not among {held:?} of {name}");
                    }
                }
                images.insert(name.to_owned());
            }
        }
    }
    assert_eq!(images.len(), 3, "{images:?}");
}

#[test]
fn every_program_of_an_image_is_one_that_cargo_builds() {
    let output = std::process::Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(repository())
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let targets =
        metadata["packages"].as_array().unwrap().iter().flat_map(|package| package["targets"].as_array().unwrap());
    let programs: BTreeSet<_> =
        targets.filter(|target| target["kind"][0] == "bin").map(|target| target["name"].as_str().unwrap()).collect();
    for name in ["kthena-dataplane", "kthena-controlplane", "kthena-tools"] {
        for path in image(name).0.iter().filter(|path| path.starts_with("/usr/bin/")) {
            assert!(programs.contains(path.trim_start_matches("/usr/bin/")), "{name}: nothing builds {path}");
        }
    }
}

/// Who follows examples/README.md pulls them by these names.
#[test]
fn the_examples_name_the_images_that_are_built_for_this_chart() {
    let chart: Value =
        serde_norway::from_str(&fs::read_to_string(repository().join("helm/Chart.yaml")).unwrap()).unwrap();
    let version = chart["appVersion"].as_str().unwrap();
    let mut named = 0;
    for folder in ["quickstart", "directory", "cluster"] {
        for entry in fs::read_dir(repository().join("examples").join(folder)).unwrap() {
            let text = fs::read_to_string(entry.unwrap().path()).unwrap();
            for image in text.lines().filter_map(|line| line.trim().strip_prefix("image: ")) {
                assert_eq!(image, format!("ghcr.io/volcano-sh/kthena-tools:{version}"), "{folder}");
                named += 1;
            }
        }
    }
    assert_eq!(named, 5);
    let built = fs::read_to_string(repository().join("images/README.md")).unwrap();
    assert!(built.contains(&format!("/kthena-$name:{version} ")), "images/README.md builds another version");
}
