//! The values with every block switched on (everything.yaml), which an API server judges and the bed installs: none of the chart's values is
//! forgotten there.

use std::fs;

use perf_tests::helm::{chart, readme};
use serde_json::Value;

use crate::values::EVERYTHING;

/// What cannot be on beside the rest, and which test has it on.
const ALONE: [(&str, &str); 5] = [
    ("node.exposure", "tests/cluster/installed/host.rs, for a node's own port takes the place of its Service"),
    ("node.ioUring.kubeletRoot", "facts.rs, for the bed's kubelet has its folder where the default says"),
    ("node.ioUring.localhostProfile", "values.rs, for `install` puts the profile where the default says"),
    (
        "node.ioUring.remove",
        "values.rs and tests/cluster/installed/doctor.rs, for it takes away what `install` puts there",
    ),
    ("node.updateStrategy.maxUnavailable", "node.rs, for Kubernetes takes maxSurge or this"),
];

fn read(path: &str) -> Value {
    serde_norway::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// As helm merges values: map by map, all else as a whole.
fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

fn at<'a>(values: &'a Value, path: &str) -> &'a Value {
    values.pointer(&format!("/{}", path.replace('.', "/"))).unwrap_or_else(|| panic!("no {path}"))
}

#[test]
fn each_value_is_another_one_than_its_default_or_a_switch_that_is_on() {
    let path = chart().join("values.yaml");
    let defaults = read(path.to_str().unwrap());
    let mut all = defaults.clone();
    merge(&mut all, read(EVERYTHING));
    let rows = readme::rows(&fs::read_to_string(path).unwrap()).unwrap();
    assert!(rows.len() > 100, "{}", rows.len());
    let mut forgotten = Vec::new();
    for row in &rows {
        let (default, value) = (at(&defaults, &row.path), at(&all, &row.path));
        let is_on = *default == Value::Bool(true);
        if (value == default) != is_on && !ALONE.iter().any(|(path, _)| *path == row.path) {
            forgotten.push(format!("{}: {value}", row.path));
        }
    }
    assert_eq!(forgotten, Vec::<String>::new(), "are to be switched on, or named beside the test that does it");
    for (path, test) in ALONE {
        assert_eq!(at(&all, path), at(&defaults, path), "{path} is on here, and need not be in {test}");
    }
}
