//! C16, no hot loop: what a control plane writes comes back to it by the lists that it follows, and that is no reason to read, build or
//! write again, whatever the kind.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use super::plane::{Plane, put, until};
use crate::api_server::testing::{Server, Write};
use crate::chance::testing::{Rng, fix};
use crate::object::Kind;

const SECOND: Duration = Duration::from_secs(1);
/// The least of any kind.
const EMPTY: fn() -> Value = || json!({"spec": {}});
const CONFIGURATION: &str = "kthena-router-config";

/// An object of the kind that is accepted: the first such of the corpus.
fn accepted(kind: Kind) -> Value {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let texts = std::fs::read_dir(folder).unwrap().map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap());
    let mut cases = texts.flat_map(|text| serde_norway::from_str::<Vec<Value>>(&text).unwrap());
    let case = cases.find(|case| case["expect"] == json!({}) && Kind::of(&case["object"]) == Some(kind));
    case.unwrap()["object"].take()
}

/// A form of it, with the status that it has by now.
fn form(server: &Server, kind: Kind, name: &str, generation: i64, object: &Value) {
    let status = server.held(kind.plural(), name).map(|held| held["status"].clone()).unwrap_or_default();
    let metadata = json!({"uid": name, "generation": generation, "creationTimestamp": "2026-01-01T00:00:00Z"});
    put(server, kind.plural(), name, json!({"metadata": metadata, "spec": object["spec"], "status": status}));
}

fn configuration(server: &Server, text: &str) {
    let object = json!({"metadata": {"uid": "c"}, "data": {"routerConfiguration": text}});
    put(server, "configmaps", CONFIGURATION, object);
}

/// Whether the status says of this generation whether it is accepted, and that it is or is not.
fn says(server: &Server, kind: Kind, name: &str, generation: i64, holds: bool) -> bool {
    let object = server.held(kind.plural(), name).unwrap();
    let status = if holds { "True" } else { "False" };
    let is = |found: &Value| {
        found["type"] == "Accepted" && found["status"] == status && found["observedGeneration"] == generation
    };
    object["status"]["conditions"].as_array().is_some_and(|conditions| conditions.iter().any(is))
}

/// How often each object was written after a revision; leases are renewed all the time.
fn writes(server: &Server, after: u64) -> BTreeMap<(&'static str, String), usize> {
    let mut writes = BTreeMap::new();
    for Write { plural, name, object: _ } in server.after(after) {
        if plural != "leases" {
            *writes.entry((plural, name)).or_default() += 1;
        }
    }
    writes
}

#[tokio::test(start_paused = true)]
async fn c16_what_is_written_of_any_kind_that_is_followed_starts_neither_a_reading_nor_another_write() {
    fix(7);
    let server = Server::new(Rng::new(7));
    for kind in Kind::ALL {
        form(&server, kind, "good", 1, &accepted(kind));
        form(&server, kind, "edited", 1, &accepted(kind));
        form(&server, kind, "bad", 1, &EMPTY());
    }
    configuration(&server, "scheduler: {}");
    let (furnished, plane) = (server.revision(), Plane::start(&server));
    let all = |name, generation, holds| Kind::ALL.into_iter().all(|kind| says(&server, kind, name, generation, holds));
    until("all statuses", SECOND * 30, || all("good", 1, true) && all("edited", 1, true) && all("bad", 1, false)).await;
    sleep(SECOND * 600).await;
    let first = writes(&server, furnished);
    assert!(first.len() == 3 * Kind::ALL.len() && first.values().all(|writes| *writes <= 2), "{first:?}");
    assert_eq!(plane.told().len(), 1, "statuses are not read again");

    // Now a form of each is kept in the place of one that is refused, where the kind has such.
    let (edited, before) = (server.revision(), plane.told().len());
    Kind::ALL.into_iter().for_each(|kind| form(&server, kind, "edited", 2, &EMPTY()));
    configuration(&server, "scheduler: 7");
    until("all statuses", SECOND * 30, || all("edited", 2, false)).await;
    let kept = || server.held("configmaps", CONFIGURATION).unwrap()["metadata"]["annotations"].is_object();
    until("the kept configuration", SECOND * 30, kept).await;
    sleep(SECOND * 600).await;
    let second = writes(&server, edited);
    assert!(second.len() == Kind::ALL.len() + 1, "{second:?}");
    // One is the edit itself.
    assert!(second.values().all(|writes| (2..=3).contains(writes)), "{second:?}");
    let readings = plane.told().len() - before;
    // The edits, and each form that is kept, which is news once.
    assert!((1..=5).contains(&readings), "{readings} readings");
    for kind in Kind::ALL {
        let keeps = server.held(kind.plural(), "edited").unwrap()["status"]["lastGood"].is_object();
        assert_eq!(keeps, matches!(kind, Kind::ModelRoute | Kind::ModelServer), "{kind}");
    }

    let (rests, told) = (server.revision(), plane.told().len());
    sleep(SECOND * 3_600).await;
    assert_eq!((writes(&server, rests), plane.told().len()), (BTreeMap::new(), told), "in an hour");
}
