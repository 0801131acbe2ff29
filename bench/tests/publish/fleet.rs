//! What one data plane learns of prompts, all others know.

use std::time::{Duration, Instant};

use api::snapshot::Snapshot;
use serde_json::{Value, json};

use crate::http::Connection;
use crate::stage::{Control, Plane, Stage, until};

/// 2 of the engines behind one model, which a plane chooses from by its default profile.
fn snapshot(stage: &Stage) -> Snapshot {
    let endpoint = |n: usize| {
        let address = stage.engines[n].addr.to_string();
        json!({"handle": n + 1, "name": format!("t/e{n}"), "uid": format!("pod-{n}"), "address": address})
    };
    let backend = json!({"name": "t/b", "model": "sim", "endpoints": [endpoint(0), endpoint(1)]});
    let route = json!({"name": "t/r", "model": "m", "rules": [{"targets": [{"backend": "t/b"}]}]});
    let text = json!({"fleetSeed": "7", "routes": [route], "backends": [backend]}).to_string();
    api::json::snapshot_from_json(text.as_bytes()).unwrap()
}

/// Asks for a prompt of 8 KiB that begins with the letter, and says what the plane decided by.
fn decide(plane: &Plane, id: &str, letter: &str) -> Value {
    let content = letter.repeat(8 << 10);
    let body = json!({"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": content}]}).to_string();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nx-request-id: {id}"
    );
    let mut connection = Connection::open(plane.listen());
    let (status, answer) = connection.ask(&format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()));
    assert_eq!(status, 200, "{answer}");
    let mut decision = Value::Null;
    until("the decision is told", || {
        let (status, text) = Connection::open(plane.debug()).get(&format!("/debug/decision?id={id}"));
        decision = serde_json::from_str(&text).unwrap_or_default();
        status == 200
    });
    decision
}

/// What the prompt weighs at an endpoint that holds nothing of it.
fn whole_weight(decision: &Value) -> f64 {
    let candidates = decision["decision"]["candidates"].as_array().unwrap();
    candidates.iter().map(|c| c["missing_tokens_weighted"].as_f64().unwrap()).fold(0.0, f64::max)
}

#[test]
fn what_is_often_asked_for_at_one_proxy_weighs_less_at_the_other() {
    let stage = Stage::start(2);
    let control = Control::start(None);
    control.publish(snapshot(&stage));
    let (one, two) = (Plane::start(&control, None), Plane::start(&control, None));
    until("both are ready", || one.ready() && two.ready());
    let fresh = whole_weight(&decide(&two, "fresh", "a"));
    let before = two.metric("kthena_router_prefix_uses");
    for n in 0..8 {
        decide(&one, &format!("one-{n}"), "b");
    }
    let begin = Instant::now();
    until("the other one counts its uses", || two.metric("kthena_router_prefix_uses") > before + 7.0);
    let took = begin.elapsed();
    println!("known after {took:?}, of which up to a second is the metric's");
    let hot = whole_weight(&decide(&two, "hot", "b"));
    println!("weighs {fresh} when new, {hot} when used eight times elsewhere");
    assert!(hot < 0.4 * fresh, "{hot} of {fresh}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(two.metric("kthena_router_fleet_lost_total"), 0.0);
}

/// The most of the prompt that a plane believes some endpoint to hold.
fn matched(decision: &Value) -> u64 {
    let candidates = decision["decision"]["candidates"].as_array().unwrap();
    candidates.iter().map(|c| c["matched_blocks"].as_u64().unwrap()).max().unwrap()
}

#[test]
fn a_prompt_goes_where_another_proxy_sent_it_also_by_one_that_joins_later() {
    let stage = Stage::start(2);
    let control = Control::start(None);
    control.publish(snapshot(&stage));
    let (one, two) = (Plane::start(&control, None), Plane::start(&control, None));
    until("both are ready", || one.ready() && two.ready());
    let first = decide(&one, "first", "a");
    assert_eq!(matched(&first), 0);
    let entries = "kthena_router_prefix_cache_entries";
    until("the other one has its marks", || two.metric(entries) >= 8.0);
    let second = decide(&two, "second", "a");
    assert!(matched(&second) >= 128, "{second}");
    assert_eq!(second["endpoint"], first["endpoint"]);
    assert_eq!(two.metric("kthena_router_locality_given_up_blocks_total"), 0.0);
    let three = Plane::start(&control, None);
    until("one that joins has them too", || three.metric(entries) >= 8.0);
    let third = decide(&three, "third", "a");
    assert_eq!((third["endpoint"].clone(), matched(&third) >= 128), (first["endpoint"].clone(), true), "{third}");
}
