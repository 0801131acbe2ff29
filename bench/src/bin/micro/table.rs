//! Snapshots, tables, decisions.

use std::hint::black_box;

use dataplane_core::index::{Config, Writer};
use dataplane_core::load::{Answer, LiveRegistry, Others};
use dataplane_core::scheduler::{Held, Matches, Request, Rng, Uses, schedule};
use dataplane_core::table::Table;

use super::timing::{Beside, Page};

pub(crate) fn all(page: &Page) {
    decide(page, 16);
    decide(page, 10_000);
    let json = snapshot_json(10_000);
    let decode =
        page.least(1, |_| api::json::snapshot_from_json(black_box(json.as_bytes())).map(|one| one.backends.len()));
    page.row("snapshot of 10,000 endpoints, decode JSON", decode, Beside::None);
    let snapshot = api::json::snapshot_from_json(json.as_bytes()).expect("it was made valid");
    let bytes = prost::Message::encode_to_vec(&api::encode::snapshot(&snapshot));
    let decode = page.least(1, |_| api::decode::snapshot_from_bytes(black_box(&bytes)).map(|one| one.backends.len()));
    page.row("snapshot of 10,000 endpoints, decode protobuf", decode, Beside::None);
    let hash = page.least(1, |_| api::hash::content_hash(black_box(&snapshot)));
    page.row("snapshot of 10,000 endpoints, content hash", hash, Beside::None);
    let fresh = page.least(1, |_| Table::compile(&snapshot, &mut LiveRegistry::new()));
    page.row("Table::compile, 10,000 endpoints, all new", fresh, Beside::Budget(10_000.0));
    let mut registry = LiveRegistry::new();
    let first = Table::compile(&snapshot, &mut registry);
    let known = page.least(1, |_| Table::compile(&snapshot, &mut registry));
    page.row("Table::compile, 10,000 endpoints, all known", known, Beside::Budget(10_000.0));
    drop(first);
    let mut registry = LiveRegistry::new();
    let mut writer = Writer::new(Config::default());
    let mut compile = || Table::compile_seated(&snapshot, &mut registry, |key| writer.seat(key).map(|seat| seat.0));
    let first = compile();
    let known = page.least(1, |_| compile());
    page.row("Table::compile_seated, 10,000 endpoints with seats, all known", known, Beside::Budget(10_000.0));
    drop(first);
}

fn snapshot_json(endpoints: usize) -> String {
    let endpoint = |number: usize| {
        let address = format!("10.{}.{}.1:8000", number >> 8, number & 255);
        serde_json::json!({ "name": format!("ns/pod-{number}"), "address": address, "labels": { "app": "engine" } })
    };
    serde_json::json!({
        "fleetSeed": "42",
        "routes": [{
            "name": "ns/route",
            "model": "sim",
            "rules": [{ "name": "all", "targets": [{ "backend": "ns/backend", "weight": 100 }] }],
        }],
        "backends": [{
            "name": "ns/backend",
            "engine": "VLLM",
            "endpoints": (0..endpoints).map(endpoint).collect::<Vec<_>>(),
        }],
    })
    .to_string()
}

fn decide(page: &Page, endpoints: usize) {
    let snapshot = api::json::snapshot_from_json(snapshot_json(endpoints).as_bytes()).expect("it was made valid");
    let table = Table::compile(&snapshot, &mut LiveRegistry::new());
    table.refresh(1);
    let backend = table.backends().next().expect("it has one").clone();
    let request = Request { adapter: None, prompt_bytes: 1_024, answer: Answer::Stream, peers: 1, session: None };
    let (matches, mut rng) = (Matches { blocks: 16, ..Matches::default() }, Rng::new(1));
    let beside = |prompt_bytes: u32| Beside::Both { yardstick: chained(page, prompt_bytes as usize), budget: 2.0 };
    let (short, far) = (beside(1_024), beside(65_536));
    // The plan is dropped at once, and with it the place at the endpoint.
    let ns = page.least(1_000, |_| schedule(black_box(&request), &backend, &matches, &mut rng, 1).is_ok());
    page.row(&format!("schedule, {endpoints} endpoints"), ns, short);
    let (long, known) = (Request { prompt_bytes: 65_536, ..request }, known(endpoints as u32));
    let ns = page.least(1_000, |_| schedule(black_box(&long), &backend, &known, &mut rng, 1).is_ok());
    page.row(&format!("schedule, {endpoints} endpoints, 8 of which hold some of 64 KB"), ns, far);
    backend.live.hear(Others { proxies: 3, token_rate: 1e5, age_ms: 20 }, 1);
    let ns = page.least(1_000, |_| schedule(black_box(&long), &backend, &known, &mut rng, 21).is_ok());
    page.row(&format!("the same, with three other proxies, {endpoints} endpoints"), ns, far);
}

/// The yardstick of a decision: the chained hash of the prompt that is decided about.
fn chained(page: &Page, bytes: usize) -> f64 {
    let (prompt, mut blocks) = (vec![b'x'; bytes], Vec::new());
    page.least(100, |_| {
        blocks.clear();
        api::prefix::chain(1, black_box(&prompt), &mut blocks);
        blocks.len()
    })
}

/// As much as the prefix table ever says of a prompt of 1,024 blocks.
fn known(endpoints: u32) -> Matches {
    let held = (0..8).map(|at| Held { slot: at * (endpoints / 8), blocks: 1_024 - 96 * at });
    let uses = (1..=16).map(|at| Uses { end: at * 64, uses: 40.0 / at as f32 });
    Matches { blocks: 1_024, held: held.collect(), uses: uses.collect() }
}
