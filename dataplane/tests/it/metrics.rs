//! What is counted beside the reference's metrics: errors by side, requests by endpoint, and what the process itself costs.

use serde_json::json;

use crate::support::engine::{Engine, Refusing, Then};
use crate::support::legs::{Leg, on_every_driver};
use crate::support::proxy::Proxy;
use crate::support::snapshot::{backend, route, serving, snapshot};
use crate::support::until;
use crate::support::wire::{CHAT, answer, chat, post};

on_every_driver!(errors_are_told_by_side, requests_are_told_by_endpoint, the_process_tells_its_cost);

fn errors_are_told_by_side(leg: Leg) {
    let engine = Engine::start(|conn, seen| {
        let status = ["400 Bad Request", "429 Too Many Requests", "500 Internal Server Error"];
        let status = status.into_iter().find(|status| seen.text().contains(&status[..3])).unwrap_or("200 OK");
        conn.write(answer(status, "{}"));
        Then::Keep
    });
    let dead = Refusing::new();
    let routes = vec![route("m", "t/b"), route("dead", "t/dead")];
    let backends = vec![backend("t/b", &[engine.address]), backend("t/dead", &[dead.address])];
    let proxy = Proxy::with(leg, &snapshot(routes, backends), |config, _| config.limits.buffered_bytes = 1 << 20);
    let ask = |model: &str, word: &str| {
        let body = json!({"model": model, "messages": [{"role": "user", "content": word}]});
        proxy.ask(post(CHAT, body.to_string())).status()
    };
    let check = |expected: [f64; 3]| {
        let of = |side| proxy.metric("kthena_router_errors_total", &[&format!("side=\"{side}\"")]);
        let told = || ["downstream", "upstream", "internal"].map(of);
        until(&format!("{expected:?} errors of clients, engines and ours"), || told() == expected);
        proxy.settled();
        assert_eq!(told(), expected);
    };
    assert_eq!(ask("m", "hi"), 200);
    check([0.0, 0.0, 0.0]);
    assert_eq!((ask("nobody", "hi"), ask("m", "400")), (404, 400));
    check([2.0, 0.0, 0.0]);
    assert_eq!((ask("dead", "hi"), ask("m", "429"), ask("m", "500")), (502, 429, 500));
    check([2.0, 3.0, 0.0]);
    let large = post(CHAT, format!(r#"{{"model":"m","pad":"{}"}}"#, "x".repeat(700_000)));
    let mut holds = proxy.client();
    holds.send(&large[..large.len() - 1]);
    until("most of a body is held", || proxy.metric("kthena_router_buffered_bytes", &[]) >= 600_000.0);
    assert_eq!(proxy.client().try_send(&large).reply().status(), 503);
    assert_eq!(holds.ask(&large[large.len() - 1..]).status(), 200);
    check([2.0, 3.0, 1.0]);
}

fn requests_are_told_by_endpoint(leg: Leg) {
    const NAME: &str = "kthena_router_endpoint_attempts_total";
    let engines = [Engine::named("a"), Engine::named("b")];
    let proxy = Proxy::start(leg, &serving(&engines.each_ref().map(|engine| engine.address)));
    let of = |endpoint| proxy.metric(NAME, &[&format!("endpoint_name=\"{endpoint}\"")]);
    assert!(!proxy.admin("/metrics").text().contains(NAME), "nothing was sent yet");
    let ask = || assert_eq!(proxy.ask(chat("m")).status(), 200);
    (0..20).for_each(|_| ask());
    let counted = engines.each_ref().map(|engine| engine.count() as f64);
    assert_eq!([of("t/b-0"), of("t/b-1")], counted);
    assert_eq!(counted.iter().sum::<f64>(), 20.0);

    proxy.edit(&serving(&[engines[0].address]).to_string());
    until("the second is gone", || proxy.endpoints().len() == 1);
    (0..3).for_each(|_| ask());
    assert_eq!(of("t/b-0"), counted[0] + 3.0, "the count goes on");
    assert!(!proxy.admin("/metrics").text().contains("t/b-1"), "who is gone has no series");
}

fn the_process_tells_its_cost(leg: Leg) {
    let engine = Engine::named("e");
    let proxy = Proxy::start(leg, &serving(&[engine.address]));
    for name in ["cpu_seconds_total", "resident_memory_bytes", "open_fds", "max_fds", "start_time_seconds"] {
        assert!(proxy.metric(&format!("process_{name}"), &[]) > 0.0, "{name}");
    }
    let clients: Vec<_> = (0..50).map(|_| proxy.client()).collect();
    // Other tests of this process come and go.
    until("a proxy's connections are files", || {
        let connections = proxy.metric("kthena_router_downstream_connections", &[]);
        connections == 50.0 && proxy.metric("process_open_fds", &[]) > connections
    });
    drop(clients);
}
