//! Failures on command look on the wire as they should, and a client that leaves is counted.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "engine/client.rs"]
mod client;

use std::time::{Duration, Instant};

use bench::engine::{Config, Engine, FailMode};
use client::{call, request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const STREAM: &str = r#"{"model":"sim","messages":[{"role":"user","content":"hi"}],"max_tokens":4,"stream":true}"#;

#[tokio::test]
async fn failures_look_as_named() {
    let engine = Engine::start(Config::default()).await.unwrap();
    let path = "/v1/chat/completions";
    for (mode, status, whole, events) in [
        ("die:2", 200, false, 3),
        ("rst", 0, false, 0),
        ("drop", 0, false, 0),
        ("503", 503, true, 0),
        ("close", 200, true, 6),
        ("error-event:1", 200, true, 4),
    ] {
        let reply = call(engine.addr, "POST", path, &[("x-sim-fail", mode)], STREAM).await;
        let seen = reply.body.matches("data: ").count();
        assert_eq!((reply.status, reply.whole, seen), (status, whole, events), "{mode}: {reply:?}");
    }
    engine.fail(FailMode::Status(500), 1);
    assert_eq!(call(engine.addr, "POST", path, &[], STREAM).await.status, 500);
    assert_eq!(call(engine.addr, "POST", path, &[], STREAM).await.status, 200);
}

#[tokio::test]
async fn a_client_that_leaves_is_an_abort() {
    let engine = Engine::start(Config::default()).await.unwrap();
    let long = STREAM.replace("\"max_tokens\":4", "\"max_tokens\":10000");
    for (aborted, headers) in [(1, &[][..]), (2, &[("x-sim-fail", "hang")]), (3, &[("x-sim-fail", "stall:1")])] {
        let mut stream = TcpStream::connect(engine.addr).await.unwrap();
        stream.write_all(&request("POST", "/v1/chat/completions", headers, &long)).await.unwrap();
        if aborted != 2 {
            assert!(stream.read(&mut [0; 64]).await.unwrap() > 0);
        }
        let deadline = Instant::now() + Duration::from_secs(10);
        while engine.stats().requests < aborted {
            assert!(Instant::now() < deadline, "{:?}", engine.stats());
            tokio::task::yield_now().await;
        }
        drop(stream);
        while engine.stats().aborted < aborted {
            assert!(Instant::now() < deadline, "{:?}", engine.stats());
            tokio::task::yield_now().await;
        }
    }
    let stats = engine.stats();
    assert_eq!((stats.in_flight, stats.aborted_at_us.len()), (0, 3));
}
