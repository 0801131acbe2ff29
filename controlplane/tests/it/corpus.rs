//! One corpus of objects with the verdict on each, in `tests/corpus/*.yaml`. Directory source, admission webhook and API server
//! must all come to that verdict, so `perf-tests` includes this file too.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What is special about the object.
    pub name: String,
    /// Empty where it is accepted.
    pub expect: Expect,
    /// The object before, where the case is an update.
    pub old: Option<Value>,
    pub object: Value,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Expect {
    pub refused_by: Option<By>,
    /// By path: a part of the sentence.
    #[serde(default)]
    pub problems: BTreeMap<String, String>,
}

/// Who refuses: the API server by the schema and its CEL rules, or only `validate`, in the webhook.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    Schema,
    Webhook,
}

pub fn corpus() -> Vec<(String, Case)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../controlplane/tests/corpus");
    let mut cases = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let file = path.file_stem().unwrap().to_string_lossy().into_owned();
        let found: Vec<Case> = serde_norway::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        cases.extend(found.into_iter().map(|case| (file.clone(), case)));
    }
    cases
}
