//! What the control plane tells of engines' caches, and what becomes of it.

use api::kv::{Rank, Said, Trust};
use api::prefix::{Salt, chain, seed};
use dataplane::config::ControlPlane;
use serde_json::{Value, json};

use crate::support::control::{Control, Story, at, believed};
use crate::support::engine::Engine;
use crate::support::legs::{Leg, on_every_driver};
use crate::support::proxy::Proxy;
use crate::support::snapshot::{route, snapshot};
use crate::support::until;
use crate::support::wire::{CHAT, answer, post};

on_every_driver!(
    a_prompt_goes_to_the_engine_that_holds_it_until_that_forgets,
    after_a_gap_and_after_a_restart_it_is_told_what_is_held,
    what_engines_had_cached_is_counted_beside_what_was_predicted,
);

/// A prompt of some 6 KB.
fn text(name: &str) -> String {
    (0..400).map(|at| format!("{name} {at} words ")).collect()
}

fn ask(text: &str) -> Vec<u8> {
    post(CHAT, json!({"model": "m", "messages": [{"role": "user", "content": text}]}).to_string())
}

/// The chain of that prompt, as both planes compute it.
fn hashes(text: &str) -> Vec<u64> {
    let salt = Salt { fleet_seed: 42, model: "m", adapter: "", cache_salt: "" };
    let mut blocks = Vec::new();
    chain(seed(&salt), format!("<|im_start|>user\n{text}<|im_end|>\n").as_bytes(), &mut blocks);
    blocks
}

/// Model `m` served by these engines, with these handles.
fn served(engines: &[(u32, &Engine)]) -> Value {
    let endpoint = |(handle, engine): &(u32, &Engine)| {
        let address = engine.address;
        json!({"handle": handle, "name": format!("at-{}", address.port()), "address": address.to_string()})
    };
    let endpoints: Vec<_> = engines.iter().map(endpoint).collect();
    snapshot(vec![route("m", "t/b")], vec![json!({"name": "t/b", "endpoints": endpoints})])
}

fn start(leg: Leg, control: &Control) -> Proxy {
    let address = control.address;
    let proxy = Proxy::with(leg, &json!({}), |config, _| config.source = ControlPlane::at(address).into());
    until("the snapshot is in force", || proxy.endpoints().len() == 2);
    until("it has asked for blocks, too", || control.subscriptions().first().is_some_and(|asked| asked.kv));
    proxy
}

/// How far an engine's cache is believed, and how many blocks are held of it.
fn cache(proxy: &Proxy, engine: &Engine) -> (String, u64) {
    let endpoints = proxy.endpoints();
    let endpoint = endpoints.iter().find(|endpoint| endpoint["address"] == engine.address.to_string()).unwrap();
    (endpoint["cacheTrust"].as_str().unwrap().to_owned(), endpoint["cacheBlocks"].as_u64().unwrap())
}

fn a_prompt_goes_to_the_engine_that_holds_it_until_that_forgets(leg: Leg) {
    let engines = ["a", "b"].map(Engine::named);
    let control = Control::start(7, &served(&[(1, &engines[0]), (2, &engines[1])]));
    let proxy = start(leg, &control);
    let (mut story, prompt) = (Story::new(7), text("once"));
    let blocks = hashes(&prompt);
    let asked = |expected: usize| {
        let before = engines[expected].count();
        (0..10).for_each(|_| assert_eq!(proxy.ask(ask(&prompt)).status(), 200));
        assert_eq!(engines[expected].count() - before, 10, "all go to the engine that holds the prompt");
    };
    control.say(story.tell(vec![believed(2, Trust::Trusted)], at(2, &blocks, Said::Held)));
    until("the blocks are held", || cache(&proxy, &engines[1]) == ("trusted".into(), blocks.len() as u64));
    asked(1);
    assert_eq!(cache(&proxy, &engines[0]), ("predicted".into(), 0));
    assert_eq!(proxy.metric("kthena_router_kv_blocks", &[]), blocks.len() as f64);
    assert_eq!(proxy.metric("kthena_router_kv_endpoints", &["trust=\"trusted\""]), 1.0);
    // The engine starts anew; the other one has begun to hold the prompt.
    let forgets = Rank { forget: true, emptied: true, ..believed(2, Trust::Cold) };
    control.say(story.tell(vec![forgets], at(1, &blocks[..blocks.len() / 2], Said::Held)));
    until("the engine's cache is forgotten", || cache(&proxy, &engines[1]) == ("cold".into(), 0));
    asked(0);
    proxy.settled();
}

fn after_a_gap_and_after_a_restart_it_is_told_what_is_held(leg: Leg) {
    let engines = ["a", "b"].map(Engine::named);
    let mut control = Control::start(7, &served(&[(1, &engines[0]), (2, &engines[1])]));
    let proxy = start(leg, &control);
    let (mut story, blocks) = (Story::new(7), hashes(&text("twice")));
    let xor = |blocks: &[u64]| blocks.iter().fold(0, |xor, hash| xor ^ hash);
    control.say(story.tell(vec![], at(1, &blocks, Said::Held)));
    story.skip(1);
    control.say(story.tell(vec![], at(1, &blocks[60..], Said::Gone)));
    let digests = control.digests(1);
    let held = &digests.endpoints[0];
    assert_eq!((digests.epoch, &*digests.model, held.handle), (7, "m", 1));
    assert_eq!((held.blocks, held.xor), (60, xor(&blocks[..60])));
    // Another life of the control plane, in which the same engine has another handle.
    control.restart(8, &served(&[(5, &engines[0]), (6, &engines[1])]));
    let digests = control.digests(1);
    let held = &digests.endpoints[0];
    assert_eq!((digests.epoch, held.handle, held.blocks, held.xor), (8, 5, 60, xor(&blocks[..60])));
    let mut story = Story::new(8);
    story.skip(1);
    control.say(story.tell(vec![], at(5, &blocks[50..60], Said::Gone)));
    until("what differs is taken", || cache(&proxy, &engines[0]).1 == 50);
    assert_eq!(proxy.metric("kthena_router_kv_gaps_total", &[]), 1.0);
    proxy.settled();
}

fn what_engines_had_cached_is_counted_beside_what_was_predicted(leg: Leg) {
    let usage =
        r#"{"usage":{"prompt_tokens":1000,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":512}}}"#;
    let engines = [0, 1].map(|_| Engine::fixed(answer("200 OK", usage)));
    let control = Control::start(7, &served(&[(1, &engines[0]), (2, &engines[1])]));
    let proxy = start(leg, &control);
    let (mut story, prompt) = (Story::new(7), text("thrice"));
    let blocks = hashes(&prompt);
    control.say(story.tell(vec![believed(1, Trust::Trusted)], at(1, &blocks[..50], Said::Held)));
    until("the blocks are held", || cache(&proxy, &engines[0]).1 == 50);
    assert_eq!(proxy.ask(ask(&prompt)).status(), 200);
    proxy.settled();
    let bytes = prompt.len() + "<|im_start|>user\n<|im_end|>\n".len();
    let count = |name: &str| proxy.metric(&format!("kthena_router_{name}_cached_tokens_total"), &["model=\"m\""]);
    assert_eq!((count("predicted"), count("reported")), ((50 * 64 * 1000 / bytes) as f64, 512.0));
}
