//! From YAML to what data planes are told.

use api::snapshot::Snapshot;

use super::{Built, Memory, Settings, build};
use crate::source::directory::reading_of;
use crate::world::ObjectName;

mod conflicts;
mod engines;
mod golden;
mod handles;
mod poison;
mod property;
mod refused;
mod templates;
mod text;

const SETTINGS: Settings = Settings { fleet_seed: 7 };

/// Builds one file's worth of YAML.
fn built(yaml: &str) -> Built {
    rebuilt(yaml, &mut Memory::default())
}

/// The same after earlier builds.
fn rebuilt(yaml: &str, memory: &mut Memory) -> Built {
    let reading = reading_of(&[("all.yaml", yaml)]);
    build(&reading.world, &SETTINGS, memory)
}

/// Compares what is published with its short form; the contract's decoder has to take it, too.
fn check(yaml: &str, expected: &str) {
    let built = built(yaml);
    let text = text::of(&built.snapshot);
    assert_eq!(text.trim(), unindented(expected).trim(), "\n{text}");
    assert_decodes(&built.snapshot);
}

fn assert_decodes(snapshot: &Snapshot) {
    let decoded = api::decode::snapshot(api::encode::snapshot(snapshot));
    assert_eq!(decoded.as_ref(), Ok(snapshot));
}

fn name(text: &str) -> ObjectName {
    let (namespace, name) = text.split_once('/').expect("namespace/name");
    ObjectName::new(namespace, name)
}

/// Without the indentation that all lines share.
fn unindented(text: &str) -> String {
    let lines = || text.lines().filter(|line| !line.trim().is_empty());
    let indent = lines().map(|line| line.len() - line.trim_start().len()).min().unwrap_or(0);
    lines().map(|line| format!("{}\n", line[indent..].trim_end())).collect()
}

/// A ModelServer `NAMESPACE/NAME` of pods with the label app=NAME, on port 8000.
fn server(object: &str) -> String {
    let (namespace, name) = object.split_once('/').expect("namespace/name");
    format!(
        "---\napiVersion: networking.serving.volcano.sh/v1alpha1\nkind: ModelServer\n\
         metadata: {{name: {name}, namespace: {namespace}}}\n\
         spec: {{inferenceEngine: vLLM, workloadSelector: {{matchLabels: {{app: {name}}}}}, workloadPort: {{port: 8000}}}}\n"
    )
}

/// A ready pod `NAMESPACE/NAME` with one label.
fn pod(object: &str, label: &str, ip: &str) -> String {
    let (namespace, name) = object.split_once('/').expect("namespace/name");
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}, labels: {{{label}}}}}\n\
         status: {{podIP: \"{ip}\"}}\n"
    )
}

/// A ModelRoute `NAMESPACE/NAME` with names as YAML fields, all of whose requests go to one server.
fn route(object: &str, names: &str, to: &str) -> String {
    let (namespace, name) = object.split_once('/').expect("namespace/name");
    format!(
        "---\napiVersion: networking.serving.volcano.sh/v1alpha1\nkind: ModelRoute\n\
         metadata: {{name: {name}, namespace: {namespace}}}\n\
         spec: {{{names}, rules: [{{targetModels: [{{modelServerName: {to}}}]}}]}}\n"
    )
}
