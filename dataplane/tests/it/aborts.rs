//! A client that leaves ends the engine's work at once, whatever the engine is doing.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::engine::{Conn, Engine, Seen, Then};
use crate::support::legs::{Leg, on_every_driver};
use crate::support::proxy::Proxy;
use crate::support::snapshot::{serving, serving_with};
use crate::support::until;
use crate::support::wire::{CHAT, EVENTS, answer, chat, chunk, post, stream};

on_every_driver!(
    leaving_is_passed_on_within_50_ms,
    a_client_that_half_closes_has_left,
    a_client_that_has_sent_more_than_is_read_ahead_has_left_when_it_leaves,
    a_client_that_leaves_within_its_body_reaches_no_engine,
    an_engine_that_runs_on_stays_counted,
    a_client_that_does_not_read_is_left,
);

const FIRST: &str = "data: {\"choices\":[]}\n\n";

/// Says nothing, or after `x-begin` the head and one event; then waits for the end.
fn silent(conn: &mut Conn, seen: &Seen) -> Then {
    if seen.text().contains("stream") {
        conn.write(format!("{EVENTS}{}", chunk(FIRST)));
    }
    Then::AwaitGone
}

/// The time from a client's leaving to the engine's seeing it, for so many of them, sorted.
fn delays(leg: Leg, number: usize) -> Vec<Duration> {
    let engine = Engine::start(silent);
    let proxy = Proxy::start(leg, &serving(&[engine.address]));
    let mut delays = Vec::new();
    for n in 1..=number {
        let mut client = proxy.client();
        if n % 2 == 0 {
            client.send(stream("m")).through("\n\n");
        } else {
            client.send(chat("m"));
        }
        engine.wait_requests(n);
        let left = Instant::now();
        drop(client);
        delays.push(engine.wait_gone(n).saturating_duration_since(left));
    }
    proxy.settled();
    delays.sort_unstable();
    delays
}

fn leaving_is_passed_on_within_50_ms(leg: Leg) {
    let p99 = |leg| {
        let delays = delays(leg, 120);
        println!("{leg:?}: abort delay p50 {:?}, p99 {:?} of {}", delays[60], delays[118], delays.len());
        delays[118]
    };
    // Once more where other tests had the cores.
    assert!(p99(leg) <= Duration::from_millis(50) || p99(leg) <= Duration::from_millis(50));
}

fn a_client_that_half_closes_has_left(leg: Leg) {
    let engine = Engine::start(silent);
    let proxy = Proxy::start(leg, &serving(&[engine.address]));
    for (n, request) in [(1, chat("m")), (2, stream("m"))] {
        let mut client = proxy.client();
        client.send(request);
        engine.wait_requests(n);
        client.half_close();
        engine.wait_gone(n);
        client.rest();
    }
    proxy.settled();
    until("both are counted", || proxy.metric("kthena_router_requests_total", &["error_type=\"client_gone\""]) == 2.0);
}

fn a_client_that_has_sent_more_than_is_read_ahead_has_left_when_it_leaves(leg: Leg) {
    let engine = Engine::start(silent);
    let proxy = Proxy::start(leg, &serving(&[engine.address]));
    let next = post(CHAT, format!(r#"{{"model":"m","x":"{}"}}"#, "x".repeat(64 << 10)));
    for (n, request) in [(1, chat("m")), (2, stream("m"))] {
        let mut client = proxy.client();
        client.send(request).send(&next);
        engine.wait_requests(n);
        drop(client);
        engine.wait_gone(n);
    }
    proxy.settled();
    assert_eq!(engine.count(), 2, "nobody waits for the next ones");
}

fn a_client_that_leaves_within_its_body_reaches_no_engine(leg: Leg) {
    let engine = Engine::named("e");
    let proxy = Proxy::start(leg, &serving(&[engine.address]));
    let mut request = post(CHAT, r#"{"model":"m"}"#);
    request.truncate(request.len() - 1);
    proxy.client().send(&request).half_close();
    proxy.client().send(&request);
    until("both are counted", || proxy.metric("kthena_router_requests_total", &["error_type=\"client_gone\""]) == 2.0);
    assert_eq!(engine.count(), 0);
    proxy.settled();
}

fn an_engine_that_runs_on_stays_counted(leg: Leg) {
    // One request takes as long as the test wants: that is how long this engine usually works.
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let engine = Engine::start(move |conn, seen| {
        if seen.text().contains("slow") {
            wait.lock().unwrap().recv().unwrap();
            conn.write(answer("200 OK", "{}"));
            return Then::Keep;
        }
        Then::AwaitGone
    });
    let proxy = Proxy::start(leg, &serving_with(&[engine.address], json!({"engine": "TRITON"})));
    let in_flight = || proxy.endpoints()[0]["inFlight"].as_u64().expect("a number");
    let mut client = proxy.client();
    client.send(post("/v2/models/m/infer", r#""slow""#));
    engine.wait_requests(1);
    let begun = Instant::now();
    until("it has taken a while", || begun.elapsed() > Duration::from_millis(700));
    go.send(()).unwrap();
    assert_eq!(client.head().status(), 200);
    until("nothing is in flight", || in_flight() == 0);
    let mut client = proxy.client();
    client.send(post("/v2/models/m/infer", "{}"));
    engine.wait_requests(2);
    drop(client);
    engine.wait_gone(1);
    until("the request has ended", || proxy.metric("kthena_router_active_requests", &[]) == 0.0);
    assert_eq!(in_flight(), 1, "the engine works on, as it usually does for 0.7 s");
    until("it is taken to have ended", || in_flight() == 0);
    proxy.settled();
}

fn a_client_that_does_not_read_is_left(leg: Leg) {
    let flood = chunk(&format!("data: {}\n\n", "x".repeat(60_000)));
    let engine = Engine::start(move |conn, _| {
        conn.write(EVENTS);
        // More than all socket buffers on the way hold.
        for _ in 0..400 {
            conn.write(&flood);
        }
        Then::AwaitGone
    });
    let proxy = Proxy::with(leg, &serving(&[engine.address]), |config, _| {
        config.limits.write_idle = Duration::from_millis(300);
    });
    let mut client = proxy.client();
    client.send(stream("m"));
    engine.wait_gone(1);
    until("the limit is counted", || proxy.hits("write_idle") == 1.0);
    proxy.settled();
}
