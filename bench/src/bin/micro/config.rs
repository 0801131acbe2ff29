//! What is left to be done once the last message of a full state has come, step by step, with all before it done as it came.

use std::hint::black_box;
use std::sync::Arc;

use api::delta::{self, Incoming};
use api::proto::ConfigDelta;
use api::snapshot::Snapshot;
use dataplane_core::index::{Config, Writer};
use dataplane_core::load::LiveRegistry;
use dataplane_core::table::Table;

use super::timing::{Beside, Page, thread_ns};

/// As the control plane splits it.
const MESSAGE_BYTES: usize = 64 << 10;
/// Until a state is in force.
const BUDGET_US: f64 = 10_000.0;

/// Nanoseconds of each step.
#[derive(Clone, Copy)]
struct Steps {
    decode: f64,
    apply: f64,
    compile: f64,
    refresh: f64,
}

/// Ten thousand endpoints of two thousand backends, a route to each.
pub(crate) fn all(page: &Page) {
    let parts = delta::split(delta::full(&snapshot(10_000, 2_000)), MESSAGE_BYTES);
    let least = (0..page.runs()).map(|_| once(&parts)).reduce(|a, b| Steps {
        decode: a.decode.min(b.decode),
        apply: a.apply.min(b.apply),
        compile: a.compile.min(b.compile),
        refresh: a.refresh.min(b.refresh),
    });
    let Some(Steps { decode, apply, compile, refresh }) = least else { return };
    page.row("the last of the messages, decode", decode, Beside::None);
    page.row("10,000 endpoints of 2,000 backends: apply what came", apply, Beside::None);
    page.row("the same: compile what was expected", compile, Beside::None);
    page.row("the same: refresh", refresh, Beside::None);
    page.row("the same: all of that", decode + apply + compile + refresh, Beside::Budget(BUDGET_US));
}

fn once(parts: &[ConfigDelta]) -> Steps {
    let (mut registry, mut writer, mut incoming) =
        (LiveRegistry::new(), Writer::new(Config::default()), Incoming::default());
    let (last, before) = parts.split_last().expect("a full state is at least one message");
    for part in before {
        assert!(incoming.add(part.clone()), "it is smaller than a snapshot can be");
        for (backend, endpoints) in incoming.newest() {
            registry.expect_backend(backend);
            for endpoint in endpoints {
                let seat = writer.seat(&endpoint.key).map(|seat| seat.0);
                registry.expect(endpoint, seat);
            }
        }
    }
    let last = last.clone();
    let mut begun = thread_ns();
    let mut lap = || {
        let before = std::mem::replace(&mut begun, thread_ns());
        (begun - before) as f64
    };
    lap();
    incoming.add(last);
    let decode = lap();
    let snapshot = incoming.apply(&Snapshot::default()).expect("it was a snapshot before");
    let apply = lap();
    let snapshot = Arc::new(snapshot);
    let table = Table::compile_seated(&snapshot, &mut registry, |key| writer.seat(key).map(|seat| seat.0));
    let compile = lap();
    table.refresh(1);
    let refresh = lap();
    black_box(table);
    Steps { decode, apply, compile, refresh }
}

fn snapshot(endpoints: usize, backends: usize) -> Snapshot {
    let endpoint = |number: usize| {
        let address = format!("10.{}.{}.1:8000", number >> 8, number & 255);
        serde_json::json!({ "name": format!("ns/pod-{number}"), "uid": format!("{number:08x}-3c5a-4e8e-9b4e-0242ac120002"), "address": address, "labels": { "app": "engine" } })
    };
    let each = endpoints / backends;
    let backend = |number: usize| {
        serde_json::json!({ "name": format!("ns/server-{number}"), "engine": "VLLM",
            "endpoints": (number * each..(number + 1) * each).map(endpoint).collect::<Vec<_>>() })
    };
    let route = |number: usize| {
        serde_json::json!({ "name": format!("ns/route-{number}"), "model": format!("model-{number}"),
            "rules": [{ "name": "all", "targets": [{ "backend": format!("ns/server-{number}"), "weight": 100 }] }] })
    };
    let text = serde_json::json!({
        "fleetSeed": "42",
        "routes": (0..backends).map(route).collect::<Vec<_>>(),
        "backends": (0..backends).map(backend).collect::<Vec<_>>(),
    });
    api::json::snapshot_from_json(text.to_string().as_bytes()).expect("it was made valid")
}
