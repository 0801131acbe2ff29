//! Snapshots from outside: whatever is accepted survives every way of writing it, and can be compiled.

use api::decode::{Problem, snapshot_from_bytes};
use api::delta::{ApplyError, apply, diff, full};
use api::json::{snapshot_from_json, snapshot_to_json};
use api::snapshot::Snapshot;
use api::{encode, proto};
use dataplane_core::load::LiveRegistry;
use dataplane_core::table::Table;
use prost::Message as _;
use serde_json::json;

const HELD: &str = include_str!("../../../api/src/json/golden.json");

/// Everything that must hold for these bytes as a snapshot file, a snapshot on the wire, a change to one, Kthena's
/// scheduler configuration, and the texts in a file that have a grammar of their own.
pub fn check(data: &[u8]) {
    judged(snapshot_from_json(data));
    judged(snapshot_from_bytes(data));
    if let Ok(delta) = proto::ConfigDelta::decode(data) {
        changed(delta);
    }
    if let Ok(text) = std::str::from_utf8(data) {
        files_with(text).iter().for_each(|file| judged(snapshot_from_json(file.as_bytes())));
    }
    let mut config = serde_json::Deserializer::from_slice(data);
    if let Err(problems) = api::decode::kthena_profile("p".into(), &mut config) {
        explained(&problems);
    }
}

/// Files that are good but for this as a duration, an address, a pattern or the place of a store. A duration of
/// `--9223372036854775808s` once overflowed.
fn files_with(text: &str) -> [String; 4] {
    let rule = json!({"targets": [{"backend": "d/b"}], "uri": {"regex": text}});
    let limit = json!({"inputTokens": 1, "redis": {"address": text}});
    [
        json!({"backends": [{"name": "d/b", "timeouts": {"connect": text}}]}),
        json!({"backends": [{"name": "d/b", "endpoints": [{"name": "e", "address": text}]}]}),
        json!({"routes": [{"name": "d/r", "model": "m", "rules": [rule]}]}),
        json!({"routes": [{"name": "d/r", "model": "m", "rateLimit": limit}]}),
    ]
    .map(|file| file.to_string())
}

fn explained(problems: &[Problem]) {
    assert!(!problems.is_empty() && problems.len() <= api::limits::MAX_PROBLEMS + 1);
    assert!(problems.iter().all(|problem| !problem.to_string().is_empty()));
    assert_eq!(encode::refusals(problems, &Snapshot::default()).len(), problems.len());
}

fn judged(answer: Result<Snapshot, Vec<Problem>>) {
    match answer {
        Ok(snapshot) => kept(&snapshot),
        Err(problems) => explained(&problems),
    }
}

/// Written and read in each form it is the same.
fn kept(snapshot: &Snapshot) {
    assert_eq!(snapshot_from_json(snapshot_to_json(snapshot).as_bytes()).as_ref(), Ok(snapshot));
    assert_eq!(snapshot_from_bytes(&encode::snapshot(snapshot).encode_to_vec()).as_ref(), Ok(snapshot));
    assert_eq!(apply(&Snapshot::default(), full(snapshot)).as_ref(), Ok(snapshot));
    let held = held();
    for (old, new) in [(&held, snapshot), (snapshot, &held)] {
        let wire = diff(old, new).encode_to_vec();
        let delta = proto::ConfigDelta::decode(&wire[..]).expect("what was written reads back");
        assert_eq!(apply(old, delta).as_ref(), Ok(new), "a change leads to what it was made from");
    }
    let table = Table::compile(snapshot, &mut LiveRegistry::default());
    assert_eq!((table.version(), table.routes().len()), (snapshot.version, snapshot.routes.len()));
    assert!(table.models().is_sorted());
}

fn held() -> Snapshot {
    snapshot_from_json(HELD.as_bytes()).expect("it is an example that tests hold")
}

fn changed(mut delta: proto::ConfigDelta) {
    let held = held();
    delta.base = delta.base.map(|_| proto::Version { epoch: held.version.epoch, version: held.version.version });
    match apply(&held, delta) {
        Ok(snapshot) => kept(&snapshot),
        Err(ApplyError::Refused(problems)) => explained(&problems),
        Err(ApplyError::Base { wanted, .. }) => unreachable!("the base was made {wanted:?}"),
    }
}
