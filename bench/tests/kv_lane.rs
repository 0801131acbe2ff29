//! Whole control planes hear simulated engines, and what a data plane is told is what these have cached.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "engine/client.rs"]
#[allow(dead_code, reason = "another test reads more of an answer")]
mod client;
#[path = "kv_lane/plane.rs"]
mod plane;
#[path = "kv_lane/replicas.rs"]
mod replicas;

use std::collections::BTreeSet;
use std::net::SocketAddr;

use api::prefix::{Salt, chain, seed};
use api::proto::KvTrust;
use bench::engine::{Config, Engine, KvCommand, KvConfig, ModelConfig, Pace, Running};
use plane::{ControlPlane, DataPlane, FLEET_SEED, MODEL};
use serde_json::json;

async fn engine(replay: bool) -> Running {
    engine_at(SocketAddr::from(([127, 0, 0, 1], 0)), replay).await
}

async fn engine_at(listen: SocketAddr, replay: bool) -> Running {
    let config = ModelConfig {
        cache_blocks: 4_000,
        prefill_tokens_per_s: 10_000_000,
        pace: Pace::Stream(10),
        ..ModelConfig::default()
    };
    let any = SocketAddr::new(listen.ip(), 0);
    let kv = KvConfig { buffer_steps: 64, publish: any, replay: replay.then_some(any), ..KvConfig::default() };
    let model = MODEL.to_owned();
    Engine::start(Config { listen, model, engine: config, kv: Some(kv), ..Config::default() }).await.unwrap()
}

async fn ask(engine: &Running, prompt: &str) {
    let body = json!({"model": MODEL, "prompt": prompt, "max_tokens": 1});
    let reply = client::call(engine.addr, "POST", "/v1/completions", &[], &body.to_string()).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
}

/// A prompt of some blocks of 64 bytes and a bit.
fn prompt(n: usize) -> String {
    let piece = |at: usize| format!("{:<60}", format!("prompt {} piece {at} of a text", if at < 3 { 0 } else { n }));
    (0..4 + n % 9).map(piece).collect()
}

/// What a data plane hashes these prompts to.
fn hashes(prompts: impl IntoIterator<Item = usize>) -> BTreeSet<u64> {
    let seed = seed(&Salt { fleet_seed: FLEET_SEED, model: MODEL, adapter: "", cache_salt: "" });
    let of = |n| {
        let mut blocks = Vec::new();
        chain(seed, prompt(n).as_bytes(), &mut blocks);
        blocks
    };
    prompts.into_iter().flat_map(of).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_plane_is_told_just_what_an_engine_has_cached() {
    let engine = engine(true).await;
    for n in 0..20 {
        ask(&engine, &prompt(n)).await;
    }
    let control = ControlPlane::start(&[engine.addr]).await;
    let mut data = DataPlane::join(&control, None).await;
    data.until("what was there before", |data| data.trust() == Some(KvTrust::Trusted) && data.holds() == hashes(0..20))
        .await;
    for n in 20..60 {
        ask(&engine, &prompt(n)).await;
    }
    data.until("what came", |data| data.holds() == hashes(0..60)).await;
    let reset = client::call(engine.addr, "POST", "/reset_prefix_cache", &[], "").await;
    assert_eq!(reset.status, 200);
    data.until("nothing", |data| data.holds().is_empty()).await;
    ask(&engine, &prompt(7)).await;
    data.until("what came then", |data| data.holds() == hashes([7]) && data.trust() == Some(KvTrust::Trusted)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gap_is_filled_and_a_new_life_begins_with_nothing() {
    let engine = engine(true).await;
    let control = ControlPlane::start(&[engine.addr]).await;
    let mut data = DataPlane::join(&control, None).await;
    ask(&engine, &prompt(1)).await;
    data.until("the first prompt", |data| data.holds() == hashes([1])).await;
    engine.kv(KvCommand::Drop(3)).await;
    for n in 2..8 {
        ask(&engine, &prompt(n)).await;
    }
    data.until("what was lost, too", |data| data.holds() == hashes(1..8) && data.trust() == Some(KvTrust::Trusted))
        .await;
    engine.kv(KvCommand::Restart).await;
    ask(&engine, &prompt(30)).await;
    data.until("nothing of the old life", |data| {
        data.holds() == hashes([30]) && data.trust() == Some(KvTrust::Trusted)
    })
    .await;
    let text = control.metrics().await;
    assert!(text.contains("kthena_controlplane_kv_endpoints{state=\"heard\"} 1\n"), "{text}");
    assert!(text.contains("kthena_controlplane_kv_restarts_total 1\n"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_what_was_lost_cannot_be_had_again_all_is_forgotten() {
    let engine = engine(false).await;
    let control = ControlPlane::start(&[engine.addr]).await;
    let mut data = DataPlane::join(&control, None).await;
    // What it says before it knows that it is listened to is lost.
    let mut n = 100;
    while !data.soon(|data| !data.holds().is_empty()).await {
        ask(&engine, &prompt(n)).await;
        n += 1;
    }
    engine.kv(KvCommand::Drop(1)).await;
    ask(&engine, &prompt(2)).await;
    ask(&engine, &"z".repeat(200)).await;
    let seed = seed(&Salt { fleet_seed: FLEET_SEED, model: MODEL, adapter: "", cache_salt: "" });
    let mut last = Vec::new();
    chain(seed, &[b'z'; 200], &mut last);
    let last: BTreeSet<u64> = last.into_iter().collect();
    data.until("only what came after", |data| data.holds() == last && data.trust() == Some(KvTrust::Gapped)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_from_another_replica_is_sent_what_differs_only() {
    let engine = engine(true).await;
    for n in 0..10 {
        ask(&engine, &prompt(n)).await;
    }
    let (one, other) = (ControlPlane::start(&[engine.addr]).await, ControlPlane::start(&[engine.addr]).await);
    let mut data = DataPlane::join(&one, None).await;
    data.until("all", |data| data.trust() == Some(KvTrust::Trusted) && data.holds() == hashes(0..10)).await;
    let mut elsewhere = DataPlane::join(&other, None).await;
    elsewhere.until("the other has heard it, too", |data| data.holds() == hashes(0..10)).await;
    let mut again = DataPlane::join(&other, Some(data)).await;
    again.until("how it stands", |data| data.trust() == Some(KvTrust::Trusted)).await;
    ask(&engine, &prompt(11)).await;
    again.until("what is new", |data| data.holds() == hashes((0..10).chain([11]))).await;
    let new = hashes([11]).difference(&hashes(0..10)).count();
    assert_eq!(again.entries(), new, "nothing was sent again");
}

/// As the simulated engine writes chats.
const CHATML: &str = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}\
                      {% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_writes_chats_by_the_models_template_is_trusted() {
    let engine = engine(true).await;
    ask(&engine, &prompt(1)).await;
    let control = ControlPlane::with_template(&[engine.addr], CHATML).await;
    let mut data = DataPlane::join(&control, None).await;
    data.until("what it holds", |data| data.trust() == Some(KvTrust::Trusted) && data.holds() == hashes([1])).await;
    assert_eq!(control.chats().await, json!({"check": "same", "reason": null}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_writes_chats_otherwise_is_not_believed_and_why_is_said() {
    let engine = engine(true).await;
    ask(&engine, &prompt(1)).await;
    let control = ControlPlane::with_template(&[engine.addr], &CHATML.replace("im_start", "start")).await;
    let mut data = DataPlane::join(&control, None).await;
    let told = |metrics: &str| {
        metrics.contains("kthena_controlplane_kv_endpoints{state=\"differs\"} 1\n")
            && metrics.contains("kthena_controlplane_kv_chats{check=\"differs\"} 1\n")
    };
    control.until("the metric", told).await;
    let chats = control.chats().await;
    assert_eq!(chats["check"], "differs");
    let reason = chats["reason"].as_str().unwrap();
    assert!(reason.contains("does not write a chat as chatTemplate does: around byte 2"), "{reason}");
    assert!(!data.soon(|data| data.trust() == Some(KvTrust::Trusted) || !data.holds().is_empty()).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_a_template_has_the_one_among_its_models_files_and_what_becomes_of_that() {
    let engine = engine(true).await;
    ask(&engine, &prompt(1)).await;
    let control = ControlPlane::start(&[engine.addr]).await;
    let mut data = DataPlane::join(&control, None).await;
    data.until("what it holds", |data| data.trust() == Some(KvTrust::Trusted) && data.holds() == hashes([1])).await;
    assert_eq!(data.template(), None);
    let other = CHATML.replace("im_start", "start");
    control.write_file("chat_template.jinja", &other);
    data.until("another template", |data| data.template().as_deref() == Some(&*other)).await;
    data.until("nothing that is believed", |data| data.holds().is_empty()).await;
    control.until("why", |metrics| metrics.contains("kthena_controlplane_kv_chats{check=\"differs\"} 1\n")).await;
    control.write_file("chat_template.jinja", CHATML);
    data.until("what it holds, again", |data| data.trust() == Some(KvTrust::Trusted) && data.holds() == hashes([1]))
        .await;
    assert_eq!(data.template().as_deref(), Some(CHATML));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_whose_tokens_nobody_can_read_says_so() {
    let engine = engine(true).await;
    let control = ControlPlane::without_vocabulary(&[engine.addr]).await;
    control
        .until("the reason is shown", |metrics| {
            metrics.contains("kthena_controlplane_kv_endpoints{state=\"unread\"} 1\n")
        })
        .await;
}
