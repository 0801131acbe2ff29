use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;
use crate::hash::content_hash;
use crate::sample;
use crate::snapshot::RateUnit;

fn check(json: &str, expected: &str) {
    let problems = snapshot_from_json(json.as_bytes()).unwrap_err();
    assert_eq!(problems.iter().map(ToString::to_string).collect::<Vec<_>>(), [expected], "in {json}");
}

/// The same where the column is the parser's affair.
fn check_says(json: &str, expected: &str) {
    let problems = snapshot_from_json(json.as_bytes()).unwrap_err();
    let [Problem { reason: Reason::Syntax { line: 1, message, .. }, .. }] = &problems[..] else {
        panic!("{problems:?} in {json}")
    };
    assert!(message.contains(expected), "{message} in {json}");
}

#[test]
fn syntax_errors_say_where() {
    check("{\n  \"routes\": [,]\n}", "line 2 column 14: expected value");
    check_says(" ", "EOF while parsing a value");
    check_says("{} {}", "trailing characters");
    check(
        "{\n  \"rutes\": []\n}",
        "line 2 column 9: unknown field `rutes`, expected one of `epoch`, `version`, `fleet_seed`, `fleetSeed`, \
         `routes`, `backends`, `profiles`, `resource_versions`, `resourceVersions`",
    );
    check_says("{\"version\": 1, \"version\": 2}", "duplicate field `version`");
    check_says("{\"backends\": [{\"engine\": \"vllm\"}]}", "unknown variant `vllm`, expected one of `VLLM`");
    check_says(
        "{\"backends\": [{\"timeouts\": {\"connect\": \"1m\"}}]}",
        "\"1m\" is no duration: it is in seconds and ends in `s`",
    );
}

fn examples(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.extension().and_then(|e| e.to_str()) {
            _ if path.is_dir() => examples(&path, found),
            Some("json") => found.push(path),
            _ => {}
        }
    }
}

#[test]
fn every_example_is_valid() {
    let mut found = Vec::new();
    examples(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples"), &mut found);
    assert!(!found.is_empty());
    for path in found {
        let problems = snapshot_from_json(&std::fs::read(&path).unwrap()).err().unwrap_or_default();
        let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
        assert!(problems.is_empty(), "{}: {problems:#?}", path.display());
    }
}

const GOLDEN: &str = include_str!("golden.json");

#[test]
fn the_file_form_stays_as_it_is() {
    let snapshot = snapshot_from_json(GOLDEN.as_bytes()).unwrap();
    assert_eq!(snapshot_to_json(&snapshot), GOLDEN);
}

/// What the golden file, whose hash is held, has not.
#[test]
fn the_file_form_of_later_fields_stays_as_it_is() {
    let route = r#"{"name": "d/r", "model": "m", "rateLimit": {"inputTokens": 30, "outputTokens": 100, "unit": "MINUTE", "redis": {"address": "redis:6379"}}}"#;
    let snapshot = snapshot_from_json(format!(r#"{{"routes": [{route}]}}"#).as_bytes()).unwrap();
    let written: serde_json::Value = serde_json::from_str(&snapshot_to_json(&snapshot)).unwrap();
    assert_eq!(written["routes"][0], serde_json::from_str::<serde_json::Value>(route).unwrap());
    let limit = snapshot.routes[0].rate_limit.as_ref().unwrap();
    let count = |n| std::num::NonZeroU32::new(n);
    assert_eq!((limit.tokens.input(), limit.tokens.output(), limit.unit), (count(30), count(100), RateUnit::Minute));
    let without = snapshot_from_json(br#"{"routes": [{"name": "d/r", "model": "m"}]}"#).unwrap();
    assert_ne!(content_hash(&snapshot), content_hash(&without));
}

/// A proxy of the last release and a control plane of this one compare hashes: a change here resyncs the fleet.
#[test]
fn the_content_hash_stays_as_it_is() {
    let mut snapshot = snapshot_from_json(GOLDEN.as_bytes()).unwrap();
    assert_eq!(format!("{:016x}", content_hash(&snapshot)), "9935f801f5d371c7");
    let before = content_hash(&snapshot);
    snapshot.version.version += 1;
    assert_eq!(content_hash(&snapshot), before);
    snapshot.routes.reverse();
    assert_ne!(content_hash(&snapshot), before);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn reading_undoes_writing(original in sample::snapshot()) {
        prop_assert_eq!(snapshot_from_json(snapshot_to_json(&original).as_bytes()).unwrap(), original);
    }
}
