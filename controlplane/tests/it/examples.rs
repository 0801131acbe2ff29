//! What users copy is admitted: objects of ours under `examples/`, and the shapes of Kthena's own examples under
//! `tests/manifests`.

use std::path::{Path, PathBuf};

use controlplane::object::{Kind, Unknown, admit};
use serde::Deserialize;
use serde_json::Value;

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|ext| ext == "yaml" || ext == "yml") {
            found.push(path);
        }
    }
}

#[test]
fn every_example_is_admitted() {
    let mut found = Vec::new();
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    files(&here.join("../examples"), &mut found);
    files(&here.join("tests/manifests"), &mut found);
    let mut objects = 0;
    for path in found {
        let text = std::fs::read_to_string(&path).unwrap();
        for document in serde_norway::Deserializer::from_str(&text) {
            let object = Value::deserialize(document).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            if let Some(kind) = Kind::of(&object) {
                objects += 1;
                if let Err(problems) = admit(kind, object, Unknown::Refuse) {
                    panic!("{}: {problems:?}", path.display());
                }
            }
        }
    }
    assert!(objects >= 20, "only {objects} objects were found");
}
