//! A values file of Kthena's chart (kthena.yaml): of each of its keys it is said where it is here.

use dataplane::config::Typed;
use perf_tests::helm::{Render, chart};
use serde_json::Value;

const THEIRS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/chart/kthena.yaml");
const BETWEEN: &str = " is a value of Kthena's chart; here it is ";

fn read(path: &str) -> Value {
    serde_norway::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn leaves(value: &Value, path: &str, found: &mut Vec<String>) {
    let Some(map) = value.as_object() else { return found.push(path.to_owned()) };
    for (key, value) in map {
        leaves(value, format!("{path}.{key}").trim_start_matches('.'), found);
    }
}

/// Each line that is said: their key, and where it is here.
fn said() -> Vec<(String, String)> {
    let said = Render { values: THEIRS, ..Render::default() }.objects().map(|objects| objects.len());
    let said = said.expect_err("it is refused").to_string();
    let lines = said.lines().filter_map(|line| line.split_once(BETWEEN));
    lines.map(|(theirs, ours)| (theirs.to_owned(), ours.to_owned())).collect()
}

#[test]
fn every_key_of_kthenas_chart_is_named() {
    let mut all = Vec::new();
    leaves(&read(THEIRS), "", &mut all);
    assert!(all.len() > 60, "{}", all.len());
    let said = said();
    let is_said =
        |leaf: &String| said.iter().any(|(theirs, _)| leaf == theirs || leaf.starts_with(&format!("{theirs}.")));
    let silent: Vec<_> = all.iter().filter(|leaf| !is_said(leaf)).collect();
    assert_eq!(silent, Vec::<&String>::new());
    // Not a whole block, of whose parts some are elsewhere.
    let blocks = ["global", "networking", "networking.kthenaRouter", "workload", "workload.controllerManager"];
    assert!(said.iter().all(|(theirs, _)| !blocks.contains(&theirs.as_str())), "{said:?}");
}

/// Whether a path is a key of our values, or below `config` one of the data plane's file.
fn is_ours(values: &Value, path: &str) -> bool {
    if values.pointer(&format!("/{}", path.replace('.', "/"))).is_some() {
        return true;
    }
    let Some((block, key)) = path.split_once(".config.") else { return false };
    let file = key.rsplit('.').fold("null".to_owned(), |below, key| format!("{{{key}: {below}}}"));
    let unknown = Typed::from_yaml(&file).is_err_and(|problem| problem.sentence.contains("unknown field"));
    values[block]["config"].is_object() && !unknown
}

#[test]
fn where_it_is_here_is_a_key_of_this_chart() {
    let values = read(chart().join("values.yaml").to_str().unwrap());
    for (theirs, here) in said() {
        let words = here.split([' ', ',', ';', '=']);
        let keys: Vec<_> = words
            .filter(|word| {
                word.split_once('.').is_some_and(|(block, rest)| !rest.is_empty() && values[block].is_object())
            })
            .collect();
        let wrong: Vec<_> = keys.iter().filter(|key| !is_ours(&values, key)).collect();
        assert!(wrong.is_empty(), "{theirs}: no key of ours: {wrong:?}");
        assert!(here.starts_with("nothing: ") || !keys.is_empty(), "{theirs}: {here}");
    }
}
