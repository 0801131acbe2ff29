//! The control plane follows simulated engines: whatever happens on the way, what it holds is what they have cached.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "engine/client.rs"]
#[allow(dead_code, reason = "another test reads more of an answer")]
mod client;
#[path = "kv_events/stage.rs"]
mod stage;

use std::time::Duration;

use bench::engine::kv::{Dial, Framing, Hashes, Shape};
use bench::engine::{KvCommand, KvConfig};
use controlplane::kv::discover::discover;
use controlplane::kv::event::{Adapter, Salting};
use controlplane::kv::store::root;
use controlplane::kv::trust::Trust;
use stage::Stage;

#[tokio::test]
async fn after_random_traffic_the_store_is_the_engines_cache() {
    let mut stage = Stage::new(KvConfig::default()).await;
    stage.traffic(1, 120).await;
    stage.agree(Trust::Trusted).await;
    assert!(stage.evicted(), "the cache was full");
    let status = stage.status();
    assert_eq!((status.counts.gaps, status.counts.forgotten, status.connections), (0, 0, 1), "{status:?}");
    assert_eq!(stage.tally().orphans, 0);
}

#[tokio::test]
async fn every_shape_hash_and_framing_says_the_same() {
    for (shape, hashes, framing) in [
        (Shape::ByPosition, Hashes::Signed, Framing::Plain),
        (Shape::ByName, Hashes::Bytes, Framing::Plain),
        (Shape::Short, Hashes::Bytes, Framing::WithTopic),
    ] {
        let config = KvConfig { shape, hashes, framing, topic: "kv@pod@sim".into(), ..KvConfig::default() };
        let mut stage = Stage::late(config, 2).await;
        stage.agree(Trust::Trusted).await;
        stage.traffic(3, 20).await;
        stage.agree(Trust::Trusted).await;
        assert_eq!(stage.status().counts.unreadable, 0, "{shape:?} {hashes:?} {framing:?}");
    }
}

#[tokio::test]
async fn lost_messages_are_asked_for() {
    let mut stage = Stage::new(KvConfig::default()).await;
    stage.traffic(4, 20).await;
    stage.agree(Trust::Trusted).await;
    stage.engine().kv(KvCommand::Drop(5)).await;
    stage.traffic(5, 30).await;
    stage.agree(Trust::Trusted).await;
    let counts = stage.status().counts;
    assert!(counts.gaps >= 1 && counts.replays >= 2 && counts.forgotten == 0, "{counts:?}");
}

/// Nothing comes after it that would show the gap.
#[tokio::test]
async fn a_lost_last_message_is_found_without_another_one() {
    let mut stage = Stage::new(KvConfig::default()).await;
    stage.engine().kv(KvCommand::Drop(1_000)).await;
    stage.traffic(6, 10).await;
    stage.agree(Trust::Trusted).await;
    assert_eq!(stage.status().counts.gaps, 0);
}

#[tokio::test]
async fn a_cut_loses_nothing() {
    let mut stage = Stage::new(KvConfig::default()).await;
    stage.traffic(7, 20).await;
    stage.agree(Trust::Trusted).await;
    stage.engine().kv(KvCommand::Cut).await;
    stage.traffic(8, 20).await;
    stage.agree(Trust::Trusted).await;
    let status = stage.status();
    assert!(status.connections >= 2 && status.counts.forgotten == 0 && status.counts.restarts == 0, "{status:?}");
}

#[tokio::test]
async fn an_engine_that_restarts_is_followed_from_nothing() {
    let mut stage = Stage::new(KvConfig::default()).await;
    stage.traffic(9, 30).await;
    stage.agree(Trust::Trusted).await;
    let before = stage.held().len();
    stage.engine().kv(KvCommand::Restart).await;
    stage.traffic(10, 4).await;
    stage.agree(Trust::Trusted).await;
    assert!(stage.held().len() < before && stage.status().counts.restarts >= 1, "{:?}", stage.status());
}

#[tokio::test]
async fn a_cache_that_is_reset_is_empty_on_both_sides() {
    let mut stage = Stage::new(KvConfig::default()).await;
    stage.traffic(11, 20).await;
    let reply = client::call(stage.engine().addr, "POST", "/reset_prefix_cache", &[], "").await;
    assert_eq!(reply.status, 200);
    stage.agree(Trust::Trusted).await;
    assert_eq!(stage.held(), [0; 0]);
    stage.traffic(12, 5).await;
    stage.agree(Trust::Trusted).await;
}

#[tokio::test]
async fn a_ring_that_is_too_short_ends_trust_and_holds_nothing_false() {
    let mut stage = Stage::new(KvConfig { buffer_steps: 3, ..KvConfig::default() }).await;
    stage.traffic(13, 20).await;
    stage.agree(Trust::Trusted).await;
    stage.engine().kv(KvCommand::Drop(20)).await;
    stage.traffic(14, 40).await;
    stage.until(Trust::Gapped).await;
    stage.no_false_hit().await;
    assert!(stage.status().counts.overruns >= 1);
}

#[tokio::test]
async fn without_replays_a_loss_is_forgotten_and_a_reset_is_trust() {
    let mut stage = Stage::new(KvConfig { replay: None, ..KvConfig::default() }).await;
    stage.traffic(15, 20).await;
    stage.engine().kv(KvCommand::Drop(2)).await;
    stage.traffic(16, 20).await;
    stage.until(Trust::Gapped).await;
    stage.no_false_hit().await;
    client::call(stage.engine().addr, "POST", "/reset_prefix_cache", &[], "").await;
    stage.agree(Trust::Trusted).await;
}

#[tokio::test]
async fn an_engine_may_dial_us() {
    let mut stage = Stage::new(KvConfig { dial: Dial::Out, ..KvConfig::default() }).await;
    stage.traffic(17, 20).await;
    stage.agree(Trust::Trusted).await;
    stage.engine().kv(KvCommand::Restart).await;
    stage.traffic(18, 10).await;
    stage.agree(Trust::Trusted).await;
}

#[tokio::test]
async fn adapters_and_salts_are_kept_apart() {
    let mut stage = Stage::new(KvConfig::default()).await;
    let text = "the same words again ".repeat(8);
    stage.ask("sim", &text, None).await;
    stage.agree(Trust::Trusted).await;
    let plain = stage.keys();
    stage.ask("an-adapter", &text, None).await;
    stage.ask("sim", &text, Some("tenant")).await;
    stage.agree(Trust::Trusted).await;
    assert_eq!(stage.keys().len(), 3 * plain.len(), "no key of one is a key of another");
    assert_ne!(root(&Adapter::None, &Salting::None), root(&Adapter::Name("an-adapter".into()), &Salting::None));
}

#[tokio::test]
async fn an_engine_tells_where_it_publishes() {
    let stage = Stage::new(KvConfig { topic: "kv@pod".into(), ..KvConfig::default() }).await;
    let (events, replay) = stage.engine().kv_places().unwrap();
    for engine in [api::snapshot::Engine::Vllm, api::snapshot::Engine::Sglang] {
        let told = discover(engine, stage.engine().addr, Duration::from_secs(5)).await.unwrap();
        let [publisher] = &told.publishers[..] else { panic!("{told:?}") };
        assert_eq!(publisher.events.port, events.port(), "{engine:?}");
        assert_eq!(publisher.replay.as_ref().map(|place| place.port), replay.map(|place| place.port()));
        assert_eq!(&*publisher.topic, "kv@pod");
    }
}
