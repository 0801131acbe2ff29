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

#[test]
fn the_webhook_is_asked_about_every_kind_of_ours_and_no_other() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/cluster/webhook.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut documents =
        serde_norway::Deserializer::from_str(&text).map(|document| Value::deserialize(document).unwrap());
    let found = documents.find(|document| document["kind"] == "ValidatingWebhookConfiguration").unwrap();
    let [webhook, probe] = found["webhooks"].as_array().unwrap().as_slice() else { panic!("{found:?}") };
    // Whoever puts the probe's label on an object has it judged all the same.
    assert_eq!((&probe["rules"], &probe["failurePolicy"]), (&webhook["rules"], &webhook["failurePolicy"]));
    let operator = |webhook: &Value| webhook["objectSelector"]["matchExpressions"][0]["operator"].clone();
    assert_eq!((operator(webhook), operator(probe)), ("DoesNotExist".into(), "Exists".into()));
    let texts = |value: &Value| -> Vec<String> { serde_json::from_value(value.clone()).unwrap() };
    let mut asked = Vec::new();
    for rule in webhook["rules"].as_array().unwrap() {
        assert_eq!(
            (texts(&rule["operations"]), texts(&rule["apiVersions"])),
            (vec!["CREATE".to_owned(), "UPDATE".to_owned()], vec![controlplane::crd::VERSION.to_owned()],)
        );
        for group in texts(&rule["apiGroups"]) {
            asked.extend(texts(&rule["resources"]).into_iter().map(|resource| (group.clone(), resource)));
        }
    }
    let mut ours = Kind::ALL.map(|kind| (kind.group().to_owned(), kind.plural().to_owned())).to_vec();
    asked.sort();
    ours.sort();
    assert_eq!(asked, ours);
    assert_eq!((&webhook["failurePolicy"], &webhook["timeoutSeconds"]), (&Value::from("Fail"), &Value::from(5)));
    // A bundle in the file would be taken for ours to give up, and applied again it would undo a rotation.
    assert_eq!(webhook["clientConfig"]["caBundle"], Value::Null);
}
